"""-m addrtype: what kind of address the routing tables say it is (net/netfilter/xt_addrtype.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import Given, Match, Option, Refused, Scope
from dataplane.host.xtables.predicate import Custom, Test
from dataplane.host.xtables.values import flags_of

NAMES = (
    "UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT", "THROW",
    "NAT", "XRESOLVE",
)  # fmt: skip
# Bits by RTN_ number, as the kernel keeps them.
TYPES = {name: 1 << number for number, name in enumerate(NAMES)}
IPV6_TYPES = frozenset({"UNSPEC", "UNICAST", "LOCAL", "ANYCAST", "MULTICAST", "UNREACHABLE"})
KIND = flags_of(TYPES, "address type")
WITH_INPUT = frozenset({"PREROUTING", "INPUT", "FORWARD"})
WITH_OUTPUT = frozenset({"FORWARD", "OUTPUT", "POSTROUTING"})


class Addrtype(Match):
    name = "addrtype"
    options = (
        Option("src-type", KIND, invert=True),
        Option("dst-type", KIND, invert=True),
        Option("limit-iface-in", excludes=("limit-iface-out",)),
        Option("limit-iface-out"),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        if "src-type" not in given and "dst-type" not in given:
            raise Refused("-m addrtype", "--src-type or --dst-type must be given")
        if scope.family == 6:
            for option in ("src-type", "dst-type"):
                for name in KIND.show(given[option].value).split(",") if option in given else ():
                    if name not in IPV6_TYPES:
                        raise Refused(f"--{option}", f"there is no type {name} in IPv6")
        return given

    def allowed_hooks(self) -> frozenset[str]:
        if self.has("limit-iface-in"):
            return WITH_INPUT
        return WITH_OUTPUT if self.has("limit-iface-out") else frozenset()

    def tests(self) -> Iterator[Test]:
        limit = 1 if self.has("limit-iface-in") else 2 if self.has("limit-iface-out") else 0
        for option, word in (("src-type", Field.FIELD_SRC), ("dst-type", Field.FIELD_DST)):
            if self.has(option):
                words = (int(word), self.value(option), limit)
                yield Custom(OpKind.OP_ADDRESS_TYPE, words, invert=self.inverted(option))


MATCH = Addrtype
