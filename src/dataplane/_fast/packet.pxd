"""A packet on its way: where its bytes are, where it is, and the words that rules look at.

`Packet` plays the part of the kernel's sk_buff. The bytes stay where they lie (in a batch, or in the walk's own buffers);
encapsulation moves `mac` and `net` down into the headroom and never touches the payload.

`field` holds header values in host order. `packet_read` fills it once per host, after the network header was checked;
whoever rewrites a header refreshes the words that it changed.
"""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memset

from dataplane._fast.conntrack cimport Conn, Zone
from dataplane._fast.reason cimport Reason
from dataplane._fast.wire cimport (
    ETH_P_IP, ETH_P_IPV6, IP_OFFSET, IPPROTO_AH, IPPROTO_DSTOPTS, IPPROTO_FRAGMENT, IPPROTO_HOPOPTS, IPPROTO_ICMP,
    IPPROTO_ICMPV6, IPPROTO_NONE, IPPROTO_ROUTING, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, load16,
    load32, load_address6,
)

cpdef enum Field:
    """The words of a packet that a rule can compare. Addresses take four words; an IPv4 address is in the first."""
    FIELD_SRC = 0
    FIELD_DST = 4
    FIELD_PROTO = 8         # transport protocol (IPv6: after the extension headers)
    FIELD_SPORT             # TCP, UDP, UDP-Lite, SCTP, DCCP; else 0
    FIELD_DPORT
    FIELD_L4                # 1 when the transport header is there and readable, else 0
    FIELD_FRAGMENT          # fragment offset in 8-byte units: not 0 in every fragment but the first
    FIELD_ICMP              # type << 8 | code, of ICMP and ICMPv6
    FIELD_TCP_FLAGS         # 8 bits: CWR ECE URG ACK PSH RST SYN FIN
    FIELD_TOS               # IPv4 TOS, IPv6 traffic class
    FIELD_TTL               # IPv4 TTL, IPv6 hop limit
    FIELD_LENGTH            # of the network header and all that follows, bytes
    FIELD_MARK
    FIELD_IIF               # interface slot + 1; 0 where the hook has none
    FIELD_OIF
    FIELD_PHYSIN            # bridge port slot + 1; 0 where there is none
    FIELD_PHYSOUT
    FIELD_BRIDGED           # 1 while the packet is switched by a bridge and not routed
    FIELD_PKTTYPE           # PacketType
    FIELD_CTSTATE           # CtState; filled by rules_run, for rules that ask
    FIELD_L4PROTO           # the protocol as nftables has it: FIELD_PROTO, but an IPv6 authentication header ends the chain
    FIELD_COUNT

cpdef enum PacketType:
    PACKET_HOST = 0
    PACKET_BROADCAST = 1
    PACKET_MULTICAST = 2
    PACKET_OTHERHOST = 3
    PACKET_OUTGOING = 4
    PACKET_LOOPBACK = 5     # sent to a group here, and heard here too

cpdef enum BridgeState:
    BRIDGE_NONE = 0         # netfilter has not seen it on a bridge
    BRIDGE_SEEN = 1         # PREROUTING ran on the bridge: it does not run again if the packet goes up
    BRIDGE_DNAT = 2         # ... and sent it back onto the bridge, where its new neighbour is being asked for

cpdef enum CtInfo:
    """How a packet stands to its connection (enum ip_conntrack_info)."""
    CT_ESTABLISHED = 0
    CT_RELATED = 1
    CT_NEW = 2
    CT_IS_REPLY = 3         # added to the first two
    CT_ESTABLISHED_REPLY = 3
    CT_RELATED_REPLY = 4
    CT_UNTRACKED = 7

cpdef enum Hook:
    HOOK_PREROUTING = 0
    HOOK_INPUT = 1
    HOOK_FORWARD = 2
    HOOK_OUTPUT = 3
    HOOK_POSTROUTING = 4

cdef struct Cut:
    # A fragment that a packet was put together from: bytes of its payload, and how many at their end a capture cut off.
    uint32_t length
    uint32_t missing

cdef struct IpOptions:
    # What a host read in the IPv4 options of a packet, and still has to do: offsets from the IP header, 0 where there is none.
    uint8_t length          # of all options; 0: none, or nobody has looked
    uint8_t record          # record route
    uint8_t stamp           # timestamp
    uint8_t route           # loose or strict source route
    uint8_t cipso
    uint8_t strict
    uint8_t hit             # the source route leads on to `nexthop`
    uint8_t changed         # the header's checksum does not hold any more
    uint8_t record_address  # an address is to be written as it leaves
    uint8_t stamp_address
    uint8_t stamp_time
    uint32_t nexthop        # of an answer: the first hop of its source route

cdef struct Packet:
    # bytes: head <= mac <= net <= transport <= tail <= end
    uint8_t *head           # lowest byte that encapsulation may use
    uint8_t *mac            # link-layer header; == net where the link has none
    uint8_t *net            # network header
    uint8_t *transport      # transport header; NULL when not there or not readable (FIELD_L4 is 0)
    uint8_t *tail           # one past the last byte
    uint8_t *end            # one past the last byte that the packet may use
    # place and time
    int64_t time            # ns
    int32_t host
    int32_t iif             # slot of the interface that it came in by (the bridge, for a bridged packet); -1 if local
    int32_t oif             # slot of the interface that it leaves by; -1 before routing
    uint16_t ethertype      # behind the tag, if there is one
    uint16_t vlan_proto     # EtherType of a VLAN tag that was taken off the frame; 0: none
    uint16_t vlan_tci       # ... and what it says: priority and VLAN
    uint8_t family          # 4 or 6
    uint8_t type            # PacketType
    uint8_t stage           # what the walk does next with it
    uint8_t ipvs            # IPVS has seen to it on this host (skb->ipvs_property)
    uint8_t skip_hook       # after a nested run: the hooks already done
    # connection
    uint8_t ctinfo
    Zone zone               # to be tracked in, until connection tracking has seen it
    Conn *ct                # NULL: INVALID, or UNTRACKED if ctinfo says so
    # routing decision
    uint8_t route_type
    uint8_t onlink
    uint8_t nexthop_family
    uint32_t nexthop[4]     # the neighbour to ask for
    uint32_t route_mtu      # 0: the interface's
    uint32_t path_mtu       # learnt of the way to its destination, whether it binds this packet or not; 0
    uint32_t frag_size      # largest fragment that this packet was reassembled from; 0 if it came whole
    uint32_t pulled         # ... bytes from `net` on that somebody has asked to be in one piece since
    uint32_t cut_count      # ... and all of them, in order, in the packet's own buffer; 0: not known, or not to be used
    Cut *cuts
    # IPv6 whose sum was made by connection tracking or by the tunnel that it came from: the header's traffic class and hop
    # limit then, or 0. The kernel keeps the sum of the whole packet, and a rule that changes these words makes it wrong.
    uint32_t summed
    uint8_t unwrapped       # it came out of a tunnel whose own checksum held
    uint8_t icmp_sockets    # of this host that are busy sending it: 1 IPv4, 2 IPv6; they cannot send another meanwhile
    uint8_t socketed        # a socket sends it, and hears what it says to a group
    uint8_t ignore_df       # it was put together here, and may be cut again whatever its header says
    IpOptions options       # of IPv4, read by this host
    uint16_t whole_at       # of IPv6 that connection tracking put together: where its fragment header stood; 0
    # bridge
    int32_t physin          # slot of the bridge port, or -1
    int32_t physout
    uint8_t bridge_state    # BridgeState
    uint32_t bridge_dst[4]  # destination before netfilter saw it on the bridge
    uint64_t neighbour_mac
    # accounting
    int64_t row             # of the injected batch; -1 for a packet that a host made
    int32_t flow            # of the replay's flow table; -1
    uint8_t *storage        # the packet's own buffer, kept with it while it waits in the pool; NULL until it needs one
    uint32_t storage_size
    uint32_t missing        # bytes at the tail that a capture cut off: they are there as zeros
    Packet *next            # in a queue or in the pool
    Packet *sibling         # chain of all packets that were ever made
    int32_t hops            # links crossed, against loops
    uint16_t reason
    uint8_t traced
    uint8_t depth           # encapsulations
    int32_t tunnel          # 1 + slot of the device that wrapped it and waits to hear how it left; 0
    uint32_t field[28]      # by Field; FIELD_COUNT entries are used


cdef inline void packet_pull(Packet *p, const uint8_t *to) noexcept nogil:
    """Somebody wants all up to `to` in one piece (pskb_may_pull, skb_ensure_writable): the fragments that it lies in are
    no longer what they were. Who wants more than there is gets nothing, and nothing changes."""
    if p.cut_count and p.net + p.pulled < to <= p.tail:
        p.pulled = <uint32_t>(to - p.net)


cdef inline void packet_read_ports(Packet *p) noexcept nogil:
    """Fill the transport words from `transport`, which may be NULL."""
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    cdef int64_t room
    p.field[<int>FIELD_SPORT] = 0
    p.field[<int>FIELD_DPORT] = 0
    p.field[<int>FIELD_ICMP] = 0
    p.field[<int>FIELD_TCP_FLAGS] = 0
    p.field[<int>FIELD_L4] = 0
    if p.transport == NULL:
        return
    room = p.tail - p.transport
    if proto == IPPROTO_TCP:
        if room >= 20:
            p.field[<int>FIELD_TCP_FLAGS] = p.transport[13]
            p.field[<int>FIELD_SPORT] = load16(p.transport)
            p.field[<int>FIELD_DPORT] = load16(p.transport + 2)
            p.field[<int>FIELD_L4] = 1
    elif proto == IPPROTO_UDP or proto == IPPROTO_UDPLITE:
        if room >= 8:
            p.field[<int>FIELD_SPORT] = load16(p.transport)
            p.field[<int>FIELD_DPORT] = load16(p.transport + 2)
            p.field[<int>FIELD_L4] = 1
    elif proto == IPPROTO_ICMP or proto == IPPROTO_ICMPV6:
        if room >= 4:
            p.field[<int>FIELD_ICMP] = load16(p.transport)
            p.field[<int>FIELD_L4] = 1
    elif proto == IPPROTO_SCTP:
        if room >= 12:
            p.field[<int>FIELD_SPORT] = load16(p.transport)
            p.field[<int>FIELD_DPORT] = load16(p.transport + 2)
            p.field[<int>FIELD_L4] = 1
    else:
        p.field[<int>FIELD_L4] = 1


cdef inline void packet_read4(Packet *p) noexcept nogil:
    """Fill the words of an IPv4 packet whose header was checked; `tail` is already the end of the datagram."""
    cdef uint8_t *net = p.net
    cdef uint16_t fragment = load16(net + 6)
    p.family = 4
    p.field[<int>FIELD_SRC] = load32(net + 12)
    p.field[<int>FIELD_DST] = load32(net + 16)
    p.field[1] = p.field[2] = p.field[3] = 0
    p.field[5] = p.field[6] = p.field[7] = 0
    p.field[<int>FIELD_PROTO] = net[9]
    p.field[<int>FIELD_L4PROTO] = net[9]
    p.field[<int>FIELD_TOS] = net[1]
    p.field[<int>FIELD_TTL] = net[8]
    p.field[<int>FIELD_LENGTH] = load16(net + 2)
    p.field[<int>FIELD_FRAGMENT] = fragment & IP_OFFSET
    p.transport = NULL if fragment & IP_OFFSET else net + (net[0] & 15) * 4
    packet_read_ports(p)


cdef inline uint32_t ip6_summed(const uint8_t *net) noexcept nogil:
    """Version, traffic class and hop limit of an IPv6 header, never 0: what rules may change without a checksum."""
    return <uint32_t>load16(net) << 8 | net[7]


cdef inline bint ip6_extension(uint32_t proto) noexcept nogil:
    """Whether a next header value is an extension header's, or none (RFC 8200, 4)."""
    return proto in (IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_FRAGMENT, IPPROTO_AH, IPPROTO_DSTOPTS, IPPROTO_NONE)


cdef inline uint8_t *ip6_transport(
    const uint8_t *net, const uint8_t *tail, uint8_t *proto, uint16_t *fragment,
) noexcept nogil:
    """Walk the extension headers (RFC 8200, 4). Gives the transport header and its protocol, NULL when it is not there:
    cut short, no next header, or a later fragment (whose offset is then in `fragment`, with the flags)."""
    cdef const uint8_t *at = net + 40
    cdef uint8_t following = net[6]
    fragment[0] = 0
    while True:
        if following == IPPROTO_HOPOPTS or following == IPPROTO_ROUTING or following == IPPROTO_DSTOPTS:
            # The kernel asks for no more, and takes the length that it reads there.
            if at + (4 if following == IPPROTO_ROUTING else 2) > tail:
                break
            following = at[0]
            at += (at[1] + 1) * 8
        elif following == IPPROTO_FRAGMENT:
            if at + 4 > tail:
                break
            fragment[0] = load16(at + 2)
            following = at[0]
            if fragment[0] & 0xFFF8:
                proto[0] = following
                return NULL
            at += 8
        elif following == IPPROTO_AH:
            if at + 2 > tail:
                break
            following = at[0]
            at += (at[1] + 2) * 4
        elif following == IPPROTO_NONE:
            break
        else:
            proto[0] = following
            return <uint8_t *>at if at <= tail else NULL
        if at > tail:
            break
    proto[0] = following
    return NULL


cdef inline bint ip6_chain_broken(const uint8_t *net, const uint8_t *tail) noexcept nogil:
    """Whether the extension headers end in the middle of one, or say that nothing follows (ipv6_skip_exthdr)."""
    cdef uint8_t proto = 0
    cdef uint16_t fragment = 0
    return ip6_transport(net, tail, &proto, &fragment) == NULL and not fragment & 0xFFF8 and ip6_extension(proto)


cdef inline bint ip6_authenticated(const uint8_t *net, const uint8_t *tail) noexcept nogil:
    """Whether an authentication header stands in the chain, and the chain is whole until there (ipv6_find_hdr with
    IP6_FH_F_AUTH)."""
    cdef const uint8_t *at = net + 40
    cdef uint8_t following = net[6], kind
    while ip6_extension(following) and following != IPPROTO_NONE:
        if at + (4 if following == IPPROTO_ROUTING or following == IPPROTO_FRAGMENT else 2) > tail:
            return False
        if following == IPPROTO_AH:
            return True
        if following == IPPROTO_FRAGMENT and load16(at + 2) & 0xFFF8:
            return False
        kind = following
        following = at[0]
        at += 8 if kind == IPPROTO_FRAGMENT else (at[1] + 1) * 8
    return False


cdef inline void packet_read6(Packet *p) noexcept nogil:
    """Fill the words of an IPv6 packet whose header was checked."""
    cdef uint8_t *net = p.net
    cdef uint8_t proto = 0
    cdef uint16_t fragment = 0
    p.family = 6
    load_address6(net + 8, &p.field[<int>FIELD_SRC])
    load_address6(net + 24, &p.field[<int>FIELD_DST])
    p.transport = ip6_transport(net, p.tail, &proto, &fragment)
    p.field[<int>FIELD_PROTO] = proto
    p.field[<int>FIELD_L4PROTO] = IPPROTO_AH if net[6] != proto and ip6_authenticated(net, p.tail) else proto
    p.field[<int>FIELD_TOS] = (load16(net) >> 4) & 0xFF
    p.field[<int>FIELD_TTL] = net[7]
    p.field[<int>FIELD_LENGTH] = load16(net + 4) + 40
    if load16(net + 4) == 0 and net[6] == IPPROTO_HOPOPTS:
        p.field[<int>FIELD_LENGTH] = <uint32_t>(p.tail - net)
    p.field[<int>FIELD_FRAGMENT] = fragment >> 3
    packet_read_ports(p)


cdef inline void packet_read(Packet *p) noexcept nogil:
    if p.net[0] >> 4 == 4:
        packet_read4(p)
    else:
        packet_read6(p)


cdef inline void packet_interfaces(Packet *p) noexcept nogil:
    """Let the rules see where the packet came in and where it leaves."""
    p.field[<int>FIELD_IIF] = <uint32_t>(p.iif + 1)
    p.field[<int>FIELD_OIF] = <uint32_t>(p.oif + 1)
    if p.bridge_state == BRIDGE_NONE:
        # What a tunnel took in has left its bridge's port behind.
        p.field[<int>FIELD_PHYSIN] = p.field[<int>FIELD_PHYSOUT] = 0


cdef inline bint bridge_routed(const Packet *p) noexcept nogil:
    """Whether a bridge looked up the route already, as rules there had changed the destination. IPv6 then takes the way
    out for the interface that the packet came by (ip6_rcv reads it from the route that it finds)."""
    return p.bridge_state == BRIDGE_SEEN and memcmp(p.bridge_dst, &p.field[<int>FIELD_DST], 16) != 0


cdef inline int32_t came_by(const Packet *p) noexcept nogil:
    """The interface that IPv6 remembers a packet to have come by; -1 while a bridge switches it."""
    if p.field[<int>FIELD_BRIDGED]:
        return -1
    return p.oif if bridge_routed(p) else p.iif
