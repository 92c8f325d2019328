"""EndpointSlices: those given, those that the endpointslice controller builds from a Service's selector, and those
that mirror an Endpoints object."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dataplane.cluster.endpoints import HEADLESS, TOPOLOGY_AWARE_HINTS, TOPOLOGY_MODE
from dataplane.cluster.fields import parse_address
from dataplane.cluster.objects import (
    SERVICE_NAME,
    ClusterState,
    Endpoint,
    EndpointPort,
    Endpoints,
    EndpointSlice,
    Family,
    NodeState,
    NotModelled,
    PodState,
    ServiceState,
    Subset,
    TargetRef,
)
from dataplane.cluster.topology_hints import Zones, asked_for, hinted
from dataplane.cluster.workloads import word
from dataplane.errors import ManifestError

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
MIRROR = "endpointslicemirroring-controller.k8s.io"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
# Endpoints in a slice at most, as the controllers are set up; the API allows 1000. Mirrored are 1000 of a subset.
PER_SLICE = 100
MIRRORED = 1000

Ports = tuple[EndpointPort, ...]


class PodIndex:
    """The pods of a completed cluster by namespace and label, so that a selector touches few."""

    def __init__(self, pods: Iterable[PodState]) -> None:
        self._by_label: dict[tuple[str, str, str], list[PodState]] = defaultdict(list)
        for pod in pods:
            if not pod.finished and pod.ips:
                for key, value in pod.labels.items():
                    self._by_label[pod.namespace, key, value].append(pod)

    def select(self, namespace: str, selector: Mapping[str, str]) -> Sequence[PodState]:
        """The pods with an address that bear every label of a (not empty) selector, by name."""
        lists = [self._by_label.get((namespace, key, value), []) for key, value in selector.items()]
        shortest = min(lists, key=len)
        if len(lists) == 1 or not shortest:
            return shortest
        wanted = selector.items()
        return [pod for pod in shortest if all(pod.labels.get(key) == value for key, value in wanted)]


def complete_slices(
    services: Sequence[ServiceState],
    pods: Sequence[PodState],
    nodes: Sequence[NodeState],
    given: Sequence[EndpointSlice],
    legacy: Sequence[Endpoints],
) -> tuple[tuple[EndpointSlice, ...], dict[tuple[str, str], tuple[EndpointSlice, ...]], list[NotModelled]]:
    """(all slices by (namespace, name), the slices of each Service, fields that have no effect).

    A Service that has slices keeps them. Else its Endpoints object is mirrored; else, and for families that the
    Endpoints object lacks, they are built from the selector. Raises ManifestError where a targetPort names a port that
    none of the selected pods has.
    """
    zones = Zones.of(nodes)
    index = PodIndex(pods)
    of_service: dict[tuple[str, str], list[EndpointSlice]] = {(s.namespace, s.name): [] for s in services}
    for piece in given:
        if piece.service:
            of_service.setdefault((piece.namespace, piece.service), []).append(piece)
    objects = {(entry.namespace, entry.name): entry for entry in legacy}
    everything = list(given)
    not_modelled: list[NotModelled] = []
    for service in services:
        key = (service.namespace, service.name)
        mine = of_service[key]
        if mine or service.type == "ExternalName":
            continue
        entry = objects.get(key)
        if entry is not None:
            mine.extend(mirror(service, entry))
        if service.selector:
            present = {piece.family for piece in mine}
            families = [family for family in service.ip_families if family not in present]
            if families:
                built, why = build(service, index.select(service.namespace, service.selector), families, zones)
                mine.extend(built)
                if why:
                    not_modelled.append(_no_hints(service, why))
        everything.extend(mine)
    everything.sort(key=lambda piece: (piece.namespace, piece.name))
    ordered = {key: tuple(sorted(found, key=lambda piece: piece.name)) for key, found in of_service.items()}
    return tuple(everything), ordered, not_modelled


def _no_hints(service: ServiceState, why: str) -> NotModelled:
    name = TOPOLOGY_AWARE_HINTS if TOPOLOGY_AWARE_HINTS in service.annotations else TOPOLOGY_MODE
    return NotModelled(f"Service {service}", f"metadata.annotations[{name}]", f"the controller gives no hints: {why}")


def build(
    service: ServiceState, pods: Sequence[PodState], families: Iterable[Family], zones: Zones
) -> tuple[list[EndpointSlice], str]:
    """(the slices of the endpointslice controller, why there are no hints where they are asked for)."""
    _check_targets(service, pods)
    made: list[EndpointSlice] = []
    reason = ""
    for family in families:
        pieces = list(_built(service, pods, family, zones))
        if asked_for(service):
            pieces, why = hinted(pieces, zones)
            reason = reason or why
        made += pieces
    return made, reason


def _built(service: ServiceState, pods: Sequence[PodState], family: Family, zones: Zones) -> Iterator[EndpointSlice]:
    """Of one family: per set of resolved ports, PER_SLICE endpoints each.

    serving is the pod's readiness, terminating its deletion; ready is serving and not terminating, or always where
    unready addresses are to be published. Without any endpoint there is one empty slice.
    """
    resolved: dict[int, Ports] = {}
    groups: dict[Ports, list[Endpoint]] = {}
    for pod in pods:
        address = pod.ip(family)
        if address is None:
            continue
        ports = resolved.get(id(pod.spec))
        if ports is None:
            ports = resolved[id(pod.spec)] = resolved_ports(service, pod)
        groups.setdefault(ports, []).append(endpoint_of(service, pod, str(address), zones))
    kind = "IPv4" if family == 4 else "IPv6"
    number = 0
    for ports, endpoints in groups.items() or [((), [])]:
        for first in range(0, max(1, len(endpoints)), PER_SLICE):
            piece = tuple(endpoints[first : first + PER_SLICE])
            yield slice_of(service, kind, number, ports, piece, CONTROLLER, service.labels)
            number += 1


def _check_targets(service: ServiceState, pods: Sequence[PodState]) -> None:
    if not pods:
        return
    for index, port in enumerate(service.ports):
        if isinstance(port.target, str):
            specs = {id(pod.spec): pod.spec for pod in pods}.values()
            if not any(spec.port_number(port.target, port.protocol) for spec in specs):
                names = sorted({f"{there.name} ({there.protocol})" for s in specs for there in s.ports if there.name})
                has = f"they have {', '.join(names)}" if names else "they name none"
                file, where = (service.origin.file, service.origin.where) if service.origin else ("", "")
                raise ManifestError(
                    file,
                    where,
                    f"Service {service}: spec.ports[{index}].targetPort",
                    f'no pod that it selects has a {port.protocol} port named "{port.target}": {has}',
                )


def resolved_ports(service: ServiceState, pod: PodState) -> Ports:
    """The ports of an endpoint; one whose name the pod does not have is left out."""
    ports = []
    for port in service.ports:
        target = port.target
        number = target if isinstance(target, int) else pod.spec.port_number(target, port.protocol)
        if number:
            ports.append(EndpointPort(port.name, port.protocol, number, port.app_protocol))
    return tuple(ports)


def endpoint_of(service: ServiceState, pod: PodState, address: str, zones: Zones) -> Endpoint:
    """The entry of a pod."""
    node = pod.node or ""
    zone = zones.of_node.get(node, "")
    ready = service.publish_not_ready_addresses or (pod.ready and not pod.terminating)
    near = bool(service.traffic_distribution) and ready and not asked_for(service)
    return Endpoint(
        address=address,
        ready=ready,
        serving=pod.ready,
        terminating=pod.terminating,
        node=node,
        zone=zone,
        hostname=pod.spec.hostname if pod.spec.hostname and pod.spec.subdomain == service.name else "",
        target=TargetRef("Pod", pod.namespace, pod.name),
        zone_hints=(zone,) if near and zone else (),
        node_hints=(node,) if near and service.traffic_distribution == "PreferSameNode" else (),
    )


def slice_of(
    service: ServiceState,
    kind: str,
    number: int,
    ports: Ports,
    endpoints: tuple[Endpoint, ...],
    manager: str,
    labels: Mapping[str, str],
) -> EndpointSlice:
    own = {SERVICE_NAME: service.name, MANAGED_BY: manager}
    if service.headless:
        own[HEADLESS] = ""
    return EndpointSlice(
        namespace=service.namespace,
        name=f"{service.name}-{word(5, 'EndpointSlice', service.namespace, service.name, kind, number)}",
        address_type=kind,
        ports=ports,
        endpoints=endpoints,
        labels={**labels, **own},
        created=True,
    )


def mirror(service: ServiceState, legacy: Endpoints) -> Iterator[EndpointSlice]:
    """The slices of an Endpoints object: per subset and family, for the Service of the same name.

    Where the Service has a selector the object stands for what the controller has found; else it is written by hand,
    and not mirrored if its label says so or if it is a leader election's lock.
    """
    if not service.selector and (legacy.labels.get(SKIP_MIRROR) == "true" or LEADER in legacy.annotations):
        return
    manager = CONTROLLER if service.selector else MIRROR
    number = 0
    for subset in legacy.subsets:
        for family, kind in ((4, "IPv4"), (6, "IPv6")):
            endpoints = [e for e in subset.endpoints[:MIRRORED] if parse_address(e.address).version == family]
            for first in range(0, len(endpoints), PER_SLICE):
                piece = tuple(endpoints[first : first + PER_SLICE])
                yield slice_of(service, kind, number, subset.ports, piece, manager, legacy.labels)
                number += 1


def endpoints_objects(state: ClusterState) -> list[Endpoints]:
    """The Endpoints objects of the cluster by (namespace, name): those given, and what the endpoints controller keeps
    for the other Services, from their slices of the primary family."""
    given = {(entry.namespace, entry.name): entry for entry in state.legacy_endpoints}
    for service in state.services:
        key = (service.namespace, service.name)
        slices = [piece for piece in state.endpoints.get(key, ()) if piece.family is not None]
        if key in given or service.type == "ExternalName" or not (slices or service.selector):
            continue
        family = service.ip_families[0] if service.ip_families else 4
        given[key] = _as_endpoints(service, [piece for piece in slices if piece.family == family])
    return [given[key] for key in sorted(given)]


def _as_endpoints(service: ServiceState, slices: Sequence[EndpointSlice]) -> Endpoints:
    groups: dict[Ports, dict[str, Endpoint]] = {}
    for piece in slices:
        for endpoint in piece.endpoints:
            # Terminating pods are not in Endpoints objects, unless unready addresses are.
            if not endpoint.terminating or service.publish_not_ready_addresses:
                ports = tuple(port for port in piece.ports if port.port)
                groups.setdefault(ports, {}).setdefault(endpoint.address, endpoint)
    subsets = [
        Subset(tuple(group[address] for address in sorted(group)), ports) for ports, group in groups.items() if group
    ]
    subsets.sort(key=lambda subset: subset.endpoints[0].address)
    return Endpoints(service.namespace, service.name, tuple(subsets), labels=dict(service.labels))
