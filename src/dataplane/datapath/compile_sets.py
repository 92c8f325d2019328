"""The sets of a host become the tables that rules ask (_fast/ipset.pxd)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from dataplane._fast.ipset import CompiledSets, SetPart
from dataplane.host.config import IpSet, IpSetEntry
from dataplane.host.ipset import ProtocolPort

SECOND = 1_000_000_000
WORD = 0xFFFFFFFF
# Parts of each type, and which of its addresses is a network: 0 none, 1 the first, 2 the second.
TYPES: Mapping[str, tuple[int, int]] = {
    "hash:ip": (SetPart.SET_ADDRESS, 0),
    "hash:net": (SetPart.SET_ADDRESS, 1),
    "hash:ip,port": (SetPart.SET_ADDRESS | SetPart.SET_PORT, 0),
    "hash:net,port": (SetPart.SET_ADDRESS | SetPart.SET_PORT, 1),
    "hash:ip,port,ip": (SetPart.SET_ADDRESS | SetPart.SET_PORT | SetPart.SET_SECOND, 0),
    "hash:ip,port,net": (SetPart.SET_ADDRESS | SetPart.SET_PORT | SetPart.SET_SECOND, 2),
    "bitmap:port": (SetPart.SET_BARE_PORT, 0),
    "list:set": (SetPart.SET_LIST, 0),
}


@dataclass(frozen=True, slots=True)
class Sets:
    """compiled: the host's sets. index: of each by name. refused: those that are not evaluated, with their type."""

    compiled: CompiledSets
    index: Mapping[str, int]
    refused: Mapping[str, str]


def compile_sets(sets: Iterable[IpSet]) -> Sets:
    """All sets of a host. Those that are not evaluated are refused where a rule asks for one."""
    values = tuple(sets)
    index = {value.name: at for at, value in enumerate(values)}
    refused = refused_sets(values)
    compiled = CompiledSets((value.name, _settings(value)) for value in values)
    for at, value in enumerate(values):
        if value.name in refused:
            continue
        if value.type == "list:set":
            compiled.fill_list(
                at,
                [
                    (index[str(entry.elements[0])], _left(entry), entry.packets or 0, entry.bytes or 0, *entry.mark)
                    for entry in value.entries
                ],
            )
            continue
        for entry in value.entries:
            compiled.add(
                at,
                _key(entry),
                expires=_left(entry),
                packets=entry.packets or 0,
                bytes=entry.bytes or 0,
                nomatch=entry.nomatch,
                mark=entry.mark[0],
                mark_mask=entry.mark[1],
            )
    return Sets(compiled, index, refused)


def refill(compiled: CompiledSets, at: int, before: IpSet, after: IpSet) -> None:
    """Members go and come, as `ipset del` and `ipset add` would; those that stay keep their counters and timeouts."""
    kept = {_key(entry) for entry in after.entries}
    known = {_key(entry) for entry in before.entries}
    for key in known - kept:
        compiled.remove(at, key)
    for entry in after.entries:
        key = _key(entry)
        if key not in known:
            mark, mask = entry.mark
            compiled.add(at, key, expires=_left(entry), nomatch=entry.nomatch, mark=mark, mark_mask=mask)


def members_now(compiled: CompiledSets, values: Iterable[IpSet], now: int) -> tuple[IpSet, ...]:
    """The sets with the members that they have at `now`, ns: those of the configuration in its order, then those that
    rules have added. Sets that are not evaluated stay as they are."""
    values = tuple(values)
    refused = refused_sets(values)
    return tuple(
        value if value.name in refused else replace(value, entries=_entries(compiled, at, value, values, now))
        for at, value in enumerate(values)
    )


def _entries(
    compiled: CompiledSets, at: int, value: IpSet, values: Sequence[IpSet], now: int
) -> tuple[IpSetEntry, ...]:
    held: dict[Any, IpSetEntry] = {}
    for key, left, packets, size, nomatch in compiled.members(at, now):
        elements = (values[key].name,) if isinstance(key, int) else _elements(value, key)
        held[elements] = IpSetEntry(
            elements,
            # The tool prints whole seconds, and 0 for what never ends.
            timeout=None if value.timeout is None else max(1, left // SECOND) if left else 0,
            packets=packets if value.counters else None,
            bytes=size if value.counters else None,
            nomatch=nomatch,
        )
    known = [
        replace(held.pop(entry.elements), comment=entry.comment, more=entry.more)
        for entry in value.entries
        if entry.elements in held
    ]
    return (*known, *(held[elements] for elements in sorted(held, key=str)))


def _elements(value: IpSet, key: tuple[int, ...]) -> tuple[Any, ...]:
    """A member's ten words as its parts; the opposite of `_key`."""
    if value.type == "bitmap:port":
        return (key[4],)
    words, lengths = [key[:4], key[5:9]], key[9]
    elements: list[Any] = []
    for dimension in value.dimensions:
        if dimension == "port":
            elements.append(ProtocolPort(key[4] >> 16, key[4] & 0xFFFF))
            continue
        address = _address(words.pop(0), value.family)
        length, lengths = lengths & 0xFF, lengths >> 8
        elements.append(ip_network((address, length)) if dimension == "net" else address)
    return tuple(elements)


def _address(words: tuple[int, ...], family: int) -> IPv4Address | IPv6Address:
    if family == 4:
        return IPv4Address(words[0])
    return IPv6Address(words[0] << 96 | words[1] << 64 | words[2] << 32 | words[3])


def refused_sets(values: Iterable[IpSet]) -> dict[str, str]:
    """The sets that are not evaluated, with their type."""
    values = tuple(values)
    refused = {value.name: value.type for value in values if value.type not in TYPES}
    # A list is no better than its members.
    refused |= {
        value.name: value.type
        for value in values
        if value.type == "list:set" and any(str(entry.elements[0]) in refused for entry in value.entries)
    }
    return refused


def _settings(value: IpSet) -> dict[str, Any]:
    parts, net = TYPES.get(value.type, (0, 0))
    low, high = value.range if value.type == "bitmap:port" and value.range else (0, 0)
    return {
        "parts": parts,
        "dimensions": 1 if parts & SetPart.SET_LIST else len(value.dimensions),
        "family": value.family if value.method == "hash" else 0,
        "net": net,
        "counters": int(value.counters),
        "timeouts": int(value.timeout is not None),
        "skbinfo": int(value.skbinfo),
        "mask": _mask(value),
        "timeout": (value.timeout or 0) * SECOND,
        "low": int(low),
        "high": int(high),
        # A bitmap has a place for each port; a set holds what its dump says, whatever its limit.
        "limit": 65536 if value.method == "bitmap" else max(value.max_elements, len(value.entries)),
    }


def _mask(value: IpSet) -> tuple[int, int, int, int] | None:
    """Which bits of an address count, as four words; None: all."""
    if value.bitmask is not None:
        return _words(ip_address(value.bitmask))
    if value.netmask is None:
        return None
    bits = 32 if value.family == 4 else 128
    return _words(ip_network((0, value.netmask) if bits == 32 else (IPv6Address(0), value.netmask)).netmask)


def _left(entry: IpSetEntry) -> int:
    return (entry.timeout or 0) * SECOND


def _words(address: IPv4Address | IPv6Address) -> tuple[int, int, int, int]:
    number = int(address)
    if address.version == 4:
        return number, 0, 0, 0
    return number >> 96, number >> 64 & WORD, number >> 32 & WORD, number & WORD


def _key(entry: IpSetEntry) -> tuple[int, ...]:
    """The ten words of a member (_fast/ipset.pxd)."""
    addresses: list[tuple[int, int, int, int]] = []
    port = lengths = 0
    for element in entry.elements:
        if isinstance(element, IPv4Network | IPv6Network):
            lengths |= element.prefixlen << 8 * len(addresses)
            addresses.append(_words(element.network_address))
        elif isinstance(element, IPv4Address | IPv6Address):
            addresses.append(_words(element))
        elif isinstance(element, tuple):
            protocol, number = element
            port = protocol << 16 | number
        else:
            port = element
    while len(addresses) < 2:
        addresses.append((0, 0, 0, 0))
    return (*addresses[0], port, *addresses[1], lengths)
