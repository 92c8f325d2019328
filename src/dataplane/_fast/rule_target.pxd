"""Targets that change a packet, its connection, its mark or a set, and let it go on.

Sources: net/netfilter/xt_mark.c, xt_connmark.c, xt_CT.c, xt_HL.c, xt_DSCP.c, xt_TCPMSS.c, xt_set.c.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memmove, memset

from dataplane._fast.fib cimport FibResult, FlowKey, ROUTE_LOCAL, ROUTE_UNICAST, fib_lookup
from dataplane._fast.interface cimport Interface
from dataplane._fast.ipset cimport IpSet, SetMember, SetUse, USE_MAP_MARK, set_holds, set_put, set_take
from dataplane._fast.packet cimport (
    CT_RELATED, CT_UNTRACKED, FIELD_FRAGMENT, FIELD_LENGTH, FIELD_MARK, FIELD_SRC, FIELD_TOS, FIELD_TTL, Packet,
    packet_pull,
)
from dataplane._fast.rule_bytes cimport option_step
from dataplane._fast.pmtu cimport result_mtu
from dataplane._fast.rule_context cimport RuleContext
from dataplane._fast.rule_memory cimport set_use
from dataplane._fast.ruleset cimport Target
from dataplane._fast.wire cimport checksum_replace16, checksum_replace32, load16, load32, store16

cdef enum:
    MSS_OPTION = 2
    MSS_LENGTH = 4
    DEFAULT_MSS4 = 536          # RFC 1122, 4.2.2.6: of a peer that announces none
    DEFAULT_MSS6 = 1220         # RFC 8200, 8.3


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
    # Only what has no connection yet, and of which no other rule has said how to track it.
    if p.ct == NULL and p.ctinfo != CT_RELATED and not p.zone.flags:
        p.ctinfo = CT_UNTRACKED


cdef inline void target_zone(const Target *t, Packet *p) noexcept nogil:
    if p.ct == NULL and p.ctinfo != CT_UNTRACKED and p.ctinfo != CT_RELATED and not p.zone.flags:
        p.zone.id = <uint16_t>t.value
        p.zone.flags = t.flags


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


cdef inline uint32_t device_mtu(const RuleContext *context, int32_t slot, uint8_t family) noexcept nogil:
    cdef const Interface *device
    if slot < 0:
        return 0xFFFF
    device = &context.fib.interfaces[slot]
    return device.mtu if family == 4 else device.mtu6


cdef inline uint32_t path_mtu(const Packet *p, const RuleContext *context) noexcept nogil:
    """The smaller MTU of the packet's own route and of the route back to its source."""
    cdef FlowKey key
    cdef FibResult result
    cdef uint32_t there = device_mtu(context, p.oif, p.family), back = 0xFFFFFFFFU
    if p.route_mtu and p.route_mtu < there:
        there = p.route_mtu
    if p.path_mtu and p.path_mtu < there:
        there = p.path_mtu
    memset(&key, 0, sizeof(key))
    memcpy(key.dst, &p.field[<int>FIELD_SRC], 16)
    key.iif = -1
    key.oif = -1
    key.family = p.family
    if fib_lookup(context.fib, &key, &result) and result.hop != NULL:
        back = result_mtu(context.fib, &key, &result, context.now)
    return there if there < back else back


cdef inline bint target_tcpmss(const Target *t, Packet *p, const RuleContext *context) noexcept nogil:
    """False for a header that makes no sense: the packet is dropped."""
    cdef uint8_t *tcp = p.transport
    cdef int64_t length, header, i
    cdef uint32_t headers = 40 if p.family == 4 else 60, path
    cdef uint16_t mss, old
    if p.field[<int>FIELD_FRAGMENT]:
        return True
    if tcp == NULL or p.tail - tcp < 20:
        return False
    packet_pull(p, p.tail)
    length = p.tail - tcp
    header = (tcp[12] >> 4) * 4
    if length < header or header < 20:
        return False
    if t.flags:
        path = path_mtu(p, context)
        if path <= headers:
            return False
        mss = <uint16_t>(path - headers)
    else:
        mss = <uint16_t>t.value
    i = 20
    while i <= header - MSS_LENGTH:
        if tcp[i] == MSS_OPTION and tcp[i + 1] == MSS_LENGTH:
            old = load16(tcp + i + 2)
            if old > mss:
                store16(tcp + i + 2, mss)
                checksum_replace16(tcp + 16, old, mss)
            return True
        i += option_step(tcp, i, header)
    # Without the option it is added, where that moves no data and there is room.
    if length > header or header >= 60 or p.end - p.tail < MSS_LENGTH:
        return True
    if mss > (DEFAULT_MSS4 if p.family == 4 else DEFAULT_MSS6):
        mss = DEFAULT_MSS4 if p.family == 4 else DEFAULT_MSS6
    memmove(tcp + 24, tcp + 20, length - 20)
    p.tail += MSS_LENGTH
    checksum_replace16(tcp + 16, <uint16_t>length, <uint16_t>(length + MSS_LENGTH))
    tcp[20] = MSS_OPTION
    tcp[21] = MSS_LENGTH
    store16(tcp + 22, mss)
    checksum_replace32(tcp + 16, 0, load32(tcp + 20))
    old = load16(tcp + 12)
    tcp[12] += 0x10
    checksum_replace16(tcp + 16, old, load16(tcp + 12))
    if p.family == 4:
        old = load16(p.net + 2)
        store16(p.net + 2, old + MSS_LENGTH)
        checksum_replace16(p.net + 10, old, old + MSS_LENGTH)
    else:
        store16(p.net + 4, load16(p.net + 4) + MSS_LENGTH)
    p.field[<int>FIELD_LENGTH] += MSS_LENGTH
    return True


cdef inline void target_set(
    const Target *t, Packet *p, IpSet *sets, const uint32_t *pool, int64_t now,
) noexcept nogil:
    """xt_set.c, set_target_v3. The priority and the queue that a member gives no header carries."""
    cdef SetUse use
    cdef const SetMember *info = NULL
    if t.value:
        set_use(&use, pool + t.value - 1)
        set_put(sets, <int32_t>pool[t.value - 1], p, &use, now, 0)
    if t.mask:
        set_use(&use, pool + t.mask - 1)
        set_take(sets, <int32_t>pool[t.mask - 1], p, &use, now, 0)
    if t.a0:
        set_use(&use, pool + t.a0 - 1)
        if (set_holds(sets, <int32_t>pool[t.a0 - 1], p, &use, now, False, 0, &info)
                and info != NULL and use.flags & USE_MAP_MARK):
            p.field[<int>FIELD_MARK] = (p.field[<int>FIELD_MARK] & ~info.mark_mask) ^ info.mark
