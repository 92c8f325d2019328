"""A node under kube-proxy in IPVS mode: one service, its addresses on kube-ipvs0, ipsets, and the static rules.

The world, another node and its pods are behind eth0, the pods of this node behind `pods`.
"""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet

from judge.balanced import endpoint
from judge.ipvs_node import IpvsNode
from judge.talk import Frames, Peer, echo, network, reply

PORT, TARGET, NODE_PORT = 80, 8080, 30080
_ADDRESSES = {
    4: {
        "node": "192.168.0.10/24",
        "bridge": "10.244.0.1/24",
        "pods": "10.244.0.0/16",
        "neighbour": "192.168.0.9",
        "world": "192.168.0.99",
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
        "node": "fd00:c0::10/64",
        "bridge": "fd00:10:244::1/64",
        "pods": "fd00:10:244::/48",
        "neighbour": "fd00:c0::9",
        "world": "fd00:c0::99",
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
_SYSCTLS = """
    net.ipv4.vs.conntrack = 1
    net.ipv4.vs.expire_nodest_conn = 1
    net.ipv4.vs.expire_quiescent_template = 1
"""
_RULES = """
    -t nat -A PREROUTING -j KUBE-SERVICES
    -t nat -A OUTPUT -j KUBE-SERVICES
    -t nat -A POSTROUTING -j KUBE-POSTROUTING
    -t nat -A KUBE-SERVICES -s {loopback} -j RETURN
    -t nat -A KUBE-SERVICES -m set --match-set {p}LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER
    -t nat -A KUBE-SERVICES ! -s {pods} -m set --match-set {p}CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
    -t nat -A KUBE-SERVICES -m set --match-set {p}EXTERNAL-IP dst,dst -j KUBE-MARK-MASQ
    -t nat -A KUBE-SERVICES -m set --match-set {p}EXTERNAL-IP dst,dst -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT
    -t nat -A KUBE-SERVICES -m set --match-set {p}EXTERNAL-IP dst,dst -m addrtype --dst-type LOCAL -j ACCEPT
    -t nat -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
    -t nat -A KUBE-SERVICES -m set --match-set {p}CLUSTER-IP dst,dst -j ACCEPT
    -t nat -A KUBE-SERVICES -m set --match-set {p}LOAD-BALANCER dst,dst -j ACCEPT
    -t nat -A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
    -t nat -A KUBE-NODE-PORT -p {protocol} -m set --match-set {p}NODE-PORT-LOCAL-{upper} {ways} -j RETURN
    -t nat -A KUBE-NODE-PORT -p {protocol} -m set --match-set {p}NODE-PORT-{upper} {ways} -j KUBE-MARK-MASQ
    -t nat -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
    -t nat -A KUBE-POSTROUTING -m set --match-set {p}LOOP-BACK dst,dst,src -j MASQUERADE
    -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
    -t nat -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
    -t nat -A KUBE-POSTROUTING -j MASQUERADE
    -A INPUT -j KUBE-IPVS-FILTER
    -A INPUT -j KUBE-PROXY-FIREWALL
    -A INPUT -j KUBE-NODE-PORT
    -A OUTPUT -j KUBE-IPVS-OUT-FILTER
    -A FORWARD -j KUBE-PROXY-FIREWALL
    -A FORWARD -j KUBE-FORWARD
    -A KUBE-NODE-PORT -m set --match-set {p}HEALTH-CHECK-NODE-PORT dst -j ACCEPT
    -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
    -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    -A KUBE-PROXY-FIREWALL -m set --match-set {p}LOAD-BALANCER-FW dst,dst -j KUBE-SOURCE-RANGES-FIREWALL
    -A KUBE-SOURCE-RANGES-FIREWALL -m set --match-set {source_ranges} dst,dst,src -j RETURN
    -A KUBE-SOURCE-RANGES-FIREWALL -j DROP
    -A KUBE-IPVS-FILTER -m set --match-set {p}LOAD-BALANCER dst,dst -j RETURN
    -A KUBE-IPVS-FILTER -m set --match-set {p}CLUSTER-IP dst,dst -j RETURN
    -A KUBE-IPVS-FILTER -m set --match-set {p}EXTERNAL-IP dst,dst -j RETURN
    -A KUBE-IPVS-FILTER -m set --match-set {p}HEALTH-CHECK-NODE-PORT dst -j RETURN
    -A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set {p}IPVS-IPS dst -j REJECT
    -N KUBE-IPVS-OUT-FILTER
"""


def _set_name(family: int, name: str) -> str:
    """A set's name may have 31 characters; kube-proxy cuts the rest off."""
    return (("KUBE-6-" if family == 6 else "KUBE-") + name)[:31]


class KubeNode:
    """The node and the service; endpoints are named `web`, `web 2` (here) and `far` (on the other node)."""

    def __init__(
        self,
        node: IpvsNode,
        *endpoints: str,
        protocol: str = "tcp",
        scheduler: str = "rr",
        service: str = "",
        local: bool = False,
        ranges: str = "",
    ) -> None:
        self.node = node
        self.protocol = protocol
        self.served = ""  # the endpoint that was reached last
        self._requests: dict[tuple[str, int], tuple[str, int, Packet]] = {}
        self._last: tuple[Peer, Packet] | None = None
        self.at = _ADDRESSES[node.family]
        self.node_ip = self.at["node"].split("/")[0]
        self.cluster_ip, self.external_ip, self.balancer_ip = (
            self.at[name] for name in ("cluster", "external", "balancer")
        )
        self._links()
        node.sysctl(_SYSCTLS)
        self._sets(endpoints, local, ranges)
        upper = "SCTP-HASH" if protocol == "sctp" else protocol.upper()
        node.rules(
            _RULES.format(
                p="KUBE-6-" if node.family == 6 else "KUBE-",
                pods=self.at["pods"],
                loopback="127.0.0.0/8" if node.family == 4 else "::1/128",
                protocol=protocol,
                upper=upper,
                source_ranges=_set_name(node.family, "LOAD-BALANCER-SOURCE-CIDR"),
                ways="dst,dst" if protocol == "sctp" else "dst",
            )
        )
        self._services(endpoints or ("far",), scheduler, service)

    def _links(self) -> None:
        node, at = self.node, self.at
        node.port("eth0", at["node"])
        node.port("pods", at["bridge"])
        node.ip(f"{node.dash}route add {at['far pods']} via {at['other node']} dev eth0")
        node.ip("link add kube-ipvs0 type dummy")
        bits = 32 if node.family == 4 else 128
        for address in (self.cluster_ip, self.external_ip, self.balancer_ip):
            node.ip(f"addr add {address}/{bits} dev kube-ipvs0")
        self._peers()

    def _peers(self) -> None:
        node, at = self.node, self.at
        self.peers = {name: node.peer("eth0", at[name]) for name in ("neighbour", "world", "other node")}
        self.peers |= {name: node.peer("pods", at[name]) for name in ("web", "web 2", "pod")}
        other = self.peers["other node"]
        self.peers["far"] = Peer(node, "eth0", other.mac, at["far"], other.gateway)

    def _sets(self, endpoints: tuple[str, ...], local: bool, ranges: str) -> None:
        family = "inet6" if self.node.family == 6 else "inet"
        p = "KUBE-6-" if self.node.family == 6 else "KUBE-"
        kinds = {
            "CLUSTER-IP": "hash:ip,port",
            "LOOP-BACK": "hash:ip,port,ip",
            "EXTERNAL-IP": "hash:ip,port",
            "LOAD-BALANCER": "hash:ip,port",
            "LOAD-BALANCER-FW": "hash:ip,port",
            "LOAD-BALANCER-SOURCE-CIDR": "hash:ip,port,net",
            "IPVS-IPS": "hash:ip",
        }
        lines = [f"create {_set_name(self.node.family, name)} {kind} family {family}" for name, kind in kinds.items()]
        lines.append(f"create {p}HEALTH-CHECK-NODE-PORT bitmap:port range 0-65535")
        for name in ("NODE-PORT", "NODE-PORT-LOCAL"):
            if self.protocol == "sctp":
                lines.append(f"create {p}{name}-SCTP-HASH hash:ip,port family {family}")
            else:
                lines.append(f"create {p}{name}-{self.protocol.upper()} bitmap:port range 0-65535")
        served = f"{self.protocol}:{PORT}"
        lines.append(f"add {p}CLUSTER-IP {self.cluster_ip},{served}")
        lines.append(f"add {p}EXTERNAL-IP {self.external_ip},{served}")
        lines.append(f"add {p}LOAD-BALANCER {self.balancer_ip},{served}")
        lines += [f"add {p}IPVS-IPS {ip}" for ip in (self.cluster_ip, self.external_ip, self.balancer_ip)]
        if ranges:
            lines.append(f"add {p}LOAD-BALANCER-FW {self.balancer_ip},{served}")
            lines.append(
                f"add {_set_name(self.node.family, 'LOAD-BALANCER-SOURCE-CIDR')} {self.balancer_ip},{served},{ranges}"
            )
        names = ["NODE-PORT", *(["NODE-PORT-LOCAL"] if local else [])]
        for name in names:
            if self.protocol == "sctp":
                lines.append(f"add {p}{name}-SCTP-HASH {self.node_ip},sctp:{NODE_PORT}")
            else:
                lines.append(f"add {p}{name}-{self.protocol.upper()} {NODE_PORT}")
        for name in endpoints:
            if name.startswith("web"):
                lines.append(f"add {p}LOOP-BACK {self.at[name]},{self.protocol}:{TARGET},{self.at[name]}")
        self.node.ipset("\n".join(lines))

    def _services(self, endpoints: tuple[str, ...], scheduler: str, service: str) -> None:
        self._flag = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}[self.protocol]
        ends = [(self.cluster_ip, PORT), (self.external_ip, PORT), (self.balancer_ip, PORT), (self.node_ip, NODE_PORT)]
        self._names = [endpoint(*end) for end in ends]
        lines = []
        for name in self._names:
            lines.append(f"-A {self._flag} {name} -s {scheduler} {service}")
            lines += [f"-a {self._flag} {name} -r {endpoint(self.at[end], TARGET)} -m -w 1" for end in endpoints]
        self.node.ipvs("\n".join(lines))

    # ---- changes ----------------------------------------------------------------------------------------------------

    def quiesce(self, name: str) -> None:
        """Weight 0 in all services, as kube-proxy does first."""
        self._all("-e", name, "-m -w 0")

    def remove(self, name: str) -> None:
        self._all("-d", name, "")

    def _all(self, verb: str, name: str, options: str) -> None:
        target = endpoint(self.at[name], TARGET)
        self.node.ipvs_change("\n".join(f"{verb} {self._flag} {end} -r {target} {options}" for end in self._names))

    # ---- packets ----------------------------------------------------------------------------------------------------

    def first(self, name: str, to: str, dport: int, sport: int = 40000) -> Frames:
        """The first packet of a connection from a peer."""
        return self._seen(name, sport, to, dport, self.peers[name].send(self._first(sport, dport), to=to))

    def _first(self, sport: int, dport: int) -> Packet:
        if self.protocol == "tcp":
            return TCP(sport=sport, dport=dport, flags="S", seq=1000)
        if self.protocol == "udp":
            return UDP(sport=sport, dport=dport) / b"query"
        return SCTP(sport=sport, dport=dport) / SCTPChunkInit(init_tag=1)

    def _seen(self, name: str, sport: int, to: str, dport: int, frames: Frames) -> Frames:
        for end in ("web", "web 2", "far"):
            for packet in frames.at(self.peers[end]):
                if (IP in packet or IPv6 in packet) and network(packet).dst == self.at[end]:
                    self.served = end
                    self._last = self.peers[end], packet
                    self._requests[name, sport] = to, dport, packet
        return frames

    def exchange(self, name: str, to: str, dport: int, sport: int = 40000) -> None:
        """A connection opens: the request, the answer, and in TCP the client's ACK."""
        assert self.first(name, to, dport, sport), "nothing was sent on"
        assert self._last is not None
        server, packet = self._last
        if self.protocol == "udp":
            server.send(reply(packet, b"answer"))
            return
        answer = server.send(reply(packet, flags="SA", seq=500_000, ack=1001))
        assert answer, "the answer did not pass"
        self.talk(name, sport, "A")

    def talk(self, name: str, sport: int, flags: str = "PA", **fields: Any) -> Frames:
        """Another segment of an open connection."""
        to, dport, _ = self._requests[name, sport]
        segment = TCP(sport=sport, dport=dport, flags=flags, seq=1001, ack=500_001, **fields)
        return self.peers[name].send(segment / (b"data" if "P" in flags else b""), to=to)

    def own(self, source: str, to: str, dport: int, sport: int = 40000) -> None:
        """A packet of the node's own, and the answer."""
        layer = IP(src=source, dst=to, id=7) if self.node.family == 4 else IPv6(src=source, dst=to)
        frames = self._seen("node", sport, to, dport, self.node.send(layer / self._first(sport, dport)))
        if frames and self._last:
            server, packet = self._last
            server.send(reply(packet, flags="SA", seq=500_000, ack=1001))

    def ping(self, name: str, to: str) -> Frames:
        return self.peers[name].send(echo(self.node.family), to=to)

    def complain(self) -> None:
        """The server that was reached last has nobody at the port."""
        assert self._last is not None
        server, packet = self._last
        server.complain("port unreachable", packet)
