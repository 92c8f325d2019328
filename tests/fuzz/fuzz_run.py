"""Search one target for inputs that it neither reads nor refuses.

python tests/fuzz/fuzz_run.py --minutes 10                 all targets in turn
python tests/fuzz/fuzz_run.py --minutes 2 --target frames  one of them
python tests/fuzz/fuzz_run.py --input FILE --target frames one input again

python tests/fuzz/fuzz_run.py --quickly                    without coverage, which costs time

Coverage guides the search (fuzz_coverage.py): an input that takes a branch of the compiled modules or a line of the Python
ones for the first time, or more often than any before, joins the corpus, which build/fuzz-corpus keeps for the next run.
Branches are told by a build of their own (`make fuzz`); without it lines are, and with --quickly outcomes alone, such as
another refusal or another reason of a drop. Inputs are changed by bits, bytes, pieces, words of other inputs and of
their formats, and by structure: trees of JSON and YAML, headers of frames. Each batch runs in a
process of its own with a limit of memory, so that a crash, a hang or a greedy input is caught and kept: the input is
written to tests/fuzz/found/TARGET-HASH.bin, where the tests replay it from then on. Exit status 1 then.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(len(sys.path), str(Path(__file__).parents[2] / "src"))  # behind a build that PYTHONPATH names

from fuzz_coverage import Guide

# Before anything compiled is imported: its branches call into the guide's library.
GUIDE = Guide.start() if __name__ == "__main__" and "--quickly" not in sys.argv else None

from fuzz_mutate import mutate  # noqa: E402
from fuzz_targets import TARGETS, Target, outcome, shape  # noqa: E402
from rich.console import Console  # noqa: E402

from dataplane.errors import InputError, ModelError  # noqa: E402

KEPT = Path(__file__).parents[2] / "build" / "fuzz-corpus"
FOUND = Path(__file__).parent / "found"
BATCH = 400
SECONDS = 20 if "libasan" in Path("/proc/self/maps").read_text() else 10  # for one input
MEMORY = 1 << 30  # bytes more than the process had at first
SANITIZED = "libasan" in Path("/proc/self/maps").read_text()


def run_one(target: Target, data: bytes) -> str:
    """What came of an input in a few words. Raises what the target raises but must not."""
    try:
        return target.run(data)
    except InputError as error:
        if not error.message:
            raise ValueError("a refusal without a message") from error
        return outcome(error)
    except ModelError as error:  # a configuration that can be read and cannot be a host
        return f"ModelError {shape(str(error))}"


def inputs(target: Target, random: Random, corpus: list[bytes]) -> Iterator[bytes]:
    changes = target.mutations()
    while True:
        yield mutate(random, random.choice(corpus), corpus, changes)


def batch(pipe: Connection, name: str, seed: int, corpus: list[bytes]) -> None:
    """In a child: announce each input before it runs, so that the parent knows what killed it."""
    warnings.filterwarnings("ignore")
    target = TARGETS[name]
    for data in target.corpus()[:3]:
        run_one(target, data)
    if not SANITIZED:  # whose shadow takes terabytes of addresses
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    random = Random(seed)
    source = inputs(target, random, corpus)
    for _ in range(BATCH):
        data = next(source)
        pipe.send(("input", data))
        signal.alarm(SECONDS)
        if GUIDE is not None:
            GUIDE.begin()
        try:
            told = run_one(target, data)
            if GUIDE is not None:
                # With a guide the outcome is only what is new about it.
                told = hashlib.sha256(data).hexdigest()[:12] if GUIDE.new() else ""
                corpus += [data] if told else []
        except Exception:
            pipe.send(("raised", traceback.format_exc(limit=-4)))
            return
        finally:
            signal.alarm(0)
        pipe.send(("told", told))
    pipe.send(("done", ""))


def search(name: str, seed: int, until: float, known: dict[str, bytes]) -> tuple[int, str, bytes]:
    """Batches until the time is over: how many inputs, and, of a finding, what happened and the input."""
    target = TARGETS[name]
    tried = 0
    while time.monotonic() < until:
        ours, theirs = get_context("fork").Pipe()
        child = get_context("fork").Process(
            target=batch, args=(theirs, name, seed, [*target.corpus(), *known.values()])
        )
        child.start()
        theirs.close()
        data, ended = b"", False
        try:
            while True:
                kind, value = ours.recv()
                if kind == "input":
                    data = value
                    tried += 1
                elif kind == "told":
                    if value and value not in known and len(known) < 2000:
                        known[value] = data
                elif kind == "raised":
                    return tried, value, data
                else:
                    ended = True
                    break
        except EOFError:
            pass
        finally:
            child.join()
        if not ended:
            code = child.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            return tried, f"the process ended: {how} (SIGALRM: it took more than {SECONDS} s)", data
        seed += 1
    return tried, "", b""


def kept(name: str) -> dict[str, bytes]:
    """What earlier runs have kept."""
    return {path.name: path.read_bytes() for path in sorted((KEPT / name).glob("*"))}


def keep(name: str, known: dict[str, bytes]) -> None:
    (KEPT / name).mkdir(parents=True, exist_ok=True)
    for key, data in known.items():
        (KEPT / name / key).write_bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--target", choices=sorted(TARGETS), help="only this one")
    parser.add_argument("--seed", type=int, default=0, help="default: from the clock")
    parser.add_argument("--quickly", action="store_true", help="without coverage as a guide")
    parser.add_argument("--input", type=Path, help="run this file, and show what it raises")
    arguments = parser.parse_args()
    names = [arguments.target] if arguments.target else list(TARGETS)
    if arguments.input:
        print(run_one(TARGETS[names[0]], arguments.input.read_bytes()))
        return 0
    seed = arguments.seed or time.time_ns() % 1_000_000_000
    progress = Console(stderr=True)
    findings = total = 0
    share = arguments.minutes * 60 / len(names)
    with progress.status("") as status:
        for name in names:
            until = time.monotonic() + share
            known = kept(name)
            while time.monotonic() < until:
                status.update(f"{name}: {total:,} inputs, {findings} findings")
                tried, happened, data = search(name, seed, until, known)
                total += tried
                seed += 1000
                if happened:
                    findings += 1
                    path = FOUND / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}.bin"
                    path.write_bytes(data)
                    print(f"{name}: {happened.strip()}\n  {path}", flush=True)
                    break
            if GUIDE is not None:
                keep(name, known)
            print(f"{name}: {len(known)} inputs kept", flush=True)
    print(f"{total:,} inputs, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
