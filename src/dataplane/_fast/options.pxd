"""IPv4 options on their way through a host (RFC 791, 3.1; net/ipv4/ip_options.c)."""

from libc.stdint cimport uint8_t, uint32_t

from dataplane._fast.wire cimport ip4_checksum_set, store32

cdef enum:
    OPTION_END = 0
    OPTION_NOOP = 1
    OPTION_RECORD_ROUTE = 7
    OPTION_LOOSE_ROUTE = 131
    OPTION_STRICT_ROUTE = 137


cdef inline uint8_t *find_option(uint8_t *net, uint8_t kind) noexcept nogil:
    """The option of this kind, whole; NULL when it is not there, or the options do not parse up to it."""
    cdef uint8_t *at = net + 20
    cdef uint8_t *end = net + (net[0] & 15) * 4
    while at < end:
        if at[0] == OPTION_END:
            return NULL
        if at[0] == OPTION_NOOP:
            at += 1
            continue
        if end - at < 2 or at[1] < 2 or at[1] > end - at:
            return NULL
        if at[0] == kind:
            return at
        at += at[1]
    return NULL


cdef inline bint has_source_route(uint8_t *net) noexcept nogil:
    return find_option(net, OPTION_LOOSE_ROUTE) != NULL or find_option(net, OPTION_STRICT_ROUTE) != NULL


cdef inline void record_route(uint8_t *net, uint32_t address) noexcept nogil:
    """Write the host's address into the next free place of a record route option (ip_forward_options)."""
    cdef uint8_t *option = find_option(net, OPTION_RECORD_ROUTE)
    if option == NULL or option[1] < 3 or option[2] < 4 or option[2] + 3 > option[1]:
        return
    store32(option + option[2] - 1, address)
    option[2] += 4
    ip4_checksum_set(net)
