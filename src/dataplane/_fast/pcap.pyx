"""pcap records, from file bytes into a batch and back.

Source: draft-ietf-opsawg-pcap. A record is seconds, fraction, captured length, original length (uint32 each, in the
file's byte order) and the captured bytes, without padding.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from dataplane._fast.batch cimport PacketBatch, Rows
from dataplane._fast.link cimport link_type_known
from dataplane._fast.records cimport (
    FAULT_CAPTURED_LENGTH, FAULT_LINK_TYPE, MAX_PACKET, STATUS_BAD, STATUS_FULL, STATUS_MORE, Fault,
    Status, Tally, read32, take_packet, write32,
)

cdef enum:
    RECORD = 16


@cython.final
cdef class PcapParser:
    """The records of one pcap file.

    swapped:      the file's byte order is not the machine's
    nanoseconds:  fractions are ns; else µs
    link_type:    of all packets
    snap_length:  as the file states it; 0: not limited
    """
    cdef bint swapped
    cdef uint32_t fraction_ns
    cdef uint32_t link_type
    cdef uint32_t snap_length
    cdef Tally tally
    cdef readonly int64_t position
    cdef readonly int64_t need
    cdef readonly Fault fault
    cdef readonly int64_t value

    def __cinit__(self, bint swapped, bint nanoseconds, uint32_t link_type, uint32_t snap_length):
        self.swapped = swapped
        self.fraction_ns = 1 if nanoseconds else 1000
        self.link_type = link_type
        self.snap_length = snap_length
        memset(&self.tally, 0, sizeof(Tally))

    def tally_counts(self):
        """What was counted so far, by name."""
        return self.tally

    def parse(self, const uint8_t[::1] chunk not None, int64_t start, int64_t stop, PacketBatch batch not None):
        """Append the records in chunk[start:stop] to `batch`; gives STATUS_MORE, _FULL or _BAD.

        Afterwards `position` is the index of the first record that is not in the batch, and `need` the number of bytes
        that must follow from there to go on.
        """
        if start < 0 or stop > chunk.shape[0] or start > stop:
            raise IndexError(f"[{start}:{stop}] of a chunk of {chunk.shape[0]} bytes")
        if start == stop:
            self.position = start
            self.need = RECORD
            return STATUS_MORE
        cdef const uint8_t *base = &chunk[0]
        cdef Status status
        with nogil:
            status = self.run(base, start, stop, &batch.rows)
        return status

    cdef Status run(self, const uint8_t *base, int64_t at, int64_t stop, Rows *rows) noexcept nogil:
        cdef const uint8_t *record
        cdef uint32_t captured
        cdef int64_t time
        cdef Status status
        while True:
            self.need = RECORD
            if stop - at < RECORD:
                status = STATUS_MORE
                break
            record = base + at
            if not link_type_known(self.link_type):
                self.fault = FAULT_LINK_TYPE
                self.value = self.link_type
                status = STATUS_BAD
                break
            captured = read32(record + 8, self.swapped)
            if captured > MAX_PACKET:
                self.fault = FAULT_CAPTURED_LENGTH
                self.value = captured
                status = STATUS_BAD
                break
            self.need = RECORD + captured
            if stop - at < self.need:
                status = STATUS_MORE
                break
            time = <int64_t>read32(record, self.swapped) * 1000000000
            time += <int64_t>read32(record + 4, self.swapped) * self.fraction_ns
            if not take_packet(
                rows, &self.tally, record + RECORD, captured, read32(record + 12, self.swapped), self.snap_length, time,
                0, <uint16_t>self.link_type,
            ):
                status = STATUS_FULL
                break
            at += self.need
        self.position = at
        return status


def write_records(
    PacketBatch batch not None, const int64_t[::1] rows, int64_t first, uint8_t[::1] out not None, int64_t used,
    bint swapped, bint nanoseconds,
):
    """Append records to `out` from byte `used` on.

    rows:   rows of the batch in the order to write; None: all
    first:  index into `rows` to begin with
    Gives (next, used): `next` is the first index that did not fit, or the number of rows when all did. Fractions below
    the unit are cut off; a time before 1970 or after 2106 becomes the nearest that the format can say.
    Raises IndexError when a row is not in the batch.
    """
    cdef int64_t total = batch.rows.count if rows is None else rows.shape[0]
    cdef const int64_t *index = &rows[0] if rows is not None and total > 0 else NULL
    cdef uint32_t fraction_ns = 1 if nanoseconds else 1000
    cdef Rows *from_ = &batch.rows
    cdef int64_t size = out.shape[0]
    cdef uint8_t *at = &out[0] if size > 0 else NULL
    cdef int64_t i = first
    cdef int64_t row = 0
    cdef int64_t time
    cdef int64_t seconds
    cdef uint32_t captured
    cdef bint bad = False
    if first < 0 or used < 0:
        raise IndexError("first and used cannot be negative")
    with nogil:
        while i < total:
            row = i if index == NULL else index[i]
            if row < 0 or row >= from_.count:
                bad = True
                break
            captured = from_.length[row]
            if size - used < <int64_t>captured + RECORD:
                break
            time = from_.time[row] if from_.time[row] > 0 else 0
            seconds = time // 1000000000
            if seconds > 0xFFFFFFFFU:
                seconds = 0xFFFFFFFFU
                time = seconds * 1000000000 + 999999999
            write32(at + used, <uint32_t>seconds, swapped)
            write32(at + used + 4, <uint32_t>((time - seconds * 1000000000) // fraction_ns), swapped)
            write32(at + used + 8, captured, swapped)
            write32(at + used + 12, from_.original[row], swapped)
            memcpy(at + used + RECORD, from_.arena + from_.offset[row], captured)
            used += RECORD + captured
            i += 1
    if bad:
        raise IndexError(f"row {row} of {from_.count}")
    return i, used
