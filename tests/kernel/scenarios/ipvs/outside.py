"""The outside host as the agents make it: external load balancers of each kind, clients of its own, and two nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from judge.ipvs_node import IpvsNode
from judge.scenario import scenario
from judge.talk import Frames, Peer, reply
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from dataplane.agents.node import Agents, Options
from dataplane.cluster import complete, read_manifests
from dataplane.host import ipvs
from dataplane.host.config import HostConfig

NODES = {4: ("10.0.2.2", "10.0.2.3"), 6: ("fd00:2::2", "fd00:2::3")}
FRONT = {4: "203.0.113.10", 6: "2001:db8:1b::a"}
CLIENT = {4: "198.51.100.7", 6: "2001:db8:c::7"}


def manifests(family: int, endpoints: tuple[str, ...], spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Two nodes and a Service `web` of policy Local with endpoints on those that are named."""
    found: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"node-{number}"},
            "spec": {"podCIDR": f"10.244.{number}.0/24" if family == 4 else f"fd00:10:244:{number}::/64"},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        }
        for number, address in enumerate(NODES[family], 1)
    ]
    ports = [
        {"name": "http", "port": 80, "nodePort": 30080},
        {"name": "log", "port": 514, "protocol": "UDP", "nodePort": 30514},
    ]
    policy = {"type": "LoadBalancer", "ipFamilies": [f"IPv{family}"], "externalTrafficPolicy": "Local"}
    fixed = policy | {"selector": {"app": "web"}, "ports": ports}
    found.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": fixed | dict(spec)})
    for node in endpoints:
        metadata = {"name": f"web-{node}", "labels": {"app": "web"}}
        pod = {"nodeName": node, "containers": [{"name": "web"}]}
        found.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})
    return found


@dataclass(slots=True)
class Outside:
    """The outside host with one balancer; nodes by their last digit."""

    node: IpvsNode
    nodes: dict[int, Peer]
    own: str

    def client(self, payload: Packet, to: str = "") -> Frames:
        """One of the clients sends; with `to` to an address of its own."""
        family = self.node.family
        layer = IP(src=CLIENT[4], id=7) if family == 4 else IPv6(src=CLIENT[6])
        layer.dst = to or FRONT[family]
        return self.node.send(layer / payload)

    def reached(self, frames: Frames) -> tuple[Peer, Packet]:
        """The node that was sent to, and what came to it."""
        (frame,) = frames
        peer = next(peer for peer in self.nodes.values() if peer.mac == frame.packet.dst)
        return peer, frame.packet


def config(cloud: str, family: int, endpoints: tuple[str, ...], spec: Mapping[str, Any]) -> HostConfig:
    state = complete(read_manifests(manifests(family, endpoints, spec)), 1)
    agents = Agents(state, Options(cloud=cloud))
    return agents.balancers().equip(HostConfig("outside"), "eth1")


def outside(node: IpvsNode, cloud: str, endpoints: tuple[str, ...] = ("node-1", "node-2"), **spec: Any) -> Outside:
    family = node.family
    made = config(cloud, family, endpoints, spec)
    node.router()
    own = next(str(address.address.ip) for address in made.addresses if address.address.version == family)
    anywhere = "0.0.0.0/0" if family == 4 else "::/0"
    six = "-6 " if family == 6 else ""
    length = 32 if family == 4 else 128
    node.ip(f"""
        addr add {own}/{length} dev eth1
        {six}route add local {anywhere} dev lo table main
    """)
    settings = {name: value for name, value in made.sysctl.items() if "forward" in name or ".vs." in name}
    settings |= {"net.ipv4.conf.all.accept_local": "1", "net.ipv4.conf.all.send_redirects": "0"}
    settings |= {"net.ipv4.conf.eth1.send_redirects": "0"}
    node.sysctl("\n".join(f"{name} = {value}" for name, value in settings.items()))
    rules = made.iptables if family == 4 else made.ip6tables
    assert rules is not None
    node.restore(rules.text(), family)
    node.ipvs(ipvs.text(made.ipvs))
    peers = {2: node.peer("eth1", NODES[family][0], neighbour=False), 3: node.peer("eth1", NODES[family][1])}
    return Outside(node, peers, own)


def conversation(web: Outside) -> None:
    """A connection of a client and what the node that was chosen answers."""
    node, seen = web.reached(web.client(TCP(sport=40000, dport=80, flags="S", seq=100)))
    node.send(reply(seen, flags="SA", seq=500, ack=101))
    node, seen = web.reached(web.client(TCP(sport=40000, dport=80, flags="A", seq=101, ack=501)))
    node, seen = web.reached(web.client(TCP(sport=40000, dport=80, flags="PA", seq=101, ack=501) / b"query"))
    node.send(reply(seen, b"answer", flags="PA", seq=501, ack=106))


@scenario(families=(4, 6))
def keeps_the_destination(node: IpvsNode) -> None:
    """gcp: the node gets the packet as it is; what it answers is for the client alone."""
    web = outside(node, "gcp")
    first, _ = web.reached(web.client(TCP(sport=40000, dport=80, flags="S", seq=100)))
    for flags in ("A", "PA", "FA"):
        assert web.reached(web.client(TCP(sport=40000, dport=80, flags=flags, seq=101, ack=501)))[0] is first
    # Without a SYN, too: whatever comes is sent somewhere.
    web.reached(web.client(TCP(sport=41000, dport=80, flags="A", seq=101, ack=501)))


@scenario(families=(4, 6))
def sends_to_node_ports(node: IpvsNode) -> None:
    """aws-nlb: NodePort and client's address; the answer comes from the balancer's address."""
    web = outside(node, "aws-nlb")
    conversation(web)


@scenario(families=(4, 6))
def puts_itself_in_the_clients_place(node: IpvsNode) -> None:
    """aws-classic: NodePort and the balancer's own address."""
    web = outside(node, "aws-classic")
    conversation(web)


@scenario(families=(4, 6))
def spreads_clients_ports(node: IpvsNode) -> None:
    """Source hashing over address and port, for each kind of packet."""
    web = outside(node, "gcp")
    for sport in range(40000, 40012):
        web.client(TCP(sport=sport, dport=80, flags="S", seq=1))
        web.client(UDP(sport=sport, dport=514) / b"line")


@scenario(families=(4, 6))
def serves_a_client_behind_a_node(node: IpvsNode) -> None:
    """aws-nlb: a pod, masqueraded by its node; the other node's answer has to come back this way."""
    web = outside(node, "aws-nlb", ("node-2",))
    (frame,) = web.nodes[2].send(TCP(sport=40000, dport=80, flags="S", seq=100), to=FRONT[node.family])
    web.nodes[3].send(reply(frame.packet, flags="SA", seq=500, ack=101))


@scenario(families=(4, 6))
def refuses(node: IpvsNode) -> None:
    """No listener, a client that is not allowed: dropped in silence."""
    ranges = ["10.0.0.0/8"] if node.family == 4 else ["fd00::/8"]
    web = outside(node, "azure", loadBalancerSourceRanges=ranges)
    assert not web.client(TCP(sport=40000, dport=80, flags="S", seq=1))
    assert not web.client(TCP(sport=40000, dport=81, flags="S", seq=1))
    assert not web.client(UDP(sport=40000, dport=514) / b"line")


@scenario(families=(4, 6))
def has_no_healthy_node(node: IpvsNode) -> None:
    """azure: nothing new gets through, though connections would stay."""
    web = outside(node, "azure", ())
    web.client(TCP(sport=40000, dport=80, flags="S", seq=1))
    web.client(UDP(sport=40000, dport=514) / b"line")


@scenario(families=(4, 6))
def gets_answers_that_are_for_clients(node: IpvsNode) -> None:
    """gcp: the client is at home here, so the node's answer passes the balancer all the same, as it is."""
    web = outside(node, "gcp")
    conversation(web)


@scenario(families=(4, 6))
def takes_datagrams_to_another_node(node: IpvsNode) -> None:
    """A node goes while datagrams flow: the next one goes to the other, and none is lost."""
    web = outside(node, "gcp")
    peer, _ = web.reached(web.client(UDP(sport=40000, dport=514) / b"one"))
    address = f"[{peer.ip}]" if node.family == 6 else peer.ip
    front = f"[{FRONT[6]}]" if node.family == 6 else FRONT[4]
    node.ipvs_change(f"-d -u {front}:514 -r {address}:514")
    other, _ = web.reached(web.client(UDP(sport=40000, dport=514) / b"two"))
    assert other is not peer
