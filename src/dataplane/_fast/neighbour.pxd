"""Neighbours: which MAC an address has on a link, and the packets that wait to know it.

Source: net/core/neighbour.c. The table only keeps; what is sent, and when, is decided in arp.pxd and ndisc.pxd.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from dataplane._fast.fib cimport same_address
from dataplane._fast.packet cimport Packet

cpdef enum NeighbourState:
    """NUD_ bits of the kernel."""
    NUD_NONE = 0
    NUD_INCOMPLETE = 1
    NUD_REACHABLE = 2
    NUD_STALE = 4
    NUD_DELAY = 8
    NUD_PROBE = 16
    NUD_FAILED = 32
    NUD_NOARP = 64
    NUD_PERMANENT = 128

cdef enum:
    NUD_CONNECTED = 2 | 64 | 128
    NUD_VALID = 2 | 4 | 8 | 16 | 64 | 128
    NUD_IN_TIMER = 1 | 2 | 8 | 16
    QUEUE_OVERHEAD = 640            # what a queued packet weighs beyond its bytes (struct sk_buff and its shared info)

cdef struct Neighbour:
    uint32_t address[4]
    uint64_t mac
    int64_t confirmed       # ns: last proof that it is there
    int64_t used
    int64_t updated
    int64_t timer           # when to look again; 0 none
    Packet *queue_head
    Packet *queue_tail
    uint32_t queue_bytes
    int32_t slot
    uint8_t family
    uint8_t state           # NeighbourState
    uint8_t probes
    uint8_t router
    uint8_t proxy           # an entry of `ip neigh add proxy`: answered for, never used to send
    Neighbour *next

cdef struct Neighbours:
    Neighbour **buckets
    uint32_t mask
    int32_t count
    int32_t limit           # gc_thresh3


cdef inline uint32_t neighbour_hash(const uint32_t *address, int32_t slot) noexcept nogil:
    cdef uint64_t h = address[3] ^ (<uint64_t>address[2] << 32)
    h = (h ^ <uint64_t>slot << 20) * 0x9E3779B97F4A7C15ULL
    h = (h ^ address[0] ^ (<uint64_t>address[1] << 32)) * 0xC2B2AE3D27D4EB4FULL
    return <uint32_t>(h >> 32)


cdef inline Neighbour *neighbour_find(
    const Neighbours *table, uint8_t family, const uint32_t *address, int32_t slot, bint proxy,
) noexcept nogil:
    cdef Neighbour *n
    if table.buckets == NULL:
        return NULL
    n = table.buckets[neighbour_hash(address, slot) & table.mask]
    while n != NULL:
        if n.slot == slot and n.family == family and n.proxy == proxy and same_address(n.address, address):
            return n
        n = n.next
    return NULL


cdef inline int neighbours_grow(Neighbours *table) noexcept nogil:
    cdef uint32_t size = 2 * (table.mask + 1) if table.buckets != NULL else 8
    cdef uint32_t i, at
    cdef Neighbour *n
    cdef Neighbour *following
    cdef Neighbour **buckets = <Neighbour **>calloc(size, sizeof(Neighbour *))
    if buckets == NULL:
        return -1
    if table.buckets != NULL:
        for i in range(table.mask + 1):
            n = table.buckets[i]
            while n != NULL:
                following = n.next
                at = neighbour_hash(n.address, n.slot) & (size - 1)
                n.next = buckets[at]
                buckets[at] = n
                n = following
        free(table.buckets)
    table.buckets = buckets
    table.mask = size - 1
    return 0


cdef inline Neighbour *neighbour_create(
    Neighbours *table, uint8_t family, const uint32_t *address, int32_t slot,
) noexcept nogil:
    """A new entry in state NUD_NONE; NULL when the table is full or memory is out."""
    cdef Neighbour *n
    cdef uint32_t at
    if table.count >= table.limit:
        return NULL
    if table.buckets == NULL or <uint32_t>table.count > table.mask:
        if neighbours_grow(table) < 0:
            return NULL
    n = <Neighbour *>calloc(1, sizeof(Neighbour))
    if n == NULL:
        return NULL
    memcpy(n.address, address, 16)
    n.family = family
    n.slot = slot
    at = neighbour_hash(address, slot) & table.mask
    n.next = table.buckets[at]
    table.buckets[at] = n
    table.count += 1
    return n


cdef inline Neighbour *neighbour_get(
    Neighbours *table, uint8_t family, const uint32_t *address, int32_t slot,
) noexcept nogil:
    cdef Neighbour *n = neighbour_find(table, family, address, slot, False)
    if n == NULL:
        n = neighbour_create(table, family, address, slot)
    return n


cdef inline void neighbour_enqueue(Neighbour *n, Packet *p) noexcept nogil:
    p.next = NULL
    if n.queue_tail == NULL:
        n.queue_head = p
    else:
        n.queue_tail.next = p
    n.queue_tail = p
    n.queue_bytes += <uint32_t>(p.tail - p.net) + QUEUE_OVERHEAD


cdef inline Packet *neighbour_dequeue(Neighbour *n) noexcept nogil:
    cdef Packet *p = n.queue_head
    if p != NULL:
        n.queue_head = p.next
        if n.queue_head == NULL:
            n.queue_tail = NULL
        n.queue_bytes -= <uint32_t>(p.tail - p.net) + QUEUE_OVERHEAD
        p.next = NULL
    return p


cdef inline void neighbours_free(Neighbours *table) noexcept nogil:
    """Free the entries. Queued packets belong to the walk's pool and are not touched."""
    cdef uint32_t i
    cdef Neighbour *n
    cdef Neighbour *following
    if table.buckets == NULL:
        return
    for i in range(table.mask + 1):
        n = table.buckets[i]
        while n != NULL:
            following = n.next
            free(n)
            n = following
    free(table.buckets)
    memset(table, 0, sizeof(Neighbours))
