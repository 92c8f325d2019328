"""Names of IP protocols as the tools print them: those of Debian's /etc/protocols, fixed so that texts do not depend on
the machine that reads them."""

from __future__ import annotations

__all__ = ["protocol_name", "protocol_number"]

_NUMBERS = {
    "hopopt": 0,
    "icmp": 1,
    "igmp": 2,
    "ggp": 3,
    "ipencap": 4,
    "st": 5,
    "tcp": 6,
    "egp": 8,
    "igp": 9,
    "pup": 12,
    "udp": 17,
    "hmp": 20,
    "xns-idp": 22,
    "rdp": 27,
    "iso-tp4": 29,
    "dccp": 33,
    "xtp": 36,
    "ddp": 37,
    "idpr-cmtp": 38,
    "ipv6": 41,
    "ipv6-route": 43,
    "ipv6-frag": 44,
    "idrp": 45,
    "rsvp": 46,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "skip": 57,
    "ipv6-icmp": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "rspf": 73,
    "vmtp": 81,
    "eigrp": 88,
    "ospf": 89,
    "ax.25": 93,
    "ipip": 94,
    "etherip": 97,
    "encap": 98,
    "pim": 103,
    "ipcomp": 108,
    "vrrp": 112,
    "l2tp": 115,
    "isis": 124,
    "sctp": 132,
    "fc": 133,
    "mobility-header": 135,
    "udplite": 136,
    "mpls-in-ip": 137,
    "manet": 138,
    "hip": 139,
    "shim6": 140,
    "wesp": 141,
    "rohc": 142,
    "ethernet": 143,
    "mptcp": 262,
}
_ALIASES = {"ip": 0, "icmpv6": 58, "ipv6-mh": 135}
_NAMES = {number: name for name, number in _NUMBERS.items()}


def protocol_number(text: str) -> int:
    """The number of a protocol's name or of its number as text. ValueError if it is neither."""
    number = _NUMBERS.get(text, _ALIASES.get(text))
    if number is not None:
        return number
    if text.isascii() and text.isdigit() and int(text) < 65536:
        return int(text)
    raise ValueError(f"{text!r} is not a protocol")


def protocol_name(number: int) -> str:
    """The name of a protocol, or its number as text where it has none."""
    return _NAMES.get(number) or str(number)
