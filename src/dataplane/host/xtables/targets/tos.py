"""-j TOS: change the type of service, or the traffic class (net/netfilter/xt_DSCP.c)."""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Given, Option, Scope, Target
from dataplane.host.xtables.dsfield import TOS
from dataplane.host.xtables.predicate import Action
from dataplane.host.xtables.values import Masked, number

_OTHERS = ("and-tos", "or-tos", "xor-tos")


class Tos(Target):
    name = "TOS"
    tables = frozenset({"mangle"})
    some = True
    options = (
        Option("set-tos", TOS, excludes=_OTHERS),
        Option("and-tos", number(0, 255), excludes=_OTHERS[1:]),
        Option("or-tos", number(0, 255), excludes=_OTHERS[2:]),
        Option("xor-tos", number(0, 255)),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        found = next((name for name in _OTHERS if name in given), None)
        if found is not None:
            value = given.pop(found).value
            masks = {"and-tos": Masked(0, value ^ 0xFF), "or-tos": Masked(value, value), "xor-tos": Masked(value, 0)}
            given["set-tos"] = Given(masks[found])
        return given

    def action(self) -> Action:
        value, mask = self.value("set-tos")
        return Action(TargetKind.TARGET_TOS, value=value, mask=mask)


TARGET = Tos
