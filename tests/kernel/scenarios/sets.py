"""Sets of addresses and ports: every type, its options, and the target that fills them."""

from judge.node import BUILTIN, Node
from judge.scenario import scenario
from judge.talk import Peer, echo
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Raw

QUERY = UDP(sport=4000, dport=53) / b"query"


def inet(node: Node) -> str:
    return "inet" if node.family == 4 else "inet6"


def asked(node: Node, sets: str, *matches: str) -> tuple[Peer, Peer]:
    """A router with these sets and one counting rule per use of one."""
    node.ipset(sets)
    client, server = node.router()
    for match in matches:
        node.rules(f"-A FORWARD -m set {match}")
    return client, server


@scenario(families=(4, 6))
def counters_of_members(node: Node) -> None:
    """counters: a match counts the packet to its member, and may ask for what is counted, the packet included."""
    host = "10.0.2.2" if node.family == 4 else "fd00:2::2"
    client, server = asked(
        node,
        f"""
        create ips hash:ip family {inet(node)} counters
        add ips {host} packets 2 bytes 100
        """,
        "--match-set ips dst ! --update-counters",
        "--match-set ips dst --packets-eq 3",
        "--match-set ips dst ! --update-counters --packets-eq 3",
        "--match-set ips dst ! --update-counters ! --packets-eq 3",
        "--match-set ips dst ! --update-counters --packets-lt 5",
        "--match-set ips dst ! --update-counters --packets-gt 4",
        "--match-set ips dst ! --update-counters --bytes-lt 200",
        "--match-set ips dst ! --update-counters --bytes-gt 180 --packets-gt 3",
        "--match-set ips dst ! --update-counters --bytes-eq 133",
        "--match-set ips dst ! --update-counters ! --bytes-eq 133",
        "! --match-set ips dst ! --update-counters --packets-gt 4",
        "! --match-set ips dst",
        "--match-set ips src",
    )
    for size in (5, 50, 500, 0):
        client.send(UDP(sport=1, dport=2) / bytes(size), to=server)
    server.send(QUERY, to=client)


@scenario(families=(4, 6))
def counters_of_networks(node: Node) -> None:
    """counters with nomatch: the longest network that fits is counted, and what does not fit the test is passed over."""
    wide, near, host = (
        ("10.0.0.0/8", "10.0.2.0/24", "10.0.2.2") if node.family == 4 else ("fd00::/16", "fd00:2::/64", "fd00:2::2")
    )
    client, server = asked(
        node,
        f"""
        create nets hash:net family {inet(node)} counters
        add nets {wide}
        add nets {near} nomatch
        create more hash:net family {inet(node)} counters
        add more {wide} packets 7
        add more {near} packets 1
        add more {host}
        """,
        "--match-set nets dst",
        "--match-set nets dst --return-nomatch",
        "! --match-set nets dst --return-nomatch",
        "--match-set nets src --return-nomatch",
        "--match-set more dst --packets-gt 3",
        "--match-set more dst --packets-eq 1",
        "--match-set more dst ! --packets-eq 1",
    )
    for _ in range(3):
        client.send(QUERY, to=server)
    server.send(QUERY, to=client)


@scenario(families=(4, 6))
def lists_of_sets(node: Node) -> None:
    """list:set with counters: the list counts, and the member's set unless ! --update-subcounters."""
    here, there = ("10.0.1.2", "10.0.2.2") if node.family == 4 else ("fd00:1::2", "fd00:2::2")
    client, server = asked(
        node,
        f"""
        create first hash:ip family {inet(node)} counters
        add first {here}
        create second hash:ip,port family {inet(node)} counters
        add second {there},udp:53
        create both list:set size 8 counters
        add both first
        add both second
        create other list:set counters timeout 100
        add other second timeout 0
        add other first
        """,
        "--match-set both src",
        "--match-set both dst,dst",
        "--match-set both dst,dst ! --update-subcounters",
        "--match-set both dst,dst ! --update-counters",
        "--match-set both src --packets-gt 2",
        "--match-set other src,src",
        "--match-set other dst,dst --bytes-gt 100",
        "--match-set other dst",
    )
    for _ in range(3):
        client.send(QUERY, to=server)
    server.send(QUERY, to=client)
    server.send(UDP(sport=53, dport=1), to=client)


@scenario()
def members_that_expire(node: Node) -> None:
    """timeout: members with their own time, with the set's, and for ever; the target renews with --exist."""
    here, there = ("10.0.1.2", "10.0.2.2") if node.family == 4 else ("fd00:1::2", "fd00:2::2")
    node.ipset(f"""
        create ips hash:ip family {inet(node)} timeout 2
        add ips {there}
        add ips {here} timeout 0
        create renewed hash:ip family {inet(node)} timeout 2
        add renewed {there}
        create seen hash:ip,port family {inet(node)} timeout 0
        create own hash:ip family {inet(node)} timeout 60
    """)
    client, server = node.router()
    node.rules("""
        -A FORWARD -m set --match-set ips dst
        -A FORWARD -m set --match-set ips src
        -A FORWARD -m set --match-set renewed dst
        -A FORWARD -m set --match-set seen dst,dst
        -A FORWARD -m set --match-set own dst
        -A FORWARD -j SET --add-set renewed dst --exist --timeout 4
        -A FORWARD -j SET --add-set seen dst,dst
        -A FORWARD -j SET --add-set own dst --timeout 1
    """)
    client.send(QUERY, to=server)
    node.wait(0.5)
    client.send(QUERY, to=server)
    node.wait(1.8)
    client.send(QUERY, to=server)
    server.send(QUERY, to=client)


@scenario()
def set_that_is_full(node: Node) -> None:
    """maxelem: nothing is added to a full set, unless a member has expired."""
    client, server = asked(
        node,
        f"""
        create full hash:ip,port family {inet(node)} hashsize 64 maxelem 2
        create short hash:ip,port family {inet(node)} hashsize 64 maxelem 1 timeout 1
        """,
        "--match-set full dst,dst",
        "--match-set short dst,dst",
    )
    node.rules("""
        -A FORWARD -j SET --add-set full dst,dst
        -A FORWARD -j SET --add-set short dst,dst
    """)
    for port in (1, 2, 3, 1, 2, 3):
        client.send(UDP(sport=9, dport=port), to=server)
    node.wait(2.2)
    for port in (3, 3):  # a bucket that something has left takes more than the set does
        client.send(UDP(sport=9, dport=port), to=server)


@scenario(families=(4, 6))
def target_fills_every_type(node: Node) -> None:
    """SET --add-set and --del-set: what of a packet becomes a member of each type; a network is as long as the longest."""
    here, there, near = (
        ("10.0.1.2", "10.0.2.2", "10.0.9.0/28") if node.family == 4 else ("fd00:1::2", "fd00:2::2", "fd00:9::/80")
    )
    node.ipset(f"""
        create a hash:ip family {inet(node)}
        create b hash:net family {inet(node)}
        create c hash:ip,port family {inet(node)}
        create d hash:net,port family {inet(node)}
        create e hash:ip,port,ip family {inet(node)}
        create f hash:ip,port,net family {inet(node)}
        create g bitmap:port range 1-1023
        create h list:set
        create i hash:net family {inet(node)}
        add i {near}
        create k hash:ip family {inet(node)} counters timeout 10
        add h a
        create m hash:ip family {inet(node)} netmask {"24" if node.family == 4 else "64"}
    """)
    client, server = node.router()
    uses = {
        "a": "src",
        "b": "src",
        "c": "dst,dst",
        "d": "src,dst",
        "e": "src,dst,dst",
        "f": "dst,src,src",
        "g": "dst",
        "h": "src",
        "i": "dst",
        "k": "dst",
        "m": "dst",
    }
    for name, directions in uses.items():
        node.rules(f"-A FORWARD -m set --match-set {name} {directions}")
        node.rules(f"-A FORWARD -m set ! --match-set {name} {directions}")
    for name, directions in uses.items():
        node.rules(f"-A FORWARD -p udp --dport 53 -j SET --add-set {name} {directions}")
        node.rules(f"-A FORWARD -p udp --dport 99 -j SET --del-set {name} {directions}")
    node.rules("-A FORWARD -p tcp -j SET --add-set c dst,dst --del-set a src")
    client.send(QUERY, to=server)
    client.send(QUERY, to=server)
    client.send(TCP(sport=4000, dport=53), to=server)
    client.send(echo(node.family), to=server)
    client.send(UDP(sport=4000, dport=99), to=server)
    client.send(QUERY, to=server)
    client.send(SCTP(sport=4000, dport=53) / SCTPChunkInit(), to=server)
    client.send(UDP(sport=4000, dport=2000), to=server)


@scenario(families=(4, 6))
def protocols_of_members(node: Node) -> None:
    """hash:ip,port: TCP, UDP, UDP-Lite and SCTP ports, ICMP's type and code, and other protocols with port 0."""
    there = "10.0.2.2" if node.family == 4 else "fd00:2::2"
    icmp = "icmp:echo-request" if node.family == 4 else "icmpv6:echo-request"
    client, server = asked(
        node,
        f"""
        create a hash:ip,port family {inet(node)}
        add a {there},tcp:53
        add a {there},udp:54
        add a {there},udplite:55
        add a {there},sctp:56
        add a {there},{icmp}
        add a {there},gre:0
        add a {there},253:0
        """,
        "--match-set a dst,dst",
        "--match-set a dst,src",
    )
    for port in (53, 54, 55, 56):
        client.send(TCP(sport=1, dport=port), to=server)
        client.send(UDP(sport=1, dport=port), to=server)
        client.send(Raw(bytes(UDP(sport=1, dport=port, len=8, chksum=1))), to=server, proto=136)
        client.send(SCTP(sport=1, dport=port) / SCTPChunkInit(), to=server)
    client.send(echo(node.family), to=server)
    if node.family == 4:
        client.send(ICMP(type=8, code=1), to=server)
        client.send(ICMP(type=13), to=server)
    client.send(Raw(bytes(8)), to=server, proto=47)
    client.send(Raw(bytes(8)), to=server, proto=253)
    client.send(Raw(bytes(8)), to=server, proto=254)


@scenario(families=(4, 6))
def mark_of_a_member(node: Node) -> None:
    """SET --map-set: a member's skbinfo gives the packet its mark, within a mask; priority and queue change nothing."""
    here, there, near = (
        ("10.0.1.2", "10.0.2.2", "10.0.0.0/8") if node.family == 4 else ("fd00:1::2", "fd00:2::2", "fd00::/16")
    )
    node.ipset(f"""
        create ips hash:ip family {inet(node)} skbinfo
        add ips {there} skbmark 0x1234/0xff00 skbprio 1:10 skbqueue 3
        add ips {here} skbmark 0x7
        create nets hash:net family {inet(node)} skbinfo counters timeout 100
        add nets {near} skbmark 0xf0000/0xf0000 timeout 0
        add nets {there} nomatch
        create ports bitmap:port range 0-1023 skbinfo
        add ports 53 skbmark 0x55/0xff
        add ports 54
        create plain hash:ip family {inet(node)}
        add plain {there}
        create list list:set skbinfo
        add list ips skbmark 0x9
        create list2 list:set
        add list2 ips
    """)
    client, server = node.router()
    node.rules("""
        -t mangle -A PREROUTING -j MARK --set-mark 0xabcd
        -t mangle -A PREROUTING -p udp --dport 1 -j SET --map-set ips dst --map-mark
        -t mangle -A PREROUTING -p udp --dport 2 -j SET --map-set ips src --map-mark
        -t mangle -A PREROUTING -p udp --dport 3 -j SET --map-set nets src --map-mark
        -t mangle -A PREROUTING -p udp --dport 4 -j SET --map-set nets dst --map-mark
        -t mangle -A PREROUTING -p udp -j SET --map-set ports dst --map-mark
        -t mangle -A PREROUTING -p udp --dport 6 -j SET --map-set plain dst --map-mark
        -t mangle -A PREROUTING -p udp --dport 7 -j SET --map-set list dst --map-mark
        -t mangle -A PREROUTING -p udp --dport 8 -j SET --map-set list2 dst --map-mark
        -t mangle -A FORWARD -p udp --dport 9 -j SET --map-set ips dst --map-mark --map-prio --map-queue
        -t mangle -A FORWARD -p udp --dport 10 -j SET --map-set ips dst --map-prio
        -t mangle -A FORWARD -p udp --dport 11 -j SET --add-set plain src --map-set ips src --map-mark --exist
    """)
    for mark in ("0xabcd", "0x12cd", "0x7", "0xfabcd", "0xab55", "0x9", "0xabcd/0xffff"):
        node.rules(f"-A FORWARD -m mark --mark {mark}")
    for port in (*range(1, 12), 53, 54):
        client.send(UDP(sport=9, dport=port), to=server)


@scenario(families=(4, 6))
def masks_of_sets(node: Node) -> None:
    """netmask and bitmask: which bits of an address count."""
    there = "10.0.2.2" if node.family == 4 else "fd00:2::2"
    short, holes = ("24", "255.0.0.255") if node.family == 4 else ("64", "ffff::ff")
    client, server = asked(
        node,
        f"""
        create cut hash:ip family {inet(node)} netmask {short}
        add cut {there}
        create port hash:ip,port family {inet(node)} netmask {short}
        add port {there},udp:53
        create holes hash:ip family {inet(node)} bitmask {holes}
        add holes {there}
        create both hash:ip,port family {inet(node)} bitmask {holes}
        add both {there},udp:53
        """,
        "--match-set cut dst",
        "--match-set port dst,dst",
        "--match-set holes dst",
        "--match-set both dst,dst",
    )
    other = node.peer("eth1", "10.0.2.9" if node.family == 4 else "fd00:2::9")
    for peer in (server, other):
        client.send(QUERY, to=peer)
        peer.send(QUERY, to=client)


@scenario()
def sets_that_do_not_fit(node: Node) -> None:
    """Too few directions match nothing, too many do; in a list each set that fits is asked."""
    client, server = asked(
        node,
        """
        create ports bitmap:port range 50-60
        add ports 53
        create pairs hash:ip,port
        add pairs 10.0.2.2,udp:53
        create list list:set
        add list pairs
        create names list:set
        add names ports
        """,
        "--match-set ports dst,dst",
        "--match-set ports src",
        "--match-set pairs dst",
        "! --match-set pairs dst",
        "--match-set pairs dst,dst,dst",
        "--match-set list dst",
        "--match-set list dst,dst",
        "--match-set names dst",
    )
    client.send(QUERY, to=server)
    client.send(UDP(sport=1, dport=49), to=server)


@scenario(families=(4, 6))
def sets_in_every_chain(node: Node) -> None:
    """set and SET in every chain of every table: forwarded, delivered and own packets."""
    there = "10.0.2.2" if node.family == 4 else "fd00:2::2"
    node.ipset(f"""
        create ips hash:ip family {inet(node)} counters
        add ips {there}
        create made hash:ip,port,ip family {inet(node)} counters
    """)
    client, server = node.router()
    for table, chains in BUILTIN.items():
        for chain in chains:
            node.rules(f"-t {table} -A {chain} -m set --match-set ips dst")
            node.rules(f"-t {table} -A {chain} -m set --match-set made src,src,dst")
            node.rules(f"-t {table} -A {chain} -j SET --add-set made src,src,dst")
    client.send(QUERY, to=server)
    client.send(QUERY, to=node.address("eth0"))
    client.send(echo(node.family), to=node.address("eth0"))
    node.send(server.packet(QUERY, to=server, src=node.address("eth1")))
