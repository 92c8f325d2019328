"""Service ports, and which endpoints a proxy on a node uses for each: what every proxy mode shares.

Behaviour of kube-proxy: pkg/proxy serviceport.go, endpointslicecache.go and topology.go. Everything here is a pure
function of the objects, the node and the Kubernetes version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dataplane.cluster.objects import ZONE, Address, Endpoint, EndpointSlice, Family, Network, NodeState, ServiceState

SERVICE_PROXY_NAME = "service.kubernetes.io/service-proxy-name"
HEADLESS = "service.kubernetes.io/headless"
TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"
TOPOLOGY_AWARE_HINTS = "service.kubernetes.io/topology-aware-hints"  # the older name, which wins


def watched(labels: Mapping[str, str]) -> bool:
    """Whether kube-proxy sees a Service or EndpointSlice with these labels at all: the two labels hand it to another
    proxy, or say that there is nothing to proxy."""
    return SERVICE_PROXY_NAME not in labels and HEADLESS not in labels


@dataclass(frozen=True, slots=True)
class ServicePortInfo:
    """One port of one Service in one family, as a proxy needs it. Addresses and ranges are those of the family."""

    namespace: str
    service: str
    name: str
    """The port's name, or empty."""
    protocol: str
    """TCP, UDP or SCTP"""
    family: Family
    cluster_ip: Address
    port: int
    node_port: int
    external_ips: tuple[Address, ...]
    load_balancer_ips: tuple[Address, ...]
    """The VIPs: status.loadBalancer.ingress[].ip without those of ipMode Proxy."""
    source_ranges: tuple[Network, ...]
    affinity_seconds: int
    """0: no session affinity"""
    internal_local: bool
    external_local: bool
    health_check_node_port: int
    """0 unless the type is LoadBalancer and the external traffic policy Local"""
    hints_annotation: str

    @property
    def spn(self) -> str:
        """The name that rules' comments and chain hashes use: `ns/name:port`, without the colon for an unnamed port."""
        service = f"{self.namespace}/{self.service}"
        return f"{service}:{self.name}" if self.name else service

    @property
    def externally_accessible(self) -> bool:
        return bool(self.node_port or self.load_balancer_ips or self.external_ips)

    @property
    def uses_cluster_endpoints(self) -> bool:
        # With an external policy Local too: pods and the node itself reach external addresses through the cluster list.
        return not self.internal_local or self.externally_accessible

    @property
    def uses_local_endpoints(self) -> bool:
        return self.internal_local or (self.external_local and self.externally_accessible)


def service_ports(
    service: ServiceState, family: Family, *, load_balancer_ip_mode: bool = True
) -> list[ServicePortInfo]:
    """The ports of a Service for one family in the order of spec.ports; none where nothing is to be proxied.

    load_balancer_ip_mode: the feature gate LoadBalancerIPMode (on from 1.30); off, every ingress IP is a VIP.
    """
    cluster_ip = service.cluster_ip(family)
    if cluster_ip is None or service.headless or service.type == "ExternalName" or not watched(service.labels):
        return []
    external_ips = tuple(ip for ip in service.external_ips if ip.version == family)
    vips = tuple(
        entry.ip
        for entry in service.ingress
        if entry.ip is not None and entry.ip.version == family and not (load_balancer_ip_mode and entry.mode == "Proxy")
    )
    exposed = service.type in ("NodePort", "LoadBalancer") or (service.type == "ClusterIP" and service.external_ips)
    external_local = service.external_traffic_policy == "Local" and bool(exposed)
    hints = service.annotations.get(TOPOLOGY_AWARE_HINTS, service.annotations.get(TOPOLOGY_MODE, ""))
    ranges = tuple(network for network in service.load_balancer_source_ranges if network.version == family)
    balanced = service.type == "LoadBalancer" and service.external_traffic_policy == "Local"
    return [
        ServicePortInfo(
            namespace=service.namespace,
            service=service.name,
            name=port.name,
            protocol=port.protocol,
            family=family,
            cluster_ip=cluster_ip,
            port=port.port,
            node_port=port.node_port,
            external_ips=external_ips,
            load_balancer_ips=vips,
            source_ranges=ranges,
            affinity_seconds=service.affinity_seconds if service.session_affinity == "ClientIP" else 0,
            internal_local=service.internal_traffic_policy == "Local",
            external_local=external_local,
            health_check_node_port=service.health_check_node_port if balanced else 0,
            hints_annotation=hints,
        )
        for port in service.ports
    ]


class ProxyEndpoint(NamedTuple):
    """An endpoint of a service port as one node sees it. Sorting by `text` is kube-proxy's order: plain bytes, so that
    10.0.0.11:80 comes before 10.0.0.1:80."""

    text: str
    """`ip:port` or `[ip]:port`, the address verbatim"""
    address: str
    port: int
    local: bool
    endpoint: Endpoint

    @property
    def ready(self) -> bool:
        return self.endpoint.ready

    @property
    def serving_terminating(self) -> bool:
        return self.endpoint.serving and self.endpoint.terminating


def service_endpoints(
    slices: Iterable[EndpointSlice], family: Family, node: str
) -> dict[tuple[str, str], list[ProxyEndpoint]]:
    """(port name, protocol) -> endpoints of one Service as seen from a node, in kube-proxy's order.

    Takes the Service's slices of any family and leaves out those of others. Of two entries with one `ip:port` a local
    one wins, else the first.
    """
    found: dict[tuple[str, str], dict[str, ProxyEndpoint]] = {}
    for piece in slices:
        if piece.family != family or not watched(piece.labels):
            continue
        for port in piece.ports:
            if port.name is None or not port.port:
                continue
            table = found.setdefault((port.name, port.protocol), {})
            number = port.port
            ending = f"]:{number}" if family == 6 else f":{number}"
            beginning = "[" if family == 6 else ""
            for endpoint in piece.endpoints:
                text = f"{beginning}{endpoint.address}{ending}"
                local = endpoint.node == node and node != ""
                if text not in table or (local and not table[text].local):
                    table[text] = ProxyEndpoint(text, endpoint.address, number, local, endpoint)
    return {key: [table[text] for text in sorted(table)] for key, table in found.items()}


@dataclass(frozen=True, slots=True)
class Choice:
    """The endpoints that a node uses for a service port, each list in kube-proxy's order.

    cluster: for traffic under policy Cluster. local: under policy Local. reachable: all that any rule can lead to.
    has_endpoints: something could be reached from somewhere (on another node, perhaps); without it traffic is
    rejected, with it but without a list to use it is dropped.
    """

    port: ServicePortInfo
    cluster: Sequence[ProxyEndpoint]
    local: Sequence[ProxyEndpoint]
    reachable: Sequence[ProxyEndpoint]
    has_endpoints: bool

    @property
    def has_internal(self) -> bool:
        """Traffic to the ClusterIP finds an endpoint from this node."""
        return self.has_endpoints and not (self.port.internal_local and not self.local)

    @property
    def has_external(self) -> bool:
        """Traffic from outside the cluster finds an endpoint through this node."""
        return self.has_endpoints and not (self.port.external_local and not self.local)

    @property
    def uses_cluster_list(self) -> bool:
        return bool(self.cluster) and self.port.uses_cluster_endpoints

    @property
    def uses_local_list(self) -> bool:
        return bool(self.local) and self.port.uses_local_endpoints


def categorize(
    port: ServicePortInfo,
    endpoints: Sequence[ProxyEndpoint],
    node: NodeState,
    version: tuple[int, int] = (1, 30),
) -> Choice:
    """Choose among the endpoints of a service port (`service_endpoints` for the same node).

    * cluster: the ready ones, of the node's zone (or of the node) where topology applies; if that leaves none, those
      that are serving while they terminate, from anywhere.
    * local: the local ready ones; if there are none, the local ones that are serving while they terminate.

    The two fall back independently. version: the Kubernetes minor version, which decides about topology:
    1.30 asks for the Service's annotation, from 1.31 the hints alone decide, from 1.34 a hint may name a node.
    """
    cluster: Sequence[ProxyEndpoint] = []
    local: Sequence[ProxyEndpoint] = []
    topology = False
    has_endpoints = False
    if port.uses_cluster_endpoints:
        ready = [endpoint for endpoint in endpoints if endpoint.ready]
        hinted = _hinted(port, ready, node, version)
        topology = hinted is not None
        cluster = ready if hinted is None else hinted
        if not cluster:
            cluster = [endpoint for endpoint in endpoints if endpoint.serving_terminating]
        has_endpoints = bool(cluster)
    if not port.uses_local_endpoints:
        return Choice(port, cluster, local, cluster, has_endpoints)

    has_endpoints = has_endpoints or any(endpoint.ready or endpoint.serving_terminating for endpoint in endpoints)
    local = [endpoint for endpoint in endpoints if endpoint.local and endpoint.ready]
    leaving = not local
    if leaving:
        local = [endpoint for endpoint in endpoints if endpoint.local and endpoint.serving_terminating]
    if not port.uses_cluster_endpoints:
        return Choice(port, cluster, local, local, has_endpoints)

    # Without topology and terminating endpoints the cluster list holds every local one already.
    reachable = cluster
    if topology or (leaving and local):
        union = {endpoint.text: endpoint for endpoint in (*cluster, *local)}
        reachable = [union[text] for text in sorted(union)]
    return Choice(port, cluster, local, reachable, has_endpoints)


def _hinted(
    port: ServicePortInfo, ready: Sequence[ProxyEndpoint], node: NodeState, version: tuple[int, int]
) -> list[ProxyEndpoint] | None:
    """The ready endpoints that are hinted for the node, or None where hints do not apply.

    One ready endpoint without a hint switches topology off for the whole port: the controller is still filling them in.
    """
    if version < (1, 31) and port.hints_annotation in ("", "disabled", "Disabled"):
        return None
    if version >= (1, 34) and ready and all(endpoint.endpoint.node_hints for endpoint in ready):
        here = [endpoint for endpoint in ready if node.name in endpoint.endpoint.node_hints]
        if here:
            return here
    zone = node.labels.get(ZONE, "")
    if not zone or not all(endpoint.endpoint.zone_hints for endpoint in ready):
        return None
    return [endpoint for endpoint in ready if zone in endpoint.endpoint.zone_hints] or None
