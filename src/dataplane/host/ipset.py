"""Sets of addresses and ports: `ipset save`.

A set's line, then one line per member:

    create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x1a2b3c4d
    add KUBE-CLUSTER-IP 10.96.0.10,udp:53
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dataplane.errors import DumpError
from dataplane.host.notation import address_text, mac_number, mac_text, network_text
from dataplane.host.notes import Notes
from dataplane.host.protocols import protocol_name, protocol_number

__all__ = ["IpSet", "IpSetEntry", "ProtocolPort", "parse", "text"]


class ProtocolPort(NamedTuple):
    """A member's port with its protocol; of ICMP and ICMPv6 the type and code, type << 8 | code."""

    protocol: int
    port: int


@dataclass(frozen=True, slots=True)
class IpSetEntry:
    """One member of a set.

    elements: one value per dimension of the set's type: ip an address, net a network, port a ProtocolPort (a plain
    number in bitmap:port), mac a 48-bit number or None, iface a name ("physdev:" before a bridge port's), mark a
    number, set a name.
    """

    elements: tuple[Any, ...]
    timeout: int | None = None  # seconds left; 0: never expires. None: the set has no timeouts
    packets: int | None = None  # None: the set has no counters
    bytes: int | None = None
    comment: str | None = None
    nomatch: bool = False
    more: str = ""  # further words, as they stand: skbmark, skbprio, skbqueue, wildcard

    @property
    def mark(self) -> tuple[int, int]:
        """What --map-set --map-mark makes of a packet's mark: (mark & ~second) ^ first."""
        words = self.more.split()
        if "skbmark" not in words:
            return 0, 0
        value, slash, mask = words[words.index("skbmark") + 1].partition("/")
        return int(value, 0), int(mask, 0) if slash else 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class IpSet:
    """One set: hash:ip, hash:net, hash:ip,port, hash:ip,port,ip, ..., bitmap:port, list:set."""

    name: str
    type: str
    entries: tuple[IpSetEntry, ...] = ()
    family: int = 4  # of hash types
    hash_size: int = 1024
    max_elements: int = 65536
    netmask: int | None = None  # bits of an address that count
    bitmask: str | None = None
    timeout: int | None = None  # of a member added without one, seconds; 0: never; None: no timeouts
    counters: bool = False
    comment: bool = False
    skbinfo: bool = False
    bucket_size: int | None = 12  # None: not printed (ipset before 7.10)
    initval: int | None = None  # hash seed; None: not printed
    range: tuple[Any, Any] | None = None  # bitmap types: first and last port or address
    size: int = 8  # list:set
    more: str = ""  # further create options, as they stand
    raw: str | None = field(default=None, compare=False, repr=False)  # the create line

    @property
    def method(self) -> str:
        """hash, bitmap or list."""
        return self.type.partition(":")[0]

    @property
    def dimensions(self) -> tuple[str, ...]:
        """("ip", "port", "net") for hash:ip,port,net."""
        return tuple(self.type.partition(":")[2].split(","))


MODELLED = frozenset(
    (
        "hash:ip",
        "hash:net",
        "hash:ip,port",
        "hash:ip,port,ip",
        "hash:ip,port,net",
        "hash:net,port",
        "bitmap:port",
        "list:set",
    )
)
"""Types that the datapath matches. Others of KNOWN_TYPES are read, kept and named as not modelled."""

KNOWN_TYPES = MODELLED | {
    "hash:mac",
    "hash:ip,mac",
    "hash:ip,mark",
    "hash:net,net",
    "hash:net,iface",
    "hash:net,port,net",
    "bitmap:ip",
    "bitmap:ip,mac",
}

# What the tool prints for a type and code; iptables uses the same names.
_ICMP = {
    "echo-reply": (0, 0),
    "network-unreachable": (3, 0),
    "host-unreachable": (3, 1),
    "protocol-unreachable": (3, 2),
    "port-unreachable": (3, 3),
    "fragmentation-needed": (3, 4),
    "source-route-failed": (3, 5),
    "network-unknown": (3, 6),
    "host-unknown": (3, 7),
    "network-prohibited": (3, 9),
    "host-prohibited": (3, 10),
    "TOS-network-unreachable": (3, 11),
    "TOS-host-unreachable": (3, 12),
    "communication-prohibited": (3, 13),
    "host-precedence-violation": (3, 14),
    "precedence-cutoff": (3, 15),
    "source-quench": (4, 0),
    "network-redirect": (5, 0),
    "host-redirect": (5, 1),
    "TOS-network-redirect": (5, 2),
    "TOS-host-redirect": (5, 3),
    "echo-request": (8, 0),
    "router-advertisement": (9, 0),
    "router-solicitation": (10, 0),
    "ttl-zero-during-transit": (11, 0),
    "ttl-zero-during-reassembly": (11, 1),
    "ip-header-bad": (12, 0),
    "required-option-missing": (12, 1),
    "timestamp-request": (13, 0),
    "timestamp-reply": (14, 0),
    "address-mask-request": (17, 0),
    "address-mask-reply": (18, 0),
}
_ICMP6 = {
    "no-route": (1, 0),
    "communication-prohibited": (1, 1),
    "address-unreachable": (1, 3),
    "port-unreachable": (1, 4),
    "packet-too-big": (2, 0),
    "ttl-zero-during-transit": (3, 0),
    "ttl-zero-during-reassembly": (3, 1),
    "bad-header": (4, 0),
    "unknown-header-type": (4, 1),
    "unknown-option": (4, 2),
    "echo-request": (128, 0),
    "echo-reply": (129, 0),
    "router-solicitation": (133, 0),
    "router-advertisement": (134, 0),
    "neighbour-solicitation": (135, 0),
    "neighbour-advertisement": (136, 0),
    "redirect": (137, 0),
}
_ICMP_NAMES = {codes: name for name, codes in _ICMP.items()}
_ICMP6_NAMES = {codes: name for name, codes in _ICMP6.items()}
_NUMBER = "(0[xX][0-9a-fA-F]{1,8}|[0-9]{1,9})"
_SKBMARK = re.compile(f"{_NUMBER}(/{_NUMBER})?")
_WORD = re.compile(r'"[^"]*"|\S+')


def parse(text: str, file: str = "ipset.save", notes: Notes | None = None) -> tuple[IpSet, ...]:
    """The sets of an `ipset save`. DumpError names the line and the word that is wrong."""
    notes = notes or Notes()
    sets: dict[str, IpSet] = {}
    members: dict[str, list[IpSetEntry]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        words = _WORD.findall(line)
        if not words or words[0].startswith("#"):
            continue
        reader = _Line(words, file, f"line {number}", line)
        command = reader.take("command")
        name = reader.take("set name")
        if command == "create":
            if name in sets:
                raise reader.error(name, "is created twice")
            created = _parse_create(reader, name, notes)
            sets[name] = created
            members[name] = []
        elif command == "add":
            if name not in sets:
                raise reader.error(name, "no such set was created before this line")
            members[name].append(_parse_entry(reader, sets[name]))
        else:
            raise reader.error(command, "create or add is expected")
    for owner in sets.values():
        if owner.type == "list:set":
            for entry in members[owner.name]:
                if entry.elements[0] not in sets:
                    raise DumpError(file, f"set {owner.name}", entry.elements[0], "no such set")
    # Rebuilt once, so that reading a set of n members takes n steps.
    return tuple(_with_entries(value, members[name]) for name, value in sets.items())


def _with_entries(value: IpSet, entries: list[IpSetEntry]) -> IpSet:
    object.__setattr__(value, "entries", tuple(entries))  # not yet given out, so still ours to fill
    return value


class _Line:
    """The words of a line, taken from the left."""

    def __init__(self, words: list[str], file: str, where: str, line: str) -> None:
        self.words = words
        self.at = 0
        self.file = file
        self.where = where
        self.line = line

    def error(self, field: str, message: str) -> DumpError:
        return DumpError(self.file, self.where, field, message)

    def __bool__(self) -> bool:
        return self.at < len(self.words)

    def take(self, what: str) -> str:
        if self.at == len(self.words):
            raise self.error(what, "is missing")
        self.at += 1
        return self.words[self.at - 1]

    def number(self, what: str, most: int = 0xFFFFFFFF) -> int:
        word = self.take(what)
        try:
            value = int(word, 0)
        except ValueError:
            raise self.error(what, f"a number is expected, not {word!r}") from None
        if not 0 <= value <= most:
            raise self.error(what, f"{word} is not from 0 to {most}")
        return value


def _parse_create(reader: _Line, name: str, notes: Notes) -> IpSet:
    kind = reader.take("type")
    if kind not in KNOWN_TYPES:
        raise reader.error("type", f"{kind!r} is not a type of set")
    if kind not in MODELLED:
        notes.unmodelled(f"{reader.file}: type {kind}", f"set {name}")
    values: dict[str, Any] = {"bucket_size": None}
    more: list[str] = []
    while reader:
        option = reader.take("option")
        if option == "family":
            family = reader.take("family")
            if family not in ("inet", "inet6"):
                raise reader.error("family", f"inet or inet6 is expected, not {family!r}")
            values["family"] = 4 if family == "inet" else 6
        elif option in _NUMBERS:
            values[_NUMBERS[option]] = reader.number(option)
        elif option == "range":
            values["range"] = _parse_range(reader, kind)
        elif option == "bitmask":
            values["bitmask"] = _bitmask(reader)
        elif option in ("counters", "comment", "skbinfo"):
            values[option] = True
        elif option == "forceadd":
            # Which member makes room is up to the hash of a full set.
            notes.unmodelled(f"{reader.file}: forceadd", f"set {name}")
            more.append(option)
        elif option == "markmask":
            more += [option, reader.take(option)]
        else:
            raise reader.error(option, f"is not an option of {kind}")
    if kind.startswith("bitmap:") and "range" not in values:
        raise reader.error("range", "is missing")
    return IpSet(name, kind, more=" ".join(more), raw=reader.line, **values)


_NUMBERS = {
    "hashsize": "hash_size",
    "maxelem": "max_elements",
    "netmask": "netmask",
    "timeout": "timeout",
    "bucketsize": "bucket_size",
    "initval": "initval",
    "size": "size",
}


def _bitmask(reader: _Line) -> str:
    word = reader.take("bitmask")
    try:
        return address_text(ipaddress.ip_address(word))
    except ValueError:
        raise reader.error("bitmask", f"a mask of an address is expected, not {word!r}") from None


def _parse_range(reader: _Line, kind: str) -> tuple[Any, Any]:
    word = reader.take("range")
    first, dash, last = word.partition("-")
    try:
        if kind == "bitmap:port":
            return _port_number(first), _port_number(last if dash else first)
        return ipaddress.ip_address(first), ipaddress.ip_address(last if dash else first)
    except ValueError:
        raise reader.error("range", f"first-last is expected, not {word!r}") from None


def _parse_entry(reader: _Line, owner: IpSet) -> IpSetEntry:
    word = reader.take("member")
    dimensions = owner.dimensions
    parts = word.split(",", len(dimensions) - 1)
    if owner.type == "bitmap:ip,mac" and len(parts) == 1:
        parts.append("")  # a member whose MAC has not been seen yet
    if len(parts) != len(dimensions):
        raise reader.error(word, f"{owner.type} has {len(dimensions)} parts")
    elements = []
    for dimension, part in zip(dimensions, parts, strict=True):
        try:
            elements.append(_parse_element(dimension, part, owner))
        except ValueError as error:
            raise reader.error(part, str(error)) from None
    values: dict[str, Any] = {}
    more: list[str] = []
    while reader:
        option = reader.take("option")
        if option in ("timeout", "packets", "bytes"):
            values[option] = reader.number(option, 0xFFFFFFFF if option == "timeout" else 0xFFFFFFFFFFFFFFFF)
        elif option == "comment":
            comment = reader.take(option)
            values["comment"] = comment[1:-1] if comment[:1] == comment[-1:] == '"' and len(comment) > 1 else comment
        elif option == "nomatch":
            values["nomatch"] = True
        elif option == "wildcard":
            more.append(option)
        elif option in ("skbmark", "skbprio", "skbqueue"):
            word = reader.take(option)
            if option == "skbmark" and not _SKBMARK.fullmatch(word):
                raise reader.error(option, f"a mark or mark/mask is expected, not {word!r}")
            more += [option, word]
        else:
            raise reader.error(option, "is not an option of a member")
    return IpSetEntry(tuple(elements), more=" ".join(more), **values)


def _parse_element(dimension: str, part: str, owner: IpSet) -> Any:
    family = owner.family
    if dimension == "ip":
        address = ipaddress.ip_address(part)
        if address.version != family:
            raise ValueError(f"an IPv{family} address is expected")
        return address
    if dimension == "net":
        network = ipaddress.ip_network(part)
        if network.version != family:
            raise ValueError(f"an IPv{family} network is expected")
        return network
    if dimension == "port":
        return _port_number(part) if owner.method == "bitmap" else _parse_port(part)
    if dimension == "mac":
        return mac_number(part) if part else None
    if dimension == "mark":
        return int(part, 0)
    return part


def _port_number(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 0xFFFF:
        raise ValueError("a port is at most 65535")
    return number


def _parse_port(part: str) -> ProtocolPort:
    name, colon, port = part.partition(":")
    if not colon:
        raise ValueError("protocol:port is expected")
    protocol = protocol_number(name)
    if protocol in (1, 58):
        codes = (_ICMP if protocol == 1 else _ICMP6).get(port)
        if codes is None:
            kind, _, code = port.partition("/")
            codes = int(kind), int(code)
            if not (0 <= codes[0] <= 0xFF and 0 <= codes[1] <= 0xFF):
                raise ValueError("a type and a code are at most 255")
        return ProtocolPort(protocol, codes[0] << 8 | codes[1])
    return ProtocolPort(protocol, _port_number(port))


def text(sets: Iterable[IpSet]) -> str:
    """What `ipset save` prints for these sets."""
    lines: list[str] = []
    for value in sets:
        lines.append(_create_line(value))
        prefix = f"add {value.name} "
        dimensions = value.dimensions
        lines += [prefix + _entry_text(entry, dimensions) for entry in value.entries]
    return "".join(line + "\n" for line in lines)


def _create_line(value: IpSet) -> str:
    words = ["create", value.name, value.type]
    if value.method == "hash":
        words += ["family", "inet" if value.family == 4 else "inet6"]
        if value.type == "hash:mac":
            del words[-2:]
        words += ["hashsize", str(value.hash_size), "maxelem", str(value.max_elements)]
    elif value.method == "list":
        words += ["size", str(value.size)]
    elif value.range is not None:
        words += ["range", f"{value.range[0]}-{value.range[1]}"]
    if value.netmask is not None:
        words += ["netmask", str(value.netmask)]
    if value.bitmask is not None:
        words += ["bitmask", value.bitmask]
    if value.timeout is not None:
        words += ["timeout", str(value.timeout)]
    words += [name for name in ("counters", "comment", "skbinfo") if getattr(value, name)]
    words += value.more.split()
    if value.method == "hash":
        if value.bucket_size is not None:
            words += ["bucketsize", str(value.bucket_size)]
        if value.initval is not None:
            words += ["initval", f"0x{value.initval:08x}"]
    line = " ".join(words)
    if value.raw is not None and value.raw != line:
        was = _parse_create(
            _Line(_WORD.findall(value.raw)[2:], "", "", value.raw), _WORD.findall(value.raw)[1], Notes()
        )
        if _with_entries(was, list(value.entries)) == value:
            return value.raw
    return line


def _entry_text(entry: IpSetEntry, dimensions: tuple[str, ...]) -> str:
    words = [",".join(_element_texts(entry.elements, dimensions))]
    if entry.timeout is not None:
        words += ["timeout", str(entry.timeout)]
    if entry.nomatch:
        words.append("nomatch")
    if entry.packets is not None:
        words += ["packets", str(entry.packets)]
    if entry.bytes is not None:
        words += ["bytes", str(entry.bytes)]
    if entry.comment is not None:
        words += ["comment", f'"{entry.comment}"']
    if entry.more:
        words.append(entry.more)
    return " ".join(words)


def _element_texts(elements: tuple[Any, ...], dimensions: tuple[str, ...]) -> Iterable[str]:
    for dimension, element in zip(dimensions, elements, strict=True):
        if dimension == "net":
            yield network_text(element)
        elif dimension == "ip":
            yield address_text(element)
        elif isinstance(element, ProtocolPort):
            yield _port_text(element)
        elif dimension == "mac":
            if element is not None:
                yield mac_text(element).upper()
        elif dimension == "mark":
            yield f"0x{element:08x}"
        else:
            yield str(element)


def _port_text(element: ProtocolPort) -> str:
    name = protocol_name(element.protocol)
    if element.protocol in (1, 58):
        codes = element.port >> 8, element.port & 0xFF
        names = _ICMP_NAMES if element.protocol == 1 else _ICMP6_NAMES
        return f"{name}:{names.get(codes) or f'{codes[0]}/{codes[1]}'}"
    return f"{name}:{element.port}"
