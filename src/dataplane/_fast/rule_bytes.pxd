"""What rules ask of the bytes of a packet: options, chunks, words at any offset.

Sources: net/netfilter/xt_tcpudp.c, xt_tcpmss.c, xt_sctp.c, xt_u32.c, xt_mac.c.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dataplane._fast.packet cimport FIELD_FRAGMENT, Packet
from dataplane._fast.rule_context cimport DROP, DROP_LATE
from dataplane._fast.wire cimport ETH_HLEN, load16, load32, load_mac


cdef inline int64_t option_step(const uint8_t *tcp, int64_t at, int64_t length) noexcept nogil:
    """How far the next TCP option is; one byte where the length makes no sense."""
    if tcp[at] < 2 or at + 1 >= length or tcp[at + 1] == 0:
        return 1
    return tcp[at + 1]


cdef inline uint8_t match_tcp_option(const Packet *p, uint32_t option, uint8_t invert) noexcept nogil:
    """xt_tcpudp.c; the header is there."""
    cdef const uint8_t *tcp = p.transport
    cdef int64_t length = (tcp[12] >> 4) * 4, i = 20
    if length < 20 or length > p.tail - tcp:
        return DROP
    while i < length:
        if tcp[i] == option:
            return not invert
        i += option_step(tcp, i, length)
    return invert


cdef inline uint8_t match_tcp_mss(const Packet *p, const uint32_t *pool, uint8_t invert) noexcept nogil:
    """xt_tcpmss.c: without the option, only what is inverted holds.

    It takes what comes after the IP header of a later fragment for a TCP header, and in IPv6 the IP header itself.
    """
    cdef const uint8_t *tcp = p.transport
    cdef int64_t length, i = 20
    cdef uint32_t mss
    if p.field[<int>FIELD_FRAGMENT]:
        tcp = p.net + (p.net[0] & 15) * 4 if p.family == 4 else p.net
    if tcp == NULL or p.tail - tcp < 20:
        return DROP
    length = (tcp[12] >> 4) * 4
    if length < 20 or length > p.tail - tcp:
        return DROP
    while i < length:
        if tcp[i] == 2 and length - i >= 4 and tcp[i + 1] == 4:
            mss = load16(tcp + i + 2)
            return (pool[0] <= mss <= pool[1]) != invert
        i += option_step(tcp, i, length)
    return invert


cdef inline bint flags_fit(const uint32_t *pool, uint32_t count, uint8_t chunk, uint8_t flags) noexcept nogil:
    cdef uint32_t i
    for i in range(9, count):
        if pool[i] >> 16 == chunk:
            return (flags & (pool[i] >> 8) & 0xFF) == (pool[i] & 0xFF)
    return True


cdef inline uint8_t match_chunks(const Packet *p, const uint32_t *pool, uint32_t count, uint8_t invert) noexcept nogil:
    """xt_sctp.c, match_packet: walks the chunks; a chunk cut off drops the packet, and "not" makes it a match besides."""
    cdef const uint8_t *at = p.transport + 12
    cdef uint32_t way = pool[0], length, i
    cdef uint32_t missing[8]
    cdef bint held
    for i in range(8):
        missing[i] = pool[1 + i]
    while True:
        if at + 4 > p.tail:
            return DROP_LATE if invert else DROP
        length = load16(at + 2)
        if length == 0:
            return DROP_LATE if invert else DROP
        held = (pool[1 + (at[0] >> 5)] >> (at[0] & 31)) & 1
        if held:
            if way == 0:
                if flags_fit(pool, count, at[0], at[1]):
                    return not invert
            elif way == 1:
                if flags_fit(pool, count, at[0], at[1]):
                    missing[at[0] >> 5] &= ~(<uint32_t>1 << (at[0] & 31))
            elif not flags_fit(pool, count, at[0], at[1]):
                return invert
        elif way == 2:
            return invert
        at += (length + 3) & ~3
        if at >= p.tail:
            break
    if way == 0:
        return invert
    if way == 1:
        for i in range(8):
            if missing[i]:
                return invert
    return not invert


cdef inline bint match_u32(const Packet *p, const uint32_t *pool, uint32_t count) noexcept nogil:
    """xt_u32.c. pool, for each comparison: offset, number of steps and of ranges; (operator, number); (low, high).

    Operators: 0 and, 1 left, 2 right, 3 move on by the value, then load. A load outside the packet fails.
    """
    cdef const uint32_t *end = pool + count
    cdef uint64_t length = <uint64_t>(p.tail - p.net), at, where
    cdef uint32_t value, steps, ranges
    cdef bint held
    if length < 4:
        return False
    while pool < end:
        at = 0
        where = pool[0]
        steps = pool[1]
        ranges = pool[2]
        pool += 3
        if where > length - 4:
            return False
        value = load32(p.net + where)
        while steps:
            steps -= 1
            if pool[0] == 0:
                value &= pool[1]
            elif pool[0] == 1:
                value <<= pool[1] & 31
            elif pool[0] == 2:
                value >>= pool[1] & 31
            else:
                at += value
                where = pool[1]
                if length < at + 4 or where > length - at - 4:
                    return False
                value = load32(p.net + at + where)
            pool += 2
        held = False
        while ranges:
            ranges -= 1
            if pool[0] <= value <= pool[1]:
                held = True
            pool += 2
        if not held:
            return False
    return True


cdef inline bint match_mac(const Packet *p, const uint32_t *pool, uint8_t invert) noexcept nogil:
    """xt_mac.c: never of a packet that did not come over Ethernet; `mac` is below `net` only for one that did."""
    if p.net - p.mac < ETH_HLEN:
        return False
    return (load_mac(p.mac + 6) == ((<uint64_t>pool[0] << 32) | pool[1])) != invert
