"""The states of IPVS connections (ip_vs_proto_tcp.c, ip_vs_proto_udp.c, ip_vs_proto_sctp.c). No sequence number is looked
at: each packet moves the state by its flags, and starts its time anew."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from dataplane._fast.ipvs cimport (
    IPVS_ESTABLISHED, IPVS_INACTIVE, IPVS_NONE,
    IPVS_NO_OUTPUT, IPVS_SCTP_CLOSED, IPVS_SCTP_COOKIE, IPVS_SCTP_COOKIE_ECHOED, IPVS_SCTP_COOKIE_REPLIED,
    IPVS_SCTP_COOKIE_SENT, IPVS_SCTP_COOKIE_WAIT, IPVS_SCTP_ESTABLISHED, IPVS_SCTP_INIT, IPVS_SCTP_INIT1,
    IPVS_SCTP_REJECTED, IPVS_SCTP_SHUTDOWN_ACK_SENT, IPVS_SCTP_SHUTDOWN_RECEIVED, IPVS_SCTP_SHUTDOWN_SENT, IPVS_SYNACK,
    IPVS_SYN_RECV, IPVS_SYN_SENT, IPVS_UDP, Ipvs, IpvsConn,
)
from dataplane._fast.packet cimport FIELD_TCP_FLAGS, Packet
from dataplane._fast.wire cimport IPPROTO_SCTP, IPPROTO_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, load16

cdef enum Direction:
    DIRECTION_INPUT = 0
    DIRECTION_OUTPUT
    DIRECTION_INPUT_ONLY

cdef extern from *:
    """
    /* Rows: direction, then syn fin ack rst; columns: none established syn-sent syn-recv fin-wait time-wait close
       close-wait last-ack listen synack, as enum IpvsState counts them. */
    static const unsigned char dp_ipvs_tcp[3][4][11] = {
        {{3, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3}, {6, 7, 2, 5, 5, 5, 6, 7, 8, 9, 5},
         {1, 1, 2, 1, 4, 5, 6, 7, 6, 9, 1}, {6, 6, 6, 3, 6, 6, 6, 6, 8, 9, 3}},
        {{2, 1, 2, 3, 2, 2, 2, 2, 2, 9, 3}, {5, 4, 2, 5, 4, 5, 6, 5, 8, 9, 5},
         {1, 1, 2, 1, 4, 5, 6, 7, 8, 1, 1}, {6, 6, 2, 6, 6, 5, 6, 6, 6, 6, 6}},
        {{3, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3}, {6, 4, 2, 5, 4, 5, 6, 7, 8, 9, 5},
         {1, 1, 2, 1, 4, 5, 6, 7, 6, 9, 1}, {6, 6, 6, 3, 6, 6, 6, 6, 8, 9, 6}},
    };
    """
    const uint8_t dp_ipvs_tcp[3][4][11]


cdef inline uint8_t tcp_state(uint8_t state, uint32_t flags, Direction direction) noexcept nogil:
    """The state that follows, by the first of RST, SYN, FIN and ACK that the packet has."""
    cdef int row
    if flags & TCP_RST:
        row = 3
    elif flags & TCP_SYN:
        row = 0
    elif flags & TCP_FIN:
        row = 1
    elif flags & TCP_ACK:
        row = 2
    else:
        return state
    return dp_ipvs_tcp[<int>direction][row][state]


cdef inline uint8_t sctp_chunk(const Packet *p) noexcept nogil:
    """The first chunk's type; where it is a cookie's echo or answer with a second chunk, ABORT alone counts before it."""
    cdef const uint8_t *at = p.transport + 12
    cdef uint8_t kind, following
    cdef uint32_t length
    if at + 4 > p.tail:
        return 255
    kind = at[0]
    if kind == 10 or kind == 11:
        length = (load16(at + 2) + 3) & 0xFFFCU
        if length >= 4 and at + length + 4 <= p.tail:
            following = (at + length)[0]
            if following == 6:
                kind = 6
    return kind


cdef inline uint8_t sctp_state(uint8_t state, uint8_t kind, Direction direction) noexcept nogil:
    """A simplified reading of the kernel's table: what each chunk says of an association that goes its normal way."""
    cdef bint established = state == IPVS_SCTP_ESTABLISHED
    if kind == 6:                   # ABORT
        return IPVS_SCTP_CLOSED
    if kind == 1:                   # INIT
        if direction == DIRECTION_OUTPUT:
            return IPVS_SCTP_INIT if state == IPVS_NONE else state
        return IPVS_SCTP_ESTABLISHED if established else IPVS_SCTP_INIT1
    if kind == 2:                   # INIT ACK
        if direction == DIRECTION_OUTPUT:
            return IPVS_SCTP_COOKIE_REPLIED if state == IPVS_SCTP_INIT1 else state
        return IPVS_SCTP_COOKIE_WAIT if state == IPVS_SCTP_INIT else state
    if kind == 10:                  # COOKIE ECHO
        if established:
            return state
        return IPVS_SCTP_COOKIE if direction != DIRECTION_OUTPUT else IPVS_SCTP_COOKIE_ECHOED
    if kind == 11:                  # COOKIE ACK
        return IPVS_SCTP_ESTABLISHED
    if kind == 7:                   # SHUTDOWN
        return IPVS_SCTP_SHUTDOWN_SENT if direction == DIRECTION_OUTPUT else IPVS_SCTP_SHUTDOWN_RECEIVED
    if kind == 8:                   # SHUTDOWN ACK
        return IPVS_SCTP_SHUTDOWN_ACK_SENT
    if kind == 14:                  # SHUTDOWN COMPLETE
        return IPVS_SCTP_CLOSED
    if kind == 9 and state in (IPVS_SCTP_INIT1, IPVS_SCTP_COOKIE, IPVS_SCTP_COOKIE_REPLIED):
        return IPVS_SCTP_REJECTED   # ERROR
    if kind == 0 and direction == DIRECTION_INPUT_ONLY and state != IPVS_SCTP_CLOSED:
        return IPVS_SCTP_ESTABLISHED
    return state


cdef inline void set_state(Ipvs *v, IpvsConn *c, const Packet *p, Direction direction) noexcept nogil:
    """Move the connection on; its server counts it as active while it is established."""
    cdef uint8_t state
    cdef bint established
    if c.flags & IPVS_NO_OUTPUT:
        if direction == DIRECTION_OUTPUT:
            c.flags &= ~<int>IPVS_NO_OUTPUT
        else:
            direction = DIRECTION_INPUT_ONLY
    if c.proto == IPPROTO_TCP:
        state = tcp_state(c.state, p.field[<int>FIELD_TCP_FLAGS], direction)
        # Half-open ones count as active, too (tcp_state_active).
        established = state in (IPVS_ESTABLISHED, IPVS_SYN_SENT, IPVS_SYN_RECV, IPVS_SYNACK)
    elif c.proto == IPPROTO_SCTP:
        state = sctp_state(c.state, sctp_chunk(p), direction)
        established = state == IPVS_SCTP_ESTABLISHED
    else:
        c.state = IPVS_UDP
        c.timeout = v.timeouts[<int>IPVS_UDP]
        return
    if state != c.state and c.server != NULL:
        if not c.flags & IPVS_INACTIVE and not established:
            c.server.active -= 1
            c.server.inactive += 1
            c.flags |= IPVS_INACTIVE
        elif c.flags & IPVS_INACTIVE and established:
            c.server.active += 1
            c.server.inactive -= 1
            c.flags &= ~<int>IPVS_INACTIVE
    c.state = state
    c.timeout = v.timeouts[state]
