"""Every random choice of a host: a seeded generator, or the choices that a test recorded elsewhere.

The kernel draws at random in a few places. Each has its own kind here, so that a recorded run of the real kernel can be
put in its place kind by kind and everything else must agree.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cpdef enum Choice:
    CHOICE_STATISTIC = 0    # 32-bit draw of `-m statistic --mode random`
    CHOICE_PORT             # source port or ICMP id that NAT settles on
    CHOICE_TUNNEL_PORT      # outer UDP source port
    CHOICE_IP_ID            # IPv4 identification of a packet that the host builds
    CHOICE_FLOW_LABEL       # IPv6 flow label of a packet that the host builds (net.ipv6.auto_flowlabels)
    CHOICE_FRAGMENT_ID      # id of the fragments of one IPv6 packet
    CHOICE_OTHER            # anything else: ECMP, limits, delays
    CHOICE_COUNT

cdef struct Recorded:
    uint32_t *values
    int64_t count
    int64_t next

cdef struct Chance:
    uint64_t state
    Recorded recorded[7]    # by Choice


cdef inline void chance_seed(Chance *c, uint64_t seed) noexcept nogil:
    c.state = seed * 0x9E3779B97F4A7C15ULL + 0xD1B54A32D192ED03ULL


cdef inline uint32_t chance_generate(Chance *c) noexcept nogil:
    """The next 32 bits of the generator (splitmix64)."""
    cdef uint64_t z
    c.state += 0x9E3779B97F4A7C15ULL
    z = c.state
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL
    return <uint32_t>((z ^ (z >> 31)) >> 32)


cdef inline bint chance_recorded(Chance *c, Choice kind, uint32_t *value) noexcept nogil:
    """Take the next recorded choice of this kind; False when there is none left."""
    cdef Recorded *r = &c.recorded[<int>kind]
    if r.next >= r.count:
        return False
    value[0] = r.values[r.next]
    r.next += 1
    return True


cdef inline uint32_t chance_draw(Chance *c, Choice kind) noexcept nogil:
    cdef uint32_t value
    if chance_recorded(c, kind, &value):
        return value
    return chance_generate(c)
