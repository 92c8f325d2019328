"""Values that were built in Python come back from their text, whatever they are."""

from __future__ import annotations

import string
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dataplane.host import (
    Address,
    Bridge,
    BridgePort,
    ConnectionRow,
    ConnectionTuple,
    FdbEntry,
    HostConfig,
    IpSet,
    IpSetEntry,
    Link,
    Neighbour,
    NextHop,
    PolicyRule,
    Route,
    Tun,
    Vxlan,
    conntrack,
    fdb,
    ipset,
    links,
    neighbours,
    policy,
    routes,
    sysctl,
)
from dataplane.host.dump import read, texts
from dataplane.host.ipset import ProtocolPort
from dataplane.host.objects import patch, read_objects, write_objects

NAMES = st.text(string.ascii_lowercase + string.digits + ".-_@", min_size=1, max_size=15)
MACS = st.integers(0, (1 << 48) - 1)
WORDS = st.integers(0, (1 << 32) - 1)
PORTS = st.integers(0, 0xFFFF)
V4 = st.integers(0, (1 << 32) - 1).map(IPv4Address)
V6 = st.integers(0, (1 << 128) - 1).map(IPv6Address)


def network(family: int) -> st.SearchStrategy[Any]:
    addresses, bits = (V4, 32) if family == 4 else (V6, 128)
    return st.builds(
        lambda address, length: ip_network(f"{address}/{length}", strict=False), addresses, st.integers(0, bits)
    )


def interface(family: int) -> st.SearchStrategy[Any]:
    addresses, bits = (V4, 32) if family == 4 else (V6, 128)
    return st.builds(lambda address, length: ip_interface(f"{address}/{length}"), addresses, st.integers(0, bits))


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


SECONDS = st.integers(1, 100000).map(lambda number: number * 1_000_000_000)
CENTISECONDS = st.integers(0, 100000).map(lambda number: number * 10_000_000)
VXLANS = st.builds(
    Vxlan,
    vni=st.integers(0, 0xFFFFFF),
    local=maybe(V4 | V6),
    group=maybe(V4 | V6),
    device=maybe(NAMES),
    port=PORTS,
    learning=st.booleans(),
    port_low=PORTS,
    port_high=PORTS,
    ttl=st.integers(0, 255),
    tos=st.integers(0, 255),
    df=st.sampled_from(["unset", "set", "inherit"]),
    flow_label=st.integers(0, 0xFFFFF),
    ageing_ns=SECONDS,
    limit=WORDS,
    udp_checksum=st.booleans(),
    udp6_zero_checksum_tx=st.booleans(),
    udp6_zero_checksum_rx=st.booleans(),
    proxy=st.booleans(),
    gbp=st.booleans(),
    external=st.booleans(),
    local_bypass=st.booleans(),
) | st.builds(Vxlan, vni=st.integers(0, 0xFFFFFF), ttl_inherit=st.just(True))
BRIDGES = st.builds(
    Bridge,
    ageing_ns=CENTISECONDS,
    stp=st.booleans(),
    vlan_filtering=st.booleans(),
    mcast_snooping=st.booleans(),
    nf_call_iptables=st.booleans(),
    nf_call_ip6tables=st.booleans(),
    nf_call_arptables=st.booleans(),
    group_forward_mask=PORTS,
    forward_delay_ns=CENTISECONDS,
    priority=PORTS,
)
BRIDGE_PORTS = st.builds(
    BridgePort,
    state=st.sampled_from(["disabled", "listening", "learning", "forwarding", "blocking"]),
    hairpin=st.booleans(),
    learning=st.booleans(),
    flood=st.booleans(),
    isolated=st.booleans(),
    locked=st.booleans(),
    group_forward_mask=PORTS,
    priority=st.integers(0, 63),
    cost=PORTS,
)
TUNS = st.builds(Tun, st.sampled_from(["tun", "tap"]), st.booleans(), st.booleans(), st.booleans(), st.booleans())
FLAGS = {
    name: st.booleans()
    for name in ("up", "carrier", "noarp", "promisc", "allmulti", "broadcast", "multicast", "point_to_point")
}


@st.composite
def link_lists(draw: st.DrawFn) -> tuple[Link, ...]:
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    indexes = draw(st.lists(st.integers(1, 99), min_size=len(names), max_size=len(names), unique=True))
    some = []
    for name, index in zip(names, indexes, strict=True):
        kind = draw(st.sampled_from(["", "veth", "bridge", "vxlan", "dummy", "tun", "macvlan"]))
        parts: dict[str, Any] = {}
        if kind == "vxlan":
            parts["vxlan"] = draw(VXLANS)
        if kind == "bridge":
            parts["bridge"] = draw(BRIDGES)
        if kind == "tun":
            parts["tun"] = draw(TUNS)
        if kind == "veth":
            parts["peer_index"] = draw(st.integers(1, 99))
            parts["peer_netns"] = draw(maybe(st.integers(0, 9)))
        if draw(st.booleans()):
            parts["master"], parts["port"] = draw(NAMES), draw(BRIDGE_PORTS)
        flags = {flag: draw(strategy) for flag, strategy in FLAGS.items()}
        some.append(
            Link(
                name, kind, index, draw(MACS), draw(WORDS), tx_queue_length=draw(st.integers(0, 9999)), **flags, **parts
            )
        )
    return tuple(some)


@given(link_lists())
def test_links(some: tuple[Link, ...]) -> None:
    text = links.text(some)
    again = links.parse(text)
    assert again == some
    assert links.text(again) == text


ADDRESS_FLAGS = st.lists(st.sampled_from(["nodad", "home", "deprecated", "tentative", "noprefixroute"]), unique=True)


@st.composite
def addresses_of(draw: st.DrawFn, name: str) -> Address:
    family = draw(st.sampled_from([4, 6]))
    address = draw(interface(family))
    order = ["nodad", "home", "deprecated", "tentative", "noprefixroute"]
    peer = maybe(
        network(family).map(lambda other: ip_interface(f"{other.network_address}/{address.network.prefixlen}"))
    )
    return Address(
        name,
        address,
        scope=draw(st.sampled_from(["global", "site", "link", "host", "nowhere", "210"])),
        label=draw(maybe(NAMES.filter(lambda label: label != name))) if family == 4 else None,
        secondary=draw(st.booleans()),
        peer=draw(peer),
        broadcast=draw(maybe(V4)) if family == 4 else None,
        flags=tuple(sorted(draw(ADDRESS_FLAGS), key=order.index)),
        valid_lifetime=draw(WORDS),
        preferred_lifetime=draw(WORDS),
        metric=draw(WORDS),
    )


@st.composite
def routes_of(draw: st.DrawFn) -> Route:
    family = draw(st.sampled_from([4, 6]))
    addresses = V4 if family == 4 else V6
    gateways = maybe(V4 | V6) if family == 4 else maybe(V6)
    hops = st.builds(
        NextHop, gateways, NAMES, onlink=st.booleans(), linkdown=st.booleans(), dead=st.booleans()
    )  # one way out has no weight
    several = st.lists(
        st.builds(NextHop, gateways, NAMES, st.integers(1, 256), st.booleans(), st.booleans()), min_size=2, max_size=4
    )
    return Route(
        draw(network(family)),
        tuple(draw(st.just([]) | hops.map(lambda hop: [hop]) | several)),
        table=draw(st.integers(1, 0xFFFFFFFF)),
        type=draw(st.sampled_from(sorted(routes.TYPES))),
        priority=draw(WORDS),
        tos=draw(st.integers(0, 255)),
        scope=draw(st.sampled_from(["global", "site", "link", "host", "nowhere", "17"])) if family == 4 else "global",
        prefsrc=draw(maybe(addresses)),
        source=draw(maybe(network(6))) if family == 6 else None,
        protocol=draw(st.sampled_from(["boot", "kernel", "static", "bird", "123"])),
        mtu=draw(WORDS),
        advmss=draw(WORDS),
        hop_limit=draw(st.integers(0, 255)),
        preference=draw(st.sampled_from(["low", "medium", "high"])) if family == 6 else "medium",
        nexthop_id=draw(WORDS),
        flags=draw(st.just(()) | st.just(("offload",))),
    )


@given(st.lists(routes_of(), max_size=5))
def test_routes(some: list[Route]) -> None:
    expected = tuple(replace(route, flags=()) if len(route.nexthops) > 1 else route for route in some)
    text = routes.text(expected)
    again = routes.parse(text)
    assert again == expected
    assert routes.text(again) == text


SPANS = maybe(st.tuples(PORTS, PORTS).map(sorted).map(tuple))


@st.composite
def rules_of(draw: st.DrawFn, family: int) -> PolicyRule:
    action = draw(st.sampled_from(["lookup", "goto", "nop", "blackhole", "unreachable", "prohibit"]))
    l3mdev = action == "lookup" and draw(st.booleans())
    mark = draw(maybe(WORDS))
    return PolicyRule(
        draw(WORDS),
        family,
        table=draw(st.integers(1, 0xFFFFFFFF)) if action == "lookup" and not l3mdev else 0,
        action=action,
        source=draw(maybe(network(family))),
        destination=draw(maybe(network(family))),
        fwmark=mark,
        fwmask=draw(WORDS) if mark is not None else 0xFFFFFFFF,
        iif=draw(maybe(NAMES)),
        oif=draw(maybe(NAMES)),
        invert=draw(st.booleans()),
        tos=draw(st.integers(0, 255)),
        goto=draw(st.integers(1, 99999)) if action == "goto" else 0,
        ip_protocol=draw(st.integers(0, 255)),
        source_ports=draw(SPANS),
        destination_ports=draw(SPANS),
        uid_range=draw(SPANS),
        suppress_prefix_length=draw(maybe(st.integers(0, 128))),
        suppress_group=draw(maybe(NAMES)),
        l3mdev=l3mdev,
        tunnel_id=draw(WORDS),
        protocol=draw(st.sampled_from(["kernel", "static", "17"])),
    )


@given(st.sampled_from([4, 6]).flatmap(lambda family: st.lists(rules_of(family), max_size=4)))
def test_rules(some: list[PolicyRule]) -> None:
    text = policy.text(some)
    again = policy.parse(text, some[0].family if some else 4)
    assert again == tuple(some)
    assert policy.text(again) == text


NEIGHBOURS = st.builds(
    Neighbour,
    NAMES,
    V4 | V6,
    maybe(MACS),
    st.lists(st.sampled_from(sorted(neighbours.STATES)), max_size=2).map(tuple),
    router=st.booleans(),
    managed=st.booleans(),
    extern_learn=st.booleans(),
)


@given(st.lists(NEIGHBOURS, max_size=4))
def test_neighbours(some: list[Neighbour]) -> None:
    text = neighbours.text(some)
    again = neighbours.parse(text)
    assert again == tuple(some)
    assert neighbours.text(again) == text


FDB_ENTRIES = st.builds(
    FdbEntry,
    MACS,
    NAMES,
    maybe(NAMES),
    maybe(V4 | V6),
    maybe(st.integers(0, 0xFFFFFF)),
    maybe(st.integers(0, 0xFFFFFF)),
    maybe(PORTS),
    maybe(NAMES),
    maybe(st.integers(1, 4094)),
    maybe(WORDS),
    st.booleans(),
    st.just(()) | st.just(("router", "extern_learn")) | st.just(("sticky",)),
    st.sampled_from(["permanent", "static", "stale", ""]),
)


@given(st.lists(FDB_ENTRIES, max_size=4))
def test_forwarding_entries(some: list[FdbEntry]) -> None:
    text = fdb.text(some)
    again = fdb.parse(text)
    assert again == tuple(some)
    assert fdb.text(again) == text


def protocol_ports(family: int) -> st.SearchStrategy[ProtocolPort]:
    icmp = st.builds(ProtocolPort, st.just(1 if family == 4 else 58), PORTS)
    return icmp | st.builds(ProtocolPort, st.integers(0, 255).filter(lambda number: number not in (1, 58)), PORTS)


COMMENTS = st.text("ab é\t'#,:/\u2028", max_size=12)


@st.composite
def sets_of(draw: st.DrawFn) -> IpSet:
    kind = draw(st.sampled_from(sorted((ipset.KNOWN_TYPES - {"list:set"}) - {"hash:net,iface"})))
    family = draw(st.sampled_from([4, 6])) if kind.startswith("hash:") and "mac" not in kind else 4
    element = {
        "ip": V4 if family == 4 else V6,
        "net": network(family),
        "port": PORTS if kind == "bitmap:port" else protocol_ports(family),
        "mac": MACS,
        "mark": WORDS,
    }
    value = IpSet(draw(NAMES), kind, family=family)
    with_timeout, with_counters, with_comment = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    entries = st.builds(
        IpSetEntry,
        st.tuples(*(element[dimension] for dimension in value.dimensions)),
        timeout=WORDS if with_timeout else st.none(),
        packets=WORDS if with_counters else st.none(),
        bytes=WORDS if with_counters else st.none(),
        comment=COMMENTS if with_comment else st.none(),
        nomatch=st.booleans(),
    )
    more: dict[str, Any] = {}
    if value.method == "hash":
        more["hash_size"], more["max_elements"] = draw(WORDS), draw(WORDS)
        more["bucket_size"], more["initval"] = draw(maybe(st.integers(2, 14))), draw(maybe(WORDS))
        more["netmask"] = draw(maybe(st.integers(1, 32)))
    else:
        first = draw(PORTS if kind == "bitmap:port" else V4)
        more["range"], more["bucket_size"] = (first, first), None
    return replace(
        value,
        entries=tuple(draw(st.lists(entries, max_size=4))),
        timeout=draw(WORDS) if with_timeout else None,
        counters=with_counters,
        comment=with_comment,
        **more,
    )


@given(st.lists(sets_of(), max_size=3, unique_by=lambda value: value.name))
def test_sets(some: list[IpSet]) -> None:
    if some:
        members = tuple(IpSetEntry((value.name,), timeout=3) for value in some)
        name = max((value.name for value in some), key=len) + "l"
        some = [*some, IpSet(name, "list:set", members, size=9, timeout=5, bucket_size=None)]
    text = ipset.text(some)
    again = ipset.parse(text)
    assert again == tuple(some)
    assert ipset.text(again) == text


@st.composite
def connection_tuples(draw: st.DrawFn, family: int, protocol: int, accounting: bool) -> ConnectionTuple:
    addresses = V4 if family == 4 else V6
    value = ConnectionTuple(draw(addresses), draw(addresses), zone=draw(maybe(PORTS)))
    if protocol in (1, 58):
        value = replace(value, icmp_type=draw(PORTS), icmp_code=draw(PORTS), icmp_id=draw(PORTS))
    elif protocol == 47:
        value = replace(value, source_key=draw(PORTS), destination_key=draw(PORTS))
    elif protocol in (6, 17, 33, 132, 136):
        value = replace(value, source_port=draw(PORTS), destination_port=draw(PORTS))
    return replace(value, packets=draw(WORDS), bytes=draw(WORDS)) if accounting else value


@st.composite
def connections(draw: st.DrawFn) -> ConnectionRow:
    protocol, accounting = draw(st.sampled_from([1, 6, 17, 33, 47, 58, 99, 132, 136])), draw(st.booleans())
    family = draw(st.sampled_from([4, 6]))
    offload = draw(st.sampled_from(["", "", "OFFLOAD", "HW_OFFLOAD"]))
    return ConnectionRow(
        protocol,
        draw(connection_tuples(family, protocol, accounting)),
        draw(connection_tuples(family, protocol, accounting)),
        timeout=draw(maybe(WORDS)),
        state=draw(st.sampled_from(["ESTABLISHED", "SYN_SENT2"])) if protocol in (6, 33, 132) else None,
        seen_reply=draw(st.booleans()),
        assured=not offload and draw(st.booleans()),
        offload=offload,
        mark=draw(maybe(WORDS)),
        zone=draw(maybe(PORTS)),
        use=draw(st.integers(1, 99)),
        more=draw(st.just(()) | st.just(("secctx=a:b", "delta-time=5", "id=7"))),
    )


@given(st.lists(connections(), max_size=4))
def test_connections(some: list[ConnectionRow]) -> None:
    text = conntrack.text(some)
    again = conntrack.parse(text)
    assert again == tuple(some)
    assert conntrack.text(again) == text


@given(st.dictionaries(st.text(string.ascii_lowercase + "./-", min_size=1), st.text(string.printable, max_size=20)))
def test_settings(values: dict[str, str]) -> None:
    assume(not any("\n" in value for value in values.values()))
    again = sysctl.parse(sysctl.text(values))
    assert dict(again) == values
    assert list(again) == list(values)


@given(st.data())
@settings(max_examples=50)
def test_whole_configurations(data: st.DataObject) -> None:
    """Links, addresses and the rest through the files of a dump, in the order of a real dump: by interface."""
    some = tuple(replace(link, master=None, port=None, vxlan=link.vxlan and replace(link.vxlan, device=None))
                 for link in data.draw(link_lists()))  # fmt: skip
    names = [link.name for link in some]
    addresses = [address for name in names for address in data.draw(st.lists(addresses_of(name), max_size=3))]
    config = HostConfig("host", some, tuple(addresses), sysctl={"net.ipv4.ip_forward": "1"})
    printed = texts(config)
    again = read(HostConfig, printed, "host")
    assert again == config
    assert again.warnings == ()
    assert texts(again) == printed


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 64) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.text(max_size=5), JSON, min_size=1, max_size=5), max_size=3))
def test_objects(objects: list[dict[str, Any]]) -> None:
    assert read_objects(write_objects(objects), "file") == objects


def test_an_object_with_a_key_twice_and_a_number_with_its_digits() -> None:
    text = '[{"dst":"a","id":100,"dst":"b","timer":0.00}]\n'
    (entry,) = read_objects(text, "file")
    assert entry["dst"] == "a"
    assert write_objects([entry]) == text


PAIRS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3), max_size=6)


@given(PAIRS, PAIRS, PAIRS)
def test_a_patch_makes_the_change_and_keeps_the_rest(
    raw: dict[str, int], before: dict[str, int], after: dict[str, int]
) -> None:
    raw = {**raw, **before}  # what was read holds what is printed of it
    result = patch(raw, before, after)
    for key in {*raw, *before, *after}:
        if before.get(key) != after.get(key):
            assert result.get(key) == after.get(key)
        else:
            assert result.get(key) == raw.get(key)
