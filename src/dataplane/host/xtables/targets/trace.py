"""-j TRACE: trace the packet from here on (net/netfilter/xt_TRACE.c)."""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Target
from dataplane.host.xtables.predicate import Action


class Trace(Target):
    # The nft back end takes it in any table.
    name = "TRACE"

    def action(self) -> Action:
        return Action(TargetKind.TARGET_TRACE)


TARGET = Trace
