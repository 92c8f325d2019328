"""-m udp: ports of UDP (net/netfilter/xt_tcpudp.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.host.xtables.declare import UDP, Given, Match, Option, Scope
from dataplane.host.xtables.ports import native_port_tests, port_tests, whole_is_nothing
from dataplane.host.xtables.predicate import Header, Test
from dataplane.host.xtables.values import PORTS


class Udp(Match):
    name = "udp"
    protocols = frozenset({UDP})
    options = (
        Option("sport", PORTS, invert=True, also=("source-port",)),
        Option("dport", PORTS, invert=True, also=("destination-port",)),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        return whole_is_nothing(given)

    def tests(self) -> Iterator[Test]:
        yield Header(8)
        yield from port_tests(self)

    def native(self) -> Iterator[Test]:
        return native_port_tests(self) if self.given else self.tests()


MATCH = Udp
