"""-m multiport: up to 15 ports or ranges (net/netfilter/xt_multiport.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import DCCP, SCTP, TCP, UDP, UDPLITE, Kind, Match, Option, Scope
from dataplane.host.xtables.predicate import Custom, Test
from dataplane.host.xtables.values import port, show_range


def _ports(text: str, scope: Scope) -> tuple[tuple[int, int], ...]:
    ranges = []
    for item in text.split(","):
        first, colon, last = item.partition(":")
        low = port(first)
        high = port(last) if colon else low
        if colon and low >= high:
            raise ValueError(f"{item}: the first port is not below the last")
        ranges.append((low, high))
    # A range takes two of the fifteen places.
    if sum(1 if low == high else 2 for low, high in ranges) > 15:
        raise ValueError("more than 15 ports")
    return tuple(ranges)


LIST = Kind(_ports, lambda value: ",".join(map(show_range, value)))
# Which of the two ports is asked for: bits as OP_PORTS has them.
ENDS = {"sports": 1, "dports": 2, "ports": 3}


class Multiport(Match):
    name = "multiport"
    protocols = frozenset({TCP, UDP, UDPLITE, SCTP, DCCP})
    some = True
    options = (
        Option("sports", LIST, invert=True, also=("source-ports",), excludes=("dports", "ports")),
        Option("dports", LIST, invert=True, also=("destination-ports",), excludes=("ports",)),
        Option("ports", LIST, invert=True),
    )

    def tests(self) -> Iterator[Test]:
        for option, ends in ENDS.items():
            if self.has(option):
                words = [ends]
                for low, high in self.value(option):
                    words += (low, high - low)
                yield Custom(OpKind.OP_PORTS, tuple(words), invert=self.inverted(option))


MATCH = Multiport
