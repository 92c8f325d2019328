"""-j LOG: a line in the kernel's log (net/netfilter/xt_LOG.c); here an event."""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Given, Kind, Option, Scope, Target
from dataplane.host.xtables.predicate import Action
from dataplane.host.xtables.values import integer, text

LEVELS = ("emerg", "alert", "crit", "error", "warning", "notice", "info", "debug")
WARNING = 4


def _level(text: str, scope: Scope) -> int:
    if text.lower() == "panic":
        return 0
    if text.lower() in LEVELS:
        return LEVELS.index(text.lower())
    return integer(text, 0, 7)


class Log(Target):
    name = "LOG"
    options = (
        Option("log-prefix", text(29)),
        Option("log-level", Kind(_level, str)),
        Option("log-tcp-sequence"),
        Option("log-tcp-options"),
        Option("log-ip-options"),
        Option("log-uid"),
        Option("log-macdecode"),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        if given.get("log-level") == Given(WARNING):
            del given["log-level"]
        if given.get("log-prefix") == Given(""):
            del given["log-prefix"]
        return given

    def action(self) -> Action:
        level = self.value("log-level", WARNING)
        return Action(TargetKind.TARGET_LOG, value=level)


TARGET = Log
