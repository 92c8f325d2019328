"""kube-proxy's rules, piece by piece."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from agent_namespaces import namespace, needs_namespaces
from true_kubeproxy import saved

from dataplane.agents.firewall import Firewall
from dataplane.agents.kubeproxy import chains
from dataplane.agents.kubeproxy.iptables import canonical, node_port_jumps, probability
from dataplane.agents.kubeproxy.options import ProxyOptions, proxy_options
from dataplane.agents.kubeproxy.proxier import Proxier
from dataplane.agents.kubeproxy.sysctls import proxy_sysctls
from dataplane.cluster import Config, Objects, complete
from dataplane.cluster.manifests import read_manifests
from dataplane.cluster.objects import Origin
from dataplane.errors import ManifestError

NODES = [
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{number}"},
        "spec": {"podCIDR": f"10.244.{number}.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.1.1{number}"}]},
    }
    for number in (1, 2)
]


def service(name="web", endpoints=(), ports=None, kind="ClusterIP", **spec):
    """A Service and its EndpointSlice; endpoints: (address, node)."""
    ports = ports or [{"name": "http", "port": 80, "protocol": "TCP"}]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": kind, "clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"], "ports": ports, **spec},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": port.get("name", ""), "port": 8080, "protocol": port["protocol"]} for port in ports],
            "endpoints": [{"addresses": [address], "nodeName": node} for address, node in endpoints],
        },
    ]


def cluster(*documents) -> Objects:
    return complete(read_manifests([*NODES, *documents]), cluster_cidr="10.244.0.0/16")


def rules(state, node="node-1", options=None, family=4):
    firewall = Firewall(family)
    Proxier(state, options or ProxyOptions()).sync(firewall, state.node(node), [ip_address("192.168.1.11")])
    return saved(firewall.ruleset().text())


@pytest.mark.parametrize(
    ("name", "protocol", "suffix"),
    [
        ("default/kubernetes:https", "tcp", "NPX46M4PTMTKRN6Y"),
        ("kube-system/kube-dns:dns", "udp", "TCOU7JCQXEZGVUNU"),
        ("kube-system/kube-dns:dns-tcp", "tcp", "ERIFXISQEP7F7OF4"),
        ("default/web", "tcp", "LOLE4ISW44XBNF3G"),
    ],
)
def test_names_of_service_chains(name, protocol, suffix):
    assert chains.service_suffix(name, protocol) == suffix


def test_names_of_endpoint_chains():
    assert chains.endpoint_chain("default/web", "tcp", "10.244.1.5:8080") == "KUBE-SEP-XQWD6PXGZUTOOIVQ"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (2, "0.50000000000"),
        (3, "0.33333333349"),
        (7, "0.14285714272"),
        (10, "0.10000000009"),
        (100001, "0.00001000008"),
    ],
)
def test_one_in_n_as_the_kernel_keeps_it(count, text):
    assert probability(count) == text


@pytest.mark.parametrize(
    ("address", "family", "text"),
    [
        ("10.180.00.001", 4, "10.180.0.1"),
        ("10.0.0.10", 4, "10.0.0.10"),
        ("10.100.0.0", 4, "10.100.0.0"),
        ("FD00:0::1", 6, "fd00::1"),
        ("::ffff:10.0.0.1", 6, "::ffff:10.0.0.1"),
    ],
)
def test_endpoint_addresses_as_iptables_prints_them(address, family, text):
    assert canonical(address, family) == text


def test_endpoints_stand_in_the_order_of_their_text():
    endpoints = [("10.244.1.1", "node-1"), ("10.244.1.10", "node-1"), ("10.244.1.9", "node-1")]
    found = rules(cluster(*service(endpoints=endpoints)))[
        "nat", "KUBE-SVC-" + chains.service_suffix("default/web:http", "tcp")
    ]
    assert [rule.split("-> ")[1].split('"')[0] for rule in found[1:]] == [
        "10.244.1.10:8080",
        "10.244.1.1:8080",
        "10.244.1.9:8080",
    ]


def test_policy_local_keeps_traffic_on_the_node():
    documents = service(
        endpoints=[("10.244.1.5", "node-1")],
        kind="NodePort",
        ports=[{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}],
        externalTrafficPolicy="Local",
        internalTrafficPolicy="Local",
    )
    state = cluster(*documents)
    suffix = chains.service_suffix("default/web:http", "tcp")
    here, there = rules(state), rules(state, "node-2")
    assert here["nat", f"KUBE-EXT-{suffix}"][-1] == f"-j KUBE-SVL-{suffix}"
    assert ("nat", f"KUBE-SVL-{suffix}") not in there
    assert not any(rule.startswith("-j KUBE-SV") for rule in there["nat", f"KUBE-EXT-{suffix}"])
    (refused,) = there["filter", "KUBE-SERVICES"]
    assert refused.endswith('"default/web:http has no local endpoints" -m tcp --dport 80 -j DROP')
    assert there["filter", "KUBE-EXTERNAL-SERVICES"][0].endswith(
        "-m addrtype --dst-type LOCAL -m tcp --dport 30080 -j DROP"
    )
    assert here["filter", "KUBE-SERVICES"] == here["filter", "KUBE-EXTERNAL-SERVICES"] == []


def test_another_proxys_services_are_left_alone():
    mine, its = service("mine", [("10.244.1.5", "node-1")]), service("its", [("10.244.1.6", "node-1")])
    its[0]["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}
    its[0]["spec"] |= {"clusterIP": "10.96.0.21", "clusterIPs": ["10.96.0.21"]}
    text = str(rules(cluster(*mine, *its)))
    assert "default/mine" in text
    assert "default/its" not in text


@pytest.mark.parametrize(("endpoints", "commented"), [(1000, True), (1001, False)])
def test_a_large_cluster_goes_without_the_comments_of_endpoints(endpoints, commented):
    addresses = [(f"10.244.{number // 250}.{number % 250}", "node-1") for number in range(endpoints)]
    found = rules(cluster(*service(endpoints=addresses)))
    of_endpoints = [rules for (table, chain), rules in found.items() if chain.startswith("KUBE-SEP-")]
    assert len(of_endpoints) == endpoints
    assert all(("--comment" in rule) == commented for rules in of_endpoints for rule in rules)
    suffix = chains.service_suffix("default/web:http", "tcp")
    first, *spread = found["nat", f"KUBE-SVC-{suffix}"]
    assert "--comment" in first
    assert all(("--comment" in rule) == commented for rule in spread)


def test_nodes_share_what_is_the_same_on_all():
    state = cluster(*service(endpoints=[("10.244.1.5", "node-1"), ("10.244.2.5", "node-2")]))
    proxier = Proxier(state, ProxyOptions())
    one, two = (proxier.fragments(node, 4) for node in state.nodes)
    assert one[0] is two[0]
    by_node = Proxier(state, ProxyOptions(detect_local_mode="NodeCIDR"))
    one, two = (by_node.fragments(node, 4) for node in state.nodes)
    assert "10.244.1.0/24" in str(one)
    assert "10.244.2.0/24" in str(two)


def test_the_same_rules_whether_other_nodes_were_asked_before_or_not():
    documents = service(
        endpoints=[("10.244.1.5", "node-1"), ("10.244.2.5", "node-2")],
        kind="LoadBalancer",
        externalTrafficPolicy="Local",
        loadBalancerSourceRanges=["192.168.1.12/32"],
        externalIPs=["198.51.100.7"],
    )
    documents[0]["status"] = {"loadBalancer": {"ingress": [{"ip": "203.0.113.80"}]}}
    state = cluster(*documents)
    for options in (ProxyOptions(), ProxyOptions(detect_local_mode="NodeCIDR"), ProxyOptions(masquerade_all=True)):
        proxier = Proxier(state, options)
        for node in ("node-1", "node-2", "node-1"):
            firewall = Firewall(4)
            proxier.sync(firewall, state.node(node), [ip_address("192.168.1.11")])
            assert saved(firewall.ruleset().text()) == rules(state, node, options)


def test_a_health_check_that_nobody_answers_is_named():
    documents = service(kind="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=31000)
    (entry,) = Proxier(cluster(*documents), ProxyOptions()).not_modelled
    assert (entry.object, entry.field) == ("Service default/web", "spec.healthCheckNodePort")


def test_outsiders_enter_where_they_are_not_dropped():
    documents = service(
        endpoints=[("10.244.2.5", "node-2")],
        kind="LoadBalancer",
        externalTrafficPolicy="Local",
        externalIPs=["198.51.100.7"],
    )
    ((node, port),) = Proxier(cluster(*documents), ProxyOptions()).entrances()
    assert (node.name, [str(ip) for ip in port.external_ips]) == ("node-2", ["198.51.100.7"])


@pytest.mark.parametrize(
    ("options", "family", "jumps"),
    [
        (ProxyOptions(), 4, [("", "-m addrtype --dst-type LOCAL ")]),
        (ProxyOptions(), 6, [("! -d ::1/128 ", "-m addrtype --dst-type LOCAL ")]),
        (ProxyOptions(localhost_node_ports=False), 4, [("! -d 127.0.0.0/8 ", "-m addrtype --dst-type LOCAL ")]),
        (ProxyOptions(node_port_addresses=(ip_network("192.168.0.0/16"),)), 4, [("-d 192.168.1.11/32 ", "")]),
        (ProxyOptions(node_port_addresses=(ip_network("127.0.0.0/8"),)), 4, [("-d 127.0.0.1/32 ", "")]),
        (
            ProxyOptions(node_port_addresses=(ip_network("fd00::/8"),)),  # none of the family: all addresses
            4,
            [("", "-m addrtype --dst-type LOCAL ")],
        ),
        (ProxyOptions(node_port_addresses=(ip_network("0.0.0.0/0"),)), 4, [("", "-m addrtype --dst-type LOCAL ")]),
        (ProxyOptions(node_port_addresses=(ip_network("10.0.0.0/8"),)), 4, []),
    ],
)
def test_which_addresses_take_node_ports(options, family, jumps):
    note = '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" '
    addresses = [ip_address(text) for text in ("127.0.0.1", "192.168.1.11", "::1", "fd00:1::11")]
    found = node_port_jumps(options, family, addresses)
    assert found == [f"{front}{note}{kind}-j KUBE-NODEPORTS" for front, kind in jumps]


def test_options_of_a_configuration_document():
    data = {
        "mode": "iptables",
        "clusterCIDR": "10.244.0.0/16,fd00:10:244::/56",
        "detectLocalMode": "InterfaceNamePrefix",
        "detectLocal": {"interfaceNamePrefix": "veth"},
        "bindAddress": "0.0.0.0",
        "nodePortAddresses": ["192.168.1.11/24"],
        "iptables": {"masqueradeAll": True, "masqueradeBit": 15, "localhostNodePorts": False},
        "conntrack": {"maxPerCore": 1000, "min": 2000, "tcpEstablishedTimeout": "1h30m5s", "tcpBeLiberal": True},
    }
    assert proxy_options(Config("KubeProxyConfiguration", data)) == ProxyOptions(
        cluster_cidrs=(ip_network("10.244.0.0/16"), ip_network("fd00:10:244::/56")),
        detect_local_mode="InterfaceNamePrefix",
        interface_name_prefix="veth",
        node_port_addresses=(ip_network("192.168.1.0/24"),),
        masquerade_all=True,
        masquerade_bit=15,
        localhost_node_ports=False,
        conntrack_max_per_core=1000,
        conntrack_min=2000,
        tcp_established_timeout=5405,
        tcp_be_liberal=True,
    )
    assert proxy_options(None) == ProxyOptions()


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"clusterCIDR": "10.244.0.0/33"}, "clusterCIDR"),
        ({"clusterCIDR": 5}, "clusterCIDR"),
        ({"detectLocalMode": "Guess"}, "detectLocalMode"),
        ({"iptables": {"masqueradeBit": 32}}, "iptables.masqueradeBit"),
        ({"iptables": {"masqueradeAll": "yes"}}, "iptables.masqueradeAll"),
        ({"iptables": []}, "iptables"),
        ({"conntrack": {"min": True}}, "conntrack.min"),
        ({"conntrack": {"udpTimeout": "soon"}}, "conntrack.udpTimeout"),
        ({"bindAddress": "here"}, "bindAddress"),
        ({"nodePortAddresses": ["here"]}, "nodePortAddresses"),
        ({"nodePortAddresses": [1]}, "nodePortAddresses"),
    ],
)
def test_a_wrong_field_is_named(data, field):
    config = Config("KubeProxyConfiguration", data, Origin("cluster.yaml", 3))
    with pytest.raises(ManifestError) as raised:
        proxy_options(config)
    assert str(raised.value).startswith(f"cluster.yaml: document 3: KubeProxyConfiguration: {field}: ")


def test_the_mark_bit_is_in_every_rule_that_marks():
    found = rules(cluster(), options=ProxyOptions(masquerade_bit=20))
    assert found["nat", "KUBE-MARK-MASQ"] == ["-j MARK --set-xmark 0x100000/0x100000"]
    assert "--mark 0x100000/0x100000" in found["nat", "KUBE-POSTROUTING"][0]
    assert "--mark 0x100000/0x100000" in found["filter", "KUBE-FORWARD"][1]


def test_liberal_tracking_drops_no_invalid_packets():
    options = ProxyOptions(tcp_be_liberal=True)
    assert not any("INVALID" in rule for rule in rules(cluster(), options=options)["filter", "KUBE-FORWARD"])
    assert proxy_sysctls(options, 4)["net.netfilter.nf_conntrack_tcp_be_liberal"] == "1"


def test_sysctls():
    assert proxy_sysctls(ProxyOptions(), 4) == {
        "net.ipv4.conf.all.route_localnet": "1",
        "net.netfilter.nf_conntrack_max": "131072",
        "net.netfilter.nf_conntrack_tcp_timeout_established": "86400",
        "net.netfilter.nf_conntrack_tcp_timeout_close_wait": "3600",
    }
    assert proxy_sysctls(ProxyOptions(), 8)["net.netfilter.nf_conntrack_max"] == "262144"
    quiet = ProxyOptions(
        localhost_node_ports=False, conntrack_max_per_core=0, tcp_established_timeout=0, tcp_close_wait_timeout=0
    )
    assert proxy_sysctls(quiet, 8) == {}
    assert proxy_sysctls(replace(quiet, udp_timeout=60), 8) == {"net.netfilter.nf_conntrack_udp_timeout": "60"}


@needs_namespaces
@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_the_kernel_keeps_the_chances_that_we_print(backend):
    counts = [*range(2, 130), 500, 1000, 1001, 9999, 65536, 100000, 100001]
    text = "*filter\n:FORWARD ACCEPT [0:0]\n"
    for count in counts:
        text += f"-A FORWARD -m statistic --mode random --probability {1 / count:.10f} -j ACCEPT\n"
    with namespace() as host:
        host.run(f"iptables-{backend}-restore", text=text + "COMMIT\n")
        theirs = saved(host.run(f"iptables-{backend}-save"))["filter", "FORWARD"]
    assert [rule.split()[5] for rule in theirs] == [probability(count) for count in counts]
