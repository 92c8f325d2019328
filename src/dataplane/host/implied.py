"""What the kernel itself adds to a configuration: the routes of addresses, link-local addresses, the standard rules.

`complete` adds it to a configuration that was built in Python, so that it says what the real tools would print;
`kernel_routes` and `kernel_fdb` tell the loader what need not be asked for. As Linux 6.18 does it
(net/ipv4/fib_frontend.c, net/ipv6/addrconf.c).
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from dataplane.host.config import (
    TABLE_DEFAULT,
    TABLE_LOCAL,
    TABLE_MAIN,
    Address,
    Bridge,
    BridgePort,
    FdbEntry,
    HostConfig,
    IPNetwork,
    Link,
    NextHop,
    PolicyRule,
    Route,
)
from dataplane.host.objects import SCOPES
from dataplane.host.sysctl import Sysctl

__all__ = ["STANDARD_RULES", "complete", "kernel_fdb", "kernel_order", "kernel_routes", "link_local"]

C = TypeVar("C", bound=HostConfig)

_ETHERNET_KINDS = frozenset(("veth", "bridge", "vxlan", "dummy"))
_LINK_LOCAL = ipaddress.ip_network("fe80::/10")
_MULTICAST6 = ipaddress.ip_network("ff00::/8")
STANDARD_RULES = {
    4: ((0, TABLE_LOCAL), (32766, TABLE_MAIN), (32767, TABLE_DEFAULT)),
    6: ((0, TABLE_LOCAL), (32766, TABLE_MAIN)),
}
"""Priority and table of the rules of a new namespace, by family."""


def complete(config: C) -> C:
    """`config` with what the kernel adds. What is there already stays, in its order; routes get the kernel's order."""
    links = _complete_links(config.links, config.name)
    settings = config.settings
    addresses = _complete_addresses(links, config.addresses, settings)
    routes = list(config.routes)
    present = {_identity(route) for route in routes}
    routes += [route for route in kernel_routes(links, addresses, settings) if _identity(route) not in present]
    rules = list(config.rules)
    for family, standard in STANDARD_RULES.items():
        if not any(rule.family == family for rule in rules):
            rules += [PolicyRule(priority, family, table) for priority, table in standard]
    return replace(
        config, links=links, addresses=addresses, routes=tuple(sorted(routes, key=kernel_order)), rules=tuple(rules)
    )


def _complete_links(links: Sequence[Link], host: str) -> tuple[Link, ...]:
    """Links in the order of their indexes, with MACs, the parts that their kind always has, and the carrier that
    follows from others: a veth has none while its other end is down, a bridge none while no port has one."""
    result = []
    bridges = {link.name for link in links if link.kind == "bridge"}
    down = {link.index for link in links if not link.up}
    links = [
        replace(link, carrier=False)
        if link.kind == "veth" and link.peer_netns is None and link.peer_index in down
        else link
        for link in sorted(links, key=lambda link: link.index)
    ]
    carried = {link.master for link in links if link.carrier}
    for link in links:
        physical = not link.kind and not link.loopback and not link.point_to_point
        if link.mac is None and (physical or link.kind in _ETHERNET_KINDS) and link.kind != "bridge":
            link = replace(link, mac=_made_mac(host, link.name))
        if link.kind == "bridge" and link.bridge is None:
            link = replace(link, bridge=Bridge())
        if link.kind == "bridge" and link.name not in carried:
            link = replace(link, carrier=False)
        if link.master in bridges and link.port is None:
            link = replace(link, port=BridgePort(state="forwarding" if link.carrier else "disabled"))
        result.append(link)
    ports = {
        name: [link.mac for link in result if link.master == name and link.mac is not None] for name in sorted(bridges)
    }
    return tuple(
        replace(link, mac=min(ports[link.name], default=_made_mac(host, link.name)))
        if link.kind == "bridge" and link.mac is None
        else link
        for link in result
    )


def _made_mac(host: str, interface: str) -> int:
    """A locally administered unicast MAC, the same at every run. (The kernel draws one at random.)"""
    digest = hashlib.sha256(f"{host}/{interface}".encode()).digest()
    return int.from_bytes(digest[:6]) & 0xFCFFFFFFFFFF | 0x020000000000


def link_local(mac: int) -> ipaddress.IPv6Interface:
    """The link-local address that the kernel makes of a MAC: modified EUI-64 (RFC 4291, appendix A)."""
    octets = mac.to_bytes(6)
    identifier = bytes((octets[0] ^ 2,)) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return ipaddress.IPv6Interface((b"\xfe\x80" + bytes(6) + identifier, 64))


def _complete_addresses(links: Sequence[Link], addresses: Sequence[Address], settings: Sysctl) -> tuple[Address, ...]:
    result: list[Address] = []
    for link in links:
        mine = [address for address in addresses if address.interface == link.name]
        if link.loopback and link.up:
            own = [Address.of(link.name, "127.0.0.1/8"), Address.of(link.name, "::1/128")]
            if settings.disable_ipv6(link.name):
                del own[1]
            present = {address.address for address in mine}
            mine = [address for address in own if address.address not in present] + mine
        elif (
            link.ethernet
            and link.carrier
            and settings.addr_gen_mode(link.name) == 0
            and not settings.disable_ipv6(link.name)
            and not any(address.address.ip in _LINK_LOCAL for address in mine if address.family == 6)
        ):
            assert link.mac is not None
            mine.append(Address.of(link.name, link_local(link.mac)))
        result += sorted(mine, key=_address_order)
    names = {link.name for link in links}
    result += [address for address in addresses if address.interface not in names]
    return tuple(result)


def _address_order(address: Address) -> tuple[int, bool, int]:
    """A key that sorts the addresses of an interface as the kernel does, by scope; else they stay as they come."""
    if address.family == 4:
        scope = SCOPES[address.scope] if address.scope in SCOPES else int(address.scope)
        return 4, address.secondary, -scope
    ip = address.address.ip
    return 6, False, 2 if ip.is_loopback else 1 if ip in _LINK_LOCAL else 0


def kernel_routes(links: Sequence[Link], addresses: Sequence[Address], settings: Sysctl) -> tuple[Route, ...]:
    """The routes that the kernel makes of these addresses: local, broadcast, connected, multicast, anycast."""
    routes: list[Route] = []
    for link in links:
        mine = [address for address in addresses if address.interface == link.name]
        routes += _routes4(link, [address for address in mine if address.family == 4])
        if not settings.disable_ipv6(link.name):
            routes += _routes6(link, [address for address in mine if address.family == 6], settings)
    unique = {(_identity(route), route.nexthops): route for route in routes}
    return tuple(sorted(unique.values(), key=kernel_order))


def _routes4(link: Link, addresses: Sequence[Address]) -> Iterable[Route]:
    primaries = [address for address in addresses if not address.secondary]
    for address in addresses:
        ip, network = address.address.ip, (address.peer or address.address).network
        source = ip
        if address.secondary:
            source = next((other.address.ip for other in primaries if other.address.network == network), ip)

        def route(kind: str, prefix: IPNetwork, priority: int = 0, *, source: object = source) -> Route:
            assert isinstance(source, ipaddress.IPv4Address)
            table = TABLE_MAIN if kind == "unicast" else TABLE_LOCAL
            scope = "host" if kind == "local" else "link"
            # A local route is the host's own: a missing carrier does not touch it.
            hop = NextHop(device=link.name, linkdown=kind != "local" and link.up and not link.carrier)
            return Route(prefix, (hop,), table, kind, priority, scope=scope, prefsrc=source, protocol="kernel")

        yield route("local", ipaddress.ip_network(ip))
        if not link.up:
            continue
        if address.broadcast is not None and int(address.broadcast) != 0xFFFFFFFF:
            yield route("broadcast", ipaddress.ip_network(address.broadcast))
        zero_network = int(network.network_address) >> 24 == 0
        if zero_network or address.secondary or (network.prefixlen == 32 and network.network_address == ip):
            continue
        if "noprefixroute" not in address.flags:
            yield route("local" if link.loopback else "unicast", network, address.metric)
        if network.prefixlen < 31:
            yield route("broadcast", ipaddress.ip_network(network.broadcast_address))


def _routes6(link: Link, addresses: Sequence[Address], settings: Sysctl) -> Iterable[Route]:
    down = link.up and not link.carrier

    def route(kind: str, prefix: IPNetwork, priority: int) -> Route:
        table = TABLE_MAIN if kind == "unicast" else TABLE_LOCAL
        own = kind in ("local", "anycast")
        hop = NextHop(device=link.name, linkdown=down and not own)
        return Route(prefix, (hop,), table, kind, priority, protocol="kernel")

    for address in addresses:
        ip, network = address.address.ip, address.address.network
        if link.loopback and ip.is_loopback:
            if link.up:
                yield route("local", ipaddress.ip_network(ip), 0)
            continue
        if not {"tentative", "dadfailed"} & set(address.flags) or "optimistic" in address.flags:
            yield route("local", ipaddress.ip_network(ip), 0)
        if link.up and "noprefixroute" not in address.flags:
            yield route("unicast", network, address.metric or 256)
            if address.peer is not None:
                yield route("unicast", ipaddress.ip_network(address.peer.ip), address.metric or 256)
        if settings.router(link.name) and network.prefixlen < 127 and network.network_address != ip:
            yield route("anycast", ipaddress.ip_network(network.network_address), 0)
    if link.up and not link.loopback and (addresses or (link.carrier and link.ethernet)):
        yield route("multicast", _MULTICAST6, 256)


def _identity(route: Route) -> tuple[object, ...]:
    """What makes two routes the same one, apart from their ways out."""
    devices = tuple(hop.device for hop in route.nexthops)
    return route.table, route.type, route.destination, route.source, route.priority, route.tos, devices


def kernel_order(route: Route) -> tuple[object, ...]:
    """A key that sorts routes as the kernel gives them out.

    IPv4 before IPv6; tables by the low eight bits of their number (the hash of the table of tables). In a table, IPv4
    goes by address, then the longest prefix first; IPv6 gives a prefix after all longer ones within it.
    """
    destination = route.destination
    place: object
    if route.family == 4:
        place = (int(destination.network_address), -destination.prefixlen, -route.tos)
        return 4, route.table & 0xFF, route.table, place, route.priority
    bits = f"{int(destination.network_address):0128b}"[: destination.prefixlen]
    return 6, route.table & 0xFF, route.table, bits + "2", route.priority


def kernel_fdb(entry: FdbEntry, links: Sequence[Link]) -> bool:
    """Whether the kernel makes this entry itself: a device's own multicast filter, a bridge's local addresses, a
    vxlan device's default remote."""
    if entry.state != "permanent" or entry.flags:
        return False
    link = next((link for link in links if link.name == entry.interface), None)
    if entry.self_ and entry.dst is None and entry.nexthop_id is None:
        return entry.mac >> 40 & 1 == 1
    if entry.master is not None:
        master = next((link for link in links if link.name == entry.master), None)
        return any(other is not None and other.mac == entry.mac for other in (link, master))
    if link is not None and link.vxlan is not None and entry.mac == 0:
        plain = entry.port is None and entry.vni is None and entry.via in (None, link.vxlan.device)
        return plain and entry.dst == link.vxlan.group
    return False
