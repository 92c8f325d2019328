"""No traffic makes a host's memory grow without bound: each table that packets fill has a limit, and says when it is hit.

Connections, fragments, hashlimit, sets and flows have theirs in the tests of their own folders.
"""

import resource
import struct
from ipaddress import ip_address

import numpy as np
import pytest

from dataplane import Host, HostConfig
from dataplane._fast.reason import Reason
from dataplane.host.config import Address, Bridge, BridgePort, Link, Neighbour
from dataplane.host.iptables import Ruleset

ROUTER, CLIENT = 0x020000000001, 0x020000000099
FULL = 1 << 16  # entries of a forwarding table


def mac(value: int) -> bytes:
    return value.to_bytes(6, "big")


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip4(source: str, target: str, ttl: int = 64, protocol: int = 17, payload: bytes = b"\0" * 8) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, ttl, protocol, 0,
        ip_address(source).packed, ip_address(target).packed,
    )  # fmt: skip
    return mac(ROUTER) + mac(CLIENT) + b"\x08\0" + head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def router(rules: str = "", **sysctl: str) -> Host:
    return Host(
        HostConfig(
            "router",
            links=(Link.lo(), Link("eth0", mac=ROUTER), Link("eth1", mac=ROUTER + 1)),
            addresses=(Address.of("eth0", "10.0.0.1/8"), Address.of("eth1", "172.16.0.1/12")),
            neighbours=(Neighbour.of("eth0", "10.0.0.5", CLIENT),),
            iptables=Ruleset.parse(rules, 4) if rules else None,
            sysctl={"net.ipv4.ip_forward": "1", **sysctl},
        )
    )


def memory() -> int:
    """Bytes that the process has in use now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_neighbours() -> None:
    """gc_thresh3: one more neighbour is not made, and its packet is dropped with the kernel's reason."""
    host = router(**{"net.ipv4.neigh.default.gc_thresh3": "100"})
    for i in range(150):
        host.receive(ip4("10.0.0.5", f"172.16.{i >> 8}.{i & 255 or 7}"), "eth0", i * 1000)
    drops = host.drops()
    assert drops[Reason.NEIGH_CREATEFAIL] >= 40
    assert drops.get(Reason.NEIGH_QUEUEFULL, 0) == 0


def test_packets_that_wait_for_a_neighbour() -> None:
    """unres_qlen_bytes, 212,992 by default: the oldest packet goes when one more comes."""
    host = router()
    for i in range(400):
        host.receive(ip4("10.0.0.5", "172.16.0.9", payload=b"\0" * 1000), "eth0", i * 1000)
    assert host.drops()[Reason.NEIGH_QUEUEFULL] >= 250


def test_the_bytes_that_wait_are_the_dumps() -> None:
    host = router(**{"net.ipv4.neigh.eth1.unres_qlen_bytes": "4900", "net.ipv4.neigh.eth0.unres_qlen_bytes": "4900"})
    for i in range(10):
        host.receive(ip4("10.0.0.5", "172.16.0.9", payload=b"\0" * 1000), "eth0", i * 1000)
    assert host.drops()[Reason.NEIGH_QUEUEFULL] == 8, "two packets of 1,020 bytes and what the kernel adds"


def bridge_host() -> Host:
    ports = tuple(Link(f"veth{i}", "veth", mac=0x0200000000B0 + i, master="br0", port=BridgePort()) for i in (1, 2))
    return Host(
        HostConfig("switch", links=(Link.lo(), Link("br0", "bridge", mac=0x0200000000B0, bridge=Bridge()), *ports))
    )


def test_addresses_behind_a_bridge() -> None:
    """A full forwarding table learns no more, says so, and frames to those addresses are flooded."""
    host = bridge_host()
    flood = mac(0xFFFFFFFFFFFF)
    for i in range(FULL + 500):
        host.receive(flood + mac(0x020100000000 + i) + b"\x88\xb5" + b"\0" * 46, "veth1", i)
    assert host.refused()["bridge fdb"] >= 400
    known, unknown = 0x020100000000 + 5, 0x020100000000 + FULL + 400
    for target, flooded in ((known, False), (unknown, True)):
        out = host.receive(mac(target) + mac(known) + b"\x88\xb5" + b"\0" * 46, "veth1", FULL + 1000)
        assert bool(out) == flooded


def test_messages_to_peers() -> None:
    """Who hears ICMP errors is remembered in a table of fixed size: the one spoken to longest ago is forgotten."""
    host = router(**{"net.ipv4.icmp_msgs_per_sec": "1000000", "net.ipv4.icmp_msgs_burst": "1000000"})
    for i in range(2000):
        host.receive(ip4(f"10.1.{i >> 8}.{i & 255}", "172.16.0.9", ttl=1), "eth0", i * 1_000_000)
    before = memory()
    for i in range(60_000):
        host.receive(
            ip4(f"10.{2 + (i >> 16)}.{i >> 8 & 255}.{i & 255}", "172.16.0.9", ttl=1), "eth0", (3000 + i) * 1_000_000
        )
    assert memory() - before < 64 << 20
    assert host.drops()[Reason.TTL_EXCEEDED] == 62_000


RECENT = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m recent --set --name seen --rsource
-A FORWARD -m recent --rcheck --name seen --rsource -j DROP
COMMIT
"""


def test_addresses_of_recent() -> None:
    """ip_list_tot: the address that was seen longest ago is driven out."""
    host = router(RECENT)
    before = memory()
    for i in range(50_000):
        host.receive(ip4(f"10.{1 + (i >> 16)}.{i >> 8 & 255}.{i & 255}", "172.16.0.9"), "eth0", i * 1000)
    assert memory() - before < 16 << 20
    assert host.drops()[Reason.NETFILTER_DROP] == 50_000


@pytest.mark.parametrize("count", [200_000])
def test_nothing_grows_with_time(count: int) -> None:
    """The same conversation again and again leaves a host as large as it was."""
    host = router(RECENT)
    frame = ip4("10.0.0.5", "172.16.0.9")
    for i in range(2000):
        host.receive(frame, "eth0", i * 1000)
    before = memory()
    for i in range(count):
        host.receive(frame, "eth0", (2000 + i) * 1000)
    assert memory() - before < 8 << 20
    assert int(np.sum(list(host.drops().values()))) == count + 2000
