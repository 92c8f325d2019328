"""The forwarding entries that exist by themselves: what `bridge fdb show` lists before any frame has passed.

A bridge knows its own MAC address and those of its ports, and every Ethernet device lists the multicast groups that
it listens to. (The tests hold the listing against a real namespace.)
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, IPv6Interface

from dataplane.host.config import FdbEntry, HostConfig, Link

# The groups that a host joins by itself, as MAC addresses (RFC 1112, RFC 4291, RFC 4286).
ALL_HOSTS_4, ALL_SNOOPERS_4 = 0x01005E000001, 0x01005E00006A
ALL_NODES_6, ALL_ROUTERS_6, ALL_SNOOPERS_6 = 0x333300000001, 0x333300000002, 0x33330000006A


def own_entries(config: HostConfig) -> list[FdbEntry]:
    """The entries of a completed configuration, by link."""
    subnets: dict[str, list[IPv6Interface]] = {}
    for address in config.addresses:
        if isinstance(address.address, IPv6Interface):
            subnets.setdefault(address.interface, []).append(address.address)
    entries: list[FdbEntry] = []
    for link in config.links:
        if link.mac is None or link.loopback or link.kind == "vxlan":
            continue  # a vxlan device lists its own table instead
        groups = _groups(link, subnets.get(link.name, ()), config.settings.router(link.name))
        entries += [FdbEntry(group, link.name, self_=True) for group in groups]
        master = link.name if link.bridge is not None else link.master
        if master is not None:
            entries.append(FdbEntry(link.mac, link.name, master))
    return entries


def _groups(link: Link, subnets: Sequence[IPv6Interface], router: bool) -> list[int]:
    snooping = link.bridge is not None and link.bridge.mcast_snooping
    groups = [ALL_SNOOPERS_4, ALL_HOSTS_4] if snooping else [ALL_HOSTS_4]
    if not link.up:
        groups = []  # those of IPv4 are joined when a device comes up
    groups.append(ALL_NODES_6)  # joined even where disable_ipv6 keeps addresses away
    if subnets and not link.noarp:
        if router:
            groups.append(ALL_ROUTERS_6)
        if snooping:
            groups.append(ALL_SNOOPERS_6)
        for value in subnets:
            groups.append(solicited_node(value.ip))
            if router and value.network.prefixlen < 127:
                groups.append(solicited_node(value.network.network_address))  # its subnet-router anycast address
    return list(dict.fromkeys(groups))


def solicited_node(address: IPv6Address) -> int:
    """The multicast MAC address on which neighbour solicitations for an address arrive (RFC 4291, 2.7.1)."""
    return 0x3333FF000000 | int(address) & 0xFFFFFF
