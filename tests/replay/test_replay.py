"""A capture through a cluster: what arrives, where, and whether the books balance."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet
from scapy.utils import PcapNgReader, rdpcap, wrpcap

from dataplane import Cluster, HostConfig, PacketBatch
from dataplane.capture import PcapWriter
from dataplane.emulation import replay_host
from dataplane.errors import CaptureError, MappingError, ModelError
from dataplane.result import Accounting, Result

ROOT = Path(__file__).parents[2]
SAMPLE, CAPTURE = ROOT / "pcaps" / "boutique.yaml", ROOT / "pcaps" / "boutique.pcap"
SHARED = Path(os.environ.get("DATAPLANE_SHARED", ROOT.parent / "shared")) / "data"


@pytest.fixture(scope="module")
def boutique() -> Cluster:
    return Cluster.load(SAMPLE)


def balanced(accounting: Accounting) -> bool:
    sent = accounting.delivered + accounting.consumed + accounting.waiting + sum(accounting.dropped.values())
    return accounting.read == accounting.injected + sum(accounting.left_out.values()) and accounting.injected == sent


def summary(result: Result) -> tuple[object, ...]:
    return (result.accounting.as_dict(), result.services, result.paths, result.columns)


def read(path: Path) -> list[Packet]:
    with PcapNgReader(str(path)) as reader:
        return list(reader)


def write(path: Path, *packets: Packet, start: float = 1000.0) -> Path:
    for i, packet in enumerate(packets):
        packet.time = start + i / 1000
    wrpcap(str(path), [Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet for packet in packets])
    for i, packet in enumerate(packets):
        packet.time = start + i / 1000
    return path


# ---- the sample --------------------------------------------------------------------------------------------------------


def test_the_client_receives_exactly_its_recorded_replies(boutique: Cluster) -> None:
    result = boutique.replay(CAPTURE)
    assert balanced(result.accounting)
    columns = result.columns
    whole = [i for i, verdict in enumerate(columns["verdict"]) if verdict == "delivered"]
    assert len(whole) > 150
    assert [columns["exact_replies"][i] for i in whole] == [columns["replies"][i] for i in whole]
    # What does not arrive is there on purpose: a Service without endpoints, and one damaged packet.
    assert set(result.accounting.dropped) <= {"NETFILTER_REJECT", "NETFILTER_DROP"}
    assert sum(result.accounting.dropped.values()) <= 4


def test_replies_are_the_recorded_bytes(boutique: Cluster, tmp_path: Path) -> None:
    """At the client's own interface, but for TTL and header checksum, which every router changes."""
    out = tmp_path / "out.pcapng"
    boutique.replay(CAPTURE, write=out, places="default/frontend-*/eth0")

    def replies(packets: list[Packet]) -> list[bytes]:
        found = []
        for packet in packets:
            if IP in packet and UDP in packet and packet[IP].src == "10.96.0.10":
                ip = packet[IP].copy()
                ip.ttl = 0
                ip.chksum = 0
                found.append(bytes(ip)[: packet[IP].len])
        return sorted(found)

    recorded = replies(list(rdpcap(str(CAPTURE))))
    received = replies(read(out))
    assert len(recorded) > 50
    missing = len(recorded) - len(set(recorded) & set(received))
    assert missing <= 1


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_the_batch_size_changes_nothing(boutique: Cluster, tmp_path: Path, rows: int) -> None:
    places = "node-*/eth0,default/*/eth0"
    whole = boutique.replay(CAPTURE, write=tmp_path / "whole.pcapng", places=places)
    cut = boutique.replay(CAPTURE, write=tmp_path / "cut.pcapng", places=places, rows=rows)
    assert summary(cut) == summary(whole)
    assert (tmp_path / "cut.pcapng").read_bytes() == (tmp_path / "whole.pcapng").read_bytes()


def test_a_packet_between_nodes_crosses_the_overlay(boutique: Cluster, tmp_path: Path) -> None:
    client, server = (
        boutique.state.pod("default", name) for name in ("frontend-6d8f7b9c5d-4tqkz", "redis-58bd6c5f7-n5jql")
    )
    assert client is not None
    assert server is not None
    assert client.node != server.node
    source, target = str(client.ip(4)), str(server.ip(4))
    capture = write(
        tmp_path / "in.pcap", IP(src=source, dst=target, ttl=64, id=5) / UDP(sport=1234, dport=6379) / b"hello"
    )
    out = tmp_path / "out.pcapng"
    result = boutique.replay(capture, write=out, places=f"{client.node}/eth0,{server}/eth0")
    assert result.accounting.delivered == 1
    frames = read(out)
    (tunnel,) = [frame for frame in frames if VXLAN in frame]
    outer = tunnel[IP]
    nodes = [boutique.state.node(name or "") for name in (client.node, server.node)]
    assert [outer.src, outer.dst] == [str(node.address(4)) for node in nodes if node is not None]
    assert (outer.ttl, outer.tos, outer[UDP].dport, tunnel[VXLAN].vni, int(tunnel[VXLAN].flags)) == (64, 0, 8472, 1, 8)
    assert 32768 <= outer[UDP].sport < 60999
    again = IP(bytes(outer))
    del again[UDP].chksum
    assert IP(bytes(again))[UDP].chksum == outer[UDP].chksum
    (arrived,) = [frame for frame in frames if IP in frame and VXLAN not in frame and frame[IP].dst == target]
    assert (arrived[IP].ttl, arrived[IP].id, bytes(arrived[UDP].payload)[:5]) == (62, 5, b"hello")


def test_places_are_named_host_and_device(boutique: Cluster, tmp_path: Path) -> None:
    boutique.replay(CAPTURE, write=str(tmp_path / "folder") + os.sep, places="node-1/cni0,node-2/eth0")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["node-1_cni0.pcap", "node-2_eth0.pcap"]
    with pytest.raises(ModelError, match="no place matches"):
        boutique.replay(CAPTURE, write=tmp_path / "x.pcapng", places="nowhere/*")


def test_links_may_take_their_time(boutique: Cluster, tmp_path: Path) -> None:
    capture = write(tmp_path / "in.pcap", IP(src="10.244.1.3", dst="10.244.1.4") / UDP(sport=1, dport=2) / b"x")
    out = tmp_path / "out.pcapng"
    boutique.replay(capture, write=out, places="default/checkout-*/eth0", link_delay_ns=1_000_000)
    times = [packet.time for packet in read(out) if UDP in packet]
    assert float(times[0]) > 1000.001


# ---- who sends what ----------------------------------------------------------------------------------------------------


def test_no_endpoints_means_port_unreachable(boutique: Cluster, tmp_path: Path) -> None:
    vip = boutique.state.service("default", "payment")
    assert vip is not None
    request = IP(src="10.244.1.3", dst=str(vip.cluster_ip(4))) / TCP(sport=4000, dport=50051, flags="S")
    out = tmp_path / "out.pcapng"
    result = boutique.replay(write(tmp_path / "in.pcap", request), write=out, places="default/frontend-*/eth0")
    assert result.accounting.dropped == {"NETFILTER_REJECT": 1}
    errors = [packet for packet in read(out) if ICMP in packet]
    assert [(error[IP].dst, error[ICMP].type, error[ICMP].code) for error in errors] == [("10.244.1.3", 3, 3)]


def test_maps_bring_strangers_in(boutique: Cluster, tmp_path: Path) -> None:
    packets = [IP(src=f"10.9.8.{i}", dst="93.184.216.34") / TCP(sport=5000, dport=80, flags="S") for i in (1, 2, 3, 1)]
    capture = write(tmp_path / "in.pcap", *packets)
    alone = boutique.replay(capture)
    assert alone.accounting.left_out == {"between strangers": 4}
    assert "93.184.216.34:80" in alone.suggestions[0]
    maps = ["10.9.0.0/16=pods:default/frontend-*", "93.184.216.34:80=svc:default/frontend"]
    result = boutique.replay(capture, maps=maps)
    assert (result.accounting.mapped, result.accounting.delivered) == (4, 4)
    (row,) = result.services
    assert (row.name, row.flows) == ("frontend", 3)
    assert len(set(result.columns["client"])) == 3


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "10.0.0.1=",
        "10.0.0.300=outside",
        "10.0.0.1=pods:default/none-*",
        "10.0.0.1=svc:default/none",
        "10.0.0.1=svc:default/cart:99",
        "10.0.0.1=node:none",
        "10.0.0.1=fd00::1",
        "10.0.0.1:0=outside",
        "1.2.3.4=what",
    ],
)
def test_maps_that_name_nothing_are_refused(boutique: Cluster, text: str) -> None:
    with pytest.raises(MappingError, match=f"--map {text[:6]}"):
        boutique.replay(CAPTURE, maps=[text])


def test_what_nobody_sends_is_counted(boutique: Cluster, tmp_path: Path) -> None:
    asked = IP(src="10.244.1.3", dst="10.244.1.4") / UDP(sport=7, dport=9)
    capture = write(
        tmp_path / "in.pcap",
        ARP(psrc="10.244.1.3", pdst="10.244.1.1"),
        IP(src="10.244.1.4", dst="10.244.1.3") / ICMP(type=3, code=3) / asked,
        IP(src="10.244.1.4", dst="10.244.1.3") / TCP(sport=80, dport=5555, flags="SA"),
        IP(src="8.8.8.8", dst="9.9.9.9") / UDP(),
        IP(src="10.244.1.3", dst="10.244.1.4", frag=10) / b"rest",
    )
    result = boutique.replay(capture)
    assert balanced(result.accounting)
    assert result.accounting.injected == 0
    assert sorted(result.accounting.left_out.values()) == [1, 1, 1, 1, 1]


def test_fragments_are_put_together(boutique: Cluster, tmp_path: Path) -> None:
    """The first and the rest of a datagram that was cut: the last to come delivers it, the others are part of it."""
    whole = IP(src="10.244.1.3", dst="10.244.1.4", id=77) / UDP(sport=7, dport=9) / bytes(64)
    result = boutique.replay(write(tmp_path / "in.pcap", *fragment(whole, fragsize=40)))
    accounting = result.accounting
    assert balanced(accounting)
    assert (accounting.injected, accounting.consumed, accounting.delivered, accounting.waiting) == (2, 1, 1, 0)
    assert not any("fragment" in note for note in result.notes)


def test_a_fragment_whose_rest_never_comes_is_dropped(boutique: Cluster, tmp_path: Path) -> None:
    whole = IP(src="10.244.1.3", dst="10.244.1.4", id=77) / UDP(sport=7, dport=9) / bytes(64)
    first, _ = fragment(whole, fragsize=40)
    later = IP(src="10.244.1.3", dst="10.244.1.4") / UDP(sport=7, dport=9) / b"later"
    path = write(tmp_path / "in.pcap", first)
    assert boutique.replay(path).accounting.waiting == 1
    frames = [Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet for packet in (first, later)]
    frames[0].time, frames[1].time = 1000.0, 1031.0
    wrpcap(str(path), frames)
    accounting = boutique.replay(path).accounting
    assert balanced(accounting)
    assert (accounting.delivered, accounting.dropped) == (1, {"FRAG_REASM_TIMEOUT": 1})


def test_checksums_left_to_the_card_are_completed(boutique: Cluster, tmp_path: Path) -> None:
    whole = IP(bytes(IP(src="10.244.1.3", dst="10.244.1.4") / UDP(sport=7, dport=9) / b"data"))
    pseudo = sum(int.from_bytes(bytes(whole)[i : i + 2]) for i in range(12, 20, 2)) + 17 + len(whole[UDP])
    partial = whole.copy()
    partial[UDP].chksum = (pseudo & 0xFFFF) + (pseudo >> 16)
    wrong = whole.copy()
    wrong[UDP].sport = 8
    wrong[UDP].chksum = 0x1234
    result = boutique.replay(write(tmp_path / "in.pcap", partial, wrong))
    assert result.accounting.checksums_completed == 1
    assert result.accounting.delivered == 1
    assert sum(result.accounting.dropped.values()) == 1


@settings(max_examples=20)
@given(st.lists(st.binary(max_size=120), min_size=1, max_size=20))
def test_garbage_is_accounted_for(
    boutique: Cluster, tmp_path_factory: pytest.TempPathFactory, frames: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("garbage") / "in.pcap"
    with PcapWriter(path) as writer:
        writer.write(PacketBatch.from_frames(frames))
    assert balanced(boutique.replay(path).accounting)


# ---- bad input ---------------------------------------------------------------------------------------------------------


def test_a_capture_cut_short_is_replayed_up_to_there(boutique: Cluster, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(CAPTURE.read_bytes()[:20_001])
    result = boutique.replay(cut)
    assert result.accounting.read > 50
    assert balanced(result.accounting)
    assert isinstance(result.error, CaptureError)
    assert "byte" in str(result.error)


def test_nothing_of_no_capture(boutique: Cluster, tmp_path: Path) -> None:
    (tmp_path / "no.pcap").write_bytes(b"this is no capture file at all")
    with pytest.raises(CaptureError, match="byte 0"):
        boutique.replay(tmp_path / "no.pcap")


# ---- real inputs -------------------------------------------------------------------------------------------------------

CAPTURES = sorted((SHARED / "captures").glob("*.pcap*"))
MANIFESTS = sorted((SHARED / "manifests").glob("*.yaml"))


@pytest.mark.skipif(not CAPTURES or not MANIFESTS, reason="no shared data")
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_real_captures_go_through_real_manifests(manifest: Path) -> None:
    cluster = Cluster.load(manifest)
    for capture in CAPTURES:
        for maps in ((), ("0.0.0.0/1=pods:default/*", "128.0.0.0/1=outside")):
            result = cluster.replay(capture, maps=maps)
            assert result.error is None, capture.name
            assert balanced(result.accounting), (capture.name, result.accounting.line())


# ---- one host ----------------------------------------------------------------------------------------------------------


def test_a_dump_takes_a_capture(boutique: Cluster, tmp_path: Path) -> None:
    boutique.host_config("node-1").save(tmp_path / "dump")
    config = HostConfig.load(tmp_path / "dump")
    eth0 = config.link("eth0")
    assert eth0 is not None
    mac = (eth0.mac or 0).to_bytes(6).hex(":")
    frame = Ether(dst=mac, src="02:00:00:00:00:09") / IP(src="192.168.1.1", dst="192.168.1.11") / UDP(dport=9)
    wrpcap(str(tmp_path / "in.pcap"), [frame, Ether(dst="02:99:00:00:00:00") / IP() / UDP()])
    result = replay_host(tmp_path / "in.pcap", config, "eth0", write=tmp_path / "out.pcapng")
    assert (result.accounting.read, result.accounting.delivered) == (2, 1)
    assert result.accounting.dropped == {"OTHERHOST": 1}


def test_a_host_counts_fragments_alike_in_batches_of_any_size(boutique: Cluster, tmp_path: Path) -> None:
    """A datagram put together, one given up later, one that still waits at the end, a packet that finds no neighbour."""
    config = boutique.host_config("node-1")
    eth0 = config.link("eth0")
    assert eth0 is not None
    link = Ether(dst=(eth0.mac or 0).to_bytes(6).hex(":"), src="02:00:00:00:00:09")

    def cut(ident: int) -> list[Packet]:
        return fragment(IP(src="192.168.1.1", dst="192.168.1.11", id=ident) / UDP(dport=9) / bytes(64), fragsize=40)

    lost = IP(src="192.168.1.1", dst="10.244.1.77") / UDP(dport=9)
    sent = [(0, cut(1)[1]), (0.1, cut(2)[0]), (0.2, lost), (0.3, cut(1)[0]), (32, cut(3)[0]), (33, *cut(4)[:1])]
    frames = [link / packet for _, packet in sent]
    for each, (time, _) in zip(frames, sent, strict=True):
        each.time = 1000 + time
    wrpcap(str(tmp_path / "in.pcap"), frames)
    counted = [replay_host(tmp_path / "in.pcap", config, "eth0", rows=rows).accounting for rows in (1, 2, 3, 100)]
    for accounting in counted:
        assert balanced(accounting)
        assert (accounting.delivered, accounting.consumed, accounting.waiting) == (1, 1, 2)
        assert accounting.dropped == {"FRAG_REASM_TIMEOUT": 1, "NEIGH_FAILED": 1}
        assert +accounting.paths == +counted[0].paths
