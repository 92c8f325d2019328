"""Why a packet ended: one list for every host.

Names are the kernel's (include/net/dropreason-core.h) where it has one, without the SKB_DROP_REASON_ prefix.
The last group is ours: things that only an emulator or a capture can meet.
"""

cpdef enum Reason:
    NOT_DROPPED = 0
    NOT_SPECIFIED
    # link layer
    OTHERHOST
    DEV_READY
    DEV_HDR
    PKT_TOO_SMALL
    PKT_TOO_BIG
    TAP_FILTER
    UNHANDLED_PROTO
    VLAN_FILTER
    # bridge
    BRIDGE_INGRESS_STP_STATE
    BRIDGE_NO_EGRESS_PORT
    MAC_INVALID_SOURCE
    MAC_IEEE_MAC_CONTROL
    # IP input
    IP_CSUM
    IP_INHDR
    IP_INADDRERRORS
    IP_INNOROUTES
    IP_OUTNOROUTES
    IP_NOPROTO
    IP_RPFILTER
    IP_LOCALNET
    IP_LOCAL_SOURCE
    IP_INVALID_SOURCE
    IP_INVALID_DEST
    IP_INTERFACE_FORWARDING_DISABLED
    UNICAST_IN_L2_MULTICAST
    IPV6DISABLED
    IPV6_BAD_EXTHDR
    IPV6_NDISC_FRAG
    IPV6_NDISC_HOP_LIMIT
    IPV6_NDISC_BAD_CODE
    IPV6_NDISC_BAD_OPTIONS
    IPV6_NDISC_NS_OTHERHOST
    # netfilter
    NETFILTER_DROP
    NETFILTER_REJECT
    CONNTRACK_TABLE_FULL
    CONNTRACK_CLASH
    IPVS_NO_DEST            # ours: no server to be had, or the connection's is gone
    IPVS_OLD_CONNTRACK      # ours: netfilter still tracks the connection that this one replaces
    # transport
    TCP_CSUM
    UDP_CSUM
    ICMP_CSUM
    NO_SOCKET
    TCP_FLAGS
    # neighbours
    NEIGH_FAILED
    NEIGH_QUEUEFULL
    NEIGH_CREATEFAIL
    ARP_BAD
    # fragments
    DUP_FRAG
    FRAG_REASM_TIMEOUT
    FRAG_TOO_FAR
    FRAG_OVERLAP
    FRAG_LENGTH     # behind the end that another fragment gave, or the end of what a packet can be
    FRAG_EMPTY
    FRAG_ECN
    NOMEM
    # tunnels
    VXLAN_INVALID_HDR
    VXLAN_VNI_NOT_FOUND
    NO_TX_TARGET
    VXLAN_ENTRY_EXISTS
    LOCAL_MAC
    IP_TUNNEL_ECN
    TUNNEL_TXINFO
    RECURSION_LIMIT
    ICMP_NOT_SENT
    # ours: no kernel name
    TTL_EXCEEDED
    ROUTE_BLACKHOLE
    ROUTE_PROHIBIT
    ROUTE_UNREACHABLE
    NO_CARRIER
    NO_HEADROOM
    TRUNCATED_CAPTURE
    LOOP_LIMIT
    REASON_COUNT


cpdef enum Verdict:
    """What became of a row of a batch."""
    NONE = 0        # not walked
    QUEUED          # waits for a neighbour, or for more fragments
    DELIVERED       # reached a local socket of a host
    EMITTED         # left through an interface with nothing behind it
    CONSUMED        # taken by the host itself: ARP, neighbour discovery, echo request, reassembled fragment
    DROPPED         # see the reason
    LEFT_OUT        # never injected
