"""Tables that rules, tunnels, balancing, logs and captures fill have limits, too, and what is refused is told."""

import gzip
import struct
from ipaddress import ip_address
from pathlib import Path

import pytest

from dataplane import Host, HostConfig
from dataplane._fast.batch import PacketBatch
from dataplane._fast.reason import Reason
from dataplane._fast.replay import Replay
from dataplane.capture import open_capture
from dataplane.capture import pcapng as pcapng_files
from dataplane.cluster import complete, read_manifests
from dataplane.datapath import log
from dataplane.emulation import Cluster, replay_host
from dataplane.errors import CaptureError
from dataplane.host.config import Address, FdbEntry, Link, Neighbour, Vxlan
from dataplane.host.ipset import parse
from dataplane.host.iptables import Ruleset
from dataplane.host.ipvs import RealServer, VirtualService
from dataplane.testing import packet, vxlan
from dataplane.testing.wire import ICMP, TCP, UDP, checked

ROUTER, CLIENT = 0x020000000001, 0x020000000099
MACS = ROUTER.to_bytes(6, "big") + CLIENT.to_bytes(6, "big")
HEAD = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
SANITIZED = "libasan" in Path("/proc/self/maps").read_text()


def memory() -> int:
    """Bytes that the process has in use now; the sanitizers keep what was given back, so they are not measured."""
    if SANITIZED:
        return 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def router(rules: str = "", *, sets: str = "", ipvs: tuple[VirtualService, ...] = (), **sysctl: str) -> Host:
    config = HostConfig(
        "router",
        links=(Link.lo(), Link("eth0", mac=ROUTER), Link("eth1", mac=ROUTER + 1)),
        addresses=(
            Address.of("eth0", "10.0.0.1/8"),
            Address.of("eth0", "10.9.0.1/32"),
            Address.of("eth1", "172.16.0.1/12"),
        ),
        neighbours=(Neighbour.of("eth0", "10.0.0.5", CLIENT), Neighbour.of("eth1", "172.16.0.9", CLIENT)),
        iptables=Ruleset.parse(f"{HEAD}{rules}COMMIT\n", 4) if rules else None,
        ipsets=parse(sets),
        ipvs=ipvs,
        sysctl={"net.ipv4.ip_forward": "1", **sysctl},
    )
    return Host(config.completed(), seed=1)


def frame(number: int, protocol: int = UDP, port: int = 9, target: str = "172.16.0.9", flags: int = 2) -> bytes:
    """From the client of that number."""
    source = ip_address(0x0A010000 + number)
    return MACS + b"\x08\0" + packet(source, ip_address(target), protocol, (1024, port), flags=flags)


def test_senders_that_hashlimit_remembers() -> None:
    """--hashlimit-htable-max, where it is not below the table's size: a packet without room is dropped."""
    limit = "--hashlimit-upto 5/sec --hashlimit-burst 5 --hashlimit-mode srcip --hashlimit-name h"
    limit += " --hashlimit-htable-size 100 --hashlimit-htable-max 100"
    host = router(f"-A FORWARD -m hashlimit {limit} -j ACCEPT\n")
    before = memory()
    for i in range(20_000):
        host.receive(frame(i), "eth0", i * 1000)
    assert memory() - before < 16 << 20
    assert host.drops()[Reason.NETFILTER_DROP] == 19_900


@pytest.mark.parametrize("tracked", [True, False])
def test_connections_that_connlimit_counts(tracked: bool) -> None:
    """It counts what conntrack has: full there, nothing more is counted here; what conntrack does not have is forgotten."""
    rules = "-A FORWARD -p tcp -m connlimit --connlimit-upto 3 --connlimit-mask 32 --connlimit-saddr -j ACCEPT\n"
    host = router(rules, **{"net.netfilter.nf_conntrack_max": "1000", "net.netfilter.nf_conntrack_buckets": "1024"})
    before = memory()
    for i in range(30_000):
        host.receive(frame(i, TCP, flags=2 if tracked else 4), "eth0", i * 1000)
    assert memory() - before < 24 << 20
    held = len(host.connections())
    assert 900 < held <= 1000 if tracked else held == 0, "early drop makes room"


def test_members_that_packets_add_to_a_set() -> None:
    """maxelem: a full set takes no more members."""
    sets = "create seen hash:ip family inet hashsize 1024 maxelem 500 bucketsize 12 initval 0x1\n"
    host = router("-A FORWARD -j SET --add-set seen src\n-A FORWARD -m set --match-set seen src -j DROP\n", sets=sets)
    for i in range(2000):
        host.receive(frame(i), "eth0", i * 1000)
    assert host.drops()[Reason.NETFILTER_DROP] == 500


def test_connections_of_ipvs() -> None:
    """A full table makes no connection more, templates of persistence counted in: such packets are dropped, with a reason."""
    service = VirtualService.of(
        "udp", "10.9.0.1:80", scheduler="rr", persistent=300, servers=(RealServer.of("172.16.0.9:80"),)
    )
    host = router(ipvs=(service,), **{"net.netfilter.nf_conntrack_max": "0"})
    balancer = host._compiled.balancer
    assert balancer is not None
    balancer.limit = 1000
    for i in range(3000):
        host.receive(frame(i, UDP, 80, "10.9.0.1"), "eth0", i * 1000)
    assert len(balancer) == 1000
    assert host.refused()["ipvs connections"] >= 2400
    assert host.drops()[Reason.IPVS_NO_DEST] >= 2400


def tunnel() -> Host:
    links = (
        Link.lo(),
        Link("eth0", mac=ROUTER),
        Link("vxlan1", "vxlan", mac=0x020000000007, vxlan=Vxlan(1, device="eth0")),
    )
    config = HostConfig(
        "vtep",
        links,
        (Address.of("eth0", "10.0.0.1/8"), Address.of("vxlan1", "10.245.0.1/16")),
        neighbours=(Neighbour.of("eth0", "10.0.0.5", CLIENT),),
        fdb=(FdbEntry.of(0, "vxlan1", "10.0.0.5"),),
    )
    return Host(config.completed(), seed=1)


def test_addresses_behind_a_tunnel() -> None:
    """A full forwarding table of a VXLAN device learns no more, and says so."""
    host = tunnel()
    ends = ip_address("10.0.0.5"), ip_address("10.0.0.1")
    inner = packet(ip_address("10.245.0.2"), ip_address("10.245.0.1"), UDP, (1, 2))
    outer = bytearray(MACS + b"\x08\0" + vxlan(MACS + b"\x08\0" + inner, *ends))
    outer[40:42] = b"\0\0"  # no checksum: only the address changes
    before = memory()
    for i in range((1 << 16) + 500):
        outer[14 + 36 + 6 : 14 + 36 + 12] = (0x020100000000 + i).to_bytes(6, "big")
        host.receive(bytes(outer), "eth0", i * 1000)
    assert host.refused()["vxlan fdb"] >= 400
    assert memory() - before < 64 << 20


def test_paths_whose_mtu_is_smaller() -> None:
    """Routers that complain of everything: the table has a fixed size, and newer ones drive out older."""
    host = router()
    before = memory()
    for i in range(60_000):
        far = ip_address(0x0B000000 + i)
        quoted = packet(ip_address("10.0.0.1"), far, UDP, (1, 2), dont_fragment=True)
        message = struct.pack("!BBHHH", 3, 4, 0, 0, 1000) + quoted
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 1, 0, 64, ICMP, 0)
        head += ip_address("10.0.0.5").packed + ip_address("10.0.0.1").packed
        host.receive(MACS + b"\x08\0" + checked(head, 10, b"") + checked(message, 2, b""), "eth0", i * 1000)
    assert memory() - before < 24 << 20


def test_what_rules_write_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the walk's log nor the rows that are made of it grow for ever; what is lost is counted."""
    host = router("-A FORWARD -j LOG\n")
    before = memory()
    for i in range(70_000):
        host.receive(frame(i % 1000), "eth0", i * 1000)
    assert host.log_lost == 70_000 - (1 << 16)
    assert len(host.logged()) == 1 << 16
    assert memory() - before < 256 << 20
    monkeypatch.setattr(log, "ROWS", 100)
    for i in range(300):
        host.receive(frame(i % 1000), "eth0", 80_000_000 + i * 1000)
        host._running.log.collect()
    assert len(host.logged()) == 100
    assert host.log_lost == 70_000 - (1 << 16) + 200


def test_a_replay_says_that_the_log_was_full(tmp_path: Path) -> None:
    config = router("-A FORWARD -j LOG\n").config
    path = tmp_path / "many.pcap"
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for i in range(66_000):
            data = frame(i % 1000)
            file.write(struct.pack("<IIII", 0, i, len(data), len(data)) + data)
    result = replay_host(path, config, "eth0")
    assert "router: the log was full: 464 entries of LOG, NFLOG and TRACE are lost" in result.notes


def test_flows_of_a_replay() -> None:
    """Flows above the table's capacity are left out, and counted as such."""
    node = {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": {"podCIDR": "10.244.1.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.1.11"}]},
    }  # fmt: skip
    fabric = Cluster(complete(read_manifests([node]), 1)).fabric()
    replay = Replay(fabric.walk, fabric.ids["outside"], capacity=100)
    replay.place(ip_address("192.168.1.11"), fabric.ids["n"])
    sent = [packet(ip_address("203.0.113.5"), ip_address("192.168.1.11"), UDP, (1024 + i, 53)) for i in range(300)]
    batch = PacketBatch.from_frames(sent, times=range(300), link_type=101)
    batch.decode()
    replay.run(batch)
    assert len(replay) == 100
    assert {reason.name: count for reason, count in replay.left_out.items() if count} == {"LEFT_TABLE_FULL": 200}


def pcapng(block: bytes, count: int) -> bytes:
    section = struct.pack("<IIIHHq", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1) + struct.pack("<I", 28)
    return section + block * count


def test_interfaces_of_a_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file cannot make the reader keep more than it says: it is refused there, with what came before given out."""
    monkeypatch.setattr(pcapng_files, "_MAX_INTERFACES", 1000)
    interface = struct.pack("<IIHHII", 1, 20, 1, 0, 0, 20)
    path = tmp_path / "interfaces.pcapng.gz"
    path.write_bytes(gzip.compress(pcapng(interface, 50_000)))
    before = memory()
    with pytest.raises(CaptureError, match="more than 1000 interfaces"), open_capture(path) as reader:
        list(reader)
    assert memory() - before < 256 << 20


def test_sections_of_a_capture(tmp_path: Path) -> None:
    """Sections without end: each replaces the one before."""
    path = tmp_path / "sections.pcapng.gz"
    path.write_bytes(gzip.compress(pcapng(b"", 1) * 500_000))
    before = memory()
    with open_capture(path) as reader:
        assert sum(len(batch) for batch in reader) == 0
    assert memory() - before < 64 << 20


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path: Path) -> None:
    """300 MB of frames in a file of less than 1 MB are read a window at a time."""
    data = frame(1) + bytes(1400)
    record = struct.pack("<IIII", 1, 0, len(data), len(data)) + data
    path = tmp_path / "bomb.pcap.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for _ in range(200):
            file.write(record * 1000)
    assert path.stat().st_size < 1 << 20
    before = memory()
    with open_capture(path) as reader:
        assert sum(len(batch) for batch in reader) == 200_000
    assert memory() - before < 96 << 20
