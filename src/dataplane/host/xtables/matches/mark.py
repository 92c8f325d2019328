"""-m mark: the mark of the packet (net/netfilter/xt_mark.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane.host.xtables.declare import Match, Option
from dataplane.host.xtables.predicate import Test, Word
from dataplane.host.xtables.values import MARK


class Mark(Match):
    name = "mark"
    options = (Option("mark", MARK, invert=True, required=True),)

    def tests(self) -> Iterator[Test]:
        value, mask = self.value("mark")
        yield Word(Field.FIELD_MARK, value, value, mask, self.inverted("mark"))


MATCH = Mark
