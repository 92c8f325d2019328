"""IP packets as tests make and read them: built from a few words, taken apart into what an invariant compares."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
TUNNEL_PORTS = (4789, 8472)  # VXLAN, as registered and as Linux had it first
ETHERNET, VXLAN = 14, 8
IP_TYPES = (b"\x08\x00", b"\x86\xdd")


def internet_sum(data: bytes) -> int:
    """The ones' complement sum of RFC 1071, folded to 16 bits; 0xFFFF over data that holds its right checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclass(frozen=True, slots=True)
class Parsed:
    """One IP packet. ports: of TCP and UDP, for echo messages the identifier twice, else zeros. options: of the IPv4
    header and of TCP. payload: behind the transport header. checksums: (IPv4 header, transport) is right; None: there
    is none."""

    source: Address
    destination: Address
    protocol: int
    ports: tuple[int, int]
    ttl: int
    id: int
    tos: int
    options: bytes
    payload: bytes
    checksums: tuple[bool | None, bool | None]

    @property
    def family(self) -> int:
        return self.source.version

    @property
    def tuple(self) -> tuple[Address, int, Address, int, int]:
        """Source, its port, destination, its port, protocol."""
        return self.source, self.ports[0], self.destination, self.ports[1], self.protocol


def parse(packet: bytes) -> Parsed:
    """Take a whole, unfragmented packet apart. ValueError for anything that is not one."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        total, ident = struct.unpack_from("!HH", packet, 2)
        source, destination, protocol, ttl, tos = packet[12:16], packet[16:20], packet[9], packet[8], packet[1]
        options, right = packet[20:header], internet_sum(packet[:header]) == 0xFFFF
        pseudo = source + destination
    elif len(packet) >= 40 and packet[0] >> 4 == 6:
        header, ident, options = 40, 0, b""
        total = 40 + int(struct.unpack_from("!H", packet, 4)[0])
        source, destination, protocol, ttl = packet[8:24], packet[24:40], packet[6], packet[7]
        tos = (packet[0] & 15) << 4 | packet[1] >> 4
        right, pseudo = None, source + destination
    else:
        raise ValueError("not an IP packet")
    body = packet[header:total]
    ports, size, transport = (0, 0), 0, None
    if protocol in (TCP, UDP) and len(body) >= (20 if protocol == TCP else 8):
        ports = struct.unpack_from("!HH", body)
        size = (body[12] >> 4) * 4 if protocol == TCP else 8
        options += body[20:size] if protocol == TCP else b""
        if protocol == TCP or body[6:8] != b"\0\0":
            transport = internet_sum(pseudo + struct.pack("!II", len(body), protocol) + body) == 0xFFFF
    elif protocol in (ICMP, ICMPV6) and len(body) >= 8:
        size = 8
        if body[0] in (0, 8, 128, 129):
            ports = struct.unpack_from("!H", body, 4) * 2
        start = pseudo + struct.pack("!II", len(body), protocol) if protocol == ICMPV6 else b""
        transport = internet_sum(start + body) == 0xFFFF
    return Parsed(
        ip_address(source),
        ip_address(destination),
        protocol,
        (ports[0], ports[1]),
        ttl,
        ident,
        tos,
        bytes(options),
        bytes(body[size:]),
        (right, transport),
    )


def _checked(body: bytes, at: int, pseudo: bytes) -> bytes:
    value = ~internet_sum(pseudo + body[:at] + b"\0\0" + body[at + 2 :]) & 0xFFFF
    return body[:at] + struct.pack("!H", value or 0xFFFF) + body[at + 2 :]


def packet(
    source: Address,
    destination: Address,
    protocol: int,
    ports: tuple[int, int] = (0, 0),
    payload: bytes = b"",
    *,
    ttl: int = 64,
    id: int = 1,
    tos: int = 0,
    flags: int = 0x18,
    seq: int = 0,
    ack: int = 0,
    icmp_type: int = 0,
) -> bytes:
    """An IP packet with right lengths and checksums. protocol: TCP, UDP, or ICMP (in IPv6 it becomes ICMPv6: an echo
    request with ports[0] as its identifier, or a reply with icmp_type 0 as in `reply=True` of a conversation)."""
    six = source.version == 6
    if protocol == TCP:
        body = struct.pack("!HHIIBBHHH", *ports, seq, ack, 5 << 4, flags, 65535, 0, 0) + payload
        at = 16
    elif protocol == UDP:
        body = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
        at = 6
    else:
        protocol = ICMPV6 if six else ICMP
        body = struct.pack("!BBHHH", icmp_type, 0, 0, ports[0], seq & 0xFFFF) + payload
        at = 2
    pseudo = source.packed + destination.packed + struct.pack("!II", len(body), protocol)
    body = _checked(body, at, b"" if protocol == ICMP else pseudo)
    if six:
        first = 6 << 28 | tos << 20
        return struct.pack("!IHBB", first, len(body), protocol, ttl) + source.packed + destination.packed + body
    head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(body), id, 0, ttl, protocol, 0)
    return _checked(head + source.packed + destination.packed, 10, b"") + body


def in_frame(frame: bytes) -> bytes | None:
    """The IP packet of an Ethernet frame, or of one on a link without a header; None for anything else."""
    if frame[12:14] in IP_TYPES:
        return frame[ETHERNET:]
    if frame and frame[0] >> 4 in (4, 6):
        return frame
    return None


def tunnelled(packet: bytes) -> bytes | None:
    """The Ethernet frame inside a VXLAN packet; None for any other packet."""
    try:
        outer = parse(packet)
    except ValueError:
        return None
    if outer.protocol != UDP or outer.ports[1] not in TUNNEL_PORTS or len(outer.payload) < VXLAN + ETHERNET:
        return None
    return outer.payload[VXLAN:]
