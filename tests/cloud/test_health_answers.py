"""What kube-proxy answers on healthCheckNodePort and on its own port, and a probe as packets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from balanced_traffic import connection, write

from dataplane import Cluster, ModelError
from dataplane.agents.kubeproxy.health import LATE, healthz, livez, service_health
from dataplane.cluster.objects import NodeState, Taint

SHOP = Path(__file__).parent / "shop.yaml"
LEAVING = NodeState("node-1", taints=(Taint("ToBeDeletedByClusterAutoscaler", "1", "NoSchedule"),))


@pytest.fixture
def shop() -> Cluster:
    return Cluster.load(SHOP)


def test_the_whole_answer_of_a_node_with_an_endpoint(shop: Cluster) -> None:
    answer = shop.health("node-1", "default/front")
    assert answer.healthy
    assert answer.text() == (
        "HTTP/1.1 200 OK\r\n"
        "Content-Type: application/json\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "X-Load-Balancing-Endpoint-Weight: 1\r\n"
        "Content-Length: 116\r\n"
        "\r\n"
        "{\n"
        '\t"service": {\n'
        '\t\t"namespace": "default",\n'
        '\t\t"name": "front"\n'
        "\t},\n"
        '\t"localEndpoints": 1,\n'
        '\t"serviceProxyHealthy": true\n'
        "}"
    )


def test_a_node_without_an_endpoint_is_unavailable(shop: Cluster) -> None:
    answer = shop.health("node-3", "default/front")
    assert (answer.status, answer.headers["X-Load-Balancing-Endpoint-Weight"]) == (503, "0")
    assert answer.text().startswith("HTTP/1.1 503 Service Unavailable\r\n")
    assert json.loads(answer.body)["localEndpoints"] == 0


def test_endpoints_count_once_however_many_ports_and_families_they_have(shop: Cluster) -> None:
    shop.apply({"apply": pod("web-2", "node-1")})
    answer = shop.health("node-1", "default/front")
    assert json.loads(answer.body)["localEndpoints"] == 2


def pod(name: str, node: str) -> dict[str, object]:
    spec = {"nodeName": node, "containers": [{"name": "web"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec}


@pytest.mark.parametrize("conditions", [{"ready": False}, {"ready": False, "serving": True, "terminating": True}])
def test_an_endpoint_that_is_not_ready_does_not_count(shop: Cluster, conditions: dict[str, bool]) -> None:
    """One that terminates still gets traffic while there is no other, but it is no reason to send more."""
    shop.apply({"endpoint": "pod/web-0", **conditions})
    assert shop.health("node-1", "default/front").status == 503
    assert shop.health("node-2", "default/front").status == 200


def test_a_proxy_that_is_late_is_unhealthy_for_all(shop: Cluster) -> None:
    service = shop.state.service("default", "front")
    assert service is not None
    in_time = service_health(shop.state, service, shop.nodes[0], waiting_ns=LATE - 1)
    late = service_health(shop.state, service, shop.nodes[0], waiting_ns=LATE)
    assert in_time is not None
    assert late is not None
    assert (in_time.status, late.status) == (200, 503)
    assert json.loads(late.body) | {"service": 0} == {"service": 0, "localEndpoints": 1, "serviceProxyHealthy": False}


def test_only_balancers_with_policy_local_have_a_check(shop: Cluster) -> None:
    with pytest.raises(ModelError, match="no healthCheckNodePort"):
        shop.health("node-1", "default/shop")
    with pytest.raises(ModelError, match="no such Service"):
        shop.health("node-1", "default/nothing")
    with pytest.raises(ModelError, match="node-9"):
        shop.health("node-9", "default/front")


def test_the_port_of_the_proxy_itself(shop: Cluster) -> None:
    answer = shop.health("node-1", time_ns=1_750_000_000_250_000_000)
    assert answer.status == 200
    time = "2025-06-15 15:06:40.25 +0000 UTC"
    assert answer.body == f'{{"lastUpdated": "{time}","currentTime": "{time}", "nodeEligible": true}}'
    assert shop.health("node-1", path="/livez").body.count("nodeEligible") == 0
    with pytest.raises(ModelError, match="/metrics"):
        shop.health("node-1", path="/metrics")


def test_a_node_about_to_go_lives_but_is_not_healthy() -> None:
    assert (healthz(LEAVING).status, livez(LEAVING).status) == (503, 200)
    assert '"nodeEligible": false' in healthz(LEAVING).body
    staying = NodeState("node-1")
    assert (healthz(staying, waiting_ns=LATE).status, livez(staying, waiting_ns=LATE).status) == (503, 503)
    body = healthz(staying, time_ns=LATE + 5_000_000_000, waiting_ns=LATE).body
    assert '"lastUpdated": "1970-01-01 00:00:05 +0000 UTC"' in body


@pytest.mark.parametrize("node", ["node-1", "node-3"])
def test_a_probe_is_taken_by_the_node_itself(shop: Cluster, node: str, tmp_path: Path) -> None:
    """With endpoints or without: kube-proxy answers on every node. The rule that lets it in counts it."""
    there = str(shop.agents.node(node).addresses[0])
    result = shop.replay(write(tmp_path / "in.pcap", connection("198.51.100.9", there, 40000, 31000)))
    assert result.as_expected
    assert result.columns["endpoint_name"] == [node]
    assert result.columns["endpoint_port"] == [31000]
    (note,) = [line for line in shop.notes if "healthCheckNodePort" in line]
    assert "a connection to it is taken" in note
