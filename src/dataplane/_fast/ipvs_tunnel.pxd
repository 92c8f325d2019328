"""Tunnels to servers: the packet goes whole behind an IP header of the host's own, alone (RFC 2003, 2473), in GRE (RFC 2784)
or in GUE over UDP (draft-ietf-intarea-gue). Source: ip_vs_tunnel_xmit of net/netfilter/ipvs/ip_vs_xmit.c."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from dataplane._fast.chance cimport CHOICE_TUNNEL_PORT, chance_recorded
from dataplane._fast.icmp cimport write_ip4, write_ip6
from dataplane._fast.ipvs cimport IpvsConn, Server, TUNNEL_GRE, TUNNEL_GUE
from dataplane._fast.network cimport Host, next_ip_id, packet_own
from dataplane._fast.packet cimport FIELD_DPORT, FIELD_DST, FIELD_SPORT, FIELD_SRC, Packet, packet_read
from dataplane._fast.wire cimport (
    ETH_P_IP, ETH_P_IPV6, IP_DF, IPPROTO_GRE, IPPROTO_IPIP, IPPROTO_UDP, checksum_fold, checksum_sum, load16, pseudo4, pseudo6,
    store16, store_checksum,
)

cdef enum:
    IPPROTO_IPV6 = 41
    GUE_HLEN = 4
    UDP_HLEN = 8
    GRE_CHECKSUM = 0x8000   # of its first word


cdef inline uint32_t shim_length(const Server *s) noexcept nogil:
    """Bytes between the outer IP header and the packet."""
    if s.tunnel == TUNNEL_GUE:
        return UDP_HLEN + GUE_HLEN
    if s.tunnel == TUNNEL_GRE:
        return 8 if s.tunnel_sum else 4
    return 0


cdef inline uint32_t tunnel_overhead(const IpvsConn *c) noexcept nogil:
    return (20 if c.target_family == 4 else 40) + (shim_length(c.server) if c.server != NULL else 0)


cdef inline uint16_t gue_port(Host *host, const Packet *p) noexcept nogil:
    """udp_flow_src_port: one port per inner flow."""
    cdef uint32_t value
    cdef uint64_t h = host.fib.seed
    cdef int i
    if chance_recorded(&host.chance, CHOICE_TUNNEL_PORT, &value):
        return <uint16_t>value
    for i in range(4):
        h = (h ^ p.field[<int>FIELD_SRC + i] ^ <uint64_t>p.field[<int>FIELD_DST + i] << 32) * 0x9E3779B97F4A7C15ULL
        h ^= h >> 29
    h = (h ^ (p.field[<int>FIELD_SPORT] << 16 | p.field[<int>FIELD_DPORT])) * 0x9E3779B97F4A7C15ULL
    return <uint16_t>(((h >> 32) * (host.port_high - host.port_low)) >> 32) + host.port_low


cdef inline bint tunnel_wrap(Host *host, Packet *p, const IpvsConn *c, const uint32_t *source) noexcept nogil:
    """Traffic class, hop limit and, in IPv4, DF go out with it. False: there is no room for the headers."""
    cdef const Server *s = c.server
    cdef uint8_t inner = IPPROTO_IPIP if p.family == 4 else IPPROTO_IPV6
    cdef uint8_t proto = inner
    cdef uint16_t ethertype = ETH_P_IP if p.family == 4 else ETH_P_IPV6
    cdef uint8_t traffic = p.net[1] if p.family == 4 else <uint8_t>(load16(p.net) >> 4)
    cdef uint8_t ttl = p.net[8] if p.family == 4 else p.net[7]
    cdef uint16_t df = load16(p.net + 6) & IP_DF if p.family == 4 and host.ipvs.pmtu_disc else 0
    cdef uint16_t port = 0
    cdef uint32_t shim = shim_length(s), outer = 20 if c.target_family == 4 else 40, length
    cdef uint8_t *at
    if s.tunnel == TUNNEL_GUE:
        port = gue_port(host, p)
    if p.net - p.head < <int>(shim + outer + 16) and (p.head == p.storage or not packet_own(p)):
        return False
    p.net -= shim
    at = p.net
    memset(at, 0, shim)
    length = <uint32_t>(p.tail - at)
    if s.tunnel == TUNNEL_GRE:
        proto = IPPROTO_GRE
        store16(at + 2, ethertype)
        if s.tunnel_sum:
            store16(at, GRE_CHECKSUM)
            store_checksum(at + 4, checksum_fold(checksum_sum(at, length, 0)))
    elif s.tunnel == TUNNEL_GUE:
        proto = IPPROTO_UDP
        store16(at, port)
        store16(at + 2, s.tunnel_port)
        store16(at + 4, <uint16_t>length)
        at[UDP_HLEN + 1] = inner
    p.net -= outer
    p.mac = p.net
    if outer == 20:
        # Only what may be cut needs a name for its pieces.
        write_ip4(p, traffic, 0 if df and not p.ignore_df else next_ip_id(host), df, ttl, proto, source[0], c.target[0])
    else:
        write_ip6(p, traffic, proto, ttl, source, c.target)
    if s.tunnel == TUNNEL_GUE and s.tunnel_sum:
        store_checksum(at + 6, checksum_fold(checksum_sum(at, length, (
            pseudo4(p.net, IPPROTO_UDP, length) if outer == 20 else pseudo6(p.net, IPPROTO_UDP, length)))))
        if load16(at + 6) == 0:
            store16(at + 6, 0xFFFFU)
    p.options.length = 0
    packet_read(p)
    return True
