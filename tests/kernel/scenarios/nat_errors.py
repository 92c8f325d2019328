"""Errors about translated flows, checksums at their edges, and what is not translated at all."""

from judge.choices import PORT
from judge.node import Node
from judge.scenario import scenario
from judge.talk import Frames, Peer, Talk, echo, icmp_error, network, reply, transport
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

from scenarios.conntrack_tcp import COUNT_STATES

VIP = {4: "10.96.0.10", 6: "fd00:96::a"}
ROUTER = {4: "10.0.2.77", 6: "fd00:2::77"}
KINDS = ("net unreachable", "host unreachable", "port unreachable", "too big", "time exceeded", "parameter problem")


def service(node: Node, *more: str) -> tuple[Peer, Peer, str]:
    """A virtual address for TCP, UDP and ping, translated to the server's port 8080."""
    client, server = node.router()
    vip = VIP[node.family]
    backend = server.ip if node.family == 4 else f"[{server.ip}]"
    node.rules(f"""
        -t nat -A PREROUTING -d {vip} -p tcp --dport 80 -j DNAT --to-destination {backend}:8080
        -t nat -A PREROUTING -d {vip} -p udp --dport 80 -j DNAT --to-destination {backend}:8080
        -t nat -A PREROUTING -d {vip} -j DNAT --to-destination {server.ip}
    """)
    node.rules("\n".join(more))
    return client, server, vip


MASQUERADE = "-t nat -A POSTROUTING -o eth1 -j MASQUERADE"


def payloads(family: int) -> list[Packet]:
    return [UDP(sport=40000, dport=80) / bytes(40), TCP(sport=40000, dport=80, flags="S", seq=7), echo(family)]


def every_error(node: Node, *rules: str) -> None:
    """Each error about a datagram, a SYN and a ping: from the server and from a router before it."""
    client, server, vip = service(node, *rules)
    for payload in payloads(node.family):
        request = client.send(payload, to=vip).only(server)
        for what in KINDS:
            server.complain(what, request, mtu=1300)
            server.complain(what, request, mtu=1300, src=ROUTER[node.family])


@scenario(families=(4, 6))
def every_error_through_dnat(node: Node) -> None:
    """DNAT: every error of the server or of a router comes from the virtual address and quotes it."""
    every_error(node)


@scenario(families=(4, 6))
def every_error_through_dnat_and_masquerade(node: Node) -> None:
    """DNAT and MASQUERADE: both sides of the quotation are translated back."""
    every_error(node, MASQUERADE)


@scenario(families=(4, 6))
def every_error_of_the_client(node: Node) -> None:
    """The client complains about answers: the server sees what it sent."""
    client, server, vip = service(node, MASQUERADE)
    for payload in payloads(node.family):
        request = client.send(payload, to=vip).only(server)
        answer = server.send(reply(request, **({"flags": "SA"} if TCP in request else {}))).only(client)
        for what in KINDS:
            client.complain(what, answer, mtu=1300).only(server)


@scenario(families=(4, 6))
def quotations_of_every_length(node: Node) -> None:
    """From nothing to the whole packet: what is too short to be read is INVALID, what is too short to be rewritten is
    dropped."""
    client, server, vip = service(node)
    ip = 20 if node.family == 4 else 40
    for payload in payloads(node.family)[:2]:
        request = client.send(payload, to=vip).only(server)
        for length in (1, ip - 1, ip, ip + 3, ip + 4, ip + 7, ip + 8, ip + 17, ip + 18, ip + 19, ip + 20, ip + 30):
            server.complain("port unreachable", request, quoted=length)


@scenario(families=(4, 6))
def quotations_of_a_ping(node: Node) -> None:
    """A quoted echo has its id translated too, and its checksum."""
    client, server, vip = service(node, MASQUERADE)
    second = node.peer("eth0", "10.0.1.3" if node.family == 4 else "fd00:1::3")
    client.send(echo(node.family), to=vip).only(server)
    moved = second.send(echo(node.family), to=vip).only(server)
    node.chose(PORT, transport(moved).id)
    ip = 20 if node.family == 4 else 40
    for length in (ip + 4, ip + 7, ip + 8, ip + 12, ip + 16):
        server.complain("host unreachable", moved, quoted=length)


@scenario()
def quotation_with_options(node: Node) -> None:
    """Options in the quoted IP header and in the outer one."""
    client, server, vip = service(node, MASQUERADE)
    options = [IPOption_NOP(), IPOption_NOP(), IPOption_NOP(), IPOption_NOP()]
    request = client.send(UDP(sport=40000, dport=80) / bytes(40), to=vip, options=options).only(server)
    server.complain("port unreachable", request)
    server.complain("port unreachable", request, quoted=60, options=[IPOption_RR(routers=["0.0.0.0"])])


@scenario(families=(6,))
def quotation_with_extension_headers(node: Node) -> None:
    """Extension headers before the quoted ports, and a quoted fragment."""
    client, server, vip = service(node, MASQUERADE)
    inner = IPv6ExtHdrDestOpt() / UDP(sport=40000, dport=80) / bytes(40)
    request = client.send(IPv6(src=client.ip, dst=vip) / inner).only(server)
    server.complain("port unreachable", request)
    whole = IPv6(bytes(network(request)))
    for offset in (0, 10):
        quoted = (
            IPv6(src=whole.src, dst=whole.dst) / IPv6ExtHdrFragment(nh=17, offset=offset, m=1, id=9) / bytes(whole[UDP])
        )
        error = icmp_error("port unreachable", request)
        error.remove_payload()
        server.send(error / Raw(bytes(quoted)), to=network(request).src)


@scenario()
def quotation_with_other_values(node: Node) -> None:
    """TTL, TOS, id, checksums in the quotation are as the router saw them; only addresses, ports and sums change."""
    client, server, vip = service(node, MASQUERADE)
    request = client.send(UDP(sport=40000, dport=80) / bytes(40), to=vip).only(server)
    for at, value in ((1, 0xFF), (8, 1), (10, 0), (11, 0), (4, 0xAB), (2, 0xFF), (26, 0), (27, 0)):
        quoted = bytearray(bytes(request[IP]))
        quoted[at] = value
        server.send(ICMP(type=11) / Raw(bytes(quoted[:48])), to=request[IP].src)


@scenario(families=(4, 6))
def quoted_datagram_without_a_checksum(node: Node) -> None:
    """A quoted datagram without checksum stays without."""
    client, server, vip = service(node, MASQUERADE)
    request = client.send(UDP(sport=40000, dport=80) / bytes(40), to=vip).only(server)
    request[UDP].chksum = 0
    server.complain("port unreachable", request)
    server.complain("port unreachable", request, quoted=60)


@scenario(families=(4, 6))
def error_with_a_wrong_checksum(node: Node) -> None:
    """A wrong ICMP checksum makes an error INVALID, and NAT leaves it alone."""
    client, server, vip = service(node)
    request = client.send(UDP(sport=40000, dport=80) / bytes(40), to=vip).only(server)
    error = icmp_error("port unreachable", request)
    setattr(error, "chksum" if node.family == 4 else "cksum", 0xBAD)
    server.send(error, to=client)


@scenario(families=(4, 6))
def error_with_a_wrong_checksum_and_checking_off(node: Node) -> None:
    """nf_conntrack_checksum=0: it is RELATED, but NAT verifies for itself and drops it."""
    client, server, vip = service(node)
    node.sysctl("net.netfilter.nf_conntrack_checksum = 0")
    request = client.send(UDP(sport=40000, dport=80) / bytes(40), to=vip).only(server)
    error = icmp_error("port unreachable", request)
    setattr(error, "chksum" if node.family == 4 else "cksum", 0xBAD)
    server.send(error, to=client)


@scenario(families=(4, 6))
def wrong_checksums_and_checking_off(node: Node) -> None:
    """nf_conntrack_checksum=0: wrong checksums are translated by their difference, and stay as wrong as they were."""
    client, server, vip = service(node, MASQUERADE)
    node.sysctl("net.netfilter.nf_conntrack_checksum = 0")
    for checksum in (0x0001, 0x1234, 0xFFFE, 0xFFFF):
        client.send(UDP(sport=40000, dport=80, chksum=checksum) / b"q", to=vip)
        client.send(TCP(sport=40000, dport=80, flags="S", chksum=checksum), to=vip)
        wrong = ICMP(type=8, id=1, chksum=checksum) if node.family == 4 else ICMPv6EchoRequest(id=1, cksum=checksum)
        client.send(wrong, to=vip)
    client.send(TCP(sport=40000, dport=80, flags="S", chksum=0), to=vip)


@scenario()
def redirect_about_a_translated_flow(node: Node) -> None:
    """An ICMP redirect about a translated flow is dropped; about one with null bindings it passes."""
    client, server, vip = service(node)
    request = client.send(UDP(sport=40000, dport=80) / bytes(40), to=vip).only(server)
    server.send(ICMP(type=5, code=1, gw="10.0.2.9") / Raw(bytes(request[IP])[:28]), to=client)
    plain = client.send(UDP(sport=40001, dport=80) / bytes(40), to=server).only(server)
    server.send(ICMP(type=5, code=1, gw="10.0.2.9") / Raw(bytes(plain[IP])[:28]), to=client)


@scenario(families=(4, 6))
def error_to_the_masquerading_address_of_no_flow(node: Node) -> None:
    """An error to the node's own address about a flow that it never had."""
    client, server = node.router()
    node.rules(MASQUERADE)
    about = client.packet(UDP(sport=40000, dport=53) / b"q", to=server)
    network(about).src = node.address("eth1")
    server.send(icmp_error("port unreachable", about), to=node.address("eth1"))


@scenario(families=(4, 6))
def error_of_the_node_about_a_translated_packet(node: Node) -> None:
    """The node's own errors: TTL expiry, too big, no route, REJECT, before and after a flow is known."""
    client, server, vip = service(
        node, "-A FORWARD -p udp -d 10.0.2.2 --dport 8081 -j REJECT" if node.family == 4 else ""
    )
    client.send(UDP(sport=40000, dport=80) / b"q", to=vip, ttl=1).only(client)
    client.send(UDP(sport=40000, dport=80) / b"q", to=vip).only(server)
    client.send(UDP(sport=40000, dport=80) / b"q", to=vip, ttl=1).only(client)
    client.send(UDP(sport=40000, dport=80) / b"qq", to=vip, ttl=1).only(client)


@scenario(families=(4, 6))
def too_big_about_a_translated_packet(node: Node) -> None:
    """The next link is too small: the first packet of a flow and a later one."""
    client, server = node.router(far_mtu=1300)
    vip = VIP[node.family]
    node.rules(f"-t nat -A PREROUTING -d {vip} -j DNAT --to-destination {server.ip}")
    node.rules(MASQUERADE)
    header = {"flags": "DF"} if node.family == 4 else {}
    client.send(UDP(sport=40000, dport=80) / bytes(1400), to=vip, **header).only(client)
    client.send(UDP(sport=40000, dport=80) / b"small", to=vip, **header).only(server)
    client.send(UDP(sport=40000, dport=80) / bytes(1400), to=vip, **header).only(client)


@scenario(families=(4, 6))
def no_route_for_a_translated_packet(node: Node) -> None:
    """DNAT to where no route leads: the error quotes the translated packet or the original?"""
    client, _ = node.router()
    vip = VIP[node.family]
    target = "203.0.113.9" if node.family == 4 else "2001:db8::9"
    node.rules(f"-t nat -A PREROUTING -d {vip} -j DNAT --to-destination {target}")
    client.send(UDP(sport=40000, dport=80) / b"q", to=vip)
    client.send(TCP(sport=40000, dport=80, flags="S"), to=vip)


@scenario(families=(4, 6))
def rejected_after_dnat(node: Node) -> None:
    """REJECT in FORWARD of new and of known translated flows; with tcp-reset."""
    client, server, vip = service(
        node,
        "-A FORWARD -p udp -m conntrack --ctstate NEW -m mark --mark 0 -m length --length 100: -j REJECT",
        "-A FORWARD -p udp -m length --length 90:99 -j REJECT",
        "-A FORWARD -p tcp -j REJECT --reject-with tcp-reset",
    )
    client.send(UDP(sport=40000, dport=80) / bytes(100), to=vip).only(client)
    request = client.send(UDP(sport=40000, dport=80) / bytes(10), to=vip).only(server)
    client.send(UDP(sport=40000, dport=80) / bytes(64 if node.family == 4 else 45), to=vip).only(client)
    server.send(reply(request, bytes(64 if node.family == 4 else 45))).only(server)
    client.send(TCP(sport=40000, dport=80, flags="S"), to=vip).only(client)


@scenario(families=(4, 6))
def traceroute_to_a_masqueraded_server(node: Node) -> None:
    """TTL 1 to 4 behind MASQUERADE: the node, two routers, the server."""
    client, server, vip = service(node, MASQUERADE)
    routers = [ROUTER[node.family], "198.51.100.1" if node.family == 4 else "2001:db8::1"]
    client.send(UDP(sport=40000, dport=80) / b"q", to=vip, ttl=1)
    for number, router in enumerate(routers):
        request = client.send(UDP(sport=40000, dport=80) / b"q", to=vip, ttl=2 + number).only(server)
        server.complain("time exceeded", request, src=router).only(client)
    request = client.send(UDP(sport=40000, dport=80) / b"q", to=vip, ttl=4).only(server)
    server.complain("port unreachable", request).only(client)


@scenario(families=(4, 6))
def traceroute_by_ping_and_tcp(node: Node) -> None:
    """The same by pings and by SYNs."""
    client, server, vip = service(node, MASQUERADE)
    for payload in (echo(node.family), TCP(sport=40000, dport=80, flags="S", seq=5)):
        client.send(payload, to=vip, ttl=1)
        request = client.send(payload, to=vip, ttl=2).only(server)
        server.complain("time exceeded", request, src=ROUTER[node.family]).only(client)


@scenario(families=(4, 6))
def traceroute_of_the_node_itself(node: Node) -> None:
    """The node traces a Service: DNAT at OUTPUT; errors to itself are translated at INPUT."""
    _, server = node.router()
    vip = VIP[node.family]
    node.ip(f"{node.dash}route add default via {'10.0.1.2' if node.family == 4 else 'fd00:1::2'}")
    node.rules(f"-t nat -A OUTPUT -d {vip} -j DNAT --to-destination {server.ip}\n{MASQUERADE}")
    node.rules("-A INPUT -m conntrack --ctstate RELATED\n-A INPUT -m conntrack --ctstate INVALID")
    here = node.address("eth0")
    ip = IP(src=here, dst=vip, id=5, ttl=2) if node.family == 4 else IPv6(src=here, dst=vip, hlim=2)
    request = node.send(ip / UDP(sport=40000, dport=33434) / b"q").only(server)
    server.complain("time exceeded", request, src=ROUTER[node.family])
    server.complain("port unreachable", request)


# ---- checksums -----------------------------------------------------------------------------------------------------


@scenario(families=(4, 6))
def udp_checksums_near_the_edges(node: Node) -> None:
    """Checksums that come out as 0, 1, 0xfffe and 0xffff before and after translation: 0 is sent as 0xffff."""
    client, server, vip = service(node, MASQUERADE)
    node.look_at_every_step = False
    seen = set()
    for want in (1, 2, 0xFFFD, 0xFFFE, 0xFFFF):
        seen.add(_with_checksum(client, vip, UDP, want, 40000).at(server)[0][UDP].chksum)
    out = client.send(UDP(sport=40000, dport=80) / b"\0\0", to=vip).at(server)[0]
    shift = (out[UDP].chksum - _sum_of(client, vip, UDP, b"\0\0")) % 0xFFFF
    for after in (0, 1, 2, 0xFFFD, 0xFFFE):
        frames = _with_checksum(client, vip, UDP, (after - shift) % 0xFFFF or 0xFFFF, 40000)
        seen.add(frames.at(server)[0][UDP].chksum)
    assert 0xFFFF in seen
    node.look()


def _sum_of(client: Peer, target: str, kind: type[Packet], data: bytes, **fields: object) -> int:
    packet = client.packet(kind(sport=40000, dport=80, **fields) / Raw(data), to=target)
    return type(packet)(bytes(packet))[kind].chksum


def _with_checksum(client: Peer, target: str, kind: type[Packet], want: int, sport: int, **fields: object) -> Frames:
    """Send a packet whose payload of two bytes makes its right checksum `want` (modulo 0xffff)."""
    plain = client.packet(kind(sport=sport, dport=80, **fields) / Raw(b"\0\0"), to=target)
    base = type(plain)(bytes(plain))[kind].chksum
    filler = (base - want) % 0xFFFF
    return client.send(kind(sport=sport, dport=80, **fields) / Raw(filler.to_bytes(2, "big")), to=target)


@scenario(families=(4, 6))
def tcp_checksums_near_the_edges(node: Node) -> None:
    """TCP checksums that come out as 0 or 0xffff: which of the two is sent."""
    client, server, vip = service(node, MASQUERADE)
    node.look_at_every_step = False
    fields = {"flags": "A", "seq": 1, "ack": 1, "window": 1000}
    out = client.send(TCP(sport=40000, dport=80, **fields) / b"\0\0", to=vip).at(server)[0]
    shift = (out[TCP].chksum - _sum_of(client, vip, TCP, b"\0\0", **fields)) % 0xFFFF
    for want in (0, 1, 2, 0xFFFD, 0xFFFE):
        _with_checksum(client, vip, TCP, want, 40000, **fields)
        _with_checksum(client, vip, TCP, (want - shift) % 0xFFFF, 40000, **fields)
    for checksum in (0, 0xFFFF):
        plain = client.packet(TCP(sport=40000, dport=80, **fields) / Raw(b"\0\0"), to=vip)
        filler = type(plain)(bytes(plain))[TCP].chksum % 0xFFFF
        client.send(TCP(sport=40000, dport=80, chksum=checksum, **fields) / Raw(filler.to_bytes(2, "big")), to=vip)
    node.look()


@scenario()
def icmp_checksums_near_the_edges(node: Node) -> None:
    """Pings whose checksum is 0 or 0xffff before or after their id is translated."""
    client, server, vip = service(node, MASQUERADE)
    second = node.peer("eth0", "10.0.1.3")
    node.look_at_every_step = False
    client.send(echo(4), to=vip).only(server)
    moved = second.send(echo(4), to=vip).only(server)
    node.chose(PORT, moved[ICMP].id)
    shift = 7 - moved[ICMP].id
    for want in (0, 1, 0xFFFE, 0xFFFF):
        for target in (want, (want - shift) % 0xFFFF):
            plain = IP(bytes(second.packet(ICMP(type=8, id=7, seq=1) / Raw(b"\0\0"), to=vip)))[ICMP].chksum
            filler = (plain - target) % 0xFFFF
            second.send(ICMP(type=8, id=7, seq=1) / Raw(filler.to_bytes(2, "big")), to=vip)
            second.send(ICMP(type=8, id=7, seq=1, chksum=target) / Raw(filler.to_bytes(2, "big")), to=vip)
    node.look()


@scenario()
def ip_checksums_near_the_edges(node: Node) -> None:
    """IP header checksums that come out as 0 or 0xffff after the addresses and the TTL have changed."""
    client, server, vip = service(node, MASQUERADE)
    node.look_at_every_step = False
    seen = set()
    base = client.send(UDP(sport=40000, dport=80) / b"q", to=vip, id=0).only(server)[IP].chksum
    for want in (0, 1, 0xFFFE, 0xFFFF, 0x00FF, 0xFF00, 0x0100):
        ident = (base - want) % 0xFFFF
        seen.add(client.send(UDP(sport=40000, dport=80) / b"q", to=vip, id=ident).only(server)[IP].chksum)
        first = IP(bytes(client.packet(UDP(sport=40000, dport=80) / b"q", to=vip, id=0)))[IP].chksum
        client.send(UDP(sport=40000, dport=80) / b"q", to=vip, id=(first - want) % 0xFFFF)
    node.look()
    assert seen & {0, 0xFFFF}


@scenario(families=(4, 6))
def zero_checksum_both_ways(node: Node) -> None:
    """Datagrams without checksum through DNAT and MASQUERADE, both ways."""
    client, server, vip = service(node, MASQUERADE)
    node.sysctl("net.netfilter.nf_conntrack_checksum = 1")
    out = client.send(UDP(sport=40000, dport=80, chksum=0) / b"q", to=vip)
    if out:
        request = out.only(server)
        assert request[UDP].chksum == 0
        answer = reply(request, b"a")
        answer[UDP].chksum = 0
        server.send(answer)


@scenario()
def invalid_packets_are_not_translated(node: Node) -> None:
    """What is INVALID leaks with its own addresses: a segment outside the window, a FIN as the first packet."""
    client, server = node.router()
    node.rules(COUNT_STATES + MASQUERADE)
    talk = Talk(client, server, window=1000)
    talk.open()
    assert talk.client("PA", b"far", seq=talk.client_seq + 1_000_000).only(server)[IP].src == client.ip
    leak = client.send(TCP(sport=41000, dport=80, flags="FA", seq=5, ack=5), to=server).only(server)
    assert leak[IP].src == client.ip
    server.send(TCP(sport=80, dport=40000, flags="R", seq=1), to=node.address("eth1"))


@scenario()
def untracked_packets_are_not_translated(node: Node) -> None:
    """NOTRACK in raw keeps NAT away."""
    client, server, vip = service(node, MASQUERADE, "-t raw -A PREROUTING -p udp -j NOTRACK")
    client.send(UDP(sport=40000, dport=80) / b"q", to=vip)
    assert client.send(UDP(sport=40000, dport=80) / b"q", to=server).only(server)[IP].src == client.ip
    client.send(TCP(sport=40000, dport=80, flags="S"), to=vip).only(server)


@scenario()
def error_in_fragments(node: Node) -> None:
    """An error that arrives in two fragments is put together and translated."""
    client, server, vip = service(node, MASQUERADE)
    request = client.send(UDP(sport=40000, dport=80) / bytes(40), to=vip).only(server)
    whole = server.packet(icmp_error("port unreachable", request, quoted=68), to=request[IP].src)
    data = bytes(IP(bytes(whole)).payload)
    server.send(Raw(data[:48]), to=request[IP].src, proto=1, flags="MF")
    server.send(Raw(data[48:]), to=request[IP].src, proto=1, frag=6)


@scenario(families=(4, 6))
def answer_after_the_entry_is_gone(node: Node) -> None:
    """The flow expires: a late answer of the server goes out untranslated, as a flow of its own."""
    client, server, vip = service(node)
    node.sysctl("net.netfilter.nf_conntrack_udp_timeout = 1")
    request = client.send(UDP(sport=40000, dport=80) / b"q", to=vip).only(server)
    node.wait(1.4)
    assert network(server.send(reply(request, b"late")).only(client)).src == server.ip
