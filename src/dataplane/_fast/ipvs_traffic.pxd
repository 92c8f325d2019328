"""What is counted of a connection's packets, and the way of its answers (ip_vs_in_stats, ip_vs_out_stats,
ip_vs_route_me_harder of net/netfilter/ipvs/ip_vs_core.c)."""

from dataplane._fast.fib cimport ROUTE_LOCAL
from dataplane._fast.ipvs cimport IpvsConn
from dataplane._fast.network cimport Host, Network
from dataplane._fast.packet cimport FIELD_LENGTH, Packet
from dataplane._fast.reroute cimport reroute


cdef inline void count_in(IpvsConn *c, const Packet *p) noexcept nogil:
    if c.server != NULL and c.server.available:
        c.server.counters.in_packets += 1
        c.server.counters.in_bytes += p.field[<int>FIELD_LENGTH]
        c.server.service.counters.in_packets += 1
        c.server.service.counters.in_bytes += p.field[<int>FIELD_LENGTH]


cdef inline void count_out(IpvsConn *c, const Packet *p) noexcept nogil:
    if c.server != NULL and c.server.available:
        c.server.counters.out_packets += 1
        c.server.counters.out_bytes += p.field[<int>FIELD_LENGTH]
        c.server.service.counters.out_packets += 1
        c.server.service.counters.out_bytes += p.field[<int>FIELD_LENGTH]


cdef inline bint answers_rerouted(Network *net, Host *host, Packet *p) noexcept nogil:
    """An answer leaves as if the host itself had sent it from the service's address; False: there is no such way."""
    if not host.ipvs.snat_reroute or p.route_type == ROUTE_LOCAL:
        return True
    return reroute(net, host, p)
