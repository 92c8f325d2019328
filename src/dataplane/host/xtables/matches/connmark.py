"""-m connmark: the mark of the packet's connection (net/netfilter/xt_connmark.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.ruleset import CtField
from dataplane.host.xtables.declare import Match, Option
from dataplane.host.xtables.predicate import CtWord, Test
from dataplane.host.xtables.values import MARK


class Connmark(Match):
    name = "connmark"
    options = (Option("mark", MARK, invert=True, required=True),)

    def tests(self) -> Iterator[Test]:
        value, mask = self.value("mark")
        yield CtWord(CtField.CT_MARK, value, value, mask, self.inverted("mark"))


MATCH = Connmark
