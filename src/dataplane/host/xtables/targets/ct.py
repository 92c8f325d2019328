"""-j CT: how a packet is to be tracked (net/netfilter/xt_CT.c)."""

from __future__ import annotations

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Given, Kind, Option, Refused, Scope, Target
from dataplane.host.xtables.predicate import Action
from dataplane.host.xtables.values import flags_of, integer, text

BY_MARK = -1  # the zone is the packet's mark
EVENTS = {
    name: 1 << bit
    for bit, name in enumerate(
        ("new", "related", "destroy", "reply", "assured", "protoinfo", "helper", "mark", "natseqinfo", "secmark")
    )
}


def _zone(text: str, scope: Scope) -> int:
    return BY_MARK if text == "mark" else integer(text, 0, 65535)


ZONE = Kind(_zone, lambda value: "mark" if value == BY_MARK else str(value))
_ZONES = ("zone", "zone-orig", "zone-reply")


class Ct(Target):
    name = "CT"
    tables = frozenset({"raw"})
    options = (
        Option("notrack"),
        Option("helper", text(15)),
        Option("timeout", text(31)),
        Option("ctevents", flags_of(EVENTS, "event")),
        Option("expevents", flags_of({"new": 1}, "event")),
        Option("zone-orig", ZONE, excludes=("zone-reply", "zone")),
        Option("zone-reply", ZONE, excludes=("zone",)),
        Option("zone", ZONE),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        if "timeout" in given:
            raise Refused("--timeout", "timeout policies are not modelled")
        for name in _ZONES:
            if given.get(name) == Given(0):
                del given[name]
        return given

    def action(self) -> Action:
        if self.has("notrack"):
            return Action(TargetKind.TARGET_NOTRACK)
        for option in _ZONES:
            if self.has(option):
                raise Refused(f"--{option}", "read and printed, but not evaluated")
        # Events go to whoever listens on netlink; no packet is changed by them. A helper changes what connections are
        # expected, which whoever compiles the rule must say is not modelled.
        return Action(TargetKind.TARGET_CONTINUE)


TARGET = Ct
