"""The IPVS connection table (net/netfilter/ipvs/ip_vs_conn.c): one hash by the client's end, of bounded size, and one heap
of when connections end. Schedulers count connections, so what is due goes before any server is chosen."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from dataplane._fast.conntrack cimport Conn, Conntrack, Tuple
from dataplane._fast.conntrack_table cimport conn_find, conn_kill
from dataplane._fast.ipvs cimport (
    FORWARD_MASQ, IPVS_CONNTRACK, IPVS_INACTIVE, IPVS_NO_OUTPUT, IPVS_ONE_PACKET, IPVS_TEMPLATE, IPVS_UDP, IPVS_UNHASHED,
    Ipvs, IpvsConn, Server,
)
from dataplane._fast.wire cimport IPPROTO_UDP

cdef enum:
    SECOND_NS = 1000000000


cdef inline uint32_t ipvs_hash(const Ipvs *v, uint8_t proto, const uint32_t *address, uint16_t port) noexcept nogil:
    cdef uint64_t h = v.seed ^ (<uint64_t>proto << 16 | port)
    cdef int i
    for i in range(4):
        h = (h ^ address[i]) * 0x9E3779B97F4A7C15ULL
        h ^= h >> 29
    return <uint32_t>(h >> 32)


# ---- when they end -------------------------------------------------------------------------------------------------

cdef inline void heap_put(Ipvs *v, int32_t at, IpvsConn *c) noexcept nogil:
    v.heap[at] = c
    c.heap = at


cdef inline void heap_up(Ipvs *v, IpvsConn *c) noexcept nogil:
    cdef int32_t at = c.heap, parent
    while at > 0:
        parent = (at - 1) // 2
        if v.heap[parent].due <= c.due:
            break
        heap_put(v, at, v.heap[parent])
        at = parent
    heap_put(v, at, c)


cdef inline void heap_down(Ipvs *v, IpvsConn *c) noexcept nogil:
    cdef int32_t at = c.heap, child
    while True:
        child = 2 * at + 1
        if child >= v.count:
            break
        if child + 1 < v.count and v.heap[child + 1].due < v.heap[child].due:
            child += 1
        if v.heap[child].due >= c.due:
            break
        heap_put(v, at, v.heap[child])
        at = child
    heap_put(v, at, c)


cdef inline void conn_rearm(Ipvs *v, IpvsConn *c, int64_t now) noexcept nogil:
    """Only what ends earlier than was thought moves at once; the rest moves when its old end comes."""
    c.expires = now + c.timeout
    if not c.flags & IPVS_UNHASHED and c.expires < c.due:
        c.due = c.expires
        heap_up(v, c)


# ---- servers -------------------------------------------------------------------------------------------------------

cdef inline void server_bind(Server *s, IpvsConn *c) noexcept nogil:
    c.server = s
    c.forward = s.forward
    c.target_family = s.family
    if s.forward != FORWARD_MASQ:
        c.flags |= IPVS_NO_OUTPUT
    if c.flags & IPVS_TEMPLATE:
        s.persistent += 1
    else:
        c.flags |= IPVS_INACTIVE
        s.inactive += 1
    if s.upper and <uint32_t>(s.active + s.inactive) >= s.upper:
        s.overloaded = 1


cdef inline void server_relieve(Server *s) noexcept nogil:
    """ip_vs_unbind_dest: below its lower threshold a server is asked again."""
    cdef uint32_t total = <uint32_t>(s.active + s.inactive)
    if s.lower:
        if total < s.lower:
            s.overloaded = 0
    elif s.upper:
        if total * 4 < s.upper * 3:
            s.overloaded = 0
    else:
        s.overloaded = 0


cdef inline void server_unbind(IpvsConn *c, int64_t now) noexcept nogil:
    cdef Server *s = c.server
    if s == NULL:
        return
    if c.flags & IPVS_TEMPLATE:
        s.persistent -= 1
    elif c.flags & IPVS_INACTIVE:
        s.inactive -= 1
    else:
        s.active -= 1
    server_relieve(s)
    if not s.available and s.active + s.inactive + s.persistent == 0:
        s.idle_since = now
    c.server = NULL


# ---- the table -----------------------------------------------------------------------------------------------------

cdef inline bint conn_of_client(
    const IpvsConn *c, uint8_t proto, uint8_t family, const uint32_t *client, uint16_t port,
) noexcept nogil:
    return c.client_port == port and c.proto == proto and c.family == family and memcmp(c.client, client, 16) == 0


cdef inline IpvsConn *conn_in(
    const Ipvs *v, uint8_t proto, uint8_t family, const uint32_t *client, uint16_t client_port, const uint32_t *virtual,
    uint16_t virtual_port, bint template,
) noexcept nogil:
    """A connection, or a template, by what the client sends."""
    cdef IpvsConn *c
    if v.buckets == NULL:
        return NULL
    c = v.buckets[ipvs_hash(v, proto, client, client_port) & v.mask]
    while c != NULL:
        if (conn_of_client(c, proto, family, client, client_port) and c.virtual_port == virtual_port
                and (c.flags & IPVS_TEMPLATE != 0) == template and memcmp(c.virtual, virtual, 16) == 0):
            return c
        c = c.next
    return NULL


cdef inline IpvsConn *conn_out(
    const Ipvs *v, uint8_t proto, uint8_t family, const uint32_t *server, uint16_t server_port, const uint32_t *client,
    uint16_t client_port,
) noexcept nogil:
    """A connection by what its server sends: of one that is not masqueraded, with the virtual address."""
    cdef IpvsConn *c
    cdef bint masq
    if v.buckets == NULL:
        return NULL
    c = v.buckets[ipvs_hash(v, proto, client, client_port) & v.mask]
    while c != NULL:
        masq = c.forward == FORWARD_MASQ
        if (conn_of_client(c, proto, family, client, client_port) and not c.flags & IPVS_TEMPLATE
                and (c.target_port if masq else c.virtual_port) == server_port
                and (memcmp(c.target, server, 16) if masq else memcmp(c.virtual, server, 16)) == 0):
            return c
        c = c.next
    return NULL


cdef inline void table_link(Ipvs *v, IpvsConn *c) noexcept nogil:
    c.bucket = ipvs_hash(v, c.proto, c.client, c.client_port)
    c.next = v.buckets[c.bucket & v.mask]
    v.buckets[c.bucket & v.mask] = c


cdef inline void table_unlink(Ipvs *v, IpvsConn *c) noexcept nogil:
    cdef IpvsConn **at = &v.buckets[c.bucket & v.mask]
    while at[0] != c:
        at = &at[0].next
    at[0] = c.next


cdef inline bint table_room(Ipvs *v) noexcept nogil:
    """Room for one more connection: buckets, and a place in the heap."""
    cdef IpvsConn **grown
    cdef IpvsConn **old = v.buckets
    cdef IpvsConn *c
    cdef uint32_t size
    cdef int32_t i
    if v.count >= v.limit:
        v.refused += 1
        return False
    if v.count == v.heap_room:
        grown = <IpvsConn **>realloc(v.heap, (2 * v.heap_room + 256) * sizeof(IpvsConn *))
        if grown == NULL:
            return False
        v.heap = grown
        v.heap_room = 2 * v.heap_room + 256
    if v.buckets == NULL or <uint32_t>v.count > v.mask:
        size = 2 * (v.mask + 1) if v.buckets != NULL else 256
        grown = <IpvsConn **>calloc(size, sizeof(IpvsConn *))
        if grown == NULL:
            return v.buckets != NULL
        v.buckets = grown
        v.mask = size - 1
        for i in range(v.count):
            c = v.heap[i]
            c.next = v.buckets[c.bucket & v.mask]
            v.buckets[c.bucket & v.mask] = c
        free(old)
    return True


cdef inline IpvsConn *conn_new(
    Ipvs *v, uint8_t proto, uint8_t family, const uint32_t *client, uint16_t client_port, const uint32_t *virtual,
    uint16_t virtual_port, const uint32_t *target, uint16_t target_port, uint8_t flags, Server *s, int64_t now,
) noexcept nogil:
    """ip_vs_conn_new; NULL when the table is full. One that lives for one packet stays out of the table."""
    cdef IpvsConn *c = v.idle
    if not flags & IPVS_ONE_PACKET and not table_room(v):
        return NULL
    if c != NULL:
        v.idle = c.next
    else:
        c = <IpvsConn *>calloc(1, sizeof(IpvsConn))
        if c == NULL:
            return NULL
    memset(c, 0, sizeof(IpvsConn))
    memcpy(c.client, client, 16)
    memcpy(c.virtual, virtual, 16)
    memcpy(c.target, target, 16)
    c.client_port = client_port
    c.virtual_port = virtual_port
    c.target_port = target_port
    c.proto = proto
    c.family = family
    c.flags = flags
    if v.conntrack and not flags & IPVS_TEMPLATE:
        c.flags |= IPVS_CONNTRACK
    if proto == IPPROTO_UDP and not flags & IPVS_TEMPLATE:
        c.state = IPVS_UDP
    c.timeout = 3 * <int64_t>SECOND_NS
    c.expires = c.due = now + c.timeout
    server_bind(s, c)
    if flags & IPVS_ONE_PACKET:
        c.flags |= IPVS_UNHASHED
        return c
    table_link(v, c)
    c.heap = v.count
    v.count += 1
    heap_up(v, c)
    return c


cdef inline void conn_forget_tracked(Conntrack *t, const IpvsConn *c, int64_t now) noexcept nogil:
    """ip_vs_conn_drop_conntrack."""
    cdef Tuple tuple
    cdef Conn *tracked
    cdef int direction = 0
    if t == NULL or not c.client_port:
        return
    memset(&tuple, 0, sizeof(Tuple))
    memcpy(tuple.src, c.client, 16)
    memcpy(tuple.dst, c.virtual, 16)
    tuple.sport = c.client_port
    tuple.dport = c.virtual_port
    tuple.proto = c.proto
    tuple.family = c.family
    tracked = conn_find(t, &tuple, now, &direction)
    if tracked != NULL:
        conn_kill(t, tracked)


cdef inline void conn_free(Ipvs *v, IpvsConn *c, int64_t now) noexcept nogil:
    cdef IpvsConn *last
    if not c.flags & IPVS_UNHASHED:
        table_unlink(v, c)
        v.count -= 1
        last = v.heap[v.count]
        if last != c:
            heap_put(v, c.heap, last)
            heap_up(v, last)
            heap_down(v, last)
    if c.control != NULL:
        c.control.children -= 1
    server_unbind(c, now)
    if c.flags & IPVS_CONNTRACK and not c.flags & IPVS_ONE_PACKET:
        conn_forget_tracked(v.tracked, c, now)
    c.next = v.idle
    v.idle = c


cdef inline void orphans_expire(Ipvs *v, int64_t now) noexcept nogil:
    """expire_nodest_conn_handler: connections of servers that were removed, and what controlled them alone."""
    cdef IpvsConn *c
    cdef IpvsConn *template
    cdef uint32_t i
    v.orphans = 0
    if v.buckets == NULL:
        return
    for i in range(v.mask + 1):
        c = v.buckets[i]
        while c != NULL:
            if c.server == NULL or c.server.available or c.children:
                c = c.next
                continue
            template = c.control
            conn_free(v, c, now)
            if template != NULL and not template.children:
                conn_free(v, template, now)
            c = v.buckets[i]    # the chain has changed


cdef inline void conn_expire(Ipvs *v, int64_t now) noexcept nogil:
    """Let go of what is due. A template waits for its connections, a minute at a time, and has a minute from then on."""
    cdef IpvsConn *c
    if v.orphans:
        orphans_expire(v, now)
    while v.count and v.heap[0].due <= now:
        c = v.heap[0]
        if c.expires <= now and not c.children:
            conn_free(v, c, c.expires)
            continue
        if c.expires <= now:
            c.timeout = 60 * <int64_t>SECOND_NS
            c.expires += c.timeout
        c.due = c.expires
        heap_down(v, c)


cdef inline void conn_expire_now(Ipvs *v, IpvsConn *c, int64_t now) noexcept nogil:
    """A template that still has connections ends with them; any other at once."""
    if c.children:
        return
    conn_free(v, c, now)
