"""What NFLOG and TRACE write down, and when. LOG: see log_lines.py."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, echo, reply
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

QUERY = UDP(sport=4000, dport=53) / b"query"


def own(node: Node, to: Peer, payload: Packet) -> Packet:
    layer = IP(id=7) if node.family == 4 else IPv6()
    layer.src, layer.dst = node.address("eth0"), to.ip
    return layer / payload


@scenario(families=(4, 6), backend="legacy")
def in_every_chain(node: Node) -> None:
    """NFLOG in every chain of a forwarded and a delivered packet: its prefix, interfaces and bytes."""
    client, server = node.router()
    node.listen_to_log()
    node.rules("""
        -t raw -A PREROUTING -p udp -j NFLOG --nflog-prefix "raw pre:"
        -t mangle -A PREROUTING -p udp -j NFLOG --nflog-prefix "mangle pre:"
        -t mangle -A FORWARD -j NFLOG --nflog-prefix "forward:"
        -t mangle -A POSTROUTING -j NFLOG --nflog-prefix "post:"
        -t mangle -A INPUT -j NFLOG --nflog-prefix "in:"
        -t raw -A OUTPUT -j NFLOG --nflog-prefix "raw out:"
        -A INPUT -j NFLOG
        -A OUTPUT -j NFLOG
        -A FORWARD -p udp --dport 53 -j NFLOG --nflog-prefix "dns:"
        -A FORWARD -p udp --dport 53 -j NFLOG --nflog-prefix "dns again:"
    """)
    client.send(QUERY, to=server)
    server.send(QUERY, to=client)
    client.send(QUERY, to=node.address("eth0"))
    client.send(echo(node.family), to=node.address("eth0"))
    client.send(TCP(sport=4000, dport=80, flags="S"), to=server)
    client.send(UDP(sport=1, dport=2) / b"x", to=server)


@scenario(families=(4, 6), backend="legacy")
def of_own_packets(node: Node) -> None:
    """NFLOG of packets that the node sends itself, and of its answers."""
    client, _ = node.router()
    node.listen_to_log()
    node.rules("""
        -t raw -A OUTPUT -j NFLOG --nflog-prefix "raw:"
        -t mangle -A OUTPUT -j NFLOG --nflog-prefix "mangle:"
        -t mangle -A POSTROUTING -j NFLOG --nflog-prefix "post:"
        -A INPUT -p udp -j REJECT
    """)
    node.send(own(node, client, QUERY))
    client.send(QUERY, to=node.address("eth0"))
    client.send(echo(node.family), to=node.address("eth0"))


@scenario(families=(4, 6), backend="legacy")
def before_and_after_nat(node: Node) -> None:
    """NFLOG shows the addresses, ports and marks that the packet has at that moment."""
    client, server = node.router()
    node.listen_to_log()
    to = "[fd00:2::2]:5300" if node.family == 6 else "10.0.2.2:5300"
    node.rules(f"""
        -t raw -A PREROUTING -j NFLOG --nflog-prefix "raw:"
        -t mangle -A PREROUTING -j MARK --set-mark 0x17
        -t nat -A PREROUTING -p udp --dport 53 -j NFLOG --nflog-prefix "nat:"
        -t nat -A PREROUTING -p udp --dport 53 -j DNAT --to-destination {to}
        -t mangle -A FORWARD -j NFLOG --nflog-prefix "forward:"
        -t mangle -A FORWARD -j MARK --set-mark 0x18
        -t nat -A POSTROUTING -j NFLOG --nflog-prefix "nat post:"
        -t nat -A POSTROUTING -o eth1 -j MASQUERADE
    """)
    (seen,) = client.send(QUERY, to=node.address("eth0")).at(server)
    server.send(reply(seen))
    client.send(QUERY, to=node.address("eth0"))


@scenario(families=(4, 6), backend="legacy")
def nflog(node: Node) -> None:
    """NFLOG to groups, with prefixes; nobody hears a group without a listener."""
    client, server = node.router()
    node.listen_to_log(7, 100)
    node.rules("""
        -A FORWARD -p udp -j NFLOG --nflog-group 7 --nflog-prefix "seven"
        -A FORWARD -p udp -j NFLOG --nflog-prefix "line"
        -A FORWARD -p udp -j NFLOG --nflog-group 100
        -A FORWARD -p udp -j NFLOG
        -A FORWARD -p udp -j DROP
    """)
    client.send(QUERY, to=server)
    server.send(QUERY, to=client)


@scenario(families=(4, 6), backend="legacy")
def trace(node: Node) -> None:
    """TRACE tells each rule that matches from then on, the ends of chains and the policies, but not itself."""
    client, server = node.router()
    node.listen_to_log()
    node.rules("""
        -t raw -A PREROUTING -p udp --dport 53 -j TRACE
        -t raw -A PREROUTING -p udp -j TRACE
        -t raw -A PREROUTING -p udp -j MARK --set-mark 5
        -t mangle -A PREROUTING -p udp -m mark --mark 5 -j TOS --set-tos 0x10
        -t mangle -A PREROUTING -p tcp -j ACCEPT
        -t mangle -A PREROUTING -j user
        -t mangle -A user -p udp --dport 53 -j RETURN
        -t mangle -A user -p udp --dport 54 -g other
        -t mangle -A user -j RETURN
        -t mangle -A user -j DROP
        -t mangle -A other -p udp -j deeper
        -t mangle -A deeper -p tcp
        -t mangle -A POSTROUTING -j ACCEPT
        -A FORWARD -p udp --dport 55 -j DROP
        -A FORWARD -p udp --dport 56 -j REJECT
        -A FORWARD -p udp --dport 57
        -A FORWARD -p udp --dport 57 -j NFLOG --nflog-prefix "both"
        -A FORWARD -p udp --dport 58 -j RETURN
    """)
    for port in range(53, 60):
        client.send(UDP(sport=4000, dport=port) / b"query", to=server)
    client.send(TCP(sport=4000, dport=80, flags="S"), to=server)


@scenario(families=(4, 6), backend="legacy")
def trace_through_nat(node: Node) -> None:
    """TRACE through a Service's chains: nat is told for the first packet, and no more."""
    client, server = node.router()
    node.listen_to_log()
    to = "[fd00:2::2]:5300" if node.family == 6 else "10.0.2.2:5300"
    node.rules(
        f"""
        -t raw -A PREROUTING -p udp -j TRACE
        -t nat -A PREROUTING -m comment --comment "services" -j KUBE-SERVICES
        -t nat -A KUBE-SERVICES -p udp --dport 53 -j KUBE-SVC
        -t nat -A KUBE-SVC ! -s 10.9.0.0/16 -j MARK --or-mark 0x4000
        -t nat -A KUBE-SVC -j KUBE-SEP
        -t nat -A KUBE-SEP -p udp -j DNAT --to-destination {to}
        -t nat -A POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
        -t nat -A POSTROUTING -j MARK --xor-mark 0x4000
        -t nat -A POSTROUTING -j MASQUERADE
    """.replace("10.9.0.0/16", "fd09::/64" if node.family == 6 else "10.9.0.0/16")
    )
    (seen,) = client.send(QUERY, to=node.address("eth0")).at(server)
    server.send(reply(seen))
    client.send(QUERY, to=node.address("eth0"))


@scenario(backend="legacy")
def trace_of_own_packets(node: Node) -> None:
    """TRACE in raw OUTPUT follows what the node sends."""
    client, _ = node.router()
    node.listen_to_log()
    node.rules("""
        -t raw -A OUTPUT -p udp -j TRACE
        -t mangle -A OUTPUT -p udp -j MARK --set-mark 9
        -A OUTPUT -p udp --dport 54 -j DROP
    """)
    for port in (53, 54):
        node.send(own(node, client, UDP(sport=4000, dport=port) / b"query"))


@scenario(families=(4, 6), backend="legacy")
def on_a_bridge(node: Node) -> None:
    """A bridged packet shows the bridge and both ports."""
    node.bridge_device("cni0", "fd00:1::1/64" if node.family == 6 else "10.0.1.1/24")
    node.port("eth0", master="cni0")
    node.port("eth1", master="cni0")
    one = node.peer("eth0", "fd00:1::2" if node.family == 6 else "10.0.1.2", at="cni0")
    two = node.peer("eth1", "fd00:1::3" if node.family == 6 else "10.0.1.3", at="cni0")
    node.sysctl("""
        net.bridge.bridge-nf-call-iptables = 1
        net.bridge.bridge-nf-call-ip6tables = 1
    """)
    node.listen_to_log()
    node.rules("""
        -t raw -A PREROUTING -j NFLOG --nflog-prefix "pre:"
        -t mangle -A INPUT -j NFLOG --nflog-prefix "in:"
        -t mangle -A FORWARD -j NFLOG --nflog-prefix "forward:"
        -t mangle -A POSTROUTING -j NFLOG --nflog-prefix "post:"
    """)
    one.send(QUERY, to=two, mac=two.mac)
    two.send(QUERY, to=one, mac=one.mac)
    one.send(QUERY, to=node.address("cni0"))
