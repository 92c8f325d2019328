"""Which nodes let outsiders in, by the rules that their kube-proxies have."""

from __future__ import annotations

from collections.abc import Iterator, Set

from dataplane.agents.kubeproxy.service_ports import Proxied, ProxiedServices
from dataplane.cluster.objects import Address, Family, NodeState, ServiceState


def lets_in(proxier: ProxiedServices, service: ServiceState, node: NodeState, node_port: int = 0) -> bool:
    """Whether a node has endpoints for outsiders who come for a Service: through a NodePort, or through any port."""
    return any(
        proxier.choice(port, node).has_external
        for family in service.ip_families
        for port in _ports(proxier, service, family)
        if not node_port or port.info.node_port == node_port
    )


def entrance(proxier: ProxiedServices, service: ServiceState, address: Address, dead: Set[str]) -> NodeState | None:
    """The plain balancer's choice: the first node that lets outsiders in, any where none does. dead: nodes that are lost,
    and taken where there is no other."""
    nodes = [node for node in proxier.state.nodes if node.address(address.version) is not None]
    nodes = [node for node in nodes if node.name not in dead] or nodes
    for port in _ports(proxier, service, address.version):
        # Under policy Local any other node drops them.
        names = {endpoint.endpoint.node for endpoint in port.endpoints}
        for node in nodes if names else ():
            if (node.name in names or not port.info.external_local) and proxier.choice(port, node).has_external:
                return node
    return nodes[0] if nodes else None


def _ports(proxier: ProxiedServices, service: ServiceState, family: Family) -> Iterator[Proxied]:
    ports = proxier.ports(family)
    return (ports.by_key[key] for key in ports.by_service.get((service.namespace, service.name), ()))
