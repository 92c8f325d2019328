"""What OUTPUT does to the route of a host's own packet (net/ipv4/netfilter.c, ip_route_me_harder; net/ipv6/netfilter.c).

Two entries of the hook ask for a new route: the mangle table when it changed what routes are chosen by, and nat when it
translates the destination. A mark that the raw table sets moves no packet by itself.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy

from dataplane._fast.conntrack cimport Conn
from dataplane._fast.network cimport Host, Network, drop
from dataplane._fast.packet cimport (
    CT_ESTABLISHED_REPLY, CT_UNTRACKED, FIELD_DST, FIELD_MARK, FIELD_SRC, FIELD_TOS, FIELD_TTL, Packet,
)
from dataplane._fast.reason cimport Reason
from dataplane._fast.route cimport route_output, route_output_on

cdef struct RouteWords:
    uint32_t addresses[8]
    uint32_t mark
    uint32_t tos
    uint32_t hop_limit


cdef inline void route_words(const Packet *p, RouteWords *words) noexcept nogil:
    memcpy(words.addresses, &p.field[<int>FIELD_SRC], sizeof(words.addresses))
    words.mark = p.field[<int>FIELD_MARK]
    words.tos = p.field[<int>FIELD_TOS]
    words.hop_limit = p.field[<int>FIELD_TTL] if p.family == 6 else 0


cdef inline bint route_words_changed(const Packet *p, const RouteWords *before) noexcept nogil:
    cdef RouteWords now
    route_words(p, &now)
    return memcmp(&now, before, sizeof(RouteWords)) != 0


cdef inline bint nat_moves(const Packet *p) noexcept nogil:
    """Whether the connection of `p` translates the destination of its packets in this direction."""
    cdef const Conn *conn = p.ct
    cdef int direction = 1 if p.ctinfo >= CT_ESTABLISHED_REPLY and p.ctinfo != CT_UNTRACKED else 0
    return conn != NULL and memcmp(conn.tuple[direction].dst, conn.tuple[1 - direction].src, 16) != 0


cdef inline bint reroute(Network *net, Host *host, Packet *p) noexcept nogil:
    """Route once more; False when there is no way, and the packet is dropped. What stays on a link is asked for on its
    own link again, and nothing of that kind is on lo."""
    cdef uint32_t dst = p.field[<int>FIELD_DST]
    if p.family == 6 and (dst >> 24 == 0xFF or dst >> 22 == 0xFE80U >> 6):
        if p.oif != host.loopback and route_output_on(host, p, p.oif):
            return True
    elif route_output(host, p):
        return True
    drop(net, host, p, Reason.IP_OUTNOROUTES)
    return False
