"""Traffic through a cluster in IPVS mode that changes: who keeps a connection, who gets the next one."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import wrpcap

from dataplane import Cluster
from dataplane._fast.batch import PacketBatch
from dataplane.cluster.events import read_change, read_event
from dataplane.datapath.fabric import Fabric
from dataplane.errors import InputError
from dataplane.host.ipvs import VirtualService
from dataplane.timeline import Timeline

SHOP = Path(__file__).parent / "shop.yaml"
SECOND = 1_000_000_000
START = 1_700_000_000
RAW = 101


@pytest.fixture(scope="module")
def shop() -> Cluster:
    return Cluster.load(SHOP, mode="ipvs")


def address(cluster: Cluster, service: str) -> str:
    found = cluster.state.service("default", service)
    assert found is not None
    return str(found.cluster_ips[0])


def client(cluster: Cluster) -> tuple[str, str]:
    """The client's address and node."""
    pod = cluster.state.pod("default", "client")
    assert pod is not None
    return str(pod.ips[0]), pod.node or ""


class Running:
    """The cluster's hosts while time passes; packets are sent by the client."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.fabric: Fabric = cluster.fabric()
        self.timeline: Timeline = cluster.timeline(self.fabric)
        self.address, self.node = client(cluster)
        self.timeline.start(0)

    def send(self, packet: Packet, seconds: float) -> None:
        batch = PacketBatch.from_frames([bytes(packet)], times=[int(seconds * SECOND)], link_type=RAW)
        batch.decode()
        self.fabric.walk.send(self.fabric.ids["default/client"], batch)

    def open(self, service: str, sport: int, seconds: float) -> None:
        there = address(self.cluster, service)
        self.send(IP(src=self.address, dst=there) / TCP(sport=sport, dport=80, flags="S"), seconds)

    def change(self, seconds: float, **event: object) -> None:
        now = int(seconds * SECOND)
        self.timeline.until(now)
        self.timeline.change(read_change(event), now)

    def until(self, seconds: float) -> None:
        self.timeline.until(int(seconds * SECOND))

    def service(self, name: str) -> VirtualService:
        (found,) = (service for service in self.fabric.running(self.node).config.ipvs if service.name == name)
        return found

    def weights(self, name: str) -> dict[str, int]:
        return {str(server.address): server.weight for server in self.service(name).servers}


def pod_addresses(cluster: Cluster, app: str) -> dict[str, str]:
    return {pod.name: str(pod.ips[0]) for pod in cluster.state.pods if pod.labels.get("app") == app}


def test_a_server_with_a_connection_is_quiesced_and_goes_within_a_minute(shop: Cluster) -> None:
    """Nobody answers the first packet: the connection lives for a minute, and then it may take another to be seen."""
    running = Running(shop)
    name = f"-t {address(shop, 'web')}:80"
    pods = pod_addresses(shop, "web")
    for number in range(4):
        running.open("web", 40000 + number, 1)
    gone = next(iter(pods))
    running.change(2, endpoint=f"pod/{gone}", ready=False)
    weights = {pods[other]: 1 for other in pods}
    assert running.weights(name) == {**weights, pods[gone]: 0}
    running.until(60)
    assert running.weights(name)[pods[gone]] == 0
    running.until(122)
    del weights[pods[gone]]
    assert running.weights(name) == weights
    assert running.timeline.next is None


def test_a_server_without_connections_goes_at_once(shop: Cluster) -> None:
    running = Running(shop)
    name = f"-t {address(shop, 'web')}:80"
    pods = pod_addresses(shop, "web")
    gone = next(iter(pods))
    running.change(2, endpoint=f"pod/{gone}", ready=False)
    assert running.weights(name) == {pods[other]: 1 for other in pods if other != gone}
    running.change(3, endpoint=f"pod/{gone}", ready=True)
    assert running.weights(name) == dict.fromkeys(pods.values(), 1)


def test_udp_servers_do_not_wait(shop: Cluster) -> None:
    running = Running(shop)
    there = address(shop, "dns")
    for sport in range(50000, 50004):
        running.send(IP(src=running.address, dst=there) / UDP(sport=sport, dport=53) / b"question", 1)
    pods = pod_addresses(shop, "dns")
    gone = next(iter(pods))
    running.change(2, endpoint=f"pod/{gone}", ready=False)
    assert running.weights(f"-u {there}:53") == {pods[other]: 1 for other in pods if other != gone}


def test_a_restarted_proxy_looks_after_what_it_finds(shop: Cluster) -> None:
    running = Running(shop)
    name = f"-t {address(shop, 'web')}:80"
    pods = pod_addresses(shop, "web")
    for number in range(4):
        running.open("web", 40000 + number, 1)
    gone = next(iter(pods))
    running.change(2, endpoint=f"pod/{gone}", ready=False)
    running.change(3, restartProxy="*", **{"for": "1s"})
    running.until(5)
    assert running.weights(name)[pods[gone]] == 0
    running.until(75)
    assert pods[gone] not in running.weights(name)


def test_a_service_that_comes_and_goes(shop: Cluster) -> None:
    """Its address is the node's while it is there, and its members are in the sets."""
    running = Running(shop)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "late"},
        "spec": {"clusterIP": "10.96.77.7", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    before = running.fabric.running(running.node).config
    running.change(1, apply=service)
    config = running.fabric.running(running.node).config
    assert len(running.weights("-t 10.96.77.7:80")) == 4
    assert "10.96.77.7" in [str(entry.address.ip) for entry in config.addresses]
    members = {value.name: len(value.entries) for value in config.ipsets}
    assert members["KUBE-CLUSTER-IP"] == {v.name: len(v.entries) for v in before.ipsets}["KUBE-CLUSTER-IP"] + 1
    running.change(2, delete="service/late")
    after = running.fabric.running(running.node).config
    assert set(after.addresses) == set(before.addresses)
    assert (set(after.ipvs), after.ipsets) == (set(before.ipvs), before.ipsets)


def test_a_cluster_whose_first_service_comes_later() -> None:
    """Where no virtual service was, there may be one."""
    cluster = Cluster.load(SHOP, mode="ipvs")
    for name in ("web", "sticky", "dns", "front"):
        cluster.apply({"delete": f"service/{name}"})
    running = Running(cluster)
    assert all(
        not service.servers or service.port == 443 for service in running.fabric.running(running.node).config.ipvs
    )
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "first"},
        "spec": {"clusterIP": "10.96.77.7", "selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    running.change(1, apply=service)
    assert len(running.weights("-t 10.96.77.7:80")) == 4


def test_node_ports_follow_the_nodes_addresses(shop: Cluster) -> None:
    """A node that gets its first pod gets the bridge's address with it: the next sync, within 30 s, opens it."""
    running = Running(shop)
    running.change(1, apply={"apiVersion": "v1", "kind": "Node", "metadata": {"name": "late"}})

    def at() -> set[str]:
        config = running.fabric.running("late").config
        return {str(service.address) for service in config.ipvs if service.port == 30080}

    before = at()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "lonely"},
        "spec": {"nodeName": "late", "containers": [{"name": "a", "image": "a"}]},
    }
    running.change(2, apply=pod)
    assert at() == before
    running.until(33)
    assert len(at() - before) == 1


def test_the_mode_of_a_run_stays(shop: Cluster, tmp_path: Path) -> None:
    running = Running(shop)
    running.change(1, proxyMode="ipvs")
    path = write(tmp_path / "in.pcap", [(0, IP(src="1.2.3.4", dst="5.6.7.8") / UDP()), (2, IP() / UDP())])
    with pytest.raises(InputError, match="kube-proxies do not change from ipvs to iptables while they run"):
        shop.replay(path, events=[read_event({"at": 1, "proxyMode": "iptables"})])


def write(path: Path, packets: Sequence[tuple[float, Packet]]) -> Path:
    made = []
    for time, packet in packets:
        frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet
        frame.time = START + time
        made.append(frame)
    wrpcap(str(path), made)
    return path


def connection(cluster: Cluster, port: int, seconds: int) -> list[tuple[float, Packet]]:
    """A TCP connection to the web Service that says something every second."""
    (here, _), there = client(cluster), address(cluster, "web")
    found: list[tuple[float, Packet]] = [
        (0, IP(src=here, dst=there) / TCP(sport=port, dport=80, flags="S", seq=100)),
        (0.001, IP(src=there, dst=here) / TCP(sport=80, dport=port, flags="SA", seq=500, ack=101)),
        (0.002, IP(src=here, dst=there) / TCP(sport=port, dport=80, flags="A", seq=101, ack=501)),
    ]
    for second in range(1, seconds):
        seq, ack = 97 + 4 * second, 497 + 4 * second
        ours = TCP(sport=port, dport=80, flags="PA", seq=seq, ack=ack)
        theirs = TCP(sport=80, dport=port, flags="PA", seq=ack, ack=seq + 4)
        found.append((second, IP(src=here, dst=there) / ours / b"ping"))
        found.append((second + 0.001, IP(src=there, dst=here) / theirs / b"pong"))
    return found


def test_connections_stay_with_an_endpoint_that_is_leaving(shop: Cluster, tmp_path: Path) -> None:
    packets = sorted(
        (p for port in range(41000, 41008) for p in connection(shop, port, 90)), key=lambda entry: entry[0]
    )
    path = write(tmp_path / "in.pcap", packets)
    gone = next(iter(pod_addresses(shop, "web")))
    result = shop.replay(path, events=[read_event({"at": 5, "endpoint": f"pod/{gone}", "ready": False})])
    columns = result.columns
    assert set(columns["effect"]) == {"kept"}
    assert set(columns["lost"]) == {0}
    assert f"default/{gone}" in columns["endpoint_name"]
    assert result.accounting.delivered == len(packets)
