"""-m icmp6: type and code of ICMPv6 (net/ipv6/netfilter/ip6_tables.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane.host.xtables.declare import ICMPV6, Match, Option
from dataplane.host.xtables.icmp import IcmpType, icmp_kind
from dataplane.host.xtables.predicate import Header, Test, Word

NAMES = {
    "destination-unreachable": IcmpType(1),
    "no-route": IcmpType(1, 0, 0),
    "communication-prohibited": IcmpType(1, 1, 1),
    "beyond-scope": IcmpType(1, 2, 2),
    "address-unreachable": IcmpType(1, 3, 3),
    "port-unreachable": IcmpType(1, 4, 4),
    "failed-policy": IcmpType(1, 5, 5),
    "reject-route": IcmpType(1, 6, 6),
    "packet-too-big": IcmpType(2),
    "time-exceeded": IcmpType(3),
    "ttl-exceeded": IcmpType(3),
    "ttl-zero-during-transit": IcmpType(3, 0, 0),
    "ttl-zero-during-reassembly": IcmpType(3, 1, 1),
    "parameter-problem": IcmpType(4),
    "bad-header": IcmpType(4, 0, 0),
    "unknown-header-type": IcmpType(4, 1, 1),
    "unknown-option": IcmpType(4, 2, 2),
    "echo-request": IcmpType(128),
    "ping": IcmpType(128),
    "echo-reply": IcmpType(129),
    "pong": IcmpType(129),
    "router-solicitation": IcmpType(133),
    "router-advertisement": IcmpType(134),
    "neighbour-solicitation": IcmpType(135),
    "neighbor-solicitation": IcmpType(135),
    "neighbour-advertisement": IcmpType(136),
    "neighbor-advertisement": IcmpType(136),
    "redirect": IcmpType(137),
}


class Icmp6(Match):
    name = "icmp6"
    families = (6,)
    protocols = frozenset({ICMPV6})
    options = (Option("icmpv6-type", icmp_kind(NAMES, None), invert=True, required=True),)

    def tests(self) -> Iterator[Test]:
        yield Header(8)
        wanted: IcmpType = self.value("icmpv6-type")
        low, high = wanted.type << 8 | wanted.low, wanted.type << 8 | wanted.high
        yield Word(Field.FIELD_ICMP, low, high, invert=self.inverted("icmpv6-type"))


MATCH = Icmp6
