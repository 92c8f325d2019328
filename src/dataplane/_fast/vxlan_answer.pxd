"""What a VXLAN device answers in the place of the far end: a proxy's ARP and neighbour advertisements, and errors about
what does not fit the route outside. Frames, as if they had come in by the device.

Sources: drivers/net/vxlan/vxlan_core.c (arp_reduce, neigh_reduce), net/ipv4/ip_tunnel_core.c (iptunnel_pmtud_*).
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dataplane._fast.arp cimport ARP_LENGTH, ARP_REPLY, ARP_REQUEST
from dataplane._fast.fdb cimport FdbEntry, fdb_find
from dataplane._fast.icmp cimport ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, icmp6_checksum_set, write_ip4, write_ip6
from dataplane._fast.ndisc cimport ND_ADVERT, ND_OPTION_SOURCE, ND_OPTION_TARGET
from dataplane._fast.neighbour cimport NUD_CONNECTED, Neighbour, neighbour_find
from dataplane._fast.network cimport Host, Network, Vxlan, packet_make
from dataplane._fast.packet cimport Packet, ip6_transport
from dataplane._fast.wire cimport (
    ETH_HLEN, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, IP_DF, IPPROTO_ICMP, IPPROTO_ICMPV6, checksum_fold, checksum_sum, load16, load32,
    load_address6, load_mac, store16, store32, store_address6, store_checksum, store_mac,
)

cdef enum:
    ND_SOLICIT = 135
    ND_LENGTH = 24              # of a solicitation and of an advertisement, before their options
    ROUTER_SOLICITED_OVERRIDE = 0x60


cdef inline void frame_header(Packet *answer, uint64_t to, uint64_t source, uint16_t ethertype) noexcept nogil:
    answer.mac = answer.net - ETH_HLEN
    store_mac(answer.mac, to)
    store_mac(answer.mac + 6, source)
    store16(answer.mac + 12, ethertype)


cdef inline Neighbour *proxied_neighbour(
    Host *host, const Vxlan *vxlan, uint8_t family, const uint32_t *target,
) noexcept nogil:
    """The neighbour that the device answers for; NULL where it does not know it, or it is of this node's side."""
    cdef Neighbour *n = neighbour_find(&host.neighbours, family, target, vxlan.slot, False)
    cdef FdbEntry *e
    if n == NULL or not n.state & NUD_CONNECTED:
        return NULL
    e = fdb_find(&host.vxlan_fdb, vxlan.slot, n.mac, 0)
    if e != NULL and e.remotes != NULL and e.remotes.family == 0:
        return NULL
    return n


cdef inline bint proxy_takes(const Packet *p) noexcept nogil:
    """Whether a frame is one that a proxy takes, answered or not: any ARP, and neighbour solicitations."""
    cdef uint16_t ethertype = load16(p.mac + 12)
    cdef const uint8_t *ip = p.mac + ETH_HLEN
    if ethertype == ETH_P_ARP:
        return True
    return (ethertype == ETH_P_IPV6 and p.tail - ip >= 40 + ND_LENGTH and ip[6] == IPPROTO_ICMPV6 and ip[40] == ND_SOLICIT
            and ip[41] == 0)


cdef inline Packet *arp_proxied(Network *net, Host *host, const Vxlan *vxlan, const Packet *p) noexcept nogil:
    cdef const uint8_t *arp = p.mac + ETH_HLEN
    cdef uint32_t target[4]
    cdef Neighbour *n
    cdef Packet *answer
    if (p.tail - arp < ARP_LENGTH or load16(arp) != 1 or load16(arp + 2) != ETH_P_IP or load16(arp + 6) != ARP_REQUEST
            or arp[4] != 6 or arp[5] != 4):
        return NULL
    memset(target, 0, sizeof(target))
    target[0] = load32(arp + 24)
    if target[0] >> 24 == 127 or target[0] >> 28 == 14:
        return NULL
    n = proxied_neighbour(host, vxlan, 4, target)
    if n == NULL:
        return NULL
    answer = packet_make(net, host, p.time, ARP_LENGTH)
    if answer == NULL:
        return NULL
    memcpy(answer.net, arp, 6)
    store16(answer.net + 6, ARP_REPLY)
    store_mac(answer.net + 8, n.mac)
    store32(answer.net + 14, target[0])
    memcpy(answer.net + 18, arp + 8, 10)        # who has asked
    frame_header(answer, load_mac(arp + 8), n.mac, ETH_P_ARP)
    return answer


cdef inline Packet *advert_proxied(Network *net, Host *host, const Vxlan *vxlan, const Packet *p) noexcept nogil:
    cdef const uint8_t *ip = p.mac + ETH_HLEN
    cdef const uint8_t *option = ip + 40 + ND_LENGTH
    cdef uint32_t target[4]
    cdef uint32_t asker[4]
    cdef uint64_t to = load_mac(p.mac + 6)
    cdef Neighbour *n
    cdef Packet *answer
    cdef uint8_t *icmp
    load_address6(ip + 48, target)
    load_address6(ip + 8, asker)
    if target[0] >> 24 == 0xFF:
        return NULL
    n = proxied_neighbour(host, vxlan, 6, target)
    if n == NULL:
        return NULL
    while option + 2 <= p.tail:
        if option[1] == 0:
            return NULL
        if option[0] == ND_OPTION_SOURCE and option + 8 <= p.tail:
            to = load_mac(option + 2)
            break
        option += option[1] * 8
    answer = packet_make(net, host, p.time, 40 + ND_LENGTH + 8)
    if answer == NULL:
        return NULL
    icmp = answer.net + 40
    icmp[0] = ND_ADVERT
    icmp[4] = ROUTER_SOLICITED_OVERRIDE
    store_address6(icmp + 8, target)
    icmp[24] = ND_OPTION_TARGET
    icmp[25] = 1
    store_mac(icmp + 26, n.mac)
    # Of the traffic class its four upper bits.
    write_ip6(answer, <uint8_t>(load16(ip) >> 4 & 0xF0), IPPROTO_ICMPV6, 255, target, asker)
    icmp6_checksum_set(answer, icmp)
    frame_header(answer, to, n.mac, ETH_P_IPV6)
    return answer


cdef inline Packet *proxy_answer(Network *net, Host *host, const Vxlan *vxlan, const Packet *p) noexcept nogil:
    """The answer to a frame that `proxy_takes`; NULL: there is none."""
    if load16(p.mac + 12) == ETH_P_ARP:
        return arp_proxied(net, host, vxlan, p)
    return advert_proxied(net, host, vxlan, p)


cdef inline Packet *too_big4(Network *net, Host *host, const Packet *p, uint32_t mtu) noexcept nogil:
    cdef const uint8_t *ip = p.mac + ETH_HLEN
    cdef uint32_t src, dst, length = <uint32_t>(p.tail - ip)
    cdef uint8_t kind
    cdef Packet *answer
    if length < 20 or mtu < 576 or load16(ip + 6) != IP_DF:
        return NULL
    src = load32(ip + 12)
    dst = load32(ip + 16)
    if dst == 0xFFFFFFFFU or dst >> 28 == 14 or src == 0xFFFFFFFFU or src >> 28 == 14 or src >> 24 == 0 or src >> 24 == 127:
        return NULL
    if ip[9] == IPPROTO_ICMP and length > <uint32_t>(ip[0] & 15) * 4:
        kind = ip[(ip[0] & 15) * 4]
        if kind == 3 or kind == 4 or kind == 5 or kind == 11 or kind == 12:
            return NULL
    length = min(length, <uint32_t>(576 - 28))
    answer = packet_make(net, host, p.time, 28 + length)
    if answer == NULL:
        return NULL
    memcpy(answer.net + 28, ip, length)
    answer.net[20] = ICMP_DEST_UNREACH
    answer.net[21] = ICMP_FRAG_NEEDED
    store16(answer.net + 26, <uint16_t>mtu)
    store_checksum(answer.net + 22, checksum_fold(checksum_sum(answer.net + 20, 8 + length, 0)))
    write_ip4(answer, 0, 0, IP_DF, ip[8], IPPROTO_ICMP, dst, src)
    return answer


cdef inline Packet *too_big6(Network *net, Host *host, const Packet *p, uint32_t mtu) noexcept nogil:
    cdef const uint8_t *ip = p.mac + ETH_HLEN
    cdef const uint8_t *above
    cdef uint32_t src[4]
    cdef uint32_t dst[4]
    cdef uint32_t length = <uint32_t>(p.tail - ip)
    cdef uint8_t proto = 0
    cdef uint16_t fragment = 0
    cdef Packet *answer
    if length < 40 or mtu < 1280:
        return NULL
    load_address6(ip + 8, src)
    load_address6(ip + 24, dst)
    if src[0] >> 24 == 0xFF or (src[0] | src[1] | src[2] == 0 and src[3] <= 1):
        return NULL
    above = ip6_transport(ip, p.tail, &proto, &fragment)
    if above == NULL or fragment:
        return NULL
    if proto == IPPROTO_ICMPV6 and (above >= p.tail or above[0] < 128 or above[0] == 137):
        return NULL
    length = min(length, <uint32_t>(1280 - 48))
    answer = packet_make(net, host, p.time, 48 + length)
    if answer == NULL:
        return NULL
    memcpy(answer.net + 48, ip, length)
    answer.net[40] = 2
    store32(answer.net + 44, mtu)
    write_ip6(answer, 0, IPPROTO_ICMPV6, ip[7], dst, src)
    icmp6_checksum_set(answer, answer.net + 40)
    return answer


cdef inline Packet *tunnel_too_big(Network *net, Host *host, const Packet *p, int64_t mtu) noexcept nogil:
    """The error about a frame whose packet is longer than `mtu`; NULL where it fits, or nobody is to be told."""
    cdef uint16_t ethertype = load16(p.mac + 12)
    cdef Packet *answer = NULL
    if p.tail - p.mac - ETH_HLEN <= mtu:
        return NULL
    if ethertype == ETH_P_IP:
        answer = too_big4(net, host, p, <uint32_t>mtu)
    elif ethertype == ETH_P_IPV6:
        answer = too_big6(net, host, p, <uint32_t>mtu)
    if answer != NULL:
        frame_header(answer, load_mac(p.mac + 6), load_mac(p.mac), ethertype)
    return answer
