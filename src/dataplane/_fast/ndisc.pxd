"""Neighbour discovery messages that a host sends (RFC 4861; net/ipv6/ndisc.c)."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dataplane._fast.fib cimport (
    FibResult, FlowKey, ROUTE_LOCAL, ROUTE_UNICAST, address_on, fib_lookup_by, link_local_of, same_address,
)
from dataplane._fast.icmp cimport icmp6_checksum_set, write_ip6
from dataplane._fast.interface cimport Interface, LINK_TUN
from dataplane._fast.neighbour cimport NUD_VALID, Neighbour, neighbour_get
from dataplane._fast.network cimport Host, Network, STAGE_LOCAL_OUT, packet_give, packet_make, spawn
from dataplane._fast.packet cimport FIELD_DST, FIELD_SRC, Packet, packet_read6
from dataplane._fast.peer cimport SECOND, peer_allow
from dataplane._fast.wire cimport IPPROTO_ICMPV6, store32, store_address6, store_mac

cdef enum:
    ND_SOLICIT = 135
    ND_ADVERT = 136
    ND_OPTION_SOURCE = 1
    ND_OPTION_TARGET = 2
    ND_OPTION_REDIRECTED = 4
    ND_REDIRECT = 137
    REDIRECT_LENGTH = 40    # header, target and destination
    ND_FLAG_ROUTER = 0x80
    ND_FLAG_SOLICITED = 0x40
    ND_FLAG_OVERRIDE = 0x20


cdef inline void solicited_node(const uint32_t *address, uint32_t *group) noexcept nogil:
    """ff02::1:ffXX:XXXX (RFC 4291, 2.7.1)."""
    group[0] = 0xFF020000U
    group[1] = 0
    group[2] = 1
    group[3] = 0xFF000000U | (address[3] & 0xFFFFFFU)


cdef inline void nd_send(
    Network *net, Host *host, int32_t slot, uint8_t kind, uint8_t flags, const uint32_t *target,
    const uint32_t *source, const uint32_t *to, bint with_option, int64_t time,
) noexcept nogil:
    cdef Interface *interface = &host.interfaces[slot]
    cdef Packet *p = packet_make(net, host, time, 40 + 24 + (8 if with_option else 0))
    cdef uint8_t *icmp
    if p == NULL:
        return
    icmp = p.net + 40
    icmp[0] = kind
    icmp[4] = flags
    store_address6(icmp + 8, target)
    if with_option:
        icmp[24] = ND_OPTION_SOURCE if kind == ND_SOLICIT else ND_OPTION_TARGET
        icmp[25] = 1
        store_mac(icmp + 26, interface.mac)
    write_ip6(p, 0, IPPROTO_ICMPV6, 255, source, to)
    icmp6_checksum_set(p, icmp)
    packet_read6(p)
    # A neighbour is on its own link whatever routes and policy rules say (icmp6_dst_alloc).
    p.oif = slot
    p.route_type = ROUTE_UNICAST
    memcpy(p.nexthop, to, 16)
    p.nexthop_family = 6
    spawn(net, p, STAGE_LOCAL_OUT)


cdef inline void nd_redirect(Network *net, Host *host, Packet *p) noexcept nogil:
    """ndisc_send_redirect (RFC 4861, 8.2): the next hop of `p` is on the link that it came from; its sender is told."""
    cdef const uint32_t *target = p.nexthop
    cdef const uint32_t *dst = &p.field[<int>FIELD_DST]
    cdef const uint32_t *src = &p.field[<int>FIELD_SRC]
    cdef uint32_t source[4]
    cdef uint32_t quoted, option = 0
    cdef FlowKey key
    cdef FibResult result
    cdef Neighbour *neighbour
    cdef Packet *answer
    cdef uint8_t *icmp
    # Seldom to one destination, seldom to one sender.
    if not peer_allow(host, dst, SECOND, p.time) or not link_local_of(&host.fib, p.iif, source):
        return
    if not same_address(dst, target) and target[0] >> 22 != 0xFE80U >> 6:
        return
    memset(&key, 0, sizeof(key))
    memcpy(key.dst, src, 16)
    key.family = 6
    key.iif = -1
    key.oif = -1
    memcpy(key.src, source, 16)
    if not fib_lookup_by(&host.fib, &key, p.iif, &result) or result.hop == NULL or result.hop.gateway_family:
        return
    if not peer_allow(host, src, SECOND, p.time):
        return
    neighbour = neighbour_get(&host.neighbours, 6, target, p.oif)
    if neighbour == NULL:
        return
    if host.interfaces[p.oif].kind != LINK_TUN and neighbour.state & NUD_VALID:
        option = 8
    quoted = <uint32_t>(p.tail - p.net) + 8
    if quoted > 1280 - 40 - REDIRECT_LENGTH - option:
        quoted = 1280 - 40 - REDIRECT_LENGTH - option
    quoted &= ~7U
    answer = packet_make(net, host, p.time, 40 + REDIRECT_LENGTH + option + quoted)
    if answer == NULL:
        return
    icmp = answer.net + 40
    icmp[0] = ND_REDIRECT
    store_address6(icmp + 8, target)
    store_address6(icmp + 24, dst)
    icmp += REDIRECT_LENGTH
    if option:
        icmp[0] = ND_OPTION_TARGET
        icmp[1] = 1
        store_mac(icmp + 2, neighbour.mac)
        icmp += 8
    icmp[0] = ND_OPTION_REDIRECTED
    icmp[1] = <uint8_t>(quoted // 8)
    memcpy(icmp + 8, p.net, quoted - 8)
    write_ip6(answer, 0, IPPROTO_ICMPV6, 255, source, src)
    icmp6_checksum_set(answer, answer.net + 40)
    packet_read6(answer)
    # The sender's own link, wherever the packet came in.
    answer.oif = result.hop.slot
    answer.route_type = ROUTE_UNICAST
    if result.type == ROUTE_LOCAL:
        answer.oif = host.loopback
        answer.route_type = ROUTE_LOCAL
    memcpy(answer.nexthop, src, 16)
    answer.nexthop_family = 6
    spawn(net, answer, STAGE_LOCAL_OUT)


cdef inline void nd_solicit(
    Network *net, Host *host, int32_t slot, const uint32_t *target, const uint32_t *packet_source, bint unicast,
    int64_t time,
) noexcept nogil:
    """Ask for `target`: at its solicited-node group, or at itself to see whether it is still there."""
    cdef uint32_t source[4]
    cdef uint32_t group[4]
    if packet_source != NULL and address_on(&host.fib, 6, packet_source, slot):
        memcpy(source, packet_source, 16)
    elif not link_local_of(&host.fib, slot, source):
        return
    if unicast:
        memcpy(group, target, 16)
    else:
        solicited_node(target, group)
    nd_send(net, host, slot, ND_SOLICIT, 0, target, source, group, True, time)
