"""The pods of a completed cluster: those given, those that workloads and endpoints call for; bound, with addresses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from dataplane.cluster.addresses import HostLocal
from dataplane.cluster.fields import parse_address
from dataplane.cluster.networks import Networks
from dataplane.cluster.objects import Address, Endpoint, Family, NodeState, Objects, PodSpec, PodState
from dataplane.cluster.scheduling import RoundRobin, daemon_tolerations, takes
from dataplane.cluster.workloads import Key, Maker, daemon_pod, wanted_pods
from dataplane.errors import ManifestError


class _Entry:
    """A pod on its way to completion: what changes is kept beside it, for one new value at the end."""

    __slots__ = ("daemon", "ips", "key", "node", "pending", "pod", "started")

    def __init__(self, key: Key, pod: PodState, daemon: bool = False) -> None:
        self.key = key
        self.pod = pod
        self.daemon = daemon
        self.node = pod.node
        self.ips = pod.ips
        self.started = False
        self.pending = False

    def done(self) -> PodState:
        pod = self.pod
        phase, ready = pod.phase, pod.ready
        if self.pending:
            phase, ready = "Pending", False
        elif self.started and phase == "Pending":
            phase, ready = "Running", True
        elif self.node == pod.node and self.ips == pod.ips:
            return pod
        # dataclasses.replace takes five times as long, and there are as many of these as pods.
        return PodState(
            namespace=pod.namespace,
            name=pod.name,
            spec=pod.spec,
            node=self.node,
            ips=self.ips,
            host_ips=pod.host_ips,
            labels=pod.labels,
            annotations=pod.annotations,
            phase=phase,
            ready=ready,
            terminating=pod.terminating,
            owner=pod.owner,
            created=pod.created,
            origin=pod.origin,
            manifest=pod.manifest,
        )


@dataclass(slots=True)
class CompletedPods:
    pods: tuple[PodState, ...]
    """By (namespace, name)."""
    nodes: tuple[NodeState, ...]
    """With the last address that each gave out."""
    warnings: list[str] = field(default_factory=list)


def complete_pods(objects: Objects, nodes: Sequence[NodeState], networks: Networks) -> CompletedPods:
    """Create, bind and address pods in the order (namespace, name of the workload or the bare pod, kind, ordinal).

    Raises ManifestError where two pods, or a pod and a node, share an address.
    """
    warnings: list[str] = []
    by_name = {node.name: node for node in nodes}
    given = [_placed(pod, nodes) for pod in objects.pods]
    owners = _check_apart(given, nodes)
    entries = [_Entry((pod.namespace, pod.name, "", 0), pod, _is_daemon(pod)) for pod in given]
    entries += _pods_of_endpoints(objects, nodes, owners, warnings)

    wanted, daemons = wanted_pods(objects.workloads, [entry.pod for entry in entries])
    names: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        names[entry.pod.namespace].add(entry.pod.name)
    for want in wanted:
        names[want.pod.namespace].add(want.pod.name)
    for daemon in daemons:
        spec = daemon.workload.template.spec
        tolerations = daemon_tolerations(spec)
        for node in nodes:
            if node.name in daemon.nodes or not takes(node, spec, tolerations):
                continue
            if not spec.node_name or spec.node_name == node.name:
                pod = daemon_pod(daemon, node.name, names[daemon.workload.namespace])
                entries.append(_Entry((*daemon.key[:3], node.index), pod, daemon=True))
    entries += [_Entry(want.key, want.pod) for want in wanted]
    entries.sort(key=lambda entry: entry.key)

    _bind(entries, nodes, warnings)
    reserved = _address(entries, by_name, networks, set(owners), warnings)
    pods = sorted((entry.done() for entry in entries), key=lambda pod: (pod.namespace, pod.name))
    nodes = tuple(replace(node, last_reserved=reserved.get(node.name, node.last_reserved)) for node in nodes)
    return CompletedPods(tuple(pods), nodes, warnings)


def _is_daemon(pod: PodState) -> bool:
    return pod.owner is not None and pod.owner.kind == "DaemonSet"


def _placed(pod: PodState, nodes: Sequence[NodeState]) -> PodState:
    """A pod that states an address and no node runs where that address belongs."""
    if pod.node is None and pod.ips and not pod.finished:
        for node in nodes:
            if any(pod.ips[0] in network for network in node.pod_cidrs) or (
                pod.host_network and pod.ips[0] in node.addresses
            ):
                return replace(pod, node=node.name)
    return pod


def _check_apart(pods: Iterable[PodState], nodes: Iterable[NodeState]) -> dict[Address, PodState | NodeState]:
    """Who has which address; no pod has another's, except those of the host's network."""
    owners: dict[Address, PodState | NodeState] = {address: node for node in nodes for address in node.addresses}
    for pod in pods:
        if pod.host_network or pod.finished:
            continue
        for ip in pod.ips:
            other = owners.setdefault(ip, pod)
            if other is pod:
                continue
            who = f"Pod {other}" if isinstance(other, PodState) else f"Node {other.name}"
            file, where = (pod.origin.file, pod.origin.where) if pod.origin else ("", "")
            place = f" ({other.origin})" if other.origin else ""
            path = "status.podIPs" if len(pod.ips) > 1 else "status.podIP"
            raise ManifestError(file, where, f"Pod {pod}: {path}", f"{ip} is the address of {who} too{place}")
    return owners


def _pods_of_endpoints(
    objects: Objects, nodes: Sequence[NodeState], owners: dict[Address, PodState | NodeState], warnings: list[str]
) -> list[_Entry]:
    """The pods that stated endpoints imply: an endpoint with a node, or inside a node's pod CIDR, is a pod there even
    if its Pod is not given. Without it the traffic would lead nowhere."""
    given = {(pod.namespace, pod.name) for pod in objects.pods}
    blocks = {
        (network.version, network.prefixlen, int(network.network_address)): node.name
        for node in nodes
        for network in node.pod_cidrs
    }
    masks = {(version, prefix) for version, prefix, _ in blocks}
    known = {node.name for node in nodes}
    made: dict[tuple[str, str], PodState] = {}
    maker = Maker(objects.workloads)
    bare = PodSpec(containers=("endpoint",))

    def owner_of(address: Address) -> str | None:
        for version, prefix in masks:
            if version == address.version:
                shift = address.max_prefixlen - prefix
                found = blocks.get((version, prefix, int(address) >> shift << shift))
                if found is not None:
                    return found
        return None

    def imply(namespace: str, service: str, endpoint: Endpoint) -> None:
        address = parse_address(endpoint.address)
        if address in owners:
            return
        node = endpoint.node if endpoint.node in known else owner_of(address)
        if node is None:
            return
        target = endpoint.target
        if target is not None and target.kind == "Pod":
            key = (target.namespace or namespace, target.name)
        else:
            key = (namespace, f"{service}-{endpoint.address.replace('.', '-').replace(':', '-').strip('-')}")
        if key in given:
            return
        pod = made.get(key)
        if pod is not None:
            if pod.ip(address.version) is None:
                made[key] = owners[address] = replace(pod, ips=(*pod.ips, address))
            return
        like = maker.pod(*key)
        made[key] = owners[address] = PodState(
            namespace=key[0],
            name=key[1],
            spec=like.spec if like is not None else bare,
            node=node,
            ips=(address,),
            labels=like.labels if like is not None else {},
            annotations=like.annotations if like is not None else {},
            ready=endpoint.serving,
            terminating=endpoint.terminating,
            owner=like.owner if like is not None else None,
            created=True,
        )

    for piece in sorted(objects.endpoint_slices, key=lambda piece: (piece.namespace, piece.name)):
        if piece.family is not None:
            for endpoint in piece.endpoints:
                imply(piece.namespace, piece.service or piece.name, endpoint)
    for legacy in sorted(objects.endpoints, key=lambda legacy: (legacy.namespace, legacy.name)):
        for subset in legacy.subsets:
            for endpoint in subset.endpoints:
                imply(legacy.namespace, legacy.name, endpoint)
    if made:
        warnings.append(f"{len(made)} endpoints name no Pod that is given: pods are made for them")
    return [_Entry((namespace, name, "", 0), pod) for (namespace, name), pod in made.items()]


def _bind(entries: list[_Entry], nodes: Sequence[NodeState], warnings: list[str]) -> None:
    turns = RoundRobin(nodes)
    index = {node.name: node.index for node in nodes}
    for entry in entries:
        if entry.node is not None and not entry.pod.finished:
            turns.count(index[entry.node], turn=not entry.daemon)
    waiting: dict[tuple[str, str], list[PodState]] = {}
    for entry in entries:
        pod = entry.pod
        if pod.node is not None or pod.finished or _stays_pending(pod):
            continue
        bound = turns.bind(pod.spec)
        if bound is not None:
            entry.node = nodes[bound].name
            entry.started = True
            continue
        entry.pending = True
        why = (f"{pod.owner.kind} {pod.namespace}/{pod.owner.name}" if pod.owner else "", turns.reason(pod.spec))
        waiting.setdefault(why, []).append(pod)
    for (owner, reason), pods in waiting.items():
        who = f"Pod {pods[0]} stays" if len(pods) == 1 or not owner else f"{len(pods)} pods of {owner} stay"
        more = f" ({len(pods)} pods)" if len(pods) > 1 and not owner else ""
        warnings.append(f"{who} Pending: {reason}{more}")


def _stays_pending(pod: PodState) -> bool:
    """A dump that says Pending is believed; a manifest without a status is not a dump."""
    status = pod.manifest.get("status")
    return isinstance(status, dict) and status.get("phase") == "Pending"


def _address(
    entries: list[_Entry],
    nodes: dict[str, NodeState],
    networks: Networks,
    owned: set[Address],
    warnings: list[str],
) -> dict[str, tuple[Address, ...]]:
    taken: dict[Family, set[int]] = {4: set(), 6: set()}
    for held in owned:
        taken[held.version].add(int(held))
    stores: dict[tuple[str, Family], HostLocal] = {}
    outside: list[PodState] = []
    for entry in entries:
        pod = entry.pod
        if entry.node is None or pod.finished:
            continue
        node = nodes[entry.node]
        if pod.ips:
            if not pod.host_network and not all(_inside(ip, node) for ip in pod.ips):
                outside.append(pod)
            continue
        if _stays_pending(pod):
            continue
        if pod.host_network:
            found = (node.address(family) for family in networks.families)
            entry.ips = tuple(address for address in found if address is not None)
            continue
        ips: list[Address] = []
        for family in networks.families:
            store = stores.get((node.name, family))
            if store is None:
                store = stores[node.name, family] = _store(node, family, taken)
            ip = store.allocate()
            if ip is None:
                break
            ips.append(ip)
        if len(ips) == len(networks.families):
            entry.ips = tuple(ips)
            entry.started = True
        else:
            entry.pending = True
            warnings.append(f"Pod {pod} stays Pending: no address is left in the pod CIDR of Node {node.name}")
    if outside:
        warnings.append(
            f"{len(outside)} pods have an address outside the pod CIDR of their node, the first is {outside[0]}"
        )
    reserved: dict[str, tuple[Address, ...]] = {}
    for (name, _), store in stores.items():
        if (last := store.last_reserved) is not None:
            reserved[name] = (*reserved.get(name, ()), last)
    return reserved


def _store(node: NodeState, family: Family, taken: dict[Family, set[int]]) -> HostLocal:
    network = node.pod_cidr(family)
    assert network is not None  # complete_nodes has given every node one of each family
    last = next((address for address in node.last_reserved if address.version == family), None)
    return HostLocal(network, taken[family], last)


def _inside(ip: Address, node: NodeState) -> bool:
    network = node.pod_cidr(ip.version)
    return network is not None and ip in network
