"""What the matches and the targets on TOS and DSCP share: names, and how values are read."""

from __future__ import annotations

from dataplane.host.xtables.declare import Kind, Scope
from dataplane.host.xtables.values import Masked, integer

TOS_NAMES = {
    "minimize-delay": 0x10,
    "maximize-throughput": 0x08,
    "maximize-reliability": 0x04,
    "minimize-cost": 0x02,
    "normal-service": 0x00,
}
CLASSES = {
    **{f"CS{n}": n << 3 for n in range(8)},
    "BE": 0,
    **{f"AF{n}{m}": n << 3 | m << 1 for n in range(1, 5) for m in range(1, 4)},
    "EF": 0x2E,
}
# A name stands for the six bits that TOS once had.
NAME_MASK = 0x3F


def _tos(text: str, scope: Scope) -> Masked:
    if text.lower() in TOS_NAMES:
        return Masked(TOS_NAMES[text.lower()], NAME_MASK)
    value, slash, mask = text.partition("/")
    return Masked(integer(value, 0, 255), integer(mask, 0, 255) if slash else 0xFF)


TOS = Kind(_tos, lambda value: f"0x{value.value:02x}/0x{value.mask:02x}")


def _class(text: str, scope: Scope) -> int:
    if text.upper() not in CLASSES:
        raise ValueError(f"{text!r} is no DSCP class")
    return CLASSES[text.upper()]


DSCP = Kind(lambda text, scope: integer(text, 0, 63), lambda value: f"0x{value:02x}")
DSCP_CLASS = Kind(_class, lambda value: f"0x{value:02x}")
