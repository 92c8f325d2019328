"""A router that tracks connections, and fragments by the byte: written from the RFCs, without the compiled code."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

from dataplane import Host, HostConfig
from dataplane.host.config import Address, Link, Neighbour
from dataplane.host.iptables import Ruleset

SECOND = 1_000_000_000
ROUTER, CLIENT, SERVER = 0x020000000001, 0x020000000099, 0x0200000000AA
HEADER = {4: 20, 6: 40}
ENDS = {4: ("10.0.0.5", "10.0.1.2"), 6: ("fd00:0::5", "fd00:1::2")}
VIP = {4: "10.96.0.10", 6: "fd00:96::a"}
NAT = """*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d {vip} -p udp -m udp --dport 53 -j DNAT --to-destination {backend}
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD {policy} [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
"""


def router(mtu: int = 1500, far_mtu: int = 1500, policy: str = "ACCEPT", **sysctl: str) -> Host:
    """10.0.0.5 (client, eth0) -- router -- 10.0.1.2 (server, eth1); the same in fd00:0::/64 and fd00:1::/64. A virtual
    address leads to port 5353 of the server."""
    ends = (("eth0", CLIENT, 0), ("eth1", SERVER, 1))
    return Host(
        HostConfig(
            "router",
            links=(Link.lo(), Link("eth0", mac=ROUTER, mtu=mtu), Link("eth1", mac=ROUTER + 1, mtu=far_mtu)),
            addresses=(
                Address.of("lo", "127.0.0.1/8"),
                Address.of("eth0", "10.0.0.1/24"),
                Address.of("eth1", "10.0.1.1/24"),
                Address.of("eth0", "fd00:0::1/64"),
                Address.of("eth1", "fd00:1::1/64"),
            ),
            neighbours=tuple(
                Neighbour.of(name, address[end], there) for name, there, end in ends for address in ENDS.values()
            ),
            iptables=Ruleset.parse(NAT.format(vip="10.96.0.10/32", backend="10.0.1.2:5353", policy=policy), 4),
            ip6tables=Ruleset.parse(NAT.format(vip="fd00:96::a/128", backend="[fd00:1::2]:5353", policy=policy), 6),
            sysctl={"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1", **sysctl},
        )
    )


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(family: int, target: str, payload: bytes, dport: int = 53) -> bytes:
    """A UDP header and its payload, with a good checksum."""
    source = ip_address(ENDS[family][0]).packed
    udp = struct.pack("!HHHH", 4000, dport, 8 + len(payload), 0) + payload
    pseudo = source + ip_address(target).packed + struct.pack("!IxxxB", len(udp), 17)
    return udp[:6] + struct.pack("!H", checksum(pseudo + udp) or 0xFFFF) + payload


def frame(
    family: int,
    target: str,
    data: bytes,
    start: int = 0,
    more: bool = False,
    number: int = 7,
    tos: int = 0,
    proto: int = 17,
    always: bool = False,
    sender: str = "",
) -> bytes:
    """An Ethernet frame with one fragment of a datagram, or all of it; `start` is a multiple of eight. `always`: with a
    fragment header in IPv6, even around the whole."""
    source, destination = ip_address(sender or ENDS[family][0]).packed, ip_address(target).packed
    link = ROUTER.to_bytes(6) + CLIENT.to_bytes(6)
    if family == 4:
        head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(data), number, start >> 3 | more << 13, 64, proto, 0)
        head += source + destination
        return link + b"\x08\x00" + head[:10] + struct.pack("!H", checksum(head)) + head[12:] + data
    head = struct.pack("!IHBB", 0x60000000 | tos << 20, len(data), proto, 64) + source + destination
    if start or more or always:
        data = struct.pack("!BBHI", proto, 0, start | more, number) + data
        head = struct.pack("!IHBB", 0x60000000 | tos << 20, len(data), 44, 64) + head[8:]
    return link + b"\x86\xdd" + head + data


@dataclass(frozen=True, slots=True)
class Piece:
    """What a frame holds of a datagram."""

    start: int
    data: bytes
    more: bool
    length: int  # of the packet
    number: int
    header: bytes  # without what differs from fragment to fragment


def piece_of(frame: bytes) -> Piece:
    packet = frame[14:]
    if packet[0] >> 4 == 4:
        flags = int.from_bytes(packet[6:8])
        assert checksum(packet[:20]) == 0
        header = frame[:16] + packet[8:10] + packet[12:20]
        return Piece(
            (flags & 0x1FFF) << 3, packet[20:], bool(flags & 0x2000), len(packet), int.from_bytes(packet[4:6]), header
        )
    header = frame[:18] + packet[7:40]
    if packet[6] != 44:
        return Piece(0, packet[40:], False, len(packet), 0, header)
    flags, number = struct.unpack("!HI", packet[42:48])
    return Piece(flags & 0xFFF8, packet[48:], bool(flags & 1), len(packet), number, header)


def joined(frames: list[bytes]) -> tuple[bytes, bytes]:
    """Header and payload of the datagram that frames hold between them; they must be all of it, in order."""
    pieces = [piece_of(each) for each in frames]
    at = 0
    for each in pieces:
        assert each.start == at
        assert each.more == (each is not pieces[-1])
        at += len(each.data)
    assert len({each.header for each in pieces}) == 1
    assert len({each.number for each in pieces}) == 1
    return pieces[0].header, b"".join(each.data for each in pieces)
