"""Packets in a batch; the layout is in batch.pxd."""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t

import numpy as np

from dataplane._fast.link cimport link_decode


@cython.final
cdef class PacketBatch:
    """A fixed number of rows, each a packet, over one arena of bytes.

    The arrays have `capacity` entries, of which the first `len(batch)` are in use. Each packet lies at
    `arena[offset[i] : offset[i] + length[i]]`, with at least HEADROOM free bytes before and TAILROOM after it.

    arena      uint8    bytes of all packets
    offset     int64    of the first captured byte in the arena
    length     uint32   captured bytes
    original   uint32   bytes on the wire (more than `length` where the capture cut the packet)
    time       int64    ns since the epoch
    interface  int32    index into the capture's interfaces, or the walk's places
    mark       uint32   firewall mark
    verdict    uint8    Verdict
    reason     uint16   Reason
    link_type  uint16   LinkType
    network    uint16   offset of the network header from the first captured byte; 0xFFFF: none
    protocol   uint16   ethertype of the network header in host order; 0: not known
    """

    def __cinit__(self, int64_t capacity, int64_t arena_size):
        """Raises ValueError when `capacity` or `arena_size` (bytes) is negative."""
        if capacity < 0 or arena_size < 0:
            raise ValueError("capacity and arena_size cannot be negative")
        # At least one entry, so that every array has an address; `capacity` alone says what may be used.
        cdef int64_t entries = max(capacity, 1)
        self.arena = np.empty(max(arena_size, 1), np.uint8)
        self.offset = np.zeros(entries, np.int64)
        self.length = np.zeros(entries, np.uint32)
        self.original = np.zeros(entries, np.uint32)
        self.time = np.zeros(entries, np.int64)
        self.interface = np.zeros(entries, np.int32)
        self.mark = np.zeros(entries, np.uint32)
        self.verdict = np.zeros(entries, np.uint8)
        self.reason = np.zeros(entries, np.uint16)
        self.link_type = np.zeros(entries, np.uint16)
        self.network = np.zeros(entries, np.uint16)
        self.protocol = np.zeros(entries, np.uint16)
        cdef uint8_t[::1] arena = self.arena
        cdef int64_t[::1] offset = self.offset
        cdef uint32_t[::1] length = self.length
        cdef uint32_t[::1] original = self.original
        cdef int64_t[::1] time = self.time
        cdef int32_t[::1] interface = self.interface
        cdef uint32_t[::1] mark = self.mark
        cdef uint8_t[::1] verdict = self.verdict
        cdef uint16_t[::1] reason = self.reason
        cdef uint16_t[::1] link_type = self.link_type
        cdef uint16_t[::1] network = self.network
        cdef uint16_t[::1] protocol = self.protocol
        self.rows.arena = &arena[0]
        self.rows.offset = &offset[0]
        self.rows.length = &length[0]
        self.rows.original = &original[0]
        self.rows.time = &time[0]
        self.rows.interface = &interface[0]
        self.rows.mark = &mark[0]
        self.rows.verdict = &verdict[0]
        self.rows.reason = &reason[0]
        self.rows.link_type = &link_type[0]
        self.rows.network = &network[0]
        self.rows.protocol = &protocol[0]
        self.rows.arena_size = arena_size
        self.rows.capacity = capacity
        self.rows.count = 0
        self.rows.used = 0

    @classmethod
    def from_frames(cls, frames, times=None, int32_t interface=0, uint16_t link_type=1):
        """A batch that holds exactly `frames` (bytes-like), decoded.

        times: ns since the epoch, one per frame; all 0 when not given
        Raises ValueError when `times` has another length than `frames`.
        """
        frames = list(frames)
        times = [0] * len(frames) if times is None else list(times)
        if len(times) != len(frames):
            raise ValueError(f"{len(frames)} frames but {len(times)} times")
        size = sum(len(frame) + HEADROOM + TAILROOM for frame in frames)
        cdef PacketBatch batch = cls(len(frames), size)
        for frame, time in zip(frames, times):
            batch.append(frame, time, interface, link_type)
        batch.decode()
        return batch

    def __len__(self):
        return self.rows.count

    def __repr__(self):
        return f"<PacketBatch of {self.rows.count} packets, capacity {self.rows.capacity}>"

    @property
    def capacity(self):
        """Rows that fit."""
        return self.rows.capacity

    @property
    def arena_size(self):
        """Bytes that fit, with each packet's headroom and tailroom."""
        return self.rows.arena_size

    @property
    def used(self):
        """Arena bytes in use."""
        return self.rows.used

    def append(
        self, const uint8_t[::1] frame not None, int64_t time_ns, int32_t interface=0, uint16_t link_type=1,
        original=None,
    ):
        """Copy a packet into a new row, not yet decoded.

        original: bytes on the wire; those of `frame` when not given
        Raises ValueError when the rows or the arena are full.
        """
        cdef uint32_t length = <uint32_t>frame.shape[0]
        cdef uint32_t wire = length if original is None else original
        cdef const uint8_t *data = &frame[0] if length else self.rows.arena
        if frame.shape[0] > 0xFFFFFFFFU:
            raise ValueError(f"a packet of {frame.shape[0]} bytes is longer than a capture can say")
        if not batch_append(&self.rows, data, length, wire, time_ns, interface, link_type):
            raise ValueError(f"the batch is full: {self.rows.count} of {self.rows.capacity} rows, "
                             f"{self.rows.used} of {self.rows.arena_size} arena bytes")

    def frame(self, int64_t i):
        """The captured bytes of packet `i`. Raises IndexError when there is no such row."""
        if i < 0 or i >= self.rows.count:
            raise IndexError(f"row {i} of {self.rows.count}")
        return (<const char *>self.rows.arena)[self.rows.offset[i]:self.rows.offset[i] + self.rows.length[i]]

    def clear(self):
        """Forget all packets; the memory stays."""
        self.rows.count = 0
        self.rows.used = 0

    def decode(self):
        """Fill `network` and `protocol` of every row from its link type and bytes."""
        cdef Rows *rows = &self.rows
        cdef int64_t i
        with nogil:
            for i in range(rows.count):
                link_decode(
                    rows.arena + rows.offset[i], rows.length[i], rows.link_type[i], &rows.network[i], &rows.protocol[i]
                )
