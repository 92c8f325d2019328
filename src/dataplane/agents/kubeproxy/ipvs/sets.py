"""The ipsets that the rules ask: which addresses and ports are whose.

The sets of IPv6 have names of their own, cut to the 31 characters that a set's name may have. kube-proxy fills them in
the order of a Go map; here they stand in the order of their members.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from dataplane.agents.kubeproxy.iptables import canonical
from dataplane.cluster.endpoints import ProxyEndpoint, ServicePortInfo
from dataplane.cluster.objects import Address, Family, Network
from dataplane.host.ipset import IpSet, IpSetEntry, ProtocolPort
from dataplane.host.protocols import protocol_number

LOOP_BACK = "KUBE-LOOP-BACK"
CLUSTER_IP = "KUBE-CLUSTER-IP"
EXTERNAL_IP = "KUBE-EXTERNAL-IP"
EXTERNAL_IP_LOCAL = "KUBE-EXTERNAL-IP-LOCAL"
LOAD_BALANCER = "KUBE-LOAD-BALANCER"
LOAD_BALANCER_FW = "KUBE-LOAD-BALANCER-FW"
LOAD_BALANCER_LOCAL = "KUBE-LOAD-BALANCER-LOCAL"
LOAD_BALANCER_SOURCE_IP = "KUBE-LOAD-BALANCER-SOURCE-IP"
LOAD_BALANCER_SOURCE_CIDR = "KUBE-LOAD-BALANCER-SOURCE-CIDR"
NODE_PORT_TCP = "KUBE-NODE-PORT-TCP"
NODE_PORT_LOCAL_TCP = "KUBE-NODE-PORT-LOCAL-TCP"
NODE_PORT_UDP = "KUBE-NODE-PORT-UDP"
NODE_PORT_LOCAL_UDP = "KUBE-NODE-PORT-LOCAL-UDP"
NODE_PORT_SCTP = "KUBE-NODE-PORT-SCTP-HASH"
NODE_PORT_LOCAL_SCTP = "KUBE-NODE-PORT-LOCAL-SCTP-HASH"
HEALTH_CHECK_NODE_PORT = "KUBE-HEALTH-CHECK-NODE-PORT"
IPVS_IPS = "KUBE-IPVS-IPS"

TYPES: Mapping[str, str] = {
    LOOP_BACK: "hash:ip,port,ip",
    CLUSTER_IP: "hash:ip,port",
    EXTERNAL_IP: "hash:ip,port",
    EXTERNAL_IP_LOCAL: "hash:ip,port",
    LOAD_BALANCER: "hash:ip,port",
    LOAD_BALANCER_FW: "hash:ip,port",
    LOAD_BALANCER_LOCAL: "hash:ip,port",
    LOAD_BALANCER_SOURCE_IP: "hash:ip,port,ip",
    LOAD_BALANCER_SOURCE_CIDR: "hash:ip,port,net",
    NODE_PORT_TCP: "bitmap:port",
    NODE_PORT_LOCAL_TCP: "bitmap:port",
    NODE_PORT_UDP: "bitmap:port",
    NODE_PORT_LOCAL_UDP: "bitmap:port",
    NODE_PORT_SCTP: "hash:ip,port",
    NODE_PORT_LOCAL_SCTP: "hash:ip,port",
    HEALTH_CHECK_NODE_PORT: "bitmap:port",
    IPVS_IPS: "hash:ip",
}
# Protocol -> the set of all its node ports, and of those of policy Local.
NODE_PORTS: Mapping[str, tuple[str, str]] = {
    "TCP": (NODE_PORT_TCP, NODE_PORT_LOCAL_TCP),
    "UDP": (NODE_PORT_UDP, NODE_PORT_LOCAL_UDP),
    "SCTP": (NODE_PORT_SCTP, NODE_PORT_LOCAL_SCTP),
}
LONGEST = 31

Member = tuple[Any, ...]
"""A value per dimension of the set's type, as IpSetEntry has them."""


def set_name(name: str, family: Family) -> str:
    """What a set is called in the kernel."""
    return name if family == 4 else f"KUBE-6-{name.removeprefix('KUBE-')}"[:LONGEST]


@dataclass(slots=True)
class Members:
    """The members of all sets of one family of a node.

    refused_to_node: address, protocol and port of load balancers whose source ranges do not hold the node; rules, not
    a set, keep the node away from them.
    """

    family: Family
    sets: dict[str, set[Member]] = field(default_factory=lambda: {name: set() for name in TYPES})
    refused_to_node: dict[tuple[Address, str, int], None] = field(default_factory=dict)

    def add_port(
        self,
        info: ServicePortInfo,
        here: Iterable[ProxyEndpoint],
        node_ip: Address | None,
        node_addresses: Sequence[Address],
    ) -> None:
        """What one service port adds. here: its endpoints on the node; node_ip: the node's primary address;
        node_addresses: where its node ports are open."""
        port = ProtocolPort(protocol_number(info.protocol.lower()), info.port)
        self.sets[CLUSTER_IP].add((info.cluster_ip, port))
        for endpoint in here:
            address = ip_address(canonical(endpoint.address, self.family))
            self.sets[LOOP_BACK].add((address, ProtocolPort(port.protocol, endpoint.port), address))
        for address in info.external_ips:
            self.sets[EXTERNAL_IP_LOCAL if info.external_local else EXTERNAL_IP].add((address, port))
        for address in info.load_balancer_ips:
            self._add_load_balancer(info, address, port, node_ip)
        if info.node_port:
            if not node_addresses:
                return  # kube-proxy gives the service port up here, health check and all
            self._add_node_port(info, port.protocol, node_addresses)
        if info.health_check_node_port:
            self.sets[HEALTH_CHECK_NODE_PORT].add((info.health_check_node_port,))

    def _add_load_balancer(
        self, info: ServicePortInfo, address: Address, port: ProtocolPort, node_ip: Address | None
    ) -> None:
        self.sets[LOAD_BALANCER].add((address, port))
        if info.external_local:
            self.sets[LOAD_BALANCER_LOCAL].add((address, port))
        if not info.source_ranges:
            return
        self.sets[LOAD_BALANCER_FW].add((address, port))
        ranges: list[Network] = [network for network in info.source_ranges if network.prefixlen]
        # ipset refuses a network of no length, so 0.0.0.0/0 lets nobody in.
        self.sets[LOAD_BALANCER_SOURCE_CIDR].update((address, port, network) for network in ranges)
        if node_ip is not None and any(node_ip in network for network in info.source_ranges):
            self.sets[LOAD_BALANCER_SOURCE_IP].add((address, port, address))
        else:
            self.refused_to_node[address, info.protocol, info.port] = None

    def _add_node_port(self, info: ServicePortInfo, protocol: int, node_addresses: Sequence[Address]) -> None:
        every, local = NODE_PORTS[info.protocol]
        members: list[Member] = [(info.node_port,)]
        if info.protocol == "SCTP":
            members = [(address, ProtocolPort(protocol, info.node_port)) for address in node_addresses]
        self.sets[every].update(members)
        if info.external_local:
            self.sets[local].update(members)

    def ipsets(self) -> tuple[IpSet, ...]:
        """The sets as the waist has them."""
        return tuple([ip_set(name, self.family, members) for name, members in self.sets.items()])


def ip_set(name: str, family: Family, members: Iterable[Member]) -> IpSet:
    kind = TYPES[name]
    bitmap = kind == "bitmap:port"
    return IpSet(
        set_name(name, family),
        kind,
        tuple(map(IpSetEntry, sorted(members, key=_order))),
        family=4 if bitmap else family,
        range=(0, 65535) if bitmap else None,
        bucket_size=None if bitmap else 12,
    )


def _order(member: Member) -> tuple[int, ...]:
    key: list[int] = []
    for element in member:
        if isinstance(element, ProtocolPort):
            key += element
        elif hasattr(element, "prefixlen"):
            key += int(element.network_address), element.prefixlen
        else:
            key.append(int(element))
    return tuple(key)
