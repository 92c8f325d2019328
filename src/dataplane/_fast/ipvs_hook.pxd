"""IPVS at the hooks of a host: requests at LOCAL_IN 99 and LOCAL_OUT -98, answers of masqueraded connections at LOCAL_IN
98, LOCAL_OUT -99 and FORWARD 100 (net/netfilter/ipvs/ip_vs_core.c, ip_vs_xmit.c, ip_vs_nfct.c).

A request that leaves for a server runs OUTPUT and POSTROUTING as a packet of the host's own, and never FORWARD.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from dataplane._fast.conntrack cimport Conntrack, STATUS_CONFIRMED
from dataplane._fast.fib cimport ROUTE_LOCAL, fib_select_source
from dataplane._fast.icmp cimport (
    ICMP6_DEST_UNREACH, ICMP6_PACKET_TOO_BIG, ICMP6_PORT_UNREACH, ICMP6_TIME_EXCEEDED, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED,
    ICMP_PORT_UNREACH, ICMP_TIME_EXCEEDED, icmp4_error, icmp6_error, icmp_error_type, write_ip4,
)
from dataplane._fast.ipvs cimport (
    FORWARD_MASQ, FORWARD_TUNNEL, IPVS_CONNTRACK, IPVS_FIN_WAIT, IPVS_NO_OUTPUT, IPVS_ONE_PACKET, IPVS_SCTP_CLOSED,
    IPVS_TEMPLATE, IPVS_TIME_WAIT, Ipvs, IpvsConn, Server, Service,
)
from dataplane._fast.ipvs_conn cimport (
    conn_expire, conn_expire_now, conn_free, conn_in, conn_new, conn_out, conn_rearm, ipvs_hash,
)
from dataplane._fast.ipvs_schedule cimport schedule
from dataplane._fast.ipvs_state cimport DIRECTION_INPUT, DIRECTION_OUTPUT, sctp_chunk, set_state
from dataplane._fast.nat cimport manip, refresh_fields
from dataplane._fast.network cimport Host, Network, STAGE_LOCAL_OUT, drop, packet_own, next_ip_id, spawn
from dataplane._fast.packet cimport (
    CT_ESTABLISHED_REPLY, CT_RELATED_REPLY, CT_UNTRACKED, FIELD_DPORT, FIELD_DST, FIELD_FRAGMENT, FIELD_ICMP, FIELD_L4, FIELD_LENGTH,
    FIELD_MARK, FIELD_PROTO, FIELD_SPORT, FIELD_SRC, FIELD_TCP_FLAGS, FIELD_TTL, HOOK_INPUT, HOOK_OUTPUT, Hook, PACKET_HOST,
    Packet, packet_read4,
)
from dataplane._fast.reason cimport Reason
from dataplane._fast.reroute cimport reroute
from dataplane._fast.route cimport packet_mtu, route_output
from dataplane._fast.track cimport ct_release, quoted_tuple, transport_good
from dataplane._fast.conntrack cimport Tuple
from dataplane._fast.wire cimport (
    IP_DF, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, TCP_ACK, TCP_RST, TCP_SYN, checksum_fold,
    checksum_replace16, checksum_sum, load16, pseudo6, store16, store_checksum,
)

cdef enum IpvsVerdict:
    IPVS_ACCEPT = 0
    IPVS_ENDED              # the packet is no longer the caller's


# ---- services ------------------------------------------------------------------------------------------------------

cdef inline Service *service_find(const Ipvs *v, uint8_t family, uint8_t proto, const uint32_t *address, uint16_t port) noexcept nogil:
    cdef Service *s = v.services[ipvs_hash(v, proto, address, port) & v.service_mask]
    while s != NULL:
        if (s.proto == proto and s.port == port and s.family == family and s.address[0] == address[0]
                and s.address[1] == address[1] and s.address[2] == address[2] and s.address[3] == address[3]):
            return s
        s = s.next
    return NULL


cdef inline Service *service_of_mark(const Ipvs *v, uint8_t family, uint32_t mark) noexcept nogil:
    cdef uint32_t key[4]
    cdef Service *s
    memset(key, 0, sizeof(key))
    key[0] = mark
    s = v.services[ipvs_hash(v, 0, key, 0) & v.service_mask]
    while s != NULL:
        if s.proto == 0 and s.fwmark == mark and s.family == family:
            return s
        s = s.next
    return NULL


cdef inline Service *service_of(const Ipvs *v, const Packet *p) noexcept nogil:
    """By mark; by address, protocol and port; by address and protocol with port 0, where it is persistent."""
    cdef Service *s
    cdef uint8_t proto = <uint8_t>p.field[<int>FIELD_PROTO]
    if v.services == NULL:
        return NULL
    if v.fwmark_count and p.field[<int>FIELD_MARK]:
        s = service_of_mark(v, p.family, p.field[<int>FIELD_MARK])
        if s != NULL:
            return s
    s = service_find(v, p.family, proto, &p.field[<int>FIELD_DST], <uint16_t>p.field[<int>FIELD_DPORT])
    if s == NULL:
        s = service_find(v, p.family, proto, &p.field[<int>FIELD_DST], 0)
    return s


# ---- on its way ----------------------------------------------------------------------------------------------------

cdef inline void tracked(Ipvs *v, Host *host, Packet *p, const IpvsConn *c, bint request) noexcept nogil:
    """What netfilter's entry learns: the answers come from the server; or nothing is tracked any more."""
    if not c.flags & IPVS_CONNTRACK:
        if p.ct != NULL:
            ct_release(host.netfilter.conntrack, p)
        p.ctinfo = CT_UNTRACKED
        return
    if (not request or p.ct == NULL or p.ct.status & STATUS_CONFIRMED or c.flags & IPVS_ONE_PACKET or c.forward != FORWARD_MASQ
            or p.ctinfo == CT_ESTABLISHED_REPLY or p.ctinfo == CT_RELATED_REPLY):
        return
    memcpy(p.ct.tuple[1].src, c.target, 16)
    p.ct.tuple[1].sport = c.target_port


cdef inline bint too_long(Network *net, Host *host, Packet *p, const Ipvs *v, uint32_t mtu) noexcept nogil:
    if p.field[<int>FIELD_LENGTH] <= mtu:
        return False
    if p.family == 4:
        if not v.pmtu_disc or not load16(p.net + 6) & IP_DF:
            return False
        icmp4_error(net, host, p, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu)
    else:
        icmp6_error(net, host, p, ICMP6_PACKET_TOO_BIG, 0, mtu)
    drop(net, host, p, Reason.PKT_TOO_BIG)
    return True


cdef inline bint hop_taken(Network *net, Host *host, Packet *p) noexcept nogil:
    """One hop less; False: it was the last, and the sender has been told."""
    cdef uint16_t old
    if p.family == 4:
        if p.net[8] <= 1:
            icmp4_error(net, host, p, ICMP_TIME_EXCEEDED, 0, 0)
            drop(net, host, p, Reason.TTL_EXCEEDED)
            return False
        old = load16(p.net + 8)
        p.net[8] -= 1
        checksum_replace16(p.net + 10, old, load16(p.net + 8))
        p.field[<int>FIELD_TTL] = p.net[8]
        return True
    if p.net[7] <= 1:
        icmp6_error(net, host, p, ICMP6_TIME_EXCEEDED, 0, 0)
        drop(net, host, p, Reason.TTL_EXCEEDED)
        return False
    p.net[7] -= 1
    p.field[<int>FIELD_TTL] = p.net[7]
    return True


cdef inline bint routed_to(Host *host, Packet *p, const uint32_t *target) noexcept nogil:
    """The route to a server, whatever the packet's own destination is."""
    cdef uint32_t kept[4]
    cdef bint found
    memcpy(kept, &p.field[<int>FIELD_DST], 16)
    memcpy(&p.field[<int>FIELD_DST], target, 16)
    found = route_output(host, p)
    memcpy(&p.field[<int>FIELD_DST], kept, 16)
    return found


cdef inline void sent_on(Network *net, Host *host, Packet *p) noexcept nogil:
    p.ipvs = 1
    p.iif = -1      # OUTPUT knows no interface that it came by
    spawn(net, p, STAGE_LOCAL_OUT)


cdef inline bint wrapped(Host *host, Packet *p, const IpvsConn *c) noexcept nogil:
    """An IPv4 header before the packet (RFC 2003): its TOS, TTL and DF go out with it."""
    cdef uint8_t tos = p.net[1], ttl = p.net[8]
    cdef uint16_t df = load16(p.net + 6) & IP_DF
    cdef uint32_t source[4]
    if not fib_select_source(&host.fib, 4, p.oif, p.nexthop, source):
        return False
    if p.net - p.head < 20 and not packet_own(p):
        return False
    p.net -= 20
    p.mac = p.net
    write_ip4(p, tos, next_ip_id(host), df, ttl, 4, source[0], c.target[0])
    packet_read4(p)
    return True


cdef inline IpvsVerdict transmit(Network *net, Host *host, Packet *p, Ipvs *v, IpvsConn *c, Hook hook) noexcept nogil:
    """To the server. What is for this host itself goes on where it stands."""
    cdef int32_t oif = p.oif
    cdef uint8_t route_type = p.route_type
    cdef bint local
    if not routed_to(host, p, c.target):
        p.oif = oif
        p.route_type = route_type
        drop(net, host, p, Reason.IP_OUTNOROUTES)
        return IPVS_ENDED
    local = p.route_type == ROUTE_LOCAL
    if not local:
        p.route_type = route_type
        if not hop_taken(net, host, p):
            return IPVS_ENDED
        if too_long(net, host, p, v, packet_mtu(host, p) - (20 if c.forward == FORWARD_TUNNEL else 0)):
            return IPVS_ENDED
        routed_to(host, p, c.target)
    elif hook == HOOK_INPUT:
        p.oif = oif
    if c.forward == FORWARD_MASQ:
        if not manip(p.net, p.family, c.proto, p.transport, p.tail, False, c.target, c.target_port):
            drop(net, host, p, Reason.NETFILTER_DROP)
            return IPVS_ENDED
        refresh_fields(p, False, c.target, c.target_port)
    tracked(v, host, p, c, True)
    p.ipvs = 1
    if local:
        return IPVS_ACCEPT
    if c.forward == FORWARD_TUNNEL and not wrapped(host, p, c):
        drop(net, host, p, Reason.NO_HEADROOM)
        return IPVS_ENDED
    sent_on(net, host, p)
    return IPVS_ENDED


# ---- requests ------------------------------------------------------------------------------------------------------

cdef inline bint opens(const Packet *p) noexcept nogil:
    """is_new_conn: a SYN, or an INIT."""
    if p.field[<int>FIELD_PROTO] == IPPROTO_TCP:
        return p.field[<int>FIELD_TCP_FLAGS] & TCP_SYN != 0
    return p.field[<int>FIELD_PROTO] == IPPROTO_SCTP and sctp_chunk(p) == 1


cdef inline bint schedulable(const Ipvs *v, const Packet *p) noexcept nogil:
    """Whether a packet may begin a connection."""
    cdef uint32_t flags = p.field[<int>FIELD_TCP_FLAGS]
    cdef uint8_t kind
    if p.field[<int>FIELD_PROTO] == IPPROTO_TCP:
        if v.sloppy_tcp:
            return not flags & TCP_RST
        return flags & TCP_SYN and not flags & (TCP_ACK | TCP_RST)
    if p.field[<int>FIELD_PROTO] == IPPROTO_SCTP:
        kind = sctp_chunk(p)
        return kind == 1 or (v.sloppy_sctp and kind != 6)
    return True


cdef inline bint reuse_expected(const Ipvs *v, const IpvsConn *c) noexcept nogil:
    if c.control != NULL:
        return False
    if c.proto == IPPROTO_TCP:
        return c.state == IPVS_TIME_WAIT or (
            v.conn_reuse_mode == 2 and c.state == IPVS_FIN_WAIT and c.flags & IPVS_NO_OUTPUT)
    return c.proto == IPPROTO_SCTP and c.state == IPVS_SCTP_CLOSED


cdef inline bint template_good(const Ipvs *v, const IpvsConn *template) noexcept nogil:
    cdef const Server *s = template.server
    return s != NULL and s.available and not (v.expire_quiescent_template and s.weight == 0)


cdef inline IpvsConn *begin_persistent(
    Host *host, Ipvs *v, Service *service, Packet *p, int64_t now,
) noexcept nogil:
    """ip_vs_sched_persist: a client, or a net of clients, keeps the server that its template names."""
    cdef uint32_t net[4]
    cdef uint32_t virtual[4]
    cdef int i
    cdef uint8_t proto = service.proto
    cdef uint16_t sport = <uint16_t>p.field[<int>FIELD_SPORT], dport = <uint16_t>p.field[<int>FIELD_DPORT]
    cdef uint16_t port = 0, server_port
    cdef IpvsConn *template
    cdef IpvsConn *c
    cdef Server *s
    for i in range(4):
        net[i] = p.field[<int>FIELD_SRC + i] & service.netmask[i]
    memcpy(virtual, &p.field[<int>FIELD_DST], 16)
    if proto == 0:
        memset(virtual, 0, 16)
        virtual[0] = service.fwmark
    elif dport == service.port:
        port = dport
    template = conn_in(v, proto, p.family, net, 0, virtual, port, True)
    if template != NULL and not template_good(v, template):
        # It is not found again, and goes when its connections have gone.
        conn_retire(v, host.netfilter.conntrack, template, now)
        template = NULL
    if template == NULL:
        s = schedule(v, service, &p.field[<int>FIELD_SRC], sport, &p.field[<int>FIELD_DST], now, &host.chance)
        if s == NULL:
            return NULL
        template = conn_new(
            v, proto, p.family, net, 0, virtual, port, s.address, s.port if port else 0, <uint8_t>IPVS_TEMPLATE, s, now)
        if template == NULL:
            return NULL
        template.timeout = service.persistent
    else:
        s = template.server
    server_port = s.port if s.port and (dport == service.port or proto == 0) else dport
    c = conn_new(
        v, <uint8_t>p.field[<int>FIELD_PROTO], p.family, &p.field[<int>FIELD_SRC], sport, &p.field[<int>FIELD_DST], dport,
        s.address, server_port, one_packet(service, p), s, now)
    if c != NULL:
        c.control = template
        template.children += 1
        conn_rearm(v, template, now)
    return c


cdef inline void conn_retire(Ipvs *v, Conntrack *t, IpvsConn *template, int64_t now) noexcept nogil:
    """ip_vs_check_template: no new connection finds it. It ends with its last child."""
    if template.children == 0:
        conn_free(v, t, template, now)
        return
    unhash_template(v, template)


cdef inline void unhash_template(Ipvs *v, IpvsConn *template) noexcept nogil:
    """Its ports become 0xffff, which no template of a service has."""
    template.virtual_port = 0xFFFF
    template.target_port = 0xFFFF


cdef inline uint8_t one_packet(const Service *service, const Packet *p) noexcept nogil:
    return IPVS_ONE_PACKET if service.one_packet and p.field[<int>FIELD_PROTO] == IPPROTO_UDP else 0


cdef inline IpvsConn *begin(Host *host, Ipvs *v, Service *service, Packet *p, int64_t now) noexcept nogil:
    """ip_vs_schedule: a connection to the server that the scheduler chooses; NULL when there is none."""
    cdef IpvsConn *c
    cdef Server *s
    cdef uint16_t sport = <uint16_t>p.field[<int>FIELD_SPORT], dport = <uint16_t>p.field[<int>FIELD_DPORT]
    if service.persistent:
        c = begin_persistent(host, v, service, p, now)
    else:
        s = schedule(v, service, &p.field[<int>FIELD_SRC], sport, &p.field[<int>FIELD_DST], now, &host.chance)
        if s == NULL:
            return NULL
        c = conn_new(
            v, <uint8_t>p.field[<int>FIELD_PROTO], p.family, &p.field[<int>FIELD_SRC], sport, &p.field[<int>FIELD_DST], dport,
            s.address, s.port if s.port else dport, one_packet(service, p), s, now)
    if c != NULL:
        c.server.counters.connections += 1
        service.counters.connections += 1
    return c


cdef inline void count_in(IpvsConn *c, const Packet *p) noexcept nogil:
    if c.server != NULL and c.server.available:
        c.server.counters.in_packets += 1
        c.server.counters.in_bytes += p.field[<int>FIELD_LENGTH]
        c.server.service.counters.in_packets += 1
        c.server.service.counters.in_bytes += p.field[<int>FIELD_LENGTH]


cdef inline void count_out(IpvsConn *c, const Packet *p) noexcept nogil:
    if c.server != NULL and c.server.available:
        c.server.counters.out_packets += 1
        c.server.counters.out_bytes += p.field[<int>FIELD_LENGTH]
        c.server.service.counters.out_packets += 1
        c.server.service.counters.out_bytes += p.field[<int>FIELD_LENGTH]


cdef inline IpvsVerdict ipvs_request(Network *net, Host *host, Packet *p, Hook hook) noexcept nogil:
    cdef Ipvs *v = host.ipvs
    cdef Conntrack *t = host.netfilter.conntrack
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    cdef IpvsConn *c
    cdef Service *service
    cdef IpvsVerdict verdict
    cdef bint old = False
    if p.ipvs or p.type != PACKET_HOST or p.transport == NULL or not p.field[<int>FIELD_L4]:
        return IPVS_ACCEPT
    if proto == (IPPROTO_ICMP if p.family == 4 else IPPROTO_ICMPV6):
        return ipvs_request_error(net, host, p, hook)
    if proto != IPPROTO_TCP and proto != IPPROTO_UDP and proto != IPPROTO_SCTP:
        return IPVS_ACCEPT
    conn_expire(v, t, p.time)
    c = conn_in(
        v, <uint8_t>proto, p.family, &p.field[<int>FIELD_SRC], <uint16_t>p.field[<int>FIELD_SPORT],
        &p.field[<int>FIELD_DST], <uint16_t>p.field[<int>FIELD_DPORT], False)
    if c != NULL and opens(p):
        if (v.expire_nodest_conn and c.server != NULL and c.server.weight == 0) or (
                v.conn_reuse_mode and reuse_expected(v, c)):
            # Its entry in netfilter still says where it went: this SYN is lost, the next one finds neither.
            old = c.flags & IPVS_CONNTRACK and p.ct != NULL and p.ct.status & STATUS_CONFIRMED
            if not old:
                c.flags &= ~<int>IPVS_CONNTRACK
            conn_expire_now(v, t, c, p.time)
            c = NULL
            if old:
                drop(net, host, p, Reason.IPVS_OLD_CONNTRACK)
                return IPVS_ENDED
    if c != NULL and c.server != NULL and not c.server.available:
        if not v.expire_nodest_conn:
            drop(net, host, p, Reason.IPVS_NO_DEST)
            return IPVS_ENDED
        old = c.flags & IPVS_CONNTRACK and p.ct != NULL and p.ct.status & STATUS_CONFIRMED
        if not old:
            c.flags &= ~<int>IPVS_CONNTRACK
        conn_expire_now(v, t, c, p.time)
        c = NULL
        if old:
            drop(net, host, p, Reason.IPVS_OLD_CONNTRACK)
            return IPVS_ENDED
    if c == NULL:
        if not schedulable(v, p):
            return IPVS_ACCEPT
        service = service_of(v, p)
        if service == NULL:
            return IPVS_ACCEPT
        c = begin(host, v, service, p, p.time)
        if c == NULL:
            # ip_vs_leave
            if p.family == 4:
                icmp4_error(net, host, p, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0)
            else:
                icmp6_error(net, host, p, ICMP6_DEST_UNREACH, ICMP6_PORT_UNREACH, 0)
            drop(net, host, p, Reason.IPVS_NO_DEST)
            return IPVS_ENDED
    count_in(c, p)
    set_state(v, c, p, DIRECTION_INPUT)
    verdict = transmit(net, host, p, v, c, hook)
    if c.flags & IPVS_ONE_PACKET:
        conn_free(v, t, c, p.time)
    else:
        conn_rearm(v, c, net.now)
    return verdict


# ---- answers -------------------------------------------------------------------------------------------------------

cdef inline IpvsVerdict ipvs_answer(Network *net, Host *host, Packet *p, Hook hook) noexcept nogil:
    cdef Ipvs *v = host.ipvs
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    cdef IpvsConn *c
    if p.ipvs or v.count == 0 or p.transport == NULL or not p.field[<int>FIELD_L4]:
        return IPVS_ACCEPT
    if proto == (IPPROTO_ICMP if p.family == 4 else IPPROTO_ICMPV6):
        return ipvs_answer_error(net, host, p, hook)
    if proto != IPPROTO_TCP and proto != IPPROTO_UDP and proto != IPPROTO_SCTP:
        return IPVS_ACCEPT
    conn_expire(v, host.netfilter.conntrack, p.time)
    c = conn_out(
        v, <uint8_t>proto, p.family, &p.field[<int>FIELD_SRC], <uint16_t>p.field[<int>FIELD_SPORT],
        &p.field[<int>FIELD_DST], <uint16_t>p.field[<int>FIELD_DPORT])
    if c == NULL or c.forward != FORWARD_MASQ:
        return IPVS_ACCEPT
    if not manip(p.net, p.family, c.proto, p.transport, p.tail, True, c.virtual, c.virtual_port):
        drop(net, host, p, Reason.NETFILTER_DROP)
        return IPVS_ENDED
    refresh_fields(p, True, c.virtual, c.virtual_port)
    if hook == HOOK_OUTPUT and not reroute(net, host, p):
        return IPVS_ENDED
    count_out(c, p)
    set_state(v, c, p, DIRECTION_OUTPUT)
    p.ipvs = 1
    tracked(v, host, p, c, False)
    conn_rearm(v, c, p.time)
    return IPVS_ACCEPT


# ---- ICMP errors ---------------------------------------------------------------------------------------------------

cdef inline bint is_error(const Packet *p) noexcept nogil:
    cdef uint8_t kind = <uint8_t>(p.field[<int>FIELD_ICMP] >> 8)
    if p.tail - p.transport < 8:
        return False
    if p.family == 4:
        return kind == 3 or kind == 4 or kind == 11     # unreachable, source quench, time exceeded
    return 1 <= kind <= 4


cdef inline void error_summed(Packet *p) noexcept nogil:
    cdef uint32_t length = <uint32_t>(p.tail - p.transport)
    store16(p.transport + 2, 0)
    store_checksum(p.transport + 2, checksum_fold(checksum_sum(
        p.transport, length, 0 if p.family == 4 else pseudo6(p.net, IPPROTO_ICMPV6, length))))


cdef inline IpvsVerdict ipvs_request_error(Network *net, Host *host, Packet *p, Hook hook) noexcept nogil:
    """A client, or a router before it, complains of an answer: the server hears of it (ip_vs_in_icmp)."""
    cdef Ipvs *v = host.ipvs
    cdef Tuple quoted
    cdef const uint8_t *transport = NULL
    cdef IpvsConn *c
    if not is_error(p) or v.count == 0 or not quoted_tuple(p.family, p.transport + 8, p.tail, &quoted, &transport):
        return IPVS_ACCEPT
    conn_expire(v, host.netfilter.conntrack, p.time)
    c = conn_in(v, quoted.proto, p.family, quoted.dst, quoted.dport, quoted.src, quoted.sport, False)
    if c == NULL:
        return IPVS_ACCEPT
    if not transport_good(p):
        drop(net, host, p, Reason.ICMP_CSUM)
        return IPVS_ENDED
    count_in(c, p)
    if not routed_to(host, p, c.target):
        drop(net, host, p, Reason.IP_OUTNOROUTES)
        return IPVS_ENDED
    if p.route_type != ROUTE_LOCAL and not hop_taken(net, host, p):
        return IPVS_ENDED
    if c.forward == FORWARD_MASQ:
        manip(p.transport + 8, p.family, quoted.proto, <uint8_t *>transport, p.tail, True, c.target, c.target_port)
        manip(p.net, p.family, 0, NULL, p.tail, False, c.target, 0)
        refresh_fields(p, False, c.target, 0)
        error_summed(p)
    tracked(v, host, p, c, False)
    p.ipvs = 1
    if p.route_type == ROUTE_LOCAL:
        return IPVS_ACCEPT
    sent_on(net, host, p)
    return IPVS_ENDED


cdef inline IpvsVerdict ipvs_answer_error(Network *net, Host *host, Packet *p, Hook hook) noexcept nogil:
    """A server, or a router before it, complains of a request: the client hears of what it sent (ip_vs_out_icmp)."""
    cdef Ipvs *v = host.ipvs
    cdef Tuple quoted
    cdef const uint8_t *transport = NULL
    cdef IpvsConn *c
    if not is_error(p) or not quoted_tuple(p.family, p.transport + 8, p.tail, &quoted, &transport):
        return IPVS_ACCEPT
    conn_expire(v, host.netfilter.conntrack, p.time)
    c = conn_out(v, quoted.proto, p.family, quoted.dst, quoted.dport, quoted.src, quoted.sport)
    if c == NULL or c.forward != FORWARD_MASQ:
        return IPVS_ACCEPT
    if not transport_good(p):
        drop(net, host, p, Reason.ICMP_CSUM)
        return IPVS_ENDED
    manip(p.transport + 8, p.family, quoted.proto, <uint8_t *>transport, p.tail, False, c.virtual, c.virtual_port)
    manip(p.net, p.family, 0, NULL, p.tail, True, c.virtual, 0)
    refresh_fields(p, True, c.virtual, 0)
    error_summed(p)
    if hook == HOOK_OUTPUT and not reroute(net, host, p):
        return IPVS_ENDED
    count_out(c, p)
    tracked(v, host, p, c, False)
    p.ipvs = 1
    return IPVS_ACCEPT
