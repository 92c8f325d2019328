"""Selectors of rules, types of routes and settings of interfaces that decide on a packet's way, one by one and inverted."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, Talk, echo, reply
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Raw

from scenarios.routing import FAR, NET, QUERY, fork


def two_tables(node: Node, *rules: str) -> tuple[Peer, Peer, Peer]:
    """Main leads to `one`; table 100, which these rules ask, to `two`."""
    client, one, two = fork(node)
    node.ip(f"{node.dash}route add {NET[node.family]} via {one.ip}")
    node.ip(f"{node.dash}route add {NET[node.family]} via {two.ip} table 100")
    for priority, rule in enumerate(rules, 100):
        node.ip(f"{node.dash}rule add {rule} priority {priority}" + ("" if " goto " in rule else " lookup 100"))
    return client, one, two


@scenario(families=(4, 6))
def rules_inverted(node: Node) -> None:
    """`not` before a source, a mark, an interface, a protocol and ports."""
    here, other = ("10.0.1.0/29", "10.0.1.99") if node.family == 4 else ("fd00:1::/125", "fd00:1::99")
    client, _, _ = two_tables(node, f"not from {here}")
    third = node.peer("eth0", other)
    for peer in (client, third):
        peer.send(QUERY, to=FAR[node.family])
    node.send(client.packet(QUERY, to=FAR[node.family], src=node.address("eth1")))


@scenario(families=(4, 6))
def rules_inverted_by_other_selectors(node: Node) -> None:
    """`not fwmark`, with a mask; the packet's mark is what PREROUTING left."""
    client, _, _ = two_tables(node, "not fwmark 0x10/0xf0")
    node.rules("-t mangle -A PREROUTING -p udp --dport 1 -j MARK --set-mark 0x1f")
    client.send(UDP(sport=1, dport=1), to=FAR[node.family])
    client.send(UDP(sport=1, dport=2), to=FAR[node.family])


@scenario(families=(4, 6))
def rules_by_protocol_inverted(node: Node) -> None:
    """`not ipproto`; and ports without a protocol: of TCP, UDP and SCTP."""
    client, _, _ = two_tables(node, "not ipproto udp dport 1-9")
    for port in (1, 9, 10):
        client.send(UDP(sport=1, dport=port), to=FAR[node.family])
        client.send(TCP(sport=1, dport=port), to=FAR[node.family])


@scenario(families=(4, 6))
def rules_by_ports_alone(node: Node) -> None:
    """sport and dport without a protocol, of whatever has ports, and of fragments and what has none."""
    client, _, _ = two_tables(node, "dport 53", "sport 7-9")
    to = FAR[node.family]
    for packet in (UDP(sport=1, dport=53), TCP(sport=9, dport=1), SCTP(sport=8, dport=1) / SCTPChunkInit()):
        client.send(packet, to=to)
    client.send(Raw(bytes(UDP(sport=8, dport=53, len=8))), to=to, proto=136)
    client.send(Raw(bytes(UDP(sport=8, dport=53, len=8))), to=to, proto=33)
    client.send(Raw(bytes(UDP(sport=8, dport=53, len=8))), to=to, proto=99)
    client.send(echo(node.family, ident=53), to=to)
    if node.family == 4:
        for part in client.packet(UDP(sport=9, dport=53) / bytes(100), to=to).fragment(48):
            client.send(part)
    node.send(client.packet(QUERY, to=to, src=node.address("eth0")))


@scenario(families=(4, 6))
def rules_by_tos_and_interface(node: Node) -> None:
    """tos, iif with to, oif (own packets alone have one, if they are bound), iif lo: the node's own."""
    far = NET[node.family]
    client, _, _ = two_tables(node, "tos 0x10", f"iif eth1 to {far}", "iif lo", "oif eth1")
    server = Peer(node, "eth1", "02:00:00:01:02:02", "10.0.2.2" if node.family == 4 else "fd00:2::2", node.mac("eth1"))
    for tos in (0, 0x10, 0x11, 0x14, 0x1C, 0x30):
        client.send(QUERY, to=FAR[node.family], tos=tos)
    server.send(QUERY, to=FAR[node.family])
    node.send(client.packet(QUERY, to=FAR[node.family], src=node.address("eth0")))
    client.send(echo(node.family), to=node.address("eth1"))


@scenario(families=(4, 6))
def rules_with_masks(node: Node) -> None:
    """fwmark 0 with a mask and without, marks above 31 bits, several selectors in one rule: all must fit."""
    source = "10.0.1.0/24" if node.family == 4 else "fd00:1::/64"
    client, _, _ = two_tables(
        node, f"fwmark 0x80000000/0x80000000 from {source} ipproto udp dport 5", "fwmark 0/0xff ipproto tcp"
    )
    node.rules("""
        -t mangle -A PREROUTING -p udp -j MARK --set-mark 0x80000001
        -t mangle -A PREROUTING -p tcp --dport 7 -j MARK --set-mark 0x100
        -t mangle -A PREROUTING -p tcp --dport 8 -j MARK --set-mark 0x1
    """)
    for port in (5, 7, 8):
        client.send(UDP(sport=1, dport=port), to=FAR[node.family])
        client.send(TCP(sport=1, dport=port), to=FAR[node.family])


@scenario(families=(4, 6))
def suppressed_by_length(node: Node) -> None:
    """suppress_prefixlength of several lengths, and what a suppressed table's blackhole does."""
    client, one, two = fork(node)
    wide, near, hole, host = (
        ("203.0.0.0/16", "203.0.113.0/24", "203.0.114.0/24", "203.0.113.77")
        if node.family == 4
        else ("2001:db8::/32", "2001:db8:9::/48", "2001:db8:8::/48", "2001:db8:9::77")
    )
    length = "16" if node.family == 4 else "32"
    node.ip(f"""
        {node.dash}route add default via {one.ip}
        {node.dash}route add default via {two.ip} table 100
        {node.dash}route add {wide} via {two.ip} table 100
        {node.dash}route add {near} via {two.ip} table 100
        {node.dash}route add blackhole {hole} table 100
        {node.dash}rule add lookup 100 suppress_prefixlength {length} priority 100
    """)
    for target in (host, "203.0.9.9" if node.family == 4 else "2001:db8:1::1", hole.partition("/")[0]):
        client.send(QUERY, to=target)
    client.send(QUERY, to="198.51.100.1" if node.family == 4 else "2001:dead::1")


@scenario(families=(4, 6))
def routes_that_refuse_in_every_table(node: Node) -> None:
    """blackhole, unreachable, prohibit and throw in a table of its own, for forwarded and for own packets."""
    client, one, _ = fork(node)
    base = "198.51.{}.0/24" if node.family == 4 else "2001:db8:{}::/48"
    node.ip(f"{node.dash}route add default via {one.ip}")
    kinds = ("blackhole", "unreachable", "prohibit", "throw")
    for at, kind in enumerate(kinds, 1):
        node.ip(f"{node.dash}route add {kind} {base.format(at)} table 100")
    node.ip(f"{node.dash}rule add lookup 100 priority 100")
    for at in range(1, 6):
        target = (base.format(at).partition("/")[0])[:-1] + "9" if node.family == 4 else f"2001:db8:{at}::9"
        client.send(QUERY, to=target)
        client.send(TCP(sport=1, dport=2, flags="S"), to=target)
        node.send(client.packet(QUERY, to=target, src=node.address("eth1")))


@scenario(families=(4, 6))
def sources_by_route(node: Node) -> None:
    """Sources of the node's own errors: src of a route, the first address, a secondary one in the target's subnet, scopes."""
    node.port("eth0", "10.0.1.1/24" if node.family == 4 else "fd00:1::1/64")
    node.port("eth1", "10.0.2.1/24" if node.family == 4 else "fd00:2::1/64")
    if node.family == 4:
        node.address_add("eth0", "10.0.1.129/25", "192.168.7.1/24", "192.168.7.2/24")
        client, gateway = node.peer("eth0", "10.0.1.200"), node.peer("eth1", "10.0.2.2")
        node.ip(f"""
            addr add 169.254.1.1/32 dev eth1 scope link
            addr add 10.7.7.7/32 dev lo
            route add 203.0.113.0/24 via {gateway.ip}
            route add 198.51.100.0/24 via {gateway.ip} src 10.7.7.7
            route add 192.0.2.0/24 via {gateway.ip} src 192.168.7.2
        """)
        node.peer("eth0", "10.0.1.5"), node.peer("eth0", "192.168.7.9")
        sources = ("10.0.1.200", "10.0.1.5", "192.168.7.9", "203.0.113.5", "198.51.100.5", "192.0.2.5")
    else:
        node.address_add("eth0", "fd00:1:0:0:8000::1/65", "2001:db8:7::1/64", "fe80::77/64")
        client, gateway = node.peer("eth0", "fd00:1::8000:0:0:9"), node.peer("eth1", "fd00:2::2")
        node.ip("-6 addr add fd00:77::7/128 dev lo")
        node.ip(f"-6 route add 2001:db8:99::/48 via {gateway.ip}")
        node.ip(f"-6 route add 2001:db8:98::/48 via {gateway.ip} src fd00:77::7")
        node.peer("eth0", "fd00:1::5"), node.peer("eth0", "2001:db8:7::9")
        sources = ("fd00:1::8000:0:0:9", "fd00:1::5", "2001:db8:7::9", "2001:db8:99::5", "2001:db8:98::5")
    for source in sources:
        client.send(QUERY, to="100.64.0.1" if node.family == 4 else "2001:dead::1", src=source)
        client.send(QUERY, to=gateway, src=source, ttl=1)
        client.send(QUERY, to=node.address("eth0"), src=source)


@scenario(families=(4, 6))
def own_packets_of_every_address(node: Node) -> None:
    """The node sends from each of its addresses, from none, and from one that is not its own."""
    client, server = node.router()
    node.address_add("eth1", "10.0.2.77/24" if node.family == 4 else "fd00:2::77/64")
    foreign = "10.9.9.9" if node.family == 4 else "fd00:99::9"
    for source in (node.address("eth0"), node.address("eth1"), foreign):
        node.send(server.packet(QUERY, to=server, src=source))
        node.send(server.packet(echo(node.family), to=client, src=source))
        node.send(server.packet(TCP(sport=1, dport=2, flags="S"), to=client, src=source, ttl=3))


@scenario()
def own_packets_to_groups(node: Node) -> None:
    """The node sends to a group that it has not joined: by the route, and whatever the TTL."""
    _, server = node.router()
    node.ip("route add 224.0.0.0/4 dev eth1")
    node.rules("""
        -t mangle -A PREROUTING -i lo
        -t mangle -A PREROUTING -i eth1
        -t mangle -A POSTROUTING -o eth1
    """)
    for target in ("239.1.2.3", "224.0.0.77"):
        node.send(server.packet(QUERY, to=target, src=node.address("eth1")))
        node.send(server.packet(QUERY, to=target, src=node.address("eth1"), ttl=0))


@scenario(families=(4, 6), masks=("ip id", "flow label"))
def reverse_paths_of_every_kind(node: Node) -> None:
    """rp_filter per interface over default and all; sources behind blackholes, other tables and several ways."""
    client, one, two = fork(node)
    node.sysctl("net.ipv4.fib_multipath_hash_seed = 4711")
    if node.family == 4:
        node.sysctl("""
            net.ipv4.conf.default.rp_filter = 2
            net.ipv4.conf.eth0.rp_filter = 1
            net.ipv4.conf.eth1.rp_filter = 2
        """)
    base = "198.51.{}.0/24" if node.family == 4 else "2001:db8:{}::/48"
    node.ip(f"""
        {node.dash}route add blackhole {base.format(1)}
        {node.dash}route add unreachable {base.format(2)}
        {node.dash}route add prohibit {base.format(3)}
        {node.dash}route add throw {base.format(4)}
        {node.dash}route add {base.format(5)} via {client.ip} table 100
        {node.dash}rule add from {node.address("eth2")} lookup 100
        {node.dash}route add {base.format(6)} nexthop via {one.ip} nexthop via {client.ip}
        {node.dash}rule add iif eth1 lookup 100 priority 90
    """)
    for at in range(1, 8):
        source = base.format(at).partition("/")[0].removesuffix("0") + "9" if node.family == 4 else f"2001:db8:{at}::9"
        for peer in (client, one, two):
            peer.send(QUERY, to=two if peer is not two else client, src=source)
            peer.send(echo(node.family), to=node.address("eth0"), src=source)


@scenario(families=(4, 6))
def routes_by_way_of_loopback(node: Node) -> None:
    """Addresses and networks on lo and on a bridge without ports: what is the node's own, what is refused."""
    client, _ = node.router()
    node.bridge_device("br0")  # without ports it has no carrier
    own, net, more = (
        ("10.7.7.1/24", "10.7.8.0/24", "10.7.9.1/24")
        if node.family == 4
        else ("fd00:7:7::1/64", "fd00:7:8::/64", "fd00:7:9::1/64")
    )
    node.ip(f"{node.dash}addr add {own} dev lo")
    node.ip(f"{node.dash}addr add {more} dev br0")
    if node.family == 6:
        node.ip(f"-6 route add {net} dev lo")
    targets = (
        ("10.7.7.1", "10.7.7.9", "10.7.9.1", "10.7.9.255")
        if node.family == 4
        else ("fd00:7:7::1", "fd00:7:7::9", "fd00:7:8::9", "fd00:7:9::1", "fd00:7:9::", "fd00:1::")
    )
    for target in targets:
        client.send(echo(node.family), to=target)
        client.send(QUERY, to=target)


@scenario(families=(4, 6))
def multipath_of_dead_and_weighted_ways(node: Node) -> None:
    """Weights of 1, 2 and 5; a way twice; one whose gateway does not answer is taken all the same."""
    client, one, two = fork(node)
    node.sysctl("net.ipv4.fib_multipath_hash_seed = 4711")
    node.sysctl(f"net.ipv{node.family}.fib_multipath_hash_policy = 1")
    third = node.peer("eth2", "10.0.3.3" if node.family == 4 else "fd00:3::3")
    node.ip(
        f"{node.dash}route add {NET[node.family]} nexthop via {one.ip} weight 1 nexthop via {two.ip} weight 5 "
        f"nexthop via {third.ip} weight 2"
    )
    for port in range(1, 25):
        client.send(UDP(sport=port, dport=53), to=FAR[node.family])
    for port in range(1, 9):
        client.send(TCP(sport=port, dport=80, flags="S"), to=FAR[node.family])


@scenario(families=(4, 6))
def multipath_by_inner_headers(node: Node) -> None:
    """fib_multipath_hash_policy 2: the addresses inside tunnels; of anything else its own addresses."""
    client, one, two = fork(node)
    node.sysctl("net.ipv4.fib_multipath_hash_seed = 4711")
    node.sysctl(f"net.ipv{node.family}.fib_multipath_hash_policy = 2")
    node.ip(f"{node.dash}route add {NET[node.family]} nexthop via {one.ip} nexthop via {two.ip}")
    for last in range(1, 9):
        target = f"203.0.113.{last}" if node.family == 4 else f"2001:db8:9::{last}"
        client.send(UDP(sport=1, dport=2), to=target)
        client.send(UDP(sport=last, dport=2), to=FAR[node.family])
        client.send(client.packet(IP(src="10.1.1.1", dst=f"10.2.2.{last}") / QUERY, to=FAR[node.family]))
        client.send(client.packet(IPv6(src="fd01::1", dst=f"fd02::{last}", fl=last) / QUERY, to=FAR[node.family]))
        gre = Raw(b"\0\0\x08\0" + bytes(IP(src="10.1.1.1", dst=f"10.2.2.{last}") / QUERY))
        client.send(gre, to=FAR[node.family], proto=47)
        client.send(echo(node.family, ident=last), to=FAR[node.family])


@scenario()
def route_mtu_locked_or_not(node: Node) -> None:
    """An MTU of a route below and above the device's, for own and forwarded packets, DF or not; ip_forward_use_pmtu."""
    client, server = node.router()
    node.ip(f"""
        route add 203.0.113.0/25 via {server.ip} mtu 1000
        route add 203.0.113.128/25 via {server.ip} mtu 9000
    """)
    node.sysctl("net.ipv4.ip_forward_use_pmtu = 1")
    for target in ("203.0.113.1", "203.0.113.200"):
        for flags in ("", "DF"):
            client.send(UDP(sport=1, dport=2) / bytes(1100), to=target, flags=flags)
            node.send(
                client.packet(UDP(sport=1, dport=2) / bytes(900), to=target, src=node.address("eth1"), flags=flags)
            )


@scenario()
def redirects_that_come_in(node: Node) -> None:
    """A redirect to the node about a packet of its own changes nothing for what it forwards."""
    client, one, _ = fork(node)
    other = node.peer("eth1", "10.0.2.3")
    node.sysctl("""
        net.ipv4.conf.all.accept_redirects = 1
        net.ipv4.conf.eth1.accept_redirects = 1
        net.ipv4.conf.all.secure_redirects = 0
        net.ipv4.conf.eth1.secure_redirects = 0
    """)
    node.ip(f"route add {NET[4]} via {one.ip}")
    client.send(QUERY, to=FAR[4])
    for own in (
        IP(src=node.address("eth1"), dst=FAR[4]) / UDP(sport=1, dport=2),
        IP(src=node.address("eth1"), dst=FAR[4]) / echo(4),
        IP(src=client.ip, dst=FAR[4]) / QUERY,
    ):
        one.send(ICMP(type=5, code=1, gw=other.ip) / Raw(bytes(own)), to=node.address("eth1"))
        client.send(QUERY, to=FAR[4])
        node.send(client.packet(QUERY, to=FAR[4], src=node.address("eth1")))


@scenario()
def redirects_that_come_in_to_a_host(node: Node) -> None:
    """The same to a node that does not forward."""
    client, one, _ = fork(node)
    other = node.peer("eth1", "10.0.2.3")
    node.sysctl("""
        net.ipv4.ip_forward = 0
        net.ipv4.conf.all.accept_redirects = 1
        net.ipv4.conf.eth1.accept_redirects = 1
        net.ipv4.conf.all.secure_redirects = 0
        net.ipv4.conf.eth1.secure_redirects = 0
    """)
    node.ip(f"route add {NET[4]} via {one.ip}")
    for own in (
        IP(src=node.address("eth1"), dst=FAR[4]) / UDP(sport=1, dport=2),
        IP(src=node.address("eth1"), dst=FAR[4]) / ICMP(type=8),
    ):
        node.send(client.packet(QUERY, to=FAR[4], src=node.address("eth1")))
        one.send(ICMP(type=5, code=1, gw=other.ip) / Raw(bytes(own)), to=node.address("eth1"))
        node.send(client.packet(QUERY, to=FAR[4], src=node.address("eth1")))


@scenario(families=(4, 6))
def redirects_that_go_out(node: Node) -> None:
    """Redirects: by default and all settings, to a next hop in the subnet and beyond it, translated and marked packets."""
    client, one, _ = fork(node)
    gateway = node.peer("eth0", "10.0.1.9" if node.family == 4 else "fd00:1::9")
    alien = node.peer("eth0", "172.16.0.9" if node.family == 4 else "fd00:16::9", neighbour=True)
    if node.family == 4:
        node.sysctl("""
            net.ipv4.conf.all.send_redirects = 0
            net.ipv4.conf.eth0.send_redirects = 1
        """)
    far, mid = NET[node.family], "198.51.100.0/24" if node.family == 4 else "2001:db8:5::/48"
    node.ip(f"{node.dash}route add {far} via {gateway.ip}")
    node.ip(f"{node.dash}route add {mid} via {alien.ip} dev eth0 onlink")
    client.send(QUERY, to=FAR[node.family])
    client.send(QUERY, to="198.51.100.9" if node.family == 4 else "2001:db8:5::9")
    client.send(QUERY, to=gateway)
    client.send(QUERY, to=FAR[node.family], src="10.0.7.7" if node.family == 4 else "fd00:7::7")
    del one


@scenario(families=(4, 6))
def same_prefix_of_many_kinds(node: Node) -> None:
    """Routes to one prefix that differ in metric, table, device and type; the one of the smallest metric wins."""
    client, one, two = fork(node)
    net = NET[node.family]
    node.ip(f"""
        {node.dash}route add unreachable {net} metric 50
        {node.dash}route add {net} via {two.ip} metric 20
        {node.dash}route add {net} via {one.ip} metric 30
        {node.dash}route add prohibit default metric 10
        {node.dash}route add default via {one.ip} metric 5
    """)
    client.send(QUERY, to=FAR[node.family])
    client.send(QUERY, to="198.51.100.1" if node.family == 4 else "2001:dead::1")


@scenario(families=(4, 6))
def translated_and_routed_again(node: Node) -> None:
    """DNAT, marks and rules together: the request takes the marked way, the answer its own; CONNMARK brings the mark back."""
    client, one, two = fork(node)
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    backend = FAR[node.family]
    node.ip(f"""
        {node.dash}route add {NET[node.family]} via {one.ip}
        {node.dash}route add {NET[node.family]} via {two.ip} table 100
        {node.dash}rule add fwmark 0x4 lookup 100
    """)
    shown = backend if node.family == 4 else f"[{backend}]"
    node.rules(f"""
        -t mangle -A PREROUTING -i eth0 -j CONNMARK --set-mark 0x4
        -t mangle -A PREROUTING -j CONNMARK --restore-mark
        -t mangle -A OUTPUT -j CONNMARK --restore-mark
        -t nat -A PREROUTING -d {vip} -p tcp --dport 80 -j DNAT --to-destination {shown}:8080
        -t nat -A POSTROUTING -o eth2 -j MASQUERADE
    """)
    Talk(client, two, to=vip).open()
    request = client.send(UDP(sport=1, dport=2), to=FAR[node.family]).only(two)
    two.send(reply(request, b"answer"))
