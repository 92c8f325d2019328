"""A modelled node as a real one: its configuration, loaded into a namespace, does to packets what the emulator says."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN

from dataplane import Cluster, Host, HostConfig
from dataplane._fast.chance import Choice
from dataplane.cluster import complete, read_manifests
from dataplane.host.loader import commands

NODE, FAR = f"ren-{os.getpid()}-node", f"ren-{os.getpid()}-far"
TOOLS = ("ip", "bridge", "sysctl", "iptables-restore", "ethtool")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or bool(MISSING), reason=f"needs root and the tools of a node ({', '.join(MISSING) or 'root'})"
)

CLONE_NEWNET = 0x40000000
Frames = list[tuple[str, bytes]]


def cluster() -> Cluster:
    """Two nodes, a client on the first and the only endpoint of a Service on the second."""
    nodes = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"node-{i}"},
            "spec": {"podCIDR": f"10.244.{i}.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.1.1{i}"}]},
        }
        for i in (1, 2)
    ]
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
        }
        for name, node, ip in (("client", "node-1", "10.244.1.2"), ("server", "node-2", "10.244.2.2"))
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "dns", "namespace": "default"},
        "spec": {
            "clusterIP": "10.96.0.10",
            "selector": {"app": "server"},
            "ports": [{"port": 53, "protocol": "UDP", "targetPort": 5353}],
        },
    }
    return Cluster(complete(read_manifests([*nodes, *pods, service])))


def run(namespace: str, *argv: str, text: str = "") -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, *argv], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout


class Wires:
    """The far ends of a namespace's interfaces."""

    def __init__(self, names: list[str]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/self/ns/net").open() as home, Path(f"/run/netns/{FAR}").open() as far:
            assert libc.setns(far.fileno(), CLONE_NEWNET) == 0
            try:
                self.sockets = {}
                for name in names:
                    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
                    wire.bind((name, 0))
                    wire.setblocking(False)
                    self.sockets[name] = wire
            finally:
                assert libc.setns(home.fileno(), CLONE_NEWNET) == 0

    def pass_(self, name: str, frame: bytes) -> Frames:
        """Send a frame into the namespace and take what comes out of it."""
        self.sockets[name].send(frame)
        out: Frames = []
        # Every step of the test has an answer; a loaded machine may take its time over it.
        deadline = time.monotonic() + 2
        while not out and time.monotonic() < deadline:
            time.sleep(0.03)
            out += self.taken()
        time.sleep(0.03)
        return out + self.taken()

    def taken(self) -> Frames:
        """What has come out, without the groups that the node reports to have joined (IGMP)."""
        out: Frames = []
        for name, wire in self.sockets.items():
            while True:
                try:
                    data, address = wire.recvfrom(65535)
                except BlockingIOError:
                    break
                igmp = data[12:14] == b"\x08\x00" and data[23] == 2
                if address[2] != socket.PACKET_OUTGOING and not igmp:
                    out.append((name, data))
        return out


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[HostConfig, Wires]]:
    """node-1: rendered into a folder, read back, loaded into a namespace."""
    cluster().host_config("node-1").save(tmp_path / "dump")
    config = HostConfig.load(tmp_path / "dump")
    for namespace in (NODE, FAR):
        subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        run(FAR, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        for command in commands(config, far=FAR):
            run(NODE, *command.argv, text=command.input)
        wires = [link.name for link in config.links if link.kind in ("", "veth") and not link.loopback]
        for name in wires:
            for namespace in (NODE, FAR):
                run(
                    namespace, "ethtool", "-K", name, "rx", "off", "tx", "off", "gso", "off", "gro", "off", "tso", "off"
                )
        time.sleep(0.2)
        ends = Wires(wires)
        try:
            yield config, ends
        finally:
            for wire in ends.sockets.values():
                wire.close()
    finally:
        for namespace in (NODE, FAR):
            subprocess.run(["ip", "netns", "delete", namespace], check=False)


def test_a_rendered_node_emits_what_the_kernel_emits(node: tuple[HostConfig, Wires]) -> None:
    config, wires = node
    pod = cluster().agents.pod("default", "client")
    pod_mac = next(link.mac for link in pod.links if link.name == "eth0") or 0
    port = next(link for link in config.links if link.kind == "veth")
    cni0, eth0, flannel = (config.link(name) for name in ("cni0", "eth0", "flannel.1"))
    assert cni0 is not None
    assert eth0 is not None
    assert flannel is not None
    remote = next(neighbour for neighbour in config.neighbours if neighbour.interface == "flannel.1")

    def mac(number: int | None) -> str:
        return (number or 0).to_bytes(6).hex(":")

    other = "02:00:00:00:12:12"
    from_pod = Ether(src=mac(pod_mac), dst=mac(cni0.mac))
    query = from_pod / IP(src="10.244.1.2", dst="10.96.0.10", id=7) / UDP(sport=40000, dport=53) / b"query"
    arp = Ether(src=other, dst=mac(eth0.mac)) / ARP(
        op=2, hwsrc=other, psrc="192.168.1.12", hwdst=mac(eth0.mac), pdst="192.168.1.11"
    )
    answer = IP(src="10.244.2.2", dst="10.244.1.2", id=9, ttl=63) / UDP(sport=5353, dport=40000) / b"answer"
    outer = (
        Ether(src=other, dst=mac(eth0.mac))
        / IP(src="192.168.1.12", dst="192.168.1.11", id=11)
        / UDP(sport=45000, dport=8472)
        / VXLAN(vni=1, flags=8)
        / Ether(src=mac(remote.mac), dst=mac(flannel.mac))
        / answer
    )
    pod_arp = Ether(src=mac(pod_mac), dst=mac(cni0.mac)) / ARP(
        op=2, hwsrc=mac(pod_mac), psrc="10.244.1.2", hwdst=mac(cni0.mac), pdst="10.244.1.1"
    )
    steps = [
        (port.name, query),
        ("eth0", arp),
        ("eth0", outer),
        (port.name, pod_arp),
        (port.name, query),
        (port.name, from_pod / IP(src="10.244.1.2", dst="10.244.1.1", id=8) / ICMP(id=3) / b"ping"),
        (port.name, from_pod / IP(src="10.244.1.2", dst="10.244.2.9", ttl=1) / UDP(sport=1, dport=2)),
    ]
    theirs = [wires.pass_(name, bytes(frame)) for name, frame in steps]
    # What the kernel drew: the tunnel's source port, and the ids of packets that the node built.
    built = [
        packet
        for out in theirs
        for _, data in out
        if IP in (packet := Ether(data)) and (VXLAN in packet or ICMP in packet)
    ]
    choices = {
        Choice.CHOICE_TUNNEL_PORT: [packet[UDP].sport for packet in built if VXLAN in packet],
        Choice.CHOICE_IP_ID: [packet[IP].id for packet in built],
    }
    assert len(choices[Choice.CHOICE_TUNNEL_PORT]) == 2
    host = Host(config, choices=choices)
    for number, ((name, frame), kernel) in enumerate(zip(steps, theirs, strict=True)):
        ours = host.receive(bytes(frame), name, number * 50_000_000)
        assert sorted(ours) == sorted(kernel), f"step {number}: {frame.summary()}"
    assert [len(out) for out in theirs] == [1, 1, 1, 1, 1, 1, 1]
