"""-j LOG: a line in the kernel's log (net/netfilter/xt_LOG.c); here an event."""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.log_line import LineOptions
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
        return Action(TargetKind.TARGET_LOG, value=self.level())

    def level(self) -> int:
        """0 (emerg) to 7 (debug)."""
        level: int = self.value("log-level", WARNING)
        return level

    def line_options(self) -> LineOptions:
        """What its lines show besides the usual."""
        return LineOptions(
            tcp_sequence=self.has("log-tcp-sequence"),
            tcp_options=self.has("log-tcp-options"),
            ip_options=self.has("log-ip-options"),
            macdecode=self.has("log-macdecode"),
        )


TARGET = Log
