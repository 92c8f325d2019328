"""Generated traffic: true headers (scapy judges), whole conversations, the same packets for every batch size."""

from collections import Counter, defaultdict
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from dataplane.capture import open_capture
from dataplane.cluster import (
    ClusterState,
    ContainerPort,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    NodeState,
    PodSpec,
    PodState,
    ServicePort,
    ServiceState,
)
from dataplane.errors import ModelError
from dataplane.generate import IMIX, Recipe, batches, parse_mix, parse_sizes, plan, write

PODS4 = {f"10.244.{node}.{number}" for node in (0, 1) for number in (2, 3, 4)}
PODS6 = {str(IPv6Address(f"fd00:10:244:{node}::{number}")) for node in (0, 1) for number in (2, 3, 4)}


def service(name: str, number: int, protocol: str, port: int, node_port: int = 0) -> ServiceState:
    addresses = (IPv4Address(f"10.96.0.{number}"), IPv6Address(f"fd00:10:96::{number}"))
    return ServiceState(
        "default",
        name,
        type="NodePort" if node_port else "ClusterIP",
        cluster_ips=addresses,
        ip_families=(4, 6),
        ports=(ServicePort("", protocol, port, port, node_port),),
    )


def slices(name: str, port: int, protocol: str, ready: bool = True) -> tuple[EndpointSlice, ...]:
    labels = {"kubernetes.io/service-name": name}
    ports = (EndpointPort("", protocol, port),)
    return (
        EndpointSlice("default", f"{name}-4", "IPv4", ports, (Endpoint("10.244.0.2", ready=ready),), labels),
        EndpointSlice("default", f"{name}-6", "IPv6", ports, (Endpoint("fd00:10:244:0::2", ready=ready),), labels),
    )


@pytest.fixture(scope="module")
def cluster() -> ClusterState:
    nodes = tuple(
        NodeState(
            f"node-{index}",
            index,
            (IPv4Address(f"192.168.1.{11 + index}"), IPv6Address(f"fd00:192::{11 + index}")),
            (IPv4Network(f"10.244.{index}.0/24"), IPv6Network(f"fd00:10:244:{index}::/64")),
        )
        for index in (0, 1)
    )
    spec = PodSpec(ports=(ContainerPort("http", "TCP", 8443), ContainerPort("dns", "UDP", 5353)))
    pods = tuple(
        PodState(
            "default",
            f"pod-{node}-{number}",
            spec,
            f"node-{node}",
            (IPv4Address(f"10.244.{node}.{number}"), IPv6Address(f"fd00:10:244:{node}::{number}")),
        )
        for node in (0, 1)
        for number in (2, 3, 4)
    )
    services = (service("web", 20, "TCP", 80, 30080), service("dns", 10, "UDP", 53), service("void", 66, "TCP", 81))
    endpoints = {
        ("default", "web"): slices("web", 8443, "TCP"),
        ("default", "dns"): slices("dns", 5353, "UDP"),
        ("default", "void"): slices("void", 81, "TCP", ready=False),
    }
    return ClusterState(nodes, pods, services, tuple(s for pair in endpoints.values() for s in pair), endpoints)


def frames(cluster: ClusterState, recipe: Recipe, rows: int = 4096) -> list[tuple[int, bytes]]:
    return [
        (int(batch.time[i]), batch.frame(i))
        for batch in batches(plan(cluster, recipe), rows)
        for i in range(len(batch))
    ]


MIXED = Recipe(
    packets=3000,
    flows=90,
    sizes=IMIX,
    protocols={"tcp": 6, "udp": 3, "icmp": 1},
    services=0.6,
    external=0.2,
    ipv6=0.4,
    concurrent=16,
    seed=7,
)


@pytest.fixture(scope="module")
def mixed(cluster: ClusterState) -> list[Packet]:
    return [Ether(frame) for _, frame in frames(cluster, MIXED)]


def network(packet: Packet) -> Packet:
    return packet[IPv6] if IPv6 in packet else packet[IP]


def test_as_many_as_asked_for(mixed: list[Packet]) -> None:
    assert len(mixed) == MIXED.packets


def test_lengths_and_checksums_are_those_that_scapy_computes(mixed: list[Packet]) -> None:
    for packet in mixed:
        again = packet.copy()
        for layer, fields in (
            (IP, "len chksum"),
            (IPv6, "plen"),
            (TCP, "chksum"),
            (UDP, "len chksum"),
            (ICMP, "chksum"),
        ):
            if layer in again:
                for name in fields.split():
                    again[layer].delfieldval(name)
        for layer in (ICMPv6EchoRequest, ICMPv6EchoReply):
            if layer in again:
                again[layer].delfieldval("cksum")
        assert bytes(again) == bytes(packet)


def test_sizes_are_drawn_from_the_mix(cluster: ClusterState) -> None:
    recipe = Recipe(packets=24_000, flows=10, sizes=IMIX, protocols={"udp": 1}, services=0, seed=3)
    counts = Counter(len(frame) for _, frame in frames(cluster, recipe))
    assert counts.keys() == IMIX.keys()
    for size, weight in IMIX.items():
        assert counts[size] / 24_000 == pytest.approx(weight / 12, abs=0.015)


def test_tcp_conversations_are_whole(mixed: list[Packet]) -> None:
    """Each side's numbers follow on one another, each acknowledgement is of what was sent, and both sides close."""
    flows: dict[frozenset[tuple[str, int]], list[Packet]] = defaultdict(list)
    for packet in mixed:
        if TCP in packet:
            ends = [(network(packet).src, packet[TCP].sport), (network(packet).dst, packet[TCP].dport)]
            flows[frozenset(ends)].append(packet)
    assert len(flows) > 30
    for packets in flows.values():
        client = network(packets[0]).src
        assert [str(packet[TCP].flags) for packet in packets[:3]] == ["S", "SA", "A"]
        assert [str(packet[TCP].flags) for packet in packets[-3:]] == ["FA", "FA", "A"]
        assert {str(packet[TCP].flags) for packet in packets[3:-3]} <= {"PA"}
        following: dict[bool, int] = {}
        for packet in packets:
            side = network(packet).src == client
            assert packet[TCP].seq == following.get(side, packet[TCP].seq)
            if "A" in packet[TCP].flags:
                assert packet[TCP].ack == following[not side]
            consumed = len(packet[TCP].payload) + ("S" in packet[TCP].flags or "F" in packet[TCP].flags)
            following[side] = (packet[TCP].seq + consumed) % 2**32
        assert network(packets[-3]).src == client


def test_answers_come_from_the_address_that_was_asked(mixed: list[Packet]) -> None:
    asked = Counter()
    for packet in mixed:
        for layer in (UDP, ICMP, ICMPv6EchoRequest, ICMPv6EchoReply):
            if layer in packet:
                upper = packet[layer]
                ports = (upper.sport, upper.dport) if layer is UDP else (upper.id, upper.seq)
                back = ports[::-1] if layer is UDP else ports
                here, there = network(packet).src, network(packet).dst
                if asked[(there, here, back)]:
                    asked[(there, here, back)] -= 1
                else:
                    asked[(here, there, ports)] += 1
    unanswered = sum(asked.values())
    assert unanswered <= MIXED.flows  # a flow with an odd number of packets ends on a question


def test_clients_and_targets_exist(cluster: ClusterState, mixed: list[Packet]) -> None:
    drawn = plan(cluster, MIXED)
    text = [
        (
            str(ip_address(source.tobytes()[: 4 if family == 4 else 16])),
            str(ip_address(destination.tobytes()[: 4 if family == 4 else 16])),
        )
        for source, destination, family in zip(drawn.source, drawn.destination, drawn.family, strict=True)
    ]
    nodes = {"192.168.1.11", "192.168.1.12", "fd00:192::b", "fd00:192::c", "fd00:192::11", "fd00:192::12"}
    assert set(drawn.kind.tolist()) == {0, 1, 2}
    for kind, port, (source, destination) in zip(drawn.kind, drawn.destination_port, text, strict=True):
        if kind == 2:
            assert destination in nodes
            assert port == 30080
            assert ip_address(source) in IPv4Network("198.18.0.0/15") or source.startswith("2001:2:")
            continue
        assert source in PODS4 | PODS6
        assert source != destination
        if kind == 0:
            assert (destination, port) in {
                (address, number)
                for addresses, number in (
                    (("10.96.0.20", "fd00:10:96::20"), 80),
                    (("10.96.0.10", "fd00:10:96::10"), 53),
                )
                for address in addresses
            }, "a Service without ready endpoints gets nothing"
        else:
            assert destination in PODS4 | PODS6


@pytest.mark.parametrize("rows", [1, 7, 256])
def test_same_packets_for_every_batch_size(cluster: ClusterState, rows: int) -> None:
    recipe = Recipe(packets=700, flows=40, sizes=IMIX, ipv6=0.5, concurrent=9, seed=5)
    assert frames(cluster, recipe, rows) == frames(cluster, recipe)


def test_seed_decides(cluster: ClusterState) -> None:
    recipe = Recipe(packets=300, flows=30, seed=1)
    assert frames(cluster, recipe) == frames(cluster, recipe)
    assert frames(cluster, recipe) != frames(cluster, Recipe(packets=300, flows=30, seed=2))


def test_no_more_flows_alive_than_asked(cluster: ClusterState) -> None:
    recipe = Recipe(packets=1000, flows=100, protocols={"udp": 1}, concurrent=4, services=0, seed=2)
    places: dict[frozenset[object], list[int]] = defaultdict(list)
    for index, (_, frame) in enumerate(frames(cluster, recipe)):
        packet = Ether(frame)
        places[frozenset([(packet[IP].src, packet[UDP].sport), (packet[IP].dst, packet[UDP].dport)])].append(index)
    assert len(places) == 100
    spans = [(indices[0], indices[-1]) for indices in places.values()]
    assert max(sum(first <= at <= last for first, last in spans) for at in range(1000)) == 4


def test_times_follow_the_rate(cluster: ClusterState) -> None:
    times = [when for when, _ in frames(cluster, Recipe(packets=50, flows=5, rate=1000, start=10))]
    assert times == [10 + 1_000_000 * number for number in range(50)]


def test_texts() -> None:
    assert parse_sizes("64") == {64: 1}
    assert parse_sizes("imix") == dict(IMIX)
    assert parse_sizes("64:7,1464:1") == {64: 7, 1464: 1}
    assert parse_mix("tcp=8,udp=2") == {"tcp": 8, "udp": 2}
    for text in ("", "64:x", "64,64", "64;7", "large"):
        with pytest.raises(ValueError):  # noqa: PT011 - the message quotes the text, whatever it is
            parse_sizes(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"packets": 5, "flows": 6},
        {"services": 1.5},
        {"rate": 0},
        {"sizes": {}},
        {"sizes": {10_000: 1}},
        {"protocols": {"sctp": 1}},
        {"protocols": {"tcp": 0}},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).rstrip("s")):
        Recipe(**wrong)  # type: ignore[arg-type]


def test_what_the_cluster_lacks_is_said() -> None:
    empty = ClusterState((), (), (), (), {})
    with pytest.raises(ModelError, match="no running pod with an IPv4 address"):
        plan(empty, Recipe())
    node = NodeState("node", 0, (IPv4Address("192.168.1.11"),))
    pod = PodState("default", "one", PodSpec(), "node", (IPv4Address("10.244.0.2"),))
    single = ClusterState((node,), (pod,), (), (), {})
    with pytest.raises(ModelError, match="no Service has a NodePort"):
        plan(single, Recipe(external=1))
    with pytest.raises(ModelError, match="nobody to speak to"):
        plan(single, Recipe())


@pytest.mark.parametrize("name", ["out.pcap", "out.pcap.gz", "out.pcapng"])
def test_written_file_holds_the_packets(cluster: ClusterState, tmp_path: Path, name: str) -> None:
    recipe = Recipe(packets=9000, flows=30, ipv6=0.5)
    seen: list[int] = []
    assert write(plan(cluster, recipe), tmp_path / name, seen.append) == 9000
    assert seen == sorted(seen)
    assert seen[-1] == 9000
    with open_capture(tmp_path / name) as reader:
        back = [(int(batch.time[i]), batch.frame(i)) for batch in reader for i in range(len(batch))]
        assert reader.format == ("pcapng" if name.endswith("pcapng") else "pcap")
    assert back == frames(cluster, recipe)
