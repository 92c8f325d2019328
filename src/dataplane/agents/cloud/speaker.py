"""MetalLB in layer 2 mode: which node answers for an address (speaker/layer2_controller.go)."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from dataplane.cluster.objects import Address, EndpointSlice, NodeState, ServiceState


def announcer(
    service: ServiceState, slices: Iterable[EndpointSlice], address: Address, nodes: Iterable[NodeState]
) -> NodeState | None:
    """The node that announces the Service's addresses; address: its first one. None: no node does, and nobody answers.

    nodes: those with a speaker that is alive. A Service without an endpoint that serves is not announced; under policy
    Local only nodes with such an endpoint take part. All speakers come to the same answer by hashing.
    """
    serving = [entry for piece in slices for entry in piece.endpoints if entry.serving]
    if not serving:
        return None
    there = {entry.node for entry in serving}
    local = service.external_traffic_policy == "Local"
    candidates = [node for node in nodes if not local or node.name in there]
    return min(candidates, key=lambda node: sha256(f"{node.name}#{address}".encode()).digest(), default=None)
