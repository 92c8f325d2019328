"""Devices: a frame arrives at one, a frame leaves by one, a wire lies between.

Sources: net/core/dev.c, net/ethernet/eth.c, drivers/net/veth.c, drivers/net/loopback.c.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memmove

from dataplane._fast.interface cimport (
    Interface, LINK_BRIDGE, LINK_DUMMY, LINK_LOOPBACK, LINK_OTHER, LINK_TUN, LINK_VXLAN,
)
from dataplane._fast.network cimport (
    HOP_LIMIT, Host, Network, STAGE_BRIDGE_RECEIVE, STAGE_BRIDGE_TRANSMIT, STAGE_END, STAGE_NETWORK_RECEIVE,
    STAGE_VXLAN_TRANSMIT, Stage, drop, finish, ring_push, sink_add, tap,
)
from dataplane._fast.packet cimport (
    BRIDGE_NONE, FIELD_MARK, FIELD_PKTTYPE, PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST, Packet,
)
from dataplane._fast.reason cimport Reason, Verdict
from dataplane._fast.track cimport ct_release
from dataplane._fast.wire cimport ETH_HLEN, ETH_P_8021Q, ETH_P_IP, ETH_P_IPV6, load16, load_mac


cdef inline uint8_t packet_type(const Interface *interface, uint64_t destination) noexcept nogil:
    """eth_type_trans."""
    if destination == interface.mac:
        return PACKET_HOST
    if destination >> 40 & 1:
        return PACKET_BROADCAST if destination == 0xFFFFFFFFFFFFULL else PACKET_MULTICAST
    return PACKET_OTHERHOST


cdef inline Stage device_receive(Network *net, Host *host, Packet *p) noexcept nogil:
    cdef Interface *interface = &host.interfaces[p.iif]
    cdef int64_t length = p.tail - p.mac
    p.host = host.id
    if not interface.up:
        interface.rx_dropped += 1
        return drop(net, host, p, Reason.DEV_READY)
    tap(net, interface, p)
    interface.rx_packets += 1
    p.physin = p.physout = -1
    p.oif = -1
    p.route_mtu = 0
    p.path_mtu = 0
    p.route_type = 0
    p.frag_size = 0
    p.cut_count = 0
    p.ignore_df = 0
    if interface.kind == LINK_TUN:
        interface.rx_bytes += length
        p.net = p.mac
        p.type = PACKET_HOST
        p.ethertype = (ETH_P_IP if p.mac[0] >> 4 == 4 else ETH_P_IPV6) if length else 0
    else:
        if length < ETH_HLEN:
            return drop(net, host, p, Reason.PKT_TOO_SMALL)
        # Loopback and tunnels count without the link-layer header (loopback_xmit, vxlan_rcv).
        interface.rx_bytes += length
        if interface.kind == LINK_LOOPBACK or interface.kind == LINK_VXLAN:
            interface.rx_bytes -= ETH_HLEN
        p.type = packet_type(interface, load_mac(p.mac))
        p.ethertype = load16(p.mac + 12)
        p.net = p.mac + ETH_HLEN
        if p.ethertype == ETH_P_8021Q and length < ETH_HLEN + 6:
            return drop(net, host, p, Reason.NOT_SPECIFIED)     # skb_vlan_untag
        if p.ethertype == ETH_P_8021Q and interface.master < 0:
            if load16(p.net) & 0x0FFF:
                # No VLAN device is modelled: the frame belongs to one that is not there.
                return drop(net, host, p, Reason.OTHERHOST)
            # A tag that bears a priority and no VLAN: the frame counts as untagged.
            memmove(p.mac + 4, p.mac, 12)
            p.mac += 4
            p.ethertype = load16(p.mac + 12)
            p.net = p.mac + ETH_HLEN
    p.field[<int>FIELD_PKTTYPE] = p.type
    if interface.master >= 0:
        return STAGE_BRIDGE_RECEIVE
    return STAGE_NETWORK_RECEIVE


cdef inline Stage wire_cross(Network *net, Host *host, Packet *p, Interface *interface) noexcept nogil:
    """Over the wire into the other host, or out of the model where there is none."""
    cdef Host *there
    cdef Interface *peer
    if interface.peer_host < 0:
        if net.keep_emitted:
            if not sink_add(&net.emitted, p.mac, <uint32_t>(p.tail - p.mac), p.missing, p.time, interface.slot, host.id, p.row):
                net.out_of_memory += 1
        return finish(net, host, p, Verdict.EMITTED, Reason.NOT_DROPPED)
    there = net.hosts[interface.peer_host]
    peer = &there.interfaces[interface.peer_slot]
    if not peer.up:
        interface.tx_dropped += 1
        return drop(net, host, p, Reason.NO_CARRIER)
    # is_skb_forwardable: a frame may be as large as the other end's MTU, its header and a VLAN tag.
    if p.tail - p.mac > <int64_t>peer.mtu + ETH_HLEN + 4:
        interface.tx_dropped += 1
        return drop(net, host, p, Reason.PKT_TOO_BIG)
    ct_release(host.netfilter.conntrack, p)
    p.hops += 1
    if p.hops > HOP_LIMIT:
        return drop(net, host, p, Reason.LOOP_LIMIT)
    p.summed = 0
    p.ipvs = 0
    p.unwrapped = 0
    p.socketed = 0
    p.icmp_sockets = 0
    if there != host:
        p.field[<int>FIELD_MARK] = 0
        p.host = there.id
    p.iif = interface.peer_slot
    p.bridge_state = BRIDGE_NONE
    p.depth = 0
    p.time += net.link_delay
    if not ring_push(net, p):
        return drop(net, host, p, Reason.NOT_SPECIFIED)
    return STAGE_END


cdef inline Stage device_transmit(Network *net, Host *host, Packet *p) noexcept nogil:
    """dev_queue_xmit: [mac, tail) leaves by `oif`."""
    cdef Interface *interface = &host.interfaces[p.oif]
    if not interface.up or interface.kind == LINK_OTHER:
        interface.tx_dropped += 1
        return drop(net, host, p, Reason.DEV_READY)
    tap(net, interface, p)
    p.tunnel = 0
    if interface.kind == LINK_VXLAN:
        # It counts what it has wrapped: each copy, or none.
        return STAGE_VXLAN_TRANSMIT
    interface.tx_packets += 1
    interface.tx_bytes += p.tail - p.mac - (ETH_HLEN if interface.kind == LINK_LOOPBACK else 0)
    if interface.kind == LINK_BRIDGE:
        return STAGE_BRIDGE_TRANSMIT
    if interface.kind == LINK_LOOPBACK:
        # The connection stays with the packet: it is not tracked again on its way in.
        p.icmp_sockets = 0
        p.iif = p.oif
        p.hops += 1
        if p.hops > HOP_LIMIT:
            return drop(net, host, p, Reason.LOOP_LIMIT)
        if not ring_push(net, p):
            return drop(net, host, p, Reason.NOT_SPECIFIED)
        return STAGE_END
    if interface.kind == LINK_DUMMY:
        return finish(net, host, p, Verdict.EMITTED, Reason.NOT_DROPPED)
    return wire_cross(net, host, p, interface)
