"""IPVS mode against what the true kube-proxy 1.30.5 made of the same objects (its proxier over in-memory back ends)."""

import json
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from true_kubeproxy import DATA, as_saved, stated

from dataplane.agents.firewall import Firewall
from dataplane.agents.kubeproxy.ipvs.proxier import IpvsProxier
from dataplane.agents.kubeproxy.options import ProxyOptions
from dataplane.cluster import load_manifests
from dataplane.host import ipset

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not there")

GOLDEN = {
    "overall": ProxyOptions(cluster_cidrs=(ip_network("10.0.0.0/8"),)),
    "overall-masq-all": ProxyOptions(cluster_cidrs=(ip_network("10.0.0.0/8"),), masquerade_all=True),
    "overall-no-detector": ProxyOptions(cluster_cidrs=()),
}
INTERFACES = "127.0.0.1/8 ::1/128 192.168.0.2/24 192.168.1.2/24 192.168.99.11/24 2001:db8::1/64 2001:db8:1::2/64"
CASES = [*GOLDEN, "captured"]


def case(name):
    """(what the true one made, objects, options, addresses of the node's interfaces)"""
    if name == "captured":
        folder = DATA / "captured"
        options = ProxyOptions(cluster_cidrs=(ip_network("10.180.0.0/16"),))
        theirs = folder / "ipvs-in-memory" / "state.json"
        return json.loads(theirs.read_text()), folder / "cluster.yaml", options, [ip_address("192.168.0.2")]
    folder = DATA / "golden" / "ipvs"
    theirs = json.loads((folder / f"{name}.v1.30.5.ipvs.json").read_text())
    # The fake iptables of these cases is too old for --random-fully.
    options = ProxyOptions(
        cluster_cidrs=GOLDEN[name].cluster_cidrs, masquerade_all=GOLDEN[name].masquerade_all, random_fully=False
    )
    return theirs, folder / "overall.yaml", options, [ip_interface(text).ip for text in INTERFACES.split()]


@pytest.fixture(params=CASES)
def both(request):
    theirs, objects, options, addresses = case(request.param)
    state = stated(load_manifests(objects))
    return theirs, IpvsProxier(state, options).programmed(state.nodes[0], 4, addresses)


def test_virtual_services(both):
    theirs, ours = both
    assert sorted(map(told, ours.services), key=lambda entry: entry["virtual_server"]) == theirs["virtual_servers"]


def told(service):
    return {
        "virtual_server": f"{service.address}:{service.port}/{service.protocol.upper()}",
        "scheduler": service.scheduler,
        "flags": int(bool(service.persistent)),
        "persistence_timeout": service.persistent,
        "real_servers": [{"address": server.endpoint, "weight": server.weight} for server in service.servers],
    }


def test_addresses_of_the_device(both):
    theirs, ours = both
    assert sorted(map(str, ours.bound)) == theirs["kube-ipvs0"]


def test_ipsets(both):
    theirs, ours = both
    members = {value.name: [] for value in ours.ipsets}
    for line in ipset.text(ours.ipsets).splitlines():
        words = line.split()
        if words[0] == "add":
            members[words[1]].append(words[2])
    assert {name: sorted(found) for name, found in members.items()} == {
        name: found["entries"] for name, found in theirs["ipsets"].items()
    }
    assert {value.name: value.type for value in ours.ipsets} == {
        name: found["type"] for name, found in theirs["ipsets"].items()
    }


def test_rules(both):
    theirs, ours = both
    fed = {}
    table = ""
    for line in theirs["iptables_restore"]:
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            fed[table, line[1:].split()[0]] = []
        elif line.startswith("-A "):
            _, chain, rule = line.split(" ", 2)
            fed[table, chain].append(as_saved(rule, 4))
    assert {(table, chain): rules for table, chains in ours.chains.items() for chain, rules in chains.items()} == fed


def test_jumps(both):
    _, ours = both
    firewall = Firewall(4)
    ours.write(firewall)
    found = {
        (table, chain): [rule.rsplit("-j ")[-1] for rule in firewall.chains(table)[chain].texts]
        for table in ("nat", "filter")
        for chain in firewall.chains(table)
        if not chain.startswith("KUBE-")
    }
    assert {key: jumps for key, jumps in found.items() if jumps} == {
        ("nat", "PREROUTING"): ["KUBE-SERVICES"],
        ("nat", "OUTPUT"): ["KUBE-SERVICES"],
        ("nat", "POSTROUTING"): ["KUBE-POSTROUTING"],
        ("filter", "INPUT"): ["KUBE-IPVS-FILTER", "KUBE-PROXY-FIREWALL", "KUBE-NODE-PORT"],
        ("filter", "FORWARD"): ["KUBE-PROXY-FIREWALL", "KUBE-FORWARD"],
        ("filter", "OUTPUT"): ["KUBE-IPVS-OUT-FILTER"],
    }
