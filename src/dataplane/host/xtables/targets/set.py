"""-j SET: put the packet's addresses and ports into an ipset, or take them out (net/netfilter/xt_set.c)."""

from __future__ import annotations

from dataplane.host.xtables.declare import Option, Target
from dataplane.host.xtables.sets import SET_USE
from dataplane.host.xtables.values import number


class Set(Target):
    name = "SET"
    some = True
    options = (
        Option("add-set", SET_USE),
        Option("del-set", SET_USE),
        Option("map-set", SET_USE),
        Option("exist", needs=("add-set",)),
        Option("timeout", number(0, 0xFFFFFFFE), needs=("add-set",)),
        Option("map-mark", needs=("map-set",)),
        Option("map-prio", needs=("map-set",)),
        Option("map-queue", needs=("map-set",)),
    )


TARGET = Set
