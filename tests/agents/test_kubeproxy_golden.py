"""Ours against what the true kube-proxy 1.30.5 gave to iptables-restore, and left in a node's kernel."""

from ipaddress import ip_address

import pytest
from agent_namespaces import namespace, needs_namespaces
from true_kubeproxy import DATA, Case, differences, golden_cases, rendered, restore, saved, stated

from dataplane.agents.kubeproxy.options import proxy_options
from dataplane.cluster import Config, load_manifests
from dataplane.cluster.documents import parse_yaml

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not there")

CASES = golden_cases()
CAPTURED = sorted(path.name for path in DATA.glob("captured/iptables*"))
BUILT_IN = {"INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"}


def fed_chains(chains):
    """Without what kube-proxy does through single commands, which these texts do not hold."""
    return {key: rules for key, rules in chains.items() if key[1] not in BUILT_IN | {"KUBE-PROXY-CANARY"}}


def without_unfed(ours, fed):
    """KUBE-FIREWALL is fed only where localhost node ports work; elsewhere it is empty and stays so."""
    return {key: rules for key, rules in fed_chains(ours).items() if rules or key in fed}


@pytest.mark.parametrize("name", CASES)
def test_every_chain_is_what_kube_proxy_feeds(name):
    theirs = {}
    for path in CASES[name]:
        case = Case.read(path)
        restore(theirs, case.restore, case.family)
        assert differences(without_unfed(case.ours(), theirs), theirs) == {}, path.name


@needs_namespaces
@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.parametrize("name", [name for name in CASES if name != "TestBadIPs"])
def test_every_chain_is_what_the_kernel_then_holds(name, backend):
    with namespace() as host:
        for path in CASES[name]:
            case = Case.read(path)
            tool = f"ip{'6' if case.family == 6 else ''}tables-{backend}"
            host.run(f"{tool}-restore", "--noflush", text=case.restore)
            theirs = fed_chains(saved(host.run(f"{tool}-save")))
            assert differences(without_unfed(case.ours(), theirs), theirs) == {}, path.name


@needs_namespaces
def test_iptables_refuses_an_endpoint_address_with_leading_zeros():
    """So kube-proxy 1.30 programs nothing at all there; ours takes the address without them, and says so."""
    (path,) = CASES["TestBadIPs"]
    with namespace() as host, pytest.raises(AssertionError, match=r'Bad IP address "10\.180\.00\.001"'):
        host.run("iptables-nft-restore", "--noflush", text=path.read_text())


@pytest.mark.parametrize("file", ["iptables-save.txt", "ip6tables-save.txt"])
@pytest.mark.parametrize("name", CAPTURED)
def test_every_chain_is_what_the_running_program_left(name, file):
    folder = DATA / "captured" / name
    assert compare_captured(folder, "cluster.yaml", file) == {}


def test_after_a_change_of_the_objects():
    folder = DATA / "captured" / "iptables-transition"
    assert compare_captured(folder, "transition-after.yaml", "after.iptables-save.txt") == {}


def compare_captured(folder, objects, file):
    (document,) = [value for _, value in parse_yaml("config.yaml", (folder / "config.yaml").read_text())]
    options = proxy_options(Config("KubeProxyConfiguration", document))
    state = stated(load_manifests(folder.parent / objects))
    addresses = [ip_address(text) for text in ("127.0.0.1", "::1", "192.168.0.2")]
    ours = rendered(state, options, 6 if file.startswith("ip6") else 4, addresses)
    return differences(ours, saved((folder / file).read_text()))


@pytest.mark.parametrize("name", CAPTURED)
def test_the_same_sysctl_is_set(name):
    text = (DATA / "captured" / name / "sysctl.txt").read_text()
    localnet = "net.ipv4.conf.all.route_localnet = 1" in text
    (document,) = [value for _, value in parse_yaml("", (DATA / "captured" / name / "config.yaml").read_text())]
    options = proxy_options(Config("KubeProxyConfiguration", document))
    assert options.localhost_node_ports_work(4) == localnet
