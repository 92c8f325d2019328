"""-m comment: a note for people."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.host.xtables.declare import Match, Option
from dataplane.host.xtables.predicate import Test
from dataplane.host.xtables.values import text


class Comment(Match):
    name = "comment"
    options = (Option("comment", text(255), required=True),)

    def tests(self) -> Iterator[Test]:
        return iter(())


MATCH = Comment
