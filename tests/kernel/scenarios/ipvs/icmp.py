"""ICMP about connections of IPVS."""

from judge.balanced import balanced, plain
from judge.ipvs_node import IpvsNode
from judge.scenario import scenario
from judge.talk import echo, icmp_error, network, reply
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw


@scenario(families=(4, 6))
def server_complains(node: IpvsNode) -> None:
    """A server's error about a request comes to the client from the virtual address, about what the client had sent."""
    web = balanced(node, protocol="udp")
    frames = web.first(40000)
    server = web.servers[web.number(frames)]
    server.complain("port unreachable", frames.at(server)[0])
    server.complain("host unreachable", frames.at(server)[0])


@scenario(families=(4, 6))
def router_on_the_way_complains(node: IpvsNode) -> None:
    """A router between the node and the server: its error has the virtual address too."""
    web = balanced(node, protocol="udp")
    router = node.peer("eth1", "10.0.2.99" if node.family == 4 else "fd00:2::99")
    frames = web.first(40000)
    request = frames.at("eth1")[0]
    router.complain("time exceeded", request)
    router.complain("too big", request, mtu=1280)


@scenario(families=(4, 6))
def client_complains(node: IpvsNode) -> None:
    """A client's error about an answer reaches the server, about what the server had sent."""
    web = balanced(node, protocol="udp")
    frames = web.first(40000)
    server = web.servers[web.number(frames)]
    answer = server.send(reply(frames.at(server)[0], b"answer")).only(web.client)
    web.client.complain("port unreachable", answer)
    web.client.complain("too big", answer, mtu=1280)


@scenario(families=(4, 6))
def of_tcp(node: IpvsNode) -> None:
    """Errors about TCP, both ways."""
    web = balanced(node)
    talk = web.talk()
    frames = talk.client("S")
    request = frames.at(talk.far)[0]
    talk.far.complain("port unreachable", request)
    answer = talk.server("SA").only(web.client)
    web.client.complain("host unreachable", answer)


@scenario()
def of_sctp(node: IpvsNode) -> None:
    """Errors about SCTP."""
    web = balanced(node, protocol="sctp")
    frames = web.first(40000)
    server = web.servers[web.number(frames)]
    server.complain("port unreachable", frames.at(server)[0])


@scenario(families=(4, 6))
def about_nothing_known(node: IpvsNode) -> None:
    """Errors about connections that there are not."""
    web = balanced(node, protocol="udp")
    request = web.first(40000).at("eth1")[0]
    del request
    server = web.servers[3]
    stranger = server.packet(UDP(sport=8080, dport=50000) / b"x", web.client)
    web.client.send(icmp_error("port unreachable", stranger), to=server)
    back = web.client.packet(UDP(sport=50000, dport=8080) / b"x", server)
    server.send(icmp_error("port unreachable", back), to=web.client)
    web.client.send(
        icmp_error("port unreachable", web.client.packet(UDP(sport=1, dport=80) / b"x", web.vip)), to=web.vip
    )


@scenario(families=(4, 6))
def ping(node: IpvsNode) -> None:
    """The node answers pings to the virtual address itself."""
    web = balanced(node)
    web.client.send(echo(node.family), to=web.vip).only(web.client)


@scenario(families=(4, 6))
def ttl_ends_here(node: IpvsNode) -> None:
    """A request whose TTL ends at the node: who says so to the client; and an answer whose TTL ends."""
    web = balanced(node, protocol="udp")
    web.first(40000, ttl=1)
    frames = web.first(40001, ttl=2)
    server = web.servers[web.number(frames)]
    packet = reply(frames.at(server)[0], b"answer")
    if node.family == 4:
        packet[IP].ttl = 1
    else:
        packet.payload.hlim = 1
    server.send(packet)


@scenario(families=(4, 6))
def too_big_for_the_way(node: IpvsNode) -> None:
    """A request that is too big for the link to the server, DF set: the client hears of the MTU."""
    web = balanced(node, protocol="udp")
    node.ip("link set eth1 mtu 1300")
    big = UDP(sport=40000, dport=80) / bytes(1400)
    if node.family == 4:
        web.client.send(big, to=web.vip, flags="DF")
        web.client.send(big, to=web.vip)
    else:
        web.client.send(big, to=web.vip)


@scenario(families=(4, 6))
def no_server_left(node: IpvsNode) -> None:
    """No server: port unreachable, to UDP, TCP and SCTP alike."""
    web = balanced(node, weights=(0,))
    web.first(40000)
    web.first(40000, ttl=1)


@scenario()
def no_server_left_for_udp(node: IpvsNode) -> None:
    """No server: port unreachable for UDP."""
    balanced(node, weights=(0,), protocol="udp").first(40000)


@scenario()
def no_server_left_for_sctp(node: IpvsNode) -> None:
    """No server: port unreachable for SCTP."""
    balanced(node, weights=(0,), protocol="sctp").first(40000)


@scenario(families=(4, 6))
def answer_without_connection(node: IpvsNode) -> None:
    """An answer of a real server whose connection is gone passes as it is."""
    web = balanced(node, protocol="udp")
    server = web.servers[3]
    server.send(UDP(sport=8080, dport=40000) / b"answer", to=web.client)


@scenario(families=(4, 6))
def answer_without_connection_and_nat_icmp_send(node: IpvsNode) -> None:
    """nat_icmp_send: the real server hears that its port is unreachable."""
    web = balanced(node, protocol="udp")
    node.sysctl("net.ipv4.vs.nat_icmp_send = 1")
    web.servers[3].send(UDP(sport=8080, dport=40000) / b"answer", to=web.client)
    web.servers[3].send(UDP(sport=8081, dport=40000) / b"another port", to=web.client)


@scenario()
def schedule_icmp(node: IpvsNode) -> None:
    """schedule_icmp: an error about an unknown connection is scheduled by the packet that it quotes."""
    web = balanced(node, protocol="udp")
    node.sysctl("net.ipv4.vs.schedule_icmp = 1")
    about = IP(src=web.vip, dst=web.client.ip, id=7) / UDP(sport=80, dport=40000) / b"answer"
    web.client.send(icmp_error("port unreachable", about), to=web.vip)
    web.first(40000)


@scenario()
def quoted_with_more_bytes(node: IpvsNode) -> None:
    """An error that quotes a whole packet: the UDP checksum in it, and what follows."""
    web = balanced(node, protocol="udp")
    frames = web.first(40000)
    server = web.servers[web.number(frames)]
    server.complain("port unreachable", frames.at(server)[0], quoted=33)
    server.complain("port unreachable", frames.at(server)[0], quoted=24)


@scenario()
def other_messages(node: IpvsNode) -> None:
    """Messages that are no errors, and errors that are cut short."""
    web = balanced(node, protocol="udp")
    web.first(40000)
    web.client.send(ICMP(type=3, code=3) / Raw(b"short"), to=web.vip)
    web.client.send(ICMP(type=5, code=1) / Raw(bytes(28)), to=web.vip)


@scenario(families=(4, 6))
def of_direct_routing(node: IpvsNode) -> None:
    """A client's error about an answer that came from a server of direct routing goes to that server as it is."""
    web = plain(node, "udp", 2)
    lines = [f"-A {web.service} -s rr"]
    node.ipvs("\n".join(lines + [web.server(number, "-g", port=80) for number in web.servers]))
    request = network(web.first(40000).only("eth1"))
    answer = type(request)(src=web.vip, dst=web.client.ip) / UDP(sport=80, dport=40000) / b"answer"
    web.client.complain("port unreachable", answer)
    web.client.complain("port unreachable", answer, ttl=1)


@scenario()
def with_a_wrong_checksum(node: IpvsNode) -> None:
    """Errors whose own checksum is wrong go nowhere."""
    web = balanced(node, protocol="udp")
    frames = web.first(40000)
    server = web.servers[web.number(frames)]
    error = icmp_error("port unreachable", frames.at(server)[0])
    error.chksum = 0x1234
    server.send(error, to=web.client)
    answer = server.send(reply(frames.at(server)[0], b"answer")).only(web.client)
    error = icmp_error("port unreachable", answer)
    error.chksum = 0x1234
    web.client.send(error, to=web.vip)


@scenario(families=(4, 6))
def of_a_tunnel(node: IpvsNode) -> None:
    """A router on the way to a tunnel's end complains: the client is told about what it sent."""
    web = plain(node, "udp", 1)
    node.ipvs(f"-A {web.service} -s rr\n{web.server(2, '-i', port=80)}")
    router = node.peer("eth1", "10.0.2.99" if node.family == 4 else "fd00:2::99")
    outer = network(web.first(40000, **({"flags": "DF"} if node.family == 4 else {})).only("eth1"))
    quoted = 20 + 20 + 8 if node.family == 4 else 40 + 40 + 8
    router.complain("host unreachable", outer, quoted=quoted)
    router.complain("too big", outer, mtu=1400, quoted=quoted)
    router.complain("host unreachable", outer, quoted=28 if node.family == 4 else 48)
    web.first(40001)


@scenario(families=(4, 6))
def schedule_icmp_of_any_kind(node: IpvsNode) -> None:
    """schedule_icmp with TCP, with no server, and of another port."""
    web = balanced(node)
    node.sysctl("net.ipv4.vs.schedule_icmp = 1")
    ip = IP if node.family == 4 else IPv6
    for port in (80, 81):
        about = ip(src=web.vip, dst=web.client.ip) / TCP(sport=port, dport=40000, flags="SA")
        web.client.send(icmp_error("port unreachable", about), to=web.vip)
    node.ipvs_change("\n".join(web.server(number, verb="-d") for number in web.servers))
    about = ip(src=web.vip, dst=web.client.ip) / TCP(sport=80, dport=40001, flags="SA")
    web.client.send(icmp_error("port unreachable", about), to=web.vip)
    node.wait(5)
