"""How long packets take, one by one: the walk, or writes to a descriptor, with a clock around them.

The clock is CLOCK_MONOTONIC, read before and after each group of packets; `clock_cost` says what reading it costs, which
is part of every figure here. Nothing in this module runs unless someone measures.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import numpy as np

from dataplane._fast.batch cimport PacketBatch, Rows
from dataplane._fast.host cimport CompiledHost
from dataplane._fast.link cimport NO_NETWORK
from dataplane._fast.network cimport Delivery, Network
from dataplane._fast.packet cimport Packet
from dataplane._fast.rule_event cimport RuleEvent, RuleTap
from dataplane._fast.walk cimport Walk, packet_of_row, walk_frame, walk_send, walk_until

from dataplane._fast.rules import EVENT_DTYPE

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)

cdef extern from "<unistd.h>" nogil:
    Py_ssize_t write(int fd, const void *data, size_t size)


cdef inline int64_t clock_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1_000_000_000 + now.tv_nsec


def clock_cost(int count=1000):
    """ns between two readings of the clock with nothing between them, `count` times: int64."""
    taken = np.zeros(max(count, 1), np.int64)
    cdef int64_t[::1] out = taken
    cdef int64_t before
    cdef int i
    with nogil:
        for i in range(out.shape[0]):
            before = clock_ns()
            out[i] = clock_ns() - before
    return taken


cdef void one(Network *net, const Rows *rows, int64_t i, int32_t host, int32_t slot, bint traced) noexcept nogil:
    """Row `i` arrives, as in Walk.receive; slot -1: it is sent, as in Walk.send."""
    cdef Packet *p
    if net.timer_count and net.timers[0].time <= rows.time[i]:
        walk_until(net, rows.time[i])
    elif rows.time[i] > net.now:
        net.now = rows.time[i]
    p = packet_of_row(net, rows, i)
    if p == NULL:
        return
    p.traced = traced
    if slot >= 0:
        walk_frame(net, p, host, slot)
    else:
        p.net = p.mac + rows.network[i]
        walk_send(net, p, host, True)


cdef object run(Walk walk, int host, int slot, PacketBatch batch, int64_t group, bint traced):
    cdef Rows *rows = &batch.rows
    cdef Network *net = &walk.net
    cdef int64_t i, j, before, count = rows.count
    cdef Delivery *deliveries
    if group < 1:
        raise ValueError(f"a group of {group} packets: it has at least one")
    taken = np.zeros((count + group - 1) // group, np.int64)
    cdef int64_t[::1] out = taken
    deliveries = <Delivery *>calloc(max(count, 1), sizeof(Delivery))
    if deliveries == NULL:
        raise MemoryError
    net.deliveries = deliveries
    net.delivery_count = count
    with nogil:
        for i in range(out.shape[0]):
            before = clock_ns()
            for j in range(i * group, min((i + 1) * group, count)):
                one(net, rows, j, host, slot, traced)
            out[i] = clock_ns() - before
        for i in range(count):
            rows.verdict[i] = deliveries[i].verdict
            rows.reason[i] = deliveries[i].reason
        net.deliveries = NULL
        net.first_row += count
    free(deliveries)
    return taken


def time_receive(Walk walk not None, int host, int slot, PacketBatch batch not None, int64_t group=1):
    """Walk.receive, timed: ns that each group of `group` packets took, int64.

    The bytes of the batch are rewritten, verdicts and reasons are written to it. Raises IndexError, ValueError.
    """
    walk.at(host, slot)
    return run(walk, host, slot, batch, group, False)


def time_send(Walk walk not None, int host, PacketBatch batch not None, int64_t group=1):
    """Walk.send, timed as `time_receive` does it: the host sends the IP packets of a decoded batch.

    Raises IndexError, ValueError.
    """
    cdef int64_t i
    if not 0 <= host < walk.net.host_count:
        raise IndexError(f"no host {host}")
    for i in range(batch.rows.count):
        if batch.rows.network[i] == NO_NETWORK:
            raise ValueError(f"row {i} is no IP packet, or the batch is not decoded")
    return run(walk, host, -1, batch, group, False)


def rules_met(Walk walk not None, CompiledHost host not None, int slot, PacketBatch batch not None):
    """Walk.receive, with every packet traced through the host's rules: rows of EVENT_DTYPE, in order.

    `row` counts from the batch's first. Raises MemoryError where there is no room for what the rules tell.
    """
    cdef RuleTap tap
    cdef RuleEvent[::1] view
    cdef int64_t first = walk.net.first_row
    walk.at(host.host.id, slot)
    memset(&tap, 0, sizeof(tap))
    tap.limit = 1 << 24
    host.host.netfilter.tap = &tap
    try:
        run(walk, host.host.id, slot, batch, 1, True)
        if tap.lost:
            raise MemoryError(f"{tap.lost} events of rules did not fit")
        events = np.zeros(tap.count, EVENT_DTYPE)
        if tap.count:
            view = events
            memcpy(&view[0], tap.events, tap.count * sizeof(RuleEvent))
        events["row"] -= first
        return events
    finally:
        host.host.netfilter.tap = NULL
        free(tap.events)


def time_writes(int fd, PacketBatch batch not None, int64_t group=1):
    """Write each frame of the batch to a descriptor, a call a frame: ns that each group of `group` took, int64.

    Raises OSError naming the row whose frame was not taken whole.
    """
    cdef Rows *rows = &batch.rows
    cdef int64_t i, j, before, failed = -1, count = rows.count
    if group < 1:
        raise ValueError(f"a group of {group} packets: it has at least one")
    taken = np.zeros((count + group - 1) // group, np.int64)
    cdef int64_t[::1] out = taken
    with nogil:
        for i in range(out.shape[0]):
            before = clock_ns()
            for j in range(i * group, min((i + 1) * group, count)):
                if write(fd, rows.arena + rows.offset[j], rows.length[j]) != <Py_ssize_t>rows.length[j]:
                    failed = j
            out[i] = clock_ns() - before
    if failed >= 0:
        raise OSError(f"frame {failed} was not written")
    return taken
