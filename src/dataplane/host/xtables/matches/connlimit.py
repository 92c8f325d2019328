"""-m connlimit: how many connections an address, or a network, has (net/netfilter/xt_connlimit.c)."""

from __future__ import annotations

from dataplane.host.xtables.declare import Given, Match, Option, Refused, Scope
from dataplane.host.xtables.values import bits_of, number


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


MATCH = Connlimit
