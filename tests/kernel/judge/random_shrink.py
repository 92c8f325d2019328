"""A failing case made small: lines are left out while what is left still fails in the same way."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from judge.compare import Difference
from judge.random_case import STEPS

# What is tried together, in this order: frames first, since each run costs their time; then the rest, kind by kind.
ORDER = (
    STEPS,
    ("iptables", "ip6tables"),
    ("listen", "join"),
    ("ip -6 rule", "ip rule", "ip -6 route", "ip route"),
    ("sysctl",),
)


def sign(found: Difference) -> str:
    """What kind of difference it is, without its numbers."""
    what = re.sub(r"\d+", "#", found.what.split(" at ")[0])
    return f"{what}: {_kind(found.kernel)}, {_kind(found.emulator)}" if "frame" in what or what == "drops" else what


def _kind(side: str) -> str:
    """Of a frame: nothing, or what ICMP or ARP says in it; of drops: their reasons."""
    if " x" in side and "/" not in side:
        return side
    words = re.findall(r"nothing|none|ARP|ICMPv6\w+|ICMP|VXLAN", side.split("[")[0])
    return " ".join(dict.fromkeys(words)) or "a frame"


def shrink(
    lines: Sequence[str], first: Difference, run: Callable[[list[str]], list[Difference]], seconds: float
) -> list[str]:
    """A small part of the lines that still differs as `first` does. run: of a case; a set-up that is refused raises."""
    until = time.monotonic() + seconds
    wanted = sign(first)

    def fails(case: list[str]) -> bool:
        if time.monotonic() > until:
            return False
        try:
            return any(sign(one) == wanted for one in run(case))
        except Exception:  # the tools or the emulator refuse what is left
            return False

    case = list(lines)
    if first.step >= 0:  # nothing after the first difference can be its cause
        steps = [index for index, line in enumerate(case) if line.startswith(STEPS)]
        shorter = case[: steps[first.step] + 1]
        case = shorter if fails(shorter) else case
    while True:
        size = len(case)
        for kind in (*ORDER, ("",)):
            case = _leave_out(case, kind, fails)
        if len(case) == size or time.monotonic() > until:
            return case


def _leave_out(case: list[str], kind: tuple[str, ...], fails: Callable[[list[str]], bool]) -> list[str]:
    """Halves, quarters, ... single lines of one kind, from the end on."""
    places = [index for index, line in enumerate(case) if line.startswith(kind)]
    size = max(1, len(places) // 2)
    while places:
        end = len(places)
        while end > 0:
            gone = set(places[max(0, end - size) : end])
            tried = [line for index, line in enumerate(case) if index not in gone]
            if fails(tried):
                case = tried
                places = [index for index, line in enumerate(case) if line.startswith(kind)]
            end = min(end - size, len(places))
        if size == 1:
            break
        size = max(1, size // 2)
    return case
