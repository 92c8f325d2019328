"""The options in IPv6 extension headers: hop by hop, looked at before anything else, and for the destination
(net/ipv6/exthdrs.c, ip6_parse_tlv)."""

from libc.stdint cimport int64_t, uint32_t, uint8_t

from dataplane._fast.defrag cimport parameter_problem
from dataplane._fast.network cimport Host, Network, drop
from dataplane._fast.packet cimport FIELD_DST, Packet
from dataplane._fast.reason cimport Reason
from dataplane._fast.wire cimport IPPROTO_HOPOPTS, load32

cdef enum:
    TLV_PAD1 = 0
    TLV_PADN = 1
    TLV_ROUTER_ALERT = 5
    TLV_CALIPSO = 7
    TLV_IOAM = 0x31
    TLV_JUMBO = 0xC2
    UNKNOWN_OPTION = 2      # code of the parameter problem (RFC 4443, 3.4)
    PADDING = 7             # bytes of padding in a row that are taken
    OPTIONS_TAKEN = 8       # net.ipv6.max_hbh_opts_number, max_dst_opts_number


cdef inline bint option_of_hop(const uint8_t *at, uint32_t size, int64_t offset) noexcept nogil:
    """Whether an option that routers know is as it must be."""
    if at[0] == TLV_ROUTER_ALERT:
        return size == 4
    if at[0] == TLV_CALIPSO:
        return False        # a label of a domain that was never set up here
    if at[0] == TLV_IOAM:
        return offset & 3 == 0
    return at[0] != TLV_JUMBO or (size == 6 and offset & 3 == 2)


cdef inline bint tlv_options(Network *net, Host *host, Packet *p, int64_t header, bint hop) noexcept nogil:
    """Whether the packet goes on behind the options header at this offset, which is all there; else it is accounted for."""
    cdef const uint8_t *at = p.net + header + 2
    cdef const uint8_t *end = p.net + header + (p.net[header + 1] + 1) * 8
    cdef uint32_t size, padding = 0, count = 0, i
    cdef uint8_t kind
    while at < end:
        kind = at[0]
        if kind == TLV_PAD1:
            size = 1
            padding += 1
        else:
            if end - at < 2:
                drop(net, host, p, Reason.IP_INHDR)
                return False
            size = at[1] + 2
            if size > end - at:
                drop(net, host, p, Reason.IP_INHDR)
                return False
            if kind == TLV_PADN:
                padding += size
                for i in range(2, size):
                    if at[i]:
                        drop(net, host, p, Reason.IP_INHDR)
                        return False
            else:
                padding = 0
                count += 1
                if count > OPTIONS_TAKEN or (hop and not option_of_hop(at, size, at - p.net)):
                    drop(net, host, p, Reason.IP_INHDR)
                    return False
                if hop and kind == TLV_JUMBO:
                    # No packet here is as long as a jumbogram: its length is wrong, or has no place beside the other.
                    return parameter_problem(net, host, p, 0, at - p.net + (0 if load32(at + 2) > 65535 else 2))
                if kind >> 6:
                    if kind >> 6 == 1 or (kind >> 6 == 3 and p.field[<int>FIELD_DST] >> 24 == 0xFF):
                        drop(net, host, p, Reason.IP_INHDR)
                        return False
                    return parameter_problem(net, host, p, UNKNOWN_OPTION, at - p.net)
        if padding > PADDING:
            drop(net, host, p, Reason.IP_INHDR)
            return False
        at += size
    return True


cdef inline bint hop_lengths(const Packet *p) noexcept nogil:
    """What a bridge asks of hop-by-hop options before it shows a packet to netfilter (nf_ip6_check_hbh_len): that each ends
    within them, and that none is a jumbogram's."""
    cdef const uint8_t *at = p.net + 42
    cdef const uint8_t *end
    if p.tail - p.net < 40 or p.net[0] >> 4 != 6 or p.net[6] != IPPROTO_HOPOPTS:
        return True
    if p.tail - p.net < 48 or p.tail - p.net < 40 + (p.net[41] + 1) * 8:
        return False
    end = p.net + 40 + (p.net[41] + 1) * 8
    while at < end:
        if at[0] == TLV_PAD1:
            at += 1
            continue
        if end - at < 2 or at[1] + 2 > end - at or at[0] == TLV_JUMBO:
            return False
        at += at[1] + 2
    return True


cdef inline bint hop_options(Network *net, Host *host, Packet *p) noexcept nogil:
    """Whether the packet goes on; else it is accounted for (ipv6_parse_hopopts)."""
    cdef int64_t left = p.tail - p.net - 40
    if left < 8 or left < (p.net[41] + 1) * 8:
        drop(net, host, p, Reason.IP_INHDR)
        return False
    return tlv_options(net, host, p, 40, True)
