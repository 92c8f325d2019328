"""The neighbour tables of both families: `ip -json neighbour show` and, for proxy entries, `... show proxy`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dataplane.host.config import Neighbour
from dataplane.host.notation import address_text, mac_text
from dataplane.host.notes import Notes
from dataplane.host.objects import Entry, keys, patch, read_objects, write_objects

__all__ = ["parse", "text"]

STATES = keys("PERMANENT NOARP REACHABLE STALE DELAY PROBE INCOMPLETE FAILED NONE")
_KNOWN = keys("dst dev lladdr router proxy managed extern_learn extern_valid offload state")
_STATISTICS = keys("refcnt used confirmed updated probes protocol")


def parse(text: str, file: str = "neighbours.json", notes: Notes | None = None) -> tuple[Neighbour, ...]:
    """The neighbours, in the order of the file. DumpError names the entry and the field."""
    notes = notes or Notes()
    return tuple(
        _neighbour(Entry(raw, file, f"entry {number} ({raw.get('dst')})"), notes)
        for number, raw in enumerate(read_objects(text, file), 1)
    )


def _neighbour(entry: Entry, notes: Notes) -> Neighbour:
    entry.note_unknown(_KNOWN | _STATISTICS, notes)
    address = entry.address("dst")
    if address is None:
        raise entry.error("dst", "is missing")
    state = entry.words("state")
    for word in state:
        if word not in STATES:
            raise entry.error("state", f"{word!r} is not a state of a neighbour")
    # A link layer other than Ethernet (a tunnel's endpoint address) is kept as text.
    ethernet = entry.text("lladdr", "").count(":") == 5
    return Neighbour(
        interface=entry.text("dev", ""),
        address=address,
        mac=entry.mac("lladdr") if ethernet else None,
        state=state,
        router=entry.has("router"),
        proxy=entry.has("proxy"),
        managed=entry.has("managed"),
        extern_learn=entry.has("extern_learn"),
        raw=entry.raw,
    )


def text(neighbours: Iterable[Neighbour], proxy: bool = False) -> str:
    """What `ip -json neighbour show` prints for these neighbours, in the order given; with proxy, `show proxy`."""
    return write_objects([_object_of(neighbour) for neighbour in neighbours if neighbour.proxy == proxy])


def _object_of(neighbour: Neighbour) -> Mapping[str, Any]:
    if neighbour.raw is None:
        return _object(neighbour)
    was = _neighbour(Entry(neighbour.raw, "", ""), Notes())
    return neighbour.raw if was == neighbour else patch(neighbour.raw, _object(was), _object(neighbour))


def _object(neighbour: Neighbour) -> dict[str, Any]:
    result: dict[str, Any] = {"dst": address_text(neighbour.address)}
    if neighbour.interface:
        result["dev"] = neighbour.interface
    if neighbour.mac is not None:
        result["lladdr"] = mac_text(neighbour.mac)
    for flag in ("router", "proxy", "managed", "extern_learn"):
        if getattr(neighbour, flag):
            result[flag] = None
    if neighbour.state:
        result["state"] = list(neighbour.state)
    return result
