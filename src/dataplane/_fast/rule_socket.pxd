"""Whether a socket of this host would take a packet (net/netfilter/xt_socket.c, net/ipv4/netfilter/nf_socket_ipv4.c).

The sockets of a modelled host are those that listen, bound to every address, none of them transparent.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from dataplane._fast.conntrack cimport STATUS_SRC_NAT_DONE
from dataplane._fast.packet cimport (
    CT_ESTABLISHED_REPLY, CT_RELATED_REPLY, FIELD_FRAGMENT, FIELD_L4, FIELD_PROTO, Packet, ip6_transport,
)
from dataplane._fast.rule_context cimport RuleContext
from dataplane._fast.ruleset cimport SOCKET_NO_WILDCARD, SOCKET_TRANSPARENT
from dataplane._fast.wire cimport IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, load16


cdef inline bint socket_listens(const uint8_t *listening, bint all_ports, uint32_t proto, uint16_t port) noexcept nogil:
    cdef uint32_t bit = port + (65536 if proto == IPPROTO_UDP else 0)
    return all_ports or (listening != NULL and listening[bit >> 3] >> (bit & 7) & 1)


cdef inline bint quoted_port(const Packet *p, uint32_t *proto, uint16_t *port) noexcept nogil:
    """The protocol and source port of the packet that an ICMP error quotes."""
    cdef const uint8_t *inner = p.transport + 8
    cdef const uint8_t *transport
    cdef uint8_t inner_proto = 0
    cdef uint16_t fragment = 0
    cdef uint8_t kind
    if p.tail - p.transport < 8:
        return False
    kind = p.transport[0]
    if p.family == 4:
        if kind not in (3, 4, 5, 11, 12) or p.tail - inner < 20:
            return False
        inner_proto = inner[9]
        transport = inner + (inner[0] & 15) * 4
    else:
        if kind & 128 or p.tail - inner < 40:
            return False
        transport = ip6_transport(inner, p.tail, &inner_proto, &fragment)
        if transport == NULL:
            return False
    if (inner_proto != IPPROTO_TCP and inner_proto != IPPROTO_UDP) or p.tail - transport < 4:
        return False
    proto[0] = inner_proto
    port[0] = load16(transport)
    return True


cdef inline bint match_socket(const Packet *p, uint32_t flags, RuleContext *context) noexcept nogil:
    """Sockets that are bound to every address count with --nowildcard alone."""
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    cdef uint16_t port
    cdef bint error = proto == (<uint32_t>IPPROTO_ICMP if p.family == 4 else <uint32_t>IPPROTO_ICMPV6)
    if flags & SOCKET_TRANSPARENT or not flags & SOCKET_NO_WILDCARD:
        return False
    if p.transport == NULL or not p.field[<int>FIELD_L4] or p.field[<int>FIELD_FRAGMENT]:
        return False
    if error:
        if not quoted_port(p, &proto, &port):
            return False
    elif proto == IPPROTO_TCP or proto == IPPROTO_UDP:
        port = load16(p.transport + 2)
    else:
        return False
    if p.family == 4 and p.ct != NULL and p.ct.status & STATUS_SRC_NAT_DONE and p.ctinfo == (
        CT_RELATED_REPLY if error else CT_ESTABLISHED_REPLY
    ):
        # The socket knows the connection by the address and port that it had itself.
        port = p.ct.tuple[0].sport
    return socket_listens(context.listening, context.all_ports, proto, port)
