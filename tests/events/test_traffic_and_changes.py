"""What packets meet while a cluster changes: stale rules, connections that stay, entries that are flushed, black holes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import wrpcap

from dataplane import Cluster
from dataplane.result import Result

SHOP = Path(__file__).parent / "shop.yaml"
START = 1_000_000
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def shop() -> Cluster:
    return Cluster.load(SHOP)


def address(cluster: Cluster, service: str) -> str:
    found = cluster.state.service("default", service)
    assert found is not None
    return str(found.cluster_ips[0])


def client(cluster: Cluster) -> str:
    pod = cluster.state.pod("default", "client")
    assert pod is not None
    return str(pod.ips[0])


def write(path: Path, packets: Sequence[tuple[float, Packet]]) -> Path:
    made = []
    for time, packet in sorted(packets, key=lambda entry: entry[0]):
        frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet
        frame.time = START + time
        made.append(frame)
    wrpcap(str(path), made)
    return path


def datagrams(cluster: Cluster, ports: Sequence[int], seconds: int, each: float = 0.5) -> list[tuple[float, Packet]]:
    """Questions to the DNS Service and their answers, from each port twice a second."""
    here, there = client(cluster), address(cluster, "dns")
    found: list[tuple[float, Packet]] = []
    for number in range(int(seconds / each)):
        for at, port in enumerate(ports):
            time = number * each + at * 0.01
            found.append((time, IP(src=here, dst=there) / UDP(sport=port, dport=53) / b"question"))
            found.append((time + 0.001, IP(src=there, dst=here) / UDP(sport=53, dport=port) / b"answer"))
    return found


def connection(
    cluster: Cluster, port: int, seconds: int, begin: float = 0, service: str = "web", to: int = 80
) -> list[tuple[float, Packet]]:
    """A TCP connection that says something every second."""
    here, there = client(cluster), address(cluster, service)
    ours, theirs = {"sport": port, "dport": to}, {"sport": to, "dport": port}
    found: list[tuple[float, Packet]] = [
        (begin, IP(src=here, dst=there) / TCP(**ours, flags="S", seq=100)),
        (begin + 0.001, IP(src=there, dst=here) / TCP(**theirs, flags="SA", seq=500, ack=101)),
        (begin + 0.002, IP(src=here, dst=there) / TCP(**ours, flags="A", seq=101, ack=501)),
    ]
    for second in range(1, seconds):
        seq, ack = 101 + 4 * (second - 1), 501 + 4 * (second - 1)
        found.append((begin + second, IP(src=here, dst=there) / TCP(**ours, flags="PA", seq=seq, ack=ack) / b"ping"))
        answer = IP(src=there, dst=here) / TCP(**theirs, flags="PA", seq=ack, ack=seq + 4) / b"pong"
        found.append((begin + second + 0.001, answer))
    return found


def flows(result: Result) -> list[dict[str, Any]]:
    names = list(result.columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*result.columns.values(), strict=True)]


def replay(cluster: Cluster, path: Path, events: Mapping[float, Mapping[str, Any]], **options: Any) -> Result:
    from dataplane.cluster.events import read_event

    return cluster.replay(path, events=[read_event({"at": at, **event}) for at, event in events.items()], **options)


def at(time: float) -> int:
    return round((START + time) * SECOND)


# ---- UDP ---------------------------------------------------------------------------------------------------------------


def test_stale_rules_until_the_sync_then_the_entries_are_flushed(shop: Cluster, tmp_path: Path) -> None:
    """dns-0 gets another address; until the proxies write it, its clients' datagrams go nowhere."""
    path = write(tmp_path / "in.pcap", datagrams(shop, range(50000, 50008), 10))
    result = replay(shop, path, {3: {"restart": "pod/dns-0"}}, sync_delay="2s")
    found = flows(result)
    hit = [flow for flow in found if flow["endpoint_before"] == "default/dns-0"]
    spared = [flow for flow in found if flow["endpoint_before"] == "default/dns-1"]
    assert len(hit) > 1
    assert len(spared) > 1
    assert len(hit) + len(spared) == 8
    for flow in hit:
        offset = (flow["client_port"] - 50000) * 0.01
        assert flow["effect"] in ("moved", "kept", "black-holed")
        assert flow["black_hole_from"] == at(3 + offset)
        # The first question after the sync, whoever answers it; its answer arrives a little later.
        assert at(5 + offset) <= flow["black_hole_to"] <= at(5 + offset + 0.001)
        assert flow["black_holes"] == 1
        assert flow["lost"] == 2 * 4
    for flow in spared:
        assert (flow["effect"], flow["lost"], flow["black_hole_from"]) == ("kept", 0, None)
    assert {flow["change"] for flow in found} == {"restart pod/dns-0"}
    row = result.changes[0]
    assert (row.time, row.change) == (at(3), "restart pod/dns-0")
    assert sum(row.effects.values()) == 8


def test_a_pod_that_comes_again_has_another_address() -> None:
    """Also where the manifests state the addresses, as in a dump."""
    cluster = Cluster.load(Path(__file__).parents[2] / "pcaps" / "boutique.yaml")
    name = "coredns-7c65d6cfc9-2xkq8"
    before = cluster.state.pod("kube-system", name)
    cluster.apply({"restart": f"pod/kube-system/{name}"})
    after = cluster.state.pod("kube-system", name)
    assert before is not None
    assert after is not None
    assert after.node == before.node
    assert not set(after.ips) & set(before.ips)
    assert [ip.version for ip in after.ips] == [ip.version for ip in before.ips]


def test_without_a_delay_nothing_is_lost(shop: Cluster, tmp_path: Path) -> None:
    path = write(tmp_path / "in.pcap", datagrams(shop, range(50000, 50008), 6))
    result = replay(shop, path, {3: {"restart": "pod/dns-0"}})
    assert {flow["effect"] for flow in flows(result)} == {"moved", "kept"}
    assert sum(flow["lost"] for flow in flows(result)) == 0


def test_each_node_has_its_own_delay(shop: Cluster, tmp_path: Path) -> None:
    """The client's node decides; the delay of another one changes nothing for it."""
    node = shop.state.pod("default", "client").node  # type: ignore[union-attr]
    other = next(name.name for name in shop.nodes if name.name != node)
    path = write(tmp_path / "in.pcap", datagrams(shop, range(50000, 50004), 8))
    events = {3: {"restart": "pod/dns-0"}}
    late = replay(shop, path, events, sync_delay=f"{node}=2s")
    spared = replay(shop, path, events, sync_delay=f"{other}=2s")
    assert sum(flow["lost"] for flow in flows(late)) > 0
    assert sum(flow["lost"] for flow in flows(spared)) == 0


def test_jitter_is_drawn_from_the_seed(tmp_path: Path) -> None:
    holes = []
    for seed in (1, 1, 2):
        cluster = Cluster.load(SHOP, seed=seed)
        path = write(tmp_path / "in.pcap", datagrams(cluster, range(50000, 50008), 12, each=0.1))
        result = replay(cluster, path, {3: {"restart": "pod/dns-0"}}, sync_delay="1s+3s")
        ends = sorted(flow["black_hole_to"] for flow in flows(result) if flow["black_hole_to"])
        assert ends
        assert at(4) <= ends[0] <= ends[-1] <= at(7.2)
        holes.append(ends[0])
    assert holes[0] == holes[1] != holes[2]


@pytest.mark.parametrize(("version", "flushed"), [((1, 30), False), ((1, 32), True)])
def test_an_endpoint_that_stops_serving(tmp_path: Path, version: tuple[int, int], flushed: bool) -> None:
    """1.30 deletes entries of endpoints that are gone from the list; from 1.32 on those that do not serve count too."""
    cluster = Cluster.load(SHOP, kube_version=version)
    path = write(tmp_path / "in.pcap", datagrams(cluster, range(50000, 50008), 6))
    found = flows(replay(cluster, path, {3: {"endpoint": "pod/dns-0", "ready": False}}))
    first = [flow for flow in found if flow["endpoint_before"] == "default/dns-0"]
    assert first
    assert {flow["effect"] for flow in first} == {"moved" if flushed else "kept"}


def test_the_first_endpoint_flushes_what_was_refused(shop: Cluster, tmp_path: Path) -> None:
    """A UDP Service without endpoints rejects; when it gets its first one, the clients that ask again are answered."""
    path = write(tmp_path / "in.pcap", datagrams(shop, [50000], 8))
    scaled = {0: {"scale": "statefulset/dns", "replicas": 0}, 4: {"scale": "statefulset/dns", "replicas": 1}}
    (flow,) = flows(replay(shop, path, scaled))
    assert flow["reason"] in ("NETFILTER_REJECT", None) or flow["lost"]
    assert flow["black_hole_to"] in (at(4), at(4.001))


# ---- TCP ---------------------------------------------------------------------------------------------------------------


def test_established_connections_stay_at_a_removed_endpoint(shop: Cluster, tmp_path: Path) -> None:
    """An endpoint that is terminating is in no rule any more: what was established goes on, the next goes elsewhere."""
    ports = range(40000, 40008)
    early = [packet for port in ports for packet in connection(shop, port, 8)]
    first = flows(replay(shop, write(tmp_path / "first.pcap", early), {100: {"lose": "node/node-1"}}))
    victim = first[0]["endpoint_name"].removeprefix("default/")
    late = [packet for port in range(41000, 41030) for packet in connection(shop, port, 3, begin=4.5)]
    path = write(tmp_path / "in.pcap", early + late)
    found = flows(replay(shop, path, {4: {"endpoint": f"pod/{victim}", "terminating": True}}))
    old = [flow for flow in found if flow["client_port"] < 41000]
    new = [flow for flow in found if flow["client_port"] >= 41000]
    assert {flow["effect"] for flow in old} == {"kept"}
    assert any(flow["endpoint_name"] == f"default/{victim}" for flow in old)
    assert all(flow["endpoint_name"] != f"default/{victim}" for flow in new)
    assert all(flow["verdict"] == "delivered" for flow in found)


def test_a_pod_that_goes_takes_its_connections_along(shop: Cluster, tmp_path: Path) -> None:
    packets = [packet for port in range(40000, 40008) for packet in connection(shop, port, 8)]
    result = replay(shop, write(tmp_path / "in.pcap", packets), {4.5: {"scale": "deployment/web", "replicas": 2}})
    found = flows(result)
    gone = [flow for flow in found if flow["effect"] == "black-holed"]
    assert gone
    assert all((flow["black_hole_from"], flow["black_hole_to"]) == (at(5), None) for flow in gone)
    assert all(flow["effect"] == "kept" for flow in found if flow not in gone)
    assert result.changes[0].effects["black-holed"] == len(gone)


def test_a_node_that_is_lost_is_noticed_late(shop: Cluster, tmp_path: Path) -> None:
    """Until its endpoints are not ready, new connections to them go nowhere."""
    here = shop.state.pod("default", "client").node  # type: ignore[union-attr]
    lost = next(pod.node for pod in shop.pods if pod.name.startswith("web") and pod.node != here)
    packets = [packet for n in range(40) for packet in connection(shop, 40000 + n, 1, begin=0.25 * n)]
    event = {"lose": f"node/{lost}", "notReadyAfter": "4s"}
    found = flows(replay(shop, write(tmp_path / "in.pcap", packets), {2: event}))
    holes = [flow["black_hole_from"] for flow in found if flow["effect"] == "black-holed"]
    assert holes
    assert all(at(2) <= hole < at(6) for hole in holes)
    assert all(flow["verdict"] == "delivered" for flow in found if flow["first"] >= at(6))


def test_affinity_slides_and_outlives_other_changes(shop: Cluster, tmp_path: Path) -> None:
    """A client of a sticky Service stays where it is while other endpoints come and go, longer than the timeout."""
    packets = [
        packet for n in range(12) for packet in connection(shop, 42000 + n, 1, begin=10 * n, service="sticky", to=81)
    ]
    path = write(tmp_path / "in.pcap", packets)
    quiet = flows(replay(shop, path, {1000: {"restartProxy": "*"}}))
    (home,) = {flow["endpoint_name"] for flow in quiet}
    other = next(p.name for p in shop.pods if p.name.startswith("web") and f"default/{p.name}" != home)
    events: dict[float, Mapping[str, Any]] = {
        15: {"endpoint": f"pod/{other}", "ready": False},
        45: {"restartProxy": "*"},
    }
    assert {flow["endpoint_name"] for flow in flows(replay(shop, path, events))} == {home}
    gone = {15: {"endpoint": f"pod/{home.removeprefix('default/')}", "ready": False}}
    moved = flows(replay(shop, path, gone))
    assert len({flow["endpoint_name"] for flow in moved if flow["first"] > at(15)} - {home}) == 1


# ---- rules and proxies -------------------------------------------------------------------------------------------------


def test_counters_of_untouched_services_go_on(shop: Cluster) -> None:
    fabric = shop.fabric()
    timeline = shop.timeline(fabric)
    timeline.start(0)
    from dataplane._fast.batch import PacketBatch
    from dataplane.cluster.events import read_change

    batch = PacketBatch.from_frames(
        [bytes(packet) for _, packet in connection(shop, 40000, 1)[:1]], times=[1000], link_type=101
    )
    batch.decode()
    fabric.walk.send(fabric.ids["default/client"], batch)
    node = shop.state.pod("default", "client").node  # type: ignore[union-attr]
    assert node is not None

    def counted(comment: str, chain: str) -> list[str]:
        rules = fabric.running(node).ruleset(4)
        assert rules is not None
        lines = rules.text(counters=True).splitlines()
        return [line.split("]")[0] for line in lines if f"-A {chain}" in line and comment in line]

    assert sorted(counted("default/web:http ->", "KUBE-SVC"))[-1] == "[1:40"
    assert "[1:40" in counted("default/web:http cluster IP", "KUBE-SERVICES")
    timeline.change(read_change({"endpoint": "pod/dns-0", "ready": False}), 2000)
    # The Service's own chains are not named by the sync; the chains that all share are written anew.
    assert sorted(counted("default/web:http ->", "KUBE-SVC"))[-1] == "[1:40"
    assert "[1:40" not in counted("default/web:http cluster IP", "KUBE-SERVICES")
    assert counted("kubernetes service portals", "PREROUTING")[0] != "[0:0"
    timeline.change(read_change({"restartProxy": f"node/{node}"}), 3000)
    assert set(counted("default/web:http ->", "KUBE-SVC")) == {"[0:0"}


def test_a_proxy_that_is_down_writes_nothing(shop: Cluster, tmp_path: Path) -> None:
    path = write(tmp_path / "in.pcap", datagrams(shop, range(50000, 50004), 12))
    events = {2: {"restartProxy": "*", "for": "5s"}, 3: {"restart": "pod/dns-0"}}
    holes = [flow for flow in flows(replay(shop, path, events)) if flow["black_hole_from"]]
    assert holes
    assert all(at(7) <= flow["black_hole_to"] < at(7.1) for flow in holes)


@pytest.mark.parametrize("rows", [1, 5, 64])
def test_the_batch_size_changes_nothing(shop: Cluster, tmp_path: Path, rows: int) -> None:
    packets = datagrams(shop, range(50000, 50004), 8) + connection(shop, 40000, 8)
    path = write(tmp_path / "in.pcap", packets)
    events = {2: {"restart": "pod/dns-0", "readyAfter": "1s"}, 4: {"rollout": "deployment/web", "readyAfter": "1s"}}
    whole = replay(shop, path, events, sync_delay="300ms+1s", write=tmp_path / "a.pcapng", places="*/eth0")
    cut = replay(shop, path, events, sync_delay="300ms+1s", write=tmp_path / "b.pcapng", places="*/eth0", rows=rows)
    assert cut.columns == whole.columns
    assert cut.changes == whole.changes
    if rows == 1:
        return  # the interfaces of new pods are described as they come, between other packets
    assert len((tmp_path / "a.pcapng").read_bytes()) == len((tmp_path / "b.pcapng").read_bytes())


def test_events_change_only_the_replay(shop: Cluster, tmp_path: Path) -> None:
    path = write(tmp_path / "in.pcap", connection(shop, 40000, 4))
    before = shop.state
    replay(shop, path, {1: {"delete": "service/web"}, 2: {"scale": "deployment/web", "replicas": 9}})
    assert shop.state is before
    assert "effect" not in shop.replay(path).columns


def test_at_and_apply(tmp_path: Path) -> None:
    """The same in Python: a change at a time, and one before everything."""
    cluster = Cluster.load(SHOP)
    path = write(tmp_path / "in.pcap", connection(cluster, 40000, 6))
    cluster.at("3s", {"scale": "deployment/web", "replicas": 0})
    (flow,) = flows(cluster.replay(path))
    assert (flow["effect"], flow["change"]) == ("black-holed", "scale deployment/web to 0")
    assert flow["black_hole_from"] == at(3)
    other = Cluster.load(SHOP)
    other.apply({"scale": "deployment/web", "replicas": 0})
    assert not [pod for pod in other.pods if pod.name.startswith("web")]
    accounting = other.replay(path).accounting
    assert accounting.dropped["NETFILTER_REJECT"] > 0
    assert accounting.delivered == 0
