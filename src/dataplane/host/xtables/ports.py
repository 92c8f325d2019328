"""What the matches on transport ports share."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane.host.xtables.declare import Extension, Given
from dataplane.host.xtables.predicate import Payload, Test, Word


def whole_is_nothing(given: dict[str, Given]) -> dict[str, Given]:
    """A range of all ports selects nothing, and is not printed; inverted it is kept, and no packet matches."""
    for option in ("sport", "dport"):
        if option in given and given[option] == Given((0, 65535)):
            del given[option]
    return given


def port_tests(match: Extension) -> Iterator[Test]:
    for option, word in (("sport", Field.FIELD_SPORT), ("dport", Field.FIELD_DPORT)):
        if match.has(option):
            low, high = match.value(option)
            yield Word(word, low, high, invert=match.inverted(option))


def native_port_tests(match: Extension) -> Iterator[Test]:
    """iptables-nft asks nothing where all ports are meant, inverted or not."""
    for option, word in (("sport", Field.FIELD_SPORT), ("dport", Field.FIELD_DPORT)):
        if match.has(option) and match.value(option) != (0, 65535):
            low, high = match.value(option)
            yield Payload(word, low, high, invert=match.inverted(option))
