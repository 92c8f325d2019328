"""The way of a request to its server: route, hop limit, MTU, addresses (net/netfilter/ipvs/ip_vs_xmit.c, ip_vs_nfct.c,
ip_vs_proto_tcp.c, ip_vs_proto_udp.c, ip_vs_proto_sctp.c)."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from dataplane._fast.conntrack cimport Conn, STATUS_CONFIRMED
from dataplane._fast.crc32c cimport sctp_checksum
from dataplane._fast.fib cimport FibResult, FlowKey, ROUTE_LOCAL, fib_lookup, route_source
from dataplane._fast.icmp cimport (
    ICMP6_ADDRESS_UNREACH, ICMP6_DEST_UNREACH, ICMP6_PACKET_TOO_BIG, ICMP6_TIME_EXCEEDED, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED,
    ICMP_HOST_UNREACH, ICMP_TIME_EXCEEDED, icmp4_error, icmp6_error, icmp_unreachable,
)
from dataplane._fast.ipvs cimport (
    FORWARD_MASQ, FORWARD_TUNNEL, IPVS_CONNTRACK, IPVS_ONE_PACKET, Ipvs, IpvsConn,
)
from dataplane._fast.ipvs_tunnel cimport tunnel_overhead, tunnel_wrap
from dataplane._fast.nat cimport put_address, refresh_fields
from dataplane._fast.network cimport Host, Network, STAGE_LOCAL_OUT, drop, spawn
from dataplane._fast.packet cimport (
    CT_ESTABLISHED_REPLY, CT_RELATED_REPLY, CT_UNTRACKED, FIELD_DST, FIELD_LENGTH, FIELD_SRC, FIELD_TTL, HOOK_FORWARD, Hook, Packet,
)
from dataplane._fast.reason cimport Reason
from dataplane._fast.route cimport output_taken, packet_mtu
from dataplane._fast.track cimport CT_DROP, ct_confirm, ct_release
from dataplane._fast.wire cimport (
    IP_DF, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, checksum_fold, checksum_replace16, checksum_sum, ip4_checksum_set, load16,
    pseudo4, pseudo6, store16, store32, store_checksum,
)

cdef enum IpvsVerdict:
    IPVS_ACCEPT = 0
    IPVS_ENDED              # the packet is no longer the caller's

cdef enum WayOut:
    WAY_NONE = 0            # the packet is dropped
    WAY_LOCAL               # the server is this host
    WAY_LINK

cdef struct Way:
    # A packet's routing decision.
    int32_t oif
    uint8_t route_type
    uint8_t onlink
    uint8_t nexthop_family
    uint32_t nexthop[4]
    uint32_t route_mtu
    uint32_t path_mtu


cdef inline void way_save(const Packet *p, Way *way) noexcept nogil:
    way.oif = p.oif
    way.route_type = p.route_type
    way.onlink = p.onlink
    way.nexthop_family = p.nexthop_family
    memcpy(way.nexthop, p.nexthop, 16)
    way.route_mtu = p.route_mtu
    way.path_mtu = p.path_mtu


cdef inline void way_restore(Packet *p, const Way *way) noexcept nogil:
    p.oif = way.oif
    p.route_type = way.route_type
    p.onlink = way.onlink
    p.nexthop_family = way.nexthop_family
    memcpy(p.nexthop, way.nexthop, 16)
    p.route_mtu = way.route_mtu
    p.path_mtu = way.path_mtu


cdef inline bint way_to(Host *host, Packet *p, const IpvsConn *c, uint32_t *source) noexcept nogil:
    """The route to a server, by its address alone: neither the client, nor mark and TOS, have a say."""
    cdef FlowKey key
    cdef FibResult result
    cdef uint32_t kept[4]
    cdef uint8_t family = p.family
    cdef int32_t iif = p.iif
    cdef bint found
    memset(&key, 0, sizeof(key))
    memcpy(key.dst, c.target, 16)
    key.family = c.target_family
    key.iif = key.oif = -1
    if not fib_lookup(&host.fib, &key, &result):
        return False
    memcpy(kept, &p.field[<int>FIELD_DST], 16)
    memcpy(&p.field[<int>FIELD_DST], c.target, 16)
    p.family = c.target_family
    p.iif = -1      # what was learnt of the path binds it
    found = output_taken(host, p, &result)
    p.iif = iif
    p.family = family
    memcpy(&p.field[<int>FIELD_DST], kept, 16)
    if not found or p.route_type == ROUTE_LOCAL or c.forward != FORWARD_TUNNEL:
        return found
    return route_source(&host.fib, &key, &result, source)


cdef inline bint own_loopback(const Host *host, const Packet *p) noexcept nogil:
    cdef const uint32_t *src = &p.field[<int>FIELD_SRC]
    if p.family == 4:
        return src[0] >> 24 == 127
    return src[0] | src[1] | src[2] == 0 and src[3] == 1 and (p.iif < 0 or p.iif == host.loopback)


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


cdef inline bint too_long(
    Network *net, Host *host, Packet *p, const Ipvs *v, const IpvsConn *c, uint32_t mtu, bint error,
) noexcept nogil:
    """ensure_mtu_is_adequate: nobody is told about an error. What was put together here is measured by its largest piece."""
    if p.family == 4:
        if c.forward == FORWARD_TUNNEL and not v.pmtu_disc:
            return False
        if error or p.field[<int>FIELD_LENGTH] <= mtu or not load16(p.net + 6) & IP_DF:
            return False
        icmp4_error(net, host, p, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu)
    else:
        if (p.frag_size if p.frag_size else p.field[<int>FIELD_LENGTH]) <= mtu:
            return False
        if not error:
            icmp6_error(net, host, p, ICMP6_PACKET_TOO_BIG, 0, mtu)
    drop(net, host, p, Reason.PKT_TOO_BIG)
    return True


cdef inline WayOut way_out(
    Network *net, Host *host, Packet *p, const Ipvs *v, const IpvsConn *c, Hook hook, bint error, uint32_t *source,
) noexcept nogil:
    """__ip_vs_get_out_rt: the packet has its new route, one hop less, and fits; or it keeps the old route to this host."""
    cdef Way before, after
    cdef uint32_t mtu
    way_save(p, &before)
    if not way_to(host, p, c, source):
        way_restore(p, &before)
        # dst_link_failure
        icmp_unreachable(net, host, p, ICMP_HOST_UNREACH, ICMP6_ADDRESS_UNREACH)
        drop(net, host, p, Reason.IP_OUTNOROUTES)
        return WAY_NONE
    if p.route_type == ROUTE_LOCAL:
        way_restore(p, &before)
        # Only masquerading turns a packet for others into one for this host.
        if hook == HOOK_FORWARD or (c.forward != FORWARD_MASQ and before.route_type != ROUTE_LOCAL):
            drop(net, host, p, Reason.IP_OUTNOROUTES)
            return WAY_NONE
        return WAY_LOCAL
    mtu = packet_mtu(host, p)
    way_save(p, &after)
    way_restore(p, &before)
    if own_loopback(host, p):
        drop(net, host, p, Reason.IP_LOCALNET)
        return WAY_NONE
    if not hop_taken(net, host, p):
        return WAY_NONE
    if c.forward == FORWARD_TUNNEL:
        mtu -= tunnel_overhead(c)
    if too_long(net, host, p, v, c, mtu, error):
        return WAY_NONE
    way_restore(p, &after)
    return WAY_LINK


# ---- addresses and ports -------------------------------------------------------------------------------------------

cdef inline void translate(Packet *p, IpvsConn *c, bint source) noexcept nogil:
    """Give a packet the server's address and port, or its answer those of the service. A UDP checksum that was left out is
    made; SCTP's is made anew where the port changes."""
    cdef const uint32_t *address = c.target
    cdef uint16_t port = c.virtual_port if source else c.target_port
    cdef uint8_t *at = p.transport if source else p.transport + 2
    cdef uint8_t *check = NULL
    cdef uint32_t length = <uint32_t>(p.tail - p.transport)
    cdef bint whole = False
    if source:
        address = c.virtual
    if c.proto == IPPROTO_TCP:
        check = p.transport + 16
    elif c.proto == IPPROTO_UDP:
        check = p.transport + 6
        whole = load16(check) == 0
    elif load16(at) != port:
        store16(at, port)
        store32(p.transport + 8, sctp_checksum(p.transport, p.tail))
    if check != NULL:
        if not whole:
            checksum_replace16(check, load16(at), port)
        store16(at, port)
    put_address(p.net, p.family, source, address, NULL if whole else check)
    if p.family == 4:
        ip4_checksum_set(p.net)
    if whole:
        store_checksum(check, checksum_fold(checksum_sum(p.transport, length, (
            pseudo4(p.net, IPPROTO_UDP, length) if p.family == 4 else pseudo6(p.net, IPPROTO_UDP, length)))))
    if c.proto == IPPROTO_UDP and load16(check) == 0:
        store16(check, 0xFFFFU)
    refresh_fields(p, source, address, port)


# ---- connection tracking -------------------------------------------------------------------------------------------

cdef inline void untracked(Host *host, Packet *p) noexcept nogil:
    """ip_vs_notrack: what has no connection, as it is INVALID, stays so."""
    if p.ct == NULL:
        return
    ct_release(host.netfilter.conntrack, p)
    p.ctinfo = CT_UNTRACKED


cdef inline void tracked(Host *host, Packet *p, const IpvsConn *c, bint request) noexcept nogil:
    """What netfilter's entry learns: the answers come from the server, or go to the service; or nothing is tracked."""
    cdef Conn *ct = p.ct
    if not c.flags & IPVS_CONNTRACK:
        untracked(host, p)
        return
    if (ct == NULL or ct.status & STATUS_CONFIRMED or c.flags & IPVS_ONE_PACKET or c.forward != FORWARD_MASQ
            or p.ctinfo == CT_ESTABLISHED_REPLY or p.ctinfo == CT_RELATED_REPLY):
        return
    if request:
        memcpy(ct.tuple[1].src, c.target, 16)
        ct.tuple[1].sport = c.target_port
    else:
        memcpy(ct.tuple[1].dst, c.virtual, 16)
        ct.tuple[1].dport = c.virtual_port


# ---- out -----------------------------------------------------------------------------------------------------------

cdef inline void sent_on(Network *net, Packet *p) noexcept nogil:
    """OUTPUT knows no interface that it came by. It may be cut, whatever its header says."""
    p.ipvs = 1
    p.ignore_df = 1
    p.iif = -1
    spawn(net, p, STAGE_LOCAL_OUT)


cdef inline IpvsVerdict tunnelled(Network *net, Host *host, Packet *p, const IpvsConn *c, const uint32_t *source) noexcept nogil:
    """The wrapped packet is the host's own, of a connection of its own."""
    if c.flags & IPVS_CONNTRACK and p.ct != NULL and ct_confirm(host.netfilter.conntrack, p) == CT_DROP:
        drop(net, host, p, Reason.CONNTRACK_CLASH)
        return IPVS_ENDED
    ct_release(host.netfilter.conntrack, p)
    if not tunnel_wrap(host, p, c, source):
        drop(net, host, p, Reason.NO_HEADROOM)
        return IPVS_ENDED
    sent_on(net, p)
    return IPVS_ENDED


cdef inline IpvsVerdict transmit(
    Network *net, Host *host, Packet *p, const Ipvs *v, IpvsConn *c, Hook hook, bint error,
) noexcept nogil:
    """To the server. What is for this host itself goes on where it stands. error: it is an ICMP error of a connection that
    is not masqueraded."""
    cdef uint32_t source[4]
    cdef WayOut way = way_out(net, host, p, v, c, hook, error, source)
    if way == WAY_NONE:
        return IPVS_ENDED
    if c.forward == FORWARD_TUNNEL and way == WAY_LINK:
        return tunnelled(net, host, p, c, source)
    if c.forward == FORWARD_MASQ:
        if way == WAY_LOCAL and p.family == 4 and c.target[0] >> 24 == 127 and p.iif >= 0:
            # From the world to the loopback address.
            drop(net, host, p, Reason.IP_LOCALNET)
            return IPVS_ENDED
        translate(p, c, False)
        tracked(host, p, c, True)
    elif not c.flags & IPVS_CONNTRACK:
        untracked(host, p)
    p.ipvs = 1
    if way == WAY_LOCAL:
        return IPVS_ACCEPT
    sent_on(net, p)
    return IPVS_ENDED
