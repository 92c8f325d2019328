"""Replay: the packets of a capture, sent by the hosts that their addresses belong to.

A recorded conversation has two directions. The packets of the side that opened it are sent by the host that owns its
address; the packets of the other side are sent by whichever host the first of them was delivered to, from the address
and port that this host saw. So the opener must receive exactly its recorded replies, and whether it does is counted.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from dataplane._fast.address cimport address_words, words_address
from dataplane._fast.batch cimport PacketBatch, Rows
from dataplane._fast.defrag cimport fragment_header
from dataplane._fast.fib cimport prefix_covers, same_address
from dataplane._fast.network cimport Delivery, Network, packet_give, packet_store, packet_take
from dataplane._fast.packet cimport (
    FIELD_DPORT, FIELD_DST, FIELD_FRAGMENT, FIELD_ICMP, FIELD_L4, FIELD_PROTO, FIELD_SPORT, FIELD_SRC, FIELD_TCP_FLAGS,
    Packet, packet_read,
)
from dataplane._fast.reason cimport REASON_COUNT, Verdict
from dataplane._fast.waiting cimport Waiting, waiting_add, waiting_take
from dataplane._fast.walk cimport Walk, walk_send, walk_until
from dataplane._fast.wire cimport (
    ETH_P_IP, ETH_P_IPV6, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, TCP_ACK, TCP_SYN,
    checksum_fold, checksum_replace16, checksum_replace32, checksum_sum, load16, load32, pseudo4, pseudo6, store16,
    store32, store_checksum,
)

from dataplane._fast.reason import Reason as ReasonName

cpdef enum LeftOut:
    """Why a packet of a capture is not sent by anyone."""
    LEFT_NOTHING = 0
    LEFT_NOT_IP             # ARP, LLDP, ...: hosts make their own
    LEFT_MALFORMED          # no complete IP header
    LEFT_STRANGERS          # neither address lives in the cluster
    LEFT_NO_REQUEST         # the answer of a conversation whose request was not delivered
    LEFT_ICMP_ERROR         # hosts make their own
    LEFT_LATE_FRAGMENT      # a fragment whose first one was not seen
    LEFT_TABLE_FULL         # more conversations than the table holds
    LEFT_COUNT

cpdef enum PlaceKind:
    PLACE_NONE = 0
    PLACE_HOST = 1          # a pod, a node, or the outside: a host sends from it
    PLACE_SERVICE = 2       # an address that only rules know

cpdef enum MapKind:
    MAP_ADDRESS = 0         # to one address, and one port if it is not 0
    MAP_POOL = 1            # to the members of a pool in turn, each recorded address to one
    MAP_OUTSIDE = 2         # as it is, outside of the cluster

cdef struct Place:
    uint32_t address[4]
    uint8_t family
    uint8_t kind            # PlaceKind
    int32_t host

cdef struct MapRule:
    uint32_t prefix[4]
    uint8_t family
    uint8_t length
    uint8_t kind            # MapKind
    uint16_t port           # 0: any
    uint16_t to_port        # 0: as it was
    int64_t first           # of its members
    int64_t count
    int64_t turn

cdef struct Member:
    uint32_t address[4]
    uint8_t family

cdef struct Given:
    # What a recorded address was mapped to.
    uint32_t address[4]
    uint32_t to[4]
    uint16_t fixed_port     # 0: the recorded port stays
    uint16_t to_port        # the answer for the port that was asked for
    uint8_t family
    uint8_t outside
    uint8_t mapped
    uint8_t used

cdef struct Hole:
    # Packets of one direction of a conversation that did not arrive, one after the other.
    int64_t flow
    int64_t first           # ns: of the first one lost
    int64_t last
    int64_t until           # of the next one that arrived; 0: none did
    int64_t lost
    int64_t next            # hole of the same conversation, plus one; 0
    uint16_t reason         # of the first one
    uint8_t side            # 0 requests, 1 replies

cdef struct Flow:
    # recorded: of the opener and of the other side
    uint32_t src[4]
    uint32_t dst[4]
    uint16_t sport
    uint16_t dport
    uint8_t proto
    uint8_t family
    uint8_t left            # LeftOut: nothing of this flow is sent
    uint8_t mapped
    # in the cluster
    uint32_t client[4]
    uint32_t server[4]      # that the client addresses
    uint16_t client_port
    uint16_t server_port
    int32_t client_host
    # as the other side saw it
    uint32_t seen_src[4]
    uint32_t seen_dst[4]
    uint16_t seen_sport
    uint16_t seen_dport
    int32_t server_host     # -1: nothing was delivered yet
    # counted: requests, replies
    int64_t packets[2]
    int64_t bytes[2]
    int64_t delivered[2]
    int64_t dropped[2]
    int64_t exact           # replies that reached the opener as recorded
    int64_t moved           # requests that reached another host than the first did
    int64_t first
    int64_t last
    uint16_t reason         # of the last drop
    uint8_t verdict         # of the last request, or reply
    uint8_t opened          # bits: SYN or first request seen 1, reset by the cluster 2
    # while the cluster changes
    uint8_t opening         # its last packet opens a TCP connection
    int64_t open_hole[2]    # of each direction, plus one; 0
    int64_t first_hole      # plus one; 0
    int64_t last_hole
    int64_t moved_at        # ns: when it first reached another end; 0
    int64_t reset_at        # ns: when that was in the middle of a TCP connection; 0
    uint32_t first_dst[4]   # the end that it reached first
    int32_t first_host


cdef inline uint64_t mix(uint64_t h, uint64_t v) noexcept nogil:
    h = (h ^ v) * 0x9E3779B97F4A7C15ULL
    return h ^ (h >> 32)


cdef inline uint64_t hash_address(const uint32_t *a) noexcept nogil:
    return mix(mix(0x51ULL, <uint64_t>a[0] << 32 | a[1]), <uint64_t>a[2] << 32 | a[3])


cdef inline uint64_t hash_flow(
    const uint32_t *a, uint16_t aport, const uint32_t *b, uint16_t bport, uint8_t proto,
) noexcept nogil:
    """The same for both directions."""
    cdef uint64_t one = mix(hash_address(a), aport), other = mix(hash_address(b), bport)
    return mix(one + other, proto)


cdef inline bint fragment_key(const Packet *p, uint64_t *key) noexcept nogil:
    """Whether this is a fragment; then a key that the fragments of its datagram share."""
    cdef uint8_t *previous
    cdef const uint8_t *header
    cdef uint32_t ident
    cdef uint8_t proto = 0
    if p.family == 4:
        if not load16(p.net + 6) & 0x3FFF:
            return False
        ident = load16(p.net + 4)
        proto = <uint8_t>p.field[<int>FIELD_PROTO]
    else:
        if p.transport == p.net + 40:
            return False
        header = fragment_header(p, &previous)
        if header == NULL or not load16(header + 2) & 0xFFF9:
            return False
        ident = load32(header + 4)
    key[0] = mix(mix(hash_address(&p.field[<int>FIELD_SRC]), ident), mix(hash_address(&p.field[<int>FIELD_DST]), proto)) | 1
    return True


cdef inline uint8_t *checksum_field(Packet *p) noexcept nogil:
    """Where the transport checksum covers the addresses; NULL where there is none."""
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    if not p.field[<int>FIELD_L4]:
        return NULL
    if proto == IPPROTO_TCP:
        return p.transport + 16
    if proto == IPPROTO_UDP:
        return p.transport + 6 if load16(p.transport + 6) else NULL
    if proto == IPPROTO_ICMPV6 and p.family == 6:
        return p.transport + 2
    return NULL


cdef inline bint complete_checksum(Packet *p) noexcept nogil:
    """A checksum that was left to the network card holds only the sum of the pseudo header (CHECKSUM_PARTIAL): finish
    it, as the card would have. True when it did."""
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    cdef uint8_t *at
    cdef uint32_t length
    cdef uint64_t pseudo
    cdef uint16_t held
    if p.missing or p.field[<int>FIELD_FRAGMENT] or not (proto == IPPROTO_TCP or proto == IPPROTO_UDP):
        return False
    at = checksum_field(p)
    if at == NULL:
        return False
    length = <uint32_t>(p.tail - p.transport)
    pseudo = pseudo4(p.net, <uint8_t>proto, length) if p.family == 4 else pseudo6(p.net, <uint8_t>proto, length)
    memcpy(&held, at, 2)
    if held != <uint16_t>(~checksum_fold(pseudo)):
        return False
    if checksum_fold(checksum_sum(p.transport, length, pseudo)) == 0:
        return False
    store16(at, 0)
    store_checksum(at, checksum_fold(checksum_sum(p.transport, length, pseudo)))
    if proto == IPPROTO_UDP and load16(at) == 0:
        store16(at, 0xFFFFU)
    return True


cdef inline void rewrite_address(
    Packet *p, uint32_t offset4, uint32_t offset6, const uint32_t *new, uint8_t *check,
) noexcept nogil:
    cdef uint32_t old
    cdef uint8_t *at
    cdef int word
    if p.family == 4:
        at = p.net + offset4
        old = load32(at)
        if old != new[0]:
            checksum_replace32(p.net + 10, old, new[0])
            if check != NULL:
                checksum_replace32(check, old, new[0])
            store32(at, new[0])
        return
    for word in range(4):
        at = p.net + offset6 + 4 * word
        old = load32(at)
        if old != new[word]:
            if check != NULL:
                checksum_replace32(check, old, new[word])
            store32(at, new[word])


cdef inline void rewrite_port(Packet *p, uint32_t offset, uint16_t new, uint8_t *check) noexcept nogil:
    cdef uint16_t old = load16(p.transport + offset)
    if old != new:
        if check != NULL:
            checksum_replace16(check, old, new)
        store16(p.transport + offset, new)


cdef inline void rewrite(
    Packet *p, const uint32_t *src, uint16_t sport, const uint32_t *dst, uint16_t dport,
) noexcept nogil:
    """Give the packet other ends; its payload stays, and a checksum stays as right or wrong as it was."""
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    cdef uint8_t *check = checksum_field(p)
    rewrite_address(p, 12, 8, src, check)
    rewrite_address(p, 16, 24, dst, check)
    if not p.field[<int>FIELD_L4]:
        return
    if proto == IPPROTO_TCP or proto == IPPROTO_UDP:
        rewrite_port(p, 0, sport, check)
        rewrite_port(p, 2, dport, check)
        if proto == IPPROTO_UDP and check != NULL and load16(check) == 0:
            store16(check, 0xFFFFU)
    elif proto == IPPROTO_ICMP and p.family == 4:
        rewrite_port(p, 4, sport, p.transport + 2)
    elif proto == IPPROTO_ICMPV6 and p.family == 6:
        rewrite_port(p, 4, sport, check)


@cython.final
cdef class Replay:
    """The conversations of one replay through one walk.

    outside: id of the host that stands for every address beyond the cluster. capacity: conversations at most.
    """
    cdef readonly Walk walk
    cdef int32_t outside
    cdef Place *places
    cdef uint32_t place_mask
    cdef int64_t place_count
    cdef MapRule *rules
    cdef int64_t rule_count
    cdef Member *members
    cdef int64_t member_count
    cdef Given *given
    cdef uint32_t given_mask
    cdef int64_t given_count
    cdef Given scratch
    cdef bint port_rules
    cdef Flow *flows
    cdef int64_t flow_count
    cdef int64_t flow_room
    cdef int64_t capacity
    cdef int64_t *buckets
    cdef uint64_t bucket_mask
    # By hash of what tells datagrams apart: the flow that a first fragment belongs to, for the later ones.
    cdef uint64_t fragment_key[4096]
    cdef int64_t fragment_flow[4096]
    cdef Waiting waits
    cdef readonly int64_t read
    cdef readonly int64_t decoded
    cdef readonly int64_t mapped
    cdef readonly int64_t injected
    cdef readonly int64_t delivered
    cdef readonly int64_t consumed
    cdef readonly int64_t completed_checksums
    cdef readonly int64_t untold            # interruptions of flows that came when their table was full
    cdef Hole *holes
    cdef int64_t hole_count
    cdef int64_t hole_room
    cdef public bint watching
    cdef int64_t dropped_by[96]
    cdef int64_t left_by[16]

    def __cinit__(self, Walk walk, int32_t outside, int64_t capacity=1 << 22):
        self.walk = walk
        self.outside = outside
        self.capacity = capacity
        self.places = <Place *>calloc(64, sizeof(Place))
        self.place_mask = 63
        self.given = <Given *>calloc(64, sizeof(Given))
        self.given_mask = 63
        self.buckets = <int64_t *>calloc(1024, sizeof(int64_t))
        self.bucket_mask = 1023
        if self.places == NULL or self.given == NULL or self.buckets == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.places)
        free(self.rules)
        free(self.members)
        free(self.given)
        free(self.flows)
        free(self.holes)
        free(self.buckets)
        free(self.waits.rows)

    # ---- what lives where ------------------------------------------------------------------------------------------

    cdef Place *find(self, const uint32_t *address, uint8_t family) noexcept nogil:
        cdef uint32_t at = <uint32_t>hash_address(address) & self.place_mask
        while self.places[at].kind != PLACE_NONE:
            if self.places[at].family == family and same_address(self.places[at].address, address):
                return &self.places[at]
            at = (at + 1) & self.place_mask
        return NULL

    cdef int put(self, const Place *place) except -1:
        cdef Place *old
        cdef uint32_t at, i, size
        if 2 * self.place_count >= self.place_mask:
            old = self.places
            size = self.place_mask + 1
            self.places = <Place *>calloc(2 * size, sizeof(Place))
            if self.places == NULL:
                self.places = old
                raise MemoryError
            self.place_mask = 2 * size - 1
            for i in range(size):
                if old[i].kind != PLACE_NONE:
                    at = <uint32_t>hash_address(old[i].address) & self.place_mask
                    while self.places[at].kind != PLACE_NONE:
                        at = (at + 1) & self.place_mask
                    self.places[at] = old[i]
            free(old)
        at = <uint32_t>hash_address(place.address) & self.place_mask
        while self.places[at].kind != PLACE_NONE:
            at = (at + 1) & self.place_mask
        self.places[at] = place[0]
        self.place_count += 1
        return 0

    def place(self, address, int32_t host=-1):
        """Say where an address lives: at a host (its id), or, with -1, only in rules (a Service's address)."""
        cdef Place value
        memset(&value, 0, sizeof(value))
        value.family = address_words(address, value.address)
        value.kind = PLACE_HOST if host >= 0 else PLACE_SERVICE
        value.host = host
        if self.find(value.address, value.family) == NULL:
            self.put(&value)

    def move(self, address, int32_t host):
        """An address lives at another host from now on: a new pod has it, or a Service."""
        cdef Place value
        cdef Place *known
        memset(&value, 0, sizeof(value))
        value.family = address_words(address, value.address)
        value.kind = PLACE_HOST if host >= 0 else PLACE_SERVICE
        value.host = host
        known = self.find(value.address, value.family)
        if known == NULL:
            self.put(&value)
        else:
            known[0] = value

    def map(self, network, members=(), *, int port=0, int to_port=0):
        """Give recorded addresses a place: the first rule that covers an address counts. No members: outside."""
        cdef MapRule *rules = <MapRule *>realloc(self.rules, (self.rule_count + 1) * sizeof(MapRule))
        cdef Member *grown
        cdef MapRule *rule
        if rules == NULL:
            raise MemoryError
        self.rules = rules
        rule = &self.rules[self.rule_count]
        memset(rule, 0, sizeof(MapRule))
        rule.family = address_words(network.network_address, rule.prefix)
        rule.length = network.prefixlen
        rule.port = port
        rule.to_port = to_port
        if port:
            self.port_rules = True
        rule.first = self.member_count
        rule.count = len(members)
        rule.kind = MAP_OUTSIDE if not members else MAP_POOL if len(members) > 1 else MAP_ADDRESS
        grown = <Member *>realloc(self.members, (self.member_count + len(members) + 1) * sizeof(Member))
        if grown == NULL:
            raise MemoryError
        self.members = grown
        for member in members:
            if member.version != network.version:
                raise ValueError(f"{network} and {member} are of different families")
            self.members[self.member_count].family = address_words(member, self.members[self.member_count].address)
            self.member_count += 1
        self.rule_count += 1

    cdef void apply(self, Given *g, MapRule *rule) noexcept nogil:
        cdef Member *member
        g.mapped = 1
        if rule.kind == MAP_OUTSIDE:
            g.outside = 1
            return
        member = &self.members[rule.first + rule.turn]
        rule.turn = (rule.turn + 1) % rule.count
        memcpy(g.to, member.address, 16)
        if rule.to_port:
            g.to_port = rule.to_port

    cdef Given *resolve(self, const uint32_t *address, uint8_t family, uint16_t port) noexcept nogil:
        """What a recorded address is in the cluster; the answer is kept, so an address is one member of a pool whatever
        its ports. A rule for a port comes before the rules for all ports. Port 0: the address of an opener. NULL when
        memory is out."""
        cdef uint32_t at = <uint32_t>hash_address(address) & self.given_mask
        cdef uint32_t i, size
        cdef Given *old
        cdef Given *g
        cdef MapRule *rule
        cdef int64_t r
        if port and self.port_rules:
            for r in range(self.rule_count):
                rule = &self.rules[r]
                if rule.port == port and rule.family == family and prefix_covers(rule.prefix, address, family, rule.length):
                    g = &self.scratch
                    memset(g, 0, sizeof(Given))
                    g.to_port = port
                    memcpy(g.to, address, 16)
                    self.apply(g, rule)
                    return g
        while self.given[at].used:
            g = &self.given[at]
            if g.family == family and same_address(g.address, address):
                g.to_port = g.fixed_port if g.fixed_port else port
                return g
            at = (at + 1) & self.given_mask
        if 2 * self.given_count >= self.given_mask:
            old = self.given
            size = self.given_mask + 1
            self.given = <Given *>calloc(2 * size, sizeof(Given))
            if self.given == NULL:
                self.given = old
                return NULL
            self.given_mask = 2 * size - 1
            for i in range(size):
                if old[i].used:
                    at = <uint32_t>hash_address(old[i].address) & self.given_mask
                    while self.given[at].used:
                        at = (at + 1) & self.given_mask
                    self.given[at] = old[i]
            free(old)
            at = <uint32_t>hash_address(address) & self.given_mask
            while self.given[at].used:
                at = (at + 1) & self.given_mask
        g = &self.given[at]
        self.given_count += 1
        memset(g, 0, sizeof(Given))
        g.used = 1
        g.family = family
        memcpy(g.address, address, 16)
        memcpy(g.to, address, 16)
        for r in range(self.rule_count):
            rule = &self.rules[r]
            if rule.port == 0 and rule.family == family and prefix_covers(rule.prefix, address, family, rule.length):
                self.apply(g, rule)
                break
        g.fixed_port = g.to_port
        g.to_port = g.fixed_port if g.fixed_port else port
        return g

    # ---- conversations ---------------------------------------------------------------------------------------------

    cdef int64_t flow_find(
        self, const Packet *p, uint64_t h, uint16_t sport, uint16_t dport, bint *reverse,
    ) noexcept nogil:
        cdef uint64_t at = h & self.bucket_mask
        cdef const Flow *f
        cdef const uint32_t *src = &p.field[<int>FIELD_SRC]
        cdef const uint32_t *dst = &p.field[<int>FIELD_DST]
        cdef uint8_t proto = <uint8_t>p.field[<int>FIELD_PROTO]
        while self.buckets[at]:
            f = &self.flows[self.buckets[at] - 1]
            if f.proto == proto and f.family == p.family:
                if f.sport == sport and f.dport == dport and same_address(f.src, src) and same_address(f.dst, dst):
                    reverse[0] = False
                    return self.buckets[at] - 1
                if f.sport == dport and f.dport == sport and same_address(f.src, dst) and same_address(f.dst, src):
                    reverse[0] = True
                    return self.buckets[at] - 1
            at = (at + 1) & self.bucket_mask
        return -1

    cdef bint grow(self) noexcept nogil:
        cdef Flow *flows
        cdef int64_t *buckets
        cdef int64_t i, room
        cdef uint64_t size, at
        cdef Flow *f
        if self.flow_count == self.flow_room:
            room = 2 * self.flow_room + 256
            flows = <Flow *>realloc(self.flows, room * sizeof(Flow))
            if flows == NULL:
                return False
            self.flows = flows
            self.flow_room = room
        if 2 * <uint64_t>self.flow_count > self.bucket_mask:
            size = 2 * (self.bucket_mask + 1)
            buckets = <int64_t *>calloc(size, sizeof(int64_t))
            if buckets == NULL:
                return False
            for i in range(self.flow_count):
                f = &self.flows[i]
                at = hash_flow(f.src, f.sport, f.dst, f.dport, f.proto) & (size - 1)
                while buckets[at]:
                    at = (at + 1) & (size - 1)
                buckets[at] = i + 1
            free(self.buckets)
            self.buckets = buckets
            self.bucket_mask = size - 1
        return True

    cdef int64_t flow_new(
        self, const Packet *p, uint64_t h, uint16_t sport, uint16_t dport, bint *reverse,
    ) noexcept nogil:
        """Start a conversation with this packet; -1 when there is no room. Decides which side opened it."""
        cdef Flow *f
        cdef Given *given
        cdef Place *place
        cdef uint64_t at
        cdef bint swap = False
        cdef bint client_known, server_known
        cdef uint32_t flags = p.field[<int>FIELD_TCP_FLAGS]
        if self.flow_count >= self.capacity or not self.grow():
            return -1
        f = &self.flows[self.flow_count]
        memset(f, 0, sizeof(Flow))
        f.proto = <uint8_t>p.field[<int>FIELD_PROTO]
        f.family = p.family
        f.server_host = f.client_host = -1
        if f.proto == IPPROTO_TCP and flags & TCP_SYN:
            swap = (flags & TCP_ACK) != 0
        elif f.proto == IPPROTO_ICMP or f.proto == IPPROTO_ICMPV6:
            swap = (p.field[<int>FIELD_ICMP] >> 8) == (0 if f.proto == IPPROTO_ICMP else 129)
        else:
            # In mid-conversation: an address that only rules know can only answer; else the lower port serves.
            given = self.resolve(&p.field[<int>FIELD_SRC], p.family, sport)
            if given == NULL:
                return -1
            place = self.find(given.to, p.family)
            if place != NULL and place.kind == PLACE_SERVICE:
                swap = True
            else:
                given = self.resolve(&p.field[<int>FIELD_DST], p.family, dport)
                if given == NULL:
                    return -1
                place = self.find(given.to, p.family)
                if (place == NULL or place.kind != PLACE_SERVICE) and f.proto == IPPROTO_TCP:
                    swap = sport < 1024 and dport >= 1024
        reverse[0] = swap
        if swap:
            memcpy(f.src, &p.field[<int>FIELD_DST], 16)
            memcpy(f.dst, &p.field[<int>FIELD_SRC], 16)
            f.sport = dport
            f.dport = sport
        else:
            memcpy(f.src, &p.field[<int>FIELD_SRC], 16)
            memcpy(f.dst, &p.field[<int>FIELD_DST], 16)
            f.sport = sport
            f.dport = dport
        f.first = p.time
        given = self.resolve(f.src, f.family, 0)
        if given == NULL:
            return -1
        f.mapped = given.mapped
        memcpy(f.client, given.to, 16)
        f.client_port = f.sport
        place = NULL if given.outside else self.find(f.client, f.family)
        client_known = place != NULL and place.host >= 0
        f.client_host = place.host if client_known else self.outside
        given = self.resolve(f.dst, f.family, f.dport)
        if given == NULL:
            return -1
        f.mapped |= given.mapped
        memcpy(f.server, given.to, 16)
        f.server_port = given.to_port
        server_known = not given.outside and self.find(f.server, f.family) != NULL
        if not client_known and not server_known:
            f.left = LEFT_STRANGERS
        # The table may have grown since the caller hashed.
        at = hash_flow(f.src, f.sport, f.dst, f.dport, f.proto) & self.bucket_mask
        while self.buckets[at]:
            at = (at + 1) & self.bucket_mask
        self.buckets[at] = self.flow_count + 1
        self.flow_count += 1
        return self.flow_count - 1

    cdef void settle(self, Flow *f, int side, const Delivery *d) noexcept nogil:
        """Count what became of a packet of a flow."""
        cdef bint icmp = f.proto == IPPROTO_ICMP or f.proto == IPPROTO_ICMPV6
        f.verdict = d.verdict
        if d.verdict == Verdict.DELIVERED:
            self.delivered += 1
            f.delivered[side] += 1
            if side == 0:
                if f.server_host < 0:
                    f.server_host = d.host
                    memcpy(f.seen_src, d.src, 16)
                    memcpy(f.seen_dst, d.dst, 16)
                    f.seen_sport = d.sport
                    f.seen_dport = d.dport
                    if icmp:
                        f.seen_sport = f.seen_dport = d.sport
                    f.first_host = d.host
                    memcpy(f.first_dst, d.dst, 16)
                elif d.host != f.server_host or not same_address(d.dst, f.seen_dst):
                    # A new connection with the same ports, or a Service without affinity: follow it.
                    f.moved += 1
                    if not f.moved_at:
                        f.moved_at = f.last
                    if f.proto == IPPROTO_TCP and not f.opening and not f.reset_at:
                        f.reset_at = f.last
                    f.server_host = d.host
                    memcpy(f.seen_src, d.src, 16)
                    memcpy(f.seen_dst, d.dst, 16)
                    f.seen_sport = d.sport
                    f.seen_dport = d.dport
                elif d.sport != f.seen_sport or not same_address(d.src, f.seen_src):
                    memcpy(f.seen_src, d.src, 16)
                    f.seen_sport = d.sport
            elif d.host == f.client_host and same_address(d.src, f.server) and same_address(d.dst, f.client):
                if (d.sport == f.server_port and d.dport == f.client_port) or icmp:
                    f.exact += 1
        elif d.verdict == Verdict.DROPPED or d.verdict == Verdict.NONE:
            f.dropped[side] += 1
            f.reason = d.reason
            self.dropped_by[d.reason] += 1
        else:
            # Taken by a host itself: a fragment that was put together with others, or left the model.
            self.consumed += 1
            f.delivered[side] += 1

    cdef void settle_late(self, Network *net) noexcept nogil:
        """Count what became of packets that had waited."""
        cdef int64_t i, flow
        for i in range(net.late_count):
            flow = waiting_take(&self.waits, net.late[i].row)
            if flow >= 0:
                if self.watching and net.late[i].delivery.verdict == Verdict.DELIVERED:
                    self.arrived_late(&self.flows[flow >> 1], <int>(flow & 1), net.now)
                self.settle(&self.flows[flow >> 1], <int>(flow & 1), &net.late[i].delivery)
        net.late_count = 0

    cdef uint8_t step(self, Network *net, Packet *p, int64_t row) noexcept nogil:
        """Send one recorded packet, whose words are read; why it was left out, or LEFT_NOTHING."""
        cdef uint16_t sport = <uint16_t>p.field[<int>FIELD_SPORT], dport = <uint16_t>p.field[<int>FIELD_DPORT]
        cdef uint32_t proto = p.field[<int>FIELD_PROTO], kind
        cdef uint64_t h, key = 0
        cdef bint reverse = False
        cdef int64_t index
        cdef int64_t length = p.tail - p.net
        cdef Flow *f
        cdef int side, slot
        cdef bint fragment = fragment_key(p, &key)
        slot = <int>(key & 4095)
        if proto == IPPROTO_ICMP and p.family == 4 and p.transport != NULL and not p.field[<int>FIELD_FRAGMENT]:
            if not p.field[<int>FIELD_L4] or p.tail - p.transport < 8:
                return LEFT_MALFORMED
            kind = p.field[<int>FIELD_ICMP] >> 8
            if kind == 3 or kind == 4 or kind == 5 or kind == 11 or kind == 12:
                return LEFT_ICMP_ERROR
            sport = dport = load16(p.transport + 4)
        elif proto == IPPROTO_ICMPV6 and p.family == 6 and not p.field[<int>FIELD_FRAGMENT]:
            if p.transport == NULL or p.tail - p.transport < 8:
                return LEFT_MALFORMED
            kind = p.field[<int>FIELD_ICMP] >> 8
            if kind < 128:
                return LEFT_ICMP_ERROR
            if kind != 128 and kind != 129:
                # Neighbour discovery and group membership: hosts make their own.
                return LEFT_NOT_IP
            sport = dport = load16(p.transport + 4)
        if p.field[<int>FIELD_FRAGMENT]:
            if self.fragment_key[slot] != key:
                return LEFT_LATE_FRAGMENT
            index = self.fragment_flow[slot] >> 1
            reverse = self.fragment_flow[slot] & 1
        else:
            h = hash_flow(&p.field[<int>FIELD_SRC], sport, &p.field[<int>FIELD_DST], dport, <uint8_t>proto)
            index = self.flow_find(p, h, sport, dport, &reverse)
            if index < 0:
                index = self.flow_new(p, h, sport, dport, &reverse)
                if index < 0:
                    return LEFT_TABLE_FULL
            elif proto == IPPROTO_ICMP or proto == IPPROTO_ICMPV6:
                # Both ends have the same id: the type tells the direction.
                reverse = not same_address(self.flows[index].src, &p.field[<int>FIELD_SRC])
            if fragment:
                self.fragment_key[slot] = key
                self.fragment_flow[slot] = index << 1 | reverse
        f = &self.flows[index]
        side = 1 if reverse else 0
        f.packets[side] += 1
        f.bytes[side] += length
        f.last = p.time
        if f.left:
            return f.left
        if not fragment and complete_checksum(p):
            self.completed_checksums += 1
        if f.mapped:
            self.mapped += 1
        if reverse:
            if f.server_host < 0:
                return LEFT_NO_REQUEST
            rewrite(p, f.seen_dst, f.seen_dport, f.seen_src, f.seen_sport)
        else:
            rewrite(p, f.client, f.client_port, f.server, f.server_port)
        self.injected += 1
        f.opening = (p.field[<int>FIELD_TCP_FLAGS] & TCP_SYN) != 0
        memset(&net.deliveries[0], 0, sizeof(Delivery))
        net.first_row = row
        p.row = row
        p.flow = <int32_t>index
        walk_send(net, p, f.server_host if reverse else f.client_host, False)
        self.settle_late(net)
        # The flow table does not move while a packet walks.
        f.verdict = net.deliveries[0].verdict
        if self.watching:
            self.watch(index, f, side, &net.deliveries[0], f.last)
        if f.verdict != Verdict.QUEUED or not waiting_add(&self.waits, row, index << 1 | side):
            self.settle(f, side, &net.deliveries[0])
        return LEFT_NOTHING

    cdef void watch(self, int64_t index, Flow *f, int side, const Delivery *d, int64_t time) noexcept nogil:
        """Note from when to when packets of a conversation are lost. One that waits for a neighbour counts as lost until
        it has arrived."""
        cdef bint lost = d.verdict == Verdict.DROPPED or d.verdict == Verdict.NONE or d.verdict == Verdict.QUEUED
        cdef Hole *hole
        cdef Hole *grown
        cdef int64_t room
        if not lost:
            if f.open_hole[side]:
                self.holes[f.open_hole[side] - 1].until = time
                f.open_hole[side] = 0
            return
        if f.open_hole[side] == 0:
            if self.hole_count >= 4 * self.capacity:
                self.untold += 1
                return
            if self.hole_count == self.hole_room:
                room = 2 * self.hole_room + 256
                grown = <Hole *>realloc(self.holes, room * sizeof(Hole))
                if grown == NULL:
                    return
                self.holes = grown
                self.hole_room = room
            hole = &self.holes[self.hole_count]
            memset(hole, 0, sizeof(Hole))
            hole.flow = index
            hole.first = time
            hole.reason = d.reason
            hole.side = side
            self.hole_count += 1
            if f.last_hole:
                self.holes[f.last_hole - 1].next = self.hole_count
            else:
                f.first_hole = self.hole_count
            f.last_hole = f.open_hole[side] = self.hole_count
        hole = &self.holes[f.open_hole[side] - 1]
        hole.last = time
        hole.lost += 1

    cdef void arrived_late(self, Flow *f, int side, int64_t time) noexcept nogil:
        """A packet that had waited for a neighbour has arrived after all."""
        cdef Hole *hole
        if f.open_hole[side]:
            hole = &self.holes[f.open_hole[side] - 1]
            hole.lost -= 1
            hole.until = time
            f.open_hole[side] = 0

    def run(self, PacketBatch batch, int64_t first=0, last=None):
        """Replay the packets of a decoded batch, in order; only the rows from `first` up to `last`, if given. Its bytes
        are rewritten; verdict and reason of each row are written to it."""
        cdef Rows *rows = &batch.rows
        cdef Network *net = &self.walk.net
        cdef Packet *p
        cdef int64_t i, count = rows.count if last is None else last
        cdef uint8_t left
        cdef Delivery delivery
        if not 0 <= first <= count <= rows.count:
            raise IndexError(f"rows {first} to {count} of {rows.count}")
        memset(&delivery, 0, sizeof(delivery))
        with nogil:
            net.deliveries = &delivery
            net.delivery_count = 1
            net.keep_late = 1
            for i in range(first, count):
                if net.timer_count and net.timers[0].time <= rows.time[i]:
                    # No row is the current one while only time passes.
                    net.first_row = self.read + count - first
                    walk_until(net, rows.time[i])
                    self.settle_late(net)
                elif rows.time[i] > net.now:
                    net.now = rows.time[i]
                left = LEFT_NOTHING
                rows.verdict[i] = <uint8_t>Verdict.LEFT_OUT
                rows.reason[i] = 0
                if rows.network[i] == 0xFFFF or (rows.protocol[i] != ETH_P_IP and rows.protocol[i] != ETH_P_IPV6):
                    self.left_by[<int>LEFT_NOT_IP] += 1
                    continue
                p = packet_take(net)
                if p == NULL:
                    self.left_by[<int>LEFT_TABLE_FULL] += 1
                    continue
                if not self.fill(net, p, rows, i):
                    packet_give(net, p)
                    self.left_by[<int>LEFT_MALFORMED] += 1
                    continue
                self.decoded += 1
                left = self.step(net, p, self.read + i - first)
                if left != LEFT_NOTHING:
                    packet_give(net, p)
                    self.left_by[left] += 1
                    continue
                rows.verdict[i] = delivery.verdict
                rows.reason[i] = delivery.reason
            net.deliveries = NULL
        self.read += count - first

    def advance(self, int64_t time):
        """Let time pass until `time`, ns, when all packets have been sent: what still waited may go on, or be given up."""
        with nogil:
            walk_until(&self.walk.net, time)
            self.settle_late(&self.walk.net)

    cdef bint fill(self, Network *net, Packet *p, const Rows *rows, int64_t i) noexcept nogil:
        """Point the packet at the row's network header and read its words; False when there is no whole header."""
        cdef uint8_t *start = rows.arena + rows.offset[i]
        cdef uint32_t length = rows.length[i], original = rows.original[i], network = rows.network[i]
        cdef uint32_t total, header
        cdef uint8_t *net_header = start + network
        if length < network + (20 if rows.protocol[i] == ETH_P_IP else 40):
            return False
        if rows.protocol[i] == ETH_P_IP:
            header = (net_header[0] & 15) * 4
            total = load16(net_header + 2)
            if net_header[0] >> 4 != 4 or header < 20 or total < header or length < network + header:
                return False
        else:
            if net_header[0] >> 4 != 6:
                return False
            total = 40 + load16(net_header + 4)
        if original < network + total:
            # The packet itself is shorter than it says: as it came, it would be dropped at the first host.
            if original <= length:
                total = length - network
        if network + total > length:
            if total > 65575 or not packet_store(p, total + 320):
                return False
            p.mac = p.net = p.head + 256
            memcpy(p.net, net_header, length - network)
            memset(p.net + (length - network), 0, total - (length - network))
            p.tail = p.net + total
            p.missing = network + total - length
        else:
            p.head = start - 128
            p.mac = p.net = net_header
            p.tail = net_header + total
            p.end = start + length + 64
        p.time = rows.time[i] if rows.time[i] > net.now else net.now
        packet_read(p)
        return True

    # ---- results ---------------------------------------------------------------------------------------------------

    @property
    def waiting(self):
        """Injected packets that a host still keeps: for a neighbour, or for the rest of a datagram in fragments."""
        return self.waits.count - self.waits.settled

    @property
    def dropped(self):
        """Injected packets that were dropped, by Reason."""
        return {ReasonName(i): self.dropped_by[i] for i in range(<int>REASON_COUNT) if self.dropped_by[i]}

    @property
    def left_out(self):
        """Packets that nobody sent, by LeftOut."""
        return {LeftOut(i): self.left_by[i] for i in range(1, <int>LEFT_COUNT) if self.left_by[i]}

    def __len__(self):
        return self.flow_count

    cdef list holes_of(self, const Flow *f):
        cdef list found = []
        cdef int64_t at = f.first_hole
        cdef const Hole *hole
        while at:
            hole = &self.holes[at - 1]
            if hole.lost:
                found.append((hole.side, hole.first, hole.last, hole.until, hole.lost, hole.reason))
            at = hole.next
        return found

    def rows(self):
        """The conversations, in order of their first packets: a dict of equally long lists and arrays.

        Addresses are `ipaddress` objects; counters have a column each for requests and replies; times ns. holes: where
        `watching`, (0 requests or 1 replies, time of the first and the last packet that was lost, of the next one that
        arrived or 0, how many were lost, Reason of the first).
        """
        cdef int64_t i, n = self.flow_count
        cdef Flow *f
        result = {
            name: []
            for name in (
                "protocol", "family", "client", "client_port", "server", "server_port", "recorded_client",
                "recorded_server", "recorded_server_port", "client_host", "server_host", "endpoint", "endpoint_port",
                "seen_client", "seen_client_port", "requests", "replies", "request_bytes", "reply_bytes",
                "requests_delivered", "replies_delivered", "requests_dropped", "replies_dropped", "exact", "moved",
                "first", "last", "reason", "verdict", "left_out", "moved_at", "reset_at", "first_endpoint", "first_host",
                "holes",
            )
        }
        for i in range(n):
            f = &self.flows[i]
            result["protocol"].append(f.proto)
            result["family"].append(f.family)
            result["client"].append(words_address(f.client, f.family))
            result["client_port"].append(f.client_port)
            result["server"].append(words_address(f.server, f.family))
            result["server_port"].append(f.server_port)
            result["recorded_client"].append(words_address(f.src, f.family))
            result["recorded_server"].append(words_address(f.dst, f.family))
            result["recorded_server_port"].append(f.dport)
            result["client_host"].append(f.client_host)
            result["server_host"].append(f.server_host)
            result["endpoint"].append(words_address(f.seen_dst, f.family) if f.server_host >= 0 else None)
            result["endpoint_port"].append(f.seen_dport)
            result["seen_client"].append(words_address(f.seen_src, f.family) if f.server_host >= 0 else None)
            result["seen_client_port"].append(f.seen_sport)
            result["requests"].append(f.packets[0])
            result["replies"].append(f.packets[1])
            result["request_bytes"].append(f.bytes[0])
            result["reply_bytes"].append(f.bytes[1])
            result["requests_delivered"].append(f.delivered[0])
            result["replies_delivered"].append(f.delivered[1])
            result["requests_dropped"].append(f.dropped[0])
            result["replies_dropped"].append(f.dropped[1])
            result["exact"].append(f.exact)
            result["moved"].append(f.moved)
            result["first"].append(f.first)
            result["last"].append(f.last)
            result["reason"].append(f.reason)
            result["verdict"].append(f.verdict)
            result["left_out"].append(f.left)
            result["moved_at"].append(f.moved_at)
            result["reset_at"].append(f.reset_at)
            result["first_endpoint"].append(words_address(f.first_dst, f.family) if f.server_host >= 0 else None)
            result["first_host"].append(f.first_host)
            result["holes"].append(self.holes_of(f))
        return result
