"""Routing decisions: which way a packet goes, and whether it may come from where it says.

Sources: net/ipv4/route.c (ip_route_input_slow, ip_route_output_key), fib_frontend.c (fib_validate_source);
net/ipv6/route.c, ip6_input.c.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.string cimport memcpy, memset

from dataplane._fast.fib cimport (
    FibResult, Route, FlowKey, PathMtu, ROUTE_BLACKHOLE, ROUTE_BROADCAST, ROUTE_LOCAL, ROUTE_MULTICAST, ROUTE_PROHIBIT, ROUTE_THROW,
    ROUTE_UNICAST, ROUTE_UNREACHABLE, ROUTE_ANYCAST, address_on, address_slot, fib_address_type, fib_lookup, fib_lookup_by,
    fib_select_source, route_source,
)
from dataplane._fast.group cimport group_joined4, group_joined6
from dataplane._fast.interface cimport Interface, LINK_LOOPBACK, LocalAddress
from dataplane._fast.network cimport Host
from dataplane._fast.packet cimport FIELD_DST, FIELD_MARK, FIELD_SRC, FIELD_TOS, Packet
from dataplane._fast.pmtu cimport path_mtu_find
from dataplane._fast.reason cimport Reason

cdef enum:
    IPPROTO_RAW = 255
    SILENT = 255            # code of an error that nobody is told of

cdef enum InputAction:
    INPUT_LOCAL = 0
    INPUT_FORWARD
    INPUT_DROP              # silently, for the reason
    INPUT_ERROR             # ICMP destination unreachable with `code`, then drop

cdef struct InputRoute:
    uint8_t action          # InputAction
    uint8_t code
    uint8_t redirect        # it leaves where it came in: the sender could have gone there itself
    Reason reason


cdef inline bint loopback4(uint32_t address) noexcept nogil:
    return address >> 24 == 127


cdef inline void flow_key(const Packet *p, FlowKey *key) noexcept nogil:
    key.packet = p
    key.reversed = False
    memcpy(key.src, &p.field[<int>FIELD_SRC], 16)
    memcpy(key.dst, &p.field[<int>FIELD_DST], 16)
    key.mark = p.field[<int>FIELD_MARK]
    key.tos = <uint8_t>(p.field[<int>FIELD_TOS] & (0x1C if p.family == 4 else 0xFC))
    key.family = p.family
    key.iif = p.iif
    key.oif = -1


cdef inline void route_learnt(Host *host, Packet *p, const Route *route) noexcept nogil:
    """A learnt path MTU binds what the host sends, and all IPv6 as it leaves; IPv4 that it forwards only by order."""
    cdef const PathMtu *learnt = path_mtu_find(&host.fib, p.family, &p.field[<int>FIELD_DST], route, p.time)
    if learnt == NULL:
        return
    p.path_mtu = learnt.mtu
    if p.route_mtu and p.route_mtu <= learnt.mtu:
        return
    if p.family == 6 or p.iif < 0 or host.forward_use_pmtu or learnt.locked:
        p.route_mtu = learnt.mtu


cdef inline void route_take(Host *host, Packet *p, const FibResult *result) noexcept nogil:
    """Write the decision into the packet."""
    p.route_type = result.type
    p.route_mtu = result.route.mtu if result.route != NULL else 0
    p.path_mtu = 0
    memcpy(p.nexthop, &p.field[<int>FIELD_DST], 16)
    p.nexthop_family = p.family
    p.onlink = 1
    if result.type == ROUTE_LOCAL:
        p.oif = host.loopback
        return
    if result.hop == NULL:
        p.oif = -1
        return
    p.oif = result.hop.slot
    if host.fib.path_mtus != NULL and result.route != NULL:
        route_learnt(host, p, result.route)
    if result.hop.gateway_family:
        memcpy(p.nexthop, result.hop.gateway, 16)
        p.nexthop_family = result.hop.gateway_family
        p.onlink = 0


cdef inline bint group4(uint32_t dst) noexcept nogil:
    """Multicast and limited broadcast, which mean a link and nobody on it."""
    return dst >> 28 == 14 or dst == 0xFFFFFFFFU


cdef inline int32_t group_link4(const Host *host, const Packet *p) noexcept nogil:
    """Who says by its source which link a group is meant on is taken at its word: the link of that address, -1 if there is
    none, -2 where nobody says (ip_route_output_key_hash_rcu)."""
    if p.family != 4 or not group4(p.field[<int>FIELD_DST]) or p.field[<int>FIELD_SRC] == 0:
        return -2
    return address_slot(&host.fib, 4, &p.field[<int>FIELD_SRC])


cdef inline bint output_taken(Host *host, Packet *p, FibResult *result) noexcept nogil:
    """Take the decision for a packet of the host's own; False when it leads nowhere."""
    if result.type == ROUTE_LOCAL or result.type == ROUTE_ANYCAST:
        result.type = ROUTE_LOCAL
        if host.loopback < 0 or not host.interfaces[host.loopback].up:
            return False
    elif result.type == ROUTE_BLACKHOLE or result.type == ROUTE_UNREACHABLE or result.type == ROUTE_PROHIBIT:
        return False
    elif result.hop == NULL:
        return False
    route_take(host, p, result)
    if p.family == 4 and group4(p.field[<int>FIELD_DST]):
        # __mkroute_output: of the way to a group only the link matters; of a shorter prefix not even the MTU.
        p.route_type = ROUTE_MULTICAST if p.field[<int>FIELD_DST] >> 28 == 14 else ROUTE_BROADCAST
        memcpy(p.nexthop, &p.field[<int>FIELD_DST], 16)
        p.nexthop_family = 4
        p.onlink = 1
        if result.route == NULL or result.route.length < 4 or p.route_type == ROUTE_BROADCAST:
            p.route_mtu = 0
    return True


cdef inline bint route_output_on(Host *host, Packet *p, int32_t oif) noexcept nogil:
    """Route a packet that the host sends, by `oif` if it is not -1; False when there is no way."""
    cdef FlowKey key
    cdef FibResult result
    cdef uint32_t *dst = &p.field[<int>FIELD_DST]
    flow_key(p, &key)
    key.iif = -1
    if oif < 0 and p.family == 4 and group4(dst[0]):
        oif = group_link4(host, p)
        if oif == -1:
            return False
        if oif < 0:
            oif = -1
    key.oif = oif
    if oif >= 0 and ((p.family == 4 and group4(dst[0]))
                     or (p.family == 6 and (dst[0] >> 24 == 0xFF or dst[0] >> 22 == 0xFE80U >> 6))):
        # What a link's own scope reaches needs no route once the link is named.
        memset(&result, 0, sizeof(result))
        if p.family == 6 and address_on(&host.fib, 6, dst, oif):
            result.type = ROUTE_LOCAL
            return output_taken(host, p, &result)
        result.type = ROUTE_UNICAST if p.family == 6 and dst[0] >> 24 != 0xFF else ROUTE_MULTICAST
        route_take(host, p, &result)
        p.oif = oif
        return True
    return fib_lookup(&host.fib, &key, &result) and output_taken(host, p, &result)


cdef inline bint route_answer(Host *host, Packet *p, int32_t oif) noexcept nogil:
    """Route what the stack itself answers: IPv6 without the traffic class that is then written, as icmpv6_echo_reply,
    icmp6_send and tcp_v6_send_response do. A hook that asks again asks with it."""
    if p.family == 6:
        p.field[<int>FIELD_TOS] = 0
    return route_output_on(host, p, oif)


cdef inline bint route_output(Host *host, Packet *p) noexcept nogil:
    return route_output_on(host, p, -1)


cdef inline bint route_raw_output(Host *host, Packet *p) noexcept nogil:
    """raw_sendmsg with IP_HDRINCL: the route is chosen by the destination, before anybody looks into the packet."""
    cdef FlowKey key
    cdef FibResult result
    memset(&key, 0, sizeof(key))
    memcpy(key.dst, &p.field[<int>FIELD_DST], 16)
    key.family = p.family
    key.iif = key.oif = -1
    key.proto = IPPROTO_RAW
    if p.family == 6 and (not fib_lookup(&host.fib, &key, &result) or route_refuses(result.type)):
        # ip6_dst_lookup_tail: no way without a source may become one with it.
        if not fib_select_source(&host.fib, 6, -1, key.dst, key.src):
            return False
    return fib_lookup(&host.fib, &key, &result) and output_taken(host, p, &result)


cdef inline bint route_refuses(uint8_t kind) noexcept nogil:
    return kind in (ROUTE_BLACKHOLE, ROUTE_UNREACHABLE, ROUTE_PROHIBIT, ROUTE_THROW)


cdef inline bint output_source(Host *host, const FlowKey *key, uint32_t *source) noexcept nogil:
    """The source address that the route of `key` gives to a packet of the host."""
    cdef FibResult result
    if not fib_lookup(&host.fib, key, &result):
        return False
    return route_source(&host.fib, key, &result, source)


cdef inline Reason validate_source(
    Host *host, const Packet *p, const Interface *interface, int32_t oif, bint *same_link, bint broadcast=False,
) noexcept nogil:
    """fib_validate_source: NOT_DROPPED, or why this source may not come in by this interface."""
    cdef FlowKey key
    cdef FibResult result
    cdef const uint32_t *source = &p.field[<int>FIELD_SRC]
    cdef int i
    same_link[0] = False
    if not interface.rp_filter and (interface.slot != oif or not interface.send_redirects):
        if interface.accept_local:
            return Reason.NOT_DROPPED
        if not host.fib.custom_rules:
            return Reason.IP_LOCAL_SOURCE if address_on(&host.fib, 4, source, -1) else Reason.NOT_DROPPED
    memset(&key, 0, sizeof(key))
    key.packet = p
    key.reversed = True
    memcpy(key.dst, source, 16)
    if not broadcast:
        memcpy(key.src, &p.field[<int>FIELD_DST], 16)
    key.family = 4
    key.oif = -1
    key.iif = oif
    key.tos = <uint8_t>(p.field[<int>FIELD_TOS] & 0x1C)
    key.mark = p.field[<int>FIELD_MARK] if interface.src_valid_mark else 0
    if not fib_lookup(&host.fib, &key, &result) or route_refuses(result.type):
        # What ends in an error has no interface that it could be compared with.
        return Reason.IP_RPFILTER if interface.rp_filter else Reason.NOT_DROPPED
    if result.type == ROUTE_LOCAL:
        if not interface.accept_local:
            return Reason.IP_LOCAL_SOURCE
        if interface.kind == LINK_LOOPBACK:
            return Reason.NOT_DROPPED
    elif result.type != ROUTE_UNICAST:
        return Reason.IP_INVALID_SOURCE
    if result.route != NULL:
        for i in range(result.route.hop_count):
            if host.fib.hops[result.route.first_hop + i].slot == interface.slot:
                # On link, or through a gateway: only the former may be told of a better way.
                same_link[0] = host.fib.hops[result.route.first_hop + i].gateway_family == 0
                return Reason.NOT_DROPPED
    if not interface.has_ip4:
        return Reason.IP_RPFILTER if interface.rp_filter else Reason.NOT_DROPPED
    return Reason.IP_RPFILTER if interface.rp_filter == 1 else Reason.NOT_DROPPED


cdef inline void input_drop(InputRoute *route, Reason reason) noexcept nogil:
    route.action = INPUT_DROP
    route.reason = reason


cdef inline void route_input4(Host *host, Packet *p, InputRoute *route) noexcept nogil:
    """ip_route_input for the packet's addresses on the interface that it came in by."""
    cdef Interface *interface = &host.interfaces[p.iif]
    cdef uint32_t src = p.field[<int>FIELD_SRC]
    cdef uint32_t dst = p.field[<int>FIELD_DST]
    cdef FlowKey key
    cdef FibResult result
    cdef bint same_link = False
    cdef Reason reason
    memset(route, 0, sizeof(InputRoute))
    if src >> 28 == 14 or src == 0xFFFFFFFFU:
        input_drop(route, Reason.IP_INVALID_SOURCE)
        return
    if dst == 0xFFFFFFFFU or (src == 0 and dst == 0):
        p.route_type = ROUTE_BROADCAST
        if src:
            reason = validate_source(host, p, interface, -1, &same_link, True)
            if reason != Reason.NOT_DROPPED:
                input_drop(route, reason)
        return
    # Of 0/8 only 0.0.0.0 itself is special (ipv4_is_zeronet).
    if src == 0:
        input_drop(route, Reason.IP_INVALID_SOURCE)
        return
    if dst == 0:
        input_drop(route, Reason.IP_INVALID_DEST)
        return
    if interface.kind != LINK_LOOPBACK and not interface.route_localnet:
        if loopback4(dst) or loopback4(src):
            input_drop(route, Reason.IP_LOCALNET)
            return
    if dst >> 28 == 14:
        # No multicast routing.
        p.route_type = ROUTE_MULTICAST
        reason = Reason.IP_INVALID_DEST
        if group_joined4(host, interface, dst):
            reason = validate_source(host, p, interface, -1, &same_link, True)
        if reason != Reason.NOT_DROPPED:
            input_drop(route, reason)
        return
    flow_key(p, &key)
    if not fib_lookup(&host.fib, &key, &result):
        p.route_type = ROUTE_UNREACHABLE
        route.action = INPUT_ERROR
        if not interface.forwarding:
            route.code = SILENT
            route.reason = Reason.IP_INADDRERRORS
            return
        route.code = 0
        route.reason = Reason.IP_INNOROUTES
        return
    if result.type == ROUTE_BLACKHOLE:
        p.route_type = ROUTE_UNREACHABLE
        route.action = INPUT_ERROR
        route.code = SILENT
        route.reason = Reason.ROUTE_BLACKHOLE if interface.forwarding else Reason.IP_INADDRERRORS
        return
    if result.type == ROUTE_UNREACHABLE or result.type == ROUTE_PROHIBIT:
        p.route_type = ROUTE_UNREACHABLE
        route.action = INPUT_ERROR
        if not interface.forwarding:
            route.code = SILENT
            route.reason = Reason.IP_INADDRERRORS
            return
        # An unreachable route says host unreachable, a rule that has no route network unreachable.
        route.code = 13 if result.type == ROUTE_PROHIBIT else 1 if result.route != NULL else 0
        route.reason = Reason.ROUTE_UNREACHABLE if result.type == ROUTE_UNREACHABLE else Reason.ROUTE_PROHIBIT
        return
    if result.type == ROUTE_BROADCAST:
        if src:
            reason = validate_source(host, p, interface, -1, &same_link, True)
            if reason != Reason.NOT_DROPPED:
                input_drop(route, reason)
                return
        p.route_type = ROUTE_BROADCAST
        return
    if result.type == ROUTE_LOCAL:
        if interface.kind != LINK_LOOPBACK:
            reason = validate_source(host, p, interface, -1, &same_link)
            if reason != Reason.NOT_DROPPED:
                input_drop(route, reason)
                return
        p.route_type = ROUTE_LOCAL
        p.oif = -1
        return
    if not interface.forwarding:
        p.route_type = ROUTE_UNREACHABLE
        route.action = INPUT_ERROR
        route.code = SILENT
        route.reason = Reason.IP_INADDRERRORS
        return
    if result.type != ROUTE_UNICAST or result.hop == NULL:
        input_drop(route, Reason.IP_INVALID_DEST)
        return
    reason = validate_source(host, p, interface, result.hop.slot, &same_link)
    if reason != Reason.NOT_DROPPED:
        input_drop(route, reason)
        return
    route_take(host, p, &result)
    route.action = INPUT_FORWARD
    if result.hop.slot == interface.slot and same_link and interface.send_redirects:
        route.redirect = 1


cdef inline void route_input6(Host *host, Packet *p, InputRoute *route) noexcept nogil:
    """ip6_route_input; what cannot be reached is refused only after the FORWARD checks, as in ip6_pkt_discard."""
    cdef Interface *interface = &host.interfaces[p.iif]
    cdef uint32_t *dst = &p.field[<int>FIELD_DST]
    cdef FlowKey key
    cdef FibResult result
    memset(route, 0, sizeof(InputRoute))
    flow_key(p, &key)
    if dst[0] >> 24 == 0xFF:
        # No multicast forwarding.
        p.route_type = ROUTE_MULTICAST
        if not group_joined6(host, interface, dst):
            input_drop(route, Reason.IP_INVALID_DEST)
        return
    if dst[0] >> 22 == 0xFE80U >> 6:
        # What the host says to itself it has routed already.
        if address_on(&host.fib, 6, dst, -1 if interface.kind == LINK_LOOPBACK else interface.slot):
            p.route_type = ROUTE_LOCAL
            return
        key.oif = interface.slot
    if not fib_lookup(&host.fib, &key, &result):
        p.route_type = ROUTE_UNREACHABLE
        route.action = INPUT_ERROR
        route.code = 0
        route.reason = Reason.IP_INNOROUTES if dst[0] | dst[1] | dst[2] | dst[3] else Reason.IP_INADDRERRORS
        return
    if result.type == ROUTE_UNICAST and key.oif < 0 and result.route.next >= 0:
        # Of equal routes the one by the interface that the packet came in by (ip6_pol_route_input).
        fib_lookup_by(&host.fib, &key, interface.slot, &result)
    if result.type == ROUTE_LOCAL or result.type == ROUTE_ANYCAST:
        p.route_type = result.type
        p.oif = -1
        return
    if result.type == ROUTE_BLACKHOLE:
        p.route_type = ROUTE_UNREACHABLE
        route.action = INPUT_ERROR
        route.code = SILENT
        route.reason = Reason.ROUTE_BLACKHOLE
        return
    if result.type == ROUTE_PROHIBIT or result.type == ROUTE_UNREACHABLE or result.hop == NULL:
        p.route_type = ROUTE_UNREACHABLE
        route.action = INPUT_ERROR
        route.code = 1 if result.type == ROUTE_PROHIBIT else 0
        route.reason = Reason.ROUTE_PROHIBIT if result.type == ROUTE_PROHIBIT else Reason.ROUTE_UNREACHABLE
        if dst[0] | dst[1] | dst[2] | dst[3] == 0:
            route.reason = Reason.IP_INADDRERRORS
        return
    if result.type == ROUTE_MULTICAST:
        p.route_type = ROUTE_MULTICAST
        return
    route_take(host, p, &result)
    route.action = INPUT_FORWARD


cdef inline uint32_t packet_mtu(const Host *host, const Packet *p) noexcept nogil:
    """The MTU that the packet's route allows, bytes of network header and payload."""
    cdef const Interface *out = &host.interfaces[p.oif]
    cdef uint32_t mtu = out.mtu if p.family == 4 else out.mtu6
    if p.route_mtu and p.route_mtu < mtu:
        return p.route_mtu
    return mtu
