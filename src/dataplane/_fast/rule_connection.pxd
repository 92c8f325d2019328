"""What rules ask of a packet's connection.

Sources: net/netfilter/xt_conntrack.c, xt_connmark.c, xt_connbytes.c, xt_connlabel.c.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dataplane._fast.conntrack cimport Conn, STATUS_CONFIRMED, STATUS_DST_NAT, STATUS_SRC_NAT
from dataplane._fast.packet cimport CT_ESTABLISHED_REPLY, CT_IS_REPLY, CT_NEW, CT_UNTRACKED, Packet
from dataplane._fast.ruleset cimport (
    CT_DIRECTION, CT_EXPIRES, CT_MARK, CT_ORIG_DPORT, CT_ORIG_DST, CT_ORIG_SPORT, CT_ORIG_SRC, CT_PROTOCOL,
    CT_REPLY_DPORT, CT_REPLY_SPORT, CT_REPLY_SRC, CT_STATUS, STATE_DNAT, STATE_INVALID, STATE_SNAT, STATE_UNTRACKED,
)


cdef inline uint32_t connection_state(const Packet *p) noexcept nogil:
    """CtState of a packet (xt_conntrack.c)."""
    cdef uint32_t bits
    if p.ct == NULL:
        if p.zone.flags:
            # What tells how to track it stands in for its connection, as a new one.
            return <uint32_t>2 << <int>CT_NEW
        return STATE_UNTRACKED if p.ctinfo == CT_UNTRACKED else STATE_INVALID
    bits = <uint32_t>2 << (p.ctinfo % <int>CT_IS_REPLY)
    if p.ct.status & STATUS_SRC_NAT:
        bits |= STATE_SNAT
    if p.ct.status & STATUS_DST_NAT:
        bits |= STATE_DNAT
    return bits


cdef inline bint match_address(const uint32_t *address, const uint32_t *pool) noexcept nogil:
    return (((address[0] & pool[0]) ^ pool[4]) | ((address[1] & pool[1]) ^ pool[5])
            | ((address[2] & pool[2]) ^ pool[6]) | ((address[3] & pool[3]) ^ pool[7])) == 0


cdef inline uint32_t connection_word(const Packet *p, uint32_t word, int64_t now) noexcept nogil:
    """A word of the packet's connection, which there is."""
    cdef const Conn *ct = p.ct
    cdef int64_t left
    if word == CT_ORIG_SPORT:
        return ct.tuple[0].sport
    if word == CT_ORIG_DPORT:
        return ct.tuple[0].dport
    if word == CT_REPLY_SPORT:
        return ct.tuple[1].sport
    if word == CT_REPLY_DPORT:
        return ct.tuple[1].dport
    if word == CT_PROTOCOL:
        return ct.tuple[0].proto
    if word == CT_STATUS:
        return ct.status
    if word == CT_MARK:
        return ct.mark
    if word == CT_DIRECTION:
        return 1 if p.ctinfo >= CT_ESTABLISHED_REPLY else 0
    if word == CT_EXPIRES and ct.status & STATUS_CONFIRMED:
        left = ct.expires - now
        return <uint32_t>(left // 1_000_000_000) if left > 0 else 0
    return 0


cdef inline bint match_ct_word(const Packet *p, const uint32_t *pool, int64_t now, uint8_t invert) noexcept nogil:
    """xt_conntrack.c, xt_connmark.c."""
    if p.ct == NULL:
        return pool[4] != 0
    return ((((connection_word(p, pool[0], now) & pool[1]) - pool[2]) <= pool[3])) != invert


cdef inline bint match_ct_address(const Packet *p, const uint32_t *pool, uint8_t invert) noexcept nogil:
    cdef const uint32_t *address
    if p.ct == NULL:
        return pool[1] != 0
    if pool[0] == CT_ORIG_SRC:
        address = p.ct.tuple[0].src
    elif pool[0] == CT_ORIG_DST:
        address = p.ct.tuple[0].dst
    elif pool[0] == CT_REPLY_SRC:
        address = p.ct.tuple[1].src
    else:
        address = p.ct.tuple[1].dst
    return match_address(address, pool + 2) != invert


cdef inline bint match_ct_label(Packet *p, const uint32_t *pool) noexcept nogil:
    """xt_connlabel.c: whether the connection bears a label; with --set it does from now on."""
    cdef uint32_t bit = 1U << (pool[0] & 31)
    cdef uint32_t *labels
    if p.ct == NULL:
        return False
    labels = &p.ct.labels[pool[0] >> 5]
    if pool[1]:
        labels[0] |= bit
    return (labels[0] & bit) != 0


cdef inline uint8_t match_connbytes(const Packet *p, const uint32_t *pool, uint8_t invert) noexcept nogil:
    """pool: 0 packets, 1 bytes, 2 bytes for each packet; 0 original, 1 reply, 2 both; the range, high words first."""
    cdef uint64_t low = (<uint64_t>pool[2] << 32) | pool[3]
    cdef uint64_t high = (<uint64_t>pool[4] << 32) | pool[5]
    cdef uint64_t packets, size, found
    cdef uint32_t direction = pool[1]
    if p.ct == NULL:
        return 0
    if direction == 2:
        packets = p.ct.packets[0] + p.ct.packets[1]
        size = p.ct.bytes[0] + p.ct.bytes[1]
    else:
        packets = p.ct.packets[direction]
        size = p.ct.bytes[direction]
    if pool[0] == 0:
        found = packets
    elif pool[0] == 1:
        found = size
    else:
        found = size // packets if packets else 0
    return (low <= found <= high) != invert
