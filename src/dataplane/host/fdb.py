"""Forwarding entries of bridges, vxlan devices and device filters: `bridge -json fdb show`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dataplane.host.config import FdbEntry
from dataplane.host.notation import address_text, mac_text
from dataplane.host.notes import Notes
from dataplane.host.objects import Entry, keys, patch, read_objects, write_objects

__all__ = ["parse", "text"]

_KNOWN = keys("mac ifname dst vlan port vni src_vni viaIf nhid flags master state")
_STATISTICS = frozenset(("used", "updated"))
# In the order in which the tool prints them, after self.
_FLAGS = ("router", "extern_learn", "offload", "sticky", "locked")


def parse(text: str, file: str = "fdb.json", notes: Notes | None = None) -> tuple[FdbEntry, ...]:
    """The entries, in the order of the file. DumpError names the entry and the field."""
    notes = notes or Notes()
    return tuple(
        _fdb_entry(Entry(raw, file, f"entry {number} ({raw.get('mac')} on {raw.get('ifname')})"), notes)
        for number, raw in enumerate(read_objects(text, file), 1)
    )


def _fdb_entry(entry: Entry, notes: Notes) -> FdbEntry:
    entry.note_unknown(_KNOWN | _STATISTICS, notes)
    mac = entry.mac("mac")
    if mac is None:
        raise entry.error("mac", "is missing")
    flags = entry.words("flags")
    return FdbEntry(
        mac=mac,
        interface=entry.text("ifname"),
        master=entry.text("master", None),
        dst=entry.address("dst"),
        vni=entry.number("vni", None, most=0xFFFFFF),
        source_vni=entry.number("src_vni", None, most=0xFFFFFF),
        port=entry.number("port", None, most=0xFFFF),
        via=entry.text("viaIf", None),
        vlan=entry.number("vlan", None, most=4095),
        nexthop_id=entry.number("nhid", None),
        self_="self" in flags,
        flags=tuple(flag for flag in flags if flag not in ("self", "master")),
        state=entry.text("state", ""),
        raw=entry.raw,
    )


def text(entries: Iterable[FdbEntry]) -> str:
    """What `bridge -json fdb show` prints for these entries, in the order given."""
    return write_objects([_object_of(entry) for entry in entries])


def _object_of(entry: FdbEntry) -> Mapping[str, Any]:
    if entry.raw is None:
        return _object(entry)
    was = _fdb_entry(Entry(entry.raw, "", ""), Notes())
    return entry.raw if was == entry else patch(entry.raw, _object(was), _object(entry))


def _object(entry: FdbEntry) -> dict[str, Any]:
    result: dict[str, Any] = {"mac": mac_text(entry.mac), "ifname": entry.interface}
    if entry.dst is not None:
        result["dst"] = address_text(entry.dst)
    for name, value in (
        ("vlan", entry.vlan),
        ("port", entry.port),
        ("vni", entry.vni),
        ("src_vni", entry.source_vni),
        ("viaIf", entry.via),
        ("nhid", entry.nexthop_id),
    ):
        if value is not None:
            result[name] = value
    known = [flag for flag in _FLAGS if flag in entry.flags]
    others = [flag for flag in entry.flags if flag not in known]
    result["flags"] = (["self"] if entry.self_ else []) + known + others
    if entry.master is not None:
        result["master"] = entry.master
    result["state"] = entry.state
    return result
