"""Connection tracking of what has no ports of its own kind: GRE, DCCP, tunnels, ESP, unknown protocols, ICMP in detail."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, echo, reply
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6NIQueryIPv6,
    ICMPv6NIReplyIPv6,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
)
from scapy.packet import Raw

from scenarios.conntrack_tcp import COUNT_STATES

GRE = {
    "plain": bytes.fromhex("00000800"),
    "with a key": bytes.fromhex("2000080000000007"),
    "with checksum": bytes.fromhex("800008000000000000000000"),
    "PPTP": bytes.fromhex("3001880b00040007"),
    "PPTP of another call": bytes.fromhex("3001880b00040008"),
    "version 1 of another protocol": bytes.fromhex("3001080000040007"),
    "version 2": bytes.fromhex("0002080000000000"),
    "PPTP cut short": bytes.fromhex("3001880b0004"),
    "no whole header": bytes.fromhex("0000"),
}


def tracked(node: Node) -> tuple[Peer, Peer]:
    client, server = node.router()
    node.rules(COUNT_STATES)
    return client, server


@scenario(families=(4, 6))
def gre_of_every_kind(node: Node) -> None:
    """GRE without and with keys has keys 0; PPTP's call id is the destination key; other version 1 is INVALID."""
    client, server = tracked(node)
    for header in GRE.values():
        client.send(Raw(header + b"data"), to=server, proto=47)
        client.send(Raw(header), to=server, proto=47)


@scenario()
def gre_both_ways(node: Node) -> None:
    """PPTP's calls have an id each way: without a helper the answer is another flow."""
    client, server = tracked(node)
    client.send(Raw(GRE["PPTP"] + b"data"), to=server, proto=47)
    server.send(Raw(GRE["PPTP of another call"] + b"data"), to=client, proto=47)
    server.send(Raw(GRE["PPTP"] + b"data"), to=client, proto=47)
    client.send(Raw(GRE["plain"] + b"data"), to=server, proto=47)
    server.send(Raw(GRE["with a key"] + b"data"), to=client, proto=47)
    client.send(Raw(GRE["plain"] + b"data"), to=server, proto=47)


@scenario()
def gre_timeouts_by_sysctl(node: Node) -> None:
    """gre_timeout and gre_timeout_stream."""
    client, server = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_gre_timeout = 77\nnet.netfilter.nf_conntrack_gre_timeout_stream = 88")
    client.send(Raw(GRE["plain"]), to=server, proto=47)
    server.send(Raw(GRE["plain"]), to=client, proto=47)
    client.send(Raw(GRE["plain"]), to=server, proto=47)


@scenario(families=(4, 6))
def gre_through_nat(node: Node) -> None:
    """GRE is translated by its addresses alone; versions above 1 are dropped, and what is shorter than 8 bytes."""
    client, server = node.router()
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    node.rules(f"-t nat -A PREROUTING -d {vip} -j DNAT --to-destination {server.ip}")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    for header in GRE.values():
        client.send(Raw(header + b"data"), to=vip, proto=47)
        client.send(Raw(header), to=vip, proto=47)
    server.send(Raw(GRE["plain"] + b"back"), to=node.address("eth1"), proto=47)
    server.send(Raw(GRE["PPTP"] + b"back"), to=node.address("eth1"), proto=47)


@scenario()
def second_client_of_gre(node: Node) -> None:
    """Two clients behind one address have no key to be told apart by: the second is dropped when it is confirmed."""
    client, server = node.router()
    second = node.peer("eth0", "10.0.1.3")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    client.send(Raw(GRE["plain"] + b"data"), to=server, proto=47)
    second.send(Raw(GRE["plain"] + b"data"), to=server, proto=47)
    server.send(Raw(GRE["plain"] + b"back"), to=node.address("eth1"), proto=47)


@scenario()
def second_client_of_an_unknown_protocol(node: Node) -> None:
    """The same with a protocol that nobody knows, and with ESP."""
    client, server = node.router()
    second = node.peer("eth0", "10.0.1.3")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    for protocol in (253, 50):
        client.send(Raw(b"12345678data"), to=server, proto=protocol)
        second.send(Raw(b"12345678data"), to=server, proto=protocol)
        server.send(Raw(b"12345678back"), to=node.address("eth1"), proto=protocol)


@scenario(families=(4, 6))
def protocols_without_a_tracker(node: Node) -> None:
    """ESP, AH, IP in IP, IPv6 in IP, OSPF, VRRP, DCCP: one flow for each pair of addresses and protocol, 600 s."""
    client, server = tracked(node)
    for protocol in (50, 4, 41, 89, 112, 33, 2, 255):
        client.send(Raw(bytes.fromhex("4500001400000000400100000a0001020a000202") + b"data"), to=server, proto=protocol)
    server.send(Raw(b"answer.."), to=client, proto=89)
    client.send(Raw(b""), to=server, proto=90)
    client.send(Raw(b"1"), to=server, proto=91)


@scenario()
def generic_timeout_by_sysctl(node: Node) -> None:
    """nf_conntrack_generic_timeout, renewed by every packet; never ASSURED."""
    client, server = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_generic_timeout = 44")
    client.send(Raw(b"12345678"), to=server, proto=253)
    server.send(Raw(b"12345678"), to=client, proto=253)
    node.wait(2.2)
    client.send(Raw(b"12345678"), to=server, proto=253)


@scenario(families=(4, 6))
def generic_protocol_through_nat(node: Node) -> None:
    """A protocol that nobody knows: only addresses are translated."""
    client, server = node.router()
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    node.rules(f"-t nat -A PREROUTING -d {vip} -j DNAT --to-destination {server.ip}")
    client.send(Raw(b"12345678data"), to=vip, proto=253).only(server)
    server.send(Raw(b"12345678back"), to=client, proto=253).only(client)
    client.send(Raw(b"12"), to=vip, proto=253).only(server)


@scenario()
def dccp_through_nat(node: Node) -> None:
    """DCCP is a protocol like any other to this kernel: its ports and checksum are left alone."""
    client, server = node.router()
    node.rules("-t nat -A PREROUTING -d 10.96.0.10 -j DNAT --to-destination 10.0.2.2")
    request = bytes.fromhex("9c400050" + "04000000" + "00000000" + "000000010000000000000000")
    client.send(Raw(request), to="10.96.0.10", proto=33).only(server)
    server.send(Raw(bytes.fromhex("00509c40") + request[4:]), to=client, proto=33)


@scenario()
def udplite_stream(node: Node) -> None:
    """UDP-Lite both ways: the stream timeout at once, ASSURED."""
    client, server = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_checksum = 0")
    packet = bytes.fromhex("9c4000350000beef") + b"data"
    answer = bytes.fromhex("00359c400000beef") + b"data"
    client.send(Raw(packet), to=server, proto=136)
    server.send(Raw(answer), to=client, proto=136)
    client.send(Raw(packet), to=server, proto=136)
    client.send(Raw(packet[:4] + bytes.fromhex("00080000") + b"data"), to=server, proto=136)


@scenario(families=(4, 6))
def udplite_through_nat(node: Node) -> None:
    """UDP-Lite's checksum is adjusted by the change alone, right or wrong."""
    client, server = node.router()
    node.sysctl("net.netfilter.nf_conntrack_checksum = 0")
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    backend = server.ip if node.family == 4 else f"[{server.ip}]"
    node.rules(f"-t nat -A PREROUTING -d {vip} -p udplite -j DNAT --to-destination {backend}")
    for checksum in ("beef", "ffff", "0001", "fffe"):
        client.send(Raw(bytes.fromhex("9c4000350000" + checksum) + b"data"), to=vip, proto=136)


@scenario()
def udp_stream_timeout_by_sysctl(node: Node) -> None:
    """udp_timeout and udp_timeout_stream; a stream that falls silent keeps its time."""
    client, server = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_udp_timeout = 20\nnet.netfilter.nf_conntrack_udp_timeout_stream = 50")
    question = client.send(UDP(sport=40000, dport=53) / b"q", to=server).only(server)
    node.wait(2.3)
    server.send(reply(question, b"a"))
    client.send(UDP(sport=40000, dport=53) / b"q", to=server)


@scenario()
def udp_answer_after_two_seconds(node: Node) -> None:
    """The first answer comes late: is it that which makes a stream?"""
    client, server = tracked(node)
    question = client.send(UDP(sport=40000, dport=53) / b"q", to=server).only(server)
    client.send(UDP(sport=40001, dport=53) / b"q", to=server).only(server)
    node.wait(2.3)
    server.send(reply(question, b"a"))
    server.send(reply(question, b"a"))


@scenario()
def udp_fragment_headers(node: Node) -> None:
    """Ports 0, equal ports, the highest ports."""
    client, server = tracked(node)
    for sport, dport in ((0, 0), (0, 53), (53, 0), (53, 53), (65535, 65535)):
        request = client.send(UDP(sport=sport, dport=dport) / b"q", to=server).only(server)
        server.send(reply(request, b"a")).only(client)


@scenario(families=(4, 6))
def same_address_both_ends(node: Node) -> None:
    """Equal ports at both ends: original and reply differ by addresses alone."""
    client, server = tracked(node)
    client.send(UDP(sport=500, dport=500) / b"q", to=server)
    server.send(UDP(sport=500, dport=500) / b"a", to=client)
    client.send(UDP(sport=500, dport=500) / b"q", to=server)


@scenario(families=(4, 6))
def checksums_not_looked_at(node: Node) -> None:
    """nf_conntrack_checksum=0: wrong checksums of UDP, TCP and ICMP are tracked; the other checks go on."""
    client, server = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_checksum = 0")
    client.send(UDP(sport=1, dport=2, chksum=0xBAD) / b"x", to=server)
    client.send(TCP(sport=1, dport=2, flags="S", chksum=0xBAD), to=server)
    wrong = ICMP(type=8, id=1, chksum=0xBAD) if node.family == 4 else ICMPv6EchoRequest(id=1, cksum=0xBAD)
    client.send(wrong, to=server)
    client.send(UDP(sport=3, dport=2, len=100) / b"x", to=server)
    client.send(TCP(sport=3, dport=2, flags="SF"), to=server)


@scenario(families=(4, 6))
def own_packets_with_wrong_checksums(node: Node) -> None:
    """At OUTPUT checksums are not verified: the node's own wrong ones are tracked."""
    _, server = node.router()
    node.rules("-A OUTPUT -m conntrack --ctstate NEW\n-A OUTPUT -m conntrack --ctstate INVALID")
    here = node.address("eth1")
    ip = IP(src=here, dst=server.ip, id=5) if node.family == 4 else IPv6(src=here, dst=server.ip)
    node.send(ip / UDP(sport=1, dport=2, chksum=0xBAD) / b"x")
    node.send(ip / TCP(sport=1, dport=2, flags="S", chksum=0xBAD))
    node.send(ip / TCP(sport=2, dport=2, flags="SF"))
    node.send(ip / UDP(sport=3, dport=2, len=100) / b"x")


@scenario()
def ip_options_before_the_ports(node: Node) -> None:
    """Options in the IP header shift the ports."""
    client, server = tracked(node)
    for options in ([IPOption_NOP()] * 4, [IPOption_RR(routers=["0.0.0.0"] * 3)]):
        request = client.send(UDP(sport=40000, dport=53) / b"q", to=server, options=options).only(server)
        server.send(reply(request, b"a"))


@scenario(families=(6,))
def extension_headers_before_the_ports(node: Node) -> None:
    """Destination and hop-by-hop options before UDP."""
    client, server = tracked(node)
    question = UDP(sport=40000, dport=53) / b"q"
    client.send(IPv6(src=client.ip, dst=server.ip) / IPv6ExtHdrDestOpt() / question)
    client.send(IPv6(src=client.ip, dst=server.ip) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / question)
    client.send(IPv6(src=client.ip, dst=server.ip, nh=59) / Raw(b"nothing follows"))
    client.send(IPv6(src=client.ip, dst=server.ip, nh=60) / Raw(b"\x11\x08cut"))


@scenario()
def icmp_pairs(node: Node) -> None:
    """Timestamp, information and mask requests with their replies; a reply of another kind does not fit."""
    client, server = tracked(node)
    for kind, answer in ((13, 14), (15, 16), (17, 18)):
        client.send(ICMP(type=kind, id=kind, seq=1) / Raw(bytes(12)), to=server)
        server.send(ICMP(type=0, id=kind, seq=1) / Raw(bytes(12)), to=client)
        server.send(ICMP(type=answer, id=kind, seq=1) / Raw(bytes(12)), to=client)


@scenario()
def icmp_codes(node: Node) -> None:
    """A code other than 0 is part of the flow."""
    client, server = tracked(node)
    client.send(ICMP(type=8, code=3, id=7, seq=1), to=server)
    server.send(ICMP(type=0, code=0, id=7, seq=1), to=client)
    server.send(ICMP(type=0, code=3, id=7, seq=1), to=client)


@scenario()
def icmp_cut_short(node: Node) -> None:
    """ICMP of fewer than eight bytes is INVALID; types above 18 too."""
    client, server = tracked(node)
    for data in ("0800f7ff", "08", "", "0800f7f7000700", "2a00d5ff00000000", "1300ecff00000000", "0100feff00000000"):
        client.send(Raw(bytes.fromhex(data)), to=server, proto=1)


@scenario()
def icmp_timeout_by_sysctl(node: Node) -> None:
    """icmp_timeout; requests and replies both renew it."""
    client, server = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_icmp_timeout = 13")
    request = client.send(echo(4), to=server).only(server)
    node.wait(2.2)
    server.send(reply(request))


@scenario(families=(6,))
def icmpv6_timeout_by_sysctl(node: Node) -> None:
    """icmpv6_timeout."""
    client, server = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_icmpv6_timeout = 13")
    request = client.send(echo(6), to=server).only(server)
    server.send(reply(request))


@scenario(families=(6,))
def icmpv6_kinds(node: Node) -> None:
    """Node information is tracked by its nonce's first half as an id; unknown informational types are INVALID; errors
    without a quotation too."""
    client, server = tracked(node)
    client.send(ICMPv6NIQueryIPv6(nonce=b"\x00\x07abcdef", data="::1"), to=server)
    server.send(ICMPv6NIReplyIPv6(nonce=b"\x00\x07abcdef"), to=client)
    for kind in (130, 131, 132, 141, 142, 143, 144, 151, 200, 255, 127, 100, 5, 0):
        header = bytes([kind, 0, 0, 0, 0, 9, 0, 1])
        client.send(ICMPv6EchoRequest(header + b"data", type=kind, id=9, seq=1, data=b"data"), to=server)


@scenario(families=(6,))
def icmpv6_neighbour_discovery_is_untracked(node: Node) -> None:
    """An ICMPv6 echo to the node is tracked, the neighbour discovery that precedes it is not."""
    client, _ = node.router()
    node.rules("""
        -A INPUT -m conntrack --ctstate UNTRACKED
        -A INPUT -m conntrack --ctstate NEW
        -A OUTPUT -m conntrack --ctstate ESTABLISHED
        -A OUTPUT -m conntrack --ctstate UNTRACKED
    """)
    client.send(ICMPv6EchoRequest(id=7, seq=1, data=b"abc"), to=node.address("eth0"))
    client.send(ICMPv6EchoReply(id=8, seq=1, data=b"abc"), to=node.address("eth0"))


@scenario()
def icmp_error_of_every_type(node: Node) -> None:
    """Types 3, 4, 5, 11 and 12 with known, unknown and large codes are RELATED."""
    client, server = tracked(node)
    request = client.send(UDP(sport=40000, dport=53) / b"q", to=server).only(server)
    quoted = Raw(bytes(request[IP])[:28])
    for kind, code in ((3, 0), (3, 13), (3, 99), (4, 0), (5, 3), (11, 1), (12, 2)):
        server.send(ICMP(type=kind, code=code) / quoted, to=client)


@scenario()
def quotations_that_lie(node: Node) -> None:
    """A quoted fragment, another IP version, a header length below 5 or beyond the end, a quoted error."""
    client, server = tracked(node)
    request = client.send(UDP(sport=40000, dport=53) / b"q", to=server).only(server)
    quoted = bytes(request[IP])[:28]
    for at, value in ((6, 0x20), (7, 0x01), (0, 0x65), (0, 0x43), (0, 0x4F), (9, 6), (9, 1), (9, 253), (8, 0)):
        changed = bytearray(quoted)
        changed[at] = value
        server.send(ICMP(type=3, code=3) / Raw(bytes(changed)), to=client)


@scenario()
def quotation_of_an_echo(node: Node) -> None:
    """An error about an echo request is RELATED by its id; about a reply, in the other direction."""
    client, server = tracked(node)
    request = client.send(echo(4), to=server).only(server)
    server.complain("host unreachable", request)
    answer = server.send(reply(request)).only(client)
    client.complain("port unreachable", answer)
    server.send(ICMP(type=3, code=1) / Raw(bytes(client.packet(echo(4, 99), to=server))[:28]), to=client)


@scenario(families=(4, 6))
def error_in_the_original_direction(node: Node) -> None:
    """The client complains about an answer."""
    client, server = tracked(node)
    request = client.send(UDP(sport=40000, dport=53) / b"q", to=server).only(server)
    answer = server.send(reply(request, b"a")).only(client)
    client.complain("port unreachable", answer).only(server)


@scenario(families=(4, 6))
def wrong_checksum_of_an_error(node: Node) -> None:
    """An error with a wrong checksum is INVALID; with nf_conntrack_checksum=0 it is RELATED."""
    client, server = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_checksum = 0")
    request = client.send(UDP(sport=40000, dport=53) / b"q", to=server).only(server)
    from judge.talk import icmp_error

    error = icmp_error("port unreachable", request)
    setattr(error, "chksum" if node.family == 4 else "cksum", 0xBAD)
    server.send(error, to=client)


@scenario()
def notrack_and_its_errors(node: Node) -> None:
    """An error about an untracked packet is INVALID; its answer, tracked, is NEW."""
    client, server = node.router()
    node.rules(COUNT_STATES + "-t raw -A PREROUTING -i eth0 -p udp -j CT --notrack")
    request = client.send(UDP(sport=40000, dport=53) / b"q", to=server).only(server)
    server.complain("port unreachable", request)
    server.send(reply(request, b"a"))
    client.send(UDP(sport=40000, dport=53) / b"q", to=server)
