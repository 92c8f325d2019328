"""What the parsers of pcap records and pcapng blocks share: byte order of the file, clocks, counts, outcomes."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dataplane._fast.batch cimport Rows, batch_append
from dataplane._fast.wire cimport dp_swap16, dp_swap32

cdef extern from *:
    """
    #include <stdint.h>
    /* Ticks to ns: 128 bits, because 64-bit ticks of a second overflow. A time that int64 cannot hold is clamped. */
    static inline int64_t dp_ticks_to_ns(uint64_t ticks, uint64_t multiply, uint64_t divide, unsigned shift,
                                         int64_t seconds, int *clamped) {
        __int128 t = (__int128)((unsigned __int128)ticks * multiply);
        if (divide != 1) t /= divide;
        t = (t >> shift) + (__int128)seconds * 1000000000;
        *clamped = t > INT64_MAX || t < INT64_MIN;
        return t > INT64_MAX ? INT64_MAX : t < INT64_MIN ? INT64_MIN : (int64_t)t;
    }
    """
    int64_t dp_ticks_to_ns(
        uint64_t ticks, uint64_t multiply, uint64_t divide, unsigned shift, int64_t seconds, int *clamped
    ) noexcept nogil

cpdef enum:
    # libpcap's MAXIMUM_SNAPLEN: a longer packet is a sign of corruption, whatever snap length the file states
    MAX_PACKET = 262144
    # A packet's block holds its options too
    MAX_BLOCK = 16777216

cpdef enum Status:
    """Why a parser came back."""
    STATUS_MORE = 0         # needs `need` bytes from `position` on
    STATUS_FULL             # the batch is full
    STATUS_BAD              # see `fault`; it concerns the record or block at `position`
    STATUS_SECTION          # pcapng: a section header block is at `position`
    STATUS_INTERFACE        # pcapng: an interface description block is at `position`
    STATUS_COMMENT          # pcapng: the block at `position` is in the batch as its last row, and has a comment
    STATUS_SKIP             # pcapng: a block to leave out is at `position`, longer than what is buffered

cpdef enum Fault:
    """What is wrong with a record or a block; the value in question is in `value`."""
    FAULT_NONE = 0
    FAULT_CAPTURED_LENGTH   # more than MAX_PACKET
    FAULT_BLOCK_LENGTH      # no multiple of 4, or too short for its type
    FAULT_BLOCK_TOO_LONG    # a packet's block of more than MAX_BLOCK
    FAULT_TRAILER           # the length at the end of the block is another one
    FAULT_PAST_BLOCK        # the packet is longer than its block
    FAULT_OPTIONS           # an option runs past the end of its block
    FAULT_INTERFACE         # no such interface in this section
    FAULT_LINK_TYPE         # the interface has a link type that is not read

cdef struct Tally:
    int64_t packets
    int64_t bytes           # captured
    int64_t wire_bytes
    int64_t truncated       # captured less than was on the wire
    int64_t short_original  # stated a wire length below the captured one, which then counts
    int64_t untimed         # had no timestamp: took that of the packet before
    int64_t clamped         # had a timestamp outside the years 1677 to 2262
    int64_t beyond_snap     # longer than the snap length that the file states


cdef inline uint16_t read16(const uint8_t *p, bint swapped) noexcept nogil:
    cdef uint16_t v
    memcpy(&v, p, 2)
    return dp_swap16(v) if swapped else v


cdef inline uint32_t read32(const uint8_t *p, bint swapped) noexcept nogil:
    cdef uint32_t v
    memcpy(&v, p, 4)
    return dp_swap32(v) if swapped else v


cdef inline void write16(uint8_t *p, uint16_t v, bint swapped) noexcept nogil:
    if swapped:
        v = dp_swap16(v)
    memcpy(p, &v, 2)


cdef inline void write32(uint8_t *p, uint32_t v, bint swapped) noexcept nogil:
    if swapped:
        v = dp_swap32(v)
    memcpy(p, &v, 4)


cdef inline bint take_packet(
    Rows *rows, Tally *tally, const uint8_t *data, uint32_t captured, uint32_t original, uint32_t snap_length,
    int64_t time, int32_t interface, uint16_t link_type,
) noexcept nogil:
    """Append a packet and count it; False when the batch is full."""
    cdef uint32_t wire = original if original > captured else captured
    if not batch_append(rows, data, captured, wire, time, interface, link_type):
        return False
    tally.packets += 1
    tally.bytes += captured
    tally.wire_bytes += wire
    tally.truncated += captured < original
    tally.short_original += original < captured
    tally.beyond_snap += snap_length != 0 and captured > snap_length
    return True
