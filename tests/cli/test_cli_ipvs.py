"""kube-proxy's IPVS mode at the command line: what asks for it, and where it shows."""

from pathlib import Path

import pytest

from dataplane.cli import main
from dataplane.host import ipset, ipvs
from dataplane.host.iptables import Ruleset

ROOT = Path(__file__).parents[2]
SAMPLE, CAPTURE = str(ROOT / "pcaps" / "boutique.yaml"), str(ROOT / "pcaps" / "boutique.pcap")
CONFIGURATION = """apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
clusterCIDR: 10.244.0.0/16
ipvs: {scheduler: sh, tcpTimeout: 10m}
"""


def run(capsys: pytest.CaptureFixture[str], verb: str, *arguments: str, status: int = 0) -> str:
    assert main([verb, *arguments]) == status
    return capsys.readouterr().out


@pytest.fixture
def configured(tmp_path: Path) -> str:
    """A KubeProxyConfiguration that asks for IPVS mode."""
    path = tmp_path / "kube-proxy.yaml"
    path.write_text(CONFIGURATION)
    return str(path)


def render(capsys: pytest.CaptureFixture[str], form: str, *arguments: str) -> str:
    return run(capsys, "render", "-c", SAMPLE, "--node", "node-1", "--as", form, *arguments)


def test_each_text_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    services = ipvs.parse(render(capsys, "ipvsadm-save", "--mode", "ipvs"))
    assert {service.protocol for service in services} == {"tcp", "udp"}
    assert "-t 10.96.0.20:80" in {service.name for service in services}
    sets = {value.name: value for value in ipset.parse(render(capsys, "ipset-save", "--mode", "ipvs"))}
    assert len(sets) == 34
    addresses = {entry.elements[0] for name in ("", "6-") for entry in sets[f"KUBE-{name}CLUSTER-IP"].entries}
    assert addresses <= {service.address for service in services}
    for form, family in (("iptables-save", 4), ("ip6tables-save", 6)):
        rules = Ruleset.parse(render(capsys, form, "--mode", "ipvs"), family)
        asked = {word for _, _, rule in rules.rules() for word in rule.text.split() if word in sets}
        assert asked
        assert all(sets[name].family in (family, 4) for name in asked)


def test_a_node_of_another_mode_has_none_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert render(capsys, "ipvsadm-save") == render(capsys, "ipset-save") == render(capsys, "ipvs-timeout") == ""


def test_the_configuration_of_the_cluster_asks_for_it(capsys: pytest.CaptureFixture[str], configured: str) -> None:
    text = render(capsys, "ipvsadm-save", "-c", configured)
    assert "-A -t 10.96.0.20:80 -s sh\n" in text
    assert render(capsys, "ipvs-timeout", "-c", configured) == "Timeout (tcp tcpfin udp): 600 120 300\n"
    assert render(capsys, "ipvsadm-save", "-c", configured, "--mode", "iptables") == ""


def test_the_dump_is_replayed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "node-1"
    run(capsys, "render", "-c", SAMPLE, "--node", "node-1", "--mode", "ipvs", "--write", str(folder))
    assert {"ipvs.save", "ipvs-timeout.txt", "ipset.save"} <= {path.name for path in folder.iterdir()}
    text = run(capsys, "replay", CAPTURE, "--host", str(folder), "--in", "eth0")
    assert "eth0 -> " in text


def test_a_service(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "describe", "service", "frontend", "-c", SAMPLE, "--mode", "ipvs")
    rows = [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith("  ipvsadm ")]
    assert rows[0].split() == ["-t", "10.96.0.20:80", "-s", "rr", "10.244.1.3:8080,10.244.2.3:8080,10.244.3.2:8080"]
    saved = ipvs.parse(render(capsys, "ipvsadm-save", "--mode", "ipvs"))
    assert len(rows) == sum(
        service.port == 30080 or "0.20:80" in service.name or "::20]:80" in service.name for service in saved
    )
    assert "  ip address  kube-ipvs0 " in text
    assert "KUBE-NODE-PORT-TCP " in text
    assert "no server" in run(capsys, "describe", "service", "payment", "-c", SAMPLE, "--mode", "ipvs")


def test_a_pod(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "describe", "pod", "redis-58bd6c5f7-n5jql", "-c", SAMPLE, "--mode", "ipvs")
    rows = [line.split() for line in text.splitlines() if line.startswith("  ipvsadm ")]
    assert rows
    assert {row[-1].rpartition(":")[2] for row in rows} == {"6379"}


def test_a_node(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "describe", "node", "node-1", "-c", SAMPLE, "--mode", "ipvs")
    rows = {
        line.split()[0]: line.split()[-1] for line in text.splitlines() if line.startswith(("  ipvsadm", "  ipset"))
    }
    saved = ipvs.parse(render(capsys, "ipvsadm-save", "--mode", "ipvs"))
    assert rows == {"ipset": "34", "ipvsadm": str(len(saved))}


def test_a_replay(capsys: pytest.CaptureFixture[str]) -> None:
    """All that is delivered in the other mode is here; what no endpoint serves is refused by the balancer."""
    text = run(capsys, "replay", CAPTURE, "-c", SAMPLE, "--mode", "ipvs", status=1)
    rows = {line.split()[1]: line for line in text.splitlines() if line.startswith(("default ", "kube-system "))}
    assert "dropped: IPVS_NO_DEST" in rows["payment"]
    delivered = {name for name, line in rows.items() if " delivered " in line}
    assert delivered >= {"cart", "catalog", "checkout", "frontend", "kubernetes", "recommendation", "redis"}
    assert "dropped 4 " in text


def test_connections_of_a_node(capsys: pytest.CaptureFixture[str]) -> None:
    """The answers of a balanced connection come from its server."""
    text = run(capsys, "connections", CAPTURE, "-c", SAMPLE, "--mode", "ipvs", "--node", "node-1")
    rows = [line for line in text.splitlines() if " dport=8080 " in line or " dst=10.96." in line]
    assert any(" src=10.244." in row.split("dst=10.96.", 1)[-1] for row in rows)


def test_a_mode_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "-c", SAMPLE, "--node", "node-1", "--mode", "nftables"]) == 2
    assert "kube-proxy mode 'nftables' is not modelled; iptables and ipvs are" in capsys.readouterr().err
