"""The options of targets that are rarely written, and targets in every chain where they may stand."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import echo, reply
from scapy.layers.inet import TCP, UDP

QUERY = UDP(sport=4000, dport=53) / b"query"
HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")


def through_every_hook(node: Node) -> None:
    """A packet that is forwarded, its answer, one to the node with what it says, and one of its own."""
    client, server = node.router()
    request = client.send(QUERY, to=server).at(server)
    if request:
        server.send(reply(request[0], b"answer"))
    client.send(QUERY, to=node.address("eth0"))
    client.send(echo(node.family), to=node.address("eth0"))
    node.send(server.packet(QUERY, to=server, src=node.address("eth1")))
    client.send(TCP(sport=4000, dport=80, flags="S", options=[("MSS", 1460)]), to=server)
    client.send(TCP(sport=4000, dport=80, flags="S", options=[("MSS", 1460)]), to=node.address("eth0"))


@scenario(families=(4, 6))
def connmark_masks_and_shifts(node: Node) -> None:
    """CONNMARK: --nfmask and --ctmask of saving and restoring, and-, or-, xor-mark, shifts both ways."""
    client, server = node.router()
    node.rules("""
        -t mangle -A PREROUTING -i eth0 -j MARK --set-mark 0x12345678
        -t mangle -A PREROUTING -i eth0 -p udp --dport 1 -j CONNMARK --save-mark --nfmask 0xff00 --ctmask 0xff
        -t mangle -A PREROUTING -i eth0 -p udp --dport 2 -j CONNMARK --set-mark 0xf0f0f0f0
        -t mangle -A PREROUTING -i eth0 -p udp --dport 2 -j CONNMARK --and-mark 0xff00ff00
        -t mangle -A PREROUTING -i eth0 -p udp --dport 2 -j CONNMARK --or-mark 0x3
        -t mangle -A PREROUTING -i eth0 -p udp --dport 2 -j CONNMARK --xor-mark 0x11111111
        -t mangle -A PREROUTING -i eth0 -p udp --dport 3 -j CONNMARK --set-xmark 0x55/0xf0
        -t mangle -A PREROUTING -i eth0 -p udp --dport 4 -j CONNMARK --save-mark --mask 0xff0000
        -t mangle -A PREROUTING -i eth0 -p udp --dport 5 -j CONNMARK --save-mark
        -t mangle -A PREROUTING -i eth1 -j MARK --set-mark 0x77777777
        -t mangle -A PREROUTING -i eth1 -p udp --sport 4 -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xf00000
        -t mangle -A PREROUTING -i eth1 -p udp --sport 5 -j CONNMARK --restore-mark --mask 0xffff
        -t mangle -A FORWARD -i eth1 -p udp --sport 1 -j CONNMARK --restore-mark
    """)
    for mark in (
        "0x12345678", "0x56", "0x77777777", "0x77777720", "0x77775678", "0x77777777/0xff", "0x77777700/0xffffff00",
    ):  # fmt: skip
        node.rules(f"-A FORWARD -m mark --mark {mark}")
    for mark in ("0x56", "0xe111e112", "0x55/0xff", "0x340000", "0x12345678", "0x0/0xff"):
        node.rules(f"-A FORWARD -m connmark --mark {mark}")
    for port in range(1, 6):
        request = client.send(UDP(sport=4000, dport=port), to=server).only(server)
        server.send(reply(request, b"answer"))


@scenario(families=(4, 6))
def marks_in_every_chain(node: Node) -> None:
    """MARK, CONNMARK and their matches in every chain of every table that has connections or not."""
    for table, chains in (
        ("raw", ("PREROUTING", "OUTPUT")),
        ("mangle", HOOKS),
        ("nat", ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")),
        ("filter", ("INPUT", "FORWARD", "OUTPUT")),
        ("security", ("INPUT", "FORWARD", "OUTPUT")),
    ):
        for at, chain in enumerate(chains):
            node.rules(f"-t {table} -A {chain} -m mark --mark 0")
            node.rules(f"-t {table} -A {chain} -m connmark --mark 0/0xff")
            node.rules(f"-t {table} -A {chain} -j MARK --set-xmark {1 << at:#x}/{1 << at:#x}")
            node.rules(f"-t {table} -A {chain} -j CONNMARK --save-mark")
            node.rules(f"-t {table} -A {chain} -m connmark --mark {3:#x}")
    through_every_hook(node)


@scenario(families=(4, 6))
def fields_in_every_chain(node: Node) -> None:
    """TOS, DSCP, TTL or HL, TCPMSS, CHECKSUM, CLASSIFY in each chain of mangle, with matches behind them."""
    hop, hops = ("HL", "hl") if node.family == 6 else ("TTL", "ttl")
    for chain in HOOKS:
        node.rules(f"""
            -t mangle -A {chain} -m tos --tos 0x20/0xff
            -t mangle -A {chain} -j TOS --or-tos 0x20
            -t mangle -A {chain} -j TOS --xor-tos 0x04
            -t mangle -A {chain} -j TOS --and-tos 0xfc
            -t mangle -A {chain} -m dscp --dscp 0x09
            -t mangle -A {chain} -p udp -j DSCP --set-dscp-class AF31
            -t mangle -A {chain} -m dscp --dscp-class AF31
            -t mangle -A {chain} -j {hop} --{hops}-inc 3
            -t mangle -A {chain} -m {hops} --{hops}-gt 65
            -t mangle -A {chain} -p tcp --syn -j TCPMSS --set-mss 1400
            -t mangle -A {chain} -p tcp --syn -m tcpmss --mss 1400
            -t mangle -A {chain} -j CHECKSUM --checksum-fill
        """)
        if chain in ("FORWARD", "OUTPUT", "POSTROUTING"):
            node.rules(f"-t mangle -A {chain} -j CLASSIFY --set-class 1:2")
            node.rules(f"-t mangle -A {chain} -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu")
    through_every_hook(node)


@scenario(families=(4, 6))
def tos_in_every_way(node: Node) -> None:
    """TOS: --set-tos with a mask, by name, and-, or-, xor-tos; each by itself."""
    client, server = node.router()
    for port, way in enumerate(
        (
            "--set-tos 0x10",
            "--set-tos 0x10/0xf0",
            "--set-tos 0xff/0x00",
            "--set-tos 0/0",
            "--set-tos Maximize-Reliability",
            "--set-tos Normal-Service",
            "--and-tos 0x0f",
            "--or-tos 0xf0",
            "--xor-tos 0xff",
        )
    ):
        node.rules(f"-t mangle -A FORWARD -p udp --dport {port} -j TOS {way}")
        node.rules(f"-t mangle -A POSTROUTING -p udp --dport {port} -m tos --tos 0x10/0x3f")
    for port in range(9):
        for tos in (0, 0x5A, 0x03):
            client.send(UDP(sport=1, dport=port), to=server, tos=tos)


@scenario(families=(4, 6))
def dscp_of_every_class(node: Node) -> None:
    """DSCP --set-dscp-class of every class; the ECN bits stay."""
    client, server = node.router()
    classes = ("BE", "EF", *(f"CS{n}" for n in range(8)), *(f"AF{a}{b}" for a in range(1, 5) for b in range(1, 4)))
    for port, name in enumerate(classes):
        node.rules(f"-t mangle -A FORWARD -p udp --dport {port} -j DSCP --set-dscp-class {name}")
        node.rules(f"-t mangle -A POSTROUTING -m dscp --dscp-class {name}")
    for port in range(len(classes)):
        client.send(UDP(sport=1, dport=port), to=server, tos=0x41)


@scenario(families=(4, 6))
def tcpmss_of_every_kind(node: Node) -> None:
    """TCPMSS: options before and after, an option cut short, one twice, none, with data, SYN-ACK, not SYN, an MSS of 0."""
    client, server = node.router(far_mtu=1400)
    node.rules("""
        -t mangle -A FORWARD -p tcp --dport 1 -j TCPMSS --set-mss 1000
        -t mangle -A FORWARD -p tcp --dport 2 -j TCPMSS --clamp-mss-to-pmtu
        -t mangle -A FORWARD -p tcp --dport 3 -j TCPMSS --set-mss 40000
        -t mangle -A FORWARD -p tcp --dport 4 -j TCPMSS --set-mss 0
        -t mangle -A POSTROUTING -p tcp -m tcpmss --mss 1000
        -t mangle -A POSTROUTING -p tcp -m tcpmss ! --mss 0:1200
        -t mangle -A POSTROUTING -p tcp -m tcpmss --mss 1201:
        -t mangle -A POSTROUTING -p tcp -m length --length 0:60
    """)
    full = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]
    crowded = [("NOP", None)] * 40
    for port in range(1, 5):
        for options in (
            full,
            full[::-1],
            [("MSS", 500)],
            [],
            [("NOP", None)] * 4,
            [("MSS", 1460), ("MSS", 1200)],
            crowded,
        ):
            client.send(TCP(sport=9, dport=port, flags="S", options=options), to=server)
        client.send(TCP(sport=9, dport=port, flags="SA", options=full), to=server)
        client.send(TCP(sport=9, dport=port, flags="A", options=full), to=server)
        client.send(TCP(sport=9, dport=port, flags="A"), to=server)
        client.send(TCP(sport=9, dport=port, flags="S", options=full) / b"early", to=server)
        client.send(TCP(sport=9, dport=port, flags="S") / b"early", to=server)
        raw = bytearray(bytes(TCP(sport=9, dport=port, flags="S", dataofs=6)))
        for tail in (
            b"\x02\x04\x05",
            b"\x02\x00\x05\xb4",
            b"\x02\x03\x05\xb4",
            b"\x00\x02\x04\x05",
            b"\x02\x09\x05\xb4",
        ):
            client.send(client.packet(TCP(bytes(raw) + tail.ljust(4, b"\0")), to=server))


@scenario(families=(4, 6))
def hops_at_their_edges(node: Node) -> None:
    """TTL or HL at 0 and 255: what is raised stops at 255, what is lowered at 0, in PREROUTING before it falls."""
    client, server = node.router()
    hop, hops = ("HL", "hl") if node.family == 6 else ("TTL", "ttl")
    node.rules(f"""
        -t mangle -A PREROUTING -p udp --dport 1 -j {hop} --{hops}-inc 1
        -t mangle -A PREROUTING -p udp --dport 2 -j {hop} --{hops}-dec 1
        -t mangle -A PREROUTING -p udp --dport 3 -j {hop} --{hops}-set 1
        -t mangle -A PREROUTING -p udp --dport 4 -j {hop} --{hops}-set 0
        -t mangle -A PREROUTING -p udp --dport 5 -j {hop} --{hops}-inc 200
        -t mangle -A PREROUTING -p udp --dport 6 -j {hop} --{hops}-dec 100
        -t mangle -A POSTROUTING -p udp --dport 7 -j {hop} --{hops}-dec 63
        -t mangle -A INPUT -j {hop} --{hops}-set 9
        -A INPUT -m {hops} --{hops}-eq 9
        -A FORWARD -m {hops} --{hops}-lt 2
    """)
    for port in range(1, 8):
        for ttl in (1, 2, 64, 255):
            client.send(UDP(sport=9, dport=port), to=server, ttl=ttl)
    client.send(QUERY, to=node.address("eth0"))


@scenario(families=(4, 6))
def nflog_ranges(node: Node) -> None:
    """NFLOG --nflog-range, --nflog-size and --nflog-threshold: how much of a packet is told."""
    client, server = node.router()
    node.listen_to_log(1, 2, 3)
    node.rules("""
        -A FORWARD -j NFLOG --nflog-group 1 --nflog-size 30
        -A FORWARD -j NFLOG --nflog-group 2 --nflog-size 1000 --nflog-threshold 1
        -A FORWARD -j NFLOG --nflog-group 3 --nflog-range 30
        -A FORWARD -j NFLOG --nflog-group 3 --nflog-size 0
    """)
    client.send(UDP(sport=4000, dport=53) / bytes(100), to=server)


@scenario(families=(4, 6))
def reject_in_every_chain(node: Node) -> None:
    """REJECT of every type in INPUT, FORWARD and OUTPUT of filter, in a user chain, behind a jump and a goto."""
    types = (
        ("icmp-net-unreachable", "icmp-host-prohibited", "icmp-admin-prohibited")
        if node.family == 4
        else ("icmp6-no-route", "icmp6-policy-fail", "icmp6-reject-route")
    )
    node.rules(f"""
        -A INPUT -p udp -j inner
        -A INPUT -p tcp -j REJECT --reject-with tcp-reset
        -A FORWARD -p udp -g inner
        -A FORWARD -p tcp -j REJECT --reject-with tcp-reset
        -A OUTPUT -p udp -j REJECT --reject-with {types[2]}
        -A inner -p udp --dport 53 -j deeper
        -A inner -j REJECT --reject-with {types[1]}
        -A deeper -j REJECT --reject-with {types[0]}
    """)
    through_every_hook(node)


@scenario(families=(4, 6))
def notrack_in_every_chain(node: Node) -> None:
    """CT and NOTRACK in both chains of raw: forwarded, delivered and own packets untracked, and what answers them."""
    node.rules(
        """
        -t raw -A PREROUTING -i eth0 -p udp -j CT --notrack
        -t raw -A OUTPUT -p udp -j NOTRACK
        -t raw -A OUTPUT -p icmp -j CT --zone 3
        -A INPUT -m conntrack --ctstate UNTRACKED
        -A INPUT -m conntrack --ctstate NEW
        -A FORWARD -m conntrack --ctstate UNTRACKED
        -A FORWARD -m conntrack --ctstate NEW
        -A FORWARD -m conntrack --ctstate ESTABLISHED
        -A OUTPUT -m conntrack --ctstate UNTRACKED
        -A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED
        -A OUTPUT -m conntrack --ctstate NEW
    """.replace("-p icmp", "-p icmp" if node.family == 4 else "-p icmpv6")
    )
    through_every_hook(node)


@scenario(families=(4, 6))
def nat_in_every_chain(node: Node) -> None:
    """DNAT, REDIRECT and NETMAP at PREROUTING and OUTPUT; SNAT, MASQUERADE and NETMAP at POSTROUTING and INPUT."""
    client, server = node.router()
    vips, far, near, mapped, own = (
        ("10.96.0.0/24", "10.0.2.0/24", "10.0.1.0/24", "10.77.1.0/24", "10.0.1.9")
        if node.family == 4
        else ("fd00:96::/64", "fd00:2::/64", "fd00:1::/64", "fd00:77::/64", "fd00:1::9")
    )
    vip = "10.96.0.2" if node.family == 4 else "fd00:96::2"
    node.rules(f"""
        -t nat -A PREROUTING -d {vips} -p udp --dport 53 -j NETMAP --to {far}
        -t nat -A PREROUTING -d {vips} -p udp --dport 54 -j REDIRECT --to-ports 5400-5410
        -t nat -A PREROUTING -d {vips} -p tcp -j REDIRECT
        -t nat -A OUTPUT -d {vips} -p udp --dport 53 -j NETMAP --to {far}
        -t nat -A OUTPUT -d {vips} -p udp --dport 54 -j REDIRECT --to-ports 54
        -t nat -A INPUT -p udp --dport 5400:5410 -j SNAT --to-source {own}
        -t nat -A INPUT -p tcp -j NETMAP --to {mapped}
        -t nat -A POSTROUTING -s {near} -p udp --dport 53 -j NETMAP --to {mapped}
        -t nat -A POSTROUTING -o eth1 -p udp --dport 55 -j MASQUERADE --to-ports 1000
    """)
    node.listen("udp", 5400)
    node.listen("udp", 5401)
    request = client.send(QUERY, to=vip).only(server)
    server.send(reply(request, b"answer"))
    client.send(UDP(sport=4000, dport=54), to=vip)
    client.send(TCP(sport=4000, dport=80, flags="S"), to=vip)
    client.send(UDP(sport=4000, dport=55), to=server)
    node.send(server.packet(QUERY, to=vip, src=node.address("eth1")))
    node.send(server.packet(UDP(sport=1, dport=54), to=vip, src=node.address("eth1")))
