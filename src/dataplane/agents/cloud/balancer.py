"""A balancer as a value: its addresses, its listeners, its nodes and what it thinks of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dataplane.agents.cloud.kinds import Delivery, Kind
from dataplane.agents.cloud.node_health import Finding
from dataplane.cluster.objects import Address, NodeState, ServiceState


@dataclass(frozen=True, slots=True)
class Front:
    """One address of a balancer. announcer: of Delivery.ONE_NODE, the node that has it; None: nobody answers."""

    address: Address
    delivery: Delivery
    announcer: NodeState | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """A port of the balancer; node_port: where it sends to, 0 for the port itself."""

    protocol: str
    port: int
    node_port: int = 0


@dataclass(frozen=True, slots=True)
class Balancer:
    """The balancer of one Service. nodes: all behind it, in the order in which they are chosen from.

    findings: by node, what its checks have led it to think.
    """

    kind: Kind
    service: ServiceState
    fronts: Sequence[Front]
    listeners: Sequence[Listener]
    nodes: Sequence[NodeState]
    findings: Mapping[str, Finding]

    @property
    def healthy(self) -> Sequence[NodeState]:
        return [node for node in self.nodes if self.findings[node.name].healthy]

    @property
    def open(self) -> bool:
        """No node is healthy, and all get traffic for want of a better one."""
        return self.kind.fails_open and not self.healthy

    @property
    def targets(self) -> Sequence[NodeState]:
        """The nodes that get new connections."""
        return self.nodes if self.open else self.healthy

    def receives(self, front: Front) -> Sequence[NodeState]:
        """The nodes that new connections to one address come to."""
        if front.delivery is Delivery.ONE_NODE:
            return [] if front.announcer is None else [front.announcer]
        return self.targets
