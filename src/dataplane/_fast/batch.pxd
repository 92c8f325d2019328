"""Packets in a batch: one byte arena, and one array for each thing that is known of a packet.

Kernels take `Rows` (pointers into the arrays); numpy owns the memory and `PacketBatch` owns the arrays.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from dataplane._fast.link cimport NO_NETWORK

cpdef enum:
    HEADROOM = 128      # free bytes before each packet: encapsulation moves the head down into them
    TAILROOM = 64       # free bytes after each packet: kernels may load whole words past its end

cdef struct Rows:
    uint8_t *arena
    int64_t arena_size
    int64_t *offset         # of the first captured byte in the arena
    uint32_t *length        # captured bytes
    uint32_t *original      # bytes on the wire
    int64_t *time           # ns since the epoch
    int32_t *interface      # index into the capture's interfaces, or the walk's places
    uint32_t *mark
    uint8_t *verdict        # Verdict
    uint16_t *reason        # Reason
    uint16_t *link_type     # LinkType
    uint16_t *network       # offset of the network header from the first captured byte, or NO_NETWORK
    uint16_t *protocol      # ethertype of the network header, host order; 0 when not known
    int64_t count           # rows in use
    int64_t capacity
    int64_t used            # arena bytes in use


cdef inline bint batch_room(const Rows *rows, uint32_t length) noexcept nogil:
    """Whether one more packet of `length` bytes fits, with its headroom and tailroom."""
    return rows.count < rows.capacity and rows.arena_size - rows.used >= <int64_t>length + HEADROOM + TAILROOM


cdef inline bint batch_append(
    Rows *rows, const uint8_t *data, uint32_t length, uint32_t original, int64_t time, int32_t interface,
    uint16_t link_type,
) noexcept nogil:
    """Copy a packet into a new row, not yet decoded. False, and nothing changed, when it does not fit."""
    cdef int64_t i = rows.count
    cdef int64_t at
    if not batch_room(rows, length):
        return False
    at = rows.used + HEADROOM
    memcpy(rows.arena + at, data, length)
    rows.offset[i] = at
    rows.length[i] = length
    rows.original[i] = original
    rows.time[i] = time
    rows.interface[i] = interface
    rows.mark[i] = 0
    rows.verdict[i] = 0
    rows.reason[i] = 0
    rows.link_type[i] = link_type
    rows.network[i] = NO_NETWORK
    rows.protocol[i] = 0
    rows.used = at + length + TAILROOM
    rows.count = i + 1
    return True


cdef class PacketBatch:
    cdef Rows rows
    cdef readonly object arena
    cdef readonly object offset
    cdef readonly object length
    cdef readonly object original
    cdef readonly object time
    cdef readonly object interface
    cdef readonly object mark
    cdef readonly object verdict
    cdef readonly object reason
    cdef readonly object link_type
    cdef readonly object network
    cdef readonly object protocol
