"""Nodes, namespaces, pods and the workloads that make pods: the API's models -> objects."""

from __future__ import annotations

from typing import Any

from dataplane.cluster.fields import PROTOCOLS, Fields
from dataplane.cluster.models import apps_v1, batch_v1, core_v1, meta_v1
from dataplane.cluster.objects import (
    MAX_PODS,
    Address,
    ContainerPort,
    LabelSelector,
    Namespace,
    Network,
    NodeState,
    Owner,
    PodSpec,
    PodState,
    PodTemplate,
    Requirement,
    Taint,
    Toleration,
    Workload,
)

OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def controller(metadata: meta_v1.ObjectMeta) -> Owner | None:
    for reference in metadata.ownerReferences or ():
        if reference.controller:
            return Owner(reference.kind, reference.name)
    return None


def read_namespace(model: core_v1.Namespace, raw: dict[str, Any], fields: Fields) -> Namespace:
    metadata = model.metadata or meta_v1.ObjectMeta()
    status = model.status or core_v1.NamespaceStatus()
    return Namespace(
        name=metadata.name or "",
        labels=fields.texts(metadata.labels, "metadata.labels"),
        phase=status.phase or "Active",
        origin=fields.origin,
        manifest=raw,
    )


def read_node(model: core_v1.Node, raw: dict[str, Any], fields: Fields) -> NodeState:
    metadata = model.metadata or meta_v1.ObjectMeta()
    spec = model.spec or core_v1.NodeSpec()
    status = model.status or core_v1.NodeStatus()
    internal: list[Address] = []
    external: list[Address] = []
    for index, entry in enumerate(status.addresses or ()):
        if entry.type in ("InternalIP", "ExternalIP"):
            address = fields.address(entry.address, f"status.addresses[{index}].address")
            (internal if entry.type == "InternalIP" else external).append(address)
    ready = next((entry.status == "True" for entry in status.conditions or () if entry.type == "Ready"), True)
    taints = tuple(
        Taint(taint.key, taint.value or "", fields.one_of(taint.effect, f"spec.taints[{index}].effect", EFFECTS, ""))
        for index, taint in enumerate(spec.taints or ())
    )
    return NodeState(
        name=metadata.name or "",
        addresses=tuple(internal),
        pod_cidrs=_pod_cidrs(spec, fields),
        external_addresses=tuple(external),
        labels=fields.texts(metadata.labels, "metadata.labels"),
        annotations=fields.texts(metadata.annotations, "metadata.annotations"),
        taints=taints,
        unschedulable=bool(spec.unschedulable),
        ready=ready,
        max_pods=_max_pods(status, fields),
        origin=fields.origin,
        manifest=raw,
    )


def _max_pods(status: core_v1.NodeStatus, fields: Fields) -> int:
    for path, quantities in (("allocatable", status.allocatable), ("capacity", status.capacity)):
        if quantities and "pods" in quantities:
            text = str(quantities["pods"])
            if not text.isascii() or not text.isdigit():
                raise fields.error(f"status.{path}.pods", f'"{text}" is not a count')
            return int(text)
    return MAX_PODS


def _pod_cidrs(spec: core_v1.NodeSpec, fields: Fields) -> tuple[Network, ...]:
    if not spec.podCIDRs:
        return (fields.network(spec.podCIDR, "spec.podCIDR"),) if spec.podCIDR else ()
    networks = tuple(fields.network(text, f"spec.podCIDRs[{index}]") for index, text in enumerate(spec.podCIDRs))
    if spec.podCIDR and fields.network(spec.podCIDR, "spec.podCIDR") != networks[0]:
        raise fields.error("spec.podCIDR", f'"{spec.podCIDR}" is not the first of podCIDRs')
    if len(networks) > 2 or len({network.version for network in networks}) < len(networks):
        raise fields.error("spec.podCIDRs", "holds more than one network of a family")
    return networks


def read_pod(model: core_v1.Pod, raw: dict[str, Any], fields: Fields) -> PodState:
    metadata = model.metadata or meta_v1.ObjectMeta()
    if model.spec is None:
        raise fields.error("spec", "is missing")
    spec = read_pod_spec(model.spec, raw["spec"], fields, "spec")
    status = model.status or core_v1.PodStatus()
    phase = status.phase or "Running"
    if status.conditions is not None:
        ready = any(entry.type == "Ready" and entry.status == "True" for entry in status.conditions)
    else:
        ready = phase == "Running"
    texts = [entry.ip for entry in status.podIPs] if status.podIPs else [status.podIP] if status.podIP else []
    path = "status.podIPs[{}].ip" if status.podIPs else "status.podIP"
    ips = tuple(fields.address(text, path.format(index)) for index, text in enumerate(texts))
    if len({ip.version for ip in ips}) < len(ips):
        raise fields.error("status.podIPs", "holds more than one address of a family")
    hosts = [entry.ip for entry in status.hostIPs] if status.hostIPs else [status.hostIP] if status.hostIP else []
    path = "status.hostIPs[{}].ip" if status.hostIPs else "status.hostIP"
    return PodState(
        namespace=metadata.namespace or "default",
        name=metadata.name or "",
        spec=spec,
        node=spec.node_name or None,
        ips=ips,
        host_ips=tuple(fields.address(text, path.format(index)) for index, text in enumerate(hosts)),
        labels=fields.texts(metadata.labels, "metadata.labels"),
        annotations=fields.texts(metadata.annotations, "metadata.annotations"),
        phase=phase,
        ready=ready,
        terminating=metadata.deletionTimestamp is not None,
        owner=controller(metadata),
        origin=fields.origin,
        manifest=raw,
    )


def read_pod_spec(spec: core_v1.PodSpec, raw: dict[str, Any], fields: Fields, path: str) -> PodSpec:
    if not spec.containers:
        raise fields.error(f"{path}.containers", "is missing: a pod has at least one container")
    ports: list[ContainerPort] = []
    for index, container in enumerate(spec.containers):
        ports.extend(_container_ports(container, fields, f"{path}.containers[{index}]"))
    for index, container in enumerate(spec.initContainers or ()):
        # A sidecar goes on running, so its ports count; another init container is gone when the pod serves.
        found = _container_ports(container, fields, f"{path}.initContainers[{index}]")
        if container.restartPolicy == "Always":
            ports.extend(found)
    return PodSpec(
        host_network=bool(spec.hostNetwork),
        ports=tuple(ports),
        containers=tuple(container.name for container in spec.containers),
        node_name=spec.nodeName or "",
        node_selector=fields.texts(spec.nodeSelector, f"{path}.nodeSelector"),
        tolerations=tuple(
            Toleration(
                key=entry.key or "",
                operator=fields.one_of(
                    entry.operator, f"{path}.tolerations[{n}].operator", ("Equal", "Exists"), "Equal"
                ),
                value=entry.value or "",
                effect=fields.one_of(entry.effect, f"{path}.tolerations[{n}].effect", EFFECTS, ""),
            )
            for n, entry in enumerate(spec.tolerations or ())
        ),
        hostname=spec.hostname or "",
        subdomain=spec.subdomain or "",
        manifest=raw,
    )


def _toleration(entry: core_v1.Toleration, fields: Fields, path: str) -> Toleration:
    operator = fields.one_of(entry.operator, f"{path}.operator", ("Equal", "Exists"), "Equal")
    effect = fields.one_of(entry.effect, f"{path}.effect", EFFECTS, "")
    return Toleration(entry.key or "", operator, entry.value or "", effect)


def _container_ports(container: core_v1.Container, fields: Fields, path: str) -> list[ContainerPort]:
    return [
        ContainerPort(
            name=port.name or "",
            protocol=fields.one_of(port.protocol, f"{path}.ports[{index}].protocol", PROTOCOLS, "TCP"),
            port=fields.port(port.containerPort, f"{path}.ports[{index}].containerPort", optional=False),
            host_port=fields.port(port.hostPort, f"{path}.ports[{index}].hostPort"),
            host_ip=port.hostIP or "",
        )
        for index, port in enumerate(container.ports or ())
    ]


def read_template(
    template: core_v1.PodTemplateSpec | None, raw: dict[str, Any], fields: Fields, path: str
) -> PodTemplate:
    if template is None or template.spec is None:
        raise fields.error(f"{path}.spec", "is missing")
    metadata = template.metadata or meta_v1.ObjectMeta()
    return PodTemplate(
        spec=read_pod_spec(template.spec, raw["spec"], fields, f"{path}.spec"),
        labels=fields.texts(metadata.labels, f"{path}.metadata.labels"),
        annotations=fields.texts(metadata.annotations, f"{path}.metadata.annotations"),
    )


def read_selector(selector: meta_v1.LabelSelector | None, fields: Fields, path: str) -> LabelSelector:
    if selector is None:
        return LabelSelector()
    expressions = []
    for index, entry in enumerate(selector.matchExpressions or ()):
        operator: Any = fields.one_of(entry.operator, f"{path}.matchExpressions[{index}].operator", OPERATORS, "")
        values = tuple(entry.values or ())
        if (operator in ("In", "NotIn")) != bool(values):
            raise fields.error(
                f"{path}.matchExpressions[{index}].values", "is for the operators In and NotIn, and required by them"
            )
        expressions.append(Requirement(entry.key, operator, values))
    return LabelSelector(fields.texts(selector.matchLabels, f"{path}.matchLabels"), tuple(expressions))


Set = apps_v1.Deployment | apps_v1.ReplicaSet | apps_v1.StatefulSet | apps_v1.DaemonSet


def read_workload(model: Set, raw: dict[str, Any], fields: Fields) -> Workload:
    """A Deployment, ReplicaSet, StatefulSet or DaemonSet."""
    spec = model.spec
    if spec is None:
        raise fields.error("spec", "is missing")
    template = read_template(spec.template, raw["spec"].get("template") or {}, fields, "spec.template")
    selector = read_selector(spec.selector, fields, "spec.selector")
    if not selector.labels and not selector.expressions:
        raise fields.error("spec.selector", "is empty")
    if not selector.matches(template.labels):
        raise fields.error("spec.template.metadata.labels", "are not selected by spec.selector")
    replicas, first, service = 1, 0, ""
    if not isinstance(spec, apps_v1.DaemonSetSpec):
        replicas = _count(spec.replicas, 1, fields, "spec.replicas")
    if isinstance(spec, apps_v1.StatefulSetSpec):
        first = _count(spec.ordinals.start if spec.ordinals else None, 0, fields, "spec.ordinals.start")
        service = spec.serviceName or ""
    return _workload(
        model.metadata, raw, fields, template, selector, replicas, first_ordinal=first, service_name=service
    )


def read_controller(model: core_v1.ReplicationController, raw: dict[str, Any], fields: Fields) -> Workload:
    spec = model.spec or core_v1.ReplicationControllerSpec()
    template = read_template(spec.template, (raw.get("spec") or {}).get("template") or {}, fields, "spec.template")
    labels = fields.texts(spec.selector, "spec.selector") or dict(template.labels)
    replicas = _count(spec.replicas, 1, fields, "spec.replicas")
    return _workload(model.metadata, raw, fields, template, LabelSelector(labels), replicas)


def read_job(model: batch_v1.Job, raw: dict[str, Any], fields: Fields) -> Workload:
    """A Job as a workload whose pods are running: min(parallelism, completions) of them, none when it is suspended or
    its status says that it has ended."""
    spec = model.spec
    if spec is None:
        raise fields.error("spec", "is missing")
    template = read_template(spec.template, raw["spec"].get("template") or {}, fields, "spec.template")
    replicas = _count(spec.parallelism, 1, fields, "spec.parallelism")
    if spec.completions is not None or spec.completionMode == "Indexed":
        replicas = min(replicas, _count(spec.completions, 1, fields, "spec.completions"))
    conditions = (model.status.conditions if model.status else None) or ()
    ended = any(entry.type in ("Complete", "Failed") and entry.status == "True" for entry in conditions)
    if spec.suspend or ended:
        replicas = 0
    selector = read_selector(spec.selector, fields, "spec.selector")
    indexed = spec.completionMode == "Indexed"
    return _workload(model.metadata, raw, fields, template, selector, replicas, indexed=indexed)


def _count(value: int | None, default: int, fields: Fields, path: str) -> int:
    if value is None:
        return default
    if not 0 <= value <= 2**31 - 1:
        raise fields.error(path, f"{value} is not a count")
    return value


def _workload(
    metadata: meta_v1.ObjectMeta | None,
    raw: dict[str, Any],
    fields: Fields,
    template: PodTemplate,
    selector: LabelSelector,
    replicas: int,
    *,
    first_ordinal: int = 0,
    service_name: str = "",
    indexed: bool = False,
) -> Workload:
    metadata = metadata or meta_v1.ObjectMeta()
    return Workload(
        kind=raw["kind"],
        namespace=metadata.namespace or "default",
        name=metadata.name or "",
        template=template,
        selector=selector,
        replicas=replicas,
        first_ordinal=first_ordinal,
        indexed=indexed,
        service_name=service_name,
        observed=bool(raw.get("status")),
        labels=fields.texts(metadata.labels, "metadata.labels"),
        owner=controller(metadata),
        origin=fields.origin,
        manifest=raw,
    )
