"""-m limit: so many packets in a time, with a burst (net/netfilter/xt_limit.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import Given, Match, Option, Scope
from dataplane.host.xtables.predicate import ANY, Custom, Test
from dataplane.host.xtables.rates import NS, PERIOD, SCALE
from dataplane.host.xtables.values import number

BURST = 5
HOURLY = SCALE * 1200  # 3/hour


class Limit(Match):
    name = "limit"
    options = (Option("limit", PERIOD), Option("limit-burst", number(1, 10000)))

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        given.setdefault("limit", Given(HOURLY))
        if given.get("limit-burst") == Given(BURST):
            del given["limit-burst"]
        return given

    def tests(self) -> Iterator[Test]:
        # Credit is counted in ns: a packet costs the time between two, and the credit holds a burst of them.
        cost = self.value("limit") * NS
        full = cost * self.value("limit-burst", BURST)
        # State: the credit, and the time when it was last counted; 0 before the first packet.
        yield Custom(OpKind.OP_LIMIT, (cost >> 32, cost & ANY, full >> 32, full & ANY), (full, 0))


MATCH = Limit
