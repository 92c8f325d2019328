"""How the tools write addresses: MACs as 48-bit numbers, first octet on the wire highest; IP as inet_ntop prints it."""

from __future__ import annotations

import ipaddress
import socket

__all__ = ["address_text", "mac_number", "mac_text", "network_text"]


def mac_number(text: str) -> int:
    """The number of "02:00:00:00:00:01". ValueError if it is not six hexadecimal octets."""
    octets = text.split(":")
    if len(octets) != 6 or not all(1 <= len(octet) <= 2 for octet in octets):
        raise ValueError(f"{text!r} is not a MAC address")
    return int.from_bytes(bytes(int(octet, 16) for octet in octets))


def mac_text(number: int) -> str:
    """The text of a MAC as the kernel's tools print it. OverflowError beyond 48 bits."""
    return number.to_bytes(6).hex(":")


def address_text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """An address as the C library prints it: `::ffff:10.0.0.1`, where Python's own text depends on its version."""
    if address.version == 4:
        return str(address)
    return socket.inet_ntop(socket.AF_INET6, address.packed)


def network_text(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """A prefix without its length where that is the whole address, as `ip` and `ipset` print it."""
    text = address_text(network.network_address)
    return text if network.prefixlen == network.max_prefixlen else f"{text}/{network.prefixlen}"
