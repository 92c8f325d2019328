"""Forwarding: hop limit, MTU, redirects, the FORWARD hook (net/ipv4/ip_forward.c, net/ipv6/ip6_output.c)."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from dataplane._fast.hooks cimport HOOK_VERDICT_ACCEPT, run_hook
from dataplane._fast.icmp cimport (
    ICMP6_PACKET_TOO_BIG, ICMP6_TIME_EXCEEDED, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, ICMP_REDIRECT,
    ICMP_SOURCE_ROUTE_FAILED, ICMP_TIME_EXCEEDED, icmp4_error, icmp6_error,
)
from dataplane._fast.interface cimport Interface
from dataplane._fast.options cimport options_forward
from dataplane._fast.ndisc cimport nd_redirect
from dataplane._fast.network cimport Host, Network, STAGE_END, STAGE_POSTROUTING, Stage, drop
from dataplane._fast.packet cimport (
    FIELD_LENGTH, FIELD_SRC, FIELD_TTL, HOOK_FORWARD, PACKET_HOST, Packet, bridge_routed,
)
from dataplane._fast.peer cimport redirect_allow
from dataplane._fast.reason cimport Reason
from dataplane._fast.route cimport packet_mtu
from dataplane._fast.wire cimport IP_DF, checksum_replace16, load16, load32


cdef inline Stage ip4_forward(Network *net, Host *host, Packet *p) noexcept nogil:
    cdef uint8_t *header = p.net
    cdef uint32_t mtu
    cdef uint16_t old
    if p.type != PACKET_HOST:
        return drop(net, host, p, Reason.OTHERHOST)
    if header[8] <= 1:
        icmp4_error(net, host, p, ICMP_TIME_EXCEEDED, 0, 0)
        return drop(net, host, p, Reason.TTL_EXCEEDED)
    if p.options.length and p.options.strict and not p.onlink:
        # A strict route allows no gateway that it does not name.
        icmp4_error(net, host, p, ICMP_DEST_UNREACH, ICMP_SOURCE_ROUTE_FAILED, 0)
        return drop(net, host, p, Reason.NOT_SPECIFIED)
    mtu = packet_mtu(host, p)
    if p.field[<int>FIELD_LENGTH] > mtu and load16(header + 6) & IP_DF:
        # A packet that was put together is measured by its largest piece.
        if p.frag_size > mtu or not p.ignore_df:
            icmp4_error(net, host, p, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu)
            return drop(net, host, p, Reason.PKT_TOO_BIG)
    old = load16(header + 8)
    header[8] -= 1
    checksum_replace16(header + 10, old, load16(header + 8))
    p.field[<int>FIELD_TTL] = header[8]
    if p.skip_hook:
        # ip_rt_send_redirect: the sender could reach the next hop itself.
        p.skip_hook = 0
        if not (p.options.length and p.options.route) and redirect_allow(host, &p.field[<int>FIELD_SRC], p.time):
            icmp4_error(net, host, p, ICMP_REDIRECT, 1, p.nexthop[0])
    return STAGE_POSTROUTING


cdef inline Stage ip6_forward(Network *net, Host *host, Packet *p) noexcept nogil:
    cdef uint8_t *header = p.net
    cdef uint32_t mtu
    cdef uint32_t *src = &p.field[<int>FIELD_SRC]
    if not host.interfaces[p.iif].forwarding6:
        return drop(net, host, p, Reason.IP_INADDRERRORS)
    if p.type != PACKET_HOST:
        return drop(net, host, p, Reason.OTHERHOST)
    if header[7] <= 1:
        icmp6_error(net, host, p, ICMP6_TIME_EXCEEDED, 0, 0)
        return drop(net, host, p, Reason.TTL_EXCEEDED)
    if p.oif == p.iif or bridge_routed(p):
        nd_redirect(net, host, p)
    # Unspecified and link-local sources are not forwarded (RFC 4291, 2.5.2 and 2.5.6).
    elif src[0] | src[1] | src[2] | src[3] == 0:
        return drop(net, host, p, Reason.IP_INADDRERRORS)
    elif src[0] >> 22 == 0xFE80U >> 6:
        icmp6_error(net, host, p, 1, 2, 0)
        return drop(net, host, p, Reason.IP_INADDRERRORS)
    # The link's alone: what a route says is asked of the packet as it leaves (ip6_dst_mtu_maybe_forward).
    mtu = host.interfaces[p.oif].mtu6
    if mtu < 1280:
        mtu = 1280
    if p.field[<int>FIELD_LENGTH] > mtu and (p.frag_size > mtu or not p.ignore_df):
        icmp6_error(net, host, p, ICMP6_PACKET_TOO_BIG, 0, mtu)
        return drop(net, host, p, Reason.PKT_TOO_BIG)
    header[7] -= 1
    p.field[<int>FIELD_TTL] = header[7]
    return STAGE_POSTROUTING


cdef inline Stage ip_forward(Network *net, Host *host, Packet *p) noexcept nogil:
    cdef Stage stage = ip4_forward(net, host, p) if p.family == 4 else ip6_forward(net, host, p)
    if stage != STAGE_POSTROUTING:
        return stage
    if run_hook(net, host, p, HOOK_FORWARD) != HOOK_VERDICT_ACCEPT:
        return STAGE_END
    if p.family == 4 and p.options.length:
        options_forward(host, p)
    return stage
