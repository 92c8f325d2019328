"""Interfaces of a host, and the addresses on them."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cpdef enum LinkKind:
    LINK_PHYSICAL = 0       # a device with something, or nothing, at the other end of its wire
    LINK_LOOPBACK
    LINK_DUMMY
    LINK_VETH
    LINK_TAP
    LINK_TUN                # raw IP, no link-layer header
    LINK_BRIDGE
    LINK_VXLAN
    LINK_OTHER              # kept, never transmits

cdef struct Interface:
    int32_t index           # ifindex, as the tools print it
    int32_t slot            # position in the host's array
    uint8_t kind            # LinkKind
    uint8_t up
    uint8_t noarp
    uint8_t promisc
    uint64_t mac
    uint32_t mtu
    int32_t master          # slot of the bridge that it is a port of; -1
    int32_t peer_host       # where its frames go; -1: nothing behind it
    int32_t peer_slot
    int32_t place           # capture place; -1: not captured
    # as a bridge port
    uint8_t hairpin
    uint8_t learning
    uint8_t flood           # unknown unicast
    uint8_t multicast_flood
    uint8_t broadcast_flood
    uint8_t isolated
    uint8_t forwarding_state
    uint8_t learning_state  # of a port that only learns
    # as a bridge
    int64_t ageing          # ns
    uint8_t call_iptables   # of this bridge alone; the sysctls are the host's
    uint8_t call_ip6tables
    uint16_t group_forward_mask
    uint8_t snooping            # a bridge that looks at multicast
    # net.ipv4.conf and net.ipv6.conf, already combined with `all` as the kernel combines them
    uint8_t forwarding
    uint8_t rp_filter
    uint8_t accept_local
    uint8_t accept_source_route
    uint8_t route_localnet
    uint8_t arp_ignore
    uint8_t arp_announce
    uint8_t arp_filter
    uint8_t proxy_arp_pvlan     # an answer for what is behind the same link
    uint8_t arp_accept
    uint8_t proxy_arp
    uint8_t send_redirects
    uint8_t src_valid_mark
    uint8_t has_ip4         # any IPv4 address on it
    uint8_t forwarding6         # may forward: the switch for all, or force_forwarding
    uint8_t router6             # is a router to its neighbours
    uint8_t disabled6
    uint8_t proxy_ndp
    uint8_t fragmented_nd       # listens to neighbour discovery that came in fragments
    uint32_t hop_limit6
    # net.ipv4.neigh and net.ipv6.neigh, by family (0 IPv4, 1 IPv6); ns
    int64_t reachable[2]
    int64_t delay_probe[2]
    int64_t retransmit[2]
    uint8_t multicast_probes[2]
    uint32_t queue_bytes[2]     # unres_qlen_bytes: of packets that wait for one neighbour
    uint8_t unicast_probes[2]
    uint32_t mtu6
    # ip -s link
    uint64_t rx_packets
    uint64_t rx_bytes
    uint64_t rx_errors
    uint64_t tx_packets
    uint64_t tx_bytes
    uint64_t tx_errors
    uint64_t rx_dropped
    uint64_t tx_dropped

cdef struct LocalAddress:
    uint32_t address[4]
    int32_t slot
    uint8_t family
    uint8_t prefix_length
    uint8_t scope           # RT_SCOPE_: 0 universe, 253 link, 254 host
    uint8_t secondary
    uint8_t deprecated
    int32_t same_bucket     # index of the next address; -1
    int32_t same_slot
