"""Captures of any size for a given cluster: conversations that its clients would record, drawn from a seed.

Each flow has a client and a target. Clients are pods, or stand outside and come through a NodePort; targets are
Services (by ClusterIP) and pods (by their own address). Both directions are written as the client sees them: the
answers come from the address that it spoke to. TCP conversations open, carry data both ways and close.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from dataplane._fast.batch import HEADROOM, TAILROOM, PacketBatch
from dataplane._fast.traffic import Traffic
from dataplane.capture import CaptureWriter, PcapWriter
from dataplane.cluster import ClusterState, PodState
from dataplane.cluster.objects import Address
from dataplane.errors import ModelError

__all__ = ["IMIX", "Plan", "Recipe", "batches", "parse_mix", "parse_sizes", "plan", "write"]

Family = Literal[4, 6]
START = 1_748_854_800_000_000_000  # 2025-06-02 09:00:00 UTC, in ns
SECOND = 1_000_000_000
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1}
# The simple Internet mix (7 small, 4 medium, 1 large), in frame bytes; the largest is what fits into VXLAN over IPv6
# on a network of 1500 bytes, which leaves 1430 for the packet.
IMIX: Mapping[int, float] = {64: 7, 594: 4, 1444: 1}
LARGEST = 9216
# An interface's ports of its own choice: the widest range that Linux accepts without privileges.
FIRST_PORT, PORTS = 1024, 64512
OUTSIDE4 = int.from_bytes(bytes([198, 18, 0, 0]), "big")  # RFC 2544: addresses for measurements
OUTSIDE6 = bytes.fromhex("20010002000000000000000000000000")  # RFC 5180: the same for IPv6
OUTSIDERS = 1 << 16


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to make.

    packets   of both directions together; at least one per flow
    flows     conversations; packets are shared among them evenly
    sizes     frame bytes -> weight; a frame is never smaller than its headers
    protocols tcp, udp, icmp -> weight
    services  share of the flows that go to Services; the rest goes to pods. A flow whose protocol and family no
              Service has goes to a pod
    external  share of the flows that come from outside, through a NodePort
    ipv6      share of the flows in IPv6
    concurrent flows alive at a time; 0: all of them
    rate      packets per second, for the timestamps
    """

    packets: int = 100_000
    flows: int = 1_000
    sizes: Mapping[int, float] = field(default_factory=lambda: {64: 1})
    protocols: Mapping[str, float] = field(default_factory=lambda: {"tcp": 8, "udp": 2})
    services: float = 0.8
    external: float = 0.0
    ipv6: float = 0.0
    concurrent: int = 0
    rate: float = 100_000
    start: int = START
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError where a number makes no sense."""
        if self.flows < 1 or self.packets < self.flows:
            raise ValueError(f"{self.packets} packets in {self.flows} flows: each flow needs at least one packet")
        for name in ("services", "external", "ipv6"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
        if not 0 < self.rate <= SECOND:
            raise ValueError(f"rate is above 0 and at most {SECOND} packets per second, not {self.rate}")
        for name, weights in (("sizes", self.sizes.values()), ("protocols", self.protocols.values())):
            if not weights or min(weights) < 0 or sum(weights) <= 0:
                raise ValueError(f"{name}: weights are not negative, and at least one is above 0")
        if unknown := self.protocols.keys() - PROTOCOLS.keys():
            raise ValueError(f"protocols are {', '.join(PROTOCOLS)}, not {', '.join(sorted(unknown))}")
        if min(self.sizes) < 1 or max(self.sizes) > LARGEST:
            raise ValueError(f"sizes are from 1 to {LARGEST} bytes")


@dataclass(frozen=True, slots=True)
class Plan:
    """The flows of a recipe, one entry per flow in each array (see `_fast.traffic.Traffic` for their shapes).

    kind: 0 a pod to a Service, 1 a pod to a pod, 2 from outside through a NodePort,
    3 from outside through a load balancer.
    """

    recipe: Recipe
    kind: npt.NDArray[np.uint8]
    family: npt.NDArray[np.uint8]
    protocol: npt.NDArray[np.uint8]
    source: npt.NDArray[np.uint8]
    destination: npt.NDArray[np.uint8]
    source_mac: npt.NDArray[np.uint64]
    destination_mac: npt.NDArray[np.uint64]
    source_port: npt.NDArray[np.uint16]
    destination_port: npt.NDArray[np.uint16]
    packets: npt.NDArray[np.int64]

    def traffic(self) -> Traffic:
        """A fresh run of the plan: the same packets each time."""
        recipe = self.recipe
        sizes = sorted(recipe.sizes)
        total = sum(Fraction(recipe.sizes[size]) for size in sizes)
        chances, below = [], Fraction(0)
        for size in sizes:
            below += Fraction(recipe.sizes[size]) / total
            chances.append(max(int(below * 2**64) - 1, 0))
        return Traffic(
            family=self.family,
            protocol=self.protocol,
            source=self.source,
            destination=self.destination,
            source_mac=self.source_mac,
            destination_mac=self.destination_mac,
            source_port=self.source_port,
            destination_port=self.destination_port,
            packets=self.packets,
            sizes=np.array(sizes, np.uint32),
            chances=np.array(chances, np.uint64),
            concurrent=recipe.concurrent or recipe.flows,
            start=recipe.start,
            gap=round(SECOND / recipe.rate),
            seed=recipe.seed,
        )


def parse_sizes(text: str) -> dict[int, float]:
    """Sizes from text: "64", "imix", or "64:7,594:4,1444:1". Raises ValueError for anything else."""
    if text == "imix":
        return dict(IMIX)
    return {int(size): weight for size, weight in parse_mix(text).items()}


def parse_mix(text: str) -> dict[str, float]:
    """Weights from text: "tcp", "tcp:8,udp:2" or "tcp=8,udp=2". Raises ValueError for anything else."""
    mix: dict[str, float] = {}
    for part in text.replace("=", ":").split(","):
        name, _, weight = part.strip().partition(":")
        if not name or name in mix:
            raise ValueError(f"{text!r}: expected NAME or NAME:WEIGHT, each name once, separated by commas")
        mix[name] = float(weight) if weight else 1.0
    return mix


def batches(plan: Plan, rows: int = 4096) -> Iterator[PacketBatch]:
    """The plan's packets in batches of up to `rows`, decoded. The same batch object each time, so bounded memory."""
    room = max(max(plan.recipe.sizes), 128) + HEADROOM + TAILROOM
    batch = PacketBatch(rows, rows * room + LARGEST + HEADROOM + TAILROOM)
    traffic = plan.traffic()
    while traffic.fill(batch):
        batch.decode()
        yield batch
        batch.clear()


def write(plan: Plan, path: str | os.PathLike[str], progress: Callable[[int], None] | None = None) -> int:
    """Write the plan's packets to a capture and return how many: pcapng where the name says so, else pcap.

    progress: called with the number of packets that are written
    Raises OSError when the file cannot be made.
    """
    name = os.fspath(path)
    as_pcapng = name.removesuffix(".gz").endswith(".pcapng")
    with CaptureWriter(name, ["clients"]) if as_pcapng else PcapWriter(name) as writer:
        for batch in batches(plan):
            writer.write(batch)
            if progress is not None:
                progress(writer.packets)
        return writer.packets


Front = tuple[Address, str, int]
"""Where clients outside go to: a balancer's address, protocol and port."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Somewhere that packets go or come from; port 0 stands for a port drawn by the client."""

    address: bytes
    port: int = 0


def plan(state: ClusterState, recipe: Recipe, balancers: Sequence[Front] = ()) -> Plan:
    """Draw the flows. balancers: where clients outside go to, where there is one for their protocol; else to NodePorts.

    Raises ModelError where the cluster has no pod or Service that the recipe needs.
    """
    random = np.random.default_rng(recipe.seed)
    flows = recipe.flows
    family = np.where(random.random(flows) < recipe.ipv6, np.uint8(6), np.uint8(4)).astype(np.uint8)
    names = sorted(recipe.protocols)
    weights = np.array([recipe.protocols[name] for name in names], float)
    protocol = random.choice(np.array([PROTOCOLS[name] for name in names], np.uint8), flows, p=weights / weights.sum())
    kind = np.where(random.random(flows) < recipe.services, np.uint8(0), np.uint8(1)).astype(np.uint8)
    kind[random.random(flows) < recipe.external] = 2

    source = np.zeros((flows, 16), np.uint8)
    destination = np.zeros((flows, 16), np.uint8)
    destination_port = np.zeros(flows, np.uint16)
    for version in (4, 6):
        of_family = family == version
        if not of_family.any():
            continue
        pods = _pods(state, version)
        if not pods:
            raise ModelError(f"the cluster has no running pod with an IPv{version} address")
        for number in PROTOCOLS.values():
            chosen = of_family & (protocol == number)
            services = _services(state, version, number)
            if not services:
                kind[chosen & (kind == 0)] = 1
            fronts = _fronts(balancers, version, number)
            if fronts:
                kind[chosen & (kind == 2)] = 3
            node_ports = _node_ports(state, version, number)
            if not node_ports and (chosen & (kind == 2)).any():
                _stay_inside(chosen, kind, number, state, version, recipe)
            kinds = (services, _pod_ports(state, version, number), node_ports, fronts)
            for want, places in enumerate(kinds):
                rows = np.flatnonzero(chosen & (kind == want))
                if rows.size:
                    _draw(random, rows, places, destination, destination_port)
        inside = np.flatnonzero(of_family & (kind < 2))
        _draw(random, inside, pods, source, None)
        _part_from_oneself(random, of_family & (kind == 1), source, destination, pods)
        outside = np.flatnonzero(of_family & (kind >= 2))
        source[outside] = _outsiders(random, outside.size, version)

    packets = np.full(flows, recipe.packets // flows, np.int64)
    packets[: recipe.packets % flows] += 1
    return Plan(
        recipe=recipe,
        kind=kind,
        family=family,
        protocol=protocol,
        source=source,
        destination=destination,
        source_mac=_macs(source, family),
        # The next hop: a router for those outside, for a pod its node's bridge. Any address of a neighbour will do.
        destination_mac=np.full(flows, 0x0A5800000001, np.uint64),
        source_port=_ports(random, source),
        destination_port=destination_port,
        packets=packets,
    )


def _stay_inside(
    chosen: npt.NDArray[np.bool_],
    kind: npt.NDArray[np.uint8],
    number: int,
    state: ClusterState,
    version: Family,
    recipe: Recipe,
) -> None:
    """Outside flows of a protocol without a NodePort become flows of pods, as long as another protocol has one."""
    others = [PROTOCOLS[name] for name in recipe.protocols if PROTOCOLS[name] != number]
    if not any(_node_ports(state, version, other) for other in others):
        raise ModelError(f"no Service has a NodePort for IPv{version}: nothing can come from outside")
    kind[chosen & (kind == 2)] = 1


def _pods(state: ClusterState, family: Family) -> list[_Place]:
    return [_Place(ip.packed) for pod in _running(state) if (ip := pod.ip(family)) is not None]


def _running(state: ClusterState) -> Iterator[PodState]:
    """Pods with a network of their own that take and send traffic."""
    return (p for p in state.pods if p.node and not (p.host_network or p.finished or p.terminating))


def _pod_ports(state: ClusterState, family: Family, protocol: int) -> list[_Place]:
    """Each running pod with its first port of the protocol, or with one that any program could listen on."""
    name = "UDP" if protocol == 17 else "TCP"
    places = []
    for pod in _running(state):
        ip = pod.ip(family)
        if ip is not None:
            port = next((port.port for port in pod.ports if port.protocol == name), 8080)
            places.append(_Place(ip.packed, 0 if protocol == 1 else port))
    return places


def _served(state: ClusterState, namespace: str, name: str, family: Family) -> bool:
    slices = state.service_slices(namespace, name, family)
    return any(endpoint.ready for part in slices for endpoint in part.endpoints)


def _services(state: ClusterState, family: Family, protocol: int) -> list[_Place]:
    """Every Service port of the protocol that has an endpoint in the family."""
    places = []
    for service in state.services:
        address = service.cluster_ip(family)
        if address is None or not _served(state, service.namespace, service.name, family):
            continue
        places += [_Place(address.packed, port.port) for port in service.ports if _number(port.protocol) == protocol]
    return places


def _node_ports(state: ClusterState, family: Family, protocol: int) -> list[_Place]:
    """Every (node address, NodePort) of the protocol whose Service has an endpoint in the family."""
    ports = [
        port.node_port
        for service in state.services
        if family in service.ip_families and _served(state, service.namespace, service.name, family)
        for port in service.ports
        if port.node_port and _number(port.protocol) == protocol
    ]
    addresses = [address.packed for node in state.nodes if (address := node.address(family)) is not None]
    return [_Place(address, port) for port in ports for address in addresses]


def _fronts(balancers: Sequence[Front], family: Family, protocol: int) -> list[_Place]:
    return [
        _Place(address.packed, port)
        for address, name, port in balancers
        if address.version == family and _number(name) == protocol
    ]


def _number(protocol: str) -> int:
    return PROTOCOLS.get(protocol.lower(), 0)


def _draw(
    random: np.random.Generator,
    rows: npt.NDArray[np.intp],
    places: list[_Place],
    address: npt.NDArray[np.uint8],
    port: npt.NDArray[np.uint16] | None,
) -> None:
    """Give each row one of the places, all alike."""
    which = random.integers(0, len(places), rows.size)
    table = np.frombuffer(b"".join(place.address.ljust(16, b"\0") for place in places), np.uint8).reshape(-1, 16)
    address[rows] = table[which]
    if port is not None:
        port[rows] = np.array([place.port for place in places], np.uint16)[which]


def _part_from_oneself(
    random: np.random.Generator,
    rows: npt.NDArray[np.bool_],
    source: npt.NDArray[np.uint8],
    destination: npt.NDArray[np.uint8],
    pods: list[_Place],
) -> None:
    """A pod that speaks to its own address uses its loopback: no network sees that. Draw such clients again."""
    if len(pods) < 2:
        if (rows & (source == destination).all(axis=1)).any():
            raise ModelError("the cluster has one pod: it has nobody to speak to but Services")
        return
    while (same := rows & (source == destination).all(axis=1)).any():
        _draw(random, np.flatnonzero(same), pods, source, None)


def _outsiders(random: np.random.Generator, count: int, family: Family) -> npt.NDArray[np.uint8]:
    addresses = np.zeros((count, 16), np.uint8)
    drawn = random.integers(1, OUTSIDERS, count, np.uint32)
    if family == 4:
        addresses[:, :4] = (drawn + np.uint32(OUTSIDE4)).astype(">u4").view(np.uint8).reshape(-1, 4)
    else:
        addresses[:] = np.frombuffer(OUTSIDE6, np.uint8)
        addresses[:, 12:] = drawn.astype(">u4").view(np.uint8).reshape(-1, 4)
    return addresses


def _macs(address: npt.NDArray[np.uint8], family: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """0a:58 and the last four bytes of the address, as CNI plugins name pods' interfaces."""
    last = np.where((family == 4)[:, None], address[:, :4], address[:, 12:])
    return last.copy().view(">u4").astype(np.uint64).reshape(-1) | np.uint64(0x0A5800000000)


def _ports(random: np.random.Generator, source: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Each client's ports in turn, from a start of its own: a port comes again only after all others."""
    _, client, counts = np.unique(source, axis=0, return_inverse=True, return_counts=True)
    client = client.reshape(-1)
    order = np.argsort(client, kind="stable")
    rank = np.empty(client.size, np.int64)
    rank[order] = np.arange(client.size) - np.repeat(np.cumsum(counts) - counts, counts)
    start = random.integers(0, PORTS, counts.size)
    return (FIRST_PORT + (start[client] + rank) % PORTS).astype(np.uint16)
