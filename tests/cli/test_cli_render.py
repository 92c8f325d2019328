"""`dataplane render`: the texts of a node, one by one and as a dump that loads again."""

import json
from pathlib import Path

import pytest

from dataplane import Cluster, HostConfig
from dataplane.cli import main
from dataplane.cli.render import FORMATS

SAMPLE = str(Path(__file__).parents[2] / "pcaps" / "boutique.yaml")


def render(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["render", "-c", SAMPLE, *arguments]) == 0
    return capsys.readouterr().out


def test_links_are_those_of_the_node(capsys: pytest.CaptureFixture[str]) -> None:
    links = {link["ifname"]: link for link in json.loads(render(capsys, "--node", "node-2", "--as", "links"))}
    assert {"lo", "eth0", "cni0", "flannel.1"} <= links.keys()
    assert sum(name.startswith("veth") for name in links) == 6  # five pods that are stated, one of the Deployment
    assert links["flannel.1"]["linkinfo"]["info_data"]["id"] == 1
    assert links["flannel.1"]["address"] == "ba:11:ca:7e:00:02"


def test_routes_lead_to_the_other_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    routes = {route["dst"]: route for route in json.loads(render(capsys, "--node", "node-1", "--as", "routes"))}
    assert routes["10.244.2.0/24"]["dev"] == "flannel.1"
    assert routes["10.244.2.0/24"]["gateway"] == "10.244.2.0"
    six = {route["dst"] for route in json.loads(render(capsys, "--node", "node-1", "--as", "routes6"))}
    assert "fd00:10:244:2::/64" in six


def test_neighbours_and_fdb_know_the_other_tunnel_ends(capsys: pytest.CaptureFixture[str]) -> None:
    neighbours = json.loads(render(capsys, "--node", "node-1", "--as", "neighbours"))
    assert {entry["lladdr"] for entry in neighbours if entry["dev"] == "flannel.1"} == {
        "ba:11:ca:7e:00:02",
        "ba:11:ca:7e:00:03",
    }
    entries = json.loads(render(capsys, "--node", "node-1", "--as", "fdb"))
    assert {entry.get("dst") for entry in entries if entry["ifname"] == "flannel.1"} >= {"192.168.1.12", "192.168.1.13"}


@pytest.mark.parametrize("form", ["iptables-save", "ip6tables-save"])
def test_rules_are_those_of_the_proxy_and_the_plugin(capsys: pytest.CaptureFixture[str], form: str) -> None:
    text = render(capsys, "--node", "node-1", "--as", form)
    for part in ("*nat\n", "*filter\n", ":KUBE-SERVICES ", ":FLANNEL-POSTRTG ", "COMMIT\n"):
        assert part in text
    address = "10.96.0.20/32" if form == "iptables-save" else "fd00:10:96::20/128"
    assert f"-A KUBE-SERVICES -d {address} -p tcp " in text


def test_pod_is_a_host_too(capsys: pytest.CaptureFixture[str]) -> None:
    addresses = json.loads(render(capsys, "--pod", "redis-58bd6c5f7-n5jql", "--as", "addresses"))
    assert "10.244.2.6" in {info["local"] for link in addresses for info in link["addr_info"]}
    same = render(capsys, "--pod", "default/redis-58bd6c5f7-n5jql", "--as", "addresses")
    assert json.loads(same) == addresses


def test_everything_stands_under_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = render(capsys, "--node", "node-1")
    for command in ("ip -details -json link show", "iptables-save -c", "sysctl -a"):
        assert f"# {command}\n" in text


def test_dump_loads_as_the_same_host(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "node-1"
    assert render(capsys, "--node", "node-1", "-w", str(folder)) == ""
    assert {"links.json", "routes.json", "iptables.save", "sysctl.txt"} <= {path.name for path in folder.iterdir()}
    assert HostConfig.load(folder) == Cluster.load(SAMPLE).host_config("node-1")


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_known(capsys: pytest.CaptureFixture[str], form: str) -> None:
    render(capsys, "--node", "node-1", "--as", form)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--node or --pod"),
        (("--node", "node-9"), "node-9"),
        (("--pod", "default/nope"), "default/nope"),
        (("--node", "node-1", "--as", "nonsense"), "iptables-save"),
        (("--node", "node-1", "--mode", "nftables"), "nftables"),
    ],
)
def test_what_is_not_there_is_said(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str) -> None:
    assert main(["render", "-c", SAMPLE, *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert said in output.err
