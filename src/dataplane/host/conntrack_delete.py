"""What an agent asks the kernel to forget: `conntrack -D`, and the reconciling of newer kube-proxies by netlink."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address
End = tuple[Address, int]

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}


@dataclass(frozen=True, slots=True)
class ConntrackDelete:
    """One `conntrack -D`: the connections of a family and protocol (IP number) that fit all that is given.

    destination: of the original direction. translated_to: the address that DNAT put in its place. port: destination
    port of the original direction, 0 for any.
    """

    family: int
    protocol: int
    destination: Address | None = None
    translated_to: Address | None = None
    port: int = 0

    def stale(self, destination: Address, port: int, source: Address, source_port: int, translated: bool) -> bool:
        return (
            (self.destination is None or destination == self.destination)
            and (not self.port or port == self.port)
            and (self.translated_to is None or (translated and source == self.translated_to))
        )

    def command(self) -> list[str]:
        """As it is typed, without the word conntrack."""
        words = ["-D", "-p", next(name for name, number in PROTOCOLS.items() if number == self.protocol)]
        if self.family == 6:
            words += ["-f", "ipv6"]
        if self.destination is not None:
            words += ["--orig-dst", str(self.destination)]
        if self.port:
            words += ["--orig-port-dst", str(self.port)]
        if self.translated_to is not None:
            words += ["--dst-nat", str(self.translated_to)]
        return words


@dataclass(frozen=True, slots=True)
class ConntrackReconcile:
    """The connections to services that do not lead to one of their endpoints.

    services: address and port of a service -> the ends that its answers may come from. node_ports: the same by node port,
    on whatever address.
    """

    family: int
    protocol: int
    services: Mapping[End, frozenset[End]] = field(default_factory=dict)
    node_ports: Mapping[int, frozenset[End]] = field(default_factory=dict)

    def stale(self, destination: Address, port: int, source: Address, source_port: int, translated: bool) -> bool:
        ends = self.services.get((destination, port))
        if ends is None:
            ends = self.node_ports.get(port)
        return ends is not None and (source, source_port) not in ends
