"""What rules have to tell: the trace of a packet through them, and what LOG and NFLOG write down."""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport realloc

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
    uint32_t mark           # after the rule
    uint8_t kind            # RuleEventKind
    uint8_t table           # TableKind
    uint8_t hook            # Hook
    uint8_t verdict         # TargetKind

cdef struct RuleTap:
    # Append-only. What does not fit into `limit` is counted and not kept.
    RuleEvent *events
    int64_t count
    int64_t room
    int64_t limit
    int64_t lost


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
