"""The life of a neighbour entry: asking, learning, growing stale, failing (net/core/neighbour.c)."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dataplane._fast.arp cimport arp_solicit
from dataplane._fast.icmp cimport ICMP6_ADDRESS_UNREACH, ICMP_HOST_UNREACH, icmp_unreachable
from dataplane._fast.interface cimport Interface
from dataplane._fast.ndisc cimport nd_solicit
from dataplane._fast.neighbour cimport (
    NUD_CONNECTED, NUD_DELAY, NUD_FAILED, NUD_INCOMPLETE, NUD_NOARP, NUD_PERMANENT, NUD_PROBE, NUD_REACHABLE, NUD_STALE,
    NUD_VALID, Neighbour, QUEUE_OVERHEAD, neighbour_dequeue,
    neighbour_enqueue, neighbour_get,
)
from dataplane._fast.network cimport (
    Host, Network, STAGE_BRIDGE_RESUME, STAGE_END, STAGE_FINISH_OUTPUT, Stage, TIMER_NEIGHBOUR, drop, packet_own, record,
    spawn, timer_add,
)
from dataplane._fast.options cimport options_read
from dataplane._fast.packet cimport BRIDGE_DNAT, FIELD_SRC, Packet
from dataplane._fast.reason cimport Reason, Verdict


cdef inline const Interface *timing(const Host *host, const Neighbour *n) noexcept nogil:
    """The interface whose neigh sysctls say how long to wait and how often to ask."""
    return &host.interfaces[n.slot]


cdef inline void neighbour_arm(Network *net, Host *host, Neighbour *n, int64_t at) noexcept nogil:
    n.timer = at
    if not timer_add(net, at, host.id, TIMER_NEIGHBOUR, n):
        net.out_of_memory += 1


cdef inline void solicit(Network *net, Host *host, Neighbour *n, int64_t time) noexcept nogil:
    """One probe: unicast while a MAC is known and unicast probes remain, else to everybody."""
    cdef bint unicast = n.state == NUD_PROBE and n.probes < timing(host, n).unicast_probes[n.family == 6]
    cdef Packet *first = n.queue_head
    if n.family == 4:
        arp_solicit(net, host, n.slot, n.address[0], first.field[<int>FIELD_SRC] if first != NULL else 0,
                    n.mac if unicast else 0, time)
    else:
        nd_solicit(net, host, n.slot, n.address, &first.field[<int>FIELD_SRC] if first != NULL else NULL, unicast, time)
    n.probes += 1


cdef inline void neighbour_flush(Network *net, Neighbour *n) noexcept nogil:
    """The answer is there: what waited goes on."""
    cdef Packet *p = neighbour_dequeue(n)
    while p != NULL:
        p.time = net.now
        p.icmp_sockets = 0
        spawn(net, p, STAGE_BRIDGE_RESUME if p.bridge_state == BRIDGE_DNAT else STAGE_FINISH_OUTPUT)
        p = neighbour_dequeue(n)


cdef inline void neighbour_fail(Network *net, Host *host, Neighbour *n) noexcept nogil:
    """Nobody answered: each packet that waited ends with a host unreachable to its sender."""
    cdef Packet *p
    n.state = NUD_FAILED
    n.timer = 0
    n.updated = net.now
    p = neighbour_dequeue(n)
    while p != NULL:
        p.icmp_sockets = 0
        p.time = net.now
        if p.family == 6 or p.net[0] & 15 == 5 or not options_read(host, p, p.oif):
            icmp_unreachable(net, host, p, ICMP_HOST_UNREACH, ICMP6_ADDRESS_UNREACH)
        drop(net, host, p, Reason.NEIGH_FAILED)
        p = neighbour_dequeue(n)


cdef inline void neighbour_learn(
    Network *net, Host *host, Neighbour *n, uint64_t mac, uint8_t state, bint override, int64_t time,
) noexcept nogil:
    """neigh_update: a frame told us that `n` has `mac`."""
    cdef uint8_t old = n.state
    if old & (NUD_PERMANENT | NUD_NOARP):
        return
    if old & NUD_VALID:
        if mac != n.mac:
            if not override:
                return
        elif state == NUD_STALE:
            return
    if state & NUD_CONNECTED:
        n.confirmed = time
    if state != old or mac != n.mac:
        n.updated = time
    n.mac = mac
    if state != old:
        n.state = state
        n.timer = 0
        n.probes = 0
        if state == NUD_REACHABLE:
            neighbour_arm(net, host, n, time + timing(host, n).reachable[n.family == 6])
    if not old & NUD_VALID:
        neighbour_flush(net, n)


cdef inline Stage neighbour_wait(Network *net, Host *host, Neighbour *n, Packet *p) noexcept nogil:
    """Queue behind an entry that is being resolved; the oldest packet gives way when the queue is full."""
    cdef Packet *oldest
    cdef uint32_t limit = timing(host, n).queue_bytes[n.family == 6]
    if not packet_own(p):
        return drop(net, host, p, Reason.NEIGH_QUEUEFULL)
    while n.queue_head != NULL and n.queue_bytes + <uint32_t>(p.tail - p.net) + QUEUE_OVERHEAD > limit:
        oldest = neighbour_dequeue(n)
        drop(net, host, oldest, Reason.NEIGH_QUEUEFULL)
    p.tunnel = 0
    neighbour_enqueue(n, p)
    if p.row >= 0:
        record(net, p, Verdict.QUEUED, Reason.NOT_DROPPED)
    return STAGE_END


cdef inline Neighbour *neighbour_ready(Network *net, Host *host, Packet *p) noexcept nogil:
    """The neighbour that `p` goes to, with a MAC to use; or NULL, and `p` is no longer the caller's."""
    cdef Neighbour *n = neighbour_get(&host.neighbours, p.nexthop_family, p.nexthop, p.oif)
    if n == NULL:
        drop(net, host, p, Reason.NEIGH_CREATEFAIL)
        return NULL
    if n.state & (NUD_CONNECTED | NUD_DELAY | NUD_PROBE):
        return n
    n.used = p.time
    if n.state == NUD_STALE:
        n.state = NUD_DELAY
        n.updated = p.time
        neighbour_arm(net, host, n, p.time + timing(host, n).delay_probe[n.family == 6])
        return n
    if n.state == NUD_INCOMPLETE:
        neighbour_wait(net, host, n, p)
        return NULL
    n.state = NUD_INCOMPLETE
    n.updated = p.time
    n.probes = 0
    neighbour_wait(net, host, n, p)
    neighbour_arm(net, host, n, net.now + timing(host, n).retransmit[n.family == 6])
    solicit(net, host, n, net.now)
    return NULL


cdef inline void neighbour_timer(Network *net, Host *host, Neighbour *n, int64_t now) noexcept nogil:
    """neigh_timer_handler."""
    if n.timer != now:
        return
    n.timer = 0
    if n.state == NUD_REACHABLE:
        if now < n.confirmed + timing(host, n).reachable[n.family == 6]:
            neighbour_arm(net, host, n, n.confirmed + timing(host, n).reachable[n.family == 6])
        elif now <= n.used + timing(host, n).delay_probe[n.family == 6]:
            n.state = NUD_DELAY
            n.updated = now
            neighbour_arm(net, host, n, now + timing(host, n).delay_probe[n.family == 6])
        else:
            n.state = NUD_STALE
            n.updated = now
        return
    if n.state == NUD_DELAY:
        n.state = NUD_PROBE
        n.updated = now
        n.probes = 0
    if n.state == NUD_INCOMPLETE and n.probes >= timing(host, n).multicast_probes[n.family == 6]:
        neighbour_fail(net, host, n)
        return
    if n.state == NUD_PROBE and n.probes >= timing(host, n).unicast_probes[n.family == 6]:
        neighbour_fail(net, host, n)
        return
    if n.state & (NUD_INCOMPLETE | NUD_PROBE):
        neighbour_arm(net, host, n, now + timing(host, n).retransmit[n.family == 6])
        solicit(net, host, n, now)
