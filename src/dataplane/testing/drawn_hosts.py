"""A hypothesis strategy for routers: links, addresses, routes, policy and rules."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

from hypothesis import strategies as st

from dataplane.host.config import (
    Address,
    Bridge,
    BridgePort,
    HostConfig,
    IpSet,
    Link,
    Neighbour,
    PolicyRule,
    Route,
)
from dataplane.host.ipset import parse as parse_sets
from dataplane.host.iptables import Ruleset

PORTS = st.integers(1, 65535)
SETS = """create clients hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x5
create ports bitmap:port range 0-65535
add clients 10.0.0.0/24
add clients 10.1.0.0/25
add ports 53
add ports 8080
"""
OTHER_TABLE, MARK = 100, 7
REJECTS = {
    4: ("icmp-port-unreachable", "icmp-host-unreachable", "icmp-admin-prohibited"),
    6: ("icmp6-port-unreachable", "icmp6-adm-prohibited", "icmp6-no-route"),
}


@st.composite
def hosts(draw: st.DrawFn, *, max_links: int = 4) -> HostConfig:
    """A router: links eth0, eth1, ... with a subnet and a known neighbour each (10.N.0.2, fd00:N::2), and a default route
    by the last. It may have a bridge (br0: ports port0 and port1, 10.99.0.1/24), a second routing table for marked
    packets, ipsets, and rules that filter, count, mark, masquerade or translate."""
    count = draw(st.integers(2, max_links))
    links, addresses, neighbours = [Link.lo()], [], []
    for number in range(count):
        name = f"eth{number}"
        mtu = draw(st.sampled_from([1500, 1280, 9000]))
        links.append(Link(name, index=number + 2, mac=0x020000000000 + number + 1, mtu=mtu))
        for interface, peer in (
            (f"10.{number}.0.1/24", f"10.{number}.0.2"),
            (f"fd00:{number}::1/64", f"fd00:{number}::2"),
        ):
            addresses.append(Address(name, ip_interface(interface)))
            neighbours.append(Neighbour(name, ip_address(peer), 0x020000010000 + number))
    if draw(st.booleans()):
        mac = 0x0200000000B0
        links.append(Link("br0", "bridge", index=20, mac=mac, bridge=Bridge()))
        for number in (0, 1):
            port = BridgePort(hairpin=draw(st.booleans()), isolated=draw(st.booleans()))
            links.append(Link(f"port{number}", "veth", index=21 + number, mac=mac + number, master="br0", port=port))
        addresses += [Address("br0", ip_interface("10.99.0.1/24")), Address("br0", ip_interface("fd00:99::1/64"))]
        neighbours.append(Neighbour("br0", ip_address("10.99.0.2"), 0x020000019900))
    last = count - 1
    routes = [
        Route.of("0.0.0.0/0", f"eth{last}", f"10.{last}.0.2"),
        Route.of("::/0", f"eth{last}", f"fd00:{last}::2"),
    ]
    policy: tuple[PolicyRule, ...] = ()
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["unicast", "blackhole", "unreachable", "prohibit"]))
        routes.append(
            Route.of("0.0.0.0/0", "eth0", "10.0.0.2", table=OTHER_TABLE)
            if kind == "unicast"
            else Route.of("0.0.0.0/0", table=OTHER_TABLE, type=kind)
        )
        policy = (PolicyRule(1000, table=OTHER_TABLE, fwmark=MARK),)
    sysctl = {
        "net.ipv4.ip_forward": "1",
        "net.ipv6.conf.all.forwarding": "1",
        "net.ipv4.conf.all.rp_filter": draw(st.sampled_from(["0", "1", "2"])),
        "net.bridge.bridge-nf-call-iptables": draw(st.sampled_from(["0", "1"])),
    }
    sets: tuple[IpSet, ...] = parse_sets(SETS) if draw(st.booleans()) else ()
    config = HostConfig(
        "router",
        tuple(links),
        tuple(addresses),
        tuple(routes),
        neighbours=tuple(neighbours),
        ipsets=sets,
        sysctl=sysctl,
    )
    rules = {family: draw(_rules(family, count, bool(sets))) for family in (4, 6)}
    config = config.completed()
    return config.with_(iptables=rules[4], ip6tables=rules[6], rules=(*config.rules, *policy))


@st.composite
def _rules(draw: st.DrawFn, family: int, count: int, sets: bool) -> Ruleset | None:
    link = st.integers(0, count - 1).map("eth{}".format)
    network = st.integers(0, count - 1).map(lambda n: f"10.{n}.0.0/24" if family == 4 else f"fd00:{n}::/64")
    address = st.integers(0, count - 1).map(lambda n: f"10.{n}.0.2" if family == 4 else f"[fd00:{n}::2]")
    protocol = st.sampled_from(["udp", "tcp", "sctp"])
    reject = st.sampled_from(REJECTS[family])
    filters = [
        st.builds("-A FORWARD -s {} -j ACCEPT".format, network),
        st.builds("-A FORWARD -i {} -o {} -j DROP".format, link, link),
        st.just("-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        st.just("-A FORWARD -m conntrack --ctstate INVALID -j DROP"),
        st.builds(
            "-A FORWARD -p udp -m udp --dport {} -j REJECT --reject-with {}".format, st.sampled_from([53, 80]), reject
        ),
        st.just("-A FORWARD -p tcp -m tcp --dport 25 -j REJECT --reject-with tcp-reset"),
        st.builds("-A FORWARD -p {} -m multiport --dports 80,443,8080:8090 -j ACCEPT".format, protocol),
        st.builds("-A FORWARD -d {} -j CHAIN".format, network),
        st.builds("-A CHAIN -p {} -j RETURN".format, protocol),
        st.just("-A CHAIN -m mark --mark 0x7 -j ACCEPT"),
        st.just("-A CHAIN -m limit --limit 5/sec -j ACCEPT"),
    ]
    if sets and family == 4:
        filters.append(st.just("-A FORWARD -m set --match-set clients src -j ACCEPT"))
        filters.append(st.just("-A FORWARD -p udp -m set --match-set ports dst -j DROP"))
    translations = st.one_of(
        st.builds("-A POSTROUTING -o {} -j MASQUERADE".format, link),
        st.builds("-A PREROUTING -p udp -m udp --dport {} -j DNAT --to-destination {}:8080".format, PORTS, address),
        st.builds("-A PREROUTING -p {0} -m {0} --dport 80 -j DNAT --to-destination {1}:8080".format, protocol, address),
        st.builds("-A PREROUTING -p {0} -m {0} --dport 81 -j REDIRECT --to-ports 8081".format, protocol),
        st.builds(
            "-A POSTROUTING -s {} -j SNAT --to-source {}".format, network, address.map(lambda text: text.strip("[]"))
        ),
    )
    marks = st.one_of(
        st.builds("-A PREROUTING -i {} -j MARK --set-xmark 0x7/0xffffffff".format, link),
        st.just("-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff"),
        st.just("-A POSTROUTING -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff"),
    )
    filtering, translating = draw(st.lists(st.one_of(*filters), max_size=5)), draw(st.lists(translations, max_size=3))
    marking = draw(st.lists(marks, max_size=2))
    if not filtering and not translating and not marking:
        return None
    policy = draw(st.sampled_from(["ACCEPT", "DROP"])) if filtering else "ACCEPT"
    text = f"*filter\n:INPUT ACCEPT [0:0]\n:FORWARD {policy} [0:0]\n:OUTPUT ACCEPT [0:0]\n:CHAIN - [0:0]\n"
    text += "".join(f"{rule}\n" for rule in filtering) + "COMMIT\n"
    text += "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n"
    text += "".join(f"{rule}\n" for rule in translating) + "COMMIT\n"
    if marking:
        chains = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
        text += "*mangle\n" + "".join(f":{chain} ACCEPT [0:0]\n" for chain in chains)
        text += "".join(f"{rule}\n" for rule in marking) + "COMMIT\n"
    return Ruleset.parse(text, 4 if family == 4 else 6)
