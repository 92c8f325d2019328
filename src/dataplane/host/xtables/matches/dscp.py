"""-m dscp: the differentiated services code point (net/netfilter/xt_dscp.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane.host.xtables.declare import Given, Match, Option, Scope
from dataplane.host.xtables.dsfield import DSCP, DSCP_CLASS
from dataplane.host.xtables.predicate import Test, Word


class Dscp(Match):
    name = "dscp"
    some = True
    options = (
        Option("dscp", DSCP, invert=True, excludes=("dscp-class",)),
        Option("dscp-class", DSCP_CLASS, invert=True),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        if "dscp-class" in given:
            given["dscp"] = given.pop("dscp-class")
        return given

    def tests(self) -> Iterator[Test]:
        value = self.value("dscp") << 2
        yield Word(Field.FIELD_TOS, value, value, 0xFC, self.inverted("dscp"))


MATCH = Dscp
