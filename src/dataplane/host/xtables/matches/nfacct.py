"""-m nfacct: count into a named accounting object (net/netfilter/xt_nfacct.c).

The object is read by tools of its own and never by a rule, so that every packet passes.
"""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.host.xtables.declare import Match, Option
from dataplane.host.xtables.predicate import Test
from dataplane.host.xtables.values import text


class Nfacct(Match):
    name = "nfacct"
    options = (Option("nfacct-name", text(31, str), required=True),)

    def tests(self) -> Iterator[Test]:
        return iter(())


MATCH = Nfacct
