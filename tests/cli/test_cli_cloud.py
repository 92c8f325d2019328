"""`--cloud`: what the verbs print of load balancers outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataplane.cli import main

PCAPS = Path(__file__).parents[2] / "pcaps"
OFFICE, BOUTIQUE, PUBLIC = (str(PCAPS / name) for name in ("office.pcap", "boutique.yaml", "public.yaml"))
MAP = ("--map", "93.184.216.34:80=lb:default/public")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main([*words, "-c", BOUTIQUE, PUBLIC])
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.mark.parametrize(
    ("cloud", "sends", "sees", "ports"),
    [
        ("aws-nlb", "NodePorts", "client", "80:30090/TCP"),
        ("aws-classic", "NodePorts", "balancer", "80:30090/TCP"),
        ("gcp", "nodes, as it is (DSR)", "client", "80/TCP"),
        ("azure", "nodes, as it is (DSR)", "client", "80/TCP"),
        ("metallb-l2", "one node, as it is", "client", "80/TCP"),
    ],
)
def test_replay_tells_what_each_balancer_did(
    capsys: pytest.CaptureFixture[str], cloud: str, sends: str, sees: str, ports: str
) -> None:
    status, out, err = run(capsys, "replay", OFFICE, "--cloud", cloud, *MAP)
    assert status == 0, err
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("LOAD BALANCER"))
    starts = [lines[at].index(name) for name in ("LOAD", "ADDRESS", "PORTS", "KIND", "SENDS TO", "POD SEES", "NODES")]
    cells = [lines[at + 1][a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
    assert cells[:6] == ["default/public", "203.0.113.10", ports, cloud, sends, sees]
    if cloud == "metallb-l2":
        assert cells[6] in ("node-1", "node-2", "node-3")
    else:
        nodes = dict(part.split() for part in cells[6].split(", "))
        assert nodes.keys() == {"node-1", "node-2", "node-3"}
        assert sum(map(int, nodes.values())) == 9  # the flows of the capture


def test_replay_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "replay", OFFICE, "--cloud", "gcp", "-o", "json", *MAP)
    (balancer,) = json.loads(out)["balancers"]
    nodes = balancer.pop("nodes")
    assert balancer == {
        "namespace": "default",
        "service": "public",
        "address": "203.0.113.10",
        "kind": "gcp",
        "ports": "80/TCP",
        "delivery": "DIRECT",
        "keepsClient": True,
        "podSees": "client",
        "failsOpen": False,
    }
    assert [(node["name"], node["healthy"], node["receives"]) for node in nodes] == [
        (f"node-{number}", True, True) for number in (1, 2, 3)
    ]
    assert {node["why"] for node in nodes} == {"HTTP 30999/healthz: 200, 1 local endpoint"}


def test_the_same_without_a_cloud_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "replay", OFFICE, *MAP)
    assert (status, out) == (2, "")
    assert "Service default/public has no load balancer with an IPv4 address" in err


def test_get_shows_the_address_or_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    for cloud, shown in (("none", "<pending>"), ("gcp", "203.0.113.10"), ("aws-nlb", "public-")):
        status, out, _ = run(capsys, "get", "service/public", "--cloud", cloud)
        assert status == 0
        assert shown in out.splitlines()[-1]


def test_describe_a_service_and_a_node(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "describe", "service/public", "--cloud", "azure")
    told = out[out.index("Load Balancer:") : out.index("Rendered as")]
    assert told.startswith(
        "Load Balancer: Azure Standard Load Balancer, 203.0.113.10 to a node per connection as it is"
    )
    assert told.count("HTTP 30999/healthz: 200, 1 local endpoint") == 3
    body = '{"service": {"namespace": "default", "name": "public"}, "localEndpoints": 1, "serviceProxyHealthy": true}'
    assert told.count(body) == 3
    _, out, _ = run(capsys, "describe", "node/node-2")
    told = out[out.index("kube-proxy Answers:") : out.index("Rendered as")]
    rows = [line.split(maxsplit=3) for line in told.splitlines()[3:]]
    assert [row[:3] for row in rows] == [
        ["10256", "/healthz", "200"],
        ["10256", "/livez", "200"],
        ["30999", "/", "200"],
    ]
    assert rows[2][3] == body


def test_render_has_the_rules_of_an_address_that_the_cloud_gave(capsys: pytest.CaptureFixture[str]) -> None:
    for cloud, there in (("gcp", True), ("aws-nlb", False)):
        _, out, _ = run(capsys, "render", "--node", "node-1", "--as", "iptables-save", "--cloud", cloud)
        assert ("-d 203.0.113.10/32" in out) == there


def test_generate_sends_clients_to_balancers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    capture = str(tmp_path / "made.pcap")
    words = ("--packets", "2000", "--flows", "200", "--mix", "tcp", "--external", "0.5", "--cloud", "aws-nlb")
    status, out, _ = run(capsys, "generate", capture, *words)
    assert status == 0
    (row,) = [line.split() for line in out.splitlines() if line.startswith("outside")]
    assert row[1] == "LoadBalancer"
    status, out, err = run(capsys, "replay", capture, "--cloud", "aws-nlb", "-o", "json")
    assert status == 0, err
    (balancer,) = json.loads(out)["balancers"]
    assert sum(node["connections"] for node in balancer["nodes"]) == int(row[3])


def test_an_unknown_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "replay", OFFICE, "--cloud", "openstack")
    assert status == 2
    assert "aws-nlb" in err
