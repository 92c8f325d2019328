"""IPv4 options: what the node writes into them, what it answers with, which it refuses, and what becomes of them in pieces."""

import struct
import time

from judge.node import Node
from judge.random_wire import ICMP, SYN, TCP, UDP, ip4, mac, packed, seal, tcp, udp
from judge.scenario import scenario
from judge.talk import Frames, Peer, icmp_error, network
from scapy.layers.inet import IP
from scapy.packet import Raw

ECHO = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + b"abcdefgh"
TIMES = ("time of day",)
END, NOOP = b"\0", b"\1"
ALERT = b"\x94\x04\0\0"


def record(slots: int, pointer: int = 4, length: int = 0) -> bytes:
    return bytes([7, length or 3 + 4 * slots, pointer]) + bytes(4 * slots)


def stamps(flag: int, room: int, pointer: int = 5, overflow: int = 0, first: str = "") -> bytes:
    """A timestamp option with `room` bytes for what is written, of which `first` may be an address that is asked."""
    body = packed(first) + bytes(room - 4) if first else bytes(room)
    return bytes([68, 4 + room, pointer, overflow << 4 | flag]) + body


def route(kind: int, *hops: str, pointer: int = 4) -> bytes:
    """A loose (131) or strict (137) source route."""
    return bytes([kind, 3 + 4 * len(hops), pointer]) + b"".join(packed(hop) for hop in hops)


def padded(options: bytes) -> bytes:
    return options + bytes(-len(options) % 4)


def send(
    client: Peer, options: bytes, to: str, body: bytes = ECHO, protocol: int = ICMP, ttl: int = 64, offset: int = 0,
    src: str = "", tos: int = 0, seal_for: str = "",
) -> Frames:  # fmt: skip
    """A packet with these options, made whole to words of 4 bytes. seal_for: the address that the checksum is made for."""
    source = src or client.ip
    body = seal(packed(source), packed(seal_for or to), protocol, body)
    data = ip4(source, to, protocol, body, ttl, tos, 0x1234, offset, padded(options))
    return client.send(mac(client.gateway) + mac(client.mac) + b"\x08\0" + data)


def kinds(here: str) -> list[bytes]:
    """Well-formed options of every kind that somebody may send to the address `here`."""
    return [
        NOOP,
        NOOP * 4,
        END + b"\x07\x55\x66",  # what stands behind the end is cleared
        ALERT,
        b"\x94\x04\0\x07",
        b"\x82\x0b" + bytes(9),  # security
        b"\x88\x04\x12\x34",  # stream id
        b"\xff\x02",
        b"\x1e\x04\x55\x66",
        record(1),
        record(3),
        record(9),
        record(3, 8),
        record(3, 12),
        record(3, 16),  # full
        record(0),
        NOOP + record(2) + ALERT,
        record(2) + stamps(0, 8) + NOOP,
        stamps(0, 4),
        stamps(0, 12),
        stamps(0, 12, 9),
        stamps(0, 12, 17),  # full: one more that found no room
        stamps(0, 4, 9, 14),
        stamps(1, 8),
        stamps(1, 24),
        stamps(1, 16, 13),
        stamps(1, 16, 21, 3),
        stamps(3, 8, first=here),
        stamps(3, 16, first=here),
        stamps(3, 8, first="192.0.2.77"),
        stamps(3, 8, 13, 15, first=here),
        stamps(3, 8, first="10.0.1.255"),
        stamps(3, 8, first="224.0.0.1"),
        stamps(2, 8),
        stamps(7, 8),
        stamps(1, 8) + record(2) + NOOP,
    ]


WRONG = [
    b"\x07",  # no length
    b"\x07\x01\0\0",
    b"\x07\0\0\0",
    b"\x07\x08\x04\0",  # longer than the header
    b"\1\1\1\x07",
    b"\1\1\1\xff",
    record(1, 3),
    record(1, 5),
    record(1, 6),
    record(2, 9),
    record(0, 4, 2),
    record(1) + record(1),
    stamps(0, 4, 4),
    stamps(0, 4, 6),
    stamps(0, 4, 9, 15),  # nobody can count any more
    stamps(1, 4),
    stamps(1, 8, 6),
    stamps(3, 4, first="10.0.1.1"),
    stamps(3, 8, 6, first="10.0.1.1"),
    b"\x44\x03\x05\0",
    stamps(0, 4) + stamps(0, 4),
    stamps(2, 4, 9, 15),
    b"\x94\x03\0\0",
    b"\x94\x02\0\0",
    b"\x83\x02\0\0",
    route(131, "10.0.1.1", pointer=3),
    route(131, "10.0.1.1") + route(137, "10.0.1.1"),
    b"\x86\x04\0\0",
    b"\x86\x08" + bytes(6),
    b"\x86\x0a\0\0\0\1\1\4\0\0",
    record(1) + b"\xff\x01",
    stamps(1, 8) + b"\xff\0",
    b"\x86\x05\0\0\0",
]


@scenario(masks=TIMES)
def echo_of_every_kind(node: Node) -> None:
    """An echo request's record route and timestamps are answered with the node's own added twice; other options are not."""
    client, _ = node.router()
    for options in kinds(node.address("eth0")):
        send(client, options, node.address("eth0"))


@scenario(masks=TIMES)
def echo_to_another_interface(node: Node) -> None:
    """What is recorded is the address that was asked, not the interface's."""
    client, _ = node.router()
    for options in (record(3), stamps(1, 24), stamps(3, 8, first=node.address("eth0"))):
        send(client, options, node.address("eth1"))


@scenario(masks=TIMES)
def echo_to_broadcast(node: Node) -> None:
    """Asked at a broadcast address, the node records the address that it answers from."""
    client, _ = node.router()
    node.ip("addr add 10.0.1.9/24 dev eth0")
    node.sysctl("net.ipv4.icmp_echo_ignore_broadcasts = 0")
    for options in (record(3), stamps(1, 24), stamps(3, 8, first="10.0.1.255")):
        data = ip4(client.ip, "10.0.1.255", ICMP, seal(b"", b"", ICMP, ECHO), options=padded(options))
        client.send(mac("ff:ff:ff:ff:ff:ff") + mac(client.mac) + b"\x08\0" + data)


@scenario(masks=TIMES)
def half_a_slot_left_for_the_answer(node: Node) -> None:
    """Where the request's entry leaves less than a slot but more than nothing, there is no answer at all."""
    client, _ = node.router()
    here = node.address("eth0")
    for options in (
        bytes([7, 9, 4]) + bytes(6),
        bytes([7, 8, 4]) + bytes(5),
        bytes([68, 10, 5, 0]) + bytes(6),
        bytes([68, 14, 5, 1]) + bytes(10),
        bytes([68, 18, 5, 1]) + bytes(14),
        bytes([68, 14, 5, 3]) + packed(here) + bytes(6),
    ):
        send(client, options, here)
        send(client, options, here, udp(5000, 9, b"x"), UDP)
        send(client, options, here, tcp(5000, 81, 1000, 0, SYN, 8192, b"", b""), TCP)


@scenario(masks=TIMES)
def asked_of_two(node: Node) -> None:
    """A timestamp asked of two addresses of the node: the answer fills the second entry, too."""
    client, _ = node.router()
    here, there = node.address("eth0"), node.address("eth1")
    for second in (there, here, "192.0.2.7"):
        option = bytes([68, 20, 5, 3]) + packed(here) + bytes(4) + packed(second) + bytes(4)
        send(client, option, here)


@scenario(masks=TIMES)
def malformed_to_the_node(node: Node) -> None:
    """Malformed options are told to the sender as a parameter problem that points at the byte; what stood before goes back."""
    client, _ = node.router()
    for options in WRONG:
        send(client, options, node.address("eth0"))


@scenario(masks=TIMES)
def malformed_to_be_forwarded(node: Node) -> None:
    """The same of a packet for somebody else: it ends here."""
    client, server = node.router()
    for options in WRONG:
        send(client, options, server.ip, udp(5000, 9, b"x"), UDP)


@scenario(masks=TIMES)
def malformed_with_rules(node: Node) -> None:
    """PREROUTING sees a packet before its options are looked at, no other hook does."""
    client, server = node.router()
    node.rules("""
        -t raw -A PREROUTING -j ACCEPT
        -A INPUT -j ACCEPT
        -A FORWARD -j ACCEPT
        -A OUTPUT -m conntrack --ctstate RELATED -j ACCEPT
    """)
    for options in WRONG[:8]:
        send(client, options, node.address("eth0"))
        send(client, options, server.ip, udp(5000, 9, b"x"), UDP)


@scenario(masks=TIMES)
def malformed_without_a_route(node: Node) -> None:
    """The route comes first: without one there is still a parameter problem; from a wrong source there is none."""
    client, _ = node.router()
    node.sysctl("net.ipv4.conf.eth0.rp_filter = 1")
    for options in (record(1, 3), record(1), route(131, "10.0.2.2")):
        send(client, options, "203.0.113.9", udp(5000, 9, b"x"), UDP)
        send(client, options, node.address("eth0"), udp(5000, 9, b"x"), UDP, src="10.0.2.2")


@scenario(masks=TIMES)
def forwarded_of_every_kind(node: Node) -> None:
    """A router records the address of the side that the packet leaves by; its time, though, is that of its coming."""
    client, server = node.router()
    for options in kinds(node.address("eth1")):
        send(client, options, server.ip, udp(5000, 9, b"x"), UDP).only(server)


@scenario(masks=TIMES)
def forwarded_by_gateways(node: Node) -> None:
    """The address that is recorded is the route's: its preferred source, or the one on the gateway's network."""
    client, server = node.router()
    node.ip(f"""
        addr add 10.0.2.77/24 dev eth1
        addr add 10.7.7.1/24 dev eth1
        route add 203.0.113.0/24 via {server.ip} src 10.7.7.1
        route add 198.51.100.0/24 via {server.ip}
        route add 192.0.2.0/24 dev eth1
        neigh add 192.0.2.1 lladdr {server.mac} dev eth1 nud permanent
    """)
    for target in ("203.0.113.1", "198.51.100.1", "192.0.2.1", server.ip):
        for options in (record(3), stamps(1, 24), record(2, 8) + stamps(1, 16)):
            send(client, options, target, udp(5000, 9, b"x"), UDP).only(server)


@scenario(masks=TIMES)
def forwarded_back_to_where_it_came_from(node: Node) -> None:
    """A redirect bears the options of its packet, as they were after the first entry was written."""
    client, _ = node.router()
    other = node.peer("eth0", "10.0.1.3")
    node.sysctl("net.ipv4.conf.eth0.send_redirects = 1")
    send(client, record(3), other.ip, udp(5000, 9, b"x"), UDP)


@scenario(masks=TIMES)
def errors_bear_the_options(node: Node) -> None:
    """Every error goes back with the options of its packet, and quotes a header whose sum does not hold any more."""
    client, server = node.router()
    node.ip("route add unreachable 203.0.113.0/24\nroute add prohibit 198.51.100.0/24")
    node.listen("udp", 53)
    for options in (NOOP, record(3), stamps(0, 12), stamps(1, 24), ALERT + record(1), record(9)):
        send(client, options, server.ip, udp(5000, 9, b"x"), UDP, ttl=1)
        send(client, options, node.address("eth0"), udp(5000, 9, b"x"), UDP)
        send(client, options, node.address("eth0"), b"abcd", 253)
        send(client, options, "203.0.113.1", udp(5000, 9, b"x"), UDP)
        send(client, options, "198.51.100.1", udp(5000, 9, b"x"), UDP)
        send(client, options, "192.0.2.1", udp(5000, 9, b"x"), UDP)


@scenario(masks=TIMES)
def errors_about_what_is_too_big(node: Node) -> None:
    """Options are part of the length: too big with them, not without; and they take room from what an error quotes."""
    client, server = node.router(far_mtu=1400)
    for options in (b"", record(3), record(9), stamps(1, 32)):
        for size in (1400 - 28 - 40, 1400 - 28 - 15, 1400 - 28, 1401 - 28):
            send(client, options, server.ip, udp(5000, 9, bytes(size)), UDP, offset=0x4000)
    for size in (480, 500, 508, 520):
        send(client, record(9), node.address("eth0"), udp(5000, 9, bytes(size)), UDP)


@scenario(masks=TIMES)
def resets_bear_the_options(node: Node) -> None:
    """A closed port's reset has the options of the segment; a rule's reset has none."""
    client, server = node.router()
    node.rules("-A INPUT -p tcp --dport 82 -j REJECT --reject-with tcp-reset\n"
               "-A FORWARD -p tcp --dport 82 -j REJECT --reject-with tcp-reset")  # fmt: skip
    for options in (NOOP, record(3), stamps(0, 12), stamps(1, 24), record(3, 16)):
        for port in (81, 82):
            send(client, options, node.address("eth0"), tcp(5000, port, 1000, 0, SYN, 8192, b"", b""), TCP)
        send(client, options, server.ip, tcp(5000, 82, 1000, 0, SYN, 8192, b"", b""), TCP)


@scenario(masks=TIMES)
def rejected(node: Node) -> None:
    """REJECT's ICMP errors have the options, too, in INPUT and in FORWARD."""
    client, server = node.router()
    node.rules("-A INPUT -p udp -j REJECT\n-A FORWARD -p udp -j REJECT --reject-with icmp-admin-prohibited")
    for options in (NOOP, record(3), stamps(0, 12), stamps(1, 24), route(131, "10.0.1.1")):
        send(client, options, node.address("eth0"), udp(5000, 9, b"x"), UDP)
        send(client, options, server.ip, udp(5000, 9, b"x"), UDP)


@scenario(masks=TIMES)
def rejected_where_connections_are_tracked(node: Node) -> None:
    """A header that the node wrote into spoils REJECT's own look at checksums. Where connection tracking looked before, only
    a reset of what is forwarded is not sent."""
    client, server = node.router()
    node.rules("""
        -A INPUT -m conntrack --ctstate NEW -p tcp -j REJECT --reject-with tcp-reset
        -A INPUT -j REJECT
        -A FORWARD -m conntrack --ctstate NEW -p tcp -j REJECT --reject-with tcp-reset
        -A FORWARD -j REJECT
    """)
    for port, options in enumerate((NOOP, record(3), stamps(1, 24), record(3, 16))):
        for to in (node.address("eth0"), server.ip):
            send(client, options, to, udp(5000 + port, 9, b"x"), UDP)
            send(client, options, to, tcp(5000 + port, 81, 1000, 0, SYN, 8192, b"", b""), TCP)
            send(client, options, to, struct.pack("!BBHHH", 8, 0, 0, 7 + port, 1))
            send(client, options, to, b"abcd", 253)


@scenario(masks=TIMES)
def rejected_where_nobody_sums(node: Node) -> None:
    """Connection tracking that was told not to look at checksums has seen none."""
    client, server = node.router()
    node.sysctl("net.netfilter.nf_conntrack_checksum = 0")
    node.rules("-A INPUT -m conntrack --ctstate NEW -j REJECT\n-A FORWARD -m conntrack --ctstate NEW -j REJECT")
    for port, options in enumerate((NOOP, record(3))):
        for to in (node.address("eth0"), server.ip):
            send(client, options, to, udp(5000 + port, 9, b"x"), UDP)
            send(client, options, to, tcp(5000 + port, 81, 1000, 0, SYN, 8192, b"", b""), TCP)


@scenario(masks=TIMES)
def neighbour_that_does_not_answer(node: Node) -> None:
    """Options are read once more before the host is told unreachable: one more entry is written."""
    client, _ = node.router()
    for options in (NOOP, record(1), record(3), stamps(0, 12), stamps(1, 24), stamps(0, 4)):
        send(client, options, "10.0.2.99", udp(5000, 9, b"x"), UDP)
        node.wait(4)


@scenario(masks=TIMES)
def translated(node: Node) -> None:
    """Addresses that NAT writes and addresses that options record do not meet."""
    client, server = node.router()
    node.rules(f"""
        -t nat -A PREROUTING -d 10.9.9.9 -p udp -j DNAT --to-destination {server.ip}:53
        -t nat -A POSTROUTING -o eth1 -j MASQUERADE
    """)
    for options in (record(3), stamps(1, 24), stamps(0, 12)):
        out = send(client, options, "10.9.9.9", udp(5000, 9, b"x"), UDP).only(server)
        port = out.sport
        server.send(icmp_error("port unreachable", out), to=network(out).src)
        send(server, options, network(out).src, udp(53, port, b"y"), UDP)


@scenario(masks=TIMES)
def cut_in_pieces(node: Node) -> None:
    """Only options with the copy bit are in later fragments; the others become no-operations."""
    client, server = node.router(far_mtu=600)
    for options in (
        record(3),
        ALERT,
        NOOP + record(2) + ALERT,
        record(1) + b"\x82\x0b" + bytes(9) + stamps(1, 8) + ALERT,
        stamps(0, 12),
        b"\x82\x0b" + bytes(9) + END + b"\x55\x66\x77",
    ):
        send(client, options, server.ip, udp(5000, 9, bytes(range(256)) * 5), UDP)


@scenario(masks=TIMES)
def pieces_cut_again(node: Node) -> None:
    """A later fragment that is cut keeps its options as they came."""
    client, server = node.router(far_mtu=600)
    for options in (record(3), record(1) + ALERT):
        body = bytes(range(256)) * 5
        send(client, options, server.ip, body[:1200], UDP, offset=0x2000)
        send(client, options, server.ip, body[1200:] + body[:800], UDP, offset=150)


@scenario(masks=TIMES)
def pieces_put_together(node: Node) -> None:
    """Fragments that connection tracking puts together have the first one's options; so has the answer to the whole."""
    client, server = node.router(far_mtu=700)
    node.rules("-A FORWARD -m conntrack --ctstate NEW -j ACCEPT")
    body = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + bytes(range(256)) * 4
    body = seal(b"", b"", ICMP, body)
    for to in (node.address("eth0"), server.ip):
        for first, last in ((record(3), record(3)), (record(3), b""), (b"", record(2)), (stamps(1, 24), ALERT)):
            for offset, part, options in ((0x2000, body[:512], first), (64, body[512:], last)):
                data = ip4(client.ip, to, ICMP, part, offset=offset, options=padded(options))
                client.send(mac(client.gateway) + mac(client.mac) + b"\x08\0" + data)


@scenario(masks=TIMES)
def pieces_to_the_node(node: Node) -> None:
    """Without connection tracking each fragment's options are read as it comes; the first one's are answered."""
    client, _ = node.router()
    body = seal(b"", b"", ICMP, struct.pack("!BBHHH", 8, 0, 0, 7, 1) + bytes(range(256)) * 4)
    parts = [(0x2000, body[:512]), (64, body[512:])]
    for order in (parts, parts[::-1]):
        for first, last in ((record(3), record(3)), (record(3), b""), (b"", record(2)), (stamps(1, 24), record(1, 3))):
            for offset, part in order:
                options = first if offset == 0x2000 else last
                data = ip4(client.ip, node.address("eth0"), ICMP, part, offset=offset, options=padded(options))
                client.send(mac(client.gateway) + mac(client.mac) + b"\x08\0" + data)


@scenario(masks=TIMES)
def pieces_that_stay_alone(node: Node) -> None:
    """When the rest never comes, the sender hears of it with the first fragment's options."""
    client, _ = node.router()
    node.sysctl("net.ipv4.ipfrag_time = 1")
    body = seal(b"", b"", ICMP, struct.pack("!BBHHH", 8, 0, 0, 7, 1) + bytes(range(256)) * 4)
    for options in (record(3), stamps(1, 24), NOOP):
        data = ip4(client.ip, node.address("eth0"), ICMP, body[:512], offset=0x2000, options=padded(options))
        client.send(mac(client.gateway) + mac(client.mac) + b"\x08\0" + data)
        node.wait(1.5)


@scenario(masks=TIMES)
def large_echo(node: Node) -> None:
    """The answer to a large request with options is cut, and its later fragments have no record."""
    client, _ = node.router()
    body = seal(b"", b"", ICMP, struct.pack("!BBHHH", 8, 0, 0, 7, 1) + bytes(range(256)) * 12)
    for options in (record(3), stamps(1, 24), route(131, "10.0.1.1")):
        for at in range(0, len(body), 1400):
            more = 0x2000 if at + 1400 < len(body) else 0
            data = ip4(client.ip, node.address("eth0"), ICMP, body[at : at + 1400], offset=more | at // 8,
                       options=padded(options))  # fmt: skip
            client.send(mac(client.gateway) + mac(client.mac) + b"\x08\0" + data)


# ---- source routes --------------------------------------------------------------------------------------------------


@scenario(masks=TIMES)
def source_routes_refused(node: Node) -> None:
    """Without accept_source_route every packet with a source route is dropped in silence, used up or not."""
    client, server = node.router()
    for kind in (131, 137):
        for options in (
            route(kind, server.ip),
            route(kind, "10.0.1.1", pointer=8),
            route(kind),
            record(1) + route(kind),
        ):
            assert not send(client, options, node.address("eth0"))
            assert not send(client, options, server.ip, udp(5000, 9, b"x"), UDP)


@scenario(masks=TIMES)
def source_routes_need_both_switches(node: Node) -> None:
    """accept_source_route counts where it is on for all and for the interface."""
    client, server = node.router()
    node.sysctl("net.ipv4.conf.eth0.accept_source_route = 1")
    assert not send(client, route(131, server.ip), node.address("eth0"), udp(5000, 9, b"x"), UDP, seal_for=server.ip)


def _source_routing(node: Node) -> tuple[Peer, Peer]:
    client, server = node.router()
    node.sysctl("net.ipv4.conf.all.accept_source_route = 1\nnet.ipv4.conf.eth0.accept_source_route = 1\n"
                "net.ipv4.conf.eth1.accept_source_route = 1")  # fmt: skip
    return client, server


@scenario(masks=TIMES)
def source_routes_followed(node: Node) -> None:
    """A packet to the node goes on to the next hop of its source route, and the node's address takes that hop's place."""
    client, server = _source_routing(node)
    here = node.address("eth0")
    for kind in (131, 137):
        for options in (
            route(kind, server.ip),
            route(kind, server.ip, "203.0.113.1"),
            route(kind, "203.0.113.1", server.ip, pointer=8),
            route(kind, here, server.ip),
            route(kind, here, node.address("eth1")),
            route(kind, here, "10.0.1.255"),
            route(kind, "203.0.113.1"),
            route(kind, "224.0.0.1"),
            route(kind, server.ip, pointer=5),
            route(kind, server.ip, pointer=6),
            route(kind, server.ip, pointer=8),
            route(kind),
            record(2) + route(kind, server.ip) + stamps(1, 16),
            stamps(1, 8) + route(kind, server.ip, "203.0.113.1"),
        ):
            send(client, options, here, udp(5000, 9, b"x"), UDP, seal_for=server.ip)


@scenario(masks=TIMES)
def source_routes_of_others(node: Node) -> None:
    """A loose route that is not this node's turn is forwarded; a strict one is a parameter problem."""
    client, server = _source_routing(node)
    for kind in (131, 137):
        for options in (route(kind, "203.0.113.1"), route(kind, "10.0.1.1", pointer=8)):
            send(client, options, server.ip, udp(5000, 9, b"x"), UDP)


@scenario(masks=TIMES)
def strict_route_by_a_gateway(node: Node) -> None:
    """A strict route whose next hop is behind a gateway fails: source route failed."""
    client, server = _source_routing(node)
    node.ip(f"route add 203.0.113.0/24 via {server.ip}")
    for kind in (131, 137):
        send(client, route(kind, "203.0.113.1"), node.address("eth0"), udp(5000, 9, b"x"), UDP)


@scenario(masks=TIMES)
def source_routes_turned_around(node: Node) -> None:
    """An answer to a source-routed packet goes back by the hops that were recorded, last first."""
    client, server = _source_routing(node)
    node.ip("route add 203.0.113.0/24 via 10.0.2.2\nroute add 198.51.100.0/24 via 10.0.1.2")
    here = node.address("eth0")
    for kind in (131, 137):
        for options in (
            route(kind, "198.51.100.1", pointer=8),
            route(kind, "198.51.100.1", "198.51.100.2", pointer=12),
            route(kind, "198.51.100.1", "203.0.113.1", "198.51.100.3", pointer=16),
            route(kind, client.ip, "198.51.100.2", pointer=12),
            route(kind, client.ip, pointer=8),
            route(kind, "203.0.113.1", pointer=8),
            route(kind, "192.0.2.1", pointer=8),
            route(kind, "198.51.100.1", "198.51.100.2", pointer=10),
            route(kind, "198.51.100.1", "198.51.100.2", pointer=40),
            record(1) + route(kind, "198.51.100.1", pointer=8) + stamps(0, 8),
        ):
            send(client, options, here)
            send(client, options, here, udp(5000, 9, b"x"), UDP)
            send(client, options, here, tcp(5000, 81, 1000, 0, SYN, 8192, b"", b""), TCP)


@scenario(masks=TIMES)
def source_routed_and_refused(node: Node) -> None:
    """Errors about a source-routed packet that is forwarded: time exceeded, too big, REJECT, no redirect."""
    client, server = _source_routing(node)
    other = node.peer("eth0", "10.0.1.3")
    node.sysctl("net.ipv4.conf.eth0.send_redirects = 1")
    node.rules("-A FORWARD -p udp --dport 99 -j REJECT")
    here = node.address("eth0")
    for options in (route(131, server.ip), route(131, "198.51.100.1", server.ip, pointer=8), route(131, other.ip)):
        send(client, options, here, udp(5000, 9, b"x"), UDP, ttl=1)
        send(client, options, here, udp(5000, 99, b"x"), UDP)
        send(client, options, here, udp(5000, 9, b"x"), UDP)


@scenario(masks=TIMES)
def source_routed_with_conntrack(node: Node) -> None:
    """Connection tracking knows a source-routed packet by the address it came with; NAT of its way out leaves it alone."""
    client, server = _source_routing(node)
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE\n-A FORWARD -m conntrack --ctstate NEW -j ACCEPT")
    here = node.address("eth0")
    out = send(client, route(131, server.ip), here, udp(5000, 9, b"x"), UDP, seal_for=server.ip)
    if out:
        send(server, b"", network(out[0].packet).src, udp(9, 5000, b"y"), UDP)


# ---- own packets ----------------------------------------------------------------------------------------------------


@scenario(masks=TIMES)
def sent_by_the_node(node: Node) -> None:
    """A packet that the node sends with a header of its own keeps its options; an error about it has none."""
    _, server = node.router()
    node.rules("-A OUTPUT -p udp --dport 99 -j REJECT")
    for port in (9, 99):
        for options in (record(3), stamps(1, 24), record(1, 3)):
            data = seal(packed("10.0.2.1"), packed(server.ip), UDP, udp(5000, port, b"x"))
            node.send(ip4("10.0.2.1", server.ip, UDP, data, options=padded(options)))


# ---- a bridge and a tunnel ------------------------------------------------------------------------------------------


@scenario(masks=TIMES)
def switched_by_a_bridge(node: Node) -> None:
    """A bridge that shows packets to netfilter never looks into options, nor at errors about them."""
    node.bridge_device("br0", "10.0.1.1/24")
    node.port("p1", master="br0")
    node.port("p2", master="br0")
    node.sysctl("net.bridge.bridge-nf-call-iptables = 1")
    node.rules("-A FORWARD -p udp --dport 99 -j REJECT")
    one, two = node.peer("p1", "10.0.1.2", at="br0"), node.peer("p2", "10.0.1.3", at="br0")
    for options in (record(3), stamps(1, 24), record(1, 3), route(131, "10.0.1.1")):
        for port in (9, 99):
            data = seal(packed(one.ip), packed(two.ip), UDP, udp(5000, port, b"x"))
            packet = ip4(one.ip, two.ip, UDP, data, options=padded(options))
            one.send(mac(two.mac) + mac(one.mac) + b"\x08\0" + packet)
            one.send(mac(two.mac) + mac(one.mac) + b"\x08\0" + packet)


# ---- ICMP timestamps ------------------------------------------------------------------------------------------------


@scenario(masks=TIMES)
def timestamp_request(node: Node) -> None:
    """A timestamp request is answered with the time of day, whatever its code; cut short, it is not."""
    client, _ = node.router()
    here = node.address("eth0")
    for code in (0, 1):
        request = struct.pack("!BBHHHIII", 13, code, 0, 7, 1, 12345678, 1, 2)
        answer = send(client, b"", here, request).only(client)
        word = int.from_bytes(bytes(answer[IP])[20 + 16 : 20 + 20], "big")
        now = int(time.time() * 1000) % 86_400_000
        assert min(abs(now - word), 86_400_000 - abs(now - word)) < 2000
        send(client, record(3) + stamps(0, 8), here, request)
    for size in (8, 9, 11, 12, 13, 19, 21, 40):
        send(client, b"", here, (request + bytes(40))[:size])
    send(client, b"", here, struct.pack("!BBHHHIII", 14, 0, 0, 7, 1, 1, 2, 3))


@scenario(masks=TIMES)
def timestamp_request_to_broadcast(node: Node) -> None:
    """To a broadcast address it is answered where an echo request would be; icmp_echo_ignore_all does not count."""
    client, _ = node.router()
    node.sysctl("net.ipv4.icmp_echo_ignore_all = 1\nnet.ipv4.icmp_echo_ignore_broadcasts = 0")
    request = seal(b"", b"", ICMP, struct.pack("!BBHHHIII", 13, 0, 0, 7, 1, 12345678, 1, 2))
    for to, gateway in (("10.0.1.255", "ff:ff:ff:ff:ff:ff"), (node.address("eth0"), client.gateway)):
        client.send(mac(gateway) + mac(client.mac) + b"\x08\0" + ip4(client.ip, to, ICMP, request))


@scenario(masks=TIMES)
def timestamp_request_with_a_wrong_checksum(node: Node) -> None:
    """A wrong checksum is dropped, and a broadcast ignored by default."""
    client, _ = node.router()
    request = struct.pack("!BBHHHIII", 13, 0, 0xBAD, 7, 1, 12345678, 1, 2)
    assert not client.send(Raw(request), to=node.address("eth0"), proto=1)
    request = seal(b"", b"", ICMP, request)
    data = ip4(client.ip, "10.0.1.255", ICMP, request)
    assert not client.send(mac("ff:ff:ff:ff:ff:ff") + mac(client.mac) + b"\x08\0" + data)
