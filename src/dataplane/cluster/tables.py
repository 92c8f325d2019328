"""What `kubectl get` prints, as plain data: the same columns, cells and order, without AGE.

Cells follow the printers of the API server (pkg/printers/internalversion): `<none>`, `<pending>`, `<unset>`,
`a,b,c + 2 more...`. Printing is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataplane.cluster.objects import (
    ClusterState,
    Endpoints,
    EndpointSlice,
    Namespace,
    NodeState,
    PodState,
    ServiceState,
    Workload,
)
from dataplane.cluster.slices import endpoints_objects
from dataplane.errors import ModelError

NONE = "<none>"
_SHOWN = 3  # of a list of addresses or ports
_BALANCER_WIDTH = 16


@dataclass(frozen=True, slots=True)
class Table:
    """columns: upper case, as kubectl heads them. rows: a cell per column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind that can be listed. name: kubectl's plural; names: all that it answers to."""

    name: str
    kind: str
    namespaced: bool
    names: tuple[str, ...]
    columns: tuple[str, ...]
    wide: tuple[str, ...]
    items: Callable[[ClusterState], Sequence[Any]]
    cells: Callable[[ClusterState, Any, bool], tuple[str, ...]]


def resource(name: str) -> Resource:
    """A resource by kubectl's plural, singular or short name. Raises ModelError for any other."""
    found = _BY_NAME.get(name.lower())
    if found is None:
        raise ModelError(f'there is no resource type "{name}": {", ".join(entry.name for entry in RESOURCES)}')
    return found


def select(state: ClusterState, kind: Resource, namespace: str | None, names: Iterable[str] = ()) -> list[Any]:
    """The objects of a kind by (namespace, name): of one namespace, or of all where it is None; those named, in the
    order in which they are named. Raises ModelError for a name that is not there."""
    items = sorted(kind.items(state), key=lambda item: (getattr(item, "namespace", ""), item.name))
    if kind.namespaced and namespace is not None:
        items = [item for item in items if item.namespace == namespace]
    names = list(names)
    if not names:
        return items
    by_name: dict[str, list[Any]] = {}
    for item in items:
        by_name.setdefault(item.name, []).append(item)
    chosen: list[Any] = []
    for name in names:
        if name not in by_name:
            where = f" in namespace {namespace}" if kind.namespaced and namespace is not None else ""
            raise ModelError(f'{kind.name} "{name}" not found{where}')
        chosen.extend(by_name[name])
    return chosen


def table(
    state: ClusterState, name: str, *, namespace: str | None = "default", names: Iterable[str] = (), wide: bool = False
) -> Table:
    """`kubectl get NAME [NAMES]`. namespace None is -A: all of them, and the column NAMESPACE first."""
    kind = resource(name)
    everywhere = kind.namespaced and namespace is None
    columns = (*(("NAMESPACE",) if everywhere else ()), *kind.columns, *(kind.wide if wide else ()))
    rows = []
    for item in select(state, kind, namespace, names):
        cells = kind.cells(state, item, wide)
        if not wide:
            cells = cells[: len(kind.columns)]
        rows.append((item.namespace, *cells) if everywhere else cells)
    return Table(columns, tuple(rows))


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels)) or NONE


def _some(items: Sequence[str], empty: str) -> str:
    text = ",".join(items[:_SHOWN])
    return f"{text} + {len(items) - _SHOWN} more..." if len(items) > _SHOWN else text or empty


def _join(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _node(state: ClusterState, node: NodeState, wide: bool) -> tuple[str, ...]:
    status = "Ready" if node.ready else "NotReady"
    if node.unschedulable:
        status += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    roles = {label.removeprefix(prefix) for label in node.labels if label.startswith(prefix)}
    roles |= {node.labels[label] for label in ("kubernetes.io/role",) if label in node.labels}
    info = (node.manifest.get("status") or {}).get("nodeInfo") or {}
    return (
        node.name,
        status,
        ",".join(sorted(role for role in roles if role)) or NONE,
        info.get("kubeletVersion", ""),
        str(node.addresses[0]) if node.addresses else NONE,
        str(node.external_addresses[0]) if node.external_addresses else NONE,
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    )


def _pod(state: ClusterState, pod: PodState, wide: bool) -> tuple[str, ...]:
    status = pod.manifest.get("status") or {}
    spec = pod.manifest.get("spec") or {}
    ready, total, restarts = _containers(pod, status)
    gates = spec.get("readinessGates") or ()
    conditions = {entry.get("type"): entry.get("status") for entry in status.get("conditions") or ()}
    passed = sum(conditions.get(gate.get("conditionType")) == "True" for gate in gates)
    return (
        pod.name,
        f"{ready}/{total}",
        _pod_status(pod, status),
        str(restarts),
        str(pod.ips[0]) if pod.ips else NONE,
        pod.node or NONE,
        status.get("nominatedNodeName") or NONE,
        f"{passed}/{len(gates)}" if gates else NONE,
    )


def _containers(pod: PodState, status: Mapping[str, Any]) -> tuple[int, int, int]:
    total = max(1, len(pod.spec.containers))
    statuses = status.get("containerStatuses")
    if statuses is None:
        return total if pod.ready and not pod.finished else 0, total, 0
    ready = sum(
        bool(entry.get("ready") and (entry.get("state") or {}).get("running") is not None) for entry in statuses
    )
    return ready, total, sum(int(entry.get("restartCount") or 0) for entry in statuses)


def _pod_status(pod: PodState, status: Mapping[str, Any]) -> str:
    """STATUS: a container that waits or has ended says more than the phase does."""
    reason = str(status.get("reason") or pod.phase)
    running = False
    for entry in status.get("containerStatuses") or ():
        state = entry.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated:
            code, signal = terminated.get("exitCode", 0), terminated.get("signal", 0)
            reason = terminated.get("reason") or (f"Signal:{signal}" if signal else f"ExitCode:{code}")
        elif entry.get("ready") and state.get("running") is not None:
            running = True
    if reason == "Completed" and running:
        reason = "Running" if pod.ready else "NotReady"
    if pod.node is not None and pod.phase == "Pending" and reason == "Pending":
        reason = "ContainerCreating"
    if pod.terminating:
        reason = "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return reason


def _service(state: ClusterState, service: ServiceState, wide: bool) -> tuple[str, ...]:
    ports = ",".join(
        f"{port.port}:{port.node_port}/{port.protocol}" if port.node_port else f"{port.port}/{port.protocol}"
        for port in service.ports
    )
    address = str(service.cluster_ips[0]) if service.cluster_ips else "None" if service.headless else NONE
    external = _external(service, wide) or NONE
    return service.name, service.type, address, external, ports or NONE, _labels(service.selector)


def _external(service: ServiceState, wide: bool) -> str:
    if service.type == "ExternalName":
        return service.external_name
    external = [str(ip) for ip in service.external_ips]
    if service.type != "LoadBalancer":
        return ",".join(external)
    names = sorted({str(entry.ip) if entry.ip is not None else entry.hostname for entry in service.ingress} - {""})
    balancer = ",".join(names)
    if not wide and len(balancer) > _BALANCER_WIDTH:
        balancer = balancer[: _BALANCER_WIDTH - 3] + "..."
    return ",".join(([balancer] if balancer else []) + external) or "<pending>"


def _endpoints(state: ClusterState, entry: Endpoints, wide: bool) -> tuple[str, ...]:
    shown: list[str] = []
    for subset in entry.subsets:
        ready = [endpoint.address for endpoint in subset.endpoints if endpoint.ready]
        if subset.ports:
            shown += [_join(address, port.port) for port in subset.ports for address in ready]
        else:
            shown += ready
    return entry.name, _some(shown, NONE)


def _slice(state: ClusterState, piece: EndpointSlice, wide: bool) -> tuple[str, ...]:
    ports = [str(port.port) if port.port else port.name or "*" for port in piece.ports]
    addresses = [endpoint.address for endpoint in piece.endpoints]
    return piece.name, piece.address_type, _some(ports, "<unset>"), _some(addresses, "<unset>")


def _namespace(state: ClusterState, namespace: Namespace, wide: bool) -> tuple[str, ...]:
    return namespace.name, namespace.phase


def _workload(state: ClusterState, workload: Workload, wide: bool) -> tuple[str, ...]:
    controlled = state.pods_of(workload.kind, workload.namespace, workload.name)
    pods = [pod for pod in controlled if not pod.finished and not pod.terminating]
    ready = str(sum(pod.ready for pod in pods))
    have = str(len(pods))
    template = workload.template.spec.manifest.get("containers") or ()
    wider = (
        ",".join(workload.template.spec.containers),
        ",".join(str(container.get("image", "")) for container in template),
    )
    selector = _labels(workload.selector.labels)
    match workload.kind:
        case "Deployment":
            return workload.name, f"{ready}/{workload.replicas}", have, ready, *wider, selector
        case "StatefulSet":
            return workload.name, f"{ready}/{workload.replicas}", *wider
        case "DaemonSet":
            nodes = _labels(workload.template.spec.node_selector)
            return workload.name, have, have, ready, have, ready, nodes, *wider, selector
        case _:
            return workload.name, str(workload.replicas), have, ready, *wider, selector


def _of_kind(kind: str) -> Callable[[ClusterState], Sequence[Workload]]:
    return lambda state: [workload for workload in state.workloads if workload.kind == kind]


RESOURCES: tuple[Resource, ...] = (
    Resource(
        "nodes",
        "Node",
        False,
        ("node", "no"),
        ("NAME", "STATUS", "ROLES", "VERSION"),
        ("INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"),
        lambda state: state.nodes,
        _node,
    ),
    Resource(
        "namespaces",
        "Namespace",
        False,
        ("namespace", "ns"),
        ("NAME", "STATUS"),
        (),
        lambda s: s.namespaces,
        _namespace,
    ),
    Resource(
        "pods",
        "Pod",
        True,
        ("pod", "po"),
        ("NAME", "READY", "STATUS", "RESTARTS"),
        ("IP", "NODE", "NOMINATED NODE", "READINESS GATES"),
        lambda state: state.pods,
        _pod,
    ),
    Resource(
        "services",
        "Service",
        True,
        ("service", "svc"),
        ("NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)"),
        ("SELECTOR",),
        lambda state: state.services,
        _service,
    ),
    Resource("endpoints", "Endpoints", True, ("ep",), ("NAME", "ENDPOINTS"), (), endpoints_objects, _endpoints),
    Resource(
        "endpointslices",
        "EndpointSlice",
        True,
        ("endpointslice",),
        ("NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS"),
        (),
        lambda state: state.slices,
        _slice,
    ),
    Resource(
        "deployments",
        "Deployment",
        True,
        ("deployment", "deploy"),
        ("NAME", "READY", "UP-TO-DATE", "AVAILABLE"),
        ("CONTAINERS", "IMAGES", "SELECTOR"),
        _of_kind("Deployment"),
        _workload,
    ),
    Resource(
        "replicasets",
        "ReplicaSet",
        True,
        ("replicaset", "rs"),
        ("NAME", "DESIRED", "CURRENT", "READY"),
        ("CONTAINERS", "IMAGES", "SELECTOR"),
        _of_kind("ReplicaSet"),
        _workload,
    ),
    Resource(
        "statefulsets",
        "StatefulSet",
        True,
        ("statefulset", "sts"),
        ("NAME", "READY"),
        ("CONTAINERS", "IMAGES"),
        _of_kind("StatefulSet"),
        _workload,
    ),
    Resource(
        "daemonsets",
        "DaemonSet",
        True,
        ("daemonset", "ds"),
        ("NAME", "DESIRED", "CURRENT", "READY", "UP-TO-DATE", "AVAILABLE", "NODE SELECTOR"),
        ("CONTAINERS", "IMAGES", "SELECTOR"),
        _of_kind("DaemonSet"),
        _workload,
    ),
)
_BY_NAME = {name: entry for entry in RESOURCES for name in (entry.name, *entry.names)}
