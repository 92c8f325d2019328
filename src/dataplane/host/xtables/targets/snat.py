"""-j SNAT: change the source of a connection (net/netfilter/xt_nat.c)."""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Given, Option, Scope, Target
from dataplane.host.xtables.nat import SOURCE, nat_action, need_protocol
from dataplane.host.xtables.predicate import Action


class Snat(Target):
    name = "SNAT"
    tables = frozenset({"nat"})
    hooks = frozenset({"POSTROUTING", "INPUT"})
    options = (
        Option("to-source", SOURCE, required=True),
        Option("random"),
        Option("random-fully"),
        Option("persistent"),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        need_protocol("to-source", given["to-source"].value.ports, scope)
        return given

    def action(self) -> Action:
        return nat_action(TargetKind.TARGET_SNAT, self, self.value("to-source"))


TARGET = Snat
