"""IPv6 extension headers of packets for the node itself and for others: in order, out of order, wrong, cut short."""

import struct

from judge.node import Node
from judge.random_wire import ICMPV6, UDP, ip6, mac, packed, seal, udp
from judge.scenario import scenario
from judge.talk import Frames, Peer

HOP, ROUTING, FRAGMENT, AUTH, NONE, DESTINATION = 0, 43, 44, 51, 59, 60
PING = struct.pack("!BBHHH", 128, 0, 0, 7, 1) + b"abcdefgh"


def send(client: Peer, to: str, first: int, extra: bytes, body: bytes = PING, protocol: int = ICMPV6, gateway: str = "",
         cut: int = 0) -> Frames:  # fmt: skip
    body = seal(packed(client.ip), packed(to), protocol, body)
    data = ip6(client.ip, to, protocol, body, extra=extra, first=first)
    if cut:
        data = data[:4] + (cut - 40).to_bytes(2, "big") + data[6:cut]
    return client.send(mac(gateway or client.gateway) + mac(client.mac) + b"\x86\xdd" + data)


def routing(following: int, kind: int, left: int, words: int = 0, length: int = -1) -> bytes:
    return bytes([following, words if length < 0 else length, kind, left]) + bytes(4 + 8 * words)


def header(following: int, options: bytes) -> bytes:
    """A hop-by-hop or destination options header, padded with a PadN."""
    missing = -(len(options) + 2) % 8
    pad = b"" if not missing else b"\0" if missing == 1 else bytes([1, missing - 2]) + bytes(missing - 2)
    return bytes([following, (len(options) + 1 + missing) // 8]) + options + pad


def fragment(following: int, word: int = 0, ident: int = 7) -> bytes:
    return bytes([following, 0]) + word.to_bytes(2, "big") + ident.to_bytes(4, "big")


def auth(following: int, length: int = 4) -> bytes:
    return bytes([following, length]) + bytes(min(length + 2, 10) * 4 - 2)


OPTIONS = [
    b"",
    bytes(4),
    bytes(6),
    b"\0" * 7 + b"\1\1\0",  # eight bytes of padding in a row
    b"\1\5" + bytes(5),
    b"\1\6" + bytes(6),
    b"\1\4\0\0\7\0",
    b"\5\2\0\0",  # router alert
    b"\5\1\0",
    b"\5\3\0\0\0",
    b"\4\1\4",
    b"\x1e\2ab",
    b"\x3e\2ab",
    b"\x5e\2ab",
    b"\x7e\2ab",
    b"\x9e\2ab",
    b"\xbe\2ab",
    b"\xde\2ab",
    b"\xfe\2ab",
    b"\x1e\x20ab",
    b"\xc2\4\0\0\0\0",  # jumbo payload
    b"\xc2\4\0\1\0\0",
    b"\xc2\3\0\1\0",
    b"\0\0\xc2\4\0\1\0\0",
    b"\x07\x08\0\0\0\1\0\0\0\0",  # CALIPSO
    b"\x07\2\0\0",
    b"\x31\2\0\0",  # IOAM, not on a word of four bytes
    b"\0\0\x31\2\0\0",
    b"\xc9\x10" + bytes(15) + b"\1",  # home address
    b"\x1e\0" * 8,
    b"\x1e\0" * 9,
    b"\x1e\0\0" * 8,
]


@scenario(families=(6,))
def routing_headers(node: Node) -> None:
    """A routing header that is used up lets a packet in, whatever its type, but for segment routing and RPL, which are off;
    else the sender is told, at the type."""
    client, _ = node.router()
    for kind in (0, 1, 2, 3, 4, 5, 253):
        for left in (0, 1, 2):
            for words in (0, 2):
                send(client, node.address("eth0"), ROUTING, routing(ICMPV6, kind, left, words))
    send(client, node.address("eth0"), ROUTING, routing(ICMPV6, 0, 0, length=9))


@scenario(families=(6,))
def routing_headers_of_others(node: Node) -> None:
    """A router does not look at routing headers; a group's member and a frame to everybody get none in."""
    client, server = node.router()
    send(client, server.ip, ROUTING, routing(ICMPV6, 0, 1, 2))
    send(client, "ff02::1", ROUTING, routing(ICMPV6, 0, 0), gateway="33:33:00:00:00:01")
    send(client, node.address("eth0"), ROUTING, routing(ICMPV6, 0, 0), gateway="33:33:00:00:00:01")


@scenario(families=(6,))
def hop_by_hop_options(node: Node) -> None:
    """Hop-by-hop options are read before anything else, by routers too; at most eight, and seven bytes of padding in a row."""
    client, server = node.router()
    node.rules("-t raw -A PREROUTING -p udp -j ACCEPT\n-t raw -A PREROUTING -p icmpv6 -j ACCEPT")
    for options in OPTIONS:
        send(client, node.address("eth0"), HOP, header(ICMPV6, options))
        send(client, server.ip, HOP, header(UDP, options), udp(5000, 9, b"x"), UDP)


@scenario(families=(6,))
def hop_by_hop_options_to_a_group(node: Node) -> None:
    """Of an option that asks for it nobody is told if it came to a group."""
    client, _ = node.router()
    for options in (b"", b"\x7e\2ab", b"\xbe\2ab", b"\xfe\2ab"):
        send(client, "ff02::1", HOP, header(ICMPV6, options), gateway="33:33:00:00:00:01")
        send(client, "ff02::1", DESTINATION, header(ICMPV6, options), gateway="33:33:00:00:00:01")


@scenario(families=(6,))
def destination_options(node: Node) -> None:
    """Destination options count where the packet ends, after rules have seen it; what routers' options mean they do not."""
    client, server = node.router()
    node.rules("-A INPUT -p icmpv6 -j ACCEPT\n-A FORWARD -p udp -j ACCEPT")
    for options in OPTIONS:
        send(client, node.address("eth0"), DESTINATION, header(ICMPV6, options))
        send(client, server.ip, DESTINATION, header(UDP, options), udp(5000, 9, b"x"), UDP)


@scenario(families=(6,))
def headers_in_any_order(node: Node) -> None:
    """The node takes extension headers one by one, in any order and number; hop-by-hop options only as the first."""
    client, server = node.router()
    here = node.address("eth0")
    for kinds in (
        (DESTINATION, ROUTING),
        (ROUTING, DESTINATION),
        (DESTINATION, DESTINATION, DESTINATION),
        (ROUTING, ROUTING),
        (HOP, DESTINATION, ROUTING, FRAGMENT, DESTINATION),
        (HOP, HOP),
        (DESTINATION, HOP),
        (FRAGMENT, HOP),
        (FRAGMENT, ROUTING),
        (FRAGMENT, FRAGMENT),
        (FRAGMENT, DESTINATION, FRAGMENT),
        (AUTH,),
        (AUTH, DESTINATION),
        (DESTINATION, AUTH),
        (HOP, AUTH),
        (FRAGMENT, AUTH),
    ):
        for last in (ICMPV6, NONE, 253):
            extra = b""
            for kind, following in zip(kinds, (*kinds[1:], last), strict=True):
                extra += {ROUTING: routing(following, 0, 0), FRAGMENT: fragment(following), AUTH: auth(following)}.get(
                    kind, header(following, b"\x1e\2ab")
                )
            send(client, here, kinds[0], extra)
            send(client, server.ip, kinds[0], extra)


@scenario(families=(6,))
def headers_before_a_fragment_that_is_tracked(node: Node) -> None:
    """Connection tracking puts a packet together, and the node takes what was behind the fragment header for the header that
    came first: only hop-by-hop options go well before it."""
    client, server = node.router()
    node.rules("-A INPUT -m conntrack --ctstate NEW -j ACCEPT")
    here = node.address("eth0")
    for extra, first in (
        (fragment(ICMPV6), FRAGMENT),
        (header(FRAGMENT, b"\x1e\2ab") + fragment(ICMPV6), HOP),
        (header(FRAGMENT, b"\x1e\2ab") + fragment(ICMPV6), DESTINATION),
        (routing(FRAGMENT, 0, 0) + fragment(ICMPV6), ROUTING),
        (routing(FRAGMENT, 0, 0) + fragment(DESTINATION) + header(ICMPV6, b""), ROUTING),
        (header(FRAGMENT, b"") + fragment(DESTINATION) + header(ICMPV6, b""), DESTINATION),
        (header(DESTINATION, b"") + header(FRAGMENT, b"") + fragment(ICMPV6), HOP),
        (fragment(DESTINATION) + header(ICMPV6, b""), FRAGMENT),
        (fragment(FRAGMENT) + fragment(ICMPV6), FRAGMENT),
    ):
        send(client, here, first, extra)
        send(client, server.ip, first, extra)


@scenario(families=(6,))
def pieces_with_headers_before_and_behind(node: Node) -> None:
    """Fragments to the node itself, with headers before the fragment header and behind it."""
    client, _ = node.router()
    here = node.address("eth0")
    body = seal(packed(client.ip), packed(here), ICMPV6, PING + bytes(range(256)) * 3)
    for ident, (before, first, behind, following) in enumerate((
        (b"", FRAGMENT, b"", ICMPV6),
        (header(FRAGMENT, b"\x1e\2ab"), HOP, b"", ICMPV6),
        (header(FRAGMENT, b"\x1e\2ab"), DESTINATION, header(ICMPV6, b"\x1e\2ab"), DESTINATION),
        (routing(FRAGMENT, 0, 0), ROUTING, header(ICMPV6, b"\x5e\2ab"), DESTINATION),
        (routing(FRAGMENT, 0, 0), ROUTING, header(ICMPV6, b"\x9e\2ab"), DESTINATION),
        (routing(FRAGMENT, 0, 1), ROUTING, b"", ICMPV6),
        (b"", FRAGMENT, fragment(ICMPV6), FRAGMENT),
        (b"", FRAGMENT, auth(ICMPV6), AUTH),
    )):  # fmt: skip
        whole = behind + body
        for at, end in ((400, len(whole)), (0, 400)):
            word = at | (1 if end < len(whole) else 0)
            extra = before + fragment(following, word, 0x100 + ident)
            data = ip6(client.ip, here, 0, whole[at:end], extra=extra, first=first)
            client.send(mac(client.gateway) + mac(client.mac) + b"\x86\xdd" + data)


def _cut(node: Node, client: Peer, to: str) -> None:
    for first, extra in (
        (HOP, header(ICMPV6, b"\x1e\2ab")),
        (DESTINATION, header(ICMPV6, b"\x1e\2ab")),
        (ROUTING, routing(ICMPV6, 0, 0)),
        (FRAGMENT, fragment(ICMPV6)),
        (FRAGMENT, fragment(ICMPV6, 1)),
        (FRAGMENT, fragment(DESTINATION, 1)),
        (FRAGMENT, fragment(ICMPV6, 0x100)),
        (AUTH, auth(ICMPV6)),
        (DESTINATION, header(FRAGMENT, b"") + fragment(UDP, 1)),
    ):
        for length in sorted({0, 1, 2, 3, 4, 5, 7, 8, 9, len(extra) - 1, len(extra), len(extra) + 1, len(extra) + 7}):
            send(client, to, first, extra, cut=40 + length)


@scenario(families=(6,))
def cut_short_to_the_node(node: Node) -> None:
    """Packets that end in the middle of an extension header, or right behind it, without connection tracking."""
    client, _ = node.router()
    _cut(node, client, node.address("eth0"))


@scenario(families=(6,))
def cut_short_and_tracked(node: Node) -> None:
    """The same with connection tracking, which drops what ends within a fragment header."""
    client, server = node.router()
    node.rules("-A INPUT -m conntrack --ctstate NEW -j ACCEPT")
    _cut(node, client, node.address("eth0"))
    _cut(node, client, server.ip)


@scenario(families=(6,))
def cut_short_to_another(node: Node) -> None:
    """A router forwards what is cut behind the hop-by-hop options, unless a rule asks for the protocol."""
    client, server = node.router()
    _cut(node, client, server.ip)


@scenario(families=(6,), backend="legacy")
def cut_short_with_rules(node: Node) -> None:
    """A rule that asks for a protocol drops a packet whose headers do not lead to one; of a later fragment, too, if an
    extension header would be next."""
    client, server = node.router()
    node.rules("-A FORWARD -p tcp -j ACCEPT\n-A INPUT -p tcp -j ACCEPT")
    _cut(node, client, server.ip)
    _cut(node, client, node.address("eth0"))
    for following in (ICMPV6, DESTINATION, NONE):
        send(client, server.ip, FRAGMENT, fragment(following, 0x100))


@scenario(families=(6,), backend="legacy")
def cut_short_with_rules_that_ask_more(node: Node) -> None:
    """Such a rule drops it before its matches are asked, but only where its addresses and interfaces are right."""
    client, server = node.router()
    for rule in (
        "! -i eth+",
        "-s fd00:9::1",
        "! -s fd00:1::2",
        "-o eth0",
        "-m physdev --physdev-in veth9",
        "-m mark --mark 1",
    ):
        node.rules(
            f"-t mangle -A FORWARD {rule} -p tcp -j ACCEPT" if "-m" in rule else f"-A FORWARD {rule} -p tcp -j ACCEPT"
        )
    for first, extra in ((DESTINATION, header(ICMPV6, b"")), (ROUTING, routing(DESTINATION, 0, 0, length=30))):
        send(client, server.ip, first, extra, cut=41)
        send(client, server.ip, first, extra)


@scenario(families=(6,))
def rejected(node: Node) -> None:
    """REJECT tells nobody about a packet whose headers lead to nothing: none follows, or it ends there."""
    client, server = node.router()
    node.rules("-A FORWARD -j REJECT\n-A INPUT -j REJECT")
    _cut(node, client, server.ip)
    for first, extra in ((DESTINATION, header(NONE, b"")), (AUTH, auth(253)), (AUTH, auth(253, 200)), (NONE, b"abcd")):
        send(client, server.ip, first, extra)
        send(client, node.address("eth0"), first, extra)


@scenario(families=(6,))
def longer_than_the_packet(node: Node) -> None:
    """A header that says it is longer than the packet: what has no header of its own to be read is tracked nevertheless."""
    client, server = node.router()
    node.rules("-A FORWARD -m conntrack --ctstate NEW -j ACCEPT\n-A FORWARD -m conntrack --ctstate INVALID -j DROP")
    for following in (253, UDP, ICMPV6, 47, NONE, DESTINATION):
        send(client, server.ip, AUTH, auth(following, 200))
        quoted = ip6(client.ip, server.ip, following, b"", extra=auth(following, 200), first=AUTH)
        send(server, client.ip, ICMPV6, b"", struct.pack("!BBHI", 1, 0, 0, 0) + quoted)


@scenario(families=(6,))
def longer_than_the_packet_and_translated(node: Node) -> None:
    """Of these NAT rewrites the addresses, but for GRE, whose header it wants to see."""
    client, server = node.router()
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    for following in (253, 47, 50, NONE):
        send(client, server.ip, AUTH, auth(following, 200))
        send(client, server.ip, DESTINATION, b"%c\x1f" % following + bytes(14))


@scenario(families=(6,))
def errors_about_broken_chains(node: Node) -> None:
    """An error that quotes a packet whose headers are broken is not taken in."""
    client, _ = node.router()
    here = node.address("eth0")
    for extra, first in (
        (b"\x2b\6\0\0", AUTH),
        (b"", NONE),
        (b"\0", HOP),
        (header(UDP, b""), DESTINATION),
        (fragment(UDP, 8), FRAGMENT),
    ):
        quoted = ip6(here, client.ip, UDP, udp(9, 5000, b"x"), extra=extra, first=first)
        for kind in (1, 2, 3, 4):
            error = struct.pack("!BBHI", kind, 0, 0, 1400) + quoted
            send(client, here, ICMPV6, b"", error)


@scenario(families=(6,))
def error_about_the_beginning_of_an_error(node: Node) -> None:
    """A first fragment that ends before its ICMPv6 header does not count as an error, and may make one."""
    client, server = node.router()
    for word in (0, 1):
        send(client, server.ip, HOP, header(FRAGMENT, b"\xde\2ab") + fragment(ICMPV6, word), cut=40 + 8 + 5)
        send(client, server.ip, HOP, header(FRAGMENT, b"\xde\2ab") + fragment(ICMPV6, word), cut=40 + 8 + 8)
        send(client, server.ip, HOP, header(ICMPV6, b"\xde\2ab"), cut=40 + 8)


@scenario(families=(6,))
def hop_by_hop_options_on_a_bridge(node: Node) -> None:
    """A bridge that shows packets to netfilter asks that hop-by-hop options end where they should, and for no jumbogram."""
    node.bridge_device("br0", "fd00:1::1/64")
    node.port("p1", master="br0")
    node.port("p2", master="br0")
    node.sysctl("net.bridge.bridge-nf-call-ip6tables = 1")
    node.rules("-A FORWARD -p udp -j ACCEPT")
    one, two = node.peer("p1", "fd00:1::2", at="br0"), node.peer("p2", "fd00:1::3", at="br0")
    for options in OPTIONS:
        send(one, two.ip, HOP, header(UDP, options), udp(5000, 9, b"x"), UDP, gateway=two.mac)
    for length in (1, 7, 8, 9, 15, 16):
        send(
            one,
            two.ip,
            HOP,
            header(UDP, b"\x1e\2ab\x1e\x04abcd"),
            udp(5000, 9, b"x"),
            UDP,
            gateway=two.mac,
            cut=40 + length,
        )
