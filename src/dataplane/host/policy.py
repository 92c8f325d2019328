"""The routing policy: `ip -json rule show` and `ip -6 -json rule show`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from dataplane.host.config import IPNetwork, PolicyRule
from dataplane.host.notation import address_text
from dataplane.host.notes import Notes
from dataplane.host.objects import Entry, keys, patch, read_objects, write_objects
from dataplane.host.protocols import protocol_name, protocol_number
from dataplane.host.routes import read_table, table_text

__all__ = ["parse", "text"]

_ACTIONS = frozenset(("blackhole", "unreachable", "prohibit"))
_KNOWN = keys(
    "priority not src srclen dst dstlen tos fwmark fwmask iif iif_detached oif oif_detached l3mdev uid_start uid_end"
    " ipproto sport sport_start sport_end dport dport_start dport_end tun_id table suppress_prefixlen"
    " suppress_ifgroup action goto unresolved nop protocol"
)


def parse(text: str, family: int = 4, file: str = "rules.json", notes: Notes | None = None) -> tuple[PolicyRule, ...]:
    """The rules of one family, in the order of the file. DumpError names the entry and the field."""
    notes = notes or Notes()
    return tuple(
        _rule(Entry(raw, file, f"entry {number} (priority {raw.get('priority')})"), family, notes)
        for number, raw in enumerate(read_objects(text, file), 1)
    )


def _rule(entry: Entry, family: int, notes: Notes) -> PolicyRule:
    entry.note_unknown(_KNOWN, notes)
    action = entry.text("action", "lookup")
    if action not in _ACTIONS and action != "lookup":
        notes.unmodelled(f"{entry.file}: action {action}", entry.where)
    if "goto" in entry.raw:
        action = "goto"
    elif entry.has("nop"):
        action = "nop"
    return PolicyRule(
        priority=entry.number("priority"),
        family=family,
        table=read_table(entry) if "table" in entry.raw else 0,
        action=action,
        source=_prefix(entry, "src", family),
        destination=_prefix(entry, "dst", family),
        fwmark=entry.number("fwmark", None),
        fwmask=entry.number("fwmask", 0xFFFFFFFF),
        iif=entry.text("iif", None),
        oif=entry.text("oif", None),
        invert=entry.has("not"),
        tos=entry.number("tos", 0, most=0xFF),
        goto=entry.number("goto", 0),
        ip_protocol=_protocol(entry),
        source_ports=_span(entry, "sport", "sport_start", "sport_end"),
        destination_ports=_span(entry, "dport", "dport_start", "dport_end"),
        uid_range=_span(entry, "uid", "uid_start", "uid_end"),
        suppress_prefix_length=entry.number("suppress_prefixlen", None),
        suppress_group=entry.text("suppress_ifgroup", None),
        l3mdev=entry.has("l3mdev"),
        tunnel_id=entry.number("tun_id", 0),
        protocol=str(entry.raw.get("protocol", "kernel")),
        raw=entry.raw,
    )


def _prefix(entry: Entry, key: str, family: int) -> IPNetwork | None:
    """None for `all`. The tool prints the length apart, and leaves it out where it is the whole address."""
    if entry.text(key, "all") == "all":
        return None
    length = entry.number(f"{key}len", 32 if family == 4 else 128)
    try:
        # The kernel keeps a rule's address as it was given, and looks at the prefix's bits alone.
        network = ipaddress.ip_network(f"{entry.text(key)}/{length}", strict=False)
    except ValueError as error:
        raise entry.error(key, str(error)) from None
    if network.version != family:
        raise entry.error(key, f"an IPv{family} prefix is expected, not {network}")
    return network


def _protocol(entry: Entry) -> int:
    name = entry.text("ipproto", None)
    try:
        return 0 if name is None else protocol_number(name.removeprefix("ipproto-"))
    except ValueError as error:
        raise entry.error("ipproto", str(error)) from None


def _span(entry: Entry, one: str, first: str, last: str) -> tuple[int, int] | None:
    if one in entry.raw:
        value = entry.number(one)
        return value, value
    if first in entry.raw:
        return entry.number(first), entry.number(last)
    return None


def text(rules: Iterable[PolicyRule]) -> str:
    """What `ip -json rule show` prints for these rules of one family, in the order given."""
    return write_objects([_object_of(rule) for rule in rules])


def _object_of(rule: PolicyRule) -> Mapping[str, Any]:
    if rule.raw is None:
        return _object(rule)
    was = _rule(Entry(rule.raw, "", ""), rule.family, Notes())
    return rule.raw if was == rule else patch(rule.raw, _object(was), _object(rule))


def _object(rule: PolicyRule) -> dict[str, Any]:
    result: dict[str, Any] = {"priority": rule.priority}
    if rule.invert:
        result["not"] = None
    _add_prefix(result, "src", rule.source)
    if rule.destination is not None:
        _add_prefix(result, "dst", rule.destination)
    if rule.tos:
        result["tos"] = f"{rule.tos:#04x}"
    if rule.fwmark is not None:
        result["fwmark"] = f"{rule.fwmark:#x}" if rule.fwmark else "0"
        if rule.fwmask != 0xFFFFFFFF:
            result["fwmask"] = f"{rule.fwmask:#x}" if rule.fwmask else "0"
    if rule.iif is not None:
        result["iif"] = rule.iif
    if rule.oif is not None:
        result["oif"] = rule.oif
    if rule.l3mdev:
        result["l3mdev"] = None
    if rule.uid_range is not None:
        result["uid_start"], result["uid_end"] = rule.uid_range
    if rule.ip_protocol:
        name = protocol_name(rule.ip_protocol)
        result["ipproto"] = f"ipproto-{name}" if name.isdigit() else name
    for name, span in (("sport", rule.source_ports), ("dport", rule.destination_ports)):
        if span is not None and span[0] == span[1]:
            result[name] = span[0]
        elif span is not None:
            result[f"{name}_start"], result[f"{name}_end"] = span
    if rule.tunnel_id:
        result["tun_id"] = rule.tunnel_id
    if rule.action == "lookup" and not rule.l3mdev:
        result["table"] = table_text(rule.table)
    if rule.suppress_prefix_length is not None:
        result["suppress_prefixlen"] = rule.suppress_prefix_length
    if rule.suppress_group is not None:
        result["suppress_ifgroup"] = rule.suppress_group
    if rule.action == "goto":
        result["goto"] = rule.goto
    elif rule.action == "nop":
        result["nop"] = None
    elif rule.action != "lookup":
        result["action"] = rule.action
    if rule.protocol != "kernel":
        result["protocol"] = rule.protocol
    return result


def _add_prefix(result: dict[str, Any], key: str, prefix: IPNetwork | None) -> None:
    if prefix is None:
        result[key] = "all"
        return
    result[key] = address_text(prefix.network_address)
    if prefix.prefixlen != prefix.max_prefixlen:
        result[f"{key}len"] = prefix.prefixlen
