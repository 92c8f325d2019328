"""What a VXLAN device may be told besides Flannel's way: inherited fields, extensions, IPv6 outside, flooding, bypass."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from scenarios.vxlan import HERE, POD, QUERY, THERE, flannel, from_there, wrapped


def underlay(
    node: Node, options: str = "nolearning", mtu: int = 1430, address: str = "local fd00:168::11"
) -> tuple[Peer, Peer]:
    """Flannel's node with IPv6 outside, pods of the scenario's family."""
    node.dual()
    node.port("eth0", "fd00:168::11/64")
    four = node.family == 4
    node.bridge_device("cni0", "10.244.1.1/24" if four else "fd00:244:1::1/64")
    node.port("veth1", master="cni0")
    pod = node.peer("veth1", "10.244.1.2" if four else "fd00:244:1::2", at="cni0")
    other = node.peer("eth0", "fd00:168::12")
    own, subnet, gateway = (
        ("10.244.1.0/32", "10.244.2.0/24", "10.244.2.0")
        if four
        else ("fd00:244:1::/128", "fd00:244:2::/64", "fd00:244:2::")
    )
    node.ip(f"""
        link add flannel.1 address {HERE} mtu {mtu} type vxlan id 1 {address} dev eth0 dstport 8472 {options}
        link set flannel.1 up
        addr add {own} dev flannel.1
    """)
    node.ip(f"""
        {node.dash}neigh add {gateway} lladdr {THERE} dev flannel.1 nud permanent
        {node.dash}route add {subnet} via {gateway} dev flannel.1 onlink
    """)
    node.bridge(f"fdb append {THERE} dev flannel.1 dst fd00:168::12 self permanent")
    node.set_mac("flannel.1", HERE)
    return pod, other


def header(word: int, vni: int = 1, last: int = 0) -> bytes:
    """Flags and 24 bits behind them, the identifier and the byte behind it."""
    return word.to_bytes(4, "big") + (vni << 8 | last).to_bytes(4, "big")


def every_ecn(node: Node, pod: Peer, other: Peer, to: str) -> None:
    for outer in range(4):
        for inner in range(4):
            if node.family == 4:
                frame = from_there(node, pod, tos=0x28 | inner)
            else:
                frame = from_there(node, pod)
                frame[IPv6].tc = 0x28 | inner
            other.send(wrapped(frame), to=to, tos=0xB8 | outer)


@scenario(families=(4, 6))
def every_mark_of_congestion(node: Node) -> None:
    """The sixteen pairs of outer and inner congestion bits on the way in, and the four on the way out."""
    pod, other = flannel(node)
    every_ecn(node, pod, other, "192.168.1.11")
    for bits in range(4):
        pod.send(QUERY, to=POD[node.family], tos=0x28 | bits)


@scenario(families=(4, 6))
def every_mark_of_congestion_over_ipv6(node: Node) -> None:
    """The same with IPv6 outside."""
    pod, other = underlay(node)
    every_ecn(node, pod, other, "fd00:168::11")
    for bits in range(4):
        pod.send(QUERY, to=POD[node.family], tos=0x28 | bits)


@scenario(families=(4, 6))
def ttl_and_tos_inherited(node: Node) -> None:
    """ttl inherit, tos inherit and df inherit together, of IPv4, IPv6 and neither."""
    pod, other = flannel(node, options="nolearning ttl inherit tos inherit df inherit")
    for ttl in (2, 64, 255):
        for flags in ("", "DF"):
            header = {"flags": flags} if node.family == 4 else {}
            pod.send(QUERY, to=POD[node.family], ttl=ttl, tos=0xB9, **header)


@scenario(families=(4, 6))
def ttl_tos_and_label_over_ipv6(node: Node) -> None:
    """A fixed hop limit, traffic class and flow label, with IPv6 outside."""
    pod, _ = underlay(node, options="nolearning ttl 17 tos 0x48 flowlabel 0x12345")
    for tos in (0, 0x2A, 0x03):
        pod.send(QUERY, to=POD[node.family], tos=tos)


@scenario(families=(4, 6), masks=("flow label",))
def inherited_over_ipv6(node: Node) -> None:
    """ttl inherit, tos inherit and df set, with IPv6 outside."""
    pod, _ = underlay(node, options="nolearning ttl inherit tos inherit df set")
    for ttl, tos in ((2, 0), (64, 0xB8), (255, 0x2B)):
        pod.send(QUERY, to=POD[node.family], ttl=ttl, tos=tos)


@scenario(families=(4, 6))
def checksums_over_ipv6(node: Node) -> None:
    """udp6zerocsumtx: no checksum outside; without udp6zerocsumrx such packets are not taken in."""
    pod, other = underlay(node, options="nolearning udp6zerocsumtx")
    pod.send(QUERY, to=POD[node.family])
    frame = from_there(node, pod)
    packet = other.packet(wrapped(frame), to="fd00:168::11")
    packet[UDP].chksum = 0
    other.send(packet)
    other.send(wrapped(frame), to="fd00:168::11").only(pod)
    packet = other.packet(wrapped(frame), to="fd00:168::11")
    packet[UDP].chksum = 0x1111
    other.send(packet)


@scenario(families=(4, 6))
def no_checksums_taken_over_ipv6(node: Node) -> None:
    """udp6zerocsumrx: packets without a checksum are taken in, those with a wrong one are not."""
    pod, other = underlay(node, options="nolearning udp6zerocsumrx")
    frame = from_there(node, pod)
    for checksum in (0, 0x1111):
        packet = other.packet(wrapped(frame), to="fd00:168::11")
        packet[UDP].chksum = checksum
        other.send(packet)


@scenario()
def bad_headers_over_ipv6(node: Node) -> None:
    """Wrong identifier, wrong port, reserved bits, cut short, with IPv6 outside; too big for the device."""
    pod, other = underlay(node)
    frame = from_there(node, pod)
    other.send(wrapped(frame, vni=2), to="fd00:168::11")
    other.send(wrapped(frame, port=8473), to="fd00:168::11")
    for bits in (0, 0x08000001, 0x0C000000, 0x08800000):
        other.send(UDP(sport=9, dport=8472) / (header(bits) + bytes(frame)), to="fd00:168::11")
    other.send(UDP(sport=9, dport=8472) / (header(0x08000000, last=1) + bytes(frame)), to="fd00:168::11")
    other.send(UDP(sport=9, dport=8472) / header(0x08000000)[:5], to="fd00:168::11")
    other.send(UDP(sport=9, dport=8472) / (header(0x08000000) + bytes(frame)[:13]), to="fd00:168::11")
    pod.send(UDP(sport=1, dport=2) / bytes(1410), to=POD[4], flags="DF")
    pod.send(UDP(sport=1, dport=2) / bytes(1410), to=POD[4])


@scenario(families=(4, 6))
def group_policy(node: Node) -> None:
    """gbp: a group id comes in as the packet's mark and goes out as one; don't learn and policy applied are taken."""
    pod, other = flannel(node, options="nolearning gbp")
    node.rules("""
        -t mangle -A PREROUTING -i flannel.1 -m mark --mark 0x1234
        -t mangle -A PREROUTING -i flannel.1 -m mark --mark 0x81234
        -t mangle -A PREROUTING -i flannel.1 -m mark --mark 0x401234
        -t mangle -A PREROUTING -i flannel.1 -m mark ! --mark 0
        -t mangle -A PREROUTING -i cni0 -p udp --dport 1 -j MARK --set-mark 0x77
        -t mangle -A PREROUTING -i cni0 -p udp --dport 2 -j MARK --set-mark 0xffffffff
        -t mangle -A PREROUTING -i cni0 -p udp --dport 3 -j MARK --set-mark 0x80042
    """)
    frame = bytes(from_there(node, pod))
    for word in (0x88001234, 0x88081234, 0x88401234, 0x88481234, 0x08001234, 0x08000000, 0x8C001234, 0x88801234):
        other.send(UDP(sport=9, dport=8472) / (header(word) + frame), to="192.168.1.11")
    for port in range(4):
        pod.send(UDP(sport=9, dport=port), to=POD[node.family])


@scenario(families=(4, 6))
def flooded_to_every_node(node: Node) -> None:
    """Several flood entries, with identifiers of their own: a copy to each; one of a bridge that floods."""
    node.dual()
    node.port("eth0", "192.168.1.11/24")
    node.bridge_device("br0")
    node.port("veth1", master="br0")
    node.ip(f"""
        link add vx0 address {HERE} mtu 1450 type vxlan id 7 local 192.168.1.11 dstport 4789
        link set vx0 master br0
        link set vx0 up
    """)
    for last in (12, 13, 14):
        node.peer("eth0", f"192.168.1.{last}")
    node.bridge("""
        fdb append 00:00:00:00:00:00 dev vx0 dst 192.168.1.12
        fdb append 00:00:00:00:00:00 dev vx0 dst 192.168.1.13 vni 9
        fdb append 00:00:00:00:00:00 dev vx0 dst 192.168.1.14 vni 8
        fdb append 02:00:00:00:00:77 dev vx0 dst 192.168.1.13 self static
    """)
    source = "02:00:00:00:00:66"
    body = Raw(b"what is it") if node.family == 4 else IPv6(src="fe80::66", dst="ff02::1") / QUERY
    for target in ("ff:ff:ff:ff:ff:ff", "02:00:00:00:00:88", "02:00:00:00:00:77", "33:33:00:00:00:01"):
        node.receive("veth1", Ether(src=source, dst=target, type=0x88B5 if node.family == 4 else 0x86DD) / body)
    other = Peer(node, "eth0", "02:00:00:01:01:0c", "192.168.1.12", node.mac("eth0"))
    answer = Ether(src="02:00:00:00:00:88", dst=source, type=0x88B5) / Raw(b"an answer")
    other.send(wrapped(answer, vni=7, port=4789), to="192.168.1.11")
    node.receive("veth1", Ether(src=source, dst="02:00:00:00:00:88", type=0x88B5) / Raw(b"now it is known"))
    moved = Peer(node, "eth0", "02:00:00:01:01:0d", "192.168.1.13", node.mac("eth0"))
    moved.send(wrapped(answer, vni=7, port=4789), to="192.168.1.11")
    node.receive("veth1", Ether(src=source, dst="02:00:00:00:00:88", type=0x88B5) / Raw(b"it has moved"))


@scenario()
def remote_of_the_device(node: Node) -> None:
    """`remote` and no entries: everything goes to the one far end; the far end's frames come in from anywhere."""
    node.port("eth0", "192.168.1.11/24")
    node.port("eth1", "10.0.1.1/24")
    client = node.peer("eth1", "10.0.1.2")
    other = node.peer("eth0", "192.168.1.12")
    node.ip(f"""
        link add vx0 address {HERE} mtu 1450 type vxlan id 42 remote 192.168.1.12 dstport 4789
        link set vx0 up
        addr add 10.9.0.1/24 dev vx0
        neigh add 10.9.0.2 lladdr {THERE} dev vx0 nud permanent
    """)
    client.send(QUERY, to="10.9.0.2").only(other)
    client.send(QUERY, to="10.9.0.3")
    ask = ARP(op=1, hwsrc=THERE, psrc="10.9.0.2", pdst="10.9.0.1")
    other.send(wrapped(Ether(src=THERE, dst="ff:ff:ff:ff:ff:ff") / ask, vni=42, port=4789), to="192.168.1.11")


@scenario(families=(4, 6))
def two_devices_of_one_node(node: Node) -> None:
    """Local bypass: a remote that is the node's own address leads to its other device, on whose bridge a pod is."""
    node.dual()
    node.port("eth0", "192.168.1.11/24")
    four = node.family == 4
    node.port("eth1", "10.0.1.1/24" if four else "fd00:1::1/64")
    client = node.peer("eth1", "10.0.1.2" if four else "fd00:1::2")
    node.bridge_device("br0")
    node.port("veth1", master="br0")
    node.ip(f"""
        link add vx0 address {HERE} mtu 1450 type vxlan id 1 local 192.168.1.11 dstport 4789 nolearning
        link add vx1 address {THERE} mtu 1450 type vxlan id 2 local 192.168.1.11 dstport 4789
        link set vx1 master br0
        link set vx0 up
        link set vx1 up
        {"addr add 10.9.0.1/24 dev vx0" if four else "-6 addr add fd00:9::1/64 dev vx0"}
    """)
    near, far = ("10.9.0.2", "10.9.0.3") if four else ("fd00:9::2", "fd00:9::3")
    node.ip(f"{node.dash}neigh add {near} lladdr 02:00:00:00:00:77 dev vx0 nud permanent")
    node.ip(f"{node.dash}neigh add {far} lladdr 02:00:00:00:0f:03 dev vx0 nud permanent")
    node.bridge("""
        fdb append 02:00:00:00:00:77 dev vx0 dst 192.168.1.11 vni 2 self permanent
        fdb append 02:00:00:00:0f:03 dev vx0 dst 192.168.1.11 vni 3 self permanent
    """)
    client.send(QUERY, to=near)
    client.send(QUERY, to=far)
    node.receive("veth1", Ether(src="02:00:00:00:00:77", dst=HERE) / client.packet(QUERY, to=client, src=near))


@scenario(masks=("tunnel",))
def entries_that_lead_nowhere(node: Node) -> None:
    """fdb entries through a device of their own, without a route, blackholed, and to a device that is down."""
    pod, other = flannel(node)
    node.port("eth9", "192.168.9.11/24")
    node.peer("eth9", "192.168.9.12")
    node.ip("route add blackhole 192.168.8.0/24")
    gateways = {
        3: "192.168.9.12 via eth9",
        4: "192.168.9.12 via eth0",
        5: "192.168.8.1",
        6: "203.0.113.1",
        7: "192.168.1.12",
    }
    for last, remote in gateways.items():
        mac = f"02:00:00:00:0f:{last:02x}"
        node.ip(f"neigh add 10.244.{last}.0 lladdr {mac} dev flannel.1 nud permanent")
        node.ip(f"route add 10.244.{last}.0/24 via 10.244.{last}.0 dev flannel.1 onlink")
        node.bridge(f"fdb append {mac} dev flannel.1 dst {remote} self permanent")
    for last in gateways:
        pod.send(QUERY, to=f"10.244.{last}.9")
    other.send(wrapped(from_there(node, pod)), to="192.168.1.11")


@scenario()
def learnt_entry_ages(node: Node) -> None:
    """ageing: what was learnt is forgotten when it has been silent for so long, and its frames are lost."""
    pod, other = flannel(node, options="learning ageing 1")
    node.ip("neigh add 10.244.2.9 lladdr 02:00:00:00:0f:09 dev flannel.1 nud permanent")
    node.ip("route add 10.244.2.9/32 dev flannel.1")
    frame = Ether(src="02:00:00:00:0f:09", dst=HERE) / IP(src="10.244.2.9", dst=pod.ip, id=1, ttl=9) / QUERY
    other.send(wrapped(frame), to="192.168.1.11")
    pod.send(QUERY, to="10.244.2.9").only(other)


@scenario(families=(4, 6))
def frames_that_carry_no_ip(node: Node) -> None:
    """Inner frames of other protocols, cut short, larger than the device; outer options and fragments."""
    pod, other = flannel(node)
    for body in (b"", b"\0" * 30, b"\x45" * 19):
        for kind in (0x0800, 0x86DD, 0x88B5):
            frame = Ether(src=THERE, dst=HERE, type=kind) / Raw(body)
            other.send(UDP(sport=9, dport=8472) / (header(0x08000000) + bytes(frame)), to="192.168.1.11")
    big: Packet = from_there(node, pod, UDP(sport=1, dport=2) / bytes(1430))
    for part in other.packet(wrapped(big), to="192.168.1.11").fragment(800):
        other.send(part)


@scenario(families=(4, 6))
def answers_of_a_proxy(node: Node) -> None:
    """proxy: the device answers ARP and neighbour solicitations itself for neighbours whose node it knows."""
    node.dual()
    node.port("eth0", "192.168.1.11/24")
    node.peer("eth0", "192.168.1.12")
    node.bridge_device("br0")
    node.port("veth1", master="br0")
    node.ip(f"""
        link add vx0 address {HERE} mtu 1450 type vxlan id 7 local 192.168.1.11 dstport 4789 nolearning proxy
        link set vx0 master br0
        link set vx0 up
        neigh add 10.9.0.2 lladdr {THERE} dev vx0 nud permanent
        neigh add 10.9.0.3 lladdr 02:00:00:00:0f:03 dev vx0 nud permanent
        -6 neigh add fd00:9::2 lladdr {THERE} dev vx0 nud permanent
    """)
    node.bridge(f"""
        fdb append {THERE} dev vx0 dst 192.168.1.12 self permanent
        fdb append 00:00:00:00:00:00 dev vx0 dst 192.168.1.12 self permanent
    """)
    pod = "02:00:00:00:00:66"
    if node.family == 4:
        for target in ("10.9.0.2", "10.9.0.3", "10.9.0.4"):
            ask = ARP(op=1, hwsrc=pod, psrc="10.9.0.9", pdst=target)
            node.receive("veth1", Ether(src=pod, dst="ff:ff:ff:ff:ff:ff") / ask)
    else:
        for last in (2, 4):
            solicit = ICMPv6ND_NS(tgt=f"fd00:9::{last}") / ICMPv6NDOptSrcLLAddr(lladdr=pod)
            frame = Ether(src=pod, dst=f"33:33:ff:00:00:0{last}")
            node.receive("veth1", frame / IPv6(src="fd00:9::9", dst=f"ff02::1:ff00:{last}", hlim=255) / solicit)


@scenario()
def flooded_to_a_group(node: Node) -> None:
    """`group`: what has no entry goes to the group by the device underneath, TTL 1; what comes from it is learnt."""
    node.port("eth0", "192.168.1.11/24")
    node.bridge_device("br0")
    node.port("veth1", master="br0")
    node.peer("eth0", "192.168.1.12")
    node.ip(f"""
        link add vx0 address {HERE} mtu 1450 type vxlan id 7 group 239.1.1.1 dev eth0 dstport 4789
        link set vx0 master br0
        link set vx0 up
    """)
    other = Peer(node, "eth0", "02:00:00:01:01:0c", "192.168.1.12", node.mac("eth0"))
    pod, far = "02:00:00:00:00:66", "02:00:00:00:00:88"
    node.receive("veth1", Ether(src=pod, dst=far, type=0x88B5) / Raw(b"who knows it?"))
    answer = Ether(src=far, dst=pod, type=0x88B5) / Raw(b"an answer")
    packet = other.packet(wrapped(answer, vni=7, port=4789), to="239.1.1.1", ttl=1)
    node.receive("eth0", Ether(src=other.mac, dst="01:00:5e:01:01:01") / packet)
    node.receive("veth1", Ether(src=pod, dst=far, type=0x88B5) / Raw(b"now it is known"))


@scenario(families=(4, 6))
def too_big_over_a_bridge(node: Node) -> None:
    """A tunnel as the port of a bridge: the sender of what does not fit outside is told by the device."""
    node.dual()
    node.port("eth0", "192.168.1.11/24", mtu=1400)
    node.peer("eth0", "192.168.1.12")
    four = node.family == 4
    node.bridge_device("br0", "10.9.0.1/24" if four else "fd00:9::1/64")
    node.port("veth1", master="br0")
    node.ip(f"""
        link add vx0 address {HERE} mtu 1500 type vxlan id 7 local 192.168.1.11 dstport 4789 nolearning
        link set vx0 master br0
        link set vx0 up
    """)
    node.bridge(f"fdb append {THERE} dev vx0 dst 192.168.1.12 self permanent")
    node.bridge(f"fdb add {THERE} dev vx0 master static")
    pod = node.peer("veth1", "10.9.0.2" if four else "fd00:9::2", at="br0")
    for size in (1300, 1330, 1440):
        for flags in ("DF", "") if four else ("",):
            header = {"flags": flags} if four else {}
            pod.send(UDP(sport=1, dport=2) / bytes(size), to="10.9.0.3" if four else "fd00:9::3", mac=THERE, **header)
