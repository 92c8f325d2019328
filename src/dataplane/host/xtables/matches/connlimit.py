"""-m connlimit: how many connections an address, or a network, has (net/netfilter/xt_connlimit.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import Given, Match, Option, Refused, Scope
from dataplane.host.xtables.predicate import Custom, Shared, Test
from dataplane.host.xtables.values import bits_of, number, prefix_words


class Connlimit(Match):
    name = "connlimit"
    some = True
    options = (
        Option("connlimit-upto", number(), invert=True, excludes=("connlimit-above",)),
        Option("connlimit-above", number(), invert=True),
        Option("connlimit-mask", number(0, 128)),
        Option("connlimit-saddr", excludes=("connlimit-daddr",)),
        Option("connlimit-daddr"),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        if "connlimit-upto" not in given and "connlimit-above" not in given:
            raise Refused("-m connlimit", "--connlimit-upto or --connlimit-above must be given")
        for option, other in (("connlimit-upto", "connlimit-above"), ("connlimit-above", "connlimit-upto")):
            if option in given and given[option].inverted:
                given[other] = Given(given.pop(option).value)
                break
        bits = bits_of(scope.family)
        given["connlimit-mask"] = Given(min(given.get("connlimit-mask", Given(bits)).value, bits))
        if "connlimit-daddr" not in given:
            given["connlimit-saddr"] = Given(True)
        return given

    def tests(self) -> Iterator[Test]:
        above = self.has("connlimit-above")
        word = Field.FIELD_DST if self.has("connlimit-daddr") else Field.FIELD_SRC
        mask = prefix_words(self.value("connlimit-mask"), self.scope.family)
        limit = self.value("connlimit-above" if above else "connlimit-upto")
        yield Custom(OpKind.OP_CONNLIMIT, (word, *mask, limit), invert=not above, shared=Shared("connlimit", ""))


MATCH = Connlimit
