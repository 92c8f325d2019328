"""A bridge as a CNI plugin makes it: learning, flooding, hairpin, and netfilter on what it switches."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, Talk, echo, network, reply
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

from scenarios.conntrack_tcp import COUNT_STATES

QUERY = UDP(sport=4000, dport=53) / b"query"
BROADCAST = "ff:ff:ff:ff:ff:ff"
VIP = {4: "10.96.0.10", 6: "fd00:96::a"}


def pods(node: Node, count: int = 3, options: str = "") -> list[Peer]:
    """A bridge cni0 with the pods' gateway address, and one port per pod."""
    subnet = "10.244.1." if node.family == 4 else "fd00:244:1::"
    node.bridge_device("cni0", f"{subnet}1/{24 if node.family == 4 else 64}", options=options)
    made = []
    for i in range(count):
        node.port(f"veth{i + 1}", master="cni0")
        made.append(node.peer(f"veth{i + 1}", f"{subnet}{i + 2}", at="cni0"))
    return made


def introduce(*peers: Peer) -> None:
    """Let each pod say something, so that the bridge knows where it is."""
    for peer in peers:
        peer.send(echo(peer.node.family), to=peer.node.address("cni0"))


def netfilter(node: Node, on: bool) -> None:
    node.sysctl(f"""
        net.bridge.bridge-nf-call-iptables = {int(on)}
        net.bridge.bridge-nf-call-ip6tables = {int(on)}
        net.bridge.bridge-nf-call-arptables = 0
    """)


@scenario(families=(4, 6))
def unknown_destination_is_flooded(node: Node) -> None:
    """A frame for a MAC address that the bridge has not seen leaves by every other port."""
    one, two, three = pods(node)
    out = one.send(QUERY, to=two, mac=two.mac)
    assert sorted(frame.interface for frame in out) == ["veth2", "veth3"]
    del three


@scenario(families=(4, 6))
def learnt_destination_gets_it_alone(node: Node) -> None:
    """After a pod has spoken, frames for it leave by its port alone; nothing in them changes."""
    one, two, _ = pods(node)
    introduce(two)
    frame = Ether(src=one.mac, dst=two.mac) / one.packet(QUERY, to=two)
    assert bytes(node.receive("veth1", frame).only(two)) == bytes(frame)


@scenario(families=(4, 6))
def to_the_node_itself(node: Node) -> None:
    """The bridge's own MAC address goes up: the gateway answers a ping."""
    one, _, _ = pods(node)
    one.send(echo(node.family), to=node.address("cni0")).only(one)


@scenario(families=(4, 6))
def routed_out_of_the_bridge(node: Node) -> None:
    """From a pod through the gateway to another link, and back."""
    one, _, _ = pods(node)
    node.port("eth0", "192.168.1.11/24" if node.family == 4 else "fd00:168::11/64")
    outside = node.peer("eth0", "192.168.1.50" if node.family == 4 else "fd00:168::50")
    request = one.send(QUERY, to=outside).only(outside)
    outside.send(reply(request, b"answer"))
    outside.send(reply(request, b"answer"))


@scenario()
def broadcast_goes_everywhere(node: Node) -> None:
    """A broadcast leaves by all other ports and goes up: an ARP request for the gateway is answered besides."""
    one, _, _ = pods(node)
    request = ARP(op=1, hwsrc=one.mac, psrc=one.ip, pdst=node.address("cni0"))
    out = one.send(request, mac=BROADCAST)
    assert sorted(frame.interface for frame in out) == ["veth1", "veth2", "veth3"]


@scenario()
def arp_between_pods(node: Node) -> None:
    """ARP between pods passes the bridge: the request flooded, the answer to one port."""
    one, two, _ = pods(node)
    request = one.send(ARP(op=1, hwsrc=one.mac, psrc=one.ip, pdst=two.ip), mac=BROADCAST).at(two)[0]
    answer = ARP(op=2, hwsrc=two.mac, psrc=two.ip, hwdst=one.mac, pdst=one.ip)
    node.receive("veth2", Ether(src=two.mac, dst=request.src) / answer).only(one)


@scenario()
def multicast_is_flooded(node: Node) -> None:
    """Without snooping a group's frame leaves by every other port."""
    one, _, _ = pods(node)
    one.send(QUERY, to="239.1.2.3", mac="01:00:5e:01:02:03")
    one.send(QUERY, to="224.0.0.251", mac="01:00:5e:00:00:fb")


@scenario()
def reserved_group_addresses(node: Node) -> None:
    """01:80:c2:00:00:0x is not forwarded, but for STP's own address when STP is off."""
    one, _, _ = pods(node)
    for last in (0x00, 0x01, 0x02, 0x03, 0x0E, 0x0F, 0x10):
        frame = Ether(src=one.mac, dst=f"01:80:c2:00:00:{last:02x}", type=0x88B5) / Raw(bytes(46))
        node.receive("veth1", frame)


@scenario()
def bad_source_addresses(node: Node) -> None:
    """A multicast or zero source MAC address is dropped; the bridge's own MAC address as source is not learnt."""
    one, two, _ = pods(node)
    for source in ("01:00:5e:00:00:01", "00:00:00:00:00:00", BROADCAST):
        assert not node.receive("veth1", Ether(src=source, dst=two.mac) / one.packet(QUERY, to=two))
    node.receive("veth1", Ether(src=node.mac("cni0"), dst=two.mac) / one.packet(QUERY, to=two))
    one.send(echo(4), to=node.address("cni0"))


@scenario()
def destination_behind_the_same_port(node: Node) -> None:
    """A frame for a MAC address behind the port that it came in by is dropped."""
    one, _, _ = pods(node)
    introduce(one)
    other = Ether(src="02:00:00:01:01:77", dst=one.mac) / one.packet(QUERY, to=one)
    assert not node.receive("veth1", other)


@scenario()
def hairpin_port(node: Node) -> None:
    """hairpin_mode: a frame may leave by the port that it came in by, floods too."""
    one, _, _ = pods(node)
    node.bridge("link set dev veth1 hairpin on")
    other = Ether(src="02:00:00:01:01:77", dst=one.mac) / one.packet(QUERY, to=one)
    introduce(one)
    node.receive("veth1", other).only(one)
    one.send(QUERY, to="10.244.1.99", mac="02:00:00:00:99:99")


@scenario()
def isolated_ports(node: Node) -> None:
    """Isolated ports speak to others, not to each other."""
    one, two, three = pods(node)
    node.bridge("""
        link set dev veth1 isolated on
        link set dev veth2 isolated on
    """)
    introduce(one, two, three)
    assert not one.send(QUERY, to=two, mac=two.mac)
    one.send(QUERY, to=three, mac=three.mac).only(three)
    three.send(QUERY, to=one, mac=one.mac).only(one)
    one.send(QUERY, to="10.244.1.99", mac="02:00:00:00:99:99")


@scenario()
def port_without_learning_or_flooding(node: Node) -> None:
    """learning off: the port's hosts stay unknown; flood off: unknown unicast does not leave by it."""
    one, two, three = pods(node)
    node.bridge("""
        link set dev veth2 learning off
        link set dev veth3 flood off
    """)
    introduce(two)
    out = one.send(QUERY, to=two, mac=two.mac)
    assert [frame.interface for frame in out] == ["veth2"]
    one.send(QUERY, to=three, mac=BROADCAST)


@scenario()
def static_entry(node: Node) -> None:
    """A static entry is used at once and does not age, but moves when its address shows up elsewhere."""
    one, two, three = pods(node, options="ageing_time 100")
    node.bridge(f"fdb add {two.mac} dev veth2 master static")
    node.wait(1.5)
    one.send(QUERY, to=two, mac=two.mac).only(two)
    node.receive("veth3", Ether(src=two.mac, dst=node.mac("cni0")) / three.packet(echo(4), to=node.address("cni0")))
    one.send(QUERY, to=two, mac=two.mac).only(three)


@scenario()
def sticky_entry(node: Node) -> None:
    """A sticky entry stays at its port."""
    one, two, three = pods(node)
    node.bridge(f"fdb add {two.mac} dev veth2 master static sticky")
    one.send(QUERY, to=two, mac=two.mac).only(two)
    node.receive("veth3", Ether(src=two.mac, dst=node.mac("cni0")) / three.packet(echo(4), to=node.address("cni0")))
    one.send(QUERY, to=two, mac=two.mac).only(two)


@scenario()
def host_that_moves(node: Node) -> None:
    """A learnt address moves to the port where it was last seen."""
    one, two, three = pods(node)
    introduce(two)
    one.send(QUERY, to=two, mac=two.mac).only(two)
    node.receive("veth3", Ether(src=two.mac, dst=node.mac("cni0")) / two.packet(QUERY, to=node.address("cni0")))
    one.send(QUERY, to=two, mac=two.mac).only(three)


@scenario()
def learnt_entry_ages(node: Node) -> None:
    """After the ageing time an address is unknown again."""
    one, two, _ = pods(node, options="ageing_time 100")
    introduce(two)
    one.send(QUERY, to=two, mac=two.mac).only(two)
    node.wait(1.3)
    assert len(one.send(QUERY, to=two, mac=two.mac)) == 2


@scenario()
def vlan_tags_pass(node: Node) -> None:
    """A bridge without VLAN filtering passes tags through, and learns without them."""
    one, two, _ = pods(node)
    introduce(two)
    frame = Ether(src=one.mac, dst=two.mac) / Dot1Q(vlan=5, prio=3) / one.packet(QUERY, to=two)
    assert bytes(node.receive("veth1", frame).only(two)) == bytes(frame)
    double = Ether(src=one.mac, dst=two.mac) / Dot1AD(vlan=7) / Dot1Q(vlan=5) / one.packet(QUERY, to=two)
    assert bytes(node.receive("veth1", double).only(two)) == bytes(double)


@scenario()
def other_protocols_pass(node: Node) -> None:
    """Frames of any protocol are switched, padding and all."""
    one, two, _ = pods(node)
    introduce(two)
    frame = bytes(Ether(src=one.mac, dst=two.mac, type=0x88B5) / Raw(bytes(range(46))))
    assert bytes(node.receive("veth1", frame).only(two)) == frame


@scenario()
def padding_of_switched_packets(node: Node) -> None:
    """Bridge netfilter trims the padding of a switched IP packet; without it the frame passes as it is."""
    one, two, _ = pods(node)
    introduce(two)
    frame = bytes(Ether(src=one.mac, dst=two.mac) / one.packet(UDP(sport=1, dport=2), to=two)).ljust(60, b"\0")
    node.receive("veth1", frame).only(two)


@scenario()
def padding_without_netfilter(node: Node) -> None:
    """The same with bridge-nf-call-iptables=0."""
    one, two, _ = pods(node)
    netfilter(node, False)
    introduce(two)
    frame = bytes(Ether(src=one.mac, dst=two.mac) / one.packet(UDP(sport=1, dport=2), to=two)).ljust(60, b"\0")
    assert bytes(node.receive("veth1", frame).only(two)) == frame


@scenario()
def larger_than_the_port(node: Node) -> None:
    """A frame larger than the MTU of the port that it should leave by is dropped; nobody is told."""
    node.bridge_device("cni0", "10.244.1.1/24")
    node.port("veth1", master="cni0")
    node.port("veth2", master="cni0", mtu=1000)
    one, two = node.peer("veth1", "10.244.1.2", at="cni0"), node.peer("veth2", "10.244.1.3", at="cni0")
    netfilter(node, False)
    introduce(two)
    one.send(UDP(sport=1, dport=2) / bytes(972), to=two, mac=two.mac).only(two)
    assert not one.send(UDP(sport=1, dport=2) / bytes(980), to=two, mac=two.mac)


@scenario(families=(4, 6))
def rules_see_switched_packets(node: Node) -> None:
    """bridge-nf-call-iptables=1: PREROUTING, FORWARD and POSTROUTING see a switched packet with in and out the bridge."""
    one, two, _ = pods(node)
    node.rules("""
        -t raw -A PREROUTING -i cni0
        -t raw -A PREROUTING -i veth1
        -A FORWARD -i cni0 -o cni0
        -A FORWARD -i veth1
        -A FORWARD -o veth2
        -A INPUT -i cni0
        -t mangle -A POSTROUTING -o cni0
        -t mangle -A POSTROUTING -o veth2
    """)
    introduce(two)
    one.send(QUERY, to=two, mac=two.mac).only(two)


@scenario(families=(4, 6))
def rules_do_not_see_switched_packets(node: Node) -> None:
    """bridge-nf-call-iptables=0: rules see only what is routed."""
    one, two, _ = pods(node)
    netfilter(node, False)
    node.rules("""
        -t raw -A PREROUTING -i cni0
        -A FORWARD
        -t mangle -A POSTROUTING
    """)
    introduce(two)
    one.send(QUERY, to=two, mac=two.mac).only(two)
    one.send(QUERY, to=two)


@scenario(families=(4, 6))
def physdev(node: Node) -> None:
    """physdev: the ports of a switched packet, and of one that goes up or comes down."""
    one, two, _ = pods(node)
    node.rules("""
        -A FORWARD -m physdev --physdev-in veth1
        -A FORWARD -m physdev --physdev-in veth+
        -A FORWARD -m physdev --physdev-out veth2 --physdev-is-bridged
        -A FORWARD -m physdev ! --physdev-in veth1
        -A FORWARD -m physdev --physdev-is-in
        -A FORWARD -m physdev --physdev-is-out
        -A FORWARD -m physdev --physdev-is-bridged
        -A FORWARD -m physdev ! --physdev-is-bridged
        -t raw -A PREROUTING -m physdev --physdev-in veth1
        -t raw -A PREROUTING -m physdev --physdev-is-in
        -A INPUT -m physdev --physdev-in veth1
    """)
    introduce(two)
    one.send(QUERY, to=two, mac=two.mac)
    one.send(echo(node.family), to=node.address("cni0"))


@scenario(families=(4, 6))
def drop_of_a_switched_packet(node: Node) -> None:
    """A rule in FORWARD drops packets between pods of one bridge."""
    one, two, _ = pods(node)
    node.rules("-A FORWARD -p udp --dport 53 -j DROP")
    introduce(two)
    assert not one.send(QUERY, to=two, mac=two.mac)
    one.send(UDP(sport=1, dport=54), to=two, mac=two.mac).only(two)


@scenario(families=(4, 6))
def reject_of_a_switched_packet(node: Node) -> None:
    """REJECT of a switched packet: errors are routed back, resets leave by the port that the packet came in by."""
    one, two, _ = pods(node)
    node.rules("""
        -A FORWARD -p udp -j REJECT
        -A FORWARD -p tcp -j REJECT --reject-with tcp-reset
    """)
    introduce(one, two)
    one.send(QUERY, to=two, mac=two.mac)
    one.send(TCP(sport=1, dport=80, flags="S"), to=two, mac=two.mac)


@scenario(families=(4, 6))
def tracking_of_switched_packets(node: Node) -> None:
    """Connections between pods of one bridge are tracked."""
    one, two, _ = pods(node)
    node.rules(COUNT_STATES)
    introduce(one, two)
    request = one.send(QUERY, to=two, mac=two.mac).only(two)
    two.send(reply(request, b"answer")).only(one)


def service(node: Node, backend: Peer) -> str:
    vip = VIP[node.family]
    to = f"{backend.ip}:8080" if node.family == 4 else f"[{backend.ip}]:8080"
    for protocol in ("tcp", "udp"):
        node.rules(f"-t nat -A PREROUTING -d {vip} -p {protocol} --dport 80 -j DNAT --to-destination {to}")
    return vip


@scenario(families=(4, 6))
def service_on_the_same_bridge(node: Node) -> None:
    """A pod asks a Service whose endpoint is on the same bridge: switched, with the endpoint's MAC, TTL untouched."""
    one, two, _ = pods(node)
    vip = service(node, two)
    introduce(one, two)
    request = one.send(UDP(sport=4000, dport=80) / b"query", to=vip).only(two)
    answer = two.send(reply(request, b"answer")).at(one)
    assert network(answer[-1]).src == vip


@scenario(families=(4, 6))
def service_without_bridge_netfilter(node: Node) -> None:
    """bridge-nf-call-iptables=0: the request is routed; the answer, switched, is not translated back."""
    one, two, _ = pods(node)
    netfilter(node, False)
    vip = service(node, two)
    introduce(one, two)
    request = one.send(UDP(sport=4000, dport=80) / b"query", to=vip).at(two)[-1]
    back = Ether(src=two.mac, dst=one.mac) / network(reply(request, b"answer"))
    answer = node.receive("veth2", back).only(one)
    assert network(answer).src == two.ip


@scenario(families=(4, 6))
def answer_by_way_of_the_gateway(node: Node) -> None:
    """The same answer sent to the gateway's MAC address is routed: TTL falls, and it is translated back."""
    one, two, _ = pods(node)
    vip = service(node, two)
    introduce(one, two)
    request = one.send(UDP(sport=4000, dport=80) / b"query", to=vip).at(two)[-1]
    two.send(Ether(src=two.mac, dst=node.mac("cni0")) / network(reply(request, b"answer")))


@scenario(families=(4, 6))
def service_whose_endpoint_is_the_client(node: Node) -> None:
    """A pod asks a Service and is its own endpoint: masqueraded, out by the hairpin port."""
    one, two, _ = pods(node)
    node.bridge("link set dev veth1 hairpin on")
    vip = service(node, one)
    node.rules(f"-t nat -A POSTROUTING -s {one.ip} -d {one.ip} -j MASQUERADE")
    introduce(one, two)
    out = one.send(UDP(sport=4000, dport=80) / b"query", to=vip).at(one)
    asked = [packet for packet in out if UDP in packet and packet[UDP].dport == 8080]
    one.send(reply(asked[-1], b"answer"))


@scenario()
def service_whose_endpoint_is_the_client_without_hairpin(node: Node) -> None:
    """Without hairpin mode the packet has no way back to its own port."""
    one, two, _ = pods(node)
    vip = service(node, one)
    node.rules(f"-t nat -A POSTROUTING -s {one.ip} -d {one.ip} -j MASQUERADE")
    introduce(one, two)
    one.send(UDP(sport=4000, dport=80) / b"query", to=vip)


@scenario()
def service_whose_endpoint_is_unknown_to_the_bridge(node: Node) -> None:
    """The endpoint's MAC address is known as a neighbour but not to the bridge: the translated packet is flooded."""
    one, two, _ = pods(node)
    vip = service(node, two)
    out = one.send(UDP(sport=4000, dport=80) / b"query", to=vip)
    assert sorted(frame.interface for frame in out) == ["veth2", "veth3"]


@scenario()
def service_whose_endpoint_must_be_asked_for(node: Node) -> None:
    """The endpoint is no neighbour yet: ARP first, then the packet."""
    one, two, _ = pods(node)
    node.ip(f"neigh del {two.ip} dev cni0")
    vip = service(node, two)
    introduce(one)
    request = one.send(UDP(sport=4000, dport=80) / b"query", to=vip).at(two)[0]
    answer = ARP(op=2, hwsrc=two.mac, psrc=two.ip, hwdst=request[ARP].hwsrc, pdst=request[ARP].psrc)
    node.receive("veth2", Ether(src=two.mac, dst=request.src) / answer)


@scenario()
def service_on_another_link(node: Node) -> None:
    """A pod asks a Service whose endpoint is elsewhere: routed, rules of PREROUTING evaluated once."""
    one, _, _ = pods(node)
    node.port("eth0", "192.168.1.11/24")
    outside = node.peer("eth0", "192.168.1.50")
    vip = service(node, outside)
    node.rules("-t raw -A PREROUTING -p udp")
    request = one.send(UDP(sport=4000, dport=80) / b"query", to=vip).only(outside)
    outside.send(reply(request, b"answer"))


@scenario(families=(4, 6))
def tcp_through_a_service_on_the_bridge(node: Node) -> None:
    """A whole TCP conversation with a Service on the same bridge."""
    one, two, _ = pods(node)
    vip = service(node, two)
    introduce(one, two)
    talk = Talk(one, two, to=vip)
    talk.open()
    talk.client("PA", b"GET")
    talk.server("PA", b"200")
    talk.client("FA")
    talk.server("FA")
    talk.client("A")


@scenario()
def invalid_ip_on_a_bridge(node: Node) -> None:
    """Bridge netfilter drops switched packets whose IP header is broken; without it they pass."""
    one, two, _ = pods(node)
    introduce(two)
    for fields in ({"chksum": 1}, {"len": 1000}, {"version": 5}, {"ihl": 4}):
        one.send(one.packet(QUERY, to=two, **fields), mac=two.mac)


@scenario()
def ttl_one_on_a_bridge(node: Node) -> None:
    """Switching does not look at the TTL."""
    one, two, _ = pods(node)
    introduce(two)
    assert one.send(QUERY, to=two, mac=two.mac, ttl=1).only(two)[IP].ttl == 1


@scenario()
def fragments_through_a_bridge(node: Node) -> None:
    """With tracking, fragments are put together on a bridge too, and cut again as they came."""
    one, two, _ = pods(node)
    node.rules(COUNT_STATES)
    introduce(two)
    whole = one.packet(UDP(sport=4000, dport=53) / bytes(i % 251 for i in range(3000)), to=two)
    for part in whole.fragment(1000):
        one.send(Ether(src=one.mac, dst=two.mac) / part)


@scenario()
def icmp_error_about_a_service_on_the_bridge(node: Node) -> None:
    """The endpoint's port unreachable comes back from the Service's address."""
    one, two, _ = pods(node)
    vip = service(node, two)
    introduce(one, two)
    request = one.send(UDP(sport=4000, dport=80) / b"query", to=vip).only(two)
    out = node.receive(
        "veth2",
        Ether(src=two.mac, dst=one.mac)
        / IP(src=two.ip, dst=one.ip, id=77)
        / ICMP(type=3, code=3)
        / Raw(bytes(request[IP])[:28]),
    )
    assert out.at(one)[-1][IP].src == vip


@scenario()
def bridge_port_down(node: Node) -> None:
    """A port that is down takes and gives nothing."""
    one, two, three = pods(node)
    node.ip("link set veth3 down")
    introduce(one, two)
    out = one.send(QUERY, to=three, mac=three.mac)
    assert [frame.interface for frame in out] == ["veth2"]


@scenario()
def own_packets_through_a_bridge(node: Node) -> None:
    """The node speaks to a pod: to the learnt port, or flooded."""
    one, two, three = pods(node)
    introduce(one)
    here = node.address("cni0")
    node.send(IP(src=here, dst=one.ip, id=5) / QUERY).only(one)
    node.send(IP(src=here, dst=two.ip, id=6) / QUERY)
    node.send(IP(src=here, dst=three.ip, id=7) / QUERY)


def overhear(node: Node) -> list[Peer]:
    """A promiscuous bridge with netfilter, and rules that tell how INPUT sees what goes up."""
    made = pods(node)
    netfilter(node, True)
    node.ip("link set cni0 promisc on")
    node.rules(COUNT_STATES)
    return made


@scenario(families=(4, 6))
def promiscuous_bridge(node: Node) -> None:
    """A promiscuous bridge counts all frames as its own; what goes up and was not for its address is untracked."""
    one, two, three = overhear(node)
    one.send(QUERY, to=two, mac=two.mac)
    one.send(QUERY, to=two, mac=BROADCAST)
    one.send(QUERY, to=node.address("cni0"), mac=BROADCAST)
    introduce(two)
    one.send(QUERY, to=two, mac=two.mac)
    one.send(QUERY, to=node.address("cni0"), mac=three.mac)
    one.send(echo(node.family), to=node.address("cni0")).only(one)


@scenario()
def copies_that_clash_on_a_bridge(node: Node) -> None:
    """No copy of a group frame leaves, for SNAT has no tuple left for it; the copy that goes up still counts as received."""
    one, two, _ = pods(node)
    netfilter(node, True)
    node.bridge("link set dev veth1 hairpin on")
    node.port("eth0", "192.168.1.11/24")
    outside = node.peer("eth0", "192.168.1.50")
    node.rules("-t nat -A POSTROUTING -j SNAT --to-source 192.168.1.11")
    for protocol in (47, 253):
        two.send(Raw(b"\0\0\x08\0tunnel"), to=outside, proto=protocol).only(outside)
        ip = IP(src=one.ip, dst=outside.ip, proto=protocol)
        assert not node.receive("veth1", Ether(src=one.mac, dst="01:00:5e:00:00:05") / ip / Raw(b"\0\0\x08\0tunnel"))


@scenario()
def two_bridges(node: Node) -> None:
    """Routing from one bridge to another."""
    one, _, _ = pods(node)
    node.ip("""
        link add br1 address 02:00:00:00:00:b1 type bridge stp_state 0 mcast_snooping 0
        link set br1 up
        addr add 10.245.1.1/24 dev br1
    """)
    node.set_mac("br1", "02:00:00:00:00:b1")
    node.port("tap9", master="br1")
    far = node.peer("tap9", "10.245.1.2", at="br1")
    request = one.send(QUERY, to=far).only(far)
    far.send(reply(request, b"answer"))
