"""One scenario, kernel and emulator next to each other.

python tests/kernel/diff.py forwarding/ttl_falls_by_one     both sides; exit status 1 where they differ
python tests/kernel/diff.py --kernel nat/                   the kernel's side of every scenario that begins so
python tests/kernel/diff.py --repeat 5 nat/                 does the kernel do the same every time?
python tests/kernel/diff.py --list                          names and what they show
python tests/kernel/diff.py ipvs/icmp/ping                  a name that begins with ipvs/ is asked of user-mode Linux
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "src"))
warnings.filterwarnings("ignore", module="scapy")

from judge import emulated, namespace, show, uml
from judge.choices import FLOW_LABEL, FRAGMENT_ID, IP_ID, TUNNEL_PORT, from_frames
from judge.compare import compare
from judge.recording import Recording
from judge.scenario import Kernel, Scenario, load


class Asked(Protocol):
    """A kernel that runs scenarios."""

    def run(self, asked: Scenario, folder: Path) -> Recording: ...

    def close(self) -> None: ...


class UserMode:
    """The kernel of our own, which works through all scenarios in one go, and again where one is asked for again."""

    def __init__(self, chosen: list[Scenario]) -> None:
        self._names = [asked.name for asked in chosen]
        self._done: dict[str, list[uml.Done]] = {asked.name: [] for asked in chosen}

    def run(self, asked: Scenario, folder: Path) -> Recording:
        if not self._done[asked.name]:
            root = folder
            for _ in asked.name.split("/"):
                root = root.parent
            for name, done in uml.run(self._names, root, boots=min(2, os.cpu_count() or 1)).items():
                self._done[name].append(done)
        done = self._done[asked.name].pop(0)
        if done.error:
            error = RuntimeError(done.error)
            error.recording = done.recording  # type: ignore[attr-defined]
            raise error
        return done.recording

    def close(self) -> None:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="?", default="", help="a name, or how names begin")
    parser.add_argument("--list", action="store_true", help="print names and what they show")
    parser.add_argument("--kernel", action="store_true", help="the kernel's side alone")
    parser.add_argument(
        "--repeat", type=int, default=0, metavar="N", help="run N times on the kernel and compare the runs"
    )
    parser.add_argument("--brief", action="store_true", help="one line, and the first differences")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the dumps here")
    arguments = parser.parse_args()
    balancing = arguments.scenario.split("/")[0] == "ipvs"
    known = load("scenarios.ipvs" if balancing else "scenarios")
    chosen = [asked for name, asked in known.items() if name.startswith(arguments.scenario)]
    if arguments.scenario in known:
        chosen = [known[arguments.scenario]]
    elif arguments.list and not arguments.scenario:
        chosen += load("scenarios.ipvs").values()
    if arguments.list:
        for asked in chosen:
            print(f"{asked.name:<60} {asked.shows}")
        return 0
    if not chosen:
        print(f"no scenario begins with {arguments.scenario!r}", file=sys.stderr)
        return 2
    if why := uml.unavailable() if balancing else namespace.unavailable():
        print(f"the kernel cannot be asked: {why}", file=sys.stderr)
        return 2
    alone = arguments.kernel or arguments.repeat
    why = emulated.unavailable() or ("the emulator has no IPVS" if balancing and not emulated.balances() else None)
    if not alone and why:
        print(why, file=sys.stderr)
        return 2
    kernel: Asked = UserMode(chosen) if balancing else Kernel()
    wrong = 0
    try:
        with tempfile.TemporaryDirectory(prefix="jdg-") as temporary:
            folder = arguments.keep or Path(temporary)
            for asked in chosen:
                here = folder / asked.name
                try:
                    if arguments.repeat:
                        wrong += not _repeat(kernel, asked, here, arguments.repeat)
                    elif arguments.kernel:
                        print(show.kernel_only(asked, kernel.run(asked, here)), end="\n\n")
                    else:
                        wrong += not _both(kernel, asked, here, arguments.brief)
                except Exception as error:
                    if len(chosen) == 1:
                        if recording := getattr(error, "recording", None):
                            print(show.kernel_only(asked, recording), end="\n\n")
                        raise
                    wrong += 1
                    print(f"{asked.name}: {type(error).__name__}: {error}")
    finally:
        kernel.close()
    if len(chosen) > 1:
        print(f"{len(chosen)} scenarios, {wrong} not as expected")
    return 1 if wrong else 0


def _both(kernel: Asked, asked: Scenario, folder: Path, brief: bool) -> bool:
    ours = kernel.run(asked, folder)
    theirs = emulated.run(ours)
    found = compare(ours, theirs, asked.masks)
    if not brief:
        print(show.both(asked, ours, theirs), end="\n\n")
    elif found:
        print(f"{asked.name}: {len(found)} differences\n{show.differences(found[:3])}")
    else:
        print(f"{asked.name}: the same")
    return not found


def _repeat(kernel: Asked, asked: Scenario, folder: Path, times: int) -> bool:
    """Run again and again; what is random by nature is masked."""
    first = kernel.run(asked, folder)
    began = time.monotonic()
    for _ in range(times - 1):
        again = kernel.run(asked, folder)
        masks = asked.masks
        chosen = from_frames(first)
        if IP_ID in chosen:
            masks += ("ip id",)
        if FRAGMENT_ID in chosen:
            masks += ("ipv6 fragment id",)
        if FLOW_LABEL in chosen:
            masks += ("flow label",)
        if TUNNEL_PORT in chosen:
            masks += ("tunnel",)
        if [step.kind for step in first.steps] != [step.kind for step in again.steps]:
            print(f"{asked.name}: another course of events")
            return False
        found = compare(first, again, masks)
        if found and not asked.random:
            print(f"{asked.name}: differs from run to run\n{show.differences(found)}")
            return False
    each = (time.monotonic() - began) / max(1, times - 1)
    print(
        f"{asked.name}: {times} times the same ({each * 1000:.0f} ms)"
        + (f", but for {asked.random}" if asked.random else "")
    )
    return True


if __name__ == "__main__":
    sys.exit(main())
