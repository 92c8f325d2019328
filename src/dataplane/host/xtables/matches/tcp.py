"""-m tcp: ports, flags and options of TCP (net/netfilter/xt_tcpudp.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import TCP, Given, Kind, Match, Option, Refused, Scope
from dataplane.host.xtables.ports import native_port_tests, port_tests, whole_is_nothing
from dataplane.host.xtables.predicate import Custom, Header, Payload, Test, Word
from dataplane.host.xtables.values import PORTS, number

FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32}


def _flags(text: str) -> int:
    bits = 0
    for word in text.upper().split(","):
        if word == "ALL":
            bits |= 0x3F
        elif word in FLAGS:
            bits |= FLAGS[word]
        elif word != "NONE":
            raise ValueError(f"{word!r} is no TCP flag")
    return bits


def _show_flags(bits: int) -> str:
    return ",".join(name for name, bit in FLAGS.items() if bits & bit) or "NONE"


FLAG_PAIR = Kind(
    lambda words, scope: (_flags(words[0]), _flags(words[1])),
    lambda value: f"{_show_flags(value[0])} {_show_flags(value[1])}",
    arguments=2,
)
SYN = (0x17, 0x02)


class Tcp(Match):
    name = "tcp"
    protocols = frozenset({TCP})
    options = (
        Option("sport", PORTS, invert=True, also=("source-port",)),
        Option("dport", PORTS, invert=True, also=("destination-port",)),
        Option("tcp-option", number(1, 255), invert=True),
        Option("tcp-flags", FLAG_PAIR, invert=True, excludes=("syn",)),
        Option("syn", invert=True),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        if "syn" in given:
            given["tcp-flags"] = Given(SYN, given.pop("syn").inverted)
        flags = given.get("tcp-flags")
        if flags is not None and flags.value == (0, 0):
            if flags.inverted:
                raise Refused("--tcp-flags", "no packet has other flags than none of none")
            del given["tcp-flags"]
        return whole_is_nothing(given)

    def tests(self) -> Iterator[Test]:
        yield Header(20, tcp=True)
        yield from port_tests(self)
        if self.has("tcp-flags"):
            mask, compare = self.value("tcp-flags")
            yield Word(Field.FIELD_TCP_FLAGS, compare, compare, mask, self.inverted("tcp-flags"))
        if self.has("tcp-option"):
            yield Custom(OpKind.OP_TCP_OPTION, (self.value("tcp-option"),), invert=self.inverted("tcp-option"))

    def native(self) -> Iterator[Test]:
        if self.has("tcp-option") or not self.given:
            yield from self.tests()
            return
        mask, compare = self.value("tcp-flags", (0, 0))
        if mask:
            yield Payload(Field.FIELD_TCP_FLAGS, compare, compare, mask, self.inverted("tcp-flags"))
        yield from native_port_tests(self)


MATCH = Tcp
