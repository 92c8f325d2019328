"""-m physdev: the ports of a bridge by which a packet came and goes (net/netfilter/xt_physdev.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane.host.xtables.declare import Match, Option
from dataplane.host.xtables.predicate import ANY, AnyOf, Interface, Test, Word
from dataplane.host.xtables.values import INTERFACE

NOT_OUTPUT = frozenset({"PREROUTING", "INPUT", "FORWARD", "POSTROUTING"})


class Physdev(Match):
    name = "physdev"
    some = True
    options = (
        Option("physdev-is-in", invert=True),
        Option("physdev-in", INTERFACE, invert=True),
        Option("physdev-is-out", invert=True),
        Option("physdev-out", INTERFACE, invert=True),
        Option("physdev-is-bridged", invert=True),
    )

    def allowed_hooks(self) -> frozenset[str]:
        # Only a bridged packet has an outgoing port already at OUTPUT.
        bridged = self.has("physdev-is-bridged") and not self.inverted("physdev-is-bridged")
        out = self.has("physdev-out") or self.has("physdev-is-out")
        return NOT_OUTPUT if out and not bridged else frozenset()

    def tests(self) -> Iterator[Test]:
        if self.has("physdev-is-bridged"):
            # The kernel calls a packet bridged as soon as, and only when, its outgoing port is known.
            yield Word(Field.FIELD_PHYSOUT, 1, ANY, invert=self.inverted("physdev-is-bridged"))
        for option, word in (("physdev-is-in", Field.FIELD_PHYSIN), ("physdev-is-out", Field.FIELD_PHYSOUT)):
            if self.has(option):
                yield Word(word, 1, ANY, invert=self.inverted(option))
        for option, word in (("physdev-in", Field.FIELD_PHYSIN), ("physdev-out", Field.FIELD_PHYSOUT)):
            if self.has(option):
                yield Interface(word, self.value(option), self.inverted(option))
        if self.inverted("physdev-out"):
            # A packet that came by a port and goes by none fails; one that no bridge has seen passes.
            yield AnyOf((Word(Field.FIELD_PHYSOUT, 1, ANY), Word(Field.FIELD_PHYSIN, 0, 0)))


MATCH = Physdev
