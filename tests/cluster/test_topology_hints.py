"""Topology Aware Routing: how the endpointslice controller allots endpoints to zones."""

from typing import Any

import pytest

from dataplane.cluster import ClusterState, complete, read_manifests
from dataplane.cluster.changes import PodsReady, running
from dataplane.cluster.node_changes import LoseNode
from dataplane.cluster.topology_hints import Zones, allocatable

AUTO = {"service.kubernetes.io/topology-mode": "Auto"}


def node(name: str, zone: str, cpu: object = 4, **labels: str) -> dict[str, Any]:
    status = {"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": "True"}]}
    labels = {**({"topology.kubernetes.io/zone": zone} if zone else {}), **labels}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status}


def pods(places: str) -> list[dict[str, Any]]:
    """One pod for each letter, on the node of that name; a capital one is not ready."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"web-{number}", "labels": {"app": "web"}},
            "spec": {"nodeName": place.lower(), "containers": [{"name": "c", "image": "i"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True" if place.islower() else "False"}]},
        }
        for number, place in enumerate(places)
    ]


def cluster(nodes: list[dict[str, Any]], places: str, annotations: dict[str, str] = AUTO, **spec: Any) -> ClusterState:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "annotations": annotations},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}], **spec},
    }
    return complete(read_manifests([*nodes, *pods(places), service]))


def hints(state: ClusterState) -> str:
    """The zone that each endpoint is hinted for, in the order of the pods; - for none."""
    found = {
        endpoint.target.name: "".join(endpoint.zone_hints) or "-"
        for piece in state.endpoints["default", "web"]
        for endpoint in piece.endpoints
        if endpoint.target is not None
    }
    return "".join(found[name] for name in sorted(found))


TWO = [node("a", "a"), node("b", "b")]
THREE = [*TWO, node("c", "c")]


@pytest.mark.parametrize(
    ("nodes", "places", "expected"),
    [
        (TWO, "ab", "ab"),
        (THREE, "abc", "abc"),
        (TWO, "aabb", "aabb"),
        (TWO, "aaaa", "bbaa"),
        (TWO, "aaab", "baab"),
        (THREE, "aaaaaa", "bbccaa"),
        ([node("a", "a", 6), node("b", "b", "2")], "aabb", "aaab"),
        ([node("a", "a", "6000m"), node("b", "b", "2000m")], "aabb", "aaab"),
        ([*TWO, node("d", "a", 8)], "abab", "aaab"),  # zone a has three quarters of the CPUs
        (TWO, "aAbB", "a-b-"),
        ([*TWO, node("m", "m", 4, **{"node-role.kubernetes.io/control-plane": ""})], "ab", "ab"),
    ],
)
def test_endpoints_are_shared_out_by_cpus(nodes: list[dict[str, Any]], places: str, expected: str) -> None:
    state = cluster(nodes, places)
    assert hints(state) == expected
    assert not [entry for entry in state.not_modelled if "annotations" in entry.field]


@pytest.mark.parametrize(
    ("nodes", "places", "why"),
    [
        (TWO, "a", "1 endpoints for 2 zones"),
        (TWO, "aab", "3 endpoints cannot be shared out without overloading a zone"),
        (TWO, "aaabb", "5 endpoints cannot be shared out without overloading a zone"),
        ([node("a", "a"), node("b", "a")], "ab", "there are not two zones with ready nodes"),
        ([*TWO, node("c", "")], "ab", "Node c has no zone"),
        ([*TWO, node("c", "c", 0)], "abc", "Node c has no allocatable CPU"),
        ([*TWO, node("c", "c", "many")], "abc", "Node c has no allocatable CPU"),
        ([*TWO, node("m", "", 4, **{"node-role.kubernetes.io/control-plane": ""})], "abmm", "an endpoint has no zone"),
    ],
)
def test_nobody_is_hinted_and_why(nodes: list[dict[str, Any]], places: str, why: str) -> None:
    state = cluster(nodes, places)
    assert set(hints(state)) == {"-"}
    (entry,) = [entry for entry in state.not_modelled if "annotations" in entry.field]
    assert entry.why == f"the controller gives no hints: {why}"


@pytest.mark.parametrize(
    ("annotations", "spec", "expected"),
    [
        ({}, {}, "--"),
        ({"service.kubernetes.io/topology-mode": "Disabled"}, {}, "--"),
        # Of two endpoints in one zone the other zone gets one, but for PreferClose, where each is hinted for its own.
        ({"service.kubernetes.io/topology-mode": "auto"}, {}, "ba"),
        ({"service.kubernetes.io/topology-aware-hints": "Auto"}, {}, "ba"),
        ({"service.kubernetes.io/topology-aware-hints": "disabled", **AUTO}, {}, "--"),
        ({}, {"trafficDistribution": "PreferClose"}, "aa"),
        (AUTO, {"trafficDistribution": "PreferClose"}, "ba"),
    ],
)
def test_who_asks_for_hints(annotations: dict[str, str], spec: dict[str, str], expected: str) -> None:
    assert hints(cluster(TWO, "aa", annotations, **spec)) == expected


def test_a_change_shares_out_anew() -> None:
    state = running(cluster(TWO, "aabb"))
    assert hints(state) == "aabb"
    moved = PodsReady((("default", "web-3"),)).apply(running(cluster(TWO, "aaaB")), 0).state
    assert hints(running(cluster(TWO, "aaaB"))) == "----"  # of three no zone can have its half
    assert hints(moved) == "baab"


def test_a_zone_that_is_lost_takes_the_hints_along() -> None:
    """Until the control plane notices they are what they were, and a proxy of the zone finds nobody else."""
    state = running(cluster(THREE, "aabbcc"))
    lost = LoseNode("b").apply(state, 0)
    assert hints(lost.state) == "aabbcc"
    ((_, noticed),) = lost.later
    assert hints(noticed.apply(lost.state, 0).state) == "aa--cc"
    state = running(cluster(TWO, "aabb"))
    lost = LoseNode("b").apply(state, 0)
    ((_, noticed),) = lost.later
    assert hints(noticed.apply(lost.state, 0).state) == "----"


@pytest.mark.parametrize(
    ("cpu", "number"), [(4, 4.0), ("4", 4.0), ("3920m", 3.92), ("0.5", 0.5), (None, 0.0), ("x", 0.0)]
)
def test_cpus_of_a_node(cpu: object, number: float) -> None:
    (made, *_) = complete(read_manifests([node("a", "a", cpu)] if cpu is not None else [])).nodes
    assert allocatable(made) == number


def test_zones_of_nodes_count_their_cpus() -> None:
    zones = Zones.of(cluster([node("a", "a", 2), node("b", "b", 1), node("c", "b", 1)], "a").nodes)
    assert (zones.shares, zones.why) == ({"a": 0.5, "b": 0.5}, "")
