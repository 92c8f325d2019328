"""-m set: the packet's addresses and ports are in an ipset (net/netfilter/xt_set.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.ipset import CounterTest, SetFlag
from dataplane.host.xtables.declare import Match, Option
from dataplane.host.xtables.predicate import Test
from dataplane.host.xtables.sets import NO_TEST, SET_USE, asked
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

    def tests(self) -> Iterator[Test]:
        flags = 0
        for option, flag in (
            ("return-nomatch", SetFlag.USE_RETURN_NOMATCH),
            ("update-counters", SetFlag.USE_NO_COUNTERS),
            ("update-subcounters", SetFlag.USE_NO_SUBCOUNTERS),
        ):
            if self.has(option) and (option == "return-nomatch" or self.inverted(option)):
                flags |= flag
        yield asked(
            self.value("match-set"),
            flags,
            self._counter("packets"),
            self._counter("bytes"),
            invert=self.inverted("match-set"),
        )

    def _counter(self, prefix: str) -> tuple[CounterTest, int]:
        for way, test in (
            ("eq", CounterTest.COUNTER_EQ),
            ("lt", CounterTest.COUNTER_LT),
            ("gt", CounterTest.COUNTER_GT),
        ):
            option = f"{prefix}-{way}"
            if self.has(option):
                return CounterTest.COUNTER_NE if self.inverted(option) else test, self.value(option)
        return NO_TEST


MATCH = Set
