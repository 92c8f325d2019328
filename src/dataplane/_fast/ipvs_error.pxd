"""ICMP errors about connections of IPVS: what they quote is given back the face that its sender knows (ip_vs_in_icmp,
ip_vs_out_icmp, ip_vs_nat_icmp of net/netfilter/ipvs). The transport checksum inside stays as it was quoted."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from dataplane._fast.conntrack cimport Tuple
from dataplane._fast.fib cimport ROUTE_LOCAL
from dataplane._fast.icmp cimport ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, icmp4_error
from dataplane._fast.ipvs cimport (
    FORWARD_MASQ, FORWARD_TUNNEL, Ipvs, IpvsConn, Service, TUNNEL_GRE, TUNNEL_GUE, TUNNEL_IPIP,
)
from dataplane._fast.ipvs_conn cimport conn_expire, conn_in, conn_out, conn_rearm
from dataplane._fast.ipvs_service cimport Asked, begin, begins, service_of
from dataplane._fast.ipvs_traffic cimport answers_rerouted, count_in, count_out
from dataplane._fast.ipvs_tunnel cimport tunnel_overhead
from dataplane._fast.ipvs_xmit cimport (
    IPVS_ACCEPT, IPVS_ENDED, IpvsVerdict, WAY_LOCAL, WAY_NONE, Way, WayOut, sent_on, tracked, transmit, way_out, way_restore,
    way_save, way_to,
)
from dataplane._fast.nat cimport put_address, refresh_fields
from dataplane._fast.network cimport Host, Network, drop, finish
from dataplane._fast.packet cimport FIELD_ICMP, FIELD_LENGTH, FIELD_MARK, HOOK_INPUT, Hook, Packet, packet_read4
from dataplane._fast.pmtu cimport path_mtu_told
from dataplane._fast.reason cimport Reason, Verdict
from dataplane._fast.route cimport packet_mtu
from dataplane._fast.track cimport quoted_tuple, transport_good
from dataplane._fast.wire cimport (
    ETH_P_IP, IP_DF, IP_OFFSET, IPPROTO_GRE, IPPROTO_ICMPV6, IPPROTO_IPIP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, checksum_fold,
    checksum_sum, ip4_checksum_set, load16, load32, pseudo6, store16, store_checksum,
)


cdef inline bint is_error(const Packet *p) noexcept nogil:
    cdef uint8_t kind = <uint8_t>(p.field[<int>FIELD_ICMP] >> 8)
    if p.tail - p.transport < 8:
        return False
    if p.family == 4:
        return kind == 3 or kind == 4 or kind == 11     # unreachable, source quench, time exceeded
    return kind < 128


cdef inline bint error_good(const Packet *p) noexcept nogil:
    """Whether the checksum holds for IPVS: it forgets the pseudo header of IPv6, and passes only what connection tracking or
    a tunnel has looked at before."""
    if p.family == 4 or p.missing or p.summed or p.unwrapped:
        return transport_good(p)
    return checksum_fold(checksum_sum(p.transport, <uint32_t>(p.tail - p.transport), 0)) == 0


cdef inline void error_translate(
    Packet *p, IpvsConn *c, const Tuple *quoted, uint8_t *transport, bint source,
) noexcept nogil:
    """source: to the client, from the service; else to the server."""
    cdef const uint32_t *address = c.target
    cdef uint8_t *inner = p.transport + 8
    cdef uint32_t length = <uint32_t>(p.tail - p.transport)
    if source:
        address = c.virtual
    put_address(p.net, p.family, source, address, NULL)
    put_address(inner, p.family, not source, address, NULL)
    if p.family == 4:
        ip4_checksum_set(p.net)
        ip4_checksum_set(inner)
    if source:
        store16(transport + 2, c.virtual_port)
    else:
        store16(transport, c.target_port)
    refresh_fields(p, source, address, 0)
    store16(p.transport + 2, 0)
    store_checksum(p.transport + 2, checksum_fold(checksum_sum(
        p.transport, length, 0 if p.family == 4 else pseudo6(p.net, IPPROTO_ICMPV6, length))))
    p.summed = 0


cdef inline void asks(const Packet *p, const Tuple *quoted, Asked *asked) noexcept nogil:
    """net.ipv4.vs.schedule_icmp: an error about an unknown connection begins it, by the answer that it quotes."""
    memcpy(asked.client, quoted.dst, 16)
    memcpy(asked.virtual, quoted.src, 16)
    memcpy(asked.hashed, quoted.dst, 16)
    asked.client_port = quoted.dport
    asked.virtual_port = quoted.sport
    asked.family = p.family
    asked.proto = quoted.proto
    asked.mark = p.field[<int>FIELD_MARK]


cdef inline bint quotes(const Packet *p, Tuple *quoted, const uint8_t **transport) noexcept nogil:
    return is_error(p) and quoted_tuple(p.family, p.transport + 8, p.tail, quoted, transport) and (
        quoted.proto == IPPROTO_TCP or quoted.proto == IPPROTO_UDP or quoted.proto == IPPROTO_SCTP)


cdef inline IpvsVerdict tunnel_error(Network *net, Host *host, Packet *p, IpvsConn *c, uint8_t *inner) noexcept nogil:
    """An error about the outer packet of a tunnel: the client is told of its own packet, and of the room inside."""
    cdef uint8_t kind = p.transport[0], code = p.transport[1]
    cdef uint32_t info = load32(p.transport + 4)
    cdef uint8_t *outer = p.transport + 8
    cdef uint32_t source[4]
    cdef Way way
    if kind == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED:
        way_save(p, &way)
        # What the way allows by now, before it hears of this error.
        info = packet_mtu(host, p) - tunnel_overhead(c) if way_to(host, p, c, source) else 0
        way_restore(p, &way)
        path_mtu_told(&host.fib, 4, outer, load16(p.transport + 6), p.time)
        if not info or not load16(inner + 6) & IP_DF:
            finish(net, host, p, Verdict.CONSUMED, Reason.NOT_DROPPED)
            return IPVS_ENDED
    p.net = inner
    p.options.length = 0
    packet_read4(p)
    icmp4_error(net, host, p, kind, code, info)
    # What was left of the error counts, besides the one that is sent.
    p.field[<int>FIELD_LENGTH] = <uint32_t>(p.tail - p.net)
    count_out(c, p)
    finish(net, host, p, Verdict.CONSUMED, Reason.NOT_DROPPED)
    return IPVS_ENDED


cdef inline IpvsConn *tunnel_quoted(const Ipvs *v, const Packet *p, uint8_t **inner) noexcept nogil:
    """The connection whose packet is inside the outer one that an IPv4 error quotes; NULL where it is about no tunnel."""
    cdef uint8_t *outer = p.transport + 8
    cdef uint8_t *at
    cdef const uint8_t *transport = NULL
    cdef uint16_t port
    cdef Tuple quoted
    cdef IpvsConn *c
    if p.family != 4 or p.route_type != ROUTE_LOCAL or p.tail - outer < 20 or load16(outer + 6) & IP_OFFSET:
        return NULL
    at = outer + (outer[0] & 15) * 4
    if outer[9] == IPPROTO_UDP:
        if p.tail - at < 12 or at[9] != IPPROTO_IPIP:
            return NULL
        at += 12
    elif outer[9] == IPPROTO_GRE:
        if p.tail - at < 4 or load16(at + 2) != ETH_P_IP:
            return NULL
        at += 8 if load16(at) & 0x8000 else 4
    elif outer[9] != IPPROTO_IPIP:
        return NULL
    if not quoted_tuple(4, at, p.tail, &quoted, &transport):
        return NULL
    c = conn_in(v, quoted.proto, 4, quoted.src, quoted.sport, quoted.dst, quoted.dport, False)
    if c == NULL or c.forward != FORWARD_TUNNEL or c.target_family != 4 or c.target[0] != load32(outer + 16):
        return NULL
    port = load16(outer + (outer[0] & 15) * 4 + 2)
    if outer[9] != (
            IPPROTO_IPIP if c.server.tunnel == TUNNEL_IPIP else IPPROTO_GRE if c.server.tunnel == TUNNEL_GRE else IPPROTO_UDP):
        return NULL
    if c.server.tunnel == TUNNEL_GUE and c.server.tunnel_port != port:
        return NULL
    inner[0] = at
    return c


cdef inline IpvsVerdict ipvs_request_error(Network *net, Host *host, Packet *p, Hook hook) noexcept nogil:
    """A client, or a router before it, complains of an answer: the server hears of it (ip_vs_in_icmp)."""
    cdef Ipvs *v = host.ipvs
    cdef Tuple quoted
    cdef const uint8_t *transport = NULL
    cdef IpvsConn *c
    cdef WayOut way
    cdef uint32_t source[4]
    cdef IpvsConn *t
    cdef uint8_t *inner = NULL
    cdef Asked asked
    cdef Service *service
    if not is_error(p):
        return IPVS_ACCEPT
    conn_expire(v, p.time)
    t = tunnel_quoted(v, p, &inner)
    if t != NULL:
        if not error_good(p):
            drop(net, host, p, Reason.ICMP_CSUM)
            return IPVS_ENDED
        return tunnel_error(net, host, p, t, inner)
    if not quotes(p, &quoted, &transport):
        return IPVS_ACCEPT
    c = conn_in(v, quoted.proto, p.family, quoted.dst, quoted.dport, quoted.src, quoted.sport, False)
    if c == NULL:
        if not v.schedule_icmp:
            return IPVS_ACCEPT
        asks(p, &quoted, &asked)
        service = service_of(v, &asked)
        if service == NULL or not begins(v, &asked, False):
            return IPVS_ACCEPT
        c = begin(host, v, service, &asked, p.time)
        if c == NULL:
            drop(net, host, p, Reason.IPVS_NO_DEST)
            return IPVS_ENDED
        conn_rearm(v, c, p.time)
    if p.family == 4 and not error_good(p):
        drop(net, host, p, Reason.ICMP_CSUM)
        return IPVS_ENDED
    count_in(c, p)
    if c.forward != FORWARD_MASQ:
        return transmit(net, host, p, v, c, hook, True)
    way = way_out(net, host, p, v, c, hook, True, source)
    if way == WAY_NONE:
        return IPVS_ENDED
    error_translate(p, c, &quoted, <uint8_t *>transport, False)
    tracked(host, p, c, True)
    p.ipvs = 1
    if way == WAY_LOCAL:
        return IPVS_ACCEPT
    sent_on(net, p)
    return IPVS_ENDED


cdef inline IpvsVerdict ipvs_answer_error(Network *net, Host *host, Packet *p, Hook hook) noexcept nogil:
    """A server, or a router before it, complains of a request: the client hears of what it sent (ip_vs_out_icmp)."""
    cdef Ipvs *v = host.ipvs
    cdef Tuple quoted
    cdef const uint8_t *transport = NULL
    cdef IpvsConn *c
    if not quotes(p, &quoted, &transport):
        return IPVS_ACCEPT
    conn_expire(v, p.time)
    c = conn_out(v, quoted.proto, p.family, quoted.dst, quoted.dport, quoted.src, quoted.sport)
    if c == NULL:
        return IPVS_ACCEPT
    if c.forward == FORWARD_MASQ:
        if not error_good(p):
            drop(net, host, p, Reason.ICMP_CSUM)
            return IPVS_ENDED
        error_translate(p, c, &quoted, <uint8_t *>transport, True)
        if hook != HOOK_INPUT and not answers_rerouted(net, host, p):
            return IPVS_ENDED
    count_out(c, p)
    p.ipvs = 1
    tracked(host, p, c, False)
    return IPVS_ACCEPT
