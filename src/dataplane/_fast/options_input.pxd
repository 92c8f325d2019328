"""IPv4 options of a packet that came in (net/ipv4/ip_input.c, ip_rcv_options; ip_options.c, ip_options_rcv_srr)."""

from libc.stdint cimport uint8_t, uint32_t

from dataplane._fast.fib cimport ROUTE_LOCAL
from dataplane._fast.icmp cimport ICMP_PARAMETER_PROBLEM, icmp4_error
from dataplane._fast.network cimport Host, Network, drop
from dataplane._fast.options cimport options_read
from dataplane._fast.packet cimport FIELD_DST, IpOptions, PACKET_HOST, Packet
from dataplane._fast.reason cimport Reason
from dataplane._fast.route cimport INPUT_FORWARD, INPUT_LOCAL, InputRoute, route_input4
from dataplane._fast.wire cimport load32, store32


cdef inline bint source_routed(Network *net, Host *host, Packet *p, InputRoute *route) noexcept nogil:
    """Where a source route leads from here: `route` is the way to its next hop then. False: it leads nowhere."""
    cdef IpOptions *o = &p.options
    cdef const uint8_t *at = p.net + o.route
    cdef uint32_t pointer = at[2], asked
    cdef uint8_t kind
    if p.type != PACKET_HOST:
        return False
    if route.action == INPUT_FORWARD:
        if o.strict:
            icmp4_error(net, host, p, ICMP_PARAMETER_PROBLEM, 0, 16U << 24)
        return not o.strict
    if route.action != INPUT_LOCAL or p.route_type != ROUTE_LOCAL:
        return False
    while pointer <= at[1]:
        if pointer + 3 > at[1]:
            icmp4_error(net, host, p, ICMP_PARAMETER_PROBLEM, 0, <uint32_t>(o.route + 2) << 24)
            return False
        o.nexthop = load32(at + pointer - 1)
        asked = p.field[<int>FIELD_DST]
        kind = p.route_type
        p.field[<int>FIELD_DST] = o.nexthop
        route_input4(host, p, route)
        if route.action != INPUT_FORWARD and (route.action != INPUT_LOCAL or p.route_type != ROUTE_LOCAL):
            p.field[<int>FIELD_DST] = asked
            p.route_type = kind
            return False
        if route.action == INPUT_FORWARD:
            p.field[<int>FIELD_DST] = asked
            o.hit = o.changed = 1
            return True
        # To the host itself once more.
        store32(p.net + 16, o.nexthop)
        o.changed = 1
        pointer += 4
    return True


cdef inline bint options_input(Network *net, Host *host, Packet *p, InputRoute *route) noexcept nogil:
    """Whether a routed packet with options goes on; else it is accounted for."""
    cdef uint32_t wrong = options_read(host, p, p.iif)
    if wrong:
        icmp4_error(net, host, p, ICMP_PARAMETER_PROBLEM, 0, wrong << 24)
        drop(net, host, p, Reason.IP_INHDR)
        return False
    if not p.options.route or (host.interfaces[p.iif].accept_source_route and source_routed(net, host, p, route)):
        return True
    drop(net, host, p, Reason.NOT_SPECIFIED)
    return False
