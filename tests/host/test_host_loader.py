"""A configuration made real: built in Python, created in a network namespace, dumped with the real tools, and read.

Equal apart from what is stated at `comparable`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from dataplane.host import (
    Address,
    Bridge,
    BridgePort,
    FdbEntry,
    HostConfig,
    IpSet,
    IpSetEntry,
    Link,
    Neighbour,
    NextHop,
    PolicyRule,
    Route,
    Vxlan,
)
from dataplane.host.dump import COMMANDS, read
from dataplane.host.implied import kernel_fdb, kernel_routes, link_local
from dataplane.host.ipset import ProtocolPort
from dataplane.host.loader import commands, script

SAMPLES = Path(__file__).parent / "samples"
TOOLS = ("ip", "bridge", "sysctl", "ipset", "conntrack")
NODE, FAR = f"fmt-n{os.getpid()}", f"fmt-f{os.getpid()}"


@pytest.fixture
def namespaces() -> Iterator[None]:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and {', '.join(missing) or 'its tools'}")
    if subprocess.run(["ip", "netns", "add", NODE], capture_output=True, check=False).returncode:
        pytest.skip("no network namespaces here")
    subprocess.run(["ip", "netns", "add", FAR], check=True)
    yield
    for name in (NODE, FAR):
        subprocess.run(["ip", "netns", "delete", name], check=True)


def inside(*argv: str, text: str = "") -> str:
    done = subprocess.run(["ip", "netns", "exec", NODE, *argv], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}\n{text}"
    assert "conntrack" in argv or not done.stderr, f"{' '.join(argv)}: {done.stderr}\n{text}"
    return done.stdout


def dumped() -> HostConfig:
    files = [name for name in COMMANDS if "tables" not in name and not name.startswith("ipvs")]
    return read(HostConfig, {name: inside(*COMMANDS[name]) for name in files})


def real(config: HostConfig) -> HostConfig:
    """The configuration as the tools show it once it is loaded; it settles as carriers come up."""
    for command in commands(config, far=FAR):
        inside(*command.argv, text=command.input)
    expected = comparable(config)
    for _ in range(30):
        found = dumped()
        if comparable(found) == expected:
            break
        time.sleep(0.1)
    return found


def comparable(config: HostConfig) -> HostConfig:
    """What is compared. Not compared, and why:

    - a link's index where it is a tun device, which takes the next one; the index and namespace of a far end
    - the kind of a physical link: a veth stands for it
    - the state of a bridge's port and the flag `tentative`, which move by themselves
    - `linkdown`, and the object of a next hop (nexthop_id), which a dump does not hold
    - the order of routes, neighbours and forwarding entries, which is that of the kernel's tables
    - neighbours without a MAC, and those that the kernel made since (STALE ones of the far end)
    - forwarding entries of the kernel's own, and learnt ones; the seconds left of a set's members, and hash seeds
    """
    links = []
    for link in config.links:
        if link.kind in ("", "veth") and not link.loopback:
            near = link.peer_netns is None and any(other.index == link.peer_index for other in config.links)
            link = replace(link, kind="veth", peer_index=link.peer_index if near else None, peer_netns=None)
        if link.kind == "tun":
            link = replace(link, index=0)
        if link.port is not None:
            link = replace(link, port=replace(link.port, state="forwarding"))
        links.append(link)
    routes = []
    for route in config.routes:
        hops = tuple(replace(hop, linkdown=False, dead=False) for hop in route.nexthops)
        routes.append(replace(route, nexthops=hops, nexthop_id=0))
    return HostConfig(
        links=tuple(sorted(links, key=lambda link: link.name)),
        addresses=tuple(
            replace(address, flags=tuple(flag for flag in address.flags if flag != "tentative"))
            for address in sorted(config.addresses, key=lambda address: address.interface)
        ),
        routes=tuple(sorted(routes, key=str)),
        rules=config.rules,
        neighbours=tuple(
            sorted(
                (
                    entry
                    for entry in config.neighbours
                    if (entry.mac is not None and "STALE" not in entry.state) or entry.proxy
                ),
                key=str,
            )
        ),
        fdb=tuple(
            sorted((entry for entry in config.fdb if not kernel_fdb(entry, config.links) and entry.state), key=str)
        ),
        ipsets=tuple(
            replace(value, initval=None, entries=tuple(sorted(map(without_seconds, value.entries), key=str)))
            for value in config.ipsets
        ),
    )


def without_seconds(entry: IpSetEntry) -> IpSetEntry:
    return replace(entry, timeout=entry.timeout and entry.timeout // 1000)


def node() -> HostConfig:
    """A node as Flannel and kube-proxy leave it, and some more."""
    return HostConfig(
        "node-1",
        links=(
            Link.lo(),
            Link("eth0", mac=0x0200C0A8010B),
            Link(
                "flannel.1",
                "vxlan",
                mac=0x02420AF40100,
                mtu=1450,
                vxlan=Vxlan(1, IPv4Address("192.168.1.11"), device="eth0", learning=False),
            ),
            Link("cni0", "bridge", mtu=1450),
            Link("veth1", "veth", mtu=1450, master="cni0", port=BridgePort(hairpin=True)),
            Link("veth2", "veth", mtu=1450, master="cni0", port=BridgePort(isolated=True, learning=False)),
            Link("va", "veth", index=40, peer_index=41, tx_queue_length=77),
            Link("vb", "veth", index=41, peer_index=40, up=False, promisc=True),
        ),
        addresses=(
            Address.of("eth0", "192.168.1.11/24", broadcast=IPv4Address("192.168.1.255")),
            Address.of("eth0", "192.168.1.12/24", secondary=True, label="eth0:1"),
            Address.of("eth0", "fd00:192::11/64"),
            Address.of("flannel.1", "10.244.1.0/32"),
            Address.of("cni0", "10.244.1.1/24", broadcast=IPv4Address("10.244.1.255")),
            Address.of("cni0", "fd00:10:244:1::1/64"),
            Address.of("vb", "172.16.0.1/24"),
        ),
        routes=(
            Route.of("default", "eth0", "192.168.1.1"),
            Route.of("10.244.2.0/24", "flannel.1", "10.244.2.0", onlink=True),
            Route.of("10.244.3.0/24", "eth0", "192.168.1.13", mtu=1400, protocol="static", priority=5),
            Route.of("10.9.0.0/16", type="blackhole", table=100),
            Route(
                ip_network("10.8.0.0/16"),
                (NextHop(IPv4Address("192.168.1.7"), "eth0", 2), NextHop(IPv4Address("10.244.1.9"), "cni0", 1)),
            ),
            Route.of("10.7.0.0/16", "eth0", "fe80::5", prefsrc="192.168.1.12"),
            Route.of("10.6.6.6/32", "lo", type="local", table=255),
            Route.of("::/0", "eth0", "fd00:192::1"),
            Route.of("fd00:77::/64", type="unreachable"),
        ),
        rules=(
            PolicyRule(0, 4, 255),
            PolicyRule(100, 4, 100, source=ip_network("10.244.0.0/16"), fwmark=0x4000, fwmask=0x4000),
            PolicyRule(32766, 4, 254),
            PolicyRule(0, 6, 255),
            PolicyRule(90, 6, 7, iif="eth0", action="lookup", invert=True),
            PolicyRule(32766, 6, 254),
        ),
        neighbours=(
            Neighbour.of("flannel.1", "10.244.2.0", "02:42:0a:f4:02:00"),
            Neighbour.of("eth0", "fd00:192::1", "02:00:00:00:00:fe", router=True),
            Neighbour.of("eth0", "192.168.1.99"),
        ),
        fdb=(
            FdbEntry.of("02:42:0a:f4:02:00", "flannel.1", "192.168.1.12"),
            FdbEntry.of(0, "flannel.1", "192.168.1.13", port=4789),
            FdbEntry.of("02:00:00:00:00:77", "veth1", master="cni0", state="static"),
        ),
        ipsets=(
            IpSet("KUBE", "hash:ip,port", (IpSetEntry((IPv4Address("10.96.0.10"), ProtocolPort(17, 53))),)),
            IpSet("PORTS", "bitmap:port", (IpSetEntry((80,)),), range=(0, 65535), bucket_size=None),
        ),
        sysctl={
            "net.ipv4.ip_forward": "1",
            "net.ipv6.conf.all.forwarding": "1",
            "net.ipv4.conf.all.rp_filter": "2",
            "net.ipv4.conf.eth0.proxy_arp": "1",
            "net.ipv6.conf.va.disable_ipv6": "1",
            "net.netfilter.nf_conntrack_udp_timeout": "7",
        },
    ).completed()


def test_a_node_is_loaded(namespaces: None) -> None:
    config = node()
    found = real(config)
    assert comparable(found) == comparable(config)
    for name, value in config.sysctl.items():
        assert found.sysctl[name] == value
    assert found.sysctl["net.ipv6.conf.eth0.accept_dad"] == "1"
    assert found.unmodelled == ()
    assert not any("tentative" in address.flags for address in found.addresses)


def test_odd_devices_are_loaded(namespaces: None) -> None:
    config = HostConfig(
        links=(
            Link.lo(up=False),
            Link.tunnel("tun0", carrier=False, mtu=1400),
            Link.tunnel("tap0", 0x020000000077, up=False, tx_queue_length=5),
            Link("br0", "bridge", mac=0x020000000001, bridge=Bridge(ageing_ns=10_000_000_000, mcast_snooping=False)),
            Link("a.5", "veth", index=20, peer_index=21, mac=2 << 40 | 1, master="br0", aliases=("other",)),
            Link("b", "veth", index=21, peer_index=20, mac=2 << 40 | 2, noarp=True, multicast=False, allmulti=True),
            Link(
                "x2",
                "vxlan",
                mac=2 << 40 | 3,
                mtu=1400,
                vxlan=Vxlan(
                    2,
                    group=ip_address("239.1.1.1"),
                    device="b",
                    port=4789,
                    ttl=5,
                    tos=1,
                    ageing_ns=60_000_000_000,
                    limit=100,
                    port_low=5000,
                    port_high=6000,
                    udp_checksum=False,
                    udp6_zero_checksum_tx=True,
                    df="set",
                ),
            ),
            Link(
                "x4", "vxlan", mac=2 << 40 | 4, up=False, vxlan=Vxlan(4, IPv6Address("fd00::8"), IPv6Address("fd00::9"))
            ),
            Link("x5", "vxlan", mac=2 << 40 | 5, vxlan=Vxlan(0, port=4790, external=True, gbp=True, learning=False)),
        ),
        addresses=(
            Address("b", ip_interface("10.9.0.1/32"), peer=ip_interface("10.9.0.2/32")),
            Address("b", ip_interface("fd02::1/64"), peer=ip_interface("fd03::2/64"), flags=("nodad",)),
            Address.of("b", "10.5.0.1/24", flags=("noprefixroute",), metric=7),
            Address.of("b", "fe80::77/64"),
        ),
        fdb=(FdbEntry.of(0, "x2", "239.1.1.1", via="b"),),
    ).completed()
    found = real(config)
    assert comparable(found) == comparable(config)


@pytest.mark.parametrize("scene", ["empty", "node", "routes", "rules", "ipset"])
def test_samples_are_loaded(namespaces: None, scene: str) -> None:
    texts = {path.name: path.read_text() for path in (SAMPLES / scene).iterdir() if "tables.save" not in path.name}
    config = read(HostConfig, texts)
    if scene == "rules":
        # Names of interfaces apart, these refer to nothing; but not every kernel takes what is not modelled.
        rules = tuple(replace(rule, raw=None) for rule in config.rules)
        config = config.with_(rules=rules, links=(Link.lo(up=False),))
    if scene == "routes":
        # IPv6 metric 0 is the kernel's alone; what has an encapsulation is not modelled.
        config = config.with_(
            sysctl={"net.ipv6.conf.vp.forwarding": "1"},
            routes=tuple(route for route in config.routes if route.raw is None or "encap" not in route.raw),
            rules=HostConfig().completed().rules,
        )
    if scene == "ipset":
        config = config.with_(links=(Link.lo(up=False),), rules=HostConfig().completed().rules)
    found = real(config)
    assert comparable(found) == comparable(config)
    settings = {name: value for name, value in config.sysctl.items() if name.startswith("net.ipv")}
    assert {name: found.sysctl[name] for name in settings} == settings


def test_rules_of_both_families_are_loaded(namespaces: None) -> None:
    if shutil.which("iptables-restore") is None:
        pytest.skip("needs iptables")
    texts = {path.name: path.read_text() for path in (SAMPLES / "node").iterdir()}
    config = read(HostConfig, texts)
    assert config.ip6tables is not None
    for command in commands(config, far=FAR):
        inside(*command.argv, text=command.input)
    for file in ("iptables.save", "ip6tables.save"):
        # The comments hold the time.
        loaded = [line for line in inside(*COMMANDS[file][:1]).splitlines() if not line.startswith("#")]
        expected = [line for line in texts[file].splitlines() if not line.startswith("#")]
        assert [line.partition(" [")[0] for line in loaded] == [
            line.partition("] ")[2] if line.startswith("[") else line.partition(" [")[0] for line in expected
        ]


def test_the_script_says_the_same() -> None:
    config = node()
    text = script(config, far="far side")
    assert text.startswith("#!/bin/sh\n")
    assert "ip netns add 'far side'" in text
    for command in commands(config, far="far side"):
        assert str(command) in text
        assert command.input in text


def test_a_script_is_loaded(namespaces: None, tmp_path: Path) -> None:
    config = HostConfig(
        links=(Link.lo(), Link("eth0", mac=0x020000000001)), addresses=(Address.of("eth0", "10.0.0.1/24"),)
    ).completed()
    (tmp_path / "load").write_text(script(config, far=FAR))
    inside("sh", str(tmp_path / "load"))
    assert {str(address.address) for address in dumped().addresses} == {
        "127.0.0.1/8",
        "::1/128",
        "10.0.0.1/24",
        "fe80::ff:fe00:1/64",
    }


def test_what_the_kernel_adds_is_not_asked_for() -> None:
    lines = "".join(command.input for command in commands(node(), far="far"))
    assert "192.168.1.0/24" not in lines
    assert "ff00::" not in lines
    assert "route append unicast 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink proto boot" in lines
    assert "rule del from all priority 32767 lookup default" in lines


def test_what_the_kernel_adds_and_is_not_there_is_deleted() -> None:
    config = node()
    connected = ip_network("10.244.1.0/24")
    without = config.with_(routes=tuple(route for route in config.routes if route.destination != connected))
    lines = "".join(command.input for command in commands(without, far="far"))
    assert "route del unicast 10.244.1.0/24 dev cni0 proto kernel scope link src 10.244.1.1" in lines


def test_a_link_local_address_is_made_of_the_mac() -> None:
    # RFC 4291, appendix A: the example of section "Links or nodes with IEEE 802 48-bit MACs"
    assert link_local(0x34567890ABCD) == ip_interface("fe80::3656:78ff:fe90:abcd/64")


def test_completing_is_done_once() -> None:
    config = node()
    assert config.completed() == config
    assert set(kernel_routes(config.links, config.addresses, config.settings)) <= set(config.routes)


def test_completed_bridges_take_the_lowest_mac_of_their_ports() -> None:
    links = (
        Link.lo(),
        Link("br0", "bridge"),
        Link("p1", "veth", mac=0x020000000009, master="br0"),
        Link("p2", "veth", mac=0x020000000005, master="br0"),
        Link("br1", "bridge"),
        Link("eth0"),
    )
    done = HostConfig("h", links).completed()
    macs = {link.name: link.mac for link in done.links}
    assert macs["br0"] == 0x020000000005
    eth0, br1 = macs["eth0"], macs["br1"]
    assert eth0 is not None
    assert eth0 >> 40 & 3 == 2  # locally administered, one station's
    assert br1 != eth0
    assert done.completed() == HostConfig("h", links).completed()
    assert HostConfig("other", links).completed().link("eth0") != done.link("eth0")
    port, bridge, empty = done.link("p1"), done.link("br0"), done.link("br1")
    assert port is not None
    assert port.port == BridgePort()
    assert bridge is not None
    assert (bridge.bridge, bridge.carrier) == (Bridge(), True)
    assert empty is not None
    assert not empty.carrier
