"""Fragments: put together before connection tracking, cut again afterwards."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.packet import Packet, Raw

from scenarios.conntrack_tcp import COUNT_STATES

DATA = bytes(i % 251 for i in range(3000))


def tracked(node: Node) -> tuple[Peer, Peer]:
    client, server = node.router()
    node.rules(COUNT_STATES)
    return client, server


def parts(client: Peer, server: Peer | str, size: int = 1000, length: int = 3000, **header: object) -> list[Packet]:
    """A datagram in fragments of (at most) `size` bytes of payload."""
    whole = client.packet(UDP(sport=4000, dport=53) / DATA[:length], to=server, **header)
    if isinstance(whole, IPv6):
        cut = IPv6(src=whole.src, dst=whole.dst) / IPv6ExtHdrFragment(id=0x1234) / whole.payload
        return [IPv6(bytes(part)) for part in fragment6(cut, size + 48)]
    return [IP(bytes(part)) for part in whole.fragment(size)]


@scenario(families=(4, 6))
def without_tracking_fragments_pass(node: Node) -> None:
    """A plain router forwards each fragment as it comes."""
    client, server = node.router()
    for part in parts(client, server):
        client.send(part).only(server)


@scenario(families=(4, 6))
def in_order(node: Node) -> None:
    """With tracking, nothing leaves before the last fragment is here; then all, in the sizes in which they came."""
    client, server = tracked(node)
    out = [client.send(part) for part in parts(client, server)]
    assert [len(frames) for frames in out[:-1]] == [0] * (len(out) - 1)


@scenario(families=(4, 6))
def in_reverse_order(node: Node) -> None:
    """The order of arrival does not matter."""
    client, server = tracked(node)
    for part in reversed(parts(client, server)):
        client.send(part)


@scenario(families=(4, 6))
def of_two_datagrams(node: Node) -> None:
    """Fragments of two datagrams that arrive mixed are told apart by id."""
    client, server = tracked(node)
    one = parts(client, server)
    two = parts(client, server, id=0x9999) if node.family == 4 else None
    if two is None:
        two = parts(client, server)
        for part in two:
            part[IPv6ExtHdrFragment].id = 0x9999
    for a, b in zip(one, two, strict=True):
        client.send(a)
        client.send(b)


@scenario(families=(4, 6))
def repeated(node: Node) -> None:
    """A fragment that comes twice counts once."""
    client, server = tracked(node)
    first, *rest = parts(client, server)
    client.send(first)
    client.send(first)
    for part in rest:
        client.send(part)


@scenario(families=(4, 6))
def overlapping(node: Node) -> None:
    """Fragments that overlap spoil the whole datagram."""
    client, server = tracked(node)
    if node.family == 4:
        first = client.packet(Raw(DATA[:1000]), to=server, proto=17, flags="MF", frag=0)
        second = client.packet(Raw(DATA[:1000]), to=server, proto=17, flags="MF", frag=100)
        third = client.packet(Raw(DATA[:1000]), to=server, proto=17, frag=225)
    else:
        head = IPv6(src=client.ip, dst=server.ip)
        first = head / IPv6ExtHdrFragment(nh=17, id=1, m=1, offset=0) / Raw(DATA[:1000])
        second = head / IPv6ExtHdrFragment(nh=17, id=1, m=1, offset=100) / Raw(DATA[:1000])
        third = head / IPv6ExtHdrFragment(nh=17, id=1, m=0, offset=225) / Raw(DATA[:1000])
    for part in (first, second, third):
        assert not client.send(part)


@scenario(families=(4, 6))
def never_complete(node: Node) -> None:
    """A datagram that lacks a fragment is forgotten after ipfrag_time."""
    client, server = tracked(node)
    node.sysctl("net.ipv4.ipfrag_time = 1" if node.family == 4 else "net.netfilter.nf_conntrack_frag6_timeout = 1")
    first, *rest = parts(client, server)
    client.send(first)
    node.wait(1.4)
    for part in rest:
        client.send(part)


@scenario()
def never_complete_for_the_node_itself(node: Node) -> None:
    """For the node itself the sender is told: reassembly time exceeded, if the first fragment is here."""
    client, _ = node.router()
    node.sysctl("net.ipv4.ipfrag_time = 1")
    for part in parts(client, node.address("eth0"))[:2]:
        client.send(part)
    error = node.wait(1.4).only(client)
    assert (error[ICMP].type, error[ICMP].code) == (11, 1)


@scenario()
def without_the_first_nobody_is_told(node: Node) -> None:
    """Without the first fragment the timeout is silent."""
    client, _ = node.router()
    node.sysctl("net.ipv4.ipfrag_time = 1")
    for part in parts(client, node.address("eth0"))[1:]:
        client.send(part)
    assert not node.wait(1.4)


@scenario()
def for_the_node_itself(node: Node) -> None:
    """A datagram in fragments to a closed port of the node: one error, about the whole."""
    client, _ = node.router()
    out = [client.send(part) for part in parts(client, node.address("eth0"))]
    assert [len(frames) for frames in out] == [0, 0, 0, 1]


@scenario(families=(4, 6))
def translated(node: Node) -> None:
    """A datagram in fragments to a virtual address: translated once, cut again with the same id."""
    client, server = node.router()
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    backend = f"{server.ip}:5353" if node.family == 4 else f"[{server.ip}]:5353"
    node.rules(f"-t nat -A PREROUTING -d {vip} -p udp --dport 53 -j DNAT --to-destination {backend}")
    for part in parts(client, vip):
        client.send(part)
    answer = UDP(sport=5353, dport=4000) / b"answer"
    server.send(answer, to=client).only(client)


@scenario()
def cut_to_a_smaller_mtu(node: Node) -> None:
    """Fragments that do not fit the next link are cut to its MTU."""
    client, server = node.router(far_mtu=800)
    node.rules(COUNT_STATES)
    for part in parts(client, server):
        client.send(part)


@scenario()
def of_different_sizes(node: Node) -> None:
    """Fragments of different sizes leave as they came: the kernel keeps the list of them."""
    client, server = tracked(node)
    edges = (0, 504, 1800, 2104, 3008)
    payload = bytes(IP(bytes(client.packet(UDP(sport=4000, dport=53) / DATA, to=server))).payload)
    for i in range(4):
        piece = payload[edges[i] : edges[i + 1]]
        client.send(Raw(piece), to=server, proto=17, frag=edges[i] // 8, flags="MF" if i < 3 else 0)


@scenario()
def with_df(node: Node) -> None:
    """Fragments with DF (as tunnels send them): too big for the next link, the sender is told the largest that came."""
    client, server = node.router(far_mtu=800)
    node.rules(COUNT_STATES)
    for part in parts(client, server):
        part.flags |= 2
        del part.chksum
        client.send(part)


@scenario()
def with_df_that_fits(node: Node) -> None:
    """Fragments with DF that fit are put together and leave as they came, but for DF: it is lost."""
    client, server = tracked(node)
    for part in parts(client, server):
        part.flags |= 2
        del part.chksum
        client.send(part)


@scenario()
def small_first_fragment(node: Node) -> None:
    """A first fragment of eight bytes holds the ports; the whole is tracked all the same."""
    client, server = tracked(node)
    for part in parts(client, server, size=8, length=40):
        client.send(part)


@scenario()
def ecn_of_fragments(node: Node) -> None:
    """Congestion marks of fragments are joined: CE in one is CE in all; not-ECT beside CE spoils them."""
    client, server = tracked(node)
    for ident, marks in ((1, (2, 3, 2, 2)), (2, (0, 3, 0, 0)), (3, (1, 2, 1, 1))):
        for part, tos in zip(parts(client, server, id=ident), marks, strict=True):
            part.tos = tos
            del part.chksum
            client.send(part)


@scenario(families=(4, 6))
def length_not_a_multiple_of_eight(node: Node) -> None:
    """A fragment other than the last whose length is no multiple of eight."""
    client, server = tracked(node)
    if node.family == 4:
        client.send(Raw(DATA[:1001]), to=server, proto=17, flags="MF", frag=0)
        client.send(Raw(DATA[:100]), to=server, proto=17, frag=126)
    else:
        head = IPv6(src=client.ip, dst=server.ip)
        client.send(head / IPv6ExtHdrFragment(nh=17, id=1, m=1, offset=0) / Raw(DATA[:1001]))


@scenario(families=(4, 6))
def beyond_the_largest_packet(node: Node) -> None:
    """A fragment that would reach beyond 65535 bytes."""
    client, server = tracked(node)
    if node.family == 4:
        client.send(Raw(DATA[:1000]), to=server, proto=17, frag=8190)
    else:
        head = IPv6(src=client.ip, dst=server.ip)
        client.send(head / IPv6ExtHdrFragment(nh=17, id=1, m=0, offset=8190) / Raw(DATA[:1000]))


@scenario(families=(6,))
def atomic_fragment(node: Node) -> None:
    """A fragment header on a packet that is whole."""
    client, server = tracked(node)
    client.send(IPv6(src=client.ip, dst=server.ip) / IPv6ExtHdrFragment(id=5) / UDP(sport=4000, dport=53) / b"whole")


@scenario()
def rejected_as_a_whole(node: Node) -> None:
    """REJECT of a datagram in fragments, with tracking: one error about the whole."""
    client, server = node.router()
    node.rules("""
        -A FORWARD -m conntrack --ctstate INVALID
        -A FORWARD -p udp --dport 53 -j REJECT
    """)
    for part in parts(client, server):
        client.send(part)


@scenario()
def counted_as_one(node: Node) -> None:
    """Rules and connections count the datagram once, with its whole length; interfaces count the fragments."""
    client, server = node.router()
    node.rules("""
        -t mangle -A PREROUTING
        -t mangle -A POSTROUTING
        -A FORWARD -m conntrack --ctstate NEW
        -A FORWARD -f
    """)
    for part in parts(client, server, size=1480):
        client.send(part)
