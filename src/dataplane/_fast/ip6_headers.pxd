"""The extension headers of an IPv6 packet for the host itself, one by one up to the transport's (net/ipv6/ip6_input.c,
ip6_protocol_deliver_rcu; exthdrs.c; reassembly.c)."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from dataplane._fast.defrag cimport ip6_local_defrag, parameter_problem
from dataplane._fast.ip6_options cimport tlv_options
from dataplane._fast.network cimport Host, Network, drop
from dataplane._fast.packet cimport FIELD_DST, FIELD_PROTO, PACKET_HOST, Packet, packet_read_ports
from dataplane._fast.reason cimport Reason
from dataplane._fast.wire cimport IPPROTO_DSTOPTS, IPPROTO_FRAGMENT, IPPROTO_HOPOPTS, IPPROTO_ROUTING

cdef enum:
    ROUTING_RPL = 3         # RFC 6554
    ROUTING_SEGMENTS = 4    # RFC 8754


cdef inline bint routing_header(Network *net, Host *host, Packet *p, int64_t header) noexcept nogil:
    """ipv6_rthdr_rcv: only a route that is used up lets the packet go on. Segment routing and RPL are off by default."""
    cdef const uint8_t *at = p.net + header
    if p.field[<int>FIELD_DST] >> 24 == 0xFF or p.type != PACKET_HOST or at[2] == ROUTING_SEGMENTS or at[2] == ROUTING_RPL:
        drop(net, host, p, Reason.IP_INHDR)
        return False
    return not at[3] or parameter_problem(net, host, p, 0, header + 2)


cdef inline bint ip6_headers(Network *net, Host *host, Packet *p, uint32_t *named) noexcept nogil:
    """Whether the packet goes on; else it is accounted for, or waits for more fragments. `transport` and its words are then
    of what no extension header is, which a second hop-by-hop header counts as, too.

    named: OUT the offset of the byte that says what follows the last header
    """
    cdef int64_t at = 40
    cdef uint32_t length
    cdef uint8_t kind
    named[0] = 6
    if p.net[6] == IPPROTO_HOPOPTS and p.whole_at != 40:
        # Seen to as it came in, unless a fragment header stood before it then.
        named[0] = 40
        at += (p.net[41] + 1) * 8
    if p.whole_at:
        # What connection tracking put together: the kernel takes what was behind the fragment header for what follows here.
        at = p.whole_at
    while True:
        kind = p.net[named[0]]
        if kind == IPPROTO_FRAGMENT:
            if not ip6_local_defrag(net, host, p, &at, named):
                return False
            continue
        if kind != IPPROTO_DSTOPTS and kind != IPPROTO_ROUTING:
            break
        if p.tail - p.net < at + 8 or p.tail - p.net < at + (p.net[at + 1] + 1) * 8:
            drop(net, host, p, Reason.IP_INHDR)
            return False
        length = (p.net[at + 1] + 1) * 8
        if kind == IPPROTO_ROUTING:
            if not routing_header(net, host, p, at):
                return False
        elif not tlv_options(net, host, p, at, False):
            return False
        named[0] = <uint32_t>at
        at += length
    p.transport = p.net + at
    p.field[<int>FIELD_PROTO] = kind
    packet_read_ports(p)
    return True
