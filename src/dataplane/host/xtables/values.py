"""How option values are read and shown, as the iptables tools do it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from dataplane.host.xtables.declare import Kind, Scope

ALL_BITS = 0xFFFFFFFF

# Names and numbers of /etc/protocols as Debian ships it: iptables-save prints them.
PROTOCOLS: Mapping[int, str] = {
    1: "icmp", 2: "igmp", 3: "ggp", 4: "ipencap", 5: "st", 6: "tcp", 8: "egp", 9: "igp", 12: "pup", 17: "udp", 20:
    "hmp", 22: "xns-idp", 27: "rdp", 29: "iso-tp4", 33: "dccp", 36: "xtp", 37: "ddp", 38: "idpr-cmtp", 41: "ipv6", 43:
    "ipv6-route", 44: "ipv6-frag", 45: "idrp", 46: "rsvp", 47: "gre", 50: "esp", 51: "ah", 57: "skip", 58:
    "ipv6-icmp", 59: "ipv6-nonxt", 60: "ipv6-opts", 73: "rspf", 81: "vmtp", 88: "eigrp", 89: "ospf", 93: "ax.25", 94:
    "ipip", 97: "etherip", 98: "encap", 103: "pim", 108: "ipcomp", 112: "vrrp", 115: "l2tp", 124: "isis", 132: "sctp",
    133: "fc", 135: "mobility-header", 136: "udplite", 137: "mpls-in-ip", 138: "manet", 139: "hip", 140: "shim6", 141:
    "wesp", 142: "rohc", 143: "ethernet",
}  # fmt: skip
_PROTOCOL_NUMBERS = {name: number for number, name in PROTOCOLS.items()} | {
    "all": 0,
    "ip": 0,
    "hopopt": 0,
    "icmpv6": 58,
    "mh": 135,
    "ipv6-mh": 135,
}

# Ports by name, of those that people write in rules; a longer list would belong to a machine and not to the rules.
SERVICES: Mapping[str, int] = {
    "ftp-data": 20, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "time": 37, "domain": 53, "bootps": 67, "bootpc":
    68, "tftp": 69, "http": 80, "kerberos": 88, "pop3": 110, "sunrpc": 111, "ntp": 123, "netbios-ns": 137,
    "netbios-dgm": 138, "netbios-ssn": 139, "imap2": 143, "imap": 143, "snmp": 161, "snmp-trap": 162, "bgp": 179,
    "ldap": 389, "https": 443, "microsoft-ds": 445, "isakmp": 500, "syslog": 514, "submission": 587, "ipp": 631,
    "ldaps": 636, "rsync": 873, "imaps": 993, "pop3s": 995, "openvpn": 1194, "nfs": 2049, "mysql": 3306, "sip": 5060,
    "postgresql": 5432, "x11": 6000, "http-alt": 8080,
}  # fmt: skip

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")


def integer(text: str, low: int = 0, high: int = ALL_BITS) -> int:
    """A number as strtoul reads it with base 0: decimal, 0x hexadecimal, 0 octal."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not a number")
    if text[:2] in ("0x", "0X"):
        value = int(text, 16)
    elif text[0] == "0" and len(text) > 1:
        try:
            value = int(text, 8)
        except ValueError:
            raise ValueError(f"{text!r} is not a number") from None
    else:
        value = int(text)
    if not low <= value <= high:
        raise ValueError(f"{text} is not within {low} to {high}")
    return value


def protocol_number(text: str) -> int:
    name = text.lower()
    if name in _PROTOCOL_NUMBERS:
        return _PROTOCOL_NUMBERS[name]
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"unknown protocol {text!r}")
    return integer(text, 0, 255)


def protocol_name(number: int) -> str:
    return PROTOCOLS.get(number, str(number))


def number(low: int = 0, high: int = ALL_BITS, form: str = "d") -> Kind:
    return Kind(lambda text, scope: integer(text, low, high), lambda value: format(value, form))


def words_of(names: Mapping[str, int] | Sequence[str], what: str) -> Kind:
    """One of several words, in any case; kept as the first of those that mean the same number."""
    table = names if isinstance(names, Mapping) else {name: at for at, name in enumerate(names)}
    lower = {name.lower(): at for name, at in table.items()}
    shown = {at: name for name, at in reversed(list(table.items()))}

    def read(text: str, scope: Scope) -> int:
        if text.lower() not in lower:
            raise ValueError(f"{text!r} is no {what}")
        return lower[text.lower()]

    return Kind(read, lambda value: shown[value])


def flags_of(names: Mapping[str, int], what: str) -> Kind:
    """A list of words with commas: bits, shown in the order of `names`."""
    upper = {name.upper(): bit for name, bit in names.items()}

    def read(text: str, scope: Scope) -> int:
        bits = 0
        for word in text.split(","):
            if word.upper() not in upper:
                raise ValueError(f"{word!r} is no {what}")
            bits |= upper[word.upper()]
        return bits

    return Kind(read, lambda bits: ",".join(name for name, bit in names.items() if bits & bit))


# ---- ports -----------------------------------------------------------------------------------------------------------


def port(text: str) -> int:
    if text in SERVICES:
        return SERVICES[text]
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not a port")
    return integer(text, 0, 65535)


def port_range(text: str, scope: Scope) -> tuple[int, int]:
    """`80`, `80:90`, `:90`, `80:`."""
    low_text, colon, high_text = text.partition(":")
    if not colon:
        low = high = port(text)
    else:
        low = port(low_text) if low_text else 0
        high = port(high_text) if high_text else 65535
    if low > high:
        raise ValueError(f"{text}: the first port is above the last")
    return low, high


def show_range(value: tuple[int, int]) -> str:
    low, high = value
    return str(low) if low == high else f"{low}:{high}"


PORTS = Kind(port_range, show_range)


def number_range(high: int, separator: str = ":") -> Kind:
    """`5`, `5:9`, `:9`, `5:`; both ends shown unless they are equal."""

    def read(text: str, scope: Scope) -> tuple[int, int]:
        first, found, last = text.partition(separator)
        if not found:
            value = integer(text, 0, high)
            return value, value
        return integer(first, 0, high) if first else 0, integer(last, 0, high) if last else high

    return Kind(read, lambda value: show_range(value).replace(":", separator))


# ---- marks -----------------------------------------------------------------------------------------------------------


class Masked(NamedTuple):
    value: int
    mask: int


def masked(text: str, scope: Scope) -> Masked:
    value, slash, mask = text.partition("/")
    return Masked(integer(value), integer(mask) if slash else ALL_BITS)


def show_masked(value: Masked) -> str:
    return f"{value.value:#x}" if value.mask == ALL_BITS else f"{value.value:#x}/{value.mask:#x}"


MARK = Kind(masked, show_masked)
# Targets print the mask also where it is all ones.
FULL_MARK = Kind(masked, lambda value: f"{value.value:#x}/{value.mask:#x}")


# ---- addresses -------------------------------------------------------------------------------------------------------


class Network(NamedTuple):
    """An address and a mask, which need not be contiguous, as numbers."""

    address: int
    mask: int
    family: int


def bits_of(family: int) -> int:
    return 32 if family == 4 else 128


def full_mask(family: int) -> int:
    return (1 << bits_of(family)) - 1


def prefix_length(mask: int, family: int) -> int | None:
    """The length of a contiguous mask; None for any other."""
    bits = bits_of(family)
    rest = mask ^ ((1 << bits) - 1)
    return bits - rest.bit_length() if rest & (rest + 1) == 0 else None


_DOTTED = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})")


@lru_cache(4096)
def address_number(text: str, family: int) -> int:
    """An address as a number. Host names are refused: they mean whatever a resolver says today."""
    try:
        if family == 4:
            # Leading zeros are decimal to iptables, and an error to ipaddress.
            match = _DOTTED.fullmatch(text)
            if match and all(int(part) < 256 for part in match.groups()):
                return int.from_bytes(bytes(map(int, match.groups())), "big")
            raise ValueError
        if "%" in text:
            raise ValueError
        return int(ipaddress.IPv6Address(text))
    except ValueError:
        what = "IPv4" if family == 4 else "IPv6"
        raise ValueError(f"{text!r} is no {what} address (host names are not resolved)") from None


@lru_cache(4096)
def show_address(value: int, family: int) -> str:
    """As inet_ntop prints it."""
    if family == 4:
        return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
    # inet_ntop writes the last four bytes of mapped and compatible addresses with dots.
    if value >> 32 == 0xFFFF or (value >> 32 == 0 and value >> 16):
        return ("::ffff:" if value >> 32 else "::") + show_address(value & ALL_BITS, 4)
    return str(ipaddress.IPv6Address(value))


def _partial(text: str) -> str:
    """`10/8` stands for 10.0.0.0/8, and 10.1 for 10.1.0.0."""
    return text + ".0" * (3 - text.count(".")) if re.fullmatch(r"\d+(\.\d+){0,2}", text) else text


def prefix_words(length: int, family: int) -> tuple[int, int, int, int]:
    """The mask of a prefix length as four words; one of IPv4."""
    mask = full_mask(family) ^ ((1 << (bits_of(family) - length)) - 1)
    if family == 4:
        return mask, 0, 0, 0
    return mask >> 96, mask >> 64 & ALL_BITS, mask >> 32 & ALL_BITS, mask & ALL_BITS


@lru_cache(4096)
def read_network(text: str, family: int) -> Network:
    address_text, slash, mask_text = text.partition("/")
    if family == 4:
        address_text = _partial(address_text)
    address = address_number(address_text, family)
    bits = bits_of(family)
    if not slash:
        mask = full_mask(family)
    elif _NUMBER.fullmatch(mask_text):
        mask = full_mask(family) ^ ((1 << (bits - integer(mask_text, 0, bits))) - 1)
    else:
        mask = address_number(mask_text, family)
    return Network(address & mask, mask, family)


def show_network(network: Network) -> str:
    length = prefix_length(network.mask, network.family)
    mask = show_address(network.mask, network.family) if length is None else str(length)
    return f"{show_address(network.address, network.family)}/{mask}"


NETWORK = Kind(lambda text, scope: read_network(text, scope.family), show_network)


# ---- text ------------------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[-_0-9A-Za-z]+")
_ESCAPED = re.compile(r"""(["\\'])""")


def quoted(text: str) -> str:
    """As iptables-save writes a text: bare if it is one plain word, else in double quotes."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + _ESCAPED.sub(r"\\\1", text) + '"'


def text(longest: int, plain: Callable[[str], str] = quoted) -> Kind:
    """longest: in bytes."""

    def read(value: str, scope: Scope) -> str:
        if len(value.encode(errors="surrogateescape")) > longest:
            raise ValueError(f"longer than {longest} bytes")
        return value

    return Kind(read, plain)


def interface_name(text: str, scope: Scope) -> str:
    if not text or "/" in text or any(character.isspace() for character in text):
        raise ValueError(f"{text!r} cannot be the name of an interface")
    if len(text.encode(errors="surrogateescape")) > 15:
        raise ValueError(f"interface name {text!r} is longer than 15 bytes")
    return text


INTERFACE = Kind(interface_name, str)
