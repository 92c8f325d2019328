"""Multicast groups and broadcast: who is in a group, and what a node hears of what it says itself."""

import socket

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, echo
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6MLQuery, ICMPv6MLReport, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from scenarios.bridge import pods
from scenarios.conntrack_tcp import COUNT_STATES

QUERY = UDP(sport=5353, dport=5353) / b"query"
JOINED = {4: "224.0.0.251", 6: "ff02::fb"}
OTHER = {4: "224.0.0.252", 6: "ff02::1:3"}
WIDE = {4: "239.1.2.3", 6: "ff05::123"}


def group_mac(group: str) -> str:
    if ":" in group:
        return "33:33:00:00:00:fb" if group.endswith("fb") else "33:33:00:00:00:01"
    low = [int(part) for part in group.split(".")]
    return f"01:00:5e:{low[1] & 0x7F:02x}:{low[2]:02x}:{low[3]:02x}"


def member(node: Node) -> Peer:
    """A node that is in two groups at eth0, and counts what comes in; its client there."""
    client, _ = node.router()
    node.join("eth0", JOINED[node.family], WIDE[node.family])
    node.rules(COUNT_STATES)
    node.rules("""
        -A INPUT -m pkttype --pkt-type unicast
        -A INPUT -m pkttype --pkt-type broadcast
        -A INPUT -m pkttype --pkt-type multicast
        -t raw -A PREROUTING -m addrtype --dst-type MULTICAST
        -t mangle -A POSTROUTING -p udp
    """)
    return client


@scenario(families=(4, 6))
def joined_groups(node: Node) -> None:
    """Packets to groups that the node is in reach INPUT; those to other groups end at the route."""
    client = member(node)
    for group in (JOINED, WIDE, OTHER):
        to = group[node.family]
        assert not client.send(QUERY, to=to, mac=group_mac(to))
        assert not client.send(TCP(sport=1, dport=80), to=to, mac=group_mac(to))


@scenario(families=(4, 6))
def group_at_another_interface(node: Node) -> None:
    """A group that is joined at eth0 is not heard at eth1."""
    _, server = node.router()
    node.join("eth0", JOINED[node.family])
    node.rules(COUNT_STATES)
    assert not server.send(QUERY, to=JOINED[node.family], mac=group_mac(JOINED[node.family]))


@scenario(families=(4, 6))
def echo_to_a_joined_group(node: Node) -> None:
    """IPv6 answers an echo to a group that it is in; IPv4 by default to none."""
    client = member(node)
    for group in (JOINED, OTHER):
        client.send(echo(node.family), to=group[node.family], mac=group_mac(group[node.family]))


@scenario()
def igmp(node: Node) -> None:
    """IGMP is heard in the groups that the node is in, as anything else."""
    client = member(node)
    for to in ("224.0.0.22", WIDE[4], "224.0.0.1"):
        client.send(Raw(b"\x16\0\x09\x04" + socket.inet_aton(to)), to=to, mac=group_mac(to), ttl=1, proto=2)


@scenario(families=(6,))
def all_routers(node: Node) -> None:
    """ff02::2 and ff05::2 as the node has joined them: when forwarding is switched on with its links there, and by hand."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    node.join("eth1", "ff05::2")
    for peer in (client, server):
        for to in ("ff02::2", "ff05::2", "ff01::2", "ff02::6a"):
            peer.send(echo(6), to=to, mac="33:33:00:00:00:02")


@scenario(families=(4, 6))
def own_packets_to_groups(node: Node) -> None:
    """What a socket sends to a group that its node is in leaves, and comes back: POSTROUTING and INPUT count it twice."""
    client = member(node)
    node.ip(
        f"{'-6 ' if node.family == 6 else ''}route add table local {'multicast ' if node.family == 6 else ''}"
        f"{'ff00::/8' if node.family == 6 else '224.0.0.0/4'} dev eth0 metric 1"
    )
    header = IP(src=node.address("eth0")) if node.family == 4 else IPv6(src=node.address("eth0"))
    for group in (JOINED, OTHER, WIDE):
        header.dst = group[node.family]
        assert len(node.send(header / QUERY)) == 1
        assert len(node.send(header / TCP(sport=1, dport=2, flags="S"))) == 1
        node.send(header / echo(node.family))
    del client


@scenario()
def own_broadcasts(node: Node) -> None:
    """A broadcast comes back to its sender, as from the link."""
    client = member(node)
    subnet = node.address("eth0").rsplit(".", 1)[0]
    node.ip("route add 255.255.255.255 dev eth0")
    for to in (f"{subnet}.255", "255.255.255.255"):
        for protocol in (QUERY, echo(4), TCP(sport=1, dport=2, flags="S")):
            assert len(node.send(IP(src=node.address("eth0"), dst=to) / protocol)) == 1
    del client


@scenario(families=(4, 6))
def own_packets_to_groups_translated(node: Node) -> None:
    """SNAT of what a socket says to a group: the node hears the translated packet."""
    member(node)
    node.ip(
        f"{'-6 ' if node.family == 6 else ''}route add table local {'multicast ' if node.family == 6 else ''}"
        f"{'ff00::/8' if node.family == 6 else '224.0.0.0/4'} dev eth0 metric 1"
    )
    source = "192.0.2.1" if node.family == 4 else "2001:db8::1"
    node.rules(f"-t nat -A POSTROUTING -p udp -j SNAT --to-source {source}")
    node.rules(f"-A INPUT -s {source}")
    header = IP(src=node.address("eth0")) if node.family == 4 else IPv6(src=node.address("eth0"))
    header.dst = JOINED[node.family]
    for _ in range(2):
        assert len(node.send(header / QUERY)) == 1


@scenario(families=(4, 6))
def groups_stay_inside(node: Node) -> None:
    """A TTL of 0 and interface-local groups do not leave; what is dropped in POSTROUTING is heard no more."""
    member(node)
    node.ip(
        f"{'-6 ' if node.family == 6 else ''}route add table local {'multicast ' if node.family == 6 else ''}"
        f"{'ff00::/8' if node.family == 6 else '224.0.0.0/4'} dev eth0 metric 1"
    )
    node.rules("-t mangle -A POSTROUTING -p udp --dport 99 -j DROP")
    source = node.address("eth0")
    if node.family == 4:
        packets = [IP(src=source, dst=to, ttl=0) / QUERY for to in (JOINED[4], OTHER[4])]
        packets.append(IP(src=source, dst=JOINED[4]) / UDP(sport=1, dport=99) / Raw(b"x"))
    else:
        packets = [IPv6(src=source, dst=to, hlim=0) / QUERY for to in (JOINED[6], OTHER[6])]
        packets.append(IPv6(src=source, dst=JOINED[6]) / UDP(sport=1, dport=99) / Raw(b"x"))
        packets.append(IPv6(src=source, dst="ff01::1") / QUERY)
    for packet in packets:
        node.send(packet)


@scenario()
def link_of_a_group_by_source(node: Node) -> None:
    """Routed again in OUTPUT, a packet to a group leaves by the link of its source, whatever the routes say; one with a
    source of nobody's ends there."""
    _, server = node.router()
    node.ip(f"route add default via {server.ip}")
    node.rules("-t mangle -A OUTPUT -p udp -j TOS --set-tos 0x10")
    for source in (node.address("eth0"), node.address("eth1"), "192.0.2.1"):
        for to in (JOINED[4], "224.0.0.1"):
            for protocol in (QUERY, TCP(sport=1, dport=2)):
                node.send(IP(src=source, dst=to) / protocol)


@scenario(families=(4, 6))
def no_reset_of_a_group(node: Node) -> None:
    """REJECT answers nothing to what the node itself sends to a group."""
    client, server = node.router()
    far = "default" if node.family == 4 else "2001:db8::/32"
    node.ip(f"{'-6 ' if node.family == 6 else ''}route add {far} via {server.ip}")
    node.rules("""
        -A OUTPUT -p tcp -j REJECT --reject-with tcp-reset
        -A OUTPUT -p udp -j REJECT
    """)
    header = IP(src=node.address("eth0")) if node.family == 4 else IPv6(src=node.address("eth0"))
    for to in (JOINED[node.family], client.ip):
        header.dst = to
        for protocol in (QUERY, TCP(sport=1, dport=2)):
            node.send(header / protocol)


@scenario(families=(6,))
def own_echo_with_a_link_local_source(node: Node) -> None:
    """A node asks all nodes, masqueraded as its own link-local address: it hears itself, and answers itself by lo."""
    member(node)
    node.rules("-t nat -A POSTROUTING -j MASQUERADE")
    node.ip("-6 route add table local multicast ff00::/8 dev eth0 metric 1")
    assert len(node.send(IPv6(src=node.address("eth0"), dst="ff02::1") / echo(6))) == 1


@scenario()
def no_reset_of_a_broadcast(node: Node) -> None:
    """REJECT --reject-with tcp-reset leaves the connection of a broadcast as it is."""
    node.router()
    node.rules("-A INPUT -p tcp -j REJECT --reject-with tcp-reset")
    node.rules(COUNT_STATES)
    subnet = node.address("eth0").rsplit(".", 1)[0]
    node.send(IP(src=node.address("eth0"), dst=f"{subnet}.255") / TCP(sport=1, dport=2))


@scenario(families=(4, 6))
def unsound_multicast_on_a_snooping_bridge(node: Node) -> None:
    """A bridge that snoops passes multicast on to all ports, but for what has a broken header, or reports groups wrongly."""
    one, _, _ = pods(node, options="mcast_snooping 1")
    to = WIDE[node.family]
    mac = group_mac(to)
    good = bytes(one.packet(QUERY, to=to))
    size, half = (20, 10) if node.family == 4 else (40, 4)
    damaged = [
        good,
        good[:half] + b"\xde\xad" + good[half + 2 :],
        b"\x35" + good[1:],
        good[: size + 3],
        good[: size - 2],
    ]
    if node.family == 6:
        damaged.append(good[:4] + b"\0\0" + good[6:])
        hops = b"\x05\x02\0\0\x01\0"
        for message in (
            ICMPv6MLQuery(),
            ICMPv6MLReport(mladdr=to),
            ICMPv6MLReport(mladdr=to, cksum=5),
            ICMPv6EchoRequest(),
        ):
            for source in (one.ip, "fe80::2"):
                report = IPv6(src=source, dst=to, hlim=1, nh=0) / Raw(b"\x3a\0" + hops)
                body = bytes(IPv6(src=source, dst=to, nh=58) / message)[40:]
                packet = bytearray(bytes(report) + body)
                packet[4:6] = (8 + len(body)).to_bytes(2, "big")
                damaged.append(bytes(packet))
                damaged.append(bytes(packet[:-3]))
    else:
        for kind in (0x11, 0x12, 0x16, 0x17, 0x22, 0x30):
            for rest in (b"\0\0\0\0\0", b"\0\0\0\xef\1\2\3", b"\0\0\0\0\0\0\1"):
                message = bytes([kind, 0]) + rest[:1] + b"\0" + rest[3:]
                damaged.append(bytes(one.packet(Raw(message), to=to, proto=2, ttl=1)))
                total = sum(
                    message[i] << 8 | (message[i + 1] if i + 1 < len(message) else 0) for i in range(0, len(message), 2)
                )
                check = ~(total + (total >> 16)) & 0xFFFF
                summed = message[:2] + check.to_bytes(2, "big") + message[4:]
                damaged.append(bytes(one.packet(Raw(summed), to=to, proto=2, ttl=1)))
    for data in damaged:
        frame = Ether(src=one.mac, dst=mac, type=0x800 if node.family == 4 else 0x86DD) / Raw(data)
        node.receive("veth1", frame)


@scenario()
def error_along_a_source_route_to_all(node: Node) -> None:
    """An ICMP error whose source route leads over a broadcast address: it comes back to the node too, and ends there."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    node.rules("-t mangle -A POSTROUTING -p icmp")
    node.rules("-t mangle -A PREROUTING -p icmp")
    hops = [server.ip, node.address("eth0").rsplit(".", 1)[0] + ".255"]
    option = b"\x83\x0b\x0c" + b"".join(map(socket.inet_aton, hops)) + b"\0\x44\x04\x05\x01\x07\x27\x04\0"
    packet = IP(src=client.ip, dst=node.address("eth1"), ihl=11, proto=17) / Raw(option.ljust(24, b"\0") + b"x" * 8)
    client.send(packet)
