"""The hop-by-hop options of an IPv6 packet, looked at before anything else (net/ipv6/exthdrs.c, ipv6_parse_hopopts)."""

from libc.stdint cimport int64_t, uint32_t, uint8_t

from dataplane._fast.defrag cimport parameter_problem
from dataplane._fast.network cimport Host, Network, drop
from dataplane._fast.packet cimport FIELD_DST, Packet
from dataplane._fast.reason cimport Reason
from dataplane._fast.wire cimport load32

cdef enum:
    TLV_PAD1 = 0
    TLV_PADN = 1
    TLV_ROUTER_ALERT = 5
    TLV_CALIPSO = 7
    TLV_IOAM = 0x31
    TLV_JUMBO = 0xC2
    UNKNOWN_OPTION = 2      # code of the parameter problem (RFC 4443, 3.4)
    PADDING = 7             # bytes of padding in a row that are taken


cdef inline bint hop_options(Network *net, Host *host, Packet *p) noexcept nogil:
    """Whether the packet goes on; else it is accounted for."""
    cdef const uint8_t *at = p.net + 42
    cdef const uint8_t *end
    cdef int64_t left = p.tail - p.net - 40
    cdef uint32_t size, padding = 0, i
    cdef uint8_t kind
    if left < 8 or left < (p.net[41] + 1) * 8:
        drop(net, host, p, Reason.IP_INHDR)
        return False
    end = p.net + 40 + (p.net[41] + 1) * 8
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
                if (
                    (kind == TLV_ROUTER_ALERT and size != 4) or (kind == TLV_CALIPSO and size < 10)
                    or (kind == TLV_JUMBO and (size != 6 or (at - p.net) & 3 != 2))
                ):
                    drop(net, host, p, Reason.IP_INHDR)
                    return False
                if kind == TLV_JUMBO:
                    # No packet here is as long as a jumbogram: its length is wrong, or has no place beside the other.
                    return parameter_problem(net, host, p, 0, at - p.net + (0 if load32(at + 2) > 65535 else 2))
                if kind != TLV_ROUTER_ALERT and kind != TLV_CALIPSO and kind != TLV_IOAM and kind >> 6:
                    if kind >> 6 == 1 or (kind >> 6 == 3 and p.field[<int>FIELD_DST] >> 24 == 0xFF):
                        drop(net, host, p, Reason.IP_INHDR)
                        return False
                    return parameter_problem(net, host, p, UNKNOWN_OPTION, at - p.net)
        if padding > PADDING:
            drop(net, host, p, Reason.IP_INHDR)
            return False
        at += size
    return True
