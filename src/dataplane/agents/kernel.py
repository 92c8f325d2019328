"""What the kernel itself adds to a configuration: the routes of addresses, link-local addresses, forwarding entries.

An agent gives an interface an address; the kernel adds a local route, a connected one, a broadcast one. A dump holds
all of them, so a rendered host holds them too, in the order in which `ip route show table all` lists them.
(net/ipv4/fib_frontend.c, net/ipv6/addrconf.c. The tests hold the listings against a real namespace.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from ipaddress import IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from dataplane.host.config import (
    TABLE_DEFAULT,
    TABLE_LOCAL,
    TABLE_MAIN,
    Address,
    FdbEntry,
    Link,
    NextHop,
    PolicyRule,
    Route,
)

# The multicast groups that a host joins by itself, as MAC addresses (RFC 1112, RFC 4291, RFC 4286).
ALL_HOSTS_4, ALL_SNOOPERS_4 = 0x01005E000001, 0x01005E00006A
ALL_NODES_6, ALL_ROUTERS_6, ALL_SNOOPERS_6 = 0x333300000001, 0x333300000002, 0x33330000006A


def stable_mac(*identity: str) -> int:
    """A locally administered unicast MAC address that follows from an identity. Real ones are drawn by chance."""
    value = int.from_bytes(sha256("\0".join(identity).encode()).digest()[:6])
    return value & ~(0x03 << 40) | 0x02 << 40


def link_local(mac: int) -> IPv6Interface:
    """The address that addrgenmode eui64 gives an interface (RFC 4291, appendix A)."""
    high, low = mac >> 24, mac & 0xFFFFFF
    return IPv6Interface((0xFE80 << 112 | (high ^ 0x020000) << 40 | 0xFFFE << 24 | low, 64))


def solicited_node(address: IPv6Address) -> int:
    """The multicast MAC address on which neighbour solicitations for an address arrive (RFC 4291, 2.7.1)."""
    return 0x3333FF000000 | int(address) & 0xFFFFFF


def with_broadcast(interface: str, value: IPv4Interface | IPv6Interface) -> Address:
    """An address as netlink libraries add it: in IPv4 with the broadcast address of its network, if that has one."""
    if isinstance(value, IPv4Interface) and value.network.prefixlen < 31:
        return Address(interface, value, broadcast=value.network.broadcast_address)
    return Address(interface, value)


def own_addresses(links: Iterable[Link], ipv6: bool) -> list[Address]:
    """The addresses that links have without anybody's doing: those of the loopback, and link-local ones of IPv6."""
    addresses: list[Address] = []
    for link in links:
        if not link.up:
            continue
        if link.loopback:
            addresses.append(Address.of(link.name, "127.0.0.1/8"))
        if ipv6 and link.loopback:
            addresses.append(Address.of(link.name, "::1/128"))
        elif ipv6 and link.mac is not None:
            addresses.append(Address.of(link.name, link_local(link.mac)))
    return addresses


def listed_addresses(links: Iterable[Link], addresses: Iterable[Address]) -> tuple[Address, ...]:
    """By link, IPv4 before IPv6, and of the latter those of wider scope first, as `ip address show` lists them."""
    place = {link.name: number for number, link in enumerate(links)}
    scope = {"global": 0, "link": 1, "host": 2}
    return tuple(sorted(addresses, key=lambda a: (place[a.interface], a.family, scope.get(a.scope, 0))))


def kernel_routes(links: Iterable[Link], addresses: Iterable[Address], forwarding: bool) -> list[Route]:
    """The routes that exist because of addresses and links alone, unsorted.

    forwarding: a router of IPv6 answers to the anycast address of each of its subnets, too (RFC 4291, 2.6.1).
    """
    routes: list[Route] = []
    ipv6 = False
    for entry in addresses:
        if isinstance(entry.address, IPv4Interface):
            routes += _routes_4(entry, entry.address)
        else:
            ipv6 = True
            routes += _routes_6(entry, entry.address, forwarding)
    if ipv6:
        routes += [
            Route.of("ff00::/8", link.name, type="multicast", table=TABLE_LOCAL, priority=256, protocol="kernel")
            for link in links
            if link.up and not link.loopback
        ]
    return routes


def _routes_4(entry: Address, value: IPv4Interface) -> list[Route]:
    hops, network = (NextHop(device=entry.interface),), value.network

    def local(destination: IPv4Network, kind: str, scope: str) -> Route:
        return Route(destination, hops, TABLE_LOCAL, kind, scope=scope, prefsrc=value.ip, protocol="kernel")

    routes = [local(IPv4Network(value.ip), "local", "host")]
    if network.prefixlen < 31:
        routes.append(local(IPv4Network(network.broadcast_address), "broadcast", "link"))
    if value.ip.is_loopback:
        routes.append(local(network, "local", "host"))
    elif network.prefixlen < 32 and "noprefixroute" not in entry.flags:
        routes.append(Route(network, hops, TABLE_MAIN, scope="link", prefsrc=value.ip, protocol="kernel"))
    return routes


def _routes_6(entry: Address, value: IPv6Interface, forwarding: bool) -> list[Route]:
    hops, network = (NextHop(device=entry.interface),), value.network
    routes = [Route(IPv6Network(value.ip), hops, TABLE_LOCAL, "local", protocol="kernel")]
    if value.ip.is_loopback:
        return routes
    if "noprefixroute" not in entry.flags:
        routes.append(Route(network, hops, TABLE_MAIN, priority=256, protocol="kernel"))
    if forwarding and network.prefixlen < 127:
        routes.append(Route(IPv6Network(network.network_address), hops, TABLE_LOCAL, "anycast", protocol="kernel"))
    return routes


def listed_routes(routes: Iterable[Route]) -> tuple[Route, ...]:
    """Routes in the order of `ip route show table all`: IPv4 before IPv6, table main before local; in IPv4 by
    network, the longer prefix first; in IPv6 a more specific prefix before the one that holds it, then by network
    (the tries are walked so)."""

    def key(route: Route) -> tuple[int, int, int, int, int]:
        network = route.destination
        place = network.network_address if network.version == 4 else network.broadcast_address
        return network.version, route.table, int(place), -network.prefixlen, route.priority

    return tuple(sorted(routes, key=key))


def policy_rules(ipv6: bool) -> tuple[PolicyRule, ...]:
    """The rules of a namespace to which nobody added any. IPv6 has no table `default`."""
    rules = [
        PolicyRule(0, 4, TABLE_LOCAL),
        PolicyRule(32766, 4, TABLE_MAIN),
        PolicyRule(32767, 4, TABLE_DEFAULT),
    ]
    return (*rules, PolicyRule(0, 6, TABLE_LOCAL), PolicyRule(32766, 6, TABLE_MAIN)) if ipv6 else tuple(rules)


def kernel_fdb(links: Iterable[Link], addresses: Iterable[Address], forwarding: bool) -> list[FdbEntry]:
    """What `bridge fdb show` lists before any frame has passed: the MAC addresses of a bridge and its ports, and for
    every Ethernet link the multicast groups that it listens to."""
    subnets: dict[str, list[IPv6Interface]] = {}
    for entry in addresses:
        if isinstance(entry.address, IPv6Interface):
            subnets.setdefault(entry.interface, []).append(entry.address)
    entries: list[FdbEntry] = []
    for link in links:
        if link.mac is None or link.loopback or link.kind == "vxlan":
            continue  # a vxlan device lists its own table instead
        groups = _groups(link, subnets.get(link.name, ()), forwarding)
        entries += [FdbEntry(group, link.name, self_=True) for group in groups]
        master = link.name if link.bridge is not None else link.master
        if master is not None:
            entries.append(FdbEntry(link.mac, link.name, master))
    return entries


def _groups(link: Link, subnets: Sequence[IPv6Interface], forwarding: bool) -> list[int]:
    snooping = link.bridge is not None and link.bridge.mcast_snooping
    groups = [ALL_SNOOPERS_4, ALL_HOSTS_4] if snooping else [ALL_HOSTS_4]
    groups.append(ALL_NODES_6)  # joined even where disable_ipv6 keeps addresses away
    if subnets:
        if forwarding:
            groups.append(ALL_ROUTERS_6)
        if snooping:
            groups.append(ALL_SNOOPERS_6)
        for value in subnets:
            groups.append(solicited_node(value.ip))
            if forwarding and value.network.prefixlen < 127:
                groups.append(solicited_node(value.network.network_address))
    return list(dict.fromkeys(groups))
