"""Path MTUs that a host learnt: exceptions to its routes (RFC 1191, 8201; net/ipv4/route.c, net/ipv6/route.c).

They are learnt from the answers of routers to what the host's own sockets sent, and by tunnels whose outer packets do
not fit. The table is bounded: of two destinations whose hashes meet, the later one stays.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy, memset

from dataplane._fast.fib cimport (
    Fib, FibResult, FlowKey, PathMtu, ROUTE_ANYCAST, ROUTE_LOCAL, Route, fib_lookup, same_address,
)
from dataplane._fast.wire cimport load16, load32, load_address6

cdef enum:
    PATH_MTUS = 1024
    PATH_MTU_MIN = 552          # net.ipv4.route.min_pmtu
    IPV6_MIN_MTU = 1280
    PATH_MTU_EXPIRES = 600      # s: net.ipv4.route.mtu_expires, net.ipv6.route.mtu_expires


cdef inline PathMtu *path_mtu_at(const Fib *fib, uint8_t family, const uint32_t *address, int32_t route) noexcept nogil:
    cdef uint64_t h = (address[0] ^ (<uint64_t>address[1] << 32)) * 0x9E3779B97F4A7C15ULL
    h = (h ^ address[2] ^ (<uint64_t>address[3] << 32)) * 0xC2B2AE3D27D4EB4FULL
    h = (h ^ <uint64_t>(route + 1) ^ <uint64_t>family << 16) * 0x9E3779B97F4A7C15ULL
    return &fib.path_mtus[h >> 54]


cdef inline const PathMtu *path_mtu_find(
    const Fib *fib, uint8_t family, const uint32_t *address, const Route *route, int64_t now,
) noexcept nogil:
    """What is known of the way to a destination by a route; NULL."""
    cdef const PathMtu *e
    cdef int32_t index
    if fib.path_mtus == NULL or route == NULL:
        return NULL
    index = <int32_t>(route - fib.routes)
    e = path_mtu_at(fib, family, address, index)
    if e.mtu and e.family == family and e.route == index and e.expires > now and same_address(e.address, address):
        return e
    return NULL


cdef inline uint32_t result_mtu(const Fib *fib, const FlowKey *key, const FibResult *result, int64_t now) noexcept nogil:
    """dst_mtu of a route to `key`, bytes."""
    cdef uint32_t mtu
    cdef const PathMtu *learnt
    # To itself a host goes by lo, whatever interface has the address.
    if result.hop == NULL or result.hop.slot < 0 or result.type == ROUTE_LOCAL or result.type == ROUTE_ANYCAST:
        return 0xFFFF
    mtu = fib.interfaces[result.hop.slot].mtu if key.family == 4 else fib.interfaces[result.hop.slot].mtu6
    if result.route != NULL and result.route.mtu and result.route.mtu < mtu:
        mtu = result.route.mtu
    learnt = path_mtu_find(fib, key.family, key.dst, result.route, now)
    if learnt != NULL and learnt.mtu < mtu:
        mtu = learnt.mtu
    return mtu


cdef inline void path_mtu_learn(Fib *fib, const FlowKey *key, uint32_t mtu, int64_t now) noexcept nogil:
    """__ip_rt_update_pmtu, __ip6_rt_update_pmtu: what is not smaller than what holds already changes nothing."""
    cdef FibResult result
    cdef PathMtu *e
    cdef uint32_t old
    cdef uint8_t locked = 0
    if not fib_lookup(fib, key, &result) or result.hop == NULL or result.hop.slot < 0 or result.route == NULL:
        return
    old = result_mtu(fib, key, &result, now)
    if key.family == 4:
        if old < mtu:
            return
        if mtu < PATH_MTU_MIN:
            locked = 1
            mtu = old if old < PATH_MTU_MIN else PATH_MTU_MIN
    elif mtu < IPV6_MIN_MTU or mtu >= old:
        return
    if fib.path_mtus == NULL:
        fib.path_mtus = <PathMtu *>calloc(PATH_MTUS, sizeof(PathMtu))
        if fib.path_mtus == NULL:
            return
    e = path_mtu_at(fib, key.family, key.dst, <int32_t>(result.route - fib.routes))
    memcpy(e.address, key.dst, 16)
    e.family = key.family
    e.route = <int32_t>(result.route - fib.routes)
    e.mtu = mtu
    e.locked = locked
    e.expires = now + PATH_MTU_EXPIRES * <int64_t>1000000000


cdef inline void path_mtu_told(Fib *fib, uint8_t family, const uint8_t *quoted, uint32_t mtu, int64_t now) noexcept nogil:
    """A router says that `quoted`, an IP header of the host's own, was too big."""
    cdef FlowKey key
    memset(&key, 0, sizeof(key))
    key.family = family
    key.iif = key.oif = -1
    if family == 4:
        key.src[0] = load32(quoted + 12)
        key.dst[0] = load32(quoted + 16)
        key.tos = quoted[1] & 0x1C
    else:
        load_address6(quoted + 8, key.src)
        load_address6(quoted + 24, key.dst)
    path_mtu_learn(fib, &key, mtu, now)
