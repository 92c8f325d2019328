"""-j DNAT: change the destination of a connection (net/netfilter/xt_nat.c)."""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Given, Option, Scope, Target
from dataplane.host.xtables.nat import DESTINATION, nat_action, need_protocol
from dataplane.host.xtables.predicate import Action


class Dnat(Target):
    name = "DNAT"
    tables = frozenset({"nat"})
    hooks = frozenset({"PREROUTING", "OUTPUT"})
    options = (
        Option("to-destination", DESTINATION, required=True),
        Option("random"),
        Option("persistent"),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        need_protocol("to-destination", given["to-destination"].value.ports, scope)
        return given

    def action(self) -> Action:
        return nat_action(TargetKind.TARGET_DNAT, self, self.value("to-destination"))


TARGET = Dnat
