"""Neighbour discovery messages that a host sends (RFC 4861; net/ipv6/ndisc.c)."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dataplane._fast.fib cimport address_on, link_local_of
from dataplane._fast.icmp cimport icmp6_checksum_set, write_ip6
from dataplane._fast.interface cimport Interface
from dataplane._fast.network cimport Host, Network, STAGE_LOCAL_OUT, packet_give, packet_make, spawn
from dataplane._fast.packet cimport Packet, packet_read6
from dataplane._fast.route cimport route_output_on
from dataplane._fast.wire cimport IPPROTO_ICMPV6, store32, store_address6, store_mac

cdef enum:
    ND_SOLICIT = 135
    ND_ADVERT = 136
    ND_OPTION_SOURCE = 1
    ND_OPTION_TARGET = 2
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
    if not route_output_on(host, p, slot):
        packet_give(net, p)
        return
    # A neighbour is on its own link whatever the routes say.
    p.oif = slot
    memcpy(p.nexthop, to, 16)
    p.nexthop_family = 6
    spawn(net, p, STAGE_LOCAL_OUT)


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
