"""-m ipvs: the packet belongs to a connection of IPVS (net/netfilter/xt_ipvs.c)."""

from __future__ import annotations

from dataplane.host.xtables.declare import Kind, Match, Option
from dataplane.host.xtables.values import NETWORK, port, protocol_number, words_of

PORT = Kind(lambda text, scope: port(text), str)
PROTOCOL = Kind(lambda text, scope: protocol_number(text), str)


class Ipvs(Match):
    name = "ipvs"
    some = True
    options = (
        Option("ipvs", invert=True),
        Option("vproto", PROTOCOL, invert=True),
        Option("vaddr", NETWORK, invert=True),
        Option("vport", PORT, invert=True),
        Option("vdir", words_of(["ORIGINAL", "REPLY"], "direction")),
        Option("vmethod", words_of(["MASQ", "IPIP", "GATE"], "method"), invert=True),
        Option("vportctl", PORT, invert=True),
    )


MATCH = Ipvs
