"""Headers that lie in several fragments: what is read in one piece cannot leave as it came."""

from itertools import pairwise

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, icmp_error, network
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet, Raw

from scenarios.conntrack_tcp import COUNT_STATES
from scenarios.nd import group

SYN = TCP(sport=5000, dport=80, options=[("MSS", 1460), ("NOP", None), ("WScale", 7)])
INIT = SCTP(sport=5000, dport=80) / SCTPChunkInit(init_tag=9, a_rwnd=4096, n_out_streams=1, n_in_streams=1)
QUERY = UDP(sport=5000, dport=53) / b"abcdefgh"


def pieces(packet: Packet, *places: int) -> list[Packet]:
    """An IP packet in fragments that are cut at these places of its payload."""
    data = bytes(packet)
    version6 = data[0] >> 4 == 6
    ip = (IPv6 if version6 else IP)(data[: 40 if version6 else 20])
    ip.remove_payload()
    body = data[40 if version6 else 20 :]
    made = []
    for start, end in pairwise((0, *places, len(body))):
        more = end < len(body)
        if version6:
            header = IPv6(src=ip.src, dst=ip.dst, hlim=ip.hlim) / IPv6ExtHdrFragment(
                nh=ip.nh, id=7, m=more, offset=start // 8
            )
        else:
            header = IP(src=ip.src, dst=ip.dst, ttl=ip.ttl, id=7, proto=ip.proto, flags=int(more), frag=start // 8)
        made.append(header / Raw(body[start:end]))
    return made


def small(node: Node, transport: Packet, *rules: str) -> None:
    """Send it in many ways of cutting it through the node."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    for rule in rules:
        node.rules(rule)
    for sport, places in enumerate(((8,), (16,), (24,), (8, 16), (8, 16, 24), (16, 24)), 5000):
        transport.sport = sport
        data = bytes(client.packet(transport, to=server))
        if len(data) - (40 if node.family == 6 else 20) > places[-1]:
            for part in pieces(type(client.packet(transport, to=server))(data), *places):
                client.send(part)


@scenario(families=(4, 6))
def tcp_header(node: Node) -> None:
    """A socket is looked for by the whole TCP header, before the route: the packet leaves in other fragments."""
    small(node, SYN)


@scenario(families=(4, 6))
def tcp_header_without_early_demux(node: Node) -> None:
    """net.ipv4.ip_early_demux=0: nobody reads it in one piece, and the fragments leave as they came."""
    node.sysctl("net.ipv4.ip_early_demux = 0")
    small(node, SYN)


@scenario(families=(4, 6))
def tcp_header_translated(node: Node) -> None:
    """NAT writes into the TCP header."""
    small(node, SYN, "-t nat -A POSTROUTING -j MASQUERADE")


@scenario(families=(4, 6))
def sctp_header(node: Node) -> None:
    """Tracking verifies SCTP's checksum behind a header in one piece."""
    small(node, INIT)


@scenario(families=(4, 6))
def sctp_header_not_verified(node: Node) -> None:
    """nf_conntrack_checksum=0: the fragments leave as they came."""
    node.sysctl("net.netfilter.nf_conntrack_checksum = 0")
    small(node, INIT)


@scenario(families=(4, 6))
def udp_translated(node: Node) -> None:
    """UDP's header is as long as the smallest fragment, and nothing changes."""
    small(node, QUERY, "-t nat -A POSTROUTING -j MASQUERADE")


@scenario(families=(4, 6))
def clamped(node: Node) -> None:
    """TCPMSS wants all of the packet in one piece."""
    small(node, SYN, "-t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1000")


@scenario(families=(4, 6))
def quoted_headers(node: Node) -> None:
    """Where there is NAT, an ICMP error is read up to the header that it quotes, of whatever connection."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    node.rules("-t nat -A POSTROUTING -p tcp -j MASQUERADE")
    for transport in (QUERY, SYN):
        request = client.send(transport, to=server).only(server)
        error = icmp_error("port unreachable", request)
        whole = server.packet(error, to=network(request).src)
        for places in ((8,), (16, 40), (8, 24, 32)):
            for part in pieces(type(whole)(bytes(whole)), *places):
                server.send(part)


@scenario(families=(6,))
def solicitation(node: Node) -> None:
    """Neighbour discovery in fragments is not listened to, unless suppress_frag_ndisc=0."""
    client, other = node.router()
    node.sysctl("net.ipv6.conf.eth1.suppress_frag_ndisc = 0")
    for peer, own in ((client, node.address("eth0")), (other, node.address("eth1"))):
        to, mac = group(own)
        question = ICMPv6ND_NS(tgt=own) / ICMPv6NDOptSrcLLAddr(lladdr=peer.mac)
        for part in pieces(IPv6(bytes(IPv6(src=peer.ip, dst=to, hlim=255) / question)), 16):
            send(node, peer, part, mac)
        for part in pieces(IPv6(bytes(IPv6(src=peer.ip, dst=own, hlim=255) / question)), 8, 24):
            send(node, peer, part, peer.gateway)


def send(node: Node, peer: Peer, packet: Packet, mac: str) -> None:
    node.receive(peer.interface, Ether(src=peer.mac, dst=mac) / packet)


@scenario(families=(4, 6))
def behind_a_datagram(node: Node) -> None:
    """UDP says how long it is; what stands behind it is not summed by a socket, not quoted, and INVALID for tracking."""
    client, _ = node.router()
    node.rules(COUNT_STATES)
    for transport in (QUERY, UDP(sport=5000, dport=53, chksum=0) / b"abcdefgh"):
        data = bytes(client.packet(transport, to=node.address("eth0")))
        header = (IPv6 if node.family == 6 else IP)(data + b"behind the datagram")
        if node.family == 6:
            header.plen = len(data) - 40 + 19
        else:
            header.len = len(data) + 19
            del header.chksum
        client.send(header)
        for part in pieces((IPv6 if node.family == 6 else IP)(bytes(header)), 16):
            client.send(part)
