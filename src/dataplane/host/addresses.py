"""Addresses of interfaces: `ip -json address show`.

The tool prints one object per interface, its head (a part of what `link show` prints) and its `addr_info`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dataplane.host.config import FOREVER, Address, Link
from dataplane.host.links import link_objects, link_values
from dataplane.host.notation import address_text
from dataplane.host.notes import Notes
from dataplane.host.objects import Entry, keys, patch, read_objects, write_objects

__all__ = ["parse", "text"]

# In the order in which the tool prints them, after `scope`.
_FLAGS = (
    "temporary",
    "nodad",
    "optimistic",
    "dadfailed",
    "home",
    "deprecated",
    "tentative",
    "dynamic",
    "mngtmpaddr",
    "noprefixroute",
    "autojoin",
    "stable-privacy",
)
_KNOWN = keys(
    "family local address prefixlen metric broadcast scope secondary label protocol"
    " valid_life_time preferred_life_time anycast"
) | frozenset(_FLAGS)
_HEAD = keys(
    "ifindex link link_index ifname flags mtu qdisc master operstate group txqlen link_type address broadcast"
    " link_pointtopoint link_netnsid altnames"
)


def parse(
    text: str, links: Sequence[Link] = (), file: str = "addresses.json", notes: Notes | None = None
) -> tuple[tuple[Link, ...], tuple[Address, ...]]:
    """The addresses of `ip -json address show`, and the links with the heads that they have in this text.

    links: those of links.json; where there are none, they are made of the heads, with less detail.
    DumpError names the entry and the field, also where an interface is not among the links.
    """
    notes = notes or Notes()
    objects = read_objects(text, file)
    heads = {name: entry for entry in objects if isinstance(name := entry.get("ifname"), str)}
    if not links:
        links = link_values([_head(entry) for entry in objects], file, notes)
        links = tuple(replace(link, raw=None) for link in links)
        if links:
            notes.warn(f"{file}: no links.json, so the kinds of links and their bridge or vxlan are not known")
    names = {link.name for link in links}
    addresses = []
    for number, raw in enumerate(objects, 1):
        entry = Entry(raw, file, f"entry {number} ({raw.get('ifname')})")
        interface = entry.text("ifname")
        if interface not in names:
            raise entry.error("ifname", f"{interface} is not among the links")
        for item in entry.objects("addr_info"):
            if item.raw:
                addresses.append(_address(item, interface, notes))
    with_heads = (replace(link, raw_address=_head(heads[link.name])) if link.name in heads else link for link in links)
    return tuple(with_heads), tuple(addresses)


def _head(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "addr_info"}


def _address(entry: Entry, interface: str, notes: Notes) -> Address:
    entry.note_unknown(_KNOWN, notes)
    family = {"inet": 4, "inet6": 6}.get(entry.text("family"))
    if family is None:
        raise entry.error("family", "inet or inet6 is expected")
    key = "local" if "local" in entry.raw else "address"
    length = entry.number("prefixlen")
    try:
        local = ipaddress.ip_interface(f"{entry.text(key)}/{length}")
        peer = (
            ipaddress.ip_interface(f"{entry.text('address')}/{length}")
            if key == "local" and "address" in entry.raw
            else None
        )
    except ValueError as error:
        raise entry.error(key, str(error)) from None
    if local.version != family:
        raise entry.error(key, f"an IPv{family} address is expected, not {local}")
    broadcast = entry.address("broadcast", 4)
    assert broadcast is None or isinstance(broadcast, ipaddress.IPv4Address)
    label = entry.text("label", None)
    return Address(
        interface=interface,
        address=local,
        scope=entry.scope("scope"),
        label=None if label == interface else label,
        secondary=entry.has("secondary"),
        peer=peer,
        broadcast=broadcast,
        flags=tuple(flag for flag in _FLAGS if entry.has(flag)),
        valid_lifetime=entry.number("valid_life_time", FOREVER),
        preferred_lifetime=entry.number("preferred_life_time", FOREVER),
        metric=entry.number("metric", 0),
        raw=entry.raw,
    )


def text(links: Sequence[Link], addresses: Sequence[Address]) -> str:
    """What `ip -json address show` prints for these links and addresses."""
    by_interface: dict[str, list[Address]] = {link.name: [] for link in links}
    for address in addresses:
        by_interface[address.interface].append(address)
    objects = []
    for link, after, before in zip(links, link_objects(links), _objects_before(links), strict=True):
        head = {key: value for key, value in after.items() if key in _HEAD}
        if link.raw_address is not None:
            was = {key: value for key, value in before.items() if key in _HEAD}
            head = dict(link.raw_address) if was == head else patch(link.raw_address, was, head)
        objects.append({**head, "addr_info": [_object_of(address) for address in by_interface[link.name]]})
    return write_objects(objects)


def _objects_before(links: Sequence[Link]) -> list[Mapping[str, Any]]:
    """The links' objects as they were when they were read: what has changed since is patched into the heads."""
    heads = [link.raw_address for link in links if link.raw is None and link.raw_address is not None]
    read = link_values(heads, "", Notes())
    printed = dict(
        zip((link.name for link in read), link_objects([replace(link, raw=None) for link in read]), strict=True)
    )
    return [link.raw or printed.get(link.name, {}) for link in links]


def _object_of(address: Address) -> Mapping[str, Any]:
    after = _object(address)
    if address.raw is None:
        return after
    was = _address(Entry(address.raw, "", ""), address.interface, Notes())
    return address.raw if was == address else patch(address.raw, _object(was), after)


def _object(address: Address) -> dict[str, Any]:
    result: dict[str, Any] = {
        "family": "inet" if address.family == 4 else "inet6",
        "local": address_text(address.address.ip),
    }
    if address.peer is not None:
        result["address"] = address_text(address.peer.ip)
    result["prefixlen"] = (address.peer or address.address).network.prefixlen
    if address.metric:
        result["metric"] = address.metric
    if address.broadcast is not None:
        result["broadcast"] = address_text(address.broadcast)
    result["scope"] = address.scope
    if address.secondary:
        result["secondary"] = True
    for flag in _FLAGS:
        if flag in address.flags:
            result[flag] = True
    if address.family == 4:
        result["label"] = address.label or address.interface
    result["valid_life_time"] = address.valid_lifetime
    result["preferred_life_time"] = address.preferred_lifetime
    return result
