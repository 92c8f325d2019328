"""Packets per second through the walk, one core: medians over repeats of the same work.

(a) one host, established DNAT: frames in by eth0, translated, forwarded, out by eth1; in memory
(b) pod to Service to pod across two nodes with Flannel VXLAN, established; in memory
(c) the same from capture file to capture file, one captured place

    python bench/walk.py [--packets N] [--flows N] [--repeats N]
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import numpy as np

from dataplane import Cluster, Host, HostConfig, PacketBatch
from dataplane._fast.reason import Verdict
from dataplane.capture import PcapWriter
from dataplane.cluster import complete, read_manifests
from dataplane.host.config import Address, Link, Neighbour
from dataplane.host.iptables import Ruleset

RULES = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d 10.96.0.10/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.0.1.2:5353
COMMIT
"""
MANIFESTS = [
    *(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"node-{i}"},
            "spec": {"podCIDR": f"10.244.{i}.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.1.1{i}"}]},
        }
        for i in (1, 2)
    ),
    *(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
        }
        for name, node, ip in (("client", "node-1", "10.244.1.2"), ("server", "node-2", "10.244.2.2"))
    ),
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "dns", "namespace": "default"},
        "spec": {
            "clusterIP": "10.96.0.10",
            "selector": {"app": "server"},
            "ports": [{"port": 53, "protocol": "UDP", "targetPort": 5353}],
        },
    },
]
ROWS = 4096
ROUTER, CLIENT = 0x020000000001, 0x020000000099


def udp(source: str, sport: int, target: str, dport: int, payload: int) -> bytes:
    """An IPv4 UDP datagram with good checksums."""
    src, dst = ip_address(source).packed, ip_address(target).packed
    data = bytes(payload)
    header = bytearray(bytes.fromhex("45000000000040004011" + "0000") + src + dst)
    header[2:4] = (28 + payload).to_bytes(2)
    header[10:12] = _checksum(bytes(header)).to_bytes(2)
    length = (8 + payload).to_bytes(2)
    ports = sport.to_bytes(2) + dport.to_bytes(2)
    check = _checksum(src + dst + b"\0\x11" + length + ports + length + b"\0\0" + data) or 0xFFFF
    return bytes(header) + ports + length + check.to_bytes(2) + data


def _checksum(data: bytes) -> int:
    total = sum(int.from_bytes(data[i : i + 2].ljust(2, b"\0")) for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def batch_of(packets: list[bytes], count: int, link_type: int, start_ns: int) -> PacketBatch:
    frames = [packets[i % len(packets)] for i in range(count)]
    return PacketBatch.from_frames(frames, times=[start_ns + i for i in range(count)], link_type=link_type)


def measure(batch: PacketBatch, count: int, repeats: int, run: Callable[[], object], check: Verdict) -> float:
    """Median seconds for `count` packets, in batches of one size, as a capture is read: one batch, filled anew each time.

    Only `run` is timed. The walk rewrites the bytes, so they are put back before each.
    """
    arena = batch.arena.copy()
    seconds = []
    for _ in range(repeats + 1):
        total = 0.0
        for _ in range(0, count, ROWS):
            batch.arena[:] = arena
            before = time.perf_counter()
            run()
            total += time.perf_counter() - before
            verdicts = batch.verdict[: len(batch)]
            assert (verdicts == check).all(), np.unique(batch.reason[: len(batch)])
        seconds.append(total * count / (-(-count // ROWS) * ROWS))
    return statistics.median(seconds[1:])


def one_host(count: int, flows: int, repeats: int) -> float:
    config = HostConfig(
        "router",
        links=(Link.lo(), Link("eth0", mac=ROUTER), Link("eth1", mac=ROUTER + 1)),
        addresses=(
            Address.of("lo", "127.0.0.1/8"),
            Address.of("eth0", "10.0.0.1/24"),
            Address.of("eth1", "10.0.1.1/24"),
        ),
        neighbours=(
            Neighbour.of("eth0", "10.0.0.5", CLIENT),
            Neighbour.of("eth1", "10.0.1.2", CLIENT + 1),
        ),
        iptables=Ruleset.parse(RULES, 4),
        sysctl={"net.ipv4.ip_forward": "1"},
    )
    host = Host(config)
    to_router = ROUTER.to_bytes(6) + CLIENT.to_bytes(6) + b"\x08\0"
    requests = [to_router + udp("10.0.0.5", 1024 + i, "10.96.0.10", 53, 22) for i in range(flows)]
    back = (ROUTER + 1).to_bytes(6) + (CLIENT + 1).to_bytes(6) + b"\x08\0"
    replies = [back + udp("10.0.1.2", 5353, "10.0.0.5", 1024 + i, 22) for i in range(flows)]
    host.receive_batch(batch_of(requests, flows, 1, 0), "eth0")
    host.receive_batch(batch_of(replies, flows, 1, 10_000), "eth1")
    batch = batch_of(requests, ROWS, 1, 20_000)
    return measure(batch, count, repeats, lambda: host.receive_batch(batch, "eth0"), Verdict.EMITTED)


def two_nodes(count: int, flows: int, repeats: int) -> float:
    fabric = Cluster(complete(read_manifests(MANIFESTS))).fabric()
    client, server = fabric.ids["default/client"], fabric.ids["default/server"]
    requests = [udp("10.244.1.2", 1024 + i, "10.96.0.10", 53, 22) for i in range(flows)]
    replies = [udp("10.244.2.2", 5353, "10.244.1.2", 1024 + i, 22) for i in range(flows)]
    fabric.walk.send(client, batch_of(requests, flows, 101, 0))
    fabric.walk.send(server, batch_of(replies, flows, 101, 10_000_000))
    batch = batch_of(requests, ROWS, 101, 20_000_000)
    return measure(batch, count, repeats, lambda: fabric.walk.send(client, batch), Verdict.DELIVERED)


def files(count: int, flows: int, repeats: int) -> float:
    cluster = Cluster(complete(read_manifests(MANIFESTS)))
    header = CLIENT.to_bytes(6) + ROUTER.to_bytes(6) + b"\x08\0"
    requests = [header + udp("10.244.1.2", 1024 + i, "10.96.0.10", 53, 22) for i in range(flows)]
    seconds = []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        source, target = Path(folder) / "in.pcap", Path(folder) / "out.pcapng"
        with PcapWriter(source) as writer:
            writer.write(batch_of(requests, count, 1, 1_000_000_000))
        for _ in range(repeats + 1):
            gc.collect()
            before = time.perf_counter()
            result = cluster.replay(source, write=target, places="default/server/eth0")
            seconds.append(time.perf_counter() - before)
            assert result.accounting.delivered == count, result.accounting.line()
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=200_000)
    parser.add_argument("--flows", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    print(f"{options.packets} packets of 64 bytes, {options.flows} flows, median of {options.repeats}")
    for name, run in (
        ("(a) one host, established DNAT", one_host),
        ("(b) pod to Service to pod, two nodes, VXLAN", two_nodes),
        ("(c) (b) from capture file to capture file", files),
    ):
        seconds = run(options.packets, options.flows, options.repeats)
        rate = options.packets / seconds
        print(f"{name:<46}{rate / 1e6:6.2f} Mpps{1e9 * seconds / options.packets:8.0f} ns/packet")


if __name__ == "__main__":
    main()
