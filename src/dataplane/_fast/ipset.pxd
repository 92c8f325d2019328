"""Sets of addresses and ports, as rules ask and fill them (facts of net/netfilter/ipset/).

Every type is one hash of fixed keys: an address, a protocol with a port, a second address, and the prefix lengths of
what is a network. A network is looked for by each prefix length in use, the longest first. Sets belong to a host: the
rules of both families use the same ones. Times in ns.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from dataplane._fast.packet cimport FIELD_DST, FIELD_FRAGMENT, FIELD_LENGTH, FIELD_PROTO, FIELD_SRC, Packet, ip6_extension
from dataplane._fast.wire cimport (
    IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_NONE, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, load16,
)

cpdef enum SetPart:
    """What the members of a set are made of: bits."""
    SET_ADDRESS = 1
    SET_PORT = 2            # with its protocol
    SET_SECOND = 4          # a second address
    SET_BARE_PORT = 8       # bitmap:port: TCP and UDP alike
    SET_LIST = 16           # names of other sets

cpdef enum SetFlag:
    """How a rule uses a set: bits."""
    USE_RETURN_NOMATCH = 1
    USE_NO_COUNTERS = 2         # ! --update-counters
    USE_NO_SUBCOUNTERS = 4
    USE_EXIST = 8
    USE_TIMEOUT = 16            # --timeout was given
    USE_MAP_MARK = 32           # --map-mark

cpdef enum CounterTest:
    """How the counters of a member are compared."""
    COUNTER_ANY = 0
    COUNTER_EQ
    COUNTER_NE
    COUNTER_LT
    COUNTER_GT

cdef enum:
    KEY_WORDS = 10
    KEY_PORT = 4
    KEY_SECOND = 5
    KEY_LENGTHS = 9             # of the first address, and << 8 of the second
    SET_DEPTH = 4               # lists inside lists

cdef struct SetMember:
    uint32_t key[10]
    int64_t expires             # 0: never
    uint64_t packets
    uint64_t bytes
    uint32_t mark               # skbinfo: what --map-set makes of a packet's mark
    uint32_t mark_mask
    uint8_t nomatch
    SetMember *next

cdef struct IpSet:
    uint8_t parts               # SetPart
    uint8_t dimensions
    uint8_t family              # 4 or 6; 0 for any
    uint8_t net                 # which address is a network: 0 none, 1 first, 2 second
    uint8_t counters
    uint8_t timeouts
    uint8_t started             # the clock runs; until then times of expiry are times left
    uint8_t masked              # not all bits of an address count: netmask, bitmask
    uint8_t skbinfo
    uint32_t address_mask[4]
    int64_t timeout             # of a member added without one; 0: never
    uint32_t low                # of bitmap:port
    uint32_t high
    int64_t limit
    int64_t count
    SetMember **rows            # NULL until the first member
    uint32_t mask
    uint32_t lengths[129]       # networks of each prefix length
    int32_t *list               # indices of the sets in a list; -1 where one was taken out
    SetMember *list_members     # timeouts and counters of the list's own entries
    int32_t list_count

cdef struct SetUse:
    # A rule's way with a set.
    uint32_t flags              # SetFlag
    uint32_t directions         # bit n: dimension n is the source
    uint32_t dimensions
    uint32_t packets_test       # CounterTest
    uint32_t bytes_test
    uint64_t packets
    uint64_t bytes
    int64_t timeout


cdef inline uint32_t set_hash(const uint32_t *key) noexcept nogil:
    cdef uint64_t h = 0
    cdef int i
    for i in range(KEY_WORDS):
        h = (h ^ key[i]) * 0x9E3779B97F4A7C15ULL
        h ^= h >> 29
    return <uint32_t>(h >> 24)


cdef inline SetMember *set_find(const IpSet *s, const uint32_t *key) noexcept nogil:
    """The member with this key, expired or not."""
    cdef SetMember *m
    if s.rows == NULL:
        return NULL
    m = s.rows[set_hash(key) & s.mask]
    while m != NULL and memcmp(m.key, key, sizeof(m.key)) != 0:
        m = m.next
    return m


cdef inline int key_length(const IpSet *s, const uint32_t *key) noexcept nogil:
    """The prefix length of the part that is a network."""
    return <int>(key[KEY_LENGTHS] & 0xFF) if s.net == 1 else <int>(key[KEY_LENGTHS] >> 8)


cdef inline void set_remove(IpSet *s, SetMember *m) noexcept nogil:
    cdef SetMember **link = &s.rows[set_hash(m.key) & s.mask]
    while link[0] != m:
        link = &link[0].next
    link[0] = m.next
    if s.net:
        s.lengths[key_length(s, m.key)] -= 1
    s.count -= 1
    free(m)


cdef inline bint member_expired(const SetMember *m, int64_t now) noexcept nogil:
    return m.expires != 0 and m.expires <= now


cdef inline void set_expire(IpSet *s, int64_t now) noexcept nogil:
    """Give back every expired member."""
    cdef SetMember *m
    cdef SetMember *following
    cdef uint32_t i
    if s.rows == NULL:
        return
    for i in range(s.mask + 1):
        m = s.rows[i]
        while m != NULL:
            following = m.next
            if member_expired(m, now):
                set_remove(s, m)
            m = following


cdef inline bint set_grow(IpSet *s) noexcept nogil:
    cdef uint32_t size = (s.mask + 1) * 2 if s.rows != NULL else 16
    cdef SetMember **rows = <SetMember **>calloc(size, sizeof(SetMember *))
    cdef SetMember *m
    cdef SetMember *following
    cdef uint32_t i, at
    if rows == NULL:
        return s.rows != NULL
    if s.rows != NULL:
        for i in range(s.mask + 1):
            m = s.rows[i]
            while m != NULL:
                following = m.next
                at = set_hash(m.key) & (size - 1)
                m.next = rows[at]
                rows[at] = m
                m = following
        free(s.rows)
    s.rows = rows
    s.mask = size - 1
    return True


cdef inline SetMember *set_add(IpSet *s, const uint32_t *key) noexcept nogil:
    """A new member, which is not there yet; NULL when the set is full."""
    cdef SetMember *m
    cdef uint32_t at
    if s.count >= s.limit or ((s.rows == NULL or s.count > s.mask) and not set_grow(s)):
        return NULL
    m = <SetMember *>calloc(1, sizeof(SetMember))
    if m == NULL:
        return NULL
    memcpy(m.key, key, sizeof(m.key))
    at = set_hash(key) & s.mask
    m.next = s.rows[at]
    s.rows[at] = m
    s.count += 1
    if s.net:
        s.lengths[key_length(s, key)] += 1
    return m


cdef inline void set_clear(IpSet *s) noexcept nogil:
    cdef SetMember *m
    cdef uint32_t i
    if s.rows != NULL:
        for i in range(s.mask + 1):
            while s.rows[i] != NULL:
                m = s.rows[i]
                s.rows[i] = m.next
                free(m)
    free(s.rows)
    free(s.list)
    free(s.list_members)
    memset(s, 0, sizeof(IpSet))


cdef inline void cut_address(uint32_t *address, int length, uint8_t family) noexcept nogil:
    """Clear everything behind `length` bits."""
    cdef int i, left
    for i in range(1 if family == 4 else 4):
        left = length - 32 * i
        if left <= 0:
            address[i] = 0
        elif left < 32:
            address[i] &= 0xFFFFFFFFU << (32 - left)


cdef inline bint packet_port(const Packet *p, bint source, uint32_t *out) noexcept nogil:
    """ip_set_getport.c: protocol << 16 | port; of ICMP type and code; 0 of what has no ports. False where it is cut off."""
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    cdef bint ported = (
        proto == IPPROTO_TCP or proto == IPPROTO_UDP or proto == IPPROTO_SCTP or proto == IPPROTO_UDPLITE
    )
    cdef uint32_t icmp_proto = IPPROTO_ICMP if p.family == 4 else IPPROTO_ICMPV6
    cdef bint icmp = proto == icmp_proto
    out[0] = proto << 16
    if not (ported or icmp):
        # Of IPv6 the headers must lead somewhere, and to a first fragment (ipv6_skip_exthdr).
        return p.family == 4 or not (
            p.field[<int>FIELD_FRAGMENT] or proto == IPPROTO_NONE or (p.transport == NULL and ip6_extension(proto))
        )
    if p.field[<int>FIELD_FRAGMENT] or p.transport == NULL:
        return False
    if ported:
        if p.tail - p.transport < (20 if proto == IPPROTO_TCP else 12 if proto == IPPROTO_SCTP else 8):
            return False
        out[0] |= load16(p.transport if source else p.transport + 2)
    else:
        if p.tail - p.transport < 8:
            return False
        out[0] |= load16(p.transport)
    return True


cdef inline bint packet_key(const IpSet *s, const Packet *p, const SetUse *use, uint32_t *key) noexcept nogil:
    """What a packet would be as a member, whole addresses; False where it has no such part."""
    cdef uint32_t port
    cdef int at = 0, i
    memset(key, 0, KEY_WORDS * sizeof(uint32_t))
    if s.parts & SET_BARE_PORT:
        if not packet_port(p, use.directions & 1, &port):
            return False
        if port >> 16 != IPPROTO_TCP and port >> 16 != IPPROTO_UDP:
            return False
        key[KEY_PORT] = port & 0xFFFF
        return s.low <= key[KEY_PORT] <= s.high
    memcpy(key, &p.field[<int>FIELD_SRC if use.directions & 1 else <int>FIELD_DST], 16)
    if s.masked:
        for i in range(4):
            key[i] &= s.address_mask[i]
        if key[0] | key[1] | key[2] | key[3] == 0:
            return False
    elif not s.net and not s.parts & SET_SECOND and key[0] | key[1] | key[2] | key[3] == 0:
        return False            # hash:ip and hash:ip,port take no 0.0.0.0
    if s.parts & SET_PORT:
        at = 1
        if not packet_port(p, (use.directions >> 1) & 1, &key[KEY_PORT]):
            return False
    if s.parts & SET_SECOND:
        memcpy(&key[KEY_SECOND], &p.field[<int>FIELD_SRC if (use.directions >> (at + 1)) & 1 else <int>FIELD_DST], 16)
    return True


cdef inline void key_cut(const IpSet *s, uint32_t *key, const uint32_t *whole, int length) noexcept nogil:
    """`whole` with its network cut to a prefix length."""
    memcpy(key, whole, KEY_WORDS * sizeof(uint32_t))
    if s.net == 1:
        cut_address(key, length, s.family)
        key[KEY_LENGTHS] = <uint32_t>length
    else:
        cut_address(&key[KEY_SECOND], length, s.family)
        key[KEY_LENGTHS] = <uint32_t>length << 8


cdef inline bint counter_fits(uint64_t held, uint32_t test, uint64_t wanted) noexcept nogil:
    if test == COUNTER_ANY:
        return True
    if test == COUNTER_EQ:
        return held == wanted
    if test == COUNTER_NE:
        return held != wanted
    if test == COUNTER_LT:
        return held < wanted
    return held > wanted


cdef inline bint member_counts(
    const IpSet *s, SetMember *m, const Packet *p, const SetUse *use, bint sub,
) noexcept nogil:
    """ip_set_match_extensions: the packet is counted to its member, whose counters may be compared."""
    if not s.counters:
        return True
    if not use.flags & USE_NO_COUNTERS and not (sub and use.flags & USE_NO_SUBCOUNTERS):
        m.packets += 1
        m.bytes += p.field[<int>FIELD_LENGTH]
    return sub or (
        counter_fits(m.packets, use.packets_test, use.packets) and counter_fits(m.bytes, use.bytes_test, use.bytes)
    )


cdef inline int set_answer(
    const IpSet *s, SetMember *m, const Packet *p, const SetUse *use, bint sub, int64_t now,
) noexcept nogil:
    """1 a member, -1 a member that is marked nomatch, 0 none."""
    if m == NULL or member_expired(m, now) or not member_counts(s, m, p, use, sub):
        return 0
    return -1 if m.nomatch else 1


cdef inline void set_start(IpSet *s, int64_t now) noexcept nogil:
    """The first packet says what time it is: what was left to each member now ends at a time."""
    cdef SetMember *m
    cdef uint32_t i
    s.started = 1
    for i in range(<uint32_t>s.list_count):
        if s.list_members[i].expires:
            s.list_members[i].expires += now
    if s.rows == NULL:
        return
    for i in range(s.mask + 1):
        m = s.rows[i]
        while m != NULL:
            if m.expires:
                m.expires += now
            m = m.next


cdef inline bint set_holds(
    IpSet *sets, int32_t index, const Packet *p, const SetUse *use, int64_t now, bint sub, int depth,
    const SetMember **info,
) noexcept nogil:
    """Whether a packet is in a set (ip_set_test). info: the member whose skbinfo counts, where any has it."""
    cdef IpSet *s = &sets[index]
    cdef SetMember *m
    cdef uint32_t whole[10]
    cdef uint32_t key[10]
    cdef int answer = 0, length, i
    if use.dimensions < s.dimensions or (s.family != 0 and s.family != p.family):
        return False
    if s.timeouts and not s.started:
        set_start(s, now)
    if s.parts & SET_LIST:
        for i in range(s.list_count):
            if s.list[i] < 0 or member_expired(&s.list_members[i], now) or depth >= SET_DEPTH:
                continue
            if (set_holds(sets, s.list[i], p, use, now, True, depth + 1, info)
                    and member_counts(s, &s.list_members[i], p, use, sub)):
                if s.skbinfo:
                    info[0] = &s.list_members[i]
                return True
        return False
    if not packet_key(s, p, use, whole):
        return False
    if s.net == 0:
        m = set_find(s, whole)
        answer = set_answer(s, m, p, use, sub, now)
    else:
        m = NULL
        for length in range(32 if s.family == 4 else 128, -1, -1):
            if s.lengths[length] == 0:
                continue
            key_cut(s, key, whole, length)
            m = set_find(s, key)
            answer = set_answer(s, m, p, use, sub, now)
            if answer:
                break
        if use.flags & USE_RETURN_NOMATCH and answer:
            return answer < 0
    if answer and s.skbinfo:
        info[0] = m
    return answer > 0


cdef inline bint set_put(
    IpSet *sets, int32_t index, const Packet *p, const SetUse *use, int64_t now, int depth,
) noexcept nogil:
    """Put a packet into a set (ip_set_add); False where it cannot be, or is there already."""
    cdef IpSet *s = &sets[index]
    cdef SetMember *m
    cdef uint32_t whole[10]
    cdef uint32_t key[10]
    cdef int length, i
    cdef int64_t timeout
    if use.dimensions < s.dimensions or (s.family != 0 and s.family != p.family):
        return False
    if s.timeouts and not s.started:
        set_start(s, now)
    if s.parts & SET_LIST:
        for i in range(s.list_count):
            if s.list[i] >= 0 and not member_expired(&s.list_members[i], now) and depth < SET_DEPTH:
                if set_put(sets, s.list[i], p, use, now, depth + 1):
                    return True
        return False
    if not packet_key(s, p, use, whole):
        return False
    memcpy(key, whole, sizeof(key))
    if s.net:
        length = 32 if s.family == 4 else 128
        for i in range(length, -1, -1):
            if s.lengths[i]:
                length = i
                break
        key_cut(s, key, whole, length)
    m = set_find(s, key)
    if m != NULL and not member_expired(m, now) and not use.flags & USE_EXIST:
        return False
    if m == NULL:
        if s.count >= s.limit and s.timeouts:
            set_expire(s, now)
        m = set_add(s, key)
        if m == NULL:
            return False
    m.nomatch = 0
    m.mark = m.mark_mask = 0
    if s.counters:
        m.packets = 1
        m.bytes = p.field[<int>FIELD_LENGTH]
    m.expires = 0
    if s.timeouts:
        timeout = use.timeout if use.flags & USE_TIMEOUT else s.timeout
        m.expires = now + timeout if timeout else 0
    return True


cdef inline bint set_take(
    IpSet *sets, int32_t index, const Packet *p, const SetUse *use, int64_t now, int depth,
) noexcept nogil:
    """Take a packet out of a set (ip_set_del); False where it was not in it."""
    cdef IpSet *s = &sets[index]
    cdef SetMember *m
    cdef uint32_t whole[10]
    cdef uint32_t key[10]
    cdef bint held
    cdef int length, i
    if use.dimensions < s.dimensions or (s.family != 0 and s.family != p.family):
        return False
    if s.timeouts and not s.started:
        set_start(s, now)
    if s.parts & SET_LIST:
        for i in range(s.list_count):
            if s.list[i] >= 0 and not member_expired(&s.list_members[i], now) and depth < SET_DEPTH:
                if set_take(sets, s.list[i], p, use, now, depth + 1):
                    return True
        return False
    if not packet_key(s, p, use, whole):
        return False
    memcpy(key, whole, sizeof(key))
    if s.net:
        length = 32 if s.family == 4 else 128
        for i in range(length, -1, -1):
            if s.lengths[i]:
                length = i
                break
        key_cut(s, key, whole, length)
    m = set_find(s, key)
    if m == NULL:
        return False
    held = not member_expired(m, now)
    set_remove(s, m)
    return held


cdef class CompiledSets:
    cdef IpSet *sets
    cdef int32_t count
    cdef readonly tuple names
    cdef IpSet *known(self, int32_t index) except NULL
