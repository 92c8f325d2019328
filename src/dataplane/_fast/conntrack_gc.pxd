"""The kernel's collector, where it shows: after a full table it takes what early drop would not have found.

Source: net/netfilter/nf_conntrack_core.c (gc_worker). Expired connections need no collector here: they are not found.
"""

from libc.stdint cimport int64_t, uint32_t

from dataplane._fast.conntrack cimport Conn, Conntrack, STATUS_ASSURED
from dataplane._fast.conntrack_sctp cimport SCTP_SHUTDOWN_ACK_SENT, SCTP_SHUTDOWN_SENT
from dataplane._fast.conntrack_table cimport conn_kill, link_conn, link_direction, table_start
from dataplane._fast.conntrack_tcp cimport TCP_CLOSE, TCP_FIN_WAIT
from dataplane._fast.wire cimport IPPROTO_SCTP, IPPROTO_TCP

cdef enum:
    # ns. The kernel's collector comes by every 1 to 60 seconds, the more seldom the longer connections live; with the
    # usual timeouts it is 60.
    GC_INTERVAL = 60000000000


cdef inline bint dispensable(const Conn *c) noexcept nogil:
    """Not assured, or closing (gc_worker_can_early_drop)."""
    if not c.status & STATUS_ASSURED:
        return True
    if c.tuple[0].proto == IPPROTO_TCP:
        return TCP_FIN_WAIT <= c.tcp.state <= TCP_CLOSE
    if c.tuple[0].proto == IPPROTO_SCTP:
        return SCTP_SHUTDOWN_SENT <= c.sctp.state <= SCTP_SHUTDOWN_ACK_SENT
    return False


cdef inline void gc_early_drop(Conntrack *t, int64_t now) noexcept nogil:
    """Down to 95 % of the limit, if what is dispensable suffices."""
    cdef int64_t enough = t.settings.maximum // 100 * 95
    cdef uint32_t row
    cdef Conn *link
    cdef Conn *c
    if t.buckets == NULL or enough == 0:
        return
    row = 0
    while row <= t.mask:
        link = t.buckets[row]
        while link != NULL:
            c = link_conn(link)
            link = c.next[link_direction(link)]
            if c.expires <= now or (t.count >= enough and dispensable(c)):
                # Killing takes out both of its links; start this row again.
                conn_kill(t, c)
                link = t.buckets[row]
        row += 1


cdef inline void gc_pass(Conntrack *t, int64_t now) noexcept nogil:
    """Before a new connection: the collector's turn, if it is."""
    if t.waiting:
        table_start(t, now)
    if now < t.gc_due:
        return
    t.gc_due = now + GC_INTERVAL
    if t.gc_early:
        t.gc_early = 0
        gc_early_drop(t, now)
