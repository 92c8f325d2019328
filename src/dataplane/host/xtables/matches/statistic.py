"""-m statistic: some of the packets, by chance or in turn (net/netfilter/xt_statistic.c)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import Given, Kind, Match, Option, Refused, Scope
from dataplane.host.xtables.predicate import ANY, Custom, Test
from dataplane.host.xtables.values import number, words_of

ONE = 1 << 31


def _probability(text: str, scope: Scope) -> int:
    if not re.fullmatch(r"[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?", text) or not text.strip("."):
        raise ValueError(f"{text!r} is not a probability")
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(f"{text} is not within 0 to 1")
    # lround: halves away from zero.
    return int(value * ONE + 0.5)


PROBABILITY = Kind(_probability, lambda value: f"{value / ONE:.11f}")


class Statistic(Match):
    name = "statistic"
    options = (
        Option("mode", words_of(["random", "nth"], "mode"), required=True),
        Option("probability", PROBABILITY, invert=True, excludes=("every", "packet")),
        Option("every", number(1), invert=True, needs=("packet",)),
        Option("packet", number(0), needs=("every",)),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        wanted = "every" if given["mode"].value else "probability"
        if wanted not in given:
            raise Refused("--mode", f"--{wanted} must be given with this mode")
        if wanted == "every" and given["packet"].value >= given["every"].value:
            raise Refused("--packet", "not below --every")
        return given

    def tests(self) -> Iterator[Test]:
        if self.has("probability"):
            yield Custom(OpKind.OP_STATISTIC_RANDOM, (self.value("probability"),), invert=self.inverted("probability"))
        else:
            last = self.value("every") - 1
            start = last - self.value("packet")
            yield Custom(OpKind.OP_STATISTIC_NTH, (last & ANY,), (start,), self.inverted("every"))


MATCH = Statistic
