"""The walk: a packet from the interface where it enters to where it ends, across every host and link on its way.

    device_receive ── bridge_receive ── network_receive ── ip_prerouting ── ip_route_input ─┬─ ip_local_in ── ip_local_deliver
          ▲              │                                                                  └─ ip_forward ─┐        │
          │ link         └── (bridged) ───────────────┐         ip_local_out (the host's own) ── ip_postrouting     vxlan_receive
          └────────────────────────── device_transmit ┴──────────────── ip_finish_output ◄─────────────────┘        (back to the
                                          └─ bridge_transmit, vxlan_transmit (outer packet: ip_local_out)             device)

Each stage is a small inline function of a .pxd that gives the next one; this module alone puts them together. What a
stage spawns (ICMP errors, ARP requests, flooded copies) runs before the packet goes on, and what crosses a link waits
its turn: the order is the kernel's. No Python and no GIL in between.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from dataplane._fast.address cimport words_address
from dataplane._fast.arp cimport ARP_REQUEST, arp_send
from dataplane._fast.batch cimport PacketBatch, Rows, batch_append
from dataplane._fast.bridge cimport bridge_receive, bridge_resume, bridge_transmit
from dataplane._fast.defrag cimport fragments_timer
from dataplane._fast.device cimport device_receive, device_transmit
from dataplane._fast.host cimport CompiledHost
from dataplane._fast.interface cimport Interface
from dataplane._fast.ip_forward cimport ip_forward
from dataplane._fast.ip_input cimport (
    ip4_check, ip6_check, ip_local_deliver, ip_local_in, ip_prerouting, ip_route_input, network_receive,
)
from dataplane._fast.ip_output cimport ip_finish_output, ip_local_out, ip_postrouting
from dataplane._fast.ipvs cimport Ipvs
from dataplane._fast.ipvs_hook cimport ipvs_timer_fires
from dataplane._fast.neighbour cimport Neighbour
from dataplane._fast.network cimport (
    Delivery, Host, Network, STAGE_BRIDGE_RECEIVE, STAGE_BRIDGE_RESUME, STAGE_BRIDGE_TRANSMIT, STAGE_END,
    STAGE_FINISH_OUTPUT, STAGE_FORWARD, STAGE_LOCAL_DELIVER, STAGE_LOCAL_IN, STAGE_LOCAL_OUT, STAGE_NETWORK_RECEIVE,
    STAGE_POSTROUTING, STAGE_PREROUTING, STAGE_RECEIVE, STAGE_ROUTE_INPUT, STAGE_TRANSMIT, STAGE_VXLAN_RECEIVE,
    STAGE_VXLAN_TRANSMIT, Sink, SinkRow, Stage, TIMER_FRAGMENTS, TIMER_IPVS, TIMER_NEIGHBOUR, Timer,
    drop, packet_store, packet_take, sink_clear,
    sink_free, timer_take,
)
from dataplane._fast.packet cimport FIELD_MARK, PACKET_HOST, Packet
from dataplane._fast.reason cimport Reason, Verdict
from dataplane._fast.reassembly cimport Reassembly
from dataplane._fast.resolve cimport neighbour_timer
from dataplane._fast.route cimport route_output, route_raw_output
from dataplane._fast.vxlan cimport vxlan_receive, vxlan_transmit

import numpy as np

from dataplane._fast.reason import Verdict as VerdictName


cdef void walk_packet(Network *net, Packet *p, Stage stage) noexcept nogil:
    """Run one packet, and what it spawns, until it ends, waits, or is on a link."""
    cdef Host *host
    while stage != STAGE_END:
        host = net.hosts[p.host]
        if stage == STAGE_RECEIVE:
            stage = device_receive(net, host, p)
        elif stage == STAGE_NETWORK_RECEIVE:
            stage = network_receive(net, host, p)
        elif stage == STAGE_PREROUTING:
            stage = ip_prerouting(net, host, p)
        elif stage == STAGE_ROUTE_INPUT:
            stage = ip_route_input(net, host, p)
        elif stage == STAGE_FORWARD:
            stage = ip_forward(net, host, p)
        elif stage == STAGE_POSTROUTING:
            stage = ip_postrouting(net, host, p)
        elif stage == STAGE_FINISH_OUTPUT:
            stage = ip_finish_output(net, host, p)
        elif stage == STAGE_TRANSMIT:
            stage = device_transmit(net, host, p)
        elif stage == STAGE_LOCAL_IN:
            stage = ip_local_in(net, host, p)
        elif stage == STAGE_LOCAL_DELIVER:
            stage = ip_local_deliver(net, host, p)
        elif stage == STAGE_LOCAL_OUT:
            stage = ip_local_out(net, host, p)
        elif stage == STAGE_BRIDGE_RECEIVE:
            stage = bridge_receive(net, host, p)
        elif stage == STAGE_BRIDGE_RESUME:
            stage = bridge_resume(net, host, p)
        elif stage == STAGE_BRIDGE_TRANSMIT:
            stage = bridge_transmit(net, host, p)
        elif stage == STAGE_VXLAN_TRANSMIT:
            stage = vxlan_transmit(net, host, p)
        elif stage == STAGE_VXLAN_RECEIVE:
            stage = vxlan_receive(net, host, p)
        else:
            break
        if net.spawned != NULL:
            walk_spawned(net)


cdef void walk_spawned(Network *net) noexcept nogil:
    """Run what a stage made, in the order in which it was made; what these spawn runs before the next."""
    cdef Packet *p = net.spawned
    cdef Packet *following
    net.spawned = net.spawned_tail = NULL
    while p != NULL:
        following = p.next
        p.next = NULL
        walk_packet(net, p, <Stage>p.stage)
        p = following


cdef inline void walk_links(Network *net) noexcept nogil:
    """Deliver what is on the links until nothing is."""
    cdef Packet *p
    while net.ring_head != net.ring_tail:
        p = net.ring[net.ring_head & net.ring_mask]
        net.ring_head += 1
        walk_packet(net, p, STAGE_RECEIVE)


cdef void walk_until(Network *net, int64_t time) noexcept nogil:
    """Let time pass: timers fire in their order, and what they send is walked."""
    cdef Timer timer
    while net.timer_count and net.timers[0].time <= time:
        timer = timer_take(net)
        net.now = timer.time
        if timer.kind == TIMER_NEIGHBOUR:
            neighbour_timer(net, net.hosts[timer.host], <Neighbour *>timer.what, timer.time)
        elif timer.kind == TIMER_FRAGMENTS:
            fragments_timer(net, net.hosts[timer.host], <Reassembly *>timer.what, timer.time)
        elif timer.kind == TIMER_IPVS:
            ipvs_timer_fires(net, net.hosts[timer.host], <Ipvs *>timer.what, timer.time)
        if net.spawned != NULL:
            walk_spawned(net)
        walk_links(net)
    if time > net.now:
        net.now = time


cdef void walk_frame(Network *net, Packet *p, int32_t host, int32_t slot) noexcept nogil:
    """A frame, [mac, tail), arrives at an interface. `p.time` must not be before `net.now`."""
    p.host = host
    p.iif = slot
    walk_packet(net, p, STAGE_RECEIVE)
    walk_links(net)


cdef void walk_send(Network *net, Packet *p, int32_t host, bint raw) noexcept nogil:
    """A host sends an IP packet, [net, tail), of its own: as its sockets do, or as a raw one with IP_HDRINCL."""
    cdef Host *h = net.hosts[host]
    cdef Reason reason
    p.host = host
    p.iif = -1
    p.socketed = 1
    p.type = PACKET_HOST
    p.mac = p.net
    reason = ip4_check(p) if p.tail > p.net and p.net[0] >> 4 == 4 else ip6_check(h, p)
    if reason != Reason.NOT_DROPPED:
        drop(net, h, p, reason)
        return
    if not (route_raw_output(h, p) if raw else route_output(h, p)):
        drop(net, h, p, Reason.IP_OUTNOROUTES)
        return
    if raw and p.tail - p.net > <int64_t>h.interfaces[p.oif].mtu:
        # EMSGSIZE: who writes the header cuts the packet himself.
        drop(net, h, p, Reason.PKT_TOO_BIG)
        return
    walk_packet(net, p, STAGE_LOCAL_OUT)
    walk_links(net)


cdef Packet *packet_of_row(Network *net, const Rows *rows, int64_t i) noexcept nogil:
    """A packet whose bytes lie in the batch; what a capture cut off is there as zeros, in a buffer of its own."""
    cdef Packet *p = packet_take(net)
    cdef uint8_t *start = rows.arena + rows.offset[i]
    cdef uint32_t length = rows.length[i], original = rows.original[i]
    if p == NULL:
        return NULL
    if original > length and original <= 65535 + 64:
        if not packet_store(p, original + 320):
            return NULL
        p.mac = p.net = p.head + 256
        memcpy(p.mac, start, length)
        memset(p.mac + length, 0, original - length)
        p.tail = p.mac + original
        p.missing = original - length
    else:
        p.head = start - 128
        p.mac = p.net = start
        p.tail = start + length
        p.end = p.tail + 64
    p.time = rows.time[i] if rows.time[i] > net.now else net.now
    p.row = net.first_row + i
    p.field[<int>FIELD_MARK] = rows.mark[i]
    return p


cdef object batch_of_sink(Sink *sink):
    """The frames of a sink as a batch: `interface` is the capture place, or the slot; and their hosts and rows."""
    cdef PacketBatch batch
    cdef int64_t i
    cdef SinkRow *row
    cdef int32_t[::1] hosts
    cdef int64_t[::1] origins
    batch = PacketBatch(max(sink.count, 1), max(sink.used + 192 * sink.count, 1))
    host_array = np.zeros(sink.count, dtype=np.int32)
    origin_array = np.zeros(sink.count, dtype=np.int64)
    if sink.count:
        hosts = host_array
        origins = origin_array
        with nogil:
            for i in range(sink.count):
                row = &sink.rows[i]
                batch_append(&batch.rows, sink.arena + row.offset, row.length, row.original, row.time, row.place, 1)
                hosts[i] = row.host
                origins[i] = row.row
        batch.decode()
    return batch, host_array, origin_array


@cython.final
cdef class Walk:
    """Hosts, the wires between their interfaces, and the packets on their way.

    Not thread safe: a walk, its hosts and their state belong to one thread at a time.
    """

    def __cinit__(self):
        memset(&self.net, 0, sizeof(Network))
        self.hosts = []

    def __dealloc__(self):
        cdef Packet *p = self.net.packets
        cdef Packet *following
        while p != NULL:
            following = p.sibling
            free(p.storage)
            free(p)
            p = following
        free(self.net.hosts)
        free(self.net.ring)
        free(self.net.timers)
        free(self.net.late)
        sink_free(&self.net.captured)
        sink_free(&self.net.emitted)

    def add(self, CompiledHost host):
        """Take a host into the walk and give its id."""
        cdef Host **grown
        if host.attached is not None:
            raise ValueError(f"host {host.name} is part of a walk already")
        if self.net.host_count == self.net.host_room:
            grown = <Host **>realloc(self.net.hosts, (2 * self.net.host_room + 8) * sizeof(Host *))
            if grown == NULL:
                raise MemoryError
            self.net.hosts = grown
            self.net.host_room = 2 * self.net.host_room + 8
        host.host.id = self.net.host_count
        host.attached = True
        self.net.hosts[self.net.host_count] = host.host
        self.net.host_count += 1
        self.hosts.append(host)
        return host.host.id

    cdef Interface *at(self, int host, int slot) except NULL:
        if not 0 <= host < self.net.host_count or not 0 <= slot < self.net.hosts[host].interface_count:
            raise IndexError(f"no interface {slot} of host {host}")
        return &self.net.hosts[host].interfaces[slot]

    def connect(self, int host_a, int slot_a, int host_b, int slot_b):
        """Lay a wire between two interfaces."""
        cdef Interface *a = self.at(host_a, slot_a)
        cdef Interface *b = self.at(host_b, slot_b)
        a.peer_host = host_b
        a.peer_slot = slot_b
        b.peer_host = host_a
        b.peer_slot = slot_a

    def capture(self, int host, int slot, int place):
        """Copy every frame that this interface receives or sends, as capture place `place`; -1 stops."""
        self.at(host, slot).place = place

    @property
    def keep_emitted(self):
        """Whether frames that leave by an interface with nothing behind it are kept for `emitted`."""
        return bool(self.net.keep_emitted)

    @keep_emitted.setter
    def keep_emitted(self, bint value):
        self.net.keep_emitted = value

    @property
    def link_delay(self):
        """What each link adds to a packet's time, ns."""
        return self.net.link_delay

    @link_delay.setter
    def link_delay(self, int64_t value):
        self.net.link_delay = value

    @property
    def now(self):
        return self.net.now

    @property
    def totals(self):
        """Packets that ended, by Verdict: injected rows and what the hosts made alike."""
        return {name: self.net.totals[<int>name] for name in VerdictName if self.net.totals[<int>name]}

    @property
    def timer_next(self):
        """When the next timer fires, ns; None when there is none."""
        return self.net.timers[0].time if self.net.timer_count else None

    def advance(self, int64_t time):
        """Let time pass until `time`, ns."""
        with nogil:
            walk_until(&self.net, time)

    def announce(self, int host, int slot):
        """Let a host tell its IPv4 addresses of an interface by gratuitous ARP requests (inetdev_send_gratuitous_arp)."""
        cdef Network *net = &self.net
        cdef Host *h
        cdef int32_t i
        self.at(host, slot)
        with nogil:
            h = net.hosts[host]
            for i in range(h.fib.address_count):
                if h.fib.addresses[i].family == 4 and h.fib.addresses[i].slot == slot:
                    arp_send(
                        net, h, slot, ARP_REQUEST, 0xFFFFFFFFFFFFULL, 0,
                        h.fib.addresses[i].address[0], h.fib.addresses[i].address[0], net.now,
                    )
            walk_spawned(net)
            walk_links(net)

    def receive(self, int host, int slot, PacketBatch batch):
        """Let the frames of a batch arrive at one interface, in order.

        batch: Ethernet frames (raw IP for a tun device); its bytes are rewritten in place. Verdict and reason of each row
        are written to the batch.
        """
        self.at(host, slot)
        self.inject(host, slot, batch)

    def send(self, int host, PacketBatch batch):
        """Let a host send the IP packets of a decoded batch (from their network headers on), in order."""
        if not 0 <= host < self.net.host_count:
            raise IndexError(f"no host {host}")
        self.inject(host, -1, batch)

    cdef object inject(self, int32_t host, int32_t slot, PacketBatch batch):
        cdef Rows *rows = &batch.rows
        cdef Packet *p
        cdef int64_t i, count = rows.count
        cdef Delivery *deliveries = <Delivery *>calloc(max(count, 1), sizeof(Delivery))
        cdef Network *net = &self.net
        if deliveries == NULL:
            raise MemoryError
        net.deliveries = deliveries
        net.delivery_count = count
        with nogil:
            for i in range(count):
                if net.timer_count and net.timers[0].time <= rows.time[i]:
                    walk_until(net, rows.time[i])
                elif rows.time[i] > net.now:
                    net.now = rows.time[i]
                p = packet_of_row(net, rows, i)
                if p == NULL:
                    continue
                if slot >= 0:
                    walk_frame(net, p, host, slot)
                elif rows.network[i] == 0xFFFF:
                    drop(net, net.hosts[host], p, Reason.UNHANDLED_PROTO)
                else:
                    p.net = p.mac + rows.network[i]
                    walk_send(net, p, host, True)
            for i in range(count):
                rows.verdict[i] = deliveries[i].verdict
                rows.reason[i] = deliveries[i].reason
            net.deliveries = NULL
            net.first_row += count
        self.last = None
        if count and deliveries[count - 1].verdict == Verdict.DELIVERED:
            self.last = (
                deliveries[count - 1].host,
                words_address(deliveries[count - 1].src, deliveries[count - 1].family), deliveries[count - 1].sport,
                words_address(deliveries[count - 1].dst, deliveries[count - 1].family), deliveries[count - 1].dport,
            )
        free(deliveries)

    @property
    def keep_late(self):
        """Whether what becomes of rows after their batch is kept for `late`."""
        return bool(self.net.keep_late)

    @keep_late.setter
    def keep_late(self, bint value):
        self.net.keep_late = value

    def late(self):
        """Take what became of rows of earlier batches, in the order in which it happened: (rows int64, counted from the
        first row ever injected; verdicts uint8; reasons uint16)."""
        cdef int64_t i, count = self.net.late_count
        cdef int64_t[::1] rows
        cdef uint8_t[::1] verdicts
        cdef uint16_t[::1] reasons
        taken = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.uint8), np.zeros(count, dtype=np.uint16)
        if count:
            rows, verdicts, reasons = taken
            for i in range(count):
                rows[i] = self.net.late[i].row
                verdicts[i] = self.net.late[i].delivery.verdict
                reasons[i] = self.net.late[i].delivery.reason
            self.net.late_count = 0
        return taken

    def captured(self):
        """Take the captured frames: (PacketBatch whose `interface` is the place, hosts int32, rows int64)."""
        result = batch_of_sink(&self.net.captured)
        sink_clear(&self.net.captured)
        return result

    def emitted(self):
        """Take the frames that left the model: (PacketBatch whose `interface` is the slot, hosts int32, rows int64)."""
        result = batch_of_sink(&self.net.emitted)
        sink_clear(&self.net.emitted)
        return result
