"""Conversations written into batches: each flow's next packet, with the headers and checksums of its family.

The flows are arrays (one entry per flow), the state is where each flow stands. Packets come in rounds: in each round
every live flow sends one packet, and a flow that has ended gives its place to the next that waits.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import numpy as np

from dataplane._fast.batch cimport PacketBatch, Rows, batch_append, batch_room
from dataplane._fast.wire cimport (
    ETH_HLEN, ETH_P_IP, ETH_P_IPV6, IP_DF, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, TCP_ACK, TCP_FIN,
    TCP_PSH, TCP_SYN, checksum_fold, checksum_sum, ip4_checksum_set, pseudo4, pseudo6, store16, store32,
    store_checksum, store_mac,
)

cdef enum:
    LARGEST = 9216              # bytes of a frame: a jumbo frame with room for its tags
    NOISE = 1 << 16             # bytes of payload to choose from
    LINKTYPE_ETHERNET = 1
    HANDSHAKE = 3               # packets that open a TCP conversation; as many close it
    TTL = 64
    TTL_BACK = 62               # a reply has passed two routers where the client sees it


cdef inline uint64_t mix(uint64_t value) noexcept nogil:
    """A well-mixed function of its argument (the finaliser of splitmix64)."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBU
    return value ^ (value >> 31)


@cython.final
cdef class Traffic:
    """Flows, and where each of them stands; `fill` writes what comes next.

    All arrays have one entry per flow; `source` is the client.

    family           uint8           4 or 6
    protocol         uint8           6 TCP, 17 UDP, 1 echo of the flow's family (ICMP or ICMPv6)
    source           uint8 [n, 16]   address in network order, an IPv4 address in the first four bytes
    destination      uint8 [n, 16]
    source_mac       uint64          the 48-bit address in the low bits
    destination_mac  uint64
    source_port      uint16          host order; the identifier of an echo
    destination_port uint16
    packets          int64           of both directions together
    sizes            uint32 [k]      frame bytes to draw from, at most 9216; a frame is never smaller than its headers
    chances          uint64 [k]      rising; sizes[j] is drawn where a draw of 64 bits is at most chances[j]
    concurrent       flows alive at a time
    start, gap       ns since the epoch of the first packet, ns between packets
    Raises ValueError where lengths differ or a size is too large.
    """
    cdef readonly int64_t flows
    cdef readonly int64_t sent
    cdef int64_t live, waiting, position, kept, time, gap
    cdef uint64_t seed
    cdef const uint8_t[::1] family, protocol
    cdef const uint8_t[:, ::1] source, destination
    cdef const uint64_t[::1] source_mac, destination_mac, chances
    cdef const uint16_t[::1] source_port, destination_port
    cdef const int64_t[::1] packets
    cdef const uint32_t[::1] sizes
    cdef const uint8_t[::1] noise
    cdef int64_t[::1] alive, step
    cdef uint32_t[:, ::1] next
    cdef uint16_t[:, ::1] identity

    def __cinit__(
        self, *, const uint8_t[::1] family, const uint8_t[::1] protocol, const uint8_t[:, ::1] source,
        const uint8_t[:, ::1] destination, const uint64_t[::1] source_mac, const uint64_t[::1] destination_mac,
        const uint16_t[::1] source_port, const uint16_t[::1] destination_port, const int64_t[::1] packets,
        const uint32_t[::1] sizes, const uint64_t[::1] chances, int64_t concurrent, int64_t start, int64_t gap,
        uint64_t seed,
    ):
        cdef int64_t flows = family.shape[0]
        lengths = {
            protocol.shape[0], source.shape[0], destination.shape[0], source_mac.shape[0], destination_mac.shape[0],
            source_port.shape[0], destination_port.shape[0], packets.shape[0],
        }
        if lengths != {flows} or source.shape[1] != 16 or destination.shape[1] != 16:
            raise ValueError("one entry per flow in every array, and 16 bytes per address")
        if sizes.shape[0] == 0 or sizes.shape[0] != chances.shape[0] or np.max(sizes) > LARGEST:
            raise ValueError(f"one chance per size, and no frame above {LARGEST} bytes")
        if chances[chances.shape[0] - 1] != 0xFFFFFFFFFFFFFFFFU:
            raise ValueError("the last chance must take every draw")
        self.flows, self.sent, self.seed = flows, 0, seed
        self.family, self.protocol, self.source, self.destination = family, protocol, source, destination
        self.source_mac, self.destination_mac = source_mac, destination_mac
        self.source_port, self.destination_port, self.packets = source_port, destination_port, packets
        self.sizes, self.chances = sizes, chances
        self.time, self.gap = start, gap
        random = np.random.default_rng(seed)
        self.noise = random.integers(0, 256, NOISE + LARGEST, np.uint8)
        self.next = random.integers(0, 1 << 32, (flows, 2), np.uint32)
        self.identity = random.integers(0, 1 << 16, (flows, 2), np.uint16)
        self.step = np.zeros(flows, np.int64)
        self.live = self.waiting = min(max(concurrent, 1), flows)
        self.alive = np.arange(self.live, dtype=np.int64)
        self.position = self.kept = 0

    def fill(self, PacketBatch batch not None):
        """Append packets, not yet decoded, until `batch` has no room for the largest frame or the traffic is over.

        Returns how many. Raises ValueError for an empty batch that has no such room.
        """
        cdef int64_t before = self.sent
        if not batch.rows.count and not batch_room(&batch.rows, LARGEST):
            raise ValueError(f"the batch has no room for a frame of {LARGEST} bytes")
        with nogil:
            while self.live and batch_room(&batch.rows, LARGEST):
                self._one(&batch.rows)
        return self.sent - before

    cdef void _one(self, Rows *rows) noexcept nogil:
        """The next packet, and the place of its flow given on if that was its last."""
        cdef int64_t flow = self.alive[self.position]
        cdef uint8_t frame[LARGEST]
        cdef uint32_t length
        if self.packets[flow] > 0:
            length = self._build(flow, frame)
            batch_append(rows, frame, length, length, self.time, 0, LINKTYPE_ETHERNET)
            self.time += self.gap
            self.sent += 1
            self.step[flow] += 1
        if self.step[flow] >= self.packets[flow]:
            flow = -1
            if self.waiting < self.flows:
                flow = self.waiting
                self.waiting += 1
        # Those that go on move up in their order: who sends when does not depend on who has ended.
        if flow >= 0:
            self.alive[self.kept] = flow
            self.kept += 1
        self.position += 1
        if self.position == self.live:
            self.live = self.kept
            self.position = self.kept = 0

    cdef uint32_t _size(self, int64_t flow, int64_t step) noexcept nogil:
        """Frame bytes drawn for one packet: of flow and step alone, so that no batch size changes it."""
        cdef uint64_t draw = mix(self.seed ^ mix(<uint64_t>flow * 0x9E3779B97F4A7C15U + <uint64_t>step))
        cdef Py_ssize_t i = 0
        while draw > self.chances[i]:
            i += 1
        return self.sizes[i]

    cdef uint32_t _build(self, int64_t flow, uint8_t *frame) noexcept nogil:
        """Write the flow's next packet to `frame`; returns its length."""
        cdef int64_t step = self.step[flow]
        cdef int64_t last = self.packets[flow] - 1
        cdef uint8_t protocol = self.protocol[flow]
        cdef bint six = self.family[flow] == 6
        cdef bint back = step & 1                       # UDP and echo: a question, then its answer
        cdef bint closes = last >= 2 * HANDSHAKE - 1
        cdef uint8_t flags = TCP_ACK
        cdef bint data = True
        if protocol == IPPROTO_TCP:
            if step < HANDSHAKE:
                back = step == 1
                flags = TCP_SYN if step == 0 else TCP_SYN | TCP_ACK if step == 1 else TCP_ACK
                data = False
            elif closes and step > last - HANDSHAKE:
                back = step == last - 1
                flags = TCP_ACK if step == last else TCP_FIN | TCP_ACK
                data = False
            else:
                back = (step - HANDSHAKE) & 1
                flags = TCP_PSH | TCP_ACK

        cdef uint8_t *network = frame + ETH_HLEN
        cdef uint8_t *upper = network + (40 if six else 20)
        cdef uint32_t header = 8
        if protocol == IPPROTO_TCP:
            header = 24 if flags & TCP_SYN else 20      # a SYN carries its largest segment size
        cdef uint32_t headers = ETH_HLEN + (40 if six else 20) + header
        # An answer to an echo has the size of the question.
        cdef uint32_t size = self._size(flow, step & ~1 if protocol == IPPROTO_ICMP else step) if data else 0
        cdef uint32_t length = size if size > headers else headers
        cdef uint32_t payload = length - headers
        cdef uint64_t place = mix(<uint64_t>flow + (<uint64_t>(step & ~1) << 40)) & (NOISE - 1)
        memcpy(upper + header, &self.noise[place], payload)

        store_mac(frame, self.source_mac[flow] if back else self.destination_mac[flow])
        store_mac(frame + 6, self.destination_mac[flow] if back else self.source_mac[flow])
        self._network(flow, network, back, header + payload)
        cdef uint16_t port = self.destination_port[flow] if back else self.source_port[flow]
        cdef uint16_t other = self.source_port[flow] if back else self.destination_port[flow]
        cdef uint8_t upper_protocol = protocol
        if protocol == IPPROTO_TCP:
            self._tcp(flow, upper, back, flags, payload, six)
            store16(upper, port)
            store16(upper + 2, other)
        elif protocol == IPPROTO_UDP:
            store16(upper, port)
            store16(upper + 2, other)
            store16(upper + 4, <uint16_t>(header + payload))
            store16(upper + 6, 0)
        else:
            upper_protocol = IPPROTO_ICMPV6 if six else IPPROTO_ICMP
            if six:
                upper[0] = 129 if back else 128
            else:
                upper[0] = 0 if back else 8
            upper[1] = 0
            store16(upper + 2, 0)
            store16(upper + 4, self.source_port[flow])
            store16(upper + 6, <uint16_t>(step // 2 + 1))

        cdef uint8_t *at = upper + (16 if protocol == IPPROTO_TCP else 6 if protocol == IPPROTO_UDP else 2)
        cdef uint64_t total = 0                         # ICMP has no pseudo header (RFC 792)
        if six:
            total = pseudo6(network, upper_protocol, header + payload)
        elif protocol != IPPROTO_ICMP:
            total = pseudo4(network, upper_protocol, header + payload)
        cdef uint16_t check = checksum_fold(checksum_sum(upper, header + payload, total))
        if check == 0 and protocol == IPPROTO_UDP:
            check = 0xFFFFU                             # zero would say that there is none (RFC 768)
        store_checksum(at, check)
        return length

    cdef void _network(self, int64_t flow, uint8_t *network, bint back, uint32_t length) noexcept nogil:
        """The Ethernet type and the network header over `length` bytes."""
        cdef const uint8_t *source = &self.destination[flow, 0] if back else &self.source[flow, 0]
        cdef const uint8_t *destination = &self.source[flow, 0] if back else &self.destination[flow, 0]
        cdef uint8_t ttl = TTL_BACK if back else TTL
        if self.family[flow] == 6:
            store16(network - 2, ETH_P_IPV6)
            store32(network, 0x60000000U | (mix(flow) & 0xFFFFFU))
            store16(network + 4, <uint16_t>length)
            network[6] = IPPROTO_ICMPV6 if self.protocol[flow] == IPPROTO_ICMP else self.protocol[flow]
            network[7] = ttl
            memcpy(network + 8, source, 16)
            memcpy(network + 24, destination, 16)
            return
        store16(network - 2, ETH_P_IP)
        network[0] = 0x45
        network[1] = 0
        store16(network + 2, <uint16_t>(20 + length))
        store16(network + 4, self.identity[flow, back])
        self.identity[flow, back] += 1
        store16(network + 6, IP_DF)
        network[8] = ttl
        network[9] = self.protocol[flow]
        memcpy(network + 12, source, 4)
        memcpy(network + 16, destination, 4)
        ip4_checksum_set(network)

    cdef void _tcp(
        self, int64_t flow, uint8_t *tcp, bint back, uint8_t flags, uint32_t payload, bint six
    ) noexcept nogil:
        """Sequence numbers, flags and options; the sender's next number moves on."""
        memset(tcp, 0, 20)
        store32(tcp + 4, self.next[flow, back])
        if flags & TCP_ACK:
            store32(tcp + 8, self.next[flow, not back])
        tcp[12] = 0x60 if flags & TCP_SYN else 0x50
        tcp[13] = flags
        store16(tcp + 14, 64240)
        if flags & TCP_SYN:
            tcp[20] = 2
            tcp[21] = 4
            store16(tcp + 22, 1390 if six else 1410)    # what an interface of 1450 bytes leaves
        self.next[flow, back] += payload + (1 if flags & (TCP_SYN | TCP_FIN) else 0)
