"""-m length: bytes of the packet (net/netfilter/xt_length.c).

IPv4 counts what the header says, IPv6 the payload and its 40 bytes of header.
"""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane.host.xtables.declare import Match, Option
from dataplane.host.xtables.predicate import Test, Word
from dataplane.host.xtables.values import number_range


class Length(Match):
    name = "length"
    options = (Option("length", number_range(65535), invert=True, required=True),)

    def tests(self) -> Iterator[Test]:
        low, high = self.value("length")
        # Ends in the wrong order are accepted, and no length lies between them.
        yield Word(Field.FIELD_LENGTH, low, high, invert=self.inverted("length"))


MATCH = Length
