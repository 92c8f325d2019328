"""Random conversations, the same in every run: segments and chunks that no well-behaved end would send in this order."""

import random
from typing import Any

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer
from scapy.layers.inet import TCP
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from scenarios.conntrack_sctp import CHUNKS, CLIENT_TAG, SERVER_TAG
from scenarios.conntrack_tcp import COUNT_STATES

WRAP = 1 << 32
FLAGS = ("S", "SA", "A", "PA", "FA", "R", "RA", "A", "PA", "A", "F", "SF", "", "SU", "FAU")
SEQUENCE = (-1, 1, -10, 10, 100, -100, 5000, 8191, 8192, -8192, 65535, -66000, 100_000, -100_000, 1 << 31)
ACKNOWLEDGED = (-1, 1, -10, 10, 100, 5000, -66_000, -70_000, 100_000, 1 << 31)
HANDSHAKE = (("INIT", 0), ("INIT_ACK", 1), ("COOKIE_ECHO", 0), ("COOKIE_ACK", 1))

Segment = tuple[int, str, bytes, dict[str, Any]]  # side, flags, data, header fields


def segment(draw: random.Random, side: int, following: list[int]) -> Segment:
    """One segment of a side; `following` are the next sequence numbers of both."""
    flags = draw.choice(FLAGS) if draw.random() < 0.6 else draw.choice(("A", "PA"))
    data = bytes(draw.choice((0, 0, 1, 10, 100, 1400)))
    seq, ack = following[side], following[1 - side]
    if draw.random() < 0.35:
        seq = (seq + draw.choice((*SEQUENCE, -seq))) % WRAP
    if draw.random() < 0.25:
        ack = (ack + draw.choice((*ACKNOWLEDGED, -ack))) % WRAP
    options: list[tuple[str, Any]] = []
    if "S" in flags:
        if draw.random() < 0.5:
            options.append(("WScale", draw.choice((0, 3, 7, 14, 15))))
        if draw.random() < 0.3:
            options.append(("SAckOK", b""))
    elif draw.random() < 0.3:
        edges = ((ack + 10) % WRAP, (ack + draw.choice((50, 500, 90_000))) % WRAP)
        options = [("NOP", None), ("NOP", None), ("SAck", edges)]
    if draw.random() < 0.8:
        following[side] = (seq + len(data) + ("S" in flags) + ("F" in flags)) % WRAP
    shown = ack if "A" in flags or draw.random() < 0.1 else 0
    window = draw.choice((8192, 8192, 8192, 0, 1, 100, 65535))
    return side, flags, data, {"seq": seq, "ack": shown, "window": window, "options": options}


def conversation(draw: random.Random) -> list[Segment]:
    """Mostly a handshake as far as it goes, then anything."""
    following = [draw.choice((1000, WRAP - 20, 0)), draw.choice((500_000, WRAP - 5, 0))]
    offers = ([("WScale", 7), ("SAckOK", b"")], [("WScale", 2), ("SAckOK", b"")], [])
    found: list[Segment] = []
    if draw.random() < 0.7:
        for side, flags in ((0, "S"), (1, "SA"), (0, "A"))[: draw.choice((1, 2, 3, 3, 3))]:
            ack = following[1 - side] if "A" in flags else 0
            options = offers[side] if "S" in flags and draw.random() < 0.5 else []
            found.append((side, flags, b"", {"seq": following[side], "ack": ack, "options": options}))
            following[side] = (following[side] + ("S" in flags)) % WRAP
    return found + [segment(draw, draw.randint(0, 1), following) for _ in range(draw.randint(1, 14))]


def tcp_conversations(node: Node, seed: int, count: int = 20) -> None:
    client, server = node.router()
    node.rules(COUNT_STATES)
    node.look_at_every_step = False
    draw = random.Random(seed)
    for port in range(40000, 40000 + count):
        for side, flags, data, fields in conversation(draw):
            ports = {"sport": port, "dport": 80} if side == 0 else {"sport": 80, "dport": port}
            (client, server)[side].send(TCP(**ports, flags=flags, **fields) / Raw(data), to=(server, client)[side])
    node.look()


def bundle(draw: random.Random, side: int, names: list[str]) -> Packet:
    """Chunks behind a header whose tag is mostly the right one; its ports are still to be set."""
    tags = (CLIENT_TAG, SERVER_TAG)
    tag = 0 if names[0] == "INIT" else tags[1 - side]
    packet: Packet = SCTP(tag=draw.choice((0, 1, *tags)) if draw.random() < 0.2 else tag)
    for name in names:
        chunk = CHUNKS[name]()
        if name in ("INIT", "INIT_ACK"):
            chunk.init_tag = tags[side] if draw.random() < 0.8 else draw.choice((0, 5, *tags))
        if name in ("ABORT", "SHUTDOWN_COMPLETE"):
            chunk.TCB = draw.randint(0, 1)
        packet = packet / chunk
    return packet


def associations(node: Node, seed: int, count: int = 20) -> None:
    ends: tuple[Peer, Peer] = node.router()
    node.rules(COUNT_STATES)
    states = "closed cookie_wait cookie_echoed established shutdown_sent shutdown_recd shutdown_ack_sent heartbeat_sent"
    for number, name in enumerate(states.split()):
        node.sysctl(f"net.netfilter.nf_conntrack_sctp_timeout_{name} = {300 + 10 * number}")
    node.look_at_every_step = False
    draw = random.Random(seed)
    for port in range(1000, 1000 + count):
        for at in range(draw.randint(2, 16)):
            side = draw.randint(0, 1)
            names = [draw.choice(list(CHUNKS)) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
            if at < len(HANDSHAKE) and draw.random() < 0.8:
                names, side = [HANDSHAKE[at][0]], HANDSHAKE[at][1]
            packet = bundle(draw, side, names)
            packet.sport, packet.dport = (port, 2000) if side == 0 else (2000, port)
            ends[side].send(packet, to=ends[1 - side])
    node.look()


@scenario(families=(4, 6))
def tcp(node: Node) -> None:
    """Twenty conversations of TCP, as a host is set up by default."""
    tcp_conversations(node, 1)
    assert len(node.recording.steps) > 100


@scenario()
def tcp_liberal(node: Node) -> None:
    """The same with tcp_be_liberal=1."""
    node.sysctl("net.netfilter.nf_conntrack_tcp_be_liberal = 1")
    tcp_conversations(node, 2)


@scenario()
def tcp_strict(node: Node) -> None:
    """The same with tcp_loose=0."""
    node.sysctl("net.netfilter.nf_conntrack_tcp_loose = 0")
    tcp_conversations(node, 188)


@scenario()
def tcp_any_reset(node: Node) -> None:
    """The same with tcp_ignore_invalid_rst=1."""
    node.sysctl("net.netfilter.nf_conntrack_tcp_ignore_invalid_rst = 1")
    tcp_conversations(node, 39)


@scenario()
def tcp_few_retransmissions(node: Node) -> None:
    """The same with tcp_max_retrans=1."""
    node.sysctl("net.netfilter.nf_conntrack_tcp_max_retrans = 1")
    tcp_conversations(node, 1090)


@scenario(families=(4, 6))
def sctp(node: Node) -> None:
    """Twenty associations of SCTP."""
    associations(node, 0)
    assert len(node.recording.steps) > 100


@scenario()
def sctp_again(node: Node) -> None:
    """Twenty others."""
    associations(node, 4)
