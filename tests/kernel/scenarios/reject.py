"""REJECT: the exact packet of each type, and when there is none."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Talk, echo, network
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

TYPES = {
    4: (
        "icmp-net-unreachable",
        "icmp-host-unreachable",
        "icmp-proto-unreachable",
        "icmp-port-unreachable",
        "icmp-net-prohibited",
        "icmp-host-prohibited",
        "icmp-admin-prohibited",
    ),
    6: (
        "icmp6-no-route",
        "icmp6-adm-prohibited",
        "icmp6-addr-unreachable",
        "icmp6-port-unreachable",
        "icmp6-policy-fail",
        "icmp6-reject-route",
    ),
}


@scenario(families=(4, 6))
def every_type(node: Node) -> None:
    """Each type by name, in FORWARD."""
    client, server = node.router()
    for port, kind in enumerate(TYPES[node.family], 100):
        node.rules(f"-A FORWARD -p udp --dport {port} -j REJECT --reject-with {kind}")
    for port in range(100, 100 + len(TYPES[node.family])):
        client.send(UDP(sport=40000, dport=port) / b"x", to=server).only(client)


@scenario(families=(4, 6))
def default_type(node: Node) -> None:
    """Without a type: port unreachable, for TCP too; the quoted TTL has already fallen."""
    client, server = node.router()
    node.rules("-A FORWARD -j REJECT")
    client.send(UDP(sport=40000, dport=53) / b"x", to=server).only(client)
    client.send(TCP(sport=40000, dport=80, flags="S"), to=server).only(client)
    client.send(echo(node.family), to=server).only(client)
    # Of a protocol that it does not know, the kernel checks a checksum all the same; IPv6 sums the pseudo header, too.
    unknown = client.send(Raw(bytes(20)), to=server, proto=253)
    if node.family == 4:
        unknown.only(client)


@scenario(families=(4, 6))
def tcp_reset(node: Node) -> None:
    """tcp-reset for SYN, SYN with data, ACK, FIN, data; nothing for a RST."""
    client, server = node.router()
    node.rules("-A FORWARD -p tcp -j REJECT --reject-with tcp-reset")
    client.send(TCP(sport=40000, dport=80, flags="S", seq=1000), to=server).only(client)
    client.send(TCP(sport=40000, dport=80, flags="S", seq=1000) / b"12345", to=server).only(client)
    client.send(TCP(sport=40000, dport=80, flags="A", seq=1000, ack=77), to=server).only(client)
    client.send(TCP(sport=40000, dport=80, flags="FPA", seq=1000, ack=77) / b"abc", to=server).only(client)
    client.send(TCP(sport=40000, dport=80, flags="F", seq=0xFFFFFFFF) / b"abc", to=server).only(client)
    client.send(TCP(sport=40000, dport=80, flags="", seq=7), to=server).only(client)
    assert not client.send(TCP(sport=40000, dport=80, flags="R", seq=1000), to=server)
    assert not client.send(TCP(sport=40000, dport=80, flags="RA", seq=1000, ack=1), to=server)


@scenario(families=(4, 6))
def in_input(node: Node) -> None:
    """In INPUT the error comes from the address that was asked."""
    client, _ = node.router()
    node.rules("""
        -A INPUT -p udp -j REJECT
        -A INPUT -p tcp -j REJECT --reject-with tcp-reset
    """)
    error = client.send(UDP(sport=40000, dport=53) / b"x", to=node.address("eth1")).only(client)
    assert network(error).src == node.address("eth1")
    client.send(TCP(sport=40000, dport=80, flags="S"), to=node.address("eth1")).only(client)


@scenario(families=(4, 6))
def wrong_transport_checksum(node: Node) -> None:
    """A packet with a wrong transport checksum is rejected in silence."""
    client, server = node.router()
    node.rules("""
        -A FORWARD -p udp -j REJECT
        -A FORWARD -p tcp -j REJECT --reject-with tcp-reset
    """)
    assert not client.send(UDP(sport=40000, dport=53, chksum=0xBAD) / b"x", to=server)
    assert not client.send(TCP(sport=40000, dport=80, flags="S", chksum=0xBAD), to=server)


@scenario()
def icmp_errors_are_not_rejected_with_an_error(node: Node) -> None:
    """An ICMP error is dropped in silence."""
    client, server = node.router()
    node.rules("-A FORWARD -j REJECT")
    about = client.packet(UDP(sport=1, dport=2), to=server)
    assert not client.send(ICMP(type=3, code=3) / Raw(bytes(about)), to=server)
    assert not client.send(ICMP(type=11, code=0) / Raw(bytes(about)), to=server)
    client.send(ICMP(type=0, id=1, seq=1), to=server).only(client)


@scenario()
def later_fragment(node: Node) -> None:
    """A fragment other than the first is dropped in silence."""
    client, server = node.router()
    node.rules("-A FORWARD -j REJECT")
    assert not client.send(Raw(bytes(64)), to=server, proto=17, frag=10)


@scenario(families=(4, 6))
def empty_service(node: Node) -> None:
    """kube-proxy's way with a Service without endpoints: port unreachable for new flows to its address."""
    client, server = node.router()
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    node.ip(f"{node.dash}route add default via {server.ip}")
    node.rules(f"""
        -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
        -A KUBE-SERVICES -d {vip} -p tcp -m comment --comment "default/empty has no endpoints" -m tcp --dport 80 -j REJECT
        -A KUBE-SERVICES -d {vip} -p udp -m comment --comment "default/empty has no endpoints" -m udp --dport 53 -j REJECT
    """)
    client.send(TCP(sport=40000, dport=80, flags="S"), to=vip).only(client)
    client.send(UDP(sport=40000, dport=53) / b"x", to=vip).only(client)
    client.send(UDP(sport=40000, dport=54) / b"x", to=vip).only(server)


@scenario(families=(4, 6))
def reset_of_a_translated_connection(node: Node) -> None:
    """tcp-reset in FORWARD after DNAT: the reset comes from the virtual address."""
    client, server = node.router()
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    node.rules(f"""
        -t nat -A PREROUTING -d {vip} -j DNAT --to-destination {server.ip}
        -A FORWARD -p tcp -m conntrack --ctstate NEW -j ACCEPT
        -A FORWARD -p tcp -j REJECT --reject-with tcp-reset
    """)
    talk = Talk(client, server, to=vip)
    talk.client("S").only(server)
    talk.server("SA").only(server)
    talk.client("A")


@scenario()
def quotes_up_to_576_bytes(node: Node) -> None:
    """A large packet is quoted up to 576 bytes in all."""
    client, server = node.router()
    node.rules("-A FORWARD -j REJECT")
    client.send(UDP(sport=40000, dport=53) / bytes(1400), to=server).only(client)


@scenario()
def rejected_packet_leaves_no_entry(node: Node) -> None:
    """A first packet that is rejected leaves no connection."""
    client, server = node.router()
    node.rules("""
        -A FORWARD -m conntrack --ctstate NEW -p udp -j REJECT
    """)
    client.send(UDP(sport=40000, dport=53) / b"x", to=server).only(client)


@scenario(families=(4, 6))
def in_output(node: Node) -> None:
    """In OUTPUT the node tells itself: nothing leaves."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    _, server = node.router()
    node.rules("-A OUTPUT -p udp -j REJECT")
    here = node.address("eth1")
    ip = IP(src=here, dst=server.ip, id=9) if node.family == 4 else IPv6(src=here, dst=server.ip)
    assert not node.send(ip / UDP(sport=1, dport=2) / b"x")


@scenario(families=(6,))
def no_reset_to_what_is_no_single_address(node: Node) -> None:
    """A reset is neither sent from :: nor from an address that IPv4 has lent."""
    client, _ = node.router()
    node.ip("-6 route add default via fd00:2::2")
    node.rules("-A FORWARD -p tcp -j REJECT --reject-with tcp-reset")
    for to in ("2001:db8::1", "::", "::ffff:10.0.0.1", "::10.0.0.1"):
        client.send(TCP(sport=4000, dport=80, flags="S"), to=to)


@scenario(families=(4, 6))
def of_the_node_to_itself(node: Node) -> None:
    """What the node says to an address of its own is rejected in OUTPUT: the error comes from the address that was asked."""
    node.router()
    node.rules(f"-A OUTPUT -s {node.address('eth0')} -o lo -j REJECT")
    node.rules("-A INPUT -p icmp" if node.family == 4 else "-A INPUT -p icmpv6")
    header = IP(src=node.address("eth0")) if node.family == 4 else IPv6(src=node.address("eth0"))
    header.dst = node.address("eth1")
    node.send(header / UDP(sport=1, dport=2) / b"x")
