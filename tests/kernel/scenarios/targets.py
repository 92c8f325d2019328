"""Targets that change packets or remember something, and go on."""

from judge.choices import PORT
from judge.node import Node
from judge.scenario import scenario
from judge.talk import network, reply
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

QUERY = UDP(sport=4000, dport=53) / b"query"


@scenario()
def ttl(node: Node) -> None:
    """TTL: set, raise, lower; after the routing it is sent as it is, even as 0."""
    client, server = node.router()
    node.rules("""
        -t mangle -A PREROUTING -p udp --dport 1 -j TTL --ttl-set 10
        -t mangle -A PREROUTING -p udp --dport 2 -j TTL --ttl-inc 5
        -t mangle -A POSTROUTING -p udp --dport 3 -j TTL --ttl-dec 10
        -t mangle -A POSTROUTING -p udp --dport 4 -j TTL --ttl-dec 100
        -t mangle -A PREROUTING -p udp --dport 5 -j TTL --ttl-set 1
        -t mangle -A PREROUTING -p udp --dport 6 -j TTL --ttl-inc 250
    """)
    for port in range(1, 7):
        client.send(UDP(sport=4000, dport=port), to=server)


@scenario(families=(6,))
def hl(node: Node) -> None:
    """HL: set, raise, lower."""
    client, server = node.router()
    node.rules("""
        -t mangle -A PREROUTING -p udp --dport 1 -j HL --hl-set 10
        -t mangle -A PREROUTING -p udp --dport 2 -j HL --hl-inc 5
        -t mangle -A POSTROUTING -p udp --dport 3 -j HL --hl-dec 10
    """)
    for port in range(1, 4):
        client.send(UDP(sport=4000, dport=port), to=server)


@scenario(families=(4, 6))
def tos_and_dscp(node: Node) -> None:
    """TOS and DSCP rewrite the field and the header checksum."""
    client, server = node.router()
    node.rules("""
        -t mangle -A PREROUTING -p udp --dport 1 -j TOS --set-tos 0x10/0xff
        -t mangle -A PREROUTING -p udp --dport 2 -j TOS --set-tos 0x10/0x3f
        -t mangle -A PREROUTING -p udp --dport 3 -j DSCP --set-dscp 0x2e
        -t mangle -A PREROUTING -p udp --dport 4 -j DSCP --set-dscp-class AF21
    """)
    for port in range(1, 5):
        client.send(UDP(sport=4000, dport=port), to=server, tos=0x03)
        client.send(UDP(sport=4000, dport=port), to=server, tos=0xFF)


@scenario(families=(4, 6))
def tcpmss_set(node: Node) -> None:
    """TCPMSS --set-mss: lowers, never raises, and adds the option where there is none."""
    client, server = node.router()
    node.rules("-t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1300")
    client.send(TCP(sport=1, dport=80, flags="S", options=[("MSS", 1460)]), to=server)
    client.send(TCP(sport=1, dport=80, flags="S", options=[("MSS", 1000)]), to=server)
    client.send(TCP(sport=1, dport=80, flags="S"), to=server)
    client.send(TCP(sport=1, dport=80, flags="S", options=[("NOP", None), ("MSS", 1460), ("WScale", 2)]), to=server)
    client.send(TCP(sport=1, dport=80, flags="A"), to=server)


@scenario(families=(4, 6))
def tcpmss_clamp(node: Node) -> None:
    """TCPMSS --clamp-mss-to-pmtu: the smaller MTU of both ways, less headers."""
    client, server = node.router(far_mtu=1400)
    node.rules("-t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu")
    talk = client.send(TCP(sport=1, dport=80, flags="S", options=[("MSS", 1460)]), to=server).only(server)
    server.send(reply(talk, flags="SA", ack=1, options=[("MSS", 1460)]))


@scenario()
def netmap_and_redirect_in_output(node: Node) -> None:
    """REDIRECT in OUTPUT sends a packet of the node's own to itself."""
    _, server = node.router()
    node.listen("udp", 5353)
    node.rules("""
        -t nat -A OUTPUT -p udp --dport 53 -j REDIRECT --to-ports 5353
        -A INPUT -i lo -p udp --dport 5353
    """)
    assert not node.send(IP(src=node.address("eth1"), dst=server.ip, id=5) / QUERY)


@scenario(families=(4, 6))
def notrack_and_zones(node: Node) -> None:
    """CT --notrack, and CT --zone: the same tuple in two zones is two connections."""
    client, server = node.router()
    node.rules("""
        -t raw -A PREROUTING -i eth0 -p udp --dport 1 -j CT --notrack
        -t raw -A PREROUTING -i eth0 -p udp --dport 2 -j CT --zone 5
        -t raw -A PREROUTING -i eth1 -p udp --sport 2 -j CT --zone 5
        -A FORWARD -m conntrack --ctstate UNTRACKED
        -A FORWARD -m conntrack --ctstate NEW
        -A FORWARD -m conntrack --ctstate ESTABLISHED
    """)
    client.send(UDP(sport=4000, dport=1), to=server)
    request = client.send(UDP(sport=4000, dport=2), to=server).only(server)
    server.send(reply(request, b"answer"))
    client.send(UDP(sport=4000, dport=3), to=server)


@scenario(families=(4, 6))
def zones_of_one_direction(node: Node) -> None:
    """CT --zone-orig and --zone-reply: the answer is looked for in its own direction's zone."""
    client, server = node.router()
    node.rules("""
        -t raw -A PREROUTING -i eth0 -p udp --dport 1 -j CT --zone-orig 5
        -t raw -A PREROUTING -i eth0 -p udp --dport 2 -j CT --zone-reply 6
        -t raw -A PREROUTING -i eth1 -p udp --sport 2 -j CT --zone-reply 6
        -t raw -A PREROUTING -i eth0 -p udp --dport 3 -j CT --zone-reply 7
        -t raw -A PREROUTING -i eth1 -p udp --sport 4 -j CT --zone 8
        -A FORWARD -m conntrack --ctstate NEW
        -A FORWARD -m conntrack --ctstate ESTABLISHED
        -A FORWARD -m conntrack --ctstate RELATED
    """)
    for port in range(1, 5):
        request = client.send(UDP(sport=4000, dport=port), to=server).only(server)
        server.send(reply(request, b"answer"))
        server.complain("port unreachable", request)
        client.send(UDP(sport=4000, dport=port), to=server)


@scenario(families=(4, 6))
def zone_of_the_mark(node: Node) -> None:
    """CT --zone mark: the mark that the packet has when it is tracked, not when the rule is met."""
    client, server = node.router()
    node.rules("""
        -t raw -A PREROUTING -p udp -j CT --zone mark
        -t raw -A PREROUTING -p udp -m multiport --ports 1 -j MARK --set-mark 9
        -t raw -A PREROUTING -p udp -m multiport --ports 2 -j MARK --set-mark 0x1000a
        -A FORWARD -m conntrack --ctstate ESTABLISHED
    """)
    for port in range(1, 4):
        request = client.send(UDP(sport=4000, dport=port), to=server).only(server)
        server.send(reply(request, b"answer"))


@scenario(families=(4, 6))
def zones_and_nat(node: Node) -> None:
    """Two networks with the same addresses: told apart by a zone of the original direction, masqueraded apart."""
    client, server = node.router()
    node.rules(f"""
        -t raw -A PREROUTING -i eth0 -m mark --mark 0 -m mac --mac-source 02:00:00:01:01:02 -j CT --zone-orig 1
        -t raw -A PREROUTING -i eth0 -m mac --mac-source 02:00:00:01:01:03 -j CT --zone-orig 2
        -t nat -A PREROUTING -p udp --dport 53 -j DNAT --to-destination {server.ip}
        -t nat -A POSTROUTING -o eth1 -j MASQUERADE
    """)
    other = node.peer("eth0", "10.0.1.3" if node.family == 4 else "fd00:1::3")
    service = "10.9.9.9" if node.family == 4 else "fd00:9::9"
    first = client.send(QUERY, to=service).only(server)
    second = other.send(QUERY, to=service, src=client.ip).only(server)
    assert first[UDP].sport != second[UDP].sport
    node.chose(PORT, second[UDP].sport)
    for request in (first, second):
        server.send(reply(request, b"answer"))
        server.complain("port unreachable", request)


@scenario(families=(4, 6))
def the_first_rule_says_how_to_track(node: Node) -> None:
    """CT and NOTRACK leave alone a packet of which an earlier one has spoken; --ctstate takes what CT gave for NEW."""
    client, server = node.router()
    node.rules("""
        -t raw -A PREROUTING -p udp --dport 1 -j CT --ctevents new
        -t raw -A PREROUTING -p udp --dport 2 -j CT --zone 0
        -t raw -A PREROUTING -p udp --dport 3 -j CT --zone 4
        -t raw -A PREROUTING -p udp --dport 4 -j NOTRACK
        -t raw -A PREROUTING -m conntrack --ctstate NEW
        -t raw -A PREROUTING -m conntrack --ctstate INVALID
        -t raw -A PREROUTING -m conntrack --ctstate UNTRACKED
        -t raw -A PREROUTING -p udp --dport 1:3 -j CT --notrack
        -t raw -A PREROUTING -p udp -j CT --zone 5
        -A FORWARD -m conntrack --ctstate UNTRACKED
        -A FORWARD -m conntrack --ctstate NEW
    """)
    for port in range(1, 6):
        client.send(UDP(sport=4000, dport=port), to=server)


@scenario(families=(4, 6))
def log_and_nflog(node: Node) -> None:
    """LOG and NFLOG count and let the packet go on."""
    client, server = node.router()
    node.rules("""
        -A FORWARD -j LOG --log-prefix "judge: "
        -A FORWARD -j NFLOG --nflog-group 5
        -A FORWARD -p udp -j ACCEPT
    """)
    client.send(QUERY, to=server).only(server)


@scenario(families=(4, 6))
def set_target(node: Node) -> None:
    """SET adds and removes addresses that later rules match."""
    client, server = node.router()
    inet = "inet" if node.family == 4 else "inet6"
    node.ipset(f"create seen hash:ip family {inet}")
    node.rules("""
        -A FORWARD -m set --match-set seen src
        -A FORWARD -p udp --dport 1 -j SET --add-set seen src
        -A FORWARD -p udp --dport 2 -j SET --del-set seen src
    """)
    for port in (3, 1, 3, 2, 3):
        client.send(UDP(sport=4000, dport=port), to=server)


@scenario()
def classify_and_checksum(node: Node) -> None:
    """CLASSIFY and CHECKSUM leave the packet as it is."""
    client, server = node.router()
    node.rules("""
        -t mangle -A POSTROUTING -p udp -j CLASSIFY --set-class 1:2
        -t mangle -A POSTROUTING -p udp -j CHECKSUM --checksum-fill
    """)
    client.send(QUERY, to=server).only(server)


@scenario(families=(4, 6))
def mangled_source_is_not_translated_back(node: Node) -> None:
    """What mangle changes is not undone for the answer: only NAT remembers."""
    client, server = node.router()
    node.rules("""
        -t mangle -A PREROUTING -i eth0 -j MARK --set-mark 0x5
        -t mangle -A FORWARD -m mark --mark 0x5 -j TOS --set-tos 0x10/0xff
    """)
    request = client.send(QUERY, to=server).only(server)
    answer = server.send(reply(request, b"answer")).only(client)
    ip = network(answer)
    assert (ip.tos if isinstance(ip, IP) else ip.tc) == 0
    assert isinstance(ip, IP | IPv6)


@scenario(families=(4, 6))
def trace(node: Node) -> None:
    """TRACE counts and lets the packet go on, through every table."""
    client, server = node.router()
    node.rules("""
        -t raw -A PREROUTING -p udp --dport 53 -j TRACE
        -t mangle -A FORWARD -p udp
        -A FORWARD -p udp -j ACCEPT
    """)
    client.send(QUERY, to=server).only(server)


@scenario(families=(4, 6))
def tcpmss_of_a_source_behind_a_small_mtu(node: Node) -> None:
    """--clamp-mss-to-pmtu asks for the way back to the node's own address, and that is lo, not the device that has it."""
    client, _ = node.router()
    node.port("eth2", "192.0.2.1/24" if node.family == 4 else "2001:db8::1/64", mtu=1300)
    node.rules("-t mangle -A POSTROUTING -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu")
    header = IP(src=node.address("eth2")) if node.family == 4 else IPv6(src=node.address("eth2"))
    header.dst = client.ip
    assert len(node.send(header / TCP(sport=1, dport=80, flags="S", options=[("MSS", 1480)]))) == 1
