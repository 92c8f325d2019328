"""Topology Aware Routing: the zones for which the endpointslice controller hints the endpoints of a Service.

Each zone is to have endpoints in proportion to the CPUs of its nodes: an endpoint is hinted for its own zone, and zones
that have more than their share give some to those that have less. Where that cannot be had without overloading anybody
by more than a fifth, nobody is hinted. Zones of equal need, between which the true controller chooses by chance, come by
their names; slices that did not change are hinted anew as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from dataplane.cluster.endpoints import TOPOLOGY_AWARE_HINTS, TOPOLOGY_MODE
from dataplane.cluster.objects import EndpointSlice, NodeState, ServiceState

OVERLOAD = 0.2
CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_CPU = re.compile(r"(\d+(?:\.\d+)?)(m?)")


@dataclass(frozen=True, slots=True)
class Zones:
    """of_node: node -> its zone, "" for none. shares: zone -> its part of all CPUs; empty where hints cannot be given.
    why: they cannot. known: the nodes say what it takes to know."""

    of_node: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    known: bool = True

    @classmethod
    def of(cls, nodes: Iterable[NodeState]) -> Zones:
        """Nodes of the control plane and those that are not ready do not count."""
        nodes = list(nodes)
        of_node = {node.name: node.zone for node in nodes}
        cpus: dict[str, float] = {}
        for node in nodes:
            if not node.ready or any(label in node.labels for label in CONTROL_PLANE):
                continue
            cpu = allocatable(node)
            if not node.zone or not cpu:
                missing = "zone" if not node.zone else "allocatable CPU"
                return cls(of_node, {}, f"Node {node.name} has no {missing}", known=False)
            cpus[node.zone] = cpus.get(node.zone, 0) + cpu
        if len(cpus) < 2:
            return cls(of_node, {}, "there are not two zones with ready nodes")
        total = sum(cpus.values())
        return cls(of_node, {zone: cpus[zone] / total for zone in sorted(cpus)})


def allocatable(node: NodeState) -> float:
    """CPUs; 0 where the manifest does not state them (status.allocatable.cpu: 4, "3920m")."""
    status = node.manifest.get("status")
    stated = status.get("allocatable") if isinstance(status, dict) else None
    parts = _CPU.fullmatch(str(stated.get("cpu", ""))) if isinstance(stated, dict) else None
    return float(parts[1]) / (1000 if parts[2] else 1) if parts else 0.0


def asked_for(service: ServiceState) -> bool:
    """Whether the annotation asks the controller for hints; a proxy takes other values for a yes, too."""
    annotations = service.annotations
    return annotations.get(TOPOLOGY_AWARE_HINTS, annotations.get(TOPOLOGY_MODE, "")) in ("Auto", "auto")


def hinted(slices: Sequence[EndpointSlice], zones: Zones) -> tuple[list[EndpointSlice], str]:
    """(the slices of one Service and family with their hints, why there are none or "")."""
    ready = [endpoint for piece in slices for endpoint in piece.endpoints if endpoint.ready]
    desired, why = _desired(len(ready), zones)
    if not why and not all(endpoint.zone for endpoint in ready):
        why = "an endpoint has no zone"
    if why:
        return [_with_hints(piece, {}) for piece in slices], why
    counts: dict[str, int] = {}
    for endpoint in ready:
        counts[endpoint.zone] = counts.get(endpoint.zone, 0) + 1
    giving, receiving = _moves(desired, counts)
    hints: dict[str, str] = {}
    for endpoint in ready:
        zone = endpoint.zone
        if giving.get(zone) and (takers := sorted(name for name, number in receiving.items() if number)):
            giving[zone] -= 1
            zone = takers[0]
            receiving[zone] -= 1
        hints[endpoint.address] = zone
    return [_with_hints(piece, hints) for piece in slices], ""


def _desired(count: int, zones: Zones) -> tuple[dict[str, float], str]:
    """zone -> how many of the endpoints it should have."""
    if not zones.shares:
        return {}, zones.why
    if len(zones.shares) > count:
        return {}, f"{count} endpoints for {len(zones.shares)} zones"
    least = {zone: ceil(share * count * (1 / (1 + OVERLOAD))) for zone, share in zones.shares.items()}
    if sum(least.values()) > count:
        return {}, f"{count} endpoints cannot be shared out without overloading a zone"
    return {zone: max(share * count, least[zone]) for zone, share in zones.shares.items()}, ""


def _moves(desired: Mapping[str, float], counts: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """(zone -> endpoints it gives away, zone -> endpoints it gets)."""
    surplus = {zone: counts.get(zone, 0) - target for zone, target in desired.items()}
    spare = {zone: number for zone, number in surplus.items() if number > 0}
    need = {zone: -number for zone, number in surplus.items() if number < 0}
    giving: dict[str, int] = {}
    receiving: dict[str, int] = {}
    while spare and need:
        giver, taker = max(spare, key=spare.__getitem__), max(need, key=need.__getitem__)
        if spare[giver] < 0.5 or need[taker] < 0.5 or (spare[giver] < 1 and need[taker] < 1):
            break
        spare[giver] -= 1
        need[taker] -= 1
        giving[giver] = giving.get(giver, 0) + 1
        receiving[taker] = receiving.get(taker, 0) + 1
    return giving, receiving


def _with_hints(piece: EndpointSlice, hints: Mapping[str, str]) -> EndpointSlice:
    endpoints = tuple(
        replace(endpoint, zone_hints=(hints[endpoint.address],) if endpoint.ready and hints else (), node_hints=())
        for endpoint in piece.endpoints
    )
    return replace(piece, endpoints=endpoints)
