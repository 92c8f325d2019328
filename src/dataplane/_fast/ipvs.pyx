"""The virtual services of one host as Python sees them; the engine is in ipvs_*.pxd."""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from dataplane._fast.address cimport address_words, words_address
from dataplane._fast.ipvs_conn cimport conn_expire, ipvs_hash
from dataplane._fast.ipvs_service cimport service_find, service_of_mark
from dataplane._fast.ipvs_schedule cimport localities_clear, localities_hold, servers_changed

STATE_NAMES = (
    "NONE", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN",
    "SYNACK", "UDP", "INIT1", "INIT", "C-SENT", "C-REPLIED", "C-WAIT", "COOKIE", "C-ECHOED", "ESTABLISHED",
    "S-SENT", "S-RECEIVED", "S-ACK-SENT", "REJECTED", "CLOSED",
)
TIMEOUTS = (2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120, 300, 4, 60, 60, 60, 60, 60, 60, 900, 60, 60, 60, 4, 60)


cdef enum:
    TRASH_SECONDS = 180     # until a removed server is forgotten: its counters, and that it was there


cdef object counters_row(const IpvsCounters *c):
    return (c.connections, c.in_packets, c.out_packets, c.in_bytes, c.out_bytes)


@cython.final
cdef class Balancer:
    """The virtual services of one host, their servers and connections. Times are ns; `limit`: connections at most, beyond
    which new ones are refused.

    Raises MemoryError when memory is out, KeyError for a service or server that is not there.
    """

    def __cinit__(self, *, uint64_t seed=0, int32_t limit=1 << 20):
        cdef int i
        memset(&self.ipvs, 0, sizeof(Ipvs))
        self.ipvs.seed = seed * 2654435761 + 97
        self.ipvs.limit = limit
        self.ipvs.service_mask = 1023
        self.ipvs.services = <Service **>calloc(1024, sizeof(Service *))
        if self.ipvs.services == NULL:
            raise MemoryError
        for i, value in enumerate(TIMEOUTS):
            self.ipvs.timeouts[i] = value * 1_000_000_000
        self.settings()

    def __dealloc__(self):
        cdef Service *service
        cdef IpvsConn *c
        cdef IpvsConn *following
        cdef int32_t i
        cdef uint32_t bucket
        for i in range(self.ipvs.count):
            free(self.ipvs.heap[i])
        c = self.ipvs.idle
        while c != NULL:
            following = c.next
            free(c)
            c = following
        free(self.ipvs.heap)
        free(self.ipvs.buckets)
        if self.ipvs.services != NULL:
            for bucket in range(self.ipvs.service_mask + 1):
                while self.ipvs.services[bucket] != NULL:
                    service = self.ipvs.services[bucket]
                    self.ipvs.services[bucket] = service.next
                    service_free(service)
        free(self.ipvs.services)
        servers_free(self.ipvs.removed)

    def settings(
        self, *, bint conntrack=False, int conn_reuse_mode=1, bint expire_nodest_conn=False,
        bint expire_quiescent_template=False, bint sloppy_tcp=False, bint sloppy_sctp=False, bint pmtu_disc=True,
        bint nat_icmp_send=False, bint schedule_icmp=False, bint snat_reroute=True,
        int64_t lblc_expiration=86400_000_000_000, int64_t lblcr_expiration=86400_000_000_000,
        int64_t tcp=900_000_000_000, int64_t tcp_fin=120_000_000_000, int64_t udp=300_000_000_000,
    ):
        """net.ipv4.vs.*, and the timeouts of `ipvsadm --set`, which count from the next packet of a connection on."""
        cdef Ipvs *v = &self.ipvs
        v.conntrack = conntrack
        v.conn_reuse_mode = conn_reuse_mode
        v.expire_nodest_conn = expire_nodest_conn
        v.expire_quiescent_template = expire_quiescent_template
        v.sloppy_tcp = sloppy_tcp
        v.sloppy_sctp = sloppy_sctp
        v.pmtu_disc = pmtu_disc
        v.nat_icmp_send = nat_icmp_send
        v.schedule_icmp = schedule_icmp
        v.snat_reroute = snat_reroute
        v.lblc_expiration = lblc_expiration
        v.lblcr_expiration = lblcr_expiration
        v.timeouts[<int>IPVS_ESTABLISHED] = tcp
        v.timeouts[<int>IPVS_FIN_WAIT] = tcp_fin
        v.timeouts[<int>IPVS_UDP] = udp

    cdef Service *find(self, int family, int proto, object address, int port, uint32_t fwmark):
        cdef uint32_t words[4]
        if proto == 0:
            return service_of_mark(&self.ipvs, family, fwmark)
        memset(words, 0, sizeof(words))
        address_words(address, words)
        return service_find(&self.ipvs, family, proto, words, port)

    cdef Service *at(self, tuple key) except NULL:
        cdef Service *s = self.find(key[0], key[1], key[2], key[3], key[4])
        if s == NULL:
            raise KeyError(key)
        return s

    cdef Server *member(self, tuple key, object address, int port) except NULL:
        cdef Server *s = self.at(key).servers
        while s != NULL:
            if s.port == port and words_address(s.address, s.family) == address:
                return s
            s = s.next
        raise KeyError((key, address, port))

    def add_service(
        self, tuple key, *, int scheduler, int flags=0, bint one_packet=False, int64_t persistent=0, int netmask=-1,
    ):
        """key: (family, protocol or 0, address or None, port, fwmark), which names the service from now on. netmask: a
        prefix length; -1: the whole address. An existing service gets these values, and keeps its servers."""
        cdef Service *s = self.find(key[0], key[1], key[2], key[3], key[4])
        cdef uint32_t bucket
        cdef int i, bits
        cdef bint fresh = s == NULL
        if fresh:
            if self.ipvs.service_count > self.ipvs.service_mask:
                self.widen()
            s = <Service *>calloc(1, sizeof(Service))
            if s == NULL:
                raise MemoryError
            s.family = key[0]
            s.proto = key[1]
            if s.proto:
                address_words(key[2], s.address)
                s.port = key[3]
            s.fwmark = key[4]
            bucket = self.bucket_of(s)
            s.next = self.ipvs.services[bucket]
            self.ipvs.services[bucket] = s
            self.ipvs.service_count += 1
            self.ipvs.fwmark_count += s.proto == 0
            self.ipvs.family_count[s.family == 6] += 1
        if fresh or s.scheduler != scheduler:
            localities_clear(s)
            free(s.slots)
            s.slots = NULL
            s.last = NULL
            s.current_weight = 0
            if scheduler == SCHEDULER_SH or scheduler == SCHEDULER_DH or scheduler == SCHEDULER_MH:
                s.slots = <Server **>calloc(MAGLEV_SLOTS if scheduler == SCHEDULER_MH else HASH_SLOTS, sizeof(Server *))
                if s.slots == NULL:
                    raise MemoryError
            s.scheduler = scheduler
        s.flags = flags
        s.one_packet = one_packet
        s.persistent = persistent
        bits = netmask if netmask >= 0 else 32 if s.family == 4 else 128
        for i in range(4):
            s.netmask[i] = 0xFFFFFFFFU if bits >= 32 else 0 if bits <= 0 else ~(0xFFFFFFFFU >> bits)
            bits -= 32
        servers_changed(s)

    cdef uint32_t bucket_of(self, const Service *s):
        cdef uint32_t mark[4]
        if s.proto:
            return ipvs_hash(&self.ipvs, s.proto, s.address, s.port) & self.ipvs.service_mask
        memset(mark, 0, sizeof(mark))
        mark[0] = s.fwmark
        return ipvs_hash(&self.ipvs, 0, mark, 0) & self.ipvs.service_mask

    cdef object widen(self):
        cdef uint32_t size = 4 * (self.ipvs.service_mask + 1), i, old = self.ipvs.service_mask + 1, bucket
        cdef Service **before = self.ipvs.services
        cdef Service **grown = <Service **>calloc(size, sizeof(Service *))
        cdef Service *s
        if grown == NULL:
            raise MemoryError
        self.ipvs.services = grown
        self.ipvs.service_mask = size - 1
        for i in range(old):
            while before[i] != NULL:
                s = before[i]
                before[i] = s.next
                bucket = self.bucket_of(s)
                s.next = grown[bucket]
                grown[bucket] = s
        free(before)

    def remove_service(self, tuple key):
        """Its connections stay, and find no server any more."""
        cdef Service *s = self.at(key)
        cdef Service **at = &self.ipvs.services[self.bucket_of(s)]
        while s.servers != NULL:
            self.discard(s, s.servers)
        while at[0] != s:
            at = &at[0].next
        at[0] = s.next
        self.ipvs.service_count -= 1
        self.ipvs.fwmark_count -= s.proto == 0
        self.ipvs.family_count[s.family == 6] -= 1
        service_free(s)

    def set_server(
        self, tuple key, object address, int port, *, int forward, int weight=1, uint32_t upper=0, uint32_t lower=0,
        int tunnel=TUNNEL_IPIP, int tunnel_port=0, bint tunnel_sum=False,
    ):
        """Add a server in front of the others, or give the one that is there these values. One that was removed and still
        has connections comes back with them."""
        cdef Service *service = self.at(key)
        cdef Server *s = service.servers
        cdef Server **at
        while s != NULL and not (s.port == port and words_address(s.address, s.family) == address):
            s = s.next
        if s == NULL:
            at = &self.ipvs.removed
            while at[0] != NULL:
                s = at[0]
                if s.port == port and was_of(s, service) and words_address(s.address, s.family) == address:
                    at[0] = s.next
                    break
                at = &s.next
                s = NULL
            if s == NULL:
                s = <Server *>calloc(1, sizeof(Server))
                if s == NULL:
                    raise MemoryError
                s.family = address_words(address, s.address)
                s.port = port
                s.proto = service.proto
                s.virtual_family = service.family
                s.fwmark = service.fwmark
                s.virtual_port = service.port
                memcpy(s.virtual, service.address, 16)
            s.service = service
            s.available = 1
            s.next = service.servers
            service.servers = s
        s.forward = forward
        s.tunnel = tunnel
        s.tunnel_port = tunnel_port
        s.tunnel_sum = tunnel_sum
        s.weight = weight
        if weight:
            s.last_weight = weight
        if upper == 0 or upper > s.upper:
            s.overloaded = 0
        s.upper = upper
        s.lower = lower
        servers_changed(service)

    def remove_server(self, tuple key, object address, int port):
        """Its connections stay, and are refused or scheduled anew (net.ipv4.vs.expire_nodest_conn)."""
        self.discard(self.at(key), self.member(key, address, port))

    cdef void discard(self, Service *service, Server *s):
        cdef Server **at = &service.servers
        cdef Server *before = NULL
        while at[0] != s:
            before = at[0]
            at = &at[0].next
        at[0] = s.next
        if service.last == s:
            service.last = before       # round robin goes on behind it
        s.available = 0
        s.idle_since = 0
        if self.ipvs.expire_nodest_conn:
            self.ipvs.orphans = 1
        s.service = NULL
        s.next = self.ipvs.removed
        self.ipvs.removed = s
        servers_changed(service)

    cdef void prune(self, int64_t now):
        """ip_vs_dest_trash_expire: those that are nobody's go after a while; their counters with them."""
        cdef Server **at = &self.ipvs.removed
        cdef Server *s
        while at[0] != NULL:
            s = at[0]
            if s.active + s.inactive + s.persistent:
                s.idle_since = 0
            elif s.idle_since == 0:
                s.idle_since = now
            elif s.idle_since + TRASH_SECONDS * <int64_t>1_000_000_000 <= now and not localities_hold(
                    service_of_mark(&self.ipvs, s.virtual_family, s.fwmark) if s.proto == 0 else service_find(
                        &self.ipvs, s.virtual_family, s.proto, s.virtual, s.virtual_port), s):
                at[0] = s.next
                free(s)
                continue
            at = &s.next

    def service_counters(self, tuple key):
        """(connections, packets in, packets out, bytes in, bytes out)"""
        return counters_row(&self.at(key).counters)

    def server_row(self, tuple key, object address, int port, int64_t now):
        """(active connections, inactive ones, templates, weight, counters as of a service) at `now`."""
        cdef Server *s
        conn_expire(&self.ipvs, now)
        s = self.member(key, address, port)
        return (s.active, s.inactive, s.persistent, s.weight, counters_row(&s.counters))

    def tracks(self, ConnectionTable connections):
        """Netfilter's connections of the same host, which end with those of IPVS (net.ipv4.vs.conntrack)."""
        self.connections = connections
        self.ipvs.tracked = &connections.table

    def expire(self, int64_t now):
        """Let go of connections that are due at `now`, and of servers that were removed long ago."""
        conn_expire(&self.ipvs, now)
        self.prune(now)

    def rows(self, int64_t now):
        """The connections: (protocol, ns to live, state, client, port, virtual address, port, server, port, template)."""
        cdef IpvsConn *c
        cdef int32_t i
        conn_expire(&self.ipvs, now)
        result = []
        for i in range(self.ipvs.count):
            c = self.ipvs.heap[i]
            result.append((
                c.proto, c.expires - now, "ASSURED" if c.flags & IPVS_ASSURED else STATE_NAMES[c.state],
                words_address(c.client, c.family), c.client_port,
                words_address(c.virtual, c.family), c.virtual_port,
                words_address(c.target, c.target_family), c.target_port,
                bool(c.flags & IPVS_TEMPLATE),
            ))
        return result

    @property
    def limit(self):
        """Connections at most, templates of persistence among them."""
        return self.ipvs.limit

    @limit.setter
    def limit(self, int32_t value):
        self.ipvs.limit = value

    @property
    def refused(self):
        """Connections and templates that a full table did not take."""
        return self.ipvs.refused

    def __len__(self):
        return self.ipvs.count


cdef bint was_of(const Server *s, const Service *service):
    return (s.proto == service.proto and s.virtual_family == service.family and s.fwmark == service.fwmark
            and s.virtual_port == service.port and memcmp(s.virtual, service.address, 16) == 0)


cdef void servers_free(Server *s):
    cdef Server *following
    while s != NULL:
        following = s.next
        free(s)
        s = following


cdef void service_free(Service *s):
    localities_clear(s)
    free(s.localities)
    free(s.slots)
    servers_free(s.servers)
    free(s)
