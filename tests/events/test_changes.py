"""What a change makes of the objects, step by step."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.cluster import ClusterState, complete, load_manifests
from dataplane.cluster.changes import Change, Delete, RestartPod, Rollout, Scale, SetEndpoint, running
from dataplane.cluster.events import read_change
from dataplane.cluster.node_changes import LoseNode, ReturnNode
from dataplane.errors import ModelError

SHOP = Path(__file__).parent / "shop.yaml"
SECOND = 1_000_000_000


@pytest.fixture
def state() -> ClusterState:
    return running(complete(load_manifests([SHOP])))


def steps(state: ClusterState, change: Change) -> Iterator[tuple[int, str, ClusterState]]:
    """(ns, change, state after it) of a change and all that follows from it."""
    waiting: list[tuple[int, int, Change]] = [(0, 0, change)]
    order = 0
    while waiting:
        waiting.sort(key=lambda entry: entry[:2])
        now, _, following = waiting.pop(0)
        state, _, later = following.apply(state, 0)
        yield now, str(following), state
        for delay, then in later:
            order += 1
            waiting.append((now + delay, order, then))
        assert order < 200, "it never ends"


def pods(state: ClusterState, prefix: str) -> list[str]:
    return [pod.name for pod in state.pods if pod.name.startswith(prefix) and not pod.terminating]


def conditions(state: ClusterState, service: str, family: int = 4) -> dict[str, tuple[bool, bool, bool]]:
    return {
        e.address: (e.ready, e.serving, e.terminating)
        for piece in state.endpoints["default", service]
        for e in piece.endpoints
        if piece.family == family
    }


def address(state: ClusterState, name: str) -> str:
    pod = state.pod("default", name)
    assert pod is not None
    return str(pod.ips[0])


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "most", "least"),
    [(4, "25%", "25%", 5, 3), (4, "1", "0", 5, 4), (4, "0", "2", 4, 2), (10, "30%", "25%", 13, 8), (1, "0", "0", 1, 0)],
)
def test_a_rolling_update_keeps_its_promises(
    state: ClusterState, replicas: int, surge: str, unavailable: str, most: int, least: int
) -> None:
    """Never more pods than replicas and surge, never fewer that serve than replicas without the unavailable."""
    *_, (_, _, state) = steps(state, Scale("Deployment", "default", "web", replicas))
    before = set(pods(state, "web"))
    workload = next(w for w in state.workloads if w.name == "web")
    change = Rollout(workload, surge, unavailable, ready_after=2 * SECOND)
    seen = list(steps(state, change))
    for _, _, now in seen:
        there = [pod for pod in now.pods if pod.name.startswith("web")]
        assert len(there) <= most
        assert sum(pod.ready for pod in there) >= least
        ready = {a for a, (is_ready, _, _) in conditions(now, "web").items() if is_ready}
        assert ready == {str(pod.ips[0]) for pod in there if pod.ready}
    last = seen[-1][2]
    assert len(pods(last, "web")) == replicas
    assert not before & set(pods(last, "web"))
    assert len({pod.ips for pod in last.pods}) == len(last.pods)


def test_a_stateful_set_rolls_from_its_last_pod_to_its_first(state: ClusterState) -> None:
    workload = next(w for w in state.workloads if w.name == "dns")
    old = {name: address(state, name) for name in ("dns-0", "dns-1")}
    order = []
    for now, _, after in steps(state, Rollout(workload, ready_after=SECOND)):
        for name in old:
            if address(after, name) != old[name] and name not in [done for done, _ in order]:
                order.append((name, now))
        assert sum(pod.ready for pod in after.pods if pod.name.startswith("dns")) >= 1
    assert order == [("dns-1", 0), ("dns-0", SECOND)]


def test_a_pod_that_is_deleted_is_terminating_first(state: ClusterState) -> None:
    name = pods(state, "web")[0]
    was = address(state, name)
    seen = {now: after for now, _, after in steps(state, Delete("Pod", "default", name, 5 * SECOND, 2 * SECOND))}
    assert conditions(seen[0], "web")[was] == (False, True, True)
    (fresh,) = set(pods(seen[0], "web")) - set(pods(state, "web"))
    assert conditions(seen[0], "web")[address(seen[0], fresh)] == (False, False, False)
    assert conditions(seen[2 * SECOND], "web")[address(seen[0], fresh)] == (True, True, False)
    assert was not in conditions(seen[5 * SECOND], "web")
    assert state.pod("default", name) is not None
    assert seen[5 * SECOND].pod("default", name) is None


def test_a_restarted_pod_is_behind_its_services_again(state: ClusterState) -> None:
    before = address(state, "dns-0")
    first, second = (after for _, _, after in steps(state, RestartPod("default", "dns-0", SECOND)))
    after = address(first, "dns-0")
    assert after != before
    assert before not in conditions(first, "dns")
    assert conditions(first, "dns")[after] == (False, False, False)
    assert conditions(second, "dns")[after] == (True, True, False)
    assert first.pod("default", "dns-0").node == state.pod("default", "dns-0").node  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("said", "conditions_after"),
    [
        ({"ready": False}, (False, False, False)),
        ({"ready": False, "serving": True}, (False, True, False)),
        ({"terminating": True}, (False, True, True)),
        ({"terminating": True, "serving": False}, (False, False, True)),
        ({"serving": False}, (False, False, False)),
    ],
)
def test_conditions_of_an_endpoint(
    state: ClusterState, said: dict[str, bool], conditions_after: tuple[bool, bool, bool]
) -> None:
    """By its pod and by its address; the fast way gives the state that the whole way gives."""
    where = address(state, "dns-0")
    for change in (SetEndpoint("default", pod="dns-0", **said), SetEndpoint("default", address=where, **said)):
        changed = change.apply(state, 0)
        assert changed.services == {("default", "dns")}
        assert conditions(changed.state, "dns")[where] == conditions_after
        pod = changed.state.pod("default", "dns-0")
        assert pod is not None
        assert (pod.ready, pod.terminating) == conditions_after[1:]
        assert pod in changed.state.pods
        assert pod in changed.state.pods_on(pod.node or "")
        assert pod in changed.state.pods_of("StatefulSet", "default", "dns")
        rest = [p for p in changed.state.pods if p.name != "dns-0"]
        assert rest == [p for p in state.pods if p.name != "dns-0"]
        assert sorted(s.name for s in changed.state.slices) == sorted(s.name for s in state.slices)
        assert set(map(id, changed.state.endpoints["default", "dns"])) <= set(map(id, changed.state.slices))


def test_a_lost_node(state: ClusterState) -> None:
    seen = list(steps(state, LoseNode("node-2")))
    assert [(now // SECOND, what) for now, what, _ in seen] == [
        (0, "lose node/node-2"),
        (40, "node/node-2 not ready"),
        (340, "evict from node/node-2"),
    ]
    there = {str(pod.ips[0]) for pod in state.pods_on("node-2")}
    assert all(conditions(seen[0][2], "web")[a][0] for a in there & conditions(state, "web").keys())
    assert not any(conditions(seen[1][2], "web")[a][0] for a in there & conditions(state, "web").keys())
    replaced = [pod for pod in seen[2][2].pods if pod.name.startswith("web") and not pod.terminating]
    assert len(replaced) == 4
    assert all(pod.node != "node-2" for pod in replaced)


def lost(state: ClusterState, *, evict: bool) -> ClusterState:
    *_, (_, _, after) = steps(state, LoseNode("node-2", evict_after=300 * SECOND if evict else 0))
    return after


def test_a_node_that_nobody_hears_is_told_as_such(state: ClusterState) -> None:
    unheard = lost(state, evict=False).node("node-2")
    assert unheard is not None
    assert not unheard.ready
    assert [(taint.key, taint.effect) for taint in unheard.taints] == [
        ("node.kubernetes.io/unreachable", "NoSchedule"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
    ]
    with pytest.raises(ModelError, match="lost already"):
        LoseNode("node-2").apply(lost(state, evict=False), 0)


@pytest.mark.parametrize("rebooted", [False, True])
@pytest.mark.parametrize("evict", [False, True])
def test_a_node_that_returns(state: ClusterState, evict: bool, rebooted: bool) -> None:
    """Its pods serve again, under other addresses if it has started anew; those that were evicted are gone."""
    before = {pod.name: pod for pod in state.pods_on("node-2")}
    (now, _, first), *rest = steps(lost(state, evict=evict), ReturnNode("node-2", rebooted, 5 * SECOND))
    assert now == 0
    node = first.node("node-2")
    assert node is not None
    assert (node.ready, node.taints, node.lost) == (True, (), False)
    after = rest[-1][2] if rest else first
    pods = {pod.name: pod for pod in after.pods_on("node-2")}
    if evict:
        assert not pods.keys() & before.keys()
    else:
        assert [at // SECOND for at, _, _ in rest] == [5]
        assert pods.keys() == before.keys()
        assert all(pod.ready for pod in pods.values())
        assert not any(pod.ready for pod in first.pods_on("node-2"))
        assert all((pod.ips == before[name].ips) is not rebooted for name, pod in pods.items())
        there = conditions(after, "web")
        web = [str(pod.ips[0]) for name, pod in pods.items() if name.startswith("web")]
        assert web
        assert all(there[ip] == (True, True, False) for ip in web)
    assert len(conditions(after, "web")) == 4


def test_a_node_that_returns_in_time_was_never_missed(state: ClusterState) -> None:
    """Of the first loss nothing comes any more, also where a second one follows."""
    changed = LoseNode("node-2").apply(state, 0)
    (_, noticed) = changed.later[0]
    back = ReturnNode("node-2").apply(changed.state, 0).state
    assert noticed.apply(back, 0).state == back
    again = LoseNode("node-2").apply(back, 0).state
    assert noticed.apply(again, 0).state == again
    assert back.pods == state.pods
    with pytest.raises(ModelError, match="was not lost"):
        ReturnNode("node-2").apply(back, 0)


def test_a_node_that_is_deleted_stays_away(state: ClusterState) -> None:
    """Its pods go with it, and their workloads make others elsewhere."""
    (_, _, after), *_ = steps(state, Delete("Node", "", "node-2"))
    assert [node.name for node in after.nodes] == ["node-1", "node-3"]
    assert len(pods(after, "web")) == 4
    assert {pod.node for pod in after.pods} == {"node-1", "node-3"}


def test_apply_keeps_what_the_cluster_gave(state: ClusterState) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": {"app": "dns"}, "ports": [{"name": "http", "port": 80}]},
    }
    change = read_change({"apply": service})
    assert not callable(change)
    *_, (_, _, after) = steps(state, change)
    old, new = state.service("default", "web"), after.service("default", "web")
    assert old is not None
    assert new is not None
    assert new.cluster_ips == old.cluster_ips
    assert new.ports[0].node_port == 30080
    assert conditions(after, "web").keys() == {address(state, "dns-0"), address(state, "dns-1")}
    workload = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web"}]},
            },
        },
    }
    scaled = read_change({"apply": workload})
    assert not callable(scaled)
    *_, (_, _, smaller) = steps(state, scaled)
    assert len(pods(smaller, "web")) == 2
    assert set(pods(smaller, "web")) < set(pods(state, "web"))
