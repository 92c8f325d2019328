"""What the endpointslice controller does when pods and Services change: it edits the slices that there are.

Slices of Services without a selector are nobody's but their author's, and stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dataplane.cluster.objects import (
    ClusterState,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Family,
    PodState,
    ServiceState,
)
from dataplane.cluster.slices import CONTROLLER, PER_SLICE, PodIndex, build, endpoint_of, resolved_ports, slice_of
from dataplane.cluster.topology_hints import Zones, asked_for, hinted

Key = tuple[str, str]  # namespace, name
Pods = Mapping[Key, PodState]


def changed_pods(before: ClusterState, after: ClusterState) -> dict[Key, tuple[PodState | None, PodState | None]]:
    """The pods that came, went or are in another state: (before, after), None where there is none."""
    old = {(pod.namespace, pod.name): pod for pod in before.pods}
    found: dict[Key, tuple[PodState | None, PodState | None]] = {}
    for pod in after.pods:
        key = (pod.namespace, pod.name)
        known = old.pop(key, None)
        if known is not pod and known != pod:
            found[key] = known, pod
    found.update({key: (pod, None) for key, pod in old.items()})
    return found


def reconciled(
    before: ClusterState, after: ClusterState, given: Iterable[EndpointSlice] = (), removed: Iterable[Key] = ()
) -> ClusterState:
    """`after` with the slices of `before`, edited for every pod and Service that has changed between them.

    given: slices that were applied. removed: namespace and name of those that were deleted.
    """
    zones = Zones.of(after.nodes)
    changes = changed_pods(before, after)
    taken = {(piece.namespace, piece.name): piece for piece in given}
    gone = set(removed)
    of_service: dict[Key, list[EndpointSlice]] = {}
    alone: list[EndpointSlice] = []
    for piece in before.slices:
        key = (piece.namespace, piece.name)
        if key in taken or key in gone:
            continue
        if piece.service:
            of_service.setdefault((piece.namespace, piece.service), []).append(piece)
        else:
            alone.append(piece)
    index: PodIndex | None = None
    result: dict[Key, tuple[EndpointSlice, ...]] = {}
    for service in after.services:
        key = (service.namespace, service.name)
        mine = of_service.pop(key, [])
        known = before.service(*key)
        if service.selector and service.type != "ExternalName":
            if known is None or _selects_otherwise(known, service):
                index = index or PodIndex(after.pods)
                pods = index.select(service.namespace, service.selector)
                mine, _ = build(service, pods, service.ip_families, zones)
            elif changes:
                mine = edited(service, mine, changes, zones)
        mine += [piece for piece in taken.values() if (piece.namespace, piece.service) == key]
        result[key] = tuple(sorted(mine, key=lambda piece: piece.name))
    for key, pieces in of_service.items():
        known = before.service(*key)
        # With its Service the controller's slices go, by their owner reference; those that somebody wrote stay.
        kept = [piece for piece in pieces if known is None or not (known.selector or piece.created)]
        kept += [piece for piece in taken.values() if (piece.namespace, piece.service) == key]
        if kept:
            result[key] = tuple(sorted(kept, key=lambda piece: piece.name))
    alone += [piece for piece in taken.values() if not piece.service]
    for piece in taken.values():
        if piece.service and (piece.namespace, piece.service) not in result:
            result[piece.namespace, piece.service] = (piece,)
    everything = sorted(
        [*alone, *(piece for found in result.values() for piece in found)],
        key=lambda piece: (piece.namespace, piece.name),
    )
    return replace(after, slices=tuple(everything), endpoints=result)


def _selects_otherwise(before: ServiceState, after: ServiceState) -> bool:
    def asked(service: ServiceState) -> object:
        ports = tuple((port.name, port.protocol, port.target, port.app_protocol) for port in service.ports)
        return (
            service.selector,
            ports,
            service.ip_families,
            service.publish_not_ready_addresses,
            service.traffic_distribution,
            service.labels,
            service.headless,
        )

    return asked(before) != asked(after)


def edited(
    service: ServiceState,
    slices: Sequence[EndpointSlice],
    changes: Mapping[Key, tuple[PodState | None, PodState | None]],
    zones: Zones,
) -> list[EndpointSlice]:
    """The slices of a Service with a selector after some pods have changed."""
    made = list(slices)
    for old, new in changes.values():
        pod = new or old
        if pod is None or pod.namespace != service.namespace:
            continue
        for family in service.ip_families:
            made = _edited(service, made, old, new, family, zones)
    # Hints that were given stay where the nodes do not say enough to give them.
    if asked_for(service) and zones.known and made != list(slices):
        for family in service.ip_families:
            again, _ = hinted([piece for piece in made if piece.family == family], zones)
            pieces = iter(again)
            made = [next(pieces) if piece.family == family else piece for piece in made]
    return made


def _edited(
    service: ServiceState,
    slices: list[EndpointSlice],
    old: PodState | None,
    new: PodState | None,
    family: Family,
    zones: Zones,
) -> list[EndpointSlice]:
    before = old.ip(family) if old is not None else None
    after = new.ip(family) if new is not None and not new.finished else None
    place = None
    if before is not None:
        text = str(before)
        place = next(
            (
                (number, at)
                for number, piece in enumerate(slices)
                if piece.family == family
                for at, endpoint in enumerate(piece.endpoints)
                if endpoint.address == text
            ),
            None,
        )
    selected = new is not None and service.selector.items() <= new.labels.items()
    # An endpoint whose pod nobody described bears no labels; it was selected before, so it is still.
    if new is not None and place is not None and old is not None and old.labels == new.labels:
        selected = True
    wanted: Endpoint | None = None
    ports: tuple[EndpointPort, ...] = ()
    if new is not None and after is not None and selected:
        wanted = endpoint_of(service, new, str(after), zones)
        ports = resolved_ports(service, new)
    if place is not None:
        number, at = place
        piece = slices[number]
        same = before == after and (
            piece.ports == ports or (old is not None and new is not None and old.spec == new.spec)
        )
        if wanted is not None and same:
            kept = piece.endpoints[at]
            wanted = replace(wanted, target=kept.target or wanted.target, hostname=kept.hostname or wanted.hostname)
            return _with(slices, number, (*piece.endpoints[:at], wanted, *piece.endpoints[at + 1 :]))
        slices = _with(slices, number, (*piece.endpoints[:at], *piece.endpoints[at + 1 :]))
    if wanted is None:
        return slices
    for number, piece in enumerate(slices):
        if (
            piece.family == family
            and len(piece.endpoints) < PER_SLICE
            and (piece.ports == ports or not piece.endpoints)
        ):
            slices = _with(slices, number, (*piece.endpoints, wanted))
            if not piece.endpoints:
                slices[number] = replace(slices[number], ports=ports)
            return slices
    kind = "IPv4" if family == 4 else "IPv6"
    names = {piece.name for piece in slices}
    number = 0
    while (fresh := slice_of(service, kind, number, ports, (wanted,), CONTROLLER, service.labels)).name in names:
        number += 1
    return [*slices, fresh]


def _with(slices: Sequence[EndpointSlice], number: int, endpoints: tuple[Endpoint, ...]) -> list[EndpointSlice]:
    made = list(slices)
    made[number] = replace(made[number], endpoints=endpoints)
    return made
