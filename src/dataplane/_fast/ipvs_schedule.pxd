"""Which server of a service a new connection gets (net/netfilter/ipvs/ip_vs_rr.c and its neighbours).

Servers are a list with the newest first. A server of weight 0, or one that is overloaded, gets nothing new.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from dataplane._fast.chance cimport CHOICE_OTHER, Chance, chance_draw
from dataplane._fast.ipvs cimport (
    HASH_SLOTS, IPVS_FALLBACK, IPVS_PORT, LOCALITY_LIMIT, LOCALITY_SLOTS, Locality, MAGLEV_BITS, MAGLEV_SLOTS, SCHEDULER_DH,
    SCHEDULER_FO, SCHEDULER_LBLC, SCHEDULER_LBLCR, SCHEDULER_LC, SCHEDULER_MH, SCHEDULER_NQ, SCHEDULER_OVF, SCHEDULER_RR,
    SCHEDULER_SED, SCHEDULER_SH, SCHEDULER_TWOS, SCHEDULER_WLC, SCHEDULER_WRR, Ipvs, Server, Service,
)


cdef inline bint usable(const Server *s) noexcept nogil:
    return s.weight > 0 and not s.overloaded


cdef inline int64_t load_of(const Server *s) noexcept nogil:
    """ip_vs_dest_conn_overhead."""
    return (<int64_t>s.active << 8) + s.inactive


cdef inline uint32_t folded(uint8_t family, const uint32_t *address) noexcept nogil:
    return address[0] if family == 4 else address[0] ^ address[1] ^ address[2] ^ address[3]


cdef inline uint32_t hash_32(uint32_t value, int bits) noexcept nogil:
    return (value * 0x61C88647U) >> (32 - bits)


cdef inline int32_t divisor_of(const Service *service, bint last) noexcept nogil:
    """The greatest common divisor of the weights that are not 0; of none, 0. last: weights before they became 0."""
    cdef const Server *s = service.servers
    cdef int32_t g = 0, w, r
    while s != NULL:
        w = s.last_weight if last else s.weight
        if w > 0:
            while w:
                r = g % w
                g = w
                w = r
        s = s.next
    return g


# ---- in turn -------------------------------------------------------------------------------------------------------

cdef inline Server *schedule_rr(Service *service) noexcept nogil:
    cdef Server *s = service.last.next if service.last != NULL else service.servers
    while s != NULL:
        if usable(s):
            service.last = s
            return s
        s = s.next
    if service.last == NULL:
        return NULL
    s = service.servers
    while s != NULL:
        if usable(s):
            service.last = s
            return s
        if s == service.last:
            break
        s = s.next
    return NULL


cdef inline Server *schedule_wrr(Service *service) noexcept nogil:
    """A pass goes over the list at one weight, from the highest down in steps of the divisor."""
    cdef Server *began = service.last
    cdef Server *stop = NULL
    cdef Server *s
    cdef bint last_pass = False, restarted = False
    if service.max_weight == 0:
        return NULL
    s = began
    while True:
        s = s.next if s != NULL else service.servers
        while s != NULL:
            if not s.overloaded and s.weight >= service.current_weight:
                service.last = s
                return s
            if s == stop:
                service.last = s
                return NULL
            s = s.next
        service.current_weight -= service.divisor
        if service.current_weight <= 0:
            service.current_weight = service.max_weight
            # Every server was asked whether it weighs anything.
            if last_pass or began == NULL:
                service.last = NULL
                return NULL
            restarted = True
        last_pass = service.current_weight <= service.divisor
        if last_pass and restarted and began != NULL:
            # The first pass at this weight had only those behind the beginning; now those up to it.
            stop = began


# ---- by load -------------------------------------------------------------------------------------------------------

cdef inline Server *schedule_lc(Service *service) noexcept nogil:
    cdef Server *s = service.servers
    cdef Server *least = NULL
    while s != NULL:
        if usable(s) and (least == NULL or load_of(s) < load_of(least)):
            least = s
        s = s.next
    return least


cdef inline Server *schedule_wlc(Service *service) noexcept nogil:
    cdef Server *s = service.servers
    cdef Server *least = NULL
    while s != NULL:
        if usable(s) and (least == NULL or load_of(least) * s.weight > load_of(s) * least.weight):
            least = s
        s = s.next
    return least


cdef inline Server *schedule_sed(Service *service, bint idle_first) noexcept nogil:
    """Shortest expected delay; with `idle_first`, never queue: a server without active connections wins at once."""
    cdef Server *s = service.servers
    cdef Server *least = NULL
    while s != NULL:
        if usable(s):
            if idle_first and s.active == 0:
                return s
            if least == NULL or <int64_t>(least.active + 1) * s.weight > <int64_t>(s.active + 1) * least.weight:
                least = s
        s = s.next
    return least


cdef inline Server *schedule_fo(Service *service, bint overflow) noexcept nogil:
    """Weighted failover: the heaviest; with `overflow`, the heaviest that has not more active connections than it weighs."""
    cdef Server *s = service.servers
    cdef Server *best = NULL
    while s != NULL:
        if usable(s) and not (overflow and s.active > s.weight) and (best == NULL or s.weight > best.weight):
            best = s
        s = s.next
    return best


cdef inline Server *schedule_twos(Service *service, Chance *chance) noexcept nogil:
    """Two draws by weight; the less loaded of the two."""
    cdef Server *s = service.servers
    cdef Server *one = NULL
    cdef Server *two = NULL
    cdef Server *last = NULL
    cdef int64_t total = 0, first, second
    while s != NULL:
        if usable(s):
            total += s.weight
            last = s
        s = s.next
    if last == NULL:
        return NULL
    first = chance_draw(chance, CHOICE_OTHER) % <uint64_t>(total + 1)
    second = chance_draw(chance, CHOICE_OTHER) % <uint64_t>(total + 1)
    s = service.servers
    while s != NULL and (one == NULL or two == NULL):
        if usable(s):
            first -= s.weight
            second -= s.weight
            if first <= 0 and one == NULL:
                one = s
            if second <= 0 and two == NULL:
                two = s
        s = s.next
    if one == NULL:
        one = last
    if two != NULL and two.weight * load_of(one) > one.weight * load_of(two):
        return two
    return one


# ---- by hash -------------------------------------------------------------------------------------------------------

cdef inline Server *schedule_dh(Service *service, const uint32_t *destination) noexcept nogil:
    cdef Server *s = service.slots[hash_32(folded(service.family, destination), 8)]
    return s if s != NULL and usable(s) else NULL


cdef inline Server *schedule_sh(Service *service, const uint32_t *client, uint16_t port) noexcept nogil:
    cdef uint32_t value = folded(service.family, client), start, offset
    cdef uint32_t own_port = port if service.flags & IPVS_PORT else 0
    cdef Server *s
    start = hash_32(own_port + value, 8)
    s = service.slots[start]
    if s == NULL:
        return NULL
    if usable(s):
        return s
    if not service.flags & IPVS_FALLBACK:
        return NULL
    for offset in range(HASH_SLOTS):
        s = service.slots[((offset + start) % HASH_SLOTS + start) & 255]
        if usable(s):
            return s
    return NULL


cdef inline uint64_t rol64(uint64_t x, int k) noexcept nogil:
    return (x << k) | (x >> (64 - k))


cdef inline void sip_round(uint64_t *v) noexcept nogil:
    v[0] += v[1]
    v[1] = rol64(v[1], 13) ^ v[0]
    v[0] = rol64(v[0], 32)
    v[2] += v[3]
    v[3] = rol64(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = rol64(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = rol64(v[1], 17) ^ v[2]
    v[2] = rol64(v[2], 32)


cdef inline uint32_t maglev_hash(uint32_t value, uint64_t key) noexcept nogil:
    """hsiphash_1u32 of a 64-bit kernel: SipHash-1-3, both halves of the key alike."""
    cdef uint64_t v[4]
    cdef uint64_t block = <uint64_t>4 << 56 | value
    v[0] = 0x736F6D6570736575ULL ^ key
    v[1] = 0x646F72616E646F6DULL ^ key
    v[2] = 0x6C7967656E657261ULL ^ key
    v[3] = 0x7465646279746573ULL ^ key
    v[3] ^= block
    sip_round(v)
    v[0] ^= block
    v[2] ^= 0xFF
    sip_round(v)
    sip_round(v)
    sip_round(v)
    return <uint32_t>(v[0] ^ v[1] ^ v[2] ^ v[3])


cdef inline uint32_t maglev_slot(const Service *service, const uint32_t *client, uint32_t port, uint32_t offset) noexcept nogil:
    return maglev_hash(offset + port + folded(service.family, client), 2654435761ULL) % MAGLEV_SLOTS


cdef inline Server *schedule_mh(Service *service, const uint32_t *client, uint16_t port) noexcept nogil:
    cdef uint32_t own_port = port if service.flags & IPVS_PORT else 0
    cdef uint32_t start = maglev_slot(service, client, own_port, 0)
    cdef uint32_t offset
    cdef Server *s = service.slots[start]
    if s == NULL:
        return NULL
    if usable(s):
        return s
    if not service.flags & IPVS_FALLBACK:
        return NULL
    for offset in range(MAGLEV_SLOTS):
        s = service.slots[maglev_slot(service, client, own_port, (offset + start) % MAGLEV_SLOTS)]
        if usable(s):
            return s
    return NULL


cdef inline void fill_hash(Service *service, bint weighted) noexcept nogil:
    """Slots go round the servers; with weights, each takes as many in a row as it weighs, and one at least."""
    cdef Server *s = service.servers
    cdef int32_t i, taken = 0
    memset(service.slots, 0, HASH_SLOTS * sizeof(Server *))
    if s == NULL:
        return
    for i in range(HASH_SLOTS):
        if s == NULL:
            s = service.servers
        service.slots[i] = s
        taken += 1
        if not weighted or taken >= s.weight:
            s = s.next
            taken = 0


cdef inline void fill_maglev(Service *service) noexcept nogil:
    cdef Server *s = service.servers
    cdef uint64_t key1 = 2654435761ULL, key2 = 2654446892ULL
    cdef uint32_t *place = NULL
    cdef uint32_t skip, count = 0, filled = 0
    cdef int32_t divisor = divisor_of(service, True), highest = 0, shift = 0, turns, n, i
    memset(service.slots, 0, MAGLEV_SLOTS * sizeof(Server *))
    while s != NULL:
        if s.last_weight > highest:
            highest = s.last_weight
        count += 1
        s = s.next
    if divisor == 0:
        return
    n = highest // divisor
    while n:
        shift += 1
        n >>= 1
    shift = shift - MAGLEV_BITS if shift > MAGLEV_BITS else 0
    place = <uint32_t *>calloc(count, sizeof(uint32_t))
    if place == NULL:
        return
    i = 0
    s = service.servers
    while s != NULL:
        place[i] = maglev_hash(<uint32_t>s.port + folded(s.family, s.address), key1) % MAGLEV_SLOTS
        i += 1
        s = s.next
    while filled < MAGLEV_SLOTS:
        s = service.servers
        i = 0
        while s != NULL and filled < MAGLEV_SLOTS:
            turns = (s.last_weight // divisor) >> shift
            if turns == 0 and s.last_weight:
                turns = 1
            skip = maglev_hash(<uint32_t>s.port + folded(s.family, s.address), key2) % (MAGLEV_SLOTS - 1) + 1
            while turns > 0 and filled < MAGLEV_SLOTS:
                while service.slots[place[i]] != NULL:
                    place[i] = (place[i] + skip) % MAGLEV_SLOTS
                service.slots[place[i]] = s
                filled += 1
                turns -= 1
            s = s.next
            i += 1
    free(place)


# ---- by locality ---------------------------------------------------------------------------------------------------

cdef inline bint crowded(const Service *service, const Server *server) noexcept nogil:
    """More active connections than it weighs, while another has less than half."""
    cdef const Server *s = service.servers
    if server.active <= server.weight:
        return False
    while s != NULL:
        if s.active * 2 < s.weight:
            return True
        s = s.next
    return False


cdef inline void locality_free(Service *service, Locality **at) noexcept nogil:
    cdef Locality *entry = at[0]
    at[0] = entry.next
    free(entry.members)
    free(entry)
    service.locality_count -= 1


cdef inline void localities_clear(Service *service) noexcept nogil:
    cdef int i
    if service.localities == NULL:
        return
    for i in range(LOCALITY_SLOTS):
        while service.localities[i] != NULL:
            locality_free(service, &service.localities[i])


cdef inline Locality *locality_of(Service *service, const uint32_t *address, int64_t now, int64_t lifetime) noexcept nogil:
    """The entry of a destination, made where there is none; NULL when memory is out. What is too old goes."""
    cdef uint32_t slot = hash_32(folded(service.family, address), 10)
    cdef Locality **at
    cdef Locality *entry
    if service.localities == NULL:
        service.localities = <Locality **>calloc(LOCALITY_SLOTS, sizeof(Locality *))
        if service.localities == NULL:
            return NULL
    at = &service.localities[slot]
    while at[0] != NULL:
        if at[0].last_use + lifetime <= now:
            locality_free(service, at)
            continue
        if memcmp(at[0].address, address, 16) == 0:
            return at[0]
        at = &at[0].next
    if service.locality_count >= LOCALITY_LIMIT:
        localities_clear(service)
        at = &service.localities[slot]
    entry = <Locality *>calloc(1, sizeof(Locality))
    if entry == NULL:
        return NULL
    memcpy(entry.address, address, 16)
    entry.last_use = entry.last_change = now
    entry.next = service.localities[slot]
    service.localities[slot] = entry
    service.locality_count += 1
    return entry


cdef inline Server *schedule_lblc(Service *service, const uint32_t *destination, int64_t now, int64_t lifetime) noexcept nogil:
    cdef Locality *entry = locality_of(service, destination, now, lifetime)
    cdef Server *s
    if entry != NULL and entry.server != NULL and entry.server.available and usable(entry.server) and not crowded(service, entry.server):
        entry.last_use = now
        return entry.server
    s = schedule_wlc(service)
    if entry != NULL and s != NULL:
        entry.server = s
        entry.last_use = now
    return s


cdef inline Server *member_of(const Locality *entry, bint most) noexcept nogil:
    """The least loaded member that may be asked, or the most loaded one."""
    cdef Server *best = NULL
    cdef Server *s
    cdef int32_t i
    for i in range(entry.member_count):
        s = entry.members[i]
        if most:
            if s.weight > 0 and (best == NULL or load_of(best) * s.weight < load_of(s) * best.weight):
                best = s
        elif s.available and usable(s) and (best == NULL or load_of(best) * s.weight > load_of(s) * best.weight):
            best = s
    return best


cdef inline void member_drop(Locality *entry, const Server *gone) noexcept nogil:
    cdef int32_t i, kept = 0
    for i in range(entry.member_count):
        if entry.members[i] != gone:
            entry.members[kept] = entry.members[i]
            kept += 1
    entry.member_count = kept


cdef inline bint localities_hold(const Service *service, const Server *s) noexcept nogil:
    """Whether some destination is still sent to a server, if it should come back."""
    cdef int i
    cdef int32_t member
    cdef const Locality *entry
    if service == NULL or service.localities == NULL:
        return False
    for i in range(LOCALITY_SLOTS):
        entry = service.localities[i]
        while entry != NULL:
            if entry.server == s:
                return True
            for member in range(entry.member_count):
                if entry.members[member] == s:
                    return True
            entry = entry.next
    return False


cdef inline void member_add(Locality *entry, Server *s, int64_t now) noexcept nogil:
    cdef Server **grown
    cdef int32_t i
    for i in range(entry.member_count):
        if entry.members[i] == s:
            return
    grown = <Server **>realloc(entry.members, (entry.member_count + 1) * sizeof(Server *))
    if grown == NULL:
        return
    # The kernel's set has its newest member first.
    for i in range(entry.member_count, 0, -1):
        grown[i] = grown[i - 1]
    grown[0] = s
    entry.members = grown
    entry.member_count += 1
    entry.last_change = now


cdef inline Server *schedule_lblcr(Service *service, const uint32_t *destination, int64_t now, int64_t lifetime) noexcept nogil:
    cdef Locality *entry = locality_of(service, destination, now, lifetime)
    cdef Server *s = NULL
    cdef Server *most
    if entry == NULL:
        return schedule_wlc(service)
    entry.last_use = now
    s = member_of(entry, False)
    if entry.member_count > 1 and now > entry.last_change + lifetime:
        most = member_of(entry, True)
        if most != NULL:
            member_drop(entry, most)
            entry.last_change = now
    if s != NULL and not crowded(service, s):
        return s
    s = schedule_wlc(service)
    if s != NULL:
        member_add(entry, s, now)
    return s


# ---- one door ------------------------------------------------------------------------------------------------------

cdef inline Server *schedule(
    Ipvs *v, Service *service, const uint32_t *client, uint16_t port, const uint32_t *destination, int64_t now,
    Chance *chance,
) noexcept nogil:
    """The server of a new connection; NULL when there is none."""
    cdef uint8_t kind = service.scheduler
    if kind == SCHEDULER_RR:
        return schedule_rr(service)
    if kind == SCHEDULER_WRR:
        return schedule_wrr(service)
    if kind == SCHEDULER_LC:
        return schedule_lc(service)
    if kind == SCHEDULER_WLC:
        return schedule_wlc(service)
    if kind == SCHEDULER_LBLC:
        return schedule_lblc(service, destination, now, v.lblc_expiration)
    if kind == SCHEDULER_LBLCR:
        return schedule_lblcr(service, destination, now, v.lblcr_expiration)
    if kind == SCHEDULER_SH:
        return schedule_sh(service, client, port)
    if kind == SCHEDULER_DH:
        return schedule_dh(service, destination)
    if kind == SCHEDULER_SED:
        return schedule_sed(service, False)
    if kind == SCHEDULER_NQ:
        return schedule_sed(service, True)
    if kind == SCHEDULER_MH:
        return schedule_mh(service, client, port)
    if kind == SCHEDULER_FO:
        return schedule_fo(service, False)
    if kind == SCHEDULER_OVF:
        return schedule_fo(service, True)
    return schedule_twos(service, chance)


cdef inline void servers_changed(Service *service) noexcept nogil:
    """A server came, went, or weighs something else."""
    cdef Server *s = service.servers
    cdef int32_t highest = 0
    if service.scheduler == SCHEDULER_WRR:
        while s != NULL:
            if s.weight > highest:
                highest = s.weight
            s = s.next
        service.last = NULL
        service.divisor = divisor_of(service, False)
        if service.divisor == 0:
            service.divisor = 1
        service.max_weight = highest - (service.divisor - 1) if highest else 0
        if service.current_weight > service.max_weight or service.current_weight == 0:
            service.current_weight = service.max_weight
        elif service.divisor > 1:
            service.current_weight = service.current_weight // service.divisor * service.divisor + 1
    elif service.scheduler == SCHEDULER_SH:
        fill_hash(service, True)
    elif service.scheduler == SCHEDULER_DH:
        fill_hash(service, False)
    elif service.scheduler == SCHEDULER_MH:
        fill_maglev(service)
