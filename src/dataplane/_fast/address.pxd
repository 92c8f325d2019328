"""Addresses between Python and the compiled leaves: `ipaddress` objects, four words in host order."""

from libc.stdint cimport uint32_t
from libc.string cimport memset


cdef inline int address_words(object address, uint32_t *out) except -1:
    """Four words; an IPv4 address is in the first. Gives the family, 0 for None."""
    cdef object value
    memset(out, 0, 16)
    if address is None:
        return 0
    value = int(address)
    if address.version == 4:
        out[0] = value
        return 4
    out[0] = (value >> 96) & 0xFFFFFFFF
    out[1] = (value >> 64) & 0xFFFFFFFF
    out[2] = (value >> 32) & 0xFFFFFFFF
    out[3] = value & 0xFFFFFFFF
    return 6


cdef inline object words_address(const uint32_t *words, int family):
    """The `ipaddress` object of four words."""
    from ipaddress import IPv4Address, IPv6Address
    if family == 4:
        return IPv4Address(words[0])
    return IPv6Address((<object>words[0] << 96) | (<object>words[1] << 64) | (<object>words[2] << 32) | words[3])
