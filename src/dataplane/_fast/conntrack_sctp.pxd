"""SCTP associations as conntrack sees them (RFC 9260; net/netfilter/nf_conntrack_proto_sctp.c)."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memset

from dataplane._fast.conntrack cimport Conn, Conntrack, STATUS_ASSURED, STATUS_CONFIRMED, SctpTrack
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
    CHUNK_DATA = 0
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
    # Chunks whose tag is looked at one by one, or not at all.
    TAGS_OF_THEIR_OWN = (
        1 << CHUNK_INIT | 1 << CHUNK_SHUTDOWN_COMPLETE | 1 << CHUNK_COOKIE_ECHO | 1 << CHUNK_ABORT
        | 1 << CHUNK_SHUTDOWN_ACK | 1 << CHUNK_HEARTBEAT | 1 << CHUNK_HEARTBEAT_ACK
    )

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
            {dq_cl, dq_cl, dq_cw, dq_ce, dq_es, dq_ss, dq_sr, dq_sa, dq_hs},
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
    """Walk the chunks; `kinds` gets a bit for each kind below 32. False: none, a length of 0, or a chunk out of place."""
    cdef const uint8_t *at = sctp + 12
    cdef uint32_t length, count = 0
    cdef bint alone = False
    kinds[0] = 0
    while at + 4 <= tail:
        length = load16(at + 2)
        if length == 0:
            return False
        if at[0] == CHUNK_INIT or at[0] == CHUNK_INIT_ACK or at[0] == CHUNK_SHUTDOWN_COMPLETE:
            alone = True
        if count and (alone or at[0] == CHUNK_COOKIE_ECHO or at[0] == CHUNK_COOKIE_ACK):
            return False
        if at[0] < 32:
            kinds[0] |= 1U << at[0]
        count += 1
        at += (length + 3) & ~3U
    return count > 0


cdef inline bint has_init(const uint8_t *at, const uint8_t *tail) noexcept nogil:
    """Whether an INIT or INIT ACK is there as far as its fixed fields go (16 bytes behind its header)."""
    return at + 20 <= tail


cdef inline bint sctp_new(Conn *c, const uint8_t *sctp, const uint8_t *tail) noexcept nogil:
    """The first packet: every chunk of it must be able to start something. Tags as far as it tells them."""
    cdef const uint8_t *at = sctp + 12
    cdef uint32_t tag = load32(sctp + 4)
    cdef int row
    memset(&c.sctp, 0, sizeof(SctpTrack))
    while at + 4 <= tail:
        row = sctp_row(at[0])
        # Data and the like leave an association that does not exist where it is.
        if row < 0 or dp_sctp_states[0][row][<int>SCTP_NONE] >= SCTP_INVALID:
            return False
        if at[0] == CHUNK_INIT:
            if tag or not has_init(at, tail):
                return False
            c.sctp.tag[1] = load32(at + 4)
        elif at[0] == CHUNK_HEARTBEAT:
            c.sctp.tag[0] = tag
        elif at[0] == CHUNK_SHUTDOWN_ACK:
            # Out of the blue: a SHUTDOWN COMPLETE answers it with the same tag (RFC 9260, 8.4).
            c.sctp.tag[1] = tag
        at += (<uint32_t>load16(at + 2) + 3) & ~3U
    return True


cdef inline bint tag_reflected(const SctpTrack *track, const uint8_t *chunk, uint32_t tag, int direction) noexcept nogil:
    """ABORT and SHUTDOWN COMPLETE bear the tag of their direction or, with the T bit, that of the other."""
    return tag == track.tag[1 - direction if chunk[1] & 1 else direction]


cdef inline int sctp_heartbeat(
    SctpTrack *track, uint32_t kinds, bint answer, uint32_t tag, int direction, bint *unrefreshed,
) noexcept nogil:
    """A heartbeat or its answer; a path that was not in the INIT learns its tags from them. 1: go on with the chunk,
    0: it changes nothing, -1: INVALID."""
    if track.tag[direction] == 0:
        track.tag[direction] = tag
        return 1
    if tag == track.tag[direction]:
        track.strange = 0
        return 1
    if kinds & 1U << CHUNK_DATA or unrefreshed[0]:
        return -1
    if not answer:
        track.strange = 1
        track.strange_from = <uint8_t>direction
        unrefreshed[0] = True
        return 0
    if not track.strange or track.strange_from == direction:
        return -1
    track.strange = 0
    track.tag[direction] = tag
    track.tag[1 - direction] = 0
    return 1


cdef inline int sctp_chunk(
    SctpTrack *track, Conn *c, const uint8_t *at, const uint8_t *tail, uint32_t kinds, uint32_t tag, int direction,
    bint *unrefreshed,
) noexcept nogil:
    """One chunk of a packet: 0 to go on with the next, -1 INVALID."""
    cdef uint8_t kind = at[0], old = track.state, state = old
    cdef int row = sctp_row(kind), beat
    cdef uint32_t wanted
    if kind == CHUNK_INIT:
        if tag:
            return -1
    elif kind == CHUNK_ABORT or kind == CHUNK_SHUTDOWN_COMPLETE:
        if not tag_reflected(track, at, tag, direction):
            return -1
    elif kind == CHUNK_COOKIE_ECHO:
        if tag != track.tag[direction]:
            return -1
    elif kind == CHUNK_COOKIE_ACK:
        track.init[0] = track.init[1] = 0
    elif kind == CHUNK_HEARTBEAT or kind == CHUNK_HEARTBEAT_ACK:
        beat = sctp_heartbeat(track, kinds, kind == CHUNK_HEARTBEAT_ACK, tag, direction, unrefreshed)
        if beat <= 0:
            return beat
    if row >= 0:
        state = dp_sctp_states[direction][row][old]
        if state == SCTP_INVALID:
            return -1
    if kind == CHUNK_INIT:
        if not has_init(at, tail):
            return -1
        if track.init[0] and track.init[1]:
            track.init[1 - direction] = 0
        track.init[direction] = 1
        track.tag[1 - direction] = load32(at + 4)
        if state == SCTP_CLOSED and old == SCTP_CLOSED and c.status & STATUS_CONFIRMED:
            # A repeated INIT does not keep an association (and its NAT) alive.
            unrefreshed[0] = True
    elif kind == CHUNK_INIT_ACK:
        if not has_init(at, tail):
            return -1
        wanted = track.tag[1 - direction]
        if not track.init[1 - direction] and wanted and wanted != load32(at + 4):
            return -1
        if track.init[0] and track.init[1] and wanted != load32(at + 4):
            # INITs have crossed: each side's answer names the tag of its own INIT.
            return -1
        track.tag[1 - direction] = load32(at + 4)
    track.state = state
    if state != old and state == SCTP_ESTABLISHED:
        c.status |= STATUS_ASSURED
    return 0


cdef inline int sctp_track(Conntrack *t, Conn *c, Packet *p, int direction, int64_t *timeout) noexcept nogil:
    """One packet of an association. `timeout` is what to refresh it with, -1 to leave it."""
    cdef const uint8_t *sctp = p.transport
    cdef const uint8_t *at = sctp + 12
    cdef uint32_t kinds, tag = load32(sctp + 4)
    cdef bint unrefreshed = False
    timeout[0] = -1
    if not sctp_chunks_fit(sctp, p.tail, &kinds):
        return TRACK_INVALID
    if not c.status & STATUS_CONFIRMED:
        if kinds & (1U << CHUNK_ABORT | 1U << CHUNK_SHUTDOWN_COMPLETE | 1U << CHUNK_COOKIE_ACK):
            return TRACK_INVALID
        if not sctp_new(c, sctp, p.tail):
            return TRACK_INVALID
    if not kinds & TAGS_OF_THEIR_OWN and tag != c.sctp.tag[direction]:
        return TRACK_INVALID
    while at + 4 <= p.tail:
        if sctp_chunk(&c.sctp, c, at, p.tail, kinds, tag, direction, &unrefreshed) < 0:
            return TRACK_INVALID
        at += (<uint32_t>load16(at + 2) + 3) & ~3U
    if not unrefreshed:
        timeout[0] = t.settings.sctp_timeout[c.sctp.state]
    return TRACK_ACCEPT
