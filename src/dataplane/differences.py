"""What differs between two states of a cluster, as far as Services and their endpoints are concerned."""

from __future__ import annotations

from ipaddress import ip_address

from dataplane.cluster.objects import Address, ClusterState

Key = tuple[str, str]  # namespace, name


def changed_services(before: ClusterState, after: ClusterState) -> frozenset[Key]:
    """The Services that differ, themselves or in their EndpointSlices; those that came and went too."""
    old = {(service.namespace, service.name): service for service in before.services}
    found: set[Key] = set()
    for service in after.services:
        key = (service.namespace, service.name)
        known = old.pop(key, None)
        if known is not service and known != service:
            found.add(key)
    found.update(old)
    for key in before.endpoints.keys() | after.endpoints.keys():
        slices, were = after.endpoints.get(key, ()), before.endpoints.get(key, ())
        if slices is not were and slices != were:
            found.add(key)
    return frozenset(found)


def services_on(state: ClusterState, node: str) -> set[Key]:
    """The Services that have an endpoint on a node."""
    return {
        key
        for key, pieces in state.endpoints.items()
        if any(endpoint.node == node for piece in pieces for endpoint in piece.endpoints)
    }


def endpoints_that_changed(before: ClusterState, after: ClusterState, key: Key) -> dict[Address, str]:
    """The addresses of endpoints that went or are in another condition, with their texts."""

    def entries(state: ClusterState) -> dict[str, object]:
        return {e.address: e for piece in state.endpoints.get(key, ()) for e in piece.endpoints}

    old, new = entries(before), entries(after)
    found: dict[Address, str] = {}
    for text, entry in old.items():
        if new.get(text) != entry:
            try:
                found[ip_address(text)] = text
            except ValueError:
                continue  # 10.0.00.01: no flow has this text
    return found
