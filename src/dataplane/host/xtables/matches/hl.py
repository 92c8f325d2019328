"""-m hl: the hop limit of IPv6 (net/netfilter/xt_hl.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.host.xtables.declare import Match
from dataplane.host.xtables.hops import hop_options, hop_tests
from dataplane.host.xtables.predicate import Test


class Hl(Match):
    name = "hl"
    families = (6,)
    some = True
    options = hop_options("hl")

    def tests(self) -> Iterator[Test]:
        yield from hop_tests(self, "hl")


MATCH = Hl
