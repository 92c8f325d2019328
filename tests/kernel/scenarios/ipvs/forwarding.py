"""How a packet comes to its server: masquerading, direct routing, tunnels, the node itself."""

from judge.balanced import PORT, balanced, plain
from judge.choices import TUNNEL_PORT
from judge.ipvs_node import IpvsNode
from judge.scenario import scenario
from judge.talk import reply
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6


def routed(node: IpvsNode, way: str, protocol: str = "tcp", service: str = ""):
    """A service whose servers listen on the service's own port."""
    web = plain(node, protocol, 3)
    lines = [f"-A {web.service} -s rr {service}"]
    lines += [web.server(number, way, port=PORT) for number in web.servers]
    node.ipvs("\n".join(lines))
    return web


@scenario(families=(4, 6))
def masquerading(node: IpvsNode) -> None:
    """Destination address and port change, the source does not; TTL falls by one each way."""
    talk = balanced(node).talk()
    talk.open()
    talk.client("PA", b"GET / HTTP/1.0\r\n\r\n")
    talk.server("PA", bytes(1400))


@scenario(families=(4, 6))
def direct(node: IpvsNode) -> None:
    """Direct routing: the packet as it is, to the server's MAC address; answers are never seen."""
    web = routed(node, "-g")
    for flags in ("S", "A", "PA", "FA"):
        web.client.send(TCP(sport=40000, dport=PORT, flags=flags, seq=1), to=web.vip)
    web.client.send(TCP(sport=40001, dport=PORT, flags="S"), to=web.vip, ttl=1)


@scenario()
def direct_and_reset(node: IpvsNode) -> None:
    """Direct routing: the client resets."""
    web = routed(node, "-g")
    for flags in ("S", "A", "R"):
        web.client.send(TCP(sport=40000, dport=PORT, flags=flags, seq=1), to=web.vip)
    web.client.send(TCP(sport=40000, dport=PORT, flags="S", seq=9), to=web.vip)


@scenario(families=(4, 6))
def direct_of_udp(node: IpvsNode) -> None:
    """Direct routing of UDP."""
    web = routed(node, "-g", "udp")
    for sport in (40000, 40001, 40000):
        web.first(sport)


@scenario()
def direct_too_big(node: IpvsNode) -> None:
    """Direct routing over a smaller link: DF says no, without DF it is cut."""
    web = routed(node, "-g", "udp")
    node.ip("link set eth1 mtu 1300")
    web.client.send(UDP(sport=40000, dport=PORT) / bytes(1400), to=web.vip, flags="DF")
    web.client.send(UDP(sport=40000, dport=PORT) / bytes(1400), to=web.vip)


@scenario(families=(4, 6))
def tunnel(node: IpvsNode) -> None:
    """Tunnelling: the packet inside another one to the server."""
    web = routed(node, "-i")
    web.first(40000)
    web.first(40001, tos=0x2E)
    web.first(40002, ttl=1)
    web.first(40003, ttl=2)
    if node.family == 4:
        web.first(40004, flags="DF")


@scenario(families=(4, 6))
def tunnel_too_big(node: IpvsNode) -> None:
    """Tunnelling: what does not fit is told to the client."""
    web = routed(node, "-i", "udp")
    for size in (1440, 1452, 1453, 1470, 1472):
        if node.family == 4:
            web.client.send(UDP(sport=40000, dport=PORT) / bytes(size), to=web.vip, flags="DF")
            web.client.send(UDP(sport=40000, dport=PORT) / bytes(size), to=web.vip)
        else:
            web.client.send(UDP(sport=40000, dport=PORT) / bytes(size - 40), to=web.vip)


@scenario(random="the source ports")
def tunnel_gue(node: IpvsNode) -> None:
    """Tunnelling in UDP (GUE)."""
    web = routed(node, "-i --tun-type gue --tun-port 6080 --tun-nocsum")
    for sport in (40000, 40001):
        node.chose(TUNNEL_PORT, web.first(sport).only("eth1")[UDP].sport)


@scenario()
def tunnel_gre(node: IpvsNode) -> None:
    """Tunnelling in GRE."""
    web = routed(node, "-i --tun-type gre --tun-nocsum")
    web.first(40000)
    web.first(40001)


@scenario(families=(4, 6))
def local_node(node: IpvsNode) -> None:
    """A server that is the node itself: delivered to its socket, unchanged."""
    web = plain(node, "udp", 2)
    own = node.address("eth1")
    own = own if node.family == 4 else f"[{own}]"
    node.ipvs(f"-A {web.service} -s rr\n-a {web.service} -r {own}:{PORT} -m\n{web.server(2)}")
    node.listen("udp", PORT)
    web.picks(4)


@scenario()
def local_node_at_another_port(node: IpvsNode) -> None:
    """A server that is the node itself, at another port: is it translated?"""
    web = plain(node, "tcp", 2)
    node.ipvs(f"-A {web.service} -s rr\n-a {web.service} -r {node.address('eth1')}:8080 -m")
    web.picks(2)


@scenario()
def server_in_the_clients_network(node: IpvsNode) -> None:
    """A server behind the client's own link: in and out at one interface."""
    web = plain(node, "tcp", 1)
    near = node.peer("eth0", "10.0.1.7")
    node.ipvs(f"-A {web.service} -s rr\n-a {web.service} -r {near.ip}:8080 -m")
    frames = web.first(40000)
    near.send(reply(frames.at(near)[0], flags="SA", seq=9, ack=1001))


@scenario(families=(4, 6))
def no_way_to_the_server(node: IpvsNode) -> None:
    """A server that no route leads to."""
    web = plain(node, "tcp", 1)
    far = "172.16.0.9" if node.family == 4 else "[fd00:dead::9]"
    node.ipvs(f"-A {web.service} -s rr\n-a {web.service} -r {far}:8080 -m")
    web.picks(2)


@scenario(families=(4, 6))
def fragments(node: IpvsNode) -> None:
    """Fragments of one datagram go to one server."""
    from scapy.layers.inet import fragment
    from scapy.layers.inet6 import IPv6ExtHdrFragment, fragment6

    web = balanced(node, protocol="udp")
    whole = web.client.packet(UDP(sport=40000, dport=PORT) / (bytes(range(256)) * 8), web.vip)
    if node.family == 4:
        pieces = fragment(whole, 1200)
    else:
        whole = IPv6(src=whole.src, dst=whole.dst) / IPv6ExtHdrFragment(id=7) / whole.payload
        pieces = fragment6(whole, 1280)
    for piece in pieces:
        web.client.send(piece)


@scenario()
def addresses_from_everywhere(node: IpvsNode) -> None:
    """Sources that are no client: the node's own address, a broadcast, loopback."""
    web = balanced(node, protocol="udp")
    for source in (node.address("eth0"), web.vip, "127.0.0.1", "255.255.255.255", "0.0.0.0", "10.0.2.3"):
        web.first(40000, src=source)


@scenario()
def options_in_the_header(node: IpvsNode) -> None:
    """IPv4 options are kept."""
    web = balanced(node, protocol="udp")
    packet = IP(src=web.client.ip, dst=web.vip, id=7, options=b"\x01\x01\x01\x00") / UDP(sport=40000, dport=PORT) / b"q"
    web.client.send(packet)


@scenario()
def cut_short(node: IpvsNode) -> None:
    """Transport headers that are not whole."""
    from scapy.packet import Raw

    web = balanced(node, protocol="tcp")
    for size in (3, 4, 8, 19):
        web.client.send(Raw(bytes(TCP(sport=40000, dport=PORT, flags="S"))[:size]), to=web.vip, proto=6)


@scenario(random="the source ports")
def tunnel_gue_with_checksum(node: IpvsNode) -> None:
    """Tunnelling in UDP (GUE) whose checksum is there."""
    web = routed(node, "-i --tun-type gue --tun-port 6080 --tun-csum", "udp")
    for sport in (40000, 40001):
        node.chose(TUNNEL_PORT, web.first(sport).only("eth1")[UDP].sport)
    web.client.send(UDP(sport=40000, dport=PORT) / bytes(1450), to=web.vip, flags="DF")


@scenario()
def tunnel_gre_with_checksum(node: IpvsNode) -> None:
    """Tunnelling in GRE with its checksum."""
    web = routed(node, "-i --tun-type gre --tun-csum", "udp")
    web.first(40000, flags="DF")
    web.first(40001)
    for size in (1440, 1445):
        web.client.send(UDP(sport=40000, dport=PORT) / bytes(size), to=web.vip, flags="DF")


@scenario(families=(6,))
def tunnel_to_the_other_family(node: IpvsNode) -> None:
    """IPv6 in IPv4: the server's address is of the other family."""
    web = plain(node, "udp", 2)
    node.ip("addr add 10.9.0.1/24 dev eth1\nneigh add 10.9.0.7 lladdr 02:00:00:00:09:07 dev eth1 nud permanent")
    node.ipvs(f"-A {web.service} -s rr\n-a {web.service} -r 10.9.0.7:{PORT} -i")
    web.first(40000)
    web.first(40001, tos=0x2E)
    for size in (1432, 1433):
        web.client.send(UDP(sport=40000, dport=PORT) / bytes(size), to=web.vip)


@scenario(families=(4, 6))
def answers_in_fragments(node: IpvsNode) -> None:
    """A server answers in fragments: the answer has the service's address, whole or in pieces."""
    from scapy.layers.inet import fragment
    from scapy.layers.inet6 import IPv6ExtHdrFragment, fragment6

    web = balanced(node, protocol="udp")
    request = web.first(40000).only("eth1")
    server = web.servers[4]
    whole = server.packet(UDP(sport=8080, dport=40000) / (bytes(range(256)) * 8), web.client)
    if node.family == 4:
        pieces = fragment(whole, 1200)
    else:
        whole = IPv6(src=whole.src, dst=whole.dst) / IPv6ExtHdrFragment(id=7) / whole.payload
        pieces = fragment6(whole, 1280)
    for piece in pieces:
        server.send(piece)
    server.send(reply(request, b"short"))
