"""IPVS at the hooks of a host: requests at LOCAL_IN 99 and LOCAL_OUT -98, answers at LOCAL_IN 98, LOCAL_OUT -99 and FORWARD
100, errors about answers that pass by at FORWARD 99 (net/netfilter/ipvs/ip_vs_core.c).

A request that leaves for a server runs OUTPUT and POSTROUTING as a packet of the host's own, and never FORWARD.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy

from dataplane._fast.conntrack cimport STATUS_CONFIRMED
from dataplane._fast.defrag cimport ip4_defrag
from dataplane._fast.icmp cimport ICMP6_PORT_UNREACH, ICMP_PORT_UNREACH, icmp_unreachable
from dataplane._fast.ipvs cimport (
    FORWARD_MASQ, IPVS_CLOSE, IPVS_CONNTRACK, IPVS_FIN_WAIT, IPVS_NO_OUTPUT, IPVS_ONE_PACKET, IPVS_SCTP_CLOSED,
    IPVS_TIME_WAIT, Ipvs, IpvsConn, Server, Service,
)
from dataplane._fast.ipvs_conn cimport conn_expire, conn_expire_now, conn_free, conn_in, conn_out, conn_rearm
from dataplane._fast.ipvs_error cimport ipvs_answer_error, ipvs_request_error
from dataplane._fast.ipvs_service cimport Asked, begin, begins, service_of
from dataplane._fast.ipvs_state cimport DIRECTION_INPUT, DIRECTION_OUTPUT, sctp_chunk, set_state
from dataplane._fast.ipvs_traffic cimport answers_rerouted, count_in, count_out
from dataplane._fast.ipvs_xmit cimport IPVS_ACCEPT, IPVS_ENDED, IpvsVerdict, tracked, transmit, translate
from dataplane._fast.network cimport Host, Network, TIMER_IPVS, drop, timer_add
from dataplane._fast.packet cimport (
    FIELD_DPORT, FIELD_DST, FIELD_L4, FIELD_MARK, FIELD_PROTO, FIELD_SPORT, FIELD_SRC, FIELD_TCP_FLAGS, HOOK_FORWARD, HOOK_INPUT,
    HOOK_OUTPUT, Hook, PACKET_HOST, Packet,
)
from dataplane._fast.reason cimport Reason
from dataplane._fast.reassembly cimport FRAGMENT_USER_IPVS
from dataplane._fast.wire cimport (
    IP_MF, IP_OFFSET, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, TCP_RST, TCP_SYN, load16,
)

cdef enum:
    SCTP_INIT = 1
    SCTP_ABORT = 6


cdef inline void ipvs_timer(Network *net, Host *host, Ipvs *v) noexcept nogil:
    """Have the walk look at the table when the first connection may be due."""
    if v.count and (v.timer == 0 or v.heap[0].due < v.timer):
        if timer_add(net, v.heap[0].due, host.id, TIMER_IPVS, v):
            v.timer = v.heap[0].due


cdef inline void ipvs_timer_fires(Network *net, Host *host, Ipvs *v, int64_t time) noexcept nogil:
    if time != v.timer:
        return      # an earlier one has taken its place
    v.timer = 0
    conn_expire(v, time)
    ipvs_timer(net, host, v)


cdef inline bint balanced(const Packet *p) noexcept nogil:
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    return proto == IPPROTO_TCP or proto == IPPROTO_UDP or proto == IPPROTO_SCTP


# ---- requests ------------------------------------------------------------------------------------------------------

cdef inline bint opens(const Packet *p) noexcept nogil:
    """is_new_conn: a SYN, or an INIT."""
    if p.field[<int>FIELD_PROTO] == IPPROTO_TCP:
        return p.field[<int>FIELD_TCP_FLAGS] & TCP_SYN != 0
    return p.field[<int>FIELD_PROTO] == IPPROTO_SCTP and sctp_chunk(p) == SCTP_INIT


cdef inline bint schedulable(const Ipvs *v, const Packet *p) noexcept nogil:
    """Whether a packet may begin a connection."""
    cdef uint32_t flags = p.field[<int>FIELD_TCP_FLAGS]
    cdef uint8_t kind
    if p.field[<int>FIELD_PROTO] == IPPROTO_TCP:
        return not flags & TCP_RST and (v.sloppy_tcp or flags & TCP_SYN)
    if p.field[<int>FIELD_PROTO] == IPPROTO_SCTP:
        kind = sctp_chunk(p)
        return kind == SCTP_INIT or (v.sloppy_sctp and kind != SCTP_ABORT)
    return True


cdef inline bint reuse_expected(const Ipvs *v, const IpvsConn *c) noexcept nogil:
    if c.control != NULL:
        return False
    if c.proto == IPPROTO_TCP:
        return c.state == IPVS_TIME_WAIT or c.state == IPVS_CLOSE or (
            v.conn_reuse_mode & 2 and c.state == IPVS_FIN_WAIT and c.flags & IPVS_NO_OUTPUT)
    return c.proto == IPPROTO_SCTP and c.state == IPVS_SCTP_CLOSED


cdef inline bint given_up(Network *net, Host *host, Packet *p, Ipvs *v, IpvsConn *c) noexcept nogil:
    """A connection makes way for another. False: netfilter still tracks the old one, and the packet is lost with it."""
    cdef bint old = c.flags & IPVS_CONNTRACK and p.ct != NULL and p.ct.status & STATUS_CONFIRMED
    if not old:
        c.flags &= ~<int>IPVS_CONNTRACK
    conn_expire_now(v, c, p.time)
    if old:
        drop(net, host, p, Reason.IPVS_OLD_CONNTRACK)
        return False
    return True


cdef inline void ends_of(const Packet *p, Asked *asked) noexcept nogil:
    memcpy(asked.client, &p.field[<int>FIELD_SRC], 16)
    memcpy(asked.virtual, &p.field[<int>FIELD_DST], 16)
    memcpy(asked.hashed, asked.virtual, 16)
    asked.client_port = <uint16_t>p.field[<int>FIELD_SPORT]
    asked.virtual_port = <uint16_t>p.field[<int>FIELD_DPORT]
    asked.family = p.family
    asked.proto = <uint8_t>p.field[<int>FIELD_PROTO]
    asked.mark = p.field[<int>FIELD_MARK]


cdef inline IpvsVerdict ipvs_request(Network *net, Host *host, Packet *p, Hook hook) noexcept nogil:
    cdef Ipvs *v = host.ipvs
    cdef Asked asked
    cdef IpvsConn *c
    cdef Service *service
    cdef IpvsVerdict verdict
    cdef int64_t now = p.time
    if p.ipvs or p.transport == NULL or not p.field[<int>FIELD_L4] or not v.family_count[p.family == 6]:
        return IPVS_ACCEPT
    if p.type != PACKET_HOST and hook != HOOK_OUTPUT:
        return IPVS_ACCEPT
    if p.field[<int>FIELD_PROTO] == <uint32_t>(IPPROTO_ICMP if p.family == 4 else IPPROTO_ICMPV6):
        return ipvs_request_error(net, host, p, hook)
    if hook == HOOK_FORWARD or not balanced(p):
        return IPVS_ACCEPT
    conn_expire(v, now)
    ends_of(p, &asked)
    c = conn_in(v, asked.proto, p.family, asked.client, asked.client_port, asked.virtual, asked.virtual_port, False)
    if c != NULL and opens(p):
        if (v.expire_nodest_conn and c.server != NULL and c.server.weight == 0) or (
                v.conn_reuse_mode and reuse_expected(v, c)):
            if not given_up(net, host, p, v, c):
                return IPVS_ENDED
            c = NULL
    if c != NULL and c.server != NULL and not c.server.available:
        if not v.expire_nodest_conn:
            drop(net, host, p, Reason.IPVS_NO_DEST)
            return IPVS_ENDED
        if not given_up(net, host, p, v, c):
            return IPVS_ENDED
        c = NULL
    if c == NULL:
        if not schedulable(v, p):
            return IPVS_ACCEPT
        service = service_of(v, &asked)
        if service == NULL or not begins(v, &asked, p.iif < 0 or p.iif == host.loopback):
            return IPVS_ACCEPT
        c = begin(host, v, service, &asked, now)
        if c == NULL:
            # ip_vs_leave
            icmp_unreachable(net, host, p, ICMP_PORT_UNREACH, ICMP6_PORT_UNREACH)
            drop(net, host, p, Reason.IPVS_NO_DEST)
            return IPVS_ENDED
    count_in(c, p)
    set_state(v, c, p, DIRECTION_INPUT)
    verdict = transmit(net, host, p, v, c, hook, False)
    if c.flags & IPVS_ONE_PACKET:
        conn_free(v, c, now)
    else:
        conn_rearm(v, c, now)
        ipvs_timer(net, host, v)
    return verdict


# ---- answers -------------------------------------------------------------------------------------------------------

cdef inline bint of_server(const Ipvs *v, const Packet *p) noexcept nogil:
    """Whether a masqueraded server of some service has this source."""
    cdef uint32_t i
    cdef const Service *service
    cdef const Server *s
    for i in range(v.service_mask + 1):
        service = v.services[i]
        while service != NULL:
            if service.proto == 0 or service.proto == p.field[<int>FIELD_PROTO]:
                s = service.servers
                while s != NULL:
                    if (s.forward == FORWARD_MASQ and s.family == p.family and s.port == p.field[<int>FIELD_SPORT]
                            and memcmp(s.address, &p.field[<int>FIELD_SRC], 16) == 0):
                        return True
                    s = s.next
            service = service.next
    return False


cdef inline bint gives_up(const Packet *p) noexcept nogil:
    if p.field[<int>FIELD_PROTO] == IPPROTO_TCP:
        return p.field[<int>FIELD_TCP_FLAGS] & TCP_RST != 0
    return p.field[<int>FIELD_PROTO] == IPPROTO_SCTP and sctp_chunk(p) == SCTP_ABORT


cdef inline IpvsVerdict ipvs_answer(Network *net, Host *host, Packet *p, Hook hook) noexcept nogil:
    cdef Ipvs *v = host.ipvs
    cdef IpvsConn *c
    if p.ipvs or not v.family_count[p.family == 6]:
        return IPVS_ACCEPT
    # Whatever passes here is put together, so that its ports can be read (ip_vs_gather_frags).
    if p.family == 4 and load16(p.net + 6) & (IP_MF | IP_OFFSET) and (
            balanced(p) or p.field[<int>FIELD_PROTO] == IPPROTO_ICMP) and not ip4_defrag(net, host, p, FRAGMENT_USER_IPVS):
        return IPVS_ENDED
    if p.transport == NULL or not p.field[<int>FIELD_L4] or (v.count == 0 and not v.nat_icmp_send):
        return IPVS_ACCEPT
    if p.field[<int>FIELD_PROTO] == <uint32_t>(IPPROTO_ICMP if p.family == 4 else IPPROTO_ICMPV6):
        return ipvs_answer_error(net, host, p, hook)
    if not balanced(p):
        return IPVS_ACCEPT
    conn_expire(v, p.time)
    c = conn_out(
        v, <uint8_t>p.field[<int>FIELD_PROTO], p.family, &p.field[<int>FIELD_SRC], <uint16_t>p.field[<int>FIELD_SPORT],
        &p.field[<int>FIELD_DST], <uint16_t>p.field[<int>FIELD_DPORT])
    if c == NULL:
        if v.nat_icmp_send and not gives_up(p) and of_server(v, p):
            icmp_unreachable(net, host, p, ICMP_PORT_UNREACH, ICMP6_PORT_UNREACH)
            drop(net, host, p, Reason.IPVS_NO_DEST)
            return IPVS_ENDED
        return IPVS_ACCEPT
    if c.forward == FORWARD_MASQ:
        translate(p, c, True)
        if hook != HOOK_INPUT and not answers_rerouted(net, host, p):
            return IPVS_ENDED
    count_out(c, p)
    set_state(v, c, p, DIRECTION_OUTPUT)
    p.ipvs = 1
    tracked(host, p, c, False)
    conn_rearm(v, c, p.time)
    ipvs_timer(net, host, v)
    return IPVS_ACCEPT
