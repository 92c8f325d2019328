"""ARP and neighbour discovery as received: answering, proxying, learning.

Sources: net/ipv4/arp.c (arp_process), net/ipv6/ndisc.c; RFC 826, 4861.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dataplane._fast.arp cimport ARP_LENGTH, ARP_REPLY, ARP_REQUEST, arp_send
from dataplane._fast.fib cimport (
    FibResult, FlowKey, LocalAddress, ROUTE_LOCAL, ROUTE_UNICAST, address_on, fib_address_type, fib_lookup, fib_select_source,
    prefix_covers, same_address,
)
from dataplane._fast.interface cimport Interface
from dataplane._fast.ndisc cimport (
    ND_ADVERT, ND_FLAG_OVERRIDE, ND_FLAG_ROUTER, ND_FLAG_SOLICITED, ND_OPTION_SOURCE, ND_OPTION_TARGET, nd_send,
)
from dataplane._fast.neighbour cimport NUD_REACHABLE, NUD_STALE, Neighbour, neighbour_find, neighbour_get
from dataplane._fast.network cimport Host, Network, Stage, drop, finish
from dataplane._fast.packet cimport (
    FIELD_DST, FIELD_MARK, FIELD_SRC, FIELD_TOS, PACKET_HOST, PACKET_OTHERHOST, Packet,
)
from dataplane._fast.reason cimport Reason, Verdict
from dataplane._fast.resolve cimport neighbour_learn
from dataplane._fast.route cimport INPUT_FORWARD, INPUT_LOCAL, InputRoute, route_input4
from dataplane._fast.wire cimport (
    ETH_HLEN, ETH_P_IP, load16, load32, load_address6, load_mac, mac_is_multicast,
)


cdef inline bint arp_ignored(
    const Host *host, const Interface *interface, uint32_t sender, uint32_t target,
) noexcept nogil:
    """net.ipv4.conf.*.arp_ignore."""
    cdef int32_t i
    cdef const LocalAddress *local
    cdef uint32_t from_address[4]
    if interface.arp_ignore == 8:
        return True
    if not 1 <= interface.arp_ignore <= 3:
        return False
    memset(from_address, 0, sizeof(from_address))
    from_address[0] = sender
    for i in range(host.fib.address_count):
        local = &host.fib.addresses[i]
        if local.family != 4 or local.address[0] != target:
            continue
        if interface.arp_ignore == 3:
            if local.scope < 254:
                return False
            continue
        if local.slot != interface.slot:
            continue
        if interface.arp_ignore == 1 or prefix_covers(local.address, from_address, 4, local.prefix_length):
            return False
    return True


cdef inline bint arp_filtered(
    const Host *host, const Interface *interface, uint32_t sender, uint32_t target,
) noexcept nogil:
    """net.ipv4.conf.*.arp_filter: whether packets from the target to the asker would leave by another interface."""
    cdef FlowKey key
    cdef FibResult result
    if not interface.arp_filter:
        return False
    memset(&key, 0, sizeof(key))
    key.src[0] = target
    key.dst[0] = sender
    key.family = 4
    key.iif = key.oif = -1
    if not fib_lookup(&host.fib, &key, &result) or result.hop == NULL:
        return True
    return result.type != ROUTE_UNICAST or result.hop.slot != interface.slot


cdef inline bint arp_accepted(const Host *host, const Interface *interface, const uint32_t *sender) noexcept nogil:
    """net.ipv4.conf.*.arp_accept: whether an unasked answer makes an entry; 2 asks that it come from the link's subnets."""
    cdef int32_t i
    cdef const LocalAddress *local
    if interface.arp_accept != 2:
        return interface.arp_accept
    for i in range(host.fib.address_count):
        local = &host.fib.addresses[i]
        if local.family == 4 and local.slot == interface.slot and prefix_covers(local.address, sender, 4, local.prefix_length):
            return True
    return False


cdef inline void arp_heard(Network *net, Host *host, Packet *p, uint32_t sender, uint64_t mac) noexcept nogil:
    """neigh_event_ns: whoever asks us is there."""
    cdef uint32_t address[4]
    cdef Neighbour *n
    memset(address, 0, sizeof(address))
    address[0] = sender
    n = neighbour_get(&host.neighbours, 4, address, p.iif)
    if n != NULL:
        neighbour_learn(net, host, n, mac, NUD_STALE, True, p.time)


cdef inline Stage arp_receive(Network *net, Host *host, Packet *p) noexcept nogil:
    cdef Interface *interface = &host.interfaces[p.iif]
    cdef uint8_t *arp = p.net
    cdef uint16_t operation
    cdef uint32_t sender, target
    cdef uint32_t address[4]
    cdef uint64_t mac
    cdef Neighbour *n
    cdef InputRoute route
    cdef bint gratuitous, override
    cdef uint8_t state
    if interface.noarp or p.type == PACKET_OTHERHOST:
        return drop(net, host, p, Reason.OTHERHOST)
    if p.tail - arp < ARP_LENGTH or load16(arp) != 1 or load16(arp + 2) != ETH_P_IP or arp[4] != 6 or arp[5] != 4:
        return drop(net, host, p, Reason.ARP_BAD)
    operation = load16(arp + 6)
    if operation != ARP_REQUEST and operation != ARP_REPLY:
        return drop(net, host, p, Reason.ARP_BAD)
    mac = load_mac(arp + 8)
    sender = load32(arp + 14)
    target = load32(arp + 24)
    if target >> 28 == 14 or (target >> 24 == 127 and not interface.route_localnet):
        return drop(net, host, p, Reason.ARP_BAD)
    memset(address, 0, sizeof(address))
    if sender == 0:
        # A probe for duplicate addresses (RFC 5227).
        address[0] = target
        if operation == ARP_REQUEST and fib_address_type(&host.fib, 4, address, -1) == ROUTE_LOCAL:
            if not arp_ignored(host, interface, sender, target):
                arp_send(net, host, p.iif, ARP_REPLY, mac, mac, target, sender, p.time)
        return finish(net, host, p, Verdict.CONSUMED, Reason.NOT_DROPPED)
    if operation == ARP_REQUEST:
        memset(p.field, 0, sizeof(p.field))
        p.family = 4
        p.field[<int>FIELD_SRC] = sender
        p.field[<int>FIELD_DST] = target
        route_input4(host, p, &route)
        if route.action == INPUT_LOCAL and p.route_type == ROUTE_LOCAL:
            if not arp_ignored(host, interface, sender, target) and not arp_filtered(host, interface, sender, target):
                arp_heard(net, host, p, sender, mac)
                arp_send(net, host, p.iif, ARP_REPLY, mac, mac, target, sender, p.time)
            return finish(net, host, p, Verdict.CONSUMED, Reason.NOT_DROPPED)
        if route.action == INPUT_FORWARD:
            address[0] = target
            if (p.oif == p.iif and interface.proxy_arp_pvlan) or (p.oif != p.iif and (
                interface.proxy_arp
                or neighbour_find(&host.neighbours, 4, address, p.iif, True) != NULL
            )):
                arp_heard(net, host, p, sender, mac)
                arp_send(net, host, p.iif, ARP_REPLY, mac, mac, target, sender, p.time)
                return finish(net, host, p, Verdict.CONSUMED, Reason.NOT_DROPPED)
    address[0] = sender
    n = neighbour_find(&host.neighbours, 4, address, p.iif, False)
    gratuitous = sender == target and (operation == ARP_REQUEST or mac == load_mac(arp + 18)
                                       or load_mac(arp + 18) == 0xFFFFFFFFFFFFULL or load_mac(arp + 18) == 0)
    if n == NULL and arp_accepted(host, interface, address) and (operation == ARP_REPLY or gratuitous):
        n = neighbour_get(&host.neighbours, 4, address, p.iif)
    if n != NULL:
        override = p.time > n.updated + 1000000000 or gratuitous
        state = NUD_REACHABLE if operation == ARP_REPLY and p.type == PACKET_HOST else NUD_STALE
        neighbour_learn(net, host, n, mac, state, override, p.time)
    return finish(net, host, p, Verdict.CONSUMED, Reason.NOT_DROPPED)


cdef inline uint64_t nd_option(const uint8_t *at, const uint8_t *tail, uint8_t kind) noexcept nogil:
    """The link-layer address in an option; 0 when it is not there. An option of length 0 ends the search (4.6)."""
    while at + 8 <= tail and at[1]:
        if at[0] == kind:
            return load_mac(at + 2)
        at += at[1] * 8
    return 0


cdef inline bint nd_solicited(Network *net, Host *host, Packet *p) noexcept nogil:
    """ndisc_recv_ns: answer for an address of this interface, or for one that it is a proxy of; False if it is neither."""
    cdef Interface *interface = &host.interfaces[p.iif]
    cdef uint8_t *icmp = p.transport
    cdef uint32_t target[4]
    cdef uint32_t all_nodes[4]
    cdef uint32_t source[4]
    cdef uint32_t *src = &p.field[<int>FIELD_SRC]
    cdef uint64_t mac
    cdef Neighbour *n
    cdef bint unspecified = (src[0] | src[1] | src[2] | src[3]) == 0
    cdef Neighbour *proxy = NULL
    cdef bint proxied = False
    cdef uint8_t flags
    cdef bint asked_all
    load_address6(icmp + 8, target)
    if not address_on(&host.fib, 6, target, p.iif):
        proxy = neighbour_find(&host.neighbours, 6, target, p.iif, True)
        proxied = interface.proxy_ndp and interface.router6 and proxy != NULL
        if not proxied:
            return False
    # A proxy speaks for another, who is a router only if its entry says so.
    flags = ND_FLAG_ROUTER if (proxy.router if proxied else interface.router6) else 0
    # A probe by unicast only wants to hear that the address is still there.
    asked_all = p.field[<int>FIELD_DST] >> 24 == 0xFF
    if asked_all and not proxied:
        flags |= ND_FLAG_OVERRIDE
    if unspecified:
        memset(all_nodes, 0, sizeof(all_nodes))
        all_nodes[0] = 0xFF020000U
        all_nodes[3] = 1
        memcpy(source, target, 16)
        if proxied and not fib_select_source(&host.fib, 6, p.iif, all_nodes, source):
            return True
        nd_send(net, host, p.iif, ND_ADVERT, flags, target, source, all_nodes, True, p.time)
        return True
    mac = nd_option(icmp + 24, p.tail, ND_OPTION_SOURCE)
    if mac:
        n = neighbour_get(&host.neighbours, 6, src, p.iif)
        if n != NULL:
            neighbour_learn(net, host, n, mac, NUD_STALE, True, p.time)
    memcpy(source, target, 16)
    if proxied and not fib_select_source(&host.fib, 6, p.iif, src, source):
        return True
    nd_send(net, host, p.iif, ND_ADVERT, flags | ND_FLAG_SOLICITED, target, source, src, asked_all, p.time)
    return True


cdef inline void nd_advertised(Network *net, Host *host, Packet *p) noexcept nogil:
    """ndisc_recv_na."""
    cdef uint8_t *icmp = p.transport
    cdef uint32_t target[4]
    cdef uint64_t mac = nd_option(icmp + 24, p.tail, ND_OPTION_TARGET)
    cdef Neighbour *n
    cdef uint8_t flags = icmp[4]
    load_address6(icmp + 8, target)
    n = neighbour_find(&host.neighbours, 6, target, p.iif, False)
    if n == NULL:
        return
    if mac == 0:
        mac = n.mac
        if mac == 0:
            return
    neighbour_learn(net, host, n, mac, NUD_REACHABLE if flags & ND_FLAG_SOLICITED else NUD_STALE,
                    (flags & ND_FLAG_OVERRIDE) != 0, p.time)
    n.router = (flags & ND_FLAG_ROUTER) != 0


cdef inline bint nd_options_fit(const uint8_t *at, const uint8_t *tail) noexcept nogil:
    while at < tail:
        if tail - at < 2 or at[1] == 0 or at[1] * 8 > tail - at:
            return False
        at += at[1] * 8
    return True


cdef inline Reason nd_receive(Network *net, Host *host, Packet *p) noexcept nogil:
    """Take a neighbour discovery message, or say why it is not a valid one (RFC 4861, 6.1 and 7.1)."""
    cdef uint8_t kind = p.transport[0]
    cdef uint32_t *src = &p.field[<int>FIELD_SRC]
    cdef uint32_t *dst = &p.field[<int>FIELD_DST]
    cdef uint32_t target[4]
    if p.frag_size and not host.interfaces[p.iif].fragmented_nd:
        return Reason.IPV6_NDISC_FRAG       # RFC 6980
    if p.net[7] != 255:
        return Reason.IPV6_NDISC_HOP_LIMIT
    if p.transport[1] != 0:
        return Reason.IPV6_NDISC_BAD_CODE
    if kind != 135 and kind != 136:
        # Routers are not listened to, and hosts that forward answer no router solicitation.
        return Reason.NOT_DROPPED
    if p.tail - p.transport < 24:
        return Reason.PKT_TOO_SMALL
    load_address6(p.transport + 8, target)
    if target[0] >> 24 == 0xFF:
        return Reason.NOT_SPECIFIED
    if not nd_options_fit(p.transport + 24, p.tail):
        return Reason.IPV6_NDISC_BAD_OPTIONS
    if kind == 136:
        nd_advertised(net, host, p)
        return Reason.NOT_DROPPED
    if (src[0] | src[1] | src[2] | src[3]) == 0:
        # Who looks for duplicates asks the group, and has no address to be answered at.
        if dst[0] != 0xFF020000U or dst[1] or dst[2] != 1 or dst[3] >> 24 != 0xFF:
            return Reason.NOT_SPECIFIED
        if nd_option(p.transport + 24, p.tail, ND_OPTION_SOURCE):
            return Reason.NOT_SPECIFIED
    if not nd_solicited(net, host, p):
        return Reason.IPV6_NDISC_NS_OTHERHOST
    return Reason.NOT_DROPPED
