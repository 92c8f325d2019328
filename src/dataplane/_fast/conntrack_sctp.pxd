"""SCTP associations as conntrack sees them (RFC 9260; net/netfilter/nf_conntrack_proto_sctp.c)."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from dataplane._fast.conntrack cimport Conn, Conntrack, STATUS_ASSURED, STATUS_CONFIRMED
from dataplane._fast.conntrack_tcp cimport TRACK_ACCEPT, TRACK_INVALID
from dataplane._fast.packet cimport Packet
from dataplane._fast.wire cimport load16, load32

cpdef enum SctpState:
    SCTP_NONE = 0
    SCTP_CLOSED
    SCTP_COOKIE_WAIT
    SCTP_COOKIE_ECHOED
    SCTP_ESTABLISHED
    SCTP_SHUTDOWN_SENT
    SCTP_SHUTDOWN_RECD
    SCTP_SHUTDOWN_ACK_SENT
    SCTP_HEARTBEAT_SENT
    SCTP_INVALID

cdef enum:
    CHUNK_INIT = 1
    CHUNK_INIT_ACK = 2
    CHUNK_HEARTBEAT = 4
    CHUNK_HEARTBEAT_ACK = 5
    CHUNK_ABORT = 6
    CHUNK_SHUTDOWN = 7
    CHUNK_SHUTDOWN_ACK = 8
    CHUNK_ERROR = 9
    CHUNK_COOKIE_ECHO = 10
    CHUNK_COOKIE_ACK = 11
    CHUNK_SHUTDOWN_COMPLETE = 14

# State after a chunk: [direction][row][state]; rows in the order of sctp_row.
cdef extern from *:
    """
    enum { dq_no, dq_cl, dq_cw, dq_ce, dq_es, dq_ss, dq_sr, dq_sa, dq_hs, dq_iv };
    static const unsigned char dp_sctp_states[2][11][9] = {
        {
            {dq_cl, dq_cl, dq_cw, dq_ce, dq_es, dq_cl, dq_cl, dq_sa, dq_cw},
            {dq_cl, dq_cl, dq_cw, dq_ce, dq_es, dq_ss, dq_sr, dq_sa, dq_cl},
            {dq_cl, dq_cl, dq_cl, dq_cl, dq_cl, dq_cl, dq_cl, dq_cl, dq_cl},
            {dq_cl, dq_cl, dq_cw, dq_ce, dq_ss, dq_ss, dq_sr, dq_sa, dq_cl},
            {dq_sa, dq_cl, dq_cw, dq_ce, dq_es, dq_sa, dq_sa, dq_sa, dq_sa},
            {dq_cl, dq_cl, dq_cw, dq_ce, dq_es, dq_ss, dq_sr, dq_sa, dq_cl},
            {dq_cl, dq_cl, dq_ce, dq_ce, dq_es, dq_ss, dq_sr, dq_sa, dq_cl},
            {dq_cl, dq_cl, dq_cw, dq_es, dq_es, dq_ss, dq_sr, dq_sa, dq_cl},
            {dq_cl, dq_cl, dq_cw, dq_ce, dq_es, dq_ss, dq_sr, dq_cl, dq_cl},
            {dq_hs, dq_cl, dq_cw, dq_ce, dq_es, dq_ss, dq_sr, dq_sa, dq_hs},
            {dq_hs, dq_cl, dq_cw, dq_ce, dq_es, dq_ss, dq_sr, dq_sa, dq_hs},
        },
        {
            {dq_iv, dq_cl, dq_cw, dq_ce, dq_es, dq_ss, dq_sr, dq_sa, dq_iv},
            {dq_iv, dq_cw, dq_cw, dq_ce, dq_es, dq_ss, dq_sr, dq_sa, dq_iv},
            {dq_iv, dq_cl, dq_cl, dq_cl, dq_cl, dq_cl, dq_cl, dq_cl, dq_iv},
            {dq_iv, dq_cl, dq_cw, dq_ce, dq_sr, dq_ss, dq_sr, dq_sa, dq_iv},
            {dq_iv, dq_cl, dq_cw, dq_ce, dq_es, dq_sa, dq_sa, dq_sa, dq_iv},
            {dq_iv, dq_cl, dq_cw, dq_cl, dq_es, dq_ss, dq_sr, dq_sa, dq_iv},
            {dq_iv, dq_cl, dq_ce, dq_ce, dq_es, dq_ss, dq_sr, dq_sa, dq_iv},
            {dq_iv, dq_cl, dq_cw, dq_es, dq_es, dq_ss, dq_sr, dq_sa, dq_iv},
            {dq_iv, dq_cl, dq_cw, dq_ce, dq_es, dq_ss, dq_sr, dq_cl, dq_iv},
            {dq_iv, dq_cl, dq_cw, dq_ce, dq_es, dq_ss, dq_sr, dq_sa, dq_hs},
            {dq_iv, dq_cl, dq_cw, dq_ce, dq_es, dq_ss, dq_sr, dq_sa, dq_es},
        },
    };
    """
    const unsigned char dp_sctp_states[2][11][9]


cdef inline int sctp_row(uint8_t chunk) noexcept nogil:
    """Row of the table; -1 for chunks that change no state."""
    if chunk == CHUNK_INIT:
        return 0
    if chunk == CHUNK_INIT_ACK:
        return 1
    if chunk == CHUNK_ABORT:
        return 2
    if chunk == CHUNK_SHUTDOWN:
        return 3
    if chunk == CHUNK_SHUTDOWN_ACK:
        return 4
    if chunk == CHUNK_ERROR:
        return 5
    if chunk == CHUNK_COOKIE_ECHO:
        return 6
    if chunk == CHUNK_COOKIE_ACK:
        return 7
    if chunk == CHUNK_SHUTDOWN_COMPLETE:
        return 8
    if chunk == CHUNK_HEARTBEAT:
        return 9
    if chunk == CHUNK_HEARTBEAT_ACK:
        return 10
    return -1


cdef inline bint sctp_chunks_fit(const uint8_t *sctp, const uint8_t *tail, uint32_t *kinds) noexcept nogil:
    """Walk the chunks; `kinds` gets a bit for each kind below 32. False: a length of 0, or a chunk out of its place."""
    cdef const uint8_t *at = sctp + 12
    cdef uint32_t length, count = 0
    cdef bint alone = False
    kinds[0] = 0
    while at + 4 <= tail:
        length = load16(at + 2)
        if length == 0:
            return False
        if alone:
            return False
        if at[0] == CHUNK_INIT or at[0] == CHUNK_INIT_ACK or at[0] == CHUNK_SHUTDOWN_COMPLETE:
            if count:
                return False
            alone = True
        elif (at[0] == CHUNK_COOKIE_ECHO or at[0] == CHUNK_COOKIE_ACK) and count:
            return False
        if at[0] < 32:
            kinds[0] |= 1U << at[0]
        count += 1
        at += (length + 3) & ~3U
    return count > 0


cdef inline int sctp_track(Conntrack *t, Conn *c, Packet *p, int direction, int64_t *timeout) noexcept nogil:
    cdef const uint8_t *sctp = p.transport
    cdef const uint8_t *at
    cdef uint32_t kinds, tag = load32(sctp + 4), length
    cdef uint8_t old, state
    cdef int row
    timeout[0] = -1
    if not sctp_chunks_fit(sctp, p.tail, &kinds):
        return TRACK_INVALID
    if not c.status & STATUS_CONFIRMED:
        if kinds & (1U << CHUNK_ABORT | 1U << CHUNK_SHUTDOWN_COMPLETE | 1U << CHUNK_COOKIE_ACK):
            return TRACK_INVALID
        c.sctp_state = SCTP_NONE
    if kinds & (1U << CHUNK_INIT):
        if tag:
            return TRACK_INVALID
    elif kinds & (1U << CHUNK_ABORT):
        if c.status & STATUS_CONFIRMED and tag != c.vtag[direction] and tag != c.vtag[1 - direction]:
            return TRACK_INVALID
    elif kinds & (1U << CHUNK_SHUTDOWN_COMPLETE):
        if tag != c.vtag[direction] and not (sctp[13] & 1 and tag == c.vtag[1 - direction]):
            return TRACK_INVALID
    elif kinds & (1U << CHUNK_HEARTBEAT | 1U << CHUNK_HEARTBEAT_ACK):
        # A multi-homed peer's other path: its tags are learnt from the heartbeats.
        if c.vtag[direction] == 0:
            c.vtag[direction] = tag
        elif tag != c.vtag[direction]:
            return TRACK_INVALID
    elif c.status & STATUS_CONFIRMED or c.vtag[direction]:
        if tag != c.vtag[direction]:
            return TRACK_INVALID
    old = c.sctp_state
    state = old
    at = sctp + 12
    while at + 4 <= p.tail:
        length = load16(at + 2)
        row = sctp_row(at[0])
        if row >= 0 and state < SCTP_INVALID:
            state = dp_sctp_states[direction][row][state]
            if state == SCTP_INVALID:
                return TRACK_INVALID
        if (at[0] == CHUNK_INIT or at[0] == CHUNK_INIT_ACK) and at + 8 <= p.tail:
            # The tag that the other side must use from now on.
            c.vtag[1 - direction] = load32(at + 4)
        at += (length + 3) & ~3U
    if not c.status & STATUS_CONFIRMED and state == SCTP_NONE:
        # Data alone starts nothing.
        return TRACK_INVALID
    c.sctp_state = state
    timeout[0] = t.settings.sctp_timeout[state]
    if old == SCTP_COOKIE_ECHOED and direction == 1 and state == SCTP_ESTABLISHED:
        c.status |= STATUS_ASSURED
    return TRACK_ACCEPT
