"""-m rpfilter: the reply would leave by the interface that the packet came in by (ipt_rpfilter.c, ip6t_rpfilter.c)."""

from __future__ import annotations

from dataplane.host.xtables.declare import Match, Option


class Rpfilter(Match):
    name = "rpfilter"
    tables = frozenset({"raw", "mangle"})
    hooks = frozenset({"PREROUTING"})
    options = (Option("loose"), Option("validmark"), Option("accept-local"), Option("invert"))


MATCH = Rpfilter
