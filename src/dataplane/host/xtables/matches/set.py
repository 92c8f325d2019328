"""-m set: the packet's addresses and ports are in an ipset (net/netfilter/xt_set.c)."""

from __future__ import annotations

from dataplane.host.xtables.declare import Match, Option
from dataplane.host.xtables.sets import SET_USE
from dataplane.host.xtables.values import number

COUNTER = number(0, (1 << 64) - 1)


class Set(Match):
    name = "set"
    options = (
        Option("match-set", SET_USE, invert=True, required=True, also=("set",)),
        Option("return-nomatch"),
        # Only their inverted form says something: the match updates the counters by itself.
        Option("update-counters", invert=True),
        Option("update-subcounters", invert=True),
        Option("packets-eq", COUNTER, invert=True, excludes=("packets-lt", "packets-gt")),
        Option("packets-lt", COUNTER, excludes=("packets-gt",)),
        Option("packets-gt", COUNTER),
        Option("bytes-eq", COUNTER, invert=True, excludes=("bytes-lt", "bytes-gt")),
        Option("bytes-lt", COUNTER, excludes=("bytes-gt",)),
        Option("bytes-gt", COUNTER),
    )


MATCH = Set
