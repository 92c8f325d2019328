"""Flannel: the pods of other nodes through VXLAN, or through routes by way of the other nodes (host-gw).

Each node leases its podCIDR. For every other node's lease flanneld keeps, in vxlan:

    10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink          route: the lease's first address is the remote device
    10.244.2.0 lladdr <MAC of its flannel.1> PERMANENT         neighbour: so nobody has to ask for it
    <MAC of its flannel.1> dst 192.168.1.12                    fdb: which node to send the outer packet to

and in host-gw, or in vxlan with DirectRouting between nodes of one subnet, the route `via 192.168.1.12 dev eth0`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from typing import Any

from dataplane.agents.firewall import Firewall
from dataplane.agents.identity import stable_mac
from dataplane.cluster.objects import ClusterState, Config, Family, Network, NodeState
from dataplane.errors import ManifestError, ModelError
from dataplane.host.config import Address, FdbEntry, Link, Neighbour, Route, Vxlan, mac_number

NET_CONF = "net-conf.json"
OVERHEAD = {4: 50, 6: 70}  # outer IP, UDP, VXLAN and inner Ethernet header
PLUGIN_OVERHEAD = 50  # what flanneld takes off for the pods, whatever the family
MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}
POSTROUTING, FORWARD = "FLANNEL-POSTRTG", "FLANNEL-FWD"
MASQ, ACCEPTED = '-m comment --comment "flanneld masq"', '-m comment --comment "flanneld forward"'
KUBE_PROXY_MARK = "0x4000/0x4000"


@dataclass(frozen=True, slots=True)
class FlannelOptions:
    """net-conf.json with flannel's defaults. networks: one per family in use, the whole cluster's pod network.

    mtu: of the underlying interface as flannel is told it; 0 takes the interface's own.
    """

    networks: tuple[Network, ...] = ()
    backend: str = "vxlan"
    vni: int = 1
    port: int = 8472
    learning: bool = False
    direct_routing: bool = False
    gbp: bool = False
    mtu: int = 0
    masquerade: bool = True
    """flanneld --ip-masq"""
    hairpin: bool = True
    """hairpinMode in the CNI configuration"""

    def network(self, family: Family) -> Network | None:
        return next((network for network in self.networks if network.version == family), None)


def flannel_options(config: Config | None, state: ClusterState) -> FlannelOptions:
    """The options that a net-conf.json states; the cluster's own pod networks where none is given.

    Raises ManifestError naming the field; ModelError for a backend that is not modelled.
    """
    if config is None:
        return FlannelOptions(networks=state.cluster_cidrs)
    data = config.data
    networks = [
        _network(config, name)
        for name, switch, default in (("Network", "EnableIPv4", True), ("IPv6Network", "EnableIPv6", False))
        if data.get(switch, default) and data.get(name)
    ]
    backend = data.get("Backend") or {}
    if not isinstance(backend, dict):
        raise _error(config, "Backend", f"{backend!r} is no object")
    kind = backend.get("Type", "udp")
    if kind not in ("vxlan", "host-gw"):
        raise ModelError(f"flannel backend {kind!r} is not modelled; vxlan and host-gw are")
    return FlannelOptions(
        networks=tuple(networks) or state.cluster_cidrs,
        backend=kind,
        vni=_number(config, backend, "VNI", 1),
        port=_number(config, backend, "Port", 0) or 8472,
        learning=bool(backend.get("Learning", False)),
        direct_routing=bool(backend.get("DirectRouting", False)),
        gbp=bool(backend.get("GBP", False)),
        mtu=_number(config, backend, "MTU", 0),
    )


def _error(config: Config, name: str, message: str) -> ManifestError:
    origin = config.origin
    field = f"{config.kind}: {name}"
    return ManifestError(origin.file if origin else "", origin.where if origin else "", field, message)


def _network(config: Config, name: str) -> Network:
    try:
        return ip_network(config.data[name], strict=False)
    except (ValueError, TypeError) as error:
        raise _error(config, name, str(error)) from None


def _number(config: Config, data: Mapping[str, Any], name: str, default: int) -> int:
    value = data.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _error(config, f"Backend.{name}", f"{value!r} is no number")
    return value


@dataclass(frozen=True, slots=True)
class Lease:
    """What every other node does about one node, in one family."""

    node: NodeState
    subnet: Network
    public: Any
    mac: int
    tunnelled: Route
    direct: Route
    neighbour: Neighbour
    entry: FdbEntry


class Flannel:
    """flanneld on every node of a cluster. device: the interface on the underlay; mtu: its MTU."""

    def __init__(self, state: ClusterState, options: FlannelOptions, device: str = "eth0", mtu: int = 1500) -> None:
        self.state = state
        self.options = options
        self.device = device
        self.mtu = options.mtu or mtu
        self.families: tuple[Family, ...] = tuple(f for f in (4, 6) if options.network(f) is not None)
        # One object for each lease, however many nodes point at it: thousands of nodes each know all the others.
        self.leases = {family: self._leases(family) for family in self.families}

    @property
    def pod_mtu(self) -> int:
        """The MTU of cni0 and the pods (FLANNEL_MTU)."""
        return self.mtu - PLUGIN_OVERHEAD if self.options.backend == "vxlan" else self.mtu

    def device_name(self, family: Family) -> str:
        return f"flannel{'' if family == 4 else '-v6'}.{self.options.vni}"

    def links(self, node: NodeState, first_index: int) -> list[Link]:
        """The VXLAN devices of a node."""
        if self.options.backend != "vxlan":
            return []
        links: list[Link] = []
        for family in self.families:
            if node.pod_cidr(family) is None or node.address(family) is None:
                continue
            links.append(
                Link(
                    self.device_name(family),
                    "vxlan",
                    first_index + len(links),
                    vtep_mac(node, family),
                    # flanneld asks for 50 less; the kernel allows what the outer header leaves (drivers/net/vxlan).
                    min(self.mtu - PLUGIN_OVERHEAD, self.mtu - OVERHEAD[family]),
                    vxlan=Vxlan(
                        self.options.vni,
                        local=node.address(family),
                        device=self.device,
                        port=self.options.port,
                        learning=self.options.learning,
                        gbp=self.options.gbp,
                    ),
                )
            )
        return links

    def addresses(self, node: NodeState, links: Sequence[Link]) -> list[Address]:
        """The lease's first address on the device, alone in its network, so that no route of the kernel's comes along.
        It is the source of what the node itself sends to remote pods."""
        names = {link.name for link in links}
        return [
            Address(self.device_name(family), ip_interface(cidr.network_address))
            for family in self.families
            if self.device_name(family) in names and (cidr := node.pod_cidr(family)) is not None
        ]

    def remote(self, node: NodeState) -> tuple[list[Route], list[Neighbour], list[FdbEntry]]:
        """Routes, neighbours and forwarding entries towards every other node."""
        routes: list[Route] = []
        neighbours: list[Neighbour] = []
        entries: list[FdbEntry] = []
        for family in self.families:
            subnet = self.state.node_subnet(family)
            direct = self.options.direct_routing and subnet is not None and node.address(family) in subnet
            near = subnet if direct else None
            for lease in self.leases[family]:
                if lease.node.name == node.name:
                    continue
                if self.options.backend == "host-gw" or (near is not None and lease.public in near):
                    routes.append(lease.direct)
                else:
                    routes.append(lease.tunnelled)
                    neighbours.append(lease.neighbour)
                    entries.append(lease.entry)
        return routes, neighbours, entries

    def _leases(self, family: Family) -> list[Lease]:
        leases: list[Lease] = []
        device = self.device_name(family)
        for node in self.state.nodes:
            subnet, public = node.pod_cidr(family), node.address(family)
            if subnet is None or public is None:
                continue
            first, mac = subnet.network_address, vtep_mac(node, family)
            leases.append(
                Lease(
                    node,
                    subnet,
                    public,
                    mac,
                    tunnelled=Route.of(subnet, device, first, onlink=True),
                    direct=Route.of(subnet, self.device, public),
                    neighbour=Neighbour(device, first, mac),
                    entry=FdbEntry(mac, device, dst=public, self_=True),
                )
            )
        return leases

    def sync(self, firewall: Firewall, node: NodeState) -> None:
        """The chains, behind whatever is there already."""
        network, subnet = self.options.network(firewall.family), node.pod_cidr(firewall.family)
        if network is None or subnet is None:
            return
        if self.options.masquerade:
            firewall.create("nat", POSTROUTING)
            firewall.append("nat", "POSTROUTING", f"{MASQ} -j {POSTROUTING}")
            firewall.replace("nat", POSTROUTING, masquerade_rules(network, subnet))
        firewall.create("filter", FORWARD)
        firewall.append("filter", "FORWARD", f"{ACCEPTED} -j {FORWARD}")
        firewall.replace(
            "filter", FORWARD, [f"-s {network} {ACCEPTED} -j ACCEPT", f"-d {network} {ACCEPTED} -j ACCEPT"]
        )


def masquerade_rules(network: Network, subnet: Network) -> list[str]:
    """Pods keep their address within the cluster's pod network and hide behind the node's elsewhere. What kube-proxy
    marked is kube-proxy's to masquerade."""
    outside = MULTICAST[network.version]
    return [
        f"-m mark --mark {KUBE_PROXY_MARK} {MASQ} -j RETURN",
        f"-s {subnet} -d {network} {MASQ} -j RETURN",
        f"-s {network} -d {subnet} {MASQ} -j RETURN",
        f"! -s {network} -d {subnet} {MASQ} -j RETURN",
        f"-s {network} ! -d {outside} {MASQ} -j MASQUERADE --random-fully",
        f"! -s {network} -d {network} {MASQ} -j MASQUERADE --random-fully",
    ]


def vtep_mac(node: NodeState, family: Family) -> int:
    """The MAC address of a node's VXLAN device: the one that the node's annotation states, as flanneld itself
    believes it, else one that follows from the node's name."""
    stated = node.annotations.get(f"flannel.alpha.coreos.com/backend-{'' if family == 4 else 'v6-'}data", "")
    try:
        return mac_number(json.loads(stated)["VtepMAC"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return stable_mac("vtep", node.name, str(family))
