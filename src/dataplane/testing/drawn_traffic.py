"""hypothesis strategies for packets and for conversations. Everything shrinks to the plain case: UDP in IPv4, empty."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from hypothesis import strategies as st

from dataplane.agents.underlay import OUTSIDE
from dataplane.cluster.objects import ServiceState
from dataplane.emulation import Cluster
from dataplane.testing.pieces import cut
from dataplane.testing.run import Conversation
from dataplane.testing.wire import ICMP, SCTP, TCP, UDP, packet, vxlan

Target = tuple[str, int]  # address and port
NUMBERS = {"UDP": UDP, "TCP": TCP, "SCTP": SCTP}
SMALL = st.binary(max_size=48)
# More than the links take, so that fragments are sent; few bytes to shrink.
LARGE = st.builds(lambda size, first: bytes([first]) * size, st.integers(1300, 6000), st.integers(0, 255))
PORTS = st.integers(1, 65535)
CLIENT_PORTS = st.integers(1024, 65535)
# End of options, no operation, MSS, window scale, SACK permitted, timestamps; each padded to four bytes.
TCP_OPTIONS = st.lists(
    st.sampled_from(
        [
            b"\x02\x04\x05\xb4",
            b"\x01\x03\x03\x07",
            b"\x01\x01\x04\x02",
            b"\x01\x01\x08\x0a" + bytes(range(8)),
            b"\x01\x01\x01\0",
        ]
    ),
    max_size=3,
).map(b"".join)
MACS = bytes.fromhex("020000000001020000000002")


@st.composite
def packets(
    draw: st.DrawFn,
    source: str | None = None,
    destination: str | None = None,
    *,
    families: tuple[int, ...] = (4, 6),
    protocols: Sequence[int] = (UDP, TCP, ICMP, SCTP),
    fragments: bool = False,
    tunnels: bool = False,
    damaged: bool = False,
) -> bytes:
    """An IP packet: UDP, TCP with options, SCTP or an echo request, of any TTL, class and flags.

    fragments: it may be one of a larger packet. tunnels: it may be VXLAN with another inside. damaged: bits may be turned
    over anywhere in it.
    """
    said = source or destination
    family = ip_address(said).version if said else draw(st.sampled_from(families))
    any_address = st.integers(1, 250).map(lambda last: f"10.0.0.{last}" if family == 4 else f"fd00::{last}")
    ends = ip_address(source or draw(any_address)), ip_address(destination or draw(any_address))
    protocol = draw(st.sampled_from(list(protocols)))
    made = packet(
        *ends,
        protocol,
        (draw(PORTS), draw(PORTS)),
        draw(SMALL),
        ttl=draw(st.sampled_from([64, 1, 2, 255])),
        id=draw(st.integers(0, 65535)),
        tos=draw(st.sampled_from([0, 0xB8, 0x02, 0x03])),
        flags=draw(st.sampled_from([0x02, 0x10, 0x18, 0x11, 0x04])),
        icmp_type=8 if family == 4 else 128,
        tcp_options=draw(TCP_OPTIONS) if protocol == TCP else b"",
        dont_fragment=draw(st.booleans()),
        chunk=draw(st.sampled_from([0, 1, 2, 7, 10, 11])),
    )
    if tunnels and draw(st.booleans()):
        kind = b"\x08\0" if family == 4 else b"\x86\xdd"
        made = vxlan(MACS + kind + made, *ends, vni=draw(st.sampled_from([1, 2])))
    if fragments and draw(st.booleans()):
        pieces = cut(made, (20 if family == 4 else 48) + draw(st.sampled_from([8, 16, 32])), id=draw(st.integers(0, 3)))
        made = draw(st.sampled_from(pieces))
    if damaged:
        flips = draw(st.lists(st.integers(0, 8 * len(made) - 1), max_size=4))
        broken = bytearray(made)
        for bit in flips:
            broken[bit // 8] ^= 1 << bit % 8
        made = bytes(broken)
    return made


@st.composite
def conversations(
    draw: st.DrawFn,
    cluster: Cluster,
    *,
    protocols: tuple[int, ...] = (UDP, TCP, ICMP, SCTP),
    large: bool = True,
) -> Conversation:
    """Somebody talks to a Service (at a cluster IP, an external address, a load balancer or a node's port), a pod or a
    node of the cluster: from a pod, a node, or outside. large: payloads may be more than a link takes, in fragments.
    Protocols that nothing in the cluster listens to are sent to pods."""
    state = cluster.state
    pods = [pod for pod in state.pods if not pod.host_network and pod.ips]
    protocol = draw(st.sampled_from(protocols))
    inside: list[Target] = []
    outer: list[Target] = []
    of_nodes: list[Target] = []
    for service in state.services:
        for targets, more in zip((inside, outer, of_nodes), _targets(service, protocol, cluster), strict=True):
            targets += more
    direct = [(str(ip), 8080) for pod in pods for ip in pod.ips]
    of_nodes += [(str(ip), 0) for node in state.nodes for ip in node.addresses if protocol == ICMP]
    # The kind of target first: otherwise the many pods would drown the rest.
    targets = draw(st.sampled_from([kind for kind in (inside, of_nodes, outer, direct) if kind]))
    target, dport = draw(st.sampled_from(targets))
    family = ip_address(target).version
    clients = [str(pod) for pod in pods if any(ip.version == family for ip in pod.ips)]
    clients += [node.name for node in state.nodes if any(ip.version == family for ip in node.addresses)]
    if targets is of_nodes or targets is outer:
        clients = [OUTSIDE] if draw(st.booleans()) else clients
    # A segment of TCP or a chunk of SCTP is never larger than what its sender knows of the way.
    sized = st.one_of(SMALL, LARGE) if large and protocol in (UDP, ICMP) else SMALL
    exchanges = draw(st.lists(st.tuples(sized, sized), min_size=1, max_size=3))
    sport = draw(CLIENT_PORTS)
    closes = protocol == TCP and draw(st.booleans())
    return Conversation(draw(st.sampled_from(clients)), target, protocol, sport, dport, tuple(exchanges), closes=closes)


def _targets(service: ServiceState, protocol: int, cluster: Cluster) -> tuple[list[Target], list[Target], list[Target]]:
    """Those of cluster IPs, of addresses outside the cluster, and of the nodes."""
    inside: list[Target] = []
    outer: list[Target] = []
    of_nodes: list[Target] = []
    for port in service.ports:
        if NUMBERS.get(port.protocol) != protocol:
            continue
        inside += [(str(ip), port.port) for ip in service.cluster_ips]
        outer += [(str(ip), port.port) for ip in service.external_ips]
        outer += [(str(entry.ip), port.port) for entry in service.ingress if entry.ip is not None]
        for node in cluster.state.nodes if port.node_port else ():
            of_nodes += [(str(ip), port.node_port) for ip in node.addresses]
    return inside, outer, of_nodes
