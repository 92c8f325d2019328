"""Random hosts, rules and packets: the kernel against the emulator, for as long as one likes.

python tests/kernel/soak.py --minutes 30             seeds from the clock
python tests/kernel/soak.py --minutes 30 --seed 7    seeds 7, 8, 9, ...
python tests/kernel/soak.py --cases 1 --seed 7       one case again

A case that differs is made small and kept as text in tests/kernel/found, one thing a line. Exit status 1 then.
"""

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from judge import emulated, namespace
from judge.known import RANDOM_KNOWN
from judge.random_case import FOUND, text_of
from judge.random_run import Outcome, again, draw
from judge.random_shrink import shrink, sign
from judge.scenario import Kernel
from rich.console import Console


def main() -> int:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="how long to draw cases (default 30)")
    parser.add_argument("--seed", type=int, default=0, help="the first case's (default: from the clock)")
    parser.add_argument("--cases", type=int, default=0, help="end after so many cases")
    parser.add_argument("--packets", type=int, default=400, help="sent in each case (default 400)")
    parser.add_argument("--keep", type=Path, default=FOUND, help="where cases that differ are kept")
    parser.add_argument("--shrink", type=float, default=90, metavar="SECONDS", help="for each of them; 0: not at all")
    arguments = parser.parse_args()
    if why := namespace.unavailable() or emulated.unavailable():
        print(why, file=sys.stderr)
        return 2
    seed = arguments.seed or time.time_ns() // 1_000_000 % 1_000_000_000
    progress = Console(stderr=True)
    until = time.monotonic() + arguments.minutes * 60
    cases = packets = gone = 0
    differing: dict[int, str] = {}
    refused: dict[int, str] = {}
    kernel = Kernel()
    try:
        with progress.status("") as status, tempfile.TemporaryDirectory(prefix="jdg-") as folder:
            while time.monotonic() < until and (not arguments.cases or cases < arguments.cases):
                status.update(f"seed {seed}: {cases} cases, {packets:,} packets, {len(differing)} differ")
                cases += 1
                try:
                    outcome = draw(kernel, seed, arguments.packets, Path(folder))
                except Exception as error:  # a tool or the emulator refuses the host: that must not be drawn
                    refused[seed] = str(error)
                    print(f"seed {seed}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
                    seed += 1
                    continue
                packets += outcome.packets
                if outcome.differences:
                    told = _keep(kernel, outcome, Path(folder), arguments.keep, arguments.shrink)
                    if told:
                        differing[seed] = told
                        print(f"seed {seed}: {told}", flush=True)
                    else:
                        gone += 1
                seed += 1
    finally:
        kernel.close()
    print(f"{cases} cases, {packets:,} packets compared, {len(differing)} cases differ")
    print("left out or masked: " + ", ".join(RANDOM_KNOWN))
    if gone:
        print(f"{gone} cases differed once and not again: the kernel's own chance")
    if refused:
        print("seeds that could not be set up: " + " ".join(map(str, refused)))
    if differing:
        print("seeds that differ: " + " ".join(map(str, differing)))
    return 1 if differing or refused else 0


def _keep(kernel: Kernel, outcome: Outcome, folder: Path, where: Path, seconds: float) -> str:
    """Make a case small and write it down; "" when it does not differ a second time."""
    found = again(kernel, outcome.lines, folder)
    if not found:
        return ""
    lines = outcome.lines
    if seconds:
        lines = shrink(lines, found[0], lambda case: again(kernel, case, folder), seconds)
        found = again(kernel, lines, folder) or found
    where.mkdir(parents=True, exist_ok=True)
    path = where / f"seed-{outcome.seed}.case"
    told = [line for one in found[:4] for line in str(one).splitlines()]
    path.write_text(text_of(f"{sign(found[0])} (seed {outcome.seed})", told, lines))
    return f"{found[0]}\n  {path}"


if __name__ == "__main__":
    sys.exit(main())
