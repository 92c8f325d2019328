"""What the node itself answers: echo, unreachable ports and protocols, resets; and where errors come from."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import echo, icmp_error, network, transport
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6Unknown, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

BIG = bytes(range(256)) * 4


@scenario(families=(4, 6))
def echo_reply(node: Node) -> None:
    """The node answers an echo request with the same id, sequence and data, from the address that was asked."""
    client, _ = node.router()
    answer = client.send(echo(node.family), to=node.address("eth0")).only(client)
    assert network(answer).src == node.address("eth0")
    client.send(echo(node.family, 8, 2, b""), to=node.address("eth0")).only(client)
    client.send(echo(node.family, 9, 3, BIG), to=node.address("eth0")).only(client)


@scenario(families=(4, 6))
def echo_to_an_address_of_another_interface(node: Node) -> None:
    """Every address of the node is answered at every interface."""
    client, _ = node.router()
    answer = client.send(echo(node.family), to=node.address("eth1")).only(client)
    assert network(answer).src == node.address("eth1")


@scenario(families=(4, 6))
def echo_keeps_the_tos(node: Node) -> None:
    """The answer bears the TOS of the request; TTL is the node's own; DF is not copied."""
    client, _ = node.router()
    for tos in (0x10, 0xB8, 0x03, 0xFF):
        client.send(echo(node.family), to=node.address("eth0"), tos=tos, ttl=3).only(client)
    if node.family == 4:
        client.send(echo(4), to=node.address("eth0"), flags="DF").only(client)


@scenario(families=(4, 6))
def echo_with_a_wrong_checksum(node: Node) -> None:
    """A wrong ICMP checksum is dropped without an answer."""
    client, _ = node.router()
    wrong = ICMP(type=8, id=1, seq=1, chksum=0xBAD) if node.family == 4 else ICMPv6EchoRequest(id=1, seq=1, cksum=0xBAD)
    assert not client.send(wrong, to=node.address("eth0"))


@scenario()
def echo_to_broadcast_is_ignored(node: Node) -> None:
    """Echo requests to broadcast addresses get no answer by default."""
    client, _ = node.router()
    for target in ("10.0.1.255", "255.255.255.255", "10.0.1.0"):
        client.send(echo(4), to=target, mac="ff:ff:ff:ff:ff:ff")


@scenario()
def echo_to_broadcast_is_answered_if_allowed(node: Node) -> None:
    """With icmp_echo_ignore_broadcasts=0 the answer comes from the interface's address."""
    client, _ = node.router()
    node.sysctl("net.ipv4.icmp_echo_ignore_broadcasts = 0")
    client.send(echo(4), to="10.0.1.255", mac="ff:ff:ff:ff:ff:ff").only(client)


@scenario(families=(6,))
def echo_to_all_nodes(node: Node) -> None:
    """An echo request to ff02::1 is answered from the interface's address."""
    client, _ = node.router()
    client.send(echo(6), to="ff02::1", mac="33:33:00:00:00:01")


@scenario()
def echo_ignored(node: Node) -> None:
    """icmp_echo_ignore_all silences the node."""
    client, _ = node.router()
    node.sysctl("net.ipv4.icmp_echo_ignore_all = 1")
    assert not client.send(echo(4), to=node.address("eth0"))


@scenario()
def large_echo_is_fragmented_both_ways(node: Node) -> None:
    """A request in fragments is put together, and the answer is cut to the MTU."""
    client, _ = node.router()
    whole = client.packet(echo(4, data=bytes(i % 251 for i in range(3000))), to=node.address("eth0"))
    out = []
    for part in whole.fragment(1480):
        out = client.send(part)
    assert len(out) == 3


@scenario()
def obsolete_types_are_ignored(node: Node) -> None:
    """Information and address mask requests, router solicitations and unknown types get no answer."""
    client, _ = node.router()
    for kind in (1, 9, 10, 15, 17, 30, 42, 200):
        assert not client.send(ICMP(type=kind) / bytes(8), to=node.address("eth0"))


@scenario(families=(6,))
def unknown_icmpv6_types_are_ignored(node: Node) -> None:
    """Unknown informational types and an unknown error get no answer."""
    client, _ = node.router()
    for kind in (100, 150, 200, 255):
        assert not client.send(ICMPv6Unknown(type=kind, msgbody=bytes(8)), to=node.address("eth0"))


@scenario(families=(4, 6))
def udp_port_unreachable(node: Node) -> None:
    """A datagram to a port that nobody listens on: port unreachable, with as much of it as fits."""
    client, _ = node.router()
    client.send(UDP(sport=5000, dport=9) / b"x", to=node.address("eth0")).only(client)
    client.send(UDP(sport=5000, dport=9) / BIG, to=node.address("eth0")).only(client)


@scenario(families=(4, 6))
def udp_with_a_listener(node: Node) -> None:
    """A datagram to an open port is taken in silence."""
    client, _ = node.router()
    node.listen("udp", 53)
    assert not client.send(UDP(sport=5000, dport=53) / b"x", to=node.address("eth0"))


@scenario(families=(4, 6))
def udp_with_a_wrong_checksum(node: Node) -> None:
    """A wrong UDP checksum is dropped in silence, port open or not; no checksum at all is fine in IPv4 alone."""
    client, _ = node.router()
    node.listen("udp", 53)
    for port in (9, 53):
        assert not client.send(UDP(sport=5000, dport=port, chksum=0xBAD) / b"x", to=node.address("eth0"))
    client.send(UDP(sport=5000, dport=9, chksum=0) / b"x", to=node.address("eth0"))


@scenario(families=(4, 6))
def udp_with_a_wrong_length(node: Node) -> None:
    """A UDP length beyond the packet, or below 8, is dropped; a shorter one cuts the payload."""
    client, _ = node.router()
    for length in (7, 0, 500):
        client.send(UDP(sport=5000, dport=9, len=length) / b"payload", to=node.address("eth0"))


@scenario(families=(4, 6))
def protocol_unreachable(node: Node) -> None:
    """A protocol that nobody handles: protocol unreachable; in IPv6 a parameter problem at the next header."""
    client, _ = node.router()
    client.send(Raw(bytes(16)), to=node.address("eth0"), proto=253).only(client)


@scenario(families=(4, 6))
def tcp_reset_from_a_closed_port(node: Node) -> None:
    """A segment to a closed port: RST for SYN, SYN with data, ACK, FIN; nothing for RST."""
    client, _ = node.router()
    here = node.address("eth0")
    client.send(TCP(sport=5000, dport=81, flags="S", seq=1000), to=here).only(client)
    client.send(TCP(sport=5001, dport=81, flags="S", seq=1000) / b"12345", to=here).only(client)
    client.send(TCP(sport=5002, dport=81, flags="A", seq=1000, ack=77), to=here).only(client)
    client.send(TCP(sport=5003, dport=81, flags="FA", seq=1000, ack=77) / b"123", to=here).only(client)
    client.send(TCP(sport=5004, dport=81, flags="F", seq=1000) / b"123", to=here).only(client)
    assert not client.send(TCP(sport=5005, dport=81, flags="R", seq=1000), to=here)
    assert not client.send(TCP(sport=5006, dport=81, flags="RA", seq=1000, ack=1), to=here)


@scenario(families=(4, 6))
def tcp_with_a_wrong_checksum(node: Node) -> None:
    """A wrong TCP checksum is dropped in silence."""
    client, _ = node.router()
    assert not client.send(TCP(sport=5000, dport=81, flags="S", chksum=0xBAD), to=node.address("eth0"))


@scenario(families=(4, 6))
def tcp_with_a_listener(node: Node) -> None:
    """A SYN to an open port is delivered (the listener here never answers)."""
    client, _ = node.router()
    node.listen("tcp", 80)
    assert not client.send(TCP(sport=5000, dport=80, flags="S", seq=1000), to=node.address("eth0"))


@scenario(families=(4, 6))
def no_error_for_broadcast_or_multicast(node: Node) -> None:
    """A datagram to a broadcast or multicast address never makes an error."""
    client, _ = node.router()
    if node.family == 4:
        assert not client.send(UDP(sport=1, dport=9), to="10.0.1.255", mac="ff:ff:ff:ff:ff:ff")
        assert not client.send(UDP(sport=1, dport=9), to="224.0.0.1", mac="01:00:5e:00:00:01")
        assert not client.send(UDP(sport=1, dport=9), to=node.address("eth0"), mac="ff:ff:ff:ff:ff:ff")
    else:
        assert not client.send(UDP(sport=1, dport=9), to="ff02::1", mac="33:33:00:00:00:01")


@scenario(families=(4, 6))
def no_error_about_an_error(node: Node) -> None:
    """ICMP errors to the node are taken in silence, even nonsensical ones."""
    client, server = node.router()
    about = client.packet(UDP(sport=1, dport=2), to=node.address("eth0"))
    for what in ("port unreachable", "too big", "time exceeded", "parameter problem"):
        assert not client.send(icmp_error(what, about, mtu=1400), to=node.address("eth0"))


@scenario()
def no_error_about_a_later_fragment(node: Node) -> None:
    """A fragment other than the first makes no error: TTL 1, no route."""
    client, server = node.router()
    assert not client.send(Raw(bytes(64)), to=server, proto=17, frag=10, ttl=1)
    assert not client.send(Raw(bytes(64)), to="203.0.113.1", proto=17, frag=10)
    client.send(Raw(bytes(64)), to=server, proto=17, frag=0, flags="MF", ttl=1).only(client)


@scenario()
def error_quotes_up_to_576_bytes(node: Node) -> None:
    """An ICMP error is at most 576 bytes long; a smaller packet is quoted whole."""
    client, server = node.router()
    for size in (0, 8, 519, 520, 521, 1000):
        error = client.send(UDP(sport=1, dport=9) / bytes(size), to=server, ttl=1).only(client)
        assert len(error[IP]) == min(576, 20 + 8 + 28 + size)


@scenario()
def error_keeps_the_dscp(node: Node) -> None:
    """TOS of an error: that of the packet with precedence set to internetwork control."""
    client, server = node.router()
    for tos in (0x00, 0x02, 0x10, 0x1C, 0x20, 0xB8, 0xFF):
        client.send(UDP(sport=1, dport=9), to=server, ttl=1, tos=tos).only(client)


@scenario()
def error_comes_from_the_side_of_the_sender(node: Node) -> None:
    """The source of an error is the address of the route back to the sender, not of the interface it came in by."""
    client, server = node.router()
    node.ip(f"route add 203.0.113.0/24 via {server.ip}")
    error = client.send(UDP(sport=1, dport=9), to=server, src="203.0.113.9", ttl=1).only(server)
    assert error[IP].src == node.address("eth1")


@scenario()
def error_comes_from_the_inbound_address_if_told_so(node: Node) -> None:
    """icmp_errors_use_inbound_ifaddr=1: the primary address of the interface that the packet came in by."""
    client, server = node.router()
    node.ip(f"route add 203.0.113.0/24 via {server.ip}")
    node.sysctl("net.ipv4.icmp_errors_use_inbound_ifaddr = 1")
    error = client.send(UDP(sport=1, dport=9), to=server, src="203.0.113.9", ttl=1).only(server)
    assert error[IP].src == node.address("eth0")


@scenario(families=(4, 6))
def error_from_the_address_that_was_asked(node: Node) -> None:
    """An error about a packet to the node itself comes from the address that it was sent to."""
    client, _ = node.router()
    error = client.send(UDP(sport=1, dport=9), to=node.address("eth1")).only(client)
    assert network(error).src == node.address("eth1")


@scenario(families=(4, 6))
def error_to_a_sender_without_a_route_back(node: Node) -> None:
    """Nobody can be told: the sender's network is unknown here."""
    client, server = node.router()
    far = "203.0.113.9" if node.family == 4 else "2001:db8::9"
    assert not client.send(UDP(sport=1, dport=9), to=server, src=far, ttl=1)


@scenario()
def rate_limit_per_destination(node: Node) -> None:
    """icmp_ratelimit: errors to one sender are limited to one a second after a burst of six; echo replies are not."""
    client, server = node.router()
    node.sysctl("""
        net.ipv4.icmp_ratemask = 6168
        net.ipv4.icmp_ratelimit = 1000
    """)
    told = [bool(client.send(UDP(sport=1, dport=9), to=server, ttl=1)) for _ in range(8)]
    assert told == [True] * 6 + [False] * 2
    client.send(echo(4), to=node.address("eth0")).only(client)
    other = node.address("eth0")
    assert not client.send(UDP(sport=1, dport=9), to=other)


@scenario(families=(4, 6))
def payload_of_a_tcp_syn_without_a_route(node: Node) -> None:
    """TCP is told of unreachable networks like any other protocol."""
    client, _ = node.router()
    far = "203.0.113.9" if node.family == 4 else "2001:db8::9"
    error = client.send(TCP(sport=1, dport=9, flags="S"), to=far).only(client)
    assert bytes(transport(error))[0] == (3 if node.family == 4 else 1)


@scenario()
def echo_reply_nobody_asked_for(node: Node) -> None:
    """An echo reply that answers nothing is dropped in silence."""
    client, _ = node.router()
    assert not client.send(ICMP(type=0, id=5, seq=1) / b"abc", to=node.address("eth0"))


@scenario()
def frame_for_the_node_with_a_foreign_mac(node: Node) -> None:
    """Even the node's own IP address is not answered in a frame for another MAC address."""
    client, _ = node.router()
    frame = Ether(src=client.mac, dst="02:00:00:00:00:77") / client.packet(echo(4), to=node.address("eth0"))
    assert not node.receive("eth0", frame)


@scenario(families=(6,))
def echo_to_the_link_local_address(node: Node) -> None:
    """The node's link-local address answers on its link."""
    client, _ = node.router()
    node.ip("-6 neigh add fe80::99 lladdr 02:00:00:01:01:99 dev eth0 nud permanent")
    request = IPv6(src="fe80::99", dst="fe80::ff:fe00:1") / echo(6)
    client.send(request).only(client)
