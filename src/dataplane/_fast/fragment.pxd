"""Cutting IPv4 packets to the MTU (RFC 791, 3.2; net/ipv4/ip_output.c)."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from dataplane._fast.network cimport (
    Host, Network, STAGE_END, STAGE_FINISH_OUTPUT, Stage, drop, packet_give, packet_make, spawn,
)
from dataplane._fast.packet cimport FIELD_FRAGMENT, FIELD_LENGTH, FIELD_MARK, Packet, packet_read4
from dataplane._fast.reason cimport Reason
from dataplane._fast.track cimport ct_release
from dataplane._fast.wire cimport IP_DF, IP_MF, IP_OFFSET, ip4_checksum_set, load16, store16


cdef inline uint32_t copied_options(uint8_t *to, const uint8_t *options, uint32_t length) noexcept nogil:
    """Later fragments carry only the options whose copy bit is set; the others become no-operations, as Linux does it."""
    cdef uint32_t at = 0, size
    memcpy(to, options, length)
    while at < length:
        if to[at] == 0:
            break
        if to[at] == 1:
            at += 1
            continue
        if at + 1 >= length:
            break
        size = to[at + 1]
        if size < 2 or at + size > length:
            break
        if not to[at] & 0x80:
            while size:
                to[at] = 1
                at += 1
                size -= 1
        else:
            at += size
    return length


cdef inline Stage ip4_fragment(Network *net, Host *host, Packet *p, uint32_t mtu) noexcept nogil:
    """Send `p` in pieces of at most `mtu` bytes; each finds its way out by itself."""
    cdef uint32_t header = (p.net[0] & 15) * 4
    cdef uint32_t total = p.field[<int>FIELD_LENGTH]
    cdef uint16_t fragment = load16(p.net + 6)
    cdef uint32_t room, at, size
    cdef Packet *piece
    if p.frag_size and p.frag_size < mtu:
        mtu = p.frag_size
    if mtu < header + 8:
        return drop(net, host, p, Reason.PKT_TOO_BIG)
    room = (mtu - header) & ~7U
    at = header
    while at < total:
        size = total - at
        if size > mtu - header:
            size = room
        piece = packet_make(net, host, p.time, header + size)
        if piece == NULL:
            return drop(net, host, p, Reason.NOT_SPECIFIED)
        memcpy(piece.net, p.net, 20)
        if at == header:
            memcpy(piece.net + 20, p.net + 20, header - 20)
        else:
            copied_options(piece.net + 20, p.net + 20, header - 20)
        memcpy(piece.net + header, p.net + at, size)
        store16(piece.net + 2, <uint16_t>(header + size))
        store16(piece.net + 6, <uint16_t>(
            (fragment & (IP_DF | IP_MF)) | ((fragment & IP_OFFSET) + ((at - header) >> 3)) | (IP_MF if at + size < total else 0)))
        ip4_checksum_set(piece.net)
        packet_read4(piece)
        piece.field[<int>FIELD_MARK] = p.field[<int>FIELD_MARK]
        piece.ethertype = p.ethertype
        piece.iif = p.iif
        piece.oif = p.oif
        piece.route_type = p.route_type
        piece.route_mtu = p.route_mtu
        piece.onlink = p.onlink
        piece.nexthop_family = p.nexthop_family
        memcpy(piece.nexthop, p.nexthop, 16)
        piece.row = p.row
        piece.flow = p.flow
        piece.hops = p.hops
        piece.traced = p.traced
        at += size
        spawn(net, piece, STAGE_FINISH_OUTPUT)
    ct_release(host.netfilter.conntrack, p)
    packet_give(net, p)
    return STAGE_END
