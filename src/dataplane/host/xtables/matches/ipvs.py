"""-m ipvs: the packet belongs to a connection of IPVS (net/netfilter/xt_ipvs.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.ipvs import Forward
from dataplane._fast.ruleset import IpvsAsk, OpKind
from dataplane.host.xtables.declare import Kind, Match, Option
from dataplane.host.xtables.predicate import Custom, Test
from dataplane.host.xtables.values import NETWORK, Network, full_mask, port, protocol_number, show_network, words_of


def _show(network: Network) -> str:
    shown = show_network(network)
    return shown.partition("/")[0] if network.mask == full_mask(network.family) else shown


ADDRESS = Kind(NETWORK.read, _show)
PORT = Kind(lambda text, scope: port(text), str)
PROTOCOL = Kind(lambda text, scope: protocol_number(text), str)
METHODS = (Forward.FORWARD_MASQ, Forward.FORWARD_TUNNEL, Forward.FORWARD_ROUTE)
ASKS = {
    "ipvs": IpvsAsk.ASK_IPVS,
    "vproto": IpvsAsk.ASK_PROTOCOL,
    "vaddr": IpvsAsk.ASK_ADDRESS,
    "vport": IpvsAsk.ASK_PORT,
    "vdir": IpvsAsk.ASK_DIRECTION,
    "vmethod": IpvsAsk.ASK_METHOD,
    "vportctl": IpvsAsk.ASK_CONTROL,
}


def _words(value: int, family: int) -> tuple[int, ...]:
    if family == 4:
        return value, 0, 0, 0
    return tuple(value >> shift & 0xFFFFFFFF for shift in (96, 64, 32, 0))


class Ipvs(Match):
    name = "ipvs"
    some = True
    options = (
        Option("ipvs", invert=True),
        Option("vproto", PROTOCOL, invert=True),
        Option("vaddr", ADDRESS, invert=True),
        Option("vport", PORT, invert=True),
        Option("vdir", words_of(["ORIGINAL", "REPLY"], "direction")),
        Option("vmethod", words_of(["MASQ", "IPIP", "GATE"], "method"), invert=True),
        Option("vportctl", PORT, invert=True),
    )

    def tests(self) -> Iterator[Test]:
        asked = sum(ask for name, ask in ASKS.items() if self.has(name))
        inverted = sum(ask for name, ask in ASKS.items() if self.has(name) and self.inverted(name))
        numbers = [self.value(name) if self.has(name) else 0 for name in ("vproto", "vport", "vportctl", "vdir")]
        method = METHODS[self.value("vmethod")] if self.has("vmethod") else 0
        words: tuple[int, ...] = (0,) * 8
        if self.has("vaddr"):
            network: Network = self.value("vaddr")
            words = (*_words(network.mask, network.family), *_words(network.address, network.family))
        yield Custom(OpKind.OP_IPVS, (asked, inverted, *numbers, method, *words))


MATCH = Ipvs
