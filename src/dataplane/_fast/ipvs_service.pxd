"""Which virtual service a packet asks for, and the connection that it begins (net/netfilter/ipvs/ip_vs_core.c, ip_vs_ctl.c)."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from dataplane._fast.ipvs cimport IPVS_ONE_PACKET, IPVS_TEMPLATE, Ipvs, IpvsConn, Server, Service
from dataplane._fast.ipvs_conn cimport conn_in, conn_new, conn_rearm, ipvs_hash, table_link, table_unlink
from dataplane._fast.ipvs_schedule cimport schedule
from dataplane._fast.network cimport Host
from dataplane._fast.wire cimport IPPROTO_UDP

cdef enum:
    FTP_DATA = 20           # a server that begins a connection of its own

cdef struct Asked:
    # What begins a connection: a packet's own ends, or those that an ICMP error quotes, seen from the client.
    uint32_t client[4]
    uint32_t virtual[4]
    uint32_t hashed[4]      # what dh, lblc and lblcr take for the destination: of an error, that of the answer in it
    uint16_t client_port
    uint16_t virtual_port
    uint8_t family
    uint8_t proto
    uint32_t mark


cdef inline Service *service_find(const Ipvs *v, uint8_t family, uint8_t proto, const uint32_t *address, uint16_t port) noexcept nogil:
    cdef Service *s = v.services[ipvs_hash(v, proto, address, port) & v.service_mask]
    while s != NULL:
        if (s.proto == proto and s.port == port and s.family == family and s.address[0] == address[0]
                and s.address[1] == address[1] and s.address[2] == address[2] and s.address[3] == address[3]):
            return s
        s = s.next
    return NULL


cdef inline Service *service_of_mark(const Ipvs *v, uint8_t family, uint32_t mark) noexcept nogil:
    cdef uint32_t key[4]
    cdef Service *s
    memset(key, 0, sizeof(key))
    key[0] = mark
    s = v.services[ipvs_hash(v, 0, key, 0) & v.service_mask]
    while s != NULL:
        if s.proto == 0 and s.fwmark == mark and s.family == family:
            return s
        s = s.next
    return NULL


cdef inline Service *service_of(const Ipvs *v, const Asked *asked) noexcept nogil:
    """By mark; by address, protocol and port; by address and protocol with port 0, where it is persistent."""
    cdef Service *s
    if v.services == NULL:
        return NULL
    if v.fwmark_count and asked.mark:
        s = service_of_mark(v, asked.family, asked.mark)
        if s != NULL:
            return s
    s = service_find(v, asked.family, asked.proto, asked.virtual, asked.virtual_port)
    if s == NULL:
        s = service_find(v, asked.family, asked.proto, asked.virtual, 0)
    return s


cdef inline bint template_good(const Ipvs *v, const IpvsConn *template) noexcept nogil:
    cdef const Server *s = template.server
    return s != NULL and s.available and not (v.expire_quiescent_template and s.weight == 0)


cdef inline void template_retire(Ipvs *v, IpvsConn *template) noexcept nogil:
    """ip_vs_check_template: it ends in its time; until then its ports are 0xffff, by which no new connection finds it."""
    if template.virtual_port == 0xFFFF:
        return
    table_unlink(v, template)
    template.virtual_port = template.target_port = 0xFFFF
    template.client_port = 0
    table_link(v, template)


cdef inline IpvsConn *begin_persistent(Host *host, Ipvs *v, Service *service, const Asked *asked, int64_t now) noexcept nogil:
    """ip_vs_sched_persist: a client, or a net of clients, keeps the server that its template names."""
    cdef uint32_t net[4]
    cdef uint32_t virtual[4]
    cdef int i
    cdef uint8_t proto = asked.proto
    cdef uint16_t port = 0, server_port = asked.virtual_port
    cdef IpvsConn *template
    cdef IpvsConn *c
    cdef Server *s
    for i in range(4):
        net[i] = asked.client[i] & service.netmask[i]
    memcpy(virtual, asked.virtual, 16)
    if asked.virtual_port == service.port:
        port = service.port
    elif service.proto == 0:
        proto = 0
        memset(virtual, 0, 16)
        virtual[0] = service.fwmark
    template = conn_in(v, proto, asked.family, net, 0, virtual, port, True)
    if template != NULL and not template_good(v, template):
        template_retire(v, template)
        template = NULL
    if template == NULL:
        s = schedule(v, service, asked.client, asked.client_port, asked.hashed, now, &host.chance)
        if s == NULL:
            return NULL
        template = conn_new(
            v, proto, asked.family, net, 0, virtual, port, s.address, s.port if port else 0, <uint8_t>IPVS_TEMPLATE, s, now)
        if template == NULL:
            return NULL
        template.timeout = service.persistent
    else:
        s = template.server
    if asked.virtual_port == service.port and s.port:
        server_port = s.port
    c = conn_new(
        v, asked.proto, asked.family, asked.client, asked.client_port, asked.virtual, asked.virtual_port, s.address, server_port,
        one_packet(service, asked), s, now)
    if c != NULL:
        c.control = template
        template.children += 1
    conn_rearm(v, template, now)
    return c


cdef inline uint8_t one_packet(const Service *service, const Asked *asked) noexcept nogil:
    return IPVS_ONE_PACKET if service.one_packet and asked.proto == IPPROTO_UDP else 0


cdef inline IpvsConn *begin(Host *host, Ipvs *v, Service *service, const Asked *asked, int64_t now) noexcept nogil:
    """ip_vs_schedule: a connection to the server that the scheduler chooses; NULL when there is none."""
    cdef IpvsConn *c
    cdef Server *s
    if service.persistent:
        c = begin_persistent(host, v, service, asked, now)
    else:
        s = schedule(v, service, asked.client, asked.client_port, asked.hashed, now, &host.chance)
        if s == NULL:
            return NULL
        c = conn_new(
            v, asked.proto, asked.family, asked.client, asked.client_port, asked.virtual, asked.virtual_port, s.address,
            s.port if s.port else asked.virtual_port, one_packet(service, asked), s, now)
    if c != NULL:
        c.server.counters.connections += 1
        service.counters.connections += 1
    return c


cdef inline bint begins(const Ipvs *v, const Asked *asked, bint own) noexcept nogil:
    """Whether a service may be asked at all: not for what a server begins, nor for its answers to `own` clients."""
    if asked.client_port == FTP_DATA:
        return False
    return not own or conn_in(
        v, asked.proto, asked.family, asked.virtual, asked.virtual_port, asked.client, asked.client_port, False) == NULL
