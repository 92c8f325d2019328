"""The far ends: peers that send to the node, replies to what it sent, TCP conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from judge.recording import Frame

if TYPE_CHECKING:
    from judge.node import Node


class Frames(list[Frame]):
    """What came out of the node in one step."""

    def at(self, place: Peer | str) -> list[Packet]:
        """The packets that came out of one interface, decoded."""
        interface = place if isinstance(place, str) else place.interface
        return [frame.packet for frame in self if frame.interface == interface]

    def only(self, place: Peer | str) -> Packet:
        """The one packet that came out, and it came out here."""
        packets = self.at(place)
        assert len(self) == len(packets) == 1, f"expected one frame at {place}: {[f.packet.summary() for f in self]}"
        return packets[0]


class Peer:
    """A far end behind a port of the node. It sends; it never answers by itself."""

    def __init__(self, node: Node, interface: str, mac: str, ip: str, gateway: str) -> None:
        self.node = node
        self.interface = interface
        self.mac = mac
        self.ip = ip
        self.gateway = gateway  # MAC address that it sends routed packets to

    def __repr__(self) -> str:
        return f"{self.ip} at {self.interface}"

    def complain(self, what: str, about: Packet, mtu: int = 0, quoted: int = 0, **header: Any) -> Frames:
        """Answer a packet that has come here with an ICMP error (see `icmp_error`)."""
        return self.send(icmp_error(what, about, mtu, quoted), to=network(about).src, **header)

    def send(self, packet: Packet | bytes, to: Peer | str | None = None, mac: str = "", **header: Any) -> Frames:
        """Send a packet; what comes out of the node.

        Layers below the given one are added: an IP header from this peer to `to` with the fields in `header` (ttl, tos,
        flags, id, ... in IPv4's words for both families), a MAC header to the gateway or to `mac`.
        """
        if isinstance(packet, (bytes, Ether)):
            return self.node.receive(self.interface, packet)
        if not isinstance(packet, (IP, IPv6, ARP)):
            assert to is not None, "to whom?"
            packet = self.packet(packet, to, **header)
        return self.node.receive(self.interface, Ether(src=self.mac, dst=mac or self.gateway) / packet)

    def packet(self, payload: Packet | bytes, to: Peer | str, **header: Any) -> Packet:
        """An IP packet from here to there."""
        target = to.ip if isinstance(to, Peer) else to
        if ":" in target:
            names = {"ttl": "hlim", "tos": "tc", "proto": "nh"}
            header = {names.get(name, name): value for name, value in header.items()}
            return IPv6(**{"src": self.ip, **header}, dst=target) / payload
        return IP(**{"src": self.ip, "id": 0x1234, **header}, dst=target) / payload


def reply(request: Packet, payload: Packet | bytes = b"", **header: Any) -> Packet:
    """The answer to a packet as it was received: addresses and ports swapped, with a payload of its own.

    `header` holds fields of the transport header (flags, seq, ...).
    """
    ip = request[IPv6] if IPv6 in request else request[IP]
    back = type(ip)(src=ip.dst, dst=ip.src)
    if isinstance(back, IP):
        back.id = 0x4321
    for transport in (UDP, TCP, SCTP):
        if isinstance(ip.payload, transport):
            answer = back / transport(sport=ip.payload.dport, dport=ip.payload.sport, **header) / payload
            break
    else:
        if isinstance(ip.payload, ICMPv6EchoRequest):
            answer = back / ICMPv6EchoReply(id=ip.payload.id, seq=ip.payload.seq, data=ip.payload.data)
        elif isinstance(ip.payload, ICMP) and ip.payload.type == 8:
            answer = back / ICMP(type=0, id=ip.payload.id, seq=ip.payload.seq) / ip.payload.payload
        elif not isinstance(payload, bytes):
            answer = back / payload
        else:
            raise ValueError(f"no answer to {request.summary()}")
    if Ether in request:
        return Ether(src=request[Ether].dst, dst=request[Ether].src) / answer
    return answer


def transport(packet: Packet) -> Packet:
    """The header above IP."""
    return network(packet).payload


def network(packet: Packet) -> Packet:
    """The outermost IP header."""
    return packet[IPv6] if IPv6 in packet else packet[IP]


# What a router or a far end complains of: (type, code) in ICMP and in ICMPv6.
_ERRORS = {
    "net unreachable": ((3, 0), (1, 0)),
    "host unreachable": ((3, 1), (1, 3)),
    "port unreachable": ((3, 3), (1, 4)),
    "too big": ((3, 4), (2, 0)),
    "time exceeded": ((11, 0), (3, 0)),
    "parameter problem": ((12, 0), (4, 0)),
    "source quench": ((4, 0), None),
}


def icmp_error(what: str, about: Packet, mtu: int = 0, quoted: int = 0) -> Packet:
    """The ICMP part of an error about a packet as it was received: header and quotation.

    `quoted` bytes of the packet are quoted: by default the IP header and 8 bytes in IPv4, all of it in IPv6.
    """
    ip = network(about)
    ip = type(ip)(bytes(ip))  # lengths and checksums filled in
    four, six = _ERRORS[what]
    if isinstance(ip, IPv6):
        assert six is not None
        kind = {1: ICMPv6DestUnreach, 2: ICMPv6PacketTooBig, 3: ICMPv6TimeExceeded, 4: ICMPv6ParamProblem}[six[0]]
        error = kind(code=six[1], mtu=mtu) if kind is ICMPv6PacketTooBig else kind(code=six[1])
        return error / Raw(bytes(ip)[: quoted or 1232])
    return ICMP(type=four[0], code=four[1], nexthopmtu=mtu) / Raw(bytes(ip)[: quoted or ip.ihl * 4 + 8])


def echo(family: int, ident: int = 7, seq: int = 1, data: bytes = b"abcdefgh") -> Packet:
    """An echo request."""
    if family == 6:
        return ICMPv6EchoRequest(id=ident, seq=seq, data=data)
    return ICMP(type=8, id=ident, seq=seq) / Raw(data)


class Talk:
    """A TCP conversation. Each side keeps its own sequence numbers; the server answers what has really reached it."""

    def __init__(
        self,
        client: Peer,
        server: Peer,
        to: Peer | str | None = None,
        sport: int = 40000,
        dport: int = 80,
        client_isn: int = 1000,
        server_isn: int = 500_000,
        window: int = 8192,
    ) -> None:
        self.near, self.far = client, server
        self._to = to or server
        self._ports = {"sport": sport, "dport": dport}
        self._window = window
        self.client_seq, self.server_seq = client_isn, server_isn  # next byte of each side
        self._seen: Packet | None = None  # what reached the server last

    def client(self, flags: str, data: bytes = b"", **fields: Any) -> Frames:
        """A segment from the client; what came out of the node."""
        header = {"seq": self.client_seq, "ack": self.server_seq if "A" in flags else 0, "window": self._window}
        segment = TCP(**self._ports, flags=flags, **{**header, **fields}) / data
        self.client_seq += self._length(flags, data, fields)
        frames = self.near.send(segment, to=self._to)
        reached = [packet for packet in frames.at(self.far) if TCP in packet]
        if reached:
            self._seen = reached[-1]
        return frames

    def server(self, flags: str, data: bytes = b"", **fields: Any) -> Frames:
        """A segment from the server to wherever the client's last one came from."""
        assert self._seen is not None, "nothing has reached the server yet"
        header = {"seq": self.server_seq, "ack": self.client_seq if "A" in flags else 0, "window": self._window}
        segment = reply(self._seen, data, flags=flags, **{**header, **fields})
        self.server_seq += self._length(flags, data, fields)
        return self.far.send(segment)

    @staticmethod
    def _length(flags: str, data: bytes, fields: dict[str, Any]) -> int:
        """What a segment adds to the sequence; one with a sequence number of its own adds nothing."""
        return 0 if "seq" in fields or "R" in flags else len(data) + ("S" in flags) + ("F" in flags)

    def open(self) -> None:
        self.client("S")
        self.server("SA")
        self.client("A")

    def again(self, sport: int | None = None) -> None:
        """Forget what reached the server, to start over (with another port)."""
        self._seen = None
        if sport is not None:
            self._ports["sport"] = sport
