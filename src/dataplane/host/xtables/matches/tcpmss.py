"""-m tcpmss: the MSS option of a TCP segment (net/netfilter/xt_tcpmss.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import TCP, Match, Option
from dataplane.host.xtables.predicate import Custom, Test
from dataplane.host.xtables.values import number_range


class Tcpmss(Match):
    name = "tcpmss"
    protocols = frozenset({TCP})
    options = (Option("mss", number_range(65535), invert=True, required=True),)

    def tests(self) -> Iterator[Test]:
        low, high = self.value("mss")
        yield Custom(OpKind.OP_TCP_MSS, (low, high), invert=self.inverted("mss"))


MATCH = Tcpmss
