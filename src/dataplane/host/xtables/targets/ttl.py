"""-j TTL: change the TTL of IPv4 (net/netfilter/xt_hl.c)."""

from __future__ import annotations

from dataplane.host.xtables.declare import Target
from dataplane.host.xtables.hops import change_action, change_options
from dataplane.host.xtables.predicate import Action


class Ttl(Target):
    name = "TTL"
    families = (4,)
    tables = frozenset({"mangle"})
    some = True
    options = change_options("ttl")

    def action(self) -> Action:
        return change_action(self, "ttl")


TARGET = Ttl
