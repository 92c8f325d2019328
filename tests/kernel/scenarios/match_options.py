"""The options of matches that are rarely written, inverted and not."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Talk, echo, reply
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.sctp import (
    SCTP,
    SCTPChunkAbort,
    SCTPChunkCookieAck,
    SCTPChunkData,
    SCTPChunkInit,
    SCTPChunkShutdownComplete,
)
from scapy.packet import Raw

from scenarios.matches import QUERY, counted


@scenario(families=(4, 6))
def conntrack_tuples_inverted(node: Node) -> None:
    """! --ctorigsrc and its like, networks, ranges of ports."""
    here, there, wide = (
        ("10.0.1.2", "10.0.2.2", "10.0.0.0/8") if node.family == 4 else ("fd00:1::2", "fd00:2::2", "fd00::/16")
    )
    client, server = counted(
        node,
        *(
            f"-m conntrack {match}"
            for match in (
                f"! --ctorigsrc {here}",
                f"! --ctorigdst {here}",
                f"! --ctreplsrc {there}",
                f"! --ctrepldst {there}",
                f"--ctorigsrc {wide}",
                f"! --ctreplsrc {wide}",
                "! --ctorigsrcport 4000",
                "! --ctorigsrcport 1:100",
                "! --ctreplsrcport 53",
                "! --ctrepldstport 4000:5000",
                "--ctrepldstport 4000 --ctorigdstport 53 --ctdir REPLY",
                "--ctdir ORIGINAL --ctproto udp --ctstate NEW,ESTABLISHED --ctorigdstport 53",
                "! --ctexpire 0:100",
                "! --ctexpire 1",
                "! --ctproto tcp ! --ctstatus SEEN_REPLY",
                "--ctstatus NONE,SEEN_REPLY",
                "--ctstatus EXPECTED",
                "! --ctstatus EXPECTED,ASSURED",
                "! --ctstate INVALID,UNTRACKED",
                "! --ctstate SNAT,DNAT",
                "--ctproto 0",
            )
        ),
    )
    request = client.send(QUERY, to=server).only(server)
    server.send(reply(request, b"answer"))
    client.send(UDP(sport=50, dport=53), to=server)
    client.send(TCP(sport=50, dport=53, flags="SF"), to=server)
    client.send(echo(node.family, ident=53), to=server)


@scenario(families=(4, 6))
def conntrack_without_a_connection(node: Node) -> None:
    """What a packet without a connection passes: INVALID and UNTRACKED, with any other option beside them or alone."""
    client, server = node.router()
    node.rules("-t raw -A PREROUTING -p udp --dport 9 -j NOTRACK")
    here = client.ip
    for match in (
        "--ctstate INVALID",
        "--ctstate UNTRACKED",
        "! --ctstate INVALID",
        "! --ctstate UNTRACKED",
        "--ctstate INVALID --ctproto tcp",
        "--ctstate UNTRACKED --ctorigdstport 1",
        f"! --ctstate NEW ! --ctorigsrc {here}",
        f"--ctorigsrc {here}",
        f"! --ctorigsrc {here}",
        "--ctstatus NONE",
        "! --ctstatus ASSURED",
        "--ctexpire 0",
        "--ctdir ORIGINAL",
    ):
        node.rules(f"-A FORWARD -m conntrack {match}")
    node.rules("-A FORWARD -m connmark --mark 0")
    node.rules("-A FORWARD -m connmark ! --mark 0")
    node.rules("-A FORWARD -m connbytes --connbytes 0 --connbytes-dir both --connbytes-mode packets")
    node.rules("-A FORWARD -m connbytes ! --connbytes 5:6 --connbytes-dir both --connbytes-mode packets")
    node.rules("-A FORWARD -m connlimit --connlimit-above 0")
    node.rules("-A FORWARD -m connlimit --connlimit-upto 5")
    node.rules("-A FORWARD -m connlabel --label 1")
    node.rules("-A FORWARD -m connlabel ! --label 1")
    node.rules("-A FORWARD -m state ! --state NEW,INVALID")
    node.rules("-A FORWARD -m state --state UNTRACKED")
    for packet in (QUERY, UDP(sport=1, dport=9), TCP(sport=1, dport=2, flags="SF"), TCP(sport=1, dport=2, flags="")):
        client.send(packet, to=server)


@scenario(families=(4, 6))
def connlimit_options(node: Node) -> None:
    """--connlimit-upto and -above inverted, --connlimit-mask, by source and by destination; closed connections do not count."""
    mask = 24 if node.family == 4 else 64
    client, server = counted(
        node,
        *(
            f"-p tcp --syn -m connlimit {match}"
            for match in (
                "--connlimit-upto 2",
                "--connlimit-above 2",
                "! --connlimit-upto 2",
                "! --connlimit-above 1",
                f"--connlimit-above 2 --connlimit-mask {mask}",
                f"--connlimit-above 2 --connlimit-mask {mask} --connlimit-daddr",
                "--connlimit-upto 3 --connlimit-mask 0",
                "--connlimit-above 1 --connlimit-daddr",
                "--connlimit-above 0 --connlimit-saddr",
            )
        ),
    )
    other = node.peer("eth0", "10.0.1.3" if node.family == 4 else "fd00:1::3")
    for at, peer in enumerate((client, other, client, other, client)):
        Talk(peer, server, sport=1000 + at).open()
    talk = Talk(client, server, sport=2000)
    talk.open()
    talk.server("R")
    Talk(client, server, sport=2001).client("S")


@scenario(families=(4, 6))
def hashlimit_options(node: Node) -> None:
    """hashlimit: masks, modes joined, a table that is full, entries that are forgotten."""
    mask = 24 if node.family == 4 else 64
    client, server = counted(
        node,
        *(
            f"-m hashlimit --hashlimit-burst 2 {match}"
            for match in (
                f"--hashlimit-upto 1/minute --hashlimit-mode srcip --hashlimit-srcmask {mask} --hashlimit-name masked",
                f"--hashlimit-above 1/minute --hashlimit-mode dstip --hashlimit-dstmask {mask} --hashlimit-name dmasked",
                "--hashlimit-upto 1/minute --hashlimit-mode srcip,dstip,srcport,dstport --hashlimit-name all",
                "--hashlimit-upto 1/minute --hashlimit-mode srcip --hashlimit-srcmask 1 --hashlimit-name nobody",
                "--hashlimit-upto 1/hour --hashlimit-mode dstport --hashlimit-htable-max 2 --hashlimit-name few",
                "--hashlimit-upto 1/hour --hashlimit-mode srcport --hashlimit-htable-size 8 --hashlimit-htable-expire 500 "
                "--hashlimit-htable-gcinterval 100 --hashlimit-name short",
                "! --hashlimit-upto 1/minute --hashlimit-mode srcip --hashlimit-name turned",
                "! --hashlimit-above 1/minute --hashlimit-mode srcip --hashlimit-name turned2",
            )
        ),
    )
    other = node.peer("eth0", "10.0.1.3" if node.family == 4 else "fd00:1::3")
    for peer in (client, other):
        for port in (1, 1, 2, 3, 3, 3):
            peer.send(UDP(sport=9, dport=port), to=server)
    node.wait(1.2)
    client.send(UDP(sport=9, dport=1), to=server)
    client.send(echo(node.family), to=server)


@scenario()
def limit_rates(node: Node) -> None:
    """limit: rates of every unit, bursts from 1 on; hashlimit counts by the same tokens."""
    client, server = counted(
        node,
        "-m limit --limit 10/s --limit-burst 1",
        "-m limit --limit 2/second",
        "-m limit --limit 30/minute --limit-burst 2",
        "-m limit --limit 1/hour --limit-burst 3",
        "-m limit --limit 1/day --limit-burst 4",
        "-m limit --limit 10000/s --limit-burst 1",
        "-m limit",
    )
    for _ in range(7):
        client.send(QUERY, to=server)
    node.wait(1.1)
    for _ in range(3):
        client.send(QUERY, to=server)
    node.wait(1.1)
    client.send(QUERY, to=server)


@scenario()
def recent_inverted(node: Node) -> None:
    """recent: ! before --rcheck, --update, --set and --remove; --rdest, and hit counts within seconds."""
    client, server = counted(
        node,
        "-m recent ! --rcheck --name a --rsource",
        "-m recent ! --update --name a --rsource",
        "-m recent ! --set --name b --rdest",
        "-m recent --set --name a --rsource",
        "-m recent ! --rcheck --hitcount 2 --name a --rsource",
        "-m recent --rcheck --seconds 1 --hitcount 2 --name a --rsource",
        "-m recent --update --seconds 1 --hitcount 3 --name a --rsource",
        "-m recent --rcheck --name b --rdest",
        "-p udp --dport 54 -m recent ! --remove --name a --rsource",
        "-p udp --dport 54 -m recent --remove --name b --rdest",
        "-p udp --dport 54 -m recent --remove --name b --rdest",
    )
    for port in (53, 53, 54, 54, 53):
        client.send(UDP(sport=1, dport=port), to=server)
    node.wait(1.2)
    client.send(QUERY, to=server)


@scenario(families=(4, 6), backend="legacy")
def sctp_chunks_inverted(node: Node) -> None:
    """--chunk-types inverted, several types, flags of a chunk, ports beside it."""
    client, server = counted(
        node,
        "-p sctp ! --chunk-types any INIT",
        "-p sctp ! --chunk-types all INIT,DATA",
        "-p sctp ! --chunk-types only DATA,COOKIE_ACK",
        "-p sctp --chunk-types all COOKIE_ACK,DATA",
        "-p sctp --chunk-types only COOKIE_ACK,DATA",
        "-p sctp --chunk-types any DATA:Be",
        "-p sctp --chunk-types any DATA:bE",
        "-p sctp --chunk-types any DATA:BE",
        "-p sctp --chunk-types all ABORT:T",
        "-p sctp --chunk-types only SHUTDOWN_COMPLETE:t",
        "-p sctp ! --dport 2000 ! --sport 1000",
        "-p sctp ! --dport 2001 --chunk-types any INIT",
        "-p sctp --chunk-types any ALL",
        "-p sctp --chunk-types all NONE",
    )
    data = SCTPChunkData(data=b"abcd", tsn=1, beginning=1, ending=0)
    for chunks in (
        SCTPChunkInit(init_tag=1),
        data,
        SCTPChunkCookieAck() / data,
        data / SCTPChunkData(data=b"efgh", tsn=2, beginning=0, ending=1),
        SCTPChunkAbort(TCB=1),
        SCTPChunkAbort(),
        SCTPChunkShutdownComplete(TCB=0),
    ):
        client.send(SCTP(sport=1000, dport=2000, tag=1) / chunks, to=server)
    client.send(SCTP(sport=1000, dport=2000, tag=1), to=server)
    client.send(SCTP(sport=1000, dport=2000, tag=1) / Raw(b"\0\0\0\2"), to=server)


@scenario(families=(4, 6))
def ports_inverted(node: Node) -> None:
    """multiport inverted in every way, its protocols, and what has no ports."""
    client, server = counted(
        node,
        "-p udp -m multiport ! --sports 4000,5000:6000",
        "-p udp -m multiport ! --ports 53,4000",
        "-p sctp -m multiport --dports 53",
        "-p udplite -m multiport --dports 53",
        "-p dccp -m multiport ! --dports 53",
        "-p tcp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,53,54",
        "-p udp -m multiport --dports 0:65535",
        "-p udp -m multiport --dports 54:53" if node.family == 0 else "-p udp -m multiport --ports 65535",
    )
    for protocol in (17, 6, 132, 136, 33):
        for sport, dport in ((4000, 53), (5500, 54), (65535, 1)):
            header = (
                bytes(TCP(sport=sport, dport=dport)) if protocol == 6 else bytes(UDP(sport=sport, dport=dport, len=8))
            )
            client.send(Raw(header + bytes(12)), to=server, proto=protocol)
    client.send(Raw(b"\x0f\xa0\0"), to=server, proto=17)


@scenario(families=(4, 6))
def iprange_and_dscp_inverted(node: Node) -> None:
    """! --dst-range, ! --src-range with --dst-range; ! --dscp-class; ! --hl-eq or ! --ttl-eq."""
    one, two = (
        ("10.0.2.1-10.0.2.9", "10.0.1.3-10.0.1.9")
        if node.family == 4
        else (
            "fd00:2::1-fd00:2::9",
            "fd00:1::3-fd00:1::9",
        )
    )
    hops = "-m ttl ! --ttl-eq 63" if node.family == 4 else "-m hl ! --hl-eq 63"
    client, server = counted(
        node,
        f"-m iprange ! --dst-range {one}",
        f"-m iprange ! --src-range {two} --dst-range {one}",
        f"-m iprange --src-range {two} ! --dst-range {one}",
        "-m dscp ! --dscp-class AF11",
        "-m dscp --dscp-class EF",
        "-m dscp ! --dscp 0x0a",
        "-m tos ! --tos 0x28/0xfc",
        "-m tos --tos Minimize-Delay",
        hops,
        "-m length ! --length 33:100",
        "-m length --length :60",
        "-m length --length 61:",
    )
    for tos in (0, 0x28, 0x2B, 0xB8, 0x10):
        client.send(QUERY, to=server, tos=tos)
    client.send(QUERY, to=server, ttl=9)
    server.send(UDP(sport=1, dport=2) / bytes(100), to=client)


@scenario(families=(4, 6))
def statistic_inverted(node: Node) -> None:
    """! --probability at its edges and ! --every; each rule counts by itself."""
    client, server = counted(
        node,
        "-m statistic --mode random ! --probability 1",
        "-m statistic --mode random ! --probability 0",
        "-m statistic --mode nth ! --every 3 --packet 1",
        "-m statistic --mode nth --every 1 --packet 0",
        "-m statistic --mode nth --every 4 --packet 3",
    )
    for _ in range(9):
        client.send(QUERY, to=server)


@scenario(families=(4, 6))
def connbytes_in_every_mode(node: Node) -> None:
    """connbytes: packets, bytes and the average packet, of either direction and of both, inverted, of open ranges."""
    matches = [
        f"-m connbytes {turn}--connbytes {span} --connbytes-dir {way} --connbytes-mode {mode}"
        for way in ("original", "reply", "both")
        for mode, spans in (
            ("packets", ("2", "0:1", "2:3", ":2")),
            ("bytes", ("40:100", "100", ":60")),
            ("avgpkt", ("35:60", "61:", ":20")),
        )
        for span in spans
        for turn in ("", "! ")
    ]
    client, server = counted(node, *matches)
    request = client.send(QUERY, to=server).only(server)
    server.send(reply(request, b"answer" * 20))
    client.send(QUERY, to=server)
    server.send(reply(request, b""))


@scenario(families=(4, 6))
def rpfilter_of_the_nodes_own_addresses(node: Node) -> None:
    """rpfilter --accept-local: sources that are the node's own; and packets whose way back has other types of routes."""
    client, server = counted(
        node,
        *(
            f"-m rpfilter {options}"
            for options in (
                "",
                "--accept-local",
                "--accept-local --invert",
                "--loose --accept-local",
                "--loose --accept-local --invert --validmark",
                "--loose",
            )
        ),
        chain="PREROUTING",
        table="mangle",
    )
    black, zero = ("198.51.100.0/24", "0.0.0.0") if node.family == 4 else ("2001:db8:5::/64", "::")
    node.ip(f"{node.dash}route add blackhole {black}")
    node.ip(f"{node.dash}route add unreachable {black.replace('100', '101').replace(':5:', ':6:')}")
    node.ip(f"{node.dash}addr add {'10.0.3.1/24' if node.family == 4 else 'fd00:3::1/64'} dev lo")
    sources = (
        ("10.0.1.1", "10.0.2.1", "10.0.3.1", "10.0.3.9", "198.51.100.1", "198.51.101.1", "224.0.0.5")
        if node.family == 4
        else ("fd00:1::1", "fd00:2::1", "fd00:3::1", "2001:db8:5::1", "2001:db8:6::1", "fe80::9", "ff02::5")
    )
    for source in (*sources, zero):
        client.send(QUERY, to=server, src=source)
        client.send(QUERY, to=node.address("eth0"), src=source)
    client.send(QUERY, to="255.255.255.255" if node.family == 4 else "ff02::1", src=zero)


@scenario(families=(4, 6))
def u32_in_every_way(node: Node) -> None:
    """u32: masks, shifts both ways, @, lists and ranges, several tests, offsets beyond the end, inverted."""
    at = 20 if node.family == 4 else 40
    client, server = counted(
        node,
        '-m u32 --u32 "0>>28=4,6"',
        '-m u32 ! --u32 "0>>28=4"',
        f'-m u32 --u32 "{at}&0xffff=53"',
        f'-m u32 --u32 "{at}&0xffff=1:52,54:100"',
        f'-m u32 --u32 "{at}>>16=4000&&{at}&0xffff=53"',
        '-m u32 --u32 "0>>22&0x3C@0>>16=4000"',
        f'-m u32 --u32 "0&0@{at}>>16=4000"',
        '-m u32 --u32 "4000=0"',
        '-m u32 ! --u32 "4000=0"',
        f'-m u32 --u32 "{at + 8}=0x71756572"',
        f'-m u32 --u32 "{at + 9}=0x75657279"',
        f'-m u32 --u32 "{at + 10}=0"',
        '-m u32 --u32 "0<<4>>28=5"',
        '-m u32 --u32 "0=0:0xffffffff"',
        '-m u32 --u32 "0=0x10:0x1"',
        '-m u32 --u32 "0@0@0=0"',
    )
    client.send(QUERY, to=server)
    client.send(UDP(sport=4000, dport=60), to=server)
    client.send(TCP(sport=4000, dport=53), to=server)


@scenario()
def icmp_codes_inverted(node: Node) -> None:
    """! --icmp-type with a code; what is no ICMP, and a later fragment of one."""
    client, server = counted(
        node,
        "-p icmp ! --icmp-type 3/1",
        "-p icmp --icmp-type 3/1",
        "-p icmp --icmp-type 255/255",
        "-p icmp --icmp-type 8/1",
        "-p icmp --icmp-type network-unreachable",
        "-p icmp",
    )
    for kind, code in ((3, 0), (3, 1), (3, 15), (8, 0), (8, 1), (255, 255), (0, 0)):
        client.send(Raw(bytes((kind, code)) + bytes(10)), to=server, proto=1)
    client.send(Raw(bytes(4)), to=server, proto=1)
    client.send(IP(src=client.ip, dst=server.ip, proto=1, frag=9, id=5) / Raw(b"\x03\x01" + bytes(14)))


@scenario(families=(6,))
def icmpv6_codes_inverted(node: Node) -> None:
    """! --icmpv6-type with a code, each name that ip6tables has."""
    names = [
        "destination-unreachable",
        "no-route",
        "communication-prohibited",
        "address-unreachable",
        "port-unreachable",
        "packet-too-big",
        "time-exceeded",
        "ttl-zero-during-transit",
        "ttl-zero-during-reassembly",
        "parameter-problem",
        "bad-header",
        "unknown-header-type",
        "unknown-option",
        "echo-request",
        "echo-reply",
        "router-solicitation",
        "router-advertisement",
        "neighbour-solicitation",
        "neighbour-advertisement",
        "redirect",
        "beyond-scope",
        "failed-policy",
        "reject-route",
    ]
    client, server = counted(
        node,
        "-p icmpv6 ! --icmpv6-type 1/1",
        "-p icmpv6 --icmpv6-type 255/255",
        "-p icmpv6 ! --icmpv6-type echo-request",
        *(f"-p icmpv6 --icmpv6-type {name}" for name in names),
    )
    for kind, codes in ((1, 7), (2, 1), (3, 2), (4, 3), (128, 2), (129, 1), (255, 0)):
        for code in range(codes):
            client.send(Raw(bytes((kind, code)) + bytes(14)), to=server, proto=58)
    client.send(Raw(b"\xff\xff" + bytes(14)), to=server, proto=58)
