"""A packet from one link to the other: TTL, MTU, headers, and what is not forwarded."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import echo, network, transport
from scapy.layers.inet import ICMP, IP, UDP, IPOption_LSRR, IPOption_NOP, IPOption_Router_Alert, IPOption_RR
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, RouterAlert
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

QUERY = UDP(sport=4000, dport=53) / b"query"


@scenario(families=(4, 6))
def ttl_falls_by_one(node: Node) -> None:
    """A forwarded packet leaves with TTL - 1 and the MAC addresses of the next link; nothing else changes."""
    client, server = node.router()
    out = client.send(QUERY, to=server, ttl=64).only(server)
    assert (out.src, out.dst) == (node.mac("eth1"), server.mac)
    assert (out.payload.ttl if node.family == 4 else out.payload.hlim) == 63
    assert bytes(transport(out))[8:] == b"query"


@scenario(families=(4, 6))
def ttl_one_ends_here(node: Node) -> None:
    """TTL 1 is not forwarded: the sender gets time exceeded from the node's address on its side."""
    client, server = node.router()
    error = client.send(QUERY, to=server, ttl=1).only(client)
    assert (network(error).src, network(error).dst) == ((node.address("eth0")), client.ip)


@scenario(families=(4, 6))
def ttl_two_is_forwarded(node: Node) -> None:
    """TTL 2 still passes, and arrives as 1."""
    client, server = node.router()
    client.send(QUERY, to=server, ttl=2).only(server)


@scenario()
def ttl_zero_ends_here(node: Node) -> None:
    """TTL 0 is treated as 1."""
    client, server = node.router()
    client.send(QUERY, to=server, ttl=0).only(client)


@scenario(families=(4, 6))
def ttl_one_of_an_icmp_error_is_silent(node: Node) -> None:
    """An ICMP error that dies of its TTL makes no other error; an echo request does."""
    client, server = node.router()
    lost = client.packet(QUERY, to=server)
    error = ICMP(type=3, code=3) / Raw(bytes(lost)) if node.family == 4 else None
    if error is not None:
        assert not client.send(error, to=server, ttl=1)
    client.send(echo(node.family), to=server, ttl=1).only(client)


@scenario()
def header_fields_survive(node: Node) -> None:
    """TOS, id, DF and the evil bit pass unchanged."""
    client, server = node.router()
    for fields in ({"tos": 0xFF}, {"id": 0}, {"id": 0xFFFF}, {"flags": "DF"}, {"flags": "evil"}):
        client.send(QUERY, to=server, **fields).only(server)


@scenario(families=(6,))
def traffic_class_and_flow_label_survive(node: Node) -> None:
    """Traffic class and flow label pass unchanged."""
    client, server = node.router()
    out = client.send(QUERY, to=server, tos=0xB9, fl=0xABCDE).only(server)
    assert (network(out).tc, network(out).fl) == (0xB9, 0xABCDE)


@scenario()
def checksum_of_the_header_is_updated_not_made_anew(node: Node) -> None:
    """Header checksums near 0x0000 and 0xffff after the TTL has fallen."""
    client, server = node.router()
    for ident in (0x63C9, 0x63CA, 0x63C8, 0x62C9, 0x64C9, 0x6447, 0x6448, 0x6449):
        client.send(QUERY, to=server, id=ident).only(server)


@scenario()
def wrong_transport_checksum_is_forwarded(node: Node) -> None:
    """A router does not look at UDP's checksum: a wrong one passes as it came."""
    client, server = node.router()
    client.send(UDP(sport=4000, dport=53, chksum=0xDEAD) / b"query", to=server).only(server)


@scenario()
def bad_header_is_dropped(node: Node) -> None:
    """Wrong header checksum, version, header length, and a total length beyond the frame."""
    client, server = node.router()
    for fields in ({"chksum": 1}, {"version": 5}, {"ihl": 4}, {"ihl": 15}, {"len": 1000}, {"len": 19}):
        assert not client.send(QUERY, to=server, **fields)


@scenario(families=(6,))
def bad_ipv6_header_is_dropped(node: Node) -> None:
    """Wrong version, and a payload length beyond the frame."""
    client, server = node.router()
    assert not client.send(QUERY, to=server, version=4)
    assert not client.send(QUERY, to=server, plen=1000)


@scenario(families=(4, 6))
def frame_cut_short_is_dropped(node: Node) -> None:
    """A frame that ends inside the IP header, and one that ends inside the packet."""
    client, server = node.router()
    frame = bytes(Ether(src=client.mac, dst=client.gateway) / client.packet(QUERY, to=server))
    for length in (14, 20, 33, 34 if node.family == 4 else 54, len(frame) - 1):
        assert not node.receive("eth0", frame[:length])


@scenario(families=(4, 6))
def padding_is_trimmed(node: Node) -> None:
    """The padding of a short Ethernet frame does not travel on."""
    client, server = node.router()
    frame = bytes(Ether(src=client.mac, dst=client.gateway) / client.packet(b"", to=server, proto=253))
    out = node.receive("eth0", frame + bytes(60 - len(frame)) if len(frame) < 60 else frame + bytes(6))
    assert len(bytes(out.only(server))) == len(frame)


@scenario(families=(4, 6))
def another_mac_is_not_ours(node: Node) -> None:
    """A frame for another MAC address is ignored (OTHERHOST)."""
    client, server = node.router()
    assert not client.send(QUERY, to=server, mac="02:00:00:00:00:99")


@scenario(families=(4, 6))
def unicast_packet_in_a_broadcast_frame_is_not_forwarded(node: Node) -> None:
    """Only a frame to the node's own MAC address is forwarded."""
    client, server = node.router()
    assert not client.send(QUERY, to=server, mac="ff:ff:ff:ff:ff:ff")
    assert not client.send(QUERY, to=server, mac="01:00:5e:00:00:01")


@scenario()
def vlan_tag_without_vlan_device_is_dropped(node: Node) -> None:
    """A tagged frame is nobody's when no device has the tag; a priority tag (VLAN 0) is taken as untagged."""
    client, server = node.router()
    packet = client.packet(QUERY, to=server)
    assert not node.receive("eth0", Ether(src=client.mac, dst=client.gateway) / Dot1Q(vlan=5) / packet)
    node.receive("eth0", Ether(src=client.mac, dst=client.gateway) / Dot1Q(vlan=0, prio=3) / packet).only(server)


@scenario()
def unknown_ethertype_is_dropped(node: Node) -> None:
    """A frame of a protocol that nobody handles."""
    client, _ = node.router()
    assert not node.receive("eth0", Ether(src=client.mac, dst=client.gateway, type=0x88B5) / bytes(46))


@scenario(families=(4, 6))
def forwarding_off(node: Node) -> None:
    """Without forwarding a packet for somebody else is dropped, and nobody is told."""
    client, server = node.router()
    node.sysctl("net.ipv4.ip_forward = 0" if node.family == 4 else "net.ipv6.conf.all.forwarding = 0")
    assert not client.send(QUERY, to=server)


@scenario()
def forwarding_off_at_one_interface(node: Node) -> None:
    """Forwarding is decided by the interface that the packet enters."""
    client, server = node.router()
    node.sysctl("net.ipv4.conf.eth0.forwarding = 0")
    assert not client.send(QUERY, to=server)
    server.send(QUERY, to=client).only(client)


@scenario(families=(4, 6))
def no_route(node: Node) -> None:
    """No route to the destination: network unreachable."""
    client, _ = node.router()
    client.send(QUERY, to="203.0.113.1" if node.family == 4 else "2001:db8::1").only(client)


@scenario(families=(4, 6))
def default_route_through_a_gateway(node: Node) -> None:
    """A packet by way of a gateway goes to the gateway's MAC address."""
    client, server = node.router()
    node.ip(f"{node.dash}route add default via {server.ip}")
    out = client.send(QUERY, to="203.0.113.1" if node.family == 4 else "2001:db8::1").only(server)
    assert out.dst == server.mac


@scenario(families=(4, 6))
def blackhole_unreachable_prohibit(node: Node) -> None:
    """Three kinds of route that refuse: silence, host unreachable, administratively prohibited."""
    client, _ = node.router()
    prefixes = ["198.51.100.0/26", "198.51.100.64/26", "198.51.100.128/26"]
    targets = ["198.51.100.1", "198.51.100.65", "198.51.100.129"]
    if node.family == 6:
        prefixes, targets = (
            ["2001:db8:1::/64", "2001:db8:2::/64", "2001:db8:3::/64"],
            ["2001:db8:1::1", "2001:db8:2::1", "2001:db8:3::1"],
        )
    kinds = ("blackhole", "unreachable", "prohibit")
    node.ip("\n".join(f"{node.dash}route add {kind} {prefix}" for kind, prefix in zip(kinds, prefixes, strict=True)))
    assert not client.send(QUERY, to=targets[0])
    client.send(QUERY, to=targets[1]).only(client)
    client.send(QUERY, to=targets[2]).only(client)


@scenario()
def longest_prefix_wins(node: Node) -> None:
    """A host route inside a network route inside a default route."""
    client, server = node.router()
    other = node.peer("eth1", "10.0.2.3")
    node.ip(f"""
        route add default via {client.ip}
        route add 203.0.113.0/24 via {server.ip}
        route add 203.0.113.7/32 via {other.ip}
        route add 203.0.112.0/23 via {client.ip}
    """)
    assert client.send(QUERY, to="203.0.113.1").only("eth1").dst == server.mac
    assert client.send(QUERY, to="203.0.113.7").only("eth1").dst == other.mac
    assert client.send(QUERY, to="203.0.112.1").only("eth0").dst == client.mac
    assert client.send(QUERY, to="192.0.2.1").only("eth0").dst == client.mac


@scenario()
def smaller_metric_wins(node: Node) -> None:
    """Of two routes to one prefix the one with the smaller metric is taken."""
    client, server = node.router()
    other = node.peer("eth1", "10.0.2.3")
    node.ip(f"""
        route add 203.0.113.0/24 via {other.ip} metric 200
        route add 203.0.113.0/24 via {server.ip} metric 100
    """)
    assert client.send(QUERY, to="203.0.113.1").only("eth1").dst == server.mac


@scenario()
def same_interface_in_and_out(node: Node) -> None:
    """A packet that leaves by the interface it came in by is forwarded; redirects are switched off here."""
    client, _ = node.router()
    other = node.peer("eth0", "10.0.1.3")
    assert client.send(QUERY, to=other).only("eth0").dst == other.mac


@scenario(families=(6,))
def ipv6_redirect_is_sent_to_a_neighbour(node: Node) -> None:
    """IPv6 has no switch for redirects: the sender is told, with the target's MAC address and the packet quoted."""
    client, _ = node.router()
    other = node.peer("eth0", "fd00:1::3")
    out = client.send(QUERY, to=other).at("eth0")
    assert [packet.dst for packet in out] == [client.mac, other.mac]


@scenario(families=(6,))
def ipv6_redirect_that_is_rejected(node: Node) -> None:
    """REJECT answers the node's own redirect, at its own link-local address: the error is heard by lo."""
    client, _ = node.router()
    other = node.peer("eth0", "fd00:1::3")
    node.ip(f"-6 route add 2001:db8:9::/48 via {other.ip}")
    node.rules("""
        -A OUTPUT ! -o lo -p icmpv6 --icmpv6-type redirect -j REJECT --reject-with icmp6-port-unreachable
        -A INPUT -i lo
    """)
    assert len(client.send(QUERY, to="2001:db8:9::1")) == 1


@scenario()
def redirect_is_sent_to_a_neighbour(node: Node) -> None:
    """With send_redirects the sender is told of the better next hop, before the packet itself goes out."""
    client, _ = node.router()
    other = node.peer("eth0", "10.0.1.3")
    node.ip(f"route add 203.0.113.0/24 via {other.ip}")
    node.sysctl("net.ipv4.conf.eth0.send_redirects = 1")
    out = client.send(QUERY, to="203.0.113.1").at("eth0")
    assert [packet.dst for packet in out] == [client.mac, other.mac]
    assert out[0][ICMP].gw == other.ip


@scenario()
def directed_broadcast_is_not_forwarded(node: Node) -> None:
    """A packet to the broadcast address of the other link goes no further."""
    client, _ = node.router()
    assert not client.send(QUERY, to="10.0.2.255")


@scenario()
def multicast_is_not_forwarded(node: Node) -> None:
    """Without multicast routing a group's packet goes no further, whatever its scope."""
    client, _ = node.router()
    assert not client.send(QUERY, to="239.1.2.3", mac="01:00:5e:01:02:03")
    assert not client.send(QUERY, to="224.0.0.251", mac="01:00:5e:00:00:fb")


@scenario()
def too_big_with_df(node: Node) -> None:
    """A DF packet larger than the next link's MTU: fragmentation needed, with that MTU."""
    client, server = node.router(far_mtu=1400)
    client.send(UDP(sport=1, dport=2) / bytes(1372), to=server, flags="DF").only(server)
    error = client.send(UDP(sport=1, dport=2) / bytes(1373), to=server, flags="DF").only(client)
    assert (error[ICMP].code, error[ICMP].nexthopmtu, len(error[IP])) == (4, 1400, 576)


@scenario(families=(6,))
def too_big(node: Node) -> None:
    """An IPv6 packet larger than the next link's MTU: packet too big, quoting up to 1280 bytes."""
    client, server = node.router(far_mtu=1400)
    client.send(UDP(sport=1, dport=2) / bytes(1352), to=server).only(server)
    error = client.send(UDP(sport=1, dport=2) / bytes(1353), to=server).only(client)
    assert len(error[IPv6]) == 1280


@scenario()
def too_big_without_df_is_fragmented(node: Node) -> None:
    """Fragments carry the MTU less the header, down to a multiple of 8; they share the id."""
    client, server = node.router(far_mtu=1003)
    for size in (975, 976, 1400):
        client.send(UDP(sport=1, dport=2) / bytes(i % 251 for i in range(size)), to=server)


@scenario()
def fragments_keep_only_options_marked_for_copying(node: Node) -> None:
    """Router alert is copied into each fragment; record route is in the first only, NOPs take its place."""
    client, server = node.router(far_mtu=600)
    options = [IPOption_Router_Alert(), IPOption_RR(routers=["0.0.0.0"]), IPOption_NOP()]
    out = client.send(UDP(sport=1, dport=2) / bytes(1200), to=server, options=options)
    assert [packet[IP].ihl for packet in out.at(server)] == [8, 8, 8]


@scenario()
def fragment_of_a_fragment(node: Node) -> None:
    """A fragment that is too big is cut again, and the more-fragments flag stays where it was."""
    client, server = node.router(far_mtu=600)
    client.send(Raw(bytes(1000)), to=server, proto=17, frag=100, flags="MF")
    client.send(Raw(bytes(1000)), to=server, proto=17, frag=225)


@scenario()
def route_mtu(node: Node) -> None:
    """The MTU of a route counts for forwarding, locked or not."""
    client, server = node.router()
    node.ip(f"""
        route add 203.0.113.0/25 via {server.ip} mtu 1000
        route add 203.0.113.128/25 via {server.ip} mtu lock 1000
    """)
    client.send(UDP(sport=1, dport=2) / bytes(1300), to="203.0.113.1", flags="DF").only(client)
    client.send(UDP(sport=1, dport=2) / bytes(1300), to="203.0.113.129", flags="DF").only(client)


@scenario()
def options_pass(node: Node) -> None:
    """NOP, router alert and record route: the last one gets the node's address on the way out."""
    client, server = node.router()
    client.send(QUERY, to=server, options=[IPOption_NOP()] * 4).only(server)
    client.send(QUERY, to=server, options=[IPOption_Router_Alert()])
    out = client.send(QUERY, to=server, options=[IPOption_RR(routers=["0.0.0.0", "0.0.0.0"])]).only(server)
    assert out[IP].options[0].routers[0] == node.address("eth1")


@scenario()
def source_route_is_refused(node: Node) -> None:
    """Loose source routing is not accepted by default."""
    client, server = node.router()
    assert not client.send(QUERY, to=node.address("eth0"), options=[IPOption_LSRR(routers=[server.ip])]).at(server)


@scenario(families=(6,))
def extension_headers_pass(node: Node) -> None:
    """Hop-by-hop and destination options are carried along."""
    client, server = node.router()
    for extension in (IPv6ExtHdrHopByHop(options=[RouterAlert()]), IPv6ExtHdrDestOpt()):
        client.send(IPv6(src=client.ip, dst=server.ip) / extension / QUERY)


@scenario(families=(6,))
def link_local_is_not_forwarded(node: Node) -> None:
    """A link-local source or destination stays on its link."""
    client, server = node.router()
    client.send(IPv6(src="fe80::1:2", dst=server.ip) / QUERY)
    client.send(IPv6(src=client.ip, dst="fe80::1:2") / QUERY)


@scenario(families=(4, 6))
def counters_count_frames(node: Node) -> None:
    """Interface counters: forwarded, local and dropped packets, bytes with the Ethernet header."""
    client, server = node.router()
    for size in (0, 1, 100, 1000):
        client.send(UDP(sport=1, dport=2) / bytes(size), to=server)
        server.send(UDP(sport=2, dport=1) / bytes(size), to=client)
    client.send(QUERY, to=server, ttl=1)


@scenario(families=(4, 6))
def sends_its_own(node: Node) -> None:
    """Packets of the node's own: TTL as given, to a neighbour and by way of a gateway."""
    _, server = node.router()
    far = "203.0.113.1" if node.family == 4 else "2001:db8::1"
    node.ip(f"{node.dash}route add default via {server.ip}")
    for target in (server.ip, far):
        ip = (
            IP(src=node.address("eth1"), dst=target, id=7)
            if node.family == 4
            else IPv6(src=node.address("eth1"), dst=target)
        )
        node.send(ip / QUERY).only(server)


@scenario(families=(6,))
def hop_by_hop_options(node: Node) -> None:
    """Hop-by-hop options are read before any rule: what is malformed is dropped, what is unknown by its two first bits."""
    client, server = node.router()
    node.rules("-t raw -A PREROUTING -m length --length 0:65535")
    for options in (
        "000000000000", "010400000000", "010400000100", "050200000100", "05020000010005020000010000000000", "0503000000",
        "060400000000", "460400000000", "860400000000", "c60400000000", "c20400010000", "0105000000", "01", "0700",
        "01060000000000000106000000000000", "31040000000000", "00000000000000000000000000001e00",
    ):  # fmt: skip
        body = bytes.fromhex(options)
        body += bytes(-(len(body) + 2) % 8)
        for to in (server, node.address("eth0"), "ff02::1"):
            header = bytes([17, (len(body) + 2) // 8 - 1]) + body
            client.send(
                IPv6(src=client.ip, dst=getattr(to, "ip", to), nh=0) / Raw(header + bytes(UDP(sport=4, dport=5)))
            )
    for body in (b"", b"\x11", b"\x11\0\1\4", b"\x11\1\1\4\0\0\0\0"):
        client.send(IPv6(src=client.ip, dst=server.ip, nh=0) / Raw(body))
