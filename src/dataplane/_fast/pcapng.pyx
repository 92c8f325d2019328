"""pcapng packet blocks, from file bytes into a batch and back.

Source: draft-ietf-opsawg-pcapng. Section headers and interface descriptions are rare: the parser stops at them and its
owner reads them. Every other block that holds no packet is passed over and counted.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from dataplane._fast.batch cimport PacketBatch, Rows
from dataplane._fast.link cimport link_type_known
from dataplane._fast.records cimport (
    FAULT_BLOCK_LENGTH, FAULT_BLOCK_TOO_LONG, FAULT_CAPTURED_LENGTH, FAULT_INTERFACE, FAULT_LINK_TYPE,
    FAULT_OPTIONS, FAULT_PAST_BLOCK, FAULT_TRAILER, MAX_BLOCK, MAX_PACKET, STATUS_BAD, STATUS_COMMENT, STATUS_FULL,
    STATUS_INTERFACE, STATUS_MORE, STATUS_SECTION, STATUS_SKIP, Fault, Status, Tally, dp_ticks_to_ns, read16, read32,
    take_packet, write16, write32,
)

cpdef enum Block:
    """Block types."""
    BLOCK_INTERFACE = 1
    BLOCK_PACKET = 2                # obsolete
    BLOCK_SIMPLE_PACKET = 3
    BLOCK_NAME_RESOLUTION = 4
    BLOCK_STATISTICS = 5
    BLOCK_ENHANCED_PACKET = 6
    BLOCK_JOURNAL = 9
    BLOCK_SECRETS = 10
    BLOCK_CUSTOM = 0x00000BAD
    BLOCK_CUSTOM_NO_COPY = 0x40000BAD
    BLOCK_SECTION = 0x0A0D0D0A

cdef enum:
    OPTION_END = 0
    OPTION_COMMENT = 1

cdef struct Source:
    # an interface of the section being read
    uint32_t link_type
    uint32_t snap_length
    int32_t index           # in the whole capture
    uint32_t shift          # ns = (ticks * multiply / divide >> shift) + seconds * 10^9
    uint64_t multiply
    uint64_t divide
    int64_t seconds

cdef struct Left:
    # blocks passed over, by kind
    int64_t name_resolution
    int64_t statistics
    int64_t secrets
    int64_t journal
    int64_t custom
    int64_t unknown


@cython.final
cdef class PcapngParser:
    """The packet blocks of one pcapng file; its owner tells it of sections and interfaces as they come."""
    cdef bint swapped
    cdef Tally tally
    cdef Left left
    cdef Source *sources
    cdef int64_t source_count
    cdef int64_t source_room
    cdef int64_t last_time
    cdef readonly int64_t position
    cdef readonly int64_t need
    cdef readonly Fault fault
    cdef readonly int64_t value

    def __cinit__(self):
        self.sources = NULL
        memset(&self.tally, 0, sizeof(Tally))
        memset(&self.left, 0, sizeof(Left))

    def __dealloc__(self):
        free(self.sources)

    def tally_counts(self):
        """What was counted so far, by name."""
        return self.tally

    def left_counts(self):
        """Blocks passed over so far, by kind."""
        return self.left

    def begin_section(self, bint swapped):
        """A section header was read: its byte order holds from now on, and its interfaces are numbered from 0."""
        self.swapped = swapped
        self.source_count = 0

    def add_interface(
        self, uint32_t link_type, uint32_t snap_length, int32_t index, uint64_t multiply, uint64_t divide,
        uint32_t shift, int64_t seconds,
    ):
        """The section's next interface. Its time in ns is (ticks * multiply / divide >> shift) + seconds * 10^9.

        index: the number that its packets get in a batch
        Raises ValueError when a factor is 0 or out of range.
        """
        cdef Source *sources
        cdef Source *source
        if divide == 0 or multiply > 1000000000 or shift > 127:
            raise ValueError("a clock needs multiply <= 10^9, divide > 0 and shift < 128")
        if self.source_count == self.source_room:
            sources = <Source *>realloc(self.sources, (self.source_room * 2 + 8) * sizeof(Source))
            if sources == NULL:
                raise MemoryError
            self.sources = sources
            self.source_room = self.source_room * 2 + 8
        source = &self.sources[self.source_count]
        source.link_type = link_type
        source.snap_length = snap_length
        source.index = index
        source.multiply = multiply
        source.divide = divide
        source.shift = shift
        source.seconds = seconds
        self.source_count += 1

    def count_left(self, uint32_t kind):
        """Count a block that the owner passed over."""
        self.leave(kind)

    def parse(self, const uint8_t[::1] chunk not None, int64_t start, int64_t stop, PacketBatch batch not None):
        """Append the packets of the blocks in chunk[start:stop] to `batch`; gives a Status.

        Afterwards `position` is the index of the first block that is not done with, and `need` the number of bytes that
        must follow from there to go on.
        """
        if start < 0 or stop > chunk.shape[0] or start > stop:
            raise IndexError(f"[{start}:{stop}] of a chunk of {chunk.shape[0]} bytes")
        if start == stop:
            self.position = start
            self.need = 12
            return STATUS_MORE
        cdef const uint8_t *base = &chunk[0]
        cdef Status status
        with nogil:
            status = self.run(base, start, stop, &batch.rows)
        return status

    cdef void leave(self, uint32_t kind) noexcept nogil:
        if kind == BLOCK_NAME_RESOLUTION:
            self.left.name_resolution += 1
        elif kind == BLOCK_STATISTICS:
            self.left.statistics += 1
        elif kind == BLOCK_SECRETS:
            self.left.secrets += 1
        elif kind == BLOCK_JOURNAL:
            self.left.journal += 1
        elif kind == BLOCK_CUSTOM or kind == BLOCK_CUSTOM_NO_COPY:
            self.left.custom += 1
        else:
            self.left.unknown += 1

    cdef Status bad(self, Fault fault, int64_t value) noexcept nogil:
        self.fault = fault
        self.value = value
        return STATUS_BAD

    cdef Status run(self, const uint8_t *base, int64_t at, int64_t stop, Rows *rows) noexcept nogil:
        cdef const uint8_t *block
        cdef uint32_t kind
        cdef uint32_t length
        cdef Status status
        while True:
            self.position = at
            self.need = 12
            if stop - at < 12:
                return STATUS_MORE
            block = base + at
            kind = read32(block, self.swapped)
            if kind == <uint32_t>BLOCK_SECTION:
                return STATUS_SECTION
            length = read32(block + 4, self.swapped)
            if length < 12 or length & 3:
                return self.bad(FAULT_BLOCK_LENGTH, length)
            if kind == BLOCK_INTERFACE:
                return STATUS_INTERFACE
            if kind == BLOCK_ENHANCED_PACKET or kind == BLOCK_SIMPLE_PACKET or kind == BLOCK_PACKET:
                if length > MAX_BLOCK:
                    return self.bad(FAULT_BLOCK_TOO_LONG, length)
                self.need = length
                if stop - at < length:
                    return STATUS_MORE
                if read32(block + length - 4, self.swapped) != length:
                    return self.bad(FAULT_TRAILER, read32(block + length - 4, self.swapped))
                status = self.packet(block, kind, length, rows)
                if status != STATUS_MORE:
                    return status
            else:
                self.need = length
                if stop - at < length:
                    return STATUS_SKIP
                if read32(block + length - 4, self.swapped) != length:
                    return self.bad(FAULT_TRAILER, read32(block + length - 4, self.swapped))
                self.leave(kind)
            at += length

    cdef Status packet(self, const uint8_t *block, uint32_t kind, uint32_t length, Rows *rows) noexcept nogil:
        """Take one whole packet block. STATUS_MORE: done, go on with the next."""
        cdef uint32_t header = 16 if kind == BLOCK_SIMPLE_PACKET else 32     # both with the length at the end
        cdef uint32_t interface = 0
        cdef uint32_t captured
        cdef uint32_t original
        cdef uint32_t padded
        cdef uint32_t option
        cdef uint16_t code
        cdef uint64_t ticks
        cdef int64_t time
        cdef bint comment = False
        cdef int clamped = 0
        cdef Source *source
        if length < header:
            return self.bad(FAULT_BLOCK_LENGTH, length)
        if kind == BLOCK_ENHANCED_PACKET:
            interface = read32(block + 8, self.swapped)
        elif kind == BLOCK_PACKET:
            interface = read16(block + 8, self.swapped)
        if interface >= self.source_count:
            return self.bad(FAULT_INTERFACE, interface)
        source = &self.sources[interface]
        if not link_type_known(source.link_type):
            return self.bad(FAULT_LINK_TYPE, source.index)

        if kind == BLOCK_SIMPLE_PACKET:
            original = read32(block + 8, self.swapped)
            captured = original
            if source.snap_length != 0 and captured > source.snap_length:
                captured = source.snap_length
            time = self.last_time
        else:
            captured = read32(block + 20, self.swapped)
            original = read32(block + 24, self.swapped)
            ticks = (<uint64_t>read32(block + 12, self.swapped) << 32) | read32(block + 16, self.swapped)
            time = dp_ticks_to_ns(
                ticks, source.multiply, source.divide, source.shift, source.seconds, &clamped
            )
        if captured > MAX_PACKET:
            return self.bad(FAULT_CAPTURED_LENGTH, captured)
        padded = (captured + 3) & ~<uint32_t>3
        if padded > length - header:
            return self.bad(FAULT_PAST_BLOCK, captured)

        if kind != BLOCK_SIMPLE_PACKET:
            option = header - 4 + padded
            while option + 8 <= length:
                code = read16(block + option, self.swapped)
                if code == OPTION_END:
                    break
                option += 4 + ((<uint32_t>read16(block + option + 2, self.swapped) + 3) & ~<uint32_t>3)
                if option + 4 > length:
                    return self.bad(FAULT_OPTIONS, code)
                comment = comment or code == OPTION_COMMENT

        if not take_packet(
            rows, &self.tally, block + (12 if kind == BLOCK_SIMPLE_PACKET else 28), captured, original,
            source.snap_length, time, source.index, <uint16_t>source.link_type,
        ):
            return STATUS_FULL
        self.tally.untimed += kind == BLOCK_SIMPLE_PACKET
        self.tally.clamped += clamped
        self.last_time = time
        return STATUS_COMMENT if comment else STATUS_MORE


cpdef enum Refusal:
    """Why a row cannot be written."""
    REFUSED_NOT = 0
    REFUSED_ROW             # no such row in the batch
    REFUSED_INTERFACE       # no such interface in the file
    REFUSED_LINK_TYPE       # the interface was declared with another link type


def write_blocks(
    PacketBatch batch not None, const int64_t[::1] rows, int64_t first, const uint16_t[::1] link_types not None,
    const int64_t[::1] comment_ends, const uint8_t[::1] comments, uint8_t[::1] out not None, int64_t used,
):
    """Append Enhanced Packet Blocks with nanosecond timestamps to `out` from byte `used` on, in the machine's order.

    rows:          rows of the batch in the order to write; None: all
    first:         index into `rows` to begin with
    link_types:    those of the file's interfaces
    comment_ends:  one per row written: where its comment ends in `comments` (it begins where the one before ended, and
                   an empty one is not written); at most 65,535 bytes each. None: no comments
    Gives (next, used, refusal): `next` is the first index that did not fit or was refused (a Refusal), or the number of
    rows when all are written. A time before 1970 becomes 1970.
    Raises ValueError when `comment_ends` does not fit `rows` and `comments`.
    """
    cdef int64_t total = batch.rows.count if rows is None else rows.shape[0]
    cdef const int64_t *index = &rows[0] if rows is not None and total > 0 else NULL
    cdef const int64_t *ends = NULL
    cdef const uint8_t *texts = NULL
    cdef int64_t text_size = 0
    cdef int64_t i = first
    cdef int64_t at = 0
    if first < 0 or used < 0:
        raise ValueError("first and used cannot be negative")
    if comment_ends is not None and total > 0:
        if comments is None or comment_ends.shape[0] != total:
            raise ValueError(f"{total} rows need as many comment_ends, and comments")
        text_size = comments.shape[0]
        for i in range(total):
            if comment_ends[i] < at or comment_ends[i] - at > 0xFFFF or comment_ends[i] > text_size:
                raise ValueError(f"comment_ends[{i}] is out of order or out of range")
            at = comment_ends[i]
        ends = &comment_ends[0]
        texts = &comments[0] if text_size > 0 else NULL
        i = first
    cdef int64_t interfaces = link_types.shape[0]
    cdef const uint16_t *types = &link_types[0] if interfaces > 0 else NULL
    cdef Rows *source = &batch.rows
    cdef int64_t size = out.shape[0]
    cdef uint8_t *base = &out[0] if size > 0 else NULL
    cdef uint8_t *block
    cdef int64_t row
    cdef int64_t text_start
    cdef uint64_t time
    cdef uint32_t captured
    cdef int64_t padded
    cdef int64_t text
    cdef int64_t length
    cdef Refusal refusal = REFUSED_NOT
    with nogil:
        while i < total:
            row = i if index == NULL else index[i]
            if row < 0 or row >= source.count:
                refusal = REFUSED_ROW
                break
            if source.interface[row] < 0 or source.interface[row] >= interfaces:
                refusal = REFUSED_INTERFACE
                break
            if types[source.interface[row]] != source.link_type[row]:
                refusal = REFUSED_LINK_TYPE
                break
            captured = source.length[row]
            padded = (<int64_t>captured + 3) & ~3
            length = 32 + padded
            text = 0
            text_start = 0
            if ends != NULL:
                text_start = ends[i - 1] if i > 0 else 0
                text = ends[i] - text_start
                if text != 0:
                    length += 8 + ((text + 3) & ~3)
            if size - used < length:
                break
            block = base + used
            time = <uint64_t>source.time[row] if source.time[row] > 0 else 0
            write32(block, BLOCK_ENHANCED_PACKET, False)
            write32(block + 4, <uint32_t>length, False)
            write32(block + 8, <uint32_t>source.interface[row], False)
            write32(block + 12, <uint32_t>(time >> 32), False)
            write32(block + 16, <uint32_t>time, False)
            write32(block + 20, captured, False)
            write32(block + 24, source.original[row], False)
            memcpy(block + 28, source.arena + source.offset[row], captured)
            memset(block + 28 + captured, 0, padded - captured)
            block += 28 + padded
            if text != 0:
                write16(block, OPTION_COMMENT, False)
                write16(block + 2, <uint16_t>text, False)
                memcpy(block + 4, texts + text_start, text)
                block += 4 + text
                memset(block, 0, (-text & 3) + 4)   # padding, then the end of the options
                block += (-text & 3) + 4
            write32(block, <uint32_t>length, False)
            used += length
            i += 1
    return i, used, refusal
