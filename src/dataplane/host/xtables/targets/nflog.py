"""-j NFLOG: a copy for a listener on netlink (net/netfilter/xt_NFLOG.c); here an event."""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Given, Option, Scope, Target
from dataplane.host.xtables.predicate import Action
from dataplane.host.xtables.values import number, text


class Nflog(Target):
    name = "NFLOG"
    options = (
        Option("nflog-prefix", text(63)),
        Option("nflog-group", number(0, 65535)),
        Option("nflog-range", number(), excludes=("nflog-size",)),
        Option("nflog-size", number()),
        Option("nflog-threshold", number(0, 65535)),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        for option, default in (("nflog-group", 0), ("nflog-prefix", "")):
            if given.get(option) == Given(default):
                del given[option]
        return given

    def action(self) -> Action:
        return Action(TargetKind.TARGET_NFLOG, value=self.value("nflog-group", 0))


TARGET = Nflog
