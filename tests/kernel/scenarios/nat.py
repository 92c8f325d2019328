"""Network address translation: what changes in packets, their answers and the errors about them."""

from judge.choices import PORT
from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, Talk, echo, network, reply, transport
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.packet import Raw

VIP = {4: "10.96.0.10", 6: "fd00:96::a"}


def service(node: Node, port: int = 80, to_port: int = 8080) -> tuple[Peer, Peer, str]:
    """A virtual address for TCP, UDP and SCTP, translated to the server."""
    client, server = node.router()
    vip = VIP[node.family]
    backend = server.ip if node.family == 4 else f"[{server.ip}]"
    for protocol in ("tcp", "udp"):
        node.rules(
            f"-t nat -A PREROUTING -d {vip} -p {protocol} --dport {port} -j DNAT --to-destination {backend}:{to_port}"
        )
    return client, server, vip


def masquerading(node: Node, *options: str) -> tuple[Peer, Peer]:
    client, server = node.router()
    protocol = "-p udp" if options else ""
    node.rules(f"-t nat -A POSTROUTING -o eth1 {protocol} -j MASQUERADE {' '.join(options)}")
    return client, server


@scenario(families=(4, 6))
def dnat_of_tcp(node: Node) -> None:
    """A TCP connection to a virtual address: the server sees itself, the client sees the virtual address."""
    client, server, vip = service(node)
    talk = Talk(client, server, to=vip)
    request = talk.client("S").only(server)
    assert (network(request).src, network(request).dst, request[TCP].dport) == (client.ip, server.ip, 8080)
    answer = talk.server("SA").only(client)
    assert (network(answer).src, answer[TCP].sport) == (vip, 80)
    talk.client("A")
    talk.client("PA", b"GET / HTTP/1.0\r\n\r\n")
    talk.server("PA", b"HTTP/1.0 200 OK\r\n\r\n")
    talk.client("FA")
    talk.server("FA")
    talk.client("A")


@scenario(families=(4, 6))
def dnat_of_udp(node: Node) -> None:
    """A datagram to a virtual address and its answer."""
    client, server, vip = service(node)
    request = client.send(UDP(sport=40000, dport=80) / b"query", to=vip).only(server)
    answer = server.send(reply(request, b"answer")).only(client)
    assert (network(answer).src, answer[UDP].sport) == (vip, 80)


@scenario(families=(4, 6))
def dnat_without_a_port(node: Node) -> None:
    """DNAT of an address alone keeps the port; ping is translated too."""
    client, server = node.router()
    vip = VIP[node.family]
    node.rules(f"-t nat -A PREROUTING -d {vip} -j DNAT --to-destination {server.ip}")
    client.send(UDP(sport=40000, dport=53) / b"query", to=vip).only(server)
    request = client.send(echo(node.family), to=vip).only(server)
    assert network(server.send(reply(request)).only(client)).src == vip


@scenario()
def dnat_to_a_range(node: Node) -> None:
    """A range of addresses: the address is chosen by a hash of the source, with a secret of the kernel."""
    client, server = node.router()
    node.rules(f"-t nat -A PREROUTING -d {VIP[4]} -j DNAT --to-destination {server.ip}-{server.ip}")
    client.send(UDP(sport=40000, dport=53) / b"query", to=VIP[4]).only(server)


@scenario()
def dnat_to_a_port_range(node: Node) -> None:
    """A range of ports that holds the packet's own port keeps it."""
    client, server = node.router()
    node.rules(f"-t nat -A PREROUTING -d {VIP[4]} -p udp -j DNAT --to-destination {server.ip}:50-60")
    assert client.send(UDP(sport=40000, dport=53) / b"query", to=VIP[4]).only(server)[UDP].dport == 53


@scenario(families=(4, 6))
def first_rule_wins(node: Node) -> None:
    """DNAT ends the chain: the second rule is not reached, and nat sees only the first packet of a flow."""
    client, server = node.router()
    vip = VIP[node.family]
    node.rules(f"""
        -t nat -A PREROUTING -d {vip} -j DNAT --to-destination {server.ip}
        -t nat -A PREROUTING -d {vip} -j DNAT --to-destination {client.ip}
    """)
    for _ in range(3):
        client.send(UDP(sport=40000, dport=53) / b"query", to=vip).only(server)
    client.send(UDP(sport=40001, dport=53) / b"query", to=vip).only(server)


@scenario(families=(4, 6))
def snat(node: Node) -> None:
    """SNAT to a given address; the answer finds its way back."""
    client, server = node.router()
    new = "10.0.2.100" if node.family == 4 else "fd00:2::100"
    node.rules(f"-t nat -A POSTROUTING -s {client.ip} -j SNAT --to-source {new}")
    request = client.send(UDP(sport=40000, dport=53) / b"query", to=server).only(server)
    assert (network(request).src, request[UDP].sport) == (new, 40000)
    assert network(server.send(reply(request, b"answer")).only(client)).dst == client.ip


@scenario()
def snat_keeps_the_port_for_another_destination(node: Node) -> None:
    """Two clients with one port behind one address: both keep it while they speak to different servers."""
    client, server = node.router()
    second, other = node.peer("eth0", "10.0.1.3"), node.peer("eth1", "10.0.2.3")
    node.rules("-t nat -A POSTROUTING -o eth1 -j SNAT --to-source 10.0.2.100")
    assert client.send(UDP(sport=40000, dport=53) / b"a", to=server).only("eth1")[UDP].sport == 40000
    assert second.send(UDP(sport=40000, dport=53) / b"b", to=other).only("eth1")[UDP].sport == 40000


@scenario(families=(4, 6))
def masquerade(node: Node) -> None:
    """MASQUERADE takes the address of the outgoing interface and keeps a free port."""
    client, server = masquerading(node)
    request = client.send(UDP(sport=40000, dport=53) / b"query", to=server).only(server)
    assert (network(request).src, request[UDP].sport) == (node.address("eth1"), 40000)
    server.send(reply(request, b"answer")).only(client)


@scenario(families=(4, 6))
def masquerade_of_tcp(node: Node) -> None:
    """A whole TCP conversation behind the node's address."""
    client, server = masquerading(node)
    talk = Talk(client, server)
    talk.open()
    talk.client("PA", b"hello")
    talk.server("PA", b"world")
    talk.client("FA")
    talk.server("FA")
    talk.client("A")


@scenario(families=(4, 6))
def masquerade_of_ping(node: Node) -> None:
    """A ping keeps its id behind the node's address."""
    client, server = masquerading(node)
    request = client.send(echo(node.family), to=server).only(server)
    server.send(reply(request)).only(client)


@scenario(random="the port of the second client")
def masquerade_with_a_port_that_is_taken(node: Node) -> None:
    """Two clients with one port to one server: the second gets a random one of the same class."""
    client, server = masquerading(node)
    second = node.peer("eth0", "10.0.1.3")
    client.send(UDP(sport=40000, dport=53) / b"a", to=server).only(server)
    moved = second.send(UDP(sport=40000, dport=53) / b"b", to=server).only(server)
    assert moved[UDP].sport != 40000
    assert moved[UDP].sport >= 1024
    node.chose(PORT, moved[UDP].sport)
    assert server.send(reply(moved, b"answer")).only(client).dst == second.mac


@scenario(random="the ports")
def port_classes(node: Node) -> None:
    """A port that has to move stays in its class: below 512, 600 to 1023, 1024 and up."""
    client, server = masquerading(node)
    second = node.peer("eth0", "10.0.1.3")
    for port, low, high in ((80, 1, 511), (600, 600, 1023), (5000, 1024, 65535)):
        client.send(UDP(sport=port, dport=53) / b"a", to=server).only(server)
        moved = second.send(UDP(sport=port, dport=53) / b"b", to=server).only(server)
        assert low <= moved[UDP].sport <= high
        node.chose(PORT, moved[UDP].sport)


@scenario(random="the ports")
def masquerade_random_fully(node: Node) -> None:
    """--random-fully: a random port from the first packet on; the flow keeps it."""
    client, server = masquerading(node, "--random-fully")
    first = client.send(UDP(sport=40000, dport=53) / b"a", to=server).only(server)
    node.chose(PORT, first[UDP].sport)
    again = client.send(UDP(sport=40000, dport=53) / b"a", to=server).only(server)
    assert again[UDP].sport == first[UDP].sport
    server.send(reply(first, b"answer")).only(client)


@scenario(random="the port")
def masquerade_random(node: Node) -> None:
    """--random does the same."""
    client, server = masquerading(node, "--random")
    first = client.send(UDP(sport=40000, dport=53) / b"a", to=server).only(server)
    node.chose(PORT, first[UDP].sport)


@scenario()
def masquerade_to_ports_keeps_a_port_inside(node: Node) -> None:
    """--to-ports: a source port inside the range is kept."""
    client, server = masquerading(node, "--to-ports", "39000-41000")
    assert client.send(UDP(sport=40000, dport=53) / b"a", to=server).only(server)[UDP].sport == 40000


@scenario(random="the port")
def masquerade_to_ports_outside(node: Node) -> None:
    """--to-ports: a source port outside the range is replaced by one inside."""
    client, server = masquerading(node, "--to-ports", "50000-50010")
    moved = client.send(UDP(sport=40000, dport=53) / b"a", to=server).only(server)
    assert 50000 <= moved[UDP].sport <= 50010
    node.chose(PORT, moved[UDP].sport)


@scenario(random="the id of the second client")
def two_pings_with_one_id(node: Node) -> None:
    """Two clients ping one server with one id: the second gets another id."""
    client, server = masquerading(node)
    second = node.peer("eth0", "10.0.1.3")
    client.send(echo(4), to=server).only(server)
    moved = second.send(echo(4), to=server).only(server)
    assert moved[ICMP].id != 7
    node.chose(PORT, moved[ICMP].id)
    answer = server.send(reply(moved)).only(client)
    assert (answer.dst, answer[ICMP].id) == (second.mac, 7)


@scenario(random="the port of the direct flow")
def direct_flow_collides_with_a_translated_one(node: Node) -> None:
    """A flow to the server itself whose answers would look like those of a translated flow gets another source port."""
    client, server, vip = service(node)
    client.send(UDP(sport=40000, dport=80) / b"a", to=vip).only(server)
    moved = client.send(UDP(sport=40000, dport=8080) / b"b", to=server).only(server)
    assert moved[UDP].sport != 40000
    node.chose(PORT, moved[UDP].sport)
    assert server.send(reply(moved, b"answer")).only(client)[UDP].dport == 40000


@scenario(families=(4, 6))
def dnat_and_masquerade(node: Node) -> None:
    """Both at once, by a mark: the server sees the node, the client sees the virtual address."""
    client, server, vip = service(node)
    node.rules("""
        -t nat -A POSTROUTING -m conntrack --ctstate DNAT -j MASQUERADE
    """)
    talk = Talk(client, server, to=vip)
    assert network(talk.client("S").only(server)).src == node.address("eth1")
    assert network(talk.server("SA").only(client)).src == vip
    talk.client("A")


@scenario(families=(4, 6))
def hairpin_to_the_client_itself(node: Node) -> None:
    """A virtual address translated to the client itself, masqueraded so that the answer comes back through the node."""
    client, _ = node.router()
    vip = VIP[node.family]
    node.rules(f"""
        -t nat -A PREROUTING -d {vip} -j DNAT --to-destination {client.ip}
        -t nat -A POSTROUTING -s {client.ip} -d {client.ip} -j MASQUERADE
    """)
    out = client.send(UDP(sport=40000, dport=53) / b"query", to=vip).at(client)
    back = [
        packet for packet in out if UDP in packet and packet[UDP].dport == 53 and "Redirect" not in packet.summary()
    ]
    client.send(reply(back[-1], b"answer"))


@scenario(families=(4, 6))
def redirect(node: Node) -> None:
    """REDIRECT sends a packet to the node itself, to the address of the interface it came in by."""
    client, server = node.router()
    node.listen("udp", 5353)
    node.rules("""
        -t nat -A PREROUTING -p udp --dport 53 -j REDIRECT --to-ports 5353
        -A INPUT -p udp --dport 5353
    """)
    assert not client.send(UDP(sport=40000, dport=53) / b"query", to=server)


@scenario(families=(4, 6))
def redirect_to_a_closed_port(node: Node) -> None:
    """The error about a redirected packet is translated back: it comes from the address that was asked."""
    client, server = node.router()
    node.rules("-t nat -A PREROUTING -p udp --dport 53 -j REDIRECT --to-ports 5353")
    error = client.send(UDP(sport=40000, dport=53) / b"query", to=server).only(client)
    assert network(error).src == server.ip


@scenario()
def netmap(node: Node) -> None:
    """NETMAP maps a network onto another, host part kept."""
    client, server = node.router()
    node.rules("""
        -t nat -A PREROUTING -d 192.0.2.0/24 -j NETMAP --to 10.0.2.0/24
        -t nat -A POSTROUTING -s 10.0.1.0/24 -j NETMAP --to 198.51.100.0/24
    """)
    request = client.send(UDP(sport=40000, dport=53) / b"query", to="192.0.2.2").only(server)
    assert (request[IP].src, request[IP].dst) == ("198.51.100.2", server.ip)
    server.send(reply(request, b"answer")).only(client)


@scenario(families=(4, 6))
def output_dnat(node: Node) -> None:
    """A packet of the node's own to a virtual address: translated at OUTPUT, routed again."""
    _, server = node.router()
    vip = VIP[node.family]
    node.ip(f"{node.dash}route add default via {'10.0.1.2' if node.family == 4 else 'fd00:1::2'}")
    node.rules(f"-t nat -A OUTPUT -d {vip} -j DNAT --to-destination {server.ip}")
    here = node.address("eth0")
    ip = IP(src=here, dst=vip, id=5) if node.family == 4 else IPv6(src=here, dst=vip)
    request = node.send(ip / UDP(sport=40000, dport=53) / b"query").only(server)
    assert network(request).dst == server.ip
    server.send(reply(request, b"answer"))


@scenario()
def snat_on_the_way_in(node: Node) -> None:
    """SNAT at INPUT: the node itself sees another source."""
    client, _ = node.router()
    node.rules("""
        -t nat -A INPUT -p icmp -j SNAT --to-source 203.0.113.1
        -A INPUT -s 10.0.1.2 -p icmp
    """)
    node.ip("route add 203.0.113.1/32 via 10.0.1.2")
    client.send(echo(4), to=node.address("eth0"))


@scenario(families=(4, 6))
def port_unreachable_of_a_backend(node: Node) -> None:
    """The backend's own error: it comes from the virtual address and quotes the packet as the client sent it."""
    client, server, vip = service(node)
    request = client.send(UDP(sport=40000, dport=80) / b"query", to=vip).only(server)
    error = server.complain("port unreachable", request).only(client)
    assert network(error).src == vip


@scenario(families=(4, 6))
def too_big_from_a_router_behind(node: Node) -> None:
    """Fragmentation needed from a router behind the node: it too comes from the virtual address."""
    client, server, vip = service(node)
    talk = Talk(client, server, to=vip)
    talk.open()
    request = talk.client("PA", bytes(1000)).only(server)
    router = "10.0.2.77" if node.family == 4 else "fd00:2::77"
    server.complain("too big", request, mtu=1300 if node.family == 6 else 600, src=router).only(client)


@scenario(families=(4, 6))
def error_of_the_client_about_an_answer(node: Node) -> None:
    """The client complains about an answer: the backend sees itself quoted."""
    client, server, vip = service(node)
    request = client.send(UDP(sport=40000, dport=80) / b"query", to=vip).only(server)
    answer = server.send(reply(request, b"answer")).only(client)
    client.complain("port unreachable", answer).only(server)


@scenario(families=(4, 6))
def error_about_a_masqueraded_packet(node: Node) -> None:
    """An error to the node's own address is translated back to the client."""
    client, server = masquerading(node)
    request = client.send(UDP(sport=40000, dport=53) / b"query", to=server).only(server)
    error = server.complain("port unreachable", request).only(client)
    assert network(error).dst == client.ip


@scenario(families=(4, 6))
def ttl_expiry_of_a_translated_packet(node: Node) -> None:
    """The node's own time exceeded about a packet to a virtual address comes from that address; no entry is left."""
    client, _, vip = service(node)
    error = client.send(UDP(sport=40000, dport=80) / b"query", to=vip, ttl=1).only(client)
    assert network(error).dst == client.ip


@scenario(families=(4, 6))
def ttl_expiry_of_an_open_flow(node: Node) -> None:
    """The same about a flow that is already known."""
    client, server, vip = service(node)
    client.send(UDP(sport=40000, dport=80) / b"query", to=vip).only(server)
    client.send(UDP(sport=40000, dport=80) / b"query", to=vip, ttl=1).only(client)


@scenario()
def traceroute_through_dnat(node: Node) -> None:
    """TTL 1, 2, 3 to a virtual address: the node, a router behind it, the server's port unreachable."""
    client, server, vip = service(node)
    client.send(UDP(sport=40000, dport=80) / b"probe", to=vip, ttl=1).only(client)
    second = client.send(UDP(sport=40001, dport=80) / b"probe", to=vip, ttl=2).only(server)
    server.complain("time exceeded", second, src="10.0.2.77").only(client)
    third = client.send(UDP(sport=40002, dport=80) / b"probe", to=vip, ttl=3).only(server)
    server.complain("port unreachable", third).only(client)


@scenario()
def too_big_for_the_next_link(node: Node) -> None:
    """The node's own fragmentation needed about a translated packet."""
    client, server = node.router(far_mtu=1000)
    node.rules(f"-t nat -A PREROUTING -d {VIP[4]} -j DNAT --to-destination {server.ip}")
    client.send(UDP(sport=1, dport=2) / bytes(1200), to=VIP[4], flags="DF").only(client)


@scenario()
def no_udp_checksum(node: Node) -> None:
    """A datagram without checksum stays without."""
    client, server, vip = service(node)
    assert client.send(UDP(sport=40000, dport=80, chksum=0) / b"query", to=vip).only(server)[UDP].chksum == 0


@scenario()
def udp_checksums_that_come_out_zero(node: Node) -> None:
    """A checksum that the translation turns into 0 is sent as 0xffff."""
    client, server, vip = service(node)
    seen = set()
    for word in (0x0000, 0x0001, 0x0002):
        for port in (40000, 40001):
            plain = client.packet(UDP(sport=port, dport=80) / Raw(word.to_bytes(2, "big")), to=vip)
            after = client.packet(UDP(sport=port, dport=8080) / Raw(word.to_bytes(2, "big")), to=server)
            want = IP(bytes(after))[UDP].chksum
            filler = (want + word) % 0xFFFF  # what makes the translated checksum 0
            payload = filler.to_bytes(2, "big")
            del plain
            out = client.send(UDP(sport=port, dport=80) / Raw(payload), to=vip).only(server)
            seen.add(out[UDP].chksum)
    assert 0xFFFF in seen


@scenario()
def wrong_checksum_is_not_translated(node: Node) -> None:
    """A packet with a wrong transport checksum is INVALID: it is not translated, and has no route."""
    client, _, vip = service(node)
    client.send(UDP(sport=40000, dport=80, chksum=0xBAD) / b"query", to=vip)
    client.send(TCP(sport=40000, dport=80, flags="S", chksum=0xBAD), to=vip)


@scenario()
def mid_stream_packet_is_translated(node: Node) -> None:
    """A mid-stream ACK that is picked up as new is translated like a SYN."""
    client, server, vip = service(node)
    client.send(TCP(sport=40000, dport=80, flags="A", seq=5, ack=6), to=vip).only(server)


@scenario()
def port_reused_in_time_wait_chooses_again(node: Node) -> None:
    """A SYN in TIME_WAIT passes the nat rules again."""
    client, server, vip = service(node)
    talk = Talk(client, server, to=vip)
    talk.open()
    talk.client("FA")
    talk.server("FA")
    talk.client("A")
    talk.client("S", seq=9_000_000)


@scenario()
def statistic_nth_shares_between_backends(node: Node) -> None:
    """Three backends by nth: flows go 0, 1, 2, 0, 1, 2."""
    client, server = node.router()
    others = [node.peer("eth1", f"10.0.2.{last}") for last in (3, 4)]
    rules = []
    for left, backend in zip((3, 2, 1), [server, *others], strict=True):
        rule = f"-m statistic --mode nth --every {left} --packet 0" if left > 1 else ""
        rules.append(f"-t nat -A PREROUTING -d {VIP[4]} -p udp {rule} -j DNAT --to-destination {backend.ip}")
    node.rules("\n".join(rules))
    reached = [client.send(UDP(sport=port, dport=53), to=VIP[4]).only("eth1")[IP].dst for port in range(40000, 40006)]
    assert reached == ["10.0.2.2", "10.0.2.3", "10.0.2.4"] * 2


@scenario(families=(4, 6))
def error_about_an_error_of_a_translated_flow(node: Node) -> None:
    """An error whose quotation is itself an error is not translated."""
    client, server, vip = service(node)
    request = client.send(UDP(sport=40000, dport=80) / b"query", to=vip).only(server)
    error = server.complain("port unreachable", request).only(client)
    client.complain("port unreachable", error)


@scenario()
def options_and_urgent_pointer_survive(node: Node) -> None:
    """Everything of a segment but the translated fields and checksums is untouched."""
    client, server, vip = service(node)
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]
    client.send(TCP(sport=40000, dport=80, flags="SU", urgptr=99, options=options), to=vip, tos=0x20).only(server)


@scenario()
def two_tables_of_translation(node: Node) -> None:
    """A translated flow whose answer takes another way: the binding, not the rule, decides."""
    client, server, vip = service(node)
    node.rules(f"-t nat -A POSTROUTING -s {server.ip} -j SNAT --to-source 203.0.113.50")
    request = client.send(UDP(sport=40000, dport=80) / b"query", to=vip).only(server)
    assert server.send(reply(request, b"answer")).only(client)[IP].src == vip
    assert server.send(UDP(sport=1, dport=2) / b"own", to=client).only(client)[IP].src == "203.0.113.50"


@scenario(families=(6,))
def icmpv6_error_checksum(node: Node) -> None:
    """A translated ICMPv6 error has a valid checksum over its new pseudo header."""
    client, server, vip = service(node)
    request = client.send(UDP(sport=40000, dport=80) / bytes(300), to=vip).only(server)
    error = server.complain("port unreachable", request).only(client)
    copy = error[IPv6].copy()
    del copy[ICMPv6DestUnreach].cksum
    assert IPv6(bytes(copy))[ICMPv6DestUnreach].cksum == error[ICMPv6DestUnreach].cksum
    assert transport(error).code == 4
