"""Targets that change a packet, its connection or its mark, and let it go on.

Sources: net/netfilter/xt_mark.c, xt_connmark.c, xt_CT.c, xt_HL.c, xt_DSCP.c.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from dataplane._fast.packet cimport CT_UNTRACKED, FIELD_MARK, FIELD_TOS, FIELD_TTL, Packet
from dataplane._fast.ruleset cimport Target
from dataplane._fast.wire cimport checksum_replace16, load16, store16


cdef inline void target_mark(const Target *t, Packet *p) noexcept nogil:
    p.field[<int>FIELD_MARK] = (p.field[<int>FIELD_MARK] & ~t.mask) ^ t.value


cdef inline uint32_t shifted(uint32_t mark, const Target *t) noexcept nogil:
    return mark >> t.min_port if t.max_port else mark << t.min_port


cdef inline void target_connmark(const Target *t, Packet *p) noexcept nogil:
    cdef uint32_t mark = p.field[<int>FIELD_MARK]
    if p.ct == NULL:
        return
    if t.flags == 0:
        p.ct.mark = shifted((p.ct.mark & ~t.mask) ^ t.value, t)
    elif t.flags == 1:
        p.ct.mark = (p.ct.mark & ~t.mask) ^ shifted(mark & t.value, t)
    else:
        p.field[<int>FIELD_MARK] = (mark & ~t.value) ^ shifted(p.ct.mark & t.mask, t)


cdef inline void target_notrack(Packet *p) noexcept nogil:
    # Only what has no connection yet.
    if p.ct == NULL:
        p.ctinfo = CT_UNTRACKED


cdef inline void target_ttl(const Target *t, Packet *p) noexcept nogil:
    cdef int ttl = <int>p.field[<int>FIELD_TTL]
    cdef uint16_t old
    if t.flags == 0:
        ttl = <int>t.value
    elif t.flags == 1:
        ttl += <int>t.value
        if ttl > 255:
            ttl = 255
    else:
        ttl -= <int>t.value
        if ttl < 0:
            ttl = 0
    if ttl == <int>p.field[<int>FIELD_TTL]:
        return
    p.field[<int>FIELD_TTL] = <uint32_t>ttl
    if p.family == 4:
        old = load16(p.net + 8)
        p.net[8] = <uint8_t>ttl
        checksum_replace16(p.net + 10, old, load16(p.net + 8))
    else:
        p.net[7] = <uint8_t>ttl


cdef inline void target_tos(const Target *t, Packet *p) noexcept nogil:
    cdef uint32_t tos = ((p.field[<int>FIELD_TOS] & ~t.mask) ^ t.value) & 0xFF
    cdef uint16_t old
    if tos == p.field[<int>FIELD_TOS]:
        return
    p.field[<int>FIELD_TOS] = tos
    old = load16(p.net)
    if p.family == 4:
        p.net[1] = <uint8_t>tos
        checksum_replace16(p.net + 10, old, load16(p.net))
    else:
        store16(p.net, <uint16_t>((old & 0xF00F) | (tos << 4)))
