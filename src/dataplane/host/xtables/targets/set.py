"""-j SET: put the packet's addresses and ports into an ipset, or take them out (net/netfilter/xt_set.c)."""

from __future__ import annotations

from dataplane._fast.ipset import SetFlag
from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Option, Target
from dataplane.host.xtables.predicate import Action
from dataplane.host.xtables.sets import SET_USE, asked
from dataplane.host.xtables.values import number

SECOND = 1_000_000_000
WITH_QUEUE = frozenset({"FORWARD", "OUTPUT", "POSTROUTING"})


class Set(Target):
    name = "SET"
    some = True
    options = (
        Option("add-set", SET_USE),
        Option("exist", needs=("add-set",)),
        Option("timeout", number(0, 0xFFFFFFFE), needs=("add-set",)),
        Option("del-set", SET_USE),
        Option("map-set", SET_USE),
        Option("map-mark", needs=("map-set",)),
        Option("map-prio", needs=("map-set",)),
        Option("map-queue", needs=("map-set",)),
    )

    def allowed_tables(self) -> frozenset[str]:
        return frozenset({"mangle"}) if self.has("map-set") else frozenset()

    def allowed_hooks(self) -> frozenset[str]:
        return WITH_QUEUE if self.has("map-prio") or self.has("map-queue") else frozenset()

    def action(self) -> Action:
        flags = (SetFlag.USE_EXIST if self.has("exist") else 0) | (SetFlag.USE_TIMEOUT if self.has("timeout") else 0)
        timeout = self.value("timeout", 0) * SECOND
        mark = SetFlag.USE_MAP_MARK if self.has("map-mark") else 0
        return Action(
            TargetKind.TARGET_SET,
            add=asked(self.value("add-set"), int(flags), timeout=timeout) if self.has("add-set") else None,
            delete=asked(self.value("del-set")) if self.has("del-set") else None,
            map=asked(self.value("map-set"), int(mark)) if self.has("map-set") else None,
        )


TARGET = Set
