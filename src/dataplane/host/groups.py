"""The multicast groups that interfaces have joined: `ip -json maddress show`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dataplane.host.config import Groups
from dataplane.host.notation import address_text
from dataplane.host.notes import Notes
from dataplane.host.objects import Entry, IPAddress, keys, read_objects, write_objects

__all__ = ["parse", "text"]

_KNOWN = keys("ifindex ifname maddr")
# The link layer's own memberships decide what a network card takes; `users` and `features` say who asked.
_MEMBER = keys("family address link users features")


def parse(text: str, file: str = "groups.json", notes: Notes | None = None) -> tuple[Groups, ...]:
    """What each interface has joined, in the order of the file. DumpError names the entry and the field."""
    notes = notes or Notes()
    return tuple(
        _groups(Entry(raw, file, f"entry {number} ({raw.get('ifname')})"), notes)
        for number, raw in enumerate(read_objects(text, file), 1)
    )


def _groups(entry: Entry, notes: Notes) -> Groups:
    entry.note_unknown(_KNOWN, notes)
    return Groups(
        interface=entry.text("ifname"),
        index=entry.number("ifindex", 0),
        addresses=tuple(_members(entry, notes)),
        raw=entry.raw,
    )


def _members(entry: Entry, notes: Notes) -> Iterable[IPAddress]:
    for item in entry.objects("maddr"):
        item.note_unknown(_MEMBER, notes, "maddr ")
        address = item.address("address") if item.text("family", "") in ("inet", "inet6") else None
        if address is None:
            continue
        if not address.is_multicast:
            raise item.error("address", f"{address} is no multicast group")
        yield address


def text(groups: Iterable[Groups]) -> str:
    """What `ip -json maddress show` prints; what was read and has not changed comes back as it was."""
    return write_objects([_object(group) for group in groups])


def _object(groups: Groups) -> Any:
    raw = groups.raw
    if raw is not None and _groups(Entry(raw, "", ""), Notes()) == groups:
        return raw
    return {
        "ifindex": groups.index,
        "ifname": groups.interface,
        "maddr": [
            {"family": "inet" if address.version == 4 else "inet6", "address": address_text(address)}
            for address in groups.addresses
        ],
    }
