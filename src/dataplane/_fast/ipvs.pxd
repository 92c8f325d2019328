"""IPVS: virtual services, their servers and their connections (include/net/ip_vs.h).

Structs here; the engine is in ipvs_*.pxd. Addresses and ports are in host order, times in ns.
"""

cimport cython

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dataplane._fast.conntrack cimport ConnectionTable, Conntrack

cpdef enum Scheduler:
    SCHEDULER_RR = 0
    SCHEDULER_WRR
    SCHEDULER_LC
    SCHEDULER_WLC
    SCHEDULER_LBLC
    SCHEDULER_LBLCR
    SCHEDULER_SH
    SCHEDULER_DH
    SCHEDULER_SED
    SCHEDULER_NQ
    SCHEDULER_MH
    SCHEDULER_FO
    SCHEDULER_OVF
    SCHEDULER_TWOS

cpdef enum Forward:
    FORWARD_MASQ = 0
    FORWARD_TUNNEL = 2
    FORWARD_ROUTE = 3

cpdef enum Tunnel:
    """What is between the outer IP header and the packet."""
    TUNNEL_IPIP = 0
    TUNNEL_GUE
    TUNNEL_GRE

cpdef enum IpvsState:
    """TCP states, in the order of the kernel's table; SCTP's and UDP's follow."""
    IPVS_NONE = 0
    IPVS_ESTABLISHED
    IPVS_SYN_SENT
    IPVS_SYN_RECV
    IPVS_FIN_WAIT
    IPVS_TIME_WAIT
    IPVS_CLOSE
    IPVS_CLOSE_WAIT
    IPVS_LAST_ACK
    IPVS_LISTEN
    IPVS_SYNACK
    IPVS_UDP
    IPVS_SCTP_INIT1
    IPVS_SCTP_INIT
    IPVS_SCTP_COOKIE_SENT
    IPVS_SCTP_COOKIE_REPLIED
    IPVS_SCTP_COOKIE_WAIT
    IPVS_SCTP_COOKIE
    IPVS_SCTP_COOKIE_ECHOED
    IPVS_SCTP_ESTABLISHED
    IPVS_SCTP_SHUTDOWN_SENT
    IPVS_SCTP_SHUTDOWN_RECEIVED
    IPVS_SCTP_SHUTDOWN_ACK_SENT
    IPVS_SCTP_REJECTED
    IPVS_SCTP_CLOSED
    IPVS_STATE_COUNT

cdef enum:
    # of a connection
    IPVS_NO_OUTPUT = 1      # answers are not seen
    IPVS_INACTIVE = 2       # it counts as inactive
    IPVS_TEMPLATE = 4
    IPVS_ONE_PACKET = 8
    IPVS_CONNTRACK = 16     # netfilter's entry lives and dies with it
    IPVS_UNHASHED = 32
    IPVS_ASSURED = 64       # of a template: one of its connections was answered
    # of a scheduler
    IPVS_FALLBACK = 1
    IPVS_PORT = 2
    HASH_SLOTS = 256        # of sh and dh
    MAGLEV_SLOTS = 4093     # CONFIG_IP_VS_MH_TAB_INDEX 12
    MAGLEV_BITS = 6
    LOCALITY_SLOTS = 1024   # of lblc and lblcr
    LOCALITY_LIMIT = 16384

cdef struct IpvsCounters:
    uint64_t connections
    uint64_t in_packets
    uint64_t out_packets
    uint64_t in_bytes
    uint64_t out_bytes

cdef struct Server:
    uint32_t address[4]
    uint16_t port           # 0: whatever the packet has
    uint8_t family
    uint8_t forward         # Forward
    uint8_t overloaded
    uint8_t available       # it is in its service; False: connections of old still point to it
    uint8_t tunnel          # Tunnel
    uint8_t tunnel_sum      # GUE and GRE with a checksum
    uint16_t tunnel_port    # of GUE
    int32_t weight
    int32_t last_weight     # before it became 0
    uint32_t upper
    uint32_t lower
    int32_t active
    int32_t inactive
    int32_t persistent      # templates
    IpvsCounters counters
    Service *service
    # The service that it was added to, by which it is known when it comes back.
    uint8_t proto
    uint8_t virtual_family
    uint16_t virtual_port
    uint32_t virtual[4]
    uint32_t fwmark
    int64_t idle_since      # of a removed one without connections: it goes in a while, and may come back before; 0: not yet
    Server *next            # the one that was added before; of a removed one, the next that was removed

cdef struct Locality:
    # What lblc and lblcr remember of a destination: a server, or a set of them.
    uint32_t address[4]
    int64_t last_use
    int64_t last_change
    Server *server
    Server **members
    int32_t member_count
    Locality *next

cdef struct Service:
    uint8_t family
    uint8_t proto           # 0: by fwmark
    uint16_t port
    uint32_t address[4]
    uint32_t fwmark
    uint8_t scheduler       # Scheduler
    uint8_t flags           # IPVS_FALLBACK, IPVS_PORT
    uint8_t one_packet
    int64_t persistent      # 0: not
    uint32_t netmask[4]
    Server *servers         # the newest first
    Server *last            # rr: the last choice; wrr: the current one; NULL: the head of the list
    int32_t current_weight  # wrr
    int32_t max_weight
    int32_t divisor
    Server **slots          # sh, dh, mh
    Locality **localities
    int32_t locality_count
    IpvsCounters counters
    int32_t id
    Service *next           # in its bucket

cdef struct IpvsConn:
    uint32_t client[4]
    uint32_t virtual[4]
    uint32_t target[4]
    uint16_t client_port
    uint16_t virtual_port
    uint16_t target_port
    uint8_t family
    uint8_t proto
    uint8_t state           # IpvsState
    uint8_t flags
    uint8_t forward         # Forward
    uint8_t target_family   # of a tunnel it may be another
    int64_t timeout
    int64_t expires
    int64_t due             # where it stands in the heap: never later than `expires`
    int32_t heap            # its place there
    Server *server
    IpvsConn *control       # the template that it belongs to
    int32_t children
    uint32_t bucket
    IpvsConn *next

cdef struct Ipvs:
    Service **services      # buckets
    uint32_t service_mask
    int32_t service_count
    int32_t fwmark_count
    int32_t family_count[2]     # services of IPv4, of IPv6: without any, the family's hooks are not there
    Server *removed
    IpvsConn **buckets
    uint32_t mask
    IpvsConn **heap         # by `due`
    int32_t count           # connections, templates included
    int32_t heap_room
    int32_t limit           # connections at most
    int64_t refused         # connections that would have been more
    IpvsConn *idle
    uint64_t seed
    int64_t timeouts[32]    # by IpvsState
    int64_t timer           # when the walk looks at the heap next; 0: it does not
    uint8_t orphans         # servers were removed, and their connections are to go
    Conntrack *tracked      # netfilter's connections of the same host; NULL: not tracked
    # net.ipv4.vs.*
    uint8_t conntrack
    uint8_t conn_reuse_mode
    uint8_t expire_nodest_conn
    uint8_t expire_quiescent_template
    uint8_t sloppy_tcp
    uint8_t sloppy_sctp
    uint8_t pmtu_disc
    uint8_t nat_icmp_send
    uint8_t schedule_icmp
    uint8_t snat_reroute
    int64_t lblc_expiration
    int64_t lblcr_expiration


@cython.final
cdef class Balancer:
    cdef Ipvs ipvs
    cdef ConnectionTable connections    # kept alive for `ipvs.tracked`
    cdef Service *find(self, int family, int proto, object address, int port, uint32_t fwmark)
    cdef Service *at(self, tuple key) except NULL
    cdef Server *member(self, tuple key, object address, int port) except NULL
    cdef uint32_t bucket_of(self, const Service *s)
    cdef object widen(self)
    cdef void discard(self, Service *service, Server *s)
    cdef void prune(self, int64_t now)
