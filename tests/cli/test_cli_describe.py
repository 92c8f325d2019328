"""`dataplane describe`: kubectl's look, what the agents make of an object, and what has no effect."""

from pathlib import Path

import pytest

from dataplane.cli import main
from dataplane.cli.table import aligned

SAMPLE = str(Path(__file__).parents[2] / "pcaps" / "boutique.yaml")
BALANCED = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {tier: front, app: web}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.1.1
  externalIPs: [198.51.100.7]
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  loadBalancerSourceRanges: [203.0.113.0/24]
  sessionAffinity: ClientIP
  selector: {app: web}
  ports:
  - {name: http, port: 80, nodePort: 30080, targetPort: 8080}
status: {loadBalancer: {ingress: [{ip: 192.0.2.5}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 5
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web:1, ports: [{containerPort: 8080}, {containerPort: 9090}]}]}
"""


def describe(capsys: pytest.CaptureFixture[str], *arguments: str, manifests: str = SAMPLE) -> str:
    assert main(["describe", *arguments, "-c", manifests]) == 0
    return capsys.readouterr().out


@pytest.fixture
def shop(tmp_path: Path) -> str:
    (tmp_path / "shop.yaml").write_text(BALANCED)
    return str(tmp_path / "shop.yaml")


def fields(text: str) -> dict[str, str]:
    """Label -> value of the lines that have both; of labels that repeat the last."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {label.strip(): value.strip() for label, colon, value in pairs if colon}


def test_a_service_as_kubectl_describes_it(capsys: pytest.CaptureFixture[str], shop: str) -> None:
    text = describe(capsys, "service", "web", "-n", "shop", manifests=shop)
    lines = text[: text.index("Load Balancer:")].splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "Name", "Namespace", "Labels", " " * 29 + "tier=front", "Annotations", "Selector", "Type", "IP Family Policy",
        "IP Families", "IP", "IPs", "External IPs", "LoadBalancer Ingress", "Port", "TargetPort", "NodePort",
        "Endpoints", "Session Affinity", "External Traffic Policy", "Internal Traffic Policy", "HealthCheck NodePort",
        "LoadBalancer Source Ranges",
    ]  # fmt: skip
    told = fields(text)
    assert told["Port"] == "http  80/TCP"
    assert told["TargetPort"] == "8080/TCP"
    assert told["LoadBalancer Ingress"] == "192.0.2.5 (VIP)"
    assert told["Endpoints"].endswith(" + 2 more...")
    assert told["Endpoints"].count(":8080") == 3
    assert len({line.index(line.split(":", 1)[1].lstrip()) for line in lines if not line.startswith(" ")}) == 1


def test_a_service_is_rendered_as_the_chains_that_render_prints(capsys: pytest.CaptureFixture[str], shop: str) -> None:
    text = describe(capsys, "svc/web", "-n", "shop", "--node", "node-2", manifests=shop)
    rows = [line.split() for line in text.splitlines() if line.startswith("  iptables")]
    assert {chain[:8] for _, _, chain, _ in rows} >= {"KUBE-SVC", "KUBE-SVL", "KUBE-SEP", "KUBE-FW-", "KUBE-EXT"}
    assert main(["render", "-c", shop, "--node", "node-2", "--as", "iptables-save"]) == 0
    rules = capsys.readouterr().out
    tables = {part.split("\n", 1)[0]: part for part in rules.split("\n*")[1:]} | {"mangle": ""}
    tables[rules.split("*", 1)[1].split("\n", 1)[0]] = rules.split("*", 1)[1].split("COMMIT")[0]
    for _, table, chain, count in rows:
        written = tables[table].count(f"-A {chain} ")
        if chain in ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"):
            assert 0 < int(count) <= written, chain
        else:
            assert int(count) == written, chain
    assert "spec.healthCheckNodePort:" in text.partition("Not modelled:")[2]


def test_a_pod(capsys: pytest.CaptureFixture[str]) -> None:
    text = describe(capsys, "pod", "redis-58bd6c5f7-n5jql")
    told = fields(text)
    assert told["Node"].startswith("node-2/192.168.1.")
    assert told["IP"] == "fd00:10:244:2::6"  # the last of IPs
    assert told["Port"] == "6379/TCP"
    assert "Rendered as: a host behind veth" in text
    assert "nat    KUBE-SEP-" in text


def test_ports_of_a_pod_are_listed(capsys: pytest.CaptureFixture[str], shop: str) -> None:
    text = describe(capsys, "pods", "-n", "shop", manifests=shop)
    assert text.count("Ports:") == 5 * 2
    assert "    Ports:       8080/TCP, 9090/TCP\n    Host Ports:  0/TCP, 0/TCP\n" in text
    assert "Controlled By:  ReplicaSet/web-" in text


def test_a_node(capsys: pytest.CaptureFixture[str]) -> None:
    text = describe(capsys, "node", "node-1")
    told = fields(text)
    assert told["PodCIDR"] == "10.244.1.0/24"
    assert told["Unschedulable"] == "false"
    count = int(told["Non-terminated Pods"].strip("()").split()[0])
    assert text.count("\n  default  ") + text.count("\n  kube-system  ") == count > 0
    assert main(["render", "-c", SAMPLE, "--node", "node-1", "--as", "iptables-save"]) == 0
    rules = capsys.readouterr().out.count("\n-A ")
    entries = [line.split() for line in text.splitlines() if line.startswith("  iptables ")]
    assert sum(int(row[-1]) for row in entries) == rules


def test_what_cannot_be_described(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, why in (
        (("endpoints",), "endpoints cannot be described; services, pods, nodes can"),
        (("svc", "nothing"), 'services "nothing" not found in namespace default'),
        (("svc", "cart", "--node", "node-9"), "no node 'node-9'"),
    ):
        assert main(["describe", *arguments, "-c", SAMPLE]) == 2
        assert why in capsys.readouterr().err


def test_cells_are_aligned_within_runs_of_lines() -> None:
    assert aligned(["a\tb", "long\tc\td", "alone", "x\ty", "longest"]) == (
        "a     b\n" "long  c  d\n" "alone\n" "x  y\n" "longest\n"
    )  # fmt: skip


KINDS = """
{apiVersion: v1, kind: Service, metadata: {name: named}, spec: {type: ExternalName, externalName: example.com}}
---
{apiVersion: v1, kind: Service, metadata: {name: headless}, spec: {clusterIP: None, ports: [{port: 80}]}}
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec: {trafficDistribution: PreferClose, selector: {app: a}, ports: [{port: 80}]}
"""


@pytest.mark.parametrize(
    ("name", "labels", "without"),
    [
        ("named", {"External Name": "example.com", "IP Families": "<none>", "IP": ""}, ["Internal Traffic Policy"]),
        ("headless", {"IP": "None", "IPs": "None", "IP Family Policy": "SingleStack"}, ["Traffic Distribution"]),
        ("near", {"Traffic Distribution": "PreferClose", "Internal Traffic Policy": "Cluster"}, ["External Name"]),
    ],
)
def test_services_of_every_kind(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, labels: dict[str, str], without: list[str]
) -> None:
    (tmp_path / "kinds.yaml").write_text(KINDS)
    found = fields(describe(capsys, "service", name, manifests=str(tmp_path / "kinds.yaml")))
    assert labels.items() <= found.items()
    assert not found.keys() & set(without)
    nothing = found["Rendered as"] == "nothing: kube-proxy leaves it alone"
    assert nothing is (name != "near")


def test_what_another_version_would_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "kinds.yaml").write_text(KINDS)
    said = "kube-proxy 1.30 does not know it, 1.31 does"
    for version, told in (("1.30", True), ("1.31", False), ("v1.34.2", False)):
        text = describe(capsys, "service", "near", "--kube-version", version, manifests=str(tmp_path / "kinds.yaml"))
        assert (said in text) is told
