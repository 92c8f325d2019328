"""Connection tracking of UDP, ICMP and everything else. Every step shows the connection table."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, echo, reply
from scapy.layers.inet import ICMP, IP, UDP, in4_chksum
from scapy.layers.inet6 import ICMPv6EchoRequest
from scapy.layers.sctp import SCTP, SCTPChunkData, SCTPChunkInit
from scapy.packet import Raw

from scenarios.conntrack_tcp import COUNT_STATES

DNS = UDP(sport=40000, dport=53) / b"query"


def tracked(node: Node) -> tuple[Peer, Peer]:
    client, server = node.router()
    node.rules(COUNT_STATES)
    return client, server


@scenario(families=(4, 6))
def question_and_answer(node: Node) -> None:
    """UNREPLIED, then replied: both packets within two seconds leave the timeout at 30 s and the entry unassured."""
    client, server = tracked(node)
    question = client.send(DNS, to=server).only(server)
    server.send(reply(question, b"answer")).only(client)


@scenario(families=(4, 6))
def third_packet_within_two_seconds(node: Node) -> None:
    """Traffic both ways within the first two seconds of a flow does not assure it."""
    client, server = tracked(node)
    question = client.send(DNS, to=server).only(server)
    server.send(reply(question, b"answer"))
    client.send(DNS, to=server)
    server.send(reply(question, b"answer"))


@scenario()
def stream_after_two_seconds(node: Node) -> None:
    """Traffic both ways after two seconds: ASSURED and 120 s."""
    client, server = tracked(node)
    question = client.send(DNS, to=server).only(server)
    server.send(reply(question, b"answer"))
    node.wait(2.3)
    client.send(DNS, to=server)
    server.send(reply(question, b"answer"))


@scenario()
def unanswered_flow_is_renewed(node: Node) -> None:
    """Each packet of an unanswered flow renews its 30 s."""
    client, server = tracked(node)
    client.send(DNS, to=server)
    node.wait(2.2)
    client.send(DNS, to=server)


@scenario()
def entry_expires(node: Node) -> None:
    """After udp_timeout the entry is gone: the answer is a flow of its own."""
    client, server = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_udp_timeout = 1")
    question = client.send(DNS, to=server).only(server)
    node.wait(1.4)
    server.send(reply(question, b"too late"))


@scenario()
def invalid_datagrams(node: Node) -> None:
    """A wrong checksum, a length beyond the packet or below 8, a header cut short: INVALID and forwarded."""
    client, server = tracked(node)
    client.send(UDP(sport=1, dport=2, chksum=0xBAD) / b"x", to=server).only(server)
    client.send(UDP(sport=3, dport=2, len=100) / b"x", to=server).only(server)
    client.send(UDP(sport=4, dport=2, len=7) / b"x", to=server).only(server)
    client.send(Raw(b"\x00\x05\x00\x02"), to=server, proto=17).only(server)
    client.send(UDP(sport=6, dport=2, chksum=0) / b"x", to=server)


@scenario(families=(4, 6))
def echo_request_and_reply(node: Node) -> None:
    """An echo flow: NEW, then ESTABLISHED; each request renews it; another id is another flow."""
    client, server = tracked(node)
    request = client.send(echo(node.family), to=server).only(server)
    server.send(reply(request)).only(client)
    client.send(echo(node.family, 7, 2), to=server).only(server)
    client.send(echo(node.family, 8, 1), to=server).only(server)


@scenario(families=(4, 6))
def reply_without_request_is_invalid(node: Node) -> None:
    """An echo reply that nobody asked for is INVALID, and forwarded."""
    client, server = tracked(node)
    request = client.packet(echo(node.family), to=server)
    server.send(reply(request)).only(client)


@scenario()
def other_icmp_types(node: Node) -> None:
    """Timestamp, information and address mask requests are tracked; router solicitations and unknown types are INVALID."""
    client, server = tracked(node)
    for kind in (13, 15, 17, 9, 10, 18, 30, 0):
        client.send(ICMP(type=kind, id=kind, seq=1) / Raw(bytes(12)), to=server).only(server)


@scenario(families=(4, 6))
def icmp_with_a_wrong_checksum(node: Node) -> None:
    """A wrong ICMP checksum is INVALID."""
    client, server = tracked(node)
    wrong = ICMP(type=8, id=1, chksum=0xBAD) if node.family == 4 else ICMPv6EchoRequest(id=1, cksum=0xBAD)
    client.send(wrong, to=server).only(server)


@scenario(families=(4, 6))
def port_unreachable_is_related(node: Node) -> None:
    """An ICMP error about a known flow is RELATED and does not change the flow."""
    client, server = tracked(node)
    question = client.send(DNS, to=server).only(server)
    server.complain("port unreachable", question).only(client)


@scenario(families=(4, 6))
def errors_of_every_kind_are_related(node: Node) -> None:
    """Unreachable, too big, time exceeded, parameter problem: all RELATED."""
    client, server = tracked(node)
    question = client.send(DNS, to=server).only(server)
    for what in ("net unreachable", "host unreachable", "too big", "time exceeded", "parameter problem"):
        server.complain(what, question, mtu=1300).only(client)


@scenario()
def error_about_an_unknown_flow_is_invalid(node: Node) -> None:
    """An error about a flow that was never seen is INVALID, and forwarded."""
    client, server = tracked(node)
    about = client.packet(DNS, to=server)
    server.complain("port unreachable", about).only(client)


@scenario()
def error_to_somebody_else_is_invalid(node: Node) -> None:
    """An error about a known flow, but sent to another address than the flow's, is INVALID."""
    client, server = tracked(node)
    other = node.peer("eth0", "10.0.1.3")
    question = client.send(DNS, to=server).only(server)
    from judge.talk import icmp_error

    server.send(icmp_error("port unreachable", question), to=other).only(other)


@scenario()
def error_from_a_router_is_related(node: Node) -> None:
    """The sender of an error does not matter: a router on the way."""
    client, server = tracked(node)
    question = client.send(DNS, to=server).only(server)
    server.complain("time exceeded", question, src="10.0.2.77").only(client)


@scenario()
def error_that_quotes_too_little(node: Node) -> None:
    """A quotation that ends inside the ports, and one without any header."""
    client, server = tracked(node)
    question = client.send(DNS, to=server).only(server)
    server.complain("port unreachable", question, quoted=22)
    server.complain("port unreachable", question, quoted=4)


@scenario()
def redirect_about_a_flow(node: Node) -> None:
    """An ICMP redirect that passes through is RELATED."""
    client, server = tracked(node)
    question = client.send(DNS, to=server).only(server)
    quoted = bytes(question.payload)[:28]
    server.send(ICMP(type=5, code=1, gw="10.0.2.9") / Raw(quoted), to=client)


@scenario(families=(4, 6))
def generic_protocol(node: Node) -> None:
    """A protocol without a tracker of its own: one flow per pair of addresses, 600 s."""
    client, server = tracked(node)
    client.send(Raw(b"12345678"), to=server, proto=253).only(server)
    server.send(Raw(b"87654321"), to=client, proto=253).only(client)
    client.send(Raw(b"12345678"), to=server, proto=254).only(server)


@scenario()
def gre_without_keys(node: Node) -> None:
    """GRE version 0: keys 0, 30 s, and 180 s once both directions were seen."""
    client, server = tracked(node)
    client.send(Raw(bytes.fromhex("00000800") + b"payload"), to=server, proto=47).only(server)
    server.send(Raw(bytes.fromhex("00000800") + b"payload"), to=client, proto=47).only(client)
    client.send(Raw(bytes.fromhex("00000800") + b"payload"), to=server, proto=47).only(server)


@scenario()
def udplite(node: Node) -> None:
    """UDP-Lite is tracked by its ports, but its checksum is judged by UDP's pseudo header: a right one is INVALID."""
    client, server = tracked(node)
    packet = IP(bytes(client.packet(DNS, to=server, proto=136)))
    plain = bytearray(bytes(packet)[20:])
    for protocol in (136, 17):
        for coverage in (8, 13, 0):  # the header alone, all, all
            plain[4:6], plain[6:8] = coverage.to_bytes(2, "big"), bytes(2)
            covered = bytes(plain[: coverage or 13])
            plain[6:8] = in4_chksum(protocol, packet, covered).to_bytes(2, "big")
            client.send(Raw(bytes(plain)), to=server, proto=136)
    for coverage in (7, 14):
        plain[4:6] = coverage.to_bytes(2, "big")
        client.send(Raw(bytes(plain)), to=server, proto=136)
    plain[4:8] = bytes(4)  # no checksum at all
    client.send(Raw(bytes(plain)), to=server, proto=136)


@scenario(families=(4, 6))
def sctp_init_and_data(node: Node) -> None:
    """SCTP: INIT makes an entry; DATA without an association is INVALID."""
    client, server = tracked(node)
    client.send(SCTP(sport=1000, dport=2000, tag=0) / SCTPChunkInit(init_tag=0x11), to=server)
    client.send(SCTP(sport=1001, dport=2000, tag=5) / SCTPChunkData(data=b"x", tsn=1), to=server)


@scenario()
def two_flows_of_one_client(node: Node) -> None:
    """Ports tell flows apart; the same ports to another server are another flow."""
    client, server = tracked(node)
    other = node.peer("eth1", "10.0.2.3")
    client.send(UDP(sport=40000, dport=53) / b"a", to=server)
    client.send(UDP(sport=40001, dport=53) / b"a", to=server)
    client.send(UDP(sport=40000, dport=54) / b"a", to=server)
    client.send(UDP(sport=40000, dport=53) / b"a", to=other)


@scenario()
def answer_from_another_port_is_a_new_flow(node: Node) -> None:
    """TFTP's way: an answer from another port does not belong to the flow."""
    client, server = tracked(node)
    client.send(DNS, to=server)
    server.send(UDP(sport=1053, dport=40000) / b"answer", to=client)


@scenario(families=(4, 6))
def untracked_by_a_rule(node: Node) -> None:
    """NOTRACK in raw: UNTRACKED, no entry."""
    client, server = node.router()
    node.rules(COUNT_STATES + "-t raw -A PREROUTING -p udp --dport 53 -j NOTRACK")
    client.send(DNS, to=server)
    client.send(UDP(sport=40000, dport=54) / b"x", to=server)


@scenario(families=(4, 6))
def own_traffic(node: Node) -> None:
    """Packets of the node's own are tracked from OUTPUT on, their answers at PREROUTING."""
    _, server = node.router()
    node.rules("""
        -A OUTPUT -m conntrack --ctstate NEW
        -A OUTPUT -m conntrack --ctstate ESTABLISHED
        -A INPUT -m conntrack --ctstate ESTABLISHED
        -A INPUT -m conntrack --ctstate NEW
    """)
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    here = node.address("eth1")
    ip = IP(src=here, dst=server.ip, id=5) if node.family == 4 else IPv6(src=here, dst=server.ip)
    question = node.send(ip / DNS).only(server)
    server.send(reply(question, b"answer"))
    node.send(ip / DNS).only(server)
