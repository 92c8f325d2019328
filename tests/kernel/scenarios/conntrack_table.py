"""The table of connections: when an entry begins, what it bears, who sees it, and when it ends."""

from judge.choices import PORT
from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, Talk, echo, icmp_error, network, reply
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from scenarios.conntrack_tcp import COUNT_STATES, timeouts

DNS = UDP(sport=40000, dport=53) / b"query"
STATES = ("INVALID", "NEW", "ESTABLISHED", "RELATED", "UNTRACKED", "SNAT", "DNAT")


def counting(*places: str) -> str:
    """A rule for each state in each place (`-t TABLE -A CHAIN`)."""
    return "\n".join(f"{place} -m conntrack --ctstate {state}" for place in places for state in STATES)


def own(node: Node, interface: str, to: str, payload: Packet) -> Packet:
    here = node.address(interface)
    return (IP(src=here, dst=to, id=5) if node.family == 4 else IPv6(src=here, dst=to)) / payload


@scenario(families=(4, 6))
def states_in_every_chain_of_a_forwarded_flow(node: Node) -> None:
    """Before tracking (raw) every packet is INVALID to a rule; SNAT and DNAT show from their hook on."""
    client, server = node.router()
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    node.rules(f"-t nat -A PREROUTING -d {vip} -j DNAT --to-destination {server.ip}")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    node.rules(
        counting(
            "-t raw -A PREROUTING",
            "-t mangle -A PREROUTING",
            "-t mangle -A FORWARD",
            "-A FORWARD",
            "-t security -A FORWARD",
            "-t mangle -A POSTROUTING",
        )
    )
    request = client.send(DNS, to=vip).only(server)
    server.send(reply(request, b"answer")).only(client)
    client.send(DNS, to=vip).only(server)
    server.complain("port unreachable", request)


@scenario(families=(4, 6))
def states_in_every_chain_of_the_node_itself(node: Node) -> None:
    """The node asks and is asked: states in INPUT and OUTPUT of every table."""
    _, server = node.router()
    node.listen("udp", 40000)
    node.rules(
        counting(
            "-t raw -A OUTPUT",
            "-t mangle -A OUTPUT",
            "-A OUTPUT",
            "-t security -A OUTPUT",
            "-t mangle -A INPUT",
            "-A INPUT",
            "-t security -A INPUT",
        )
    )
    question = node.send(own(node, "eth1", server.ip, DNS)).only(server)
    server.send(reply(question, b"answer"))
    server.send(UDP(sport=9, dport=9) / b"x", to=node.address("eth1"))


@scenario(families=(4, 6))
def entry_of_a_packet_to_a_closed_port(node: Node) -> None:
    """A datagram to a closed port is confirmed at INPUT; the port unreachable is RELATED at OUTPUT."""
    client, _ = node.router()
    node.rules(counting("-A INPUT", "-A OUTPUT"))
    client.send(DNS, to=node.address("eth0")).only(client)


@scenario(families=(4, 6))
def entry_of_a_packet_dropped_at_input(node: Node) -> None:
    """Dropped at INPUT, or in mangle POSTROUTING: no entry."""
    client, server = node.router()
    node.rules(counting("-A INPUT"))
    node.rules("-A INPUT -p udp --dport 53 -j DROP\n-t mangle -A POSTROUTING -p udp --dport 54 -j DROP")
    client.send(DNS, to=node.address("eth0"))
    client.send(UDP(sport=40000, dport=54) / b"x", to=server)


@scenario(families=(4, 6))
def entry_of_a_packet_without_a_way(node: Node) -> None:
    """No route, or a neighbour that is not known: the first leaves no entry, the second was confirmed before."""
    client, _ = node.router()
    node.rules(COUNT_STATES)
    client.send(DNS, to="203.0.113.1" if node.family == 4 else "2001:db8::1")
    client.send(DNS, to="10.0.2.99" if node.family == 4 else "fd00:2::99")


@scenario()
def flow_over_loopback_is_tracked_once(node: Node) -> None:
    """A packet of the node to itself: tracked at OUTPUT, met again at PREROUTING with its connection."""
    node.router()
    node.listen("udp", 53)
    node.rules(counting("-A OUTPUT", "-A INPUT"))
    node.send(own(node, "eth0", node.address("eth1"), DNS))
    node.send(own(node, "eth0", node.address("eth1"), DNS))


@scenario()
def flow_over_loopback_is_answered(node: Node) -> None:
    """A ping of the node to itself: request and reply are one connection, seen in both hooks."""
    node.router()
    node.rules(counting("-A OUTPUT", "-A INPUT"))
    node.send(own(node, "eth0", node.address("eth1"), echo(4)))


@scenario(families=(4, 6))
def accounting(node: Node) -> None:
    """nf_conntrack_acct=1: packets and bytes of each direction, without link headers; INVALID counts nowhere."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    talk = Talk(client, server)
    talk.open()
    talk.client("PA", bytes(1000))
    talk.server("A")
    talk.client("PA", b"far", seq=talk.client_seq + 10_000_000)
    request = client.send(DNS, to=server).only(server)
    server.send(reply(request, bytes(1200)))
    server.complain("port unreachable", request)


@scenario()
def accounting_off(node: Node) -> None:
    """nf_conntrack_acct=0: no counters, and connbytes turns it on for flows that begin after its rule."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    node.sysctl("net.netfilter.nf_conntrack_acct = 0")
    request = client.send(DNS, to=server).only(server)
    server.send(reply(request, b"answer"))


@scenario()
def timestamps(node: Node) -> None:
    """nf_conntrack_timestamp=1: how long a connection has lived."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    node.sysctl("net.netfilter.nf_conntrack_timestamp = 1")
    request = client.send(DNS, to=server).only(server)
    node.wait(1.2)
    server.send(reply(request, b"answer"))
    Talk(client, server).open()


@scenario(families=(4, 6))
def mark_of_a_connection(node: Node) -> None:
    """CONNMARK on the first packet stays with the connection, through NAT, answers and errors."""
    client, server = node.router()
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    node.rules(f"""
        -t nat -A PREROUTING -d {vip} -j DNAT --to-destination {server.ip}
        -t mangle -A PREROUTING -i eth0 -m conntrack --ctstate NEW -j CONNMARK --set-xmark 0x5/0xff
        -t mangle -A PREROUTING -i eth1 -j CONNMARK --set-xmark 0x100/0
        -A FORWARD -m connmark --mark 0x5
        -A FORWARD -m connmark --mark 0x105
    """)
    request = client.send(DNS, to=vip).only(server)
    server.send(reply(request, b"answer"))
    server.complain("port unreachable", request)
    client.send(DNS, to=vip)


@scenario()
def mark_of_a_dropped_connection(node: Node) -> None:
    """A mark set on a packet that is dropped later is lost with its connection."""
    client, server = node.router()
    node.rules("""
        -t mangle -A PREROUTING -j CONNMARK --set-mark 0x7
        -A FORWARD -p udp --dport 53 -m connmark --mark 0x7 -m statistic --mode nth --every 2 --packet 0 -j DROP
        -A FORWARD -m connmark ! --mark 0x7
    """)
    client.send(DNS, to=server)
    client.send(DNS, to=server)


@scenario()
def mark_after_the_ports_are_used_again(node: Node) -> None:
    """A SYN in TIME_WAIT makes a connection without the mark of the old one."""
    client, server = node.router()
    node.rules("-t mangle -A FORWARD -p tcp -m length --length 50: -j CONNMARK --set-mark 0x7")
    talk = Talk(client, server)
    talk.open()
    talk.client("PA", bytes(50))
    talk.server("A")
    talk.client("FA")
    talk.server("FA")
    talk.client("A")
    talk.client("S", seq=9_000_000)


@scenario(families=(4, 6))
def labels_of_a_connection(node: Node) -> None:
    """connlabel: a label that a rule sets stays with the connection; the first packet that sets it bears it already."""
    client, server = node.router()
    node.rules("""
        -A FORWARD -m connlabel --label 5
        -A FORWARD -p udp --dport 53 -m length --length 80: -m connlabel --label 5 --set
        -A FORWARD -m connlabel --label 5
        -A FORWARD -m connlabel ! --label 5
        -A FORWARD -p udp --sport 53 -m connlabel --label 127 --set
        -A FORWARD -m connlabel --label 127
        -A FORWARD -m connlabel ! --label 0 --set
        -A FORWARD -m connlabel --label 0
    """)
    request = client.send(DNS, to=server).only(server)
    client.send(UDP(sport=40000, dport=53) / bytes(80), to=server)
    server.send(reply(request, b"answer"))
    client.send(UDP(sport=40001, dport=53) / b"other", to=server)
    client.send(UDP(sport=40002, dport=53, chksum=0xBAD) / b"invalid", to=server)
    server.complain("port unreachable", request)


@scenario()
def reject_closes_a_connection(node: Node) -> None:
    """tcp-reset of a packet in ESTABLISHED: the connection is CLOSE at once, for the node resets it itself."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    node.rules("-A FORWARD -p tcp -m length --length 90:99 -j REJECT --reject-with tcp-reset")
    talk = Talk(client, server)
    talk.open()
    talk.client("PA", bytes(54))
    talk.server("A")
    talk.client("PA", bytes(54))


@scenario()
def reject_of_a_syn_leaves_nothing(node: Node) -> None:
    """tcp-reset of a SYN: the reset belongs to the connection that never came to be."""
    client, server = node.router()
    node.rules(COUNT_STATES + counting("-A OUTPUT"))
    node.rules("-A FORWARD -p tcp --dport 80 -j REJECT --reject-with tcp-reset")
    client.send(TCP(sport=40000, dport=80, flags="S", seq=5), to=server).only(client)


@scenario(families=(4, 6))
def two_protocols_on_the_same_ports(node: Node) -> None:
    """TCP and UDP of the same ports, ICMP of the same number: one entry each."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    client.send(UDP(sport=7, dport=7) / b"x", to=server)
    client.send(TCP(sport=7, dport=7, flags="S"), to=server)
    client.send(echo(node.family), to=server)


@scenario()
def both_families_have_their_own_connections(node: Node) -> None:
    """IPv4 and IPv6 side by side; rules of one family alone make only that one tracked."""
    node.dual()
    node.port("eth0", "10.0.1.1/24", "fd00:1::1/64")
    node.port("eth1", "10.0.2.1/24", "fd00:2::1/64")
    client, server = node.peer("eth0", "10.0.1.2"), node.peer("eth1", "10.0.2.2")
    client6, server6 = node.peer("eth0", "fd00:1::2"), node.peer("eth1", "fd00:2::2")
    node.rules("-A FORWARD -m conntrack --ctstate NEW", family=4)
    node.rules("-A FORWARD -p udp", family=6)
    client.send(DNS, to=server)
    client6.send(DNS, to=server6)


@scenario()
def tracking_asked_for_by_each_kind_of_rule(node: Node) -> None:
    """connmark alone makes the node track, as conntrack, state, connbytes and a nat table do."""
    client, server = node.router()
    node.rules("-A FORWARD -m connmark --mark 1")
    client.send(DNS, to=server)


@scenario()
def tracking_asked_for_by_a_target(node: Node) -> None:
    """CONNMARK in an unused chain is enough."""
    client, server = node.router()
    node.rules("-t mangle -N NOBODY\n-t mangle -A NOBODY -j CONNMARK --set-mark 1")
    client.send(DNS, to=server)


@scenario()
def tracking_asked_for_by_notrack(node: Node) -> None:
    """NOTRACK alone makes the node track everything else."""
    client, server = node.router()
    node.rules("-t raw -A PREROUTING -p udp --dport 53 -j NOTRACK")
    client.send(DNS, to=server)
    client.send(UDP(sport=1, dport=2) / b"x", to=server)


@scenario()
def one_expires_while_another_lives(node: Node) -> None:
    """Timeouts are of each entry: what is renewed lives on."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    node.sysctl("net.netfilter.nf_conntrack_udp_timeout = 2")
    client.send(UDP(sport=1, dport=53) / b"a", to=server)
    client.send(UDP(sport=2, dport=53) / b"b", to=server)
    node.wait(1.3)
    client.send(UDP(sport=2, dport=53) / b"b", to=server)
    node.wait(1.3)
    client.send(UDP(sport=1, dport=53) / b"a", to=server)


@scenario()
def expired_mapping_frees_its_port(node: Node) -> None:
    """After the first client's flow has expired the second keeps the port."""
    client, server = node.router()
    second = node.peer("eth0", "10.0.1.3")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    node.sysctl("net.netfilter.nf_conntrack_udp_timeout = 1")
    client.send(DNS, to=server).only(server)
    node.wait(1.5)
    assert second.send(DNS, to=server).only(server)[UDP].sport == 40000


@scenario(random="the port of the second client")
def established_mapping_holds_its_port(node: Node) -> None:
    """The same while it lives: every other client moves; back and forth, nobody gets another's answers."""
    client, server = node.router()
    second = node.peer("eth0", "10.0.1.3")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    first = Talk(client, server)
    first.open()
    other = Talk(second, server)
    moved = other.client("S").only(server)
    node.chose(PORT, moved[TCP].sport)
    other.server("SA").only(second)
    other.client("A")
    first.client("PA", b"mine")
    first.server("PA", b"yours").only(client)
    other.server("PA", b"his").only(second)


@scenario()
def closed_by_timeout_then_mid_stream(node: Node) -> None:
    """An idle connection expires; its next segment is picked up as a new one (and translated by the rules anew)."""
    client, server = node.router()
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    timeouts(node, established=1)
    talk = Talk(client, server)
    talk.open()
    node.wait(1.5)
    talk.client("PA", b"still there?")
    talk.server("A")


@scenario()
def masqueraded_flow_that_leaves_another_way(node: Node) -> None:
    """A masqueraded flow whose packets leave by another interface is dropped and forgotten."""
    client, server = node.router()
    node.port("eth2", "10.0.3.1/24")
    other = node.peer("eth2", "10.0.3.2")
    node.ip("""
        route add 203.0.113.0/24 via 10.0.2.2
        route add 203.0.113.0/24 via 10.0.3.2 table 7
        rule add fwmark 7 lookup 7
    """)
    node.rules("""
        -t nat -A POSTROUTING -p udp -j MASQUERADE
        -t mangle -A PREROUTING -i eth0 -m length --length 100: -j MARK --set-mark 7
    """)
    assert network(client.send(DNS, to="203.0.113.1").only(server)).src == "10.0.2.1"
    client.send(UDP(sport=40000, dport=53) / bytes(100), to="203.0.113.1")
    client.send(UDP(sport=40000, dport=53) / bytes(100), to="203.0.113.1").only(other)


@scenario()
def translated_flow_that_leaves_another_way(node: Node) -> None:
    """With SNAT to a given address the way does not matter."""
    client, server = node.router()
    node.port("eth2", "10.0.3.1/24")
    other = node.peer("eth2", "10.0.3.2")
    node.ip("""
        route add 203.0.113.0/24 via 10.0.2.2
        route add 203.0.113.0/24 via 10.0.3.2 table 7
        rule add fwmark 7 lookup 7
    """)
    node.rules("""
        -t nat -A POSTROUTING -p udp -j SNAT --to-source 198.51.100.1
        -t mangle -A PREROUTING -i eth0 -m length --length 100: -j MARK --set-mark 7
    """)
    client.send(DNS, to="203.0.113.1").only(server)
    client.send(UDP(sport=40000, dport=53) / bytes(100), to="203.0.113.1").only(other)


def bridged(node: Node) -> list[Peer]:
    node.bridge_device("cni0", "10.0.1.1/24")
    for port in ("one", "two", "three"):
        node.port(port, master="cni0")
    return [node.peer(port, f"10.0.1.{last}", at="cni0") for last, port in enumerate(("one", "two", "three"), start=2)]


@scenario()
def flooded_broadcast_is_one_connection(node: Node) -> None:
    """A broadcast on a bridge with netfilter goes to the node and two ports: one connection, confirmed by the first."""
    one, _, _ = bridged(node)
    node.rules(COUNT_STATES)
    frame = Ether(src=one.mac, dst="ff:ff:ff:ff:ff:ff") / IP(src=one.ip, dst="10.0.1.255", id=7) / DNS
    one.send(frame)
    one.send(frame)


@scenario()
def broadcast_to_a_bridge_of_one_port(node: Node) -> None:
    """A broadcast that goes up alone is entered before INPUT, even if INPUT drops it."""
    node.bridge_device("cni0", "10.0.1.1/24")
    node.port("one", master="cni0")
    one = node.peer("one", "10.0.1.2", at="cni0")
    node.rules(COUNT_STATES + "-A INPUT -p udp --dport 53 -j DROP")
    one.send(Ether(src=one.mac, dst="ff:ff:ff:ff:ff:ff") / IP(src=one.ip, dst="10.0.1.255", id=7) / DNS)
    one.send(Ether(src=one.mac, dst="ff:ff:ff:ff:ff:ff") / IP(src=one.ip, dst="10.0.1.1", id=7) / DNS)


@scenario()
def flooded_unknown_unicast_is_one_connection(node: Node) -> None:
    """A frame to a MAC address that nobody has learnt, with NAT set up: its copies are one connection."""
    one, _, _ = bridged(node)
    node.rules(COUNT_STATES + "-t nat -A POSTROUTING -p udp --dport 53 -j SNAT --to-source 10.0.1.99")
    one.send(Ether(src=one.mac, dst="02:00:00:00:77:77") / IP(src=one.ip, dst="10.0.1.77", id=7) / DNS)


@scenario()
def bridged_answer_belongs_to_its_flow(node: Node) -> None:
    """Question and answer across a bridge with netfilter."""
    one, two, _ = bridged(node)
    node.rules(COUNT_STATES)
    question = IP(src=one.ip, dst=two.ip, id=7) / DNS
    one.send(Ether(src=one.mac, dst=two.mac) / question)
    two.send(Ether(src=two.mac, dst=one.mac) / reply(question, b"answer"))


@scenario()
def error_about_the_nodes_own_flow(node: Node) -> None:
    """An error about the node's own datagram is RELATED at INPUT."""
    _, server = node.router()
    node.rules(counting("-A INPUT"))
    question = node.send(own(node, "eth1", server.ip, DNS)).only(server)
    server.complain("port unreachable", question)
    server.send(icmp_error("host unreachable", question), to=node.address("eth0"))


@scenario()
def expiry_as_rules_see_it(node: Node) -> None:
    """--ctexpire: seconds left, 0 before an entry is confirmed."""
    client, server = node.router()
    node.rules("""
        -A FORWARD -m conntrack --ctexpire 0
        -A FORWARD -m conntrack --ctexpire 20:30
        -t mangle -A POSTROUTING -m conntrack --ctexpire 1:1000
        -t mangle -A PREROUTING -m conntrack --ctexpire 20:30
    """)
    request = client.send(DNS, to=server).only(server)
    server.send(reply(request, b"answer"))
    client.send(DNS, to=server)


@scenario()
def status_as_rules_see_it(node: Node) -> None:
    """--ctstatus before and after an entry is confirmed, answered and assured."""
    client, server = node.router()
    node.rules("\n".join(
        f"-A FORWARD -m conntrack {invert}--ctstatus {status}"
        for status in ("NONE", "EXPECTED", "SEEN_REPLY", "ASSURED", "CONFIRMED", "SEEN_REPLY,ASSURED")
        for invert in ("", "! ")
    ))  # fmt: skip
    talk = Talk(client, server)
    talk.open()
    talk.client("PA", b"data")
    talk.client("F")


@scenario(families=(4, 6))
def errors_of_the_node_in_raw(node: Node) -> None:
    """The node's own errors in raw OUTPUT, before tracking, and in mangle, after it: about first and later packets."""
    client, server = node.router(far_mtu=1300)
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    node.rules(f"-t nat -A PREROUTING -d {vip} -j DNAT --to-destination {server.ip}")
    node.rules(counting("-t raw -A OUTPUT", "-t mangle -A OUTPUT", "-t mangle -A POSTROUTING"))
    node.rules("-A FORWARD -p udp --dport 99 -j REJECT\n-A INPUT -p udp --dport 99 -j REJECT")
    header = {"flags": "DF"} if node.family == 4 else {}
    for sport, to in ((40000, vip), (40001, server)):
        client.send(UDP(sport=sport, dport=80) / b"q", to=to, ttl=1)
        client.send(UDP(sport=sport, dport=99) / b"q", to=to)
        client.send(UDP(sport=sport, dport=80) / bytes(1400), to=to, **header)
        client.send(UDP(sport=sport, dport=80) / b"q", to=to)
        client.send(UDP(sport=sport, dport=80) / b"q", to=to, ttl=1)
        client.send(UDP(sport=sport, dport=80) / bytes(1400), to=to, **header)
    client.send(UDP(sport=40000, dport=99) / b"q", to=node.address("eth0"))
    client.send(UDP(sport=40000, dport=98) / b"q", to=node.address("eth0"))
    client.send(TCP(sport=40000, dport=98, flags="S"), to=node.address("eth0"))
    client.send(echo(node.family), to=node.address("eth0"))
