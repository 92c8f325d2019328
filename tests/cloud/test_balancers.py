"""What each kind of load balancer does to packets: which nodes, whose address, which way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from balanced_traffic import connection, datagrams, write
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.utils import PcapNgReader

from dataplane import Cluster, ModelError
from dataplane.agents.cloud.kinds import KINDS
from dataplane.result import Result

SHOP = Path(__file__).parent / "shop.yaml"
FORWARDING = ("aws-nlb", "aws-classic", "gcp", "azure")
ALL = (*FORWARDING, "metallb-l2")
CLIENTS = {4: "198.51.100.{}", 6: "2001:db8:c::{}"}


def shop(cloud: str, **more: Any) -> Cluster:
    return Cluster.load(SHOP, cloud=cloud, **more)


def front(cluster: Cluster, service: str, family: int) -> str:
    found = cluster.state.service("default", service)
    assert found is not None
    return next(str(address) for address in cluster.agents.cloud.of(found) if address.version == family)


def front_service(annotations: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """The manifest of `front` with one port."""
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080}]
    own = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "selector": {"app": "web"}, "ports": ports}
    metadata = {"name": "front", "annotations": dict(annotations or {})}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": own | spec}


def visit(cluster: Cluster, path: Path, service: str, family: int = 4, clients: int = 24, **more: Any) -> Result:
    """Every client opens a connection to the balancer."""
    server = front(cluster, service, family)
    packets = []
    for number in range(clients):
        packets += connection(CLIENTS[family].format(number + 1), server, 40000 + number, at=number / 10)
    return cluster.replay(write(path / "in.pcap", packets), **more)


def given(result: Result, service: str, family: int = 4) -> Mapping[str, int | None]:
    row = next(r for r in result.balancers if r.service == service and (":" in r.address) == (family == 6))
    return {node.name: node.connections for node in row.nodes if node.connections}


# ---- which nodes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("cloud", FORWARDING)
def test_policy_local_sends_to_nodes_with_endpoints_only(cloud: str, family: int, tmp_path: Path) -> None:
    result = visit(shop(cloud), tmp_path, "front", family)
    assert result.as_expected, result.services
    assert result.accounting.delivered == result.accounting.read == 24 * 7
    shares = given(result, "front", family)
    assert shares.keys() == {"node-1", "node-2"}
    assert sum(filter(None, shares.values())) == 24
    # Each node serves what it is given itself.
    assert Counter(result.columns["endpoint_name"]) == {
        "default/web-0": shares["node-1"],
        "default/web-1": shares["node-2"],
    }


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("cloud", FORWARDING)
def test_policy_cluster_sends_to_every_node_that_takes_part(cloud: str, family: int, tmp_path: Path) -> None:
    result = visit(shop(cloud), tmp_path, "shop", family)
    assert result.as_expected, result.services
    shares = given(result, "shop", family)
    assert shares.keys() == {"node-1", "node-2", "node-3"}  # node-4 is excluded by its label
    assert set(result.columns["endpoint_name"]) == {"default/web-0", "default/web-1"}


@pytest.mark.parametrize("cloud", FORWARDING)
def test_a_flow_has_one_place_for_each_seed(cloud: str, tmp_path: Path) -> None:
    places: dict[int, dict[str, str]] = {}
    for seed in (0, 0, 1, 2, 3):
        result = visit(shop(cloud, seed=seed), tmp_path, "front")
        where = dict(zip(result.columns["client"], result.columns["endpoint_name"], strict=True))
        assert places.setdefault(seed, where) == where
    assert len({tuple(where.values()) for where in places.values()}) > 1


# ---- whose address -------------------------------------------------------------------------------------------------

KEPT = {"aws-nlb": True, "aws-classic": False, "gcp": True, "azure": True, "metallb-l2": True}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("cloud", ALL)
def test_the_client_is_seen_under_policy_local_where_the_balancer_keeps_it(
    cloud: str, family: int, tmp_path: Path
) -> None:
    cluster = shop(cloud)
    result = visit(cluster, tmp_path, "front", family, clients=6)
    assert result.as_expected
    if KEPT[cloud]:
        assert result.columns["seen_client"] == result.columns["client"]
    else:
        own = cluster.agents.balancers().own[4 if family == 4 else 6]
        assert set(result.columns["seen_client"]) == {str(own.ip)}
    assert {row.pod_sees for row in result.balancers if row.service == "front"} == {
        "client" if KEPT[cloud] else "balancer"
    }


@pytest.mark.parametrize("cloud", ALL)
def test_under_policy_cluster_kube_proxy_puts_a_node_in_the_clients_place(cloud: str, tmp_path: Path) -> None:
    cluster = shop(cloud)
    result = visit(cluster, tmp_path, "shop")
    assert result.as_expected
    # The node's own address, or that of its end of the tunnel.
    pods = [str(node.pod_cidrs[0].network_address) for node in cluster.nodes]
    nodes = {str(node.addresses[0]) for node in cluster.nodes} | set(pods)
    nodes |= {pod.removesuffix(".0") + ".1" for pod in pods}
    assert set(result.columns["seen_client"]) <= nodes
    assert {row.pod_sees for row in result.balancers if row.service == "shop"} == {"node"}


@pytest.mark.parametrize("service", ["front", "shop"])
@pytest.mark.parametrize("cloud", ALL)
def test_kube_proxies_in_ipvs_mode_behind_a_balancer(cloud: str, service: str, tmp_path: Path) -> None:
    """They have the address on a device of their own, and balancers bring the same to the same nodes."""
    results = [visit(shop(cloud, mode=mode), tmp_path, service) for mode in ("iptables", "ipvs")]
    for result in results:
        assert result.as_expected, result.services
    if cloud != "metallb-l2":
        assert given(results[0], service) == given(results[1], service)
    if service == "front":
        assert results[0].columns["endpoint_name"] == results[1].columns["endpoint_name"]
        assert results[0].columns["seen_client"] == results[1].columns["seen_client"]


# ---- on the wire ---------------------------------------------------------------------------------------------------


def seen_at(path: Path, place: str) -> list[tuple[str, int, str, int]]:
    """(source, port, destination, port) of the TCP packets at a place, each once, in order."""
    found = []
    with PcapNgReader(str(path)) as reader:
        for packet in reader:
            if packet.sniffed_on == place and TCP in packet:
                layer = packet[IP] if IP in packet else packet[IPv6]
                entry = (layer.src, packet[TCP].sport, layer.dst, packet[TCP].dport)
                if entry not in found:
                    found.append(entry)
    return found


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("cloud", ALL)
def test_on_the_nodes_wire(cloud: str, family: int, tmp_path: Path) -> None:
    """The request as the balancer sends it, and the answer as the node gives it."""
    cluster = shop(cloud)
    out = tmp_path / "out.pcapng"
    result = visit(cluster, tmp_path, "front", family, clients=1, write=out, places="outside/eth0")
    vip, client = front(cluster, "front", family), CLIENTS[family].format(1)
    node = next(n for n in cluster.nodes if n.name == {"default/web-0": "node-1", "default/web-1": "node-2"}[
        result.columns["endpoint_name"][0]
    ])  # fmt: skip
    there = str(node.address(4 if family == 4 else 6))
    found = seen_at(out, "outside/eth0")
    if cloud in ("gcp", "azure", "metallb-l2"):  # direct server return
        assert found == [(client, 40000, vip, 80), (vip, 80, client, 40000)]
    elif cloud == "aws-nlb":
        assert found == [(client, 40000, there, 30080), (there, 30080, client, 40000)]
    else:
        own = str(cluster.agents.balancers().own[4 if family == 4 else 6].ip)
        (source, port, *target), back = found
        assert (source, *target) == (own, there, 30080)
        assert back == (there, 30080, own, port)
    assert result.as_expected  # and to the client all of them look the same


def test_metallb_announces_an_address_from_one_node(tmp_path: Path) -> None:
    """The node is MetalLB's own choice: the least SHA-256 of NODE#ADDRESS among the nodes with endpoints."""
    cluster = shop("metallb-l2")
    result = visit(cluster, tmp_path, "front", clients=10)
    assert front(cluster, "front", 4) == "203.0.113.10"
    assert len(set(result.columns["endpoint_name"])) == 1
    row = next(row for row in result.balancers if row.address == "203.0.113.10")
    (announcer,) = [node.name for node in row.nodes if node.receives]
    assert announcer == min(("node-1", "node-2"), key=lambda n: sha256(f"{n}#203.0.113.10".encode()).hexdigest())


# ---- what does not get through -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cloud", FORWARDING)
def test_a_port_without_listener_and_a_ping_end_at_the_balancer(cloud: str, tmp_path: Path) -> None:
    cluster = shop(cloud)
    result = cluster.replay(
        write(tmp_path / "in.pcap", connection("198.51.100.1", front(cluster, "front", 4), 40000, 8443, rounds=0))
    )
    assert result.accounting.dropped == {"NETFILTER_DROP": 2}
    assert result.accounting.delivered == 0


def test_a_classic_balancer_has_no_listener_for_udp(tmp_path: Path) -> None:
    for cloud, arrives in (("aws-nlb", True), ("gcp", True), ("azure", True), ("aws-classic", False)):
        cluster = shop(cloud)
        result = cluster.replay(
            write(tmp_path / "in.pcap", datagrams("198.51.100.1", front(cluster, "front", 4), 5000, count=3))
        )
        assert bool(result.accounting.delivered) == arrives, cloud
        assert result.as_expected == arrives
    (note,) = [line for line in shop("aws-classic").notes if "UDP" in line]
    assert "no listener" in note


@pytest.mark.parametrize("cloud", FORWARDING)
def test_source_ranges_are_kept_by_the_balancer(cloud: str, tmp_path: Path) -> None:
    cluster = shop(cloud)
    cluster.apply({"apply": front_service(loadBalancerSourceRanges=["198.51.100.0/28"])})
    packets = []
    for client in ("198.51.100.1", "198.51.100.200"):
        packets += connection(client, front(cluster, "front", 4), 40000)
    result = cluster.replay(write(tmp_path / "in.pcap", packets))
    verdicts = dict(zip(result.columns["client"], result.columns["verdict"], strict=True))
    assert verdicts == {"198.51.100.1": "delivered", "198.51.100.200": "dropped"}


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="aws-nlb"):
        shop("openstack")
    assert set(KINDS) == {"none", *ALL}


def test_without_cloud_a_service_keeps_the_address_of_its_status_and_gets_none_else() -> None:
    cluster = Cluster.load(SHOP)
    assert cluster.balancers == ()
    service = cluster.state.service("default", "front")
    assert service is not None
    assert not service.ingress
    assert [note for note in cluster.notes if "--cloud gives it one" in note]


# ---- what a Service says of its balancer -----------------------------------------------------------------------------


def changed(cloud: str, annotations: Mapping[str, str] | None = None, **spec: Any) -> Cluster:
    cluster = shop(cloud)
    cluster.apply({"apply": front_service(annotations, **spec)})
    return cluster


def test_azure_without_floating_ip_sends_to_the_node_port(tmp_path: Path) -> None:
    name = "service.beta.kubernetes.io/azure-disable-load-balancer-floating-ip"
    cluster = changed("azure", {name: "true"})
    out = tmp_path / "out.pcapng"
    result = visit(cluster, tmp_path, "front", clients=1, write=out, places="outside/eth0")
    assert result.as_expected
    assert [entry[3] for entry in seen_at(out, "outside/eth0")] == [30080, 40000]
    assert result.columns["seen_client"] == ["198.51.100.1"]
    assert not any(name in note for note in cluster.notes)


def test_a_network_load_balancer_may_be_told_not_to_keep_the_client(tmp_path: Path) -> None:
    name = "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes"
    cluster = changed("aws-nlb", {name: "preserve_client_ip.enabled=false"})
    result = visit(cluster, tmp_path, "front", clients=2)
    assert result.as_expected
    assert set(result.columns["seen_client"]) == {str(cluster.agents.balancers().own[4].ip)}


def test_a_wanted_address_is_given_and_others_stay_what_they_were() -> None:
    cluster = shop("gcp")
    before = front(cluster, "shop", 4)
    cluster.apply({"delete": "service/front"})
    cluster.apply({"apply": front_service(loadBalancerIP="192.0.2.77")})
    assert front(cluster, "front", 4) == "203.0.113.10"  # a balancer that has been there keeps its address
    assert front(cluster, "shop", 4) == before
    service = front_service(loadBalancerIP="192.0.2.77")
    service["metadata"]["name"] = "second"
    service["spec"]["ports"][0]["nodePort"] = 30099
    cluster.apply({"apply": service})
    assert front(cluster, "second", 4) == "192.0.2.77"


@pytest.mark.parametrize("cloud", ["none", "gcp", "azure", "metallb-l2"])
def test_an_address_of_mode_proxy_is_no_vip(cloud: str, tmp_path: Path) -> None:
    """kube-proxy has no rule for it, so a balancer that gave it to a node as it is would get no answer."""
    manifest = front_service() | {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.80", "ipMode": "Proxy"}]}}}
    cluster = changed(cloud)
    cluster.apply({"apply": manifest})
    assert front(cluster, "front", 4) == "192.0.2.80"
    out = tmp_path / "out.pcapng"
    result = visit(cluster, tmp_path, "front", clients=1, write=out, places="outside/eth0")
    assert result.as_expected
    request, answer = seen_at(out, "outside/eth0")
    assert request[3] == answer[1] == 30080
    assert result.balancers[0].pod_sees == "balancer"
    rules = cluster.agents.host("node-1").iptables
    assert rules is not None
    assert "192.0.2.80" not in rules.text()


def test_without_node_ports_a_balancer_that_needs_them_has_no_listener(tmp_path: Path) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    for cloud, arrives in (("aws-nlb", False), ("gcp", True)):
        cluster = shop(cloud)
        cluster.apply({"delete": "service/front"})
        cluster.apply({"apply": front_service(allocateLoadBalancerNodePorts=False, ports=ports)})
        result = visit(cluster, tmp_path, "front", clients=2)
        assert result.as_expected == arrives, cloud
        assert any("the port has none" in note for note in cluster.notes) != arrives


# ---- clients inside ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("cloud", ALL)
def test_a_pod_speaks_to_a_balancer(cloud: str, family: int, tmp_path: Path) -> None:
    """kube-proxy keeps it inside where the address is in the status; behind a name it goes out to the balancer."""
    cluster = shop(cloud)
    pod = cluster.state.pod("default", "client")
    assert pod is not None
    out = tmp_path / "out.pcapng"
    packets = connection(str(pod.ip(4 if family == 4 else 6)), front(cluster, "front", family), 40000)
    result = cluster.replay(write(tmp_path / "in.pcap", packets), write=out, places="outside/eth0")
    assert result.as_expected, result.services
    assert bool(seen_at(out, "outside/eth0")) == (cloud in ("aws-nlb", "aws-classic"))
