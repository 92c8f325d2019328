"""Where iptables-nft and the legacy tables differ: the same text to either of them. See docs/backends.md."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, echo
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, PadN
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Raw

QUERY = UDP(sport=4000, dport=53) / b"query"


def counting(node: Node, *rules: str) -> tuple[Peer, Peer]:
    """A router whose FORWARD chain has these rules, which only count."""
    client, server = node.router()
    node.rules("\n".join(f"-A FORWARD {rule}" for rule in rules))
    return client, server


def cut_short(node: Node) -> None:
    client, server = counting(
        node,
        "-p udp --sport 1",
        "-p udp ! --sport 2",
        "-p udp --dport 53",
        "-p udp ! --dport 54",
        "-p udp --dport 0:100",
        "-p tcp --dport 80",
        "-p tcp --sport 0:65534",
        "-p tcp --tcp-flags SYN SYN",
        "-p tcp ! --tcp-flags SYN SYN",
        "-p tcp --dport 80 --tcp-flags SYN SYN",
    )
    for size in range(9):
        client.send(Raw(bytes(UDP(sport=1, dport=53))[:size]), to=server, proto=17)
    for size in (0, 1, 2, 3, 4, 13, 14, 19, 20):
        client.send(Raw(bytes(TCP(sport=1, dport=80, flags="S"))[:size]), to=server, proto=6)


@scenario(families=(4, 6), backend="nft")
def every_cut_of_a_header(node: Node) -> None:
    """Headers cut after each byte: nftables matches what it can read, and passes over what it cannot."""
    cut_short(node)


@scenario(families=(4, 6), backend="legacy")
def every_cut_of_a_header_legacy(node: Node) -> None:
    """The same packets are dropped by the first rule that asks for their ports."""
    cut_short(node)


def own_matches(node: Node) -> None:
    client, server = counting(
        node, "-p icmp", "-p 58", "-p udp", "-p tcp -m tcp --tcp-option 2", "-p udp -m udp", "-p tcp -m tcp"
    )
    for proto in (6, 17):
        for size in (0, 4, 7, 8, 19):
            client.send(Raw(bytes(TCP(sport=1, dport=80))[:size]), to=server, proto=proto)


@scenario(families=(4, 6), backend="nft")
def matches_that_stay_the_kernels(node: Node) -> None:
    """`-m tcp` and `-m udp` without any option, and `--tcp-option`: iptables-nft takes the kernel's own match, which drops."""
    own_matches(node)


@scenario(families=(4,), backend="nft")
def multiport_stays_the_kernels(node: Node) -> None:
    """multiport drops a packet without ports with either back end."""
    client, server = counting(node, "-p udp -m multiport --dports 53,54", "-p udp --dport 53")
    for size in (8, 4, 3):
        client.send(Raw(bytes(UDP(sport=1, dport=53))[:size]), to=server, proto=17)


def all_ports(node: Node) -> None:
    client, server = counting(
        node, "-p udp --dport 1:65535", "-p udp --sport 0:65534", "-p tcp --dport 1:65535 --sport 1:65535"
    )
    for sport, dport in ((0, 0), (0, 1), (1, 0), (65535, 65535), (65534, 1)):
        client.send(UDP(sport=sport, dport=dport) / b"x", to=server)
        client.send(TCP(sport=sport, dport=dport), to=server)


@scenario(families=(4, 6), backend="nft")
def nearly_all_ports(node: Node) -> None:
    """Ranges that leave out one port."""
    all_ports(node)


@scenario(families=(4, 6), backend="legacy")
def nearly_all_ports_legacy(node: Node) -> None:
    """The same with the other back end."""
    all_ports(node)


def fragments(node: Node) -> None:
    client, server = counting(
        node,
        "-p udp --dport 53",
        "-p udp ! --dport 53",
        "-p udp --dport 0:100",
        "-p tcp --dport 0:100",
        "-p tcp --tcp-flags ALL NONE",
        "-f" if node.family == 4 else "-p udp",
        "! -f" if node.family == 4 else "! -p udp",
    )
    data = bytes(UDP(sport=1, dport=53) / bytes(64))
    for proto in (17, 6):
        for offset, size in (
            (0, 32),
            (1, 32),
            (2, 32),
            (5, 32),
            (5, 0),
            (5, 1),
            (5, 2),
            (5, 3),
            (5, 4),
            (5, 13),
            (5, 14),
        ):
            if node.family == 4:
                client.send(Raw(data[:size]), to=server, proto=proto, frag=offset, flags="MF" if size == 32 else 0)
            else:
                head = bytes((proto, 0)) + (offset << 3 | (size == 32)).to_bytes(2, "big") + bytes(4)
                client.send(IPv6(src=client.ip, dst=server.ip, nh=44, fl=53) / Raw(head + data[:size]))


@scenario(families=(4, 6), backend="nft")
def ports_of_fragments(node: Node) -> None:
    """In a later fragment nftables takes what is there for ports, of IPv6 the IP header itself; none of TCP is dropped."""
    fragments(node)


@scenario(families=(4, 6), backend="legacy")
def ports_of_fragments_legacy(node: Node) -> None:
    """A fragment of TCP at offset 8 is dropped by the first rule with ports (IPv4)."""
    fragments(node)


def authenticated(node: Node) -> None:
    client, server = counting(
        node,
        "-p udp",
        "-p udp --dport 53",
        "-p 51",
        "! -p udp",
        "-m conntrack --ctstate NEW",
        "-p udp -m multiport --dports 53",
        "-m hashlimit --hashlimit-upto 1/hour --hashlimit-mode dstport --hashlimit-burst 2 --hashlimit-name dst6",
    )
    for before in (IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))]), None):
        for size in (2, 1, 0):
            header = bytes((17, size)) + bytes(4 * size + 6) + bytes(UDP(sport=1, dport=53) / b"x")
            layers = IPv6(src=client.ip, dst=server.ip, **({} if before else {"nh": 51}))
            if before:
                before.nh = 51
                layers = layers / before
            client.send(layers / Raw(header))
            client.send(layers / Raw(header[: 4 * size + 4]))
            client.send(layers / Raw(header[:1]))


@scenario(families=(6,), backend="nft")
def authentication_header(node: Node) -> None:
    """IPv6: nftables looks no further than an authentication header, and takes it for the protocol."""
    authenticated(node)


@scenario(families=(6,), backend="legacy")
def authentication_header_legacy(node: Node) -> None:
    """The legacy tables find what stands behind it."""
    authenticated(node)


@scenario(families=(6,), backend="nft")
def broken_chain_of_headers(node: Node) -> None:
    """A chain of extension headers that ends in the middle of one: no rule with a protocol matches, inverted or not."""
    client, server = node.router()
    node.rules("""
        -t raw -A PREROUTING -p udp
        -t raw -A PREROUTING ! -p udp
        -t raw -A PREROUTING -p tcp --dport 0:100
        -t raw -A PREROUTING -m length --length 0:65535
        -t raw -A PREROUTING -p 60
        -t raw -A PREROUTING -p 59
        -t mangle -A PREROUTING -m length --length 0:65535
    """)
    for kind in (0, 43, 44, 51, 60, 59, 50, 135):
        for tail in (b"", b"\x11", b"\x11\0", b"\x11\0\0\0", b"\x3c\0\0\0\0\0\0\0", b"\x11\x01\0\0\0\0\0\0"):
            client.send(IPv6(src=client.ip, dst=server.ip, nh=kind) / Raw(tail))
    client.send(IPv6(src=client.ip, dst=server.ip) / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))]) / QUERY)


def chunks(node: Node) -> None:
    client, server = counting(
        node,
        "-p sctp -m sctp ! --chunk-types any INIT -m mark --mark 0",
        "-p sctp",
    )
    whole = bytes(SCTP(sport=1, dport=2, tag=1) / SCTPChunkData(data=b"abcd", tsn=1))
    for size in (len(whole), len(whole) - 6, 15, 12, 11):
        client.send(Raw(whole[:size]), to=server, proto=132)


@scenario(families=(4, 6), backend="nft")
def chunks_cut_short(node: Node) -> None:
    """`! --chunk-types` where a chunk is cut off: nftables drops the packet at once, and the rule does not count it."""
    chunks(node)


@scenario(families=(4, 6), backend="legacy")
def chunks_cut_short_legacy(node: Node) -> None:
    """The rule counts the packet, and it is dropped behind it."""
    chunks(node)


def rates(node: Node) -> None:
    client, server = counting(
        node,
        "-m limit --limit 4/sec --limit-burst 2",
        "-m limit --limit 700/sec --limit-burst 1",
        "-m limit --limit 20000/min --limit-burst 3",
        "-m limit --limit 59/min --limit-burst 1",
        "-m limit --limit 1/day --limit-burst 3",
    )
    for pause in (0, 0, 0, 0.15, 0.15, 0.4, 0, 1.1, 0, 0):
        if pause:
            node.wait(pause)
        client.send(QUERY, to=server)


@scenario(backend="nft")
def limit(node: Node) -> None:
    """limit is nftables' own: credit in ns of a rate that is rounded to whole packets in a unit (700/sec is 714/sec)."""
    rates(node)


@scenario(backend="legacy")
def limit_legacy(node: Node) -> None:
    """xt_limit: credit by the tick of 4 ms."""
    rates(node)


def no_interface(node: Node) -> None:
    client, server = node.router()
    node.rules("""
        -t mangle -N ANY
        -t mangle -A PREROUTING -j ANY
        -t mangle -A FORWARD -j ANY
        -t mangle -A OUTPUT -j ANY
        -t mangle -A ANY -i eth0
        -t mangle -A ANY ! -i eth0
        -t mangle -A ANY -o eth1
        -t mangle -A ANY ! -o eth1
        -t mangle -A ANY -o e+
        -t mangle -A ANY ! -o e+
        -t mangle -A ANY -i +
    """)
    client.send(QUERY, to=server)
    client.send(echo(node.family), to=node.address("eth0"))


@scenario(families=(4, 6), backend="nft")
def interfaces_that_are_not_there(node: Node) -> None:
    """-i and -o where the packet has none: an empty name, which `!` matches."""
    no_interface(node)


@scenario(families=(4, 6), backend="legacy")
def interfaces_that_are_not_there_legacy(node: Node) -> None:
    """The same with the other back end."""
    no_interface(node)


def ends_of_chains(node: Node) -> None:
    client, server = node.router()
    node.rules("""
        -N A
        -N B
        -N C
        -A FORWARD -p udp --dport 1 -j RETURN
        -A FORWARD -p udp --dport 2 -g A
        -A FORWARD -p udp --dport 3 -j A
        -A FORWARD -p udp
        -A A -j B
        -A A -g B
        -A A -p udp
        -A B -p udp --sport 9 -j RETURN
        -A B -j C
        -A C -p udp
        -P FORWARD DROP
    """)
    for port in (1, 2, 3, 4):
        for source in (8, 9):
            client.send(UDP(sport=source, dport=port) / b"x", to=server)


@scenario(families=(4, 6), backend="nft")
def ends_of_chains_nft(node: Node) -> None:
    """RETURN in a base chain, goto from it and below, the end of each: the policy counts what comes back to it."""
    ends_of_chains(node)


@scenario(families=(4, 6), backend="legacy")
def ends_of_chains_legacy(node: Node) -> None:
    """The same with the other back end."""
    ends_of_chains(node)


def only_a_nat_table(node: Node) -> None:
    client, server = node.router()
    node.rules("-t nat -A PREROUTING -p udp\n-t nat -A POSTROUTING -p udp")
    client.send(QUERY, to=server)
    client.send(QUERY, to=server)


@scenario(families=(4, 6), backend="nft")
def nat_table_that_translates_nothing(node: Node) -> None:
    """A nat table without any target of its own: are connections tracked for it?"""
    only_a_nat_table(node)


@scenario(families=(4, 6), backend="legacy")
def nat_table_that_translates_nothing_legacy(node: Node) -> None:
    """The same with the other back end."""
    only_a_nat_table(node)


@scenario(families=(4, 6), backend="nft")
def trace_is_not_logged(node: Node) -> None:
    """TRACE is nftables' own, and tells xtables-monitor: the log stays empty but for what LOG and NFLOG write."""
    client, server = node.router()
    node.listen_to_log()
    node.rules("""
        -t raw -A PREROUTING -j TRACE
        -A FORWARD -p udp -j NFLOG --nflog-prefix "seen:"
    """)
    client.send(QUERY, to=server)


def inverted_pairs(node: Node) -> None:
    client, server = counting(
        node,
        "-p udp ! --sport 5000 ! --dport 53",
        "-p udp ! --sport 5000 --dport 53",
        "-p udp ! --sport 5000:5001 ! --dport 53",
        "-p udp ! --sport 0 ! --dport 53",
        "-p tcp ! --sport 5000 ! --dport 53",
        "-p tcp --sport 5000 --dport 53",
        "-p tcp ! --sport 5000 ! --dport 53 --tcp-flags SYN SYN",
        "-p sctp ! --sport 5000 ! --dport 53",
    )
    for sport in (5000, 5002, 0):
        for dport in (53, 80):
            client.send(UDP(sport=sport, dport=dport) / b"query", to=server)
            client.send(TCP(sport=sport, dport=dport), to=server)
            client.send(SCTP(sport=sport, dport=dport) / SCTPChunkData(data=b"x"), to=server)
    for size in (2, 3, 4, 6):
        client.send(Raw(bytes(UDP(sport=5000, dport=80))[:size]), to=server, proto=17)


@scenario(families=(4, 6), backend="nft")
def two_inverted_ports(node: Node) -> None:
    """iptables-nft compares two single ports at once: inverted both, a packet matches if either is another."""
    inverted_pairs(node)


@scenario(families=(4, 6), backend="legacy")
def two_inverted_ports_legacy(node: Node) -> None:
    """In the legacy tables both ports must be others."""
    inverted_pairs(node)
