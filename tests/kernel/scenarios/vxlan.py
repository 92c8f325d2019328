"""VXLAN as Flannel sets it up, and what the device does with frames that are not as they should be."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, Talk, echo, reply
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

QUERY = UDP(sport=4000, dport=53) / b"query"
HERE, THERE = "02:00:00:00:0f:01", "02:00:00:00:0f:02"  # MAC addresses of the VXLAN devices
POD = {4: "10.244.2.3", 6: "fd00:244:2::3"}  # on the other node


def flannel(node: Node, options: str = "nolearning", port: int = 8472, mtu: int = 1450) -> tuple[Peer, Peer]:
    """A node of a Flannel network: a pod on cni0, and the other node on the underlay."""
    if node.family == 6:
        node.dual()
    node.port("eth0", "192.168.1.11/24")
    if node.family == 4:
        node.bridge_device("cni0", "10.244.1.1/24")
    else:
        node.bridge_device("cni0", "fd00:244:1::1/64")
    node.port("veth1", master="cni0")
    pod = node.peer("veth1", "10.244.1.2" if node.family == 4 else "fd00:244:1::2", at="cni0")
    other = node.peer("eth0", "192.168.1.12")
    own, subnet, gateway = (
        ("10.244.1.0/32", "10.244.2.0/24", "10.244.2.0")
        if node.family == 4
        else ("fd00:244:1::/128", "fd00:244:2::/64", "fd00:244:2::")
    )
    node.ip(f"""
        link add flannel.1 address {HERE} mtu {mtu} type vxlan id 1 local 192.168.1.11 dev eth0 dstport {port} {options}
        link set flannel.1 up
        addr add {own} dev flannel.1
    """)
    node.ip(f"""
        {node.dash}neigh add {gateway} lladdr {THERE} dev flannel.1 nud permanent
        {node.dash}route add {subnet} via {gateway} dev flannel.1 onlink
    """)
    node.bridge(f"fdb append {THERE} dev flannel.1 dst 192.168.1.12 self permanent")
    node.set_mac("flannel.1", HERE)
    return pod, other


def inside(packet: Packet) -> Packet:
    """The frame that a VXLAN packet carries."""
    return Ether(bytes(packet[UDP].payload)[8:])


def wrapped(frame: Packet | bytes, vni: int = 1, port: int = 8472, sport: int = 50000, **header: object) -> Packet:
    """A VXLAN packet's UDP part."""
    return UDP(sport=sport, dport=port, **header) / VXLAN(vni=vni, flags=8) / frame


def from_there(node: Node, pod: Peer, payload: Packet = QUERY, **header: object) -> Packet:
    """A frame as the other node's VXLAN device sends it for a pod here."""
    if node.family == 4:
        ip: Packet = IP(**{"src": POD[4], "dst": pod.ip, "id": 0x5555, "ttl": 63, **header})
    else:
        ip = IPv6(src=POD[6], dst=pod.ip, hlim=63)
    return Ether(src=THERE, dst=HERE) / ip / payload


@scenario(families=(4, 6))
def encapsulation(node: Node) -> None:
    """A pod's packet to the other node: outer TTL 64, no DF, UDP checksum set, the inner TTL down by one."""
    pod, other = flannel(node)
    outer = pod.send(QUERY, to=POD[node.family]).only(other)
    assert (outer[IP].src, outer[IP].dst, outer[IP].ttl, int(outer[IP].flags)) == (
        "192.168.1.11",
        "192.168.1.12",
        64,
        0,
    )
    assert 32768 <= outer[UDP].sport < 60999
    assert bytes(outer[UDP].payload)[:8] == bytes.fromhex("0800000000000100")
    assert (inside(outer).src, inside(outer).dst) == (HERE, THERE)


@scenario(families=(4, 6))
def decapsulation(node: Node) -> None:
    """A packet from the other node comes out at the pod."""
    pod, other = flannel(node)
    other.send(wrapped(from_there(node, pod)), to="192.168.1.11").only(pod)


@scenario(families=(4, 6))
def conversation(node: Node) -> None:
    """Question and answer across nodes; each flow has its own outer source port."""
    pod, other = flannel(node)
    for port in (4000, 4001, 4000):
        outer = pod.send(UDP(sport=port, dport=53) / b"query", to=POD[node.family]).only(other)
        other.send(wrapped(reply(inside(outer), b"answer")), to="192.168.1.11").only(pod)


@scenario()
def outer_packet_passes_the_hooks(node: Node) -> None:
    """The outer packet passes OUTPUT and POSTROUTING, PREROUTING and INPUT, and is tracked by itself."""
    pod, other = flannel(node)
    node.rules("""
        -t raw -A PREROUTING -p udp --dport 8472
        -t raw -A OUTPUT -p udp --dport 8472
        -A INPUT -p udp --dport 8472
        -A OUTPUT -p udp --dport 8472 -m conntrack --ctstate NEW
        -A FORWARD -i cni0 -o flannel.1
        -A FORWARD -i flannel.1 -o cni0
        -t nat -A OUTPUT -p udp --dport 8472
        -t nat -A POSTROUTING -o eth0 -p udp --dport 8472
        -t nat -A POSTROUTING -o flannel.1
        -t mangle -A POSTROUTING -o flannel.1
    """)
    pod.send(QUERY, to=POD[4]).only(other)
    pod.send(QUERY, to=POD[4]).only(other)
    other.send(wrapped(from_there(node, pod)), to="192.168.1.11").only(pod)


@scenario()
def outer_packet_dropped_by_input(node: Node) -> None:
    """INPUT without leave for udp/8472: nothing comes out."""
    pod, other = flannel(node)
    node.rules("-A INPUT -p udp --dport 8472 -j DROP")
    assert not other.send(wrapped(from_there(node, pod)), to="192.168.1.11")


@scenario()
def mark_stays_on_the_outer_packet(node: Node) -> None:
    """A mark of the inner packet is the outer packet's too, on the way out and on the way in."""
    pod, other = flannel(node)
    node.rules("""
        -t mangle -A PREROUTING -i cni0 -j MARK --set-mark 0x4000
        -A OUTPUT -p udp --dport 8472 -m mark --mark 0x4000
        -t mangle -A PREROUTING -i eth0 -j MARK --set-mark 0x7
        -A FORWARD -i flannel.1 -m mark --mark 0x7
    """)
    pod.send(QUERY, to=POD[4]).only(other)
    other.send(wrapped(from_there(node, pod)), to="192.168.1.11").only(pod)


@scenario()
def masqueraded_into_the_tunnel(node: Node) -> None:
    """kube-proxy's mark, cleared before MASQUERADE: the inner packet gets flannel.1's address, the outer is let alone."""
    pod, other = flannel(node)
    node.rules("""
        -t mangle -A PREROUTING -i cni0 -j MARK --set-xmark 0x4000/0x4000
        -t nat -A POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
        -t nat -A POSTROUTING -j MARK --set-xmark 0x4000/0x0
        -t nat -A POSTROUTING -j MASQUERADE
    """)
    outer = pod.send(QUERY, to=POD[4]).only(other)
    assert inside(outer)[IP].src == "10.244.1.0"


@scenario()
def tos_and_ecn_on_the_way_out(node: Node) -> None:
    """TOS is not copied to the outer header, ECN is; CE goes out as ECT(0)."""
    pod, other = flannel(node)
    for tos in (0x00, 0x01, 0x02, 0x03, 0xB8, 0xFF):
        pod.send(QUERY, to=POD[4], tos=tos).only(other)


@scenario()
def ecn_on_the_way_in(node: Node) -> None:
    """Outer CE marks an inner packet that is capable, and spoils one that is not."""
    pod, other = flannel(node)
    for outer, inner in ((3, 2), (3, 1), (3, 3), (3, 0), (1, 2), (2, 1), (1, 0), (2, 0), (0, 3), (0xB8, 0)):
        other.send(wrapped(from_there(node, pod, tos=inner)), to="192.168.1.11", tos=outer)


@scenario()
def wrong_vni(node: Node) -> None:
    """A network identifier that no device has."""
    pod, other = flannel(node)
    assert not other.send(wrapped(from_there(node, pod), vni=2), to="192.168.1.11")


@scenario()
def wrong_port(node: Node) -> None:
    """Another UDP port is nobody's: port unreachable."""
    pod, other = flannel(node)
    other.send(wrapped(from_there(node, pod), port=4789), to="192.168.1.11").only(other)


@scenario()
def bad_vxlan_headers(node: Node) -> None:
    """No VNI flag, reserved bits set, a header cut short."""
    pod, other = flannel(node)
    frame = bytes(from_there(node, pod))
    for header in ("0000000000000100", "0800000100000100", "0800000000000101", "8800000000000100", "0c00000000000100"):
        other.send(UDP(sport=50000, dport=8472) / Raw(bytes.fromhex(header) + frame), to="192.168.1.11")
    other.send(UDP(sport=50000, dport=8472) / Raw(b"\x08\0\0\0"), to="192.168.1.11")
    other.send(UDP(sport=50000, dport=8472) / Raw(bytes.fromhex("0800000000000100") + frame[:10]), to="192.168.1.11")


@scenario()
def udp_checksum_on_the_way_in(node: Node) -> None:
    """No outer checksum is fine, a wrong one is not."""
    pod, other = flannel(node)
    other.send(wrapped(from_there(node, pod), chksum=0), to="192.168.1.11").only(pod)
    assert not other.send(wrapped(from_there(node, pod), chksum=0xBAD), to="192.168.1.11")


@scenario()
def no_udp_checksum_on_the_way_out(node: Node) -> None:
    """noudpcsum: the outer checksum is 0."""
    pod, other = flannel(node, options="nolearning noudpcsum")
    assert pod.send(QUERY, to=POD[4]).only(other)[UDP].chksum == 0


@scenario()
def inner_frame_for_another_mac(node: Node) -> None:
    """An inner frame for a MAC address that is not the device's is ignored."""
    pod, other = flannel(node)
    frame = from_there(node, pod)
    frame.dst = "02:00:00:00:0f:99"
    assert not other.send(wrapped(frame), to="192.168.1.11")


@scenario()
def inner_frame_from_the_device_itself(node: Node) -> None:
    """An inner frame whose source is the device's own MAC address is dropped; impossible sources pass."""
    pod, other = flannel(node)
    for source in (HERE, "00:00:00:00:00:00", "01:00:5e:00:00:01"):
        frame = from_there(node, pod)
        frame.src = source
        other.send(wrapped(frame), to="192.168.1.11")


@scenario()
def impossible_source_with_learning(node: Node) -> None:
    """A device that learns drops inner frames whose source is zero or a group."""
    pod, other = flannel(node, options="learning")
    for source in ("00:00:00:00:00:00", "01:00:5e:00:00:01"):
        frame = from_there(node, pod)
        frame.src = source
        assert not other.send(wrapped(frame), to="192.168.1.11")


@scenario()
def from_an_unexpected_node(node: Node) -> None:
    """Without learning the outer source address does not matter."""
    pod, _ = flannel(node)
    third = node.peer("eth0", "192.168.1.13")
    third.send(wrapped(from_there(node, pod)), to="192.168.1.11").only(pod)


@scenario()
def missing_fdb_entry(node: Node) -> None:
    """A neighbour whose MAC address the device cannot place: the packet is lost."""
    pod, _ = flannel(node)
    node.ip("neigh replace 10.244.2.0 lladdr 02:00:00:00:0f:77 dev flannel.1 nud permanent")
    assert not pod.send(QUERY, to=POD[4])


@scenario()
def missing_neighbour(node: Node) -> None:
    """A gateway whose MAC address is unknown: ARP goes nowhere, then host unreachable."""
    pod, _ = flannel(node)
    node.ip("neigh del 10.244.2.0 dev flannel.1")
    node.sysctl("net.ipv4.neigh.flannel/1.retrans_time_ms = 100")
    assert not pod.send(QUERY, to=POD[4])
    assert node.wait(0.6).only(pod)[ICMP].code == 1


@scenario()
def flood_entry(node: Node) -> None:
    """Entries for the zero MAC address get what has no entry of its own: ARP to every node."""
    pod, other = flannel(node)
    third = node.peer("eth0", "192.168.1.13")
    node.ip("neigh del 10.244.2.0 dev flannel.1")
    node.bridge("""
        fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.168.1.12 self permanent
        fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.168.1.13 self permanent
    """)
    out = pod.send(QUERY, to=POD[4]).at("eth0")
    assert sorted(packet[IP].dst for packet in out) == [other.ip, third.ip]
    question = inside(out[0])
    answer = Ether(src=THERE, dst=HERE) / ARP(op=2, hwsrc=THERE, psrc="10.244.2.0", hwdst=HERE, pdst=question[ARP].psrc)
    other.send(wrapped(answer), to="192.168.1.11").only(other)


@scenario()
def learning(node: Node) -> None:
    """With learning, the inner source's MAC address is remembered with the outer source."""
    pod, other = flannel(node, options="learning")
    third = node.peer("eth0", "192.168.1.13")
    node.ip("neigh replace 10.244.2.0 lladdr 02:00:00:00:0f:33 dev flannel.1 nud permanent")
    assert not pod.send(QUERY, to=POD[4])
    frame = from_there(node, pod)
    frame.src = "02:00:00:00:0f:33"
    third.send(wrapped(frame), to="192.168.1.11").only(pod)
    pod.send(QUERY, to=POD[4]).only(third)
    other.send(wrapped(frame), to="192.168.1.11").only(pod)
    pod.send(QUERY, to=POD[4]).only(other)


@scenario()
def learning_does_not_move_a_permanent_entry(node: Node) -> None:
    """A frame that claims a permanent entry's MAC address from elsewhere is dropped."""
    pod, _ = flannel(node, options="learning")
    third = node.peer("eth0", "192.168.1.13")
    assert not third.send(wrapped(from_there(node, pod)), to="192.168.1.11")


@scenario()
def too_big_for_the_device(node: Node) -> None:
    """A DF packet of 1451 bytes: fragmentation needed with 1450, from the pod's gateway."""
    pod, other = flannel(node)
    pod.send(UDP(sport=1, dport=2) / bytes(1422), to=POD[4], flags="DF").only(other)
    error = pod.send(UDP(sport=1, dport=2) / bytes(1423), to=POD[4], flags="DF").only(pod)
    assert error[ICMP].nexthopmtu == 1450


@scenario(families=(6,))
def too_big_for_the_device_ipv6(node: Node) -> None:
    """The same in IPv6: packet too big."""
    pod, other = flannel(node)
    pod.send(UDP(sport=1, dport=2) / bytes(1402), to=POD[6]).only(other)
    pod.send(UDP(sport=1, dport=2) / bytes(1403), to=POD[6]).only(pod)


@scenario()
def inner_fragmentation(node: Node) -> None:
    """A packet without DF is cut to the device's MTU before it is wrapped; the fragments share the outer source port."""
    pod, other = flannel(node)
    out = pod.send(UDP(sport=1, dport=2) / bytes(1450), to=POD[4]).at(other)
    assert len({packet[UDP].sport for packet in out}) == 1


@scenario()
def outer_fragmentation(node: Node) -> None:
    """A device MTU that is too large for the underlay: the outer packet is cut."""
    pod, other = flannel(node, mtu=1500)
    out = pod.send(UDP(sport=1, dport=2) / bytes(1460), to=POD[4])
    assert len(out.at(other)) == 2


@scenario()
def outer_fragments_on_the_way_in(node: Node) -> None:
    """Outer fragments are put together before they are unwrapped."""
    pod, other = flannel(node)
    whole = other.packet(wrapped(from_there(node, pod, UDP(sport=1, dport=2) / bytes(1300))), to="192.168.1.11")
    for part in whole.fragment(800):
        other.send(part)


@scenario()
def df_options(node: Node) -> None:
    """df set, df inherit: the outer DF bit."""
    pod, other = flannel(node, options="nolearning df inherit")
    for flags in ("DF", 0):
        assert int(pod.send(QUERY, to=POD[4], flags=flags).only(other)[IP].flags) == (2 if flags else 0)


@scenario()
def ttl_and_tos_options(node: Node) -> None:
    """A fixed outer TTL, and the inner TOS inherited."""
    pod, other = flannel(node, options="nolearning ttl 9 tos inherit")
    for tos in (0x00, 0x10, 0xBB):
        assert pod.send(QUERY, to=POD[4], tos=tos).only(other)[IP].ttl == 9


@scenario()
def ttl_inherit(node: Node) -> None:
    """ttl inherit: the inner TTL is the outer one's."""
    pod, other = flannel(node, options="nolearning ttl inherit")
    assert pod.send(QUERY, to=POD[4], ttl=33).only(other)[IP].ttl == 32


@scenario()
def calico_port(node: Node) -> None:
    """Calico's way: port 4789, VNI 4096 would be another device; the port alone is shown."""
    pod, other = flannel(node, port=4789)
    assert pod.send(QUERY, to=POD[4]).only(other)[UDP].dport == 4789
    other.send(wrapped(from_there(node, pod), port=4789), to="192.168.1.11").only(pod)


@scenario()
def source_port_range(node: Node) -> None:
    """srcport: the outer source port lies in the range, the end excluded."""
    pod, other = flannel(node, options="nolearning srcport 50000 50004")
    for port in range(4000, 4012):
        assert 50000 <= pod.send(UDP(sport=port, dport=53), to=POD[4]).only(other)[UDP].sport < 50004


@scenario(families=(4, 6))
def service_across_nodes(node: Node) -> None:
    """A pod asks a Service whose endpoint is on the other node: translated, then wrapped."""
    pod, other = flannel(node)
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    backend = f"{POD[4]}:8080" if node.family == 4 else f"[{POD[6]}]:8080"
    node.rules(f"-t nat -A PREROUTING -d {vip} -p udp --dport 80 -j DNAT --to-destination {backend}")
    outer = pod.send(UDP(sport=4000, dport=80) / b"query", to=vip).only(other)
    assert inside(outer)[UDP].dport == 8080
    other.send(wrapped(reply(inside(outer), b"answer")), to="192.168.1.11").only(pod)


@scenario()
def node_port_across_nodes(node: Node) -> None:
    """A client from outside, a NodePort here, the endpoint on the other node: masqueraded to flannel.1's address."""
    _, other = flannel(node)
    client = node.peer("eth0", "192.168.1.50")
    node.rules(f"""
        -t nat -A PREROUTING -p tcp --dport 30080 -j MARK --set-xmark 0x4000/0x4000
        -t nat -A PREROUTING -p tcp --dport 30080 -j DNAT --to-destination {POD[4]}:8080
        -t nat -A POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
        -t nat -A POSTROUTING -j MARK --set-xmark 0x4000/0x0
        -t nat -A POSTROUTING -j MASQUERADE
    """)
    from scapy.layers.inet import TCP

    outer = client.send(TCP(sport=40000, dport=30080, flags="S"), to="192.168.1.11").only(other)
    inner = inside(outer)
    assert inner[IP].src == "10.244.1.0"
    back = other.send(wrapped(reply(inner, flags="SA", ack=1)), to="192.168.1.11")
    assert back.at("eth0")[-1][IP].src == "192.168.1.11"


@scenario()
def time_exceeded_before_wrapping(node: Node) -> None:
    """TTL 1 from the pod: the gateway answers, nothing is wrapped."""
    pod, _ = flannel(node)
    pod.send(QUERY, to=POD[4], ttl=1).only(pod)


@scenario()
def time_exceeded_behind_the_tunnel(node: Node) -> None:
    """TTL 1 out of the tunnel: the error goes back through it, from the device's address."""
    pod, other = flannel(node)
    error = other.send(wrapped(from_there(node, pod, ttl=1)), to="192.168.1.11").only(other)
    assert inside(error)[ICMP].type == 11


@scenario()
def ping_of_the_tunnel_address(node: Node) -> None:
    """The address of flannel.1 answers through the tunnel."""
    _, other = flannel(node)
    request = Ether(src=THERE, dst=HERE) / IP(src="10.244.2.0", dst="10.244.1.0", id=9) / echo(4)
    answer = other.send(wrapped(request), to="192.168.1.11").only(other)
    assert inside(answer)[ICMP].type == 0


@scenario()
def underlay_neighbour_unknown(node: Node) -> None:
    """The other node's MAC address must be asked for first; the wrapped packet waits."""
    pod, other = flannel(node)
    node.ip("neigh del 192.168.1.12 dev eth0")
    request = pod.send(QUERY, to=POD[4]).only("eth0")
    answer = ARP(op=2, hwsrc=other.mac, psrc=other.ip, hwdst=request[ARP].hwsrc, pdst=request[ARP].psrc)
    node.receive("eth0", Ether(src=other.mac, dst=request.src) / answer).only(other)


@scenario()
def underlay_without_a_route(node: Node) -> None:
    """No route to the other node: the packet is lost in the device."""
    pod, _ = flannel(node)
    node.bridge(f"""
        fdb del {THERE} dev flannel.1 dst 192.168.1.12 self
        fdb append {THERE} dev flannel.1 dst 203.0.113.5 self permanent
    """)
    assert not pod.send(QUERY, to=POD[4])


@scenario()
def other_node_behind_a_router(node: Node) -> None:
    """The other node is reached through a router of the underlay."""
    pod, _ = flannel(node)
    router = node.peer("eth0", "192.168.1.1")
    node.ip(f"route add 192.168.2.0/24 via {router.ip}")
    node.bridge(f"""
        fdb del {THERE} dev flannel.1 dst 192.168.1.12 self
        fdb append {THERE} dev flannel.1 dst 192.168.2.12 self permanent
    """)
    assert pod.send(QUERY, to=POD[4]).only("eth0").dst == router.mac


@scenario()
def device_down(node: Node) -> None:
    """A tunnel device that is down: its routes are gone."""
    pod, _ = flannel(node)
    node.ip("link set flannel.1 down")
    pod.send(QUERY, to=POD[4]).only(pod)


@scenario()
def ipv6_underlay(node: Node) -> None:
    """The outer packet in IPv6: hop limit 64, checksum mandatory."""
    node.dual()
    node.port("eth0", "fd00:168::11/64")
    node.bridge_device("cni0", "10.244.1.1/24")
    node.port("veth1", master="cni0")
    pod = node.peer("veth1", "10.244.1.2", at="cni0")
    other = node.peer("eth0", "fd00:168::12")
    node.ip(f"""
        link add flannel.1 address {HERE} mtu 1430 type vxlan id 1 local fd00:168::11 dev eth0 dstport 8472 nolearning
        link set flannel.1 up
        addr add 10.244.1.0/32 dev flannel.1
        neigh add 10.244.2.0 lladdr {THERE} dev flannel.1 nud permanent
        route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink
    """)
    node.bridge(f"fdb append {THERE} dev flannel.1 dst fd00:168::12 self permanent")
    node.set_mac("flannel.1", HERE)
    outer = pod.send(QUERY, to=POD[4]).only(other)
    assert (outer[IPv6].hlim, outer[IPv6].src) == (64, "fd00:168::11")
    frame = Ether(src=THERE, dst=HERE) / IP(src=POD[4], dst=pod.ip, id=3, ttl=63) / QUERY
    other.send(wrapped(frame), to="fd00:168::11").only(pod)


@scenario()
def tcp_across_nodes(node: Node) -> None:
    """A tracked TCP conversation through the tunnel, wrapped packets tracked besides."""
    pod, other = flannel(node)
    node.rules("-A FORWARD -m conntrack --ctstate INVALID -j DROP")
    server_seq = 500_000
    outer = Talk(pod, other, to=POD[4]).client("S").only(other)
    inner = inside(outer)
    answer = reply(inner, flags="SA", seq=server_seq, ack=inner["TCP"].seq + 1)
    other.send(wrapped(answer), to="192.168.1.11").only(pod)
