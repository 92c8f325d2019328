"""TCP connections as conntrack sees them: states, windows, timeouts (net/netfilter/nf_conntrack_proto_tcp.c)."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from dataplane._fast.conntrack cimport (
    Conn, Conntrack, STATUS_ASSURED, STATUS_CONFIRMED, STATUS_SEEN_REPLY, TcpSide, TcpTrack,
)
from dataplane._fast.conntrack_table cimport conn_kill
from dataplane._fast.packet cimport FIELD_LENGTH, Packet
from dataplane._fast.wire cimport TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, TCP_URG, load16, load32

cpdef enum TcpState:
    TCP_NONE = 0
    TCP_SYN_SENT
    TCP_SYN_RECV
    TCP_ESTABLISHED
    TCP_FIN_WAIT
    TCP_CLOSE_WAIT
    TCP_LAST_ACK
    TCP_TIME_WAIT
    TCP_CLOSE
    TCP_SYN_SENT2
    TCP_INVALID             # of the table: no such transition
    TCP_IGNORE              # of the table: let it pass, nothing changes
    TCP_RETRANSMITTED       # of the timeouts
    TCP_UNACKNOWLEDGED

cdef enum:
    INDEX_SYN = 0
    INDEX_SYNACK
    INDEX_FIN
    INDEX_ACK
    INDEX_RST
    INDEX_NONE

    SIDE_WINDOW_SCALE = 1
    SIDE_SACK_PERM = 2
    SIDE_CLOSE_INIT = 4
    SIDE_BE_LIBERAL = 8
    SIDE_DATA_UNACKNOWLEDGED = 16
    SIDE_MAXACK_SET = 32
    LAST_CHALLENGE_ACK = 64
    LAST_SIMULTANEOUS_OPEN = 128

    WINDOW_ACCEPT = 0
    WINDOW_IGNORE
    WINDOW_INVALID

    TRACK_ACCEPT = 0        # the packet belongs to the connection
    TRACK_INVALID           # it does not: it goes on without one
    TRACK_REPEAT            # the connection is gone; look again
    MAXACKWINDOW = 66000

# State after a packet: [direction][index][state].
cdef extern from *:
    """
    enum { dp_no, dp_ss, dp_sr, dp_es, dp_fw, dp_cw, dp_la, dp_tw, dp_cl, dp_s2, dp_iv, dp_ig };
    static const unsigned char dp_tcp_states[2][6][10] = {
        {
            {dp_ss, dp_ss, dp_ig, dp_ig, dp_ig, dp_ig, dp_ig, dp_ss, dp_ss, dp_s2},
            {dp_iv, dp_iv, dp_sr, dp_iv, dp_iv, dp_iv, dp_iv, dp_iv, dp_iv, dp_sr},
            {dp_iv, dp_iv, dp_fw, dp_fw, dp_la, dp_la, dp_la, dp_tw, dp_cl, dp_iv},
            {dp_es, dp_iv, dp_es, dp_es, dp_cw, dp_cw, dp_tw, dp_tw, dp_cl, dp_iv},
            {dp_iv, dp_cl, dp_cl, dp_cl, dp_cl, dp_cl, dp_cl, dp_cl, dp_cl, dp_cl},
            {dp_iv, dp_iv, dp_iv, dp_iv, dp_iv, dp_iv, dp_iv, dp_iv, dp_iv, dp_iv},
        },
        {
            {dp_iv, dp_s2, dp_iv, dp_iv, dp_iv, dp_iv, dp_iv, dp_ss, dp_iv, dp_s2},
            {dp_iv, dp_sr, dp_ig, dp_ig, dp_ig, dp_ig, dp_ig, dp_ig, dp_ig, dp_sr},
            {dp_iv, dp_iv, dp_fw, dp_fw, dp_la, dp_la, dp_la, dp_tw, dp_cl, dp_iv},
            {dp_iv, dp_ig, dp_sr, dp_es, dp_cw, dp_cw, dp_tw, dp_tw, dp_cl, dp_ig},
            {dp_iv, dp_cl, dp_cl, dp_cl, dp_cl, dp_cl, dp_cl, dp_cl, dp_cl, dp_cl},
            {dp_iv, dp_iv, dp_iv, dp_iv, dp_iv, dp_iv, dp_iv, dp_iv, dp_iv, dp_iv},
        },
    };
    """
    const unsigned char dp_tcp_states[2][6][10]


cdef inline bint before(uint32_t a, uint32_t b) noexcept nogil:
    """Sequence numbers wrap (RFC 793, 3.3)."""
    return <int32_t>(a - b) < 0


cdef inline bint after(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(b - a) < 0


cdef inline int tcp_index(uint8_t flags) noexcept nogil:
    if flags & TCP_RST:
        return INDEX_RST
    if flags & TCP_SYN:
        return INDEX_SYNACK if flags & TCP_ACK else INDEX_SYN
    if flags & TCP_FIN:
        return INDEX_FIN
    if flags & TCP_ACK:
        return INDEX_ACK
    return INDEX_NONE


cdef inline bint tcp_flags_legal(uint8_t flags) noexcept nogil:
    """The sets that can occur, PSH, ECE and CWR aside."""
    flags &= TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK | TCP_URG
    return (
        flags == TCP_SYN or flags == (TCP_SYN | TCP_URG) or flags == (TCP_SYN | TCP_ACK)
        or flags == TCP_RST or flags == (TCP_RST | TCP_ACK)
        or flags == (TCP_FIN | TCP_ACK) or flags == (TCP_FIN | TCP_ACK | TCP_URG)
        or flags == TCP_ACK or flags == (TCP_ACK | TCP_URG)
    )


cdef inline uint32_t segment_end(const Packet *p, const uint8_t *tcp) noexcept nogil:
    """Sequence number behind the segment."""
    cdef uint32_t payload = <uint32_t>(p.tail - tcp) - (tcp[12] >> 4) * 4
    return load32(tcp + 4) + payload + (1 if tcp[13] & TCP_SYN else 0) + (1 if tcp[13] & TCP_FIN else 0)


cdef inline void tcp_options(const uint8_t *tcp, TcpSide *side) noexcept nogil:
    """Window scale and SACK-permitted of a SYN (RFC 7323, 2018)."""
    cdef const uint8_t *at = tcp + 20
    cdef const uint8_t *end = tcp + (tcp[12] >> 4) * 4
    if at == end:
        # A SYN without any option leaves what an earlier one offered.
        return
    side.scale = 0
    side.flags &= SIDE_BE_LIBERAL
    while at < end:
        if at[0] == 0:
            return
        if at[0] == 1:
            at += 1
            continue
        if end - at < 2 or at[1] < 2 or at[1] > end - at:
            return
        if at[0] == 4 and at[1] == 2:
            side.flags |= SIDE_SACK_PERM
        elif at[0] == 3 and at[1] == 3:
            side.scale = at[2] if at[2] < 14 else 14
            side.flags |= SIDE_WINDOW_SCALE
        at += at[1]


cdef inline uint32_t highest_sack(const uint8_t *tcp, uint32_t sack) noexcept nogil:
    """The right-most edge that a SACK option reports, or the acknowledgment."""
    cdef const uint8_t *at = tcp + 20
    cdef const uint8_t *end = tcp + (tcp[12] >> 4) * 4
    cdef uint32_t edge
    cdef int i
    while at < end:
        if at[0] == 0:
            break
        if at[0] == 1:
            at += 1
            continue
        if end - at < 2 or at[1] < 2 or at[1] > end - at:
            break
        if at[0] == 5 and at[1] >= 10 and (at[1] - 2) % 8 == 0:
            for i in range((at[1] - 2) // 8):
                edge = load32(at + 2 + 8 * i + 4)
                if after(edge, sack):
                    sack = edge
            break
        at += at[1]
    return sack


cdef inline void tcp_init_sender(
    TcpSide *sender, TcpSide *receiver, const uint8_t *tcp, uint32_t end, uint32_t window, int direction,
) noexcept nogil:
    sender.end = sender.max_end = end
    sender.max_window = window if window else 1
    tcp_options(tcp, sender)
    # Both sides must offer window scaling for either to use it.
    if direction == 1 and not (sender.flags & SIDE_WINDOW_SCALE and receiver.flags & SIDE_WINDOW_SCALE):
        sender.scale = 0
        receiver.scale = 0


cdef inline int tcp_refused(const Conntrack *t, const TcpSide *sender, int verdict) noexcept nogil:
    """What fails a check passes where the host, or the connection, is told to be liberal."""
    if sender.flags & SIDE_BE_LIBERAL or t.settings.tcp_be_liberal:
        return WINDOW_ACCEPT
    return verdict


cdef inline int tcp_in_window(
    Conntrack *t, Conn *c, int direction, int index, const Packet *p, const uint8_t *tcp,
) noexcept nogil:
    """Whether a segment fits what the two ends have said so far (Guido van Rooij, Real Stateful TCP Packet Filtering)."""
    cdef TcpTrack *track = &c.tcp
    cdef TcpSide *sender = &track.seen[direction]
    cdef TcpSide *receiver = &track.seen[1 - direction]
    cdef uint32_t seq = load32(tcp + 4), ack = load32(tcp + 8), sack, end = segment_end(p, tcp)
    cdef uint32_t raw = load16(tcp + 14), window = raw, total, max_ack_window, overshot
    cdef uint8_t flags = tcp[13]
    cdef bint in_window
    sack = ack
    if receiver.flags & SIDE_SACK_PERM:
        sack = highest_sack(tcp, ack)
    if sender.max_window == 0:
        if flags & TCP_SYN:
            tcp_init_sender(sender, receiver, tcp, end, window, direction)
            if not flags & TCP_ACK:
                return WINDOW_ACCEPT
        else:
            sender.end = end
            total = window << sender.scale
            sender.max_window = total if total else 1
            sender.max_end = end + sender.max_window
            if receiver.max_window == 0:
                receiver.end = receiver.max_end = sack
            elif sack == receiver.end + 1:
                receiver.end += 1
    elif (flags & TCP_SYN and after(end, sender.end)
            and (track.state == TCP_SYN_SENT or track.state == TCP_SYN_RECV)):
        tcp_init_sender(sender, receiver, tcp, end, window, direction)
        if direction == 1 and not flags & TCP_ACK:
            return WINDOW_ACCEPT
    if not flags & TCP_ACK or (flags & TCP_RST and ack == 0):
        ack = sack = receiver.end
    if flags & TCP_RST and seq == 0 and track.state == TCP_SYN_SENT:
        seq = end = sender.end
    in_window = receiver.max_window == 0 or after(end, sender.end - receiver.max_window - 1)
    max_ack_window = sender.max_window if sender.max_window > MAXACKWINDOW else MAXACKWINDOW
    if not before(seq, sender.max_end + 1):
        overshot = end - sender.max_end + 1
        if (in_window and overshot <= receiver.max_window and before(sack, receiver.end + 1)
                and after(sack, receiver.end - max_ack_window - 1)):
            # More than the window allows, all else well: if the peer acknowledges it, it must fit.
            sender.end = end
            sender.flags |= SIDE_DATA_UNACKNOWLEDGED
            return tcp_refused(t, sender, WINDOW_IGNORE)
        if tcp_refused(t, sender, WINDOW_INVALID) != WINDOW_ACCEPT:
            return WINDOW_INVALID
        return WINDOW_ACCEPT
    if not before(sack, receiver.end + 1):
        return tcp_refused(t, sender, WINDOW_INVALID)
    if not in_window:
        return tcp_refused(t, sender, WINDOW_IGNORE)
    if not after(sack, receiver.end - max_ack_window - 1):
        return tcp_refused(t, sender, WINDOW_IGNORE)
    if not flags & TCP_SYN:
        window <<= sender.scale
    total = window + (sack - ack)
    if sender.max_window < total:
        sender.max_window = total
    if after(end, sender.end):
        sender.end = end
        sender.flags |= SIDE_DATA_UNACKNOWLEDGED
    if flags & TCP_ACK:
        if not sender.flags & SIDE_MAXACK_SET:
            sender.max_ack = ack
            sender.flags |= SIDE_MAXACK_SET
        elif after(ack, sender.max_ack):
            sender.max_ack = ack
    if receiver.max_window and after(end, sender.max_end):
        receiver.max_window += end - sender.max_end
    if after(sack + window, receiver.max_end - 1):
        receiver.max_end = sack + window
        if window == 0:
            receiver.max_end += 1
    if ack == receiver.end:
        receiver.flags &= <uint8_t>(~SIDE_DATA_UNACKNOWLEDGED)
    if index == INDEX_ACK:
        if (track.last_direction == direction and track.last_seq == seq and track.last_ack == ack
                and track.last_end == end and track.last_window == raw):
            track.retransmissions += 1
        else:
            track.last_direction = <uint8_t>direction
            track.last_seq = seq
            track.last_ack = ack
            track.last_end = end
            track.last_window = <uint16_t>raw
            track.retransmissions = 0
    return WINDOW_ACCEPT


cdef inline bint tcp_new(Conntrack *t, Conn *c, const Packet *p, const uint8_t *tcp) noexcept nogil:
    """The first packet: a SYN, or with tcp_loose something in mid-connection."""
    cdef uint8_t state = dp_tcp_states[0][tcp_index(tcp[13])][<int>TCP_NONE]
    cdef TcpSide *first = &c.tcp.seen[0]
    if state >= TCP_INVALID:
        return False
    if state != TCP_SYN_SENT and not t.settings.tcp_loose:
        return False
    memset(&c.tcp, 0, sizeof(TcpTrack))
    first.end = segment_end(p, tcp)
    first.max_window = load16(tcp + 14)
    if first.max_window == 0:
        first.max_window = 1
    first.max_end = first.end
    if state == TCP_SYN_SENT:
        tcp_options(tcp, first)
    else:
        first.max_end += first.max_window
        c.tcp.seen[0].flags = c.tcp.seen[1].flags = SIDE_SACK_PERM | SIDE_BE_LIBERAL
    c.tcp.last_index = INDEX_NONE
    return True


cdef inline void tcp_invalid(Conntrack *t, Conn *c, int direction, int index, int64_t now) noexcept nogil:
    """A FIN or RST out of the window, then one from the other side: the ends are done, whatever we believe."""
    if not c.status & STATUS_ASSURED or (index != INDEX_FIN and index != INDEX_RST):
        return
    if c.tcp.last_direction != direction and (c.tcp.last_index == INDEX_FIN or c.tcp.last_index == INDEX_RST):
        if c.expires - now < 120000000000LL:
            return
        if c.expires - now > t.settings.tcp_timeout[<int>TCP_UNACKNOWLEDGED]:
            c.expires = now + t.settings.tcp_timeout[<int>TCP_UNACKNOWLEDGED]
    else:
        c.tcp.last_index = <uint8_t>index
        c.tcp.last_direction = <uint8_t>direction


cdef inline int tcp_track(Conntrack *t, Conn *c, Packet *p, int direction, int64_t *timeout) noexcept nogil:
    """One packet of a connection. `timeout` is what to refresh it with, -1 to leave it."""
    cdef const uint8_t *tcp = p.transport
    cdef TcpTrack *track = &c.tcp
    cdef const int64_t *timeouts = t.settings.tcp_timeout
    cdef uint8_t old, state, liberal, flags = tcp[13]
    cdef int index = tcp_index(flags), window
    cdef bint checked = False
    cdef uint32_t seq = load32(tcp + 4), ack = load32(tcp + 8)
    cdef TcpSide seen
    timeout[0] = -1
    if not c.status & STATUS_CONFIRMED and not tcp_new(t, c, p, tcp):
        return TRACK_INVALID
    old = track.state
    state = dp_tcp_states[direction][index][old]
    if state == TCP_SYN_SENT and old >= TCP_TIME_WAIT:
        # A closed connection's ports are used again.
        if (track.seen[0].flags | track.seen[1].flags) & SIDE_CLOSE_INIT or (
            track.last_direction == direction and track.last_index == INDEX_RST
        ):
            conn_kill(t, c)
            return TRACK_REPEAT
        state = TCP_IGNORE
    if state == TCP_IGNORE:
        if (index == INDEX_SYNACK and track.last_index == INDEX_SYN and track.last_direction != direction
                and ack == track.last_end):
            # The answer to a SYN that was ignored: the ends know better, start over from it.
            old = TCP_SYN_SENT
            state = TCP_SYN_RECV
            track.seen[track.last_direction].end = track.last_end
            track.seen[track.last_direction].max_end = track.last_end
            track.seen[track.last_direction].max_window = track.last_window if track.last_window else 1
            track.seen[track.last_direction].scale = track.last_scale
            track.last_flags &= <uint8_t>(~LAST_CHALLENGE_ACK)
            track.seen[track.last_direction].flags = track.last_flags
            liberal = track.seen[direction].flags & SIDE_BE_LIBERAL
            memset(&track.seen[direction], 0, sizeof(TcpSide))
            track.seen[direction].flags = liberal
        else:
            track.last_index = <uint8_t>index
            track.last_direction = <uint8_t>direction
            track.last_seq = seq
            track.last_end = segment_end(p, tcp)
            track.last_window = load16(tcp + 14)
            if index == INDEX_SYN and direction == 0:
                memset(&seen, 0, sizeof(seen))
                tcp_options(tcp, &seen)
                track.last_flags = seen.flags
                track.last_scale = seen.scale
                if old == TCP_LAST_ACK:
                    track.last_flags |= LAST_CHALLENGE_ACK
            if old == TCP_SYN_SENT and index == INDEX_ACK and direction == 1:
                track.last_ack = ack
            return TRACK_ACCEPT
    elif state == TCP_INVALID:
        return TRACK_INVALID
    elif state == TCP_TIME_WAIT:
        if (old == TCP_LAST_ACK and index == INDEX_ACK and track.last_direction != direction
                and track.last_index == INDEX_SYN and track.last_flags & LAST_CHALLENGE_ACK):
            track.last_flags &= <uint8_t>(~LAST_CHALLENGE_ACK)
            return TRACK_ACCEPT
    elif state == TCP_SYN_SENT2:
        track.last_flags |= LAST_SIMULTANEOUS_OPEN
    elif state == TCP_SYN_RECV:
        if direction == 1 and index == INDEX_ACK and track.last_flags & LAST_SIMULTANEOUS_OPEN:
            state = TCP_ESTABLISHED
    elif state == TCP_CLOSE and index == INDEX_RST:
        if old == TCP_FIN_WAIT or old == TCP_CLOSE_WAIT or old == TCP_LAST_ACK or old == TCP_TIME_WAIT or old == TCP_CLOSE:
            checked = True
        else:
            if track.seen[1 - direction].flags & SIDE_MAXACK_SET and track.last_index != INDEX_SYN:
                if seq == 0 and not (old == TCP_ESTABLISHED and c.status & STATUS_ASSURED):
                    pass
                elif before(seq, track.seen[1 - direction].max_ack) and not t.settings.tcp_ignore_invalid_rst:
                    return TRACK_INVALID
                elif not (old == TCP_ESTABLISHED and c.status & STATUS_ASSURED) or seq == track.seen[1 - direction].max_ack:
                    pass
                elif track.last_index == INDEX_ACK and track.last_direction == direction and seq == track.last_end:
                    pass
                else:
                    # In the window but not exact: the other end will challenge it (RFC 5961).
                    state = old
            elif ack == track.last_end and (
                (c.status & STATUS_SEEN_REPLY and track.last_index == INDEX_SYN and track.last_direction != direction)
                or (not c.status & STATUS_ASSURED and track.last_index == INDEX_ACK)
            ):
                # The answer to a SYN or ACK that was let through without being understood.
                checked = True
            elif (old == TCP_SYN_SENT and track.last_index == INDEX_ACK and track.last_direction == 1
                    and seq == track.last_ack):
                checked = True
    if not checked:
        window = tcp_in_window(t, c, direction, index, p, tcp)
        if window == WINDOW_IGNORE:
            return TRACK_ACCEPT
        if window == WINDOW_INVALID:
            tcp_invalid(t, c, direction, index, p.time)
            return TRACK_INVALID
    track.last_index = <uint8_t>index
    track.last_direction = <uint8_t>direction
    track.state = state
    if old != state and state == TCP_FIN_WAIT:
        track.seen[direction].flags |= SIDE_CLOSE_INIT
    if track.retransmissions >= t.settings.tcp_max_retrans and timeouts[state] > timeouts[<int>TCP_RETRANSMITTED]:
        timeout[0] = timeouts[<int>TCP_RETRANSMITTED]
    elif index == INDEX_RST:
        timeout[0] = timeouts[<int>TCP_CLOSE]
    elif ((track.seen[0].flags | track.seen[1].flags) & SIDE_DATA_UNACKNOWLEDGED
            and timeouts[state] > timeouts[<int>TCP_UNACKNOWLEDGED]):
        timeout[0] = timeouts[<int>TCP_UNACKNOWLEDGED]
    elif track.last_window == 0 and timeouts[state] > timeouts[<int>TCP_RETRANSMITTED]:
        timeout[0] = timeouts[<int>TCP_RETRANSMITTED]
    else:
        timeout[0] = timeouts[state]
    if not c.status & STATUS_SEEN_REPLY:
        if flags & TCP_RST:
            # Nothing but a reset ever came of it (nf_ct_kill_acct).
            c.packets[direction] += 1
            c.bytes[direction] += p.field[<int>FIELD_LENGTH]
            conn_kill(t, c)
            timeout[0] = -1
            return TRACK_ACCEPT
        if index == INDEX_SYN and old == TCP_SYN_SENT:
            timeout[0] = -1
            return TRACK_ACCEPT
        if state == TCP_ESTABLISHED and timeout[0] > timeouts[<int>TCP_UNACKNOWLEDGED]:
            timeout[0] = timeouts[<int>TCP_UNACKNOWLEDGED]
    elif (not c.status & STATUS_ASSURED and (old == TCP_SYN_RECV or old == TCP_ESTABLISHED)
            and state == TCP_ESTABLISHED):
        c.status |= STATUS_ASSURED
    return TRACK_ACCEPT
