"""-m pkttype: to whom the link layer says a packet goes (net/netfilter/xt_pkttype.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field, PacketType
from dataplane.host.xtables.declare import Match, Option
from dataplane.host.xtables.predicate import Test, Word
from dataplane.host.xtables.values import words_of

TYPES = {
    "unicast": int(PacketType.PACKET_HOST),
    "broadcast": int(PacketType.PACKET_BROADCAST),
    "multicast": int(PacketType.PACKET_MULTICAST),
    "otherhost": int(PacketType.PACKET_OTHERHOST),
    "host": int(PacketType.PACKET_HOST),
}


class Pkttype(Match):
    name = "pkttype"
    options = (Option("pkt-type", words_of(TYPES, "packet type"), invert=True, required=True),)

    def tests(self) -> Iterator[Test]:
        kind = self.value("pkt-type")
        yield Word(Field.FIELD_PKTTYPE, kind, kind, invert=self.inverted("pkt-type"))


MATCH = Pkttype
