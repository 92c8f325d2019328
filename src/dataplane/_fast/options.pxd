"""IPv4 options on their way through a host (RFC 791, 3.1; net/ipv4/ip_options.c).

A host reads the options of a packet once, behind the routing decision, and writes at once what they ask of it: an
address, the time of day. What is left to do as the packet leaves is kept in `Packet.options`. What the host answers
bears the options of the question: records go on, source routes are turned around. Offsets count from the IP header; no
byte is read or written without asking whether the header reaches there.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from dataplane._fast.fib cimport (
    FibResult, FlowKey, ROUTE_LOCAL, ROUTE_UNICAST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, fib_address_type, fib_lookup,
    route_source, select_source4,
)
from dataplane._fast.network cimport Host
from dataplane._fast.packet cimport FIELD_DST, FIELD_MARK, FIELD_SRC, FIELD_TOS, IpOptions, Packet
from dataplane._fast.route cimport route_refuses
from dataplane._fast.wire cimport ip4_checksum_set, load32, store32

cdef enum:
    OPTION_END = 0
    OPTION_NOOP = 1
    OPTION_RECORD_ROUTE = 7
    OPTION_TIMESTAMP = 68
    OPTION_LOOSE_ROUTE = 131
    OPTION_CIPSO = 134
    OPTION_STRICT_ROUTE = 137
    OPTION_ROUTER_ALERT = 148
    STAMP_TIME = 0          # the low four bits of a timestamp option's flags: times alone,
    STAMP_ADDRESS = 1       # ... each behind the address of who wrote it,
    STAMP_ASKED = 3         # ... or of those hosts alone that the sender named
    HEADER = 20
    OPTIONS_MAX = 40
    DAY = 86_400_000        # ms

cdef struct OptionsEcho:
    # The options of an answer, as they are built (options_write).
    IpOptions options
    uint8_t bytes[40]


cdef inline uint32_t time_of_day(int64_t time) noexcept nogil:
    """Milliseconds since midnight UT (RFC 791, RFC 792), of a time in ns since 1970."""
    return <uint32_t>(time // 1_000_000 % DAY)


# ---- addresses that are written --------------------------------------------------------------------------------------

cdef inline uint32_t asked_address(Host *host, const Packet *p, int32_t slot) noexcept nogil:
    """fib_compute_spec_dst: the address that the packet was sent to, if it is the host's; else the one that the host would
    answer from."""
    cdef FlowKey key
    cdef FibResult result
    cdef uint32_t address[4]
    cdef uint8_t scope = RT_SCOPE_UNIVERSE
    memset(address, 0, sizeof(address))
    if p.route_type == ROUTE_LOCAL:
        return p.field[<int>FIELD_DST]
    if p.field[<int>FIELD_SRC]:
        memset(&key, 0, sizeof(key))
        key.dst[0] = p.field[<int>FIELD_SRC]
        key.family = 4
        key.iif = key.oif = -1
        key.tos = <uint8_t>(p.field[<int>FIELD_TOS] & 0x1C)
        key.mark = p.field[<int>FIELD_MARK] if slot >= 0 and host.interfaces[slot].src_valid_mark else 0
        if fib_lookup(&host.fib, &key, &result) and not route_refuses(result.type):
            return address[0] if route_source(&host.fib, &key, &result, address) else 0
    else:
        scope = RT_SCOPE_LINK
    return address[0] if select_source4(&host.fib, slot, &p.field[<int>FIELD_SRC], scope, address) else 0


cdef inline uint32_t leaving_address(Host *host, const Packet *p) noexcept nogil:
    """ip_rt_get_source: the address that a forwarded packet's route suggests to the host itself."""
    cdef FlowKey key
    cdef FibResult result
    cdef uint32_t address[4]
    memset(address, 0, sizeof(address))
    memset(&key, 0, sizeof(key))
    key.dst[0] = p.field[<int>FIELD_DST]
    key.src[0] = p.field[<int>FIELD_SRC]
    key.family = 4
    key.iif = p.iif
    key.oif = p.oif
    key.tos = <uint8_t>(p.field[<int>FIELD_TOS] & 0x1C)
    key.mark = p.field[<int>FIELD_MARK]
    if fib_lookup(&host.fib, &key, &result) and not route_refuses(result.type):
        return address[0] if route_source(&host.fib, &key, &result, address) else 0
    return address[0] if select_source4(&host.fib, p.oif, p.nexthop, RT_SCOPE_UNIVERSE, address) else 0


# ---- reading ---------------------------------------------------------------------------------------------------------

cdef inline uint32_t record_read(Host *host, Packet *p, IpOptions *o, uint8_t *at, uint32_t size, int32_t slot) noexcept nogil:
    """One record route option; 0, or what is wrong with it, as bytes from its start plus 1."""
    if o.record:
        return 1
    if size < 3:
        return 2
    if at[2] < 4:
        return 3
    if at[2] <= size:
        if at[2] + 3 > <int>size:
            return 3
        store32(at + at[2] - 1, asked_address(host, p, slot))
        o.changed = 1
        at[2] += 4
        o.record_address = 1
    o.record = <uint8_t>(at - p.net)
    return 0


cdef inline uint32_t stamp_read(Host *host, Packet *p, IpOptions *o, uint8_t *at, uint32_t size, int32_t slot) noexcept nogil:
    """One timestamp option, as above. Where it is full, it counts those that found no room."""
    cdef uint32_t named[4]
    cdef uint8_t flag, pointer
    cdef uint8_t *time = NULL
    if o.stamp:
        return 1
    if size < 4:
        return 2
    pointer = at[2]
    if pointer < 5:
        return 3
    flag = at[3] & 15
    if pointer <= size:
        if pointer + (3 if flag != STAMP_ADDRESS and flag != STAMP_ASKED else 7) > <int>size:
            return 3
        if flag == STAMP_TIME:
            time = at + pointer - 1
            o.stamp_time = 1
            at[2] = pointer + 4
        elif flag == STAMP_ADDRESS:
            store32(at + pointer - 1, asked_address(host, p, slot))
            time = at + pointer + 3
            o.stamp_address = o.stamp_time = 1
            at[2] = pointer + 8
        elif flag == STAMP_ASKED:
            memset(named, 0, sizeof(named))
            named[0] = load32(at + pointer - 1)
            if fib_address_type(&host.fib, 4, named, -1) != ROUTE_UNICAST:
                time = at + pointer + 3
                o.stamp_time = 1
                at[2] = pointer + 8
        if time != NULL:
            store32(time, time_of_day(p.time))
            o.changed = 1
    elif flag != STAMP_ASKED:
        if at[3] >> 4 == 15:
            return 4
        at[3] += 16
        o.changed = 1
    o.stamp = <uint8_t>(at - p.net)
    return 0


cdef inline uint32_t options_read(Host *host, Packet *p, int32_t slot) noexcept nogil:
    """ip_options_compile: read all options of a routed packet and write what they ask for; the checksum stays as it was.
    Gives 0, or the offset of the byte that is wrong. What stands before it is kept either way.

    slot: the interface whose address may be recorded
    """
    cdef IpOptions *o = &p.options
    cdef uint8_t *at = p.net + HEADER
    cdef uint8_t *end = p.net + (p.net[0] & 15) * 4
    cdef uint32_t size, wrong
    cdef uint8_t kind
    memset(o, 0, sizeof(IpOptions))
    o.length = <uint8_t>(end - at)
    while at < end:
        kind = at[0]
        if kind == OPTION_END:
            at += 1
            while at < end:
                if at[0]:
                    at[0] = 0
                    o.changed = 1
                at += 1
            return 0
        if kind == OPTION_NOOP:
            at += 1
            continue
        if end - at < 2 or at[1] < 2 or at[1] > end - at:
            return <uint32_t>(at - p.net)
        size = at[1]
        wrong = 0
        if kind == OPTION_RECORD_ROUTE:
            wrong = record_read(host, p, o, at, size, slot)
        elif kind == OPTION_TIMESTAMP:
            wrong = stamp_read(host, p, o, at, size, slot)
        elif kind == OPTION_LOOSE_ROUTE or kind == OPTION_STRICT_ROUTE:
            if size < 3:
                wrong = 2
            elif at[2] < 4:
                wrong = 3
            elif o.route:
                wrong = 1
            else:
                o.strict = kind == OPTION_STRICT_ROUTE
                o.route = <uint8_t>(at - p.net)
        elif kind == OPTION_ROUTER_ALERT:
            if size < 4:
                wrong = 2
        elif kind == OPTION_CIPSO:
            # Labels of a domain that was never set up here (cipso_v4_validate).
            wrong = 1 if o.cipso else 2 if size < 8 else 3
            if not o.cipso:
                o.cipso = <uint8_t>(at - p.net)
        if wrong:
            return <uint32_t>(at - p.net) + wrong - 1
        at += size
    return 0


# ---- forwarding ------------------------------------------------------------------------------------------------------

cdef inline void options_forward(Host *host, Packet *p) noexcept nogil:
    """ip_forward_options: the address of the side that the packet leaves by, and the next hop of a source route."""
    cdef IpOptions *o = &p.options
    cdef uint8_t *at
    cdef uint32_t pointer
    if o.record_address:
        at = p.net + o.record
        store32(at + at[2] - 5, leaving_address(host, p))
        o.changed = 1
    if o.hit:
        at = p.net + o.route
        pointer = at[2]
        while pointer + 3 <= at[1] and load32(at + pointer - 1) != o.nexthop:
            pointer += 4
        if pointer + 3 <= at[1]:
            o.changed = 1
            store32(p.net + 16, o.nexthop)
            p.field[<int>FIELD_DST] = o.nexthop
            store32(at + pointer - 1, leaving_address(host, p))
            at[2] = <uint8_t>(pointer + 4)
        if o.stamp_address:
            at = p.net + o.stamp
            store32(at + at[2] - 9, leaving_address(host, p))
            o.changed = 1
    if o.changed:
        o.changed = 0
        ip4_checksum_set(p.net)


# ---- answers ---------------------------------------------------------------------------------------------------------

cdef inline const uint8_t *option_at(const Packet *p, uint8_t offset, uint32_t least) noexcept nogil:
    """An option that was read, if it is still whole; else NULL."""
    cdef const uint8_t *at = p.net + offset
    cdef uint32_t header = (p.net[0] & 15) * 4
    if offset < HEADER or offset + least > header or at[1] < least or offset + at[1] > header:
        return NULL
    return at


cdef inline bint stamp_echo(Host *host, const uint8_t *at, const IpOptions *from_, OptionsEcho *echo, uint8_t *to) noexcept nogil:
    """Room in a timestamp option for the answer's own; False where half an entry is left."""
    cdef uint32_t size = at[1], pointer = at[2]
    cdef uint32_t named[4]
    if pointer > size:
        return True
    if from_.stamp_address:
        if pointer + 3 > size:
            return False
        echo.options.stamp_address = 1
        pointer += 4
    if from_.stamp_time:
        if pointer + 3 > size:
            return False
        if at[3] & 15 != STAMP_ASKED:
            echo.options.stamp_time = 1
            pointer += 4
        elif pointer + 7 <= size:
            memset(named, 0, sizeof(named))
            named[0] = load32(at + pointer - 1)
            if fib_address_type(&host.fib, 4, named, -1) != ROUTE_UNICAST:
                echo.options.stamp_time = 1
                pointer += 8
    to[2] = <uint8_t>pointer
    return True


cdef inline uint32_t route_turned(const Packet *p, const uint8_t *at, OptionsEcho *echo, uint8_t *to) noexcept nogil:
    """The source route back: hops that were recorded, last first. Gives the bytes of hops; `nexthop` is the first of them."""
    cdef int32_t pointer = at[2], hops = 0
    if pointer > at[1]:
        pointer = at[1] + 1
    pointer -= 4
    if pointer <= 3:
        return 0
    echo.options.nexthop = load32(at + pointer - 1)
    pointer -= 4
    hops = 4
    while pointer > 3:
        memcpy(to + hops - 1, at + pointer - 1, 4)
        pointer -= 4
        hops += 4
    if memcmp(p.net + 12, at + pointer + 3, 4) == 0:
        hops -= 4       # the sender itself does not belong there (RFC 1812, 4.2.2.1)
    return <uint32_t>hops


cdef inline bint options_echo(Host *host, const Packet *p, OptionsEcho *echo) noexcept nogil:
    """ip_options_echo: the options of an answer to `p`; False where there must be no answer."""
    cdef const IpOptions *o = &p.options
    cdef const uint8_t *at
    cdef uint8_t *to = echo.bytes
    cdef uint32_t hops
    memset(echo, 0, sizeof(OptionsEcho))
    if not o.length:
        return True
    if o.record:
        at = option_at(p, o.record, 3)
        if at == NULL:
            return False
        memcpy(to, at, at[1])
        echo.options.record = <uint8_t>(HEADER + (to - echo.bytes))
        if o.record_address and at[2] <= at[1]:
            if at[2] + 3 > at[1]:
                return False
            to[2] = at[2] + 4
            echo.options.record_address = 1
        to += at[1]
    if o.stamp:
        at = option_at(p, o.stamp, 4)
        if at == NULL or (to - echo.bytes) + at[1] > OPTIONS_MAX:
            return False
        memcpy(to, at, at[1])
        echo.options.stamp = <uint8_t>(HEADER + (to - echo.bytes))
        if not stamp_echo(host, at, o, echo, to):
            return False
        to += at[1]
    if o.route:
        at = option_at(p, o.route, 3)
        if at == NULL or (to - echo.bytes) + at[1] > OPTIONS_MAX:
            return False
        hops = route_turned(p, at, echo, to)
        if hops > 3:
            to[0] = at[0]
            to[1] = <uint8_t>(hops + 3)
            to[2] = 4
            echo.options.route = <uint8_t>(HEADER + (to - echo.bytes))
            echo.options.strict = o.strict
            to += hops + 3
    if o.cipso:
        at = option_at(p, o.cipso, 2)
        if at != NULL and (to - echo.bytes) + at[1] <= OPTIONS_MAX:
            memcpy(to, at, at[1])
            echo.options.cipso = <uint8_t>(HEADER + (to - echo.bytes))
            to += at[1]
    echo.options.length = <uint8_t>((to - echo.bytes + 3) & ~3)
    return True


cdef inline void options_write(Packet *p, const OptionsEcho *echo, uint32_t sender) noexcept nogil:
    """ip_options_build: write options behind the header of a packet of the host's own; there is room for them.

    sender: of the question, which ends a source route
    """
    cdef const IpOptions *o = &echo.options
    cdef uint8_t *at
    if not o.length:
        return
    p.net[0] = <uint8_t>(0x45 + o.length // 4)
    memcpy(p.net + HEADER, echo.bytes, o.length)
    p.options = o[0]
    if o.route:
        at = p.net + o.route
        store32(at + at[1] - 4, sender)
    if o.record_address:
        at = p.net + o.record
        memcpy(at + at[2] - 5, p.net + 12, 4)
    if o.stamp_address:
        at = p.net + o.stamp
        memcpy(at + at[2] - 9, p.net + 12, 4)
    if o.stamp_time:
        at = p.net + o.stamp
        store32(at + at[2] - 5, time_of_day(p.time))
    ip4_checksum_set(p.net)


# ---- fragments -------------------------------------------------------------------------------------------------------

cdef inline void options_of_later(uint8_t *options, uint32_t length) noexcept nogil:
    """ip_options_fragment: later fragments carry only the options whose copy bit is set; the others become no-operations."""
    cdef uint32_t at = 0, size
    while at < length:
        if options[at] == OPTION_END:
            return
        if options[at] == OPTION_NOOP:
            at += 1
            continue
        if at + 1 >= length:
            return
        size = options[at + 1]
        if size < 2 or at + size > length:
            return
        if not options[at] & 0x80:
            memset(options + at, OPTION_NOOP, size)
        at += size
