"""Changes of a running cluster: each is a value, and makes a new state of the one before.

What a change sets in motion later (a pod that becomes ready, the next step of a rolling update) it names as further
changes, with the time until then. Times are ns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from math import ceil
from typing import Any, NamedTuple, Protocol, TypeVar

from dataplane.cluster.completion import complete
from dataplane.cluster.endpoint_controller import Key, changed_pods, edited, reconciled
from dataplane.cluster.objects import (
    ClusterState,
    Endpoint,
    EndpointSlice,
    NodeState,
    Objects,
    PodState,
    ServiceState,
    Settled,
    Workload,
)
from dataplane.cluster.slices import mirror
from dataplane.errors import ModelError

_Item = TypeVar("_Item")
SECOND = 1_000_000_000
RESTARTED = "kubectl.kubernetes.io/restartedAt"
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job")


class Changed(NamedTuple):
    """state: after the change. services: those that may differ; None: to be found by comparing. later: (ns from now,
    change) that follow from it."""

    state: ClusterState
    services: frozenset[Key] | None = None
    later: tuple[tuple[int, Change], ...] = ()


class Change(Protocol):
    """str() of a change is how reports name it."""

    def apply(self, state: ClusterState, seed: int) -> Changed: ...


def running(state: ClusterState) -> ClusterState:
    """The state as its controllers go on from it: a workload of a dump wants the pods that it has, and a Deployment
    speaks for its ReplicaSets. Addresses are given out behind those that there are."""
    deployments = {(w.namespace, w.name) for w in state.workloads if w.kind == "Deployment"}
    kept: list[Workload] = []
    for workload in state.workloads:
        owner = workload.owner
        if workload.kind == "ReplicaSet" and owner is not None and (workload.namespace, owner.name) in deployments:
            continue
        if workload.kind not in ("DaemonSet", "Job"):
            workload = replace(workload, observed=False, replicas=len(_live(state, workload)))
        kept.append(workload)
    nodes = tuple(_with_last_reserved(node, state) for node in state.nodes)
    if all(new is old for new, old in zip(nodes, state.nodes, strict=True)):
        nodes = state.nodes
    return replace(state, nodes=nodes, workloads=tuple(kept))


def _with_last_reserved(node: NodeState, state: ClusterState) -> NodeState:
    """host-local goes on behind the addresses that it has given out, so that a pod that comes again gets another one;
    where the pods were given with theirs, behind the highest."""
    found = list(node.last_reserved)
    for network in node.pod_cidrs:
        if any(address.version == network.version for address in found):
            continue
        given = [ip for pod in state.pods_on(node.name) if not pod.host_network for ip in pod.ips if ip in network]
        if given:
            found.append(max(given, key=int))
    return node if len(found) == len(node.last_reserved) else replace(node, last_reserved=tuple(found))


def _live(state: ClusterState, workload: Workload) -> list[PodState]:
    pods = state.pods_of(workload.kind, workload.namespace, workload.name)
    return [pod for pod in pods if not pod.finished and not pod.terminating]


def _completed(
    before: ClusterState,
    seed: int,
    *,
    nodes: Iterable[NodeState] | None = None,
    pods: Iterable[PodState] | None = None,
    services: Iterable[ServiceState] | None = None,
    workloads: Iterable[Workload] | None = None,
    extra: Objects | None = None,
    removed: Iterable[Key] = (),
    ready_after: int = 0,
) -> Changed:
    """The state with other objects, once all controllers have done what they do. ready_after: of pods that come."""
    extra = extra or Objects()
    kept = before.pods if pods is None else tuple(pods)
    there = {_by_name(pod) for pod in kept}
    # Whoever takes the place of a pod that goes has another name.
    names = {_by_name(pod) for pod in before.pods if _by_name(pod) not in there and _renamed(pod)}
    passed = tuple(replace(p, phase="Succeeded", ready=False) for p in before.pods if _by_name(p) in names)
    objects = Objects(
        nodes=before.nodes if nodes is None else tuple(nodes),
        pods=(*kept, *passed),
        workloads=before.workloads if workloads is None else tuple(workloads),
        services=before.services if services is None else tuple(services),
        # Without endpoints: they would call for pods that have just gone.
        endpoint_slices=tuple(replace(piece, endpoints=()) for piece in before.slices if piece.family is not None),
        namespaces=_merged(before.namespaces, extra.namespaces, lambda item: item.name),
        configs=(*before.configs, *extra.configs),
        ignored=before.ignored,
        not_modelled=tuple(dict.fromkeys((*before.not_modelled, *extra.not_modelled))),
        warnings=before.warnings,
        settled=Settled(before.families, before.cluster_cidrs, before.service_cidrs, before.node_subnets),
    )
    after = complete(objects, seed=seed)
    if names:
        after = replace(after, pods=tuple(pod for pod in after.pods if _by_name(pod) not in names))
    later: list[tuple[int, Change]] = []
    if ready_after:
        fresh = {key for key, (old, new) in changed_pods(before, after).items() if old is None and new is not None}
        if fresh:
            starting = [replace(p, ready=False) if (p.namespace, p.name) in fresh else p for p in after.pods]
            after = replace(after, pods=tuple(starting))
            later.append((ready_after, PodsReady(tuple(sorted(fresh)))))
    given = list(extra.endpoint_slices)
    for legacy in extra.endpoints:
        service = after.service(legacy.namespace, legacy.name)
        if service is not None:
            given += mirror(service, legacy)
    after = reconciled(before, after, given, removed)
    return Changed(replace(after, legacy_endpoints=before.legacy_endpoints), None, tuple(later))


def _renamed(pod: PodState) -> bool:
    """Whether its controller draws names. (A node that goes takes its name along.)"""
    return pod.owner is not None and pod.owner.kind in ("ReplicaSet", "ReplicationController", "Job")


def _merged(old: Sequence[Any], new: Sequence[Any], name: Callable[[Any], object]) -> tuple[Any, ...]:
    """What was there, with the new ones in place of those of the same name."""
    kept = {name(item): item for item in old}
    kept.update({name(item): item for item in new})
    return tuple(kept.values())


def _by_name(item: Any) -> Key:
    return item.namespace, item.name


# ---- objects -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Apply:
    """`kubectl apply`: objects that come, or take the place of those of the same name. What the cluster has given an
    object (addresses, node ports, a node) stays where the new one does not say. A workload with another template is
    rolled out, one with other replicas scaled. ready_after: of pods that come."""

    objects: Objects
    ready_after: int = 0

    def __str__(self) -> str:
        names = [f"{_kind(item)}/{item.name}" for item in self._items()]
        return f"apply {', '.join(names) or 'nothing'}"

    def _items(self) -> list[Any]:
        given = self.objects
        return [
            *given.namespaces,
            *given.nodes,
            *given.workloads,
            *given.pods,
            *given.services,
            *given.endpoint_slices,
            *given.endpoints,
        ]

    def apply(self, state: ClusterState, seed: int) -> Changed:
        given = self.objects
        later: list[tuple[int, Change]] = []
        workloads = {(w.kind, *_by_name(w)): w for w in state.workloads}
        for workload in given.workloads:
            key = (workload.kind, *_by_name(workload))
            known = workloads.get(key)
            if known is None:
                workloads[key] = workload
                continue
            if known.template != workload.template:
                later.append((0, Rollout(workload, ready_after=self.ready_after)))
            elif known.replicas != workload.replicas and workload.kind not in ("DaemonSet", "Job"):
                later.append(
                    (0, Scale(workload.kind, *_by_name(workload), workload.replicas, ready_after=self.ready_after))
                )
        changed = _completed(
            state,
            seed,
            nodes=_merged(state.nodes, [_with_place(n, state) for n in given.nodes], lambda n: n.name),
            pods=_merged(state.pods, [_with_address(p, state) for p in given.pods], _by_name),
            services=_merged(state.services, [_with_ports(s, state) for s in given.services], _by_name),
            workloads=workloads.values(),
            extra=given,
            ready_after=self.ready_after,
        )
        return changed._replace(later=(*changed.later, *later))


def _kind(item: Any) -> str:
    kind = type(item).__name__.removesuffix("State")
    return str(getattr(item, "kind", kind)).lower()


def _with_place(node: NodeState, state: ClusterState) -> NodeState:
    known = state.node(node.name)
    if known is None:
        return node
    return replace(
        node,
        index=known.index,
        addresses=node.addresses or known.addresses,
        pod_cidrs=node.pod_cidrs or known.pod_cidrs,
        external_addresses=node.external_addresses or known.external_addresses,
        last_reserved=known.last_reserved,
    )


def _with_address(pod: PodState, state: ClusterState) -> PodState:
    known = state.pod(pod.namespace, pod.name)
    if known is None:
        return pod
    if pod.node is not None and pod.node != known.node:
        raise ModelError(f"Pod {pod} is bound to Node {known.node}, and no change can move it")
    return replace(pod, node=known.node, ips=pod.ips or known.ips)


def _with_ports(service: ServiceState, state: ClusterState) -> ServiceState:
    known = state.service(service.namespace, service.name)
    if known is None:
        return service
    numbers = {(port.protocol, port.port): port.node_port for port in known.ports}
    exposed = service.type in ("NodePort", "LoadBalancer") and service.allocate_node_ports
    ports = tuple(
        replace(port, node_port=numbers.get((port.protocol, port.port), 0)) if exposed and not port.node_port else port
        for port in service.ports
    )
    virtual = not service.headless and service.type != "ExternalName"
    return replace(
        service,
        ports=ports,
        cluster_ips=service.cluster_ips or (known.cluster_ips if virtual else ()),
        ip_families=service.ip_families or known.ip_families,
        ip_family_policy=service.ip_family_policy or known.ip_family_policy,
        ingress=service.ingress or (known.ingress if service.type == "LoadBalancer" else ()),
        health_check_node_port=service.health_check_node_port or known.health_check_node_port,
    )


@dataclass(frozen=True, slots=True)
class Delete:
    """`kubectl delete`. A pod is terminating for `grace`, and gone then; a workload takes its pods along, and one that
    loses a pod makes another, ready after `ready_after`."""

    kind: str
    namespace: str
    name: str
    grace: int = 0
    ready_after: int = 0

    def __str__(self) -> str:
        return f"delete {self.kind.lower()}/{self.name}"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        match self.kind:
            case "Pod":
                return self._pods(state, seed, [self._found(state.pod(self.namespace, self.name))])
            case "Service":
                self._found(state.service(self.namespace, self.name))
                kept = [s for s in state.services if _by_name(s) != (self.namespace, self.name)]
                return _completed(state, seed, services=kept)
            case "EndpointSlice":
                self._found(next((s for s in state.slices if _by_name(s) == (self.namespace, self.name)), None))
                return _completed(state, seed, removed=[(self.namespace, self.name)])
            case "Node":
                self._found(state.node(self.name))
                pods = [pod for pod in state.pods if pod.node != self.name]
                return _completed(state, seed, nodes=[n for n in state.nodes if n.name != self.name], pods=pods)
            case kind if kind in WORKLOADS:
                workload = _workload(state, self.kind, self.namespace, self.name)
                kept_workloads = tuple(w for w in state.workloads if w is not workload)
                return self._pods(replace(state, workloads=kept_workloads), seed, _live(state, workload))
        raise ModelError(f"delete {self.kind}: nothing that a running cluster can lose")

    def _found(self, item: _Item | None) -> _Item:
        if item is None:
            where = self.name if self.kind == "Node" else f"{self.namespace}/{self.name}"
            raise ModelError(f"delete: no {self.kind} {where}")
        return item

    def _pods(self, state: ClusterState, seed: int, pods: Sequence[PodState]) -> Changed:
        keys = {_by_name(pod) for pod in pods}
        if not self.grace:
            return _completed(
                state, seed, pods=[p for p in state.pods if _by_name(p) not in keys], ready_after=self.ready_after
            )
        changed = _completed(
            state,
            seed,
            pods=[replace(p, terminating=True) if _by_name(p) in keys else p for p in state.pods],
            ready_after=self.ready_after,
        )
        gone = tuple((self.grace, Gone(*key)) for key in sorted(keys))
        return changed._replace(later=(*changed.later, *gone))


@dataclass(frozen=True, slots=True)
class Gone:
    """The end of a terminating pod."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"pod/{self.name} is gone"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        kept = [pod for pod in state.pods if _by_name(pod) != (self.namespace, self.name)]
        return _completed(state, seed, pods=kept) if len(kept) < len(state.pods) else Changed(state, frozenset())


@dataclass(frozen=True, slots=True)
class PodsReady:
    """Pods begin to serve."""

    pods: tuple[Key, ...]

    def __str__(self) -> str:
        return f"{', '.join(f'pod/{name}' for _, name in self.pods)} ready"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        found = [pod for key in self.pods if (pod := state.pod(*key)) is not None and not pod.ready]
        return _conditions(state, [replace(pod, ready=True) for pod in found])


def _conditions(state: ClusterState, pods: Sequence[PodState]) -> Changed:
    """Pods in other conditions, of the same names and addresses."""
    zones = {node.name: node.zone for node in state.nodes}
    changes = {_by_name(pod): (state.pod(*_by_name(pod)), pod) for pod in pods}
    namespaces = {pod.namespace for pod in pods}
    touched: dict[Key, tuple[EndpointSlice, ...]] = {}
    for service in state.services:
        if service.namespace not in namespaces or not service.selector:
            continue
        before = state.endpoints.get(_by_name(service), ())
        after = tuple(edited(service, before, changes, zones))
        if after != before:
            touched[_by_name(service)] = after
    return Changed(state.changed(pods, touched), frozenset(touched))


@dataclass(frozen=True, slots=True)
class SetEndpoint:
    """The conditions of an endpoint, by its pod or its address. What is None stays; an endpoint that is not ready does
    not serve either, unless that is said or it is terminating, and a terminating one is not ready. service: only its
    entries; "" for all."""

    namespace: str
    pod: str = ""
    address: str = ""
    service: str = ""
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None

    def __str__(self) -> str:
        said = [
            f"{name}={str(value).lower()}"
            for name, value in (("ready", self.ready), ("serving", self.serving), ("terminating", self.terminating))
            if value is not None
        ]
        return f"endpoint {f'pod/{self.pod}' if self.pod else self.address} {' '.join(said)}"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        pod = state.pod(self.namespace, self.pod) if self.pod else None
        if self.pod and pod is None:
            raise ModelError(f"no Pod {self.namespace}/{self.pod}")
        if pod is None:
            wanted = ip_address(self.address)
            pod = next((p for p in state.pods if wanted in p.ips and not p.host_network), None)
        addresses = {str(ip) for ip in pod.ips} if pod is not None else set()
        if self.address:
            addresses.add(self.address)
        touched: dict[Key, tuple[EndpointSlice, ...]] = {}
        last: Endpoint | None = None
        keys = [(self.namespace, self.service)] if self.service else state.endpoints
        for key in keys:
            pieces = state.endpoints.get(key, ())
            if key[0] != self.namespace:
                continue
            made = []
            for piece in pieces:
                if any(endpoint.address in addresses for endpoint in piece.endpoints):
                    endpoints = tuple(self._set(e) if e.address in addresses else e for e in piece.endpoints)
                    last = next(e for e in endpoints if e.address in addresses)
                    piece = replace(piece, endpoints=endpoints)
                made.append(piece)
            if tuple(made) != pieces:
                touched[key] = tuple(made)
        if last is None:
            where = f"Service {self.namespace}/{self.service}" if self.service else f"namespace {self.namespace}"
            raise ModelError(f"no EndpointSlice of {where} has an endpoint {self.pod or self.address}")
        pods = []
        if pod is not None and (pod.ready, pod.terminating) != (last.serving, last.terminating):
            pods.append(replace(pod, ready=last.serving, terminating=last.terminating))
        return Changed(state.changed(pods, touched), frozenset(touched))

    def _set(self, endpoint: Endpoint) -> Endpoint:
        terminating = endpoint.terminating if self.terminating is None else self.terminating
        serving = endpoint.serving if self.serving is None else self.serving
        ready = endpoint.ready
        if self.ready is not None:
            ready = self.ready
            if self.serving is None:
                serving = self.ready or (terminating and endpoint.serving)
        elif self.terminating is not None or self.serving is not None:
            ready = serving and not terminating
        return replace(endpoint, ready=ready, serving=serving, terminating=terminating)


# ---- pods and workloads ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RestartPod:
    """A pod goes, and a new one of its name comes on its node with a new address, ready after `ready_after`."""

    namespace: str
    name: str
    ready_after: int = 0

    def __str__(self) -> str:
        return f"restart pod/{self.name}"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        pod = state.pod(self.namespace, self.name)
        if pod is None:
            raise ModelError(f"restart: no Pod {self.namespace}/{self.name}")
        if pod.host_network:
            raise ModelError(f"restart: Pod {pod} has its node's address, and no other to get")
        fresh = replace(pod, ips=(), ready=True, terminating=False, phase="Running", created=True, manifest={})
        kept = [p for p in state.pods if p is not pod]
        if not self.ready_after:
            return _completed(state, seed, pods=[*kept, fresh])
        changed = _completed(state, seed, pods=[*kept, replace(fresh, ready=False)])
        return changed._replace(later=((self.ready_after, PodsReady(((self.namespace, self.name),))),))


@dataclass(frozen=True, slots=True)
class Scale:
    """`kubectl scale`: pods that come are ready after `ready_after`, those that go are terminating for `grace`."""

    kind: str
    namespace: str
    name: str
    replicas: int
    ready_after: int = 0
    grace: int = 0

    def __str__(self) -> str:
        return f"scale {self.kind.lower()}/{self.name} to {self.replicas}"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        workload = _workload(state, self.kind, self.namespace, self.name)
        if self.kind in ("DaemonSet", "Job"):
            raise ModelError(f"scale: a {self.kind} has no replicas to scale")
        pods = _live(state, workload)
        victims = {_by_name(pod) for pod in _victims(workload, pods, len(pods) - self.replicas)}
        return _resized(state, seed, workload, self.replicas, victims, self.ready_after, self.grace)


def _resized(
    state: ClusterState,
    seed: int,
    workload: Workload,
    replicas: int,
    victims: set[Key],
    ready_after: int,
    grace: int,
) -> Changed:
    """The workload with so many pods once the victims are gone."""
    workloads = [replace(w, replicas=replicas) if w is workload else w for w in state.workloads]
    pods = state.pods
    if grace:
        pods = tuple(replace(p, terminating=True) if _by_name(p) in victims else p for p in pods)
    else:
        pods = tuple(p for p in pods if _by_name(p) not in victims)
    changed = _completed(state, seed, workloads=workloads, pods=pods, ready_after=ready_after)
    gone = tuple((grace, Gone(*key)) for key in sorted(victims)) if grace else ()
    return changed._replace(later=(*changed.later, *gone))


def _workload(state: ClusterState, kind: str, namespace: str, name: str) -> Workload:
    for workload in state.workloads:
        if (workload.kind, workload.namespace, workload.name) == (kind, namespace, name):
            return workload
    raise ModelError(f"no {kind} {namespace}/{name}")


def _victims(workload: Workload, pods: Sequence[PodState], count: int) -> Sequence[PodState]:
    """Who goes first: of a StatefulSet the highest ordinal; else those that are not ready, then those on the node with
    most of them."""
    if count <= 0:
        return ()
    if workload.kind == "StatefulSet":
        return sorted(pods, key=lambda pod: int(pod.name.rpartition("-")[2]), reverse=True)[:count]
    left, chosen = list(pods), []
    for _ in range(min(count, len(left))):
        crowd: dict[str | None, int] = {}
        for pod in left:
            crowd[pod.node] = crowd.get(pod.node, 0) + 1
        victim = max(left, key=lambda pod: (not pod.ready, crowd[pod.node], pod.name))
        left.remove(victim)
        chosen.append(victim)
    return chosen


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rolling update of a workload, with a new template or, as `kubectl rollout restart`, with the one it has.

    max_surge, max_unavailable: a number or a percentage, of a Deployment. ready_after: of each new pod. grace: of each
    old one. old: the pods that are to go; None before it has begun.
    """

    workload: Workload
    max_surge: str = "25%"
    max_unavailable: str = "25%"
    ready_after: int = 0
    grace: int = 0
    old: frozenset[Key] | None = None

    def __str__(self) -> str:
        return f"rollout {self.workload.kind.lower()}/{self.workload.name}"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        known = _workload(state, self.workload.kind, self.workload.namespace, self.workload.name)
        pods = _live(state, known)
        if self.old is None:
            template = self.workload.template
            if template == known.template:
                # kubectl writes the time; a count does as well, and gives the same names in every run.
                before = template.annotations.get(RESTARTED, "")
                count = int(before) + 1 if before.isdigit() else 1
                template = replace(template, annotations={**template.annotations, RESTARTED: str(count)})
            changed_workload = replace(known, template=template)
            workloads = tuple(changed_workload if w is known else w for w in state.workloads)
            begun = replace(
                self, workload=replace(changed_workload, replicas=len(pods)), old=frozenset(map(_by_name, pods))
            )
            return begun._step(replace(state, workloads=workloads), seed)
        return self._step(state, seed)

    def _step(self, state: ClusterState, seed: int) -> Changed:
        assert self.old is not None
        workload = _workload(state, self.workload.kind, self.workload.namespace, self.workload.name)
        pods = _live(state, workload)
        old = [pod for pod in pods if _by_name(pod) in self.old]
        if workload.kind != "Deployment":
            return self._one_by_one(state, seed, workload, old)
        desired, new = self.workload.replicas, len(pods) - len(old)
        surge, unavailable = _share(self.max_surge, desired, ceil), _share(self.max_unavailable, desired, int)
        if not surge and not unavailable:
            unavailable = 1
        available = sum(pod.ready for pod in pods)
        remove = max(0, min(len(old), available - (desired - unavailable)))
        remove = max(remove, sum(not pod.ready for pod in old))
        create = max(0, min(desired - new, desired + surge - (len(pods) - remove)))
        if not create and not remove:
            if not old or not any(not pod.ready for pod in pods):
                return Changed(state, frozenset())
            return Changed(state, frozenset(), ((max(self.ready_after, SECOND), self),))
        victims = {_by_name(pod) for pod in _victims(workload, old, remove)}
        changed = _resized(
            state, seed, workload, len(pods) - len(victims) + create, victims, self.ready_after, self.grace
        )
        rest = replace(self, old=self.old - victims)
        return changed._replace(later=(*changed.later, (self.ready_after, rest)))

    def _one_by_one(self, state: ClusterState, seed: int, workload: Workload, old: Sequence[PodState]) -> Changed:
        """A StatefulSet from its last pod to its first, a DaemonSet node by node: the next when the one before serves."""
        if not old:
            return Changed(state, frozenset())
        last = max(old, key=lambda pod: int(pod.name.rpartition("-")[2])) if workload.kind == "StatefulSet" else old[0]
        spec = replace(workload.template.spec, hostname=last.spec.hostname, subdomain=last.spec.subdomain)
        fresh = replace(last, spec=spec, labels={**last.labels, **workload.template.labels})
        pods = tuple(fresh if pod is last else pod for pod in state.pods)
        changed = RestartPod(last.namespace, last.name, self.ready_after).apply(replace(state, pods=pods), seed)
        rest = replace(self, old=(self.old or frozenset()) - {_by_name(last)})
        return changed._replace(later=(*changed.later, (self.ready_after, rest)))


def _share(text: str, of: int, rounded: Callable[[float], int]) -> int:
    return rounded(of * int(text[:-1]) / 100) if text.endswith("%") else int(text)


# ---- nodes and proxies -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoseNode:
    """A node dies without a word. After `not_ready_after` the control plane notices, and its endpoints are not ready;
    `evict_after` later its pods are deleted, and their workloads make others elsewhere. 0 for evict_after: never."""

    name: str
    not_ready_after: int = 40 * SECOND
    evict_after: int = 300 * SECOND

    def __str__(self) -> str:
        return f"lose node/{self.name}"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        if state.node(self.name) is None:
            raise ModelError(f"lose: no Node {self.name}")
        return Changed(state, frozenset(), ((self.not_ready_after, NodeNotReady(self.name, self.evict_after)),))


@dataclass(frozen=True, slots=True)
class NodeNotReady:
    """The control plane has missed a node's heartbeats."""

    name: str
    evict_after: int = 0

    def __str__(self) -> str:
        return f"node/{self.name} not ready"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        changed = _conditions(state, [replace(pod, ready=False) for pod in state.pods_on(self.name) if pod.ready])
        later: tuple[tuple[int, Change], ...] = ((self.evict_after, Evict(self.name)),) if self.evict_after else ()
        return changed._replace(later=later)


@dataclass(frozen=True, slots=True)
class Evict:
    """The pods of a lost node are deleted; nobody is there to end them, so they stay terminating."""

    name: str

    def __str__(self) -> str:
        return f"evict from node/{self.name}"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        nodes = [replace(n, unschedulable=True) if n.name == self.name else n for n in state.nodes]
        daemons = ("DaemonSet",)
        pods = [
            replace(pod, terminating=True)
            if pod.node == self.name and (pod.owner is None or pod.owner.kind not in daemons)
            else pod
            for pod in state.pods
        ]
        return _completed(state, seed, nodes=nodes, pods=pods)


@dataclass(frozen=True, slots=True)
class RestartProxy:
    """kube-proxy of a node ("*": of every node) stops, and does its full sync `down` later."""

    node: str = "*"
    down: int = 0

    def __str__(self) -> str:
        return f"restart kube-proxy of {self.node}"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        if self.node != "*" and state.node(self.node) is None:
            raise ModelError(f"restartProxy: no Node {self.node}")
        return Changed(state, frozenset())


@dataclass(frozen=True, slots=True)
class ProxyMode:
    """Every kube-proxy goes on in another mode."""

    mode: str
    known: tuple[str, ...] = field(default=("iptables", "ipvs"))

    def __post_init__(self) -> None:
        if self.mode not in self.known:
            raise ModelError(f"kube-proxy mode {self.mode!r} is not modelled; {' and '.join(self.known)} are")

    def __str__(self) -> str:
        return f"proxy mode {self.mode}"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        return Changed(state, frozenset())
