"""A short search in every target, always the same; and every input that was ever found, once more.

`make fuzz MINUTES=30` searches on, in processes that may crash.
"""

import sys
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_mutate import BINARY, TEXT, mutate
from fuzz_run import FOUND, SANITIZED, run_one, search
from fuzz_targets import TARGETS

INPUTS = 40 if SANITIZED else 150  # the targets are many, and their hosts take time to make
UNBOUNDED = pytest.mark.skipif(SANITIZED, reason="the sanitizers' shadow takes more addresses than any limit leaves")


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_are_read_or_refused(name: str) -> None:
    target = TARGETS[name]
    random = Random(name)
    corpus, changes = list(target.corpus()), target.mutations()
    assert corpus
    outcomes = {run_one(target, data) for data in corpus[:20]}
    for _ in range(INPUTS):
        outcomes.add(run_one(target, mutate(random, random.choice(corpus), corpus, changes)))
    assert len(outcomes) > 2, "the search saw nothing"


@pytest.mark.parametrize("path", sorted(FOUND.glob("*.bin")), ids=lambda path: path.stem)
def test_what_was_found(path: Path) -> None:
    run_one(TARGETS[path.stem.rpartition("-")[0]], path.read_bytes())


def test_changes_change() -> None:
    random = Random(1)
    for changes, data in ((BINARY, bytes(range(64))), (TEXT, b"-A FORWARD -s 10.0.0.1/32 -j ACCEPT\nCOMMIT\n")):
        assert sum(mutate(random, data, [data], changes) != data for _ in range(200)) > 150


@pytest.mark.parametrize("crime", ["raise", "exit", pytest.param("eat", marks=UNBOUNDED)])
def test_a_crime_is_found(crime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search catches what a target must not do: raise, end the process, take memory without bound."""
    import os
    import time

    import fuzz_targets

    def commit(data: bytes) -> str:
        if data == b"seed":
            return "read"
        if crime == "raise":
            raise ValueError("not a refusal")
        if crime == "exit":
            os._exit(3)
        return str(len(bytearray(8 << 30)))

    monkeypatch.setitem(TARGETS, "crime", fuzz_targets.Target("crime", lambda: [b"seed"], commit, BINARY))
    tried, happened, data = search("crime", 1, time.monotonic() + 20, {})
    assert tried >= 1
    assert data
    assert {"raise": "ValueError", "exit": "exit status 3", "eat": "MemoryError"}[crime] in happened
