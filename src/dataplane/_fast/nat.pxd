"""Network address translation: choosing a binding, and rewriting packets to it.

Sources: net/netfilter/nf_nat_core.c, nf_nat_proto.c; RFC 1624 for the checksums, 3022 and 5508 for the errors.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dataplane._fast.chance cimport CHOICE_OTHER, CHOICE_PORT, Chance, chance_draw, chance_generate, chance_recorded
from dataplane._fast.conntrack cimport (
    Conn, Conntrack, STATUS_CONFIRMED, STATUS_DST_NAT, STATUS_DST_NAT_DONE, STATUS_FIXED_TIMEOUT, STATUS_SRC_NAT,
    STATUS_SRC_NAT_DONE, Tuple,
)
from dataplane._fast.conntrack_table cimport (
    conn_kill, link_conn, link_direction, source_hash, source_link, table_row, tuple_equal, tuple_hash,
)
from dataplane._fast.conntrack_tcp cimport TCP_SYN_SENT, TCP_TIME_WAIT, after
from dataplane._fast.conntrack_zone cimport zone_find, zone_sides
from dataplane._fast.crc32c cimport sctp_checksum
from dataplane._fast.packet cimport (
    CT_ESTABLISHED_REPLY, CT_NEW, CT_RELATED, CT_RELATED_REPLY, CT_UNTRACKED, FIELD_DPORT, FIELD_DST, FIELD_ICMP,
    FIELD_PROTO, FIELD_SPORT, FIELD_SRC, HOOK_INPUT, HOOK_POSTROUTING, Hook, Packet, packet_pull,
)
from dataplane._fast.ruleset cimport NAT_MAP_IPS, NAT_PERSISTENT, NAT_PORTS, NAT_PORT_OFFSET
from dataplane._fast.track cimport GRE_VERSION, has_ports, quoted_tuple, transport_good, tuple_invert
from dataplane._fast.wire cimport (
    IPPROTO_GRE, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, checksum_fold,
    checksum_replace16, checksum_replace32, checksum_sum, dp_swap32, load16, load32, pseudo6, store16, store32,
    store_checksum,
)

cdef enum NatStep:
    NAT_ACCEPT = 0
    NAT_DROP
    NAT_RULES               # the caller runs the nat chains and calls nat_bind

cdef enum:
    NAT_RANDOM_ALL = 4 | 16
    ATTEMPTS = 128
    LAST_ATTEMPTS = 32

cdef struct NatRange:
    uint32_t flags
    uint32_t min_address[4]
    uint32_t max_address[4]
    uint16_t min_port
    uint16_t max_port
    uint16_t base_port
    int32_t masquerade      # slot to remember; -1


cdef inline bint source_manip(Hook hook) noexcept nogil:
    return hook == HOOK_POSTROUTING or hook == HOOK_INPUT


# ---- choosing a binding --------------------------------------------------------------------------------------------

cdef inline bint tuple_taken(Conntrack *t, const Tuple *candidate, const Conn *mine, int64_t now) noexcept nogil:
    """Whether the answers to `candidate` would be those of another connection (nf_conntrack_tuple_taken)."""
    cdef Tuple reply
    cdef Conn *link
    cdef Conn *c
    cdef int direction, sides
    if t.buckets == NULL or not tuple_invert(&reply, candidate):
        return False
    reply.zone = mine.tuple[1].zone
    sides = zone_sides(&mine.zone, 1)
    link = t.buckets[table_row(t, tuple_hash(t, &reply))]
    while link != NULL:
        c = link_conn(link)
        direction = link_direction(link)
        link = c.next[direction]
        if c == mine or c.expires <= now or not sides >> direction & 1 or not tuple_equal(&c.tuple[direction], &reply):
            continue
        # Two packets of one flow at the same time: left to the clash that follows.
        if tuple_equal(&c.tuple[0], &mine.tuple[0]):
            continue
        return True
    return False


cdef inline bint tuple_taken_for_good(
    Conntrack *t, const Tuple *candidate, const Conn *mine, int64_t now, uint32_t left,
) noexcept nogil:
    """The same with `left` attempts to go: among the last, a translated TCP connection that is over gives its tuple to
    a SYN that is ahead of it (nf_nat_used_tuple_harder)."""
    cdef Tuple reply
    cdef Conn *c
    cdef int direction = 0
    if left > LAST_ATTEMPTS or candidate.proto != IPPROTO_TCP or mine.tcp.state != TCP_SYN_SENT:
        return tuple_taken(t, candidate, mine, now)
    if not tuple_invert(&reply, candidate):
        return False
    c = zone_find(t, &reply, &mine.zone, now, &direction)
    if c == NULL:
        return False
    if (direction == 0 or c.tcp.state < TCP_TIME_WAIT or c.status & STATUS_FIXED_TIMEOUT
            or not c.status & STATUS_SRC_NAT or not after(mine.tcp.seen[0].end, c.tcp.seen[0].end)):
        return True
    conn_kill(t, c)
    return False


cdef inline const uint32_t *answered(const Tuple *other, bint source) noexcept nogil:
    """The address of one side in the inverse of a tuple: where the other direction goes to is where this comes from."""
    if source:
        return other.dst
    return other.src


cdef inline int address_compare(const uint32_t *a, const uint32_t *b) noexcept nogil:
    cdef int i
    for i in range(4):
        if a[i] != b[i]:
            return -1 if a[i] < b[i] else 1
    return 0


cdef inline bint tuple_of_icmp(const Tuple *tuple) noexcept nogil:
    return tuple.proto == IPPROTO_ICMP or tuple.proto == IPPROTO_ICMPV6


cdef inline uint16_t manip_port(const Tuple *tuple, bint source) noexcept nogil:
    """The key that NAT may change: a port, or an ICMP id, which is the source key in both directions."""
    if not has_ports(tuple.proto):
        return tuple.sport
    return tuple.sport if source else tuple.dport


cdef inline void set_port(Tuple *tuple, bint source, uint16_t port) noexcept nogil:
    if source or not has_ports(tuple.proto):
        tuple.sport = port
    else:
        tuple.dport = port


cdef inline bint port_in_range(const Tuple *tuple, bint source, const NatRange *wanted) noexcept nogil:
    cdef uint16_t port
    if not has_ports(tuple.proto) and not tuple_of_icmp(tuple):
        return True
    port = manip_port(tuple, source)
    return wanted.min_port <= port <= wanted.max_port


cdef inline bint source_in_range(const Tuple *tuple, const NatRange *wanted) noexcept nogil:
    if wanted.flags & NAT_MAP_IPS:
        if address_compare(tuple.src, wanted.min_address) < 0 or address_compare(tuple.src, wanted.max_address) > 0:
            return False
    if not wanted.flags & NAT_PORTS:
        return True
    return port_in_range(tuple, True, wanted)


cdef inline uint32_t rol32(uint32_t x, int k) noexcept nogil:
    return (x << k) | (x >> (32 - k))


cdef inline uint32_t jhash4(const uint32_t *words, uint32_t seed) noexcept nogil:
    """jhash2 of four words (include/linux/jhash.h)."""
    cdef uint32_t a, b, c
    a = 0xDEADBEEFU
    a += 16 + seed
    b = c = a
    a += words[0]
    b += words[1]
    c += words[2]
    a -= c
    a ^= rol32(c, 4)
    c += b
    b -= a
    b ^= rol32(a, 6)
    a += c
    c -= b
    c ^= rol32(b, 8)
    b += a
    a -= c
    a ^= rol32(c, 16)
    c += b
    b -= a
    b ^= rol32(a, 19)
    a += c
    c -= b
    c ^= rol32(b, 4)
    b += a
    a += words[3]
    c ^= b
    c -= rol32(b, 14)
    a ^= c
    a -= rol32(c, 11)
    b ^= a
    b -= rol32(a, 25)
    c ^= b
    c -= rol32(b, 16)
    a ^= c
    a -= rol32(c, 4)
    b ^= a
    b -= rol32(a, 14)
    c ^= b
    c -= rol32(b, 24)
    return c


cdef inline void choose_address(Tuple *tuple, const NatRange *wanted, bint source, uint16_t zone) noexcept nogil:
    """find_best_ips_proto: one address of the range, by a hash of the source (and, unless persistent, the target)."""
    cdef uint32_t *address = tuple.src
    cdef uint32_t words[4]
    cdef uint32_t j, low, distance
    cdef int i, last = 0 if tuple.family == 4 else 3
    cdef bint full = False
    if not source:
        address = tuple.dst
    if not wanted.flags & NAT_MAP_IPS:
        return
    if address_compare(wanted.min_address, wanted.max_address) == 0:
        memcpy(address, wanted.min_address, 16)
        return
    # The kernel hashes the words as they lie in the packet.
    i = 0
    while i < 4:
        words[i] = dp_swap32(tuple.src[i])
        i += 1
    j = jhash4(words, 0 if wanted.flags & NAT_PERSISTENT else dp_swap32(tuple.dst[last]) ^ zone)
    i = -1
    while i < last:
        i += 1
        low = 0
        distance = 0xFFFFFFFFU
        if not full:
            low = wanted.min_address[i]
            distance = wanted.max_address[i] - low + 1
        address[i] = low + <uint32_t>((<uint64_t>j * distance) >> 32)
        if address[i] != wanted.max_address[i]:
            full = True
        if not wanted.flags & NAT_PERSISTENT:
            j ^= dp_swap32(tuple.dst[i])


cdef inline void search_port(
    Conntrack *t, Tuple *tuple, const NatRange *wanted, bint source, const Conn *mine, int64_t now, Chance *chance,
) noexcept nogil:
    """nf_nat_l4proto_unique_tuple: try keys of the class of the present one until one is free."""
    cdef uint32_t low, size, attempts, i, value
    cdef uint32_t offset
    cdef uint16_t port = manip_port(tuple, source)
    cdef bint icmp = tuple_of_icmp(tuple)
    if not icmp and not has_ports(tuple.proto):
        return
    if wanted.flags & NAT_PORTS:
        low = wanted.min_port
        size = wanted.max_port - low + 1 if wanted.max_port >= low else low - wanted.max_port + 1
        if wanted.max_port < low:
            low = wanted.max_port
    elif icmp:
        low = 0
        size = 65536
    elif not source:
        return
    elif port < 512:
        low = 1
        size = 511
    elif port < 1024:
        low = 600
        size = 424
    else:
        low = 1024
        size = 64512
    if size > 1 and (wanted.flags & NAT_RANDOM_ALL or source) and chance_recorded(chance, CHOICE_PORT, &value):
        set_port(tuple, source, <uint16_t>value)
        return
    if wanted.flags & NAT_PORT_OFFSET:
        offset = <uint16_t>(port - wanted.base_port)
    elif wanted.flags & NAT_RANDOM_ALL or source:
        offset = chance_generate(chance) & 0xFFFF
    else:
        offset = 0
    attempts = size if size < ATTEMPTS else ATTEMPTS
    while True:
        i = 0
        while i < attempts:
            set_port(tuple, source, <uint16_t>(low + offset % size))
            if not tuple_taken_for_good(t, tuple, mine, now, attempts - i):
                return
            offset = (offset + 1) & 0xFFFF
            i += 1
        if attempts >= size or attempts < 16:
            return
        attempts //= 2
        offset = chance_generate(chance) & 0xFFFF


cdef inline void unique_tuple(
    Conntrack *t, Tuple *out, const Tuple *original, const NatRange *wanted, bint source, Conn *mine, int64_t now,
    Chance *chance,
) noexcept nogil:
    """get_unique_tuple."""
    cdef Conn *c
    out[0] = original[0]
    if source and not wanted.flags & NAT_RANDOM_ALL:
        if source_in_range(original, wanted):
            if not tuple_taken(t, original, mine, now):
                return
        elif t.by_source != NULL:
            # The same source as another connection's keeps that one's mapping.
            c = t.by_source[source_hash(t, original) & t.source_mask]
            while c != NULL:
                if (c.tuple[0].sport == original.sport and c.tuple[0].proto == original.proto
                        and c.tuple[0].family == original.family and c.tuple[0].zone == original.zone
                        and address_compare(c.tuple[0].src, original.src) == 0 and c.expires > now):
                    memcpy(out.src, c.tuple[1].dst, 16)
                    out.sport = c.tuple[1].sport if tuple_of_icmp(out) else c.tuple[1].dport
                    if source_in_range(out, wanted):
                        if not tuple_taken(t, out, mine, now):
                            return
                        break
                c = c.next_by_source
            out[0] = original[0]
    choose_address(out, wanted, source, mine.zone.id)
    if not wanted.flags & NAT_RANDOM_ALL:
        if wanted.flags & NAT_PORTS:
            if not wanted.flags & NAT_PORT_OFFSET and port_in_range(out, source, wanted):
                if wanted.min_port == wanted.max_port or not tuple_taken(t, out, mine, now):
                    return
        elif not tuple_taken(t, out, mine, now):
            return
    search_port(t, out, wanted, source, mine, now, chance)


# ---- rewriting -----------------------------------------------------------------------------------------------------

cdef inline uint8_t *transport_checksum(
    uint8_t proto, uint8_t family, uint8_t *transport, const uint8_t *tail,
) noexcept nogil:
    """The checksum that covers ports and pseudo header; NULL where there is none, it is off, or it was cut away."""
    if proto == IPPROTO_TCP:
        return transport + 16 if tail - transport >= 20 else NULL
    if proto == IPPROTO_UDP or proto == IPPROTO_UDPLITE:
        if tail - transport < 8 or (load16(transport + 6) == 0 and proto == IPPROTO_UDP):
            return NULL
        return transport + 6
    if proto == IPPROTO_ICMPV6 and family == 6:
        return transport + 2 if tail - transport >= 4 else NULL
    return NULL


cdef inline void put_address(
    uint8_t *net, uint8_t family, bint source, const uint32_t *to, uint8_t *check,
) noexcept nogil:
    cdef uint8_t *at
    cdef uint32_t old
    cdef int i
    # Checksums are worked on even where nothing changes: 0xffff becomes 0.
    if family == 4:
        at = net + (12 if source else 16)
        old = load32(at)
        checksum_replace32(net + 10, old, to[0])
        if check != NULL:
            checksum_replace32(check, old, to[0])
        store32(at, to[0])
        return
    at = net + (8 if source else 24)
    for i in range(4):
        if check != NULL:
            checksum_replace32(check, load32(at + 4 * i), to[i])
        store32(at + 4 * i, to[i])


cdef inline bint manip_possible(uint8_t proto, const uint8_t *transport, const uint8_t *tail, bint source) noexcept nogil:
    """Whether a transport header can be rewritten: trackers know 8 bytes, and GRE above version 1 has no known keys."""
    if has_ports(proto) or proto == IPPROTO_ICMP or proto == IPPROTO_ICMPV6 or proto == IPPROTO_GRE:
        if tail - transport < 8:
            return False
        return proto != IPPROTO_GRE or source or transport[1] & GRE_VERSION <= 1
    return True


cdef inline bint manip(
    uint8_t *net, uint8_t family, uint8_t proto, uint8_t *transport, const uint8_t *tail, bint source,
    const uint32_t *address, uint16_t key,
) noexcept nogil:
    """nf_nat_manip_pkt: give one side of a packet, or of a quoted packet, another address and key. False: it cannot be,
    and the packet is dropped."""
    cdef uint8_t *check = NULL
    cdef uint8_t *at
    if transport != NULL:
        if not manip_possible(proto, transport, tail, source):
            return False
        check = transport_checksum(proto, family, transport, tail)
        if has_ports(proto):
            at = transport if source else transport + 2
            if check != NULL:
                checksum_replace16(check, load16(at), key)
            store16(at, key)
        elif (proto == IPPROTO_ICMP and family == 4) or (
            proto == IPPROTO_ICMPV6 and family == 6 and (transport[0] == 128 or transport[0] == 129)
        ):
            checksum_replace16(transport + 2, load16(transport + 4), key)
            store16(transport + 4, key)
    put_address(net, family, source, address, check)
    if check != NULL and (proto == IPPROTO_UDP or proto == IPPROTO_UDPLITE) and load16(check) == 0:
        store16(check, 0xFFFFU)
    if proto == IPPROTO_SCTP and transport != NULL and tail - transport >= 12:
        store32(transport + 8, sctp_checksum(transport, tail))
    return True


cdef inline void refresh_fields(Packet *p, bint source, const uint32_t *address, uint16_t key) noexcept nogil:
    if source:
        memcpy(&p.field[<int>FIELD_SRC], address, 16)
        if has_ports(<uint8_t>p.field[<int>FIELD_PROTO]):
            p.field[<int>FIELD_SPORT] = key
    else:
        memcpy(&p.field[<int>FIELD_DST], address, 16)
        if has_ports(<uint8_t>p.field[<int>FIELD_PROTO]):
            p.field[<int>FIELD_DPORT] = key


cdef inline bint is_reply(const Packet *p) noexcept nogil:
    return p.ctinfo == CT_ESTABLISHED_REPLY or p.ctinfo == CT_RELATED_REPLY


cdef inline uint32_t manip_status(const Packet *p, bint source) noexcept nogil:
    """The status bit that says whether this side is rewritten: answers are rewritten on the other side."""
    return STATUS_SRC_NAT if source != is_reply(p) else STATUS_DST_NAT


cdef inline void manip_pull(Packet *p, uint8_t proto, const uint8_t *transport) noexcept nogil:
    """A transport header that is rewritten must be in one piece; of protocols without ports or ids nothing is."""
    cdef int64_t room = p.tail - transport
    if proto == IPPROTO_TCP and room >= 20:
        packet_pull(p, transport + 20)
    elif proto == IPPROTO_SCTP and room >= 12:
        packet_pull(p, transport + 12)
    elif has_ports(proto) or proto == IPPROTO_ICMP or proto == IPPROTO_ICMPV6 or proto == IPPROTO_GRE:
        packet_pull(p, transport + 8)


cdef inline NatStep nat_rewrite(Packet *p, Hook hook) noexcept nogil:
    """nf_nat_packet: make the packet look like the inverse of the other direction."""
    cdef bint source = source_manip(hook)
    cdef Conn *c = p.ct
    cdef const Tuple *other = &c.tuple[0 if is_reply(p) else 1]
    cdef uint8_t *transport = p.transport
    cdef uint16_t key
    if not c.status & manip_status(p, source):
        return NAT_ACCEPT
    if has_ports(other.proto):
        key = other.dport if source else other.sport
    else:
        key = other.sport
    if p.transport == NULL and p.family == 6:
        transport = p.tail      # extension headers that are longer than the packet
    if not manip(p.net, p.family, other.proto, transport, p.tail, source, answered(other, source), key):
        return NAT_DROP
    refresh_fields(p, source, answered(other, source), key)
    manip_pull(p, other.proto, p.transport)
    return NAT_ACCEPT


cdef inline NatStep nat_error(Packet *p, Hook hook) noexcept nogil:
    """An ICMP error about a translated flow: the packet that it quotes is given back the face that its sender knows,
    and the error itself comes from there (nf_nat_icmp_reply_translation)."""
    cdef bint source = source_manip(hook)
    cdef Conn *c = p.ct
    cdef const Tuple *other = &c.tuple[0 if is_reply(p) else 1]
    cdef uint8_t *icmp = p.transport
    cdef uint8_t *inner = icmp + 8
    cdef const uint8_t *inner_transport = NULL
    cdef Tuple quoted
    cdef uint32_t length = <uint32_t>(p.tail - icmp)
    cdef uint16_t key
    cdef uint8_t kind = icmp[0]
    packet_pull(p, inner + (20 if p.family == 4 else 40))
    if not transport_good(p):
        return NAT_DROP
    if kind == (5 if p.family == 4 else 137):
        # A redirect names a next hop that means nothing on the other side.
        if c.status & (STATUS_SRC_NAT_DONE | STATUS_DST_NAT_DONE) != (STATUS_SRC_NAT_DONE | STATUS_DST_NAT_DONE):
            return NAT_DROP
        if c.status & (STATUS_SRC_NAT | STATUS_DST_NAT):
            return NAT_DROP
    if not c.status & manip_status(p, source):
        return NAT_ACCEPT
    if not quoted_tuple(p.family, inner, p.tail, &quoted, &inner_transport):
        return NAT_DROP
    # Inside, the other side is rewritten, to what the connection's other direction says.
    if has_ports(quoted.proto):
        key = other.dport if source else other.sport
    else:
        key = other.sport
    if not manip(inner, p.family, quoted.proto, <uint8_t *>inner_transport, p.tail, not source,
                 answered(other, source), key):
        return NAT_DROP
    if inner_transport != NULL:
        manip_pull(p, quoted.proto, inner_transport)
    manip(p.net, p.family, 0, NULL, p.tail, source, answered(other, source), 0)
    refresh_fields(p, source, answered(other, source), 0)
    store16(icmp + 2, 0)
    store_checksum(icmp + 2, checksum_fold(checksum_sum(
        icmp, length, 0 if p.family == 4 else pseudo6(p.net, IPPROTO_ICMPV6, length))))
    return NAT_ACCEPT


# ---- at the hooks --------------------------------------------------------------------------------------------------

cdef inline bint left_by_another(const Packet *p, Hook hook) noexcept nogil:
    """A masqueraded flow that leaves by another interface than it did (nf_nat_oif_changed)."""
    return (hook == HOOK_POSTROUTING and p.ct.masquerade >= 0 and p.ct.masquerade != p.oif and not is_reply(p))


cdef inline NatStep nat_begin(Conntrack *t, Packet *p, Hook hook) noexcept nogil:
    """A nat hook up to asking the nat chains: NAT_RULES where this side of the connection has no binding yet."""
    cdef Conn *c = p.ct
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    cdef uint32_t done
    if c == NULL:
        return NAT_ACCEPT
    if p.ctinfo == CT_RELATED or p.ctinfo == CT_RELATED_REPLY:
        if proto == (IPPROTO_ICMP if p.family == 4 else IPPROTO_ICMPV6):
            return nat_error(p, hook)
    done = STATUS_SRC_NAT_DONE if source_manip(hook) else STATUS_DST_NAT_DONE
    if p.ctinfo == CT_NEW or p.ctinfo == CT_RELATED or p.ctinfo == CT_RELATED_REPLY:
        if not c.status & done:
            return NAT_RULES
    if left_by_another(p, hook):
        conn_kill(t, c)
        return NAT_DROP
    return nat_rewrite(p, hook)


cdef inline NatStep nat_bind(Conntrack *t, Packet *p, Hook hook, const NatRange *asked, Chance *chance) noexcept nogil:
    """nf_nat_setup_info, then the packet is rewritten. Without a range the connection keeps its own address, which may
    still cost it its port if that is taken."""
    cdef bint source = source_manip(hook)
    cdef Conn *c = p.ct
    cdef Tuple current, chosen, reply
    cdef NatRange own
    cdef const NatRange *wanted = asked
    if not c.status & STATUS_CONFIRMED:
        tuple_invert(&current, &c.tuple[1])
        current.zone = c.tuple[0].zone
        if wanted == NULL:
            memset(&own, 0, sizeof(own))
            own.flags = NAT_MAP_IPS
            own.masquerade = -1
            memcpy(own.min_address, answered(&c.tuple[1], source), 16)
            memcpy(own.max_address, own.min_address, 16)
            wanted = &own
        unique_tuple(t, &chosen, &current, wanted, source, c, p.time, chance)
        if not tuple_equal(&chosen, &current):
            tuple_invert(&reply, &chosen)
            reply.zone = c.tuple[1].zone
            c.tuple[1] = reply
            c.status |= STATUS_SRC_NAT if source else STATUS_DST_NAT
        if source:
            source_link(t, c)
            if wanted.masquerade >= 0:
                c.masquerade = wanted.masquerade
        c.status |= STATUS_SRC_NAT_DONE if source else STATUS_DST_NAT_DONE
    return nat_rewrite(p, hook)
