"""The CNI plugins bridge and host-local: a bridge on the node, a veth pair for each pod.

Real plugins draw the names of the node's ends, and all MAC addresses, by chance; here they follow from the pod, MAC
addresses from its own addresses too: a pod that is made anew has others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from dataplane.agents.identity import hexadecimal, stable_mac
from dataplane.cluster.objects import Network, NodeState, PodState
from dataplane.host.config import Address, Bridge, BridgePort, IPAddress, IPInterface, Link, Route

BRIDGE = "cni0"
POD_INTERFACE = "eth0"
POD_INDEX = 2  # behind lo, in the pod's namespace


@dataclass(frozen=True, slots=True)
class Attachment:
    """A pod's veth pair. number: the pod's place among the node's attachments, from 0, and its namespace's nsid."""

    pod: PodState
    number: int
    port: str
    port_index: int
    port_mac: int
    pod_mac: int
    mtu: int
    addresses: tuple[IPInterface, ...]


def attached(pods: Iterable[PodState]) -> list[PodState]:
    """The pods that have a network namespace of their own."""
    return [pod for pod in pods if not pod.host_network and not pod.finished and pod.ips]


def attach(node: NodeState, pods: Sequence[PodState], first_index: int, mtu: int) -> list[Attachment]:
    """The attachments of a node's pods in order; interface indexes count up from first_index."""
    taken: set[str] = set()
    attachments: list[Attachment] = []
    for number, pod in enumerate(pods):
        port = port_name(pod, taken)
        taken.add(port)
        attachments.append(
            Attachment(
                pod=pod,
                number=number,
                port=port,
                port_index=first_index + number,
                port_mac=stable_mac("port", *_identity(pod)),
                pod_mac=pod_mac(pod),
                mtu=mtu,
                addresses=tuple([with_prefix(ip, _prefix(node, ip)) for ip in pod.ips]),
            )
        )
    return attachments


def with_prefix(ip: IPAddress, length: int) -> IPInterface:
    """An address with the length of its network's prefix. (From its number: a text would be parsed.)"""
    return (IPv4Interface if ip.version == 4 else IPv6Interface)((int(ip), length))


def _prefix(node: NodeState, ip: IPAddress) -> int:
    network = node.pod_cidr(4 if ip.version == 4 else 6)
    return network.prefixlen if network is not None and ip in network else ip.max_prefixlen


def port_name(pod: PodState, taken: Iterable[str] = ()) -> str:
    """`veth` and 8 hexadecimal digits, as the plugin names the node's end."""
    # Two pods of one node meet in 32 bits once in a blue moon; then the later one takes its next digits.
    names = (f"veth{hexadecimal(str(pod), start)}" for start in range(56))
    return next(name for name in names if name not in taken)


def pod_mac(pod: PodState) -> int:
    return stable_mac("pod", *_identity(pod))


def _identity(pod: PodState) -> list[str]:
    return [str(pod), *map(str, pod.ips)]


def bridge_mac(node: NodeState) -> int:
    """The plugin pins the bridge's MAC address, so that ports that come and go leave it alone."""
    return stable_mac("bridge", node.name)


def gateway(network: Network) -> IPInterface:
    """host-local gives the first address of the node's range to the bridge, and to no pod."""
    return ip_interface((int(network.network_address) + 1, network.prefixlen))


def with_broadcast(interface: str, value: IPInterface) -> Address:
    """An address as netlink libraries add it: in IPv4 with the broadcast address of its network, if that has one."""
    if isinstance(value, IPv4Interface) and value.network.prefixlen < 31:
        return Address(interface, value, broadcast=value.network.broadcast_address)
    return Address(interface, value)


def node_links(node: NodeState, index: int, attachments: Sequence[Attachment], mtu: int, hairpin: bool) -> list[Link]:
    """The bridge and the node's ends. Nothing before the first pod: the plugin makes the bridge when it needs it."""
    if not attachments:
        return []
    bridge = Link(BRIDGE, "bridge", index, bridge_mac(node), mtu, bridge=Bridge())
    ports = [
        Link(
            a.port,
            "veth",
            a.port_index,
            a.port_mac,
            a.mtu,
            promisc=True,
            allmulti=True,
            master=BRIDGE,
            peer_index=POD_INDEX,
            peer_netns=a.number,
            port=BridgePort(hairpin=hairpin),
        )
        for a in attachments
    ]
    return [bridge, *ports]


def node_addresses(node: NodeState, attachments: Sequence[Attachment]) -> list[Address]:
    families = {address.version for a in attachments for address in a.addresses}
    return [with_broadcast(BRIDGE, gateway(cidr)) for cidr in node.pod_cidrs if cidr.version in families]


def pod_link(attachment: Attachment) -> Link:
    return Link(
        POD_INTERFACE,
        "veth",
        POD_INDEX,
        attachment.pod_mac,
        attachment.mtu,
        peer_index=attachment.port_index,
        peer_netns=0,
    )


def pod_addresses(attachment: Attachment) -> list[Address]:
    return [with_broadcast(POD_INTERFACE, value) for value in attachment.addresses]


def pod_routes(node: NodeState, attachment: Attachment, cluster_cidrs: Iterable[Network]) -> list[Route]:
    """The default route (isDefaultGateway), and the routes that the IPAM configuration names."""
    routes: list[Route] = []
    for value in attachment.addresses:
        network = node.pod_cidr(4 if value.version == 4 else 6)
        if network is None:
            continue
        via = gateway(network).ip
        routes.append(Route.of("default" if value.version == 4 else "::/0", POD_INTERFACE, via))
        routes += [Route.of(cidr, POD_INTERFACE, via) for cidr in cluster_cidrs if cidr.version == value.version]
    return routes
