"""-j MARK: change the mark of the packet (net/netfilter/xt_mark.c)."""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Given, Scope, Target
from dataplane.host.xtables.marks import MARK_OPTIONS, settle_mark
from dataplane.host.xtables.predicate import Action


class Mark(Target):
    name = "MARK"
    some = True
    options = MARK_OPTIONS

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        return settle_mark(given)

    def action(self) -> Action:
        value, mask = self.value("set-xmark")
        return Action(TargetKind.TARGET_MARK, value=value, mask=mask)


TARGET = Mark
