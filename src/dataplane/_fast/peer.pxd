"""How often a host speaks to one peer (net/ipv4/inetpeer.c), and to all of them (net/ipv4/icmp.c).

All kinds of messages to an address share one bucket, and its time is counted in jiffies. The table is bounded: who was not
spoken to for longest is forgotten first.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy, memset

from dataplane._fast.fib cimport same_address
from dataplane._fast.jiffy cimport jiffies
from dataplane._fast.network cimport Bucket, Host

cdef enum:
    PEERS = 2048
    PEER_WAYS = 8
    SECOND = 1000000000
    REDIRECT_LOAD = 20000000    # ns: net.ipv4.route.redirect_load, doubled with every redirect
    REDIRECT_NUMBER = 9         # net.ipv4.route.redirect_number
    REDIRECT_SILENCE = 20480000000


cdef inline bint global_allow(Host *host, int64_t now) noexcept nogil:
    """icmp_global_allow: a bucket that all ICMP errors of the host share. Its random step is left out."""
    cdef int64_t gained
    if host.icmp_messages_per_second == 0:
        return False
    if host.icmp_global_last == 0:
        host.icmp_global_tokens = host.icmp_messages_burst
        host.icmp_global_last = now
    gained = (now - host.icmp_global_last) * host.icmp_messages_per_second // 1000000000
    if gained > 0:
        host.icmp_global_last = now
        host.icmp_global_tokens += gained
        if host.icmp_global_tokens > host.icmp_messages_burst:
            host.icmp_global_tokens = host.icmp_messages_burst
    if host.icmp_global_tokens <= 0:
        return False
    host.icmp_global_tokens -= 1
    return True


cdef inline Bucket *peer_of(Host *host, const uint32_t *address, int64_t now) noexcept nogil:
    """What is remembered of an address; NULL where there is no memory for it. A new peer was never spoken to."""
    cdef Bucket *b
    cdef Bucket *oldest = NULL
    cdef uint64_t h
    cdef int i
    if host.buckets == NULL:
        host.buckets = <Bucket *>calloc(PEERS, sizeof(Bucket))
        if host.buckets == NULL:
            return NULL
    h = (address[0] ^ (<uint64_t>address[1] << 32)) * 0x9E3779B97F4A7C15ULL
    h = (h ^ address[2] ^ (<uint64_t>address[3] << 32)) * 0xC2B2AE3D27D4EB4FULL
    for i in range(PEER_WAYS):
        b = &host.buckets[((h >> 40) & (PEERS // PEER_WAYS - 1)) * PEER_WAYS + i]
        if b.used and same_address(b.address, address):
            return b
        if oldest == NULL or not b.used or (oldest.used and b.last < oldest.last):
            oldest = b
    memset(oldest, 0, sizeof(Bucket))
    oldest.used = 1
    memcpy(oldest.address, address, 16)
    oldest.last = jiffies(now) - 60 * <int64_t>SECOND
    return oldest


cdef inline bint take(Bucket *b, int64_t limit, int64_t burst) noexcept nogil:
    if b.tokens > burst:
        b.tokens = burst
    if b.tokens < limit:
        return False
    b.tokens -= limit
    return True


cdef inline bint peer_allow(Host *host, const uint32_t *address, int64_t limit, int64_t now) noexcept nogil:
    """inet_peer_xrlim_allow: one message a `limit`, six in a burst. A message without a limit empties the bucket, if the
    clock moved since the last one."""
    cdef Bucket *b = peer_of(host, address, now)
    cdef int64_t tick = jiffies(now)
    if b == NULL:
        return True
    if b.last != tick:
        b.tokens += tick - b.last
        b.last = tick
        return take(b, limit, 6 * limit)
    return take(b, limit, b.tokens)


cdef inline bint route_error_allow(Host *host, const uint32_t *address, int64_t now) noexcept nogil:
    """ip_error: what has no route is said once a second to each sender, five times in a burst (net.ipv4.route.error_*)."""
    cdef Bucket *b = peer_of(host, address, now)
    if b == NULL:
        return True
    b.tokens += jiffies(now) - b.last
    b.last = jiffies(now)
    return take(b, SECOND, 5 * <int64_t>SECOND)


cdef inline bint redirect_allow(Host *host, const uint32_t *address, int64_t now) noexcept nogil:
    """ip_rt_send_redirect: each one is waited for twice as long; who does not listen is left alone for a while."""
    cdef Bucket *b = peer_of(host, address, now)
    cdef int64_t tick = jiffies(now)
    if b == NULL:
        return True
    if tick > b.last + REDIRECT_SILENCE:
        b.tokens = 0
        b.redirects = 0
    if b.redirects >= REDIRECT_NUMBER:
        b.last = tick
        return False
    if b.redirects and tick <= b.last + (<int64_t>REDIRECT_LOAD << b.redirects):
        return False
    b.last = tick
    b.redirects += 1
    return True
