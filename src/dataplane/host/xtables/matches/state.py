"""-m state: the old form of `-m conntrack --ctstate`."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.host.xtables.declare import Match, Option
from dataplane.host.xtables.predicate import Test
from dataplane.host.xtables.states import STATES, state_test
from dataplane.host.xtables.values import flags_of


class State(Match):
    name = "state"
    options = (Option("state", flags_of(STATES, "connection state"), invert=True, required=True),)

    def tests(self) -> Iterator[Test]:
        yield state_test(self.value("state"), self.inverted("state"))


MATCH = State
