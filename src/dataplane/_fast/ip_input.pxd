"""IP packets as they come in: checks, the routing decision, local delivery.

Sources: net/ipv4/ip_input.c, net/ipv6/ip6_input.c, net/ipv4/icmp.c, net/ipv6/icmp.c, net/ipv4/udp.c, net/ipv4/tcp_ipv4.c.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from dataplane._fast.defrag cimport ip4_defrag
from dataplane._fast.discovery cimport arp_receive, nd_receive
from dataplane._fast.fib cimport ROUTE_BROADCAST, ROUTE_LOCAL, ROUTE_MULTICAST, address_on
from dataplane._fast.hooks cimport HOOK_VERDICT_ACCEPT, run_hook
from dataplane._fast.icmp cimport (
    ICMP6_DEST_UNREACH, ICMP6_PACKET_TOO_BIG, ICMP6_PARAMETER_PROBLEM, ICMP6_PORT_UNREACH, ICMP_DEST_UNREACH,
    ICMP_FRAG_NEEDED, ICMP_PORT_UNREACH, ICMP_PROT_UNREACH, ICMP_TIMESTAMP, echo_reply, icmp4_error, icmp6_error,
    icmp_unreachable, tcp_reset, transport_checksum_good,
)
from dataplane._fast.interface cimport Interface, LINK_LOOPBACK
from dataplane._fast.network cimport (
    Host, Network, STAGE_END, STAGE_FORWARD, STAGE_LOCAL_DELIVER, STAGE_LOCAL_IN, STAGE_PREROUTING, STAGE_ROUTE_INPUT,
    STAGE_VXLAN_RECEIVE, Stage, drop, finish,
)
from dataplane._fast.packet cimport (
    BRIDGE_SEEN, FIELD_DST, FIELD_ICMP, FIELD_L4, FIELD_PROTO, FIELD_SRC, HOOK_INPUT, HOOK_PREROUTING,
    PACKET_HOST, PACKET_LOOPBACK, PACKET_OTHERHOST, Packet, ip6_chain_broken, ip6_summed, ip6_transport, packet_pull,
    packet_read4, packet_read6,
)
from dataplane._fast.peer cimport route_error_allow
from dataplane._fast.pmtu cimport path_mtu_told
from dataplane._fast.reason cimport Reason, Verdict
from dataplane._fast.reassembly cimport FRAGMENT_USER_LOCAL
from dataplane._fast.options_input cimport options_input
from dataplane._fast.route cimport INPUT_DROP, INPUT_ERROR, INPUT_FORWARD, InputRoute, SILENT, route_input4, route_input6
from dataplane._fast.track cimport ct_release
from dataplane._fast.vlan cimport vlan_tag, vlan_untag
from dataplane._fast.vxlan cimport vxlan_listens, vxlan_quoted, vxlan_takes_unsummed
from dataplane._fast.ip6_headers cimport ip6_headers
from dataplane._fast.ip6_options cimport hop_options
from dataplane._fast.rule_socket cimport socket_listens
from dataplane._fast.wire cimport (
    ETH_P_802_3_MIN, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, IPPROTO_HOPOPTS, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_NONE, IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE, IP_MF, IP_OFFSET, checksum_fold, checksum_sum, dp_swap32, ip4_checksum_good, load16, load32, pseudo6,
)


cdef inline Reason ip4_check(Packet *p) noexcept nogil:
    """What ip_rcv asks of a header; trims the padding behind the datagram and reads the words."""
    cdef uint8_t *net = p.net
    cdef int64_t room = p.tail - net
    cdef uint32_t header, total
    if room < 20:
        return Reason.PKT_TOO_SMALL
    header = (net[0] & 15) * 4
    if header < 20 or net[0] >> 4 != 4:
        return Reason.IP_INHDR
    if room < header:
        return Reason.PKT_TOO_SMALL
    if not ip4_checksum_good(net):
        return Reason.IP_CSUM
    total = load16(net + 2)
    if room < total:
        return Reason.PKT_TOO_SMALL
    if total < header:
        return Reason.IP_INHDR
    if room > total:
        # Padding of short Ethernet frames; what a capture cut off may only be part of it.
        if p.missing:
            p.missing = p.missing - <uint32_t>(room - total) if p.missing > room - total else 0
        p.tail = net + total
    p.options.length = 0
    packet_read4(p)
    return Reason.NOT_DROPPED


cdef inline Reason ip6_header_check(Packet *p) noexcept nogil:
    """What a bridge, too, asks of a header (br_validate_ipv6)."""
    cdef uint8_t *net = p.net
    cdef int64_t room = p.tail - net
    cdef uint32_t total
    if room < 40:
        return Reason.PKT_TOO_SMALL
    if net[0] >> 4 != 6:
        return Reason.IP_INHDR
    total = 40 + load16(net + 4)
    if room < total:
        return Reason.PKT_TOO_SMALL
    if total == 40 and net[6] == IPPROTO_HOPOPTS:
        total = <uint32_t>room      # as long as an option says, or as it came
    if room > total:
        if p.missing:
            p.missing = p.missing - <uint32_t>(room - total) if p.missing > room - total else 0
        p.tail = net + total
    packet_read6(p)
    return Reason.NOT_DROPPED


cdef inline Reason ip6_check(Host *host, Packet *p) noexcept nogil:
    """What ip6_rcv asks of a header and its addresses."""
    cdef Reason reason = ip6_header_check(p)
    cdef uint32_t *src = &p.field[<int>FIELD_SRC]
    cdef uint32_t *dst = &p.field[<int>FIELD_DST]
    if reason != Reason.NOT_DROPPED:
        return reason
    p.whole_at = 0
    if p.iif >= 0 and host.interfaces[p.iif].kind != LINK_LOOPBACK:
        # ::1 stays inside a host (RFC 4291, 2.5.3), and so do interface-local groups.
        if (src[0] | src[1] | src[2]) == 0 and src[3] == 1:
            return Reason.IP_INHDR
        if (dst[0] | dst[1] | dst[2]) == 0 and dst[3] == 1:
            return Reason.IP_INHDR
        if dst[0] >> 24 == 0xFF and (dst[0] >> 16) & 15 == 1 and p.type != PACKET_LOOPBACK:
            return Reason.IP_INHDR
    if dst[0] >> 24 == 0xFF and (dst[0] >> 16) & 15 == 0:
        return Reason.IP_INHDR
    if src[0] >> 24 == 0xFF:
        return Reason.IP_INHDR
    return Reason.NOT_DROPPED


cdef inline Stage network_receive(Network *net, Host *host, Packet *p) noexcept nogil:
    """By ethertype: ARP ends here, IP goes on to PREROUTING."""
    cdef Interface *interface = &host.interfaces[p.iif]
    cdef Reason reason
    while p.vlan_proto:
        if p.vlan_tci & 0x0FFF:
            # No VLAN device is modelled: the frame belongs to one that is not there.
            p.type = PACKET_OTHERHOST
            p.vlan_proto = 0
        else:
            # A tag that bears a priority and no VLAN: the frame counts as untagged.
            p.vlan_proto = 0
            if vlan_tag(p.ethertype) and not vlan_untag(p):
                return drop(net, host, p, Reason.PKT_TOO_SMALL)
    if p.ethertype == ETH_P_IP:
        if p.type == PACKET_OTHERHOST:
            return drop(net, host, p, Reason.OTHERHOST)
        reason = ip4_check(p)
    elif p.ethertype == ETH_P_IPV6:
        if p.type == PACKET_OTHERHOST:
            return drop(net, host, p, Reason.OTHERHOST)
        if interface.disabled6:
            return drop(net, host, p, Reason.IPV6DISABLED)
        reason = ip6_check(host, p)
        if reason == Reason.NOT_DROPPED and p.net[6] == IPPROTO_HOPOPTS and not hop_options(net, host, p):
            return STAGE_END
    elif p.ethertype == ETH_P_ARP:
        return arp_receive(net, host, p)
    else:
        # A length instead of an EtherType: LLC takes the frame, for the spanning tree that came with bridges (llc_rcv).
        if p.ethertype >= ETH_P_802_3_MIN or (p.tail - p.net >= 2 and load16(p.net) == 0xFFFF):
            interface.rx_dropped += 1
        return drop(net, host, p, Reason.UNHANDLED_PROTO)
    if reason != Reason.NOT_DROPPED:
        return drop(net, host, p, reason)
    # A frame that a bridge showed to netfilter has been through PREROUTING.
    return STAGE_ROUTE_INPUT if p.bridge_state == BRIDGE_SEEN else STAGE_PREROUTING


cdef inline Stage ip_prerouting(Network *net, Host *host, Packet *p) noexcept nogil:
    if run_hook(net, host, p, HOOK_PREROUTING) != HOOK_VERDICT_ACCEPT:
        return STAGE_END
    return STAGE_ROUTE_INPUT


cdef inline Stage ip_route_input(Network *net, Host *host, Packet *p) noexcept nogil:
    cdef InputRoute route
    if p.type == PACKET_LOOPBACK:
        # It still has the route that it left by, and that leads here too.
        memset(&route, 0, sizeof(route))
        if p.family == 4 and p.net[0] & 15 > 5 and not options_input(net, host, p, &route):
            return STAGE_END
        return STAGE_LOCAL_IN
    if p.cut_count and p.field[<int>FIELD_PROTO] == IPPROTO_TCP and p.type == PACKET_HOST and p.transport != NULL:
        if (p.family == 4 or p.net[6] == IPPROTO_TCP) and host.early_demux and host.interfaces[p.iif].kind != LINK_LOOPBACK:
            packet_pull(p, p.transport + 20)    # tcp_v4_early_demux: a socket is looked for before the route
    if p.family == 4:
        route_input4(host, p, &route)
        if p.net[0] & 15 > 5 and route.action != INPUT_DROP and not options_input(net, host, p, &route):
            return STAGE_END
    else:
        route_input6(host, p, &route)
    if route.action == INPUT_DROP:
        return drop(net, host, p, route.reason)
    if route.action == INPUT_ERROR:
        if route.code == SILENT:
            pass
        elif p.family == 4:
            if route_error_allow(host, &p.field[<int>FIELD_SRC], p.time):
                icmp4_error(net, host, p, ICMP_DEST_UNREACH, route.code, 0)
        else:
            icmp6_error(net, host, p, ICMP6_DEST_UNREACH, route.code, 0)
        return drop(net, host, p, route.reason)
    if route.action == INPUT_FORWARD:
        p.skip_hook = route.redirect
        return STAGE_FORWARD
    return STAGE_LOCAL_IN


cdef inline Stage ip_local_in(Network *net, Host *host, Packet *p) noexcept nogil:
    if p.family == 4 and load16(p.net + 6) & (IP_MF | IP_OFFSET) and not ip4_defrag(net, host, p, FRAGMENT_USER_LOCAL):
        return STAGE_END
    if run_hook(net, host, p, HOOK_INPUT) != HOOK_VERDICT_ACCEPT:
        return STAGE_END
    return STAGE_LOCAL_DELIVER


cdef inline bint delivered_checksum_good(const Packet *p, uint32_t proto) noexcept nogil:
    """What a transport makes of a checksum. IPv6 is judged by the sum that connection tracking made of the whole packet;
    TOS, DSCP and HL change the header behind its back, so that a right sum fails and a wrong one may pass. UDP of more
    than 76 bytes believes the failure (udp6_csum_init, CHECKSUM_BREAK), all others sum anew."""
    cdef uint32_t then = p.summed, now = ip6_summed(p.net), length = <uint32_t>(p.tail - p.transport), moved
    if not then or then == now or p.family == 4 or p.missing:
        return transport_checksum_good(p)
    moved = (then >> 8) + (then & 0xFF) + (0xFFFF - (now >> 8)) + (0xFFFF - (now & 0xFF))
    if checksum_fold(checksum_sum(p.transport, length, pseudo6(p.net, <uint8_t>proto, length)) + dp_swap32(moved)) == 0:
        return True
    return not (proto == IPPROTO_UDP and length > 76) and transport_checksum_good(p)


cdef inline bint listened(const Host *host, uint32_t proto, uint16_t port) noexcept nogil:
    """Whether a socket of the host takes this port."""
    return socket_listens(host.listening, host.accept_all, proto, port)


cdef inline bint minds_its_path(const Host *host, uint8_t family, const uint8_t *quoted, const uint8_t *tail) noexcept nogil:
    """Whether what sent the quoted packet hears of its size: ICMP itself (icmp_err heeds its echo replies, icmpv6_err
    all), a tunnel, or a socket that is there."""
    cdef uint8_t proto = 0
    cdef uint16_t fragment = 0
    cdef const uint8_t *transport
    if family == 4:
        proto = quoted[9]
        transport = quoted + (quoted[0] & 15) * 4
        if quoted[0] >> 4 != 4 or transport < quoted + 20:
            return False
    else:
        transport = ip6_transport(quoted, tail, &proto, &fragment)
    if transport == NULL or transport + 8 > tail:
        return False
    if proto == (IPPROTO_ICMP if family == 4 else IPPROTO_ICMPV6):
        return family == 6 or transport[0] == 0
    if proto != IPPROTO_UDP:
        return False
    return vxlan_quoted(host, family, transport, tail) or (
        not host.accept_all and listened(host, proto, load16(transport)))


cdef inline Stage icmp_deliver(Network *net, Host *host, Packet *p) noexcept nogil:
    """The host's own ICMP: it answers echo requests and takes the rest."""
    cdef uint32_t length = <uint32_t>(p.tail - p.transport)
    cdef uint8_t kind
    cdef Reason reason
    if p.family == 4:
        if not p.missing and checksum_fold(checksum_sum(p.transport, length, 0)):
            return drop(net, host, p, Reason.ICMP_CSUM)
    elif not delivered_checksum_good(p, IPPROTO_ICMPV6):
        return drop(net, host, p, Reason.ICMP_CSUM)
    if length < 8:
        return drop(net, host, p, Reason.PKT_TOO_SMALL)
    kind = p.transport[0]
    if p.family == 4:
        if kind == ICMP_DEST_UNREACH and p.transport[1] == ICMP_FRAG_NEEDED and length >= 8 + 20:
            # net.ipv4.ip_no_pmtu_disc 1 believes that it was too big, but not how big it may be.
            if host.no_pmtu_disc <= 1 and minds_its_path(host, 4, p.transport + 8, p.tail):
                path_mtu_told(&host.fib, 4, p.transport + 8, 0 if host.no_pmtu_disc else load16(p.transport + 6), p.time)
        if (p.route_type == ROUTE_BROADCAST or p.route_type == ROUTE_MULTICAST) and kind not in (8, 13, 17, 18):
            return drop(net, host, p, Reason.NO_SOCKET)     # RFC 1122, 3.2.2.6 and 3.2.2.8
        if (kind == 8 or kind == ICMP_TIMESTAMP) and not host.accept_all:
            if p.route_type == ROUTE_BROADCAST or p.route_type == ROUTE_MULTICAST:
                if host.icmp_echo_ignore_broadcasts:
                    return drop(net, host, p, Reason.NO_SOCKET)
            if kind == ICMP_TIMESTAMP and length < 12:
                return drop(net, host, p, Reason.PKT_TOO_SMALL)
            if kind == ICMP_TIMESTAMP or not host.icmp_echo_ignore_all:
                echo_reply(net, host, p)
                return finish(net, host, p, Verdict.CONSUMED, Reason.NOT_DROPPED)
    else:
        if 1 <= kind <= 4 and length >= 8 + 40 and ip6_chain_broken(p.transport + 8, p.tail):
            return drop(net, host, p, Reason.IPV6_BAD_EXTHDR)
        if kind == ICMP6_PACKET_TOO_BIG and length >= 8 + 40 and minds_its_path(host, 6, p.transport + 8, p.tail):
            path_mtu_told(&host.fib, 6, p.transport + 8, load32(p.transport + 4), p.time)
        if kind >= 133 and kind <= 137:
            reason = nd_receive(net, host, p)
            if reason != Reason.NOT_DROPPED:
                return drop(net, host, p, reason)
            return finish(net, host, p, Verdict.CONSUMED, Reason.NOT_DROPPED)
        if kind == 128 and not host.accept_all:
            echo_reply(net, host, p)
            return finish(net, host, p, Verdict.CONSUMED, Reason.NOT_DROPPED)
    return finish(net, host, p, Verdict.DELIVERED, Reason.NOT_DROPPED)


cdef inline bint proto_delivered(uint8_t family, uint32_t proto) noexcept nogil:
    """Whether somebody reads what follows the header; of other protocols nobody looks whether it is whole."""
    if proto == IPPROTO_TCP or proto == IPPROTO_UDP or proto == IPPROTO_UDPLITE:
        return True
    return proto == (IPPROTO_ICMP if family == 4 else IPPROTO_ICMPV6)


cdef inline Stage ip_local_deliver(Network *net, Host *host, Packet *p) noexcept nogil:
    """To the transport: a tunnel's port, the host's own ICMP, or a socket. IPv6 is put together only here."""
    cdef uint32_t proto
    cdef uint32_t length, at
    cdef bint group = p.route_type == ROUTE_BROADCAST or p.route_type == ROUTE_MULTICAST
    cdef uint32_t named = 6
    if p.family == 6 and p.transport != p.net + 40 and not ip6_headers(net, host, p, &named):
        return STAGE_END
    proto = p.field[<int>FIELD_PROTO]
    if proto == IPPROTO_NONE and p.family == 6:
        return finish(net, host, p, Verdict.CONSUMED, Reason.NOT_DROPPED)
    if (p.transport == NULL or not p.field[<int>FIELD_L4]) and proto_delivered(p.family, proto):
        return drop(net, host, p, Reason.PKT_TOO_SMALL)
    if proto == IPPROTO_UDP:
        length = load16(p.transport + 4)
        # RFC 2675 gives a length of 0 a meaning in IPv6 alone.
        if (length or p.family == 4) and (length < 8 or length > <uint32_t>(p.tail - p.transport)):
            return drop(net, host, p, Reason.PKT_TOO_SMALL)
        if length and p.transport + length < p.tail:
            # What stands behind the datagram is nobody's (RFC 768 and 9868; pskb_trim_rcsum).
            at = <uint32_t>(p.tail - p.transport) - length
            p.missing = p.missing - at if p.missing > at else 0
            p.tail = p.transport + length
        if load16(p.transport + 6) == 0:
            if p.family == 6 and not vxlan_takes_unsummed(host, load16(p.transport + 2)):
                return drop(net, host, p, Reason.UDP_CSUM)
        elif not delivered_checksum_good(p, proto):
            return drop(net, host, p, Reason.UDP_CSUM)
        if vxlan_listens(host, p.family, load16(p.transport + 2)):
            return STAGE_VXLAN_RECEIVE
        if listened(host, proto, load16(p.transport + 2)):
            return finish(net, host, p, Verdict.DELIVERED, Reason.NOT_DROPPED)
        if not group:
            # Transports get a packet without its connection (nf_reset_ct): what they answer belongs to none.
            ct_release(host.netfilter.conntrack, p)
            icmp_unreachable(net, host, p, ICMP_PORT_UNREACH, ICMP6_PORT_UNREACH)
        return drop(net, host, p, Reason.NO_SOCKET)
    if proto == IPPROTO_TCP:
        if p.tail - p.transport < 20 or (p.transport[12] >> 4) < 5 or (p.transport[12] >> 4) * 4 > p.tail - p.transport:
            return drop(net, host, p, Reason.PKT_TOO_SMALL)
        if p.type != PACKET_HOST:
            return drop(net, host, p, Reason.OTHERHOST)
        if not delivered_checksum_good(p, proto):
            return drop(net, host, p, Reason.TCP_CSUM)
        if listened(host, proto, load16(p.transport + 2)):
            return finish(net, host, p, Verdict.DELIVERED, Reason.NOT_DROPPED)
        tcp_reset(net, host, p, False)
        return drop(net, host, p, Reason.NO_SOCKET)
    if proto == (IPPROTO_ICMP if p.family == 4 else IPPROTO_ICMPV6):
        return icmp_deliver(net, host, p)
    if host.accept_all:
        return finish(net, host, p, Verdict.DELIVERED, Reason.NOT_DROPPED)
    if p.family == 4:
        if not group:
            icmp4_error(net, host, p, ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, 0)
    else:
        icmp6_error(net, host, p, ICMP6_PARAMETER_PROBLEM, 1, named)
    return drop(net, host, p, Reason.IP_NOPROTO)
