"""Fragments that wait for the rest of their datagram: queues by what tells datagrams apart, bounded in memory and time.

A queue keeps its fragments in order and without overlaps; what is done with a complete or a spoilt one is defrag.pxd's.
Sources: RFC 791, 815, 5722, 8200 (4.5); net/ipv4/inet_fragment.c, net/ipv4/ip_fragment.c, net/ipv6/reassembly.c,
net/ipv6/netfilter/nf_conntrack_reasm.c.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memmove, memset

from dataplane._fast.packet cimport Packet

cpdef enum ReassemblyKind:
    """The places of a host where fragments wait; each has its own limits."""
    REASSEMBLY_IP4 = 0      # IPv4, for whoever asks (net.ipv4.ipfrag_*)
    REASSEMBLY_IP6          # IPv6 to the host itself (net.ipv6.ip6frag_*)
    REASSEMBLY_TRACKED6     # IPv6, before connection tracking (net.netfilter.nf_conntrack_frag6_*)
    REASSEMBLY_COUNT

cdef enum FragmentUser:
    """Who puts a datagram together (enum ip_defrag_users): its fragments are not another's."""
    FRAGMENT_USER_LOCAL = 0
    FRAGMENT_USER_IN
    FRAGMENT_USER_OUT
    FRAGMENT_USER_BRIDGE
    FRAGMENT_USER_IPVS

cdef enum:
    FRAGMENT_FIRST_IN = 1
    FRAGMENT_LAST_IN = 2
    # What the kernel charges: a frame in a buffer with its headroom, sk_buff and skb_shared_info; and a queue.
    FRAGMENT_HEADROOM = 64
    FRAGMENT_OVERHEAD = 576
    QUEUE_MEMORY = 200

cdef enum FragmentFit:
    FRAGMENT_FITS = 0
    FRAGMENT_DUPLICATE      # all of it is there already
    FRAGMENT_OVERLAPS
    FRAGMENT_NO_MEMORY

cdef struct FragmentKey:
    uint32_t src[4]
    uint32_t dst[4]
    uint32_t id
    int32_t interface       # IPv6 alone; -1 elsewhere, and where the scope of the destination is global
    uint8_t proto           # IPv4 alone
    uint8_t user            # FragmentUser

cdef struct FragmentRun:
    # Fragments without a gap, in the order in which they came; linked by Packet.next.
    uint32_t start
    uint32_t end
    Packet *first
    Packet *last

cdef struct FragmentSource:
    # How many fragments one sender has sent (inet_peer.rid); kept while a queue of its own is there.
    FragmentSource *next
    uint32_t address[4]
    uint32_t count
    int32_t queues

cdef struct FragmentQueue:
    FragmentKey key
    FragmentQueue *next     # in its bucket
    FragmentQueue *older
    FragmentQueue *newer
    FragmentSource *source  # NULL where no distance is asked for
    int64_t expires
    FragmentRun *runs       # by start
    int32_t run_count
    int32_t run_room
    int32_t piece_count
    uint32_t seen           # the sender's count when this queue got its last fragment
    uint32_t length         # of the datagram's payload, as far as it is known
    uint32_t present        # bytes of it that are here
    uint32_t largest        # fragment, as the IP layer measures it
    uint32_t largest_df     # ... of those with DF
    uint32_t memory
    int32_t iif             # where its last fragment came in
    uint8_t flags
    uint8_t ecn             # bits: the ECN values that were met

cdef struct Reassembly:
    FragmentQueue **buckets
    uint32_t mask
    int32_t count
    FragmentQueue *oldest
    FragmentQueue *newest
    FragmentSource **sources
    uint64_t memory
    uint64_t high_threshold     # bytes; a fragment that comes while more is in use is dropped
    int64_t timeout         # ns
    uint32_t distance       # fragments of one sender between two of one datagram; 0: any
    uint8_t kind            # ReassemblyKind
    uint8_t armed           # a timer is set
    uint64_t completed
    uint64_t failed
    uint64_t timed_out

cdef enum:
    SOURCE_MASK = 255


# ---- which queue ---------------------------------------------------------------------------------------------------

cdef inline uint64_t words_hash(uint64_t h, const uint32_t *words) noexcept nogil:
    cdef int i
    for i in range(4):
        h = (h ^ words[i]) * 0x9E3779B97F4A7C15ULL
        h ^= h >> 29
    return h


cdef inline uint32_t fragment_hash(const FragmentKey *key) noexcept nogil:
    cdef uint64_t h = words_hash(words_hash(0x243F6A8885A308D3ULL, key.src), key.dst)
    h = (h ^ key.id ^ <uint64_t>key.proto << 32 ^ <uint64_t>key.user << 40) * 0x9E3779B97F4A7C15ULL
    return <uint32_t>(h >> 32)


cdef inline bint same_words(const uint32_t *a, const uint32_t *b) noexcept nogil:
    return a[0] == b[0] and a[1] == b[1] and a[2] == b[2] and a[3] == b[3]


cdef inline bint same_key(const FragmentKey *a, const FragmentKey *b) noexcept nogil:
    return (
        a.id == b.id and a.proto == b.proto and a.user == b.user and a.interface == b.interface
        and same_words(a.src, b.src) and same_words(a.dst, b.dst)
    )


cdef inline bint reassembly_grow(Reassembly *table) noexcept nogil:
    cdef uint32_t size = 4 * (table.mask + 1) if table.buckets != NULL else 64
    cdef uint32_t i, at
    cdef FragmentQueue *q
    cdef FragmentQueue *following
    cdef FragmentQueue **buckets = <FragmentQueue **>calloc(size, sizeof(FragmentQueue *))
    if buckets == NULL:
        return False
    if table.buckets != NULL:
        for i in range(table.mask + 1):
            q = table.buckets[i]
            while q != NULL:
                following = q.next
                at = fragment_hash(&q.key) & (size - 1)
                q.next = buckets[at]
                buckets[at] = q
                q = following
        free(table.buckets)
    table.buckets = buckets
    table.mask = size - 1
    return True


cdef inline FragmentSource *source_take(Reassembly *table, const uint32_t *address) noexcept nogil:
    cdef FragmentSource **at
    cdef FragmentSource *s
    if table.sources == NULL:
        table.sources = <FragmentSource **>calloc(SOURCE_MASK + 1, sizeof(FragmentSource *))
        if table.sources == NULL:
            return NULL
    at = &table.sources[<int>(words_hash(0, address) >> 40) & SOURCE_MASK]
    s = at[0]
    while s != NULL and not same_words(s.address, address):
        s = s.next
    if s == NULL:
        s = <FragmentSource *>calloc(1, sizeof(FragmentSource))
        if s == NULL:
            return NULL
        memcpy(s.address, address, 16)
        s.next = at[0]
        at[0] = s
    s.queues += 1
    return s


cdef inline void source_give(Reassembly *table, FragmentSource *s) noexcept nogil:
    cdef FragmentSource **at = &table.sources[<int>(words_hash(0, s.address) >> 40) & SOURCE_MASK]
    s.queues -= 1
    if s.queues:
        return
    while at[0] != s:
        at = &at[0].next
    at[0] = s.next
    free(s)


cdef inline void queue_append(Reassembly *table, FragmentQueue *q) noexcept nogil:
    """As the last to expire: all wait equally long."""
    q.newer = NULL
    q.older = table.newest
    if table.newest != NULL:
        table.newest.newer = q
    else:
        table.oldest = q
    table.newest = q


cdef inline void queue_detach(Reassembly *table, FragmentQueue *q) noexcept nogil:
    if q.older != NULL:
        q.older.newer = q.newer
    else:
        table.oldest = q.newer
    if q.newer != NULL:
        q.newer.older = q.older
    else:
        table.newest = q.older


cdef inline FragmentQueue *fragment_queue(Reassembly *table, const FragmentKey *key, int64_t now) noexcept nogil:
    """The queue of this key, made if there is none; NULL when too much memory is in use."""
    cdef FragmentQueue *q
    cdef uint32_t hash
    if table.high_threshold == 0 or table.memory > table.high_threshold:
        return NULL
    hash = fragment_hash(key)
    if table.buckets != NULL:
        q = table.buckets[hash & table.mask]
        while q != NULL:
            if same_key(&q.key, key):
                return q
            q = q.next
    if table.buckets == NULL or <uint32_t>table.count > 2 * table.mask:
        if not reassembly_grow(table):
            return NULL
    q = <FragmentQueue *>calloc(1, sizeof(FragmentQueue))
    if q == NULL:
        return NULL
    memcpy(&q.key, key, sizeof(FragmentKey))
    if table.distance:
        q.source = source_take(table, key.src)
    q.iif = -1
    q.expires = now + table.timeout
    q.memory = QUEUE_MEMORY
    table.memory += QUEUE_MEMORY
    q.next = table.buckets[hash & table.mask]
    table.buckets[hash & table.mask] = q
    table.count += 1
    queue_append(table, q)
    return q


# ---- what is in it -------------------------------------------------------------------------------------------------

cdef inline Packet *queue_empty(Reassembly *table, FragmentQueue *q) noexcept nogil:
    """Take all fragments out, in order, linked by `next`."""
    cdef Packet *first = NULL
    cdef Packet *last = NULL
    cdef int32_t i
    for i in range(q.run_count):
        if last == NULL:
            first = q.runs[i].first
        else:
            last.next = q.runs[i].first
        last = q.runs[i].last
        last.next = NULL
    q.run_count = q.piece_count = 0
    table.memory -= q.memory - QUEUE_MEMORY
    q.memory = QUEUE_MEMORY
    return first


cdef inline Packet *queue_kill(Reassembly *table, FragmentQueue *q) noexcept nogil:
    """Forget the queue; its fragments, in order, are the caller's."""
    cdef Packet *first = queue_empty(table, q)
    cdef FragmentQueue **at = &table.buckets[fragment_hash(&q.key) & table.mask]
    while at[0] != q:
        at = &at[0].next
    at[0] = q.next
    queue_detach(table, q)
    table.count -= 1
    table.memory -= QUEUE_MEMORY
    if q.source != NULL:
        source_give(table, q.source)
    free(q.runs)
    free(q)
    return first


cdef inline bint queue_too_far(const Reassembly *table, FragmentQueue *q) noexcept nogil:
    """ip_frag_too_far: the sender has sent so much else since that the id may have come round."""
    cdef uint32_t before = q.seen
    if q.source == NULL:
        return False
    q.source.count += 1
    q.seen = q.source.count
    return q.run_count > 0 and q.seen - before > table.distance


cdef inline Packet *queue_restart(Reassembly *table, FragmentQueue *q, int64_t now) noexcept nogil:
    """ip_frag_reinit: begin anew with the same key; the old fragments are the caller's. Sizes are not forgotten."""
    cdef Packet *first = queue_empty(table, q)
    q.flags = 0
    q.length = 0
    q.present = 0
    q.iif = -1
    q.ecn = 0
    queue_detach(table, q)
    q.expires = now + table.timeout
    queue_append(table, q)
    return first


cdef inline FragmentRun *run_insert(FragmentQueue *q, int32_t at) noexcept nogil:
    cdef FragmentRun *grown
    if q.run_count == q.run_room:
        grown = <FragmentRun *>realloc(q.runs, (2 * q.run_room + 4) * sizeof(FragmentRun))
        if grown == NULL:
            return NULL
        q.runs = grown
        q.run_room = 2 * q.run_room + 4
    memmove(&q.runs[at + 1], &q.runs[at], (q.run_count - at) * sizeof(FragmentRun))
    q.run_count += 1
    return &q.runs[at]


cdef inline FragmentFit queue_insert(
    Reassembly *table, FragmentQueue *q, Packet *p, uint32_t start, uint32_t end, uint32_t memory,
) noexcept nogil:
    """inet_frag_queue_insert: bytes [start, end) of the payload. A fragment that repeats what one run holds is a
    duplicate; any other overlap spoils the datagram (RFC 5722)."""
    cdef FragmentRun *run = NULL
    cdef int32_t low = 0, high = q.run_count, middle
    p.next = NULL
    if q.run_count:
        run = &q.runs[q.run_count - 1]
    if run != NULL and run.end < end:
        if start < run.end:
            return FRAGMENT_OVERLAPS
        low = q.run_count
    elif run != NULL:
        run = NULL
        while low < high:
            middle = (low + high) // 2
            if end <= q.runs[middle].start:
                high = middle
            elif start >= q.runs[middle].end:
                low = middle + 1
            elif start >= q.runs[middle].start and end <= q.runs[middle].end:
                return FRAGMENT_DUPLICATE
            else:
                return FRAGMENT_OVERLAPS
    if run != NULL and run.end == start:
        run.last.next = p
        run.last = p
        run.end = end
    else:
        run = run_insert(q, low)
        if run == NULL:
            return FRAGMENT_NO_MEMORY
        run.start = start
        run.end = end
        run.first = run.last = p
    q.present += end - start
    q.piece_count += 1
    q.memory += memory
    table.memory += memory
    return FRAGMENT_FITS


cdef inline bint queue_complete(const FragmentQueue *q) noexcept nogil:
    return q.flags == (FRAGMENT_FIRST_IN | FRAGMENT_LAST_IN) and q.present == q.length


cdef inline int ecn_of_whole(uint8_t met) noexcept nogil:
    """ip_frag_ecn_table: the bits to add to the first fragment's; -1 where not-ECT met another (RFC 3168, 5.3)."""
    if met & 1:
        return 0 if met == 1 else -1
    return 3 if met & 8 and met & 6 else 0


cdef inline void reassembly_free(Reassembly *table) noexcept nogil:
    """Free the queues. Their fragments belong to the walk's pool and are not touched."""
    cdef FragmentQueue *q = table.oldest
    cdef FragmentQueue *following
    while q != NULL:
        following = q.newer
        if q.source != NULL:
            source_give(table, q.source)
        free(q.runs)
        free(q)
        q = following
    free(table.buckets)
    free(table.sources)
    memset(table, 0, sizeof(Reassembly))
