"""What the matches on transport ports share."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane.host.xtables.declare import Extension, Given
from dataplane.host.xtables.predicate import AnyOf, Payload, Test, Word


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


def _single(ports: tuple[int, int]) -> bool:
    return ports[0] == ports[1] != 0


def native_port_tests(match: Extension) -> Iterator[Test]:
    """iptables-nft asks nothing where all ports are meant, inverted or not. Two single ports it compares at once: where both
    are inverted, one that is another is enough."""
    if all(
        match.has(option) and match.inverted(option) and _single(match.value(option)) for option in ("sport", "dport")
    ):
        source, destination = match.value("sport")[0], match.value("dport")[0]
        yield Payload(Field.FIELD_DPORT, 0, 65535)
        yield AnyOf(
            (
                Word(Field.FIELD_SPORT, source, source, invert=True),
                Word(Field.FIELD_DPORT, destination, destination, invert=True),
            )
        )
        return
    for option, word in (("sport", Field.FIELD_SPORT), ("dport", Field.FIELD_DPORT)):
        if match.has(option) and match.value(option) != (0, 65535):
            low, high = match.value(option)
            yield Payload(word, low, high, invert=match.inverted(option))
