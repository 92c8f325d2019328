"""-m rpfilter: the reply would leave by the interface that the packet came in by (ipt_rpfilter.c, ip6t_rpfilter.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.ruleset import OpKind, RpfilterFlag
from dataplane.host.xtables.declare import Match, Option
from dataplane.host.xtables.predicate import Custom, Test

FLAGS = {
    "loose": RpfilterFlag.RPFILTER_LOOSE,
    "validmark": RpfilterFlag.RPFILTER_VALID_MARK,
    "accept-local": RpfilterFlag.RPFILTER_ACCEPT_LOCAL,
}


class Rpfilter(Match):
    name = "rpfilter"
    tables = frozenset({"raw", "mangle"})
    hooks = frozenset({"PREROUTING"})
    options = (*(Option(name) for name in FLAGS), Option("invert"))

    def tests(self) -> Iterator[Test]:
        flags = sum(flag for name, flag in FLAGS.items() if self.has(name))
        yield Custom(OpKind.OP_RPFILTER, (flags,), invert=self.has("invert"))


MATCH = Rpfilter
