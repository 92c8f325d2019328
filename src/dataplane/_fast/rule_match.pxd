"""The tests that rules make, one inline function for each kind of row (ruleset.pxd, OpKind).

Sources: net/ipv4/netfilter/ip_tables.c and net/netfilter/xt_*.c, named at each. A test says NO, YES, or DROP: the
packet is dropped at once, whatever the rule's target is (the kernel's hotdrop).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dataplane._fast.chance cimport CHOICE_STATISTIC, Chance, chance_draw
from dataplane._fast.conntrack cimport Conn, STATUS_CONFIRMED, STATUS_DST_NAT, STATUS_SRC_NAT
from dataplane._fast.fib cimport (
    Fib, FibResult, FlowKey, ROUTE_ANYCAST, ROUTE_BLACKHOLE, ROUTE_LOCAL, ROUTE_MULTICAST, ROUTE_PROHIBIT,
    ROUTE_UNICAST, ROUTE_UNREACHABLE, ROUTE_UNSPEC, fib_address_type, fib_lookup,
)
from dataplane._fast.packet cimport (
    CT_ESTABLISHED_REPLY, CT_IS_REPLY, CT_UNTRACKED, FIELD_DST, FIELD_FRAGMENT, FIELD_IIF, FIELD_OIF, FIELD_PKTTYPE,
    FIELD_PROTO, FIELD_SRC, FIELD_TTL, PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, Packet,
)
from dataplane._fast.recent cimport (
    RecentEntry, RecentList, recent_create, recent_find, recent_reap, recent_remove, recent_touch,
)
from dataplane._fast.rule_event cimport RuleTap
from dataplane._fast.ruleset cimport (
    CT_DIRECTION, CT_EXPIRES, CT_MARK, CT_ORIG_DPORT, CT_ORIG_DST, CT_ORIG_SPORT, CT_ORIG_SRC, CT_PROTOCOL,
    CT_REPLY_DPORT, CT_REPLY_DST, CT_REPLY_SPORT, CT_REPLY_SRC, CT_STATUS, OP_ADDRESS, OP_ADDRESS_RANGE,
    OP_ADDRESS_TYPE, OP_ANY_OF, OP_BITMAP, OP_CT_ADDRESS, OP_CT_WORD, OP_HEADER, OP_LIMIT, OP_MAC, OP_PORTS, OP_RECENT,
    OP_SCTP_CHUNKS, OP_STATISTIC_NTH, OP_STATISTIC_RANDOM, OP_TCP_MSS, OP_TCP_OPTION, OP_WORD, Op, RECENT_CHECK,
    RECENT_REAP, RECENT_REMOVE, RECENT_SET, RECENT_TTL, RECENT_UPDATE, RuleSet, STATE_DNAT, STATE_ESTABLISHED,
    STATE_INVALID, STATE_NEW, STATE_RELATED, STATE_SNAT, STATE_UNTRACKED,
)
from dataplane._fast.wire cimport ETH_HLEN, load16, load_mac

cdef enum:
    NO = 0
    YES = 1
    DROP = 2

cdef struct RuleContext:
    # What rules ask of the host. The taps may be NULL.
    Fib *fib
    Chance *chance
    int64_t now             # ns
    RuleTap *tap            # of traced packets
    RuleTap *log            # of LOG and NFLOG


cdef inline uint32_t connection_state(const Packet *p) noexcept nogil:
    """CtState of a packet (xt_conntrack.c)."""
    cdef uint32_t bits
    if p.ct == NULL:
        return STATE_UNTRACKED if p.ctinfo == CT_UNTRACKED else STATE_INVALID
    bits = <uint32_t>2 << (p.ctinfo % <int>CT_IS_REPLY)
    if p.ct.status & STATUS_SRC_NAT:
        bits |= STATE_SNAT
    if p.ct.status & STATUS_DST_NAT:
        bits |= STATE_DNAT
    return bits


cdef inline uint8_t match_header(const Packet *p, uint32_t length, bint tcp) noexcept nogil:
    """xt_tcpudp.c, xt_sctp.c, ip_tables.c (icmp), xt_multiport.c: where the header should be and is not, drop."""
    cdef uint32_t fragment = p.field[<int>FIELD_FRAGMENT]
    if fragment:
        # A fragment that starts inside the TCP flags can only be an attack (RFC 1858).
        return DROP if tcp and fragment == 1 and p.family == 4 else NO
    if p.transport == NULL or p.tail - p.transport < <int64_t>length:
        return DROP
    return YES


cdef inline bint match_any(const Packet *p, const uint32_t *pool, uint32_t count) noexcept nogil:
    cdef uint32_t i
    for i in range(0, count, 4):
        if ((p.field[pool[i]] & pool[i + 1]) - pool[i + 2]) <= pool[i + 3]:
            return True
    return False


cdef inline uint8_t match_ports(const Packet *p, const uint32_t *pool, uint32_t count, uint8_t invert) noexcept nogil:
    """xt_multiport.c: asks for the four bytes of the ports alone, also where the rest of the header is missing."""
    cdef uint8_t answer = match_header(p, 4, False)
    cdef uint32_t sport, dport, i
    if answer != YES:
        return answer
    sport = load16(p.transport)
    dport = load16(p.transport + 2)
    for i in range(1, count, 2):
        if ((pool[0] & 1 and sport - pool[i] <= pool[i + 1]) or (pool[0] & 2 and dport - pool[i] <= pool[i + 1])):
            return not invert
    return invert


cdef inline bint match_address(const uint32_t *address, const uint32_t *pool) noexcept nogil:
    return (((address[0] & pool[0]) ^ pool[4]) | ((address[1] & pool[1]) ^ pool[5])
            | ((address[2] & pool[2]) ^ pool[6]) | ((address[3] & pool[3]) ^ pool[7])) == 0


cdef inline int compare_address(const uint32_t *a, const uint32_t *b) noexcept nogil:
    cdef int i
    for i in range(4):
        if a[i] != b[i]:
            return -1 if a[i] < b[i] else 1
    return 0


cdef inline bint match_address_range(const uint32_t *address, const uint32_t *pool) noexcept nogil:
    """xt_iprange.c."""
    return compare_address(address, pool) >= 0 and compare_address(address, pool + 4) <= 0


cdef inline uint32_t route6_bits(const Fib *fib, const uint32_t *address, int32_t slot, uint32_t wanted) noexcept nogil:
    """match_lookup_rt6 of xt_addrtype.c: bits by RouteType of what the tables say of an IPv6 address."""
    cdef FlowKey key
    cdef FibResult result
    cdef uint32_t bits = 0
    memcpy(key.dst, address, 16)
    key.src[0] = key.src[1] = key.src[2] = key.src[3] = 0
    key.mark = 0
    key.iif = -1
    key.oif = slot
    key.family = 6
    key.tos = 0
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


cdef inline uint32_t connection_word(const Packet *p, uint32_t word, int64_t now) noexcept nogil:
    """A word of the packet's connection, which there is."""
    cdef const Conn *ct = p.ct
    cdef int64_t left
    if word == CT_ORIG_SPORT:
        return ct.tuple[0].sport
    if word == CT_ORIG_DPORT:
        return ct.tuple[0].dport
    if word == CT_REPLY_SPORT:
        return ct.tuple[1].sport
    if word == CT_REPLY_DPORT:
        return ct.tuple[1].dport
    if word == CT_PROTOCOL:
        return ct.tuple[0].proto
    if word == CT_STATUS:
        return ct.status
    if word == CT_MARK:
        return ct.mark
    if word == CT_DIRECTION:
        return 1 if p.ctinfo >= CT_ESTABLISHED_REPLY else 0
    if word == CT_EXPIRES and ct.status & STATUS_CONFIRMED:
        left = ct.expires - now
        return <uint32_t>(left // 1_000_000_000) if left > 0 else 0
    return 0


cdef inline bint match_ct_word(const Packet *p, const uint32_t *pool, int64_t now, uint8_t invert) noexcept nogil:
    """xt_conntrack.c, xt_connmark.c."""
    if p.ct == NULL:
        return pool[4] != 0
    return ((((connection_word(p, pool[0], now) & pool[1]) - pool[2]) <= pool[3])) != invert


cdef inline bint match_ct_address(const Packet *p, const uint32_t *pool, uint8_t invert) noexcept nogil:
    cdef const uint32_t *address
    if p.ct == NULL:
        return pool[1] != 0
    if pool[0] == CT_ORIG_SRC:
        address = p.ct.tuple[0].src
    elif pool[0] == CT_ORIG_DST:
        address = p.ct.tuple[0].dst
    elif pool[0] == CT_REPLY_SRC:
        address = p.ct.tuple[1].src
    else:
        address = p.ct.tuple[1].dst
    return match_address(address, pool + 2) != invert


cdef inline bint match_nth(uint64_t *state, uint32_t last) noexcept nogil:
    """xt_statistic.c: counts 0 .. last, and holds at 0."""
    state[0] = 0 if state[0] == last else state[0] + 1
    return state[0] == 0


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


cdef inline bint match_limit(uint64_t *state, const uint32_t *pool, int64_t now) noexcept nogil:
    """xt_limit.c, nft_limit.c: credit grows with time up to a burst, and each packet takes its cost."""
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


cdef inline uint8_t match_tcp_option(const Packet *p, uint32_t option, uint8_t invert) noexcept nogil:
    """xt_tcpudp.c; the header is there."""
    cdef const uint8_t *tcp = p.transport
    cdef int64_t length = (tcp[12] >> 4) * 4, i = 20
    if length < 20 or length > p.tail - tcp:
        return DROP
    while i < length:
        if tcp[i] == option:
            return not invert
        if tcp[i] < 2 or i + 1 >= length or tcp[i + 1] == 0:
            i += 1
        else:
            i += tcp[i + 1]
    return invert


cdef inline uint8_t match_tcp_mss(const Packet *p, const uint32_t *pool, uint8_t invert) noexcept nogil:
    """xt_tcpmss.c: without the option, only what is inverted holds."""
    cdef const uint8_t *tcp = p.transport
    cdef int64_t length, i = 20
    cdef uint32_t mss
    if p.field[<int>FIELD_FRAGMENT]:
        return NO
    if tcp == NULL or p.tail - tcp < 20:
        return DROP
    length = (tcp[12] >> 4) * 4
    if length < 20 or length > p.tail - tcp:
        return DROP
    while i < length:
        if tcp[i] == 2 and length - i >= 4 and tcp[i + 1] == 4:
            mss = load16(tcp + i + 2)
            return (pool[0] <= mss <= pool[1]) != invert
        if tcp[i] < 2 or i + 1 >= length or tcp[i + 1] == 0:
            i += 1
        else:
            i += tcp[i + 1]
    return invert


cdef inline bint flags_fit(const uint32_t *pool, uint32_t count, uint8_t chunk, uint8_t flags) noexcept nogil:
    cdef uint32_t i
    for i in range(9, count):
        if pool[i] >> 16 == chunk:
            return (flags & (pool[i] >> 8) & 0xFF) == (pool[i] & 0xFF)
    return True


cdef inline uint8_t match_chunks(const Packet *p, const uint32_t *pool, uint32_t count, uint8_t invert) noexcept nogil:
    """xt_sctp.c, match_packet: walks the chunks; a chunk cut off drops the packet."""
    cdef const uint8_t *at = p.transport + 12
    cdef uint32_t way = pool[0], length, i
    cdef uint32_t missing[8]
    cdef bint held
    for i in range(8):
        missing[i] = pool[1 + i]
    while True:
        if at + 4 > p.tail:
            return DROP
        length = load16(at + 2)
        if length == 0:
            return DROP
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


cdef inline bint match_mac(const Packet *p, const uint32_t *pool, uint8_t invert) noexcept nogil:
    """xt_mac.c: never of a packet that did not come over Ethernet; `mac` is below `net` only for one that did."""
    if p.net - p.mac < ETH_HLEN:
        return False
    return (load_mac(p.mac + 6) == ((<uint64_t>pool[0] << 32) | pool[1])) != invert


cdef inline uint8_t op_other(RuleSet *rules, const Op *op, Packet *p, RuleContext *context) noexcept nogil:
    """Every test but OP_WORD. NO, YES or DROP."""
    cdef const uint32_t *pool = rules.pool + op.a
    cdef uint8_t kind = op.kind
    cdef uint8_t invert = op.invert
    cdef uint32_t value
    if kind == OP_HEADER:
        return match_header(p, op.b, invert)
    if kind == OP_BITMAP:
        value = p.field[op.field]
        if value >> 5 >= op.b:
            return invert
        return ((pool[value >> 5] >> (value & 31)) & 1) != invert
    if kind == OP_ANY_OF:
        return match_any(p, pool, op.b) != invert
    if kind == OP_PORTS:
        return match_ports(p, pool, op.b, invert)
    if kind == OP_ADDRESS:
        return match_address(&p.field[op.field], pool) != invert
    if kind == OP_ADDRESS_RANGE:
        return match_address_range(&p.field[op.field], pool) != invert
    if kind == OP_ADDRESS_TYPE:
        return match_address_type(p, pool, context) != invert
    if kind == OP_CT_WORD:
        return match_ct_word(p, pool, context.now, invert)
    if kind == OP_CT_ADDRESS:
        return match_ct_address(p, pool, invert)
    if kind == OP_STATISTIC_RANDOM:
        return ((chance_draw(context.chance, CHOICE_STATISTIC) & 0x7FFFFFFFU) < pool[0]) != invert
    if kind == OP_STATISTIC_NTH:
        return match_nth(rules.state + op.c, pool[0]) != invert
    if kind == OP_RECENT:
        return match_recent(p, pool, rules.recent + rules.state[op.c], context.now, invert)
    if kind == OP_LIMIT:
        return match_limit(rules.state + op.c, pool, context.now)
    if kind == OP_TCP_OPTION:
        return match_tcp_option(p, pool[0], invert)
    if kind == OP_TCP_MSS:
        return match_tcp_mss(p, pool, invert)
    if kind == OP_SCTP_CHUNKS:
        return match_chunks(p, pool, op.b, invert)
    if kind == OP_MAC:
        return match_mac(p, pool, invert)
    return NO
