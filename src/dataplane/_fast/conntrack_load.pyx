"""Putting connections into a table that no packet has made: those of a host's dump."""

from libc.string cimport memset

from dataplane._fast.address cimport address_words
from dataplane._fast.conntrack cimport Conn, ConnectionTable, STATUS_CONFIRMED, STATUS_SRC_NAT, Tuple, ZONE_ORIGINAL, ZONE_REPLY
from dataplane._fast.conntrack_table cimport bucket_link, conn_make, source_link
from dataplane._fast.conntrack_tcp cimport INDEX_NONE, SIDE_BE_LIBERAL, SIDE_SACK_PERM
from dataplane._fast.track cimport STREAM_AFTER
from dataplane._fast.wire cimport IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP

from dataplane._fast.conntrack import SCTP_STATES as _SCTP_STATES, TCP_STATES as _TCP_STATES


cdef int row_tuple(Tuple *tuple, int protocol, object row) except -1:
    memset(tuple, 0, sizeof(Tuple))
    tuple.family = address_words(row[0], tuple.src)
    address_words(row[1], tuple.dst)
    tuple.sport = row[2]
    tuple.dport = row[3]
    tuple.proto = protocol
    return 0


def load_connections(ConnectionTable table not None, rows):
    """Take over connections, each (protocol number, time left in ns, state name or None, status bits, mark, original,
    reply, packets of both, bytes of both, zone, ZoneFlag bits); see ConnectionTable.rows.

    Their time runs from the first packet on. What the ends of TCP have said of their windows is not known, so both
    are liberal. Raises ValueError for a state that the protocol does not have.
    """
    cdef Tuple original, reply
    cdef Conn *c
    cdef bint full = False
    for protocol, left, state, status, mark, there, back, packets, size, zone, flags in rows:
        row_tuple(&original, protocol, there)
        row_tuple(&reply, protocol, back)
        original.zone = zone if flags & ZONE_ORIGINAL else 0
        reply.zone = zone if flags & ZONE_REPLY else 0
        c = conn_make(&table.table, &original, &reply, -1, &full)
        if c == NULL:
            return
        c.status = status | STATUS_CONFIRMED
        c.mark = mark
        c.expires = left
        c.zone.id = zone
        c.zone.flags = flags
        c.packets[0], c.packets[1] = packets
        c.bytes[0], c.bytes[1] = size
        if protocol == IPPROTO_TCP:
            c.tcp.state = _TCP_STATES.index(state)
            c.tcp.seen[0].flags = c.tcp.seen[1].flags = SIDE_SACK_PERM | SIDE_BE_LIBERAL
            c.tcp.last_index = INDEX_NONE
        elif protocol == IPPROTO_UDP:
            # As if it had begun with its last packet, which is the latest that it can have.
            c.stream_since = left - table.table.settings.udp_timeout + STREAM_AFTER
        elif protocol == IPPROTO_SCTP:
            c.sctp.state = _SCTP_STATES.index(state)
        c.hashed = 3
        bucket_link(&table.table, c, 0)
        bucket_link(&table.table, c, 1)
        if c.status & STATUS_SRC_NAT:
            source_link(&table.table, c)
        table.table.waiting = 1
