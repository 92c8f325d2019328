"""-m connlabel: one of the 128 labels of the packet's connection (net/netfilter/xt_connlabel.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import Kind, Match, Option, Scope
from dataplane.host.xtables.predicate import Custom, Test
from dataplane.host.xtables.values import integer

MOST = 127


def _label(text: str, scope: Scope) -> int:
    if not text.isdigit():
        raise ValueError(f"{text!r}: names of labels are the machine's own (connlabel.conf); a number is expected")
    return integer(text, 0, MOST)


LABEL = Kind(_label, lambda value: f'"{value}"')


class Connlabel(Match):
    name = "connlabel"
    options = (Option("label", LABEL, invert=True, required=True), Option("set"))

    def tests(self) -> Iterator[Test]:
        yield Custom(OpKind.OP_CT_LABEL, (self.value("label"), int(self.has("set"))), invert=self.inverted("label"))


MATCH = Connlabel
