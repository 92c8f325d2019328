"""The cloud of a cluster: it gives Services their balancers, and each balancer asks its nodes how they are.

What a balancer thinks of a node is what it was last told (`think`); where nothing was said, what a check would find now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from dataplane.agents.cloud.addresses import Assigned, balanced
from dataplane.agents.cloud.balancer import Balancer, Front, Listener
from dataplane.agents.cloud.entrances import entrance
from dataplane.agents.cloud.kinds import Delivery, Kind, delivery
from dataplane.agents.cloud.node_health import Finding, Outages, find
from dataplane.agents.cloud.speaker import announcer
from dataplane.agents.kubeproxy.health import health_check_port, to_be_deleted
from dataplane.agents.kubeproxy.service_ports import ProxiedServices
from dataplane.cluster.addresses import place
from dataplane.cluster.endpoints import service_ports
from dataplane.cluster.objects import Address, ClusterState, NodeState, NotModelled, ServiceState

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
HEALTH_CHECK = "spec.healthCheckNodePort"
PROBED = "a connection to it is taken; who answers is the recording, `describe` tells what kube-proxy would say"
Key = tuple[str, str]  # namespace, Service


@dataclass(slots=True)
class Cloud:
    """assigned: shared with whoever goes on with the same cluster. seed: of the order in which nodes are chosen from."""

    kind: Kind
    proxier: ProxiedServices
    assigned: Assigned = field(default_factory=Assigned)
    seed: int = 0
    outages: Outages = field(default_factory=Outages)
    thought: dict[tuple[str, str, str], Finding] = field(default_factory=dict)
    """(namespace, Service, node) -> what was found last, where that is not what would be found now"""

    @property
    def state(self) -> ClusterState:
        return self.proxier.state

    def balancers(self, only: Iterable[Key] | None = None) -> Iterator[Balancer]:
        """Every balancer, by namespace and Service. only: of these Services."""
        chosen = self.state.services if only is None else [self.state.service(*key) for key in only]
        for service in chosen:
            if service is not None and balanced(service):
                found = self.balancer(service)
                if found is not None:
                    yield found

    def balancer(self, service: ServiceState) -> Balancer | None:
        """A Service's balancer; None where it has no address."""
        addresses = list(self.assigned.addresses(self.kind, service))
        if not addresses:
            return None
        key = (service.namespace, service.name)
        nodes = self.nodes(service)
        return Balancer(
            self.kind,
            service,
            tuple(self._fronts(service, addresses)),
            tuple(
                Listener(p.protocol, p.port, p.node_port) for p in service.ports if p.protocol in self.kind.protocols
            ),
            nodes,
            {node.name: self.thought.get((*key, node.name)) or self.find(service, node) for node in nodes},
        )

    def nodes(self, service: ServiceState) -> Sequence[NodeState]:
        """The nodes behind a Service's balancer, in an order that the seed draws."""

        def drawn(node: NodeState) -> int:
            return place(self.seed, "balancer", service.namespace, service.name, node.name)

        return sorted((node for node in self.state.nodes if _takes_part(node)), key=drawn)

    def find(self, service: ServiceState, node: NodeState) -> Finding:
        """What the balancer's check finds at a node now."""
        return find(self.kind.check(service), service, node, self.proxier, self.outages)

    def think(self, key: Key, node: str, finding: Finding | None) -> None:
        """A balancer has made up its mind about a node; None: whatever a check finds."""
        if finding is None:
            self.thought.pop((*key, node), None)
        else:
            self.thought[(*key, node)] = finding

    def addresses(self) -> Mapping[Address, ServiceState]:
        """Every address of a balancer, with its Service."""
        return {address: service for service in self.state.services for address in self.of(service)}

    def gone(self) -> Set[Address]:
        """Addresses of balancers that are no more."""
        return self.assigned.seen - self.addresses().keys()

    def of(self, service: ServiceState) -> Sequence[Address]:
        """The addresses of a Service's balancer; none where it has no balancer."""
        return [address for address, _ in self.assigned.addresses(self.kind, service)]

    @property
    def not_modelled(self) -> Iterator[NotModelled]:
        """What the balancers would do and do not, or cannot."""
        for service in self.state.services:
            if health_check_port(service) and service_ports(service, service.ip_families[0]):
                yield NotModelled(f"Service {service}", HEALTH_CHECK, PROBED)
            found = self.balancer(service) if balanced(service) else None
            if found is not None:
                yield from _lacks(found)
            elif balanced(service):
                why = "its load balancer has no address; --cloud gives it one"
                yield NotModelled(f"Service {service}", "status.loadBalancer", why)

    def _fronts(self, service: ServiceState, addresses: Iterable[tuple[Address, str]]) -> Iterator[Front]:
        first = None
        for address, mode in addresses:
            first = first or address
            how = delivery(self.kind, service, mode)
            node = self._announcer(service, address, first) if how is Delivery.ONE_NODE else None
            yield Front(address, how, node)

    def _announcer(self, service: ServiceState, address: Address, first: Address) -> NodeState | None:
        if self.kind.name == "none":
            return entrance(self.proxier, service, address, self.outages.dead)
        alive = [node for node in self.state.nodes if _takes_part(node) and node.name not in self.outages.dead]
        slices = self.state.endpoints.get((service.namespace, service.name), ())
        return announcer(service, slices, first, alive)


def _takes_part(node: NodeState) -> bool:
    return EXCLUDED not in node.labels and not to_be_deleted(node)


def _lacks(balancer: Balancer) -> Iterator[NotModelled]:
    named = f"Service {balancer.service}"
    title = balancer.kind.title
    by_node_port = [front for front in balancer.fronts if not front.delivery.keeps_destination]
    if any(front.delivery is Delivery.PROXY for front in balancer.fronts):
        why = f"{title}: it ends connections and begins others; here their addresses and ports change, and no more"
        yield NotModelled(named, "status.loadBalancer", why)
    for index, port in enumerate(balancer.service.ports):
        if port.protocol not in balancer.kind.protocols:
            yield NotModelled(named, f"spec.ports[{index}].protocol", f"{title} has no listener for {port.protocol}")
        elif by_node_port and not port.node_port:
            why = f"{title} sends to NodePorts, and the port has none: nothing arrives"
            yield NotModelled(named, f"spec.ports[{index}].nodePort", why)
