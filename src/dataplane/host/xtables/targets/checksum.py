"""-j CHECKSUM: complete a checksum that was left to the card (net/netfilter/xt_CHECKSUM.c).

Here every checksum is complete, so there is nothing left to do.
"""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Option, Target
from dataplane.host.xtables.predicate import Action


class Checksum(Target):
    name = "CHECKSUM"
    tables = frozenset({"mangle"})
    options = (Option("checksum-fill", required=True),)

    def action(self) -> Action:
        return Action(TargetKind.TARGET_CONTINUE)


TARGET = Checksum
