"""What holds for every cluster."""

import re
from functools import cache
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from true_kubeproxy import saved

from dataplane.agents import Agents
from dataplane.agents.firewall import BUILT_IN
from dataplane.cluster import complete
from dataplane.cluster.manifests import read_manifests
from dataplane.host import HostConfig
from dataplane.host.iptables import Ruleset

NODES = ["node-1", "node-2", "node-3"]
MARKS = {"KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY", "KUBE-PROXY-CANARY"}
TARGETS = {"ACCEPT", "DROP", "RETURN", "MARK", "MASQUERADE", "DNAT", "REJECT"}


@cache
def node(number, dual):
    cidrs = [f"10.244.{number}.0/24"] + [f"fd00:10:244:{number}::/64"] * dual
    addresses = [f"192.168.1.1{number}"] + [f"fd00:1::1{number}"] * dual
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{number}", "labels": {"topology.kubernetes.io/zone": f"zone-{number % 2}"}},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        "status": {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]},
    }


def endpoints(dual):
    last = st.integers(2, 60)

    def of(family):
        address = (
            st.builds("10.244.{}.{}".format, st.integers(1, 3), last)
            if family == 4
            else st.builds("fd00:10:244:{}::{:x}".format, st.integers(1, 3), last)
        )
        return st.fixed_dictionaries(
            {
                "addresses": st.tuples(address).map(list),
                "conditions": st.fixed_dictionaries(
                    {}, optional=dict.fromkeys(["ready", "serving", "terminating"], st.booleans())
                ),
            },
            optional={
                "nodeName": st.sampled_from(NODES),
                "hints": st.sampled_from(["zone-0", "zone-1"]).map(lambda zone: {"forZones": [{"name": zone}]}),
            },
        )

    return st.tuples(*(st.lists(of(family), max_size=6) for family in ((4, 6) if dual else (4,))))


@st.composite
def services(draw, number, dual):
    """A Service of any shape, with its slices."""
    kind = draw(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]))
    protocols = draw(st.lists(st.sampled_from(["TCP", "UDP", "SCTP"]), min_size=1, max_size=3))
    several = len(protocols) > 1
    ports = [
        {"name": f"p{index}" if several else "", "port": 80 + index, "protocol": protocol}
        for index, protocol in enumerate(protocols)
    ]
    spec = {
        "type": kind,
        "clusterIP": f"10.96.1.{number}",
        "clusterIPs": [f"10.96.1.{number}"] + [f"fd00:10:96::{number:x}"] * dual,
        "ipFamilies": ["IPv4"] + ["IPv6"] * dual,
        "ipFamilyPolicy": "RequireDualStack" if dual else "SingleStack",
        "internalTrafficPolicy": draw(st.sampled_from(["Cluster", "Local"])),
        "ports": ports,
    }
    if kind != "ClusterIP":
        spec["externalTrafficPolicy"] = draw(st.sampled_from(["Cluster", "Local"]))
        for index, port in enumerate(ports):
            port["nodePort"] = 30000 + 10 * number + index
    if draw(st.booleans()):
        spec |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
    if draw(st.booleans()):
        spec["externalIPs"] = [f"198.51.100.{number}"] + [f"2001:db8::{number:x}"] * dual
    status = {}
    if kind == "LoadBalancer":
        if draw(st.booleans()):
            spec["loadBalancerSourceRanges"] = draw(
                st.lists(
                    st.sampled_from(["0.0.0.0/0", "203.0.113.0/24", "192.168.0.0/16", "fd00::/8"]),
                    min_size=1,
                    unique=True,
                )
            )
        if spec["externalTrafficPolicy"] == "Local":
            spec["healthCheckNodePort"] = 32000 + number
        ingress = [{"ip": f"203.0.113.{number}", "ipMode": draw(st.sampled_from(["VIP", "Proxy"]))}]
        status = {"loadBalancer": {"ingress": draw(st.sampled_from([ingress, [{"hostname": "lb.example"}], []]))}}
    annotations = draw(st.sampled_from([{}, {"service.kubernetes.io/topology-mode": "Auto"}]))
    name = f"svc-{number}"
    documents = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": draw(st.sampled_from(["a", "b"])), "annotations": annotations},
            "spec": spec,
            "status": status,
        }
    ]
    for family, entries in zip(("IPv4", "IPv6"), draw(endpoints(dual)), strict=False):
        documents.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": f"{name}-{family.lower()}",
                    "namespace": documents[0]["metadata"]["namespace"],
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": family,
                "ports": [{"name": p["name"], "protocol": p["protocol"], "port": 8000 + p["port"]} for p in ports],
                "endpoints": entries,
            }
        )
    return documents


@st.composite
def clusters(draw):
    dual = draw(st.booleans())
    documents = [node(number, dual) for number in range(1, draw(st.integers(1, 3)) + 1)]
    for number in range(1, draw(st.integers(0, 4)) + 1):
        documents += draw(services(number, dual))
    if draw(st.booleans()):
        configuration = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "detectLocalMode": draw(
                st.sampled_from(["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"])
            ),
            "detectLocal": draw(st.just({"bridgeInterface": "cni0", "interfaceNamePrefix": "veth"})),
            "iptables": {"masqueradeAll": draw(st.booleans()), "localhostNodePorts": draw(st.booleans())},
            "nodePortAddresses": draw(st.sampled_from([[], ["192.168.1.0/24"], ["127.0.0.0/8", "fd00:1::/64"]])),
        }
        documents.append(configuration)
    return complete(read_manifests(documents))


every_cluster = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@every_cluster
@given(clusters(), st.sampled_from([4, 6]))
def test_every_jump_leads_somewhere_and_every_chain_is_reached(state, family):
    agents = Agents(state)
    for name in (node.name for node in state.nodes):
        chains = saved(agents.firewall(name, family).ruleset().text())
        reached = set()
        for (table, _), rules in chains.items():
            for rule in rules:
                target = re.search(r"-j (\S+)", rule)
                if target and target[1] not in TARGETS:
                    assert (table, target[1]) in chains
                    reached.add((table, target[1]))
        lonely = {chain for table, chain in chains.keys() - reached if chain not in BUILT_IN[table]}
        # Nobody to mark, and no address that takes node ports, leave these two without a reference.
        assert lonely <= {*MARKS, "KUBE-MARK-MASQ", "KUBE-NODEPORTS"}


@every_cluster
@given(clusters())
def test_every_endpoint_has_the_same_chance(state):
    agents = Agents(state)
    for (_, chain), rules in saved(agents.firewall("node-1", 4).ruleset().text()).items():
        if not chain.startswith(("KUBE-SVC-", "KUBE-SVL-")):
            continue
        spread = [rule for rule in rules if "-j KUBE-SEP-" in rule and "-m recent" not in rule]
        left, shares = 1.0, []
        for rule in spread:
            chance = re.search(r"--probability (\S+)", rule)
            share = left * float(chance[1]) if chance else left
            shares.append(share)
            left -= share
        assert left == pytest.approx(0)
        assert shares == pytest.approx([1 / len(spread)] * len(spread), abs=1e-8)


@every_cluster
@given(clusters())
def test_a_node_does_not_depend_on_who_was_asked_before(state):
    shared = Agents(state)
    before = [shared.host(node.name) for node in reversed(state.nodes)]
    for node, config in zip(reversed(state.nodes), before, strict=True):
        alone = Agents(state)
        assert alone.host(node.name) == config
        assert alone.firewall(node.name, 4).ruleset().text() == shared.firewall(node.name, 4).ruleset().text()


@every_cluster
@given(clusters(), st.sampled_from([4, 6]))
def test_every_text_is_understood_and_prints_back(state, family):
    agents = Agents(state)
    for node in state.nodes:
        ruleset = agents.firewall(node.name, family).ruleset()
        understood = Ruleset.parse(ruleset.text(counters=True), family)
        assert understood == ruleset
        assert understood.text() == ruleset.text()


@settings(every_cluster, max_examples=20)
@given(clusters())
def test_every_dump_reads_back(state):
    agents = Agents(state)
    hosts = [agents.host(state.nodes[-1].name), agents.outside(), agents.underlay()]
    hosts += [agents.pod(pod.namespace, pod.name) for pod in agents.pods()[:1]]
    for config in hosts:
        with TemporaryDirectory() as folder:
            config.save(folder)
            assert HostConfig.load(folder).with_(name=config.name, fdb=config.fdb) == config
