"""Objects -> manifests, as `kubectl get -o yaml` would print them: what was given, with what the cluster filled in.

Reading them back gives the same cluster. Plain values; printing is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any
from uuid import UUID

from dataplane.cluster.addresses import place
from dataplane.cluster.objects import (
    ClusterState,
    Endpoint,
    EndpointPort,
    Endpoints,
    EndpointSlice,
    Ingress,
    Namespace,
    NodeState,
    Owner,
    PodState,
    ServiceState,
    Taint,
    TargetRef,
    Workload,
)
from dataplane.cluster.tables import resource, select

Manifest = dict[str, Any]

_OWNER_VERSIONS = {"ReplicationController": "v1", "Job": "batch/v1"}
# A pod that only an endpoint names says nothing about its containers; the API wants one with an image.
_IMAGE = "registry.k8s.io/pause:3.9"
# The kinds that have spec.replicas.
_COUNTED = ("Deployment", "ReplicaSet", "StatefulSet", "ReplicationController")
_EPOCH = "1970-01-01T00:00:00Z"


def manifests(
    state: ClusterState, name: str, *, namespace: str | None = "default", names: Iterable[str] = ()
) -> Manifest:
    """`kubectl get NAME [NAMES] -o yaml`: one object where one is named, else a List. namespace None is -A."""
    names = list(names)
    made = [write(state, item) for item in select(state, resource(name), namespace, names)]
    if len(names) == 1 and len(made) == 1:
        return made[0]
    return {"apiVersion": "v1", "items": made, "kind": "List", "metadata": {"resourceVersion": ""}}


def write(state: ClusterState, item: Any) -> Manifest:
    """The manifest of one object of a completed cluster."""
    if isinstance(item, NodeState):
        return _node(state, item)
    if isinstance(item, PodState):
        return _pod(state, item)
    if isinstance(item, ServiceState):
        return _service(item)
    if isinstance(item, EndpointSlice):
        return _slice(item)
    if isinstance(item, Endpoints):
        return _endpoints(item)
    if isinstance(item, Namespace):
        return _namespace(item)
    assert isinstance(item, Workload)
    return _workload(state, item)


def _part(made: Manifest, name: str) -> Manifest:
    """metadata, spec or status, made where it is not there."""
    if not isinstance(made.get(name), dict):
        made[name] = {}
    part: Manifest = made[name]
    return part


def _start(
    version: str, kind: str, manifest: Mapping[str, Any], name: str, namespace: str, labels: Mapping[str, str]
) -> Manifest:
    made: Manifest = deepcopy(dict(manifest)) if manifest else {"apiVersion": version, "kind": kind}
    metadata = _part(made, "metadata")
    metadata["name"] = name
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = dict(labels)
    return made


def _namespace(namespace: Namespace) -> Manifest:
    made = _start("v1", "Namespace", namespace.manifest, namespace.name, "", namespace.labels)
    _part(made, "status")["phase"] = namespace.phase
    return made


def _node(state: ClusterState, node: NodeState) -> Manifest:
    made = _start("v1", "Node", node.manifest, node.name, "", node.labels)
    spec, status = _part(made, "spec"), _part(made, "status")
    if node.pod_cidrs:
        spec["podCIDR"] = str(node.pod_cidrs[0])
        spec["podCIDRs"] = [str(network) for network in node.pod_cidrs]
    listed = status["addresses"] = status.get("addresses") or []
    there = {entry.get("address") for entry in listed}
    listed += [{"address": str(a), "type": "InternalIP"} for a in node.addresses if str(a) not in there]
    if node.created and not any(entry.get("type") == "Hostname" for entry in listed):
        listed.append({"address": node.name, "type": "Hostname"})
    # A node that nobody hears is not known to be ready or not.
    said = "True" if node.ready else "Unknown" if node.lost else "False"
    conditions = status["conditions"] = status.get("conditions") or []
    known = next((entry for entry in conditions if entry.get("type") == "Ready"), None)
    if known is None:
        conditions.append({"status": said, "type": "Ready"})
    elif (known.get("status") == "True") is not node.ready:
        known["status"] = said
    given = [(taint["key"], taint.get("value") or "", taint["effect"]) for taint in spec.get("taints") or ()]
    if given != [(taint.key, taint.value, taint.effect) for taint in node.taints]:
        spec["taints"] = [_taint(taint) for taint in node.taints]
    return made


def _taint(taint: Taint) -> Manifest:
    value = {"value": taint.value} if taint.value else {}
    return {"effect": taint.effect, "key": taint.key, **value}


def _pod(state: ClusterState, pod: PodState) -> Manifest:
    made = _start("v1", "Pod", pod.manifest, pod.name, pod.namespace, pod.labels)
    metadata, spec, status = made["metadata"], _part(made, "spec"), _part(made, "status")
    if pod.created:
        spec.update(deepcopy(dict(pod.spec.manifest)))
        spec.setdefault("containers", [{"name": name, "image": _IMAGE} for name in pod.spec.containers])
        for name, value in (("hostname", pod.spec.hostname), ("subdomain", pod.spec.subdomain)):
            if value:
                spec[name] = value
        if pod.annotations:
            metadata["annotations"] = dict(pod.annotations)
        if pod.owner is not None:
            metadata["ownerReferences"] = [_owner(pod.owner, pod.namespace)]
    if pod.terminating:
        metadata.setdefault("deletionTimestamp", _EPOCH)  # when it was deleted, nobody has said
    if pod.node is not None:
        spec["nodeName"] = pod.node
    status["phase"] = pod.phase
    _pod_conditions(pod, status)
    if pod.node is not None and not pod.finished and status.get("containerStatuses") is None:
        status["containerStatuses"] = [_container_status(pod, container) for container in spec["containers"]]
    if pod.ips:
        status["podIP"] = str(pod.ips[0])
        status["podIPs"] = [{"ip": str(ip)} for ip in pod.ips]
    node = state.node(pod.node) if pod.node is not None else None
    if node is not None and not status.get("hostIP") and node.addresses:
        status["hostIP"] = str(node.addresses[0])
        status["hostIPs"] = [{"ip": str(address)} for address in node.addresses]
    return made


def _pod_conditions(pod: PodState, status: Manifest) -> None:
    """What the kubelet and the scheduler say of a pod, where the manifest does not say it or it has changed."""
    listed = status["conditions"] = status.get("conditions") or []
    conditions = {entry.get("type"): entry for entry in listed}
    ready = pod.ready and pod.node is not None and not pod.finished
    said = {"PodScheduled": pod.node is not None}
    if pod.node is not None:
        said |= {"Initialized": True, "ContainersReady": ready, "Ready": ready}
    for kind, holds in said.items():
        value = "True" if holds else "False"
        known = conditions.get(kind)
        if known is None:
            listed.append({"status": value, "type": kind})
        elif kind == "Ready":
            known["status"] = value


def _container_status(pod: PodState, container: Mapping[str, Any]) -> Manifest:
    starting = pod.phase == "Pending"
    return {
        "image": container.get("image", ""),
        "imageID": "",
        "name": container["name"],
        "ready": pod.ready and not starting,
        "restartCount": 0,
        "started": not starting,
        "state": {"waiting": {"reason": "ContainerCreating"}} if starting else {"running": {}},
    }


def _owner(owner: Owner, namespace: str) -> Manifest:
    version = _OWNER_VERSIONS.get(owner.kind, "apps/v1")
    parts = (place(0, "uid", half, owner.kind, namespace, owner.name) for half in ("high", "low"))
    high, low = parts
    uid = UUID(int=(high << 64) | low, version=4)
    return {
        "apiVersion": version,
        "blockOwnerDeletion": True,
        "controller": True,
        "kind": owner.kind,
        "name": owner.name,
        "uid": str(uid),
    }


def _workload(state: ClusterState, workload: Workload) -> Manifest:
    """Its controller's status is written where the manifest has none: the pods that it has."""
    made = deepcopy(dict(workload.manifest))
    made["metadata"]["namespace"] = workload.namespace
    if workload.kind in _COUNTED:
        _part(made, "spec")["replicas"] = workload.replicas
    if made.get("status"):
        return made
    controlled = state.pods_of(workload.kind, workload.namespace, workload.name)
    pods = [pod for pod in controlled if not pod.finished and not pod.terminating]
    have, ready = len(pods), sum(pod.ready for pod in pods)
    if workload.kind in _COUNTED:
        made["status"] = {"replicas": have, "readyReplicas": ready, "availableReplicas": ready}
        if workload.kind in ("Deployment", "StatefulSet"):
            made["status"]["updatedReplicas"] = have
    elif workload.kind == "DaemonSet":
        made["status"] = {
            "currentNumberScheduled": have,
            "desiredNumberScheduled": have,
            "numberAvailable": ready,
            "numberMisscheduled": 0,
            "numberReady": ready,
            "updatedNumberScheduled": have,
        }
    return made


def _service(service: ServiceState) -> Manifest:
    made = _start("v1", "Service", service.manifest, service.name, service.namespace, service.labels)
    spec = _part(made, "spec")
    spec["type"] = service.type
    spec["sessionAffinity"] = service.session_affinity
    if service.affinity_seconds:
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": service.affinity_seconds}}
    for port, value in zip(service.ports, spec.get("ports") or (), strict=False):
        value["protocol"] = port.protocol
        value["targetPort"] = port.target
        if port.node_port:
            value["nodePort"] = port.node_port
    status = _part(made, "status")
    balancer = status["loadBalancer"] = status.get("loadBalancer") or {}
    given = [(entry.get("ip"), entry.get("hostname") or "") for entry in balancer.get("ingress") or ()]
    kept = [(str(entry.ip) if entry.ip is not None else None, entry.hostname) for entry in service.ingress]
    if given != kept:
        # An object that was applied anew keeps the addresses that its balancer has.
        balancer["ingress"] = [_ingress(entry) for entry in service.ingress]
    if not balancer.get("ingress"):
        balancer.pop("ingress", None)
    if service.type == "ExternalName":
        return made
    spec["internalTrafficPolicy"] = service.internal_traffic_policy
    if service.external_traffic_policy:
        spec["externalTrafficPolicy"] = service.external_traffic_policy
    if service.type == "LoadBalancer":
        spec["allocateLoadBalancerNodePorts"] = service.allocate_node_ports
    if service.health_check_node_port:
        spec["healthCheckNodePort"] = service.health_check_node_port
    addresses = [str(ip) for ip in service.cluster_ips] or (["None"] if service.headless else [])
    if addresses:
        spec["clusterIP"] = addresses[0]
        spec["clusterIPs"] = addresses
    spec["ipFamilies"] = [f"IPv{family}" for family in service.ip_families]
    if service.ip_family_policy:
        spec["ipFamilyPolicy"] = service.ip_family_policy
    return made


def _ingress(entry: Ingress) -> Manifest:
    if entry.ip is None:
        return {"hostname": entry.hostname}
    named = {"hostname": entry.hostname} if entry.hostname else {}
    return {**named, "ip": str(entry.ip), "ipMode": entry.mode}


def _reference(target: TargetRef) -> Manifest:
    found = {"kind": target.kind, "name": target.name, "namespace": target.namespace}
    return {key: value for key, value in found.items() if value}


def _endpoint_port(port: EndpointPort) -> Manifest:
    made: Manifest = {} if port.name is None else {"name": port.name}
    if port.port:
        made["port"] = port.port
    made["protocol"] = port.protocol
    if port.app_protocol:
        made["appProtocol"] = port.app_protocol
    return made


def _slice(piece: EndpointSlice) -> Manifest:
    made = _start("discovery.k8s.io/v1", "EndpointSlice", {}, piece.name, piece.namespace, piece.labels)
    if piece.annotations:
        made["metadata"]["annotations"] = dict(piece.annotations)
    made["addressType"] = piece.address_type
    made["endpoints"] = [_endpoint(endpoint) for endpoint in piece.endpoints]
    made["ports"] = [_endpoint_port(port) for port in piece.ports]
    return made


def _endpoint(endpoint: Endpoint) -> Manifest:
    made: Manifest = {
        "addresses": [endpoint.address],
        "conditions": {"ready": endpoint.ready, "serving": endpoint.serving, "terminating": endpoint.terminating},
    }
    hints: Manifest = {}
    if endpoint.zone_hints:
        hints["forZones"] = [{"name": zone} for zone in endpoint.zone_hints]
    if endpoint.node_hints:
        hints["forNodes"] = [{"name": node} for node in endpoint.node_hints]
    if hints:
        made["hints"] = hints
    for name, value in (("hostname", endpoint.hostname), ("nodeName", endpoint.node), ("zone", endpoint.zone)):
        if value:
            made[name] = value
    if endpoint.target is not None:
        made["targetRef"] = _reference(endpoint.target)
    return made


def _endpoints(entry: Endpoints) -> Manifest:
    made = _start("v1", "Endpoints", {}, entry.name, entry.namespace, entry.labels)
    if entry.annotations:
        made["metadata"]["annotations"] = dict(entry.annotations)
    made["subsets"] = []
    for subset in entry.subsets:
        part: Manifest = {}
        for name, ready in (("addresses", True), ("notReadyAddresses", False)):
            listed = [_address(endpoint) for endpoint in subset.endpoints if endpoint.ready is ready]
            if listed:
                part[name] = listed
        part["ports"] = [_endpoint_port(port) for port in subset.ports]
        for port in part["ports"]:
            if not port.get("name"):
                port.pop("name", None)
        made["subsets"].append(part)
    return made


def _address(endpoint: Endpoint) -> Manifest:
    made: Manifest = {"ip": endpoint.address}
    if endpoint.hostname:
        made["hostname"] = endpoint.hostname
    if endpoint.node:
        made["nodeName"] = endpoint.node
    if endpoint.target is not None:
        made["targetRef"] = _reference(endpoint.target)
    return made
