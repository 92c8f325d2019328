"""What MARK and CONNMARK share: every way to set a mark is (mark & ~m) ^ v, and is printed as that."""

from __future__ import annotations

from dataplane.host.xtables.declare import Given, Option
from dataplane.host.xtables.values import ALL_BITS, FULL_MARK, Masked, number

_OTHERS = ("set-mark", "and-mark", "or-mark", "xor-mark")
MARK_OPTIONS = (
    Option("set-xmark", FULL_MARK, excludes=_OTHERS),
    Option("set-mark", FULL_MARK, excludes=_OTHERS[1:]),
    Option("and-mark", number(), excludes=_OTHERS[2:]),
    Option("or-mark", number(), excludes=_OTHERS[3:]),
    Option("xor-mark", number()),
)


def settle_mark(given: dict[str, Given]) -> dict[str, Given]:
    found = next((name for name in _OTHERS if name in given), None)
    if found is not None:
        value = given.pop(found).value
        if found == "set-mark":
            settled = Masked(value.value, value.mask | value.value)
        elif found == "and-mark":
            settled = Masked(0, value ^ ALL_BITS)
        else:
            settled = Masked(value, value if found == "or-mark" else 0)
        given["set-xmark"] = Given(settled)
    return given
