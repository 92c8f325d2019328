"""Rates such as 5/sec, as `limit` and `hashlimit` read and print them.

The tools keep the time between two packets in units of 1/10000 s and print it in the finest unit that divides well,
so that 60/min becomes 1/sec.
"""

from __future__ import annotations

import re

from dataplane.host.xtables.declare import Kind, Scope

SCALE = 10000
NS = 1_000_000_000 // SCALE
UNITS = {"day": 86400, "hour": 3600, "min": 60, "sec": 1}
_WHOLE = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


def _period(text: str, scope: Scope) -> int:
    match = re.fullmatch(r"([0-9]+)(?:/([a-z]+))?", text)
    if not match or not int(match[1]):
        raise ValueError(f"{text!r} is no rate")
    word = match[2] or "second"
    seconds = next((seconds for whole, seconds in _WHOLE.items() if whole.startswith(word)), None)
    if seconds is None:
        raise ValueError(f"{text!r} is no rate")
    if int(match[1]) > SCALE * seconds:
        raise ValueError(f"{text} is too fast")
    return SCALE * seconds // int(match[1])


def _whole(period: int) -> tuple[int, str]:
    found = (0, "day")
    for unit, seconds in UNITS.items():
        scale = SCALE * seconds
        if found[0] and (period > scale or scale // period < scale % period):
            break
        found = scale // period, unit
    return found


def whole_rate(period: int) -> tuple[int, int]:
    """Packets in so many seconds, as the tools print it and as iptables-nft hands it to the kernel."""
    count, unit = _whole(period)
    return count, UNITS[unit]


def show_period(period: int) -> str:
    count, unit = _whole(period)
    return f"{count}/{unit}"


# The time between two packets, in units of 1/10000 s.
PERIOD = Kind(_period, show_period)
