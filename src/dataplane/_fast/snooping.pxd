"""What a bridge that snoops asks of multicast before it floods it (net/bridge/br_multicast.c, net/ipv4/igmp.c,
net/ipv6/mcast_snoop.c).

Without a querier on the link, which is not modelled, what it learns of groups changes nothing: all ports get all.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from dataplane._fast.packet cimport Packet, ip6_transport
from dataplane._fast.wire cimport (
    ETH_P_IP, ETH_P_IPV6, IPPROTO_HOPOPTS, IPPROTO_ICMPV6, checksum_fold, checksum_sum, ip4_checksum_good, load16, load32, pseudo6,
)

cdef enum:
    IPPROTO_IGMP = 2
    IGMP_QUERY = 0x11
    IGMP_REPORT = 0x22      # version 3
    MLD_QUERY = 130
    MLD_REPORT = 143        # version 2


cdef inline bint records_whole(const uint8_t *report, int64_t length, int64_t record, int64_t source) noexcept nogil:
    """Whether all group records that a report of version 3 (MLD: 2) announces are there, with their sources."""
    cdef int64_t at = 8
    cdef uint32_t _
    for _ in range(load16(report + 6)):
        if at + record > length:
            return False
        at += record + source * load16(report + at + 2)
        if at > length:
            return False
    return True


cdef inline bint igmp_sound(const uint8_t *net, const uint8_t *igmp, int64_t length) noexcept nogil:
    """ip_mc_check_igmp: the message is whole, and a general query goes to all hosts."""
    if length < 8 or checksum_fold(checksum_sum(igmp, <uint32_t>length, 0)):
        return False
    if igmp[0] == IGMP_REPORT:
        return records_whole(igmp, length, 8, 4)
    if igmp[0] != IGMP_QUERY:
        return True
    return (length == 8 or length >= 12) and (load32(igmp + 4) or load32(net + 16) == 0xE0000001U)


cdef inline bint mld_sound(const uint8_t *net, const uint8_t *icmp, int64_t length) noexcept nogil:
    """ipv6_mc_check_mld: the message is whole; a query comes from a link-local address, and a general one goes to all nodes."""
    cdef bint general, nodes
    if length < 8 or checksum_fold(checksum_sum(icmp, <uint32_t>length, pseudo6(net, IPPROTO_ICMPV6, <uint32_t>length))):
        return False
    if icmp[0] == MLD_REPORT:
        return records_whole(icmp, length, 20, 16)
    if icmp[0] == MLD_QUERY:
        if load32(net + 8) >> 22 != 0xFE80U >> 6 or (length != 24 and length < 28):
            return False
        general = load32(icmp + 8) | load32(icmp + 12) | load32(icmp + 16) | load32(icmp + 20) == 0
        nodes = load32(net + 24) == 0xFF020000U and load32(net + 28) | load32(net + 32) == 0 and load32(net + 36) == 1
        return nodes or not general
    return icmp[0] < MLD_QUERY or icmp[0] > MLD_QUERY + 2 or length >= 24


cdef inline bint snooping_passes(const Packet *p) noexcept nogil:
    """br_multicast_rcv: whether a frame to a group, not to all, is sound enough to be passed on."""
    cdef const uint8_t *net = p.net
    cdef int64_t room = p.tail - net, header, total
    cdef const uint8_t *icmp
    cdef uint8_t proto = 0
    cdef uint16_t fragment = 0
    if p.ethertype == ETH_P_IP:
        if room < 20 or net[0] >> 4 != 4 or (net[0] & 15) < 5:
            return False
        header = (net[0] & 15) * 4
        total = load16(net + 2)
        if header > room or not ip4_checksum_good(net) or total > room or total < header:
            return False
        return net[9] != IPPROTO_IGMP or igmp_sound(net, net + header, total - header)
    if p.ethertype == ETH_P_IPV6:
        if room < 40 or net[0] >> 4 != 6 or load16(net + 4) == 0 or room < 40 + load16(net + 4):
            return False
        if net[6] != IPPROTO_HOPOPTS:
            return True
        icmp = ip6_transport(net, net + 40 + load16(net + 4), &proto, &fragment)
        if icmp == NULL:
            return fragment & 0xFFF8 != 0
        return proto != IPPROTO_ICMPV6 or mld_sound(net, icmp, net + 40 + load16(net + 4) - icmp)
    return True
