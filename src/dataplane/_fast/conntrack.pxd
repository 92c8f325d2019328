"""Connection tracking: tuples, connections and their table (net/netfilter/nf_conntrack_core.c).

Structs here; the engine is written beside them. Addresses and ports are in host order.
"""

cimport cython

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cpdef enum Status:
    """Status bits (enum ip_conntrack_status)."""
    STATUS_EXPECTED = 1
    STATUS_SEEN_REPLY = 2
    STATUS_ASSURED = 4
    STATUS_CONFIRMED = 8
    STATUS_SRC_NAT = 16
    STATUS_DST_NAT = 32
    STATUS_SEQ_ADJUST = 64
    STATUS_SRC_NAT_DONE = 128
    STATUS_DST_NAT_DONE = 256
    STATUS_DYING = 512
    STATUS_FIXED_TIMEOUT = 1024
    STATUS_TEMPLATE = 2048
    STATUS_NAT_CLASH = 4096
    STATUS_HELPER = 8192

cpdef enum ZoneFlag:
    """How a zone counts."""
    ZONE_ORIGINAL = 1       # for tuples of the original direction
    ZONE_REPLY = 2          # for those of the reply direction
    ZONE_BY_MARK = 4        # it is the packet's mark, as connection tracking finds it
    ZONE_GIVEN = 8          # a packet: a rule has said so; no later one is listened to

cdef struct Zone:
    uint16_t id
    uint8_t flags           # ZoneFlag

cdef struct Tuple:
    # No padding: tuples are hashed and compared as bytes.
    uint32_t src[4]
    uint32_t dst[4]
    uint16_t sport          # or ICMP id
    uint16_t dport          # or ICMP type << 8 | code
    uint16_t zone
    uint8_t proto
    uint8_t family          # 4 or 6

cdef struct TcpSide:
    uint32_t end
    uint32_t max_end
    uint32_t max_window
    uint32_t max_ack
    uint8_t scale
    uint8_t flags

cdef struct TcpTrack:
    TcpSide seen[2]
    uint32_t last_seq
    uint32_t last_ack
    uint32_t last_end
    uint16_t last_window
    uint8_t last_scale
    uint8_t last_flags
    uint8_t last_index
    uint8_t last_direction
    uint8_t retransmissions
    uint8_t state

cdef struct SctpTrack:
    uint32_t tag[2]         # verification tag that each direction must bear; 0: not known
    uint8_t init[2]         # it has sent an INIT that no COOKIE ACK has answered
    uint8_t state
    uint8_t strange         # a heartbeat had another tag than it must; the next answer may teach it
    uint8_t strange_from    # the direction that it came from

cdef struct Conn:
    Tuple tuple[2]          # original, reply
    uint32_t status
    uint32_t mark
    Zone zone
    uint32_t labels[4]      # bits
    int64_t expires         # ns; relative to the confirming packet until it is confirmed
    Conn *next[2]           # in the bucket of each tuple
    Conn *next_by_source
    uint32_t bucket[2]
    int32_t uses            # the table, and each packet that holds it
    uint8_t hashed          # bits: which of its tuples is in the table
    uint8_t by_source       # it is in the list by source
    int32_t masquerade      # slot of the interface it was masqueraded to; -1
    uint64_t packets[2]
    uint64_t bytes[2]
    uint64_t id
    int64_t began           # ns: when it was confirmed
    int64_t stream_since    # UDP: from when a stream is a stream
    TcpTrack tcp
    SctpTrack sctp


cdef struct CtSettings:
    # net.netfilter.nf_conntrack_*; times in ns
    int64_t tcp_timeout[14]     # by TcpState; then of too many retransmissions (12) and of unacknowledged data (13)
    int64_t udp_timeout
    int64_t udp_stream_timeout
    int64_t icmp_timeout
    int64_t icmp6_timeout
    int64_t generic_timeout
    int64_t gre_timeout
    int64_t gre_stream_timeout
    int64_t sctp_timeout[10]    # by SctpState
    int64_t maximum             # connections; 0: no limit
    uint32_t buckets            # of the kernel's table, of which early drop looks at eight; ours grows as it needs
    uint8_t accounting          # packets and bytes are shown
    uint8_t timestamp           # so is the time when a connection began
    uint8_t checksum            # verify transport checksums at PREROUTING
    uint8_t tcp_loose
    uint8_t tcp_be_liberal
    uint8_t tcp_ignore_invalid_rst
    uint8_t tcp_max_retrans

cdef struct Pool:
    # Chunks, so that a connection never moves.
    Conn **chunks
    int32_t chunk_count
    int32_t used                # of the last chunk
    Conn *idle                  # by next[0]

cdef struct Conntrack:
    CtSettings settings
    Pool pool
    Conn **buckets              # NULL until the first connection
    uint32_t mask
    Conn **by_source            # of connections with source NAT, as nf_nat_bysource
    uint32_t source_mask
    uint64_t seed
    int64_t count               # connections, confirmed or not
    uint8_t waiting             # those of a dump end so long after the first packet as they say
    uint64_t next_id
    int64_t gc_due              # ns: when the kernel's collector passes next
    uint8_t gc_early            # the table was full since it last did: what is not assured goes too
    uint32_t sweep              # bucket at which the reclaiming of expired entries goes on
    # /proc/net/stat/nf_conntrack
    uint64_t found
    uint64_t invalid
    uint64_t inserted
    uint64_t insert_failed
    uint64_t dropped
    uint64_t early_dropped
    uint64_t clash_resolved


@cython.final
cdef class ConnectionTable:
    cdef Conntrack table
