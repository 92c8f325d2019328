"""Cutting packets to the MTU, and cutting again what was put together (net/ipv4/ip_output.c, net/ipv6/ip6_output.c).

What was put together leaves in the fragments that it came in, if they fit; else in pieces as large as the link and the
largest fragment that came allow.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from dataplane._fast.chance cimport CHOICE_FRAGMENT_ID, chance_draw
from dataplane._fast.icmp cimport ICMP6_PACKET_TOO_BIG, icmp6_error
from dataplane._fast.interface cimport LINK_VXLAN
from dataplane._fast.network cimport (
    Host, Network, STAGE_END, STAGE_TRANSMIT, Stage, drop, packet_give, packet_make, spawn,
)
from dataplane._fast.options cimport options_of_later
from dataplane._fast.packet cimport FIELD_LENGTH, FIELD_MARK, Packet, packet_read4, packet_read6
from dataplane._fast.reason cimport Reason
from dataplane._fast.track cimport ct_release
from dataplane._fast.wire cimport (
    ETH_HLEN, IPPROTO_DSTOPTS, IPPROTO_FRAGMENT, IPPROTO_HOPOPTS, IPPROTO_ROUTING, IP_DF, IP_MF, IP_OFFSET,
    ip4_checksum_set, load16, store16, store32,
)

cdef enum:
    IP6_LEAST_MTU = 1280    # RFC 8200, 5


cdef inline uint32_t linear(const Packet *p) noexcept nogil:
    """How many bytes from the network header on are in one piece (skb_headlen)."""
    cdef uint32_t length = p.field[<int>FIELD_LENGTH], i
    for i in range(1, p.cut_count):
        length -= p.cuts[i].length
    return length if length > p.pulled else p.pulled


cdef inline void cuts_pulled(Packet *p) noexcept nogil:
    """__pskb_pull_tail: what was pulled is the first piece's; who has nothing left of its own is none any more."""
    cdef uint32_t header = p.field[<int>FIELD_LENGTH], eaten, i, kept = 1
    for i in range(p.cut_count):
        header -= p.cuts[i].length
    if p.pulled <= header + p.cuts[0].length:
        return
    eaten = p.pulled - header - p.cuts[0].length
    p.cuts[0].length += eaten
    for i in range(1, p.cut_count):
        if p.cuts[i].length <= eaten:
            eaten -= p.cuts[i].length
            continue
        p.cuts[kept] = p.cuts[i]
        p.cuts[kept].length -= eaten
        if p.cuts[kept].missing > p.cuts[kept].length:
            p.cuts[kept].missing = p.cuts[kept].length
        eaten = 0
        kept += 1
    p.cut_count = kept


cdef inline bint leaves_as_it_came(const Host *host, Packet *p, uint32_t room, uint32_t payload) noexcept nogil:
    """Whether the fragments that `p` was put together from can be sent as they are: each fits, and there is headroom for
    the link's headers, which a tunnel's are too long for."""
    cdef uint32_t i, rest = 0
    if p.cut_count == 0 or host.interfaces[p.oif].kind == LINK_VXLAN:
        return False
    cuts_pulled(p)
    for i in range(1, p.cut_count):
        if p.cuts[i].length > room or (p.cuts[i].length & 7 and i + 1 < p.cut_count):
            return False
        rest += p.cuts[i].length
    # The first may be empty: all that it had may belong to every fragment now.
    if rest > payload or payload - rest > room or (payload - rest) & 7:
        return False
    # Options that stood behind the first one's fragment header may stand before it now.
    p.cuts[0].length = payload - rest
    return True


cdef inline Packet *piece_make(Network *net, Host *host, const Packet *p, uint32_t length, Stage stage) noexcept nogil:
    """A packet that takes the way of `p`; for STAGE_TRANSMIT with its link-layer header."""
    cdef Packet *piece = packet_make(net, host, p.time, length)
    if piece == NULL:
        return NULL
    if stage == STAGE_TRANSMIT:
        piece.mac = piece.net - ETH_HLEN
        memcpy(piece.mac, p.mac, ETH_HLEN)
    piece.field[<int>FIELD_MARK] = p.field[<int>FIELD_MARK]
    piece.ethertype = p.ethertype
    piece.type = p.type
    piece.iif = p.iif
    piece.oif = p.oif
    piece.route_type = p.route_type
    piece.route_mtu = p.route_mtu
    piece.onlink = p.onlink
    piece.nexthop_family = p.nexthop_family
    memcpy(piece.nexthop, p.nexthop, 16)
    piece.ct = p.ct
    piece.ctinfo = p.ctinfo
    if p.ct != NULL:
        p.ct.uses += 1
    piece.row = p.row
    piece.flow = p.flow
    piece.hops = p.hops
    piece.traced = p.traced
    return piece


cdef inline uint32_t piece_missing(const Packet *p, uint32_t at, uint32_t size) noexcept nogil:
    """How many of `size` bytes from `at` on a capture cut off."""
    cdef uint32_t known = p.field[<int>FIELD_LENGTH] - p.missing
    if at + size <= known:
        return 0
    return at + size - known if at < known else size


cdef inline Stage fragmented(Network *net, Host *host, Packet *p) noexcept nogil:
    """All of `p` is on its way in pieces."""
    ct_release(host.netfilter.conntrack, p)
    packet_give(net, p)
    return STAGE_END


cdef inline Stage ip4_fragment(
    Network *net, Host *host, Packet *p, uint32_t mtu, Stage stage, bint keep_df,
) noexcept nogil:
    """ip_do_fragment: send `p` in pieces of at most `mtu` bytes; each goes on by itself from `stage`."""
    cdef uint32_t header = (p.net[0] & 15) * 4
    cdef uint32_t total = p.field[<int>FIELD_LENGTH]
    cdef uint16_t fragment = load16(p.net + 6), flags
    cdef uint32_t room, at, size, i = 0
    cdef bint as_it_came
    cdef Packet *piece
    if p.frag_size and p.frag_size < mtu:
        mtu = p.frag_size
    if mtu < header + 8:
        return drop(net, host, p, Reason.PKT_TOO_BIG)
    as_it_came = leaves_as_it_came(host, p, mtu - header, total - header)
    flags = fragment & (IP_DF | IP_MF) if keep_df and not as_it_came else fragment & IP_MF
    room = (mtu - header) & ~7U
    at = header
    while at < total:
        size = total - at
        if as_it_came:
            size = p.cuts[i].length
        elif size > mtu - header:
            size = room
        piece = piece_make(net, host, p, header + size, stage)
        if piece == NULL:
            return drop(net, host, p, Reason.NOMEM)
        piece.missing = p.cuts[i].missing if as_it_came else piece_missing(p, at, size)
        memcpy(piece.net, p.net, header)
        memcpy(piece.net + header, p.net + at, size)
        store16(piece.net + 2, <uint16_t>(header + size))
        store16(piece.net + 6, <uint16_t>(
            flags | ((fragment & IP_OFFSET) + ((at - header) >> 3)) | (IP_MF if at + size < total else 0)))
        ip4_checksum_set(piece.net)
        packet_read4(piece)
        if at == header and p.options.length and not fragment & IP_OFFSET:
            options_of_later(p.net + 20, header - 20)
        at += size
        i += 1
        spawn(net, piece, stage)
    return fragmented(net, host, p)


cdef inline uint32_t unfragmentable(const Packet *p, uint8_t **following) noexcept nogil:
    """ip6_find_1stfragopt: the length of the part that every fragment repeats, and where it says what follows; 0 when
    the headers are broken, or are not in one piece."""
    cdef uint8_t *at = p.net + 40
    cdef const uint8_t *tail = p.net + linear(p)
    cdef bint routed = False
    following[0] = p.net + 6
    while at <= tail:
        if following[0][0] == IPPROTO_ROUTING:
            routed = True
        elif following[0][0] == IPPROTO_DSTOPTS:
            if routed:
                return <uint32_t>(at - p.net)
        elif following[0][0] != IPPROTO_HOPOPTS:
            return <uint32_t>(at - p.net)
        if at + 2 > tail:
            break
        following[0] = at
        at += (at[1] + 1) * 8
    return 0


cdef inline Stage ip6_too_big(Network *net, Host *host, Packet *p, uint32_t mtu) noexcept nogil:
    icmp6_error(net, host, p, ICMP6_PACKET_TOO_BIG, 0, mtu)
    return drop(net, host, p, Reason.PKT_TOO_BIG)


cdef inline Stage ip6_fragment(Network *net, Host *host, Packet *p, uint32_t mtu, Stage stage) noexcept nogil:
    """ip6_fragment: only what came in fragments is cut again, never what came whole."""
    cdef uint8_t *announced
    cdef uint32_t header = unfragmentable(p, &announced)
    cdef uint32_t total = p.field[<int>FIELD_LENGTH]
    cdef uint32_t room, at, size, number, i = 0
    cdef int64_t announced_at = announced - p.net
    cdef bint as_it_came
    cdef Packet *piece
    if header == 0:
        return drop(net, host, p, Reason.IP_INHDR)
    if (not p.ignore_df and total > mtu) or p.frag_size > mtu:
        return ip6_too_big(net, host, p, mtu)
    if p.frag_size:
        mtu = p.frag_size if p.frag_size > IP6_LEAST_MTU else IP6_LEAST_MTU
    if mtu < header + 16:
        return ip6_too_big(net, host, p, mtu)
    room = mtu - header - 8
    number = chance_draw(&host.chance, CHOICE_FRAGMENT_ID)
    as_it_came = leaves_as_it_came(host, p, room, total - header)
    at = header
    while at < total:
        size = total - at
        if as_it_came:
            size = p.cuts[i].length
        elif size > room:
            size = room & ~7U
        piece = piece_make(net, host, p, header + 8 + size, stage)
        if piece == NULL:
            return drop(net, host, p, Reason.NOMEM)
        piece.missing = p.cuts[i].missing if as_it_came else piece_missing(p, at, size)
        memcpy(piece.net, p.net, header)
        memcpy(piece.net + header + 8, p.net + at, size)
        store16(piece.net + 4, <uint16_t>(header - 40 + 8 + size))
        piece.net[header] = p.net[announced_at]
        piece.net[header + 1] = 0
        piece.net[announced_at] = IPPROTO_FRAGMENT
        store16(piece.net + header + 2, <uint16_t>((at - header) | (1 if at + size < total else 0)))
        store32(piece.net + header + 4, number)
        packet_read6(piece)
        at += size
        i += 1
        spawn(net, piece, stage)
    return fragmented(net, host, p)
