"""What kube-proxy answers over HTTP: on a Service's healthCheckNodePort, and on its own port 10256.

    GET http://NODE:healthCheckNodePort/        whether the node has ready endpoints of the Service of its own
    GET http://NODE:10256/healthz               whether the proxy keeps up, and the node is not about to go
    GET http://NODE:10256/livez                 whether the proxy keeps up

Behaviour of kube-proxy 1.30: pkg/proxy/healthcheck. Every path of a healthCheckNodePort is answered alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dataplane.cluster.endpoints import service_endpoints, service_ports
from dataplane.cluster.objects import ClusterState, EndpointSlice, Family, NodeState, ServiceState

HEALTHZ_PORT = 10256
TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
LATE = 60_000_000_000  # ns; 2 * iptables.syncPeriod: an update that waits longer than this makes the proxy unhealthy
_REASONS = {200: "OK", 503: "Service Unavailable"}


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """An HTTP answer. headers: those that the handler sets, without Date and Content-Length."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        return self.status == 200

    def text(self) -> str:
        """The answer as it is sent, less its Date."""
        lines = [f"HTTP/1.1 {self.status} {_REASONS[self.status]}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines.append(f"Content-Length: {len(self.body.encode())}")
        return "\r\n".join([*lines, "", self.body])


def health_check_port(service: ServiceState) -> int:
    """The port on which every kube-proxy answers for the Service, 0 for none: type LoadBalancer with policy Local."""
    balanced = service.type == "LoadBalancer" and service.external_traffic_policy == "Local"
    return service.health_check_node_port if balanced else 0


def answering_family(state: ClusterState, service: ServiceState) -> Family | None:
    """Whose proxier has the port: on a node of two families both ask for it, and that of IPv4, the first, gets it."""
    return next((family for family in (4, 6) if family in state.families and service_ports(service, family)), None)


def local_endpoints(slices: Iterable[EndpointSlice], family: Family, node: str) -> int:
    """How many different addresses of a family are ready endpoints on a node, over all the Service's ports."""
    found = service_endpoints(slices, family, node)
    return len({entry.address for port in found.values() for entry in port if entry.local and entry.ready})


def service_health(
    state: ClusterState, service: ServiceState, node: NodeState, *, waiting_ns: int = 0
) -> HealthAnswer | None:
    """What the node's kube-proxy answers on the Service's healthCheckNodePort; None where the Service has none.

    waiting_ns: how long the oldest update has been waiting to be written. Endpoints that terminate do not count, though
    traffic may still go to them.
    """
    family = answering_family(state, service)
    if not health_check_port(service) or family is None:
        return None
    slices = state.endpoints.get((service.namespace, service.name), ())
    count, keeps_up = local_endpoints(slices, family, node.name), waiting_ns < LATE
    named = {"namespace": service.namespace, "name": service.name}
    answer = {"service": named, "localEndpoints": count, "serviceProxyHealthy": keeps_up}
    headers = {
        "Content-Type": "application/json",
        "X-Content-Type-Options": "nosniff",
        "X-Load-Balancing-Endpoint-Weight": str(count),
    }
    return HealthAnswer(200 if count and keeps_up else 503, json.dumps(answer, indent="\t"), headers)


def to_be_deleted(node: NodeState) -> bool:
    """The cluster autoscaler has marked the node: load balancers shall find it unhealthy before it goes."""
    return any(taint.key == TO_BE_DELETED for taint in node.taints)


def healthz(node: NodeState, *, time_ns: int = 0, waiting_ns: int = 0) -> HealthAnswer:
    """What the node's kube-proxy answers on 10256 for /healthz at `time_ns`."""
    eligible = not to_be_deleted(node)
    shown = f', "nodeEligible": {str(eligible).lower()}'
    return _of_proxy(waiting_ns < LATE and eligible, time_ns, waiting_ns, shown)


def livez(node: NodeState, *, time_ns: int = 0, waiting_ns: int = 0) -> HealthAnswer:
    """The same for /livez, which takes no account of the node."""
    return _of_proxy(waiting_ns < LATE, time_ns, waiting_ns, "")


def _of_proxy(healthy: bool, time_ns: int, waiting_ns: int, more: str) -> HealthAnswer:
    # A proxy that is healthy calls itself updated now, whether or not there was anything to write.
    updated = time_ns if healthy else time_ns - waiting_ns
    body = f'{{"lastUpdated": "{_go_time(updated)}","currentTime": "{_go_time(time_ns)}"{more}}}'
    headers = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}
    return HealthAnswer(200 if healthy else 503, body, headers)


def _go_time(time_ns: int) -> str:
    """A time as Go prints it, in UTC and without its monotonic part."""
    whole = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    fraction = f".{time_ns % 1_000_000_000:09}".rstrip("0").rstrip(".")
    return f"{whole}{fraction} +0000 UTC"
