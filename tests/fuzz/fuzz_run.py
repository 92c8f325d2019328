"""Search one target for inputs that it neither reads nor refuses.

python tests/fuzz/fuzz_run.py --minutes 10                 all targets in turn
python tests/fuzz/fuzz_run.py --minutes 2 --target frames  one of them
python tests/fuzz/fuzz_run.py --input FILE --target frames one input again

Inputs whose outcome is new (another refusal, another reason of a drop) join the corpus of the run. Each batch runs in a
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

from fuzz_mutate import mutate
from fuzz_targets import TARGETS, Target, outcome
from rich.console import Console

from dataplane.errors import InputError

FOUND = Path(__file__).parent / "found"
BATCH = 400
SECONDS = 10  # for one input
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


def inputs(target: Target, random: Random, corpus: list[bytes]) -> Iterator[bytes]:
    while True:
        yield mutate(random, random.choice(corpus), corpus, target.changes)


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
        try:
            told = run_one(target, data)
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
                    if value not in known and len(known) < 2000:
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--target", choices=sorted(TARGETS), help="only this one")
    parser.add_argument("--seed", type=int, default=0, help="default: from the clock")
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
            known: dict[str, bytes] = {}
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
            print(f"{name}: {len(known)} outcomes")
    print(f"{total:,} inputs, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
