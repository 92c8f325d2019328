"""The states of a packet's connection, as `-m conntrack` and `-m state` name them."""

from __future__ import annotations

from dataplane._fast.packet import Field
from dataplane._fast.ruleset import CtState
from dataplane.host.xtables.predicate import ANY, Word

STATES = {
    "INVALID": int(CtState.STATE_INVALID),
    "NEW": int(CtState.STATE_NEW),
    "RELATED": int(CtState.STATE_RELATED),
    "ESTABLISHED": int(CtState.STATE_ESTABLISHED),
    "UNTRACKED": int(CtState.STATE_UNTRACKED),
}
ALL_STATES = {**STATES, "SNAT": int(CtState.STATE_SNAT), "DNAT": int(CtState.STATE_DNAT)}


def state_test(bits: int, invert: bool) -> Word:
    return Word(Field.FIELD_CTSTATE, 1, ANY, bits, invert)
