"""The nodes of a completed cluster: those given, those that pods and endpoints name, or some made up."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from dataplane.cluster.addresses import NodeCidrs, make_address
from dataplane.cluster.fields import parse_address
from dataplane.cluster.networks import FIRST_NODE, Networks
from dataplane.cluster.objects import Address, Endpoint, Family, Network, NodeState, Objects, Origin
from dataplane.errors import ManifestError, ModelError

NODES = 3


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key under which node-2 comes before node-10."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"([0-9]+)", name) if part)


def complete_nodes(
    nodes: Sequence[NodeState], objects: Objects, networks: Networks, masks: dict[Family, int]
) -> tuple[NodeState, ...]:
    """The nodes (`name_nodes`) with index, addresses and pod CIDRs of every family.

    Raises ManifestError where two nodes share an address or a pod CIDR, ModelError where a network has no room.
    """
    _check_apart(nodes)
    nodes = _with_addresses(nodes, objects, networks)
    nodes = _with_pod_cidrs(nodes, objects, networks, masks)
    return tuple(replace(node, index=index) for index, node in enumerate(nodes))


def name_nodes(objects: Objects, count: int) -> tuple[list[NodeState], list[str]]:
    """(the nodes in their order, warnings): those given and those that a pod or an endpoint names, whose Node is not
    given; where there are none, `count` are made: `node-1`, `node-2`, ..."""
    warnings: list[str] = []
    known = {node.name for node in objects.nodes}
    named: dict[str, str] = {}
    for node, who in _references(objects):
        if node not in known:
            named[node] = min(who, named.get(node, who))
    if objects.nodes:
        warnings.extend(
            f"Node {name} is not given, {named[name]} names it: added" for name in sorted(named, key=natural)
        )
    elif named:
        warnings.append(f"no Node is given: {len(named)} that pods and endpoints name are added")
    nodes = [*objects.nodes, *map(_created, named)] or [_created(f"node-{number}") for number in range(1, count + 1)]
    # Nodes of a completed cluster keep their place before any that come later.
    last = len(nodes)
    nodes.sort(key=lambda node: (node.index if node.index >= 0 else last, natural(node.name)))
    return nodes, warnings


def _created(name: str) -> NodeState:
    return NodeState(name=name, labels={"kubernetes.io/hostname": name}, created=True)


def _references(objects: Objects) -> Iterator[tuple[str, str]]:
    for pod in objects.pods:
        if pod.node:
            yield pod.node, f"Pod {pod}"
    for piece, endpoints in _stated_endpoints(objects):
        for endpoint in endpoints:
            if endpoint.node:
                yield endpoint.node, piece


def _stated_endpoints(objects: Objects) -> Iterator[tuple[str, tuple[Endpoint, ...]]]:
    for piece in objects.endpoint_slices:
        yield f"EndpointSlice {piece}", piece.endpoints
    for legacy in objects.endpoints:
        for subset in legacy.subsets:
            yield f"Endpoints {legacy.namespace}/{legacy.name}", subset.endpoints


def _check_apart(nodes: Sequence[NodeState]) -> None:
    owners: dict[Address, NodeState] = {}
    networks: list[tuple[int, int, int, NodeState, Network]] = []
    for position, node in enumerate(nodes):
        for address in node.addresses:
            other = owners.setdefault(address, node)
            if other is not node:
                raise _error(
                    node, "status.addresses", f"{address} is the address of Node {other.name} too", other.origin
                )
        for network in node.pod_cidrs:
            networks.append((network.version, int(network.network_address), position, node, network))
    # Sorted by beginning, two networks that overlap are found next to each other.
    networks.sort(key=lambda entry: entry[:3])
    for before, after in pairwise(networks):
        if before[4].overlaps(after[4]):
            first, second = (before, after) if before[2] < after[2] else (after, before)
            raise _error(
                second[3],
                "spec.podCIDR",
                f"{second[4]} overlaps {first[4]} of Node {first[3].name}",
                first[3].origin,
            )


def _error(node: NodeState, path: str, message: str, other: Origin | None) -> ManifestError:
    file, where = (node.origin.file, node.origin.where) if node.origin else ("", "")
    return ManifestError(file, where, f"Node {node.name}: {path}", f"{message} ({other})" if other else message)


def _with_addresses(nodes: Sequence[NodeState], objects: Objects, networks: Networks) -> list[NodeState]:
    hosts: dict[str, dict[Family, Address]] = defaultdict(dict)
    for pod in objects.pods:
        for ip in pod.host_ips:
            if pod.node:
                hosts[pod.node].setdefault(ip.version, ip)
    taken = {address for node in nodes for address in (*node.addresses, *node.external_addresses)}
    taken |= {address for found in hosts.values() for address in found.values()}
    cursors = {
        family: int(network.network_address) + FIRST_NODE
        for family, network in networks.node.items()
        if network.num_addresses > FIRST_NODE
    }
    done = []
    for node in nodes:
        addresses = list(node.addresses)
        for family in networks.families:
            if node.address(family) is not None:
                continue
            stated = hosts[node.name].get(family)
            if stated is None:
                stated = _next_address(node, family, networks.node[family], cursors, taken)
            addresses.append(stated)
        done.append(replace(node, addresses=tuple(addresses)))
    return done


def _next_address(
    node: NodeState, family: Family, network: Network, cursors: dict[Family, int], taken: set[Address]
) -> Address:
    last = int(network.broadcast_address) - (1 if family == 4 else 0)
    value = cursors.get(family, last + 1)
    while value <= last:
        address = make_address(family, value)
        value += 1
        if address not in taken:
            taken.add(address)
            cursors[family] = value
            return address
    raise ModelError(f"no address is left for Node {node.name} in the node subnet {network}: give a larger one")


def _with_pod_cidrs(
    nodes: list[NodeState], objects: Objects, networks: Networks, masks: dict[Family, int]
) -> list[NodeState]:
    for family in networks.families:
        missing = [node for node in nodes if node.pod_cidr(family) is None]
        if not missing:
            continue
        stated = [network for node in nodes if (network := node.pod_cidr(family)) is not None]
        shown = _shown_cidrs(missing, objects, networks.cluster[family], masks[family], stated)
        # The service network and the nodes' own are never given to pods.
        taken = [*stated, *shown.values(), networks.service[family], networks.node[family]]
        allocator = None
        found: dict[str, Network] = {}
        for node in missing:
            network = shown.get(node.name)
            if network is None:
                allocator = allocator or NodeCidrs(networks.cluster[family], masks[family], taken)
                network = allocator.allocate(node.name)
            found[node.name] = network
        nodes = [
            replace(node, pod_cidrs=(*node.pod_cidrs, found[node.name])) if node.name in found else node
            for node in nodes
        ]
    return nodes


def _shown_cidrs(
    missing: list[NodeState], objects: Objects, cluster: Network, mask: int, stated: list[Network]
) -> dict[str, Network]:
    """The pod CIDRs that the addresses of pods and endpoints show: all those of a node are in one network, which has
    none of another node's."""
    if not objects.pods and not objects.endpoint_slices and not objects.endpoints:
        return {}
    size = 1 << (cluster.max_prefixlen - mask)
    blocks: dict[str, set[int]] = defaultdict(set)
    users: dict[int, set[str]] = defaultdict(set)

    def shows(node: str, address: Address) -> None:
        if address.version == cluster.version and address in cluster:
            blocks[node].add(int(address) // size)
            users[int(address) // size].add(node)

    nodes_own = {address for node in missing for address in node.addresses}
    for pod in objects.pods:
        if pod.node and not pod.host_network and not pod.finished:
            for ip in pod.ips:
                shows(pod.node, ip)
    for piece in objects.endpoint_slices:
        if piece.family == cluster.version:
            for endpoint in piece.endpoints:
                if endpoint.node and (address := parse_address(endpoint.address)) not in nodes_own:
                    shows(endpoint.node, address)
    narrow = {int(network.network_address) // size for network in stated if network.prefixlen >= mask}
    wide = [network for network in stated if network.prefixlen < mask]
    shown: dict[str, Network] = {}
    for node in missing:
        (block, *more) = blocks.get(node.name) or (None,)
        if block is None or more or users[block] != {node.name} or block in narrow:
            continue
        network = type(cluster)((block * size, mask))
        if not any(network.overlaps(other) for other in wide):
            shown[node.name] = network
    return shown
