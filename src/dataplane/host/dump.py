"""A host's dump: a folder of what the real tools print on a node, and the checks that its files fit together.

| file | the command that prints it |
|---|---|
| links.json | ip -details -json link show |
| addresses.json | ip -json address show |
| routes.json, routes6.json | ip -json route show table all; ip -6 -json route show table all |
| rules.json, rules6.json | ip -json rule show; ip -6 -json rule show |
| neighbours.json, neighbours-proxy.json | ip -json neighbour show; ip -json neighbour show proxy |
| groups.json | ip -json maddress show |
| fdb.json | bridge -json fdb show |
| iptables.save, ip6tables.save | iptables-save -c; ip6tables-save -c |
| ipset.save | ipset save |
| sysctl.txt | sysctl -a |
| conntrack.txt | conntrack -L -o extended |
| ipvs.save | ipvsadm --save --numeric |
| ipvs-timeout.txt | ipvsadm -L --timeout |
| nftables.json | kept as it is |

What was read and not changed is written back byte for byte, with these exceptions: texts that another version of a
tool lays out otherwise (a warning names them), empty objects in a list, comments and blank lines, and the IPv6 part of
routes.json, which is written from the routes of routes6.json where both were read (a lifetime in them may have moved
by a second between the two commands).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from dataplane.errors import DumpError
from dataplane.host import addresses, conntrack, fdb, groups, ipset, ipvs, links, neighbours, policy, routes, sysctl
from dataplane.host.config import FdbEntry, HostConfig, Link, Neighbour, PolicyRule, Route
from dataplane.host.notation import address_text, mac_text
from dataplane.host.notes import Notes
from dataplane.host.objects import write_objects

if TYPE_CHECKING:
    from dataplane.host.iptables import Ruleset

__all__ = ["COMMANDS", "check", "load", "read", "save", "texts"]

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "links.json": ("ip", "-details", "-json", "link", "show"),
    "addresses.json": ("ip", "-json", "address", "show"),
    "routes.json": ("ip", "-json", "route", "show", "table", "all"),
    "routes6.json": ("ip", "-6", "-json", "route", "show", "table", "all"),
    "rules.json": ("ip", "-json", "rule", "show"),
    "rules6.json": ("ip", "-6", "-json", "rule", "show"),
    "neighbours.json": ("ip", "-json", "neighbour", "show"),
    "neighbours-proxy.json": ("ip", "-json", "neighbour", "show", "proxy"),
    "groups.json": ("ip", "-json", "maddress", "show"),
    "fdb.json": ("bridge", "-json", "fdb", "show"),
    "iptables.save": ("iptables-save", "-c"),
    "ip6tables.save": ("ip6tables-save", "-c"),
    "ipset.save": ("ipset", "save"),
    "ipvs.save": ("ipvsadm", "--save", "--numeric"),
    "ipvs-timeout.txt": ("ipvsadm", "-L", "--timeout"),
    "nftables.json": ("nft", "--json", "list", "ruleset"),
    "sysctl.txt": ("sysctl", "-a"),
    "conntrack.txt": ("conntrack", "-L", "-o", "extended"),
}
"""The files of a dump, and for each the command that prints it in the host's network namespace."""

KEPT = ("nftables.json",)

C = TypeVar("C", bound=HostConfig)
V = TypeVar("V")


def load(kind: type[C], folder: Path) -> C:
    """Read a dump from its folder. DumpError if it is no folder, or holds none of the files, or as `read` says."""
    if not folder.is_dir():
        raise DumpError(folder, message="is not a folder that holds a host's dump")
    found = {}
    for name in COMMANDS:
        path = folder / name
        if path.is_file():
            # Names of interfaces are bytes; what is not UTF-8 comes through unchanged.
            found[name] = path.read_bytes().decode("utf-8", "surrogateescape")
    if not found:
        raise DumpError(folder, message=f"holds no file of a host's dump, such as {', '.join(list(COMMANDS)[:3])}")
    return read(kind, found, name=folder.resolve().name, folder=folder)


def read(kind: type[C], found: Mapping[str, str], name: str = "", folder: Path | None = None) -> C:
    """A configuration from the texts of a dump, by the names of their files.

    DumpError names the file, the line or entry, and the field, where a text does not parse or the texts do not fit.
    """
    notes = Notes()

    def path(file: str) -> str:
        return str(folder / file) if folder is not None else file

    def parsed(file: str, parse: Callable[[str, str], V], again: Callable[[V], str]) -> V:
        text = found.get(file, "")
        value = parse(text, path(file))
        if file in found and again(value) != text:
            notes.warn(
                f"{path(file)}: laid out otherwise than the tools do that we know; writing it changes its layout"
            )
        return value

    all_links = parsed("links.json", lambda text, file: links.parse(text, file, notes), links.text)
    all_links, all_addresses = parsed(
        "addresses.json",
        lambda text, file: addresses.parse(text, all_links, file, notes),
        lambda both: addresses.text(*both),
    )
    config = kind(
        name=name,
        links=all_links,
        addresses=all_addresses,
        routes=_routes(parsed, found, path, notes),
        rules=parsed("rules.json", lambda text, file: policy.parse(text, 4, file, notes), _objects_as_read)
        + parsed("rules6.json", lambda text, file: policy.parse(text, 6, file, notes), _objects_as_read),
        neighbours=parsed("neighbours.json", lambda text, file: neighbours.parse(text, file, notes), _objects_as_read)
        + parsed(
            "neighbours-proxy.json",
            lambda text, file: neighbours.parse(text, file, notes),
            _objects_as_read,
        ),
        groups=parsed("groups.json", lambda text, file: groups.parse(text, file, notes), groups.text)
        if "groups.json" in found
        else None,
        fdb=parsed("fdb.json", lambda text, file: fdb.parse(text, file, notes), _objects_as_read),
        iptables=_ruleset(found, "iptables.save", 4, path),
        ip6tables=_ruleset(found, "ip6tables.save", 6, path),
        ipsets=parsed("ipset.save", lambda text, file: ipset.parse(text, file, notes), ipset.text),
        sysctl=parsed("sysctl.txt", lambda text, file: sysctl.parse(text, file, notes), sysctl.text),
        connections=parsed("conntrack.txt", lambda text, file: conntrack.parse(text, file, notes), _lines_as_read),
        ipvs=parsed("ipvs.save", lambda text, file: ipvs.parse(text, file, notes), ipvs.text),
        ipvs_timeouts=parsed("ipvs-timeout.txt", ipvs.parse_timeouts, ipvs.timeouts_text),
        kept={file: found[file] for file in KEPT if file in found},
    )
    for file, text in config.kept.items():
        if text.strip():
            notes.unmodelled(file, "the whole file")
    _check(config, path, notes, found)
    return config.with_(unmodelled=notes.unmodelled_lines, warnings=notes.warning_lines)


def _objects_as_read(values: Sequence[Route | PolicyRule | Neighbour | FdbEntry]) -> str:
    """What printing gives: nothing has changed yet."""
    return write_objects([value.raw for value in values if value.raw is not None])


def _lines_as_read(rows: Sequence[conntrack.ConnectionRow]) -> str:
    return "".join(f"{row.raw}\n" for row in rows)


class _Parsed(Protocol):
    """Reads a file with a parser, and warns where printing would not give it back."""

    def __call__(self, file: str, parse: Callable[[str, str], V], again: Callable[[V], str], /) -> V: ...


def _routes(parsed: _Parsed, found: Mapping[str, str], path: Callable[[str], str], notes: Notes) -> tuple[Route, ...]:
    both = parsed("routes.json", lambda text, file: routes.parse(text, 0, file, notes), _objects_as_read)
    six = parsed("routes6.json", lambda text, file: routes.parse(text, 6, file, notes), _objects_as_read)
    if "routes6.json" not in found:
        return both
    before = tuple(route for route in both if route.family == 6)
    if before and before != six:
        notes.warn(f"{path('routes.json')}: its IPv6 routes are not those of routes6.json, which are taken")
    return tuple(route for route in both if route.family == 4) + six


def _ruleset(found: Mapping[str, str], file: str, family: int, path: Callable[[str], str]) -> Ruleset | None:
    if file not in found:
        return None
    from dataplane.host.iptables import Ruleset

    return Ruleset.parse(found[file], family, path(file))


def texts(config: HostConfig) -> dict[str, str]:
    """The texts of a dump, by the names of their files: what the real tools print for this host."""
    proxies = tuple(neighbour for neighbour in config.neighbours if neighbour.proxy)
    four = [route for route in config.routes if route.family == 4]
    six = [route for route in config.routes if route.family == 6]
    result = {
        "links.json": links.text(config.links),
        "addresses.json": addresses.text(config.links, config.addresses),
        "routes.json": routes.text([*four, *six]),
        "routes6.json": routes.text(six),
        "rules.json": policy.text(rule for rule in config.rules if rule.family == 4),
        "rules6.json": policy.text(rule for rule in config.rules if rule.family == 6),
        "neighbours.json": neighbours.text(config.neighbours),
        "fdb.json": fdb.text(config.fdb),
        "ipset.save": ipset.text(config.ipsets),
        "sysctl.txt": sysctl.text(config.sysctl),
        "conntrack.txt": conntrack.text(config.connections),
        **config.kept,
    }
    if config.groups is not None:
        result["groups.json"] = groups.text(config.groups)
    if config.ipvs:
        result["ipvs.save"] = ipvs.text(config.ipvs)
    if config.ipvs or config.ipvs_timeouts != ipvs.IpvsTimeouts():
        result["ipvs-timeout.txt"] = ipvs.timeouts_text(config.ipvs_timeouts)
    if proxies:
        result["neighbours-proxy.json"] = neighbours.text(proxies, proxy=True)
    if config.iptables is not None:
        result["iptables.save"] = config.iptables.text(counters=True)
    if config.ip6tables is not None:
        result["ip6tables.save"] = config.ip6tables.text(counters=True)
    return {name: result[name] for name in COMMANDS if name in result}


def save(config: HostConfig, folder: Path) -> None:
    """Write the dump. DumpError, before anything is written, where the parts do not fit together (see `check`)."""
    check(config)
    written = texts(config)
    folder.mkdir(parents=True, exist_ok=True)
    for name in COMMANDS:
        if name in written:
            (folder / name).write_bytes(written[name].encode("utf-8", "surrogateescape"))
        else:
            # Otherwise a file of an earlier dump would be read as part of this one.
            (folder / name).unlink(missing_ok=True)


def check(config: HostConfig) -> None:
    """Whether the parts fit together. DumpError names the file, the entry and the field that does not.

    Where there are no links at all, what refers to them cannot be checked and is not.
    """
    _check(config, str, Notes(), COMMANDS)


def _check(config: HostConfig, path: Callable[[str], str], notes: Notes, found: Container[str]) -> None:
    """found: the files that the parts are from; a part may be from one of two."""
    by_name = {name: link for link in config.links for name in (link.name, *link.aliases)}
    if not by_name:
        return
    _check_links(config.links, by_name, path("links.json" if "links.json" in found else "addresses.json"), notes)
    for number, address in enumerate(config.addresses, 1):
        _known(address.interface, by_name, path("addresses.json"), f"address {number} ({address.address})", "interface")
    if "routes6.json" in found:
        for file, family in (("routes.json", 4), ("routes6.json", 6)):
            _check_routes([route for route in config.routes if route.family == family], by_name, path(file))
    else:
        _check_routes(config.routes, by_name, path("routes.json"))
    for file, proxy in (("neighbours.json", False), ("neighbours-proxy.json", True)):
        some = [neighbour for neighbour in config.neighbours if neighbour.proxy == proxy]
        _check_neighbours(some, by_name, path(file))
    for number, joined in enumerate(config.groups or (), 1):
        where = f"entry {number} ({joined.interface})"
        _known(joined.interface, by_name, path("groups.json"), where, "ifname")
    _check_fdb(config.fdb, by_name, path("fdb.json"), notes)


def _known(name: str, by_name: Mapping[str, Link], file: str, where: str, field: str) -> Link:
    link = by_name.get(name)
    if link is None:
        raise DumpError(file, where, field, f"{name} is not among the links")
    return link


def _check_links(all_links: Sequence[Link], by_name: Mapping[str, Link], file: str, notes: Notes) -> None:
    for number, link in enumerate(all_links, 1):
        where = f"entry {number} ({link.name})"
        if link.master is not None:
            _check_master(
                _known(link.master, by_name, file, where, "master"), link.port is not None, file, where, notes
            )
        if link.vxlan is not None and link.vxlan.device is not None:
            _known(link.vxlan.device, by_name, file, where, "linkinfo: info_data: link")
        if link.device is not None and link.peer_netns is None and link.kind:
            _known(link.device, by_name, file, where, "link")


def _check_master(master: Link, is_bridge_port: bool, file: str, where: str, notes: Notes) -> None:
    shown = master.raw or master.raw_address
    if master.kind == "bridge" or (shown is not None and "promiscuity" not in shown):
        return  # without -details a kind is not known
    if is_bridge_port or master.kind in links.MODELLED_KINDS - {""}:
        raise DumpError(file, where, "master", f"{master.name} is not a bridge but {master.kind or 'a plain link'}")
    notes.unmodelled(f"{file}: master of kind {master.kind or 'unknown'}", where)


def _check_routes(some: Iterable[Route], by_name: Mapping[str, Link], file: str) -> None:
    for number, route in enumerate(some, 1):
        for hop in route.nexthops:
            if hop.device is not None:
                _known(hop.device, by_name, file, f"entry {number} ({route.destination})", "dev")


def _check_neighbours(some: Iterable[Neighbour], by_name: Mapping[str, Link], file: str) -> None:
    for number, neighbour in enumerate(some, 1):
        if neighbour.interface or not neighbour.proxy:
            where = f"entry {number} ({address_text(neighbour.address)})"
            _known(neighbour.interface, by_name, file, where, "dev")


def _check_fdb(some: Iterable[FdbEntry], by_name: Mapping[str, Link], file: str, notes: Notes) -> None:
    for number, entry in enumerate(some, 1):
        where = f"entry {number} ({mac_text(entry.mac)} on {entry.interface})"
        _known(entry.interface, by_name, file, where, "ifname")
        if entry.master is not None:
            _check_master(_known(entry.master, by_name, file, where, "master"), True, file, where, notes)
        if entry.via is not None:
            _known(entry.via, by_name, file, where, "viaIf")
