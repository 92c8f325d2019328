"""Reassembly in its corners: which fragments belong together, what spoils them, what bounds them, who is told."""

from itertools import pairwise

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, echo
from scapy.layers.inet import ICMP, IP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from scenarios.bridge import introduce, pods
from scenarios.conntrack_tcp import COUNT_STATES
from scenarios.fragments import DATA, parts, tracked
from scenarios.vxlan import POD, flannel

LOCAL = "-A INPUT -m conntrack --ctstate NEW\n-A INPUT -m conntrack --ctstate INVALID"


def piece(
    client: Peer,
    to: Peer | str,
    start: int,
    end: int,
    *,
    more: bool = True,
    number: int = 1,
    nh: int = 17,
    **header: int,
) -> Packet:
    """Bytes [start, end) of a datagram's payload as one fragment; `start` is a multiple of eight."""
    data = (bytes(UDP(sport=4000, dport=53)) + DATA)[start:end] if end <= 3000 else bytes(end - start)
    target = to.ip if isinstance(to, Peer) else to
    if ":" in target:
        header = {{"tos": "tc"}.get(name, name): value for name, value in header.items()}
        fragment = IPv6ExtHdrFragment(nh=nh, id=number, m=more, offset=start // 8)
        return IPv6(src=client.ip, dst=target, **header) / fragment / Raw(data)
    flags = header.pop("flags", 0) | more
    return IP(src=client.ip, dst=target, id=number, proto=nh, flags=flags, frag=start // 8, **header) / Raw(data)


def whole(length: int = 3000, **ports: int) -> bytes:
    """A UDP datagram as the payload of an IP packet."""
    return bytes(UDP(**{"sport": 4000, "dport": 53, "chksum": 0, **ports}) / DATA[:length])


# ---- what belongs together -------------------------------------------------------------------------------------------


@scenario(families=(4, 6))
def id_used_again(node: Node) -> None:
    """When a datagram is complete, its id is free: the next one with it is put together by itself."""
    client, server = tracked(node)
    for _ in range(2):
        for part in parts(client, server, length=1500):
            client.send(part)


@scenario(families=(4, 6))
def late_repetition_spoils_the_next(node: Node) -> None:
    """A fragment that comes again after the whole begins a new datagram, which the next with the same id falls into."""
    client, server = tracked(node)
    cut = parts(client, server, length=1500)
    for part in (*cut, cut[-1], *cut, *cut):
        client.send(part)


@scenario(families=(4, 6))
def same_id_of_another_protocol(node: Node) -> None:
    """IPv4 tells datagrams apart by their protocol too, IPv6 does not."""
    client, server = tracked(node)
    client.send(piece(client, server, 0, 1000))
    client.send(piece(client, server, 1000, 1400, more=False, nh=58 if node.family == 6 else 1))
    client.send(piece(client, server, 1000, 1400, more=False))


@scenario(families=(4, 6))
def same_id_of_another_sender(node: Node) -> None:
    """Two senders may use the same id at the same time."""
    client, server = tracked(node)
    other = node.peer("eth0", "10.0.1.3" if node.family == 4 else "fd00:1::3")
    client.send(piece(client, server, 0, 1000))
    other.send(piece(other, server, 1000, 1400, more=False))
    other.send(piece(other, server, 0, 1000))
    client.send(piece(client, server, 1000, 1400, more=False))


@scenario(families=(4, 6))
def over_two_interfaces(node: Node) -> None:
    """Fragments of one datagram that come by two ways are put together."""
    client, server = tracked(node)
    if node.family == 4:
        node.port("eth2", "10.0.3.1/24")
        node.sysctl("net.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.eth2.rp_filter = 0")
    else:
        node.port("eth2", "fd00:3::1/64")
    first, *rest = parts(client, server)
    client.send(first)
    for part in rest:
        node.receive("eth2", Ether(src="02:00:00:01:03:09", dst=node.mac("eth2")) / part)
    client.send(rest[0])


@scenario(families=(4, 6))
def over_two_interfaces_to_the_node(node: Node) -> None:
    """The same to the node itself, without tracking."""
    client, _ = node.router()
    node.port("eth2", "10.0.3.1/24" if node.family == 4 else "fd00:3::1/64")
    if node.family == 4:
        node.sysctl("net.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.eth2.rp_filter = 0")
    first, *rest = parts(client, node.address("eth0"))
    client.send(first)
    for part in rest:
        node.receive("eth2", Ether(src="02:00:00:01:03:09", dst=node.mac("eth2")) / part)


# ---- what spoils a datagram ------------------------------------------------------------------------------------------


@scenario(families=(4, 6))
def two_ends(node: Node) -> None:
    """Two last fragments that do not agree where the end is."""
    client, server = tracked(node)
    client.send(piece(client, server, 1000, 1400, more=False))
    client.send(piece(client, server, 1400, 1800, more=False))
    client.send(piece(client, server, 0, 1000))
    client.send(piece(client, server, 1000, 1400, more=False))


@scenario(families=(4, 6))
def last_before_the_end(node: Node) -> None:
    """A last fragment that ends before one that is there already."""
    client, server = tracked(node)
    client.send(piece(client, server, 1000, 1800))
    client.send(piece(client, server, 800, 1000, more=False))
    client.send(piece(client, server, 1800, 2000, more=False))
    client.send(piece(client, server, 0, 1000))


@scenario(families=(4, 6))
def behind_the_end(node: Node) -> None:
    """A fragment with more to come, behind the last one."""
    client, server = tracked(node)
    client.send(piece(client, server, 1000, 1400, more=False))
    client.send(piece(client, server, 1400, 1800))
    client.send(piece(client, server, 0, 1000))


@scenario(families=(4, 6))
def empty_fragment(node: Node) -> None:
    """A fragment without payload."""
    client, server = tracked(node)
    client.send(piece(client, server, 0, 1000))
    client.send(piece(client, server, 1000, 1000))
    client.send(piece(client, server, 1000, 1400, more=False))


@scenario(families=(4, 6))
def part_of_what_is_there(node: Node) -> None:
    """A fragment inside one that is there counts as its repetition, whatever is in it."""
    client, server = tracked(node)
    client.send(piece(client, server, 0, 1000))
    client.send(piece(client, server, 200, 400))
    client.send(piece(client, server, 1000, 1800))
    client.send(piece(client, server, 800, 1200))
    client.send(piece(client, server, 1800, 2000, more=False))


@scenario(families=(4, 6))
def across_two_that_are_there(node: Node) -> None:
    """A fragment over the seam of two: a repetition if they came one after the other, an overlap if they did not."""
    client, server = tracked(node)
    client.send(piece(client, server, 1000, 1400, more=False))
    client.send(piece(client, server, 600, 800))
    client.send(piece(client, server, 400, 600))
    client.send(piece(client, server, 400, 800))
    client.send(piece(client, server, 800, 1000))
    client.send(piece(client, server, 0, 400))


@scenario(families=(4, 6))
def tail_repeated_with_less(node: Node) -> None:
    """A last fragment that comes again and begins later."""
    client, server = tracked(node)
    client.send(piece(client, server, 1000, 1400, more=False))
    client.send(piece(client, server, 1200, 1400, more=False))
    client.send(piece(client, server, 0, 1000))


@scenario(families=(4, 6))
def longer_than_a_packet(node: Node) -> None:
    """Fragments whose sum, with the header, is longer than a packet can be."""
    client, server = tracked(node)
    node.look_at_every_step = False
    edges = [*range(0, 65520, 1440), 65520, 65528]
    for start, end in pairwise(edges):
        client.send(piece(client, server, start, end, more=end < 65528))
    node.look()


@scenario(families=(4, 6))
def as_long_as_a_packet_can_be(node: Node) -> None:
    """The longest datagram that there is."""
    client, server = tracked(node)
    node.look_at_every_step = False
    longest = 65535 - (20 if node.family == 4 else 0)
    edges = [*range(0, longest, 1440), longest]
    for start, end in pairwise(edges):
        client.send(piece(client, server, start, end, more=end < longest))
    node.look()


@scenario(families=(4, 6))
def congestion_marks(node: Node) -> None:
    """Every mix of congestion marks in two fragments."""
    client, server = tracked(node)
    node.look_at_every_step = False
    for first in range(4):
        for last in range(4):
            number = 16 + 4 * first + last
            client.send(piece(client, server, 0, 200, number=number, tos=0x28 | first))
            client.send(piece(client, server, 200, 400, more=False, number=number, tos=0x40 | last))
    node.look()


@scenario(families=(4, 6))
def header_of_the_first(node: Node) -> None:
    """TTL and TOS of the whole, and of what leaves, are the first fragment's."""
    client, server = tracked(node)
    ttl = "ttl" if node.family == 4 else "hlim"
    client.send(piece(client, server, 1000, 1400, more=False, tos=0x10, **{ttl: 9}))
    client.send(piece(client, server, 0, 1000, tos=0x20, **{ttl: 33}))


# ---- what bounds it ----------------------------------------------------------------------------------------------------


@scenario(families=(4, 6))
def too_much_memory(node: Node) -> None:
    """Beyond the high threshold no fragment is taken, not even one that would complete a datagram."""
    client, server = tracked(node)
    name = "net.ipv4.ipfrag" if node.family == 4 else "net.netfilter.nf_conntrack_frag6"
    node.sysctl(f"{name}_low_thresh = 4000\n{name}_high_thresh = 6000")
    node.look_at_every_step = False
    for number in range(6):
        client.send(piece(client, server, 0, 1000, number=number))
    for number in range(6):
        client.send(piece(client, server, 1000, 1400, more=False, number=number))
    node.look()


@scenario(families=(4, 6))
def memory_of_small_fragments(node: Node) -> None:
    """What a small fragment and its queue count for."""
    client, server = tracked(node)
    name = "net.ipv4.ipfrag" if node.family == 4 else "net.netfilter.nf_conntrack_frag6"
    node.sysctl(f"{name}_low_thresh = 4000\n{name}_high_thresh = 8000")
    node.look_at_every_step = False
    for number in range(14):
        client.send(piece(client, server, 0, 16, number=number))
    node.look()


@scenario(families=(4, 6))
def no_memory_at_all(node: Node) -> None:
    """With a threshold of 0 nothing is put together."""
    client, server = tracked(node)
    name = "net.ipv4.ipfrag" if node.family == 4 else "net.netfilter.nf_conntrack_frag6"
    node.sysctl(f"{name}_low_thresh = 0\n{name}_high_thresh = 0")
    for part in parts(client, server):
        client.send(part)


@scenario()
def too_far_apart(node: Node) -> None:
    """Between two fragments the sender sent more than ipfrag_max_dist others: the id may be another datagram's."""
    client, server = tracked(node)
    node.sysctl("net.ipv4.ipfrag_max_dist = 3")
    node.look_at_every_step = False
    for others in (2, 3, 4):
        client.send(piece(client, server, 0, 1000, number=others))
        for number in range(others):
            client.send(piece(client, server, 0, 16, number=100 + 10 * others + number))
        client.send(piece(client, server, 1000, 1400, more=False, number=others))
        client.send(piece(client, server, 0, 1000, number=others))
    node.look()


@scenario()
def distance_of_each_sender(node: Node) -> None:
    """What others send does not count."""
    client, server = tracked(node)
    other = node.peer("eth0", "10.0.1.3")
    node.sysctl("net.ipv4.ipfrag_max_dist = 3")
    node.look_at_every_step = False
    client.send(piece(client, server, 0, 1000))
    for number in range(8):
        other.send(piece(other, server, 0, 16, number=number))
    client.send(piece(client, server, 1000, 1400, more=False))
    node.look()


# ---- who is told when time is up -----------------------------------------------------------------------------------------


@scenario(families=(6,))
def time_is_up_for_the_node(node: Node) -> None:
    """To the node itself, without tracking: time exceeded, fragment reassembly."""
    client, _ = node.router()
    node.sysctl("net.ipv6.ip6frag_time = 1")
    for part in parts(client, node.address("eth0"))[:2]:
        client.send(part)
    node.wait(1.4)


@scenario(families=(6,))
def time_is_up_without_the_first(node: Node) -> None:
    """Without the first fragment nobody can be told."""
    client, _ = node.router()
    node.sysctl("net.ipv6.ip6frag_time = 1")
    for part in parts(client, node.address("eth0"))[1:]:
        client.send(part)
    node.wait(1.4)


@scenario(families=(4, 6))
def time_is_up_for_the_node_with_tracking(node: Node) -> None:
    """Connection tracking put them together, but the node is where they were going."""
    client, _ = tracked(node)
    node.sysctl("net.ipv4.ipfrag_time = 1" if node.family == 4 else "net.netfilter.nf_conntrack_frag6_timeout = 1")
    for part in parts(client, node.address("eth0"))[:2]:
        client.send(part)
    node.wait(1.4)


@scenario(families=(4, 6))
def time_is_up_of_its_own(node: Node) -> None:
    """A datagram of the node's own that lacks a fragment."""
    client, server = tracked(node)
    node.sysctl("net.ipv4.ipfrag_time = 1" if node.family == 4 else "net.netfilter.nf_conntrack_frag6_timeout = 1")
    own = Peer(node, "eth1", "", node.address("eth1"), "")
    for part in parts(own, server)[:2]:
        node.send(part)
    node.wait(1.4)
    del client


@scenario(families=(4, 6))
def time_is_up_on_a_bridge(node: Node) -> None:
    """On a bridge."""
    one, two, _ = pods(node)
    node.rules(COUNT_STATES)
    node.sysctl("net.ipv4.ipfrag_time = 1" if node.family == 4 else "net.netfilter.nf_conntrack_frag6_timeout = 1")
    introduce(one, two)
    for part in parts(one, two)[:2]:
        one.send(Ether(src=one.mac, dst=two.mac) / part)
    node.wait(1.4)


@scenario()
def each_in_its_time(node: Node) -> None:
    """Three datagrams, begun one after the other, are given up one after the other."""
    client, _ = node.router()
    node.look_at_every_step = False  # it takes its time
    node.sysctl("net.ipv4.ipfrag_time = 1")
    for number in (1, 2, 3):
        client.send(piece(client, node.address("eth0"), 0, 200, number=number))
        node.wait(0.3)
    client.send(piece(client, node.address("eth0"), 200, 400, number=2))
    for seconds in (0.25, 0.3, 0.3):  # at 1.15, 1.45 and 1.75 s; they expire at 1.0, 1.3 and 1.6 s
        node.wait(seconds)


# ---- the node's own ------------------------------------------------------------------------------------------------------


@scenario(families=(4, 6))
def of_its_own_after_dnat(node: Node) -> None:
    """The node sends fragments to a virtual address: put together at OUTPUT, translated, cut again."""
    client, server = node.router()
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    backend = f"{server.ip}:5353" if node.family == 4 else f"[{server.ip}]:5353"
    node.rules(f"-t nat -A OUTPUT -d {vip} -p udp --dport 53 -j DNAT --to-destination {backend}")
    node.ip(f"{node.dash}route add {vip} via {client.ip}")
    own = Peer(node, "eth0", "", node.address("eth0"), "")
    for part in parts(own, vip):
        node.send(part)


@scenario(families=(4, 6))
def of_its_own_to_itself(node: Node) -> None:
    """Over loopback: put together at OUTPUT, cut again, and put together once more."""
    node.router()
    node.rules(COUNT_STATES + "\n-A INPUT\n-A OUTPUT\n-t raw -A PREROUTING -i lo")
    own = Peer(node, "eth0", "", node.address("eth0"), "")
    for part in parts(own, node.address("eth1")):
        node.send(part)


@scenario(families=(4, 6))
def larger_than_the_link_of_its_own(node: Node) -> None:
    """The node's own packet, header and all, that the link does not take: the socket refuses it, and nobody cuts it."""
    _, server = node.router(far_mtu=1300)
    node.rules("-A OUTPUT")
    own = Peer(node, "eth1", "", node.address("eth1"), "")
    for length in (1300, 1301):
        header = 28 if node.family == 4 else 48
        node.send(own.packet(UDP(sport=4000, dport=53) / DATA[: length - header], to=server))


@scenario(families=(4, 6))
def large_ping(node: Node) -> None:
    """An echo request in fragments to the node, without tracking: the answer is cut by the MTU."""
    client, _ = node.router()
    node.rules("-A INPUT\n-A OUTPUT")
    payload = echo(node.family, data=DATA)
    request = client.packet(payload, to=node.address("eth0"))
    if node.family == 4:
        cut = [IP(bytes(part)) for part in request.fragment(1000)]
    else:
        data = bytes(IPv6(bytes(request)).payload)
        head = IPv6(src=client.ip, dst=node.address("eth0"))
        cut = [
            head / IPv6ExtHdrFragment(nh=58, id=9, offset=i // 8, m=i + 1000 < len(data)) / Raw(data[i : i + 1000])
            for i in range(0, len(data), 1000)
        ]
    for part in reversed(cut):
        client.send(part)


@scenario(families=(4, 6))
def large_ping_with_tracking(node: Node) -> None:
    """The same with connection tracking."""
    client, _ = node.router()
    node.rules(LOCAL)
    data = bytes(IPv6(bytes(client.packet(echo(node.family, data=DATA), to=node.address("eth0")))).payload)
    if node.family == 4:
        data = bytes(IP(bytes(client.packet(echo(node.family, data=DATA), to=node.address("eth0")))).payload)
    for i in range(0, len(data), 1000):
        more = i + 1000 < len(data)
        if node.family == 4:
            part = IP(src=client.ip, dst=node.address("eth0"), proto=1, id=9, frag=i // 8, flags=int(more))
        else:
            part = IPv6(src=client.ip, dst=node.address("eth0")) / IPv6ExtHdrFragment(
                nh=58, id=9, offset=i // 8, m=more
            )
        client.send(part / Raw(data[i : i + 1000]))


# ---- how it leaves -------------------------------------------------------------------------------------------------------


@scenario()
def df_on_some(node: Node) -> None:
    """DF on fragments, the next link too small for the largest: the whole has DF only if the largest fragment had."""
    client, server = node.router(far_mtu=700)
    node.rules(COUNT_STATES)
    for number, (large, small) in enumerate(((2, 2), (2, 0), (0, 2), (0, 0)), 1):
        client.send(piece(client, server, 0, 600, number=number, flags=large))
        client.send(piece(client, server, 600, 1000, number=number, flags=small))
        client.send(piece(client, server, 1000, 1400, more=False, number=number, flags=small))


@scenario()
def df_and_uneven(node: Node) -> None:
    """DF on fragments of different sizes that fit, but not as they came (a longer header): cut anew, with DF."""
    client, server = tracked(node)
    options = [IPOption_RR(length=11, routers=["0.0.0.0", "0.0.0.0"]), IPOption_NOP()]
    first = IP(src=client.ip, dst=server.ip, id=3, proto=17, flags=3, options=options) / Raw(whole()[:600])
    client.send(first)
    client.send(piece(client, server, 600, 1232, number=3, flags=2))
    client.send(piece(client, server, 1232, 1500, number=3, flags=2, more=False))


@scenario()
def options_of_the_first(node: Node) -> None:
    """Options of the first fragment: only those with the copy bit are in the later ones when it is cut again."""
    client, server = node.router(far_mtu=500)
    node.rules(COUNT_STATES)
    options = [IPOption_RR(length=7, pointer=8, routers=["10.9.9.9"]), IPOption_NOP()]
    first = IP(src=client.ip, dst=server.ip, id=3, proto=17, flags=1, options=options) / Raw(whole()[:800])
    client.send(first)
    client.send(piece(client, server, 800, 1200, number=3, more=False))


@scenario(families=(4, 6))
def to_a_link_with_a_smaller_mtu(node: Node) -> None:
    """Uneven fragments, one of which does not fit: all is cut anew."""
    client, server = node.router(far_mtu=1300)
    node.rules(COUNT_STATES)
    for start, end in ((0, 1400), (1400, 1480), (1480, 2600), (2600, 3000)):
        client.send(piece(client, server, start, end, more=end < 3000))


@scenario(families=(4, 6))
def uneven_fragments_that_fit(node: Node) -> None:
    """Uneven fragments that fit leave as they came."""
    client, server = node.router(far_mtu=1300)
    node.rules(COUNT_STATES)
    for start, end in ((1480, 2600), (0, 1200), (2600, 3000), (1200, 1480)):
        client.send(piece(client, server, start, end, more=end < 3000))


@scenario(families=(4, 6))
def no_longer_than_a_fragment(node: Node) -> None:
    """The whole is no longer than its largest fragment was: IPv6 leaves it whole, IPv4 cuts it again."""
    client, server = tracked(node)
    for number, end in ((1, 408), (2, 416)):
        client.send(piece(client, server, 0, 8, number=number))
        client.send(piece(client, server, 8, end, number=number, more=False))


@scenario(families=(4, 6))
def through_a_tunnel(node: Node) -> None:
    """Uneven fragments of a pod, small enough for the tunnel: there is no room before them, and they are cut anew."""
    pod, _ = flannel(node)
    node.rules(COUNT_STATES)
    for start, end in ((0, 800), (800, 1000), (1000, 1800), (1800, 3000)):
        pod.send(piece(pod, POD[node.family], start, end, more=end < 3000))


@scenario(families=(4, 6))
def from_a_bridge_to_a_link(node: Node) -> None:
    """What netfilter puts together on a bridge is forwarded whole where it fits: the bridge forgets its fragments."""
    one, _, _ = pods(node)
    node.rules(COUNT_STATES)
    node.port("eth0", "192.168.1.11/24" if node.family == 4 else "fd00:168::11/64")
    outside = node.peer("eth0", "192.168.1.50" if node.family == 4 else "fd00:168::50")
    for number, end in ((1, 1200), (2, 3000)):
        one.send(piece(one, outside, 0, 400, number=number))
        one.send(piece(one, outside, 400, 1000, number=number))
        one.send(piece(one, outside, 1000, end, number=number, more=False))


@scenario()
def from_a_bridge_with_df(node: Node) -> None:
    """The same with DF: too long for the link, it is cut all the same, and DF is lost."""
    one, _, _ = pods(node)
    node.rules(COUNT_STATES)
    node.port("eth0", "192.168.1.11/24", mtu=900)
    outside = node.peer("eth0", "192.168.1.50")
    for number, end in ((1, 1200), (2, 2200)):
        one.send(piece(one, outside, 0, 1000, number=number, flags=2))
        one.send(piece(one, outside, 1000, end, number=number, flags=2, more=False))


@scenario(families=(4, 6))
def uneven_over_a_bridge(node: Node) -> None:
    """Uneven fragments between two pods of a bridge."""
    one, two, _ = pods(node)
    node.rules(COUNT_STATES)
    introduce(two)
    for start, end in ((0, 400), (400, 1400), (1400, 1480), (1480, 2000)):
        one.send(Ether(src=one.mac, dst=two.mac) / piece(one, two, start, end, more=end < 2000))


@scenario(families=(4, 6), masks=("ipv6 fragment id",))
def flooded_over_a_bridge(node: Node) -> None:
    """To a pod that the bridge does not know yet: cut again for each port; whose id was chosen first cannot be seen."""
    one, two, _ = pods(node)
    node.rules(COUNT_STATES)
    for start, end in ((0, 400), (400, 1400), (1400, 2000)):
        one.send(Ether(src=one.mac, dst=two.mac) / piece(one, two, start, end, more=end < 2000))


@scenario()
def df_over_a_bridge(node: Node) -> None:
    """Fragments with DF between two pods."""
    one, two, _ = pods(node)
    node.rules(COUNT_STATES)
    introduce(two)
    for start, end in ((0, 800), (800, 1400), (1400, 2000)):
        one.send(Ether(src=one.mac, dst=two.mac) / piece(one, two, start, end, flags=2, more=end < 2000))


@scenario(families=(4, 6))
def small_port_of_a_bridge(node: Node) -> None:
    """A whole packet to a port with a smaller MTU: netfilter on the bridge has it cut, if it may be."""
    one, two, _ = pods(node)
    node.rules(COUNT_STATES)
    node.ip("link set veth2 mtu 1300")
    introduce(two)
    for flags in (0, 2) if node.family == 4 else (0,):
        packet = one.packet(UDP(sport=4000, dport=53) / DATA[:1400], to=two, **({"flags": flags} if flags else {}))
        one.send(Ether(src=one.mac, dst=two.mac) / packet)


# ---- IPv6 headers ---------------------------------------------------------------------------------------------------------


def extended(client: Peer, to: str, before: Packet | None, inner: bytes, nh: int, size: int = 1000) -> list[Packet]:
    """A payload that begins with header `nh`, in fragments behind the headers `before`."""
    made = []
    for start in range(0, len(inner), size):
        head = IPv6(src=client.ip, dst=to)
        if before is not None:
            head = head / before.copy()
        more = start + size < len(inner)
        made.append(
            head / IPv6ExtHdrFragment(nh=nh, id=7, offset=start // 8, m=more) / Raw(inner[start : start + size])
        )
    return made


@scenario(families=(6,))
def headers_before_and_after(node: Node) -> None:
    """Hop-by-hop options stay in every fragment, destination options behind the fragment header are part of the payload."""
    client, server = tracked(node)
    options = bytes(IPv6ExtHdrDestOpt(nh=17, options=[PadN(optdata=b"\0" * 4)]))
    datagram = UDP(bytes(IPv6(bytes(IPv6(src=client.ip, dst=server.ip) / UDP(sport=1, dport=2) / DATA)).payload))
    for before in (
        IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]),
        IPv6ExtHdrDestOpt(options=[PadN(optdata=b"12")]),
    ):
        for part in extended(client, server.ip, before, options + bytes(datagram), 60):
            client.send(part)


def untracked_headers(node: Node) -> None:
    client, _ = node.router()
    node.rules("-A INPUT -p udp\n-A INPUT -p 44\n-A INPUT -p 60\n-A INPUT ! -p tcp\n-A INPUT -p tcp --dport 0:100")
    own = node.address("eth0")
    options = bytes(IPv6ExtHdrDestOpt(nh=58, options=[PadN(optdata=b"\0" * 4)]))
    request = IPv6(bytes(IPv6(src=client.ip, dst=own) / ICMPv6EchoRequest(id=7, data=DATA[:1500])))
    for before in (None, IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)])):
        for part in extended(client, own, before, options + bytes(request.payload), 60):
            client.send(part)


@scenario(families=(6,), backend="nft")
def headers_to_the_node(node: Node) -> None:
    """The same to the node itself, without tracking: where a later fragment tells no protocol, nothing that asks matches."""
    untracked_headers(node)


@scenario(families=(6,), backend="legacy")
def headers_to_the_node_legacy(node: Node) -> None:
    """The same with the other back end, where a rule that asks for the protocol drops such a fragment."""
    untracked_headers(node)


@scenario(families=(6,))
def headers_differ(node: Node) -> None:
    """What stands before the first fragment's header stands before the whole."""
    client, server = tracked(node)
    hops = IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)])
    plain = extended(client, server.ip, None, whole(), 17)
    more = extended(client, server.ip, hops, whole(), 17)
    for part in (plain[1], more[0], plain[2], more[3]):
        client.send(part)


@scenario(families=(6,))
def first_without_all_headers(node: Node) -> None:
    """A first fragment that does not hold the transport header is passed on by tracking, and refused by the node."""
    client, server = tracked(node)
    for to in (server.ip, node.address("eth0")):
        for part in extended(client, to, None, whole(100), 17, size=8)[:2]:
            client.send(part)
        options = bytes(IPv6ExtHdrDestOpt(nh=17, options=[PadN(optdata=b"\0" * 12)]))
        for part in extended(client, to, None, options + whole(100), 60, size=8)[:3]:
            client.send(part)


@scenario(families=(6,))
def first_without_all_headers_untracked(node: Node) -> None:
    """The node itself answers with a parameter problem, code 3."""
    client, _ = node.router()
    own = node.address("eth0")
    client.send(extended(client, own, None, bytes(ICMPv6EchoRequest(id=1, data=DATA[:100])), 58, size=8)[0])
    options = bytes(IPv6ExtHdrDestOpt(nh=17, options=[PadN(optdata=b"\0" * 12)]))
    for part in extended(client, own, None, options + whole(100), 60, size=8)[:3]:
        client.send(part)


@scenario(families=(6,))
def broken_to_the_node(node: Node) -> None:
    """Fragments that the node itself refuses: not a multiple of eight, beyond the end, twice cut."""
    client, _ = node.router()
    head = IPv6(src=client.ip, dst=node.address("eth0"))
    client.send(head / IPv6ExtHdrFragment(nh=17, id=1, m=1, offset=0) / Raw(DATA[:1001]))
    client.send(head / IPv6ExtHdrFragment(nh=17, id=2, m=0, offset=8190) / Raw(DATA[:1000]))
    client.send(head / IPv6ExtHdrFragment(nh=44, id=3) / IPv6ExtHdrFragment(nh=17, id=4) / Raw(whole(64)))
    client.send(head / IPv6ExtHdrFragment(nh=17, id=5) / Raw(whole(64)))
    client.send(head / IPv6ExtHdrFragment(nh=17, id=6, m=1, offset=0))


@scenario(families=(6,))
def cut_twice(node: Node) -> None:
    """A fragment header inside the whole: tracking takes away the outer one."""
    client, server = tracked(node)
    inner = bytes(IPv6ExtHdrFragment(nh=17, id=99)) + whole()
    for to in (server.ip, node.address("eth0")):
        for part in extended(client, to, None, inner, 44):
            client.send(part)


@scenario(families=(6,))
def behind_a_routing_header(node: Node) -> None:
    """A routing header stands before the fragment header."""
    client, server = tracked(node)
    routing = IPv6ExtHdrRouting(type=4, segleft=0, addresses=[server.ip])
    for part in extended(client, server.ip, routing, whole(), 17):
        client.send(part)


# ---- beside --------------------------------------------------------------------------------------------------------------


@scenario()
def error_about_fragments(node: Node) -> None:
    """An ICMP error from behind about a translated datagram in fragments finds its way back."""
    client, server = node.router()
    node.rules(f"-t nat -A PREROUTING -d 10.96.0.10 -p udp --dport 53 -j DNAT --to-destination {server.ip}:5353")
    frames = [frame for part in parts(client, "10.96.0.10") for frame in client.send(part)]
    server.send(ICMP(type=11, code=1) / Raw(bytes(frames[0].packet[IP])[:28]), to=client).only(client)


@scenario(families=(4, 6))
def limits_by_state(node: Node) -> None:
    """Later fragments never are INVALID where tracking runs; length and fragment matches see the whole."""
    client, server = tracked(node)
    node.rules("-A FORWARD -m length --length 3000:\n-A FORWARD -p udp --dport 53\n-A FORWARD -p udp --dport 54")
    for part in parts(client, server):
        client.send(part)
