"""Manifests -> `Objects`: what is stated, checked field by field; whatever plays no part is listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dataplane.cluster import read_pods, read_services, unmodelled
from dataplane.cluster.documents import Document, flatten, load_documents, parse_json, parse_yaml
from dataplane.cluster.fields import Fields
from dataplane.cluster.models import apps_v1, batch_v1, core_v1, discovery_v1, typed, unknown_fields
from dataplane.cluster.objects import (
    Config,
    Ignored,
    NodeState,
    NotModelled,
    Objects,
    Origin,
    Owner,
    PodState,
    ServiceState,
    Workload,
)
from dataplane.errors import ManifestError

# (apiVersion, kind) -> the model, its reader, the tuple of Objects that takes it.
_KINDS: dict[tuple[str, str], tuple[Any, Callable[[Any, dict[str, Any], Fields], Any], str]] = {
    ("v1", "Namespace"): (core_v1.Namespace, read_pods.read_namespace, "namespaces"),
    ("v1", "Node"): (core_v1.Node, read_pods.read_node, "nodes"),
    ("v1", "Pod"): (core_v1.Pod, read_pods.read_pod, "pods"),
    ("v1", "ReplicationController"): (core_v1.ReplicationController, read_pods.read_controller, "workloads"),
    ("v1", "Service"): (core_v1.Service, read_services.read_service, "services"),
    ("v1", "Endpoints"): (core_v1.Endpoints, read_services.read_endpoints, "endpoints"),
    ("apps/v1", "Deployment"): (apps_v1.Deployment, read_pods.read_workload, "workloads"),
    ("apps/v1", "ReplicaSet"): (apps_v1.ReplicaSet, read_pods.read_workload, "workloads"),
    ("apps/v1", "StatefulSet"): (apps_v1.StatefulSet, read_pods.read_workload, "workloads"),
    ("apps/v1", "DaemonSet"): (apps_v1.DaemonSet, read_pods.read_workload, "workloads"),
    ("batch/v1", "Job"): (batch_v1.Job, read_pods.read_job, "workloads"),
    ("discovery.k8s.io/v1", "EndpointSlice"): (
        discovery_v1.EndpointSlice,
        read_services.read_endpoint_slice,
        "endpoint_slices",
    ),
}
_GROUPS = {kind: version for version, kind in _KINDS}
# Groups in which these kinds once were; a Service of another group (Knative's) is another thing.
_RETIRED = ("apps/v1beta1", "apps/v1beta2", "extensions/v1beta1", "batch/v1beta1", "discovery.k8s.io/v1beta1")

_WITHOUT_NAMESPACE = ("Namespace", "Node", "ServiceCIDR")

# Documents that configure an agent: (kind, beginning of apiVersion).
_CONFIGS = {
    "KubeProxyConfiguration": "kubeproxy.config.k8s.io/",
    "ClusterConfiguration": "kubeadm.k8s.io/",
}
# Keys of ConfigMaps that hold such a document: kubeadm's kube-proxy and kubeadm-config, flannel's kube-flannel-cfg.
_CONFIG_KEYS = {
    "config.conf": "KubeProxyConfiguration",
    "ClusterConfiguration": "ClusterConfiguration",
    "net-conf.json": "net-conf.json",
}

_WHY = {
    "CronJob": "its Jobs start by the clock",
    "HorizontalPodAutoscaler": "spec.replicas stays as it is stated",
    "NetworkPolicy": "network policies are not modelled",
    "Ingress": "ingress controllers are not modelled",
    "Gateway": "gateways are not modelled",
    "HTTPRoute": "gateways are not modelled",
    "GRPCRoute": "gateways are not modelled",
}
_NO_PART = "this kind plays no part"


def load_manifests(paths: str | Path | Iterable[str | Path]) -> Objects:
    """The objects that files, folders (recursive; *.yaml, *.yml, *.json) and "-" (standard input) state.

    YAML with several documents, JSON, `kind: List` and the API's own lists. Raises ManifestError (file, document,
    "Kind namespace/name: path.to.field", message) for what does not parse, does not fit its type, or is given twice.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    return read_documents(load_documents(paths))


def read_manifests(values: Iterable[dict[str, Any]], file: str = "-") -> Objects:
    """The same for manifests that are already Python values; `file` names them in errors."""
    return read_documents(
        document for number, value in enumerate(values, 1) for document in flatten(value, Origin(file, number))
    )


def read_documents(documents: Iterable[Document]) -> Objects:
    found: dict[str, list[Any]] = {name: [] for name in (*{slot for *_, slot in _KINDS.values()}, "configs")}
    ignored: list[Ignored] = []
    not_modelled: list[NotModelled] = []
    owners: dict[str, Owner | None] = {}
    seen: dict[tuple[str, str], Origin] = {}
    for document in documents:
        value, origin = document.value, document.origin
        kind, version = value["kind"], value["apiVersion"]
        name, title = _title(value)
        reader = _KINDS.get((version, kind))
        configs = list(_configs(value, origin, title))
        if configs:
            found["configs"].extend(configs)
            continue
        if reader is None:
            ignored.append(Ignored(origin.file, origin.document, kind, name, _why(kind, version)))
            continue
        model_type, read, slot = reader
        fields = Fields(origin, title)
        model = typed(value, model_type, fields)
        fields.name(model.metadata.name if model.metadata else None, "metadata.name")
        if kind not in _WITHOUT_NAMESPACE and model.metadata.namespace is not None:
            fields.name(model.metadata.namespace, "metadata.namespace")
        before = seen.setdefault((kind, name), origin)
        if before is not origin:
            raise fields.error("", f"is given twice, first in {before}")
        made = read(model, value, fields)
        found[slot].append(made)
        owners[title] = made.owner if isinstance(made, PodState | Workload) else None
        for path in unknown_fields(value, model_type):
            not_modelled.append(NotModelled(title, path, "unknown field"))
        not_modelled.extend(NotModelled(title, path, why) for path, why in _unmodelled(made, model))
    kept: dict[str, Any] = {slot: tuple(items) for slot, items in found.items()}
    return Objects(**kept, ignored=tuple(ignored), not_modelled=tuple(_once(not_modelled, owners)))


def _title(value: Mapping[str, Any]) -> tuple[str, str]:
    """("namespace/name", "Kind namespace/name") as far as the document says, for messages and as its key."""
    metadata = value.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name, kind = metadata.get("name"), value["kind"]
    name = name if isinstance(name, str) else ""
    namespace = metadata.get("namespace")
    if not isinstance(namespace, str) or not namespace:
        # Of a kind that is not read it is not known whether it has a namespace at all.
        namespace = "default" if kind in _GROUPS and kind not in _WITHOUT_NAMESPACE else ""
    if name and namespace and kind not in _WITHOUT_NAMESPACE:
        name = f"{namespace}/{name}"
    return name, f"{kind} {name}".strip()


def _why(kind: str, version: str) -> str:
    if kind in _GROUPS and version in _RETIRED:
        return f"apiVersion {version} is no longer served, {_GROUPS[kind]} is read"
    if kind in _GROUPS:
        return f"apiVersion {version} is not read, {_GROUPS[kind]} is"
    return _WHY.get(kind, _NO_PART)


def _configs(value: dict[str, Any], origin: Origin, title: str) -> Iterator[Config]:
    kind, version = value["kind"], value["apiVersion"]
    if kind in _CONFIGS and version.startswith(_CONFIGS[kind]):
        yield Config(kind, value, origin)
    elif kind == "ServiceCIDR" and version.startswith("networking.k8s.io/"):
        fields = Fields(origin, title)
        spec = value.get("spec")
        cidrs = spec.get("cidrs") if isinstance(spec, dict) else None
        if not isinstance(cidrs, list) or not cidrs or not all(isinstance(text, str) for text in cidrs):
            raise fields.error("spec.cidrs", "is not a list of CIDRs")
        for index, text in enumerate(cidrs):
            fields.network(text, f"spec.cidrs[{index}]")
        yield Config(kind, value, origin)
    elif kind == "ConfigMap" and version == "v1" and isinstance(value.get("data"), dict):
        for key, text in value["data"].items():
            if key not in _CONFIG_KEYS:
                continue
            field = f"{title}: data[{key}]"
            try:
                if not isinstance(text, str):
                    raise ManifestError("", "", "", "is not text")
                parse = parse_json if key.endswith(".json") else parse_yaml
                inner = [part for _, part in parse("", text) if part is not None]
            except ManifestError as error:
                raise ManifestError(origin.file, origin.where, field, str(error)) from None
            if len(inner) != 1 or not isinstance(inner[0], dict):
                raise ManifestError(origin.file, origin.where, field, "is not one mapping")
            if inner[0].get("kind", _CONFIG_KEYS[key]) == _CONFIG_KEYS[key]:
                yield Config(_CONFIG_KEYS[key], inner[0], origin)


def _unmodelled(made: Any, model: Any) -> Iterator[tuple[str, str]]:
    if isinstance(made, ServiceState):
        yield from unmodelled.service_fields(made)
    elif isinstance(made, PodState):
        judged = model.status is not None and model.status.conditions is not None
        yield from unmodelled.pod_fields(
            model.spec, made.annotations, "spec", "metadata", placed=made.node is not None, judged=judged
        )
    elif isinstance(made, Workload):
        template = model.spec.template
        annotations = made.template.annotations
        yield from unmodelled.pod_fields(
            template.spec,
            annotations,
            "spec.template.spec",
            "spec.template.metadata",
            placed=bool(template.spec.nodeName),
            judged=False,
        )
    elif not isinstance(made, NodeState) and hasattr(made, "address_type"):
        yield from unmodelled.slice_fields(made)
        for index, entry in enumerate(model.endpoints or ()):
            if len(entry.addresses) > 1:
                yield f"endpoints[{index}].addresses[1]", "only the first address is used, by kube-proxy too"


def _once(entries: Iterable[NotModelled], owners: Mapping[str, Owner | None]) -> Iterator[NotModelled]:
    """What a workload's template says is not repeated for the objects that the workload made."""
    for entry in entries:
        owner = owners.get(entry.object)
        if owner is not None and entry.why != "unknown field":
            namespace = entry.object.split(" ", 1)[1].rpartition("/")[0]
            if f"{owner.kind} {namespace}/{owner.name}" in owners:
                continue
        yield entry
