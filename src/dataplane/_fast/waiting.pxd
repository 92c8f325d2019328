"""Rows of a capture whose packets a host still keeps: for a neighbour, or for the other fragments of their datagram."""

from libc.stdint cimport int64_t
from libc.stdlib cimport realloc

cdef struct WaitingRow:
    int64_t row
    int64_t flow            # index << 1 | 1 for a reply; -1: settled since

cdef struct Waiting:
    WaitingRow *rows        # ascending
    int64_t count
    int64_t room
    int64_t settled


cdef inline bint waiting_add(Waiting *w, int64_t row, int64_t flow) noexcept nogil:
    """Rows must come in their order. False when memory is out."""
    cdef WaitingRow *grown
    cdef int64_t i, kept = 0
    if w.count == w.room and 2 * w.settled > w.count:
        for i in range(w.count):
            if w.rows[i].flow >= 0:
                w.rows[kept] = w.rows[i]
                kept += 1
        w.count = kept
        w.settled = 0
    if w.count == w.room:
        grown = <WaitingRow *>realloc(w.rows, (2 * w.room + 64) * sizeof(WaitingRow))
        if grown == NULL:
            return False
        w.rows = grown
        w.room = 2 * w.room + 64
    w.rows[w.count].row = row
    w.rows[w.count].flow = flow
    w.count += 1
    return True


cdef inline int64_t waiting_take(Waiting *w, int64_t row) noexcept nogil:
    """The flow of a row, which waits no longer; -1 for a row that did not wait, or was settled before."""
    cdef int64_t low = 0, high = w.count, middle, flow
    while low < high:
        middle = (low + high) // 2
        if w.rows[middle].row < row:
            low = middle + 1
        else:
            high = middle
    if low == w.count or w.rows[low].row != row:
        return -1
    flow = w.rows[low].flow
    if flow >= 0:
        w.rows[low].flow = -1
        w.settled += 1
    return flow
