"""hypothesis strategies for clusters and for what changes their endpoints. Everything shrinks to the plain case: one node,
one Service, one endpoint, iptables mode, UDP in IPv4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from dataplane.cluster import complete, read_manifests
from dataplane.cluster.objects import ClusterState
from dataplane.emulation import Cluster

TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
PROTOCOLS = ("UDP", "TCP", "SCTP")
FAMILIES = ((4,), (4, 6), (6,))
SCHEDULERS = ("rr", "lc", "sh", "wrr")
RANGES = {4: ("203.0.113.0/24", "192.0.2.0/24"), 6: ("2001:db8:77::/64", "2001:db8:1::/64")}


@st.composite
def clusters(
    draw: st.DrawFn,
    *,
    max_nodes: int = 3,
    max_services: int = 2,
    families: int = 2,
    modes: Sequence[str] = ("iptables", "ipvs"),
    protocols: Sequence[str] = PROTOCOLS,
) -> Cluster:
    """A completed cluster: nodes, a client pod, and Services of all types with their Deployments.

    Services have one or two ports, affinity, traffic policies, external addresses, load balancers with source ranges;
    some are headless. Endpoints are pods, or on the nodes' own network. families: 1 for IPv4 alone, else IPv4, IPv6 or
    both. modes: kube-proxy's; its configuration is one of the manifests. protocols: of Services' ports.
    `testing.manifests(cluster)` gives it back as YAML.
    """
    nodes = draw(st.integers(1, max_nodes))
    chosen = draw(st.sampled_from(FAMILIES[:1] if families == 1 else FAMILIES))
    documents: list[dict[str, Any]] = [_node(number, chosen) for number in range(1, nodes + 1)]
    documents += _proxy(draw(st.sampled_from(list(modes))), draw)
    documents.append(_pod("client", {"app": "client"}, f"node-{draw(st.integers(1, nodes))}"))
    for number in range(draw(st.integers(1, max_services))):
        name = f"svc-{number}"
        documents.append(draw(_service(name, number, chosen, tuple(protocols))))
        documents.append(_deployment(name, draw(st.integers(1, 4)), draw(st.integers(0, 4)) == 4))
    seed = draw(st.integers(0, 3))
    return Cluster(complete(read_manifests(documents), nodes, seed=seed), seed=seed)


def _proxy(mode: str, draw: st.DrawFn) -> list[dict[str, Any]]:
    if mode == "iptables":
        return []
    said = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": mode}
    return [said | ({"ipvs": {"scheduler": draw(st.sampled_from(SCHEDULERS))}} if mode == "ipvs" else {})]


@st.composite
def _service(
    draw: st.DrawFn, name: str, number: int, families: tuple[int, ...], protocols: tuple[str, ...]
) -> dict[str, Any]:
    ports = [
        {"name": f"p{index}", "port": 80 + index, "protocol": protocol, "targetPort": 8080 + index}
        for index, protocol in enumerate(draw(st.lists(st.sampled_from(protocols), min_size=1, max_size=2)))
    ]
    spec: dict[str, Any] = {"selector": {"app": name}, "ports": ports, "type": draw(st.sampled_from(TYPES))}
    made = _object("v1", "Service", name, {}) | {"spec": spec}
    if len(families) == 2:
        spec["ipFamilyPolicy"] = draw(st.sampled_from(["PreferDualStack", "RequireDualStack", "SingleStack"]))
    if draw(st.booleans()):
        spec["sessionAffinity"] = "ClientIP"
        if draw(st.booleans()):
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 30}}
    if draw(st.booleans()):
        spec["internalTrafficPolicy"] = draw(st.sampled_from(["Cluster", "Local"]))
    if draw(st.integers(0, 3)) == 3:
        spec["externalIPs"] = [f"198.51.101.{number + 1}" if families[0] == 4 else f"2001:db8:101::{number + 1}"]
    if spec["type"] == "ClusterIP":
        if draw(st.integers(0, 5)) == 5:
            spec["clusterIP"] = "None"
            spec.pop("externalIPs", None)
        return made
    if draw(st.booleans()):
        spec["externalTrafficPolicy"] = "Local"
    if spec["type"] == "LoadBalancer":
        ingress = [
            {"ip": f"198.51.100.{number + 1}" if family == 4 else f"2001:db8:100::{number + 1}"} for family in families
        ]
        made["status"] = {"loadBalancer": {"ingress": ingress}}
        if draw(st.integers(0, 2)) == 2:
            spec["loadBalancerSourceRanges"] = [draw(st.sampled_from(RANGES[family])) for family in families]
    return made


def _object(version: str, kind: str, name: str, spec: Mapping[str, Any], **metadata: Any) -> dict[str, Any]:
    metadata = {"name": name, **({} if kind == "Node" else {"namespace": "default"}), **metadata}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def _node(number: int, families: Sequence[int]) -> dict[str, Any]:
    networks = {4: f"10.244.{number}.0/24", 6: f"fd00:244:{number}::/64"}
    own = {4: f"192.168.1.{10 + number}", 6: f"fd00:192::{10 + number}"}
    cidrs = [networks[family] for family in families]
    made = _object("v1", "Node", f"node-{number}", {"podCIDR": cidrs[0], "podCIDRs": cidrs})
    made["status"] = {"addresses": [{"type": "InternalIP", "address": own[family]} for family in families]}
    return made


def _pod(name: str, labels: Mapping[str, str], node: str) -> dict[str, Any]:
    spec = {"nodeName": node, "containers": [{"name": "main", "image": "busybox"}]}
    return _object("v1", "Pod", name, spec, labels=dict(labels))


def _deployment(name: str, replicas: int, on_nodes: bool) -> dict[str, Any]:
    said: dict[str, Any] = {"containers": [{"name": "main", "image": "nginx", "ports": [{"containerPort": 8080}]}]}
    if on_nodes:
        said["hostNetwork"] = True
    template = {"metadata": {"labels": {"app": name}}, "spec": said}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return _object("apps/v1", "Deployment", name, spec)


def endpoint_changes(cluster: Cluster | ClusterState) -> st.SearchStrategy[dict[str, Any]]:
    """Events (see dataplane.cluster.events) that change endpoints: one becomes unready, ready or terminating, a pod
    restarts with a new address or is deleted, a Deployment is scaled, a node's proxy starts anew.

    cluster: as it is, or as a run has it by now (`run.timeline.state`).
    """
    state = cluster.state if isinstance(cluster, Cluster) else cluster
    pods = [f"pod/{pod.name}" for pod in state.pods if pod.owner is not None]
    workloads = [f"deployment/{w.name}" for w in state.workloads if w.kind == "Deployment"]
    nodes = [node.name for node in state.nodes]
    conditions = st.sampled_from([{"ready": False}, {"ready": True}, {"terminating": True}])
    own = [f"pod/{pod.name}" for pod in state.pods if pod.owner is not None and not pod.host_network]
    pod, moved, workload = (st.sampled_from(names) if names else st.nothing() for names in (pods, own, workloads))
    return st.one_of(
        st.builds(lambda name, said: {"endpoint": name, **said}, pod, conditions),
        st.builds(lambda name: {"restart": name}, moved),
        st.builds(lambda name, count: {"scale": name, "replicas": count}, workload, st.integers(0, 4)),
        st.builds(lambda name: {"delete": name}, pod),
        st.builds(lambda name: {"restartProxy": f"node/{name}"}, st.sampled_from(nodes)),
    )
