"""-m multiport: up to 15 ports or ranges (net/netfilter/xt_multiport.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane.host.xtables.declare import DCCP, SCTP, TCP, UDP, UDPLITE, Kind, Match, Option, Scope
from dataplane.host.xtables.predicate import AnyOf, Header, Test, Word
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
WORDS = {
    "sports": (Field.FIELD_SPORT,),
    "dports": (Field.FIELD_DPORT,),
    "ports": (Field.FIELD_SPORT, Field.FIELD_DPORT),
}


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
        # The ports alone must be there: xt_multiport asks for four bytes.
        yield Header(4)
        for option, words in WORDS.items():
            if self.has(option):
                ranges = self.value(option)
                either = tuple(Word(word, low, high) for low, high in ranges for word in words)
                yield AnyOf(either, self.inverted(option))


MATCH = Multiport
