"""IP packets as tests make and read them: built from a few words, taken apart into what an invariant compares."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address
TCP, UDP, ICMP, ICMPV6, SCTP = 6, 17, 1, 58, 132
TUNNEL_PORTS = (4789, 8472)  # VXLAN, as registered and as Linux had it first
ETHERNET, VXLAN = 14, 8
VXLAN_FLAGS = b"\x08\0\0\0"
ARP = b"\x08\x06"
IP_TYPES = (b"\x08\x00", b"\x86\xdd")


INIT, INIT_ACK, COOKIE_ECHO, COOKIE_ACK, CHUNK_DATA, SHUTDOWN = 1, 2, 10, 11, 0, 7  # chunks of SCTP (RFC 9260)
_HEADERS = {TCP: 20, UDP: 8, SCTP: 12}


def internet_sum(data: bytes) -> int:
    """The ones' complement sum of RFC 1071, folded to 16 bits; 0xFFFF over data that holds its right checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _shifted(register: int) -> int:
    for _ in range(8):
        register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register


_CRC = tuple(map(_shifted, range(256)))


def crc32c(data: bytes) -> int:
    """The checksum of SCTP over a packet whose own field is zero, as the field's four bytes are read."""
    register = 0xFFFFFFFF
    for byte in data:
        register = register >> 8 ^ _CRC[(register ^ byte) & 0xFF]
    return int.from_bytes((register ^ 0xFFFFFFFF).to_bytes(4, "little"), "big")


@dataclass(frozen=True, slots=True)
class Parsed:
    """One IP packet. ports: of TCP, UDP and SCTP, for echo messages the identifier twice, else zeros. options: of the
    IPv4 header and of TCP. payload: behind the transport header (of SCTP: all chunks). checksums: (IPv4 header,
    transport) is right; None: there is none."""

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


@lru_cache(4096)  # the same packet is looked at in many places
def parse(packet: bytes) -> Parsed:
    """Take a packet apart; of a fragment everything behind the IP header is payload (see dataplane.testing.pieces).
    ValueError for what is no IP packet."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        total, ident = struct.unpack_from("!HH", packet, 2)
        source, destination, protocol, ttl, tos = packet[12:16], packet[16:20], packet[9], packet[8], packet[1]
        options, right = packet[20:header], internet_sum(packet[:header]) == 0xFFFF
        pseudo, piece = source + destination, bool(int(struct.unpack_from("!H", packet, 6)[0]) & 0x3FFF)
    elif len(packet) >= 40 and packet[0] >> 4 == 6:
        header, ident, options = 40, 0, b""
        total = 40 + int(struct.unpack_from("!H", packet, 4)[0])
        source, destination, protocol, ttl = packet[8:24], packet[24:40], packet[6], packet[7]
        tos = (packet[0] & 15) << 4 | packet[1] >> 4
        right, pseudo, piece = None, source + destination, packet[6] == 44
    else:
        raise ValueError("not an IP packet")
    body = packet[header:total]
    ports, size, transport = (0, 0), 0, None
    if piece:
        pass
    elif protocol in _HEADERS and len(body) >= _HEADERS[protocol]:
        ports = struct.unpack_from("!HH", body)
        size = (body[12] >> 4) * 4 if protocol == TCP else _HEADERS[protocol]
        options += body[20:size] if protocol == TCP else b""
        if protocol == SCTP:
            transport = crc32c(body[:8] + bytes(4) + body[12:]) == int.from_bytes(body[8:12], "big")
        elif protocol == TCP or body[6:8] != b"\0\0":
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


def checked(body: bytes, at: int, pseudo: bytes) -> bytes:
    """`body` with the checksum at `at` that it and its pseudo-header should have."""
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
    tcp_options: bytes = b"",
    dont_fragment: bool = False,
    chunk: int = CHUNK_DATA,
    tag: int = 1,
) -> bytes:
    """An IP packet with right lengths and checksums.

    protocol: TCP, UDP, SCTP or ICMP, which in IPv6 becomes ICMPv6: an echo message with ports[0] as its identifier.
    icmp_type: 8 or 128 for a request, 0 or 129 for a reply. tcp_options: a multiple of four bytes, at most 40. chunk and
    tag: the type of the one chunk of an SCTP packet and its verification tag; seq is the chunk's TSN or initial tag.
    """
    six = source.version == 6
    if protocol == TCP:
        offset = (20 + len(tcp_options)) // 4 << 4
        body = struct.pack("!HHIIBBHHH", *ports, seq, ack, offset, flags, 65535, 0, 0) + tcp_options + payload
        at = 16
    elif protocol == SCTP:
        body = struct.pack("!HHII", *ports, tag, 0) + sctp_chunk(chunk, seq, payload)
        body, at = body[:8] + struct.pack("!I", crc32c(body)) + body[12:], -1
    elif protocol == UDP:
        body = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
        at = 6
    else:
        protocol = ICMPV6 if six else ICMP
        body = struct.pack("!BBHHH", icmp_type, 0, 0, ports[0], seq & 0xFFFF) + payload
        at = 2
    pseudo = source.packed + destination.packed + struct.pack("!II", len(body), protocol)
    if at >= 0:
        body = checked(body, at, b"" if protocol == ICMP else pseudo)
    if six:
        first = 6 << 28 | tos << 20
        return struct.pack("!IHBB", first, len(body), protocol, ttl) + source.packed + destination.packed + body
    head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(body), id, 0x4000 if dont_fragment else 0, ttl, protocol, 0)
    return checked(head + source.packed + destination.packed, 10, b"") + body


def sctp_chunk(kind: int, number: int, payload: bytes) -> bytes:
    """One chunk of SCTP (RFC 9260, 3.3). number: the initial tag of INIT and INIT_ACK, the TSN of data."""
    if kind in (INIT, INIT_ACK):
        value = struct.pack("!IIHHI", number, 65535, 1, 1, 1) + payload
    elif kind == CHUNK_DATA:
        value = struct.pack("!IHHI", number, 0, 0, 0) + payload
    elif kind == SHUTDOWN:
        value = struct.pack("!I", number)
    else:
        value = payload
    flags = 3 if kind == CHUNK_DATA else 0  # first and last of its message
    return struct.pack("!BBH", kind, flags, 4 + len(value)) + value + bytes(-len(value) % 4)


def vxlan(
    frame: bytes, source: Address, destination: Address, *, vni: int = 1, port: int = 8472, sport: int = 49152
) -> bytes:
    """The packet that carries an Ethernet frame between two ends of a tunnel (RFC 7348)."""
    return packet(source, destination, UDP, (sport, port), struct.pack("!II", 0x08000000, vni << 8) + frame)


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
    # Other traffic may use these ports as its own.
    known = outer.payload[:4] == VXLAN_FLAGS and outer.payload[VXLAN + 12 : VXLAN + ETHERNET] in (*IP_TYPES, ARP)
    return outer.payload[VXLAN:] if known else None
