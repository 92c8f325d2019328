"""The objects of a cluster that has changed, as `get -o yaml` prints them: what the API server would take."""

import json
from random import Random
from typing import Any

import pytest
from test_running_cluster import SHOP, random_service

from dataplane import Cluster
from dataplane.cluster import complete, read_manifests
from dataplane.cluster.models import apps_v1, core_v1, discovery_v1, unknown_fields
from dataplane.cluster.tables import RESOURCES, select, table
from dataplane.cluster.write_manifests import write

MODELS: dict[str, Any] = {
    "Deployment": apps_v1.Deployment,
    "StatefulSet": apps_v1.StatefulSet,
    "EndpointSlice": discovery_v1.EndpointSlice,
    **{name: getattr(core_v1, name) for name in ("Service", "Pod", "Node", "Endpoints", "Namespace")},
}


def refused(service: dict[str, Any]) -> list[str]:
    """What the API server's validation would say of a Service (pkg/apis/core/validation)."""
    spec, status = service["spec"], service.get("status") or {}
    kind = spec["type"]
    exposed = kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))
    local = spec.get("externalTrafficPolicy") == "Local"
    said = []
    if kind != "LoadBalancer":
        names = ("allocateLoadBalancerNodePorts", "loadBalancerSourceRanges", "loadBalancerClass")
        said += [name for name in names if spec.get(name) is not None]
        said += ["status.loadBalancer.ingress"] if (status.get("loadBalancer") or {}).get("ingress") else []
    if spec.get("healthCheckNodePort") and not (kind == "LoadBalancer" and local):
        said.append("healthCheckNodePort")
    if spec.get("externalTrafficPolicy") and not exposed:
        said.append("externalTrafficPolicy")
    if kind in ("ClusterIP", "ExternalName") and any(port.get("nodePort") for port in spec.get("ports") or ()):
        said.append("nodePort")
    if spec["sessionAffinity"] == "None" and spec.get("sessionAffinityConfig"):
        said.append("sessionAffinityConfig")
    if kind == "ExternalName":
        names = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
        return said + [name for name in names if spec.get(name)]
    addresses = [ip for ip in spec["clusterIPs"] if ip != "None"]
    if spec["clusterIP"] != spec["clusterIPs"][0]:
        said.append("clusterIP")
    if addresses and ["IPv6" if ":" in ip else "IPv4" for ip in addresses] != spec["ipFamilies"]:
        said.append("ipFamilies")
    if spec["ipFamilyPolicy"] == "SingleStack" and len(spec["ipFamilies"]) != 1:
        said.append("ipFamilyPolicy")
    return said


@pytest.mark.parametrize("seed", range(12))
def test_after_any_changes_of_services(seed: int) -> None:
    random = Random(seed)
    cluster = Cluster.load(SHOP, seed=seed)
    for _ in range(8):
        selector = {"app": random.choice(["web", "dns", "none"])}
        service = random_service(random, random.choice(["web", "front", "new"]), selector)
        known = cluster.state.service("default", service["metadata"]["name"])
        if known is not None and service["spec"].get("type") == "ExternalName":
            # The controller leaves its slices as they were, and these go on naming pods that will be gone.
            cluster.apply({"delete": f"service/{known.name}"})
        cluster.apply({"apply": service})
        cluster.apply({"scale": "deployment/web", "replicas": random.randrange(5)})
        made = [write(cluster.state, item) for kind in RESOURCES for item in select(cluster.state, kind, None)]
        for value in made:
            model = MODELS[value["kind"]]
            assert not list(unknown_fields(value, model))
            assert model.from_dict(json.loads(json.dumps(value))).to_dict() == value
            if value["kind"] == "Service":
                assert refused(value) == [], value
        again = complete(read_manifests(made))
        for kind in RESOURCES:
            before = table(cluster.state, kind.name, namespace=None, wide=True)
            assert table(again, kind.name, namespace=None, wide=True) == before


def test_a_node_that_nobody_hears() -> None:
    cluster = Cluster.load(SHOP)

    def told() -> tuple[Any, Any]:
        (value,) = [write(cluster.state, node) for node in cluster.state.nodes if node.name == "node-2"]
        (ready,) = [entry["status"] for entry in value["status"]["conditions"] if entry["type"] == "Ready"]
        return ready, sorted(taint["effect"] for taint in value["spec"].get("taints", ()))

    assert told() == ("True", [])
    cluster.apply({"lose": "node/node-2"})
    assert told() == ("Unknown", ["NoExecute", "NoSchedule"])
    (row,) = [row for row in table(cluster.state, "nodes").rows if row[0] == "node-2"]
    assert row[1] == "NotReady"
    cluster.apply({"return": "node/node-2"})
    assert told() == ("True", [])
