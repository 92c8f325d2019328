"""Who gives out which address: node CIDRs, pod addresses, ClusterIPs and node ports, each as its allocator does it.

Where the true allocator draws at random (ClusterIPs, node ports), the place to start from is a hash of the seed and
of what the address is for, so that an address depends neither on the order of the documents nor, collisions apart, on
what else there is.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from dataplane.cluster.objects import Address, Network
from dataplane.errors import ModelError


def place(seed: int, *names: object) -> int:
    """A number below 2^64 that follows from the seed and the names."""
    text = "/".join((str(seed), *map(str, names)))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def make_address(version: int, value: int) -> Address:
    return IPv4Address(value) if version == 4 else IPv6Address(value)


class NodeCidrs:
    """The RangeAllocator of kube-controller-manager: node CIDRs one after the other, with a cursor.

    Raises ModelError when the cluster network is smaller than one node's, or has more than 2^16 of them, or is full.
    """

    def __init__(self, network: Network, mask: int, taken: Iterable[Network]) -> None:
        bits = mask - network.prefixlen
        if bits < 0:
            raise ModelError(f"cluster CIDR {network} is smaller than the /{mask} that each node takes from it")
        if bits > 16 and network.version == 6:
            raise ModelError(f"cluster CIDR {network} has more than 65536 networks of /{mask}: give a smaller one")
        self._network = network
        self._mask = mask
        self._size = 1 << (network.max_prefixlen - mask)
        self._count = 1 << bits
        self._next = 0
        self._taken: set[int] = set()
        self._blocks: list[tuple[int, int]] = []
        for other in taken:
            if other.version == network.version and other.overlaps(network):
                base = int(network.network_address)
                first = max(0, (int(other.network_address) - base) // self._size)
                last = min(self._count - 1, (int(other.broadcast_address) - base) // self._size)
                if first == last:
                    self._taken.add(first)
                else:
                    self._blocks.append((first, last))
        self._blocks.sort()

    def allocate(self, node: str) -> Network:
        index = self._next
        tried = 0
        while tried < self._count:
            block = next((last for first, last in self._blocks if first <= index <= last), None)
            if block is not None:
                tried += block - index + 1
                index = (block + 1) % self._count
            elif index in self._taken:
                tried += 1
                index = (index + 1) % self._count
            else:
                self._taken.add(index)
                self._next = (index + 1) % self._count
                value = int(self._network.network_address) + index * self._size
                return type(self._network)((value, self._mask))
        raise ModelError(
            f"no /{self._mask} is left for Node {node} in the cluster CIDR {self._network}, which has {self._count}: "
            "give a larger one"
        )


class HostLocal:
    """The host-local IPAM plugin on one node for one family: round robin over the node's CIDR without its gateway.

    taken: the addresses of pods that are stated, as integers; what is given out is added to it.
    """

    __slots__ = ("_end", "_last", "_start", "_taken", "_version")

    def __init__(self, network: Network, taken: set[int], last_reserved: Address | None = None) -> None:
        base = int(network.network_address)
        # The first address is the bridge's; IPv4 ends with the broadcast address.
        self._start = base + 2
        self._end = int(network.broadcast_address) - (1 if isinstance(network, IPv4Network) else 0)
        self._version = network.version
        self._taken = taken
        self._last = self._start - 1
        if last_reserved is not None and self._start <= int(last_reserved) <= self._end:
            self._last = int(last_reserved)

    def allocate(self) -> Address | None:
        """The next free address, None when all are taken."""
        value = self._last
        # As many addresses as are taken may be in the way, and one more is free or there is none.
        for _ in range(min(self._end - self._start + 1, len(self._taken) + 1)):
            value = value + 1 if value < self._end else self._start
            if value > self._end:
                return None
            if value not in self._taken:
                self._taken.add(value)
                self._last = value
                return make_address(self._version, value)
        return None

    @property
    def last_reserved(self) -> Address | None:
        return make_address(self._version, self._last) if self._last >= self._start else None


def bands(first: int, last: int, size: int, *, divisor: int, maximum: int) -> tuple[range, range]:
    """(static, dynamic) part of a range, as KEP-3070 (ClusterIPs) and KEP-3668 (node ports) divide it.

    size: what the split is computed from; below or at 16 there is none.
    """
    offset = 0 if size <= 16 else min(max(16, size // divisor), maximum)
    offset = min(offset, last - first)
    return range(first, first + offset), range(first + offset, last + 1)


class Band:
    """Numbers given out at a place that is drawn in the dynamic band, then in the static one when that is full."""

    def __init__(self, static: range, dynamic: range) -> None:
        self.static = static
        self.dynamic = dynamic
        self.taken: set[int] = set()

    def allocate(self, start: int) -> int | None:
        for band in (self.dynamic, self.static):
            if not band:
                continue
            at = start % len(band)
            for step in range(min(len(band), len(self.taken) + 1)):
                number = band[(at + step) % len(band)]
                if number not in self.taken:
                    self.taken.add(number)
                    return number
        return None


def cluster_ip_band(network: Network) -> Band:
    first = int(network.network_address) + 1
    last = int(network.broadcast_address) - (1 if network.version == 4 else 0)
    return Band(*bands(first, max(first, last), network.num_addresses, divisor=16, maximum=256))


def node_port_band() -> Band:
    """The API server's default range, 30000-32767."""
    return Band(*bands(30000, 32767, 2768, divisor=32, maximum=128))
