"""Nodes become unhealthy while traffic flows: when a balancer learns of it, and what becomes of connections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from balanced_traffic import START, Timed, connection, datagrams, write

from dataplane import Cluster
from dataplane.agents.cloud.kinds import KINDS
from dataplane.result import Result

SHOP = Path(__file__).parent / "shop.yaml"
SECOND = 1_000_000_000
FORWARDING = ("aws-nlb", "aws-classic", "gcp", "azure")
LENGTH = 90  # seconds


def front(cluster: Cluster, service: str = "front") -> str:
    found = cluster.state.service("default", service)
    assert found is not None
    return str(cluster.agents.cloud.of(found)[0])


def one_a_second(cluster: Cluster, service: str = "front") -> list[Timed]:
    """A new client each second, with a connection that is over at once."""
    packets = []
    for second in range(LENGTH):
        client = f"198.51.100.{second + 1}"
        packets += connection(client, front(cluster, service), 40000, at=second, rounds=1)
    return packets


def run(cluster: Cluster, path: Path, packets: list[Timed], *events: tuple[float, dict[str, Any]]) -> Result:
    cluster.events.clear()
    for time, event in events:
        cluster.at(time, event)
    return cluster.replay(write(path / "in.pcap", packets))


def learnt(result: Result, node: str, word: str = "unhealthy") -> float:
    """When a balancer changed its mind, in seconds after the start."""
    (row,) = [row for row in result.changes if f"default/front: {node} {word}" in row.change]
    return row.time / SECOND - START


def lost(result: Result) -> list[float]:
    """When connections began that did not get through, in seconds after the start."""
    rows = zip(result.columns["first"], result.columns["verdict"], strict=True)
    return [first / SECOND - START for first, verdict in rows if verdict != "delivered"]


# ---- when it learns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cloud", FORWARDING)
def test_connections_are_lost_until_the_check_has_failed_often_enough(cloud: str, tmp_path: Path) -> None:
    cluster = Cluster.load(SHOP, cloud=cloud)
    result = run(cluster, tmp_path, one_a_second(cluster), (5.5, {"delete": "pod/web-1"}))
    check = KINDS[cloud].local
    at = learnt(result, "node-2")
    latest = check.fall * check.interval / SECOND
    assert latest - check.interval / SECOND <= at - 5.5 <= latest
    outage = lost(result)
    assert outage
    assert min(outage) > 5.5
    assert max(outage) < at
    after = [
        name
        for first, name in zip(result.columns["first"], result.columns["endpoint_name"], strict=True)
        if first / SECOND - START > at
    ]
    assert set(after) == {"default/web-0"}
    # Whoever looks at the table at the end finds what happened in between.
    nodes = {node.name: node for node in result.balancers[0].nodes}
    assert (nodes["node-2"].healthy, nodes["node-2"].receives) == (False, False)
    assert "503, 0 local endpoints" in nodes["node-2"].why
    assert sum(node.connections or 0 for node in nodes.values()) == LENGTH


def test_metallb_moves_the_address_at_once(tmp_path: Path) -> None:
    cluster = Cluster.load(SHOP, cloud="metallb-l2")
    (announcer,) = [node.name for node in cluster.agents.cloud.balancers().__next__().receives(front_of(cluster))]
    gone, stays = ("web-0", "web-1") if announcer == "node-1" else ("web-1", "web-0")
    result = run(cluster, tmp_path, one_a_second(cluster), (5.5, {"delete": f"pod/{gone}"}))
    assert not lost(result)
    assert result.columns["endpoint_name"] == [f"default/{gone}"] * 6 + [f"default/{stays}"] * (LENGTH - 6)


def front_of(cluster: Cluster) -> Any:
    return next(cluster.agents.cloud.balancers()).fronts[0]


def test_metallb_answers_nobody_for_a_service_without_endpoints(tmp_path: Path) -> None:
    cluster = Cluster.load(SHOP, cloud="metallb-l2")
    events = [(5.5, {"delete": "pod/web-0"}), (5.5, {"delete": "pod/web-1"})]
    result = run(cluster, tmp_path, one_a_second(cluster), *events)
    assert min(lost(result)) > 5.5
    assert len(lost(result)) == LENGTH - 6
    assert result.accounting.dropped.keys() == {"NEIGH_FAILED"}


@pytest.mark.parametrize("cloud", FORWARDING)
def test_an_endpoint_that_comes_back_in_time_is_never_missed(cloud: str, tmp_path: Path) -> None:
    """One bad answer is not enough."""
    cluster = Cluster.load(SHOP, cloud=cloud)
    events = [
        (5.5, {"endpoint": "pod/web-1", "ready": False}),
        (7.5, {"endpoint": "pod/web-1", "ready": True}),
    ]
    result = run(cluster, tmp_path, one_a_second(cluster), *events)
    assert not [row for row in result.changes if "healthy" in row.change]
    assert all(5.5 < time < 7.5 for time in lost(result))


@pytest.mark.parametrize("cloud", FORWARDING)
def test_a_node_that_gets_an_endpoint_has_to_prove_itself(cloud: str, tmp_path: Path) -> None:
    cluster = Cluster.load(SHOP, cloud=cloud)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-2", "labels": {"app": "web"}},
        "spec": {"nodeName": "node-3", "containers": [{"name": "web"}]},
    }
    result = run(cluster, tmp_path, one_a_second(cluster), (5.5, {"apply": pod}))
    at, check = learnt(result, "node-3", "healthy"), KINDS[cloud].local
    assert (check.rise - 1) * check.interval / SECOND <= at - 5.5 <= check.rise * check.interval / SECOND
    assert not lost(result)
    rows = list(zip(result.columns["first"], result.columns["endpoint_name"], strict=True))
    served = [first / SECOND - START for first, name in rows if name == "default/web-2"]
    assert served
    assert min(served) > at


@pytest.mark.parametrize("cloud", ["gcp", "azure", "aws-nlb"])
def test_a_node_that_dies(cloud: str, tmp_path: Path) -> None:
    cluster = Cluster.load(SHOP, cloud=cloud)
    result = run(cluster, tmp_path, one_a_second(cluster), (5.5, {"lose": "node/node-2"}))
    at = learnt(result, "node-2")
    assert max(lost(result)) < at


def test_a_node_that_comes_back(tmp_path: Path) -> None:
    """It has to pass the checks again, then it gets connections."""
    cluster = Cluster.load(SHOP, cloud="azure")
    events = [(5.5, {"lose": "node/node-2"}), (30.5, {"return": "node/node-2"})]
    result = run(cluster, tmp_path, one_a_second(cluster), *events)
    down, up = learnt(result, "node-2"), learnt(result, "node-2", "healthy")
    assert 5.5 < down < 30.5 < up
    assert all(5.5 < time < down for time in lost(result))
    rows = list(zip(result.columns["first"], result.columns["endpoint_name"], strict=True))
    there = [first / SECOND - START for first, name in rows if name == "default/web-1"]
    assert not [time for time in there if 5.5 < time < up]
    assert max(there) > up


def test_without_any_kube_proxy_the_checks_that_it_answers_fail(tmp_path: Path) -> None:
    """GCP asks kube-proxy itself; when it is gone from all nodes, all of them get traffic for want of a better one."""
    cluster = Cluster.load(SHOP, cloud="gcp")
    result = run(cluster, tmp_path, one_a_second(cluster, "shop"), (5.5, {"proxyMode": "none"}))
    assert [row.change for row in result.changes if "kube-proxy does not run" in row.change]
    assert not lost(result)  # its rules are there still
    row = next(row for row in result.balancers if row.service == "shop")
    assert row.fails_open
    assert not any(node.healthy for node in row.nodes)


def test_a_kube_proxy_that_does_not_run_fails_the_checks_that_it_answers(tmp_path: Path) -> None:
    """Its rules stay, so traffic goes on; only the balancer turns away. A NodePort that is asked itself goes on answering."""
    for cloud, asked in (("gcp", True), ("azure", False)):
        cluster = Cluster.load(SHOP, cloud=cloud)
        packets = one_a_second(cluster, "shop")
        result = run(cluster, tmp_path, packets, (5.5, {"restartProxy": "node/node-2", "for": "40s"}))
        told = [row.change for row in result.changes if "default/shop: node-2" in row.change]
        assert [": node-2 unhealthy" in line for line in told] == ([True, False] if asked else [])
        assert not lost(result)


def test_a_kube_proxy_that_is_late_calls_itself_unhealthy(tmp_path: Path) -> None:
    """A minute after the change that it has not written, for as long as it takes."""
    cluster = Cluster.load(SHOP, cloud="gcp")
    packets = one_a_second(cluster, "shop")
    cluster.at(5, {"endpoint": "pod/web-1", "ready": False})
    result = cluster.replay(write(tmp_path / "in.pcap", packets), sync_delay=["node-2=200s"])
    (row,) = [row for row in result.changes if "default/shop: node-2 unhealthy" in row.change]
    assert row.change.endswith("(HTTP 10256/healthz: 503)")
    # The third question after the minute is over.
    check = KINDS["gcp"].cluster
    last = 65 + check.fall * check.interval / SECOND
    assert last - check.interval / SECOND <= row.time / SECOND - START <= last
    cluster.events.clear()


# ---- what becomes of connections -----------------------------------------------------------------------------------


def long_ones(cluster: Cluster) -> list[Timed]:
    """Sixteen connections that talk every second, from the beginning to the end."""
    packets = []
    for number in range(16):
        client = f"198.51.100.{number + 1}"
        packets += connection(client, front(cluster), 41000, at=number / 100, rounds=LENGTH - 1, every=1)
    return packets


@pytest.mark.parametrize(("cloud", "stays"), [("gcp", True), ("azure", True), ("aws-nlb", False)])
def test_connections_to_a_node_that_drains(cloud: str, stays: bool, tmp_path: Path) -> None:
    """The endpoint terminates and serves on: its node fails the check at once, though it would serve what it has."""
    cluster = Cluster.load(SHOP, cloud=cloud)
    packets = long_ones(cluster)
    result = run(cluster, tmp_path, packets, (5.5, {"delete": "pod/web-1", "gracePeriod": "10m"}))
    there = [verdict for verdict, name in zip(result.columns["verdict"], result.columns["endpoint_name"], strict=True)
             if name == "default/web-1"]  # fmt: skip
    assert there
    assert set(there) == {"delivered" if stays else "partly"}
    assert not any(result.columns["moved"])
    if not stays:
        # A network load balancer would reset them; here their packets end at it.
        assert result.accounting.dropped == {"NETFILTER_DROP": sum(result.columns["dropped"])}


@pytest.mark.parametrize("cloud", ["gcp", "azure", "aws-nlb"])
def test_datagrams_of_a_flow_move_to_another_node(cloud: str, tmp_path: Path) -> None:
    cluster = Cluster.load(SHOP, cloud=cloud)
    packets = []
    for number in range(12):
        packets += datagrams(f"198.51.100.{number + 1}", front(cluster), 5000, at=number / 50, count=LENGTH, every=1)
    result = run(cluster, tmp_path, packets, (5.5, {"delete": "pod/web-1", "gracePeriod": "10m"}))
    assert result.accounting.delivered == result.accounting.read
    at = learnt(result, "node-2")
    moved = [time / SECOND - START for time in result.columns["last"]]
    assert moved
    assert set(result.columns["endpoint_name"]) == {"default/web-0"}
    assert any(result.columns["moved"])
    assert at < LENGTH


@pytest.mark.parametrize(
    ("cloud", "opens"), [("aws-nlb", True), ("gcp", True), ("azure", False), ("aws-classic", False)]
)
def test_when_no_node_is_healthy(cloud: str, opens: bool, tmp_path: Path) -> None:
    """Some send to all nodes then, which refuse (REJECT) as there is no endpoint at all; the others to none."""
    cluster = Cluster.load(SHOP, cloud=cloud)
    events = [(0.5, {"delete": "pod/web-0"}), (0.5, {"delete": "pod/web-1"})]
    result = run(cluster, tmp_path, one_a_second(cluster), *events)
    assert len(lost(result)) == LENGTH - 1
    late = [reason for first, reason in zip(result.columns["first"], result.columns["reason"], strict=True)
            if first / SECOND - START > 70]  # fmt: skip
    # What follows the SYN that was dropped belongs to no connection, and Azure has no node to take it for.
    assert set(late) == {"NETFILTER_REJECT" if opens else "IPVS_NO_DEST" if cloud == "azure" else "NETFILTER_DROP"}
    row = result.balancers[0]
    assert row.fails_open == opens
    assert not any(node.healthy for node in row.nodes)
    assert [node.receives for node in row.nodes] == [opens] * 3


def test_a_balancer_that_comes_later(tmp_path: Path) -> None:
    """A Service becomes a LoadBalancer while traffic flows; its nodes are asked before they get any."""
    for cloud in FORWARDING:
        cluster = Cluster.load(SHOP, cloud=cloud)
        addresses = front(cluster), front(cluster, "shop")
        for service in ("front", "shop"):
            cluster.apply({"delete": f"service/{service}"})
        manifest = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "front"},
            "spec": {
                "type": "LoadBalancer",
                "selector": {"app": "web"},
                "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}],
            },
        }
        packets = []
        for second in range(20, LENGTH, 10):
            packets += connection(f"198.51.100.{second}", addresses[0], 40000, at=second, rounds=1)
        packets += connection("198.51.100.1", str(cluster.nodes[0].addresses[0]), 40000, 31000, rounds=0)
        result = run(cluster, tmp_path, packets, (10, {"apply": manifest}))
        rise, check = KINDS[cloud].cluster.rise, KINDS[cloud].cluster.interval / SECOND
        assert all(time < 10 + rise * check for time in lost(result)), cloud
        served = [name for name in result.columns["endpoint_name"] if name and name.startswith("default/web")]
        assert served, cloud


@pytest.mark.parametrize("cloud", ["gcp", "aws-nlb", "metallb-l2"])
def test_a_balancer_that_goes_takes_its_address_along(cloud: str, tmp_path: Path) -> None:
    cluster = Cluster.load(SHOP, cloud=cloud)
    result = run(cluster, tmp_path, one_a_second(cluster), (5.5, {"delete": "service/front"}))
    assert lost(result) == [float(second) for second in range(6, LENGTH)]
    assert not [row for row in result.balancers if row.service == "front"]
    assert not result.accounting.left_out.get("between strangers")
