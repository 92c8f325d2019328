"""-j TCPMSS: lower the MSS that a SYN announces (net/netfilter/xt_TCPMSS.c)."""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import TCP, Option, Target
from dataplane.host.xtables.predicate import Action
from dataplane.host.xtables.values import number

WITH_ROUTE = frozenset({"FORWARD", "OUTPUT", "POSTROUTING"})


class Tcpmss(Target):
    name = "TCPMSS"
    protocols = frozenset({TCP})
    some = True
    options = (Option("set-mss", number(0, 65495), excludes=("clamp-mss-to-pmtu",)), Option("clamp-mss-to-pmtu"))

    def allowed_hooks(self) -> frozenset[str]:
        return WITH_ROUTE if self.has("clamp-mss-to-pmtu") else frozenset()

    def action(self) -> Action:
        """value: the MSS; flags: 1 where it follows from the MTU of the path."""
        clamp = self.has("clamp-mss-to-pmtu")
        return Action(TargetKind.TARGET_TCPMSS, flags=int(clamp), value=self.value("set-mss", 0))


TARGET = Tcpmss
