"""The hosts, the wires between them, and the packets on their way: the state of one walk.

Frames that cross a link wait in one queue, first in first out, as in the kernel's backlog; a packet that a host makes
while another is being walked (an ICMP error, an ARP request, a flooded copy) runs at once, before the other goes on.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from dataplane._fast.fdb cimport Fdb
from dataplane._fast.netfilter cimport Netfilter
from dataplane._fast.fib cimport Fib
from dataplane._fast.chance cimport CHOICE_IP_ID, Chance, chance_generate, chance_recorded
from dataplane._fast.interface cimport Interface
from dataplane._fast.ipvs cimport Ipvs
from dataplane._fast.neighbour cimport Neighbours
from dataplane._fast.packet cimport Packet
from dataplane._fast.reason cimport Reason, Verdict, REASON_COUNT
from dataplane._fast.reassembly cimport Reassembly
from dataplane._fast.track cimport ct_release
from dataplane._fast.wire cimport IPPROTO_ICMP, IPPROTO_ICMPV6, load16

cpdef enum Stage:
    """Where a packet goes next. The walk (walk.pyx) shows the whole path on one screen."""
    STAGE_END = 0           # accounted for; the packet is no longer ours
    STAGE_RECEIVE           # a frame arrives at an interface
    STAGE_BRIDGE_RECEIVE    # ... which is a port of a bridge
    STAGE_BRIDGE_RESUME     # ... whose new destination has been resolved
    STAGE_NETWORK_RECEIVE   # ... or hands it to ARP, IPv4 or IPv6
    STAGE_PREROUTING
    STAGE_ROUTE_INPUT
    STAGE_LOCAL_IN
    STAGE_LOCAL_DELIVER
    STAGE_FORWARD
    STAGE_LOCAL_OUT         # a packet that the host made, routed
    STAGE_POSTROUTING
    STAGE_FINISH_OUTPUT     # fragment, find the neighbour
    STAGE_TRANSMIT          # a frame leaves by an interface
    STAGE_BRIDGE_TRANSMIT
    STAGE_VXLAN_TRANSMIT
    STAGE_VXLAN_RECEIVE

cpdef enum TimerKind:
    TIMER_NEIGHBOUR = 1
    TIMER_FRAGMENTS = 2
    TIMER_IPVS = 3

cdef enum:
    STORAGE = 2560          # of a packet that the walk makes itself: headroom, 1500 bytes and some
    STORAGE_KEPT = 16384    # a larger buffer is given back with its packet
    HEADROOM = 256
    TUNNEL_HLEN = 30        # what a VXLAN device does not count: UDP, VXLAN and inner Ethernet headers
    HOP_LIMIT = 64          # links that one packet may cross before it counts as caught in a loop
    ECHO_NONE = 0

cdef struct Vxlan:
    int32_t slot
    int32_t lower           # slot of the device underneath; -1: whatever the route says
    uint32_t vni
    uint16_t port
    uint16_t port_low       # of the outer source port; 0: the host's ephemeral range
    uint16_t port_high      # exclusive
    uint8_t learning
    uint8_t ttl             # 0: the host's default
    uint8_t ttl_inherit
    uint8_t tos
    uint8_t tos_inherit
    uint8_t df              # 0 unset, 1 set, 2 inherit
    uint8_t checksum        # UDP checksum over IPv4
    uint8_t checksum6       # ... over IPv6
    uint8_t no_checksum6    # packets over IPv6 without a checksum are taken in
    uint8_t group_policy    # GBP: a mark travels in the header
    uint32_t label          # flow label over IPv6
    uint8_t proxy
    uint8_t family          # of the outer header
    uint8_t has_local
    uint32_t local[4]
    int64_t ageing          # ns

cdef struct Bucket:
    # What a host said to one address (struct inet_peer); see peer.pxd.
    uint32_t address[4]
    int64_t last            # ns, at a jiffy
    int64_t tokens          # ns
    uint8_t redirects
    uint8_t used

cdef struct Group:
    # A multicast group that an interface has joined.
    int32_t slot
    uint32_t family
    uint32_t address[4]

cdef struct Host:
    int32_t id
    Interface *interfaces
    int32_t interface_count
    int32_t loopback        # slot of lo; -1
    Fib fib
    Neighbours neighbours
    Group *groups           # in order
    int32_t group_count     # -1: nobody told
    Fdb fdb                 # of its bridges
    Fdb vxlan_fdb
    Vxlan *vxlans
    int32_t vxlan_count
    Netfilter netfilter
    Ipvs *ipvs              # NULL: no virtual service
    Reassembly reassembly[3]    # by ReassemblyKind
    Chance chance
    # sysctls of the host as a whole
    uint8_t default_ttl
    uint8_t icmp_use_inbound_address
    uint8_t icmp_echo_ignore_all
    uint8_t icmp_echo_ignore_broadcasts
    uint8_t bridge_iptables
    uint8_t bridge_ip6tables
    uint8_t bridge_arptables
    uint8_t fwmark_reflect
    uint8_t auto_flow_labels
    uint8_t forward_use_pmtu
    uint8_t no_pmtu_disc
    uint8_t early_demux         # of TCP
    uint8_t *listening          # bits: TCP ports, then UDP ports, that a socket of the host listens at; NULL: none
    uint8_t accept_all      # every port has a listener that says nothing: the packets of a replay are taken as they come
    uint32_t icmp_ratemask
    int64_t icmp_ratelimit      # ns
    uint32_t icmp_messages_per_second
    uint32_t icmp_messages_burst
    int64_t icmp_ratelimit6
    uint16_t port_low           # net.ipv4.ip_local_port_range
    uint16_t port_high          # inclusive, as the sysctl says
    # running
    uint32_t ip_id
    Bucket *buckets             # 256, made when the first error is sent
    int64_t icmp_global_last
    int64_t icmp_global_tokens
    uint64_t drops[96]          # by Reason; REASON_COUNT are used

cdef struct SinkRow:
    int64_t offset
    int64_t time
    uint32_t length
    uint32_t original
    int32_t place           # captured: capture place; emitted: slot of the interface
    int32_t host
    int64_t row

cdef struct Sink:
    # Copies of frames in the order in which they passed.
    uint8_t *arena
    int64_t used
    int64_t size
    SinkRow *rows
    int64_t count
    int64_t room

cdef struct Timer:
    int64_t time
    uint64_t order
    int32_t host
    uint8_t kind            # TimerKind
    void *what

cdef struct Delivery:
    # What became of one injected row; the last word is the last packet's that came of it.
    int32_t host
    int32_t slot
    uint8_t verdict
    uint16_t reason
    uint8_t family
    uint8_t proto
    uint16_t sport
    uint16_t dport
    uint32_t src[4]
    uint32_t dst[4]

cdef struct Late:
    # What became of an injected row after its batch, or its turn, was over.
    int64_t row
    Delivery delivery

cdef struct Network:
    Host **hosts
    int32_t host_count
    int32_t host_room
    Packet **ring           # frames on their way over a link
    uint32_t ring_head
    uint32_t ring_tail
    uint32_t ring_mask
    Packet *spawned         # made by the stage that is running
    Packet *spawned_tail
    Packet *pool            # at rest
    Packet *packets         # all, by `sibling`
    Timer *timers           # a heap, earliest first
    int32_t timer_count
    int32_t timer_room
    uint64_t timer_order
    int64_t now
    int64_t link_delay      # ns that each link adds
    Sink captured
    Sink emitted
    uint8_t keep_emitted
    Delivery *deliveries    # of the batch being injected, by row - first_row; NULL: not asked for
    int64_t first_row
    int64_t delivery_count
    Late *late              # in the order in which it happened; whoever asks for it takes it out again
    int64_t late_count
    int64_t late_room
    uint8_t keep_late
    uint64_t totals[8]      # by Verdict, injected rows and the walk's own packets alike
    uint64_t events         # stages run
    uint64_t out_of_memory


# ---- packets -------------------------------------------------------------------------------------------------------

cdef inline Packet *packet_take(Network *net) noexcept nogil:
    """A packet without bytes; NULL only when memory is out."""
    cdef Packet *p = net.pool
    cdef uint8_t *storage
    cdef uint32_t size
    cdef Packet *sibling
    if p != NULL:
        net.pool = p.next
        storage = p.storage
        size = p.storage_size
        sibling = p.sibling
        memset(p, 0, sizeof(Packet))
        p.storage = storage
        p.storage_size = size
        p.sibling = sibling
    else:
        p = <Packet *>calloc(1, sizeof(Packet))
        if p == NULL:
            net.out_of_memory += 1
            return NULL
        p.sibling = net.packets
        net.packets = p
    p.iif = p.oif = p.physin = p.physout = -1
    p.row = -1
    p.flow = -1
    return p


cdef inline void packet_give(Network *net, Packet *p) noexcept nogil:
    if p.storage_size > STORAGE_KEPT:
        free(p.storage)
        p.storage = NULL
        p.storage_size = 0
    p.next = net.pool
    net.pool = p


cdef inline bint packet_store(Packet *p, uint32_t size) noexcept nogil:
    """Give the packet a buffer of its own with at least `size` bytes."""
    cdef uint8_t *grown
    if size < STORAGE:
        size = STORAGE
    if p.storage_size < size:
        grown = <uint8_t *>realloc(p.storage, size)
        if grown == NULL:
            return False
        p.storage = grown
        p.storage_size = size
    p.head = p.storage
    p.end = p.storage + p.storage_size
    return True


cdef inline Packet *packet_make(Network *net, Host *host, int64_t time, uint32_t length) noexcept nogil:
    """A packet of the host's own: `net` and `tail` span `length` zeroed bytes behind the headroom."""
    cdef Packet *p = packet_take(net)
    if p == NULL:
        return NULL
    if not packet_store(p, length + HEADROOM + 64):
        packet_give(net, p)
        net.out_of_memory += 1
        return NULL
    p.mac = p.net = p.head + HEADROOM
    p.tail = p.net + length
    memset(p.net, 0, length)
    p.time = time
    p.host = host.id
    return p


cdef inline bint packet_own(Packet *p) noexcept nogil:
    """Move the bytes into the packet's own buffer, so that they outlive the batch."""
    cdef uint8_t *from_head = p.head
    cdef uint8_t *start = p.mac if p.mac < p.net else p.net
    cdef int64_t length = p.tail - start
    cdef int64_t mac, network, transport
    if p.storage != NULL and p.head == p.storage:
        return True
    mac = p.mac - start
    network = p.net - start
    transport = p.transport - start if p.transport != NULL else 0
    if not packet_store(p, <uint32_t>length + HEADROOM + 64):
        p.head = from_head
        return False
    memcpy(p.head + HEADROOM, start, <size_t>length)
    p.mac = p.head + HEADROOM + mac
    p.net = p.head + HEADROOM + network
    if p.transport != NULL:
        p.transport = p.head + HEADROOM + transport
    p.tail = p.head + HEADROOM + length
    return True


cdef inline Packet *packet_clone(Network *net, Packet *p) noexcept nogil:
    """A copy with bytes of its own, of the same connection. Where it was cut it does not know."""
    cdef Packet *copy = packet_take(net)
    cdef uint8_t *storage
    cdef uint32_t size
    cdef Packet *sibling
    if copy == NULL:
        return NULL
    storage = copy.storage
    size = copy.storage_size
    sibling = copy.sibling
    memcpy(copy, p, sizeof(Packet))
    copy.storage = storage
    copy.storage_size = size
    copy.sibling = sibling
    copy.tunnel = 0
    copy.next = NULL
    copy.cut_count = 0
    # The bytes still belong to the original: packet_own must copy them.
    copy.head = NULL
    if not packet_own(copy):
        copy.ct = NULL
        packet_give(net, copy)
        net.out_of_memory += 1
        return NULL
    if copy.ct != NULL:
        copy.ct.uses += 1
    return copy


cdef inline void spawn(Network *net, Packet *p, Stage stage) noexcept nogil:
    """Let a packet of the host's own run, from `stage`, before the packet that is being walked goes on."""
    p.stage = stage
    p.next = NULL
    if net.spawned == NULL:
        net.spawned = p
    else:
        net.spawned_tail.next = p
    net.spawned_tail = p


cdef inline uint16_t next_ip_id(Host *host) noexcept nogil:
    cdef uint32_t value
    if chance_recorded(&host.chance, CHOICE_IP_ID, &value):
        return <uint16_t>value
    host.ip_id += 1
    return <uint16_t>host.ip_id


# ---- the end of a packet -------------------------------------------------------------------------------------------

cdef inline Delivery *late_row(Network *net, int64_t row) noexcept nogil:
    cdef Late *grown
    cdef int64_t room
    if net.late_count == net.late_room:
        room = 2 * net.late_room + 64
        grown = <Late *>realloc(net.late, room * sizeof(Late))
        if grown == NULL:
            net.out_of_memory += 1
            return NULL
        net.late = grown
        net.late_room = room
    net.late[net.late_count].row = row
    net.late_count += 1
    return &net.late[net.late_count - 1].delivery


cdef inline void record(Network *net, Packet *p, Verdict verdict, Reason reason) noexcept nogil:
    """Note what became of an injected row. A delivery is never overwritten by the loss of a copy."""
    cdef Delivery *d
    cdef int64_t at = p.row - net.first_row
    if net.deliveries == NULL or at < 0 or at >= net.delivery_count:
        if not net.keep_late or verdict == Verdict.QUEUED:
            return
        d = late_row(net, p.row)
        if d == NULL:
            return
    else:
        d = &net.deliveries[at]
        if d.verdict == Verdict.DELIVERED and verdict != Verdict.DELIVERED:
            return
    d.verdict = verdict
    d.reason = reason
    d.host = p.host
    d.slot = p.iif
    d.family = p.family
    d.proto = <uint8_t>p.field[8]
    d.sport = <uint16_t>p.field[9]
    d.dport = <uint16_t>p.field[10]
    if (d.proto == IPPROTO_ICMP or d.proto == IPPROTO_ICMPV6) and p.transport != NULL and p.tail - p.transport >= 6:
        # An echo's id is its key in both directions.
        d.sport = d.dport = load16(p.transport + 4)
    memcpy(d.src, &p.field[0], 16)
    memcpy(d.dst, &p.field[4], 16)


cdef inline Stage finish(Network *net, Host *host, Packet *p, Verdict verdict, Reason reason) noexcept nogil:
    """The packet ends here."""
    if verdict == Verdict.DROPPED:
        host.drops[<int>reason] += 1
    net.totals[<int>verdict] += 1
    if p.row >= 0:
        record(net, p, verdict, reason)
    ct_release(host.netfilter.conntrack, p)
    packet_give(net, p)
    return STAGE_END


cdef inline void tunnel_failed(Host *host, Packet *p) noexcept nogil:
    """iptunnel_xmit and ip6tunnel_xmit: a packet that the stack refused counts as lost, and not as sent."""
    cdef Interface *device = &host.interfaces[p.tunnel - 1]
    device.tx_packets -= 1
    device.tx_bytes -= p.tail - p.transport - TUNNEL_HLEN
    if p.family == 4:
        device.tx_dropped += 1
    else:
        device.tx_errors += 1
    p.tunnel = 0


cdef inline Stage drop(Network *net, Host *host, Packet *p, Reason reason) noexcept nogil:
    if p.tunnel:
        tunnel_failed(host, p)
    return finish(net, host, p, Verdict.DROPPED, reason)


# ---- links and taps ------------------------------------------------------------------------------------------------

cdef inline bint sink_add(
    Sink *sink, const uint8_t *start, uint32_t length, uint32_t missing, int64_t time, int32_t place, int32_t host,
    int64_t row,
) noexcept nogil:
    cdef SinkRow *rows
    cdef uint8_t *arena
    cdef SinkRow *r
    cdef int64_t size
    if sink.count == sink.room:
        size = 2 * sink.room + 1024
        rows = <SinkRow *>realloc(sink.rows, size * sizeof(SinkRow))
        if rows == NULL:
            return False
        sink.rows = rows
        sink.room = size
    if sink.used + length > sink.size:
        size = 2 * sink.size + length + 65536
        arena = <uint8_t *>realloc(sink.arena, size)
        if arena == NULL:
            return False
        sink.arena = arena
        sink.size = size
    r = &sink.rows[sink.count]
    sink.count += 1
    r.offset = sink.used
    r.time = time
    r.original = length
    r.length = length - missing if missing < length else 0
    r.place = place
    r.host = host
    r.row = row
    memcpy(sink.arena + sink.used, start, r.length)
    sink.used += r.length
    return True


cdef inline void sink_clear(Sink *sink) noexcept nogil:
    sink.used = 0
    sink.count = 0


cdef inline void sink_free(Sink *sink) noexcept nogil:
    free(sink.arena)
    free(sink.rows)
    memset(sink, 0, sizeof(Sink))


cdef inline void tap(Network *net, Interface *interface, Packet *p) noexcept nogil:
    """What tcpdump on this interface would see."""
    if interface.place >= 0:
        if not sink_add(&net.captured, p.mac, <uint32_t>(p.tail - p.mac), p.missing, p.time, interface.place, p.host, p.row):
            net.out_of_memory += 1


cdef inline bint ring_push(Network *net, Packet *p) noexcept nogil:
    cdef Packet **grown
    cdef uint32_t size, i, count
    if net.ring == NULL or net.ring_tail - net.ring_head > net.ring_mask:
        count = net.ring_tail - net.ring_head
        size = 2 * (net.ring_mask + 1) if net.ring != NULL else 256
        grown = <Packet **>malloc(size * sizeof(Packet *))
        if grown == NULL:
            return False
        for i in range(count):
            grown[i] = net.ring[(net.ring_head + i) & net.ring_mask]
        free(net.ring)
        net.ring = grown
        net.ring_head = 0
        net.ring_tail = count
        net.ring_mask = size - 1
    net.ring[net.ring_tail & net.ring_mask] = p
    net.ring_tail += 1
    return True


# ---- timers --------------------------------------------------------------------------------------------------------

cdef inline bint timer_before(const Timer *a, const Timer *b) noexcept nogil:
    return a.time < b.time or (a.time == b.time and a.order < b.order)


cdef inline bint timer_add(Network *net, int64_t time, int32_t host, TimerKind kind, void *what) noexcept nogil:
    cdef Timer *grown
    cdef Timer timer
    cdef int32_t at, parent
    if net.timer_count == net.timer_room:
        grown = <Timer *>realloc(net.timers, (2 * net.timer_room + 64) * sizeof(Timer))
        if grown == NULL:
            return False
        net.timers = grown
        net.timer_room = 2 * net.timer_room + 64
    timer.time = time
    timer.order = net.timer_order
    timer.host = host
    timer.kind = kind
    timer.what = what
    net.timer_order += 1
    at = net.timer_count
    net.timer_count += 1
    while at > 0:
        parent = (at - 1) // 2
        if not timer_before(&timer, &net.timers[parent]):
            break
        net.timers[at] = net.timers[parent]
        at = parent
    net.timers[at] = timer
    return True


cdef inline Timer timer_take(Network *net) noexcept nogil:
    """Remove and give the earliest timer; there must be one."""
    cdef Timer first = net.timers[0]
    cdef Timer last
    cdef int32_t at = 0, child
    net.timer_count -= 1
    if net.timer_count:
        last = net.timers[net.timer_count]
        while True:
            child = 2 * at + 1
            if child >= net.timer_count:
                break
            if child + 1 < net.timer_count and timer_before(&net.timers[child + 1], &net.timers[child]):
                child += 1
            if not timer_before(&net.timers[child], &last):
                break
            net.timers[at] = net.timers[child]
            at = child
        net.timers[at] = last
    return first
