"""-m ttl: the TTL of IPv4 (net/netfilter/xt_hl.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.host.xtables.declare import Match
from dataplane.host.xtables.hops import hop_options, hop_tests
from dataplane.host.xtables.predicate import Test


class Ttl(Match):
    name = "ttl"
    families = (4,)
    some = True
    options = hop_options("ttl")

    def tests(self) -> Iterator[Test]:
        yield from hop_tests(self, "ttl")


MATCH = Ttl
