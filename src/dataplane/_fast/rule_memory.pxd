"""Tests that remember: counters, rates, lists of addresses, numbers of connections, sets.

Sources: net/netfilter/xt_statistic.c, xt_limit.c, nft_limit.c, xt_recent.c, xt_hashlimit.c, xt_connlimit.c, xt_set.c.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from dataplane._fast.conncount cimport Conncount, conncount_add
from dataplane._fast.conntrack cimport Tuple
from dataplane._fast.hashlimit cimport HashlimitBucket, HashlimitTable, hashlimit_below, hashlimit_bucket
from dataplane._fast.ipset cimport IpSet, SetMember, SetUse, set_holds
from dataplane._fast.jiffy cimport JIFFY
from dataplane._fast.packet cimport FIELD_DST, FIELD_LENGTH, FIELD_OIF, FIELD_PROTO, FIELD_SRC, FIELD_TTL, Packet
from dataplane._fast.recent cimport (
    RecentEntry, RecentList, recent_create, recent_find, recent_reap, recent_remove, recent_touch,
)
from dataplane._fast.rule_context cimport DROP, RuleContext
from dataplane._fast.ruleset cimport RECENT_REAP, RECENT_REMOVE, RECENT_SET, RECENT_TTL, RECENT_UPDATE
from dataplane._fast.track cimport packet_tuple
from dataplane._fast.wire cimport (
    IPPROTO_AH, IPPROTO_ESP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, load16,
)

cdef enum:
    IPPROTO_DCCP = 33
    LIMIT_CREDIT = 128      # of a jiffy: the power of two below 2^32 / (HZ * a day)


cdef inline bint match_nth(uint64_t *state, uint32_t last) noexcept nogil:
    """Counts 0 .. last, and holds at 0."""
    state[0] = 0 if state[0] == last else state[0] + 1
    return state[0] == 0


cdef inline bint match_limit(uint64_t *state, const uint32_t *pool, int64_t now) noexcept nogil:
    """xt_limit.c: credit of 32 bits grows by the tick up to a burst, and each packet takes its cost."""
    cdef uint64_t tick = <uint64_t>(now // JIFFY)
    cdef uint32_t credit = <uint32_t>state[0]
    if state[1] and tick > state[1]:
        credit += <uint32_t>((tick - state[1]) * LIMIT_CREDIT)
        if credit > pool[1]:
            credit = pool[1]
    state[1] = tick
    state[0] = credit
    if credit < pool[0]:
        return False
    state[0] = credit - pool[0]
    return True


cdef inline bint match_nft_limit(uint64_t *state, const uint32_t *pool, int64_t now) noexcept nogil:
    """nft_limit.c: credit grows with time up to a burst, and each packet takes its cost."""
    cdef uint64_t cost = (<uint64_t>pool[0] << 32) | pool[1]
    cdef uint64_t full = (<uint64_t>pool[2] << 32) | pool[3]
    cdef uint64_t passed
    if state[1] == 0:
        # The rule was loaded before its first packet came.
        state[0] = full
        passed = 0
    else:
        passed = <uint64_t>now - state[1] if <uint64_t>now > state[1] else 0
    state[1] = <uint64_t>now if now > 0 else 1
    state[0] = full if passed >= full - state[0] else state[0] + passed
    if state[0] < cost:
        return False
    state[0] -= cost
    return True


cdef inline uint8_t match_recent(
    const Packet *p, const uint32_t *pool, RecentList *list, int64_t now, uint8_t invert,
) noexcept nogil:
    """xt_recent.c."""
    cdef uint32_t address[4]
    cdef uint32_t flags = pool[0], hits = 0, i
    cdef const uint32_t *found = &p.field[pool[1]]
    cdef int64_t since = now - <int64_t>pool[2] * 1_000_000_000
    cdef uint8_t ttl = <uint8_t>p.field[<int>FIELD_TTL]
    cdef bint matched = False
    cdef RecentEntry *e
    if p.field[<int>FIELD_OIF] and p.iif >= 0:
        ttl += 1            # as it was before this host forwarded it
    for i in range(4):
        address[i] = found[i] & list.mask[i]
    e = recent_find(list, address, p.family, ttl if flags & RECENT_TTL else 0)
    if e == NULL:
        if not flags & RECENT_SET:
            return invert
        if recent_create(list, address, p.family, ttl, now) == NULL:
            return DROP
        return not invert
    if flags & RECENT_SET:
        matched = True
    elif flags & RECENT_REMOVE:
        recent_remove(list, e)
        matched = True
    else:
        for i in range(e.used):
            if pool[2] and since > e.stamps[i]:
                continue
            hits += 1
            if hits >= pool[3]:
                matched = True
                break
        if flags & RECENT_REAP:
            # xt_recent asks for the result as it will be returned, inverted or not.
            recent_reap(list, since, e, flags & RECENT_UPDATE and matched != invert)
    if flags & RECENT_SET or (flags & RECENT_UPDATE and matched != invert):
        recent_touch(list, e, now)
        e.ttl = ttl
    return matched != invert


cdef inline bint limit_port(const Packet *p, bint source, uint32_t *out) noexcept nogil:
    """A port for hashlimit: four bytes of the header suffice, and what has no ports has port 0."""
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    out[0] = 0
    if not (proto == IPPROTO_TCP or proto == IPPROTO_UDP or proto == IPPROTO_SCTP or proto == IPPROTO_UDPLITE
            or proto == IPPROTO_DCCP or proto == IPPROTO_ESP or proto == IPPROTO_AH):
        return True
    if p.transport == NULL or p.tail - p.transport < (8 if proto == IPPROTO_AH else 4):
        return False
    out[0] = load16(p.transport + (4 if proto == IPPROTO_AH else 0) + (0 if source else 2))
    return True


cdef inline uint8_t match_hashlimit(const Packet *p, HashlimitTable *t, int64_t now, uint8_t invert) noexcept nogil:
    """A bucket for each address or port; without the ports that are asked for, or with a full table, drop."""
    cdef uint32_t key[9]
    cdef uint32_t port = 0
    cdef HashlimitBucket *b
    cdef int i
    for i in range(4):
        key[i] = p.field[<int>FIELD_DST + i] & t.destination[i]
        key[4 + i] = p.field[<int>FIELD_SRC + i] & t.source[i]
    key[8] = 0
    if t.ports:
        if t.ports & 0xFFFF:
            if not limit_port(p, False, &port):
                return DROP
            key[8] = port
        if t.ports >> 16:
            if not limit_port(p, True, &port):
                return DROP
            key[8] |= port << 16
    b = hashlimit_bucket(t, key, now)
    if b == NULL:
        return DROP
    return hashlimit_below(t, b, p.field[<int>FIELD_LENGTH]) != invert


cdef inline uint8_t match_connlimit(
    const Packet *p, const uint32_t *pool, Conncount *counts, RuleContext *context, uint8_t invert,
) noexcept nogil:
    """pool: field of the address, its four words of mask, the limit."""
    cdef uint32_t address[4]
    cdef Tuple tuple
    cdef const Tuple *asked = &tuple
    cdef int32_t held
    cdef int i
    for i in range(4):
        address[i] = p.field[pool[0] + i] & pool[1 + i]
    if p.ct != NULL:
        asked = &p.ct.tuple[0]
    elif not packet_tuple(p, &tuple):
        return DROP
    held = conncount_add(counts, context.conntrack, address, asked, context.now)
    if held == 0:
        return DROP
    return (<uint32_t>held > pool[5]) != invert


cdef inline void set_use(SetUse *use, const uint32_t *pool) noexcept nogil:
    """How a rule uses a set, from its constants: as in SetUse, numbers of 64 bits high word first."""
    use.flags = pool[1]
    use.directions = pool[2]
    use.dimensions = pool[3]
    use.packets_test = pool[4]
    use.packets = (<uint64_t>pool[5] << 32) | pool[6]
    use.bytes_test = pool[7]
    use.bytes = (<uint64_t>pool[8] << 32) | pool[9]
    use.timeout = <int64_t>((<uint64_t>pool[10] << 32) | pool[11])


cdef inline bint match_set(const Packet *p, IpSet *sets, const uint32_t *pool, int64_t now) noexcept nogil:
    """pool: index of the set, then as in `set_use`."""
    cdef SetUse use
    cdef const SetMember *info = NULL
    set_use(&use, pool)
    return set_holds(sets, <int>pool[0], p, &use, now, False, 0, &info)
