"""-m icmp: type and code of ICMP (net/ipv4/netfilter/ip_tables.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane.host.xtables.declare import ICMP, Match, Option
from dataplane.host.xtables.icmp import IcmpType, icmp_kind
from dataplane.host.xtables.predicate import Header, Test, Word


def _code(kind: int, code: int) -> IcmpType:
    return IcmpType(kind, code, code)


ANY_TYPE = 255
NAMES = {
    "any": IcmpType(ANY_TYPE),
    "echo-reply": IcmpType(0),
    "pong": IcmpType(0),
    "destination-unreachable": IcmpType(3),
    "network-unreachable": _code(3, 0),
    "host-unreachable": _code(3, 1),
    "protocol-unreachable": _code(3, 2),
    "port-unreachable": _code(3, 3),
    "fragmentation-needed": _code(3, 4),
    "source-route-failed": _code(3, 5),
    "network-unknown": _code(3, 6),
    "host-unknown": _code(3, 7),
    "network-prohibited": _code(3, 9),
    "host-prohibited": _code(3, 10),
    "tos-network-unreachable": _code(3, 11),
    "tos-host-unreachable": _code(3, 12),
    "communication-prohibited": _code(3, 13),
    "host-precedence-violation": _code(3, 14),
    "precedence-cutoff": _code(3, 15),
    "source-quench": IcmpType(4),
    "redirect": IcmpType(5),
    "network-redirect": _code(5, 0),
    "host-redirect": _code(5, 1),
    "tos-network-redirect": _code(5, 2),
    "tos-host-redirect": _code(5, 3),
    "echo-request": IcmpType(8),
    "ping": IcmpType(8),
    "router-advertisement": IcmpType(9),
    "router-solicitation": IcmpType(10),
    "time-exceeded": IcmpType(11),
    "ttl-exceeded": IcmpType(11),
    "ttl-zero-during-transit": _code(11, 0),
    "ttl-zero-during-reassembly": _code(11, 1),
    "parameter-problem": IcmpType(12),
    "ip-header-bad": _code(12, 0),
    "required-option-missing": _code(12, 1),
    "timestamp-request": IcmpType(13),
    "timestamp-reply": IcmpType(14),
    "address-mask-request": IcmpType(17),
    "address-mask-reply": IcmpType(18),
}


class Icmp(Match):
    name = "icmp"
    families = (4,)
    protocols = frozenset({ICMP})
    options = (Option("icmp-type", icmp_kind(NAMES, ANY_TYPE), invert=True, required=True),)

    def tests(self) -> Iterator[Test]:
        yield Header(8)
        wanted: IcmpType = self.value("icmp-type")
        invert = self.inverted("icmp-type")
        if wanted.type == ANY_TYPE:
            if invert:
                yield Word(Field.FIELD_ICMP, 1, 0)
        else:
            yield Word(Field.FIELD_ICMP, wanted.type << 8 | wanted.low, wanted.type << 8 | wanted.high, invert=invert)


MATCH = Icmp
