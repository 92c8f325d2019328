"""What the match and the target on ipsets share: a set's name, and which part of the packet each dimension is."""

from __future__ import annotations

from typing import NamedTuple

from dataplane.host.xtables.declare import Kind, Scope

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
