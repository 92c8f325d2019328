"""VLAN tags at interfaces and bridges that know no VLANs."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, echo
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from scenarios.bridge import BROADCAST, introduce, netfilter, pods
from scenarios.conntrack_tcp import COUNT_STATES

PRIORITY = Dot1Q(vlan=0, prio=5)


def tagged(node: Node, peer: Peer, to: str, mac: str, *tags: Packet) -> Packet:
    """An echo request behind tags."""
    frame = Ether(src=peer.mac, dst=mac)
    for tag in tags:
        frame = frame / tag
    return frame / peer.packet(echo(node.family), to=to)


TAGS = (
    (PRIORITY,),
    (Dot1AD(vlan=0),),
    (PRIORITY, PRIORITY),
    (Dot1AD(vlan=0), PRIORITY),
    (Dot1Q(vlan=5),),
    (Dot1AD(vlan=5),),
    (PRIORITY, Dot1Q(vlan=5)),
    (Dot1Q(vlan=5), PRIORITY),
)


@scenario(families=(4, 6))
def tags_at_an_interface(node: Node) -> None:
    """Tags that bear a priority alone are taken off, one behind the other; a VLAN that is not there is somebody else's."""
    client, _ = node.router()
    node.rules(COUNT_STATES)
    for i, tags in enumerate(TAGS):
        out = node.receive("eth0", tagged(node, client, node.address("eth0"), client.gateway, *tags))
        assert len(out) == (i < 4)


@scenario(families=(4, 6))
def tags_on_a_bridge(node: Node) -> None:
    """A bridge passes tags on as they are, shows none of their packets to netfilter, and takes those without a VLAN up."""
    one, two, three = pods(node)
    netfilter(node, True)
    node.rules(COUNT_STATES)
    introduce(two, three)
    for tags in TAGS:
        for mac in (two.mac, BROADCAST):
            frame = tagged(node, one, two.ip, mac, *tags)
            assert all(out.data == bytes(frame) for out in node.receive("veth1", frame))
        node.receive("veth1", tagged(node, one, node.address("cni0"), one.gateway, *tags))


@scenario()
def frames_that_end_in_a_tag(node: Node) -> None:
    """A frame that is too short for its tag is dropped, on a bridge too."""
    client, _ = node.router()
    one, two, _ = pods(node)
    for peer in (client, one):
        for rest in (b"", b"\\0", b"\\0\\5", b"\\0\\0\\x08", b"\\0\\5\\x08\\0", b"\\0\\0\\x81\\0", b"\\0\\0\\x08\\0E"):
            node.receive(peer.interface, Ether(src=peer.mac, dst=BROADCAST, type=0x8100) / Raw(rest))
    del two


@scenario()
def unknown_ethertypes(node: Node) -> None:
    """What has an EtherType that nobody knows, or a length instead, is counted as dropped; a bridge passes it on."""
    client, _ = node.router()
    one, _, _ = pods(node)
    for peer in (client, one):
        for kind in (0x1234, 0x88CC, 60):
            for start in (b"\0\0", b"\xff\xff"):
                node.receive(peer.interface, Ether(src=peer.mac, dst=BROADCAST, type=kind) / Raw(start + bytes(58)))
