"""Which networks the cluster has: what is asked for, else what the configurations say, else what the objects show."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from dataplane.cluster.fields import parse_address, parse_network
from dataplane.cluster.objects import Address, Family, Network, Objects, Settled
from dataplane.errors import ModelError

# kubeadm's and flannel's for IPv4, kind's for IPv6.
CLUSTER_CIDR: dict[Family, str] = {4: "10.244.0.0/16", 6: "fd00:10:244::/56"}
SERVICE_CIDR: dict[Family, str] = {4: "10.96.0.0/12", 6: "fd00:10:96::/112"}
NODE_SUBNET: dict[Family, str] = {4: "192.168.1.0/24", 6: "fd00:192:168:1::/64"}
# How wide a network is taken at least to be when it is guessed from addresses inside it.
_WIDTH: dict[str, dict[Family, int]] = {
    "cluster": {4: 16, 6: 56},
    "service": {4: 16, 6: 112},
    "node": {4: 24, 6: 64},
}


_WIDEST: dict[Family, int] = {4: 8, 6: 48}
# The nodes' subnet begins with addresses for gateways and the like: node-1 gets the eleventh.
FIRST_NODE = 11


@dataclass(frozen=True, slots=True)
class Networks:
    """One network per family and role; families[0] is the primary family."""

    families: tuple[Family, ...]
    cluster: dict[Family, Network]
    service: dict[Family, Network]
    node: dict[Family, Network]
    service_ranges: tuple[Network, ...] = ()
    """The networks for Services that were asked for or are configured: a ClusterIP outside all of them is an error."""
    warnings: tuple[str, ...] = ()


def choose_networks(
    objects: Objects,
    nodes: int,
    masks: dict[Family, int],
    cluster_cidr: str | None,
    service_cidr: str | None,
    node_subnet: str | None,
    families: Sequence[int] | None,
) -> Networks:
    """nodes: how many there are; masks: prefix length of a node's pod CIDR. Networks that nobody states are made wide
    enough for the nodes. Raises ModelError for arguments that are no networks.
    """
    asked_cluster = _asked("cluster CIDR", cluster_cidr)
    asked_service = _asked("service CIDR", service_cidr)
    asked_node = _asked("node subnet", node_subnet)
    settled = objects.settled
    if settled is None:
        settled = Settled((), (), (), ())
    elif families is None and not asked_cluster:
        families = settled.families
    chosen = _families(objects, families, asked_cluster)
    known_cluster = {**_configured_cluster(objects), **_by_family(settled.cluster_cidrs), **asked_cluster}
    known_node = {**_by_family(settled.node_subnets), **asked_node}
    ranges = tuple(asked_service.values()) or tuple(_service_ranges(objects))
    known_service = {**_by_family(reversed(ranges)), **_by_family(settled.service_cidrs), **asked_service}
    warnings: list[str] = []

    pod_cidrs = [network for node in objects.nodes for network in node.pod_cidrs]
    node_ips = {address for node in objects.nodes for address in node.addresses}
    node_ips.update(ip for pod in objects.pods for ip in pod.host_ips)
    cluster_ips = {ip for service in objects.services for ip in service.cluster_ips}

    cluster: dict[Family, Network] = {}
    service: dict[Family, Network] = {}
    node: dict[Family, Network] = {}
    for family in chosen:
        # Where nodes state their networks these show the cluster's, else the addresses of pods and endpoints do.
        stated = [network for network in pod_cidrs if network.version == family]
        shown = stated or _pod_addresses(objects, family, node_ips)
        cluster[family] = known_cluster.get(family) or _roomy(
            "cluster", _guess("cluster", CLUSTER_CIDR, shown, family, warnings), masks[family], nodes, warnings
        )
        service[family] = known_service.get(family) or _guess("service", SERVICE_CIDR, cluster_ips, family, warnings)
        node[family] = known_node.get(family) or _roomy(
            "node",
            _guess("node", NODE_SUBNET, node_ips, family, warnings),
            128 if family == 6 else 32,
            nodes + FIRST_NODE,
            warnings,
        )
    return Networks(chosen, cluster, service, node, ranges, tuple(warnings))


def _asked(name: str, text: str | None) -> dict[Family, Network]:
    found: dict[Family, Network] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        try:
            network = parse_network(part.strip())
        except ValueError:
            raise ModelError(f'{name} "{part.strip()}" is not a network such as {CLUSTER_CIDR[4]}') from None
        if network.version in found:
            raise ModelError(f'{name} "{text}" holds more than one IPv{network.version} network')
        found[network.version] = network
    return found


def _by_family(networks: Iterable[Network]) -> dict[Family, Network]:
    return {network.version: network for network in networks}


def _families(objects: Objects, asked: Sequence[int] | None, cluster: dict[Family, Network]) -> tuple[Family, ...]:
    if asked is not None:
        if not asked or len(set(asked)) != len(asked) or not set(asked) <= {4, 6}:
            raise ModelError(f"families {tuple(asked)!r} are not (4,), (6,), (4, 6) or (6, 4)")
        return tuple(6 if family == 6 else 4 for family in asked)
    # Nodes show what the cluster has and in which order, else pods; the one that is first most often is the primary.
    shown: list[tuple[Family, ...]] = [tuple(cluster)] if cluster else []
    shown = shown or [tuple(network.version for network in node.pod_cidrs) for node in objects.nodes if node.pod_cidrs]
    shown = shown or [tuple(ip.version for ip in pod.ips) for pod in objects.pods if pod.ips]
    wanted: set[Family] = {family for order in shown for family in order}
    for service in objects.services:
        wanted.update(service.ip_families)
        wanted.update(ip.version for ip in service.cluster_ips)
        if service.ip_family_policy == "RequireDualStack":
            wanted |= {4, 6}
    for pod in objects.pods:
        wanted.update(ip.version for ip in pod.ips)
    first = [order[0] for order in shown]
    primary: Family = 6 if first.count(6) > first.count(4) or wanted == {6} else 4
    other: Family = 4 if primary == 6 else 6
    return (primary, other) if other in wanted else (primary,)


def _pod_addresses(objects: Objects, family: Family, node_ips: Container[Address]) -> list[Address]:
    found = {ip for pod in objects.pods if not pod.host_network for ip in pod.ips if ip.version == family}
    if not found:
        for piece in objects.endpoint_slices:
            if piece.family == family:
                found.update(parse_address(entry.address) for entry in piece.endpoints if entry.node)
    return [ip for ip in found if ip not in node_ips]


def _guess(
    role: str,
    defaults: dict[Family, str],
    shown: Iterable[Network] | Iterable[Address],
    family: Family,
    warnings: list[str],
) -> Network:
    default = parse_network(defaults[family])
    bits = default.max_prefixlen
    first, last, prefix = 1 << bits, 0, _WIDTH[role][family]
    for item in shown:
        if item.version != family:
            continue
        if isinstance(item, IPv4Network | IPv6Network):
            first = min(first, int(item.network_address))
            last = max(last, int(item.broadcast_address))
            prefix = min(prefix, item.prefixlen)
        else:
            first, last = min(first, int(item)), max(last, int(item))
    if first > last or (int(default.network_address) <= first and last <= int(default.broadcast_address)):
        return default
    while prefix and first >> (bits - prefix) != last >> (bits - prefix):
        prefix -= 1
    if prefix < _WIDEST[family]:
        warnings.append(f"the {role} network of IPv{family} is not stated and its addresses lie far apart: {default}")
        return default
    guess = type(default)((first >> (bits - prefix) << (bits - prefix), prefix))
    warnings.append(f"the {role} network of IPv{family} is not stated, it is taken to be {guess}")
    return guess


def _roomy(role: str, network: Network, mask: int, count: int, warnings: list[str]) -> Network:
    """The network, or the smallest one around it that has `count` networks of /mask and a quarter to spare."""
    wide = network
    while wide.prefixlen > _WIDEST[wide.version] and 1 << max(0, mask - wide.prefixlen) < count * 5 // 4:
        wide = wide.supernet()
    if wide != network:
        warnings.append(f"the {role} network {network} is too small for the nodes, it is taken to be {wide}")
    return wide


def _config(objects: Objects, kind: str) -> Any:
    return next((config.data for config in reversed(objects.configs) if config.kind == kind), {})


def _networks(text: Any) -> dict[Family, Network]:
    """The networks of a configuration's text; what does not parse is the business of the agent that reads it."""
    found: dict[Family, Network] = {}
    for part in text.split(",") if isinstance(text, str) else ():
        try:
            network = parse_network(part.strip())
        except ValueError:
            continue
        found.setdefault(network.version, network)
    return found


def _configured_cluster(objects: Objects) -> dict[Family, Network]:
    networking = _config(objects, "ClusterConfiguration").get("networking")
    flannel = _config(objects, "net-conf.json")
    return {
        **_networks(flannel.get("IPv6Network")),
        **_networks(flannel.get("Network")),
        **_networks(_config(objects, "KubeProxyConfiguration").get("clusterCIDR")),
        **(_networks(networking.get("podSubnet")) if isinstance(networking, dict) else {}),
    }


def _service_ranges(objects: Objects) -> list[Network]:
    """kubeadm's networks for Services, else those of the ServiceCIDR objects, which may be several."""
    networking = _config(objects, "ClusterConfiguration").get("networking")
    if isinstance(networking, dict) and networking.get("serviceSubnet"):
        return list(_networks(networking["serviceSubnet"]).values())
    found: list[Network] = []
    for config in objects.configs:
        if config.kind == "ServiceCIDR":
            found += _networks(",".join(config.data["spec"]["cidrs"])).values()
    return found
