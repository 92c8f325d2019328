"""Every match in every chain of every table where it may stand: what each hook sees of a packet."""

from judge.node import BUILTIN, Node
from judge.scenario import scenario
from judge.talk import echo, reply
from scapy.layers.inet import TCP, UDP
from scapy.layers.sctp import SCTP, SCTPChunkInit

QUERY = UDP(sport=4000, dport=53) / b"query"
VIP = {4: "10.96.0.10", 6: "fd00:96::a"}
# Of these only some chains know.
INCOMING = ("PREROUTING", "INPUT", "FORWARD")
OUTGOING = ("FORWARD", "OUTPUT", "POSTROUTING")


def everywhere(node: Node, *matches: str, chains: tuple[str, ...] = (), tables: tuple[str, ...] = ()) -> None:
    for table, names in BUILTIN.items():
        for chain in names:
            if (not chains or chain in chains) and (not tables or table in tables):
                for match in matches:
                    node.rules(f"-t {table} -A {chain} {match}")


def translate(node: Node) -> None:
    """A virtual address for UDP, behind the node's own."""
    server = "10.0.2.2" if node.family == 4 else "[fd00:2::2]"
    node.rules(f"-t nat -A PREROUTING -d {VIP[node.family]} -p udp -j DNAT --to-destination {server}:5353")
    node.rules("-t nat -A POSTROUTING -o eth1 -p udp --dport 5353 -j MASQUERADE")


def traffic(node: Node) -> None:
    """Translated, answered, complained about, delivered, refused, forwarded, and of the node's own."""
    client, server = node.router()
    request = client.send(QUERY, to=VIP[node.family], tos=0x28).only(server)
    server.send(reply(request, b"an answer"))
    server.complain("port unreachable", request)
    client.send(QUERY, to=node.address("eth0"))
    client.send(echo(node.family), to=node.address("eth0"))
    client.send(TCP(sport=4000, dport=80, flags="S", options=[("MSS", 1460)]), to=server)
    client.send(SCTP(sport=4000, dport=80) / SCTPChunkInit(init_tag=1), to=server)
    node.send(server.packet(QUERY, to=server, src=node.address("eth1")))


@scenario(families=(4, 6))
def addresses_and_headers(node: Node) -> None:
    """Addresses, protocols, ports, flags, lengths, hops, fields, ranges and words of the packet."""
    icmp, hops = ("icmp", "ttl") if node.family == 4 else ("icmpv6", "hl")
    kind = "--icmp-type 8" if node.family == 4 else "--icmpv6-type 128"
    near, span, word = (
        ("10.0.1.0/24", "10.0.2.1-10.0.2.5", "20") if node.family == 4 else ("fd00:1::/64", "fd00:2::1-fd00:2::5", "40")
    )
    everywhere(
        node,
        f"-s {near}",
        f"! -d {near}",
        "-p udp --dport 5353",
        "-p tcp --syn",
        "-p tcp --tcp-option 2",
        "-p tcp -m tcpmss --mss 1400:1500",
        "-p sctp --chunk-types any INIT",
        f"-p {icmp} {kind}",
        "-p udp -m multiport --ports 53,4000",
        "-m length --length 33:60",
        f"-m {hops} --{hops}-gt 63",
        "-m tos --tos 0x28",
        "-m dscp --dscp-class AF11",
        f"-m iprange --dst-range {span}",
        f'-m u32 --u32 "{word}>>16=4000"',
        "-m comment --comment everywhere",
    )
    translate(node)
    traffic(node)


@scenario(families=(4, 6))
def connections(node: Node) -> None:
    """States, tuples, status, marks, labels and counts of the connection, before it is known, translated and entered."""
    here = "10.0.1.2" if node.family == 4 else "fd00:1::2"
    everywhere(
        node,
        "-m conntrack --ctstate NEW",
        "-m conntrack --ctstate RELATED,ESTABLISHED",
        "-m conntrack --ctstate INVALID,UNTRACKED",
        "-m conntrack --ctstate DNAT,SNAT",
        f"-m conntrack --ctorigsrc {here} --ctdir ORIGINAL",
        "-m conntrack --ctreplsrcport 5353",
        "-m conntrack --ctstatus CONFIRMED",
        "-m conntrack --ctstatus SEEN_REPLY --ctexpire 1:40",
        "-m state --state NEW",
        "-m connmark --mark 0x1/0x1",
        "-m connbytes --connbytes 1 --connbytes-dir both --connbytes-mode packets",
        "-m connlabel --label 3",
    )
    node.rules("-t mangle -A FORWARD -j CONNMARK --set-mark 0x1")
    node.rules("-t mangle -A FORWARD -m connlabel --label 3 --set")
    translate(node)
    traffic(node)


@scenario(families=(4, 6))
def memories(node: Node) -> None:
    """limit, hashlimit, recent, statistic and quotas of them: each rule by itself, in every chain."""
    for table, chains in BUILTIN.items():
        for chain in chains:
            name = f"{table}{chain}"[:14]
            node.rules(f"""
                -t {table} -A {chain} -m limit --limit 1/hour --limit-burst 2
                -t {table} -A {chain} -m statistic --mode nth --every 2 --packet 1
                -t {table} -A {chain} -m hashlimit --hashlimit-upto 1/hour --hashlimit-mode srcip --hashlimit-name {name}
                -t {table} -A {chain} -m recent --rcheck --hitcount 2 --name {name} --rsource
                -t {table} -A {chain} -m recent --set --name {name} --rsource
            """)
    translate(node)
    traffic(node)


@scenario(families=(4, 6))
def interfaces_and_routes(node: Node) -> None:
    """Interfaces, kinds of frames, types of addresses, the way back, sockets, marks."""
    everywhere(node, "-i eth0", "! -i eth1", "-m addrtype --src-type LOCAL", chains=INCOMING)
    everywhere(node, "-o eth1", "! -o eth0", "-o lo", chains=OUTGOING)
    everywhere(node, "-m mac --mac-source 02:00:00:01:01:02", chains=INCOMING)
    everywhere(node, "-m addrtype --dst-type LOCAL --limit-iface-in", chains=("PREROUTING", "INPUT"))
    everywhere(node, "-m addrtype --src-type LOCAL --limit-iface-out", chains=("OUTPUT", "POSTROUTING"))
    everywhere(
        node,
        "-m addrtype --dst-type LOCAL",
        "-m addrtype ! --src-type UNICAST",
        "-m pkttype --pkt-type unicast",
        "-m mark --mark 0x4",
        "-m mark ! --mark 0x4/0x4",
    )
    everywhere(node, "-m rpfilter", "-m rpfilter --invert", chains=("PREROUTING",), tables=("raw", "mangle"))
    everywhere(node, "-m socket --nowildcard", chains=("PREROUTING", "INPUT"), tables=("mangle",))
    node.rules("-t mangle -A PREROUTING -p udp -j MARK --set-mark 0x4")
    node.rules("-t mangle -A OUTPUT -p udp -j MARK --set-mark 0x5")
    translate(node)
    traffic(node)


@scenario(families=(4, 6))
def verdicts(node: Node) -> None:
    """RETURN, jumps and gotos to a chain of each table, ACCEPT of one protocol, from every built-in chain."""
    translate(node)
    for table, chains in BUILTIN.items():
        node.rules(f"-t {table} -A inner -p udp -j RETURN")
        node.rules(f"-t {table} -A inner -p tcp -j ACCEPT")
        node.rules(f"-t {table} -A inner -m mark --mark 0")
        node.rules(f"-t {table} -A outer -j inner")
        node.rules(f"-t {table} -A outer -p sctp -g inner")
        for chain in chains:
            node.rules(f"-t {table} -A {chain} -p tcp -g outer")
            node.rules(f"-t {table} -A {chain} -j outer")
            node.rules(f"-t {table} -A {chain} -p udp -j RETURN")
            node.rules(f"-t {table} -A {chain} -m mark --mark 0")
    traffic(node)
