"""What each match of iptables matches: rules without a target, whose counters tell."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, Talk, echo, icmp_error, reply
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import ICMPv6Unknown, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP, SCTPChunkAbort, SCTPChunkData, SCTPChunkInit
from scapy.packet import Raw

QUERY = UDP(sport=4000, dport=53) / b"query"


def counted(node: Node, *matches: str, chain: str = "FORWARD", table: str = "filter") -> tuple[Peer, Peer]:
    """A router with one counting rule per match."""
    client, server = node.router()
    for match in matches:
        node.rules(f"-t {table} -A {chain} {match}")
    return client, server


@scenario(families=(4, 6))
def addresses(node: Node) -> None:
    """-s and -d: hosts, networks, everything, and their opposites."""
    here, there = ("10.0.1.2", "10.0.2.2") if node.family == 4 else ("fd00:1::2", "fd00:2::2")
    host, wide = (32, 8) if node.family == 4 else (128, 16)
    wide_net = "10.0.0.0" if node.family == 4 else "fd00::"
    everything = "0.0.0.0/0" if node.family == 4 else "::/0"
    client, server = counted(
        node,
        f"-s {here}",
        f"-s {here}/{host} -d {there}/{host}",
        f"-d {there}",
        f"! -s {here}",
        f"! -d {there} -s {there}",
        f"-s {wide_net}/{wide}",
        f"! -s {wide_net}/{wide}",
        f"-s {everything} -p udp",
    )
    client.send(QUERY, to=server)
    server.send(QUERY, to=client)


@scenario()
def netmask_that_is_no_prefix(node: Node) -> None:
    """A mask with holes."""
    client, server = counted(node, "-s 10.0.1.0/255.255.0.255", "-s 10.0.0.2/255.255.0.255")
    client.send(QUERY, to=server)


@scenario(families=(4, 6))
def interfaces(node: Node) -> None:
    """-i and -o: a name, a beginning of names, any, and the opposite."""
    client, server = counted(
        node,
        "-i eth0",
        "-o eth1",
        "-i eth+",
        "-i e+ -o eth1",
        "! -i eth0",
        "! -i eth+",
        "-i eth",
        "-i eth00",
        "-i eth0 -o eth0",
    )
    client.send(QUERY, to=server)
    server.send(QUERY, to=client)


@scenario(families=(4, 6))
def interfaces_at_every_hook(node: Node) -> None:
    """Which interfaces a packet has at each hook."""
    client, server = node.router()
    for table, chain in (
        ("raw", "PREROUTING"),
        ("mangle", "PREROUTING"),
        ("mangle", "INPUT"),
        ("mangle", "FORWARD"),
        ("mangle", "POSTROUTING"),
    ):
        for match in (
            "-i eth0",
            "-i eth1",
            "-i lo",
            *(() if chain in ("PREROUTING", "INPUT") else ("-o eth0", "-o eth1")),
        ):
            if chain == "POSTROUTING" and match.startswith("-i"):
                continue
            node.rules(f"-t {table} -A {chain} {match}")
    client.send(QUERY, to=server)
    client.send(echo(node.family), to=node.address("eth0"))


@scenario(families=(4, 6))
def protocols(node: Node) -> None:
    """-p: by name, by number, everything, and the opposite."""
    icmp = "icmp" if node.family == 4 else "icmpv6"
    client, server = counted(
        node, "-p tcp", "-p udp", f"-p {icmp}", "-p sctp", "-p 47", "-p 253", "! -p udp", "-p all", "-p udplite"
    )
    client.send(QUERY, to=server)
    client.send(TCP(sport=1, dport=2, flags="S"), to=server)
    client.send(echo(node.family), to=server)
    client.send(Raw(bytes(8)), to=server, proto=253)
    client.send(SCTP(sport=1, dport=2) / SCTPChunkInit(), to=server)


@scenario(families=(6,))
def protocol_behind_extension_headers(node: Node) -> None:
    """-p looks behind hop-by-hop and destination options, ports too."""
    client, server = counted(node, "-p udp", "-p udp --dport 53", "-p 0", "-p 60")
    for extension in (IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()):
        client.send(client.packet(extension / QUERY, to=server))
    client.send(client.packet(IPv6ExtHdrDestOpt(nh=59), to=server))


@scenario()
def fragment(node: Node) -> None:
    """-f: fragments other than the first; without connection tracking fragments pass as they are."""
    client, server = counted(node, "-f", "! -f", "-p udp --dport 53", "-p udp")
    packet = client.packet(UDP(sport=4000, dport=53) / bytes(3000), to=server)
    for part in packet.fragment(1000):
        client.send(part)


@scenario(families=(4, 6))
def udp_ports(node: Node) -> None:
    """--sport and --dport: one, a range, open ranges, and their opposites."""
    client, server = counted(
        node,
        "-p udp --dport 53",
        "-p udp --sport 4000",
        "-p udp --dport 50:60",
        "-p udp --dport :53",
        "-p udp --dport 53:",
        "-p udp ! --dport 53",
        "-p udp ! --sport 4000:5000",
        "-p udp --sport 4000 --dport 53",
        "-p udp --dport 0",
        "-p udp --dport 65535",
    )
    for sport, dport in ((4000, 53), (4001, 54), (1, 49), (65535, 65535), (0, 0)):
        client.send(UDP(sport=sport, dport=dport) / b"x", to=server)


@scenario(families=(4, 6))
def tcp_ports_and_flags(node: Node) -> None:
    """--dport, --tcp-flags, --syn, and their opposites."""
    client, server = counted(
        node,
        "-p tcp --dport 80",
        "-p tcp --syn",
        "-p tcp ! --syn",
        "-p tcp --tcp-flags SYN,ACK SYN",
        "-p tcp --tcp-flags ALL NONE",
        "-p tcp --tcp-flags ALL ALL",
        "-p tcp ! --tcp-flags RST RST",
        "-p tcp --tcp-flags FIN,PSH,URG FIN,PSH,URG",
    )
    for flags in ("S", "SA", "A", "", "R", "FPU", "FSRPAU", "SEC"):
        client.send(TCP(sport=1, dport=80, flags=flags), to=server)


@scenario()
def tcp_option(node: Node) -> None:
    """--tcp-option: an option by its number."""
    client, server = counted(node, "-p tcp --tcp-option 2", "-p tcp --tcp-option 8", "-p tcp ! --tcp-option 2")
    client.send(TCP(sport=1, dport=80, flags="S", options=[("MSS", 1460)]), to=server)
    client.send(TCP(sport=1, dport=80, flags="S", options=[("NOP", None), ("Timestamp", (1, 2))]), to=server)
    client.send(TCP(sport=1, dport=80, flags="S"), to=server)


@scenario(families=(4, 6), backend="nft")
def header_cut_short_nft(node: Node) -> None:
    """A transport header that ends behind the ports: iptables-nft reads ports by themselves, and the packet goes on."""
    header_cut_short(node)


@scenario(families=(4, 6), backend="legacy")
def header_cut_short(node: Node) -> None:
    """A transport header that ends early: a rule with ports drops the packet, one without does not."""
    client, server = counted(node, "-p udp", "-p tcp", "-p tcp --dport 80", "-p udp --dport 53", "-j ACCEPT")
    client.send(Raw(bytes(UDP(sport=1, dport=53))[:6]), to=server, proto=17)
    client.send(Raw(bytes(UDP(sport=1, dport=53))[:4]), to=server, proto=17)
    client.send(Raw(bytes(TCP(sport=1, dport=80))[:19]), to=server, proto=6)


@scenario(families=(4, 6))
def sctp(node: Node) -> None:
    """SCTP ports and chunk types."""
    client, server = counted(
        node,
        "-p sctp --dport 2000",
        "-p sctp --sport 1000:1999",
        "-p sctp --chunk-types any INIT",
        "-p sctp --chunk-types all INIT",
        "-p sctp --chunk-types only DATA",
        "-p sctp --chunk-types any DATA,ABORT",
    )
    client.send(SCTP(sport=1000, dport=2000) / SCTPChunkInit(init_tag=1), to=server)
    client.send(SCTP(sport=1000, dport=2001, tag=1) / SCTPChunkData(data=b"abcd", tsn=1), to=server)
    client.send(SCTP(sport=2000, dport=2000, tag=1) / SCTPChunkAbort(), to=server)


@scenario()
def icmp_types(node: Node) -> None:
    """--icmp-type: by name, by number, with a code, any."""
    client, server = counted(
        node,
        "-p icmp --icmp-type echo-request",
        "-p icmp --icmp-type 3",
        "-p icmp --icmp-type 3/4",
        "-p icmp --icmp-type any",
        "-p icmp ! --icmp-type 8",
        "-p icmp --icmp-type time-exceeded",
        "-p icmp --icmp-type ttl-zero-during-transit",
    )
    about = client.packet(QUERY, to=server)
    client.send(echo(4), to=server)
    for what in ("port unreachable", "too big", "time exceeded"):
        client.send(icmp_error(what, about), to=server)
    client.send(ICMP(type=200, code=7) / bytes(4), to=server)


@scenario(families=(6,))
def icmpv6_types(node: Node) -> None:
    """--icmpv6-type: by name, by number, with a code."""
    client, server = counted(
        node,
        "-p icmpv6 --icmpv6-type echo-request",
        "-p icmpv6 --icmpv6-type 1",
        "-p icmpv6 --icmpv6-type 1/4",
        "-p icmpv6 ! --icmpv6-type 128",
        "-p icmpv6 --icmpv6-type packet-too-big",
    )
    about = client.packet(QUERY, to=server)
    client.send(echo(6), to=server)
    for what in ("port unreachable", "too big", "time exceeded"):
        client.send(icmp_error(what, about, mtu=1280), to=server)
    client.send(ICMPv6Unknown(type=200, msgbody=bytes(4)), to=server)


@scenario(families=(4, 6))
def multiport(node: Node) -> None:
    """Lists of ports and ranges, of either end."""
    client, server = counted(
        node,
        "-p udp -m multiport --dports 53,80:90",
        "-p udp -m multiport --sports 4000,5000",
        "-p udp -m multiport --ports 4000,53",
        "-p udp -m multiport ! --dports 53,54",
        "-p tcp -m multiport --dports 53",
    )
    for sport, dport in ((4000, 53), (4001, 85), (53, 1), (5000, 54)):
        client.send(UDP(sport=sport, dport=dport) / b"x", to=server)
    client.send(TCP(sport=1, dport=53), to=server)


@scenario(families=(4, 6))
def conntrack_states(node: Node) -> None:
    """--ctstate: each state and sets of them, --ctdir, --ctproto."""
    client, server = counted(
        node,
        "-m conntrack --ctstate NEW",
        "-m conntrack --ctstate ESTABLISHED",
        "-m conntrack --ctstate RELATED,ESTABLISHED",
        "-m conntrack ! --ctstate NEW",
        "-m conntrack --ctstate INVALID,NEW",
        "-m conntrack --ctstate DNAT",
        "-m conntrack --ctstate SNAT",
        "-m conntrack --ctdir ORIGINAL",
        "-m conntrack --ctdir REPLY",
        "-m conntrack --ctproto udp",
        "-m conntrack --ctproto 6",
        "-m conntrack ! --ctproto 17",
    )
    request = client.send(QUERY, to=server).only(server)
    server.send(reply(request, b"answer"))
    server.complain("port unreachable", request)
    client.send(TCP(sport=1, dport=2, flags="SF"), to=server)


@scenario(families=(4, 6))
def conntrack_tuples(node: Node) -> None:
    """--ctorigsrc and the like: the tuples of the connection, whatever the direction of the packet."""
    client, server = node.router()
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    backend = server.ip if node.family == 4 else f"[{server.ip}]"
    node.rules(f"-t nat -A PREROUTING -d {vip} -p udp --dport 53 -j DNAT --to-destination {backend}:5353")
    for match in (
        f"--ctorigsrc {client.ip}",
        f"--ctorigdst {vip}",
        f"--ctreplsrc {server.ip}",
        f"--ctrepldst {client.ip}",
        f"! --ctorigdst {vip}",
        "--ctorigsrcport 4000",
        "--ctorigdstport 53",
        "--ctreplsrcport 5353",
        "--ctrepldstport 4000",
        "--ctorigdstport 50:60",
        "! --ctorigdstport 53",
        "--ctstate DNAT",
    ):
        node.rules(f"-A FORWARD -m conntrack {match}")
    request = client.send(QUERY, to=vip).only(server)
    server.send(reply(request, b"answer"))
    client.send(QUERY, to=server)


@scenario()
def conntrack_status_and_expiry(node: Node) -> None:
    """--ctstatus and --ctexpire."""
    client, server = counted(
        node,
        "-m conntrack --ctstatus NONE",
        "-m conntrack --ctstatus SEEN_REPLY",
        "-m conntrack --ctstatus ASSURED",
        "-m conntrack --ctstatus CONFIRMED",
        "-m conntrack ! --ctstatus ASSURED",
        "-m conntrack --ctexpire 0:100",
        "-m conntrack --ctexpire 431900:432000",
    )
    talk = Talk(client, server)
    talk.open()
    talk.client("PA", b"x")


@scenario(families=(4, 6))
def state(node: Node) -> None:
    """The old match `state`."""
    client, server = counted(
        node, "-m state --state NEW", "-m state --state RELATED,ESTABLISHED", "-m state --state INVALID"
    )
    request = client.send(QUERY, to=server).only(server)
    server.send(reply(request, b"answer"))


@scenario(families=(4, 6))
def mark(node: Node) -> None:
    """--mark with and without a mask; marks that MARK sets in four ways."""
    client, server = node.router()
    node.rules("""
        -t mangle -A PREROUTING -p udp --dport 1 -j MARK --set-mark 0x1
        -t mangle -A PREROUTING -p udp --dport 2 -j MARK --set-xmark 0x4000/0x4000
        -t mangle -A PREROUTING -p udp --dport 3 -j MARK --set-mark 0xffff
        -t mangle -A PREROUTING -p udp --dport 3 -j MARK --and-mark 0xff00
        -t mangle -A PREROUTING -p udp --dport 3 -j MARK --or-mark 0x3
        -t mangle -A PREROUTING -p udp --dport 3 -j MARK --xor-mark 0x4001
        -A FORWARD -m mark --mark 0x1
        -A FORWARD -m mark --mark 0x4000/0x4000
        -A FORWARD -m mark ! --mark 0x4000/0x4000
        -A FORWARD -m mark --mark 0xbf02
        -A FORWARD -m mark --mark 0x0/0xff
    """)
    for port in (1, 2, 3, 4):
        client.send(UDP(sport=4000, dport=port), to=server)


@scenario(families=(4, 6))
def connmark(node: Node) -> None:
    """CONNMARK saves a packet's mark with the connection and restores it to the answer."""
    client, server = node.router()
    node.rules("""
        -t mangle -A PREROUTING -i eth0 -j MARK --set-mark 0x12
        -t mangle -A PREROUTING -i eth0 -j CONNMARK --save-mark
        -t mangle -A PREROUTING -i eth1 -j CONNMARK --restore-mark --mask 0xf0
        -t mangle -A POSTROUTING -p udp --dport 99 -j CONNMARK --set-mark 0x77
        -A FORWARD -m mark --mark 0x12
        -A FORWARD -m mark --mark 0x10
        -A FORWARD -m connmark --mark 0x12
        -A FORWARD -m connmark --mark 0x2/0x3
        -A FORWARD -m connmark ! --mark 0x12
    """)
    request = client.send(QUERY, to=server).only(server)
    server.send(reply(request, b"answer"))
    client.send(UDP(sport=4000, dport=99), to=server)
    server.send(UDP(sport=7, dport=8), to=client)


@scenario(families=(4, 6))
def addrtype(node: Node) -> None:
    """--src-type and --dst-type: local, unicast, broadcast, multicast, and the types of special routes."""
    client, server = node.router()
    black = "198.51.100.0/24" if node.family == 4 else "2001:db8:1::/64"
    target = "198.51.100.1" if node.family == 4 else "2001:db8:1::1"
    node.ip(f"{node.dash}route add unreachable {black}")
    types = ["LOCAL", "UNICAST", "MULTICAST", "UNREACHABLE", "UNSPEC"]
    if node.family == 4:
        types.append("BROADCAST")
        types.append("BLACKHOLE")
    for kind in types:
        node.rules(f"-t raw -A PREROUTING -m addrtype --dst-type {kind}")
    node.rules("""
        -t raw -A PREROUTING -m addrtype --src-type LOCAL
        -t raw -A PREROUTING -m addrtype ! --src-type LOCAL
        -t raw -A PREROUTING -m addrtype ! --dst-type LOCAL
        -t raw -A PREROUTING -m addrtype --dst-type LOCAL,UNICAST
    """)
    client.send(QUERY, to=server)
    client.send(echo(node.family), to=node.address("eth0"))
    client.send(echo(node.family), to=node.address("eth1"))
    client.send(QUERY, to=target)
    if node.family == 4:
        client.send(QUERY, to="10.0.1.255", mac="ff:ff:ff:ff:ff:ff")
        client.send(QUERY, to="255.255.255.255", mac="ff:ff:ff:ff:ff:ff")
        client.send(QUERY, to="224.0.0.1", mac="01:00:5e:00:00:01")
        client.send(QUERY, to="127.0.0.1")
        client.send(QUERY, to=server, src="127.0.0.1")
    else:
        client.send(QUERY, to="ff02::1", mac="33:33:00:00:00:01")


@scenario(families=(4, 6))
def addrtype_of_one_interface(node: Node) -> None:
    """--limit-iface-in: local at the interface that the packet came in by."""
    client, server = counted(
        node,
        "-m addrtype --dst-type LOCAL --limit-iface-in",
        "-m addrtype --dst-type LOCAL",
        "-m addrtype ! --dst-type LOCAL --limit-iface-in",
        chain="PREROUTING",
        table="raw",
    )
    client.send(echo(node.family), to=node.address("eth0"))
    client.send(echo(node.family), to=node.address("eth1"))
    client.send(QUERY, to=server)


@scenario()
def statistic_nth(node: Node) -> None:
    """nth: every third packet, from the given one on."""
    client, server = counted(
        node,
        "-m statistic --mode nth --every 3 --packet 0",
        "-m statistic --mode nth --every 3 --packet 2",
        "-m statistic --mode nth --every 2 --packet 1",
        "-m statistic --mode nth ! --every 4 --packet 0",
    )
    for port in range(7):
        client.send(UDP(sport=port, dport=1), to=server)


@scenario()
def statistic_random_edges(node: Node) -> None:
    """random: a probability of 0 never matches, one of 1 always."""
    client, server = counted(
        node, "-m statistic --mode random --probability 0", "-m statistic --mode random --probability 1.0"
    )
    for port in range(5):
        client.send(UDP(sport=port, dport=1), to=server)


@scenario(families=(4, 6))
def recent(node: Node) -> None:
    """recent: set, rcheck, update, remove, hitcount, by source and by destination."""
    client, server = counted(
        node,
        "-p udp --dport 1 -m recent --name one --set --rsource",
        "-p udp --dport 2 -m recent --name one --rcheck --rsource",
        "-p udp --dport 2 -m recent --name one --rcheck --seconds 60 --hitcount 2 --rsource",
        "-p udp --dport 3 -m recent --name one --remove --rsource",
        "-p udp --dport 4 -m recent --name one --update --rsource",
        "-p udp --dport 5 -m recent --name two --set --rdest",
        "-p udp --dport 6 -m recent --name two --rcheck --rdest",
    )
    for port in (2, 1, 2, 4, 2, 3, 2, 6, 5, 6):
        client.send(UDP(sport=4000, dport=port), to=server)


@scenario()
def recent_forgets(node: Node) -> None:
    """recent --seconds: an entry that was seen too long ago does not match; --reap removes it."""
    client, server = counted(
        node,
        "-p udp --dport 1 -m recent --name ten --set --rsource",
        "-p udp --dport 2 -m recent --name ten --rcheck --seconds 1 --rsource",
        "-p udp --dport 3 -m recent --name ten --rcheck --seconds 1 --reap --rsource",
        "-p udp --dport 2 -m recent --name ten --rcheck --rsource",
    )
    client.send(UDP(sport=4000, dport=1), to=server)
    client.send(UDP(sport=4000, dport=2), to=server)
    node.wait(2.1)
    client.send(UDP(sport=4000, dport=2), to=server)
    client.send(UDP(sport=4000, dport=3), to=server)
    client.send(UDP(sport=4000, dport=2), to=server)


@scenario(families=(4, 6))
def session_affinity(node: Node) -> None:
    """kube-proxy's ClientIP affinity: the endpoint that was chosen first is found again by recent."""
    client, server = node.router()
    second = node.peer("eth1", "10.0.2.3" if node.family == 4 else "fd00:2::3")
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    node.rules(f"""
        -t nat -A PREROUTING -d {vip} -p udp -j KUBE-SVC-AFFINITY
        -t nat -A KUBE-SVC-AFFINITY -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-ONE --rsource -j KUBE-SEP-ONE
        -t nat -A KUBE-SVC-AFFINITY -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-TWO --rsource -j KUBE-SEP-TWO
        -t nat -A KUBE-SVC-AFFINITY -m statistic --mode nth --every 2 --packet 0 -j KUBE-SEP-ONE
        -t nat -A KUBE-SVC-AFFINITY -j KUBE-SEP-TWO
        -t nat -A KUBE-SEP-ONE -p udp -m recent --set --name KUBE-SEP-ONE --rsource -j DNAT --to-destination {server.ip}
        -t nat -A KUBE-SEP-TWO -p udp -m recent --set --name KUBE-SEP-TWO --rsource -j DNAT --to-destination {second.ip}
    """)
    other = node.peer("eth0", "10.0.1.3" if node.family == 4 else "fd00:1::3")
    for port in (1, 2, 3):
        client.send(UDP(sport=port, dport=53), to=vip).only(server)
        other.send(UDP(sport=port, dport=53), to=vip).only(second)


@scenario(families=(4, 6))
def length(node: Node) -> None:
    """length: of the IP packet in IPv4, of the payload plus header in IPv6; frames do not count."""
    client, server = counted(
        node,
        "-m length --length 100",
        "-m length --length 50:150",
        "-m length --length :99",
        "-m length ! --length 100",
    )
    header = 28 if node.family == 4 else 48
    for size in (100 - header, 101 - header, 51, 200):
        client.send(UDP(sport=1, dport=2) / bytes(size), to=server)


@scenario()
def ttl(node: Node) -> None:
    """ttl: equal, greater, less; at FORWARD it has already fallen."""
    client, server = counted(
        node, "-m ttl --ttl-eq 63", "-m ttl --ttl-gt 62", "-m ttl --ttl-lt 63", "-m ttl ! --ttl-eq 63"
    )
    for hops in (64, 63, 65):
        client.send(QUERY, to=server, ttl=hops)


@scenario(families=(6,))
def hl(node: Node) -> None:
    """hl: the hop limit, equal, greater, less."""
    client, server = counted(node, "-m hl --hl-eq 63", "-m hl --hl-gt 62", "-m hl --hl-lt 63")
    for hops in (64, 63, 65):
        client.send(QUERY, to=server, ttl=hops)


@scenario(families=(4, 6))
def tos_and_dscp(node: Node) -> None:
    """tos and dscp: the field, with a mask, by class."""
    client, server = counted(
        node,
        "-m tos --tos 0x10/0xff",
        "-m tos --tos 0x10/0x10",
        "-m tos ! --tos 0x10/0x3f",
        "-m dscp --dscp 0x2e",
        "-m dscp --dscp-class AF11",
        "-m dscp ! --dscp 0x00",
    )
    for value in (0x10, 0xB8, 0x28, 0x11, 0x00):
        client.send(QUERY, to=server, tos=value)


@scenario(families=(4, 6))
def mac(node: Node) -> None:
    """mac: the source address of the frame."""
    client, server = counted(node, "-m mac --mac-source 02:00:00:01:01:02", "-m mac ! --mac-source 02:00:00:01:01:02")
    client.send(QUERY, to=server)
    server.send(QUERY, to=client)


@scenario()
def pkttype(node: Node) -> None:
    """pkttype: unicast, broadcast, multicast, by the frame."""
    client, _ = counted(
        node,
        "-m pkttype --pkt-type unicast",
        "-m pkttype --pkt-type broadcast",
        "-m pkttype --pkt-type multicast",
        "-m pkttype ! --pkt-type unicast",
        chain="PREROUTING",
        table="raw",
    )
    client.send(echo(4), to=node.address("eth0"))
    client.send(QUERY, to="10.0.1.255", mac="ff:ff:ff:ff:ff:ff")
    client.send(QUERY, to="224.0.0.1", mac="01:00:5e:00:00:01")


@scenario()
def tcpmss(node: Node) -> None:
    """tcpmss: the MSS option of a segment."""
    client, server = counted(
        node, "-p tcp -m tcpmss --mss 1400:1500", "-p tcp -m tcpmss --mss 536", "-p tcp -m tcpmss ! --mss 1460"
    )
    client.send(TCP(sport=1, dport=80, flags="S", options=[("MSS", 1460)]), to=server)
    client.send(TCP(sport=1, dport=80, flags="S", options=[("NOP", None), ("NOP", None), ("MSS", 536)]), to=server)
    client.send(TCP(sport=1, dport=80, flags="S"), to=server)


@scenario(families=(4, 6))
def iprange(node: Node) -> None:
    """iprange: addresses from one to another."""
    low, high = ("10.0.1.1", "10.0.1.9") if node.family == 4 else ("fd00:1::1", "fd00:1::9")
    client, server = counted(
        node,
        f"-m iprange --src-range {low}-{high}",
        f"-m iprange --dst-range {low}-{high}",
        f"-m iprange ! --src-range {low}-{high}",
        f"-m iprange --src-range {low}-{low}",
    )
    client.send(QUERY, to=server)
    server.send(QUERY, to=client)


@scenario()
def u32(node: Node) -> None:
    """u32: words of the packet, shifted, masked, and followed."""
    client, server = counted(
        node,
        '-m u32 --u32 "6&0xFF=17"',
        '-m u32 --u32 "0>>22&0x3C@0&0xFFFF=53"',
        '-m u32 --u32 "0&0xFFFF=0x20:0x30"',
        '-m u32 ! --u32 "6&0xFF=17"',
        '-m u32 --u32 "6&0xFF=6&&32=5"',
    )
    client.send(QUERY, to=server)
    client.send(QUERY, to=server, options=[IPOption_NOP()] * 4)
    client.send(TCP(sport=1, dport=2), to=server)


@scenario()
def connbytes(node: Node) -> None:
    """connbytes: packets and bytes of the connection, by direction."""
    client, server = counted(
        node,
        "-m connbytes --connbytes 2 --connbytes-dir original --connbytes-mode packets",
        "-m connbytes --connbytes 2:3 --connbytes-dir both --connbytes-mode packets",
        "-m connbytes --connbytes 100 --connbytes-dir original --connbytes-mode bytes",
        "-m connbytes --connbytes 0:40 --connbytes-dir both --connbytes-mode avgpkt",
        "-m connbytes ! --connbytes 1 --connbytes-dir reply --connbytes-mode packets",
    )
    talk = Talk(client, server)
    talk.open()
    talk.client("PA", bytes(100))
    talk.server("A")


@scenario(families=(4, 6))
def connlimit(node: Node) -> None:
    """connlimit: how many connections one address has open."""
    client, server = counted(
        node,
        "-p tcp --syn -m connlimit --connlimit-above 2",
        "-p tcp --syn -m connlimit --connlimit-upto 1",
        "-p tcp --syn -m connlimit --connlimit-above 1 --connlimit-daddr",
    )
    for port in (1000, 1001, 1002, 1003):
        client.send(TCP(sport=port, dport=80, flags="S"), to=server)


@scenario()
def limit(node: Node) -> None:
    """limit: a bucket of tokens; the burst passes, the rest does not, until time has filled it again."""
    client, server = counted(node, "-m limit --limit 1/sec --limit-burst 3", "-m limit --limit 10/min --limit-burst 1")
    for port in range(5):
        client.send(UDP(sport=port, dport=1), to=server)
    node.wait(1.3)
    client.send(UDP(sport=9, dport=1), to=server)
    client.send(UDP(sport=10, dport=1), to=server)


@scenario()
def hashlimit(node: Node) -> None:
    """hashlimit: a bucket per source address."""
    client, server = counted(
        node,
        "-m hashlimit --hashlimit-upto 1/sec --hashlimit-burst 2 --hashlimit-mode srcip --hashlimit-name judge1",
        "-m hashlimit --hashlimit-above 1/sec --hashlimit-burst 2 --hashlimit-mode srcip,dstport --hashlimit-name judge2",
    )
    other = node.peer("eth0", "10.0.1.3")
    for _ in range(3):
        client.send(UDP(sport=1, dport=1), to=server)
        other.send(UDP(sport=1, dport=1), to=server)
    client.send(UDP(sport=1, dport=2), to=server)


@scenario(families=(4, 6))
def hashlimit_of_bytes(node: Node) -> None:
    """hashlimit by bytes: what a second brings, counted in 16 bytes; a burst is so many seconds at once."""
    client, server = counted(
        node,
        "-m hashlimit --hashlimit-upto 200b/s --hashlimit-mode srcip --hashlimit-name bytes1",
        "-m hashlimit --hashlimit-above 500b/s --hashlimit-burst 2kb --hashlimit-mode srcip,dstport --hashlimit-name bytes2",
        "-m hashlimit --hashlimit-upto 1mb/s --hashlimit-name bytes3",
    )
    for size in (10, 100, 100, 700, 10, 1, 300, 900):
        client.send(UDP(sport=1, dport=1) / bytes(size), to=server)
    client.send(UDP(sport=1, dport=2) / bytes(900), to=server)
    node.wait(0.5)
    for size in (60, 60, 60):
        client.send(UDP(sport=1, dport=1) / bytes(size), to=server)


@scenario()
def hashlimit_by_windows(node: Node) -> None:
    """hashlimit --hashlimit-rate-match: what a window of time has brought, and whether the one before was too much."""
    client, server = counted(
        node,
        "-m hashlimit --hashlimit-upto 2/sec --hashlimit-burst 3 --hashlimit-rate-match --hashlimit-name windows1",
        "-m hashlimit --hashlimit-above 300b/s --hashlimit-rate-match --hashlimit-rate-interval 1 --hashlimit-name windows2",
        "-m hashlimit --hashlimit-above 100b/s --hashlimit-burst 300b --hashlimit-rate-match --hashlimit-name windows3",
    )
    for _ in range(7):
        client.send(UDP(sport=1, dport=1) / bytes(30), to=server)
    node.wait(1.1)
    for _ in range(3):
        client.send(UDP(sport=1, dport=1) / bytes(30), to=server)
    node.wait(2.1)
    for _ in range(2):
        client.send(UDP(sport=1, dport=1) / bytes(30), to=server)


@scenario(families=(4, 6))
def socket(node: Node) -> None:
    """socket: sockets bound to every address count with --nowildcard alone; ICMP errors count for what they quote."""
    client, server = counted(
        node,
        "-m socket",
        "-m socket --nowildcard",
        "-m socket --transparent --nowildcard",
        "-m socket --nowildcard --restore-skmark -m mark --mark 0",
        chain="PREROUTING",
        table="mangle",
    )
    node.listen("udp", 53)
    node.listen("tcp", 80)
    here = node.address("eth0")
    for to in (here, server):
        client.send(UDP(sport=4000, dport=53) / b"query", to=to)
        client.send(UDP(sport=53, dport=4000) / b"query", to=to)
        client.send(TCP(sport=4000, dport=80, flags="A"), to=to)
        client.send(TCP(sport=4000, dport=81, flags="S"), to=to)
        client.send(echo(node.family), to=to)
    about = (IP if node.family == 4 else IPv6)(src=here, dst=client.ip)
    client.complain("port unreachable", about / UDP(sport=53, dport=9) / b"answer")
    client.complain("port unreachable", about / UDP(sport=9, dport=53) / b"query")
    client.complain("time exceeded", about / TCP(sport=80, dport=9))


@scenario(families=(4, 6))
def rpfilter(node: Node) -> None:
    """rpfilter: is the packet's source reached by the interface that it came in by?"""
    client, server = counted(
        node,
        "-m rpfilter",
        "-m rpfilter --invert",
        "-m rpfilter --loose",
        "-m rpfilter --loose --invert",
        chain="PREROUTING",
        table="raw",
    )
    foreign = "10.0.2.9" if node.family == 4 else "fd00:2::9"
    unknown = "203.0.113.1" if node.family == 4 else "2001:db8::1"
    client.send(QUERY, to=server)
    client.send(QUERY, to=server, src=foreign)
    client.send(QUERY, to=server, src=unknown)


@scenario(families=(4, 6))
def sets(node: Node) -> None:
    """set: hash:ip, hash:net with nomatch, hash:ip,port, hash:net,port, bitmap:port, list:set."""
    inet = "inet" if node.family == 4 else "inet6"
    a, b = ("10.0.1.2", "10.0.2.0/24") if node.family == 4 else ("fd00:1::2", "fd00:2::/64")
    server_address = "10.0.2.2" if node.family == 4 else "fd00:2::2"
    node.ipset(f"""
        create ips hash:ip family {inet}
        add ips {a}
        create nets hash:net family {inet}
        add nets {b}
        create except hash:net family {inet}
        add except {b}
        add except {server_address} nomatch
        create ipports hash:ip,port family {inet}
        add ipports {server_address},udp:53
        create netports hash:net,port family {inet}
        add netports {b},tcp:80
        create ports bitmap:port range 0-1023
        add ports 53
        create all list:set
        add all ips
        add all nets
    """)
    client, server = counted(
        node,
        "-m set --match-set ips src",
        "-m set --match-set ips dst",
        "-m set ! --match-set ips src",
        "-m set --match-set nets dst",
        "-m set --match-set except dst",
        "-m set --match-set ipports dst,dst",
        "-m set --match-set netports dst,dst",
        "-m set --match-set ports dst",
        "-m set --match-set all src",
        "-m set --match-set all dst",
    )
    client.send(QUERY, to=server)
    client.send(TCP(sport=1, dport=80, flags="S"), to=server)
    server.send(QUERY, to=client)
    client.send(echo(node.family), to=server)


@scenario()
def sets_of_services(node: Node) -> None:
    """set: the sets that kube-proxy makes in IPVS mode, hash:ip,port,ip and hash:ip,port,net."""
    node.ipset("""
        create LOOP hash:ip,port,ip
        add LOOP 10.0.1.2,udp:53,10.0.1.2
        add LOOP 10.0.2.2,udp:53,10.0.1.2
        create SOURCES hash:ip,port,net
        add SOURCES 10.0.2.2,udp:53,10.0.1.0/24
    """)
    client, server = counted(
        node,
        "-m set --match-set LOOP dst,dst,src",
        "-m set --match-set SOURCES dst,dst,src",
        "-m set --match-set SOURCES src,src,dst",
    )
    client.send(QUERY, to=server)
    client.send(UDP(sport=1, dport=54), to=server)
    server.send(QUERY, to=client)


@scenario(families=(4, 6))
def comment(node: Node) -> None:
    """comment: matches always; quotes and odd characters survive."""
    client, server = counted(
        node,
        "-m comment --comment plain",
        '-m comment --comment "two words"',
        '-m comment --comment "it\'s \\"quoted\\""',
    )
    client.send(QUERY, to=server)


@scenario()
def several_matches_in_one_rule(node: Node) -> None:
    """A rule matches when all of its parts do."""
    client, server = counted(
        node,
        "-s 10.0.1.0/24 -i eth0 -p udp -m udp --dport 53 -m conntrack --ctstate NEW -m mark --mark 0x0 -m comment --comment all",
        "-s 10.0.1.0/24 -i eth1 -p udp -m udp --dport 53",
        "-s 10.0.1.0/24 -p udp -m udp --dport 53 -m ttl --ttl-eq 5",
    )
    client.send(QUERY, to=server)
    client.send(QUERY, to=server)
    frame = Ether(src=client.mac, dst=client.gateway) / client.packet(QUERY, to=server)
    node.receive("eth0", frame)


@scenario(families=(4, 6))
def addrtype_of_the_way_out(node: Node) -> None:
    """--limit-iface-out: local at the interface that the packet leaves by."""
    client, server = counted(
        node,
        "-m addrtype --src-type LOCAL --limit-iface-out",
        "-m addrtype --dst-type UNICAST --limit-iface-out",
        "-m addrtype ! --dst-type LOCAL --limit-iface-out",
        "-m addrtype --src-type UNICAST --limit-iface-out",
    )
    client.send(QUERY, to=server)
    server.send(QUERY, to=client)


@scenario(families=(4, 6))
def recent_by_hops(node: Node) -> None:
    """recent --rttl: only with as many hops left as when the address was entered; --mask joins neighbours."""
    mask = "255.255.255.0" if node.family == 4 else "ffff:ffff:ffff:ffff::"
    client, server = counted(
        node,
        "-m recent --rcheck --rttl --name hops --rsource",
        "-m recent --rcheck --name hops --rsource",
        "-m recent --update --rttl --hitcount 2 --name hops --rsource",
        "-m recent --set --name hops --rsource",
        f"-m recent --rcheck --name near --mask {mask} --rsource",
        f"-m recent --set --name near --mask {mask} --rsource",
    )
    other = node.peer("eth0", "10.0.1.3" if node.family == 4 else "fd00:1::3")
    for peer, hops in ((client, 64), (client, 64), (client, 60), (other, 64), (client, 60)):
        peer.send(QUERY, to=server, ttl=hops)


@scenario(families=(4, 6))
def rpfilter_by_mark(node: Node) -> None:
    """rpfilter --validmark: the way back is looked for with the packet's mark."""
    client, _ = node.router()
    node.ip(f"{node.dash}rule add fwmark 7 lookup 100")
    node.ip(f"{node.dash}route add default via {'10.0.2.2' if node.family == 4 else 'fd00:2::2'} table 100")
    server = "10.0.2.2" if node.family == 4 else "fd00:2::2"
    node.rules("""
        -t raw -A PREROUTING -p udp --dport 2 -j MARK --set-mark 7
        -t raw -A PREROUTING -m rpfilter --validmark
        -t raw -A PREROUTING -m rpfilter --validmark --invert
        -t raw -A PREROUTING -m rpfilter
        -t raw -A PREROUTING -m rpfilter --loose --validmark
    """)
    for port in (1, 2):
        client.send(UDP(sport=4000, dport=port), to=server)


@scenario(families=(6,), backend="legacy")
def broken_chain_of_headers(node: Node) -> None:
    """A chain of extension headers that ends in the middle of one: the first rule with a protocol drops the packet."""
    client, server = node.router()
    node.rules("""
        -t raw -A PREROUTING -s fd00:9::/64 -p udp
        -t raw -A PREROUTING -i eth1 -p udp
        -t raw -A PREROUTING -m length --length 0:65535
        -t raw -A PREROUTING -p tcp
        -t raw -A PREROUTING -m length --length 0:65535
        -t mangle -A PREROUTING -m length --length 0:65535
    """)
    for kind in (43, 44, 51, 60, 59, 50, 135):
        for tail in (
            b"",
            b"\x11",
            b"\x11\0",
            b"\x11\0\0\0",
            b"\x3c\0\0\0\0\0\0\0",
            b"\x11\x01\0\0\0\0\0\0",
            b"\x3c\x01" + bytes(8),
        ):
            client.send(IPv6(src=client.ip, dst=server.ip, nh=kind) / Raw(tail))
