"""-m connbytes: how much a connection has carried (net/netfilter/xt_connbytes.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import Given, Kind, Match, Option, Scope
from dataplane.host.xtables.predicate import ANY, Custom, Test
from dataplane.host.xtables.values import integer, words_of

MOST = (1 << 64) - 1


def _range(text: str, scope: Scope) -> tuple[int, int]:
    first, _, last = text.partition(":")
    low = integer(first, 0, MOST) if first else 0
    high = integer(last, 0, MOST) if last else MOST
    if low > high:
        raise ValueError(f"{text}: the first number is above the last")
    return low, high


RANGE = Kind(_range, lambda value: str(value[0]) if value[1] == MOST else f"{value[0]}:{value[1]}")


class Connbytes(Match):
    name = "connbytes"
    options = (
        Option("connbytes", RANGE, invert=True, required=True),
        Option("connbytes-mode", words_of(["packets", "bytes", "avgpkt"], "mode"), required=True),
        Option("connbytes-dir", words_of(["original", "reply", "both"], "direction"), required=True),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        low, high = given["connbytes"].value
        if low == high:
            # The tool keeps `!` by turning the ends around, and so forgets it where they are equal.
            given["connbytes"] = Given((low, high))
        return given

    def tests(self) -> Iterator[Test]:
        low, high = self.value("connbytes")
        words = (
            self.value("connbytes-mode"),
            self.value("connbytes-dir"),
            low >> 32,
            low & ANY,
            high >> 32,
            high & ANY,
        )
        yield Custom(OpKind.OP_CONNBYTES, words, invert=self.inverted("connbytes"))


MATCH = Connbytes
