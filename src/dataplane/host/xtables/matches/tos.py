"""-m tos: type of service, or traffic class (net/netfilter/xt_dscp.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane.host.xtables.declare import Match, Option
from dataplane.host.xtables.dsfield import TOS
from dataplane.host.xtables.predicate import Test, Word


class Tos(Match):
    name = "tos"
    options = (Option("tos", TOS, invert=True, required=True),)

    def tests(self) -> Iterator[Test]:
        value, mask = self.value("tos")
        yield Word(Field.FIELD_TOS, value, value, mask, self.inverted("tos"))


MATCH = Tos
