"""Packets as bytes, built and read: fast, and free to be wrong."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from functools import cache

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
# A sender of random cases has these only, so that any other was chosen by the node itself (see compare.MASKS).
IDS = (0, 0x1234, 0xABCD, 0xFFFF)
LABELS = (0, 0xABCDE, 0x12345)
FRAGMENT_IDS = (7, 0xABCDEF01)


@cache
def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def total(data: bytes) -> int:
    """The Internet checksum's sum, folded."""
    if len(data) & 1:
        data += b"\0"
    value = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return value


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def crc32c(data: bytes) -> int:
    table = _crc_table()
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def seal(source: bytes, destination: bytes, protocol: int, body: bytes) -> bytes:
    """The transport's checksum filled in."""
    if protocol == SCTP and len(body) >= 12:
        zero = body[:8] + bytes(4) + body[12:]
        return body[:8] + struct.pack("<I", crc32c(zero)) + body[12:]
    place = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2, 136: 6}.get(protocol)
    if place is None or len(body) < place + 2:
        return body
    zero = body[:place] + b"\0\0" + body[place + 2 :]
    pseudo = b"" if protocol == ICMP else source + destination + struct.pack("!II", len(body), protocol)
    value = ~total(pseudo + zero) & 0xFFFF
    if protocol == UDP and value == 0:
        value = 0xFFFF
    return body[:place] + value.to_bytes(2, "big") + body[place + 2 :]


def ip4(
    source: str,
    destination: str,
    protocol: int,
    body: bytes,
    ttl: int = 64,
    tos: int = 0,
    ident: int = 0x1234,
    offset: int = 0,
    options: bytes = b"",
) -> bytes:
    """offset: the flags and the fragment offset as the header holds them."""
    header = (
        struct.pack(
            "!BBHHHBBH4s4s",
            0x45 + len(options) // 4,
            tos,
            (20 + len(options) + len(body)) & 0xFFFF,
            ident,
            offset,
            ttl,
            protocol,
            0,
            packed(source),
            packed(destination),
        )
        + options
    )
    return header[:10] + (~total(header) & 0xFFFF).to_bytes(2, "big") + header[12:] + body


def ip6(
    source: str, destination: str, protocol: int, body: bytes, ttl: int = 64, tos: int = 0, label: int = 0,
    extra: bytes = b"", first: int = 0,
) -> bytes:  # fmt: skip
    """extra: extension headers, of which `first` is the first's number."""
    return (
        struct.pack("!IHBB", 6 << 28 | tos << 20 | label, len(extra) + len(body), first if extra else protocol, ttl)
        + packed(source)
        + packed(destination)
        + extra
        + body
    )


def ports(sport: int, dport: int) -> bytes:
    return struct.pack("!HH", sport, dport)


def udp(sport: int, dport: int, data: bytes) -> bytes:
    return struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def tcp(sport: int, dport: int, seq: int, ack: int, flags: int, window: int, options: bytes, data: bytes) -> bytes:
    return (
        struct.pack(
            "!HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, (20 + len(options)) // 4 << 4, flags, window, 0, 0
        )
        + options
        + data
    )  # fmt: skip


def sctp(sport: int, dport: int, tag: int, chunks: bytes) -> bytes:
    return struct.pack("!HHII", sport, dport, tag, 0) + chunks


@dataclass(frozen=True, slots=True)
class Packet:
    """What can be read of an IP packet that came out."""

    family: int
    source: str
    destination: str
    protocol: int
    offset: int  # IPv4's fragment field; 1 for an IPv6 fragment
    header: bytes
    body: bytes
    ident: int = 0


def read(data: bytes) -> Packet | None:
    """The IP packet, from its first byte; None where it is none."""
    if len(data) >= 20 and data[0] >> 4 == 4:
        size = (data[0] & 15) * 4
        return Packet(
            4,
            str(ipaddress.IPv4Address(data[12:16])),
            str(ipaddress.IPv4Address(data[16:20])),
            data[9],
            int.from_bytes(data[6:8], "big"),
            data[:size],
            data[size : int.from_bytes(data[2:4], "big")],
            int.from_bytes(data[4:6], "big"),
        )
    if len(data) >= 40 and data[0] >> 4 == 6:
        protocol, place, fragment = data[6], 40, 0
        while protocol in (0, 43, 44, 60) and len(data) >= place + 8:
            fragment |= protocol == 44
            protocol, place = data[place], place + (8 if protocol == 44 else 8 + data[place + 1] * 8)
        return Packet(
            6,
            str(ipaddress.IPv6Address(data[8:24])),
            str(ipaddress.IPv6Address(data[24:40])),
            protocol,
            fragment,
            data[:place],
            data[place:],
        )
    return None
