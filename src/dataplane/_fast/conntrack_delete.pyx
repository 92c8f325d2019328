"""Taking connections out of a running host's table: what `conntrack -D` and its netlink message do."""

from libc.stdint cimport int32_t, int64_t, uint8_t

from dataplane._fast.address cimport words_address
from dataplane._fast.conntrack cimport Conn, ConnectionTable, STATUS_CONFIRMED, STATUS_DST_NAT, STATUS_DYING
from dataplane._fast.conntrack_table cimport conn_kill


def delete_connections(ConnectionTable table not None, int64_t now, int protocol, int family, stale):
    """Delete the connections of one protocol and family that `stale` names; how many there were.

    stale: called with (original destination, its port, source of the reply, its port, whether the destination was
    translated) of each connection that lives at `now`, ns, in the order of the table's memory.
    """
    cdef int32_t i, j, last
    cdef Conn *c
    found = 0
    for i in range(table.table.pool.chunk_count):
        last = 256 if i < table.table.pool.chunk_count - 1 else table.table.pool.used
        for j in range(last):
            c = &table.table.pool.chunks[i][j]
            if c.uses <= 0 or not c.status & STATUS_CONFIRMED or c.status & STATUS_DYING or c.expires <= now:
                continue
            if c.tuple[0].proto != <uint8_t>protocol or c.tuple[0].family != <uint8_t>family:
                continue
            if stale(
                words_address(c.tuple[0].dst, c.tuple[0].family), c.tuple[0].dport,
                words_address(c.tuple[1].src, c.tuple[1].family), c.tuple[1].sport,
                bool(c.status & STATUS_DST_NAT),
            ):
                conn_kill(&table.table, c)
                found += 1
    return found
