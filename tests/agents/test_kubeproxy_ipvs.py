"""kube-proxy in IPVS mode, piece by piece, on a small cluster of its own."""

import json
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dataplane.agents import Agents, Options
from dataplane.agents.kubeproxy.ipvs.device import node_port_addresses
from dataplane.agents.kubeproxy.ipvs.sets import TYPES, set_name
from dataplane.agents.kubeproxy.options import ProxyOptions, proxy_options
from dataplane.cluster import Config, complete, load_manifests
from dataplane.cluster.changes import Delete, SetEndpoint
from dataplane.cluster.events import read_change
from dataplane.cluster.objects import Origin
from dataplane.errors import ManifestError
from dataplane.host import ipset, ipvs
from dataplane.host.ipvs import IpvsTimeouts
from dataplane.timeline import changed_services

SHOP = Path(__file__).parent / "ipvs-shop.yaml"


def agents_of(text="", folder=None):
    """The cluster's agents; text: of a KubeProxyConfiguration."""
    paths = [SHOP]
    if text:
        path = folder / "proxy.yaml"
        path.write_text(f"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{text}")
        paths.append(path)
    return Agents(complete(load_manifests(paths)), Options(mode="" if text else "ipvs"))


@pytest.fixture(scope="module")
def agents():
    return agents_of()


@pytest.fixture(scope="module")
def node(agents):
    return agents.host("node-1")


def servers(config, name):
    """The servers of a virtual service: address:port -> weight."""
    (found,) = (service for service in config.ipvs if service.name == name)
    return {server.endpoint: server.weight for server in found.servers}


def members(config, name):
    lines = ipset.text(value for value in config.ipsets if value.name == name).splitlines()
    assert lines[0].startswith(f"create {name} ")
    return [line.split()[2] for line in lines[1:]]


def chain(config, name, table="nat", family=4):
    rules = config.iptables if family == 4 else config.ip6tables
    (found,) = (found.chains for found in rules.tables if found.name == table)
    (found,) = (value for value in found if value.name == name)
    return [rule.text for rule in found.rules]


# ---- virtual services ----------------------------------------------------------------------------------------------------


def test_every_address_of_a_service_is_a_virtual_service(node):
    names = [service.name for service in node.ipvs if service.port in (80, 30080) and service.servers]
    assert names == [
        "-t 10.96.0.20:80",
        "-t 198.51.100.7:80",
        "-t 192.168.1.11:80",
        "-t 10.244.1.0:30080",
        "-t 10.244.1.1:30080",
        "-t 192.168.1.11:30080",
        "-t [fd00:10:96::20]:80",
        "-t [fd00:1::11]:30080",
        "-t [fd00:10:244:1::]:30080",
        "-t [fd00:10:244:1::1]:30080",
    ]
    for name in names:
        expected = (
            ("[fd00:10:244:1::3]:8080", "[fd00:10:244:2::3]:8080")
            if "[" in name
            else ("10.244.1.3:8080", "10.244.2.3:8080")
        )
        assert servers(node, name) == dict.fromkeys(expected, 1)
    assert {service.scheduler for service in node.ipvs} == {"rr"}
    assert {server.forward for service in node.ipvs for server in service.servers} == {"masq"}


def test_a_service_without_endpoints_has_no_server(node):
    assert servers(node, "-t 10.96.0.70:80") == {}


def test_policy_local_takes_the_nodes_own_endpoints(agents):
    config = agents.host("node-1")
    assert servers(config, "--sctp-service 192.168.1.11:30506") == {"10.244.1.3:5060": 1}
    assert servers(config, "--sctp-service 10.96.0.60:5060") == {"10.244.1.3:5060": 1, "10.244.2.3:5060": 1}


def test_policy_local_without_an_endpoint_takes_all(agents):
    assert servers(agents.host("node-1"), "-t 203.0.113.80:443") == {"10.244.2.4:8443": 1}
    assert servers(agents.host("node-2"), "-t 203.0.113.80:443") == {"10.244.2.4:8443": 1}


def test_an_internal_policy_alone_leaves_none(agents):
    """Nothing but the node's own endpoints is looked at, where only insiders are served."""
    assert servers(agents.host("node-1"), "-t 10.96.0.40:80") == {}
    assert servers(agents.host("node-2"), "-t 10.96.0.40:80") == {"10.244.2.4:8080": 1}


def test_affinity_is_persistence(node):
    found = {service.name: service.persistent for service in node.ipvs if service.persistent}
    assert found == {"-u 10.96.0.50:53": 600, "--sctp-service 10.96.0.50:5060": 600}


def test_a_balancers_address_of_mode_proxy_is_nobodys(node):
    assert not any("203.0.113.81" in service.name for service in node.ipvs)


def test_the_scheduler_is_that_of_the_configuration(tmp_path):
    config = agents_of("mode: ipvs\nipvs: {scheduler: mh}\n", tmp_path).host("node-1")
    assert {(service.scheduler, service.flag_words) for service in config.ipvs} == {("mh", "mh-port")}


def test_node_ports_at_some_addresses_only(tmp_path):
    config = agents_of("mode: ipvs\nnodePortAddresses: [192.168.1.0/24, 127.0.0.0/8]\n", tmp_path).host("node-1")
    assert [service.name for service in config.ipvs if service.port == 30080] == [
        "-t 192.168.1.11:30080",
        "-t [fd00:1::11]:30080",
        "-t [fd00:10:244:1::]:30080",
        "-t [fd00:10:244:1::1]:30080",
    ]


def test_a_node_without_an_address_for_them_has_no_node_ports(tmp_path):
    config = agents_of("mode: ipvs\nnodePortAddresses: [172.16.0.0/12]\n", tmp_path).host("node-1")
    assert not [service.name for service in config.ipvs if service.port == 30443]
    assert members(config, "KUBE-NODE-PORT-TCP") == members(config, "KUBE-HEALTH-CHECK-NODE-PORT") == []


def test_addresses_for_node_ports():
    local = [ip_address(text) for text in ("127.0.0.1", "169.254.3.4", "10.0.0.1", "::1", "fe80::1", "fd00::1")]
    shown = [[str(ip) for ip in node_port_addresses(ProxyOptions(), family, local)] for family in (4, 6)]
    assert shown == [["10.0.0.1", "169.254.3.4"], ["fd00::1"]]
    asked = ProxyOptions(node_port_addresses=(ip_network("fe80::/10"), ip_network("::/0")))
    assert [str(ip) for ip in node_port_addresses(asked, 6, local)] == ["fd00::1"]
    asked = ProxyOptions(node_port_addresses=(ip_network("fe80::/10"),))
    assert [str(ip) for ip in node_port_addresses(asked, 6, local)] == ["fe80::1"]


# ---- sets and rules ------------------------------------------------------------------------------------------------------


def test_names_of_sets():
    assert set_name("KUBE-CLUSTER-IP", 4) == "KUBE-CLUSTER-IP"
    assert set_name("KUBE-CLUSTER-IP", 6) == "KUBE-6-CLUSTER-IP"
    assert set_name("KUBE-LOAD-BALANCER-SOURCE-CIDR", 6) == "KUBE-6-LOAD-BALANCER-SOURCE-CID"
    assert len({set_name(name, family) for name in TYPES for family in (4, 6)}) == 2 * len(TYPES)
    assert max(len(set_name(name, 6)) for name in TYPES) == 31


def test_members_of_sets(node):
    assert members(node, "KUBE-LOOP-BACK") == [
        "10.244.1.3,tcp:8080,10.244.1.3",
        "10.244.1.3,tcp:8443,10.244.1.3",
        "10.244.1.3,udp:5353,10.244.1.3",
        "10.244.1.3,sctp:5060,10.244.1.3",
    ]
    assert members(node, "KUBE-EXTERNAL-IP") == ["192.168.1.11,tcp:80", "198.51.100.7,tcp:80"]
    assert members(node, "KUBE-LOAD-BALANCER") == ["203.0.113.80,tcp:443", "203.0.113.90,tcp:443"]
    assert members(node, "KUBE-LOAD-BALANCER-LOCAL") == ["203.0.113.80,tcp:443"]
    assert members(node, "KUBE-NODE-PORT-TCP") == ["30080", "30443", "30444"]
    assert members(node, "KUBE-NODE-PORT-LOCAL-TCP") == ["30443"]
    assert (
        members(node, "KUBE-NODE-PORT-LOCAL-SCTP-HASH")
        == members(node, "KUBE-NODE-PORT-SCTP-HASH")
        == [
            "10.244.1.0,sctp:30506",
            "10.244.1.1,sctp:30506",
            "192.168.1.11,sctp:30506",
        ]
    )
    assert members(node, "KUBE-HEALTH-CHECK-NODE-PORT") == ["31000"]
    assert members(node, "KUBE-6-CLUSTER-IP") == ["fd00:10:96::20,tcp:80"]
    assert members(node, "KUBE-6-NODE-PORT-TCP") == ["30080"]


def test_source_ranges(node):
    """What ipset refuses, 0.0.0.0/0, is missing; the node is in it all the same."""
    assert members(node, "KUBE-LOAD-BALANCER-SOURCE-CIDR") == [
        "203.0.113.80,tcp:443,192.168.1.0/24",
        "203.0.113.80,tcp:443,203.0.113.0/24",
        "203.0.113.90,tcp:443,198.51.100.0/24",
    ]
    assert members(node, "KUBE-LOAD-BALANCER-SOURCE-IP") == [
        "203.0.113.80,tcp:443,203.0.113.80",
        "203.0.113.90,tcp:443,203.0.113.90",
    ]
    assert chain(node, "KUBE-IPVS-OUT-FILTER", "filter") == []


def test_a_range_of_everything_is_told(agents):
    (entry,) = (entry for entry in agents.not_modelled if entry.field == "spec.loadBalancerSourceRanges")
    assert entry.object == "Service default/closed"
    assert "0.0.0.0/0" in entry.why


def test_addresses_of_the_device(node):
    link = node.link("kube-ipvs0")
    assert (link.kind, link.up, link.noarp, link.index) == ("dummy", False, True, 3)
    bound = [str(address.address) for address in node.addresses if address.interface == "kube-ipvs0"]
    assert set(bound) == {
        *(f"10.96.0.{last}/32" for last in (20, 30, 31, 40, 50, 60, 70)),
        "198.51.100.7/32",
        "203.0.113.80/32",
        "203.0.113.90/32",
        "fd00:10:96::20/128",
    }
    # As the kernel lists a device that is down and does no neighbour discovery.
    assert [entry.mac for entry in node.fdb if entry.interface == "kube-ipvs0"] == [0x333300000001]
    routes = [route for route in node.routes if "kube-ipvs0" in [hop.device for hop in route.nexthops]]
    assert {route.type for route in routes} == {"local"}
    assert sorted(members(node, "KUBE-IPVS-IPS")) == sorted(text[:-3] for text in bound if text.endswith("/32"))


def test_an_external_address_that_the_node_has_stays_where_it_is(agents):
    """192.168.1.11 is node-1's; on node-2 it is bound."""
    assert "192.168.1.11" not in members(agents.host("node-1"), "KUBE-IPVS-IPS")
    assert "192.168.1.11" in members(agents.host("node-2"), "KUBE-IPVS-IPS")


def test_rules_that_are_there_while_their_set_has_members(node):
    services = chain(node, "KUBE-SERVICES")
    assert services[0] == "-s 127.0.0.0/8 -j RETURN"
    assert services[-1] == "-m set --match-set KUBE-LOAD-BALANCER dst,dst -j ACCEPT"
    assert not any("KUBE-EXTERNAL-IP-LOCAL" in rule for rule in services)
    assert [rule.split()[-3] for rule in chain(node, "KUBE-NODE-PORT")] == ["dst", "dst", "dst,dst", "dst,dst"]
    six = chain(node, "KUBE-SERVICES", family=6)
    assert six[0] == "-s ::1/128 -j RETURN"
    assert not any("LOAD-BALANCER" in rule for rule in six)
    refused = "REJECT --reject-with icmp6-port-unreachable"
    assert chain(node, "KUBE-IPVS-FILTER", "filter", 6)[-1].endswith(f"KUBE-6-IPVS-IPS dst -j {refused}")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("clusterCIDR: 10.244.0.0/16\n", "! -s 10.244.0.0/16 {comment} dst,dst -j KUBE-MARK-MASQ"),
        ("iptables: {masqueradeAll: true}\n", "{comment} dst,dst -j KUBE-MARK-MASQ"),
        ("clusterCIDR: ''\n", "{comment} src,dst -j KUBE-MARK-MASQ"),
        (
            "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}\n",
            "! -i veth+ {comment} dst,dst -j KUBE-MARK-MASQ",
        ),
    ],
)
def test_who_is_masqueraded_to_a_cluster_ip(tmp_path, text, rule):
    config = agents_of(f"mode: ipvs\n{text}", tmp_path).host("node-1")
    comment = (
        '-m comment --comment "Kubernetes service cluster ip + port for masquerade purpose"'
        " -m set --match-set KUBE-CLUSTER-IP"
    )
    (found,) = (rule for rule in chain(config, "KUBE-SERVICES") if "for masquerade purpose" in rule)
    assert found == rule.format(comment=comment)


def test_no_chain_of_iptables_mode_is_there(node):
    names = {
        chain.name for rules in (node.iptables, node.ip6tables) for table in rules.tables for chain in table.chains
    }
    assert not [name for name in names if name.startswith(("KUBE-SVC-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-PROXY-CANARY"))]


# ---- what is set once ----------------------------------------------------------------------------------------------------


def test_sysctls_and_timeouts(node):
    assert node.sysctl["net.ipv4.vs.conntrack"] == "1"
    assert node.sysctl["net.ipv4.vs.expire_nodest_conn"] == "1"
    assert node.sysctl["net.ipv4.vs.expire_quiescent_template"] == "1"
    for name in ("net.ipv4.vs.conn_reuse_mode", "net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.all.route_localnet"):
        assert name not in node.sysctl
    assert node.ipvs_timeouts == IpvsTimeouts(900, 120, 300)


def test_the_configuration_says_more(tmp_path):
    text = "mode: ipvs\nipvs: {strictARP: true, tcpTimeout: 2h, tcpFinTimeout: 0s, udpTimeout: 90s}\n"
    config = agents_of(text, tmp_path).host("node-1")
    assert config.sysctl["net.ipv4.conf.all.arp_ignore"] == "1"
    assert config.sysctl["net.ipv4.conf.all.arp_announce"] == "2"
    assert config.ipvs_timeouts == IpvsTimeouts(7200, 120, 90)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"ipvs": {"scheduler": "best"}}, "ipvs.scheduler"),
        ({"ipvs": {"strictARP": "yes"}}, "ipvs.strictARP"),
        ({"ipvs": {"excludeCIDRs": ["10.0.0.0/33"]}}, "ipvs.excludeCIDRs"),
        ({"ipvs": {"tcpTimeout": "soon"}}, "ipvs.tcpTimeout"),
        ({"ipvs": ["rr"]}, "ipvs"),
    ],
)
def test_a_wrong_field_is_named(data, field):
    with pytest.raises(ManifestError) as raised:
        proxy_options(Config("KubeProxyConfiguration", data, Origin("cluster.yaml", 3)))
    assert str(raised.value).startswith(f"cluster.yaml: document 3: KubeProxyConfiguration: {field}: ")


def test_the_dump_is_read_back(node, tmp_path):
    from dataplane import HostConfig

    node.save(tmp_path)
    again = HostConfig.load(tmp_path)
    assert (again.ipvs, again.ipsets, again.ipvs_timeouts) == (node.ipvs, node.ipsets, node.ipvs_timeouts)
    assert (set(again.addresses), set(again.links)) == (set(node.addresses), set(node.links))
    links = {link["ifname"]: link for link in json.loads((tmp_path / "links.json").read_text())}
    assert links["kube-ipvs0"]["operstate"] == "DOWN"


# ---- changes -------------------------------------------------------------------------------------------------------------


class Changing:
    """The proxy of node-1; a server has as many connections as `busy` says."""

    def __init__(self, folder=None, text=""):
        self.agents = agents_of(text, folder)
        self.proxy = self.agents.node_proxy("node-1")
        self.busy = {}
        self.proxy.connections = lambda service, server: self.busy.get((service.name, server.endpoint), 0)

    def sync(self, change):
        before = self.agents.state
        after = (change(before) if callable(change) else change).apply(before, 0).state
        services = changed_services(before, after)
        self.agents.update(after, services)
        return self.proxy.sync(services, 0)

    def ready(self, address, ready, service="web"):
        return self.sync(SetEndpoint("default", address=address, service=service, ready=ready))

    @property
    def text(self):
        return ipvs.text(self.proxy.services)

    def servers(self, name):
        (found,) = (service for service in self.proxy.services if service.name == name)
        return {server.endpoint: server.weight for server in found.servers}


WEB = "-t 10.96.0.20:80"


def test_an_endpoint_without_connections_is_removed_at_once():
    changing = Changing()
    sync, of_ipv6 = changing.ready("10.244.2.3", False)
    assert changing.servers(WEB) == {"10.244.1.3:8080": 1}
    assert changing.servers("-t [fd00:10:96::20]:80") == {"[fd00:10:244:1::3]:8080": 1}
    assert of_ipv6.services == changing.proxy.services != sync.services
    assert not changing.proxy.draining


def test_an_endpoint_with_connections_waits_until_they_are_gone():
    changing = Changing()
    changing.busy[WEB, "10.244.2.3:8080"] = 2
    changing.ready("10.244.2.3", False)
    assert changing.servers(WEB) == {"10.244.1.3:8080": 1, "10.244.2.3:8080": 0}
    assert changing.servers("-t 192.168.1.11:30080") == {"10.244.1.3:8080": 1}
    assert changing.proxy.draining
    assert changing.proxy.drain() == []
    changing.busy.clear()
    (sync,) = changing.proxy.drain()
    assert changing.servers(WEB) == {"10.244.1.3:8080": 1}
    assert sync.services == changing.proxy.services
    assert not sync.restore
    assert not changing.proxy.draining


def test_an_endpoint_that_comes_back_while_it_waits_has_its_weight_again():
    changing = Changing()
    changing.busy[WEB, "10.244.2.3:8080"] = 1
    changing.ready("10.244.2.3", False)
    changing.ready("10.244.2.3", True)
    assert changing.servers(WEB) == {"10.244.1.3:8080": 1, "10.244.2.3:8080": 1}
    assert not changing.proxy.draining


def test_udp_and_sctp_do_not_wait():
    changing = Changing()
    for name in ("-u 10.96.0.50:53", "--sctp-service 10.96.0.50:5060"):
        for port in (5353, 5060):
            changing.busy[name, f"10.244.2.3:{port}"] = 1
    changing.ready("10.244.2.3", False, "sticky")
    assert changing.servers("-u 10.96.0.50:53") == {"10.244.1.3:5353": 1}
    assert changing.servers("--sctp-service 10.96.0.50:5060") == {"10.244.1.3:5060": 1}
    assert not changing.proxy.draining


def test_a_proxy_that_restarts_forgets_who_waits_and_finds_them_again():
    changing = Changing()
    changing.busy[WEB, "10.244.2.3:8080"] = 1
    changing.ready("10.244.2.3", False)
    changing.proxy.restart(0)
    assert changing.servers(WEB) == {"10.244.1.3:8080": 1, "10.244.2.3:8080": 0}
    assert changing.proxy.draining


def test_a_service_that_goes_takes_everything_along():
    changing = Changing()
    changing.busy[WEB, "10.244.2.3:8080"] = 1
    (four, six) = changing.sync(Delete("Service", "default", "web"))
    assert "10.96.0.20" not in changing.text
    assert "fd00:10:96::20" not in changing.text
    assert ip_address("10.96.0.20") not in four.bound
    assert ip_address("fd00:10:96::20") not in six.bound
    changed = {value.name: len(value.entries) for value in four.ipsets}
    assert changed["KUBE-CLUSTER-IP"] == 7
    assert "KUBE-HEALTH-CHECK-NODE-PORT" not in changed
    assert not changing.proxy.draining


def test_excluded_addresses_keep_their_virtual_services(tmp_path):
    changing = Changing(tmp_path, "mode: ipvs\nipvs: {excludeCIDRs: [10.96.0.20/32]}\n")
    (four, _) = changing.sync(Delete("Service", "default", "web"))
    assert changing.servers(WEB) == {"10.244.1.3:8080": 1, "10.244.2.3:8080": 1}
    assert ip_address("10.96.0.20") not in four.bound
    assert "198.51.100.7" not in changing.text


def test_what_did_not_change_is_not_told():
    changing = Changing()
    (sync,) = changing.proxy.sync([("default", "empty")], 0)
    assert (sync.services, list(sync.ipsets), sync.bound) == (None, [], None)
    assert sync.restore.chains["nat"]["KUBE-SERVICES"]


def test_endpoints_elsewhere_change_servers_alone():
    """Rules are fed anew all the same; sets and addresses stay."""
    changing = Changing()
    (sync, _) = changing.ready("10.244.2.3", False)
    assert (list(sync.ipsets), sync.bound) == ([], None)
    everything = changing.agents.proxier.programmed(changing.proxy.node, 4, changing.proxy.local_addresses)
    assert sync.restore.chains == everything.chains
    assert {service for service in changing.proxy.services if service.family == 4} == set(everything.services)


def test_an_endpoint_that_comes_to_this_node_is_in_the_set_of_those_that_may_reach_themselves():
    changing = Changing()
    piece = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "more", "labels": {"kubernetes.io/service-name": "empty"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}],
        "endpoints": [{"addresses": ["10.244.1.77"], "nodeName": "node-1"}],
    }
    (sync,) = changing.sync(read_change({"apply": piece}))
    (changed,) = sync.ipsets
    assert changed.name == "KUBE-LOOP-BACK"
    assert "10.244.1.77,tcp:8080,10.244.1.77" in ipset.text([changed])
    assert changing.servers("-t 10.96.0.70:80") == {"10.244.1.77:8080": 1}


def test_two_services_that_claim_one_address(agents):
    """The first by name has it; when it goes, it is the other's."""
    changing = Changing()
    for name, port in (("one", 8001), ("two", 8002)):
        spec = {
            "clusterIP": f"10.96.1.{port - 8000}",
            "externalIPs": ["198.51.100.77"],
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": port}],
        }
        changing.sync(
            read_change({"apply": {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}})
        )
    shared = "-t 198.51.100.77:80"
    assert set(changing.servers(shared)) == {"10.244.1.3:8001", "10.244.2.3:8001"}
    changing.ready("10.244.2.3", False, "two")
    assert set(changing.servers(shared)) == {"10.244.1.3:8001", "10.244.2.3:8001"}
    changing.sync(Delete("Service", "default", "one"))
    assert set(changing.servers(shared)) == {"10.244.1.3:8002"}
