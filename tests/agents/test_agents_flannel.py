"""Flannel and the bridge plugin: what a node and a pod get."""

from ipaddress import ip_network

import pytest

from dataplane.agents import Agents, Options, Wire
from dataplane.agents.cni import bridge
from dataplane.agents.cni.flannel import Flannel, FlannelOptions, flannel_options, masquerade_rules
from dataplane.agents.firewall import Firewall
from dataplane.cluster import Config, complete
from dataplane.cluster.manifests import read_manifests
from dataplane.cluster.objects import Origin
from dataplane.errors import ManifestError, ModelError
from dataplane.host.config import mac_text


def node(number, **annotations):
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{number}", "annotations": annotations},
        "spec": {"podCIDR": f"10.244.{number}.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.1.1{number}"}]},
    }


def pod(name, on, ip, **spec):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": on, "containers": [{"name": "c", "image": "c"}], **spec},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    }


def net_conf(**backend):
    return Config("net-conf.json", {"Network": "10.244.0.0/16", "Backend": backend}, Origin("flannel.yaml", 2))


@pytest.fixture
def state():
    documents = [node(1), node(2), node(3), pod("a", "node-1", "10.244.1.2"), pod("b", "node-1", "10.244.1.3")]
    return complete(read_manifests(documents))


def test_vxlan_towards_every_other_node(state):
    config = Agents(state).host("node-1")
    others = [Agents(state).host(name) for name in ("node-2", "node-3")]
    macs = {other.name: other.link("flannel.1").mac for other in others}
    routes = [(str(r.destination), str(r.nexthops[0].gateway)) for r in config.routes if r.nexthops[0].onlink]
    assert routes == [("10.244.2.0/24", "10.244.2.0"), ("10.244.3.0/24", "10.244.3.0")]
    assert [(str(n.address), n.mac) for n in config.neighbours] == [
        ("10.244.2.0", macs["node-2"]),
        ("10.244.3.0", macs["node-3"]),
    ]
    tunnel = [(str(e.dst), e.mac) for e in config.fdb if e.interface == "flannel.1"]
    assert tunnel == [("192.168.1.12", macs["node-2"]), ("192.168.1.13", macs["node-3"])]
    device = config.link("flannel.1")
    assert (device.mtu, device.vxlan.vni, device.vxlan.port, device.vxlan.learning) == (1450, 1, 8472, False)


def test_host_gw_is_routes_alone(state):
    flannel = Flannel(state, FlannelOptions(networks=state.cluster_cidrs, backend="host-gw"))
    routes, neighbours, entries = flannel.remote(state.nodes[0])
    assert [(str(r.destination), str(r.nexthops[0].gateway), r.nexthops[0].device) for r in routes] == [
        ("10.244.2.0/24", "192.168.1.12", "eth0"),
        ("10.244.3.0/24", "192.168.1.13", "eth0"),
    ]
    assert (neighbours, entries, flannel.links(state.nodes[0], 3), flannel.pod_mtu) == ([], [], [], 1500)


def test_direct_routing_leaves_the_tunnel_to_other_subnets():
    documents = [node(1), node(2), node(3)]
    documents[2]["status"]["addresses"][0]["address"] = "192.168.2.13"
    state = complete(read_manifests(documents), node_subnet="192.168.1.0/24")
    flannel = Flannel(state, FlannelOptions(networks=state.cluster_cidrs, direct_routing=True))
    routes, neighbours, _ = flannel.remote(state.nodes[0])
    assert [(str(r.destination), r.nexthops[0].device) for r in routes] == [
        ("10.244.2.0/24", "eth0"),
        ("10.244.3.0/24", "flannel.1"),
    ]
    assert [str(n.address) for n in neighbours] == ["10.244.3.0"]


def test_a_stated_vtep_mac_is_believed():
    stated = {"flannel.alpha.coreos.com/backend-data": '{"VNI":1,"VtepMAC":"3a:1b:2c:3d:4e:5f"}'}
    broken = {"flannel.alpha.coreos.com/backend-data": '["VNI"]'}
    agents = Agents(complete(read_manifests([node(1, **stated), node(2), node(3, **broken)])))
    assert mac_text(agents.host("node-1").link("flannel.1").mac) == "3a:1b:2c:3d:4e:5f"
    assert agents.host("node-2").neighbours[0].mac == 0x3A1B2C3D4E5F
    assert agents.host("node-3").link("flannel.1").mac >> 40 & 3 == 2


def test_pods_hang_on_the_bridge(state):
    agents = Agents(state)
    config = agents.host("node-1")
    ports = [link for link in config.links if link.master == "cni0"]
    assert len(ports) == 2
    for link, name in zip(ports, ("a", "b"), strict=True):
        inside = agents.pod("default", name)
        eth0 = inside.link("eth0")
        assert (link.peer_index, eth0.peer_index) == (eth0.index, link.index)
        assert (link.mtu, eth0.mtu, link.port.hairpin) == (1450, 1450, True)
        assert Wire("node-1", link.name, f"default/{name}", "eth0") in agents.topology()
        assert {str(r.nexthops[0].gateway) for r in inside.routes if r.nexthops[0].gateway} == {"10.244.1.1"}
        assert len(link.name) == 12
    assert config.link("cni0").mtu == 1450
    macs = [link.mac for host in map(agents.host, ("node-1", "node-2", "node-3")) for link in host.links if link.mac]
    assert len(macs) == len(set(macs))
    assert all(mac >> 40 & 3 == 2 for mac in macs)


def test_a_node_without_pods_has_no_bridge(state):
    config = Agents(state).host("node-2")
    assert config.link("cni0") is None
    assert [link.name for link in config.links] == ["lo", "eth0", "flannel.1"]


def test_every_wire_ends_at_two_links(state):
    agents = Agents(state)
    hosts = {config.name: config for config in (agents.underlay(), agents.outside())}
    hosts |= {node.name: agents.host(node.name) for node in state.nodes}
    hosts |= {str(pod): agents.pod(pod.namespace, pod.name) for pod in agents.pods()}
    ends = [end for w in agents.topology() for end in ((w.host_a, w.interface_a), (w.host_b, w.interface_b))]
    assert len(ends) == len(set(ends)) == 2 * (1 + 3 + 2)
    assert all(hosts[host].link(name) is not None for host, name in ends)


def test_pods_of_the_hosts_network_and_finished_ones_have_no_wire():
    documents = [node(1), pod("done", "node-1", "10.244.1.9"), pod("host", "node-1", "192.168.1.11", hostNetwork=True)]
    documents[1]["status"]["phase"] = "Succeeded"
    agents = Agents(complete(read_manifests(documents)))
    assert agents.pods() == []
    for name, why in (("done", "does not run"), ("host", "in its node's"), ("nobody", "no pod")):
        with pytest.raises(ModelError, match=why):
            agents.pod("default", name)


def test_names_that_meet_in_32_bits_stay_apart(state):
    first = bridge.port_name(state.pods[0])
    second = bridge.port_name(state.pods[0], {first})
    assert first != second
    assert len(second) == 12


def test_the_world_outside_is_local_to_one_host(state):
    config = Agents(state).outside()
    main = {str(r.destination): r for r in config.routes if r.table == 254}
    assert main["0.0.0.0/0"].type == "local"
    assert main["192.168.1.11/32"].nexthops[0].device == "eth0"
    assert main["10.244.0.0/16"].type == main["10.96.0.0/12"].type == "blackhole"
    assert "192.168.1.0/24" not in main
    assert [str(a.address) for a in config.addresses if a.interface == "eth0"] == ["192.168.1.1/24"]


def test_the_gateway_takes_an_address_that_no_node_has():
    documents = [node(1)]
    documents[0]["status"]["addresses"][0]["address"] = "192.168.1.1"
    agents = Agents(complete(read_manifests(documents), node_subnet="192.168.1.0/24"))
    (default,) = [r for r in agents.host("node-1").routes if r.destination.prefixlen == 0 and r.family == 4]
    assert str(default.nexthops[0].gateway) == "192.168.1.2"


def test_chains_stand_behind_what_was_there(state):
    firewall = Firewall(4)
    firewall.append("nat", "POSTROUTING", "-j FIRST")
    flannel = Flannel(state, FlannelOptions(networks=state.cluster_cidrs))
    flannel.sync(firewall, state.nodes[0])
    flannel.sync(firewall, state.nodes[0])
    assert [rule.split("-j ")[1] for rule in firewall.tables["nat"]["POSTROUTING"].texts] == [
        "FIRST",
        "FLANNEL-POSTRTG",
    ]
    assert len(firewall.tables["nat"]["FLANNEL-POSTRTG"].texts) == 6
    assert "ff00::/8" in str(masquerade_rules(ip_network("fd00::/56"), ip_network("fd00::/64")))


def test_options_of_net_conf(state):
    options = flannel_options(net_conf(Type="vxlan", VNI=5, Port=4789, DirectRouting=True, MTU=1400), state)
    assert (options.vni, options.port, options.direct_routing, options.mtu) == (5, 4789, True, 1400)
    assert Flannel(state, options).pod_mtu == 1350
    assert flannel_options(None, state).networks == state.cluster_cidrs


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (net_conf(Type="vxlan", VNI="one"), "Backend.VNI"),
        (net_conf(Type="vxlan", Port=-1), "Backend.Port"),
        (
            Config("net-conf.json", {"Network": "ten", "Backend": {"Type": "vxlan"}}, Origin("flannel.yaml", 2)),
            "Network",
        ),
        (
            Config("net-conf.json", {"Network": "10.244.0.0/16", "Backend": "vxlan"}, Origin("flannel.yaml", 2)),
            "Backend",
        ),
    ],
)
def test_a_wrong_field_of_net_conf_is_named(state, config, field):
    with pytest.raises(ManifestError) as raised:
        flannel_options(config, state)
    assert str(raised.value).startswith(f"flannel.yaml: document 2: net-conf.json: {field}: ")


def test_what_is_not_modelled_is_refused(state):
    with pytest.raises(ModelError, match="wireguard"):
        flannel_options(net_conf(Type="wireguard"), state)
    with pytest.raises(ModelError, match="calico"):
        Agents(state, Options(cni="calico"))
    with pytest.raises(ModelError, match="nftables"):
        Agents(state, Options(mode="nftables"))
    with pytest.raises(ModelError, match="no node 'node-9'; there are node-1, node-2, node-3"):
        Agents(state).host("node-9")


def test_an_ipv4_cluster_has_ipv6_off(state):
    config = Agents(state).host("node-1")
    assert {a.family for a in config.addresses} == {r.family for r in config.routes} == {4}
    assert config.sysctl["net.ipv6.conf.all.disable_ipv6"] == "1"
