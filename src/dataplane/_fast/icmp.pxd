"""ICMP and ICMPv6 messages, TCP resets and echo replies that a host sends of itself.

Sources: RFC 792, 1812, 4443; net/ipv4/icmp.c, net/ipv6/icmp.c, net/ipv4/netfilter/nf_reject_ipv4.c,
net/ipv6/netfilter/nf_reject_ipv6.c.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dataplane._fast.chance cimport CHOICE_FLOW_LABEL, chance_recorded
from dataplane._fast.fib cimport (
    Fib, FibResult, FlowKey, ROUTE_ANYCAST, ROUTE_BROADCAST, ROUTE_LOCAL, ROUTE_MULTICAST, address_hash, address_on,
    fib_address_type, fib_lookup,
    fib_select_source, route_source, same_address,
)
from dataplane._fast.interface cimport Interface, LINK_LOOPBACK
from dataplane._fast.network cimport (
    Host, Network, STAGE_LOCAL_OUT, STAGE_TRANSMIT, next_ip_id, packet_give, packet_make,
    spawn,
)
from dataplane._fast.options cimport OptionsEcho, options_echo, options_write, time_of_day
from dataplane._fast.packet cimport (
    BRIDGE_NONE, FIELD_DST, FIELD_FRAGMENT, FIELD_LENGTH, FIELD_MARK, FIELD_PROTO, FIELD_SRC, FIELD_TOS, PACKET_HOST, Packet,
    came_by, ip6_transport, packet_read4, packet_read6,
)
from dataplane._fast.peer cimport global_allow, peer_allow
from dataplane._fast.route cimport flow_key, output_source, packet_mtu, route_answer, route_output
from dataplane._fast.track cimport ct_attach
from dataplane._fast.wire cimport (
    ETH_HLEN, IP_DF, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, checksum_fold, checksum_sum,
    ip4_checksum_set, load16, load32, pseudo4, pseudo6, store16, store32, store_address6, store_checksum,
)

cdef enum:
    ICMP_SOCKET_4 = 1
    ICMP_SOCKET_6 = 2
    ICMP_DEST_UNREACH = 3
    ICMP_REDIRECT = 5
    ICMP_TIME_EXCEEDED = 11
    ICMP_PARAMETER_PROBLEM = 12
    ICMP_TIMESTAMP = 13
    ICMP_TIMESTAMP_REPLY = 14
    ICMP_NET_UNREACH = 0
    ICMP_HOST_UNREACH = 1
    ICMP_PROT_UNREACH = 2
    ICMP_PORT_UNREACH = 3
    ICMP_FRAG_NEEDED = 4
    ICMP_SOURCE_ROUTE_FAILED = 5
    ICMP6_DEST_UNREACH = 1
    ICMP6_PACKET_TOO_BIG = 2
    ICMP6_TIME_EXCEEDED = 3
    ICMP6_PARAMETER_PROBLEM = 4
    ICMP6_NO_ROUTE = 0
    ICMP6_ADMIN_PROHIBITED = 1
    ICMP6_ADDRESS_UNREACH = 3
    ICMP6_PORT_UNREACH = 4


# ---- headers -------------------------------------------------------------------------------------------------------

cdef inline void write_ip4(
    Packet *p, uint8_t tos, uint16_t identification, uint16_t fragment, uint8_t ttl, uint8_t proto, uint32_t src,
    uint32_t dst,
) noexcept nogil:
    """A 20-byte header over [net, tail)."""
    cdef uint8_t *net = p.net
    net[0] = 0x45
    net[1] = tos
    store16(net + 2, <uint16_t>(p.tail - net))
    store16(net + 4, identification)
    store16(net + 6, fragment)
    net[8] = ttl
    net[9] = proto
    store32(net + 12, src)
    store32(net + 16, dst)
    ip4_checksum_set(net)


cdef inline void write_ip6(
    Packet *p, uint8_t traffic_class, uint8_t proto, uint8_t hop_limit, const uint32_t *src, const uint32_t *dst,
) noexcept nogil:
    cdef uint8_t *net = p.net
    store32(net, 0x60000000U | <uint32_t>traffic_class << 20)
    store16(net + 4, <uint16_t>(p.tail - net - 40))
    net[6] = proto
    net[7] = hop_limit
    store_address6(net + 8, src)
    store_address6(net + 24, dst)


cdef inline uint32_t flow_label(Host *host, const Packet *p) noexcept nogil:
    """ip6_make_flowlabel: one label for all packets of a flow, by a hash that only this host can tell."""
    cdef uint32_t value
    cdef uint64_t h = <uint64_t>host.fib.seed << 8 | p.net[6]
    cdef int i
    if chance_recorded(&host.chance, CHOICE_FLOW_LABEL, &value):
        return value & 0xFFFFFU
    if not host.auto_flow_labels:
        return 0
    for i in range(8, 40, 4):
        h = (h ^ load32(p.net + i)) * 0x9E3779B97F4A7C15ULL
        h ^= h >> 29
    # Ports, or type and code.
    h = (h ^ (load32(p.net + 40) if p.net[6] != IPPROTO_ICMPV6 else load16(p.net + 40))) * 0x9E3779B97F4A7C15ULL
    return <uint32_t>(h >> 44)


cdef inline void label_set(Host *host, Packet *p) noexcept nogil:
    store32(p.net, (load32(p.net) & 0xFFF00000U) | flow_label(host, p))


cdef inline void icmp6_checksum_set(Packet *p, uint8_t *icmp) noexcept nogil:
    cdef uint32_t length = <uint32_t>(p.tail - icmp)
    store16(icmp + 2, 0)
    store_checksum(icmp + 2, checksum_fold(checksum_sum(icmp, length, pseudo6(p.net, IPPROTO_ICMPV6, length))))


# ---- errors --------------------------------------------------------------------------------------------------------

cdef inline bint icmp_error_type(uint8_t icmp_type) noexcept nogil:
    """What Linux counts as an error: all that have no question or answer in them, assigned or not (icmp_pointers)."""
    return 1 <= icmp_type <= 7 or 9 <= icmp_type <= 12


cdef inline void icmp4_error(
    Network *net, Host *host, Packet *p, uint8_t icmp_type, uint8_t code, uint32_t info,
) noexcept nogil:
    """icmp_send: tell the sender of `p`. `info` is the second word of the message, host order."""
    cdef uint32_t src, dst, room, quoted, header
    cdef uint32_t source[4]
    cdef uint8_t *icmp
    cdef uint8_t tos
    cdef bint unspecified = False
    cdef Packet *answer
    cdef FlowKey key
    cdef OptionsEcho echo
    if p.icmp_sockets & ICMP_SOCKET_4:
        return      # icmp_xmit_trylock
    if p.type != PACKET_HOST or p.route_type == ROUTE_BROADCAST or p.route_type == ROUTE_MULTICAST:
        return
    if p.field[<int>FIELD_FRAGMENT]:
        return
    if p.net[9] == IPPROTO_ICMP:
        icmp = p.net + (p.net[0] & 15) * 4
        if icmp >= p.tail or icmp_error_type(icmp[0]) or icmp[0] > 18:
            return
    src = load32(p.net + 12)
    if src == 0 or src >> 28 == 14 or src == 0xFFFFFFFFU:
        return
    tos = (p.net[1] & 0x1E) | 0xC0 if icmp_error_type(icmp_type) else p.net[1]
    memset(source, 0, sizeof(source))
    if p.route_type == ROUTE_LOCAL:
        source[0] = load32(p.net + 16)
    elif host.icmp_use_inbound_address and p.iif >= 0:
        fib_select_source(&host.fib, 4, p.iif, NULL, source)
    if not options_echo(host, p, &echo):
        return
    dst = echo.options.nexthop if echo.options.route else src
    header = 20 + echo.options.length
    answer = packet_make(net, host, p.time, 576)
    if answer == NULL:
        return
    # First as an empty header: the route decides on source and room. The source that it gives is not asked again.
    if source[0] == 0:
        unspecified = True
        memset(&key, 0, sizeof(key))
        key.dst[0] = dst
        key.family = 4
        key.iif = key.oif = -1
        key.tos = tos & 0x1C
        key.mark = p.field[<int>FIELD_MARK] if host.fwmark_reflect else 0
        if not output_source(host, &key, source):
            packet_give(net, answer)
            return
    write_ip4(answer, tos, 0, 0, host.default_ttl, IPPROTO_ICMP, source[0], dst)
    packet_read4(answer)
    answer.field[<int>FIELD_MARK] = p.field[<int>FIELD_MARK] if host.fwmark_reflect else 0
    if unspecified:
        answer.field[<int>FIELD_SRC] = 0
    if not route_output(host, answer):
        packet_give(net, answer)
        return
    if (host.icmp_ratemask >> icmp_type) & 1 and not (icmp_type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED):
        if host.interfaces[answer.oif].kind != LINK_LOOPBACK:
            if not global_allow(host, p.time) or not peer_allow(host, &answer.field[<int>FIELD_DST], host.icmp_ratelimit, p.time):
                packet_give(net, answer)
                return
    room = packet_mtu(host, answer)
    if room > 576:
        room = 576
    if room <= header + 8 + 20:
        # Not even the header of what it is about would fit.
        packet_give(net, answer)
        return
    quoted = <uint32_t>(p.tail - p.net)
    if quoted > room - header - 8:
        quoted = room - header - 8
    answer.tail = answer.net + header + 8 + quoted
    icmp = answer.net + header
    icmp[0] = icmp_type
    icmp[1] = code
    store32(icmp + 4, info)
    memcpy(icmp + 8, p.net, quoted)
    store16(icmp + 2, 0)
    store_checksum(icmp + 2, checksum_fold(checksum_sum(icmp, 8 + quoted, 0)))
    write_ip4(answer, tos, next_ip_id(host), 0, host.default_ttl, IPPROTO_ICMP, source[0], dst)
    options_write(answer, &echo, src)
    packet_read4(answer)
    answer.icmp_sockets = p.icmp_sockets | ICMP_SOCKET_4
    ct_attach(answer, p)
    spawn(net, answer, STAGE_LOCAL_OUT)


cdef inline bint icmp6_is_error(const Packet *p) noexcept nogil:
    """Whether `p` is an ICMPv6 error, which must never be answered with another (RFC 4443, 2.4(e)). Linux answers redirects."""
    cdef uint8_t proto = 0
    cdef uint16_t fragment = 0
    cdef const uint8_t *icmp = ip6_transport(p.net, p.tail, &proto, &fragment)
    if proto != IPPROTO_ICMPV6 or fragment & 0xFFF8:
        # Of a later fragment nobody knows what it is of.
        return False
    if icmp == NULL or icmp >= p.tail:
        return not fragment     # nor of a first one that ends before it says so
    return icmp[0] < 128


cdef inline int32_t link_of(const Host *host, const Packet *p) noexcept nogil:
    """The link that an answer to a link-local address takes: the one that the packet came by, or, from the host itself, the
    one that the address it was sent to is on (icmp6_dev)."""
    cdef int32_t i
    cdef const Fib *fib = &host.fib
    if p.iif < 0 or p.iif != host.loopback or fib.address_buckets == NULL:
        return p.iif
    i = fib.address_buckets[address_hash(6, &p.field[<int>FIELD_DST]) & fib.address_mask]
    while i >= 0:
        if fib.addresses[i].family == 6 and same_address(fib.addresses[i].address, &p.field[<int>FIELD_DST]):
            return fib.addresses[i].slot
        i = fib.addresses[i].same_bucket
    return p.iif


cdef inline bint error_source6(Host *host, const FlowKey *key, int32_t iif, uint32_t *source) noexcept nogil:
    """The way back may name a source; else the interface that the offender came by is asked before the one it leaves by."""
    cdef FibResult result
    cdef bint routed = fib_lookup(&host.fib, key, &result)
    if iif >= 0 and not (routed and result.route != NULL and result.route.has_prefsrc):
        if fib_select_source(&host.fib, 6, iif, key.dst, source):
            return True
    return routed and route_source(&host.fib, key, &result, source)


cdef inline void icmp6_error(
    Network *net, Host *host, Packet *p, uint8_t icmp_type, uint8_t code, uint32_t info,
) noexcept nogil:
    """icmp6_send."""
    cdef uint32_t source[4]
    cdef uint32_t target[4]
    cdef uint32_t length
    cdef uint8_t *icmp
    cdef Packet *answer
    cdef FlowKey key
    cdef uint32_t *dst = &p.field[<int>FIELD_DST]
    cdef uint32_t *src = &p.field[<int>FIELD_SRC]
    cdef int32_t oif = -1
    cdef bint multicast = dst[0] >> 24 == 0xFF
    if p.icmp_sockets & ICMP_SOCKET_6:
        return      # icmpv6_xmit_lock
    if multicast or p.type != PACKET_HOST:
        if not (icmp_type == ICMP6_PACKET_TOO_BIG or (
                icmp_type == ICMP6_PARAMETER_PROBLEM and code == 2 and p.net + info < p.tail and p.net[info] >> 6 == 2)):
            return
    if src[0] >> 24 == 0xFF or (src[0] | src[1] | src[2] | src[3]) == 0:
        return
    if icmp6_is_error(p):
        return
    memcpy(target, src, 16)
    if src[0] >> 22 == 0xFE80U >> 6:
        oif = link_of(host, p)
    memset(&key, 0, sizeof(key))
    memcpy(key.dst, target, 16)
    key.family = 6
    key.iif = -1
    key.oif = oif
    # What came by a group of the link is answered, where it is, from the address that the route gives.
    if not multicast and p.type == PACKET_HOST and (
        address_on(&host.fib, 6, dst, -1) or fib_address_type(&host.fib, 6, dst, -1) == ROUTE_ANYCAST
    ):
        memcpy(source, dst, 16)
    elif oif >= 0:
        if not fib_select_source(&host.fib, 6, oif, target, source):
            return
    elif not error_source6(host, &key, came_by(p), source):
        return
    length = <uint32_t>(p.tail - p.net)
    if length > 1280 - 48:
        length = 1280 - 48
    answer = packet_make(net, host, p.time, 48 + length)
    if answer == NULL:
        return
    icmp = answer.net + 40
    icmp[0] = icmp_type
    icmp[1] = code
    store32(icmp + 4, info)
    memcpy(icmp + 8, p.net, length)
    write_ip6(answer, 0, IPPROTO_ICMPV6, 64, source, target)
    packet_read6(answer)
    answer.field[<int>FIELD_MARK] = p.field[<int>FIELD_MARK] if host.fwmark_reflect else 0
    if not route_answer(host, answer, oif):
        packet_give(net, answer)
        return
    if icmp_type != ICMP6_PACKET_TOO_BIG and host.interfaces[answer.oif].kind != LINK_LOOPBACK:
        if not global_allow(host, p.time) or not peer_allow(host, target, host.icmp_ratelimit6, p.time):
            packet_give(net, answer)
            return
    answer.net[7] = <uint8_t>host.interfaces[answer.oif].hop_limit6
    label_set(host, answer)
    icmp6_checksum_set(answer, icmp)
    packet_read6(answer)
    answer.icmp_sockets = p.icmp_sockets | ICMP_SOCKET_6
    ct_attach(answer, p)
    spawn(net, answer, STAGE_LOCAL_OUT)


cdef inline void icmp_unreachable(Network *net, Host *host, Packet *p, uint8_t code4, uint8_t code6) noexcept nogil:
    if p.family == 4:
        icmp4_error(net, host, p, ICMP_DEST_UNREACH, code4, 0)
    else:
        icmp6_error(net, host, p, ICMP6_DEST_UNREACH, code6, 0)


# ---- TCP reset -----------------------------------------------------------------------------------------------------

cdef inline bint transport_checksum_good(const Packet *p) noexcept nogil:
    """Whether the TCP, UDP or ICMPv6 checksum holds; a capture's missing bytes cannot be judged and pass."""
    cdef uint32_t length = <uint32_t>(p.tail - p.transport)
    cdef uint8_t proto = <uint8_t>p.field[<int>FIELD_PROTO]
    cdef uint64_t total
    if p.missing:
        return True
    total = pseudo4(p.net, proto, length) if p.family == 4 else pseudo6(p.net, proto, length)
    return checksum_fold(checksum_sum(p.transport, length, total)) == 0


cdef inline bint unicast6(const uint32_t *address) noexcept nogil:
    """Neither a group, nor ::, nor an IPv4 address in IPv6's clothes (ipv6_addr_type)."""
    if address[0] >> 24 == 0xFF:
        return False
    return not (address[0] | address[1] == 0 and (address[2] == 0xFFFF or address[2] | address[3] == 0))


cdef inline bint tcp_reset(Network *net, Host *host, Packet *p, bint attach) noexcept nogil:
    """Answer a TCP segment with a reset (RFC 793, 3.4), as a closed port or REJECT --reject-with tcp-reset does. Whether one
    went out."""
    cdef Packet *answer
    cdef uint8_t *tcp
    cdef const uint8_t *old = p.transport
    cdef uint32_t header, length, dst
    cdef uint8_t tos = 0
    cdef OptionsEcho echo
    if p.field[<int>FIELD_PROTO] != IPPROTO_TCP or old == NULL or p.tail - old < 20:
        return False
    if old[13] & TCP_RST or p.route_type == ROUTE_BROADCAST or p.route_type == ROUTE_MULTICAST or p.route_type == ROUTE_ANYCAST:
        return False
    if attach and p.family == 6 and not (unicast6(&p.field[<int>FIELD_SRC]) and unicast6(&p.field[<int>FIELD_DST])):
        return False      # nf_send_reset6
    if attach and not transport_checksum_good(p):
        return False      # a socket has judged it already
    if not attach:
        # A socket's answer has the segment's traffic class, a rule's has none; neither speaks of congestion.
        tos = <uint8_t>((p.net[1] if p.family == 4 else load16(p.net) >> 4) & 0xFC)
    echo.options.length = 0
    header = 20 if p.family == 4 else 40
    if p.family == 4 and not attach:
        # A socket's answer has the segment's options, too.
        if not options_echo(host, p, &echo):
            return False
        header += echo.options.length
    answer = packet_make(net, host, p.time, header + 20)
    if answer == NULL:
        return False
    tcp = answer.net + header
    store16(tcp, load16(old + 2))
    store16(tcp + 2, load16(old))
    tcp[12] = 0x50
    if old[13] & TCP_ACK:
        store32(tcp + 4, load32(old + 8))
        tcp[13] = TCP_RST
    else:
        length = <uint32_t>(p.tail - old) - (old[12] >> 4) * 4
        length += (1 if old[13] & TCP_SYN else 0) + (1 if old[13] & TCP_FIN else 0)
        store32(tcp + 8, load32(old + 4) + length)
        tcp[13] = TCP_RST | TCP_ACK
    if p.family == 4:
        dst = echo.options.nexthop if echo.options.length and echo.options.route else load32(p.net + 12)
        write_ip4(answer, tos, 0, IP_DF, host.default_ttl, IPPROTO_TCP, load32(p.net + 16), dst)
        # The pseudo header names who it is for in the end.
        store_checksum(tcp + 16, checksum_fold(checksum_sum(tcp, 20, pseudo4(p.net, IPPROTO_TCP, 20))))
        options_write(answer, &echo, load32(p.net + 12))
        packet_read4(answer)
    else:
        write_ip6(answer, tos, IPPROTO_TCP, 64, &p.field[<int>FIELD_DST], &p.field[<int>FIELD_SRC])
        store_checksum(tcp + 16, checksum_fold(checksum_sum(tcp, 20, pseudo6(answer.net, IPPROTO_TCP, 20))))
        packet_read6(answer)
    answer.field[<int>FIELD_MARK] = p.field[<int>FIELD_MARK] if host.fwmark_reflect else 0
    if not route_answer(host, answer, -1):
        packet_give(net, answer)
        return False
    if p.family == 6:
        answer.net[7] = <uint8_t>host.interfaces[answer.oif].hop_limit6
        packet_read6(answer)
        if not attach:
            # A socket's answer, not a rule's.
            label_set(host, answer)
            packet_read6(answer)
    if attach:
        ct_attach(answer, p)
        if p.bridge_state != BRIDGE_NONE and p.physin >= 0:
            # Came by a bridge port, goes back out of it (nf_send_reset): no hook sees it.
            answer.mac = answer.net - ETH_HLEN
            memcpy(answer.mac, p.mac + 6, 6)
            memcpy(answer.mac + 6, p.mac, 6)
            memcpy(answer.mac + 12, p.mac + 12, 2)
            answer.oif = p.physin
            spawn(net, answer, STAGE_TRANSMIT)
            return True
    spawn(net, answer, STAGE_LOCAL_OUT)
    return True


# ---- echo and timestamp --------------------------------------------------------------------------------------------

cdef inline void echo_reply(Network *net, Host *host, Packet *p) noexcept nogil:
    """Answer an echo or a timestamp request that reached the host: same id, sequence and data, the address asked is the
    source. Of a timestamp request the time of day takes the place of the last two words (RFC 792)."""
    cdef uint32_t length = <uint32_t>(p.tail - p.transport)
    cdef uint32_t header = 20 if p.family == 4 else 40
    cdef uint32_t dst
    cdef uint32_t source[4]
    cdef OptionsEcho echo
    cdef int32_t oif = -1
    cdef Packet *answer
    cdef uint8_t *icmp
    cdef FlowKey key
    memcpy(source, &p.field[<int>FIELD_DST], 16)
    if p.route_type == ROUTE_BROADCAST or p.route_type == ROUTE_MULTICAST or p.route_type == ROUTE_ANYCAST:
        flow_key(p, &key)
        key.packet = NULL
        memcpy(key.dst, &p.field[<int>FIELD_SRC], 16)
        memset(key.src, 0, 16)
        key.iif = -1
        key.oif = p.iif if p.family == 6 else -1
        if p.family == 6:
            if not fib_select_source(&host.fib, 6, p.iif, key.dst, source):
                return
        elif not output_source(host, &key, source):
            return
    if p.family == 4:
        if not options_echo(host, p, &echo):
            return
        header += echo.options.length
        if p.transport[0] == ICMP_TIMESTAMP:
            length = 20
    answer = packet_make(net, host, p.time, header + length)
    if answer == NULL:
        return
    answer.missing = p.missing
    icmp = answer.net + header
    if p.family == 4 and p.transport[0] == ICMP_TIMESTAMP:
        memcpy(icmp, p.transport, 12)
        icmp[0] = ICMP_TIMESTAMP_REPLY
        icmp[1] = 0
        store32(icmp + 12, time_of_day(p.time))
        store32(icmp + 16, time_of_day(p.time))
        answer.missing = 0
    else:
        memcpy(icmp, p.transport, length)
        icmp[0] = 0 if p.family == 4 else 129
    if p.family == 4:
        store16(icmp + 2, 0)
        store_checksum(icmp + 2, checksum_fold(checksum_sum(icmp, length, 0)))
        dst = echo.options.nexthop if echo.options.route else p.field[<int>FIELD_SRC]
        write_ip4(answer, p.net[1], 0, 0, host.default_ttl, IPPROTO_ICMP, source[0], dst)
        options_write(answer, &echo, p.field[<int>FIELD_SRC])
        packet_read4(answer)
    else:
        write_ip6(answer, <uint8_t>p.field[<int>FIELD_TOS], IPPROTO_ICMPV6, 64, source, &p.field[<int>FIELD_SRC])
        icmp6_checksum_set(answer, icmp)
        packet_read6(answer)
    answer.field[<int>FIELD_MARK] = p.field[<int>FIELD_MARK] if host.fwmark_reflect else 0
    # IPv6 without a source yet, as to a group's member, answers by the interface that was asked or not at all.
    if p.family == 6 and (p.route_type == ROUTE_MULTICAST or p.field[<int>FIELD_SRC] >> 22 == 0xFE80U >> 6):
        oif = p.iif
    if not route_answer(host, answer, oif):
        packet_give(net, answer)
        return
    if p.family == 4:
        store16(answer.net + 4, next_ip_id(host))
        ip4_checksum_set(answer.net)
    else:
        # The stack cuts what its own socket sends.
        answer.ignore_df = 1
        answer.net[7] = <uint8_t>host.interfaces[answer.oif].hop_limit6
        label_set(host, answer)
        packet_read6(answer)
    answer.icmp_sockets = ICMP_SOCKET_4 if p.family == 4 else ICMP_SOCKET_6
    spawn(net, answer, STAGE_LOCAL_OUT)
