"""What the match and the target on ipsets share: a set's name, and which part of the packet each dimension is."""

from __future__ import annotations

from typing import NamedTuple

from dataplane._fast.ipset import CounterTest
from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import Kind, Scope
from dataplane.host.xtables.predicate import ANY, Custom, Shared

DIRECTIONS = ("src", "dst")
LONGEST = 6


class SetUse(NamedTuple):
    """directions: "src" or "dst" for each dimension of the set."""

    name: str
    directions: tuple[str, ...]


def _read(words: tuple[str, str], scope: Scope) -> SetUse:
    name, text = words
    if not name or len(name.encode()) > 31:
        raise ValueError(f"{name!r} cannot be a set's name")
    directions = tuple(text.split(","))
    if len(directions) > LONGEST:
        raise ValueError(f"more than {LONGEST} of src and dst")
    for direction in directions:
        if direction not in DIRECTIONS:
            raise ValueError(f"{direction!r} is neither src nor dst")
    return SetUse(name, directions)


SET_USE = Kind(_read, lambda value: f"{value.name} {','.join(value.directions)}", arguments=2)

NO_TEST = (CounterTest.COUNTER_ANY, 0)


def asked(
    use: SetUse,
    flags: int = 0,
    packets: tuple[CounterTest, int] = NO_TEST,
    size: tuple[CounterTest, int] = NO_TEST,
    timeout: int = 0,
    invert: bool = False,
) -> Custom:
    """The question to a set, as `set_use` of _fast/rule_memory.pxd reads it. timeout: ns."""
    directions = sum(1 << at for at, direction in enumerate(use.directions) if direction == "src")
    words = [flags, directions, len(use.directions)]
    for test, number in (packets, size):
        words += (int(test), number >> 32, number & ANY)
    words += (timeout >> 32, timeout & ANY)
    return Custom(OpKind.OP_SET, tuple(words), invert=invert, shared=Shared("set", use.name))
