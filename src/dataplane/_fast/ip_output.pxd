"""IP packets on their way out: OUTPUT, POSTROUTING, fragments, the neighbour's MAC.

Sources: net/ipv4/ip_output.c, net/ipv6/ip6_output.c.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dataplane._fast.fib cimport ROUTE_BROADCAST, ROUTE_MULTICAST
from dataplane._fast.fragment cimport ip4_fragment, ip6_fragment
from dataplane._fast.group cimport group_joined4, group_joined6
from dataplane._fast.hooks cimport HOOK_VERDICT_ACCEPT, run_hook
from dataplane._fast.icmp cimport ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, icmp4_error
from dataplane._fast.interface cimport Interface, LINK_LOOPBACK, LINK_TUN
from dataplane._fast.neighbour cimport Neighbour
from dataplane._fast.network cimport (
    Host, Network, STAGE_END, STAGE_FINISH_OUTPUT, STAGE_NETWORK_RECEIVE, STAGE_POSTROUTING, STAGE_TRANSMIT, Stage, drop,
    packet_clone, packet_own, spawn,
)
from dataplane._fast.packet cimport (
    FIELD_DST, FIELD_LENGTH, FIELD_PKTTYPE, FIELD_TTL, HOOK_OUTPUT, HOOK_POSTROUTING, PACKET_BROADCAST, PACKET_LOOPBACK,
    PACKET_MULTICAST, Packet,
)
from dataplane._fast.reason cimport Reason
from dataplane._fast.resolve cimport neighbour_ready
from dataplane._fast.route cimport packet_mtu
from dataplane._fast.wire cimport (
    ETH_HLEN, ETH_P_IP, ETH_P_IPV6, IP_DF, load16, store16, store_mac,
)


cdef inline Stage ip_local_out(Network *net, Host *host, Packet *p) noexcept nogil:
    """A routed packet of the host's own. Its hook may route it once more."""
    p.ethertype = ETH_P_IP if p.family == 4 else ETH_P_IPV6
    if run_hook(net, host, p, HOOK_OUTPUT) != HOOK_VERDICT_ACCEPT:
        return STAGE_END
    return STAGE_POSTROUTING


cdef inline void hear_oneself(Network *net, Host *host, Packet *p, uint8_t kind) noexcept nogil:
    """dev_loopback_xmit: what a socket says to a group of its own host's, or to all, is heard here as from the link. The
    copy passes POSTROUTING before the packet itself does."""
    cdef Packet *copy = packet_clone(net, p)
    if copy == NULL:
        return
    copy.row = -1
    copy.socketed = 0
    if run_hook(net, host, copy, HOOK_POSTROUTING) != HOOK_VERDICT_ACCEPT:
        return
    copy.type = PACKET_LOOPBACK
    copy.field[<int>FIELD_PKTTYPE] = kind
    copy.route_type = ROUTE_MULTICAST if kind == PACKET_MULTICAST else ROUTE_BROADCAST
    copy.iif = p.oif
    copy.oif = -1
    copy.mac = copy.net
    spawn(net, copy, STAGE_NETWORK_RECEIVE)


cdef inline bint group_leaves4(Network *net, Host *host, Packet *p) noexcept nogil:
    """ip_mc_output; False when the packet stays inside the host."""
    cdef uint32_t dst = p.field[<int>FIELD_DST]
    cdef Interface *out = &host.interfaces[p.oif]
    if out.kind == LINK_LOOPBACK:
        return True
    if dst >> 28 == 14:
        if not p.tunnel and group_joined4(host, out, dst):
            hear_oneself(net, host, p, PACKET_MULTICAST)
            if p.field[<int>FIELD_TTL] == 0:
                drop(net, host, p, Reason.NOT_SPECIFIED)
                return False
    elif p.route_type == ROUTE_BROADCAST or dst == 0xFFFFFFFFU:
        hear_oneself(net, host, p, PACKET_BROADCAST)
    return True


cdef inline bint group_leaves6(Network *net, Host *host, Packet *p) noexcept nogil:
    """ip6_finish_output2; False when the packet stays inside the host."""
    cdef uint32_t *dst = &p.field[<int>FIELD_DST]
    cdef Interface *out = &host.interfaces[p.oif]
    if dst[0] >> 24 != 0xFF or out.kind == LINK_LOOPBACK:
        return True
    if p.socketed and group_joined6(host, out, dst):
        hear_oneself(net, host, p, PACKET_MULTICAST)
        if p.field[<int>FIELD_TTL] == 0:
            drop(net, host, p, Reason.NOT_SPECIFIED)
            return False
    if (dst[0] >> 16) & 15 <= 1:
        drop(net, host, p, Reason.NOT_SPECIFIED)
        return False
    return True


cdef inline Stage ip_postrouting(Network *net, Host *host, Packet *p) noexcept nogil:
    if p.iif < 0 and p.family == 4 and not group_leaves4(net, host, p):
        return STAGE_END
    if run_hook(net, host, p, HOOK_POSTROUTING) != HOOK_VERDICT_ACCEPT:
        return STAGE_END
    return STAGE_FINISH_OUTPUT


cdef inline uint64_t group_mac(const Packet *p) noexcept nogil:
    """The link-layer group of a broadcast or multicast destination; 0 for a unicast one (RFC 1112, 2464)."""
    cdef uint32_t dst
    if p.family == 4:
        dst = p.field[<int>FIELD_DST]
        if p.route_type == ROUTE_BROADCAST or dst == 0xFFFFFFFFU:
            return 0xFFFFFFFFFFFFULL
        if dst >> 28 == 14:
            return 0x01005E000000ULL | (dst & 0x7FFFFFU)
        return 0
    if p.field[<int>FIELD_DST] >> 24 == 0xFF:
        return 0x333300000000ULL | p.field[<int>FIELD_DST + 3]
    return 0


cdef inline Stage ip_finish_output(Network *net, Host *host, Packet *p) noexcept nogil:
    """Cut to the MTU, find the neighbour, write the link-layer header."""
    cdef Interface *out = &host.interfaces[p.oif]
    cdef uint32_t mtu = packet_mtu(host, p)
    cdef uint64_t mac
    cdef Neighbour *n
    if p.field[<int>FIELD_LENGTH] > mtu or p.frag_size:
        if p.family == 4:
            if load16(p.net + 6) & IP_DF and (p.frag_size > mtu or not p.ignore_df):
                icmp4_error(net, host, p, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu)
                return drop(net, host, p, Reason.PKT_TOO_BIG)
            return ip4_fragment(net, host, p, mtu, STAGE_FINISH_OUTPUT, p.frag_size > 0)
        if p.field[<int>FIELD_LENGTH] > mtu or p.field[<int>FIELD_LENGTH] > p.frag_size:
            return ip6_fragment(net, host, p, mtu, STAGE_FINISH_OUTPUT)
    if p.family == 6 and p.field[<int>FIELD_DST] >> 24 == 0xFF and not group_leaves6(net, host, p):
        return STAGE_END
    if out.kind == LINK_TUN:
        p.mac = p.net
        return STAGE_TRANSMIT
    if p.net - p.head < ETH_HLEN:
        if p.head == p.storage or not packet_own(p):
            return drop(net, host, p, Reason.NO_HEADROOM)
    if out.kind == LINK_LOOPBACK or out.noarp:
        mac = 0
        if out.kind != LINK_LOOPBACK:
            mac = out.mac
    else:
        mac = group_mac(p)
        if mac == 0:
            n = neighbour_ready(net, host, p)
            if n == NULL:
                return STAGE_END
            mac = n.mac
    p.mac = p.net - ETH_HLEN
    store_mac(p.mac, mac)
    store_mac(p.mac + 6, out.mac)
    store16(p.mac + 12, p.ethertype)
    return STAGE_TRANSMIT
