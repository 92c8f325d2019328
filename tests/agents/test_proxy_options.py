"""Every option of kube-proxy that changes what a node does: given as its configuration document, bare or in the ConfigMap
in which kubeadm keeps it, and seen in the rules, the sysctls and the packets."""

import re
from typing import Any

import pytest
import yaml

from dataplane.cluster import complete, read_manifests
from dataplane.emulation import Cluster
from dataplane.errors import ManifestError, ModelError
from dataplane.testing import Conversation, Run
from dataplane.testing.run import arrived
from dataplane.testing.wire import TCP

CLUSTER_IP, NODE_PORT, VIP = "10.96.0.20", 30080, "198.51.100.7"
NODES = [
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{n}"},
        "spec": {"podCIDR": f"10.244.{n}.0/24"},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": f"192.168.1.1{n}"},
                {"type": "ExternalIP", "address": f"198.51.100.1{n}"},
            ]
        },
    }
    for n in (1, 2)
]
OBJECTS = [
    *NODES,
    *(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
            "status": {"podIP": address},
        }
        for name, node, address in (("web", "node-2", "10.244.2.10"), ("client", "node-1", "10.244.1.10"))
    ),
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": CLUSTER_IP,
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080, "nodePort": NODE_PORT}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": VIP}]}},
    },
]
VERSION = "kubeproxy.config.k8s.io/v1alpha1"


def bare(options: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": VERSION, "kind": "KubeProxyConfiguration", **options}


def in_config_map(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kube-proxy", "namespace": "kube-system", "labels": {"app": "kube-proxy"}},
        "data": {"config.conf": yaml.safe_dump(bare(options)), "kubeconfig.conf": "apiVersion: v1\nkind: Config\n"},
    }


def cluster(options: dict[str, Any] | None = None, form: Any = bare, objects: list[Any] = OBJECTS) -> Cluster:
    documents = [*objects, *([] if options is None else [form(options)])]
    return Cluster(complete(read_manifests(documents), cluster_cidr="10.244.0.0/16"))


def rules(options: dict[str, Any], node: str = "node-1", form: Any = bare) -> list[str]:
    ruleset = cluster(options, form).host_config(node).iptables
    assert ruleset is not None
    return ruleset.text().splitlines()


def changed(options: dict[str, Any], form: Any = bare) -> tuple[set[str], set[str]]:
    """The rules of node-1 that are gone, and those that have come, against a proxy without a configuration."""
    without = cluster().host_config("node-1").iptables
    assert without is not None
    before, after = set(without.text().splitlines()), set(rules(options, form=form))
    return before - after, after - before


# What an option takes away and what it brings, as patterns of whole rules, each of which is met.
RULES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "nothing, as its clusterCIDR is the cluster's": ({"clusterCIDR": "10.244.0.0/16"}, [], []),
    "clusterCIDR": (
        {"clusterCIDR": "10.0.0.0/8"},
        [r"-A KUBE-SVC-\w+ ! -s 10.244.0.0/16 -d 10.96.0.20/32 .* -j KUBE-MARK-MASQ"],
        [r"-A KUBE-SVC-\w+ ! -s 10.0.0.0/8 -d 10.96.0.20/32 .* -j KUBE-MARK-MASQ"],
    ),
    "clusterCIDR, empty: nobody is told from pods": (
        {"clusterCIDR": ""},
        [r"-A KUBE-SVC-\w+ ! -s 10.244.0.0/16 .* -j KUBE-MARK-MASQ"],
        [],
    ),
    "clusterCIDR of both families: the first of each": (
        {"clusterCIDR": "10.244.0.0/17,fd00:10:244::/56"},
        [r"-A KUBE-SVC-\w+ ! -s 10.244.0.0/16 .*"],
        [r"-A KUBE-SVC-\w+ ! -s 10.244.0.0/17 .*"],
    ),
    "NodeCIDR": (
        {"detectLocalMode": "NodeCIDR"},
        [r"-A KUBE-SVC-\w+ ! -s 10.244.0.0/16 .*"],
        [r"-A KUBE-SVC-\w+ ! -s 10.244.1.0/24 .*"],
    ),
    "BridgeInterface": (
        {"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cni0"}},
        [r"-A KUBE-SVC-\w+ ! -s 10.244.0.0/16 .*"],
        [r"-A KUBE-SVC-\w+ -d 10.96.0.20/32 ! -i cni0 .*"],
    ),
    "InterfaceNamePrefix": (
        {"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "veth"}},
        [r"-A KUBE-SVC-\w+ ! -s 10.244.0.0/16 .*"],
        [r"-A KUBE-SVC-\w+ -d 10.96.0.20/32 ! -i veth\+ .*"],
    ),
    "masqueradeAll": (
        {"clusterCIDR": "10.244.0.0/16", "iptables": {"masqueradeAll": True}},
        [r"-A KUBE-SVC-\w+ ! -s 10.244.0.0/16 .*"],
        [r"-A KUBE-SVC-\w+ -d 10.96.0.20/32 .* -j KUBE-MARK-MASQ"],
    ),
    "masqueradeBit": (
        {"clusterCIDR": "10.244.0.0/16", "iptables": {"masqueradeBit": 0}},
        [r".* --mark 0x4000/0x4000 .*"] * 2 + [r"-A KUBE-(MARK-MASQ|POSTROUTING) .* --set-xmark 0x4000/.*"] * 2,
        [r".* --mark 0x1/0x1 .*"] * 2 + [r"-A KUBE-(MARK-MASQ|POSTROUTING) .* --set-xmark 0x1/.*"] * 2,
    ),
    "localhostNodePorts": (
        {"clusterCIDR": "10.244.0.0/16", "iptables": {"localhostNodePorts": False}},
        [r"-A KUBE-SERVICES -m comment .*last rule in this chain.* --dst-type LOCAL -j KUBE-NODEPORTS"],
        [r"-A KUBE-SERVICES ! -d 127.0.0.0/8 -m comment .*last rule in this chain.* LOCAL -j KUBE-NODEPORTS"],
    ),
    "nodePortAddresses": (
        {"clusterCIDR": "10.244.0.0/16", "nodePortAddresses": ["192.168.0.0/16"]},
        [r"-A KUBE-SERVICES -m comment .*last rule.*"],
        [r"-A KUBE-SERVICES -d 192.168.1.11/32 -m comment .*last rule.*"],
    ),
    "nodePortAddresses that hold 127.0.0.1 too": (
        {"clusterCIDR": "10.244.0.0/16", "nodePortAddresses": ["192.168.0.0/16", "127.0.0.0/8"]},
        [r"-A KUBE-SERVICES -m comment .*last rule.*"],
        [r"-A KUBE-SERVICES -d (192.168.1.11|127.0.0.1)/32 -m comment .*last rule.*"] * 2,
    ),
    "nodePortAddresses: everything": ({"clusterCIDR": "10.244.0.0/16", "nodePortAddresses": ["0.0.0.0/0"]}, [], []),
    "nodePortAddresses: primary": (
        {"clusterCIDR": "10.244.0.0/16", "nodePortAddresses": ["primary"]},
        [r"-A KUBE-SERVICES -m comment .*last rule.*"],
        [r"-A KUBE-SERVICES -d 192.168.1.11/32 -m comment .*last rule.*"],
    ),
    "tcpBeLiberal": (
        {"clusterCIDR": "10.244.0.0/16", "conntrack": {"tcpBeLiberal": True}},
        [r"-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"],
        [],
    ),
}


@pytest.mark.parametrize("form", [bare, in_config_map])
@pytest.mark.parametrize("name", RULES)
def test_rules(name: str, form: Any) -> None:
    options, gone, come = RULES[name]
    for found, patterns in zip(changed(options, form), (gone, come), strict=True):
        assert len(found) == len(patterns), found
        for rule in found:
            assert any(re.fullmatch(pattern, rule) for pattern in patterns), rule
        for pattern in patterns:
            assert any(re.fullmatch(pattern, rule) for rule in found), pattern


ROUTE_LOCALNET = "net.ipv4.conf.all.route_localnet"
CONNTRACK = "net.netfilter.nf_conntrack_"


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, {"max": "131072", "tcp_timeout_established": "86400", "tcp_timeout_close_wait": "3600"}),
        ({"conntrack": {"maxPerCore": 50_000}}, {"max": "200000"}),  # four processors
        ({"conntrack": {"maxPerCore": 1, "min": 5}}, {"max": "5"}),
        ({"conntrack": {"maxPerCore": 0, "min": 5}}, {"max": None}),
        ({"conntrack": {"maxPerCore": None, "min": None}}, {"max": "131072"}),
        ({"conntrack": {"tcpEstablishedTimeout": "1h0m0s"}}, {"tcp_timeout_established": "3600"}),
        ({"conntrack": {"tcpEstablishedTimeout": "1.5h"}}, {"tcp_timeout_established": "5400"}),
        ({"conntrack": {"tcpEstablishedTimeout": "0s"}}, {"tcp_timeout_established": None}),
        ({"conntrack": {"tcpCloseWaitTimeout": "2m30.5s"}}, {"tcp_timeout_close_wait": "150"}),
        ({"conntrack": {"tcpCloseWaitTimeout": "0"}}, {"tcp_timeout_close_wait": None}),
        ({"conntrack": {"udpTimeout": "45s"}}, {"udp_timeout": "45", "udp_timeout_stream": None}),
        ({"conntrack": {"udpStreamTimeout": "240000ms"}}, {"udp_timeout": None, "udp_timeout_stream": "240"}),
        ({"conntrack": {"tcpBeLiberal": True}}, {"tcp_be_liberal": "1"}),
        ({"conntrack": {"tcpBeLiberal": False}}, {"tcp_be_liberal": None}),
    ],
)
def test_sysctls_of_connection_tracking(options: dict[str, Any], settings: dict[str, str | None]) -> None:
    """A setting of 0 leaves the kernel's own value alone."""
    written = cluster(options).host_config("node-1").sysctl
    assert {name: written.get(CONNTRACK + name) for name in settings} == settings


@pytest.mark.parametrize(
    ("options", "on"),
    [
        ({}, True),
        ({"iptables": {"localhostNodePorts": False}}, False),
        ({"nodePortAddresses": ["192.168.0.0/16"]}, False),
        ({"nodePortAddresses": ["127.0.0.0/8", "192.168.0.0/16"]}, True),
        ({"nodePortAddresses": ["primary"]}, False),
    ],
)
def test_route_localnet_is_for_node_ports_on_localhost(options: dict[str, Any], on: bool) -> None:
    assert (cluster(options).host_config("node-1").sysctl.get(ROUTE_LOCALNET) == "1") is on


def test_the_kernel_takes_the_timeout() -> None:
    """A connection is forgotten when the configured time is over, and not before."""
    run = Run(cluster({"conntrack": {"tcpEstablishedTimeout": "100s"}}))
    assert run.play(Conversation("default/client", CLUSTER_IP, TCP, 40_000, 80)).complete
    run.wait(99_000_000_000)
    assert "dport=80" in run.connections("node-1").text()
    run.wait(2_000_000_000)
    assert "dport=80" not in run.connections("node-1").text()


def seen(options: dict[str, Any], sender: str, target: str, port: int, source: str = "") -> str:
    """Under which address the pod gets it; the reason where it does not."""
    played = Run(cluster(options)).play(Conversation(sender, target, TCP, 40_000, port, source=source))
    if not played.requests[0].delivered:
        return played.requests[0].reason.name
    assert played.complete
    if played.requests[0].receiver != "default/web":
        return f"taken by {played.requests[0].receiver}"
    return str(arrived(played.requests[0]).source)


POD, NODE = "10.244.1.10", "10.244.1.0"  # the client's own address, and its node's in the tunnel


@pytest.mark.parametrize(
    ("options", "sender", "target", "port", "source"),
    [
        ({}, "default/client", CLUSTER_IP, 80, POD),
        ({"iptables": {"masqueradeAll": True}}, "default/client", CLUSTER_IP, 80, NODE),
        ({"iptables": {"masqueradeAll": True, "masqueradeBit": 5}}, "default/client", CLUSTER_IP, 80, NODE),
        ({"clusterCIDR": "10.244.2.0/24"}, "default/client", CLUSTER_IP, 80, NODE),
        ({"detectLocalMode": "NodeCIDR"}, "default/client", CLUSTER_IP, 80, POD),
        (
            {"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cni0"}},
            "default/client",
            CLUSTER_IP,
            80,
            POD,
        ),
        (
            {"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "other0"}},
            "default/client",
            CLUSTER_IP,
            80,
            NODE,
        ),
        # Routed packets come in by the bridge, not by its port.
        (
            {"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "veth"}},
            "default/client",
            CLUSTER_IP,
            80,
            NODE,
        ),
        (
            {"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "cni"}},
            "default/client",
            CLUSTER_IP,
            80,
            POD,
        ),
        ({"detectLocalMode": "NodeCIDR"}, "node-1", CLUSTER_IP, 80, NODE),
        ({}, "outside", "192.168.1.11", NODE_PORT, NODE),
        ({"nodePortAddresses": ["10.0.0.0/8"]}, "outside", "192.168.1.11", NODE_PORT, "taken by node-1"),
        ({"nodePortAddresses": ["10.0.0.0/8"]}, "default/client", "10.244.1.1", NODE_PORT, NODE),
        ({"nodePortAddresses": ["primary"]}, "default/client", "10.244.1.1", NODE_PORT, "taken by node-1"),
        ({"nodePortAddresses": ["primary"]}, "outside", "192.168.1.11", NODE_PORT, NODE),
        ({"iptables": {"localhostNodePorts": False}}, "outside", "192.168.1.11", NODE_PORT, NODE),
    ],
)
def test_packets(options: dict[str, Any], sender: str, target: str, port: int, source: str) -> None:
    given = {"clusterCIDR": "10.244.0.0/16", **options}
    assert seen(given, sender, target, port) == source


@pytest.mark.parametrize(
    ("options", "source"),
    [
        ({}, NODE),
        ({"iptables": {"localhostNodePorts": False}}, "taken by node-1"),
        ({"nodePortAddresses": ["192.168.0.0/16"]}, "taken by node-1"),
    ],
)
def test_node_ports_on_localhost(options: dict[str, Any], source: str) -> None:
    assert seen(options, "node-1", "127.0.0.1", NODE_PORT, "127.0.0.1") == source


def test_the_address_that_a_proxy_is_bound_to_is_its_nodes() -> None:
    """It matters to source ranges: a range that holds it lets the node reach the balancer's address from itself."""
    (*others, service) = OBJECTS
    spec = {**service["spec"], "loadBalancerSourceRanges": ["192.0.2.0/24"]}
    objects = [*others, {**service, "spec": spec}]
    own = f"-s {VIP}/32 -m comment"
    for options, there in (({}, False), ({"bindAddress": "192.0.2.7"}, True), ({"bindAddress": "0.0.0.0"}, False)):
        ruleset = cluster(options, objects=objects).host_config("node-1").iptables
        assert ruleset is not None
        assert (own in ruleset.text()) is there


def test_the_mode_that_is_configured() -> None:
    assert cluster({"mode": "iptables"}).agents.proxy.mode == "iptables"
    assert cluster({"mode": ""}).agents.proxy.mode == "iptables"
    with pytest.raises(ModelError, match="nftables"):
        cluster({"mode": "nftables"})


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"iptables": {"masqueradeAl": True}}, "iptables.masqueradeAl"),
        ({"nodePortAddress": ["10.0.0.0/8"]}, "nodePortAddress"),
        ({"featureGates": {"TopologyAwareHints": False}}, "featureGates"),
        ({"hostnameOverride": "other"}, "hostnameOverride"),
        ({"iptables": {"minSyncPeriod": "10s"}}, "iptables.minSyncPeriod"),
    ],
)
def test_what_has_no_effect_is_named(options: dict[str, Any], field: str) -> None:
    assert [note for note in cluster(options).notes if note.startswith(f"KubeProxyConfiguration: {field} ")]
    assert not [note for note in cluster({}).notes if "KubeProxyConfiguration" in note]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"detectLocalMode": "BridgeInterface"}, "detectLocal.bridgeInterface"),
        ({"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {}}, "detectLocal.interfaceNamePrefix"),
        ({"nodePortAddresses": ["primary", "10.0.0.0/8"]}, "nodePortAddresses"),
        ({"conntrack": {"udpTimeout": "10"}}, "conntrack.udpTimeout"),
        ({"conntrack": {"udpTimeout": "-1s"}}, "conntrack.udpTimeout"),
    ],
)
def test_what_kube_proxy_would_not_start_with(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ManifestError, match=field.replace(".", r"\.")):
        cluster(options)


def test_what_kubeadm_writes_changes_nothing() -> None:
    """The configuration of a cluster that was made with defaults: every field is there, as null, 0s or empty."""
    written = yaml.safe_load("""
        bindAddress: 0.0.0.0
        bindAddressHardFail: false
        clientConnection: {acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: /x, qps: 0}
        clusterCIDR: 10.244.0.0/16
        configSyncPeriod: 0s
        conntrack:
          {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null,
           udpStreamTimeout: 0s, udpTimeout: 0s}
        detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
        detectLocalMode: ""
        enableProfiling: false
        healthzBindAddress: ""
        hostnameOverride: ""
        iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
        ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s,
          tcpTimeout: 0s, udpTimeout: 0s}
        logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}}, verbosity: 0}
        metricsBindAddress: ""
        mode: ""
        nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
        nodePortAddresses: null
        oomScoreAdj: null
        portRange: ""
        showHiddenMetricsForVersion: ""
        winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: "", rootHnsEndpointName: "", sourceVip: ""}
    """)
    made = cluster(written, in_config_map)
    assert made.host_config("node-1") == cluster().host_config("node-1")
    assert made.notes == cluster().notes
