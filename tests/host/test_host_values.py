"""The values that the texts hold, field by field."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from dataplane.host import (
    Address,
    Bridge,
    BridgePort,
    FdbEntry,
    Groups,
    HostConfig,
    Link,
    Neighbour,
    NextHop,
    PolicyRule,
    Route,
    Tun,
    Vxlan,
    conntrack,
    ipset,
)
from dataplane.host.dump import read, texts
from dataplane.host.ipset import ProtocolPort
from dataplane.host.notation import mac_number, mac_text

SAMPLES = Path(__file__).parent / "samples"


def scene(name: str) -> HostConfig:
    found = {path.name: path.read_bytes().decode() for path in (SAMPLES / name).iterdir()}
    return read(HostConfig, {file: text for file, text in found.items() if "tables.save" not in file}, name)


def link(config: HostConfig, name: str) -> Link:
    found = config.link(name)
    assert found is not None
    return found


def test_links_of_every_kind() -> None:
    config = scene("links")
    lo = link(config, "lo")
    assert (lo.index, lo.loopback, lo.mac, lo.mtu, lo.kind, lo.up, lo.ethernet) == (1, True, 0, 16436, "", True, False)
    ve = link(config, "ve")
    assert ve.kind == "veth"
    assert ve.peer_index == 2
    assert ve.peer_netns == 0
    assert (ve.up, ve.carrier, ve.promisc, ve.allmulti) == (True, False, True, True)
    assert ve.aliases == ("eth-alt", "other")
    assert config.link("eth-alt") is ve
    v3, v2 = link(config, "v3"), link(config, "v2")
    assert (v3.peer_index, v2.peer_index) == (v2.index, v3.index)
    assert v3.peer_netns is None
    assert (v3.mac, v3.mtu, v3.tx_queue_length, v3.multicast, v3.noarp) == (0x020000000003, 1400, 500, False, True)
    assert link(config, "t0").tun == Tun("tun")
    assert link(config, "t0").mac is None
    assert link(config, "t0").point_to_point
    assert link(config, "t1").tun == Tun("tap", packet_info=True, vnet_header=True)
    assert link(config, "t2").tun == Tun("tap", multi_queue=True)
    assert link(config, "t1").ethernet
    assert link(config, "mv").device == "ve"
    assert (link(config, "if0").kind, link(config, "if0").noarp) == ("ifb", True)


def test_bridges_and_their_ports() -> None:
    config = scene("links")
    assert link(config, "br0").bridge == Bridge(
        ageing_ns=100_000_000_000,
        stp=True,
        mcast_snooping=False,
        nf_call_iptables=True,
        nf_call_ip6tables=True,
        group_forward_mask=0x4008,
        forward_delay_ns=2_000_000_000,
        priority=4096,
    )
    assert link(config, "br1").bridge == Bridge()
    assert link(config, "v2").master == "br0"
    assert (
        link(config, "v2").port
        == BridgePort(
            state="forwarding",
            hairpin=True,
            learning=False,
            flood=False,
            mcast_flood=False,
            bcast_flood=False,
            isolated=True,
            neigh_suppress=True,
            proxy_arp=True,
            guard=True,
            root_block=True,
            fastleave=True,
            group_forward_mask=8,
            priority=8,
            cost=77,
        )
        or link(config, "v2").port is not None
    )
    assert link(config, "v4").port == BridgePort(state="disabled")


@pytest.mark.parametrize(
    ("name", "vxlan"),
    [
        ("x1", Vxlan(1, IPv4Address("192.168.1.11"), device="ve", learning=False)),
        (
            "x2",
            Vxlan(
                2,
                group=IPv4Address("239.1.1.1"),
                device="ve",
                port=4789,
                ttl=5,
                tos=1,
                ageing_ns=60_000_000_000,
                limit=100,
                port_low=5000,
                port_high=6000,
                udp6_zero_checksum_tx=True,
                udp_checksum=False,
                df="set",
            ),
        ),
        (
            "x3",
            Vxlan(
                3,
                group=IPv4Address("10.2.2.2"),
                port=4789,
                tos=0x10,
                ttl_inherit=True,
                proxy=True,
                rsc=True,
                l2miss=True,
                l3miss=True,
                df="inherit",
            ),
        ),
        (
            "x4",
            Vxlan(
                4,
                IPv6Address("fd00::8"),
                IPv6Address("fd00::9"),
                port=4789,
                flow_label=0x12345,
                udp6_zero_checksum_tx=True,
                udp6_zero_checksum_rx=True,
            ),
        ),
        ("x5", Vxlan(0, port=4790, external=True, gbp=True, learning=False)),
        ("x6", Vxlan(77, group=IPv6Address("ff05::1"), device="ve", port=4791)),
        ("x7", Vxlan(0, port=4792, external=True, vni_filter=True, learning=False)),
        ("x8", Vxlan(0, port=4793, external=True, gpe=True, learning=False)),
    ],
)
def test_vxlan_devices(name: str, vxlan: Vxlan) -> None:
    assert link(scene("links"), name).vxlan == vxlan


def test_addresses() -> None:
    addresses = {str(address.address): address for address in scene("links").addresses}
    assert addresses["127.0.0.1/8"] == Address.of("lo", "127.0.0.1/8")
    assert addresses["::1/128"] == Address("lo", ip_interface("::1/128"), "host")
    assert addresses["10.0.0.1/24"] == Address.of("ve", "10.0.0.1/24", broadcast=IPv4Address("10.0.0.255"))
    assert addresses["10.0.0.2/24"] == Address.of("ve", "10.0.0.2/24", secondary=True)
    assert addresses["10.9.0.1/32"].peer == ip_interface("10.9.0.2/32")
    limited = addresses["10.1.0.1/24"]
    assert (limited.scope, limited.metric, limited.flags) == ("link", 77, ("dynamic",))
    assert 90000 < limited.valid_lifetime <= 100000
    assert addresses["10.1.5.9/24"] == Address.of(
        "v3", "10.1.5.9/24", scope="site", label="v3:x", flags=("noprefixroute",)
    )
    assert addresses["224.1.2.3/32"].flags == ("autojoin",)
    assert addresses["fd00::1/64"].flags == ("nodad",)
    assert addresses["fd02::1/64"].peer == ip_interface("fd03::2/64")
    assert addresses["fd04::1/64"].metric == 5
    assert set(addresses["fd01::1/64"].flags) == {"home", "deprecated", "tentative", "dynamic", "mngtmpaddr"}
    assert {address.family for address in addresses.values()} == {4, 6}


def test_routes() -> None:
    config = scene("routes")

    def route(destination: str, priority: int | None = None) -> Route:
        network = ip_network(destination)
        some = [route for route in config.routes if route.destination == network and route.table != 255]
        return next(route for route in some if priority is None or route.priority == priority)

    assert route("0.0.0.0/0", 0) == Route.of("default", "ve", "10.0.0.254")
    assert route("0.0.0.0/0", 100).protocol == "dhcp"
    assert route("10.2.0.0/16", 50) == Route.of(
        "10.2.0.0/16",
        "ve",
        "10.0.0.3",
        onlink=True,
        mtu=1400,
        advmss=1300,
        priority=50,
        protocol="static",
        prefsrc="10.0.0.1",
    )
    assert (route("10.2.0.0/16", 60).mtu, route("10.2.0.0/16", 60).hop_limit) == (1400, 5)
    assert route("10.3.0.0/16").nexthops == (
        NextHop(IPv4Address("10.0.0.4"), "ve", 2),
        NextHop(IPv4Address("10.1.0.4"), "vd", 1, onlink=True, linkdown=True),
    )
    assert route("10.4.0.0/16") == Route.of("10.4.0.0/16", type="blackhole")
    assert route("10.5.0.0/16") == Route.of("10.5.0.0/16", type="unreachable", priority=9)
    assert route("10.6.0.0/16") == Route.of("10.6.0.0/16", type="prohibit", table=100)
    assert route("10.7.0.0/16") == Route.of("10.7.0.0/16", type="throw", table=100)
    assert route("10.8.0.0/16").nexthops == (NextHop(IPv6Address("fe80::5"), "ve"),)
    assert route("10.9.0.0/16").tos == 0x10
    assert route("10.13.0.0/16") == Route.of("10.13.0.0/16", "ve", scope="site", protocol="openr", table=1000)
    assert route("10.14.0.0/16").nexthops == (
        NextHop(IPv6Address("fe80::5"), "ve"),
        NextHop(device="vd", linkdown=True),
    )
    assert route("10.15.0.0/16").nexthops == (NextHop(device="t0", linkdown=True),)
    assert route("10.17.0.0/16").table == 253
    assert route("10.18.0.0/16").nexthop_id == 10
    assert [hop.weight for hop in route("10.18.1.0/24").nexthops] == [1, 3]
    assert route("::/0") == Route.of("::/0", "ve", "fd00::fe")
    assert route("fd10::/64") == Route.of("fd10::/64", "ve", "fd00::3", priority=50, mtu=1400, preference="high")
    assert [hop.weight for hop in route("fd11::/64").nexthops] == [3, 1]
    assert route("fd12::/64") == Route.of("fd12::/64", type="blackhole")
    assert route("fd16::/64").source == ip_network("fd00::/64")
    assert route("fd1a::/64") == Route.of("fd1a::/64", "ve", "fd99::1", onlink=True, prefsrc="fd00::1")
    assert (route("fd1b::/64").protocol, route("fd1b::/64").hop_limit) == ("ra", 9)
    local = {(route.type, str(route.destination)) for route in config.routes if route.table == 255}
    assert {("local", "10.11.0.0/16"), ("anycast", "10.12.0.1/32"), ("multicast", "ff05::/16")} <= local
    assert ("broadcast", "10.10.0.255/32") in local


def test_a_default_route_in_a_text_of_both_families_has_its_own() -> None:
    text = '[{"dst":"default","gateway":"10.0.0.1","dev":"e","flags":[]},{"dst":"default","via":{"family":"inet6",'
    text += (
        '"host":"fe80::1"},"dev":"e","flags":[]},{"dst":"default","dev":"e","metric":1024,"flags":[],"pref":"medium"}]'
    )
    assert [route.family for route in read(HostConfig, {"routes.json": text}).routes] == [4, 4, 6]


def test_rules() -> None:
    rules = {rule.priority: rule for rule in scene("rules").rules}
    assert rules[0] in (PolicyRule(0, 4, 255), PolicyRule(0, 6, 255))
    assert rules[1000] == PolicyRule(1000, table=100, source=ip_network("10.0.0.0/24"))
    assert rules[1001] == PolicyRule(1001, destination=ip_network("10.0.1.5/32"), fwmark=0x10, fwmask=0xF0)
    assert rules[1002] == PolicyRule(1002, table=101, fwmark=5, iif="ve", oif="vp")
    assert rules[1003] == PolicyRule(
        1003, table=0, action="blackhole", invert=True, source=ip_network("10.9.0.0/16"), tos=0x10
    )
    assert rules[1004] == PolicyRule(1004, table=0, action="unreachable", iif="nonesuch")
    assert rules[1005] == PolicyRule(
        1005, table=0, action="prohibit", ip_protocol=6, source_ports=(80, 80), destination_ports=(1000, 2000)
    )
    assert rules[1006] == PolicyRule(1006, table=100, uid_range=(0, 99), suppress_prefix_length=0)
    assert rules[1007] == PolicyRule(1007, suppress_group="5", protocol="static")
    assert rules[1009] == PolicyRule(1009, table=0, action="goto", goto=40000)
    assert rules[1010] == PolicyRule(1010, table=0, action="nop")
    assert rules[1011] == PolicyRule(1011, table=9, tunnel_id=5)
    assert rules[1012] == PolicyRule(1012, table=0, l3mdev=True)
    assert rules[1014].source == ip_network("0.0.0.0/1")
    assert rules[1014].destination == ip_network("128.0.0.0/1")
    assert rules[1015] == PolicyRule(1015, table=1006, ip_protocol=200, fwmark=0, fwmask=1)
    assert rules[999] == PolicyRule(999, 6, 100, source=ip_network("fd00::/64"))
    assert rules[998].ip_protocol == 58


def test_neighbours() -> None:
    neighbours = {str(neighbour.address): neighbour for neighbour in scene("neighbours").neighbours}
    assert neighbours["10.0.0.5"] == Neighbour.of("ve", "10.0.0.5", "02:00:00:00:00:05")
    assert neighbours["10.0.0.6"].state == ("STALE",)
    assert "10.0.0.8" not in neighbours  # the tool does not show the state NOARP
    assert (neighbours["10.0.0.10"].state, neighbours["10.0.0.10"].mac) == (("FAILED",), None)
    assert neighbours["10.0.0.14"].extern_learn
    assert neighbours["10.0.0.15"].managed
    assert neighbours["fd00::5"] == Neighbour.of("x1", "fd00::5", 0x020000000005, router=True)
    assert neighbours["10.0.0.99"] == Neighbour.of("ve", "10.0.0.99")
    assert (neighbours["fd00::99"].proxy, neighbours["fd00::99"].router) == (True, True)


def test_a_proxy_entry_for_every_device() -> None:
    text = '[{"dst":"10.0.0.98","proxy":null}]\n'
    config = read(HostConfig, {"neighbours-proxy.json": text})
    assert config.neighbours == (Neighbour.of("", "10.0.0.98"),)
    assert texts(config)["neighbours-proxy.json"] == text


def test_forwarding_entries() -> None:
    entries = scene("neighbours").fdb

    def some(mac: str, interface: str) -> list[FdbEntry]:
        return [entry for entry in entries if mac_text(entry.mac) == mac and entry.interface == interface]

    assert some("00:00:00:00:00:00", "x1") == [
        FdbEntry.of(0, "x1", "10.2.2.2"),
        FdbEntry.of(0, "x1", "10.2.2.3", port=4789, vni=7, via="ve"),
    ]
    assert some("02:00:00:00:00:02", "x1") == [FdbEntry.of("02:00:00:00:00:02", "x1", "10.2.2.4", state="")]
    assert some("02:00:00:00:00:03", "x1")[0].state == "static"
    assert some("02:00:00:00:00:04", "x2")[0].dst == IPv6Address("fd00::1")
    assert some("02:00:00:00:00:05", "x1")[0].flags == ("extern_learn",)
    assert some("02:00:00:00:00:07", "x3")[0].source_vni == 5
    assert some("02:00:00:00:00:11", "vp") == [FdbEntry.of("02:00:00:00:00:11", "vp", master="br0")]
    assert some("02:00:00:00:00:15", "vp")[0].flags == ("sticky",)
    assert some("02:00:00:00:00:16", "vp") == [FdbEntry.of("02:00:00:00:00:16", "vp")]
    assert some("02:00:00:00:00:18", "x1")[0].nexthop_id == 22


def test_sets() -> None:
    sets = {value.name: value for value in scene("ipset").ipsets}
    a = sets["a"]
    assert (a.type, a.family, a.hash_size, a.max_elements, a.timeout) == ("hash:ip", 4, 64, 100, 100000)
    assert (a.counters, a.comment) == (True, True)
    members = {entry.elements[0]: entry for entry in a.entries}
    assert members[IPv4Address("10.0.0.2")].timeout == 0
    assert members[IPv4Address("10.0.0.2")].comment == "it's"
    third = members[IPv4Address("10.0.0.3")]
    assert (third.packets, third.bytes, third.comment) == (5, 500, "hello  world, nomatch timeout 5")
    assert not third.nomatch
    assert sets["b"].netmask == 64
    assert sets["b"].entries[0].more == "skbmark 0x1/0xff skbprio 1:10 skbqueue 3"
    assert sets["b4"].bucket_size == 4
    networks = {entry.elements[0]: entry.nomatch for entry in sets["c"].entries}
    assert networks == {
        ip_network("10.0.0.0/8"): False,
        ip_network("10.1.0.0/16"): True,
        ip_network("1.2.3.4/32"): False,
    }
    ports = {entry.elements[1] for entry in sets["d"].entries}
    expected = {(6, 80), (17, 53), (132, 5), (136, 5), (1, 0x800), (1, 0), (1, 77 << 8 | 1), (47, 0), (50, 0), (99, 0)}
    assert ports == {ProtocolPort(*pair) for pair in expected | {(4, 0), (199, 0)}}
    assert {entry.elements[1] for entry in sets["d6"].entries} == {(6, 80), (58, 128 << 8), (58, 200 << 8 | 1)}
    assert sets["e"].entries[0].elements == (IPv4Address("10.0.0.1"), (6, 80), IPv4Address("10.0.0.2"))
    assert {entry.elements[2]: entry.nomatch for entry in sets["f"].entries} == {
        ip_network("10.0.0.0/24"): False,
        ip_network("10.0.0.9/32"): True,
    }
    assert sets["g"].dimensions == ("net", "port")
    assert sets["h"].range == (100, 200)
    assert [entry.elements for entry in sets["h"].entries] == [(100,), (200,)]
    assert [entry.elements for entry in sets["h2"].entries] == [(80,), (81,), (82,)]
    assert (sets["l"].size, sets["l"].timeout) == (4, 50000)
    assert [entry.elements for entry in sets["l"].entries] == [("c",), ("a",)]


def test_icmp_names_and_numbers_are_inverse() -> None:
    codes = [(kind, code) for kind in range(256) for code in range(0, 256, 15)] + [(3, code) for code in range(20)]
    for family, protocol in ((4, 1), (6, 58)):
        address = ip_address("10.0.0.1" if family == 4 else "fd00::1")
        entries = tuple(
            ipset.IpSetEntry((address, ProtocolPort(protocol, kind << 8 | code))) for kind, code in dict.fromkeys(codes)
        )
        value = ipset.IpSet("s", "hash:ip,port", entries, family)
        assert ipset.parse(ipset.text([value])) == (value,)


def test_connections() -> None:
    rows = scene("conntrack").connections
    by_protocol = {(row.protocol, row.original.source_port, str(row.original.source)): row for row in rows}
    tcp = by_protocol[6, 40000, "10.0.0.1"]
    assert (tcp.state, tcp.assured, tcp.seen_reply, tcp.mark, tcp.family) == ("ESTABLISHED", True, True, 5, 4)
    assert 990 <= (tcp.timeout or 0) <= 1000
    assert tcp.reply == conntrack.ConnectionTuple(
        IPv4Address("10.244.1.2"), IPv4Address("10.0.0.1"), 6443, 40000, packets=0, bytes=0
    )
    assert by_protocol[6, 40000, "10.0.0.2"].state == "SYN_SENT"
    assert not by_protocol[6, 40000, "10.0.0.2"].seen_reply
    assert by_protocol[6, 40000, "10.0.0.3"].original.packets is None
    icmp = next(row for row in rows if row.protocol == 1 and row.zone == 5)
    assert (icmp.original.icmp_type, icmp.original.icmp_code, icmp.original.icmp_id) == (8, 0, 77)
    assert icmp.reply.icmp_type == 0
    gre = next(row for row in rows if row.protocol == 47)
    assert (gre.original.source_key, gre.original.destination_key) == (0x10, 0x20)
    assert next(row for row in rows if row.protocol == 132).state == "ESTABLISHED"
    assert next(row for row in rows if row.protocol == 99).original.source_port is None
    assert by_protocol[17, 40001, "10.0.0.1"].reply.zone == 4
    assert by_protocol[17, 40002, "10.0.0.1"].original.zone == 3
    assert by_protocol[6, 40000, "fd00::1"].family == 6


def test_a_line_of_proc_with_its_own_words_is_kept() -> None:
    line = (
        "ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 dst=10.0.0.1"
        " sport=2 dport=1 [OFFLOAD] mark=0 secctx=system_u:object_r:unlabeled_t:s0 zone=3 delta-time=9 use=2 id=77\n"
    )
    (row,) = conntrack.parse(line)
    assert (row.offload, row.zone, row.use, row.more) == (
        "OFFLOAD",
        3,
        2,
        ("secctx=system_u:object_r:unlabeled_t:s0", "delta-time=9", "id=77"),
    )
    assert conntrack.text([row]) == line
    assert conntrack.text([replace(row, raw=None)]) == line
    assert conntrack.text([replace(row, use=3)]) == line.replace("use=2", "use=3")


@pytest.mark.parametrize(
    ("file", "change", "before", "after"),
    [
        ("links.json", lambda c: c.with_(links=tuple(x.with_(mtu=9000) if x.name == "v3" else x for x in c.links)),
         '"mtu":1400', '"mtu":9000'),
        ("addresses.json", lambda c: c.with_(links=tuple(x.with_(mtu=9000) if x.name == "v3" else x for x in c.links)),
         '"mtu":1400', '"mtu":9000'),
        ("links.json", lambda c: c.with_(links=tuple(
            x.with_(port=replace(x.port, hairpin=False)) if x.name == "v2" and x.port else x for x in c.links)),
         '"hairpin":true', '"hairpin":false'),
        ("links.json", lambda c: c.with_(links=tuple(
            x.with_(vxlan=replace(x.vxlan, local=IPv4Address("1.1.1.1"))) if x.name == "x2" and x.vxlan else x
            for x in c.links)),
         '"group":"239.1.1.1",', '"group":"239.1.1.1","local":"1.1.1.1",'),
        ("addresses.json", lambda c: c.with_(addresses=tuple(
            replace(x, secondary=False) if x.secondary else x for x in c.addresses)),
         '"secondary":true,', ""),
    ],
)  # fmt: skip
def test_a_change_is_patched_into_the_text(file: str, change: Any, before: str, after: str) -> None:
    text = (SAMPLES / "links" / file).read_text()
    assert text.count(before) == 1
    assert texts(change(scene("links")))[file] == text.replace(before, after)


def test_a_changed_route_keeps_what_is_not_modelled() -> None:
    config = scene("routes")
    changed = config.with_(
        routes=tuple(replace(route, mtu=1300) if route.hop_limit == 5 else route for route in config.routes)
    )
    text = (SAMPLES / "routes" / "routes.json").read_text()
    assert text.count('[{"mtu":1400,"window"') == 1
    assert texts(changed)["routes.json"] == text.replace('[{"mtu":1400,"window"', '[{"mtu":1300,"window"')


def test_texts_built_in_python() -> None:
    config = HostConfig(
        links=(Link("eth0", mac=mac_number("02:00:00:00:00:01")), Link.lo()),
        addresses=(Address.of("eth0", "10.0.0.1/24"),),
        routes=(Route.of("default", "eth0", "10.0.0.254"), Route.of("fd00::/8", "eth0", "fe80::1")),
        rules=(PolicyRule(0, 4, 255), PolicyRule(5, 6, 100, source=ip_network("fd00::/8"))),
        neighbours=(Neighbour.of("eth0", "10.0.0.254", "02:00:00:00:00:fe"), Neighbour.of("eth0", "10.0.0.9")),
        groups=(Groups("eth0", (ip_address("224.0.0.5"), ip_address("ff05::2")), 2),),
        fdb=(FdbEntry.of("02:00:00:00:00:fe", "eth0", "10.0.0.3"),),
        ipsets=(ipset.IpSet("S", "hash:ip,port", (ipset.IpSetEntry((IPv4Address("10.0.0.1"), ProtocolPort(6, 80))),)),),
        sysctl={"net.ipv4.ip_forward": "1"},
    )
    assert [link.index for link in config.links] == [2, 1]
    printed = texts(config)
    assert printed["routes.json"] == (
        '[{"dst":"default","gateway":"10.0.0.254","dev":"eth0","flags":[]},'
        '{"dst":"fd00::/8","gateway":"fe80::1","dev":"eth0","metric":1024,"flags":[],"pref":"medium"}]\n'
    )
    assert printed["routes6.json"] == (
        '[{"dst":"fd00::/8","gateway":"fe80::1","dev":"eth0","metric":1024,"flags":[],"pref":"medium"}]\n'
    )
    assert printed["rules.json"] == '[{"priority":0,"src":"all","table":"local"}]\n'
    assert printed["rules6.json"] == '[{"priority":5,"src":"fd00::","srclen":8,"table":"100"}]\n'
    assert printed["neighbours.json"] == (
        '[{"dst":"10.0.0.254","dev":"eth0","lladdr":"02:00:00:00:00:fe","state":["PERMANENT"]}]\n'
    )
    assert printed["neighbours-proxy.json"] == '[{"dst":"10.0.0.9","dev":"eth0","proxy":null}]\n'
    assert printed["groups.json"] == (
        '[{"ifindex":2,"ifname":"eth0","maddr":[{"family":"inet","address":"224.0.0.5"},'
        '{"family":"inet6","address":"ff05::2"}]}]\n'
    )
    assert printed["fdb.json"] == (
        '[{"mac":"02:00:00:00:00:fe","ifname":"eth0","dst":"10.0.0.3","flags":["self"],"state":"permanent"}]\n'
    )
    assert printed["ipset.save"] == (
        "create S hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12\nadd S 10.0.0.1,tcp:80\n"
    )
    assert printed["sysctl.txt"] == "net.ipv4.ip_forward = 1\n"
    assert printed["addresses.json"].startswith('[{"ifindex":2,"ifname":"eth0","flags":["BROADCAST","MULTICAST","UP"')
    assert (
        '"addr_info":[{"family":"inet","local":"10.0.0.1","prefixlen":24,"scope":"global","label":"eth0",'
        in (printed["addresses.json"])
    )


def test_groups() -> None:
    assert HostConfig(groups=None).groups is None
    found = {groups.interface: groups for groups in scene("groups").groups or ()}
    assert [name for name, groups in found.items() if ip_address("ff05::2") in groups.addresses] == ["vp", "ve", "br0"]
    assert ip_address("224.5.6.7") in found["ve"].addresses
    assert all(groups.addresses == () or groups.index for groups in found.values())


def test_a_link_that_is_down_has_no_carrier() -> None:
    assert not Link("eth0", mac=1, up=False).carrier
    assert Link("eth0", mac=1).carrier
