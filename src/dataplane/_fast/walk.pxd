"""The walk as other compiled modules call it."""

cimport cython

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from dataplane._fast.batch cimport PacketBatch, Rows
from dataplane._fast.interface cimport Interface
from dataplane._fast.network cimport Network
from dataplane._fast.packet cimport Packet


cdef void walk_until(Network *net, int64_t time) noexcept nogil
cdef void walk_frame(Network *net, Packet *p, int32_t host, int32_t slot) noexcept nogil
cdef Packet *packet_of_row(Network *net, const Rows *rows, int64_t i) noexcept nogil
cdef void walk_send(Network *net, Packet *p, int32_t host, bint raw) noexcept nogil


@cython.final
cdef class Walk:
    cdef Network net
    cdef readonly object last       # where the last packet of the last batch was delivered; None: nowhere
    cdef list hosts             # CompiledHost by id; keeps their memory alive
    cdef Interface *at(self, int host, int slot) except NULL
    cdef object inject(self, int32_t host, int32_t slot, PacketBatch batch)
