"""-m sctp: ports and chunk types of SCTP (net/netfilter/xt_sctp.c)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import SCTP, Given, Kind, Match, Option, Scope
from dataplane.host.xtables.ports import port_tests, whole_is_nothing
from dataplane.host.xtables.predicate import Custom, Header, Test
from dataplane.host.xtables.values import PORTS

CHUNKS = {
    "DATA": 0, "INIT": 1, "INIT_ACK": 2, "SACK": 3, "HEARTBEAT": 4, "HEARTBEAT_ACK": 5, "ABORT": 6, "SHUTDOWN": 7,
    "SHUTDOWN_ACK": 8, "ERROR": 9, "COOKIE_ECHO": 10, "COOKIE_ACK": 11, "ECN_ECNE": 12, "ECN_CWR": 13,
    "SHUTDOWN_COMPLETE": 14, "I_DATA": 64, "RE_CONFIG": 130, "PAD": 132, "ASCONF": 193, "ASCONF_ACK": 128,
    "FORWARD_TSN": 192, "I_FORWARD_TSN": 194,
}  # fmt: skip
# The flags that a letter stands for, by chunk; a capital letter asks for a set flag, a small one for a clear one.
LETTERS = {0: "----IUBE", 64: "----IUBE", 6: "-------T", 14: "-------T"}
WAYS = {"any": 0, "all": 1, "only": 2}


class ChunkSet(NamedTuple):
    """way: any, all, only. chunks: (type, flags looked at, flags wanted)."""

    way: str
    chunks: tuple[tuple[int, int, int], ...]


def _read(words: tuple[str, str], scope: Scope) -> ChunkSet:
    way = words[0].lower()
    if way not in WAYS:
        raise ValueError(f"{words[0]!r} is none of any, all, only")
    found: dict[int, tuple[int, int]] = {}
    for word in words[1].split(","):
        name, colon, letters = word.partition(":")
        if name.upper() in ("ALL", "NONE"):
            if len(words[1].split(",")) > 1 or colon:
                raise ValueError(f"{name} stands alone")
            every = range(256) if name.upper() == "ALL" else ()
            return ChunkSet(way, tuple((chunk, 0, 0) for chunk in every))
        if name.upper() not in CHUNKS:
            raise ValueError(f"{name!r} is no SCTP chunk")
        chunk = CHUNKS[name.upper()]
        mask = wanted = 0
        for letter in letters:
            at = LETTERS.get(chunk, "--------").find(letter.upper())
            if at < 0 or letter == "-":
                raise ValueError(f"chunk {name} has no flag {letter!r}")
            mask |= 128 >> at
            wanted |= 128 >> at if letter.isupper() else 0
        found[chunk] = (mask, wanted)
    return ChunkSet(way, tuple((chunk, *found[chunk]) for chunk in sorted(found)))


def _show(value: ChunkSet) -> str:
    if len(value.chunks) == 256:
        return f"{value.way} ALL"
    if not value.chunks:
        return f"{value.way} NONE"
    names = {number: name for name, number in CHUNKS.items()}
    words = []
    for chunk, mask, wanted in value.chunks:
        pattern = LETTERS.get(chunk, "--------")
        letters = "".join(
            pattern[at] if wanted & (128 >> at) else pattern[at].lower() for at in range(8) if mask & (128 >> at)
        )
        words.append(names[chunk] + (f":{letters}" if letters else ""))
    return f"{value.way} {','.join(words)}"


class Sctp(Match):
    name = "sctp"
    protocols = frozenset({SCTP})
    options = (
        Option("sport", PORTS, invert=True, also=("source-port",)),
        Option("dport", PORTS, invert=True, also=("destination-port",)),
        Option("chunk-types", Kind(_read, _show, arguments=2), invert=True),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        return whole_is_nothing(given)

    def tests(self) -> Iterator[Test]:
        yield Header(12)
        yield from port_tests(self)
        if self.has("chunk-types"):
            chunks: ChunkSet = self.value("chunk-types")
            present = [0] * 8
            flags = []
            for chunk, mask, wanted in chunks.chunks:
                present[chunk >> 5] |= 1 << (chunk & 31)
                if mask:
                    flags.append(chunk << 16 | mask << 8 | wanted)
            words = (WAYS[chunks.way], *present, *flags)
            yield Custom(OpKind.OP_SCTP_CHUNKS, words, invert=self.inverted("chunk-types"))


MATCH = Sctp
