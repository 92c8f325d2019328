"""What lies between and beyond the nodes: a switch, and one host that stands for everything outside the cluster.

    node-1 eth0 ---- port1 \\
    node-2 eth0 ---- port2  > underlay (a bridge) ---- port0 ---- eth0 outside
    ...                    /

The outside host has the gateway's address. Whatever address belongs neither to a node nor to the cluster is local to
it (`local 0.0.0.0/0 dev lo`, Linux's AnyIP), so it sends and receives as any external client or server, and in IPv4
answers ARP for any of them on the nodes' subnet. In IPv6 Linux answers neighbour solicitations for assigned addresses
only, so clients on the nodes' own IPv6 subnet are reached through the gateway alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network

from dataplane.agents.cloud.outside import OutsideBalancers
from dataplane.agents.forwarding import own_entries
from dataplane.agents.identity import stable_mac
from dataplane.cluster.endpoints import ServicePortInfo
from dataplane.cluster.objects import ClusterState, Family, NodeState
from dataplane.errors import ModelError
from dataplane.host.config import Address, Bridge, BridgePort, HostConfig, IPInterface, IPNetwork, Link, Route

UNDERLAY, OUTSIDE = "underlay", "outside"
ETH0 = "eth0"
ANYWHERE: dict[Family, str] = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(frozen=True, slots=True)
class Wire:
    """A cable between two interfaces; both hosts are named."""

    host_a: str
    interface_a: str
    host_b: str
    interface_b: str


def gateway(state: ClusterState, family: Family, passed: int = 0) -> IPInterface | None:
    """The outside host's address on the nodes' subnet: the first one that no node has, or with `passed` a later one."""
    subnet = state.node_subnet(family)
    if subnet is None:
        return None
    taken = {address for node in state.nodes for address in node.addresses}
    first = int(subnet.network_address) + (subnet.prefixlen < subnet.max_prefixlen - 1)
    for number in range(first, int(subnet.broadcast_address) + 1):
        value = ip_interface((number, subnet.prefixlen))
        if value.ip not in taken:
            if not passed:
                return value
            passed -= 1
    raise ModelError(f"the nodes' subnet {subnet} has no address left for the gateway")


def port_name(index: int) -> str:
    """The switch's port of a node (by its index) or, for -1, of the outside host. Node names outgrow 15 characters."""
    return f"port{index + 1}"


def underlay_config(state: ClusterState, mtu: int) -> HostConfig:
    """The switch: it has no addresses, no netfilter, and all its ports are in one broadcast domain."""
    links = [
        Link.lo(),
        Link(UNDERLAY, "bridge", 2, stable_mac("bridge", UNDERLAY), mtu, bridge=Bridge(mcast_snooping=False)),
    ]
    for index in range(-1, len(state.nodes)):
        name = port_name(index)
        links.append(
            Link(
                name,
                index=index + 4,
                mac=stable_mac("port", UNDERLAY, str(index)),
                mtu=mtu,
                promisc=True,
                allmulti=True,
                master=UNDERLAY,
                port=BridgePort(),
            )
        )
    config = HostConfig(
        UNDERLAY,
        tuple(links),
        sysctl={
            "net.ipv4.ip_forward": "0",
            "net.bridge.bridge-nf-call-iptables": "0",
            "net.bridge.bridge-nf-call-ip6tables": "0",
            "net.bridge.bridge-nf-call-arptables": "0",
            "net.ipv6.conf.all.disable_ipv6": "1",
            "net.ipv6.conf.default.disable_ipv6": "1",
        },
    ).completed()
    return config.with_(fdb=tuple(own_entries(config)))


def outside_config(
    state: ClusterState,
    mtu: int,
    entrances: Iterable[tuple[NodeState, ServicePortInfo]] = (),
    balancers: OutsideBalancers | None = None,
    *,
    forwards: bool = False,
) -> HostConfig:
    """The outside host.

    entrances: the node through which outsiders reach a service port by its external IPs; the first one named for an
    address has it. balancers: of Services of type LoadBalancer, which have their own. forwards: one
    of them does more than to route.
    """
    ipv6 = 6 in state.families
    links = [Link.lo(), Link(ETH0, index=2, mac=stable_mac(OUTSIDE), mtu=mtu)]
    values = [value for family in state.families if (value := gateway(state, family)) is not None]
    # No connected route: only the nodes are on this wire, every other address of the subnet is the outside host's.
    addresses = [Address(ETH0, value, flags=("noprefixroute",)) for value in values]
    routes: list[Route] = []
    for family in state.families:
        # In table main, where `ip route add local` does not put it by itself: behind the nodes' own routes.
        routes.append(Route.of(ANYWHERE[family], "lo", type="local"))
        nodes = [address for node in state.nodes for address in node.addresses if address.version == family]
        routes += [Route.of(ip_network(address), ETH0) for address in nodes]
    # A router that knows nothing of the cluster's own addresses; nor may they count as the outside's.
    for network in (*state.cluster_cidrs, *state.service_cidrs):
        routes.append(Route.of(network, type="blackhole"))
    own = {address for node in state.nodes for address in node.addresses}
    found: dict[IPNetwork, Route] = {}
    for route in (*(balancers.routes(ETH0) if balancers else ()), *_entered(entrances)):
        if route.destination.network_address not in own:
            found.setdefault(route.destination, route)
    routes += found.values()
    config = HostConfig(
        OUTSIDE,
        tuple(links),
        tuple(addresses),
        tuple(routes),
        sysctl={
            "net.ipv4.ip_forward": "0",
            "net.ipv4.conf.all.rp_filter": "0",
            "net.ipv4.conf.default.rp_filter": "0",
            # It is many hosts: one of them may well send to another through the cluster.
            "net.ipv4.conf.all.accept_local": "1",
            "net.ipv4.conf.default.accept_local": "1",
            "net.ipv6.conf.all.disable_ipv6": "0" if ipv6 else "1",
            "net.ipv6.conf.default.disable_ipv6": "0" if ipv6 else "1",
        },
    )
    if balancers is not None and forwards:
        config = balancers.equip(config, ETH0)
    config = config.completed()
    return config.with_(fdb=tuple(own_entries(config)))


def _entered(entrances: Iterable[tuple[NodeState, ServicePortInfo]]) -> Iterator[Route]:
    for node, port in entrances:
        via = node.address(port.family)
        if via is not None:
            for address in port.external_ips:
                yield Route.of(ip_network(address), ETH0, via)


def topology(state: ClusterState, pods: Iterable[tuple[str, str, str, str]]) -> list[Wire]:
    """Every wire. pods: (node, its interface, pod's host name, the pod's interface)."""
    wires = [Wire(UNDERLAY, port_name(-1), OUTSIDE, ETH0)]
    wires += [Wire(UNDERLAY, port_name(node.index), node.name, ETH0) for node in state.nodes]
    return wires + [Wire(*pod) for pod in pods]
