"""Lists of addresses that were seen: the memory of `-m recent` (facts of net/netfilter/xt_recent.c).

A list holds up to `limit` addresses; one more drives out the one that was touched longest ago. Each address keeps the
times of its last hits in a ring. Entries are made when an address is first seen: most lists of a host stay empty.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

cdef enum:
    RECENT_BUCKETS = 32
    RECENT_LIMIT = 100      # ip_list_tot

cdef struct RecentEntry:
    uint32_t address[4]
    uint8_t family
    uint8_t ttl             # of the packet that touched it last
    uint32_t used           # stamps in use
    uint32_t index          # where the next stamp goes
    RecentEntry *newer
    RecentEntry *older
    RecentEntry *next       # in its bucket
    int64_t *stamps         # ns

cdef struct RecentList:
    uint32_t mask[4]
    uint32_t stamps         # that each entry keeps: a power of two
    int32_t count
    int32_t limit
    RecentEntry *oldest
    RecentEntry *newest
    RecentEntry **buckets   # NULL until the first entry


cdef inline uint32_t recent_bucket(const uint32_t *address) noexcept nogil:
    cdef uint32_t h = address[0] ^ address[1] ^ address[2] ^ address[3]
    return (h * 0x9E3779B1U) >> 27


cdef inline RecentEntry *recent_find(
    const RecentList *list, const uint32_t *address, uint8_t family, uint8_t ttl,
) noexcept nogil:
    """The entry of an address; `ttl` 0 takes it with any TTL."""
    cdef RecentEntry *e
    if list.buckets == NULL:
        return NULL
    e = list.buckets[recent_bucket(address)]
    while e != NULL:
        if (memcmp(e.address, address, 16) == 0 and e.family == family
                and (ttl == e.ttl or ttl == 0 or e.ttl == 0)):
            return e
        e = e.next
    return NULL


cdef inline void recent_unlink(RecentList *list, RecentEntry *e) noexcept nogil:
    """Take an entry out of the order of use."""
    if e.older != NULL:
        e.older.newer = e.newer
    else:
        list.oldest = e.newer
    if e.newer != NULL:
        e.newer.older = e.older
    else:
        list.newest = e.older


cdef inline void recent_append(RecentList *list, RecentEntry *e) noexcept nogil:
    """Make an entry the one that was used last."""
    e.newer = NULL
    e.older = list.newest
    if list.newest != NULL:
        list.newest.newer = e
    else:
        list.oldest = e
    list.newest = e


cdef inline void recent_remove(RecentList *list, RecentEntry *e) noexcept nogil:
    cdef RecentEntry **link = &list.buckets[recent_bucket(e.address)]
    while link[0] != e:
        link = &link[0].next
    link[0] = e.next
    recent_unlink(list, e)
    list.count -= 1
    free(e)


cdef inline RecentEntry *recent_create(
    RecentList *list, const uint32_t *address, uint8_t family, uint8_t ttl, int64_t now,
) noexcept nogil:
    """A new entry with its first stamp; NULL when memory is out."""
    cdef RecentEntry *e
    cdef uint32_t bucket
    if list.buckets == NULL:
        list.buckets = <RecentEntry **>calloc(RECENT_BUCKETS, sizeof(RecentEntry *))
        if list.buckets == NULL:
            return NULL
    if list.count >= list.limit:
        recent_remove(list, list.oldest)
    e = <RecentEntry *>malloc(sizeof(RecentEntry) + list.stamps * sizeof(int64_t))
    if e == NULL:
        return NULL
    e.stamps = <int64_t *>(e + 1)
    memcpy(e.address, address, 16)
    e.family = family
    e.ttl = ttl
    e.stamps[0] = now
    e.used = 1
    e.index = 1
    bucket = recent_bucket(address)
    e.next = list.buckets[bucket]
    list.buckets[bucket] = e
    recent_append(list, e)
    list.count += 1
    return e


cdef inline void recent_touch(RecentList *list, RecentEntry *e, int64_t now) noexcept nogil:
    """Another hit."""
    e.index &= list.stamps - 1
    e.stamps[e.index] = now
    e.index += 1
    if e.index > e.used:
        e.used = e.index
    recent_unlink(list, e)
    recent_append(list, e)


cdef inline void recent_reap(RecentList *list, int64_t since, const RecentEntry *working, bint updated) noexcept nogil:
    """Drop the entry that was used longest ago, if its last hit is older than `since`; not the one being updated."""
    cdef RecentEntry *e = list.oldest
    if e == NULL or (e == working and updated):
        return
    if since > e.stamps[e.index - 1]:
        recent_remove(list, e)


cdef inline void recent_clear(RecentList *list) noexcept nogil:
    while list.oldest != NULL:
        recent_remove(list, list.oldest)
    free(list.buckets)
    list.buckets = NULL
