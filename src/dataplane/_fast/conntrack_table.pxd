"""The table of connections: finding, making, expiring, giving back.

Source: net/netfilter/nf_conntrack_core.c. Expiry is exact: an entry is looked at when it is found, and a little of the
table is swept for expired ones with every new connection, so memory follows the load.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from dataplane._fast.conntrack cimport (
    Conn, Conntrack, STATUS_ASSURED, STATUS_CONFIRMED, STATUS_DYING, Tuple,
)

cdef enum:
    CHUNK = 256
    DIRECTION_ORIGINAL = 0
    DIRECTION_REPLY = 1


cdef inline uint32_t tuple_hash(const Conntrack *t, const Tuple *tuple) noexcept nogil:
    """Order of directions matters: a tuple and its inverse are different keys."""
    cdef uint64_t h = t.seed
    cdef const uint64_t *words = <const uint64_t *>tuple
    if tuple.family == 4:
        h = (h ^ (<uint64_t>tuple.src[0] << 32 | tuple.dst[0])) * 0x9E3779B97F4A7C15ULL
    else:
        h = (h ^ words[0]) * 0x9E3779B97F4A7C15ULL
        h = (h ^ (h >> 29) ^ words[1]) * 0xC2B2AE3D27D4EB4FULL
        h = (h ^ (h >> 29) ^ words[2]) * 0x9E3779B97F4A7C15ULL
        h = (h ^ (h >> 29) ^ words[3]) * 0xC2B2AE3D27D4EB4FULL
    h = (h ^ (h >> 29) ^ words[4]) * 0xC2B2AE3D27D4EB4FULL
    return <uint32_t>(h >> 32)


cdef inline uint32_t table_row(const Conntrack *t, uint32_t hash) noexcept nogil:
    """The bucket of a hash: by its high bits, so that a bucket of any other table is a run of ours."""
    return <uint32_t>((<uint64_t>hash * (t.mask + 1)) >> 32)


cdef inline bint tuple_equal(const Tuple *a, const Tuple *b) noexcept nogil:
    return memcmp(a, b, sizeof(Tuple)) == 0


cdef inline uint32_t source_hash(const Conntrack *t, const Tuple *tuple) noexcept nogil:
    cdef uint64_t h = t.seed ^ tuple.sport ^ (<uint64_t>tuple.proto << 16)
    h = (h ^ (<uint64_t>tuple.src[0] << 32 | tuple.src[1])) * 0x9E3779B97F4A7C15ULL
    h = (h ^ (h >> 29) ^ (<uint64_t>tuple.src[2] << 32 | tuple.src[3])) * 0xC2B2AE3D27D4EB4FULL
    return <uint32_t>(h >> 32)


cdef inline void bucket_link(Conntrack *t, Conn *c, int direction) noexcept nogil:
    cdef uint32_t at = table_row(t, tuple_hash(t, &c.tuple[direction]))
    c.bucket[direction] = at
    c.next[direction] = t.buckets[at]
    # A chain runs through tuples: the low bit of a link says which direction of the connection is meant.
    t.buckets[at] = <Conn *>(<size_t>c | <size_t>direction)


cdef inline Conn *link_conn(Conn *link) noexcept nogil:
    return <Conn *>(<size_t>link & ~<size_t>1)


cdef inline int link_direction(Conn *link) noexcept nogil:
    return <int>(<size_t>link & 1)


cdef inline void bucket_unlink(Conntrack *t, Conn *c, int direction) noexcept nogil:
    cdef Conn **at = &t.buckets[c.bucket[direction]]
    while at[0] != NULL:
        if at[0] == <Conn *>(<size_t>c | <size_t>direction):
            at[0] = c.next[direction]
            return
        at = &link_conn(at[0]).next[link_direction(at[0])]


cdef inline void source_unlink(Conntrack *t, Conn *c) noexcept nogil:
    cdef Conn **at
    if t.by_source == NULL or not c.by_source:
        return
    at = &t.by_source[source_hash(t, &c.tuple[0]) & t.source_mask]
    while at[0] != NULL:
        if at[0] == c:
            at[0] = c.next_by_source
            break
        at = &at[0].next_by_source
    c.by_source = 0


cdef inline bint source_link(Conntrack *t, Conn *c) noexcept nogil:
    cdef uint32_t at
    if t.by_source == NULL:
        t.by_source = <Conn **>calloc(1024, sizeof(Conn *))
        if t.by_source == NULL:
            return False
        t.source_mask = 1023
    at = source_hash(t, &c.tuple[0]) & t.source_mask
    c.next_by_source = t.by_source[at]
    t.by_source[at] = c
    c.by_source = 1
    return True


cdef inline void conn_put(Conntrack *t, Conn *c) noexcept nogil:
    """Give up one hold; the last one gives the memory back."""
    c.uses -= 1
    if c.uses > 0:
        return
    source_unlink(t, c)
    t.count -= 1
    c.next[0] = t.pool.idle
    t.pool.idle = c


cdef inline void conn_kill(Conntrack *t, Conn *c) noexcept nogil:
    """Take the connection out of the table; packets that hold it keep it."""
    if c.status & STATUS_DYING:
        return
    c.status |= STATUS_DYING
    if c.status & STATUS_CONFIRMED:
        if c.hashed & 1:
            bucket_unlink(t, c, DIRECTION_ORIGINAL)
        if c.hashed & 2:
            bucket_unlink(t, c, DIRECTION_REPLY)
        c.hashed = 0
        source_unlink(t, c)
        conn_put(t, c)


cdef inline void table_start(Conntrack *t, int64_t now) noexcept nogil:
    """The first packet says what time it is: what was left to each connection of a dump now ends at a time."""
    cdef int32_t i, j
    cdef Conn *c
    t.waiting = 0
    for i in range(t.pool.chunk_count):
        for j in range(CHUNK if i < t.pool.chunk_count - 1 else t.pool.used):
            c = &t.pool.chunks[i][j]
            if c.uses > 0 and c.status & STATUS_CONFIRMED:
                c.expires += now
                c.began = now
                c.stream_since += now


cdef inline Conn *conn_find_side(
    Conntrack *t, const Tuple *tuple, int64_t now, int *direction, int sides,
) noexcept nogil:
    """The connection that has this tuple in one of the given directions (bits); an expired one is removed and not
    found."""
    cdef Conn *link
    cdef Conn *c
    if t.buckets == NULL:
        return NULL
    if t.waiting:
        table_start(t, now)
    link = t.buckets[table_row(t, tuple_hash(t, tuple))]
    while link != NULL:
        c = link_conn(link)
        direction[0] = link_direction(link)
        link = c.next[direction[0]]
        if not sides >> direction[0] & 1 or not tuple_equal(&c.tuple[direction[0]], tuple):
            continue
        if c.expires <= now:
            conn_kill(t, c)
            continue
        return c
    return NULL


cdef inline Conn *conn_find(Conntrack *t, const Tuple *tuple, int64_t now, int *direction) noexcept nogil:
    """The connection that has this tuple in either of its directions."""
    return conn_find_side(t, tuple, now, direction, 3)


cdef inline bint table_grow(Conntrack *t) noexcept nogil:
    cdef uint32_t size = 2 * (t.mask + 1) if t.buckets != NULL else 512
    cdef uint32_t old_size = t.mask + 1 if t.buckets != NULL else 0
    cdef Conn **old = t.buckets
    cdef Conn **buckets = <Conn **>calloc(size, sizeof(Conn *))
    cdef Conn *link
    cdef Conn *c
    cdef uint32_t i
    cdef int direction
    if buckets == NULL:
        return False
    t.buckets = buckets
    t.mask = size - 1
    for i in range(old_size):
        link = old[i]
        while link != NULL:
            c = link_conn(link)
            direction = link_direction(link)
            link = c.next[direction]
            bucket_link(t, c, direction)
    free(old)
    return True


cdef inline void sweep(Conntrack *t, int64_t now, uint32_t buckets) noexcept nogil:
    """Reclaim what has expired in the next few buckets."""
    cdef Conn *link
    cdef Conn *c
    cdef int direction
    if t.buckets == NULL:
        return
    while buckets:
        buckets -= 1
        t.sweep = (t.sweep + 1) & t.mask
        link = t.buckets[t.sweep]
        while link != NULL:
            c = link_conn(link)
            direction = link_direction(link)
            link = c.next[direction]
            if c.expires <= now:
                # Killing takes out both of its links; start this bucket again.
                conn_kill(t, c)
                link = t.buckets[t.sweep]


cdef inline int early_drop_bucket(Conntrack *t, uint32_t bucket, int64_t now) noexcept nogil:
    """Of one bucket of the kernel's table, every connection that is not assured goes: how many."""
    cdef uint64_t size = t.settings.buckets
    cdef uint32_t low = <uint32_t>(((<uint64_t>bucket << 32) + size - 1) // size)
    cdef uint32_t high = <uint32_t>(((<uint64_t>(bucket + 1) << 32) - 1) // size)
    cdef uint32_t row = table_row(t, low), last = table_row(t, high), hash
    cdef int victims = 0
    cdef Conn *link
    cdef Conn *c
    while row <= last:
        link = t.buckets[row]
        while link != NULL:
            c = link_conn(link)
            hash = tuple_hash(t, &c.tuple[link_direction(link)])
            link = c.next[link_direction(link)]
            if low <= hash <= high and (c.expires <= now or not c.status & STATUS_ASSURED):
                victims += c.expires > now
                # Killing takes out both of its links; start this row again.
                conn_kill(t, c)
                link = t.buckets[row]
        row += 1
    return victims


cdef inline bint early_drop(Conntrack *t, uint32_t hash, int64_t now) noexcept nogil:
    """Make room: the first of eight buckets from the packet's on that holds anything not assured is rid of it. In a
    table with many more buckets than entries there is hardly ever one."""
    cdef uint32_t bucket = <uint32_t>((<uint64_t>hash * t.settings.buckets) >> 32)
    cdef int _, victims
    if t.buckets == NULL:
        return False
    for _ in range(8):
        victims = early_drop_bucket(t, bucket, now)
        if victims:
            t.early_dropped += victims
            return True
        bucket = (bucket + 1) % t.settings.buckets
    return False


cdef inline Conn *conn_make(
    Conntrack *t, const Tuple *tuple, const Tuple *reply, int64_t now, bint *full,
) noexcept nogil:
    """A connection that is not yet in the table, held once by its packet. NULL: the table is full, or no memory."""
    cdef Conn *c
    cdef Conn **chunks
    full[0] = False
    sweep(t, now, 4)
    if t.settings.maximum and t.count + 1 > t.settings.maximum:
        sweep(t, now, t.mask + 1 if t.mask < 4096 else 4096)
        if t.count + 1 > t.settings.maximum and not early_drop(t, tuple_hash(t, tuple), now):
            t.dropped += 1
            t.gc_early = 1
            full[0] = True
            return NULL
    if t.buckets == NULL or 2 * t.count > t.mask:
        if not table_grow(t) and t.buckets == NULL:
            return NULL
    c = t.pool.idle
    if c != NULL:
        t.pool.idle = c.next[0]
    else:
        if t.pool.chunk_count == 0 or t.pool.used == CHUNK:
            chunks = <Conn **>realloc(t.pool.chunks, (t.pool.chunk_count + 1) * sizeof(Conn *))
            if chunks == NULL:
                return NULL
            t.pool.chunks = chunks
            chunks[t.pool.chunk_count] = <Conn *>calloc(CHUNK, sizeof(Conn))
            if chunks[t.pool.chunk_count] == NULL:
                return NULL
            t.pool.chunk_count += 1
            t.pool.used = 0
        c = &t.pool.chunks[t.pool.chunk_count - 1][t.pool.used]
        t.pool.used += 1
    memset(c, 0, sizeof(Conn))
    t.next_id += 1
    c.id = t.next_id
    c.tuple[0] = tuple[0]
    c.tuple[1] = reply[0]
    c.masquerade = -1
    c.uses = 1
    t.count += 1
    return c


cdef inline void table_free(Conntrack *t) noexcept nogil:
    cdef int32_t i
    for i in range(t.pool.chunk_count):
        free(t.pool.chunks[i])
    free(t.pool.chunks)
    free(t.buckets)
    free(t.by_source)
    t.buckets = NULL
    t.by_source = NULL
    memset(&t.pool, 0, sizeof(t.pool))
    t.count = 0
