"""-j NOTRACK: leave the packet untracked (net/netfilter/xt_CT.c)."""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Target
from dataplane.host.xtables.predicate import Action


class Notrack(Target):
    name = "NOTRACK"
    tables = frozenset({"raw"})

    def action(self) -> Action:
        return Action(TargetKind.TARGET_NOTRACK)


TARGET = Notrack
