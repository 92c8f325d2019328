"""The objects of a cluster as frozen values.

One class per kind serves twice: as read from a manifest (what is not stated is empty) and completed (filled as the
cluster would fill it). So a completed cluster is again a set of objects: completing it once more changes nothing, and
a change of one object is a new set of objects.

Addresses and networks are `ipaddress` values. Only an endpoint's address stays the text that its EndpointSlice holds,
because kube-proxy hashes and prints that text. Ports are host-order integers, 0 where there is none. Families are the
integers 4 and 6.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Literal

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Family = Literal[4, 6]

SERVICE_NAME = "kubernetes.io/service-name"
ZONE = "topology.kubernetes.io/zone"
TEMPLATE_HASH = "pod-template-hash"
MAX_PODS = 110  # the kubelet's default


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object was read: `document` counts from 1, `item` too (0 outside a List)."""

    file: str
    document: int
    item: int = 0

    @property
    def where(self) -> str:
        return f"document {self.document} item {self.item}" if self.item else f"document {self.document}"

    def __str__(self) -> str:
        return f"{self.file}: {self.where}"


@dataclass(frozen=True, slots=True)
class Ignored:
    """A document that was read and plays no part."""

    file: str
    document: int
    kind: str
    name: str
    """namespace/name; the name alone for what has no namespace"""
    why: str


@dataclass(frozen=True, slots=True)
class NotModelled:
    """A field that is set and has no effect here."""

    object: str
    """The kind and its namespace/name: `Service default/web`."""
    field: str
    """The path: `spec.ports[0].appProtocol`."""
    why: str


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration document for an agent, as a plain mapping.

    kind: "KubeProxyConfiguration", "ClusterConfiguration" (kubeadm), "net-conf.json" (flannel), "ServiceCIDR".
    """

    kind: str
    data: Mapping[str, Any]
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """The controller of an object (the owner reference with `controller: true`)."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """matchLabels and matchExpressions, all of which must hold. An empty selector matches everything."""

    labels: Mapping[str, str] = field(default_factory=dict)
    expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.labels.items()) and all(
            expression.matches(labels) for expression in self.expressions
        )


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Toleration:
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        return self.operator == "Exists" or (bool(self.key) and self.value == taint.value)


@dataclass(frozen=True, slots=True)
class Silence:
    """A node of a running cluster that nobody hears. number: of its losses, from 1. over: it has returned. ready: the pods
    (namespace, name) that were ready when the control plane noticed."""

    number: int
    over: bool = False
    ready: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class NodeState:
    """index: position in `ClusterState.nodes`, from 0. addresses: InternalIPs, the first is the primary one."""

    name: str
    index: int = -1
    addresses: tuple[Address, ...] = ()
    pod_cidrs: tuple[Network, ...] = ()
    external_addresses: tuple[Address, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    ready: bool = True
    max_pods: int = MAX_PODS
    last_reserved: tuple[Address, ...] = ()
    """The last pod address handed out per family (host-local's last_reserved_ip); the next search starts behind it."""
    created: bool = False
    """No manifest stated it."""
    silence: Silence | None = None
    """Of a node that was lost while the cluster ran."""
    origin: Origin | None = field(default=None, compare=False, repr=False)
    manifest: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def address(self, family: Family) -> Address | None:
        return next((address for address in self.addresses if address.version == family), None)

    @property
    def lost(self) -> bool:
        """It is dead or cut off, whether the control plane has noticed or not."""
        return self.silence is not None and not self.silence.over

    def pod_cidr(self, family: Family) -> Network | None:
        return next((network for network in self.pod_cidrs if network.version == family), None)

    @property
    def zone(self) -> str:
        return self.labels.get(ZONE, "")


@dataclass(frozen=True, slots=True)
class ContainerPort:
    name: str
    protocol: str
    port: int
    host_port: int = 0
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class PodSpec:
    """What a pod template fixes; the replicas of one workload share it."""

    host_network: bool = False
    ports: tuple[ContainerPort, ...] = ()
    containers: tuple[str, ...] = ()
    node_name: str = ""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    hostname: str = ""
    subdomain: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def port_number(self, name: str, protocol: str) -> int:
        """The number of a named container port, 0 where the pod has none."""
        return next((port.port for port in self.ports if port.name == name and port.protocol == protocol), 0)


@dataclass(frozen=True, slots=True)
class PodState:
    """node is None until the pod is bound; a bound pod has an address of each family that its node has.

    A pod that stays without a node (nothing fits) is Pending, without addresses.
    """

    namespace: str
    name: str
    spec: PodSpec
    node: str | None = None
    ips: tuple[Address, ...] = ()
    host_ips: tuple[Address, ...] = ()
    """status.hostIPs, as far as stated: the addresses of its node"""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    phase: str = "Running"
    ready: bool = True
    terminating: bool = False
    owner: Owner | None = None
    created: bool = False
    """No manifest stated it: a workload or an endpoint calls for it."""
    origin: Origin | None = field(default=None, compare=False, repr=False)
    manifest: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def host_network(self) -> bool:
        return self.spec.host_network

    @property
    def ports(self) -> tuple[ContainerPort, ...]:
        return self.spec.ports

    @property
    def finished(self) -> bool:
        """Its containers have ended for good: it holds no address and takes no traffic."""
        return self.phase in ("Succeeded", "Failed")

    def ip(self, family: Family) -> Address | None:
        return next((ip for ip in self.ips if ip.version == family), None)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class PodTemplate:
    spec: PodSpec
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workload:
    """kind: Deployment, ReplicaSet, ReplicationController, StatefulSet, DaemonSet or Job."""

    kind: str
    namespace: str
    name: str
    template: PodTemplate
    selector: LabelSelector
    replicas: int = 1
    """Pods wanted; unused for a DaemonSet."""
    first_ordinal: int = 0
    """StatefulSet: spec.ordinals.start"""
    indexed: bool = False
    """Job: completionMode Indexed"""
    service_name: str = ""
    """StatefulSet: its governing Service"""
    observed: bool = False
    """It states a status, so its controller has acted: if any of its pods is given, all that there are are given."""
    labels: Mapping[str, str] = field(default_factory=dict)
    owner: Owner | None = None
    origin: Origin | None = field(default=None, compare=False, repr=False)
    manifest: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ServicePort:
    name: str
    protocol: str
    port: int
    target: int | str
    """targetPort: a number, or the name of a container port; equal to `port` where it is not stated."""
    node_port: int = 0
    app_protocol: str = ""


@dataclass(frozen=True, slots=True)
class Ingress:
    """One entry of status.loadBalancer.ingress. mode: "VIP" (also where not stated) or "Proxy"."""

    ip: Address | None = None
    hostname: str = ""
    mode: str = "VIP"


@dataclass(frozen=True, slots=True)
class ServiceState:
    """type: ClusterIP, NodePort, LoadBalancer or ExternalName. cluster_ips is empty for headless and ExternalName.

    ip_families has the order of cluster_ips, the first is the primary one.
    """

    namespace: str
    name: str
    type: str = "ClusterIP"
    cluster_ips: tuple[Address, ...] = ()
    headless: bool = False
    ip_families: tuple[Family, ...] = ()
    ip_family_policy: str = ""
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    """Empty: no endpoints are managed for the Service."""
    session_affinity: str = "None"
    affinity_seconds: int = 0
    """Stickiness of ClientIP affinity in seconds, 0 for affinity None."""
    internal_traffic_policy: str = "Cluster"
    external_traffic_policy: str = ""
    """Cluster or Local where the Service is reachable from outside, else empty."""
    external_ips: tuple[Address, ...] = ()
    ingress: tuple[Ingress, ...] = ()
    load_balancer_ip: str = ""
    load_balancer_class: str = ""
    load_balancer_source_ranges: tuple[Network, ...] = ()
    allocate_node_ports: bool = True
    health_check_node_port: int = 0
    publish_not_ready_addresses: bool = False
    traffic_distribution: str = ""
    external_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = field(default=None, compare=False, repr=False)
    manifest: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def cluster_ip(self, family: Family) -> Address | None:
        return next((ip for ip in self.cluster_ips if ip.version == family), None)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class EndpointPort:
    """name is None where the slice leaves it out (kube-proxy skips such a port); port 0: any port, skipped too."""

    name: str | None
    protocol: str
    port: int
    app_protocol: str = ""


@dataclass(frozen=True, slots=True)
class TargetRef:
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One entry of an EndpointSlice, its conditions with their defaults (ready and serving true, terminating false).

    address is the first of `addresses`, verbatim (the only one that anything uses).
    """

    address: str
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str = ""
    zone: str = ""
    hostname: str = ""
    target: TargetRef | None = None
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """address_type: "IPv4", "IPv6" or "FQDN". service: the value of its label kubernetes.io/service-name, or ""."""

    namespace: str
    name: str
    address_type: str
    ports: tuple[EndpointPort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    created: bool = False
    """No manifest stated it: built from the Service's selector, or mirrored from Endpoints."""
    origin: Origin | None = field(default=None, compare=False, repr=False)

    @property
    def service(self) -> str:
        return self.labels.get(SERVICE_NAME, "")

    @property
    def family(self) -> Family | None:
        return 4 if self.address_type == "IPv4" else 6 if self.address_type == "IPv6" else None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Subset:
    """One subset of an Endpoints object: `endpoints` are its addresses (ready) and notReadyAddresses (not ready)."""

    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoints:
    """A legacy Endpoints object, as stated."""

    namespace: str
    name: str
    subsets: tuple[Subset, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    phase: str = "Active"
    created: bool = False
    origin: Origin | None = field(default=None, compare=False, repr=False)
    manifest: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Settled:
    """The families and networks of a cluster that was completed before: one network per family, in their order."""

    families: tuple[Family, ...]
    cluster_cidrs: tuple[Network, ...]
    service_cidrs: tuple[Network, ...]
    node_subnets: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Objects:
    """What the manifests state, in the order in which they state it."""

    nodes: tuple[NodeState, ...] = ()
    pods: tuple[PodState, ...] = ()
    workloads: tuple[Workload, ...] = ()
    services: tuple[ServiceState, ...] = ()
    endpoints: tuple[Endpoints, ...] = ()
    endpoint_slices: tuple[EndpointSlice, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    configs: tuple[Config, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    not_modelled: tuple[NotModelled, ...] = ()
    warnings: tuple[str, ...] = ()
    settled: Settled | None = None


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A completed cluster.

    Order: nodes by name, numbers in it as numbers (node-2 before node-10), any that come later behind them; pods,
    services and slices by (namespace, name).
    cluster_cidrs, service_cidrs and node_subnets hold one network per family that the cluster has, in the order of
    `families`; families[0] is the primary one.
    """

    nodes: tuple[NodeState, ...]
    pods: tuple[PodState, ...]
    services: tuple[ServiceState, ...]
    slices: tuple[EndpointSlice, ...]
    endpoints: Mapping[tuple[str, str], tuple[EndpointSlice, ...]]
    """(namespace, Service name) -> its EndpointSlices of both families"""
    workloads: tuple[Workload, ...] = ()
    legacy_endpoints: tuple[Endpoints, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    families: tuple[Family, ...] = (4,)
    cluster_cidrs: tuple[Network, ...] = ()
    service_cidrs: tuple[Network, ...] = ()
    node_subnets: tuple[Network, ...] = ()
    configs: tuple[Config, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    not_modelled: tuple[NotModelled, ...] = ()
    warnings: tuple[str, ...] = ()
    _nodes: Mapping[str, NodeState] = field(init=False, repr=False, compare=False)
    _pods: Mapping[tuple[str, str], PodState] = field(init=False, repr=False, compare=False)
    _services: Mapping[tuple[str, str], ServiceState] = field(init=False, repr=False, compare=False)
    _on_node: Mapping[str, Sequence[PodState]] = field(init=False, repr=False, compare=False)
    _owned: Mapping[tuple[str, str, str], Sequence[PodState]] = field(init=False, repr=False, compare=False)
    _at: Mapping[Address, tuple[str, str]] | None = field(init=False, repr=False, compare=False, default=None)
    """Who has an address; made when it is first asked for."""

    def __post_init__(self) -> None:
        on_node: dict[str, list[PodState]] = {node.name: [] for node in self.nodes}
        owned: dict[tuple[str, str, str], list[PodState]] = {}
        deployments = {
            (entry.namespace, entry.name): entry.owner.name
            for entry in self.workloads
            if entry.kind == "ReplicaSet" and entry.owner is not None and entry.owner.kind == "Deployment"
        }
        for pod in self.pods:
            if pod.node is not None:
                on_node.setdefault(pod.node, []).append(pod)
            owner = pod.owner
            if owner is None:
                continue
            owned.setdefault((pod.namespace, owner.kind, owner.name), []).append(pod)
            if owner.kind == "ReplicaSet":
                suffix = "-" + pod.labels.get(TEMPLATE_HASH, "")
                name = deployments.get((pod.namespace, owner.name))
                if name is None and len(suffix) > 1 and owner.name.endswith(suffix):
                    name = owner.name.removesuffix(suffix)
                if name is not None:
                    owned.setdefault((pod.namespace, "Deployment", name), []).append(pod)
        object.__setattr__(self, "_nodes", {node.name: node for node in self.nodes})
        object.__setattr__(self, "_pods", {(pod.namespace, pod.name): pod for pod in self.pods})
        object.__setattr__(self, "_services", {(service.namespace, service.name): service for service in self.services})
        object.__setattr__(self, "_on_node", on_node)
        object.__setattr__(self, "_owned", owned)

    def node(self, name: str) -> NodeState | None:
        return self._nodes.get(name)

    def pod(self, namespace: str, name: str) -> PodState | None:
        return self._pods.get((namespace, name))

    def pod_at(self, address: Address) -> PodState | None:
        """The pod whose own address this is; None where it is nobody's, or a node's."""
        if self._at is None:
            found: dict[Address, tuple[str, str]] = {}
            for pod in self.pods:
                if not pod.host_network:
                    for ip in pod.ips:
                        found.setdefault(ip, (pod.namespace, pod.name))
            object.__setattr__(self, "_at", found)
        assert self._at is not None
        key = self._at.get(address)
        return None if key is None else self._pods[key]

    def service(self, namespace: str, name: str) -> ServiceState | None:
        return self._services.get((namespace, name))

    def pods_on(self, node: str) -> Sequence[PodState]:
        """The pods bound to a node, in state order, finished ones and those of the host's network included."""
        return self._on_node.get(node, ())

    def pods_of(self, kind: str, namespace: str, name: str) -> Sequence[PodState]:
        """The pods that a workload controls, in state order; a Deployment's are those of its ReplicaSets."""
        return self._owned.get((namespace, kind, name), ())

    def service_slices(self, namespace: str, name: str, family: Family) -> tuple[EndpointSlice, ...]:
        return tuple(s for s in self.endpoints.get((namespace, name), ()) if s.family == family)

    def config(self, kind: str) -> Mapping[str, Any] | None:
        """The last configuration document of a kind (see `Config`), or None."""
        return next((config.data for config in reversed(self.configs) if config.kind == kind), None)

    def cluster_cidr(self, family: Family) -> Network | None:
        return next((network for network in self.cluster_cidrs if network.version == family), None)

    def service_cidr(self, family: Family) -> Network | None:
        return next((network for network in self.service_cidrs if network.version == family), None)

    def node_subnet(self, family: Family) -> Network | None:
        return next((network for network in self.node_subnets if network.version == family), None)

    def changed(
        self, pods: Iterable[PodState] = (), slices: Mapping[tuple[str, str], tuple[EndpointSlice, ...]] | None = None
    ) -> ClusterState:
        """The same cluster, where some pods are in another condition, and some Services have other EndpointSlices.

        pods: of the same names, nodes, addresses and owners as before. slices: by (namespace, Service name). This costs
        what changes and a copy of the indexes; for anything else make a new state.
        """
        made = copy(self)
        given = {(pod.namespace, pod.name): pod for pod in pods}
        if given:
            everything = list(self.pods)
            for key, pod in given.items():
                at = bisect_left(everything, key, key=_place)
                everything[at] = pod
            nodes = {pod.node for pod in given.values() if pod.node is not None}
            on_node = {
                **self._on_node,
                **{n: [given.get((p.namespace, p.name), p) for p in self._on_node.get(n, ())] for n in nodes},
            }
            namespaces = {namespace for namespace, _ in given}
            owned = {
                key: [given.get((p.namespace, p.name), p) for p in found] if key[0] in namespaces else found
                for key, found in self._owned.items()
            }
            object.__setattr__(made, "pods", tuple(everything))
            object.__setattr__(made, "_pods", {**self._pods, **given})
            object.__setattr__(made, "_on_node", on_node)
            object.__setattr__(made, "_owned", owned)
        if slices:
            kept = list(self.slices)
            for key, found in slices.items():
                for piece in self.endpoints.get(key, ()):
                    del kept[bisect_left(kept, _place(piece), key=_place)]
                for piece in found:
                    insort(kept, piece, key=_place)
            object.__setattr__(made, "slices", tuple(kept))
            object.__setattr__(made, "endpoints", {**self.endpoints, **slices})
        return made

    def objects(self) -> Objects:
        """The cluster as stated objects: `complete` gives this state again. Slices that were built are left out,
        because they follow from the pods."""
        return Objects(
            nodes=self.nodes,
            pods=self.pods,
            workloads=self.workloads,
            services=self.services,
            endpoints=self.legacy_endpoints,
            endpoint_slices=tuple(s for s in self.slices if not s.created),
            namespaces=self.namespaces,
            configs=self.configs,
            ignored=self.ignored,
            not_modelled=self.not_modelled,
            warnings=self.warnings,
            settled=Settled(self.families, self.cluster_cidrs, self.service_cidrs, self.node_subnets),
        )


def _place(item: PodState | EndpointSlice) -> tuple[str, str]:
    """What pods and slices are sorted by."""
    return item.namespace, item.name
