"""-j DSCP: change the differentiated services code point (net/netfilter/xt_DSCP.c)."""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Given, Option, Scope, Target
from dataplane.host.xtables.dsfield import DSCP, DSCP_CLASS
from dataplane.host.xtables.predicate import Action


class Dscp(Target):
    name = "DSCP"
    tables = frozenset({"mangle"})
    some = True
    options = (Option("set-dscp", DSCP, excludes=("set-dscp-class",)), Option("set-dscp-class", DSCP_CLASS))

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        if "set-dscp-class" in given:
            given["set-dscp"] = given.pop("set-dscp-class")
        return given

    def action(self) -> Action:
        return Action(TargetKind.TARGET_TOS, value=self.value("set-dscp") << 2, mask=0xFC)


TARGET = Dscp
