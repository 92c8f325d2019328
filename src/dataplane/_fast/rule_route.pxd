"""What rules ask of the routing tables.

Sources: net/netfilter/xt_addrtype.c, net/ipv4/netfilter/ipt_rpfilter.c, net/ipv6/netfilter/ip6t_rpfilter.c.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.string cimport memcpy, memset

from dataplane._fast.fib cimport (
    Fib, FibResult, FlowKey, ROUTE_ANYCAST, ROUTE_BLACKHOLE, ROUTE_LOCAL, ROUTE_MULTICAST, ROUTE_PROHIBIT,
    ROUTE_UNICAST, ROUTE_UNREACHABLE, ROUTE_UNSPEC, fib_address_type, fib_lookup, fib_lookup_by,
)
from dataplane._fast.interface cimport LINK_LOOPBACK
from dataplane._fast.packet cimport FIELD_DST, FIELD_IIF, FIELD_MARK, FIELD_OIF, FIELD_SRC, FIELD_TOS, Packet
from dataplane._fast.rule_context cimport RuleContext
from dataplane._fast.ruleset cimport RPFILTER_ACCEPT_LOCAL, RPFILTER_LOOSE, RPFILTER_VALID_MARK


cdef inline uint32_t route6_bits(const Fib *fib, const uint32_t *address, int32_t slot, uint32_t wanted) noexcept nogil:
    """match_lookup_rt6 of xt_addrtype.c: bits by RouteType of what the tables say of an IPv6 address."""
    cdef FlowKey key
    cdef FibResult result
    cdef uint32_t bits = 0
    memset(&key, 0, sizeof(key))
    memcpy(key.dst, address, 16)
    key.iif = -1
    key.oif = slot
    key.family = 6
    if slot >= 0 and wanted & (1 << <int>ROUTE_LOCAL) and fib_address_type(fib, 6, address, slot) == ROUTE_LOCAL:
        bits |= 1 << <int>ROUTE_LOCAL
    if not fib_lookup(fib, &key, &result):
        return 1 << <int>ROUTE_UNREACHABLE
    if result.type == ROUTE_UNREACHABLE or result.type == ROUTE_BLACKHOLE or result.type == ROUTE_PROHIBIT:
        # The lookup gives an error for these; unreachable is what it means to the match.
        return 1 << <int>ROUTE_UNREACHABLE
    if slot < 0 and result.type == ROUTE_LOCAL:
        bits |= 1 << <int>ROUTE_LOCAL
    if result.type == ROUTE_ANYCAST:
        bits |= 1 << <int>ROUTE_ANYCAST
    return bits


cdef inline bint match_address_type(const Packet *p, const uint32_t *pool, RuleContext *context) noexcept nogil:
    """xt_addrtype.c."""
    cdef const uint32_t *address = &p.field[pool[0]]
    cdef uint32_t wanted = pool[1]
    cdef int32_t slot = -1
    cdef bint multicast, unspecified
    cdef uint32_t routed = (1 << <int>ROUTE_ANYCAST) | (1 << <int>ROUTE_LOCAL) | (1 << <int>ROUTE_UNREACHABLE)
    if pool[2] == 1:
        slot = <int32_t>p.field[<int>FIELD_IIF] - 1
    elif pool[2] == 2:
        slot = <int32_t>p.field[<int>FIELD_OIF] - 1
    if p.family == 4:
        return (wanted >> fib_address_type(context.fib, 4, address, slot)) & 1
    multicast = address[0] >> 24 == 0xFF
    unspecified = (address[0] | address[1] | address[2] | address[3]) == 0
    if wanted & (1 << <int>ROUTE_MULTICAST) and not multicast:
        return False
    if wanted & (1 << <int>ROUTE_UNICAST) and (multicast or unspecified):
        return False
    if wanted & (1 << <int>ROUTE_UNSPEC) and not unspecified:
        return False
    if wanted & routed:
        return (wanted & route6_bits(context.fib, address, slot, wanted)) != 0
    return True


cdef inline bint reverse_path4(const Packet *p, uint32_t flags, RuleContext *context, int32_t slot) noexcept nogil:
    cdef uint32_t source = p.field[<int>FIELD_SRC], destination = p.field[<int>FIELD_DST]
    cdef FlowKey key
    cdef FibResult result
    cdef int32_t i
    if source >> 24 == 0 and (destination == 0xFFFFFFFFU or destination >> 8 == 0xE00000U):
        return True             # of a host that asks for its address
    memset(&key, 0, sizeof(key))
    key.dst[0] = source
    if not (destination >> 28 == 14 or destination == 0xFFFFFFFFU or destination >> 24 == 0):
        key.src[0] = destination
    key.mark = p.field[<int>FIELD_MARK] if flags & RPFILTER_VALID_MARK else 0
    key.tos = <uint8_t>(p.field[<int>FIELD_TOS] & 0x1C)
    key.iif = -1
    key.oif = -1
    key.family = 4
    if not fib_lookup(context.fib, &key, &result):
        return False
    if result.type != ROUTE_UNICAST and (result.type != ROUTE_LOCAL or not flags & RPFILTER_ACCEPT_LOCAL):
        return False
    if flags & RPFILTER_LOOSE:
        return True
    if result.route == NULL:
        return False
    for i in range(result.route.hop_count):
        if context.fib.hops[result.route.first_hop + i].slot == slot:
            return True
    return False


cdef inline bint reverse_path6(const Packet *p, uint32_t flags, RuleContext *context, int32_t slot) noexcept nogil:
    cdef const uint32_t *source = &p.field[<int>FIELD_SRC]
    cdef const uint32_t *destination = &p.field[<int>FIELD_DST]
    cdef FlowKey key
    cdef FibResult result
    cdef bint link_local = source[0] >> 22 == 0x3FA
    if source[0] | source[1] | source[2] | source[3] == 0:
        return True             # not routable: forwarding refuses it
    memset(&key, 0, sizeof(key))
    memcpy(key.dst, source, 16)
    if destination[0] >> 24 != 0xFF:
        memcpy(key.src, destination, 16)
    key.mark = p.field[<int>FIELD_MARK] if flags & RPFILTER_VALID_MARK else 0
    key.iif = -1
    key.oif = slot if link_local else -1
    key.family = 6
    if link_local or flags & RPFILTER_LOOSE:
        if not fib_lookup(context.fib, &key, &result):
            return False
    elif not fib_lookup_by(context.fib, &key, slot, &result):
        return False
    if result.type == ROUTE_LOCAL:
        return (flags & RPFILTER_ACCEPT_LOCAL) != 0
    if result.type != ROUTE_UNICAST and result.type != ROUTE_MULTICAST:
        return False
    return flags & RPFILTER_LOOSE or (result.hop != NULL and result.hop.slot == slot)


cdef inline bint match_rpfilter(const Packet *p, uint32_t flags, RuleContext *context) noexcept nogil:
    """Whether a packet to the source would leave by the interface that this one came in by."""
    cdef int32_t slot = <int32_t>p.field[<int>FIELD_IIF] - 1
    if slot >= 0 and context.fib.interfaces[slot].kind == LINK_LOOPBACK:
        return True
    if p.family == 4:
        return reverse_path4(p, flags, context, slot)
    return reverse_path6(p, flags, context, slot)
