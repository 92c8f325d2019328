"""Which of several next hops a flow takes: the kernel's hash, computable where net.ipv4.fib_multipath_hash_seed is set.

Sources: net/ipv4/route.c (fib_multipath_hash), net/ipv6/route.c (rt6_multipath_hash), net/core/flow_dissector.c
(flow_hash_from_keys); SipHash-2-4 by Aumasson and Bernstein.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from dataplane._fast.packet cimport FIELD_ICMP, FIELD_L4, FIELD_PROTO, Packet
from dataplane._fast.wire cimport (
    ETH_P_IP, ETH_P_IPV6, IPPROTO_HOPOPTS, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP,
    IPPROTO_UDPLITE, load16, load32, store32,
)

cdef enum:
    # Offsets in what is hashed of struct flow_keys, from `basic` on.
    KEY_PROTO = 2
    KEY_LABEL = 4
    KEY_PORTS = 28
    KEY_ADDRESSES = 36
    KEY_LENGTH4 = 48
    KEY_LENGTH6 = 72


cdef inline uint64_t rotate(uint64_t value, int bits) noexcept nogil:
    return (value << bits) | (value >> (64 - bits))


cdef inline void sip_round(uint64_t *v) noexcept nogil:
    v[0] += v[1]
    v[1] = rotate(v[1], 13) ^ v[0]
    v[0] = rotate(v[0], 32)
    v[2] += v[3]
    v[3] = rotate(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = rotate(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = rotate(v[1], 17) ^ v[2]
    v[2] = rotate(v[2], 32)


cdef inline uint64_t siphash(const uint8_t *data, int words, uint64_t key) noexcept nogil:
    """SipHash-2-4 of `words` little-endian 8-byte words under the key (key, key)."""
    cdef uint64_t v[4]
    cdef uint64_t word
    cdef int i
    v[0] = 0x736F6D6570736575ULL ^ key
    v[1] = 0x646F72616E646F6DULL ^ key
    v[2] = 0x6C7967656E657261ULL ^ key
    v[3] = 0x7465646279746573ULL ^ key
    for i in range(words):
        memcpy(&word, data + 8 * i, 8)
        v[3] ^= word
        sip_round(v)
        sip_round(v)
        v[0] ^= word
    word = <uint64_t>(8 * words) << 56
    v[3] ^= word
    sip_round(v)
    sip_round(v)
    v[0] ^= word
    v[2] ^= 0xFF
    sip_round(v)
    sip_round(v)
    sip_round(v)
    sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


cdef inline const uint8_t *quoted_header(const Packet *p) noexcept nogil:
    """The IP header that an ICMP error quotes: errors go the way of what they are about. NULL for anything else."""
    cdef uint8_t kind = <uint8_t>(p.field[<int>FIELD_ICMP] >> 8)
    cdef const uint8_t *inner = p.transport + 8
    if not p.field[<int>FIELD_L4]:
        return NULL
    if p.family == 4:
        if p.field[<int>FIELD_PROTO] != IPPROTO_ICMP or not (kind == 3 or kind == 5 or kind == 11 or kind == 12):
            return NULL
        return inner if p.tail - inner >= 20 else NULL
    if p.field[<int>FIELD_PROTO] != IPPROTO_ICMPV6 or not 1 <= kind <= 4:
        return NULL
    return inner if p.tail - inner >= 40 else NULL


cdef inline bint is_fragment(const Packet *p) noexcept nogil:
    if p.family == 4:
        return load16(p.net + 6) & 0x3FFF != 0
    return p.net[6] == 44


cdef inline const uint8_t *flow_ports(const Packet *p) noexcept nogil:
    """Both ports as the flow dissector finds them, four bytes, however short the rest is; NULL in any fragment."""
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    if (p.transport != NULL and p.tail - p.transport >= 4 and not is_fragment(p)
            and (proto == IPPROTO_TCP or proto == IPPROTO_UDP or proto == IPPROTO_SCTP or proto == IPPROTO_UDPLITE
                 or proto == 33 or proto == 50)):
        return p.transport
    return NULL


cdef inline void keys_of_packet(const Packet *p, uint8_t policy, uint8_t *keys) noexcept nogil:
    """What the packet adds to the addresses, or puts in their place."""
    cdef const uint8_t *header = p.net
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    if policy == 1:
        keys[KEY_PROTO] = <uint8_t>proto
        if flow_ports(p) != NULL:
            memcpy(keys + KEY_PORTS, p.transport, 4)
        return
    if quoted_header(p) != NULL:
        header = quoted_header(p)
        memcpy(keys + KEY_ADDRESSES, header + (12 if p.family == 4 else 8), 8 if p.family == 4 else 32)
    if p.family == 6:
        store32(keys + KEY_LABEL, load32(header) & 0xFFFFFU)
        keys[KEY_PROTO] = header[6]


cdef inline const uint8_t *gre_payload(const uint8_t *gre, const uint8_t *tail, uint8_t *family) noexcept nogil:
    """The IP header behind GRE's; NULL where the flow dissector stops (__skb_flow_dissect_gre)."""
    cdef uint16_t flags, kind
    cdef const uint8_t *at
    if tail - gre < 4:
        return NULL
    flags = load16(gre)
    kind = load16(gre + 2)
    if flags & 0x4007:
        return NULL
    at = gre + 4 + (4 if flags & 0x8000 else 0) + (4 if flags & 0x2000 else 0) + (4 if flags & 0x1000 else 0)
    if kind == 0x6558 and tail - at >= 14:      # a frame
        kind = load16(at + 12)
        at += 14
    family[0] = 4 if kind == ETH_P_IP else 6
    return at if kind == ETH_P_IP or kind == ETH_P_IPV6 else NULL


cdef inline const uint8_t *innermost(const Packet *p, uint8_t *family, uint8_t *proto) noexcept nogil:
    """The IP header that the flow dissector ends at, through IP in IP and GRE, and the protocol above it."""
    cdef const uint8_t *found = p.net
    cdef const uint8_t *at = p.net
    cdef const uint8_t *above
    cdef uint8_t version = p.family
    cdef int _
    family[0] = p.family
    proto[0] = <uint8_t>p.field[<int>FIELD_PROTO]
    for _ in range(15):
        if at == NULL or p.tail - at < (20 if version == 4 else 40) or at[0] >> 4 != version:
            break
        found = at
        family[0] = version
        if version == 4:
            above = at + (at[0] & 15) * 4
            proto[0] = at[9]
            if load16(at + 6) & 0x3FFF or above < at + 20:
                break
        else:
            above = at + 40
            proto[0] = at[6]
            while (proto[0] == IPPROTO_HOPOPTS or proto[0] == 43 or proto[0] == 60) and p.tail - above >= 2:
                proto[0] = above[0]
                above += 8 + above[1] * 8
            if proto[0] == 44:
                if p.tail - above >= 8:
                    proto[0] = above[0]
                break
        if proto[0] == 4 or proto[0] == 41:
            version = 4 if proto[0] == 4 else 6
            at = above
        elif proto[0] == 47:
            at = gre_payload(above, p.tail, &version)
        else:
            break
    return found


cdef inline uint8_t keys_inside(const Packet *p, uint8_t *keys) noexcept nogil:
    """Policy 2: the addresses of the innermost header; of IPv6 its label and its protocol too. Gives its family."""
    cdef uint8_t family = p.family, proto = 0
    cdef const uint8_t *header = innermost(p, &family, &proto)
    cdef uint32_t label
    memset(keys, 0, KEY_LENGTH6)
    if family == 4:
        memcpy(keys + KEY_ADDRESSES, header + 12, 8)
        return 4
    memcpy(keys + KEY_ADDRESSES, header + 8, 32)
    label = load32(header) & 0xFFFFFU           # as this machine keeps it, unlike policy 0
    memcpy(keys + KEY_LABEL, &label, 4)
    keys[KEY_PROTO] = proto
    return 6


cdef inline void swap_halves(uint8_t *both, int size) noexcept nogil:
    cdef uint8_t kept[16]
    memcpy(kept, both, size)
    memcpy(both, both + size, size)
    memcpy(both + size, kept, size)


cdef inline uint32_t multipath_hash(
    const Packet *p, uint8_t family, const uint32_t *src, const uint32_t *dst, uint8_t proto, uint8_t policy,
    uint32_t seed,
) noexcept nogil:
    """31 bits, the same in both directions. `p` may be NULL: a lookup for no packet has addresses and `proto` alone."""
    cdef uint8_t keys[72]
    cdef int i, size = 4 if family == 4 else 16
    cdef uint8_t *addresses = &keys[KEY_ADDRESSES]
    cdef uint32_t a, b
    cdef uint16_t sport, dport
    memset(keys, 0, sizeof(keys))
    for i in range(size // 4):
        store32(addresses + 4 * i, src[i])
        store32(addresses + size + 4 * i, dst[i])
    if p != NULL and policy == 2 and p.iif >= 0:
        family = keys_inside(p, keys)
    elif p != NULL:
        keys_of_packet(p, policy, keys)
    elif family == 6 or policy == 1:
        keys[KEY_PROTO] = proto
    # The smaller one first, as this machine loads them: __flow_hash_consistentify.
    if family == 4:
        memcpy(&a, addresses, 4)
        memcpy(&b, addresses + 4, 4)
        if b < a:
            swap_halves(addresses, 4)
    elif memcmp(addresses + 16, addresses, 16) < 0:
        swap_halves(addresses, 16)
    memcpy(&sport, keys + KEY_PORTS, 2)
    memcpy(&dport, keys + KEY_PORTS + 2, 2)
    if dport < sport:
        swap_halves(keys + KEY_PORTS, 2)
    a = <uint32_t>siphash(keys, (KEY_LENGTH4 if family == 4 else KEY_LENGTH6) // 8, (<uint64_t>seed << 32) | seed)
    return (a if a else 1) >> 1
