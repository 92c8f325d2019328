"""Routes: tables with longest prefix match, policy rules, address types, source address selection.

Sources: net/ipv4/fib_trie.c, fib_rules.c, fib_frontend.c, devinet.c; net/ipv6/route.c, addrconf.c; RFC 6724.
A table is one hash of prefixes with the list of lengths in use, longest first: hosts have many prefixes and few lengths.
"""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from dataplane._fast.interface cimport Interface, LocalAddress
from dataplane._fast.multipath cimport flow_ports, multipath_hash
from dataplane._fast.packet cimport FIELD_L4PROTO, FIELD_PROTO, Packet
from dataplane._fast.wire cimport load16

cpdef enum RouteType:
    """RTN_ numbers of the kernel."""
    ROUTE_UNSPEC = 0
    ROUTE_UNICAST = 1
    ROUTE_LOCAL = 2
    ROUTE_BROADCAST = 3
    ROUTE_ANYCAST = 4
    ROUTE_MULTICAST = 5
    ROUTE_BLACKHOLE = 6
    ROUTE_UNREACHABLE = 7
    ROUTE_PROHIBIT = 8
    ROUTE_THROW = 9

cdef enum:
    TABLE_LOCAL = 255
    TABLE_MAIN = 254
    RT_SCOPE_UNIVERSE = 0
    RT_SCOPE_LINK = 253
    RT_SCOPE_HOST = 254

cdef struct NextHop:
    uint32_t gateway[4]
    int32_t slot
    uint32_t weight
    uint8_t gateway_family  # 0: on link
    uint8_t onlink

cdef struct Route:
    uint32_t prefix[4]
    uint32_t prefsrc[4]
    uint32_t table
    uint32_t metric
    uint32_t mtu            # 0: the device's
    int32_t first_hop
    int32_t hop_count
    int32_t next            # same prefix, tried after this one; -1
    uint8_t family
    uint8_t length
    uint8_t type
    uint8_t scope
    uint8_t tos
    uint8_t has_prefsrc

cdef struct Lengths:
    # The prefix lengths in use in one table of one family, longest first.
    uint32_t table
    uint8_t family
    uint8_t count
    uint8_t lengths[129]

cdef struct PolicyRule:
    uint32_t source[4]
    uint32_t destination[4]
    uint32_t mark
    uint32_t mask
    uint32_t table
    int32_t iif             # slot; -1 any; -2 an interface that is not there
    int32_t oif
    uint8_t family
    uint8_t source_length
    uint8_t destination_length
    uint8_t action          # RouteType: ROUTE_UNICAST looks up the table, ROUTE_UNSPEC goes on at `following`
    int32_t following       # index of the rule to go on with; ROUTE_UNSPEC only
    int16_t suppressed      # routes of prefixes up to this length do not count; -1
    uint8_t proto           # 0: any
    uint16_t sport_low
    uint16_t sport_high
    uint16_t dport_low
    uint16_t dport_high
    uint8_t invert
    uint8_t tos
    uint8_t local_in        # iif lo: packets that the host itself makes

cdef struct PathMtu:
    # An exception to a route; see pmtu.pxd.
    uint32_t address[4]
    int64_t expires         # ns
    uint32_t mtu            # 0: a free place
    int32_t route           # index of the route that it is an exception to
    uint8_t family
    uint8_t locked          # it binds what is forwarded, too

cdef struct Fib:
    Route *routes
    int32_t route_count
    int32_t route_room
    NextHop *hops
    int32_t hop_count
    int32_t hop_room
    int32_t *buckets        # first route of a prefix; open addressing
    uint32_t bucket_mask
    Lengths *lengths
    int32_t lengths_count
    PolicyRule *rules
    int32_t rule_count
    uint8_t custom_rules    # any rule beyond local, main, default
    LocalAddress *addresses
    int32_t address_count
    int32_t *address_buckets    # first address of a hash; kube-ipvs0 has one for every Service
    uint32_t address_mask
    int32_t *slot_addresses     # first address of an interface, in the kernel's order; -1
    int32_t slot_count
    Interface *interfaces   # of the host, not owned
    int32_t interface_count
    uint32_t seed           # net.ipv4.fib_multipath_hash_seed, or the host's own
    uint8_t hash_policy4    # net.ipv4.fib_multipath_hash_policy: 0 addresses, 1 ports too, 2 the inner addresses
    uint8_t hash_policy6
    PathMtu *path_mtus      # NULL until the first one is learnt

cdef struct FlowKey:
    const Packet *packet    # whose ports and protocol count; NULL for a question about addresses alone
    bint reversed           # the way back of `packet`: its ports change places
    uint8_t proto           # of a question without a packet
    uint32_t src[4]
    uint32_t dst[4]
    uint32_t mark
    int32_t iif             # slot; -1 for a packet that the host makes
    int32_t oif             # slot that the answer must use; -1 any
    uint8_t family
    uint8_t tos

cdef struct FibResult:
    const Route *route
    const NextHop *hop      # NULL for types without one
    uint8_t type


cdef inline uint32_t prefix_mask(int length) noexcept nogil:
    if length <= 0:
        return 0
    if length >= 32:
        return 0xFFFFFFFFU
    return <uint32_t>(0xFFFFFFFFU << (32 - length))


cdef inline void prefix_cut(uint32_t *out, const uint32_t *address, uint8_t family, int length) noexcept nogil:
    """`address` with everything after `length` bits cleared."""
    cdef int word
    if family == 4:
        out[0] = address[0] & prefix_mask(length)
        out[1] = out[2] = out[3] = 0
        return
    for word in range(4):
        out[word] = address[word] & prefix_mask(length - 32 * word)


cdef inline bint prefix_covers(
    const uint32_t *prefix, const uint32_t *address, uint8_t family, int length,
) noexcept nogil:
    cdef int word
    if family == 4:
        return (prefix[0] ^ address[0]) & prefix_mask(length) == 0
    for word in range(4):
        if (prefix[word] ^ address[word]) & prefix_mask(length - 32 * word):
            return False
    return True


cdef inline bint same_address(const uint32_t *a, const uint32_t *b) noexcept nogil:
    return ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3])) == 0


cdef inline uint32_t fib_hash(const uint32_t *prefix, uint32_t table, uint8_t family, uint8_t length) noexcept nogil:
    cdef uint64_t h = prefix[0] ^ (<uint64_t>prefix[1] << 32)
    h = (h ^ (<uint64_t>table << 16) ^ (<uint64_t>family << 8) ^ length) * 0x9E3779B97F4A7C15ULL
    h ^= prefix[2] ^ (<uint64_t>prefix[3] << 32)
    h *= 0xC2B2AE3D27D4EB4FULL
    return <uint32_t>(h >> 32)


cdef inline bint same_prefix(
    const Route *r, const uint32_t *prefix, uint32_t table, uint8_t family, uint8_t length,
) noexcept nogil:
    return (r.length == length and r.table == table and r.family == family and same_address(r.prefix, prefix))


cdef inline int32_t fib_find(
    const Fib *fib, const uint32_t *prefix, uint32_t table, uint8_t family, uint8_t length,
) noexcept nogil:
    """The first route of exactly this prefix, or -1."""
    cdef uint32_t at
    cdef int32_t index
    if fib.buckets == NULL:
        return -1
    at = fib_hash(prefix, table, family, length) & fib.bucket_mask
    while True:
        index = fib.buckets[at]
        if index < 0 or same_prefix(&fib.routes[index], prefix, table, family, length):
            return index
        at = (at + 1) & fib.bucket_mask


cdef inline uint32_t address_hash(uint8_t family, const uint32_t *address) noexcept nogil:
    cdef uint64_t h = family
    cdef int i
    for i in range(4):
        h = (h ^ address[i]) * 0x9E3779B97F4A7C15ULL
        h ^= h >> 29
    return <uint32_t>(h >> 24)


cdef inline bint fib_index_addresses(Fib *fib) noexcept nogil:
    """Find addresses by themselves and by interface from now on; False when memory is out."""
    cdef uint32_t size = 16, row
    cdef int32_t i
    cdef LocalAddress *local
    free(fib.address_buckets)
    free(fib.slot_addresses)
    while size < <uint32_t>fib.address_count * 2:
        size *= 2
    fib.address_mask = size - 1
    fib.slot_count = fib.interface_count
    fib.address_buckets = <int32_t *>malloc(size * sizeof(int32_t))
    fib.slot_addresses = <int32_t *>malloc((fib.slot_count + 1) * sizeof(int32_t))
    if fib.address_buckets == NULL or fib.slot_addresses == NULL:
        return False
    memset(fib.address_buckets, 0xFF, size * sizeof(int32_t))
    memset(fib.slot_addresses, 0xFF, (fib.slot_count + 1) * sizeof(int32_t))
    for i in range(fib.address_count - 1, -1, -1):      # the first comes to stand first
        local = &fib.addresses[i]
        row = address_hash(local.family, local.address) & fib.address_mask
        local.same_bucket = fib.address_buckets[row]
        fib.address_buckets[row] = i
        local.same_slot = -1
        if 0 <= local.slot < fib.slot_count:
            local.same_slot = fib.slot_addresses[local.slot]
            fib.slot_addresses[local.slot] = i
    return True


cdef inline bint select_source4(
    const Fib *fib, int32_t slot, const uint32_t *towards, uint8_t scope, uint32_t *out,
) noexcept nogil:
    """inet_select_addr: the primary address of `slot` whose subnet holds `towards`, else its first, else another's."""
    cdef int32_t i
    cdef const LocalAddress *local
    cdef const LocalAddress *first = NULL
    i = fib.slot_addresses[slot] if 0 <= slot < fib.slot_count else -1
    while i >= 0:
        local = &fib.addresses[i]
        i = local.same_slot
        if local.family != 4 or local.secondary or local.scope > scope:
            continue
        if towards == NULL or towards[0] == 0 or prefix_covers(local.address, towards, 4, local.prefix_length):
            memcpy(out, local.address, 16)
            return True
        if first == NULL:
            first = local
    if first == NULL:
        for i in range(fib.address_count):
            local = &fib.addresses[i]
            if local.family == 4 and not local.secondary and local.scope != RT_SCOPE_LINK and local.scope <= scope:
                first = local
                break
    if first == NULL:
        return False
    memcpy(out, first.address, 16)
    return True


cdef inline bint hop_source(const Fib *fib, const Route *route, const NextHop *hop, uint32_t *out) noexcept nogil:
    """The IPv4 source that one next hop suggests (fib_info_update_nhc_saddr)."""
    if route == NULL:
        return select_source4(fib, hop.slot, NULL, RT_SCOPE_LINK, out)
    if route.has_prefsrc:
        memcpy(out, route.prefsrc, 16)
        return True
    if hop.gateway_family == 4:
        return select_source4(fib, hop.slot, hop.gateway, route.scope, out)
    return select_source4(fib, hop.slot, NULL, route.scope, out)


cdef inline bint hop_usable(const Fib *fib, const Route *route, const NextHop *hop, const FlowKey *key) noexcept nogil:
    # An address of the host answers by every other interface while its own is down.
    if hop.slot >= 0 and not fib.interfaces[hop.slot].up and route.type != ROUTE_LOCAL:
        return False
    return key.oif < 0 or hop.slot == key.oif


cdef inline const NextHop *route_hop(const Fib *fib, const Route *route, const FlowKey *key) noexcept nogil:
    """One next hop that is up; of several the one that the flow's hash falls to (fib_select_multipath)."""
    cdef int32_t i
    cdef const NextHop *hop
    cdef const NextHop *best = NULL
    cdef uint64_t total = 0, share = 0, point = 0
    cdef uint32_t own[4]
    cdef int score, best_score = -1
    cdef bint from_here
    if route.hop_count == 1:
        hop = &fib.hops[route.first_hop]
        return hop if hop_usable(fib, route, hop, key) else NULL
    for i in range(route.hop_count):
        hop = &fib.hops[route.first_hop + i]
        if hop_usable(fib, route, hop, key):
            if key.oif >= 0:
                return hop
            total += hop.weight
    if total == 0:
        return NULL
    point = multipath_hash(
        key.packet, key.family, key.src, key.dst, key.proto,
        fib.hash_policy4 if key.family == 4 else fib.hash_policy6, fib.seed,
    )
    # A host that has chosen its source prefers the hop whose device bears it.
    from_here = key.family == 4 and key.iif < 0 and key.src[0] != 0
    for i in range(route.hop_count):
        hop = &fib.hops[route.first_hop + i]
        if not hop_usable(fib, route, hop, key):
            continue
        share += hop.weight
        score = point < ((share << 31) + total // 2) // total
        if from_here and hop_source(fib, route, hop, own) and own[0] == key.src[0]:
            score += 2
        if score > best_score:
            best = hop
            best_score = score
            if score == 3 or (not from_here and score == 1):
                break
    return best


cdef inline bint table_lookup(const Fib *fib, uint32_t table, const FlowKey *key, FibResult *result) noexcept nogil:
    """Longest prefix match in one table; False when nothing matches."""
    cdef int32_t i, at, index
    cdef uint32_t prefix[4]
    cdef const Lengths *lengths
    cdef const Route *route
    cdef const NextHop *hop
    for i in range(fib.lengths_count):
        lengths = &fib.lengths[i]
        if lengths.table != table or lengths.family != key.family:
            continue
        for at in range(lengths.count):
            prefix_cut(prefix, key.dst, key.family, lengths.lengths[at])
            index = fib_find(fib, prefix, table, key.family, lengths.lengths[at])
            while index >= 0:
                route = &fib.routes[index]
                index = route.next
                if route.tos and route.tos != key.tos:
                    continue
                if route.hop_count:
                    hop = route_hop(fib, route, key)
                    if hop == NULL:
                        continue
                else:
                    hop = NULL
                    if key.oif >= 0 and route.type == ROUTE_UNICAST:
                        continue
                result.route = route
                result.hop = hop
                result.type = route.type
                return True
        return False
    return False


cdef inline bint transport_matches(const PolicyRule *rule, const FlowKey *key) noexcept nogil:
    cdef const uint8_t *ports
    cdef uint32_t sport = 0, dport = 0, proto
    if key.packet == NULL:
        return False
    # Who takes a flow apart stops at an authentication header (skb_flow_dissect).
    proto = key.packet.field[<int>FIELD_L4PROTO]
    ports = flow_ports(key.packet) if proto == key.packet.field[<int>FIELD_PROTO] else NULL
    if ports != NULL:
        sport = load16(ports + 2 if key.reversed else ports)
        dport = load16(ports if key.reversed else ports + 2)
    return (
        (rule.proto == 0 or rule.proto == proto)
        and (rule.sport_high == 0 or rule.sport_low <= sport <= rule.sport_high)
        and (rule.dport_high == 0 or rule.dport_low <= dport <= rule.dport_high)
    )


cdef inline bint rule_matches(const PolicyRule *rule, const FlowKey *key) noexcept nogil:
    cdef bint match = (
        ((rule.iif == -1 and not rule.local_in) or (rule.local_in and key.iif < 0) or (rule.iif >= 0 and rule.iif == key.iif))
        and (rule.oif == -1 or rule.oif == key.oif)
        and (key.mark & rule.mask) == rule.mark
        and (rule.source_length == 0 or prefix_covers(rule.source, key.src, key.family, rule.source_length))
        and (rule.destination_length == 0
             or prefix_covers(rule.destination, key.dst, key.family, rule.destination_length))
        and (rule.tos == 0 or rule.tos == key.tos)
        and (rule.proto == 0 and rule.sport_high == 0 and rule.dport_high == 0 or transport_matches(rule, key))
    )
    return match != rule.invert


cdef inline bint fib_lookup(const Fib *fib, const FlowKey *key, FibResult *result) noexcept nogil:
    """The routing decision for `key`; False when no rule and table gives one (ENETUNREACH)."""
    cdef int32_t i
    cdef const PolicyRule *rule
    cdef FibResult longer
    result.route = NULL
    result.hop = NULL
    if not fib.custom_rules:
        if not table_lookup(fib, TABLE_LOCAL, key, result):
            return table_lookup(fib, TABLE_MAIN, key, result)
        if key.family == 4 and result.route.length < 32:
            # IPv4 keeps both tables in one trie until a rule asks for them one by one (fib_unmerge).
            if table_lookup(fib, TABLE_MAIN, key, &longer) and longer.route.length > result.route.length:
                result[0] = longer
        return True
    i = -1
    while i + 1 < fib.rule_count:
        i += 1
        rule = &fib.rules[i]
        if rule.family != key.family or not rule_matches(rule, key):
            continue
        if rule.action == ROUTE_UNSPEC:
            i = rule.following - 1
            continue
        if rule.action != ROUTE_UNICAST:
            result.type = rule.action
            return True
        if table_lookup(fib, rule.table, key, result):
            if result.type != ROUTE_THROW and (rule.suppressed < 0 or result.route.length > rule.suppressed):
                return True
            result.route = NULL
            result.hop = NULL
    return False


cdef inline int32_t address_slot(const Fib *fib, uint8_t family, const uint32_t *address) noexcept nogil:
    """The slot that has a host address, or -1 (__ip_dev_find)."""
    cdef int32_t i
    if fib.address_buckets == NULL:
        return -1
    i = fib.address_buckets[address_hash(family, address) & fib.address_mask]
    while i >= 0:
        if fib.addresses[i].family == family and same_address(fib.addresses[i].address, address):
            return fib.addresses[i].slot
        i = fib.addresses[i].same_bucket
    return -1


cdef inline bint address_on(const Fib *fib, uint8_t family, const uint32_t *address, int32_t slot) noexcept nogil:
    """Whether a host address is configured, on `slot` or, with -1, anywhere."""
    cdef int32_t i
    cdef const LocalAddress *local
    if fib.address_buckets == NULL:
        return False
    i = fib.address_buckets[address_hash(family, address) & fib.address_mask]
    while i >= 0:
        local = &fib.addresses[i]
        if local.family == family and (slot < 0 or local.slot == slot) and same_address(local.address, address):
            return True
        i = local.same_bucket
    return False


cdef inline uint8_t fib_address_type(
    const Fib *fib, uint8_t family, const uint32_t *address, int32_t slot,
) noexcept nogil:
    """RouteType of an address as the local table has it (inet_addr_type); `slot` >= 0 limits it to one device."""
    cdef FlowKey key
    cdef FibResult result
    if family == 4:
        if address[0] == 0 or address[0] == 0xFFFFFFFFU:
            return ROUTE_BROADCAST
        if address[0] >> 28 == 14:
            return ROUTE_MULTICAST
    elif address[0] >> 24 == 0xFF:
        return ROUTE_MULTICAST
    memset(&key, 0, sizeof(key))
    memcpy(key.dst, address, 16)
    key.family = family
    key.iif = -1
    key.oif = -1
    if table_lookup(fib, TABLE_LOCAL, &key, &result):
        if slot < 0 or (result.hop != NULL and result.hop.slot == slot):
            return result.type
    elif not fib.custom_rules and table_lookup(fib, TABLE_MAIN, &key, &result):
        # A local route in another table (AnyIP) makes an address local for delivery, not for its type in IPv4.
        if family == 6 and slot < 0:
            return result.type
    return ROUTE_UNICAST


cdef inline int scope6(const uint32_t *address) noexcept nogil:
    """RFC 6724 scopes that matter here: 1 host, 2 link, 14 global."""
    if address[0] >> 22 == 0xFE80U >> 6:
        return 2
    if address[0] == 0 and address[1] == 0 and address[2] == 0 and address[3] <= 1:
        return 2 if address[3] else 0   # :: has none
    if address[0] >> 24 == 0xFF:
        return (address[0] >> 16) & 15
    return 14


cdef inline int common_bits(const uint32_t *a, const uint32_t *b, int limit) noexcept nogil:
    cdef int bits = 0, word
    cdef uint32_t difference
    for word in range(4):
        difference = a[word] ^ b[word]
        if difference == 0:
            bits += 32
            continue
        while not difference & 0x80000000U:
            difference <<= 1
            bits += 1
        break
    return bits if bits < limit else limit


cdef inline bint select_source6(const Fib *fib, int32_t slot, const uint32_t *towards, uint32_t *out) noexcept nogil:
    """ipv6_dev_get_saddr by the rules of RFC 6724 section 5 that a host without temporary or mobile addresses needs."""
    cdef int32_t i
    cdef const LocalAddress *local
    cdef const LocalAddress *best = NULL
    cdef int wanted = scope6(towards), scope, best_scope, score, best_score = -1
    cdef bint better
    for i in range(fib.address_count):
        local = &fib.addresses[i]
        if local.family != 6:
            continue
        if same_address(local.address, towards):
            best = local
            break
        if fib.interfaces[local.slot].kind == 1 and local.slot != slot:     # ::1 serves the loopback alone
            continue
        scope = scope6(local.address)
        if wanted <= 2 and local.slot != slot:
            continue
        score = 1000 if local.slot == slot else 0
        score += common_bits(local.address, towards, local.prefix_length)
        if best == NULL:
            better = True
        else:
            best_scope = scope6(best.address)
            if scope != best_scope:
                better = (best_scope < wanted) if scope > best_scope else (scope >= wanted)
            elif local.deprecated != best.deprecated:
                better = not local.deprecated
            else:
                better = score > best_score
        if better:
            best = local
            best_score = score
    if best == NULL:
        return False
    memcpy(out, best.address, 16)
    return True


cdef inline bint fib_select_source(
    const Fib *fib, uint8_t family, int32_t slot, const uint32_t *towards, uint32_t *out,
) noexcept nogil:
    """The source address a host gives to a packet that leaves by `slot` towards `towards` (MASQUERADE, ICMP, ARP)."""
    if family == 4:
        return select_source4(fib, slot, towards, RT_SCOPE_UNIVERSE, out)
    return select_source6(fib, slot, towards, out)


cdef inline bint link_local_of(const Fib *fib, int32_t slot, uint32_t *out) noexcept nogil:
    """The link-local IPv6 address of an interface (ipv6_get_lladdr)."""
    cdef int32_t i
    for i in range(fib.address_count):
        if (fib.addresses[i].family == 6 and fib.addresses[i].slot == slot
                and fib.addresses[i].address[0] >> 22 == 0xFE80U >> 6):
            memcpy(out, fib.addresses[i].address, 16)
            return True
    return False


cdef inline bint route_source(
    const Fib *fib, const FlowKey *key, const FibResult *result, uint32_t *out,
) noexcept nogil:
    """The source address that an output route suggests: its own, else one of its device."""
    if result.route != NULL and result.route.has_prefsrc:
        memcpy(out, result.route.prefsrc, 16)
        return True
    if result.type == ROUTE_LOCAL:
        memcpy(out, key.dst, 16)
        return True
    if result.hop == NULL:
        return False
    if key.family == 4:
        return hop_source(fib, result.route, result.hop, out)
    return select_source6(fib, result.hop.slot, key.dst, out)


cdef inline bint fib_lookup_by(const Fib *fib, FlowKey *key, int32_t slot, FibResult *result) noexcept nogil:
    """An IPv6 lookup with the interface as a wish: it chooses among routes of one prefix, but goes past none to a shorter
    one (rt6_score_route without RT6_LOOKUP_F_IFACE). `key.oif` must be -1."""
    cdef FibResult wished
    if not fib_lookup(fib, key, result):
        return False
    key.oif = slot
    if (fib_lookup(fib, key, &wished) and wished.route != NULL and result.route != NULL
            and wished.route.table == result.route.table and wished.route.length == result.route.length
            and wished.route.metric == result.route.metric):
        result[0] = wished
    key.oif = -1
    return True


# Building: once per host, before the first packet. -1: no memory.

cdef inline int fib_add_hop(Fib *fib, const NextHop *hop) noexcept nogil:
    cdef NextHop *grown
    if fib.hop_count == fib.hop_room:
        grown = <NextHop *>realloc(fib.hops, (2 * fib.hop_room + 8) * sizeof(NextHop))
        if grown == NULL:
            return -1
        fib.hops = grown
        fib.hop_room = 2 * fib.hop_room + 8
    fib.hops[fib.hop_count] = hop[0]
    fib.hop_count += 1
    return 0


cdef inline int fib_add_route(Fib *fib, const Route *route) noexcept nogil:
    """Routes of one prefix must be added in the order in which they are to be tried (TOS, then metric)."""
    cdef Route *grown
    if fib.route_count == fib.route_room:
        grown = <Route *>realloc(fib.routes, (2 * fib.route_room + 16) * sizeof(Route))
        if grown == NULL:
            return -1
        fib.routes = grown
        fib.route_room = 2 * fib.route_room + 16
    fib.routes[fib.route_count] = route[0]
    fib.routes[fib.route_count].next = -1
    fib.route_count += 1
    return 0


cdef inline void lengths_insert(Lengths *lengths, uint8_t length) noexcept nogil:
    cdef int at = 0, move
    while at < lengths.count and lengths.lengths[at] > length:
        at += 1
    if at < lengths.count and lengths.lengths[at] == length:
        return
    move = lengths.count
    while move > at:
        lengths.lengths[move] = lengths.lengths[move - 1]
        move -= 1
    lengths.lengths[at] = length
    lengths.count += 1


cdef inline int fib_index(Fib *fib) noexcept nogil:
    """Build the hash and the lists of lengths; call once after the last route."""
    cdef uint32_t size = 16, at
    cdef int32_t i, j, last
    cdef Route *route
    cdef Lengths *grown
    while size < 2 * <uint32_t>fib.route_count:
        size *= 2
    free(fib.buckets)
    fib.buckets = <int32_t *>calloc(size, sizeof(int32_t))
    if fib.buckets == NULL:
        return -1
    memset(fib.buckets, 0xFF, size * sizeof(int32_t))
    fib.bucket_mask = size - 1
    fib.lengths_count = 0
    for i in range(fib.route_count):
        route = &fib.routes[i]
        last = fib_find(fib, route.prefix, route.table, route.family, route.length)
        if last >= 0:
            while fib.routes[last].next >= 0:
                last = fib.routes[last].next
            fib.routes[last].next = i
            continue
        at = fib_hash(route.prefix, route.table, route.family, route.length) & fib.bucket_mask
        while fib.buckets[at] >= 0:
            at = (at + 1) & fib.bucket_mask
        fib.buckets[at] = i
        for j in range(fib.lengths_count):
            if fib.lengths[j].table == route.table and fib.lengths[j].family == route.family:
                break
        else:
            j = fib.lengths_count
            grown = <Lengths *>realloc(fib.lengths, (j + 1) * sizeof(Lengths))
            if grown == NULL:
                return -1
            fib.lengths = grown
            memset(&fib.lengths[j], 0, sizeof(Lengths))
            fib.lengths[j].table = route.table
            fib.lengths[j].family = route.family
            fib.lengths_count += 1
        lengths_insert(&fib.lengths[j], route.length)
    return 0


cdef inline void fib_free(Fib *fib) noexcept nogil:
    free(fib.routes)
    free(fib.path_mtus)
    free(fib.hops)
    free(fib.buckets)
    free(fib.lengths)
    free(fib.rules)
    free(fib.addresses)
    free(fib.address_buckets)
    free(fib.slot_addresses)
    memset(fib, 0, sizeof(Fib))
