"""What `get -o yaml` prints: objects that the API's models take without a field too many or too few, and that load as
the same cluster again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dataplane.cluster import complete, load_manifests, read_manifests
from dataplane.cluster.changes import RestartPod, Rollout, Scale, SetEndpoint, running
from dataplane.cluster.documents import parse_yaml
from dataplane.cluster.models import apps_v1, core_v1, discovery_v1, unknown_fields
from dataplane.cluster.tables import RESOURCES, select, table
from dataplane.cluster.write_manifests import manifests, write

ROOT = Path(__file__).parents[2]
SERVICES = """
- {metadata: {name: plain}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}}
- metadata: {name: balanced, annotations: {service.kubernetes.io/topology-mode: Auto}}
  spec:
    type: LoadBalancer
    externalTrafficPolicy: Local
    allocateLoadBalancerNodePorts: false
    loadBalancerSourceRanges: [203.0.113.0/24]
    externalIPs: [198.51.100.4]
    sessionAffinity: ClientIP
    selector: {app: web}
    ports: [{name: http, port: 80, targetPort: http}, {name: dns, port: 53, protocol: UDP}]
  status: {loadBalancer: {ingress: [{ip: 198.51.100.7, ipMode: Proxy}, {hostname: lb.example.com}]}}
- {metadata: {name: ports}, spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http}]}}
- {metadata: {name: headless}, spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}}
- {metadata: {name: elsewhere}, spec: {type: ExternalName, externalName: example.com}}
- {metadata: {name: by-hand}, spec: {ports: [{port: 80}]}}
- metadata: {name: dual}
  spec:
    ipFamilyPolicy: RequireDualStack
    internalTrafficPolicy: Local
    publishNotReadyAddresses: true
    trafficDistribution: PreferSameNode
    selector: {app: web}
    ports: [{port: 9, protocol: SCTP}]
"""
OTHERS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web, ports: [{name: http, containerPort: 8080}]}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: bare, labels: {app: bare}}, spec: {containers: [{name: c, image: i}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: nowhere}
spec: {nodeSelector: {there: is-none}, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: done}
spec: {containers: [{name: c, image: i}]}
status: {phase: Succeeded}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template: {metadata: {labels: {app: agent}}, spec: {hostNetwork: true, containers: [{name: a, image: a}]}}
---
apiVersion: v1
kind: Endpoints
metadata: {name: by-hand}
subsets: [{addresses: [{ip: 192.0.2.9}], notReadyAddresses: [{ip: 192.0.2.10}], ports: [{port: 80}]}]
"""
MODELS = {
    "Service": core_v1.Service,
    "Pod": core_v1.Pod,
    "Node": core_v1.Node,
    "Endpoints": core_v1.Endpoints,
    "EndpointSlice": discovery_v1.EndpointSlice,
    "Namespace": core_v1.Namespace,
    "Deployment": apps_v1.Deployment,
    "ReplicaSet": apps_v1.ReplicaSet,
    "StatefulSet": apps_v1.StatefulSet,
    "DaemonSet": apps_v1.DaemonSet,
}


def features():
    services = [{"apiVersion": "v1", "kind": "Service", **entry} for entry in yaml.safe_load(SERVICES)]
    return complete(read_manifests([*services, *(value for _, value in parse_yaml("t", OTHERS))]))


STATES = {
    "features": features,
    "boutique": lambda: complete(load_manifests([ROOT / "pcaps" / "boutique.yaml"])),
    "shop": lambda: complete(load_manifests([ROOT / "tests" / "events" / "shop.yaml"])),
}


def everything(state):
    return [write(state, item) for kind in RESOURCES for item in select(state, kind, None)]


def not_mentioned(value):
    """What reading and writing again leaves out or adds."""
    model = MODELS[value["kind"]].from_dict(json.loads(json.dumps(value)))
    assert not list(unknown_fields(value, type(model)))
    return model.to_dict()


@pytest.mark.parametrize("name", STATES)
def test_the_models_take_every_object(name):
    for value in everything(STATES[name]()):
        assert not_mentioned(value) == value


@pytest.mark.parametrize("name", STATES)
def test_what_is_printed_loads_as_the_same_cluster(name):
    before = STATES[name]()
    after = complete(read_manifests(everything(before)))
    for kind in RESOURCES:
        shown = table(before, kind.name, namespace=None, wide=True)
        assert table(after, kind.name, namespace=None, wide=True) == shown
    assert everything(after) == everything(before)


def test_a_pod_says_how_it_is():
    state = features()
    (web, *_) = [pod for pod in state.pods if pod.name.startswith("web-")]
    status = write(state, web)["status"]
    assert {entry["type"]: entry["status"] for entry in status["conditions"]} == {
        "PodScheduled": "True",
        "Initialized": "True",
        "ContainersReady": "True",
        "Ready": "True",
    }
    assert [(entry["name"], entry["ready"], entry["state"]) for entry in status["containerStatuses"]] == [
        ("web", True, {"running": {}})
    ]
    (nowhere,) = [pod for pod in state.pods if pod.name == "nowhere"]
    assert write(state, nowhere)["status"] == {
        "phase": "Pending",
        "conditions": [{"status": "False", "type": "PodScheduled"}],
    }


def test_what_has_changed_since_is_printed_as_it_is_now():
    state = running(features())
    pod = next(pod for pod in state.pods if pod.name.startswith("web-"))
    (was,) = pod.ips[:1]
    now = SetEndpoint("default", pod=pod.name, ready=False).apply(state, 0).state
    assert write(now, now.pod("default", pod.name))["status"]["containerStatuses"][0]["ready"] is False
    (bare,) = [pod for pod in state.pods if pod.name == "bare"]
    restarted = RestartPod("default", "bare").apply(state, 0).state
    made = manifests(restarted, "pods", names=["bare"])
    assert made["status"]["podIP"] != str(bare.ips[0])
    assert made["metadata"]["labels"] == {"app": "bare"}
    scaled = Scale("Deployment", "default", "web", 5).apply(state, 0).state
    made = manifests(scaled, "deployments", names=["web"])
    assert (made["spec"]["replicas"], made["status"]["replicas"], made["status"]["readyReplicas"]) == (5, 5, 5)
    leaving = replace(pod, terminating=True)
    assert write(state, leaving)["metadata"]["deletionTimestamp"]
    assert str(was) in json.dumps(write(state, leaving))
    workload = next(w for w in state.workloads if w.name == "web")
    given = {**workload.manifest, "metadata": {"name": "web", "labels": {"generation": "second"}}}
    template = replace(workload.template, labels={"app": "web", "tier": "front"})
    rolled = Rollout(replace(workload, template=template, manifest=given)).apply(state, 0).state
    assert manifests(rolled, "deployments", names=["web"])["metadata"]["labels"] == {"generation": "second"}


def test_nothing_and_many_are_lists():
    state = features()
    assert manifests(state, "services", namespace="nobody")["items"] == []
    many = manifests(state, "services", names=["plain", "dual"])
    assert [entry["metadata"]["name"] for entry in many["items"]] == ["plain", "dual"]
    assert many["kind"] == "List"
