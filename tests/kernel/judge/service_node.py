"""A Kubernetes node under the rules that our kube-proxy writes, for scenarios that speak of Services.

The world is behind eth0 (clients, and another node with pods of its own), the pods of this node behind `pods`.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_Redirect
from scapy.layers.sctp import (
    SCTP,
    SCTPChunkCookieAck,
    SCTPChunkCookieEcho,
    SCTPChunkData,
    SCTPChunkInit,
    SCTPChunkInitAck,
)
from scapy.packet import Packet

from dataplane.agents.firewall import Firewall
from dataplane.agents.kubeproxy.options import ProxyOptions
from dataplane.agents.kubeproxy.proxier import Proxier
from dataplane.agents.kubeproxy.sysctls import proxy_sysctls
from dataplane.cluster import ClusterState, NodeState, read_manifests
from judge.choices import PORT as NAT_PORT
from judge.choices import STATISTIC
from judge.node import Node
from judge.talk import Frames, Peer, network, reply, transport

HIT, MISS = 0, 0x7FFFFFFF  # draws of the statistic match
PROTOCOLS = ("TCP", "UDP", "SCTP")
HERE, THERE = "here", "there"
PORT, TARGET, NODE_PORT = 80, 8080, 30080
NUMBERS = {"TCP": 0, "UDP": 1, "SCTP": 2}  # node ports are 30080, 30081, 30082: one number serves one protocol here
_ADDRESSES = {
    4: {
        "pods": "10.244.0.0/16",
        "bridge": "10.244.0.1/24",
        "node": "192.168.0.10/24",
        "second": "192.168.7.10/32",
        "client": "192.168.0.99",
        "other client": "192.168.0.98",
        "other node": "192.168.0.11",
        "web": "10.244.0.2",
        "web 2": "10.244.0.3",
        "pod": "10.244.0.9",
        "far": "10.244.1.2",
        "far pods": "10.244.1.0/24",
        "cluster": "10.96.0.10",
        "external": "203.0.113.7",
        "balancer": "198.51.100.8",
    },
    6: {
        "pods": "fd00:10:244::/48",
        "bridge": "fd00:10:244::1/64",
        "node": "fd00:c0::10/64",
        "second": "fd00:c7::10/128",
        "client": "fd00:c0::99",
        "other client": "fd00:c0::98",
        "other node": "fd00:c0::11",
        "web": "fd00:10:244::2",
        "web 2": "fd00:10:244::3",
        "pod": "fd00:10:244::9",
        "far": "fd00:10:244:1::2",
        "far pods": "fd00:10:244:1::/64",
        "cluster": "fd00:10:96::a",
        "external": "2001:db8:113::7",
        "balancer": "2001:db8:100::8",
    },
}


def first(protocol: str, sport: int, dport: int) -> Packet:
    """The first packet of a connection."""
    if protocol == "TCP":
        return TCP(sport=sport, dport=dport, flags="S", seq=1000)
    if protocol == "SCTP":
        return SCTP(sport=sport, dport=dport) / SCTPChunkInit(init_tag=1)
    return UDP(sport=sport, dport=dport) / b"query"


def _conversation(protocol: str, sport: int, dport: int) -> list[tuple[Packet, Packet | bytes, dict[str, Any]]]:
    """What follows the first packet: of the client, and the server's answer (payload, transport fields)."""
    if protocol == "TCP":
        ports = {"sport": sport, "dport": dport}
        return [
            (first(protocol, sport, dport), b"", {"flags": "SA", "seq": 5000, "ack": 1001}),
            (
                TCP(**ports, flags="PA", seq=1001, ack=5001) / b"query",
                b"answer",
                {"flags": "PA", "seq": 5001, "ack": 1006},
            ),
            (TCP(**ports, flags="FA", seq=1006, ack=5007), b"", {"flags": "FA", "seq": 5007, "ack": 1007}),
        ]
    if protocol == "SCTP":
        tagged = SCTP(sport=sport, dport=dport, tag=2)
        return [
            (first(protocol, sport, dport), SCTPChunkInitAck(init_tag=2), {"tag": 1}),
            (tagged / SCTPChunkCookieEcho(cookie=b"oath"), SCTPChunkCookieAck(), {"tag": 1}),
            (tagged / SCTPChunkData(data=b"query"), SCTPChunkData(data=b"answer!!"), {"tag": 1}),
        ]
    return [(first(protocol, sport, dport), b"answer", {}), (first(protocol, sport, dport), b"again", {})]


def only(frames: Frames, place: Peer | str) -> Packet:
    """The one packet that came out, and it came out here; redirects apart, which IPv6 sends within one link."""
    return unredirected(frames).only(place)


def one(frames: Frames) -> Packet:
    """The one packet that came out, wherever; redirects apart."""
    (frame,) = unredirected(frames)
    return frame.packet


def unredirected(frames: Frames) -> Frames:
    """What came out, redirects apart: IPv6 sends them before any rule of FORWARD."""
    return Frames(frame for frame in frames if ICMPv6ND_Redirect not in frame.packet)


class ServiceNode:
    """The node `here` with one Service `shop/web`, whose endpoints and fields the scenario gives.

    endpoints: names of peers: `web` and `web 2` here, `far` on the other node. spec and status: fields of the Service.
    conditions: EndpointConditions by endpoint.
    """

    def __init__(
        self,
        node: Node,
        *endpoints: str,
        spec: dict[str, Any] | None = None,
        balancer: dict[str, Any] | None = None,
        conditions: dict[str, dict[str, bool]] | None = None,
        **options: Any,
    ) -> None:
        self.node = node
        self.at = _ADDRESSES[node.family]
        self._sport = 40000
        self._random_fully = options.get("random_fully", False)
        # kube-proxy orders endpoints by their text.
        self.order = sorted(endpoints, key=lambda name: self.at[name] + ("]:" if node.family == 6 else ":"))
        self._ports()
        self._write(endpoints, spec or {}, balancer, conditions or {}, options)

    def _ports(self) -> None:
        node, at = self.node, self.at
        node.port("eth0", at["node"])
        node.ip(f"{node.dash}addr add {at['second']} dev eth0")
        node.port("pods", at["bridge"])
        self.client = node.peer("eth0", at["client"])
        self.other_client = node.peer("eth0", at["other client"])
        self.there = node.peer("eth0", at["other node"])
        self.web, self.web2 = node.peer("pods", at["web"]), node.peer("pods", at["web 2"])
        self.pod = node.peer("pods", at["pod"])
        node.ip(f"{node.dash}route add {at['far pods']} via {at['other node']}")
        node.ip(f"{node.dash}route add default via {at['client']}")
        node.sysctl("net.ipv6.conf.all.forwarding = 1" if node.family == 6 else "net.ipv4.ip_forward = 1")
        self._peers = {"web": self.web, "web 2": self.web2, "far": self.there}

    def _write(
        self,
        endpoints: tuple[str, ...],
        spec: dict[str, Any],
        balancer: dict[str, Any] | None,
        conditions: dict[str, dict[str, bool]],
        given: dict[str, Any],
    ) -> None:
        node, at = self.node, self.at
        kind = spec.get("type", "ClusterIP")
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "clusterIP": at["cluster"],
                "clusterIPs": [at["cluster"]],
                "ipFamilies": [f"IPv{node.family}"],
                "ports": [
                    {
                        "name": name.lower(),
                        "protocol": name,
                        "port": PORT,
                        "targetPort": TARGET,
                        **({"nodePort": NODE_PORT + number} if kind != "ClusterIP" else {}),
                    }
                    for name, number in NUMBERS.items()
                ],
                **spec,
            },
            "status": {
                "loadBalancer": {"ingress": [{"ip": at["balancer"], **balancer}]} if balancer is not None else {}
            },
        }
        piece = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": f"IPv{node.family}",
            "ports": [{"name": name.lower(), "protocol": name, "port": TARGET} for name in PROTOCOLS],
            "endpoints": [
                {
                    "addresses": [at[name]],
                    "nodeName": THERE if name == "far" else HERE,
                    "conditions": conditions.get(name, {"ready": True, "serving": True, "terminating": False}),
                }
                for name in endpoints
            ],
        }
        objects = read_manifests([service, piece])
        slices = tuple(objects.endpoint_slices)
        state = ClusterState(
            nodes=objects.nodes,
            pods=objects.pods,
            services=objects.services,
            slices=slices,
            endpoints={("shop", "web"): slices},
            families=(4, 6),
            configs=objects.configs,
        )
        own = ip_address(at["node"].split("/")[0])
        options = ProxyOptions(**{"cluster_cidrs": (ip_network(at["pods"]),), "random_fully": False, **given})
        if node.family == 4:
            for name, value in proxy_sysctls(options, 1).items():
                if name.startswith("net.ipv4.conf"):
                    node.sysctl(f"{name} = {value}")
        firewall = Firewall(node.family)
        local = [own, ip_address(at["second"].split("/")[0]), ip_address("127.0.0.1" if node.family == 4 else "::1")]
        Proxier(state, options).sync(firewall, NodeState(HERE, (own,)), local)
        node.restore(firewall.ruleset().text())

    # ---- what a scenario says ---------------------------------------------------------------------------------------

    def port(self, protocol: str, address: str) -> int:
        """The Service's port at an address: the node port at the node's own."""
        return NODE_PORT + NUMBERS[protocol] if address in ("node", "second") else PORT

    def fresh(self) -> int:
        """A source port that nobody has used."""
        self._sport += 1
        return self._sport

    def drew(self, packet: Packet) -> str:
        """Write down what the kernel drew to send a connection to this endpoint; its name."""
        (name,) = (name for name in self.order if ip_address(self.at[name]) == ip_address(network(packet).dst))
        number = self.order.index(name)
        self.node.chose(STATISTIC, *[MISS] * number, *([] if number == len(self.order) - 1 else [HIT]))
        return name

    def open(self, protocol: str, peer: Peer, address: str, sport: int = 0, **header: Any) -> Frames:
        """Send the first packet of a connection to the Service at one of its addresses."""
        packet = first(protocol, sport or self.fresh(), self.port(protocol, address))
        return peer.send(packet, to=self.at[address].split("/")[0], **header)

    def talk(
        self, protocol: str, peer: Peer, address: str, endpoint: str, masqueraded: bool, sport: int = 0, src: str = ""
    ) -> None:
        """A whole conversation with the Service: it reaches the endpoint, and every answer comes from the Service."""
        sport = sport or self.fresh()
        to, dport = self.at[address].split("/")[0], self.port(protocol, address)
        far, target = self._peers[endpoint], self.at[endpoint]
        src = src or peer.ip
        for number, (packet, payload, fields) in enumerate(_conversation(protocol, sport, dport)):
            got = only(peer.send(packet, to=to, src=src), far)
            if masqueraded and self._random_fully and number == 0:
                self.node.chose(NAT_PORT, transport(got).sport)
            assert ip_address(network(got).dst) == ip_address(target)
            assert transport(got).dport == TARGET
            seen = ip_address(network(got).src)
            assert (seen in self.own) if masqueraded else (seen == ip_address(src)), f"the endpoint sees {seen}"
            answer = only(far.send(reply(got, payload, **fields)), peer)
            assert ip_address(network(answer).src) == ip_address(to)
            assert ip_address(network(answer).dst) == ip_address(src)
            assert (transport(answer).sport, transport(answer).dport) == (dport, sport)

    def everyone(self, peer: Peer, address: str, endpoint: str, masqueraded: bool) -> None:
        """The same conversation in TCP, UDP and SCTP."""
        for protocol in PROTOCOLS:
            self.talk(protocol, peer, address, endpoint, masqueraded)

    def refused(self, peer: Peer, address: str) -> None:
        """An ICMP error says that nobody is there, in all protocols."""
        error = b"\3\3" if self.node.family == 4 else b"\1\4"
        for protocol in PROTOCOLS:
            assert bytes(network(only(self.open(protocol, peer, address), peer)).payload)[:2] == error

    def dropped(self, peer: Peer, address: str) -> None:
        """Nothing comes out, in all protocols."""
        for protocol in PROTOCOLS:
            assert not self.open(protocol, peer, address)
            assert "NETFILTER_DROP" in [reason for reason, _ in self.node.recording.steps[-1].drops]

    @property
    def own(self) -> set[Any]:
        return {ip_address(self.at[name].split("/")[0]) for name in ("node", "bridge", "second")}
