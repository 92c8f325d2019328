"""Settings of a bridge and its ports that CNI plugins and people turn."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import echo
from scapy.layers.inet import IP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from scenarios.bridge import BROADCAST, QUERY, introduce, netfilter, pods


@scenario(families=(4, 6))
def ports_by_kind_of_flood(node: Node) -> None:
    """bcast_flood, mcast_flood and flood off, one port each; the node's own floods are not held back by them."""
    one, two, three = pods(node)
    node.port("veth4", master="cni0")
    node.bridge("""
        link set dev veth2 flood off
        link set dev veth3 mcast_flood off
    """)
    node.ip("link set veth4 type bridge_slave bcast_flood off")
    for target in (BROADCAST, "02:00:00:00:00:99", "01:00:5e:01:02:03", "33:33:00:00:00:09"):
        node.receive("veth1", Ether(src=one.mac, dst=target, type=0x88B5) / Raw(bytes(46)))
    del two, three


@scenario(families=(4, 6))
def isolated_and_hairpin_together(node: Node) -> None:
    """Isolated ports with hairpin: back out of themselves, not to one another; the gateway and the third hear them."""
    one, two, three = pods(node)
    node.bridge("""
        link set dev veth1 isolated on hairpin on
        link set dev veth2 isolated on hairpin on
    """)
    introduce(one, two, three)
    for target in (two, three, one):
        one.send(QUERY, to=target, mac=target.mac)
    node.receive("veth1", Ether(src=one.mac, dst=BROADCAST, type=0x88B5) / Raw(bytes(46)))
    node.receive("veth3", Ether(src=three.mac, dst=BROADCAST, type=0x88B5) / Raw(bytes(46)))


@scenario(families=(4, 6))
def ports_that_do_not_forward(node: Node) -> None:
    """Ports that are disabled, blocking, listening and learning: what they learn and what they pass."""
    one, two, three = pods(node)
    node.port("veth4", master="cni0")
    node.bridge("""
        link set dev veth2 state 1
        link set dev veth3 state 2
        link set dev veth4 state 4
    """)
    for port, mac in (("veth2", two.mac), ("veth3", three.mac), ("veth4", "02:00:00:00:00:44")):
        node.receive(port, Ether(src=mac, dst=one.mac, type=0x88B5) / Raw(bytes(46)))
        node.receive(
            port, Ether(src=mac, dst=node.mac("cni0")) / two.packet(echo(node.family), to=node.address("cni0"))
        )
        node.receive("veth1", Ether(src=one.mac, dst=mac, type=0x88B5) / Raw(bytes(46)))


@scenario(families=(4, 6))
def entries_of_every_kind(node: Node) -> None:
    """Entries: local at a port, static at the bridge, dynamic, and one for a port's own MAC address."""
    one, two, three = pods(node)
    node.bridge("""
        fdb add 02:00:00:00:00:71 dev veth2 master static
        fdb add 02:00:00:00:00:72 dev veth2 master dynamic
        fdb add 02:00:00:00:00:73 dev veth3 master local
        fdb add 02:00:00:00:00:74 dev cni0 self local
    """)
    for last in range(0x71, 0x75):
        mac = f"02:00:00:00:00:{last:x}"
        node.receive("veth1", Ether(src=one.mac, dst=mac) / one.packet(echo(node.family), to=node.address("cni0")))
        node.receive("veth1", Ether(src=one.mac, dst=mac, type=0x88B5) / Raw(bytes(46)))
    for port in ("veth1", "veth2"):
        node.receive(
            "veth1", Ether(src=one.mac, dst=node.mac(port)) / one.packet(echo(node.family), to=node.address("cni0"))
        )
    for last in (0x71, 0x72, 0x73):
        node.receive("veth3", Ether(src=f"02:00:00:00:00:{last:x}", dst=one.mac, type=0x88B5) / Raw(bytes(46)))
        node.receive("veth1", Ether(src=one.mac, dst=f"02:00:00:00:00:{last:x}", type=0x88B5) / Raw(bytes(46)))
    del two, three


@scenario()
def ageing_of_nothing(node: Node) -> None:
    """ageing_time 0: nothing is remembered, everything is flooded."""
    one, two, three = pods(node, options="ageing_time 0")
    introduce(one, two, three)
    one.send(QUERY, to=two, mac=two.mac)


@scenario()
def tags_through_netfilter(node: Node) -> None:
    """bridge-nf-filter-vlan-tagged=0: rules do not see tagged packets; =1: they do, and translate."""
    one, two, _ = pods(node)
    netfilter(node, True)
    node.rules("-A FORWARD -p udp")
    node.receive("veth1", Ether(src=one.mac, dst=two.mac) / Dot1Q(vlan=7) / one.packet(QUERY, to=two))


@scenario()
def snooping_without_a_querier(node: Node) -> None:
    """mcast_snooping=1, the default: without a querier every group is flooded; reports are not."""
    one, two, three = pods(node, options="mcast_snooping 1 mcast_querier 0")
    introduce(one, two, three)
    for group, mac in (("239.1.2.3", "01:00:5e:01:02:03"), ("224.0.0.1", "01:00:5e:00:00:01")):
        node.receive("veth1", Ether(src=one.mac, dst=mac) / one.packet(QUERY, to=group))
    node.receive("veth1", Ether(src=one.mac, dst=BROADCAST, type=0x88B5) / Raw(bytes(46)))


@scenario()
def group_forward_mask(node: Node) -> None:
    """group_fwd_mask: reserved addresses 01-80-C2-00-00-0X that are passed on all the same."""
    one, *_ = pods(node, options="group_fwd_mask 0x4008")
    for last in range(16):
        node.receive("veth1", Ether(src=one.mac, dst=f"01:80:c2:00:00:{last:02x}", type=0x88CC) / Raw(bytes(46)))


@scenario()
def group_forward_mask_of_a_port(node: Node) -> None:
    """group_fwd_mask of a port: the same, for what comes in by that port."""
    one, *_ = pods(node)
    node.ip("link set veth1 type bridge_slave group_fwd_mask 0x4000")
    for port in ("veth1", "veth2"):
        node.receive(port, Ether(src=one.mac, dst="01:80:c2:00:00:0e", type=0x88CC) / Raw(bytes(46)))


@scenario()
def packets_of_the_node_itself(node: Node) -> None:
    """The node sends through its bridge: to a known pod, a broadcast, a group, from the port's own MAC address back."""
    one, two, _ = pods(node)
    netfilter(node, True)
    introduce(one, two)
    for target in (one.ip, "10.244.1.255"):
        node.send(IP(src=node.address("cni0"), dst=target, id=9) / QUERY)


@scenario(families=(4, 6))
def answers_that_leave_by_the_port_they_came_in(node: Node) -> None:
    """Routed back into the same bridge: with hairpin and without, by way of the gateway's MAC address."""
    one, two, _ = pods(node)
    introduce(one, two)
    one.send(QUERY, to=two)
    one.send(QUERY, to=one)
    node.receive("veth1", Ether(src=one.mac, dst=BROADCAST) / one.packet(QUERY, to=node.address("cni0")))


@scenario(families=(4, 6))
def ports_in_every_chain(node: Node) -> None:
    """physdev in every chain: by name, by the beginning of one, inverted, is-in, is-out and is-bridged, and their opposites."""
    one, two, _ = pods(node)
    netfilter(node, True)
    node.port("eth0", "192.168.1.11/24" if node.family == 4 else "fd00:168::11/64")
    outside = node.peer("eth0", "192.168.1.50" if node.family == 4 else "fd00:168::50")
    for chain in ("PREROUTING", "INPUT", "FORWARD", "POSTROUTING"):
        matches = ["--physdev-in veth1", "! --physdev-in veth+", "! --physdev-is-in", "! --physdev-is-bridged"]
        if chain in ("FORWARD", "POSTROUTING"):
            matches += ["--physdev-is-bridged --physdev-out veth2", "--physdev-is-bridged ! --physdev-out veth2"]
            matches += ["--physdev-is-bridged ! --physdev-is-out", "--physdev-is-bridged --physdev-out veth+"]
        for match in matches:
            node.rules(f"-t mangle -A {chain} -m physdev {match}")
    introduce(one, two)
    one.send(QUERY, to=two, mac=two.mac)
    one.send(QUERY, to=outside)
    outside.send(QUERY, to=one)
    node.receive("veth1", Ether(src=one.mac, dst=BROADCAST) / one.packet(QUERY, to=node.address("cni0")))
