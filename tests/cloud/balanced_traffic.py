"""Conversations with a balancer, as captures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import wrpcap

START = 1_000_000
Timed = tuple[float, Packet]


def _ip(source: str, destination: str) -> Packet:
    return IPv6(src=source, dst=destination) if ":" in source else IP(src=source, dst=destination)


def connection(
    client: str, server: str, sport: int, dport: int = 80, *, at: float = 0, rounds: int = 2, every: float = 0.01
) -> list[Timed]:
    """A TCP handshake, then `rounds` questions with their answers; 3 + 2 * rounds packets."""

    def sent(flags: str, seq: int, ack: int, payload: bytes = b"") -> Packet:
        return _ip(client, server) / TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack) / payload

    def answered(flags: str, seq: int, ack: int, payload: bytes = b"") -> Packet:
        return _ip(server, client) / TCP(sport=dport, dport=sport, flags=flags, seq=seq, ack=ack) / payload

    found = [(at, sent("S", 100, 0)), (at + 0.001, answered("SA", 500, 101)), (at + 0.002, sent("A", 101, 501))]
    for number in range(rounds):
        time = at + 0.003 + number * every
        found.append((time, sent("PA", 101 + number, 501 + number, b"q")))
        found.append((time + 0.001, answered("PA", 501 + number, 102 + number, b"a")))
    return found


def datagrams(client: str, server: str, sport: int, *, at: float = 0, count: int = 1, every: float = 1) -> list[Timed]:
    """Datagrams to port 514, with an answer each."""
    found = []
    for number in range(count):
        time = at + number * every
        found.append((time, _ip(client, server) / UDP(sport=sport, dport=514) / b"line"))
        found.append((time + 0.001, _ip(server, client) / UDP(sport=514, dport=sport) / b"ok"))
    return found


def write(path: Path, packets: Iterable[Timed]) -> Path:
    frames = []
    for time, packet in sorted(packets, key=lambda entry: entry[0]):
        frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet
        frame.time = START + time
        frames.append(frame)
    wrpcap(str(path), frames)
    return path
