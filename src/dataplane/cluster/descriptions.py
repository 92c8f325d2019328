"""What `kubectl describe` prints of Services, pods and nodes, as lines whose cells are separated by tabs.

Labels, their order and `<none>` are kubectl 1.30's (pkg/describe), and Traffic Distribution that of later ones. Ages,
times, events and what a model of packets does not hold (images that are not stated, resources, volumes) are left out.
Aligning the cells is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from dataplane.cluster.objects import ClusterState, NodeState, PodState, ServicePort, ServiceState
from dataplane.cluster.slices import endpoints_objects

NONE = "<none>"
_SHOWN = 3  # endpoints of a port


def service_lines(state: ClusterState, service: ServiceState) -> Iterator[str]:
    """`kubectl describe service`."""
    yield f"Name:\t{service.name}"
    yield f"Namespace:\t{service.namespace}"
    yield from _mapping("Labels", service.labels)
    yield from _mapping("Annotations", service.annotations, ": ")
    yield f"Selector:\t{_selector(service.selector)}"
    yield f"Type:\t{service.type}"
    if service.ip_family_policy:
        yield f"IP Family Policy:\t{service.ip_family_policy}"
    yield f"IP Families:\t{','.join(f'IPv{family}' for family in service.ip_families) or NONE}"
    ips = [str(ip) for ip in service.cluster_ips] or (["None"] if service.headless else [])
    yield f"IP:\t{ips[0] if ips else ''}"
    yield f"IPs:\t{','.join(ips) or NONE}"
    if service.external_ips:
        yield f"External IPs:\t{','.join(map(str, service.external_ips))}"
    if service.load_balancer_ip:
        yield f"Desired LoadBalancer IP:\t{service.load_balancer_ip}"
    if service.external_name:
        yield f"External Name:\t{service.external_name}"
    if service.ingress:
        shown = [f"{entry.ip} ({entry.mode})" if entry.ip is not None else entry.hostname for entry in service.ingress]
        yield f"LoadBalancer Ingress:\t{', '.join(shown)}"
    for port in service.ports:
        name = port.name or "<unset>"
        yield f"Port:\t{name}\t{port.port}/{port.protocol}"
        yield f"TargetPort:\t{port.target}/{port.protocol}"
        if port.node_port:
            yield f"NodePort:\t{name}\t{port.node_port}/{port.protocol}"
        yield f"Endpoints:\t{_endpoints(state, service, port)}"
    yield f"Session Affinity:\t{service.session_affinity}"
    if service.external_traffic_policy:
        yield f"External Traffic Policy:\t{service.external_traffic_policy}"
    if service.type != "ExternalName":
        yield f"Internal Traffic Policy:\t{service.internal_traffic_policy}"
    if service.health_check_node_port:
        yield f"HealthCheck NodePort:\t{service.health_check_node_port}"
    if service.load_balancer_source_ranges:
        yield f"LoadBalancer Source Ranges:\t{','.join(map(str, service.load_balancer_source_ranges))}"
    if service.traffic_distribution:
        yield f"Traffic Distribution:\t{service.traffic_distribution}"


def pod_lines(state: ClusterState, pod: PodState) -> Iterator[str]:
    """`kubectl describe pod`."""
    yield f"Name:\t{pod.name}"
    yield f"Namespace:\t{pod.namespace}"
    node = state.node(pod.node) if pod.node is not None else None
    yield f"Node:\t{pod.node or NONE}{f'/{node.addresses[0]}' if node is not None and node.addresses else ''}"
    yield from _mapping("Labels", pod.labels)
    yield from _mapping("Annotations", pod.annotations, ": ")
    yield f"Status:\t{'Terminating' if pod.terminating else pod.phase}"
    yield f"IP:\t{pod.ips[0] if pod.ips else ''}"
    if not pod.ips:
        yield f"IPs:\t{NONE}"
    else:
        yield "IPs:"
        for ip in pod.ips:
            yield f"  IP:\t{ip}"
    if pod.owner is not None:
        yield f"Controlled By:\t{pod.owner.kind}/{pod.owner.name}"
    yield "Containers:"
    stated = pod.spec.manifest.get("containers") or ()
    for container in stated:
        yield f"  {container.get('name', '')}:"
        if container.get("image"):
            yield f"    Image:\t{container['image']}"
        ports = container.get("ports") or ()
        word = "Ports" if len(ports) > 1 else "Port"
        yield f"    {word}:\t{_container_ports(ports, 'containerPort')}"
        yield f"    Host {word}:\t{_container_ports(ports, 'hostPort')}"
    if not stated:
        yield f"  {NONE}"
    yield "Conditions:"
    yield "  Type\tStatus"
    yield f"  Ready\t{pod.ready}"
    yield f"  PodScheduled\t{pod.node is not None}"
    if pod.spec.node_selector:
        yield from _mapping("Node-Selectors", pod.spec.node_selector)


def node_lines(state: ClusterState, node: NodeState) -> Iterator[str]:
    """`kubectl describe node`."""
    prefix = "node-role.kubernetes.io/"
    roles = sorted({label.removeprefix(prefix) for label in node.labels if label.startswith(prefix)} - {""})
    yield f"Name:\t{node.name}"
    yield f"Roles:\t{','.join(roles) or NONE}"
    yield from _mapping("Labels", node.labels)
    yield from _mapping("Annotations", node.annotations, ": ")
    taints = [f"{taint.key}{f'={taint.value}' if taint.value else ''}:{taint.effect}" for taint in node.taints]
    yield from _listed("Taints", taints)
    yield f"Unschedulable:\t{str(node.unschedulable).lower()}"
    yield "Conditions:"
    yield "  Type\tStatus"
    yield "  ----\t------"
    yield f"  Ready\t{node.ready}"
    yield "Addresses:"
    for address in node.addresses:
        yield f"  InternalIP:\t{address}"
    for address in node.external_addresses:
        yield f"  ExternalIP:\t{address}"
    yield f"  Hostname:\t{node.labels.get('kubernetes.io/hostname', node.name)}"
    if node.pod_cidrs:
        yield f"PodCIDR:\t{node.pod_cidrs[0]}"
        yield f"PodCIDRs:\t{','.join(map(str, node.pod_cidrs))}"
    pods = [pod for pod in state.pods_on(node.name) if not pod.finished]
    yield f"Non-terminated Pods:\t({len(pods)} in total)"
    yield "  Namespace\tName\tIP"
    yield "  ---------\t----\t--"
    for pod in pods:
        yield f"  {pod.namespace}\t{pod.name}\t{','.join(map(str, pod.ips)) or NONE}"


def _mapping(label: str, values: Mapping[str, str], between: str = "=") -> Iterator[str]:
    return _listed(label, [f"{key}{between}{values[key]}" for key in sorted(values)])


def _listed(label: str, values: Sequence[str]) -> Iterator[str]:
    """One value a line, the label before the first."""
    yield f"{label}:\t{values[0] if values else NONE}"
    for value in values[1:]:
        yield f"\t{value}"


def _selector(selector: Mapping[str, str]) -> str:
    return ",".join(f"{key}={selector[key]}" for key in sorted(selector)) or NONE


def _container_ports(ports: Iterable[Mapping[str, object]], field: str) -> str:
    return ", ".join(f"{port.get(field) or 0}/{port.get('protocol') or 'TCP'}" for port in ports) or NONE


def _endpoints(state: ClusterState, service: ServiceState, port: ServicePort) -> str:
    found = []
    for entry in endpoints_objects(state):
        if (entry.namespace, entry.name) != (service.namespace, service.name):
            continue
        for subset in entry.subsets:
            numbers = [p.port for p in subset.ports if (p.name or "") == port.name and p.protocol == port.protocol]
            for number in numbers:
                for endpoint in subset.endpoints:
                    if endpoint.ready:
                        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
                        found.append(f"{host}:{number}")
    more = f" + {len(found) - _SHOWN} more..." if len(found) > _SHOWN else ""
    return ",".join(found[:_SHOWN]) + more if found else NONE
