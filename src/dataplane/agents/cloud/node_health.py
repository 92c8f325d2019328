"""What a balancer's health check finds at a node, and what the balancer thinks of the node."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from dataplane.agents.cloud.entrances import lets_in
from dataplane.agents.cloud.kinds import Check
from dataplane.agents.kubeproxy.health import HEALTHZ_PORT, LATE, health_check_port, healthz, service_health
from dataplane.agents.kubeproxy.service_ports import ProxiedServices
from dataplane.cluster.objects import NodeState, ServiceState


@dataclass(frozen=True, slots=True)
class Finding:
    """why: what was asked and what came back, in words."""

    healthy: bool
    why: str


@dataclass(frozen=True, slots=True)
class Outages:
    """dead: nodes that are lost. silent: nodes whose kube-proxy does not run. late: nodes whose kube-proxy has not written
    for too long what it has to."""

    dead: Set[str] = frozenset()
    silent: Set[str] = frozenset()
    late: Set[str] = frozenset()

    def __contains__(self, node: str) -> bool:
        return node in self.dead or node in self.silent or node in self.late


def find(check: Check, service: ServiceState, node: NodeState, proxier: ProxiedServices, outages: Outages) -> Finding:
    """The answer that a check would get at this moment."""
    if node.name in outages.dead:
        return Finding(False, "the node is lost")
    if check.what == "nodePort":
        return _node_port(service, node, proxier)
    if check.what == "":
        return _watched(service, node, proxier)
    port = health_check_port(service) if check.what == "healthCheckNodePort" else HEALTHZ_PORT
    path = f"HTTP {port}/healthz"
    if node.name in outages.silent:
        return Finding(False, f"{path}: kube-proxy does not run")
    waiting = LATE if node.name in outages.late else 0
    if check.what == "healthz":
        answer = healthz(node, waiting_ns=waiting)
        return Finding(answer.healthy, f"{path}: {answer.status}")
    found = service_health(proxier.state, service, node, waiting_ns=waiting)
    if found is None:
        return Finding(False, "no healthCheckNodePort")
    if waiting:
        return Finding(False, f"{path}: {found.status}, kube-proxy is late")
    count = found.headers["X-Load-Balancing-Endpoint-Weight"]
    return Finding(found.healthy, f"{path}: {found.status}, {count} local endpoint{'' if count == '1' else 's'}")


def _node_port(service: ServiceState, node: NodeState, proxier: ProxiedServices) -> Finding:
    """A connection to the first NodePort of TCP. Whatever protocol the Service has, the clouds ask in TCP; where it has
    no TCP port an answer is taken for granted, as people set up an own check then."""
    port = next((port.node_port for port in service.ports if port.protocol == "TCP" and port.node_port), 0)
    if not port:
        return Finding(True, "no TCP NodePort to ask: taken for healthy")
    if lets_in(proxier, service, node, port):
        return Finding(True, f"TCP {port}: connected")
    return Finding(False, f"TCP {port}: refused, no endpoints")


def _watched(service: ServiceState, node: NodeState, proxier: ProxiedServices) -> Finding:
    """Known from the cluster's objects: under policy Local a node without endpoints is none."""
    if service.external_traffic_policy != "Local":
        return Finding(True, "policy Cluster")
    if lets_in(proxier, service, node):
        return Finding(True, "local endpoints")
    return Finding(False, "no local endpoints")
