"""Token buckets by address and port: the memory of `-m hashlimit` (facts of net/netfilter/xt_hashlimit.c).

All rules that name a table share it, and the settings of the first of them hold. A bucket that was idle for `expire`
is full again. Times in ns. A limit of packets has credit in ns; one of bytes has credit by the jiffy, and a number of
times that it may be filled again at once (the burst); --hashlimit-rate-match counts by windows of time instead.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from dataplane._fast.jiffy cimport JIFFY, jiffies

cdef enum:
    HASHLIMIT_WORDS = 9     # destination, source, ports
    BYTE_CREDIT = 1 << 24   # of a jiffy: the power of two below 2^32 / HZ; a full bucket has a second's

cdef enum HashlimitMode:
    HASHLIMIT_BYTES = 1
    HASHLIMIT_WINDOWS = 2   # --hashlimit-rate-match

cdef struct HashlimitBucket:
    uint32_t key[9]
    int64_t then            # when the credit was counted last
    int64_t expires
    uint64_t credit         # with windows: packets or bytes of this one
    uint64_t refills        # left of the burst, for bytes
    uint8_t exceeded        # whether the window before was above its rate
    HashlimitBucket *next

cdef struct HashlimitTable:
    uint32_t destination[4]     # masks of what is told apart
    uint32_t source[4]
    uint32_t ports              # destination port in the low half, source port in the high half
    uint64_t cost               # of a packet, or of 16 bytes; with windows: packets or bytes in a second
    uint64_t full
    uint64_t burst              # of bytes: refills; with windows: packets or bytes of one
    int64_t interval            # jiffies of a window
    uint8_t mode                # HashlimitMode
    int64_t expire
    int64_t limit               # buckets; a packet that needs one more is dropped
    int64_t count
    HashlimitBucket **rows      # NULL until the first packet
    uint32_t mask
    uint32_t sweep              # row whose idle buckets are given back next
    int64_t idle                # no bucket is idle before this; known after the full table was searched, ns


cdef inline uint32_t hashlimit_hash(const uint32_t *key) noexcept nogil:
    cdef uint64_t h = 0
    cdef int i
    for i in range(HASHLIMIT_WORDS):
        h = (h ^ key[i]) * 0x9E3779B97F4A7C15ULL
        h ^= h >> 29
    return <uint32_t>(h >> 24)


cdef inline void hashlimit_reap(HashlimitTable *t, uint32_t row, int64_t now) noexcept nogil:
    """Give back the idle buckets of one row."""
    cdef HashlimitBucket **link = &t.rows[row]
    cdef HashlimitBucket *b
    while link[0] != NULL:
        b = link[0]
        if b.expires < now:
            link[0] = b.next
            free(b)
            t.count -= 1
        else:
            link = &b.next


cdef inline void hashlimit_collect(HashlimitTable *t, int64_t now) noexcept nogil:
    """Give back every idle bucket, as the kernel's timer has done long since; a search finds when it is worth the next."""
    cdef HashlimitBucket *b
    cdef uint32_t row
    if now <= t.idle:
        return
    t.idle = now + t.expire
    for row in range(t.mask + 1):
        hashlimit_reap(t, row, now)
        b = t.rows[row]
        while b != NULL:
            if b.expires < t.idle:
                t.idle = b.expires
            b = b.next


cdef inline bint hashlimit_grow(HashlimitTable *t) noexcept nogil:
    """Twice the rows; False when memory is out and there are none."""
    cdef uint32_t size = (t.mask + 1) * 2 if t.rows != NULL else 16
    cdef HashlimitBucket **rows = <HashlimitBucket **>calloc(size, sizeof(HashlimitBucket *))
    cdef HashlimitBucket *b
    cdef HashlimitBucket *following
    cdef uint32_t i, at
    if rows == NULL:
        return t.rows != NULL
    if t.rows != NULL:
        for i in range(t.mask + 1):
            b = t.rows[i]
            while b != NULL:
                following = b.next
                at = hashlimit_hash(b.key) & (size - 1)
                b.next = rows[at]
                rows[at] = b
                b = following
        free(t.rows)
    t.rows = rows
    t.mask = size - 1
    t.sweep = 0
    return True


cdef inline void hashlimit_pass(HashlimitTable *t, HashlimitBucket *b, int64_t now) noexcept nogil:
    """Time passes for a bucket that counts by the jiffy."""
    cdef int64_t passed = (jiffies(now) - jiffies(b.then)) // JIFFY
    if passed <= 0:
        return
    if t.mode & HASHLIMIT_WINDOWS:
        if passed < t.interval:
            return
        b.exceeded = b.credit * <uint64_t>t.interval > <uint64_t>passed * t.cost
        b.credit = 0
    else:
        b.credit += BYTE_CREDIT * <uint64_t>passed
        if b.credit > t.full:
            b.credit = t.full
    b.then = now


cdef inline bint hashlimit_below(const HashlimitTable *t, HashlimitBucket *b, uint32_t size) noexcept nogil:
    """Take what a packet of `size` bytes costs; False where it is above the limit."""
    cdef uint64_t cost = t.cost
    if t.mode & HASHLIMIT_WINDOWS:
        b.credit += size if t.mode & HASHLIMIT_BYTES else 1
        return not b.exceeded and b.credit <= t.burst
    if t.mode & HASHLIMIT_BYTES:
        cost *= (size >> 4) + 1
        if cost > t.full:
            cost = t.full
        if b.credit < cost and b.refills:
            b.refills -= 1
            b.credit = t.full
    if b.credit < cost:
        return False
    b.credit -= cost
    return True


cdef inline HashlimitBucket *hashlimit_bucket(HashlimitTable *t, const uint32_t *key, int64_t now) noexcept nogil:
    """The bucket of a key with its credit as of now; a full one where it is new; NULL when the table is full."""
    cdef HashlimitBucket *b
    cdef uint32_t row
    cdef uint64_t passed
    if (t.rows == NULL or t.count > t.mask) and not hashlimit_grow(t):
        return NULL
    hashlimit_reap(t, t.sweep & t.mask, now)
    t.sweep += 1
    row = hashlimit_hash(key) & t.mask
    hashlimit_reap(t, row, now)
    b = t.rows[row]
    while b != NULL and memcmp(b.key, key, sizeof(b.key)) != 0:
        b = b.next
    if b == NULL:
        if t.count >= t.limit:
            hashlimit_collect(t, now)
        if t.count >= t.limit:
            return NULL
        b = <HashlimitBucket *>malloc(sizeof(HashlimitBucket))
        if b == NULL:
            return NULL
        memcpy(b.key, key, sizeof(b.key))
        b.then = now
        b.credit = t.full
        b.refills = t.burst
        b.exceeded = False
        b.next = t.rows[row]
        t.rows[row] = b
        t.count += 1
    elif t.mode:
        hashlimit_pass(t, b, now)
    elif now > b.then:
        passed = <uint64_t>(now - b.then)
        b.credit = t.full if passed >= t.full - b.credit else b.credit + passed
        b.then = now
    b.expires = now + t.expire
    return b


cdef inline void hashlimit_clear(HashlimitTable *t) noexcept nogil:
    cdef HashlimitBucket *b
    cdef uint32_t i
    if t.rows == NULL:
        return
    for i in range(t.mask + 1):
        while t.rows[i] != NULL:
            b = t.rows[i]
            t.rows[i] = b.next
            free(b)
    free(t.rows)
    t.rows = NULL
    t.count = 0
    t.idle = 0
