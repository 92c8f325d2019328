"""Putting fragments together: before connection tracking, and on the way into the host itself.

Sources: net/ipv4/ip_fragment.c, net/ipv4/netfilter/nf_defrag_ipv4.c, net/ipv6/reassembly.c,
net/ipv6/netfilter/nf_conntrack_reasm.c, nf_defrag_ipv6_hooks.c.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from dataplane._fast.fib cimport ROUTE_LOCAL
from dataplane._fast.icmp cimport (
    ICMP6_PARAMETER_PROBLEM, ICMP6_TIME_EXCEEDED, ICMP_TIME_EXCEEDED, icmp4_error, icmp6_error,
)
from dataplane._fast.network cimport (
    HEADROOM, Host, Network, TIMER_FRAGMENTS, drop, finish, packet_own, record, timer_add,
)
from dataplane._fast.packet cimport (
    Cut, FIELD_DST, FIELD_LENGTH, FIELD_MARK, FIELD_PKTTYPE, FIELD_SRC, HOOK_PREROUTING, BRIDGE_SEEN, Hook, Packet,
    packet_read4, packet_read6,
)
from dataplane._fast.reason cimport Reason, Verdict
from dataplane._fast.reassembly cimport (
    FRAGMENT_DUPLICATE, FRAGMENT_FIRST_IN, FRAGMENT_FITS, FRAGMENT_HEADROOM, FRAGMENT_LAST_IN, FRAGMENT_NO_MEMORY,
    FRAGMENT_OVERHEAD, FRAGMENT_USER_BRIDGE, FRAGMENT_USER_IN, FRAGMENT_USER_IPVS, FRAGMENT_USER_LOCAL, FRAGMENT_USER_OUT, FragmentFit,
    FragmentKey, FragmentQueue, FragmentUser, REASSEMBLY_IP4, REASSEMBLY_IP6, REASSEMBLY_TRACKED6, Reassembly,
    ecn_of_whole, fragment_queue, queue_complete, queue_insert, queue_kill, queue_restart, queue_too_far,
)
from dataplane._fast.route cimport INPUT_FORWARD, INPUT_LOCAL, InputRoute, route_input4
from dataplane._fast.track cimport ct_release
from dataplane._fast.wire cimport (
    IPPROTO_AH, IPPROTO_DSTOPTS, IPPROTO_FRAGMENT, IPPROTO_HOPOPTS, IPPROTO_ICMPV6, IPPROTO_NONE, IPPROTO_ROUTING,
    IPPROTO_TCP, IPPROTO_UDP, IP_DF, IP_MF, IP_OFFSET, ip4_checksum_set, load16, load32, store16, store32,
)

cdef enum:
    IP6_MF = 1
    IP6_OFFSET = 0xFFF8
    FRAGMENT_HLEN = 8
    LARGEST_PACKET = 65535


# ---- the end of a queue --------------------------------------------------------------------------------------------

cdef inline void discard(Network *net, Host *host, Packet *p, Reason reason) noexcept nogil:
    """Drop fragments that hang together by `next`."""
    cdef Packet *following
    while p != NULL:
        following = p.next
        p.next = NULL
        drop(net, host, p, reason)
        p = following


cdef inline void spoil(Network *net, Host *host, Reassembly *table, FragmentQueue *q, Reason reason) noexcept nogil:
    """Nothing can come of this datagram any more."""
    table.failed += 1
    discard(net, host, queue_kill(table, q), reason)


cdef inline void fragments_arm(Network *net, Host *host, Reassembly *table) noexcept nogil:
    """One timer for all queues of a table, which expire in the order in which they were made."""
    cdef int64_t at
    if table.armed or table.oldest == NULL:
        return
    at = table.oldest.expires
    if timer_add(net, at if at > net.now else net.now, host.id, TIMER_FRAGMENTS, table):
        table.armed = 1
    else:
        net.out_of_memory += 1


cdef inline void fragments_report(
    Network *net, Host *host, const Reassembly *table, const FragmentKey *key, Packet *first,
) noexcept nogil:
    """Tell the sender that its datagram was given up. In IPv4 only the end of its way does; whoever puts IPv6 together
    for connection tracking always does (ip_expire, ip6frag_expire_frag_queue)."""
    cdef InputRoute route
    if table.kind != REASSEMBLY_IP4:
        icmp6_error(net, host, first, ICMP6_TIME_EXCEEDED, 1, 0)
        return
    route_input4(host, first, &route)
    if route.action != INPUT_LOCAL and route.action != INPUT_FORWARD:
        return
    if key.user != FRAGMENT_USER_LOCAL and key.user != FRAGMENT_USER_IPVS and first.route_type != ROUTE_LOCAL:
        return
    icmp4_error(net, host, first, ICMP_TIME_EXCEEDED, 1, 0)


cdef inline void fragments_timer(Network *net, Host *host, Reassembly *table, int64_t now) noexcept nogil:
    """Give up what has waited long enough."""
    cdef FragmentQueue *q
    cdef FragmentKey key
    cdef Packet *first
    cdef int32_t iif
    cdef uint8_t flags
    table.armed = 0
    while table.oldest != NULL and table.oldest.expires <= now:
        q = table.oldest
        key = q.key
        iif = q.iif
        flags = q.flags
        table.timed_out += 1
        table.failed += 1
        first = queue_kill(table, q)
        if flags & FRAGMENT_FIRST_IN and iif >= 0 and first != NULL:
            first.iif = iif
            first.time = now
            fragments_report(net, host, table, &key, first)
        discard(net, host, first, Reason.FRAG_REASM_TIMEOUT)
    fragments_arm(net, host, table)


# ---- into the queue ------------------------------------------------------------------------------------------------

cdef inline Reason fragment_place(
    Reassembly *table, FragmentQueue *q, Packet *p, uint32_t start, uint32_t end, bint more,
) noexcept nogil:
    """Enter bytes [start, end) of the payload, which are [transport, tail) of `p`; NOT_DROPPED, or what is wrong."""
    cdef uint32_t memory = ((<uint32_t>(p.tail - p.mac) + FRAGMENT_HEADROOM + 63) & ~63U) + FRAGMENT_OVERHEAD
    cdef uint32_t cut
    cdef FragmentFit fit
    if not more:
        if end < q.length or (q.flags & FRAGMENT_LAST_IN and end != q.length):
            return Reason.FRAG_LENGTH
        q.flags |= FRAGMENT_LAST_IN
        q.length = end
    elif end > q.length:
        if q.flags & FRAGMENT_LAST_IN:
            return Reason.FRAG_LENGTH
        q.length = end
    if end == start:
        return Reason.FRAG_EMPTY
    cut = <uint32_t>(p.tail - p.transport) - (end - start)
    p.tail -= cut
    p.missing = p.missing - cut if p.missing > cut else 0
    if not packet_own(p):
        return Reason.NOMEM
    fit = queue_insert(table, q, p, start, end, memory)
    if fit == FRAGMENT_DUPLICATE:
        return Reason.DUP_FRAG
    if fit == FRAGMENT_NO_MEMORY:
        return Reason.NOMEM
    if fit != FRAGMENT_FITS:
        return Reason.FRAG_OVERLAP
    q.iif = p.iif
    if start == 0:
        q.flags |= FRAGMENT_FIRST_IN
    return Reason.NOT_DROPPED


cdef inline void fragment_waits(Network *net, Host *host, Reassembly *table, Packet *p) noexcept nogil:
    fragments_arm(net, host, table)
    if p.row >= 0:
        record(net, p, Verdict.QUEUED, Reason.NOT_DROPPED)


# ---- out of it -----------------------------------------------------------------------------------------------------

cdef inline bint assemble(
    Network *net, Host *host, Packet *p, Packet *first, uint32_t header, uint32_t length, uint32_t count,
) noexcept nogil:
    """Make `p`, one of `count` fragments from `first` on, the whole: `header` bytes of the first one's network header,
    then the payload. What belongs to a packet as such (mark, connection, link-layer header) is the first fragment's; the
    place and the time are those of `p`, the last to come. False when memory is out: all are dropped then."""
    cdef uint32_t link = <uint32_t>(first.net - first.mac)
    cdef uint32_t cuts_at = (HEADROOM + link + header + length + 64 + 7) & ~7U
    cdef uint32_t size = cuts_at + count * <uint32_t>sizeof(Cut)
    cdef uint32_t part, i, known = 0, at = 0
    cdef bint gap = False
    cdef uint8_t *storage = <uint8_t *>malloc(size)
    cdef Packet *piece = first
    cdef Packet *following
    cdef Cut *cuts
    if storage == NULL:
        net.out_of_memory += 1
        discard(net, host, first, Reason.NOMEM)
        return False
    cuts = <Cut *>(storage + cuts_at)
    memcpy(storage + HEADROOM, first.mac, link + header)
    if first != p:
        ct_release(host.netfilter.conntrack, p)
        p.ct = first.ct
        p.ctinfo = first.ctinfo
        first.ct = NULL
        p.type = first.type
        p.field[<int>FIELD_PKTTYPE] = first.field[<int>FIELD_PKTTYPE]
        p.field[<int>FIELD_MARK] = first.field[<int>FIELD_MARK]
        p.options = first.options
    for i in range(count):
        following = piece.next
        piece.next = NULL
        part = <uint32_t>(piece.tail - piece.transport)
        memcpy(storage + HEADROOM + link + header + at, piece.transport, part)
        at += part
        cuts[i].length = part
        cuts[i].missing = piece.missing if piece.missing < part else part
        if not gap:
            known = at - cuts[i].missing
            gap = piece.missing > 0
        if piece.hops > p.hops:
            p.hops = piece.hops
        if piece != p:
            finish(net, host, piece, Verdict.CONSUMED, Reason.NOT_DROPPED)
        piece = following
    free(p.storage)
    p.storage = storage
    p.storage_size = size
    p.head = storage
    p.mac = storage + HEADROOM
    p.net = p.mac + link
    p.tail = p.net + header + length
    p.end = p.tail + 64
    p.cuts = cuts
    p.cut_count = count
    p.pulled = 0
    # A capture's missing bytes are a tail; behind the first that is missing nothing is known for certain.
    p.missing = length - known
    return True


# ---- IPv4 ----------------------------------------------------------------------------------------------------------

cdef inline bint ip4_whole(Network *net, Host *host, Reassembly *table, FragmentQueue *q, Packet *p) noexcept nogil:
    """ip_frag_reasm."""
    cdef uint32_t length = q.length, largest = q.largest, largest_df = q.largest_df, count = <uint32_t>q.piece_count
    cdef int ecn = ecn_of_whole(q.ecn)
    cdef Packet *first = q.runs[0].first
    cdef uint32_t header = (first.net[0] & 15) * 4
    if ecn < 0:
        spoil(net, host, table, q, Reason.FRAG_ECN)
        return False
    if header + length > LARGEST_PACKET:
        spoil(net, host, table, q, Reason.FRAG_LENGTH)
        return False
    if not assemble(net, host, p, queue_kill(table, q), header, length, count):
        table.failed += 1
        return False
    table.completed += 1
    store16(p.net + 2, <uint16_t>(header + length))
    # DF only if the largest fragment had it; then no larger fragment may leave either.
    store16(p.net + 6, IP_DF if largest_df == largest else 0)
    p.net[1] |= <uint8_t>ecn
    ip4_checksum_set(p.net)
    p.frag_size = largest
    packet_read4(p)
    return True


cdef inline bint ip4_defrag(Network *net, Host *host, Packet *p, FragmentUser user) noexcept nogil:
    """ip_defrag: True when `p` is the whole datagram now; else it waits, or was dropped, and is not the caller's."""
    cdef Reassembly *table = &host.reassembly[<int>REASSEMBLY_IP4]
    cdef uint32_t header = (p.net[0] & 15) * 4
    cdef uint16_t fragment = load16(p.net + 6)
    cdef uint32_t start = <uint32_t>(fragment & IP_OFFSET) << 3
    cdef uint32_t end = start + <uint32_t>(p.tail - p.net) - header
    cdef uint32_t size
    cdef FragmentKey key
    cdef FragmentQueue *q
    cdef Reason reason
    memset(&key, 0, sizeof(key))
    key.src[0] = p.field[<int>FIELD_SRC]
    key.dst[0] = p.field[<int>FIELD_DST]
    key.id = load16(p.net + 4)
    key.interface = -1
    key.proto = p.net[9]
    key.user = user
    q = fragment_queue(table, &key, p.time)
    if q == NULL:
        table.failed += 1
        drop(net, host, p, Reason.NOMEM)
        return False
    if queue_too_far(table, q):
        table.failed += 1
        discard(net, host, queue_restart(table, q, p.time), Reason.FRAG_TOO_FAR)
    if fragment & IP_MF:
        end &= ~7U
    p.transport = p.net + header
    reason = fragment_place(table, q, p, start, end, fragment & IP_MF)
    if reason != Reason.NOT_DROPPED:
        if reason != Reason.DUP_FRAG:
            spoil(net, host, table, q, reason)
        drop(net, host, p, reason)
        fragments_arm(net, host, table)
        return False
    q.ecn |= <uint8_t>(1 << (p.net[1] & 3))
    size = end - start + header
    if size > q.largest:
        q.largest = size
    if fragment & IP_DF and size > q.largest_df:
        q.largest_df = size
    if queue_complete(q):
        return ip4_whole(net, host, table, q, p)
    fragment_waits(net, host, table, p)
    return False


# ---- IPv6 ----------------------------------------------------------------------------------------------------------

cdef inline bint extension(uint8_t header) noexcept nogil:
    return (
        header == IPPROTO_HOPOPTS or header == IPPROTO_ROUTING or header == IPPROTO_DSTOPTS or header == IPPROTO_AH
        or header == IPPROTO_FRAGMENT
    )


cdef inline uint8_t *fragment_header_from(
    const Packet *p, uint8_t *at, uint8_t following, uint8_t **previous,
) noexcept nogil:
    """The first fragment header from `at` on, which may be cut short, and the next-header byte that announces it; NULL where
    there is none."""
    while following != IPPROTO_FRAGMENT:
        if not extension(following) or at + 2 > p.tail:
            return NULL
        previous[0] = at
        at += (at[1] + 2) * 4 if following == IPPROTO_AH else (at[1] + 1) * 8
        following = previous[0][0]
    return at if at <= p.tail else NULL


cdef inline uint8_t *fragment_header(const Packet *p, uint8_t **previous) noexcept nogil:
    previous[0] = p.net + 6
    return fragment_header_from(p, p.net + 40, p.net[6], previous)


cdef inline bint headers_cut(const uint8_t *fragment, const uint8_t *tail) noexcept nogil:
    """A first fragment without all headers up to the transport's (RFC 8200, 4.5; ipv6frag_thdr_truncated)."""
    cdef const uint8_t *at = fragment
    cdef uint8_t following = IPPROTO_FRAGMENT
    cdef uint8_t kind
    while extension(following):
        if at + (4 if following == IPPROTO_FRAGMENT else 2) > tail:
            return False
        if following == IPPROTO_FRAGMENT and load16(at + 2) & IP6_OFFSET:
            return False
        kind = following
        following = at[0]
        at += 8 if kind == IPPROTO_FRAGMENT else (at[1] + 2) * 4 if kind == IPPROTO_AH else (at[1] + 1) * 8
    if following == IPPROTO_NONE:
        return False
    if following == IPPROTO_TCP:
        return at + 20 > tail
    if following == IPPROTO_UDP or following == IPPROTO_ICMPV6:
        return at + 8 > tail
    return at + 1 > tail


cdef inline bint ip6_whole(
    Network *net, Host *host, Reassembly *table, FragmentQueue *q, Packet *p, int64_t *at, uint32_t *named,
) noexcept nogil:
    """ip6_frag_reasm, nf_ct_frag6_reasm: the fragment header goes, what stood before it stays.

    at:    OUT the offset of what was behind it
    named: OUT the offset of the byte that says what that is
    """
    cdef uint32_t length = q.length, largest = q.largest, count = <uint32_t>q.piece_count, header
    cdef int ecn = ecn_of_whole(q.ecn)
    cdef uint8_t *previous
    cdef Packet *first = q.runs[0].first
    cdef uint8_t *fragment = fragment_header(first, &previous)
    cdef uint8_t following = fragment[0]
    cdef int64_t announced = previous - first.net
    header = <uint32_t>(fragment - first.net)
    if ecn < 0:
        spoil(net, host, table, q, Reason.FRAG_ECN)
        return False
    if header - 40 + length > LARGEST_PACKET:
        spoil(net, host, table, q, Reason.FRAG_LENGTH)
        return False
    if not assemble(net, host, p, queue_kill(table, q), header, length, count):
        table.failed += 1
        return False
    table.completed += 1
    p.net[announced] = following
    store16(p.net + 4, <uint16_t>(header - 40 + length))
    store32(p.net, load32(p.net) | <uint32_t>ecn << 20)
    p.frag_size = largest
    at[0] = header
    named[0] = <uint32_t>announced
    packet_read6(p)
    return True


cdef inline void key6(const Packet *p, const uint8_t *fragment, uint8_t user, FragmentKey *key) noexcept nogil:
    cdef uint32_t dst = p.field[<int>FIELD_DST]
    memset(key, 0, sizeof(FragmentKey))
    memcpy(key.src, &p.field[<int>FIELD_SRC], 16)
    memcpy(key.dst, &p.field[<int>FIELD_DST], 16)
    key.id = load32(fragment + 4)
    # Only where the scope of the destination is the link does it matter by which one it came.
    key.interface = p.iif if dst >> 24 == 0xFF or dst >> 22 == 0xFE80U >> 6 else -1
    key.user = user


cdef inline bint ip6_tracked_defrag(Network *net, Host *host, Packet *p, FragmentUser user) noexcept nogil:
    """nf_ct_frag6_gather: True when `p` goes on, as a whole or as it is."""
    cdef Reassembly *table = &host.reassembly[<int>REASSEMBLY_TRACKED6]
    cdef uint8_t *previous
    cdef uint8_t *fragment = fragment_header(p, &previous)
    cdef uint32_t start, end, named
    cdef uint16_t flags, size = load16(p.net + 4)
    cdef int64_t at
    cdef FragmentKey key
    cdef FragmentQueue *q
    cdef Reason reason
    if fragment == NULL or size == 0 or headers_cut(fragment, p.tail):
        return True
    if p.ct != NULL:
        # Over loopback, and seen before.
        return True
    if fragment + FRAGMENT_HLEN > p.tail:
        drop(net, host, p, Reason.NETFILTER_DROP)
        return False
    flags = load16(fragment + 2)
    key6(p, fragment, user, &key)
    q = fragment_queue(table, &key, p.time)
    if q == NULL:
        table.failed += 1
        drop(net, host, p, Reason.NOMEM)
        return False
    start = flags & IP6_OFFSET
    end = start + <uint32_t>(p.tail - fragment) - FRAGMENT_HLEN
    if end > LARGEST_PACKET:
        drop(net, host, p, Reason.FRAG_LENGTH)
        fragments_arm(net, host, table)
        return False
    if flags & IP6_MF and end & 7:
        # The host that it is for will complain (RFC 8200, 4.5).
        spoil(net, host, table, q, Reason.FRAG_LENGTH)
        return True
    p.transport = fragment + FRAGMENT_HLEN
    reason = fragment_place(table, q, p, start, end, flags & IP6_MF)
    if reason != Reason.NOT_DROPPED:
        if reason == Reason.FRAG_OVERLAP:
            spoil(net, host, table, q, reason)
        drop(net, host, p, reason)
        fragments_arm(net, host, table)
        return False
    q.ecn |= <uint8_t>(1 << (p.net[1] >> 4 & 3))
    if size + 40 > q.largest:
        q.largest = size + 40
    if queue_complete(q):
        if not ip6_whole(net, host, table, q, p, &at, &named):
            return False
        p.ignore_df = 1
        p.whole_at = <uint16_t>at
        return True
    fragment_waits(net, host, table, p)
    return False


cdef inline bint parameter_problem(Network *net, Host *host, Packet *p, uint8_t code, int64_t pointer) noexcept nogil:
    icmp6_error(net, host, p, ICMP6_PARAMETER_PROBLEM, code, <uint32_t>pointer)
    drop(net, host, p, Reason.IP_INHDR)
    return False


cdef inline bint ip6_local_defrag(Network *net, Host *host, Packet *p, int64_t *at, uint32_t *named) noexcept nogil:
    """ipv6_frag_rcv, for a packet to the host itself with a fragment header: True when it goes on behind it.

    at:    IN the offset of the fragment header, OUT of what it announces
    named: IN the offset of the byte that announces it, OUT of the one that says what is at `at`
    """
    cdef Reassembly *table = &host.reassembly[<int>REASSEMBLY_IP6]
    cdef uint8_t *fragment = p.net + at[0]
    cdef uint32_t start, end, size
    cdef uint16_t flags
    cdef FragmentKey key
    cdef FragmentQueue *q
    cdef Reason reason
    # A packet is cut once.
    if p.frag_size or load16(p.net + 4) == 0 or p.tail - fragment < FRAGMENT_HLEN:
        return parameter_problem(net, host, p, 0, at[0])
    flags = load16(fragment + 2)
    if not flags & (IP6_OFFSET | IP6_MF):
        # Whole, though it says that it might have been cut (RFC 6946).
        p.frag_size = p.field[<int>FIELD_LENGTH]
        named[0] = <uint32_t>at[0]
        at[0] += FRAGMENT_HLEN
        return True
    if headers_cut(fragment, p.tail):
        return parameter_problem(net, host, p, 3, 0)
    key6(p, fragment, FRAGMENT_USER_LOCAL, &key)
    q = fragment_queue(table, &key, p.time)
    if q == NULL:
        table.failed += 1
        drop(net, host, p, Reason.NOMEM)
        return False
    q.iif = p.iif
    fragments_arm(net, host, table)
    start = flags & IP6_OFFSET
    end = start + <uint32_t>(p.tail - fragment) - FRAGMENT_HLEN
    if end > LARGEST_PACKET:
        return parameter_problem(net, host, p, 0, fragment + 2 - p.net)
    if flags & IP6_MF and end & 7:
        return parameter_problem(net, host, p, 0, 4)
    size = <uint32_t>(p.tail - p.net)
    p.transport = fragment + FRAGMENT_HLEN
    reason = fragment_place(table, q, p, start, end, flags & IP6_MF)
    if reason != Reason.NOT_DROPPED:
        if reason != Reason.DUP_FRAG:
            spoil(net, host, table, q, reason)
        drop(net, host, p, reason)
        return False
    q.ecn |= <uint8_t>(1 << (p.net[1] >> 4 & 3))
    if size > q.largest:
        q.largest = size
    if queue_complete(q):
        return ip6_whole(net, host, table, q, p, at, named)
    fragment_waits(net, host, table, p)
    return False


# ---- the hook ------------------------------------------------------------------------------------------------------

cdef inline bint tracked_defrag(Network *net, Host *host, Packet *p, Hook hook) noexcept nogil:
    """Priority -400: True when `p` goes on. Anything but a fragment pays one test."""
    cdef FragmentUser user
    if p.family == 4:
        if not load16(p.net + 6) & (IP_MF | IP_OFFSET):
            return True
    elif p.transport == p.net + 40:
        return True
    user = FRAGMENT_USER_OUT
    if hook == HOOK_PREROUTING:
        user = FRAGMENT_USER_BRIDGE if p.bridge_state == BRIDGE_SEEN else FRAGMENT_USER_IN
    if p.family == 6:
        return ip6_tracked_defrag(net, host, p, user)
    if not ip4_defrag(net, host, p, user):
        return False
    p.ignore_df = 1
    return True
