"""Neighbour discovery: solicitations, advertisements, and packets that wait for a neighbour."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, echo
from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils6 import in6_getnsma, in6_getnsmac

QUERY = UDP(sport=4000, dport=53) / b"query"


def group(address: str) -> tuple[str, str]:
    """The solicited-node group of an address, and its MAC address."""
    import socket

    name = in6_getnsma(socket.inet_pton(socket.AF_INET6, address))
    return socket.inet_ntop(socket.AF_INET6, name), in6_getnsmac(name)


def solicit(
    peer: Peer, target: str, *, unicast: bool = False, source: str = "", link_address: bool = True, **ip: object
) -> Packet:
    to, mac = (target, peer.gateway) if unicast else group(target)
    packet = (
        Ether(src=peer.mac, dst=mac)
        / IPv6(**{"src": source or peer.ip, "dst": to, "hlim": 255, **ip})
        / ICMPv6ND_NS(tgt=target)
    )
    return packet / ICMPv6NDOptSrcLLAddr(lladdr=peer.mac) if link_address else packet


def advertise(peer: Peer, request: Packet, **flags: int) -> Packet:
    asker = request[IPv6].src
    return (
        Ether(src=peer.mac, dst=request.src)
        / IPv6(src=peer.ip, dst=asker, hlim=255)
        / ICMPv6ND_NA(**{"tgt": peer.ip, "R": 0, "S": 1, "O": 1, **flags})
        / ICMPv6NDOptDstLLAddr(lladdr=peer.mac)
    )


@scenario(families=(6,))
def solicitation_is_answered(node: Node) -> None:
    """A solicitation for the node's address gets an advertisement with router, solicited and override set."""
    client, _ = node.router()
    answer = node.receive("eth0", solicit(client, node.address("eth0"))).only(client)
    assert (answer[ICMPv6ND_NA].R, answer[ICMPv6ND_NA].S, answer[ICMPv6ND_NA].O) == (1, 1, 1)


@scenario(families=(6,))
def unicast_solicitation_is_answered(node: Node) -> None:
    """A solicitation to the address itself (a reachability probe) is answered."""
    client, _ = node.router()
    node.receive("eth0", solicit(client, node.address("eth0"), unicast=True)).only(client)
    node.receive("eth0", solicit(client, node.address("eth0"), unicast=True, link_address=False)).only(client)


@scenario(families=(6,))
def host_is_no_router(node: Node) -> None:
    """With forwarding off the advertisement has no router flag."""
    client, _ = node.router()
    node.sysctl("net.ipv6.conf.all.forwarding = 0")
    assert node.receive("eth0", solicit(client, node.address("eth0"))).only(client)[ICMPv6ND_NA].R == 0


@scenario(families=(6,))
def solicitation_for_another_is_ignored(node: Node) -> None:
    """Solicitations for others: in the node's own group, and on the other link."""
    client, server = node.router()
    assert not node.receive("eth0", solicit(client, "fd00:9::1"))
    assert not node.receive("eth0", solicit(client, server.ip))


@scenario(families=(6,))
def address_of_another_interface_is_not_answered(node: Node) -> None:
    """Unlike ARP: an address answers at its own interface alone."""
    client, _ = node.router()
    assert not node.receive("eth0", solicit(client, node.address("eth1")))
    assert not node.receive("eth0", solicit(client, node.address("eth1"), unicast=True))


@scenario(families=(6,))
def malformed_is_ignored(node: Node) -> None:
    """Hop limit below 255, a multicast target, a wrong code or checksum, an option of length 0."""
    client, _ = node.router()
    here = node.address("eth0")
    assert not node.receive("eth0", solicit(client, here, hlim=254))
    good = solicit(client, here)
    for fields in ({"code": 1}, {"cksum": 0xBAD}, {"tgt": "ff02::1"}):
        bad = good.copy()
        for name, value in fields.items():
            setattr(bad[ICMPv6ND_NS], name, value)
        assert not node.receive("eth0", bad)
    zero = good.copy()
    zero[ICMPv6NDOptSrcLLAddr].len = 0
    assert not node.receive("eth0", zero)


@scenario(families=(6,))
def duplicate_address_probe_is_answered_to_all(node: Node) -> None:
    """A probe from :: for the node's address is answered to all nodes, not solicited."""
    client, _ = node.router()
    answer = node.receive("eth0", solicit(client, node.address("eth0"), source="::", link_address=False)).only(client)
    assert (answer.dst, answer[IPv6].dst, answer[ICMPv6ND_NA].S) == ("33:33:00:00:00:01", "ff02::1", 0)


@scenario(families=(6,))
def resolution(node: Node) -> None:
    """A packet for an unknown neighbour waits for the answer to a solicitation, then goes."""
    client, _ = node.router()
    server = node.peer("eth1", "fd00:2::9", neighbour=False)
    request = client.send(QUERY, to=server).only("eth1")
    assert (request.dst, request[IPv6].dst) == (group(server.ip)[1], group(server.ip)[0])
    node.receive("eth1", advertise(server, request)).only(server)
    client.send(QUERY, to=server).only(server)


@scenario(families=(6,))
def advertisement_without_override_resolves_too(node: Node) -> None:
    """An incomplete entry takes any advertisement with a link-layer address."""
    client, _ = node.router()
    server = node.peer("eth1", "fd00:2::9", neighbour=False)
    request = client.send(QUERY, to=server).only("eth1")
    node.receive("eth1", advertise(server, request, O=0, S=0)).only(server)


@scenario(families=(6,))
def packets_wait_in_order(node: Node) -> None:
    """Several packets wait for one neighbour and leave in order."""
    client, _ = node.router()
    server = node.peer("eth1", "fd00:2::9", neighbour=False)
    request = client.send(UDP(sport=1, dport=2), to=server).only("eth1")
    for port in (2, 3, 4):
        assert not client.send(UDP(sport=port, dport=2), to=server)
    node.receive("eth1", advertise(server, request))


@scenario(families=(6,))
def solicitation_teaches_the_asker(node: Node) -> None:
    """Who solicits the node is known from then on."""
    client, _ = node.router()
    other = node.peer("eth0", "fd00:1::9", neighbour=False)
    node.receive("eth0", solicit(other, node.address("eth0"))).only(other)
    other.send(echo(6), to=node.address("eth0")).only(other)


@scenario(families=(6,))
def solicitation_without_a_link_address_teaches_nothing(node: Node) -> None:
    """Without the option the node must ask before it can answer."""
    client, _ = node.router()
    other = node.peer("eth0", "fd00:1::9", neighbour=False)
    question = node.receive("eth0", solicit(other, node.address("eth0"), unicast=True, link_address=False)).only(other)
    assert ICMPv6ND_NS in question
    assert ICMPv6ND_NA in node.receive("eth0", advertise(other, question)).only(other)


@scenario(families=(6,))
def unasked_advertisement_is_ignored(node: Node) -> None:
    """An advertisement for an unknown neighbour makes no entry."""
    client, _ = node.router()
    server = node.peer("eth1", "fd00:2::9", neighbour=False)
    claim = (
        Ether(src=server.mac, dst="33:33:00:00:00:01")
        / IPv6(src=server.ip, dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(tgt=server.ip, R=0, S=0, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=server.mac)
    )
    assert not node.receive("eth1", claim)
    assert ICMPv6ND_NS in client.send(QUERY, to=server).only("eth1")


@scenario(families=(6,))
def failure(node: Node) -> None:
    """No answer: three solicitations, then address unreachable for each packet that waited."""
    client, _ = node.router()
    node.sysctl("net.ipv6.neigh.eth1.retrans_time_ms = 100")
    server = node.peer("eth1", "fd00:2::9", neighbour=False)
    client.send(UDP(sport=1, dport=2), to=server).only("eth1")
    client.send(UDP(sport=2, dport=2), to=server)
    out = node.wait(0.6)
    assert len(out.at("eth1")) == 2
    assert [packet[ICMPv6DestUnreach].code for packet in out.at(client)] == [3, 3]


@scenario(families=(6,))
def proxy(node: Node) -> None:
    """proxy_ndp=1 and a proxy entry: the node answers for an address of the other link, without override."""
    client, server = node.router()
    node.sysctl("""
        net.ipv6.conf.eth0.proxy_ndp = 1
        net.ipv6.neigh.eth0.proxy_delay = 0
    """)
    node.ip(f"-6 neigh add proxy {server.ip} dev eth0")
    node.receive("eth0", solicit(client, server.ip))
    assert not node.receive("eth0", solicit(client, "fd00:2::3"))
