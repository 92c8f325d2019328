"""How many connections an address has: the memory of `-m connlimit` (facts of net/netfilter/nf_conncount.c).

For each address (masked) the tuples of its connections. Whenever an address is counted, those that tracking no longer
knows or that have closed are forgotten.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

from dataplane._fast.conntrack cimport Conn, Conntrack, Tuple
from dataplane._fast.conntrack_table cimport conn_find, tuple_equal
from dataplane._fast.conntrack_tcp cimport TCP_CLOSE, TCP_TIME_WAIT
from dataplane._fast.wire cimport IPPROTO_TCP

cdef enum:
    CONNCOUNT_ROWS = 256

cdef struct ConncountKey:
    uint32_t address[4]
    Tuple *tuples
    int32_t count
    int32_t room
    ConncountKey *next

cdef struct Conncount:
    ConncountKey **rows     # NULL until the first packet
    uint32_t sweep          # row whose dead connections are forgotten next


cdef inline void conncount_forget(ConncountKey *key, Conntrack *t, const Tuple *tuple, int64_t now) noexcept nogil:
    """Forget connections that are over; not the one that `tuple`, which may be NULL, names."""
    cdef int32_t i = 0
    cdef int direction = 0
    cdef Conn *c
    while i < key.count:
        c = conn_find(t, &key.tuples[i], now, &direction) if t != NULL else NULL
        if c == NULL or (
            (tuple == NULL or not tuple_equal(&key.tuples[i], tuple))
            and c.tuple[0].proto == IPPROTO_TCP
            and (c.tcp.state == TCP_TIME_WAIT or c.tcp.state == TCP_CLOSE)
        ):
            key.count -= 1
            key.tuples[i] = key.tuples[key.count]
        else:
            i += 1


cdef inline void conncount_sweep(Conncount *counts, Conntrack *t, int64_t now) noexcept nogil:
    """Give back the addresses of one row that have no connection left."""
    cdef ConncountKey **link = &counts.rows[counts.sweep % CONNCOUNT_ROWS]
    cdef ConncountKey *key
    counts.sweep += 1
    while link[0] != NULL:
        key = link[0]
        conncount_forget(key, t, NULL, now)
        if key.count:
            link = &key.next
        else:
            link[0] = key.next
            free(key.tuples)
            free(key)


cdef inline int32_t conncount_add(
    Conncount *counts, Conntrack *t, const uint32_t *address, const Tuple *tuple, int64_t now,
) noexcept nogil:
    """Count a connection to its address, and give how many that has now; 0 when memory is out."""
    cdef ConncountKey *key
    cdef Tuple *grown
    cdef uint32_t row = (address[0] ^ address[1] ^ address[2] ^ address[3]) * 0x9E3779B1U >> 24
    cdef int32_t i, room
    if counts.rows == NULL:
        counts.rows = <ConncountKey **>calloc(CONNCOUNT_ROWS, sizeof(ConncountKey *))
        if counts.rows == NULL:
            return 0
    key = counts.rows[row]
    while key != NULL and memcmp(key.address, address, 16) != 0:
        key = key.next
    if key == NULL:
        conncount_sweep(counts, t, now)
        key = <ConncountKey *>calloc(1, sizeof(ConncountKey))
        if key == NULL:
            return 0
        memcpy(key.address, address, 16)
        key.next = counts.rows[row]
        counts.rows[row] = key
    conncount_forget(key, t, tuple, now)
    for i in range(key.count):
        if tuple_equal(&key.tuples[i], tuple):
            return key.count
    if key.count == key.room:
        room = 4 if key.room == 0 else key.room * 2
        grown = <Tuple *>realloc(key.tuples, room * sizeof(Tuple))
        if grown == NULL:
            return 0
        key.tuples = grown
        key.room = room
    key.tuples[key.count] = tuple[0]
    key.count += 1
    return key.count


cdef inline void conncount_clear(Conncount *counts) noexcept nogil:
    cdef ConncountKey *key
    cdef int i
    if counts.rows == NULL:
        return
    for i in range(CONNCOUNT_ROWS):
        while counts.rows[i] != NULL:
            key = counts.rows[i]
            counts.rows[i] = key.next
            free(key.tuples)
            free(key)
    free(counts.rows)
    counts.rows = NULL
