"""A running host gets another configuration: what differs is changed, as `ip` and `bridge` would, and nothing else.

Connections, neighbours, what bridges have learnt, and all counters stay. Rules and virtual services
are not looked at: see running_rules.py and RunningHost.balance.
"""

from __future__ import annotations

from dataclasses import replace

from dataplane._fast.host_change import (
    add_interface,
    clear_routes,
    forget_neighbour,
    forget_vxlan_entry,
    remove_interface,
)
from dataplane.datapath.compile import _addresses, _forwarding, _link, _neighbours, _policy, _routes
from dataplane.datapath.running_host import RunningHost
from dataplane.host.config import HostConfig, Link


def reconfigure(running: RunningHost, config: HostConfig) -> list[str]:
    """Make the host what `config` says, but for its rules, sets and virtual services; gives what of it is not modelled.

    Links are known by name. Those that stay keep their index, and new ones get the next ones.
    """
    host, slots, before = running.host, running.slots, running.config
    unmodelled: list[str] = []
    old = {link.name: link for link in before.links if link.name in slots}
    names = {link.name for link in config.links}
    gone = [name for name in old if name not in names]
    for name in gone:
        unplug(running, name)
    came = [link for link in config.links if link.name not in slots]
    following = 1 + max((link.index for link in before.links), default=0)
    indexes = {name: link.index for name, link in old.items()}
    for link in came:
        slots[link.name] = add_interface(host, link.name)
        indexes[link.name] = following
        following += 1
    links = tuple(replace(link, index=indexes[link.name]) for link in config.links)
    config = config.with_(
        links=links, iptables=before.iptables, ip6tables=before.ip6tables, ipsets=before.ipsets, ipvs=before.ipvs
    )
    same_settings = config.sysctl == before.sysctl
    for link in links:
        if link.name in old and same_settings and _same(old[link.name], link):
            continue
        # A VXLAN device is made once; whatever else changes of it would make another.
        known = link.name in old
        _link(host, slots[link.name], replace(link, vxlan=None) if known else link, config, slots, unmodelled)
    for link in links:
        if link.name in old or not link.mac:
            continue
        if link.kind == "bridge":
            host.bridge_entry(slots[link.name], slots[link.name], link.mac, local=True)
        if link.master is not None and link.master in slots:
            host.bridge_entry(slots[link.master], slots[link.name], link.mac, local=True)
    if config.addresses != before.addresses:
        _addresses(host, config, slots)
    if came or gone or config.addresses != before.addresses or config.routes != before.routes:
        clear_routes(host)
        _routes(host, config, slots)
        _policy(host, config, slots, unmodelled)
    _entries(running, before, config)
    running.config = config
    running.settle(config)
    running.interfaces_changed([*gone, *(link.name for link in came)])
    return unmodelled


def unplug(running: RunningHost, name: str) -> None:
    """`ip link delete`, of a link that the host has."""
    remove_interface(running.host, running.slots.pop(name))
    kept = tuple(link for link in running.config.links if link.name != name)
    running.config = running.config.with_(links=kept)
    running.interfaces_changed([name])


def _same(before: Link, after: Link) -> bool:
    """Whether nothing differs but what another namespace calls the other end."""
    return replace(before, peer_index=after.peer_index, peer_netns=after.peer_netns) == after


def _entries(running: RunningHost, before: HostConfig, config: HostConfig) -> None:
    """Neighbours and forwarding entries that are stated."""
    host, slots = running.host, running.slots
    if config.neighbours != before.neighbours:
        kept = {(entry.interface, entry.address) for entry in config.neighbours}
        for entry in before.neighbours:
            if (entry.interface, entry.address) not in kept and entry.interface in slots:
                forget_neighbour(host, slots[entry.interface], entry.address)
        known = set(before.neighbours)
        _neighbours(host, config.with_(neighbours=tuple(n for n in config.neighbours if n not in known)), slots)
    if config.fdb != before.fdb:
        entries = set(config.fdb)
        for row in before.fdb:
            if row not in entries and row.dst is not None and row.interface in slots:
                forget_vxlan_entry(host, slots[row.interface], row.mac)
        rows = set(before.fdb)
        _forwarding(host, config.with_(fdb=tuple(row for row in config.fdb if row not in rows)), (), slots)
