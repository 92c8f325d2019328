"""-m iprange: addresses from one to another (net/netfilter/xt_iprange.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane.host.xtables.declare import Kind, Match, Option, Scope
from dataplane.host.xtables.predicate import AddressRange, Test
from dataplane.host.xtables.values import address_number, show_address


def _range(text: str, scope: Scope) -> tuple[int, int, int]:
    first, dash, last = text.partition("-")
    low = address_number(first, scope.family)
    return low, address_number(last, scope.family) if dash else low, scope.family


RANGE = Kind(_range, lambda value: f"{show_address(value[0], value[2])}-{show_address(value[1], value[2])}")


class Iprange(Match):
    name = "iprange"
    some = True
    options = (Option("src-range", RANGE, invert=True), Option("dst-range", RANGE, invert=True))

    def tests(self) -> Iterator[Test]:
        for option, word in (("src-range", Field.FIELD_SRC), ("dst-range", Field.FIELD_DST)):
            if self.has(option):
                low, high, family = self.value(option)
                yield AddressRange(word, low, high, family, self.inverted(option))


MATCH = Iprange
