"""Connection tracking at its hooks: which connection a packet belongs to, and when a new one counts.

Sources: net/netfilter/nf_conntrack_core.c, nf_conntrack_proto_udp.c, _icmp.c, _icmpv6.c, _generic.c, _gre.c.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from dataplane._fast.conntrack cimport (
    Conn, Conntrack, CtSettings, STATUS_ASSURED, STATUS_CONFIRMED, STATUS_DST_NAT_DONE, STATUS_DYING, STATUS_FIXED_TIMEOUT,
    STATUS_NAT_CLASH, STATUS_SEEN_REPLY, STATUS_SRC_NAT_DONE, STATUS_EXPECTED, Tuple, ZONE_BY_MARK, Zone,
)
from dataplane._fast.conntrack_gc cimport gc_pass
from dataplane._fast.conntrack_sctp cimport sctp_track
from dataplane._fast.conntrack_table cimport (
    bucket_link, conn_find_side, conn_kill, conn_make, conn_put, source_unlink, tuple_equal,
)
from dataplane._fast.conntrack_tcp cimport (
    TCP_CLOSE, TRACK_ACCEPT, TRACK_INVALID, TRACK_REPEAT, tcp_flags_legal, tcp_track,
)
from dataplane._fast.conntrack_zone cimport zone_find, zone_sides, zone_toward
from dataplane._fast.crc32c cimport sctp_checksum
from dataplane._fast.packet cimport (
    CT_ESTABLISHED, CT_ESTABLISHED_REPLY, CT_IS_REPLY, CT_NEW, CT_RELATED, CT_RELATED_REPLY, CT_UNTRACKED, FIELD_DPORT,
    FIELD_DST, FIELD_FRAGMENT, FIELD_ICMP, FIELD_L4, FIELD_LENGTH, FIELD_MARK, FIELD_PROTO, FIELD_SPORT, FIELD_SRC,
    HOOK_PREROUTING, Hook, Packet, ip6_extension, ip6_summed, ip6_transport, packet_pull,
)
from dataplane._fast.wire cimport (
    IP_OFFSET, IPPROTO_AH, IPPROTO_FRAGMENT, IPPROTO_GRE, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_NONE, IPPROTO_ROUTING,
    IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE,
    checksum_fold, checksum_sum, load16, load32, load_address6, pseudo4, pseudo6,
)

cdef enum:
    CT_ACCEPT = 0
    CT_DROP = 1
    STREAM_AFTER = 2000000000   # ns that a UDP flow must have lived to count as a stream
    GRE_VERSION = 7             # of the second byte
    PPTP_PPP = 0x880B           # the only protocol of GRE version 1


cdef inline bint has_ports(uint8_t proto) noexcept nogil:
    return proto == IPPROTO_TCP or proto == IPPROTO_UDP or proto == IPPROTO_SCTP or proto == IPPROTO_UDPLITE


cdef inline int icmp_opposite(uint8_t family, uint8_t kind) noexcept nogil:
    """The type that answers a type; -1 where none does."""
    if family == 4:
        if kind == 8:
            return 0
        if kind == 0:
            return 8
        if kind == 13 or kind == 15 or kind == 17:
            return kind + 1
        if kind == 14 or kind == 16 or kind == 18:
            return kind - 1
        return -1
    if kind == 128 or kind == 139:
        return kind + 1
    if kind == 129 or kind == 140:
        return kind - 1
    return -1


cdef inline bint tuple_invert(Tuple *out, const Tuple *tuple) noexcept nogil:
    """The tuple of the other direction; False when there is none."""
    cdef int kind
    memcpy(out.src, tuple.dst, 16)
    memcpy(out.dst, tuple.src, 16)
    out.zone = tuple.zone
    out.proto = tuple.proto
    out.family = tuple.family
    if tuple.proto == (IPPROTO_ICMP if tuple.family == 4 else IPPROTO_ICMPV6):
        kind = icmp_opposite(tuple.family, <uint8_t>(tuple.dport >> 8))
        if kind < 0:
            return False
        out.sport = tuple.sport
        out.dport = <uint16_t>(kind << 8 | (tuple.dport & 0xFF))
        return True
    out.sport = tuple.dport
    out.dport = tuple.sport
    return True


cdef inline bint tuple_keys(Tuple *tuple, uint8_t proto, const uint8_t *transport, const uint8_t *tail) noexcept nogil:
    """Ports, ICMP id, type and code, or PPTP's call id (RFC 2637, 4.1); what they are read from must be there, but for
    GRE, which has no keys then. False: GRE of version 1 that is not PPTP's."""
    tuple.sport = tuple.dport = 0
    if proto == IPPROTO_GRE:
        if tail - transport >= 8 and transport[1] & GRE_VERSION == 1:
            if load16(transport + 2) != PPTP_PPP:
                return False
            tuple.dport = load16(transport + 6)
        return True
    if has_ports(proto):
        tuple.sport = load16(transport)
        tuple.dport = load16(transport + 2)
    elif proto == (IPPROTO_ICMP if tuple.family == 4 else IPPROTO_ICMPV6):
        tuple.sport = load16(transport + 4)
        tuple.dport = load16(transport)
    return True


cdef inline bint trackable_beyond(uint32_t proto) noexcept nogil:
    """Of IPv6 whose last extension header says that it is longer than the packet, a protocol without a header to be read is
    tracked nevertheless."""
    return not (ip6_extension(proto) or has_ports(<uint8_t>proto) or proto == IPPROTO_ICMP or proto == IPPROTO_ICMPV6)


cdef inline uint32_t tracked_proto(const Packet *p) noexcept nogil:
    """The protocol that a packet is tracked by. Of a routing header tracking asks two bytes, as of any (ipv6_skip_exthdr),
    where rules ask four."""
    cdef uint32_t proto = p.field[<int>FIELD_PROTO], following
    cdef const uint8_t *at = p.net + 40
    if p.family == 4 or p.transport != NULL or proto != IPPROTO_ROUTING or p.field[<int>FIELD_FRAGMENT]:
        return proto
    following = p.net[6]
    while ip6_extension(following) and following != IPPROTO_NONE and at + 2 <= p.tail:
        proto = following
        following = at[0]
        at += 8 if proto == IPPROTO_FRAGMENT else (at[1] + 2) * 4 if proto == IPPROTO_AH else (at[1] + 1) * 8
    return following


cdef inline bint packet_tuple(const Packet *p, Tuple *tuple) noexcept nogil:
    """The packet's tuple; False when its transport header is not there."""
    cdef const uint8_t *at = p.transport if p.transport != NULL else p.tail
    memcpy(tuple.src, &p.field[<int>FIELD_SRC], 16)
    memcpy(tuple.dst, &p.field[<int>FIELD_DST], 16)
    tuple.zone = 0
    tuple.proto = <uint8_t>tracked_proto(p)
    tuple.family = p.family
    if p.tail - at < 8 and (has_ports(tuple.proto) or tuple.proto == IPPROTO_ICMP or tuple.proto == IPPROTO_ICMPV6):
        return False
    return tuple_keys(tuple, tuple.proto, at, p.tail)


cdef inline bint quoted_tuple(
    uint8_t family, const uint8_t *net, const uint8_t *tail, Tuple *tuple, const uint8_t **transport,
) noexcept nogil:
    """The tuple of the packet that an ICMP error quotes, which may be cut after 8 bytes of its transport header."""
    cdef uint8_t proto = 0
    cdef uint16_t fragment = 0
    memset(tuple, 0, sizeof(Tuple))
    tuple.family = family
    if family == 4:
        # Nobody looks at the version or whether the length is one (nf_conntrack_core.c, ipv4_get_l4proto).
        if tail - net < 20 or load16(net + 6) & IP_OFFSET:
            return False
        tuple.src[0] = load32(net + 12)
        tuple.dst[0] = load32(net + 16)
        proto = net[9]
        transport[0] = net + (net[0] & 15) * 4
    else:
        if tail - net < 40:
            return False
        load_address6(net + 8, tuple.src)
        load_address6(net + 24, tuple.dst)
        transport[0] = ip6_transport(net, tail, &proto, &fragment)
        if transport[0] == NULL:
            if fragment & 0xFFF8 or not trackable_beyond(proto):
                return False
            transport[0] = tail
    tuple.proto = proto
    if has_ports(proto):
        if tail - transport[0] < 4:
            return False
    elif proto == IPPROTO_ICMP or proto == IPPROTO_ICMPV6:
        if tail - transport[0] < 8:
            return False
    elif transport[0] > tail:
        return False
    return tuple_keys(tuple, proto, transport[0], tail)


cdef inline void ct_release(Conntrack *t, Packet *p) noexcept nogil:
    """The packet ends, or leaves the namespace: it holds no connection any more."""
    if p.ct != NULL:
        if t != NULL:
            conn_put(t, p.ct)
        p.ct = NULL
    p.ctinfo = CT_ESTABLISHED
    memset(&p.zone, 0, sizeof(Zone))


cdef inline void ct_attach(Packet *answer, Packet *offender) noexcept nogil:
    """What a host answers to a packet belongs to its connection, in the other direction (nf_conntrack_attach)."""
    if offender.ct == NULL:
        if offender.ctinfo == CT_UNTRACKED:
            answer.ctinfo = CT_RELATED      # to nothing; but no rule can keep it out of the table then
        return
    answer.ct = offender.ct
    answer.ct.uses += 1
    if offender.ctinfo == CT_ESTABLISHED_REPLY or offender.ctinfo == CT_RELATED_REPLY:
        answer.ctinfo = CT_RELATED
    else:
        answer.ctinfo = CT_RELATED_REPLY


cdef inline bint transport_good(const Packet *p) noexcept nogil:
    """Whether the transport checksum holds. What a capture cut off cannot be judged and passes."""
    cdef uint32_t length = <uint32_t>(p.tail - p.transport)
    cdef uint8_t proto = <uint8_t>p.field[<int>FIELD_PROTO]
    if p.missing:
        return True
    if proto == IPPROTO_ICMP and p.family == 4:
        return checksum_fold(checksum_sum(p.transport, length, 0)) == 0
    return checksum_fold(checksum_sum(
        p.transport, length, pseudo4(p.net, proto, length) if p.family == 4 else pseudo6(p.net, proto, length))) == 0


cdef inline bint transport_verified(Packet *p) noexcept nogil:
    """The same for what goes on: of IPv6 the sum of the whole packet is kept with it, be it right or wrong. What a
    tunnel's sum confirms needs none any more."""
    cdef bint good = transport_good(p)
    if p.family == 6:
        p.summed = 0 if p.unwrapped and good else ip6_summed(p.net)
    return good


cdef inline bint udplite_good(const Packet *p, uint32_t covered) noexcept nogil:
    """As Linux judges it: over the covered bytes, but with the pseudo header of UDP, so that right ones (RFC 3828, 3.1)
    fail."""
    cdef uint32_t length = <uint32_t>(p.tail - p.transport)
    return checksum_fold(checksum_sum(
        p.transport, covered,
        pseudo4(p.net, IPPROTO_UDP, length) if p.family == 4 else pseudo6(p.net, IPPROTO_UDP, length))) == 0


cdef inline bint transport_valid(const Conntrack *t, Packet *p, Hook hook) noexcept nogil:
    """What the trackers ask of a transport header before anything else."""
    cdef uint8_t proto = <uint8_t>p.field[<int>FIELD_PROTO]
    cdef const uint8_t *at = p.transport
    cdef int64_t room = p.tail - at
    cdef bint verify = hook == HOOK_PREROUTING and t.settings.checksum
    cdef uint32_t length
    if proto == IPPROTO_TCP:
        if room < 20 or (at[12] >> 4) < 5 or (at[12] >> 4) * 4 > room:
            return False
        if verify and not transport_verified(p):
            return False
        return tcp_flags_legal(at[13])
    if proto == IPPROTO_SCTP:
        if room < 12:
            return False
        if not verify:
            return True
        packet_pull(p, at + 12)
        return p.missing or load32(at + 8) == sctp_checksum(at, p.tail)
    if proto == IPPROTO_UDPLITE:
        length = load16(at + 4)     # how much the checksum covers; 0: all
        if length == 0:
            length = <uint32_t>room
        if length < 8 or length > room or load16(at + 6) == 0:
            return False
        return not verify or p.missing or udplite_good(p, length)
    if proto == IPPROTO_UDP:
        length = load16(at + 4)
        if length > room or length < 8:
            return False
        if load16(at + 6) == 0 or not verify:
            return True
        return transport_verified(p)
    return True


cdef inline bint redirect_quotes(const Packet *p) noexcept nogil:
    """nf_conntrack_icmpv6_redirect: a redirect that names no link-layer address quotes its packet at once, and belongs to
    that packet's connection as an error does."""
    return p.tail - p.transport >= 48 and p.net[7] == 255 and p.transport[1] == 0 and p.transport[40] == 4


cdef inline int ct_icmp(Conntrack *t, Packet *p, Hook hook, const Zone *zone) noexcept nogil:
    """ICMP before the table is asked: TRACK_ACCEPT to go on, TRACK_INVALID, or TRACK_REPEAT when all is settled."""
    cdef uint8_t kind
    cdef const uint8_t *inner = NULL
    cdef const uint8_t *icmp = p.transport
    cdef const uint8_t *at = icmp + 8
    cdef Tuple quoted, inverse
    cdef Conn *c
    cdef int direction = 0
    if p.tail - icmp < 8:
        return TRACK_INVALID
    kind = icmp[0]
    if hook == HOOK_PREROUTING and t.settings.checksum and not transport_verified(p):
        return TRACK_INVALID
    if p.family == 4:
        if kind > 18:
            return TRACK_INVALID
        if not (kind == 3 or kind == 4 or kind == 5 or kind == 11 or kind == 12):
            return TRACK_ACCEPT
    else:
        if kind == 130 or (kind >= 133 and kind <= 136) or kind == 143:
            p.ctinfo = CT_UNTRACKED
            return TRACK_REPEAT
        if kind == 137 and redirect_quotes(p):
            at = icmp + 48
        elif kind >= 128:
            return TRACK_ACCEPT
    if not quoted_tuple(p.family, at, p.tail, &quoted, &inner) or not tuple_invert(&inverse, &quoted):
        return TRACK_INVALID
    c = zone_find(t, &inverse, zone, p.time, &direction)
    if c == NULL:
        return TRACK_INVALID
    # The error must be addressed to the side that sent the packet which it quotes.
    if (c.tuple[direction].dst[0] != p.field[<int>FIELD_DST] or c.tuple[direction].dst[1] != p.field[<int>FIELD_DST + 1]
            or c.tuple[direction].dst[2] != p.field[<int>FIELD_DST + 2]
            or c.tuple[direction].dst[3] != p.field[<int>FIELD_DST + 3]):
        return TRACK_INVALID
    p.ct = c
    c.uses += 1
    p.ctinfo = CT_RELATED_REPLY if direction else CT_RELATED
    return TRACK_REPEAT


cdef inline int other_track(Conntrack *t, Conn *c, Packet *p, int direction, int64_t *timeout) noexcept nogil:
    """UDP, ICMP, GRE and whatever has no tracker of its own."""
    cdef uint8_t proto = c.tuple[0].proto, kind
    cdef const CtSettings *s = &t.settings
    if proto == IPPROTO_UDPLITE:
        timeout[0] = s.udp_timeout
        if c.status & STATUS_SEEN_REPLY:
            timeout[0] = s.udp_stream_timeout
            if not c.status & STATUS_NAT_CLASH:
                c.status |= STATUS_ASSURED
        return TRACK_ACCEPT
    if proto == IPPROTO_UDP:
        if not c.status & STATUS_CONFIRMED:
            c.stream_since = p.time + STREAM_AFTER
        timeout[0] = s.udp_timeout
        if c.status & STATUS_SEEN_REPLY and p.time > c.stream_since:
            timeout[0] = s.udp_stream_timeout
            if not c.status & STATUS_NAT_CLASH:
                c.status |= STATUS_ASSURED
        return TRACK_ACCEPT
    if proto == (IPPROTO_ICMPV6 if p.family == 4 else IPPROTO_ICMP):
        return TRACK_INVALID    # the other family's
    if proto == (IPPROTO_ICMP if p.family == 4 else IPPROTO_ICMPV6):
        if not c.status & STATUS_CONFIRMED:
            kind = <uint8_t>(p.field[<int>FIELD_ICMP] >> 8)
            if p.family == 4 and not (kind == 8 or kind == 13 or kind == 15 or kind == 17):
                return TRACK_INVALID
            if p.family == 6 and kind != 128 and kind != 139:
                return TRACK_INVALID
        timeout[0] = s.icmp_timeout if p.family == 4 else s.icmp6_timeout
        return TRACK_ACCEPT
    if proto == IPPROTO_GRE:
        timeout[0] = s.gre_timeout
        if c.status & STATUS_SEEN_REPLY:
            timeout[0] = s.gre_stream_timeout
            c.status |= STATUS_ASSURED
        return TRACK_ACCEPT
    timeout[0] = s.generic_timeout
    return TRACK_ACCEPT


cdef inline int ct_in(Conntrack *t, Packet *p, Hook hook) noexcept nogil:
    """Priority -200: find or start the packet's connection. CT_DROP when the table is full; without a connection the
    packet is INVALID to whoever asks."""
    cdef uint8_t proto = <uint8_t>tracked_proto(p)
    cdef Tuple tuple, reply
    cdef Zone zone
    cdef Conn *c
    cdef int direction = 0, verdict, _
    cdef int64_t timeout = -1
    cdef bint full = False
    if p.ct != NULL or p.ctinfo == CT_UNTRACKED:
        return CT_ACCEPT
    zone = p.zone
    memset(&p.zone, 0, sizeof(Zone))
    if zone.flags & ZONE_BY_MARK:
        zone.id = <uint16_t>p.field[<int>FIELD_MARK]
    if p.field[<int>FIELD_FRAGMENT] or (
            not p.field[<int>FIELD_L4] and (p.family == 4 or p.transport != NULL or not trackable_beyond(proto))):
        t.invalid += 1
        return CT_ACCEPT
    if proto == (IPPROTO_ICMP if p.family == 4 else IPPROTO_ICMPV6):
        verdict = ct_icmp(t, p, hook, &zone)
        if verdict == TRACK_INVALID:
            t.invalid += 1
        if verdict != TRACK_ACCEPT:
            return CT_ACCEPT
    if not packet_tuple(p, &tuple):
        t.invalid += 1
        return CT_ACCEPT
    for _ in range(2):
        c = zone_find(t, &tuple, &zone, p.time, &direction)
        if c == NULL:
            if not tuple_invert(&reply, &tuple):
                t.invalid += 1
                return CT_ACCEPT
            reply.zone = zone_toward(&zone, 1)
            gc_pass(t, p.time)
            c = conn_make(t, &tuple, &reply, p.time, &full)
            if c == NULL:
                return CT_DROP
            c.zone = zone
            direction = 0
            p.ctinfo = CT_NEW
        else:
            t.found += 1
            c.uses += 1
            if direction:
                p.ctinfo = CT_ESTABLISHED_REPLY
            elif c.status & STATUS_SEEN_REPLY:
                p.ctinfo = CT_ESTABLISHED
            elif c.status & STATUS_EXPECTED:
                p.ctinfo = CT_RELATED
            else:
                p.ctinfo = CT_NEW
        p.ct = c
        timeout = -1
        if not transport_valid(t, p, hook):
            verdict = TRACK_INVALID
        elif proto == IPPROTO_TCP:
            verdict = tcp_track(t, c, p, direction, &timeout)
        elif proto == IPPROTO_SCTP:
            verdict = sctp_track(t, c, p, direction, &timeout)
        else:
            verdict = other_track(t, c, p, direction, &timeout)
        if verdict == TRACK_ACCEPT:
            break
        ct_release(t, p)
        if verdict == TRACK_INVALID:
            t.invalid += 1
            return CT_ACCEPT
    else:
        return CT_DROP
    if timeout >= 0:
        # A packet that refreshes nothing is not counted either (nf_ct_refresh_acct).
        c.packets[direction] += 1
        c.bytes[direction] += p.field[<int>FIELD_LENGTH]
        if not c.status & STATUS_FIXED_TIMEOUT:
            c.expires = p.time + timeout if c.status & STATUS_CONFIRMED else timeout
    if p.ctinfo == CT_ESTABLISHED_REPLY:
        c.status |= STATUS_SEEN_REPLY
    return CT_ACCEPT


cdef inline void ct_closing(Conntrack *t, Packet *p) noexcept nogil:
    """The host resets this connection itself: no end will say so later (nf_ct_set_closing)."""
    if p.ct == NULL or p.ct.tuple[0].proto != IPPROTO_TCP or not p.ct.status & STATUS_CONFIRMED:
        return
    p.ct.tcp.state = TCP_CLOSE
    p.ct.expires = p.time + t.settings.tcp_timeout[<int>TCP_CLOSE]


cdef inline bint clash_allowed(uint8_t proto) noexcept nogil:
    return proto != IPPROTO_TCP and proto != IPPROTO_ICMP and proto != IPPROTO_ICMPV6 and proto != IPPROTO_SCTP


cdef inline int ct_confirm(Conntrack *t, Packet *p) noexcept nogil:
    """The end of INPUT and POSTROUTING: a connection that got so far is entered into the table."""
    cdef Conn *c = p.ct
    cdef Conn *other
    cdef int direction = 0
    cdef bint reverse = False
    if c == NULL or c.status & STATUS_CONFIRMED:
        return CT_ACCEPT
    if p.ctinfo == CT_ESTABLISHED_REPLY or p.ctinfo == CT_RELATED_REPLY:
        return CT_ACCEPT
    if c.status & STATUS_DYING:
        t.dropped += 1
        return CT_DROP
    other = conn_find_side(t, &c.tuple[0], p.time, &direction, zone_sides(&c.zone, 0))
    if other == NULL:
        other = conn_find_side(t, &c.tuple[1], p.time, &direction, zone_sides(&c.zone, 1))
        # One that began at the other end is nobody's copy of this flow: only zones let two such be begun.
        reverse = other != NULL and direction == 0
    if other != NULL:
        # Somebody else's packet of the same flow was faster (nf_ct_resolve_clash).
        if clash_allowed(c.tuple[0].proto) and (
            (not reverse and not other.status & (STATUS_SRC_NAT_DONE | STATUS_DST_NAT_DONE))
            or (tuple_equal(&other.tuple[0], &c.tuple[0]) and tuple_equal(&other.tuple[1], &c.tuple[1]))
        ):
            t.clash_resolved += 1
            other.uses += 1
            other.packets[0] += c.packets[0]
            other.bytes[0] += c.bytes[0]
            conn_put(t, c)
            p.ct = other
            p.ctinfo = CT_ESTABLISHED if other.status & STATUS_SEEN_REPLY else CT_NEW
            return CT_ACCEPT
        if clash_allowed(c.tuple[0].proto) and conn_find_side(
            t, &c.tuple[1], p.time, &direction, zone_sides(&c.zone, 1)
        ) == NULL:
            # Another backend was chosen: keep only the way back, for one second.
            t.clash_resolved += 1
            c.status |= STATUS_CONFIRMED | STATUS_NAT_CLASH | STATUS_FIXED_TIMEOUT
            c.expires = p.time + 1000000000
            c.began = p.time
            c.uses += 1
            c.hashed = 2
            bucket_link(t, c, 1)
            return CT_ACCEPT
        t.insert_failed += 1
        t.dropped += 1
        return CT_DROP
    c.expires += p.time
    c.began = p.time
    c.status |= STATUS_CONFIRMED
    c.uses += 1
    c.hashed = 3
    bucket_link(t, c, 0)
    bucket_link(t, c, 1)
    t.inserted += 1
    return CT_ACCEPT
