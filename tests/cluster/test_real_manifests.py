"""Public manifests and dumps, where they are at hand: every document is accounted for."""

import json
import os
from pathlib import Path

import pytest
import yaml

from dataplane.cluster import complete, load_manifests, read_manifests

DATA = Path(os.environ.get("DATAPLANE_SHARED", Path(__file__).parents[2].parent / "shared")) / "data"
MANIFESTS = DATA / "manifests"
KUBE_PROXY = DATA / "kube-proxy"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not at hand")


def counts(file):
    """What the file holds, counted by another reader."""
    return [entry for entry in yaml.safe_load_all(file.read_text()) if entry]


@pytest.mark.parametrize(
    ("name", "pods", "services", "ignored"),
    [
        ("online-boutique.yaml", 12, 12, 11),
        ("guestbook.yaml", 6, 3, 0),
        ("bookinfo.yaml", 6, 4, 4),
        ("bookinfo-dualstack.yaml", 6, 4, 4),
    ],
)
def test_sample_applications(name, pods, services, ignored):
    objects = load_manifests(MANIFESTS / name)
    read = sum(
        len(getattr(objects, part))
        for part in ("nodes", "pods", "workloads", "services", "endpoints", "endpoint_slices", "namespaces", "configs")
    )
    assert read + len(objects.ignored) == len(counts(MANIFESTS / name))
    assert len(objects.ignored) == ignored
    assert {entry.kind for entry in objects.ignored} <= {"ServiceAccount"}
    state = complete(objects)
    assert (len(state.pods), len(state.services)) == (pods, services)
    assert not state.warnings
    assert all(pod.node and len(pod.ips) == len(state.families) for pod in state.pods)
    # Every Service of these applications has endpoints, of each of its families.
    for service in state.services:
        for family in service.ip_families:
            found = state.service_slices(service.namespace, service.name, family)
            assert sum(len(piece.endpoints) for piece in found) >= 1
            assert all(len(piece.ports) == len(service.ports) for piece in found)


def test_both_families_of_bookinfo():
    state = complete(load_manifests(MANIFESTS / "bookinfo-dualstack.yaml"))
    assert state.families == (4, 6)
    assert state.service("default", "details").ip_families == (6, 4)


def test_a_cluster_that_a_true_kube_proxy_saw():
    captured = KUBE_PROXY / "captured"
    state = complete(load_manifests([captured / "cluster.yaml", captured / "iptables" / "config.yaml"]))
    assert [node.name for node in state.nodes] == ["node-a", "node-b"]
    assert [str(node.pod_cidr(4)) for node in state.nodes] == ["10.180.0.0/24", "10.180.1.0/24"]
    assert [str(node.address(4)) for node in state.nodes] == ["192.168.0.2", "192.168.0.3"]
    assert str(state.cluster_cidr(4)) == "10.180.0.0/16"
    assert state.config("KubeProxyConfiguration")["mode"] == "iptables"
    assert [str(service.cluster_ips[0]) for service in state.services] == [
        f"172.30.0.{number}" for number in (43, 44, 45, 41, 46, 42)
    ]
    assert len(state.slices) == 5
    assert all(pod.node for pod in state.pods)
    assert {str(pod.ips[0]) for pod in state.pods} == {e.address for piece in state.slices for e in piece.endpoints}


@pytest.mark.parametrize(
    "file", sorted((KUBE_PROXY / "golden").rglob("*.yaml")) if KUBE_PROXY.is_dir() else [], ids=lambda file: file.name
)
def test_inputs_of_the_golden_rules(file):
    objects = load_manifests(file)
    state = complete(objects)
    assert complete(state.objects()) == state
    assert len(state.services) == len(objects.services)
    for before in objects.services:
        after = state.service(before.namespace, before.name)
        assert after.cluster_ips[: len(before.cluster_ips)] == before.cluster_ips
    stated = [piece for piece in state.slices if not piece.created]
    assert sorted(map(str, stated)) == sorted(map(str, objects.endpoint_slices))


def test_objects_of_the_flow_tables():
    cases = json.loads((KUBE_PROXY / "flows.json").read_text())["tests"]
    assert len(cases) == 55
    for case in cases:
        for phase in case["phases"]:
            objects = read_manifests(phase["objects"], case["id"])
            assert not objects.ignored
            assert len(complete(objects).services) == len(objects.services)
