"""Packets that the node itself sends to its services."""

from judge.balanced import Balancer, balanced
from judge.ipvs_node import IpvsNode
from judge.scenario import scenario
from judge.talk import Frames, reply
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet


def own(web: Balancer, payload: Packet, source: str = "") -> Frames:
    source = source or web.vip
    layer = IP(src=source, dst=web.vip, id=7) if web.node.family == 4 else IPv6(src=source, dst=web.vip)
    return web.node.send(layer / payload)


@scenario(families=(4, 6))
def with_the_virtual_address(node: IpvsNode) -> None:
    """The source that the route to the service gives is the virtual address itself: the server answers nobody else."""
    web = balanced(node)
    own(web, TCP(sport=40000, dport=80, flags="S", seq=1))
    own(web, TCP(sport=40001, dport=80, flags="S", seq=1))


@scenario(families=(4, 6))
def with_the_nodes_address(node: IpvsNode) -> None:
    """From the node's address of the servers' network; the answer comes in and is translated for the socket."""
    web = balanced(node, protocol="udp")
    frames = own(web, UDP(sport=40000, dport=80) / b"query", node.address("eth1"))
    server = web.servers[web.number(frames)]
    server.send(reply(frames.at(server)[0], b"answer"))


@scenario()
def and_masqueraded(node: IpvsNode) -> None:
    """With conntrack=1 and MASQUERADE the answer finds the way."""
    web = balanced(node)
    node.sysctl("net.ipv4.vs.conntrack = 1")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    frames = own(web, TCP(sport=40000, dport=80, flags="S", seq=1))
    server = web.servers[web.number(frames)]
    server.send(reply(frames.at(server)[0], flags="SA", seq=9, ack=2))


@scenario(families=(4, 6))
def without_a_server(node: IpvsNode) -> None:
    """No server: the socket hears that it is not permitted, and no error is sent."""
    web = balanced(node, weights=(0,), protocol="udp")
    own(web, UDP(sport=40000, dport=80) / b"query")


@scenario()
def through_the_rules(node: IpvsNode) -> None:
    """OUTPUT is passed twice: with the virtual address, and with the server's."""
    web = balanced(node)
    for chain in ("OUTPUT", "INPUT", "FORWARD"):
        for match in ("-d 10.96.0.10", "-d 10.0.2.0/24"):
            node.rules(f"-A {chain} {match}")
            node.rules(f"-t mangle -A {chain} {match}")
    own(web, TCP(sport=40000, dport=80, flags="S", seq=1))
