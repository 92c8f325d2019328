"""Which way a packet goes: policy rules, several tables, several next hops, source validation, martians."""

from pathlib import Path

from judge.node import Node
from judge.scenario import scenario
from judge.talk import echo, reply
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from scenarios.nd import solicit

QUERY = UDP(sport=4000, dport=53) / b"query"
FAR = {4: "203.0.113.9", 6: "2001:db8:9::9"}
NET = {4: "203.0.113.0/24", 6: "2001:db8:9::/64"}


def fork(node: Node) -> tuple:
    """A client, and two ways out: server one on eth1, server two on eth2."""
    client, one = node.router()
    if node.family == 6:
        node.port("eth2", "fd00:3::1/64")
        return client, one, node.peer("eth2", "fd00:3::2")
    node.port("eth2", "10.0.3.1/24")
    return client, one, node.peer("eth2", "10.0.3.2")


@scenario(families=(4, 6))
def rule_by_mark(node: Node) -> None:
    """A mark set in PREROUTING chooses another table."""
    client, one, two = fork(node)
    node.ip(f"""
        {node.dash}route add {NET[node.family]} via {one.ip}
        {node.dash}route add {NET[node.family]} via {two.ip} table 100
        {node.dash}rule add fwmark 0x1 lookup 100
        {node.dash}rule add fwmark 0x10/0xf0 lookup 100
    """)
    node.rules("""
        -t mangle -A PREROUTING -p udp --dport 1 -j MARK --set-mark 0x1
        -t mangle -A PREROUTING -p udp --dport 2 -j MARK --set-mark 0x1f
        -t mangle -A PREROUTING -p udp --dport 3 -j MARK --set-mark 0x2
    """)
    for port, way in ((1, two), (2, two), (3, one), (4, one)):
        client.send(UDP(sport=4000, dport=port), to=FAR[node.family]).only(way)


@scenario(families=(4, 6))
def rule_by_source_and_interface(node: Node) -> None:
    """`from`, `iif` and `to` of a rule; priorities decide between rules."""
    client, one, two = fork(node)
    other = node.peer("eth0", "10.0.1.3" if node.family == 4 else "fd00:1::3")
    far = FAR[node.family]
    node.ip(f"""
        {node.dash}route add {NET[node.family]} via {one.ip}
        {node.dash}route add {NET[node.family]} via {two.ip} table 100
        {node.dash}rule add from {other.ip} lookup 100 priority 100
        {node.dash}rule add iif eth1 lookup 100 priority 90
    """)
    client.send(QUERY, to=far).only(one)
    other.send(QUERY, to=far).only(two)
    one.send(QUERY, to=far).only(two)


@scenario(families=(4, 6))
def rule_that_refuses(node: Node) -> None:
    """blackhole, unreachable and prohibit as actions of rules."""
    client, one, _ = fork(node)
    node.ip(f"{node.dash}route add {NET[node.family]} via {one.ip}")
    refused = []
    for last, action in ((11, "blackhole"), (12, "unreachable"), (13, "prohibit")):
        address = f"10.0.1.{last}" if node.family == 4 else f"fd00:1::{last}"
        node.ip(f"{node.dash}rule add from {address} {action} priority {last}")
        refused.append(node.peer("eth0", address))
    client.send(QUERY, to=FAR[node.family]).only(one)
    for peer in refused:
        peer.send(QUERY, to=FAR[node.family])


@scenario(families=(4, 6))
def throw_goes_on_to_the_next_table(node: Node) -> None:
    """A throw route ends the search in its table; the next rule is asked."""
    client, one, two = fork(node)
    inside = "203.0.113.0/28" if node.family == 4 else "2001:db8:9::/80"
    node.ip(f"""
        {node.dash}route add {NET[node.family]} via {one.ip}
        {node.dash}route add {NET[node.family]} via {two.ip} table 100
        {node.dash}route add throw {inside} table 100
        {node.dash}rule add from all lookup 100 priority 100
    """)
    client.send(QUERY, to=FAR[node.family]).only(one)
    client.send(QUERY, to="203.0.113.99" if node.family == 4 else "2001:db8:9:0:1::9").only(two)


@scenario()
def suppress_prefix_length(node: Node) -> None:
    """suppress_prefixlength 0: a table is asked for all but its default route."""
    client, one, two = fork(node)
    node.ip(f"""
        route add default via {one.ip}
        route add default via {two.ip} table 100
        route add 198.51.100.0/24 via {one.ip} table main
        rule add lookup main suppress_prefixlength 0 priority 100
        rule add lookup 100 priority 101
    """)
    client.send(QUERY, to="203.0.113.9").only(two)
    client.send(QUERY, to="198.51.100.1").only(one)


@scenario()
def rule_by_ports_and_protocol(node: Node) -> None:
    """ipproto, sport and dport of a rule."""
    client, one, two = fork(node)
    node.ip(f"""
        route add 203.0.113.0/24 via {one.ip}
        route add 203.0.113.0/24 via {two.ip} table 100
        rule add ipproto tcp dport 443 lookup 100
        rule add ipproto udp sport 1000-2000 lookup 100
    """)
    client.send(TCP(sport=1, dport=443, flags="S"), to=FAR[4])
    client.send(TCP(sport=1, dport=80, flags="S"), to=FAR[4])
    client.send(UDP(sport=1500, dport=53), to=FAR[4])


@scenario()
def route_by_tos(node: Node) -> None:
    """A route with a TOS is taken by packets that bear it."""
    client, one, two = fork(node)
    node.ip(f"""
        route add 203.0.113.0/24 via {one.ip}
        route add 203.0.113.0/24 tos 0x10 via {two.ip}
    """)
    client.send(QUERY, to=FAR[4]).only(one)
    client.send(QUERY, to=FAR[4], tos=0x10).only(two)
    client.send(QUERY, to=FAR[4], tos=0x11)
    client.send(QUERY, to=FAR[4], tos=0x08)


@scenario(families=(4, 6), random="which way each flow takes")
def two_next_hops(node: Node) -> None:
    """Equal-cost routes: a flow keeps its way, by a hash of the addresses."""
    client, one, two = fork(node)
    node.sysctl("net.ipv4.fib_multipath_hash_seed = 12345")
    node.ip(f"{node.dash}route add {NET[node.family]} nexthop via {one.ip} nexthop via {two.ip}")
    for last in range(1, 9):
        target = f"203.0.113.{last}" if node.family == 4 else f"2001:db8:9::{last}"
        ways = {client.send(UDP(sport=port, dport=53), to=target)[0].interface for port in (1, 2, 3)}
        assert len(ways) == 1


@scenario(families=(4, 6))
def next_hops_by_ports(node: Node) -> None:
    """fib_multipath_hash_policy 1: flows of the same two hosts part ways; fragments and ICMP have no ports."""
    client, one, two = fork(node)
    version = "ipv6" if node.family == 6 else "ipv4"
    node.sysctl(f"""
        net.ipv4.fib_multipath_hash_seed = 777
        net.{version}.fib_multipath_hash_policy = 1
    """)
    node.ip(f"{node.dash}route add {NET[node.family]} nexthop via {one.ip} nexthop via {two.ip}")
    ways = [client.send(UDP(sport=port, dport=53), to=FAR[node.family])[0].interface for port in range(1, 11)]
    assert set(ways) == {"eth1", "eth2"}
    for port in range(1, 5):
        client.send(TCP(sport=port, dport=53, flags="S"), to=FAR[node.family])
        client.send(echo(node.family, ident=port), to=FAR[node.family])


@scenario(families=(4, 6))
def next_hops_with_weights(node: Node) -> None:
    """One of three next hops gets most of the flows."""
    client, one, two = fork(node)
    node.sysctl("net.ipv4.fib_multipath_hash_seed = 4242")
    node.ip(f"{node.dash}route add {NET[node.family]} nexthop via {one.ip} weight 1 nexthop via {two.ip} weight 5")
    for last in range(1, 25):
        client.send(QUERY, to=f"203.0.113.{last}" if node.family == 4 else f"2001:db8:9::{last}")


@scenario(families=(4, 6))
def next_hop_of_an_error(node: Node) -> None:
    """An ICMP error takes the way that the packets it is about would take."""
    client, one, two = fork(node)
    node.sysctl("net.ipv4.fib_multipath_hash_seed = 99")
    node.ip(f"{node.dash}route add {NET[node.family]} nexthop via {one.ip} nexthop via {two.ip}")
    for last in range(1, 9):
        target = f"203.0.113.{last}" if node.family == 4 else f"2001:db8:9::{last}"
        about = client.packet(QUERY, to=target)
        about.src, about.dst = about.dst, about.src
        client.complain("port unreachable", about)


@scenario(families=(4, 6))
def own_packets_over_two_next_hops(node: Node) -> None:
    """The node's own packets, with a source of its choice."""
    _, one, two = fork(node)
    node.sysctl("net.ipv4.fib_multipath_hash_seed = 31337")
    node.ip(f"{node.dash}route add {NET[node.family]} nexthop via {one.ip} nexthop via {two.ip}")
    for here in (node.address("eth0"), node.address("eth1"), node.address("eth2")):
        for last in range(1, 7):
            target = f"203.0.113.{last}" if node.family == 4 else f"2001:db8:9::{last}"
            header = IP(src=here, dst=target, id=5) if node.family == 4 else IPv6(src=here, dst=target)
            node.send(header / QUERY)


@scenario(families=(4, 6))
def rules_that_jump(node: Node) -> None:
    """goto skips rules, nop does nothing, a goto to a rule that is not there neither."""
    client, one, two = fork(node)
    node.ip(f"""
        {node.dash}route add {NET[node.family]} via {one.ip}
        {node.dash}route add {NET[node.family]} via {two.ip} table 100
        {node.dash}rule add nop priority 10
        {node.dash}rule add fwmark 0x1 goto 300 priority 100
        {node.dash}rule add lookup 100 priority 200
        {node.dash}rule add nop priority 300
        {node.dash}rule add goto 900 priority 50
    """)
    node.rules("-t mangle -A PREROUTING -p udp --sport 7 -j MARK --set-mark 1")
    client.send(QUERY, to=FAR[node.family]).only(two)
    client.send(UDP(sport=7, dport=53), to=FAR[node.family]).only(one)


@scenario()
def next_hop_whose_device_is_down(node: Node) -> None:
    """Of two ways the one whose device is down is not taken."""
    client, one, two = fork(node)
    node.ip(f"""
        route add 203.0.113.0/24 nexthop via {one.ip} nexthop via {two.ip}
        link set eth2 down
    """)
    for last in range(1, 6):
        client.send(QUERY, to=f"203.0.113.{last}").only(one)


@scenario(families=(4, 6))
def own_source_address(node: Node) -> None:
    """`src` of a route is the source of errors that the node sends that way."""
    client, one = node.router()
    extra = "192.0.2.1/32" if node.family == 4 else "2001:db8:5::1/128"
    node.ip(f"{node.dash}addr add {extra} dev eth0")
    far = FAR[node.family]
    node.ip(f"{node.dash}route add {NET[node.family]} via {client.ip} src {extra.split('/')[0]}")
    client.send(QUERY, to=one, src=far, ttl=1)


@scenario()
def source_of_an_error_by_subnet(node: Node) -> None:
    """With several addresses at one interface the one in the asker's subnet speaks."""
    client, server = node.router()
    node.ip("addr add 172.16.0.1/24 dev eth0")
    other = node.peer("eth0", "172.16.0.2")
    error = other.send(QUERY, to=server, ttl=1).only(other)
    assert error[IP].src == "172.16.0.1"
    assert client.send(QUERY, to=server, ttl=1).only(client)[IP].src == "10.0.1.1"


@scenario()
def rp_filter_off(node: Node) -> None:
    """rp_filter=0: a source of another link passes."""
    client, server = node.router()
    client.send(QUERY, to=server, src="10.0.2.9").only(server)
    client.send(QUERY, to=server, src="203.0.113.1").only(server)


@scenario()
def rp_filter_strict(node: Node) -> None:
    """rp_filter=1: the way back must lead through the same interface."""
    client, server = node.router()
    node.sysctl("net.ipv4.conf.eth0.rp_filter = 1")
    assert not client.send(QUERY, to=server, src="10.0.2.9")
    assert not client.send(QUERY, to=server, src="203.0.113.1")
    client.send(QUERY, to=server).only(server)
    server.send(QUERY, to=client, src="10.0.1.9").only(client)
    assert not client.send(echo(4), to=node.address("eth0"), src="10.0.2.9")


@scenario()
def rp_filter_loose(node: Node) -> None:
    """rp_filter=2: some way back is enough."""
    client, server = node.router()
    node.sysctl("net.ipv4.conf.eth0.rp_filter = 2")
    client.send(QUERY, to=server, src="10.0.2.9").only(server)
    assert not client.send(QUERY, to=server, src="203.0.113.1")


@scenario()
def rp_filter_is_the_larger_of_all_and_its_own(node: Node) -> None:
    """conf.all counts where it is stricter."""
    client, server = node.router()
    node.sysctl("""
        net.ipv4.conf.all.rp_filter = 1
        net.ipv4.conf.eth0.rp_filter = 2
    """)
    client.send(QUERY, to=server, src="10.0.2.9")
    server.send(QUERY, to=client, src="10.0.1.9")


@scenario()
def rp_filter_with_a_default_route(node: Node) -> None:
    """Behind the interface of the default route every source is fine, in strict mode too."""
    client, server = node.router()
    node.ip(f"route add default via {client.ip}")
    node.sysctl("net.ipv4.conf.all.rp_filter = 1")
    client.send(QUERY, to=server, src="203.0.113.1").only(server)
    assert not server.send(QUERY, to=client, src="203.0.113.1")


@scenario()
def rp_filter_sees_the_mark_if_told_so(node: Node) -> None:
    """src_valid_mark=1: the way back is looked up with the packet's mark."""
    client, one, two = fork(node)
    node.ip(f"""
        route add 203.0.113.0/24 via {two.ip}
        route add 203.0.113.0/24 via {client.ip} table 100
        rule add fwmark 0x1 lookup 100
    """)
    node.sysctl("""
        net.ipv4.conf.eth0.rp_filter = 1
        net.ipv4.conf.eth0.src_valid_mark = 1
    """)
    node.rules("-t mangle -A PREROUTING -p udp --dport 1 -j MARK --set-mark 0x1")
    client.send(UDP(sport=4000, dport=1), to=one, src="203.0.113.1")
    client.send(UDP(sport=4000, dport=2), to=one, src="203.0.113.1")


@scenario()
def martian_sources(node: Node) -> None:
    """Sources that cannot be: loopback, multicast, broadcast, 0.0.0.0, the node's own.

    The rest of 0/8, class E and broadcast addresses of subnets pass.
    """
    client, server = node.router()
    own = (node.address("eth0"), node.address("eth1"))
    for source in ("127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", *own):
        assert not client.send(QUERY, to=server, src=source)
    for source in ("0.1.2.3", "240.0.0.1", "10.0.1.255", "10.0.2.255"):
        client.send(QUERY, to=server, src=source).only(server)


@scenario(families=(4, 6))
def errors_about_no_route_are_limited(node: Node) -> None:
    """In IPv4 five in a burst to each sender, then one a second, whatever the limits of ICMP say; in IPv6 none of that."""
    client, server = node.router()
    for last in range(1, 10):
        client.send(QUERY, to=f"203.0.113.{last}" if node.family == 4 else f"2001:db8:9::{last}")
    server.send(QUERY, to=FAR[node.family])
    node.wait(1.3)
    for last in range(1, 4):
        client.send(QUERY, to=f"203.0.113.{last}" if node.family == 4 else f"2001:db8:9::{last}")


@scenario()
def martian_destinations(node: Node) -> None:
    """Destinations that cannot be: loopback, 0.0.0.0; the rest of 0/8 and class E are addresses like others."""
    client, _ = node.router()
    for target in ("127.0.0.1", "127.1.2.3", "0.0.0.0"):
        assert not client.send(QUERY, to=target)
    for target in ("0.1.2.3", "240.0.0.1"):
        client.send(QUERY, to=target).only(client)


@scenario(families=(6,))
def impossible_ipv6_addresses(node: Node) -> None:
    """Sources ::1, :: and multicast; destinations ::1 and ::; mapped IPv4 addresses."""
    client, server = node.router()
    for source in ("::1", "::", "ff02::1", node.address("eth0"), "::ffff:10.0.0.1"):
        client.send(QUERY, to=server, src=source)
    for target in ("::1", "::", "::ffff:10.0.0.1"):
        client.send(QUERY, to=target)


@scenario()
def route_localnet(node: Node) -> None:
    """route_localnet=1: 127/8 is let in from outside."""
    client, _ = node.router()
    node.sysctl("net.ipv4.conf.eth0.route_localnet = 1")
    client.send(QUERY, to="127.0.0.1")
    client.send(echo(4), to="127.0.0.1")


@scenario()
def accept_local(node: Node) -> None:
    """accept_local=1: the node's own address as a source is let in."""
    client, server = node.router()
    node.sysctl("net.ipv4.conf.eth0.accept_local = 1")
    client.send(QUERY, to=server, src=node.address("eth1"))
    client.send(QUERY, to=server, src=node.address("eth0"))


@scenario()
def local_route(node: Node) -> None:
    """A local route makes a whole network the node's own, as IPVS and AnyIP do."""
    client, _ = node.router()
    node.ip("route add local 198.51.100.0/24 dev lo")
    client.send(echo(4), to="198.51.100.77").only(client)


@scenario(families=(4, 6))
def unnumbered_gateway_onlink(node: Node) -> None:
    """onlink: a gateway outside every subnet is taken at its word."""
    client, _ = node.router()
    gateway = "169.254.1.1" if node.family == 4 else "fe80::77"
    there = node.peer("eth1", gateway)
    node.ip(f"{node.dash}route add {NET[node.family]} via {gateway} dev eth1 onlink")
    client.send(QUERY, to=FAR[node.family]).only(there)


@scenario()
def gateway_of_the_other_family(node: Node) -> None:
    """An IPv4 route through an IPv6 gateway: ND's neighbour, IPv4's packet."""
    node.dual()
    client, _ = node.router()
    node.ip("-6 neigh add fe80::77 lladdr 02:00:00:01:02:77 dev eth1 nud permanent")
    node.ip("route add 203.0.113.0/24 via inet6 fe80::77 dev eth1")
    assert client.send(QUERY, to="203.0.113.9").only("eth1").dst == "02:00:00:01:02:77"


@scenario()
def directly_connected_host_route(node: Node) -> None:
    """A /32 route to a device, as Calico gives each pod: the pod is asked for by its own address."""
    client, _ = node.router()
    node.port("cali1")
    pod = node.peer("cali1", "10.244.1.2")
    node.ip("route add 10.244.1.2/32 dev cali1 scope link")
    client.send(QUERY, to=pod).only(pod)
    pod.send(QUERY, to=client).only(client)


@scenario(families=(4, 6))
def dual_stack_node(node: Node) -> None:
    """Both families beside each other on one node."""
    node.dual()
    client, server = node.router()
    node.ip("""
        addr add 172.20.1.1/24 dev eth0
        addr add 172.20.2.1/24 dev eth1
        addr add fd00:a::1/64 dev eth0
        addr add fd00:b::1/64 dev eth1
    """)
    a4, b4 = node.peer("eth0", "172.20.1.5"), node.peer("eth1", "172.20.2.5")
    a6, b6 = node.peer("eth0", "fd00:a::5"), node.peer("eth1", "fd00:b::5")
    a4.send(QUERY, to=b4).only(b4)
    a6.send(QUERY, to=b6).only(b6)
    client.send(QUERY, to=server).only(server)


@scenario(families=(4, 6))
def own_packets_follow_rules(node: Node) -> None:
    """The node's own packets: by destination, and none without a route."""
    _, one, two = fork(node)
    node.ip(f"{node.dash}route add {NET[node.family]} via {two.ip}")
    here = node.address("eth1")
    kind = (lambda dst: IP(src=here, dst=dst, id=5)) if node.family == 4 else (lambda dst: IPv6(src=here, dst=dst))
    node.send(kind(FAR[node.family]) / QUERY).only(two)
    node.send(kind(one.ip) / QUERY).only(one)
    assert not node.send(kind("198.51.100.1" if node.family == 4 else "2001:db8:77::1") / QUERY)
    assert node.recording.steps[-1].refused == "ENETUNREACH"


@scenario()
def translated_reply_takes_its_own_way(node: Node) -> None:
    """Routing looks at the packet as NAT left it: after DNAT on the way in, before SNAT is undone on the way back."""
    client, one, two = fork(node)
    node.rules(f"""
        -t nat -A PREROUTING -d 203.0.113.9 -j DNAT --to-destination {two.ip}
        -t nat -A POSTROUTING -o eth2 -j MASQUERADE
    """)
    node.ip(f"route add 203.0.113.0/24 via {one.ip}")
    request = client.send(QUERY, to="203.0.113.9").only(two)
    two.send(reply(request, b"answer")).only(client)


@scenario()
def bare_ip_device(node: Node) -> None:
    """A TUN device carries packets without Ethernet: no neighbour, no MAC addresses."""
    client, _ = node.router()
    node.port("tun0", "10.9.0.1/24", ethernet=False)
    out = client.send(QUERY, to="10.9.0.2").only("tun0")
    back = IP(src="10.9.0.2", dst=client.ip, id=9) / UDP(sport=53, dport=4000) / b"answer"
    node.receive("tun0", back).only(client)
    assert isinstance(out, IP)


@scenario(families=(4, 6))
def longer_routes_than_local_ones(node: Node) -> None:
    """IPv4 has the tables local and main in one trie: a longer prefix of main wins over a local route. IPv6 asks in turn."""
    client, server = node.router()
    net = "192.0.2" if node.family == 4 else "2001:db8:7:"
    sizes = (24, 25) if node.family == 4 else (64, 80)
    high = f"{net}.128" if node.family == 4 else f"{net}1::"
    node.ip(f"""
        {node.dash}route add local {net}{".0" if node.family == 4 else ":"}/{sizes[0]} dev lo
        {node.dash}route add {high}/{sizes[1]} via {server.ip}
    """)
    for to in (f"{net}.1", f"{net}.129", "127.0.0.9") if node.family == 4 else (f"{net}:9", f"{high}9", "::1"):
        client.send(QUERY, to=to)


@scenario()
def local_routes_first_once_there_are_rules(node: Node) -> None:
    """With a rule of one's own the table local is asked for itself, whatever main has."""
    client, server = node.router()
    node.ip(f"""
        rule add from 203.0.113.0/24 table 100
        route add local 192.0.2.0/24 dev lo
        route add 192.0.2.128/25 via {server.ip}
    """)
    for to in ("192.0.2.1", "192.0.2.129"):
        client.send(QUERY, to=to)


@scenario(families=(6,))
def own_packet_that_needs_a_source_to_have_a_way(node: Node) -> None:
    """A rule blackholes all but one source: the node's own packet, routed without a source first, is asked for again with one."""
    client, _ = node.router()
    node.ip("-6 rule add not from fd00:1::/64 blackhole pref 100")
    assert len(node.send(IPv6(src=node.address("eth0"), dst=client.ip) / UDP(sport=1, dport=9))) == 1
    node.send(IPv6(src=node.address("eth1"), dst="fd00:2::9") / UDP(sport=1, dport=9))


@scenario(families=(6,))
def forwarding_by_the_interface(node: Node) -> None:
    """IPv6 forwards by the switch for all, or, since Linux 6.17, by force_forwarding of the interface that a packet came by;
    what an interface says of forwarding itself only makes it a router in its advertisements."""
    client, server = node.router()
    node.sysctl("net.ipv6.conf.all.forwarding = 0")
    forced = Path("/proc/sys/net/ipv6/conf/all/force_forwarding").exists()
    if forced:
        node.sysctl("net.ipv6.conf.eth0.force_forwarding = 1")
    node.sysctl("net.ipv6.conf.eth1.forwarding = 1")
    packet = UDP(sport=1, dport=9) / b"x"
    assert len(client.send(packet, to=server)) == forced
    assert not server.send(packet, to=client)
    for peer, port in ((client, "eth0"), (server, "eth1")):
        node.receive(port, solicit(peer, node.address(port)))
