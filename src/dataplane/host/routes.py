"""Routing tables: `ip -json route show table all` and `ip -6 -json route show table all`.

Without a family the tool prints both families, IPv4 first; the second command prints the IPv6 part again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dataplane.host.config import TABLE_DEFAULT, TABLE_LOCAL, TABLE_MAIN, NextHop, Route
from dataplane.host.notation import address_text, network_text
from dataplane.host.notes import Notes
from dataplane.host.objects import Entry, keys, patch, read_objects, write_objects

__all__ = ["parse", "read_table", "table_text", "text"]

TYPES = keys("unicast local broadcast anycast multicast blackhole unreachable prohibit throw nat xresolve")
_TABLES = {"default": TABLE_DEFAULT, "main": TABLE_MAIN, "local": TABLE_LOCAL, "unspec": 0, "all": 0}
_TABLE_NAMES = {TABLE_DEFAULT: "default", TABLE_MAIN: "main", TABLE_LOCAL: "local"}

_NEXTHOP_FLAGS = frozenset(("onlink", "linkdown", "dead"))
# In the order in which the tool prints them.
_FLAG_ORDER = (
    "dead",
    "onlink",
    "pervasive",
    "offload",
    "trap",
    "notify",
    "linkdown",
    "unresolved",
    "rt_offload",
    "rt_trap",
    "rt_offload_failed",
)
_KNOWN = keys("type dst from tos nhid gateway via dev table protocol scope prefsrc metric flags metrics pref nexthops")
_HARMLESS = frozenset(("expires", "cache", "used", "age", "error", "uid"))  # state of a route, not its meaning
_METRICS = frozenset(("mtu", "advmss", "hoplimit"))
# TCP's own settings of a route: nothing that a packet on its way meets.
_OTHER_METRICS = keys(
    "window rtt rttvar ssthresh cwnd reordering initcwnd initrwnd rto_min quickack congestion ecn features"
)


def parse(text: str, family: int = 0, file: str = "routes.json", notes: Notes | None = None) -> tuple[Route, ...]:
    """The routes of `ip -json route show table all`, in the order of the file.

    family: 4 or 6; with 0 the text may hold both, and a default route's is told by its other fields.
    DumpError names the entry and the field.
    """
    notes = notes or Notes()
    routes = []
    for number, raw in enumerate(read_objects(text, file), 1):
        entry = Entry(raw, file, f"entry {number} ({raw.get('dst')})")
        routes.append(_route(entry, family, notes))
    return tuple(routes)


def read_table(entry: Entry, key: str = "table") -> int:
    """A routing table's number, by its number or by the three names that the kernel has."""
    name = entry.raw.get(key, "main")
    if isinstance(name, str) and name in _TABLES:
        return _TABLES[name]
    if isinstance(name, str) and not name.isdigit():
        raise entry.error(key, f"{name!r} is a name of /etc/iproute2/rt_tables: take the dump with -N")
    return entry.number(key)


def table_text(table: int) -> str:
    """local, main, default, or the number."""
    return _TABLE_NAMES.get(table) or str(table)


def _family(entry: Entry) -> int:
    """Of a route whose text may be of both: IPv6 routes always have a preference printed, IPv4 ones never."""
    destination = entry.text("dst")
    if destination != "default":
        return 6 if ":" in destination else 4
    return 6 if "pref" in entry.raw else 4


def _route(entry: Entry, family: int, notes: Notes) -> Route:
    if "encap" in entry.raw:
        # Its own fields stand among the route's, so they cannot be told apart.
        notes.unmodelled(f"{entry.file}: encap", entry.where)
    else:
        entry.note_unknown(_KNOWN | _HARMLESS, notes)
    family = family or _family(entry)
    kind = entry.text("type", "unicast")
    if kind not in TYPES:
        raise entry.error("type", f"{kind!r} is not a type of route")
    destination = entry.network("dst", family)
    if destination is None:
        raise entry.error("dst", "is missing")
    metrics: dict[str, Any] = {}
    for item in entry.objects("metrics"):
        item.note_unknown(_METRICS | _OTHER_METRICS, notes, "metrics ")
        metrics.update(
            mtu=item.number("mtu", 0), advmss=item.number("advmss", 0), hop_limit=item.number("hoplimit", 0, most=0xFF)
        )
    flags = entry.words("flags")
    if "nexthops" in entry.raw:
        nexthops = tuple(_nexthop(item, family, item.words("flags")) for item in entry.objects("nexthops"))
    elif any(key in entry.raw for key in ("gateway", "via", "dev")):
        nexthops = (_nexthop(entry, family, flags),)
    else:
        nexthops = ()
    return Route(
        destination=destination,
        nexthops=nexthops,
        table=read_table(entry),
        type=kind,
        priority=entry.number("metric", 0),
        tos=entry.number("tos", 0, most=0xFF),
        scope=entry.scope("scope"),
        prefsrc=entry.address("prefsrc", family),
        source=entry.network("from", family),
        protocol=str(entry.raw.get("protocol", "boot")),
        preference=entry.text("pref", "medium"),
        nexthop_id=entry.number("nhid", 0),
        flags=tuple(flag for flag in flags if flag not in _NEXTHOP_FLAGS),
        raw=entry.raw,
        **metrics,
    )


def _nexthop(entry: Entry, family: int, flags: Sequence[str]) -> NextHop:
    gateway = entry.address("gateway", family)
    via = entry.object("via")
    if via.raw:
        gateway = via.address("host", 6 if via.text("family") == "inet6" else 4)
    return NextHop(
        gateway=gateway,
        device=entry.text("dev", None),
        weight=entry.number("weight", 1, most=0xFFFF),
        onlink="onlink" in flags,
        linkdown="linkdown" in flags,
        dead="dead" in flags,
    )


def text(routes: Iterable[Route]) -> str:
    """What `ip -json route show table all` prints for these routes, in the order given."""
    return write_objects([_object_of(route) for route in routes])


def _object_of(route: Route) -> Mapping[str, Any]:
    if route.raw is None:
        return _object(route)
    was = _route(Entry(route.raw, "", ""), route.family, Notes())
    return route.raw if was == route else patch(route.raw, _object(was), _object(route))


def _object(route: Route) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if route.type != "unicast":
        result["type"] = route.type
    result["dst"] = _prefix_text(route.destination)
    if route.source is not None:
        result["from"] = _prefix_text(route.source)
    if route.tos:
        result["tos"] = f"{route.tos:#04x}"
    if route.nexthop_id:
        result["nhid"] = route.nexthop_id
    single = route.nexthops[0] if len(route.nexthops) == 1 else None
    if single is not None:
        _add_nexthop(result, single, route.family)
    if route.table != TABLE_MAIN:
        result["table"] = table_text(route.table)
    if route.protocol != "boot":
        result["protocol"] = route.protocol
    if route.scope != "global":
        result["scope"] = route.scope
    if route.prefsrc is not None:
        result["prefsrc"] = address_text(route.prefsrc)
    if route.priority or route.family == 6:
        result["metric"] = route.priority
    flags = set(route.flags)
    if single is not None:
        flags |= _nexthop_flags(single)
    result["flags"] = _ordered(flags)
    metrics = {"mtu": route.mtu, "advmss": route.advmss, "hoplimit": route.hop_limit}
    if any(metrics.values()):
        result["metrics"] = [{name: value for name, value in metrics.items() if value}]
    if route.family == 6:
        result["pref"] = route.preference
    if len(route.nexthops) > 1:
        result["nexthops"] = []
        for nexthop in route.nexthops:
            item: dict[str, Any] = {}
            _add_nexthop(item, nexthop, route.family)
            item["weight"] = nexthop.weight
            item["flags"] = _ordered(_nexthop_flags(nexthop))
            result["nexthops"].append(item)
    return result


def _add_nexthop(result: dict[str, Any], nexthop: NextHop, family: int) -> None:
    if nexthop.gateway is not None:
        if nexthop.gateway.version == family:
            result["gateway"] = address_text(nexthop.gateway)
        else:
            host = address_text(nexthop.gateway)
            result["via"] = {"family": f"inet{'6' if nexthop.gateway.version == 6 else ''}", "host": host}
    if nexthop.device is not None:
        result["dev"] = nexthop.device


def _nexthop_flags(nexthop: NextHop) -> set[str]:
    return {name for name in _NEXTHOP_FLAGS if getattr(nexthop, name)}


def _ordered(flags: set[str]) -> list[str]:
    known = [flag for flag in _FLAG_ORDER if flag in flags]
    return known + sorted(flags - set(known))


def _prefix_text(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    return "default" if network.prefixlen == 0 else network_text(network)
