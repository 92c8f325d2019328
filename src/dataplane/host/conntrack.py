"""The connection table: `conntrack -L -o extended`.

    ipv4     2 tcp      6 431999 ESTABLISHED src=10.244.1.2 dst=10.96.0.1 sport=40000 dport=443 src=192.168.1.11
    dst=10.244.1.2 sport=6443 dport=40000 [ASSURED] mark=0 use=1

(one line). `packets=` and `bytes=` follow each direction where accounting is on.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dataplane.errors import DumpError
from dataplane.host.notation import address_text
from dataplane.host.notes import Notes

__all__ = ["ConnectionRow", "ConnectionTuple", "parse", "text"]

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class ConnectionTuple:
    """One direction of a connection. ICMP has type, code and id in the place of ports; GRE has keys."""

    source: IPAddress
    destination: IPAddress
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    icmp_id: int | None = None
    source_key: int | None = None
    destination_key: int | None = None
    zone: int | None = None  # of this direction alone
    packets: int | None = None  # None: accounting is off (net.netfilter.nf_conntrack_acct)
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """One line: one connection."""

    protocol: int  # IP protocol number
    original: ConnectionTuple
    reply: ConnectionTuple
    timeout: int | None = None  # seconds left; None: not printed (offloaded)
    state: str | None = None  # of TCP, SCTP and DCCP
    seen_reply: bool = True  # without it: [UNREPLIED]
    assured: bool = False
    offload: str = ""  # "", OFFLOAD or HW_OFFLOAD
    mark: int | None = 0  # None: not printed
    zone: int | None = None  # of both directions; None: zone 0
    use: int = 1  # reference count
    more: tuple[str, ...] = ()  # further words, as they stand: secctx=, delta-time=, id=, labels=, ...
    raw: str | None = field(default=None, compare=False, repr=False)

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.original.source.version


# libnetfilter_conntrack's names; other protocols are printed as "unknown".
_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 58: "icmpv6", 132: "sctp", 136: "udplite"}
_WITH_STATE = frozenset((6, 33, 132))
_FAMILIES = {"ipv4": (4, 2), "ipv6": (6, 10)}  # name: version, AF_ number
_TUPLE_KEYS = {
    "src": "source",
    "dst": "destination",
    "sport": "source_port",
    "dport": "destination_port",
    "type": "icmp_type",
    "code": "icmp_code",
    "id": "icmp_id",
    "srckey": "source_key",
    "dstkey": "destination_key",
    "zone-orig": "zone",
    "zone-reply": "zone",
    "packets": "packets",
    "bytes": "bytes",
}
_MOST = {
    "protocol": 0xFF,
    "timeout": 0xFFFFFFFF,
    "packets": 0xFFFFFFFFFFFFFFFF,
    "bytes": 0xFFFFFFFFFFFFFFFF,
    "mark": 0xFFFFFFFF,
    "use": 0xFFFFFFFF,
    "srckey": 0xFFFFFFFF,
    "dstkey": 0xFFFFFFFF,
}
"""The largest number that a word may hold; 65535 where it is not here."""


def parse(text: str, file: str = "conntrack.txt", notes: Notes | None = None) -> tuple[ConnectionRow, ...]:
    """The connections of a `conntrack -L -o extended`. DumpError names the line and the word that is wrong.

    The tool's own summary line ("conntrack v1.4.7 ...: 9 flow entries have been shown."), which it writes to standard
    error, is skipped where it got into the file.
    """
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("conntrack v"):
            continue
        rows.append(_parse_line(line, file, f"line {number}"))
    return tuple(rows)


def _parse_line(line: str, file: str, where: str) -> ConnectionRow:
    def error(field: str, message: str) -> DumpError:
        return DumpError(file, where, field, message)

    def number(field: str, word: str) -> int:
        most = _MOST.get(field, 0xFFFF)
        try:
            value = int(word, 0)
        except ValueError:
            raise error(field, f"a number is expected, not {word!r}") from None
        if not 0 <= value <= most:
            raise error(field, f"{word} is not from 0 to {most}")
        return value

    words = line.split()
    if words[0] not in _FAMILIES:
        raise error("family", f"ipv4 or ipv6 is expected, not {words[0]!r}: the lines of `conntrack -L -o extended`")
    if len(words) < 4:
        raise error("protocol", "is missing")
    family, _ = _FAMILIES[words[0]]
    protocol = number("protocol", words[3])
    row: dict[str, Any] = {"mark": None}
    tuples: list[dict[str, Any]] = []
    more: list[str] = []
    ended = False
    at = 4
    if at < len(words) and words[at].isdigit():
        row["timeout"] = number("timeout", words[at])
        at += 1
    if at < len(words) and "=" not in words[at] and not words[at].startswith("["):
        row["state"] = words[at]
        at += 1
    for word in words[at:]:
        key, equals, value = word.partition("=")
        if word == "[UNREPLIED]":
            row["seen_reply"] = False
        elif word == "[ASSURED]":
            row["assured"] = True
        elif word in ("[OFFLOAD]", "[HW_OFFLOAD]"):
            row["offload"] = word[1:-1]
        elif key in ("mark", "zone", "use"):
            row[key] = number(key, value)
            ended = True  # `id=` after this is the connection's own
        elif key in ("src", "dst"):
            if key == "src":
                tuples.append({})
            if not tuples or len(tuples) > 2 or _TUPLE_KEYS[key] in tuples[-1]:
                raise error(key, "is out of place")
            try:
                address = ipaddress.ip_address(value)
            except ValueError:
                raise error(key, f"an address is expected, not {value!r}") from None
            if address.version != family:
                raise error(key, f"an IPv{family} address is expected, not {value}")
            tuples[-1][_TUPLE_KEYS[key]] = address
        elif equals and key in _TUPLE_KEYS and not ended:
            if not tuples:
                raise error(key, "is out of place")
            tuples[-1][_TUPLE_KEYS[key]] = number(key, value)
        else:
            more.append(word)
    if len(tuples) != 2 or any("destination" not in values for values in tuples):
        raise error("src, dst", "two pairs are expected, of the original and the reply direction")
    return ConnectionRow(
        protocol, ConnectionTuple(**tuples[0]), ConnectionTuple(**tuples[1]), more=tuple(more), raw=line, **row
    )


def text(rows: Iterable[ConnectionRow], *, extended: bool = True) -> str:
    """What `conntrack -L -o extended` prints for these connections, in the order given; or without -o extended, where
    the network protocol is not said."""
    lines = [_line(row) for row in rows]
    return "".join(f"{line if extended else line.split(maxsplit=2)[2]}\n" for line in lines)


def _line(row: ConnectionRow) -> str:
    if row.raw is not None and _parse_line(row.raw, "", "") == row:
        return row.raw
    version = row.family
    words = [f"{'ipv4' if version == 4 else 'ipv6':<8}", "2" if version == 4 else "10"]
    words += [f"{_NAMES.get(row.protocol, 'unknown'):<8}", str(row.protocol)]
    if row.timeout is not None:
        words.append(str(row.timeout))
    if row.state is not None and row.protocol in _WITH_STATE:
        words.append(row.state)
    words += _tuple_words(row.original, "zone-orig")
    if not row.seen_reply:
        words.append("[UNREPLIED]")
    words += _tuple_words(row.reply, "zone-reply")
    if row.offload:
        words.append(f"[{row.offload}]")
    elif row.assured:
        words.append("[ASSURED]")
    if row.mark is not None:
        words.append(f"mark={row.mark}")
    words += [word for word in row.more if word.startswith("secctx=")]
    if row.zone is not None:
        words.append(f"zone={row.zone}")
    words += [word for word in row.more if word.startswith(("delta-time=", "helper=", "["))]
    words.append(f"use={row.use}")
    words += [word for word in row.more if not word.startswith(("secctx=", "delta-time=", "helper=", "["))]
    return " ".join(words)


def _tuple_words(value: ConnectionTuple, zone: str) -> list[str]:
    words = [f"src={address_text(value.source)}", f"dst={address_text(value.destination)}"]
    for key, name in (("sport", "source_port"), ("dport", "destination_port")):
        if getattr(value, name) is not None:
            words.append(f"{key}={getattr(value, name)}")
    for key, name in (("type", "icmp_type"), ("code", "icmp_code"), ("id", "icmp_id")):
        if getattr(value, name) is not None:
            words.append(f"{key}={getattr(value, name)}")
    for key, name in (("srckey", "source_key"), ("dstkey", "destination_key")):
        if getattr(value, name) is not None:
            words.append(f"{key}=0x{getattr(value, name):x}")
    if value.zone is not None:
        words.append(f"{zone}={value.zone}")
    if value.packets is not None:
        words.append(f"packets={value.packets}")
    if value.bytes is not None:
        words.append(f"bytes={value.bytes}")
    return words
