"""Manifests in a few words, for tests. A name may carry its namespace: "shop/web"."""

from typing import Any

from dataplane.cluster import ClusterState, complete, read_manifests

Manifest = dict[str, Any]


def metadata(name: str, **more: Any) -> Manifest:
    namespace, _, name = name.rpartition("/")
    return {"name": name, **({"namespace": namespace} if namespace else {}), **more}


def node(name: str, *addresses: str, cidrs: tuple[str, ...] = (), status: Any = None, **more: Any) -> Manifest:
    labels = more.pop("labels", {})
    spec = {**({"podCIDR": cidrs[0], "podCIDRs": list(cidrs)} if cidrs else {}), **more}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": metadata(name, labels=labels),
        "spec": spec,
        "status": {
            "addresses": [{"type": "InternalIP", "address": address} for address in addresses],
            **(status or {}),
        },
    }


def container(*ports: Any, **more: Any) -> Manifest:
    """Ports as 80, "http:80" or "dns:53/UDP"."""
    made = []
    for port in ports:
        name, _, number = str(port).rpartition(":")
        number, _, protocol = number.partition("/")
        made.append({"containerPort": int(number), "name": name or None, "protocol": protocol or "TCP"})
    return {"name": "main", "image": "example", "ports": made, **more}


def pod(
    name: str, *ips: str, ports: tuple[Any, ...] = (), labels: Any = None, status: Any = None, **spec: Any
) -> Manifest:
    stated = {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]} if ips else {}
    meta = metadata(name, labels=labels or {})
    for key in ("ownerReferences", "deletionTimestamp", "annotations"):
        if key in spec:
            meta[key] = spec.pop(key)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": [container(*ports)], **spec},
        **({"status": {**stated, **(status or {})}} if stated or status else {}),
    }


def owner(kind: str, name: str) -> list[Manifest]:
    version = "v1" if kind == "ReplicationController" else "apps/v1"
    return [{"apiVersion": version, "kind": kind, "name": name, "uid": "0", "controller": True}]


def workload(
    kind: str, name: str, labels: dict[str, str], ports: tuple[Any, ...] = (), spec: Any = None, **more: Any
) -> Manifest:
    template = {"metadata": {"labels": dict(labels)}, "spec": {"containers": [container(*ports)], **(spec or {})}}
    meta = metadata(name)
    if "ownerReferences" in more:
        meta["ownerReferences"] = more.pop("ownerReferences")
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": meta,
        "spec": {"selector": {"matchLabels": labels}, "template": template, **more},
    }


def deployment(name: str, labels: dict[str, str], replicas: int = 1, **more: Any) -> Manifest:
    return workload("Deployment", name, labels, replicas=replicas, **more)


def service(name: str, selector: Any = None, ports: Any = (80,), **more: Any) -> Manifest:
    meta = metadata(name, labels=more.pop("labels", {}), annotations=more.pop("annotations", {}))
    status = more.pop("status", None)
    made = [port if isinstance(port, dict) else {"port": port} for port in ports]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {**({"selector": selector} if selector else {}), "ports": made, **more},
        **({"status": status} if status else {}),
    }


def endpoint(address: str, node: str | None = None, zones: tuple[str, ...] = (), **more: Any) -> Manifest:
    conditions = {key: more.pop(key) for key in ("ready", "serving", "terminating") if key in more}
    made: Manifest = {"addresses": [address], "conditions": conditions, **more}
    if node:
        made["nodeName"] = node
    if zones:
        made["hints"] = {"forZones": [{"name": zone} for zone in zones]}
    return made


def endpoint_slice(name: str, of: str, *endpoints: Manifest, ports: Any = (("", 80),), kind: str = "IPv4") -> Manifest:
    made = [{"name": entry[0], "port": entry[1], "protocol": (*entry, "TCP")[2]} for entry in ports]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata(name, labels={"kubernetes.io/service-name": of}),
        "addressType": kind,
        "endpoints": list(endpoints),
        "ports": made,
    }


def endpoints(name: str, *subsets: Manifest, **more: Any) -> Manifest:
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata(name, **more), "subsets": list(subsets)}


def cluster(*documents: Manifest, **options: Any) -> ClusterState:
    return complete(read_manifests(documents, "test.yaml"), **options)


def addresses(state: ClusterState) -> dict[str, list[str]]:
    """namespace/name of each pod -> its addresses"""
    return {str(pod): [str(ip) for ip in pod.ips] for pod in state.pods}
