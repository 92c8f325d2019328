"""-j HL: change the hop limit of IPv6 (net/netfilter/xt_hl.c)."""

from __future__ import annotations

from dataplane.host.xtables.declare import Target
from dataplane.host.xtables.hops import change_action, change_options
from dataplane.host.xtables.predicate import Action


class Hl(Target):
    name = "HL"
    families = (6,)
    tables = frozenset({"mangle"})
    some = True
    options = change_options("hl")

    def action(self) -> Action:
        return change_action(self, "hl")


TARGET = Hl
