"""-j REDIRECT: to this host itself (net/netfilter/nf_nat_redirect.c)."""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Given, Option, Scope, Target
from dataplane.host.xtables.nat import PORTS, nat_action, need_protocol
from dataplane.host.xtables.predicate import Action


class Redirect(Target):
    name = "REDIRECT"
    tables = frozenset({"nat"})
    hooks = frozenset({"PREROUTING", "OUTPUT"})
    options = (Option("to-ports", PORTS), Option("random"))

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        if "to-ports" in given:
            need_protocol("to-ports", given["to-ports"].value, scope)
        return given

    def action(self) -> Action:
        return nat_action(TargetKind.TARGET_REDIRECT, self, ports=self.value("to-ports"))


TARGET = Redirect
