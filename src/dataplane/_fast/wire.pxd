"""Bytes on the wire: header offsets, big-endian loads and stores, Internet checksums.

Byte order ends in this file: everything above it sees host order.
Sources: RFC 791, 8200, 793, 768, 792, 4443, 826, 4861, 7348, 1071, 1624.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint16_t dp_swap16(uint16_t v) { return __builtin_bswap16(v); }
    static inline uint32_t dp_swap32(uint32_t v) { return __builtin_bswap32(v); }
    static inline uint64_t dp_swap64(uint64_t v) { return __builtin_bswap64(v); }
    """
    uint16_t dp_swap16(uint16_t v) noexcept nogil
    uint32_t dp_swap32(uint32_t v) noexcept nogil
    uint64_t dp_swap64(uint64_t v) noexcept nogil

cdef enum:
    ETH_HLEN = 14
    ETH_P_IP = 0x0800
    ETH_P_ARP = 0x0806
    ETH_P_8021Q = 0x8100
    ETH_P_8021AD = 0x88A8
    ETH_P_802_3_MIN = 0x600     # below it, a length
    VLAN_HLEN = 4
    ETH_P_IPV6 = 0x86DD

    IPPROTO_HOPOPTS = 0
    IPPROTO_ICMP = 1
    IPPROTO_IPIP = 4
    IPPROTO_TCP = 6
    IPPROTO_UDP = 17
    IPPROTO_ROUTING = 43
    IPPROTO_FRAGMENT = 44
    IPPROTO_GRE = 47
    IPPROTO_ESP = 50
    IPPROTO_AH = 51
    IPPROTO_ICMPV6 = 58
    IPPROTO_NONE = 59
    IPPROTO_DSTOPTS = 60
    IPPROTO_SCTP = 132
    IPPROTO_UDPLITE = 136

    IP_DF = 0x4000
    IP_MF = 0x2000
    IP_OFFSET = 0x1FFF

    TCP_FIN = 1
    TCP_SYN = 2
    TCP_RST = 4
    TCP_PSH = 8
    TCP_ACK = 16
    TCP_URG = 32


cdef inline uint16_t load16(const uint8_t *p) noexcept nogil:
    cdef uint16_t v
    memcpy(&v, p, 2)
    return dp_swap16(v)


cdef inline uint32_t load32(const uint8_t *p) noexcept nogil:
    cdef uint32_t v
    memcpy(&v, p, 4)
    return dp_swap32(v)


cdef inline uint64_t load64(const uint8_t *p) noexcept nogil:
    cdef uint64_t v
    memcpy(&v, p, 8)
    return dp_swap64(v)


cdef inline void store16(uint8_t *p, uint16_t v) noexcept nogil:
    v = dp_swap16(v)
    memcpy(p, &v, 2)


cdef inline void store32(uint8_t *p, uint32_t v) noexcept nogil:
    v = dp_swap32(v)
    memcpy(p, &v, 4)


cdef inline uint64_t load_mac(const uint8_t *p) noexcept nogil:
    """The 48-bit address in the low bits, first octet highest."""
    return (<uint64_t>load16(p) << 32) | load32(p + 2)


cdef inline void store_mac(uint8_t *p, uint64_t mac) noexcept nogil:
    store16(p, <uint16_t>(mac >> 32))
    store32(p + 2, <uint32_t>mac)


cdef inline bint mac_is_multicast(uint64_t mac) noexcept nogil:
    return (mac >> 40) & 1


cdef inline void load_address6(const uint8_t *p, uint32_t *words) noexcept nogil:
    words[0] = load32(p)
    words[1] = load32(p + 4)
    words[2] = load32(p + 8)
    words[3] = load32(p + 12)


cdef inline void store_address6(uint8_t *p, const uint32_t *words) noexcept nogil:
    store32(p, words[0])
    store32(p + 4, words[1])
    store32(p + 8, words[2])
    store32(p + 12, words[3])


# Checksums. A sum is kept in memory order (not swapped): the ones' complement sum does not mind (RFC 1071, 2(B)),
# so `checksum_sum` adds native words and `checksum_fold` gives the value in memory order; store it with memcpy.

cdef inline uint64_t checksum_sum(const uint8_t *p, size_t length, uint64_t total) noexcept nogil:
    """Add `length` bytes to a running sum. Every part but the last must have an even length."""
    cdef uint64_t wide
    cdef uint32_t word
    cdef uint16_t half
    while length >= 8:
        memcpy(&wide, p, 8)
        total += wide & 0xFFFFFFFFU
        total += wide >> 32
        p += 8
        length -= 8
    if length >= 4:
        memcpy(&word, p, 4)
        total += word
        p += 4
        length -= 4
    if length >= 2:
        memcpy(&half, p, 2)
        total += half
        p += 2
        length -= 2
    if length:
        total += p[0]
    return total


cdef inline uint16_t checksum_fold(uint64_t total) noexcept nogil:
    """The ones' complement of the folded sum, in memory order."""
    total = (total & 0xFFFFFFFFU) + (total >> 32)
    total = (total & 0xFFFFFFFFU) + (total >> 32)
    total = (total & 0xFFFFU) + (total >> 16)
    total = (total & 0xFFFFU) + (total >> 16)
    return <uint16_t>(~total)


cdef inline uint64_t pseudo4(const uint8_t *net, uint8_t proto, uint32_t length) noexcept nogil:
    """Sum of the IPv4 pseudo header (RFC 793): `length` is that of the transport header and its payload."""
    cdef uint64_t total = checksum_sum(net + 12, 8, 0)
    return total + dp_swap16(proto) + dp_swap16(<uint16_t>length)


cdef inline uint64_t pseudo6(const uint8_t *net, uint8_t proto, uint32_t length) noexcept nogil:
    """Sum of the IPv6 pseudo header (RFC 8200, 8.1)."""
    cdef uint64_t total = checksum_sum(net + 8, 32, 0)
    return total + dp_swap32(length) + dp_swap32(proto)


cdef inline void store_checksum(uint8_t *p, uint16_t value) noexcept nogil:
    """Store a folded sum, which is already in memory order."""
    memcpy(p, &value, 2)


cdef inline void checksum_replace16(uint8_t *at, uint16_t old, uint16_t new) noexcept nogil:
    """Update the checksum at `at` for one 16-bit word that changes (RFC 1624, equation 3)."""
    cdef uint16_t check
    memcpy(&check, at, 2)
    cdef uint32_t total = <uint16_t>(~check)
    total += <uint16_t>(~dp_swap16(old))
    total += dp_swap16(new)
    total = (total & 0xFFFFU) + (total >> 16)
    total = (total & 0xFFFFU) + (total >> 16)
    check = <uint16_t>(~total)
    memcpy(at, &check, 2)


cdef inline void checksum_replace32(uint8_t *at, uint32_t old, uint32_t new) noexcept nogil:
    """Update the checksum at `at` for one 32-bit word that changes."""
    cdef uint16_t check
    memcpy(&check, at, 2)
    cdef uint64_t total = <uint16_t>(~check)
    total += <uint32_t>(~dp_swap32(old))
    total += dp_swap32(new)
    total = (total & 0xFFFFFFFFU) + (total >> 32)
    total = (total & 0xFFFFU) + (total >> 16)
    total = (total & 0xFFFFU) + (total >> 16)
    total = (total & 0xFFFFU) + (total >> 16)
    check = <uint16_t>(~total)
    memcpy(at, &check, 2)


cdef inline void ip4_checksum_set(uint8_t *net) noexcept nogil:
    store16(net + 10, 0)
    store_checksum(net + 10, checksum_fold(checksum_sum(net, (net[0] & 15) * 4, 0)))


cdef inline bint ip4_checksum_good(const uint8_t *net) noexcept nogil:
    return checksum_fold(checksum_sum(net, (net[0] & 15) * 4, 0)) == 0
