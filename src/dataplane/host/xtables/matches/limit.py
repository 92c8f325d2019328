"""-m limit: so many packets in a time, with a burst (net/netfilter/xt_limit.c; for iptables-nft nft_limit.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import Given, Match, Option, Refused, Scope
from dataplane.host.xtables.predicate import ANY, Custom, Test
from dataplane.host.xtables.rates import PERIOD, SCALE, whole_rate
from dataplane.host.xtables.values import number

BURST = 5
HOURLY = SCALE * 1200  # 3/hour
# xt_limit counts credit by the tick: so much of it each, and 250 of them in a second.
A_TICK = 128
A_SECOND = 250 * A_TICK


def _credit(period: int) -> int:
    """user2credits: of 32 bits; what would overflow is divided first, and loses its fraction of a second."""
    if period > ANY // A_SECOND:
        return period // SCALE * A_SECOND & ANY
    return period * A_SECOND // SCALE


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
        cost = _credit(self.value("limit"))
        full = _credit(self.value("limit") * self.value("limit-burst", BURST) & ANY)
        if full < cost:
            raise Refused("--limit-burst", "so large a burst of so low a rate is more than the kernel counts")
        # State: the credit, and the tick when it was last counted; 0 before the first packet.
        yield Custom(OpKind.OP_LIMIT, (cost, full), (full, 0))

    def native(self) -> Iterator[Test]:
        # Credit is counted in ns: a packet costs the time between two, and the credit holds a burst of them.
        packets, seconds = whole_rate(self.value("limit"))
        cost = seconds * 1_000_000_000 // packets
        full = cost * self.value("limit-burst", BURST)
        # State: the credit, and the time when it was last counted; 0 before the first packet.
        yield Custom(OpKind.OP_NFT_LIMIT, (cost >> 32, cost & ANY, full >> 32, full & ANY), (full, 0))


MATCH = Limit
