"""A balancer: clients on eth0, real servers on eth1, one virtual address on a dummy device, as kube-proxy places it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet

from judge.ipvs_node import IpvsNode
from judge.talk import Frames, Peer, Talk, network

VIP = {4: "10.96.0.10", 6: "fd00:96::a"}
PORT, TARGET = 80, 8080


def endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@dataclass(slots=True)
class Balancer:
    """One virtual service and its real servers, which have the last digits 2, 3, 4, ... behind eth1."""

    node: IpvsNode
    protocol: str
    client: Peer
    servers: dict[int, Peer]
    vip: str

    @property
    def service(self) -> str:
        """The service in the words of ipvsadm."""
        flag = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}[self.protocol]
        return f"{flag} {endpoint(self.vip, PORT)}"

    def server(self, number: int, options: str = "-m", verb: str = "-a", port: int = TARGET) -> str:
        """A line that adds (`-a`), edits (`-e`) or deletes (`-d`) a real server."""
        return f"{verb} {self.service} -r {endpoint(self.servers[number].ip, port)} {options if verb != '-d' else ''}"

    def first(self, sport: int, client: Peer | None = None, to: str = "", dport: int = PORT, **header: Any) -> Frames:
        """The first packet of a connection."""
        packet: Packet
        if self.protocol == "tcp":
            packet = TCP(sport=sport, dport=dport, flags="S", seq=1000)
        elif self.protocol == "udp":
            packet = UDP(sport=sport, dport=dport) / b"query"
        else:
            packet = SCTP(sport=sport, dport=dport) / SCTPChunkInit(init_tag=1)
        return (client or self.client).send(packet, to=to or self.vip, **header)

    def picks(self, sports: int | list[int] = 6, client: Peer | None = None) -> list[int]:
        """First packets from so many ports (or from these): the last digits of the servers that they reach, 0 for none."""
        if isinstance(sports, int):
            sports = list(range(40000, 40000 + sports))
        return [self.number(self.first(sport, client)) for sport in sports]

    def number(self, frames: Frames) -> int:
        """The server that was reached, 0 where none was."""
        for packet in frames.at("eth1"):
            for number, server in self.servers.items():
                if (IP in packet or IPv6 in packet) and network(packet).dst == server.ip:
                    return number
        return 0

    def talk(self, sport: int = 40000, client: Peer | None = None) -> Conversation:
        return Conversation(self, sport, client or self.client)


class Conversation(Talk):
    """A TCP conversation with whichever server the balancer takes."""

    def __init__(self, balancer: Balancer, sport: int, client: Peer) -> None:
        super().__init__(client, next(iter(balancer.servers.values())), to=balancer.vip, sport=sport, dport=PORT)
        self._balancer = balancer
        self.number = 0  # of the server

    def client(self, flags: str, data: bytes = b"", **fields: Any) -> Frames:
        frames = super().client(flags, data, **fields)
        if number := self._balancer.number(frames):
            self.number = number
            self.far = self._balancer.servers[number]
            self._seen = frames.at(self.far)[-1]
        return frames

    def close(self) -> None:
        """The client closes first, the server follows."""
        self.client("FA")
        self.server("FA")
        self.client("A")


def address(family: int, network: int, last: int) -> str:
    return f"10.0.{network}.{last}" if family == 4 else f"fd00:{network}::{last:x}"


def plain(node: IpvsNode, protocol: str = "tcp", servers: int = 3, device: str = "kube-ipvs0") -> Balancer:
    """Links, peers and the virtual address; no service yet."""
    client, _ = node.router()
    vip = VIP[node.family]
    node.ip(f"""
        link add {device} type dummy
        addr add {vip}/{32 if node.family == 4 else 128} dev {device}
    """)
    peers = {
        number: node.peer("eth1", address(node.family, 2, number), neighbour=number != 2)
        for number in range(2, servers + 2)
    }
    return Balancer(node, protocol, client, peers, vip)


def balanced(
    node: IpvsNode,
    scheduler: str = "rr",
    weights: tuple[int, ...] = (1, 1, 1),
    protocol: str = "tcp",
    service: str = "",
    server: str = "-m",
) -> Balancer:
    """A virtual service with real servers of these weights, added in the order of their numbers."""
    made = plain(node, protocol, len(weights))
    lines = [f"-A {made.service} -s {scheduler} {service}"]
    for number, weight in zip(made.servers, weights, strict=True):
        lines.append(made.server(number, f"{server} -w {weight}"))
    node.ipvs("\n".join(lines))
    return made
