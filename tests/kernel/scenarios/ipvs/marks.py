"""Services of a mark, and one-packet scheduling."""

from judge.balanced import PORT, balanced, plain
from judge.ipvs_node import IpvsNode
from judge.scenario import scenario
from judge.talk import reply
from scapy.layers.inet import TCP, UDP


def marked(node: IpvsNode, options: str = "", way: str = "-m", port: int = 0):
    web = plain(node)
    six = "-6" if node.family == 6 else ""
    node.rules(f"-t mangle -A PREROUTING -d {web.vip} -j MARK --set-mark 9")
    lines = [f"-A -f 9 {six} -s rr {options}"]
    for server in web.servers.values():
        ip = server.ip if node.family == 4 else f"[{server.ip}]"
        lines.append(f"-a -f 9 {six} -r {ip}:{port} {way}")
    node.ipvs("\n".join(lines))
    return web


@scenario(families=(4, 6))
def every_port(node: IpvsNode) -> None:
    """A service of a mark takes all protocols and ports; the port stays."""
    web = marked(node)
    web.client.send(TCP(sport=40000, dport=80, flags="S", seq=1), to=web.vip)
    web.client.send(TCP(sport=40000, dport=443, flags="S", seq=1), to=web.vip)
    frames = web.client.send(UDP(sport=40000, dport=53) / b"query", to=web.vip)
    server = web.servers[web.number(frames)]
    server.send(reply(frames.at(server)[0], b"answer")).only(web.client)


@scenario()
def to_one_port(node: IpvsNode) -> None:
    """A service of a mark whose servers have a port."""
    web = marked(node, port=8080)
    web.client.send(TCP(sport=40000, dport=80, flags="S", seq=1), to=web.vip)
    web.client.send(TCP(sport=40000, dport=443, flags="S", seq=1), to=web.vip)


@scenario()
def mark_before_address(node: IpvsNode) -> None:
    """A packet with a mark that has a service, to an address that has one: the mark's is taken."""
    web = marked(node)
    node.ipvs(f"-A {web.service} -s rr\n{web.server(2)}")
    web.picks(3)
    web.client.send(UDP(sport=1, dport=1) / b"x", to=web.vip)


@scenario()
def another_mark(node: IpvsNode) -> None:
    """A mark without service does not matter."""
    web = balanced(node)
    node.rules(f"-t mangle -A PREROUTING -d {web.vip} -j MARK --set-mark 77")
    web.picks(3)


@scenario()
def not_of_the_node(node: IpvsNode) -> None:
    """A mark on packets to an address that is not the node's: they never reach the hook, and are forwarded."""
    web = marked(node)
    node.rules("-t mangle -A PREROUTING -d 10.0.2.3 -j MARK --set-mark 9")
    web.client.send(TCP(sport=40000, dport=80, flags="S", seq=1), to=web.servers[3])


@scenario(families=(4, 6))
def one_packet(node: IpvsNode) -> None:
    """One-packet scheduling: each datagram chooses anew, and no connection is kept."""
    web = balanced(node, protocol="udp", service="-o")
    assert web.picks([40000, 40000, 40000, 40000]) == [4, 3, 2, 4]


@scenario(families=(4, 6))
def one_packet_and_its_answer(node: IpvsNode) -> None:
    """One-packet scheduling: there is no connection, so the answer passes with the server's own address."""
    web = balanced(node, protocol="udp", service="-o")
    frames = web.first(40000)
    server = web.servers[web.number(frames)]
    server.send(reply(frames.at(server)[0], b"answer"))


@scenario()
def one_packet_of_a_mark(node: IpvsNode) -> None:
    """One-packet scheduling of a mark is for UDP alone."""
    web = marked(node, "-o")
    for _ in range(3):
        web.client.send(UDP(sport=40000, dport=53) / b"query", to=web.vip)
    for _ in range(2):
        web.client.send(TCP(sport=40000, dport=PORT, flags="S", seq=1), to=web.vip)
