"""What the external load balancers did: an entry per address, with the nodes behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataplane.agents.cloud.balancer import Balancer, Front, Listener
from dataplane.agents.cloud.controller import Cloud
from dataplane.agents.cloud.kinds import Delivery
from dataplane.agents.underlay import OUTSIDE
from dataplane.datapath.ipvs_rows import begun

if TYPE_CHECKING:
    from dataplane.datapath.fabric import Fabric
    from dataplane.timeline import Timeline


@dataclass(frozen=True, slots=True)
class BalancedNode:
    """One node as a balancer sees it. receives: new connections come to it; an unhealthy node's where all are.

    connections: that the balancer has given to it; None where it sends packets on and knows no connections.
    """

    name: str
    healthy: bool
    receives: bool
    why: str
    connections: int | None = None

    def __str__(self) -> str:
        shown = (
            f"{self.name} {self.connections}"
            if self.connections is not None and (self.connections or self.receives)
            else self.name
        )
        return shown if self.healthy else f"{shown} unhealthy ({self.why})"


@dataclass(frozen=True, slots=True)
class BalancerRow:
    """One address of a balancer. keeps_client: the node sees the client's own address. pod_sees: whose address the
    endpoint sees, "client", "balancer", or "node" where kube-proxy has put the node's in its place."""

    namespace: str
    service: str
    address: str
    kind: str
    ports: str
    delivery: Delivery
    keeps_client: bool
    pod_sees: str
    nodes: Sequence[BalancedNode]
    fails_open: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "namespace": self.namespace,
            "service": self.service,
            "address": self.address,
            "kind": self.kind,
            "ports": self.ports,
            "delivery": self.delivery.name,
            "keepsClient": self.keeps_client,
            "podSees": self.pod_sees,
            "failsOpen": self.fails_open,
            "nodes": [
                {
                    "name": node.name,
                    "healthy": node.healthy,
                    "receives": node.receives,
                    "why": node.why,
                    "connections": node.connections,
                }
                for node in self.nodes
            ],
        }


def balancer_rows(cloud: Cloud, fabric: Fabric | None = None, timeline: Timeline | None = None) -> list[BalancerRow]:
    """The balancers of a cloud; with a fabric, what they have done in it."""
    counts: Counter[tuple[Any, Any]] = Counter()
    if fabric is not None:
        running = fabric.running(OUTSIDE)
        for service, server, count in begun(running.host.balancer, running.config):
            counts[service.address, server.address] += count
        if timeline is not None:
            counts.update(timeline.begun)
    return [
        _row(balancer, front, counts if fabric is not None else None)
        for balancer in cloud.balancers()
        for front in balancer.fronts
    ]


def _row(balancer: Balancer, front: Front, counts: Counter[tuple[Any, Any]] | None) -> BalancerRow:
    family = front.address.version
    receiving = {node.name for node in balancer.receives(front)}
    one = front.delivery is Delivery.ONE_NODE
    nodes = []
    for node in sorted(balancer.nodes, key=lambda node: node.index):
        address, finding = node.address(family), balancer.findings[node.name]
        count = None if one or counts is None else counts[front.address, address]
        nodes.append(BalancedNode(node.name, finding.healthy, node.name in receiving, finding.why, count))
    return BalancerRow(
        balancer.service.namespace,
        balancer.service.name,
        str(front.address),
        balancer.kind.name,
        ",".join(_port(listener, front) for listener in balancer.listeners),
        front.delivery,
        front.delivery.keeps_client,
        _seen(balancer, front),
        tuple(nodes),
        balancer.open and not one,
    )


def _seen(balancer: Balancer, front: Front) -> str:
    if balancer.service.external_traffic_policy != "Local":
        return "node"
    return "client" if front.delivery.keeps_client else "balancer"


def _port(listener: Listener, front: Front) -> str:
    inner = "" if front.delivery.keeps_destination else f":{listener.node_port}"
    return f"{listener.port}{inner}/{listener.protocol}"
