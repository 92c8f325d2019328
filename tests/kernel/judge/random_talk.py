"""Random conversations: requests, answers to what came out, errors about it, and everything that can go wrong on a wire.

A sender builds its next frame from what the kernel has just sent, so that connections are opened, used and closed.
"""

from __future__ import annotations

import struct
from collections import deque
from random import Random

from judge.random_cut import cut
from judge.random_headers import extensions, options
from judge.random_hosts import PORTS, Drawn, Place
from judge.random_masks import TUNNELS
from judge.random_wire import (
    ACK,
    FIN,
    ICMP,
    ICMPV6,
    IDS,
    LABELS,
    PSH,
    RST,
    SCTP,
    SYN,
    TCP,
    UDP,
    Packet,
    ip4,
    ip6,
    mac,
    packed,
    read,
    sctp,
    seal,
    tcp,
    udp,
)
from judge.recording import Frame

Shot = tuple[str, bytes]  # a port of the node and a frame; "" and an IP packet of the node's own

TAGGED = 0.015  # of the frames have a VLAN tag, or an EtherType that nobody knows
CUT = 0.05  # of what is sent comes in fragments
MULTICAST, BROADCAST = "01:00:5e:00:00:05", "ff:ff:ff:ff:ff:ff"


class Talk:
    """Draws frames one by one; `saw` tells it what came out."""

    def __init__(self, random: Random, drawn: Drawn) -> None:
        self.random = random
        self.drawn = drawn
        self.by_port: dict[str, list[Place]] = {}
        for place in drawn.places:
            self.by_port.setdefault(place.port, []).append(place)
        self.came: deque[Frame] = deque(maxlen=24)  # what came out, to be answered
        self.sent: deque[Shot] = deque(maxlen=40)
        self.held: list[Shot] = []
        self.pieces: deque[Shot] = deque()  # of packets that are being sent in fragments
        self.flows: deque[tuple[Place, int, str, str, int, int, int]] = deque(maxlen=30)
        self.isn = 1000
        self.mtu = {words[1]: int(words[4]) for words in (line.split() for line in drawn.lines) if words[0] == "port"}

    def saw(self, frames: list[Frame]) -> None:
        self.came.extend(frames)

    def next(self) -> Shot:
        random = self.random
        if self.pieces and random.random() < 0.8:
            return self.pieces.popleft()
        if self.held and random.random() < 0.3:
            return self._went(self.held.pop(random.randrange(len(self.held))))
        if self.sent and random.random() < 0.05:
            return random.choice(self.sent)  # a duplicate
        shot = self._draw()
        if random.random() < 0.04:
            self.held.append(shot)  # overtaken by the next
            shot = self._draw()
        if random.random() < CUT and shot[0]:
            first, *pieces = ((shot[0], frame) for frame in cut(random, shot[1]))
            self.pieces.extend(pieces)
            return self._went(first)
        return self._went(shot)

    def _went(self, shot: Shot) -> Shot:
        self.sent.append(shot)
        return shot

    def _draw(self) -> Shot:
        random = self.random
        chance = random.random()
        if self.came and chance < 0.45:
            answer = self._answer(
                self.came[-1 - min(random.randrange(len(self.came)), random.randrange(len(self.came)))]
            )
            if answer is not None:
                return answer
        if self.came and chance < 0.53:
            error = self._error(random.choice(self.came))
            if error is not None:
                return error
        if self.flows and chance < 0.65:
            return self._fault(*self._packet(*random.choice(self.flows), first=False))
        if chance > 0.97:
            return self._neighbour()
        if chance > 0.94:
            return self._own()
        if self.drawn.tunnel and chance > 0.92:
            return self._tunnelled()
        place = random.choice(self.drawn.places)
        family = random.choice([4, 4, 6])
        protocol = random.choice([TCP, TCP, UDP, UDP, UDP, SCTP, ICMP if family == 4 else ICMPV6, 47, 253])
        source = random.choice(place.addresses[family])
        if random.random() < 0.02:
            source = random.choice(self.drawn.targets(family))  # of somebody else
        # Of one place alone, so that NAT seldom has to choose another.
        sport = random.choice([20000 + 100 * place.number + len(self.flows) + random.randrange(40), *PORTS[:2]]) if (
            random.random() < 0.2
        ) else 20000 + 1000 * place.number + random.randrange(1000)  # fmt: skip
        target = random.choice(self.drawn.targets(family))
        if random.random() < 0.02:
            target = random.choice(
                [
                    "255.255.255.255",
                    "224.0.0.5",
                    "127.0.0.1",
                    "0.0.0.0",
                    f"10.0.{random.randint(1, 3)}.255",
                    "240.0.0.1",
                ]
                if family == 4
                else ["ff02::1", "ff02::5", "::1", "::", "fe80::99", "ff05::2"]
            )
        flow = (place, family, source, target, protocol, sport, random.choice(PORTS))
        self.flows.append(flow)
        return self._fault(*self._packet(*flow, first=True))

    def _own(self) -> Shot:
        """The node itself sends, by a raw socket."""
        random = self.random
        family = random.choice([4, 4, 6])
        place = random.choice(self.drawn.places)
        source = random.choice(self.drawn.own[family])
        groups = (
            ["224.0.0.5", "224.0.0.1", f"10.0.{random.randint(1, 3)}.255"] if family == 4 else ["ff02::5", "ff02::1"]
        )
        target = random.choice(groups if random.random() < 0.15 else self.drawn.targets(family))
        protocol = random.choice([TCP, UDP, UDP, SCTP, ICMP if family == 4 else ICMPV6, 47])
        flow = (place, family, source, target, protocol, 40000 + random.randrange(1000), random.choice(PORTS))
        body = seal(packed(source), packed(target), protocol, self._packet(*flow, first=True)[-1])
        tos, ttl = random.choice([0, 0, 0x10, 0xB8]), random.choice([64, 64, 64, 1])
        # A raw socket lets the kernel draw an id where there is none.
        data = (
            ip4(source, target, protocol, body, ttl, tos, random.choice([1, 0x1234]), random.choice([0, 0x4000]), b"")
            if family == 4
            else self._six(source, target, protocol, body, ttl, tos)
        )
        return "", data

    # ---- packets ----------------------------------------------------------------------------------------------------

    def _data(self) -> bytes:
        size = self.random.choice([0, 1, 5, 8, 8, 17, 40, 100, 600])
        if self.random.random() < 0.03:
            size = self.random.choice([1200, 1272, 1300, 1352, 1372, 1400, 1440, 1452, 1460, 1472])
        return (b"abcdefghijklmnopqrstuvwxyz" * 60)[:size]

    def _packet(
        self, place: Place, family: int, source: str, target: str, protocol: int, sport: int, dport: int, first: bool
    ) -> tuple[Place, int, str, str, int, bytes]:
        random = self.random
        data = self._data()
        if protocol == UDP:
            body = udp(sport, dport, data)
        elif protocol == TCP:
            self.isn += 1000
            options = random.choice(
                [b"", b"\x02\x04\x05\xb4", b"\x02\x04\x05\xb4\x01\x03\x03\x07", b"\x02\x04\x05\xb4\x04\x02\x01\x01"]
            )
            if first or random.random() < 0.3:
                body = tcp(sport, dport, self.isn, 0, SYN, 8192, options, b"")
            else:
                flags = random.choice([ACK, ACK | PSH, ACK | FIN, RST, RST | ACK, SYN | ACK, 0, FIN, 63, SYN | FIN])
                body = tcp(sport, dport, self.isn, 500, flags, random.choice([0, 100, 8192]), b"", data)
        elif protocol == SCTP:
            chunk = random.choice([b"\x01\0\0\x14" + bytes([0, 0, 0, 9, 0, 0, 16, 0, 0, 1, 0, 1, 0, 0, 0, 1]), b"\0\x03\0\x14" + bytes(16),
                                   b"\x07\0\0\x08" + bytes(4), b"\x06\0\0\x04", b"\x04\0\0\x04", b"\x0a\0\0\x04"])  # fmt: skip
            if first and random.random() < 0.8:
                chunk = b"\x01\0\0\x14" + bytes([0, 0, 0, 9, 0, 0, 16, 0, 0, 1, 0, 1, 0, 0, 0, 1])
            body = sctp(sport, dport, 0 if chunk[0] == 1 else 9, chunk)
        elif protocol in (ICMP, ICMPV6):
            kinds = [8, 8, 8, 0, 13, 17] if protocol == ICMP else [128, 128, 128, 129]
            kind = random.choice(kinds)
            body = struct.pack("!BBHHH", kind, 0, 0, sport, random.randrange(4)) + data
        elif protocol == 47:
            body = b"\0\0\x08\0" + data
        else:
            body = data
        return place, family, source, target, protocol, body

    def _answer(self, frame: Frame) -> Shot | None:
        """What the receiver of a frame sends back."""
        here = self._reader(frame)
        packet = read(frame.data[14:])
        if here is None or packet is None or packet.offset & 0x3FFF:
            return None
        tunnel = self.drawn.tunnel
        if (
            tunnel
            and packet.protocol == UDP
            and packet.body[2:4] == tunnel.port.to_bytes(2, "big")
            and len(packet.body) > 30
        ):
            inner = read(packet.body[30:])
            back = self._reply(inner) if inner and not inner.offset & 0x3FFF else None
            if inner is None or back is None:
                return None
            return self._outer(self._network(inner.family, inner.destination, inner.source, inner.protocol, back))
        body = self._reply(packet)
        if body is None:
            return None
        return self._fault(here, packet.family, packet.destination, packet.source, packet.protocol, body)

    def _reply(self, packet: Packet) -> bytes | None:
        random, body = self.random, packet.body
        data = self._data()
        if packet.protocol == UDP and len(body) >= 8:
            sport, dport = struct.unpack("!HH", body[:4])
            return udp(dport, sport, data)
        if packet.protocol == TCP and len(body) >= 20:
            sport, dport, seq, ack, size, flags = struct.unpack("!HHIIBB", body[:14])
            length = max(0, len(body) - (size >> 4) * 4) + bool(flags & SYN) + bool(flags & FIN)
            if random.random() < 0.06:
                return tcp(dport, sport, ack, seq + length, RST | random.choice([0, ACK]), 0, b"", b"")
            if flags & SYN and not flags & ACK:
                self.isn += 1000
                return tcp(
                    dport, sport, self.isn, seq + 1, SYN | ACK, 8192, random.choice([b"", b"\x02\x04\x05\xb4"]), b""
                )
            if flags & SYN:
                return tcp(dport, sport, ack, seq + 1, ACK, 8192, b"", b"")
            more = random.choice([ACK, ACK, ACK | PSH, ACK | PSH, ACK | FIN])
            wrong = random.choice([0] * 12 + [1, -1, 100_000, -100_000])
            return tcp(dport, sport, ack + wrong, seq + length, more, random.choice([0, 8192, 8192, 65535]), b"",
                       data if more & PSH else b"")  # fmt: skip
        if packet.protocol == SCTP and len(body) >= 16:
            sport, dport, _, _, kind = struct.unpack("!HHIIB", body[:13])
            chunks = {
                1: b"\x02\0\0\x14" + bytes([0, 0, 0, 9, 0, 0, 16, 0, 0, 1, 0, 1, 0, 0, 0, 1]),
                2: b"\x0a\0\0\x04",
                10: b"\x0b\0\0\x04",
                11: b"\0\x03\0\x14" + bytes(16),
                0: random.choice([b"\x03\0\0\x10" + bytes(12), b"\x07\0\0\x08" + bytes(4), b"\x04\0\0\x08" + bytes(4)]),
                3: b"\x07\0\0\x08" + bytes(4),
                7: b"\x08\0\0\x04",
                8: b"\x0e\0\0\x04",
                4: b"\x05\0\0\x08" + bytes(4),
            }
            return sctp(dport, sport, 9, chunks.get(kind, b"\x06\0\0\x04"))
        if packet.protocol == ICMP and len(body) >= 8 and body[0] == 8:
            return b"\0\0\0\0" + body[4:]
        if packet.protocol == ICMPV6 and len(body) >= 8 and body[0] == 128:
            return b"\x81\0\0\0" + body[4:]
        if packet.protocol in (47, 253):
            return body
        return None

    def _error(self, frame: Frame) -> Shot | None:
        """An ICMP error about a frame that came out: from its receiver, or from a router on the way."""
        random = self.random
        here = self._reader(frame)
        packet = read(frame.data[14:])
        if here is None or packet is None:
            return None
        if packet.protocol == UDP and int.from_bytes(packet.body[2:4], "big") in TUNNELS:
            # It would name a port that the kernel drew by a hash with a secret, and that the emulator cannot be told.
            return None
        whole = packet.header + packet.body
        source = packet.destination if random.random() < 0.6 else random.choice(here.addresses[packet.family])
        if packet.family == 4:
            kind, code = random.choice([(3, 0), (3, 1), (3, 3), (3, 3), (3, 4), (11, 0), (12, 0), (4, 0), (3, 13)])
            word = random.choice([576, 1200, 1400]) if (kind, code) == (3, 4) else 0
            quoted = whole[: random.choice([len(packet.header) + 8] * 4 + [548, 24, len(packet.header) + 4])]
            body = struct.pack("!BBHI", kind, code, 0, word) + quoted
            return self._fault(here, 4, source, packet.source, ICMP, body)
        kind, code = random.choice([(1, 0), (1, 3), (1, 4), (1, 4), (2, 0), (3, 0), (4, 1)])
        word = random.choice([1280, 1400]) if kind == 2 else 0
        body = struct.pack("!BBHI", kind, code, 0, word) + whole[: random.choice([1232, 1232, 48, 44, 60])]
        return self._fault(here, 6, source, packet.source, ICMPV6, body)

    def _reader(self, frame: Frame) -> Place | None:
        """Who gets a frame."""
        for place in self.by_port.get(frame.interface, ()):
            if mac(place.mac) == frame.data[:6]:
                return place
        return None

    # ---- what wraps and what goes wrong -----------------------------------------------------------------------------

    def _network(self, family: int, source: str, target: str, protocol: int, body: bytes) -> bytes:
        body = seal(packed(source), packed(target), protocol, body)
        if family == 4:
            return ip4(source, target, protocol, body)
        return ip6(source, target, protocol, body)

    def _fault(self, place: Place, family: int, source: str, target: str, protocol: int, body: bytes) -> Shot:
        """The packet in a frame, mostly as it should be."""
        random = self.random
        body = seal(packed(source), packed(target), protocol, body)
        ttl = random.choice([64] * 30 + [0, 1, 1, 2, 255])
        tos = random.choice([0] * 8 + [0x10, 0xB8, 3, 1])
        if random.random() < 0.03 and body:  # a bit that fell over on the way
            place_, bit = random.randrange(min(len(body), 24)), 1 << random.randrange(8)
            body = body[:place_] + bytes([body[place_] ^ bit]) + body[place_ + 1 :]
        if random.random() < 0.02:
            body = body[: random.randrange(len(body) + 1)]
        data = (
            self._four(source, target, protocol, body, ttl, tos)
            if family == 4
            else self._six(source, target, protocol, body, ttl, tos)
        )
        if random.random() < 0.02:  # and one in the header
            index, bit = random.randrange(20 if family == 4 else 8), 1 << random.randrange(8)
            data = data[:index] + bytes([data[index] ^ bit]) + data[index + 1 :]
        gateway = place.gateway
        if random.random() < 0.02:
            gateway = random.choice([BROADCAST, MULTICAST if family == 4 else "33:33:00:00:00:01", "02:00:00:00:00:99"])
        frame = mac(gateway) + mac(place.mac) + (b"\x08\0" if family == 4 else b"\x86\xdd") + data
        if random.random() < TAGGED:
            tag = random.choice(
                [b"\x81\0\0\0", b"\x81\0\xe0\0", b"\x81\0\0\x05", b"\x88\xa8\0\x05", b"\x88\xa8\0\0", b"\x12\x34"]
            )
            frame = frame[:12] + tag + frame[12:]
        if random.random() < 0.02:
            frame = frame[: random.randrange(14, len(frame) + 1)]
        elif random.random() < 0.05:
            frame += bytes(random.choice([2, 6, 18]))  # padding
        return place.port, frame[: 14 + self.mtu.get(place.port, 1500)]

    def _four(self, source: str, target: str, protocol: int, body: bytes, ttl: int, tos: int) -> bytes:
        random = self.random
        between = b""
        if random.random() < 0.12:
            named = [*self.drawn.own[4], *self.drawn.targets(4), "10.0.1.255", "127.0.0.1"]
            between = options(random, named, self.drawn.source_routes)
        offset = random.choice([0, 0, 0, 0x4000])
        if random.random() < 0.02:
            offset = random.choice([0x2000, 0x2001, 1, 64, 0x1FFF, 0x8000])
        data = ip4(source, target, protocol, body, ttl, tos, random.choice(IDS), offset, between)
        if random.random() < 0.01:
            data = data[:10] + b"\xde\xad" + data[12:]
        return data

    def _six(self, source: str, target: str, protocol: int, body: bytes, ttl: int, tos: int) -> bytes:
        random = self.random
        extra, first = b"", 0
        if random.random() < 0.12:
            first, extra = extensions(random, protocol)
            if random.random() < 0.08:  # all that is left ends in a header
                extra, body = extra[: random.randrange(1, len(extra) + 1)], b""
        return ip6(source, target, protocol, body, ttl, tos, random.choice(LABELS), extra, first)

    def _neighbour(self) -> Shot:
        """An ARP request or a neighbour solicitation for an address of the node or of nobody."""
        random = self.random
        place = random.choice(self.drawn.places)
        if random.random() < 0.5:
            target = random.choice([*self.drawn.own[4], *self.drawn.targets(4)])
            kind = random.choice([1, 1, 1, 2])
            body = struct.pack("!HHBBH", 1, 0x800, 6, 4, kind) + mac(place.mac) + packed(place.addresses[4][0])
            body += bytes(6) + packed(target)
            return place.port, mac(BROADCAST) + mac(place.mac) + b"\x08\x06" + body + bytes(18)
        target = packed(random.choice(self.drawn.own[6]))
        group = b"\xff\x02" + bytes(9) + b"\x01\xff" + target[13:]
        source = packed(place.addresses[6][0])
        body = b"\x87\0\0\0" + bytes(4) + target + b"\x01\x01" + mac(place.mac)
        body = seal(source, group, ICMPV6, body)
        header = struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, 255) + source + group
        return place.port, b"\x33\x33" + group[12:] + mac(place.mac) + b"\x86\xdd" + header + body

    def _tunnelled(self) -> Shot:
        """A packet of the other node's pod through the tunnel."""
        tunnel, random = self.drawn.tunnel, self.random
        assert tunnel is not None
        family = random.choice([4, 6])
        protocol = random.choice([TCP, UDP, ICMP if family == 4 else ICMPV6])
        target = random.choice(self.drawn.targets(family))
        flow = (
            tunnel.place,
            family,
            tunnel.far[family],
            target,
            protocol,
            29000 + random.randrange(500),
            random.choice(PORTS),
        )
        _, _, source, target, protocol, body = self._packet(*flow, first=random.random() < 0.6)
        return self._outer(self._network(family, source, target, protocol, body))

    def _outer(self, inner: bytes) -> Shot:
        tunnel = self.drawn.tunnel
        assert tunnel is not None
        random = self.random
        vni = random.choice([1] * 20 + [2])
        flags = random.choice([b"\x08\0\0\0"] * 20 + [b"\0\0\0\0", b"\x08\0\0\x01"])
        kind = b"\x08\0" if inner[0] >> 4 == 4 else b"\x86\xdd"
        frame = mac(tunnel.inner_mac) + mac(tunnel.far_mac) + kind + inner
        body = udp(50000 + random.randrange(8), tunnel.port, flags + (vni << 8).to_bytes(4, "big") + frame)
        return self._fault(tunnel.place, 4, tunnel.place.addresses[4][0], tunnel.outer, UDP, body)
