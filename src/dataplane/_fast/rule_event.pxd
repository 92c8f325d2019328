"""What rules have to tell: the trace of a packet through them, and what LOG and NFLOG write down."""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

cpdef enum RuleEventKind:
    EVENT_RULE = 0          # a rule matched
    EVENT_POLICY            # the policy of a base chain decided
    EVENT_RETURN            # a user chain ended
    EVENT_HOTDROP           # a match dropped the packet
    EVENT_LOG
    EVENT_NFLOG

cdef packed struct RuleEvent:
    int64_t row             # Packet.row
    int64_t time            # ns
    int32_t rule            # index of the rule; -1 for a policy
    int32_t chain           # index of the chain
    int32_t host
    int16_t iif             # slots; -1 for none
    int16_t oif
    uint32_t mark           # when the rule matched
    uint8_t kind            # RuleEventKind
    uint8_t table           # TableKind
    uint8_t hook            # Hook
    uint8_t verdict         # TargetKind
    uint8_t family          # 4 or 6
    uint8_t link_header     # bytes kept before the network header
    int16_t physin          # slots of bridge ports; -1 for none
    int16_t physout
    uint32_t size           # bytes kept, from RuleTap.bytes[first]
    int64_t first

cdef struct RuleTap:
    # Append-only. What does not fit into `limit` is counted and not kept.
    RuleEvent *events
    int64_t count
    int64_t room
    int64_t limit
    int64_t lost
    # The packets as they were then, one after the other.
    uint8_t *bytes
    int64_t bytes_used
    int64_t bytes_room
    int64_t bytes_limit     # 0: packets are not kept


cdef inline RuleEvent *tap_append(RuleTap *tap) noexcept nogil:
    """Room for one more event; NULL when the tap is full."""
    cdef RuleEvent *grown
    cdef int64_t room
    if tap.count >= tap.room:
        room = 64 if tap.room == 0 else tap.room * 2
        if room > tap.limit:
            room = tap.limit
        if tap.count >= room:
            tap.lost += 1
            return NULL
        grown = <RuleEvent *>realloc(tap.events, room * sizeof(RuleEvent))
        if grown == NULL:
            tap.lost += 1
            return NULL
        tap.events = grown
        tap.room = room
    tap.count += 1
    return &tap.events[tap.count - 1]


cdef inline void tap_keep(RuleTap *tap, RuleEvent *event, const uint8_t *start, uint32_t size) noexcept nogil:
    """Keep the bytes of the event's packet; none where there is no room for all."""
    cdef uint8_t *grown
    cdef int64_t room = tap.bytes_room
    if tap.bytes_used + size > tap.bytes_limit:
        return
    while tap.bytes_used + size > room:
        room = 4096 if room == 0 else room * 2
    if room > tap.bytes_room:
        grown = <uint8_t *>realloc(tap.bytes, room)
        if grown == NULL:
            return
        tap.bytes = grown
        tap.bytes_room = room
    memcpy(tap.bytes + tap.bytes_used, start, size)
    event.first = tap.bytes_used
    event.size = size
    tap.bytes_used += size
