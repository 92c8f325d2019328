"""-j CT: how a packet is to be tracked (net/netfilter/xt_CT.c)."""

from __future__ import annotations

from dataplane._fast.conntrack import ZoneFlag
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
BOTH = ZoneFlag.ZONE_ORIGINAL | ZoneFlag.ZONE_REPLY
_ZONES = {"zone": BOTH, "zone-orig": ZoneFlag.ZONE_ORIGINAL, "zone-reply": ZoneFlag.ZONE_REPLY}


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
        # Events go to whoever listens on netlink, a helper changes what connections are expected (which whoever compiles
        # the rule must say is not modelled); like a zone they keep later rules from saying how to track the packet.
        for option, sides in _ZONES.items():
            if self.has(option):
                zone = self.value(option)
                if zone == BY_MARK:
                    return Action(TargetKind.TARGET_ZONE, ZoneFlag.ZONE_GIVEN | ZoneFlag.ZONE_BY_MARK | sides)
                return Action(TargetKind.TARGET_ZONE, ZoneFlag.ZONE_GIVEN | sides, value=zone)
        return Action(TargetKind.TARGET_ZONE, ZoneFlag.ZONE_GIVEN | BOTH)


TARGET = Ct
