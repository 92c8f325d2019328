"""The states of IPVS connections (ip_vs_proto_tcp.c, ip_vs_proto_udp.c, ip_vs_proto_sctp.c). No sequence number is looked
at: each packet moves the state by its flags, and starts its time anew."""

from libc.stdint cimport uint8_t, uint32_t

from dataplane._fast.ipvs cimport (
    IPVS_ASSURED, IPVS_CLOSE, IPVS_ESTABLISHED, IPVS_INACTIVE, IPVS_NO_OUTPUT, IPVS_SCTP_ESTABLISHED, IPVS_SCTP_INIT1,
    IPVS_SYNACK, IPVS_SYN_RECV, IPVS_SYN_SENT, IPVS_UDP, Ipvs, IpvsConn,
)
from dataplane._fast.packet cimport FIELD_TCP_FLAGS, Packet
from dataplane._fast.wire cimport IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, load16

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
    /* Rows: direction, then data init init-ack cookie-echo cookie-ack shutdown shutdown-ack shutdown-complete error abort;
       columns: none init1 init cookie-sent cookie-replied cookie-wait cookie cookie-echoed established shutdown-sent
       shutdown-received shutdown-ack-sent rejected closed. */
    static const unsigned char dp_ipvs_sctp[3][10][14] = {
        {{8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, {1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 2, 2},
         {5, 5, 5, 3, 4, 6, 6, 7, 8, 9, 10, 11, 12, 13}, {4, 2, 2, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13},
         {8, 1, 2, 3, 4, 5, 6, 8, 8, 9, 10, 11, 12, 13}, {10, 1, 2, 3, 4, 5, 6, 7, 10, 9, 10, 11, 12, 13},
         {13, 2, 2, 3, 4, 5, 6, 7, 8, 13, 10, 13, 12, 13}, {13, 13, 13, 3, 4, 5, 6, 7, 8, 9, 10, 13, 12, 13},
         {13, 1, 2, 3, 4, 5, 6, 13, 8, 9, 10, 11, 12, 13}, {13, 13, 13, 13, 13, 12, 13, 13, 13, 13, 13, 13, 13, 13}},
        {{8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, {5, 5, 5, 5, 5, 5, 5, 5, 8, 5, 5, 5, 5, 5},
         {3, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, {7, 7, 7, 7, 7, 7, 7, 7, 8, 9, 10, 11, 12, 13},
         {8, 8, 8, 8, 8, 8, 8, 8, 8, 9, 10, 11, 12, 13}, {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 10, 11, 12, 13},
         {11, 11, 11, 11, 11, 5, 6, 7, 8, 11, 11, 11, 12, 13}, {13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13},
         {13, 13, 13, 13, 13, 5, 6, 7, 8, 9, 10, 11, 12, 13}, {13, 12, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13}},
        {{8, 1, 2, 3, 4, 8, 6, 7, 8, 9, 10, 11, 12, 13}, {1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 2, 2},
         {7, 7, 7, 7, 7, 7, 6, 7, 8, 9, 10, 11, 12, 13}, {8, 8, 8, 8, 8, 8, 6, 7, 8, 9, 10, 11, 12, 13},
         {8, 1, 2, 8, 8, 8, 8, 8, 8, 9, 10, 11, 12, 13}, {10, 1, 2, 3, 4, 5, 6, 7, 10, 9, 10, 11, 12, 13},
         {13, 2, 2, 3, 4, 5, 6, 7, 13, 13, 10, 13, 12, 13}, {13, 13, 13, 13, 13, 5, 6, 7, 8, 9, 13, 13, 12, 13},
         {13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, {13, 13, 13, 13, 13, 12, 13, 13, 13, 13, 13, 13, 13, 13}},
    };
    /* By chunk type. */
    static const unsigned char dp_ipvs_sctp_row[15] = {0, 1, 2, 0, 0, 0, 9, 5, 6, 8, 3, 4, 0, 0, 7};
    """
    const uint8_t dp_ipvs_tcp[3][4][11]
    const uint8_t dp_ipvs_sctp[3][10][14]
    const uint8_t dp_ipvs_sctp_row[15]


cdef inline uint8_t tcp_state(uint8_t state, uint32_t flags, Direction direction) noexcept nogil:
    """The state that follows, by the first of RST, SYN, FIN and ACK that the packet has; without any it is closed."""
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
        return IPVS_CLOSE
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
    """The state that follows a chunk; whatever has no row of its own counts as data."""
    cdef int row = dp_ipvs_sctp_row[kind] if kind < 15 else 0
    cdef int column = state - IPVS_SCTP_INIT1 + 1 if state else 0
    cdef uint8_t after = dp_ipvs_sctp[<int>direction][row][column]
    return IPVS_SCTP_INIT1 + after - 1 if after else 0


cdef inline void assure(IpvsConn *c) noexcept nogil:
    """ip_vs_control_assure_ct."""
    if c.control != NULL:
        c.control.flags |= IPVS_ASSURED


cdef inline void set_state(Ipvs *v, IpvsConn *c, const Packet *p, Direction direction) noexcept nogil:
    """Move the connection on; its server counts it as active while it is established."""
    cdef uint8_t state
    cdef bint established
    if c.proto == IPPROTO_UDP:
        c.timeout = v.timeouts[<int>IPVS_UDP]
        if direction == DIRECTION_OUTPUT:
            assure(c)
        return
    if c.proto == IPPROTO_SCTP and p.tail - p.transport < 16:
        return      # no chunk
    if c.flags & IPVS_NO_OUTPUT:
        if direction == DIRECTION_OUTPUT:
            c.flags &= ~<int>IPVS_NO_OUTPUT
        else:
            direction = DIRECTION_INPUT_ONLY
    if c.proto == IPPROTO_TCP:
        state = tcp_state(c.state, p.field[<int>FIELD_TCP_FLAGS], direction)
        # Half-open ones count as active, too (tcp_state_active).
        established = state in (IPVS_ESTABLISHED, IPVS_SYN_SENT, IPVS_SYN_RECV, IPVS_SYNACK)
    else:
        state = sctp_state(c.state, sctp_chunk(p), direction)
        established = state == IPVS_SCTP_ESTABLISHED
    if state != c.state:
        if c.server != NULL:
            if not c.flags & IPVS_INACTIVE and not established:
                c.server.active -= 1
                c.server.inactive += 1
                c.flags |= IPVS_INACTIVE
            elif c.flags & IPVS_INACTIVE and established:
                c.server.active += 1
                c.server.inactive -= 1
                c.flags &= ~<int>IPVS_INACTIVE
        if state == IPVS_ESTABLISHED or state == IPVS_SCTP_ESTABLISHED:
            assure(c)
    c.state = state
    c.timeout = v.timeouts[state]
