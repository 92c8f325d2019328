"""What `ipvsadm -L` lists: services and servers with their connections, counters, and the connections themselves.

Source: ipvsadm 1.31, whose layout is reproduced, spaces at the ends of lines included. Services are in its order: by
mark, family, protocol, address, port; servers by address and port.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dataplane.host.ipvs import IPAddress, RealServer, VirtualService, endpoint_text
from dataplane.host.protocols import protocol_number

__all__ = ["Balanced", "IpvsConnection", "Traffic", "connections_text", "services_text", "stats_text"]

_FORWARDS = {"masq": "Masq", "route": "Route", "tunnel": "Tunnel", "local": "Local"}


class Traffic(NamedTuple):
    """Connections and what came in and went out, of a service or of a server."""

    connections: int = 0
    in_packets: int = 0
    out_packets: int = 0
    in_bytes: int = 0
    out_bytes: int = 0


class Balanced(NamedTuple):
    """What one server has now."""

    active: int = 0
    inactive: int = 0
    traffic: Traffic = Traffic()
    forward: str = ""  # "local" where the server is this host; "": as it was asked for


@dataclass(frozen=True, slots=True)
class IpvsConnection:
    """One row of the connection table; a template has client port 0 and the state NONE."""

    protocol: str  # TCP, UDP, SCTP, IP
    seconds: int  # to live
    state: str
    client: tuple[IPAddress, int]
    virtual: tuple[IPAddress, int]
    server: tuple[IPAddress, int]


ServiceKey = tuple[str, IPAddress | None, int, int, int]
Servers = Mapping[tuple[ServiceKey, IPAddress, int], Balanced]
"""By service key, address and port of the server."""


def _service_order(service: VirtualService) -> tuple[int, int, int, bytes, int]:
    packed = b"" if service.address is None else service.address.packed
    protocol = protocol_number(service.protocol) if service.protocol else 0
    return service.fwmark, service.family, protocol, packed, service.port


def _sorted(services: Iterable[VirtualService]) -> list[VirtualService]:
    return sorted(services, key=_service_order)


def _servers(service: VirtualService) -> list[RealServer]:
    return sorted(service.servers, key=lambda server: (server.address.version, server.address.packed, server.port))


def _title(service: VirtualService) -> str:
    if service.address is None:
        return f"FWM  {service.fwmark}" + (" IPv6" if service.family == 6 else "")
    return f"{service.protocol.upper():<4} {endpoint_text(service.address, service.port)}"


def services_text(services: Iterable[VirtualService], servers: Servers, size: int = 4096) -> str:
    """`ipvsadm -Ln`. size: of the connection table, in buckets."""
    lines = [
        f"IP Virtual Server version 1.2.1 (size={size})",
        "Prot LocalAddress:Port Scheduler Flags",
        "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
    ]
    for service in _sorted(services):
        words = [_title(service), service.scheduler]
        if service.flags:
            words.append(f"({service.flag_words})")
        if service.persistent:
            words.append(f"persistent {service.persistent}")
            if service.netmask is not None:
                words.append(f"mask {service.netmask_text}")
        if service.engine:
            words.append(f"pe {service.engine}")
        if service.one_packet:
            words.append("ops")
        lines.append(" ".join(words))
        for server in _servers(service):
            now = servers.get((service.key, server.address, server.port), Balanced())
            forward = _FORWARDS[now.forward or server.forward]
            name = f"  -> {server.endpoint}"
            lines.append(f"{name:<33} {forward:<7} {server.weight:<6} {now.active:<10} {now.inactive:<10}")
    return "".join(f"{line}\n" for line in lines)


def stats_text(
    services: Iterable[VirtualService],
    totals: Mapping[ServiceKey, Traffic],
    servers: Servers,
    size: int = 4096,
    exact: bool = False,
) -> str:
    """`ipvsadm -Ln --stats`, or with exact `--stats --exact`. totals: by service key."""
    lines = [
        f"IP Virtual Server version 1.2.1 (size={size})",
        "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes",
        "  -> RemoteAddress:Port",
    ]
    for service in _sorted(services):
        lines.append(f"{_title(service):<33}" + _counts(totals.get(service.key, Traffic()), exact))
        for server in _servers(service):
            now = servers.get((service.key, server.address, server.port), Balanced())
            lines.append(f"{'  -> ' + server.endpoint:<33}" + _counts(now.traffic, exact))
    return "".join(f"{line}\n" for line in lines)


def _counts(traffic: Traffic, exact: bool) -> str:
    return "".join(_count(value, exact) for value in traffic)


def _count(value: int, exact: bool) -> str:
    if exact:
        return f" {value:>8}"
    for below, unit, letter in ((10**8, 1, ""), (10**9, 10**3, "K"), (10**11, 10**6, "M"), (10**14, 10**9, "G")):
        if value < below:
            return f"{value // unit:>{9 - len(letter)}}{letter}"
    return f"{value // 10**12:>8}T"


def connections_text(connections: Iterable[IpvsConnection]) -> str:
    """`ipvsadm -Lnc`, in the order given."""
    lines = ["IPVS connection entries", "pro expire state       source             virtual            destination"]
    for row in connections:
        time = f"{row.seconds // 60:02}:{row.seconds % 60:02}"
        client, virtual, server = (endpoint_text(*end) for end in (row.client, row.virtual, row.server))
        lines.append(f"{row.protocol:<3} {time:<6} {row.state:<11} {client:<18} {virtual:<18} {server}")
    return "".join(f"{line}\n" for line in lines)
