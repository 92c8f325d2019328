"""Bridges: learning, flooding, hairpin, and what netfilter sees of bridged IP packets.

Sources: net/bridge/br_input.c, br_forward.c, br_device.c, br_fdb.c, br_netfilter_hooks.c.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from dataplane._fast.fdb cimport FdbEntry, fdb_age, fdb_create, fdb_find
from dataplane._fast.fib cimport same_address
from dataplane._fast.fragment cimport ip4_fragment, ip6_fragment
from dataplane._fast.hooks cimport HOOK_VERDICT_ACCEPT, run_hook
from dataplane._fast.interface cimport Interface
from dataplane._fast.ip6_options cimport hop_lengths
from dataplane._fast.ip_input cimport ip4_check, ip6_header_check
from dataplane._fast.neighbour cimport Neighbour
from dataplane._fast.network cimport (
    Host, Network, STAGE_END, STAGE_NETWORK_RECEIVE, STAGE_TRANSMIT, Stage, drop, packet_clone, spawn, tap,
)
from dataplane._fast.packet cimport (
    BRIDGE_DNAT, BRIDGE_NONE, BRIDGE_SEEN, FIELD_BRIDGED, FIELD_DST, FIELD_LENGTH, FIELD_OIF, FIELD_PHYSIN, FIELD_PHYSOUT,
    FIELD_PKTTYPE, HOOK_FORWARD,
    HOOK_POSTROUTING, HOOK_PREROUTING, PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST, Packet,
)
from dataplane._fast.reason cimport Reason
from dataplane._fast.resolve cimport neighbour_ready
from dataplane._fast.route cimport INPUT_DROP, INPUT_ERROR, INPUT_FORWARD, InputRoute, route_input4, route_input6
from dataplane._fast.snooping cimport snooping_passes
from dataplane._fast.track cimport CT_ACCEPT, ct_confirm, ct_release
from dataplane._fast.wire cimport (
    ETH_HLEN, ETH_P_8021Q, ETH_P_IP, ETH_P_IPV6, IP_DF, load16, load_mac, mac_is_multicast, store_mac,
)


cdef inline void bridge_learn(
    Host *host, const Interface *bridge, const Interface *port, uint64_t mac, int64_t now,
) noexcept nogil:
    """br_fdb_update: a frame from `mac` came in by `port`. Static entries move too; sticky and local ones do not."""
    cdef FdbEntry *e = fdb_find(&host.fdb, bridge.slot, mac, 0)
    if e == NULL:
        e = fdb_create(&host.fdb, bridge.slot, mac, 0)
        if e == NULL:
            return
        e.port = port.slot
    elif e.local:
        return
    elif not e.sticky:
        e.port = port.slot
    e.updated = now


cdef inline FdbEntry *bridge_lookup(Host *host, const Interface *bridge, uint64_t mac, int64_t now) noexcept nogil:
    cdef FdbEntry *e = fdb_find(&host.fdb, bridge.slot, mac, 0)
    if e != NULL and not e.fixed and not e.local and fdb_age(&host.fdb, e.updated, now) >= bridge.ageing:
        return NULL
    return e


cdef inline bint deliverable(const Interface *port, const Packet *p, const Host *host) noexcept nogil:
    """should_deliver: never back out of the port of entry, but for a hairpin; isolated ports do not see each other."""
    if not port.forwarding_state or not port.up:
        return False
    if p.physin == port.slot and not port.hairpin:
        return False
    if port.isolated and p.physin >= 0 and host.interfaces[p.physin].isolated:
        return False
    return True


cdef inline bint ip_frame(const Packet *p) noexcept nogil:
    return p.ethertype == ETH_P_IP or p.ethertype == ETH_P_IPV6


cdef inline bint netfilter_sees(const Host *host, const Interface *bridge, const Packet *p) noexcept nogil:
    """net.bridge.bridge-nf-call-*, or the bridge's own switch; not where there is a VLAN tag (bridge-nf-filter-vlan-tagged)."""
    if p.vlan_proto:
        return False
    if p.ethertype == ETH_P_IP:
        return host.bridge_iptables or bridge.call_iptables
    if p.ethertype == ETH_P_IPV6:
        return host.bridge_ip6tables or bridge.call_ip6tables
    return False


cdef inline void bridged_fields(Packet *p) noexcept nogil:
    p.field[<int>FIELD_PHYSIN] = <uint32_t>(p.physin + 1)
    p.field[<int>FIELD_PHYSOUT] = <uint32_t>(p.physout + 1)
    p.field[<int>FIELD_PKTTYPE] = p.type


cdef inline Stage bridge_fragment(
    Network *net, Host *host, Packet *p, const Interface *bridge, const Interface *port,
) noexcept nogil:
    """br_nf_dev_queue_xmit: a bridged packet that netfilter saw, and that is longer than what it came in or than its
    port takes, is cut to the bridge's MTU. Nobody is told where it must not be."""
    p.oif = port.slot
    if (p.frag_size == 0 or p.frag_size > port.mtu + 4) and bridge.mtu > port.mtu + 4:
        return drop(net, host, p, Reason.PKT_TOO_BIG)
    if p.family == 6:
        return ip6_fragment(net, host, p, bridge.mtu6, STAGE_TRANSMIT)
    if (load16(p.net + 6) & IP_DF and not p.ignore_df) or p.frag_size > bridge.mtu:
        return drop(net, host, p, Reason.PKT_TOO_BIG)
    return ip4_fragment(net, host, p, bridge.mtu, STAGE_TRANSMIT, False)


cdef inline Stage bridge_output(Network *net, Host *host, Packet *p, Interface *bridge, Interface *port) noexcept nogil:
    """__br_forward: FORWARD and POSTROUTING as netfilter sees them on a bridge, then out of the port."""
    cdef uint8_t kind = p.type
    p.physout = port.slot
    if p.bridge_state == BRIDGE_SEEN and p.physin >= 0 and p.iif == bridge.slot:
        if p.type == PACKET_OTHERHOST:
            p.type = PACKET_HOST
        bridged_fields(p)
        p.field[<int>FIELD_BRIDGED] = 1
        p.oif = bridge.slot
        if run_hook(net, host, p, HOOK_FORWARD) != HOOK_VERDICT_ACCEPT:
            return STAGE_END
        if run_hook(net, host, p, HOOK_POSTROUTING) != HOOK_VERDICT_ACCEPT:
            return STAGE_END
        p.type = kind
        if p.frag_size or p.field[<int>FIELD_LENGTH] > port.mtu:
            p.field[<int>FIELD_BRIDGED] = 0
            if p.field[<int>FIELD_LENGTH] > (p.frag_size if p.frag_size and p.frag_size < port.mtu else port.mtu):
                return bridge_fragment(net, host, p, bridge, port)
    p.field[<int>FIELD_BRIDGED] = 0
    if p.tail - p.mac > <int64_t>port.mtu + ETH_HLEN + 4:
        return drop(net, host, p, Reason.PKT_TOO_BIG)
    p.oif = port.slot
    return STAGE_TRANSMIT


cdef inline bint floods(const Interface *port, uint8_t kind) noexcept nogil:
    if kind == PACKET_BROADCAST:
        return port.broadcast_flood
    if kind == PACKET_MULTICAST:
        return port.multicast_flood
    return port.flood


cdef inline Stage bridge_flood(
    Network *net, Host *host, Packet *p, Interface *bridge, uint8_t kind, bint keep,
) noexcept nogil:
    """br_flood: a copy to every other port; the packet itself goes to the last, unless it is kept to go up."""
    cdef int32_t slot, last = -1
    cdef Interface *port
    cdef Packet *copy
    cdef Stage stage
    # The port that joined last is served first.
    for slot in range(host.interface_count - 1, -1, -1):
        port = &host.interfaces[slot]
        if port.master != bridge.slot or not floods(port, kind) or not deliverable(port, p, host):
            continue
        if last >= 0:
            copy = packet_clone(net, p)
            if copy != NULL:
                stage = bridge_output(net, host, copy, bridge, &host.interfaces[last])
                if stage != STAGE_END:
                    spawn(net, copy, stage)
        last = slot
    if last >= 0:
        if not keep:
            return bridge_output(net, host, p, bridge, &host.interfaces[last])
        copy = packet_clone(net, p)
        if copy != NULL:
            stage = bridge_output(net, host, copy, bridge, &host.interfaces[last])
            if stage != STAGE_END:
                spawn(net, copy, stage)
        return STAGE_END
    if keep:
        return STAGE_END
    return drop(net, host, p, Reason.BRIDGE_NO_EGRESS_PORT)


cdef inline Stage bridge_up(Network *net, Host *host, Packet *p, Interface *bridge, bint overheard=False) noexcept nogil:
    """br_pass_frame_up: to the host's own stack, as received on the bridge; `overheard` where the bridge is promiscuous
    and the frame is not for its own address."""
    if not bridge.up:
        return drop(net, host, p, Reason.DEV_READY)
    bridge.rx_packets += 1
    bridge.rx_bytes += p.tail - p.net
    if overheard:
        ct_release(host.netfilter.conntrack, p)
    elif p.ct != NULL and p.type != PACKET_HOST and ct_confirm(host.netfilter.conntrack, p) != CT_ACCEPT:
        # br_nf_local_in: what is not for the host alone is entered before it goes up, lest its copies race for it.
        return drop(net, host, p, Reason.CONNTRACK_CLASH)
    p.iif = bridge.slot
    p.oif = -1
    # The IP layer forgets what the bridge knew of its fragments, but for where they were cut.
    p.frag_size = 0
    p.field[<int>FIELD_PKTTYPE] = p.type
    tap(net, bridge, p)
    return STAGE_NETWORK_RECEIVE


cdef inline bint group_frame(uint64_t destination) noexcept nogil:
    """To a group, and not to all."""
    return mac_is_multicast(destination) and destination != 0xFFFFFFFFFFFFULL


cdef inline Stage bridge_decide(Network *net, Host *host, Packet *p, Interface *bridge, Interface *port) noexcept nogil:
    """br_handle_frame_finish: learn, then up, out of one port, or out of all."""
    cdef uint64_t destination = load_mac(p.mac)
    cdef FdbEntry *e
    cdef uint8_t kind = PACKET_HOST
    cdef bint up = bridge.promisc
    cdef Interface *out
    cdef Packet *copy
    cdef Stage stage
    if port.learning:
        bridge_learn(host, bridge, port, load_mac(p.mac + 6), p.time)
    if bridge.snooping and group_frame(destination) and not snooping_passes(p):
        return drop(net, host, p, Reason.IP_INHDR)
    if not port.forwarding_state:
        return drop(net, host, p, Reason.BRIDGE_INGRESS_STP_STATE)
    if mac_is_multicast(destination):
        kind = PACKET_BROADCAST if destination == 0xFFFFFFFFFFFFULL else PACKET_MULTICAST
        bridge_flood(net, host, p, bridge, kind, True)
        return bridge_up(net, host, p, bridge, up)
    e = bridge_lookup(host, bridge, destination, p.time)
    if e != NULL:
        e.used = p.time
        if e.local:
            return bridge_up(net, host, p, bridge)
        out = &host.interfaces[e.port]
        if deliverable(out, p, host):
            if not up:
                return bridge_output(net, host, p, bridge, out)
            copy = packet_clone(net, p)
            if copy != NULL:
                stage = bridge_output(net, host, copy, bridge, out)
                if stage != STAGE_END:
                    spawn(net, copy, stage)
        elif not up:
            return drop(net, host, p, Reason.BRIDGE_NO_EGRESS_PORT)
        return bridge_up(net, host, p, bridge, True)
    if not up:
        return bridge_flood(net, host, p, bridge, kind, False)
    bridge_flood(net, host, p, bridge, kind, True)
    return bridge_up(net, host, p, bridge, True)


cdef inline Stage bridge_resume(Network *net, Host *host, Packet *p) noexcept nogil:
    """br_nf_pre_routing_finish_bridge: the new destination is on this bridge; only the frame's target changes."""
    cdef Interface *port = &host.interfaces[p.physin]
    cdef Neighbour *n
    p.bridge_state = BRIDGE_DNAT
    p.oif = port.master
    n = neighbour_ready(net, host, p)
    if n == NULL:
        return STAGE_END
    p.bridge_state = BRIDGE_SEEN
    p.iif = port.master
    store_mac(p.mac, n.mac)
    p.type = PACKET_OTHERHOST
    return bridge_decide(net, host, p, &host.interfaces[port.master], port)


cdef inline Stage bridge_prerouting(
    Network *net, Host *host, Packet *p, Interface *bridge, Interface *port,
) noexcept nogil:
    """br_nf_pre_routing: PREROUTING with the bridge as the interface. A destination that changed is routed: back onto
    the same bridge it gets its neighbour's MAC and stays a bridged frame, elsewhere it goes up to be forwarded."""
    cdef uint8_t kind = p.type
    cdef InputRoute route
    cdef Reason reason
    if p.ethertype == ETH_P_IP:
        reason = ip4_check(p)
    else:
        # Padding behind the datagram is still there when the bridge looks into the options.
        reason = Reason.NOT_DROPPED if hop_lengths(p) else Reason.IP_INHDR
        if reason == Reason.NOT_DROPPED:
            reason = ip6_header_check(p)
    if reason != Reason.NOT_DROPPED:
        return drop(net, host, p, reason)
    memcpy(p.bridge_dst, &p.field[<int>FIELD_DST], 16)
    p.iif = bridge.slot
    if p.type == PACKET_OTHERHOST:
        p.type = PACKET_HOST
    bridged_fields(p)
    p.bridge_state = BRIDGE_SEEN
    if run_hook(net, host, p, HOOK_PREROUTING) != HOOK_VERDICT_ACCEPT:
        return STAGE_END
    p.type = kind
    if same_address(p.bridge_dst, &p.field[<int>FIELD_DST]):
        return bridge_decide(net, host, p, bridge, port)
    if p.family == 4:
        route_input4(host, p, &route)
    else:
        route_input6(host, p, &route)
    # IPv4 takes an error upstairs; IPv6 ends here (br_nf_pre_routing_finish_ipv6).
    if route.action == INPUT_DROP or (route.action == INPUT_ERROR and p.family == 6):
        return drop(net, host, p, route.reason)
    if route.action == INPUT_FORWARD and p.oif == bridge.slot:
        return bridge_resume(net, host, p)
    store_mac(p.mac, bridge.mac)
    p.type = PACKET_HOST
    return bridge_decide(net, host, p, bridge, port)


cdef inline Stage bridge_receive(Network *net, Host *host, Packet *p) noexcept nogil:
    """br_handle_frame."""
    cdef Interface *port = &host.interfaces[p.iif]
    cdef Interface *bridge = &host.interfaces[port.master]
    cdef uint64_t source = load_mac(p.mac + 6), destination = load_mac(p.mac)
    p.physin = port.slot
    p.bridge_state = BRIDGE_NONE
    if source == 0 or mac_is_multicast(source):
        return drop(net, host, p, Reason.MAC_INVALID_SOURCE)
    if destination & 0xFFFFFFFFFFF0ULL == 0x0180C2000000ULL:
        # Link-local groups: pause frames never pass; spanning tree does while the bridge does not speak it.
        if destination & 15 == 1:
            return drop(net, host, p, Reason.MAC_IEEE_MAC_CONTROL)
        if destination & 15 != 0 and not (
            (bridge.group_forward_mask | port.group_forward_mask) >> (destination & 15) & 1
        ):
            # The host alone gets it, as the port's own frame.
            if port.learning and (port.forwarding_state or port.learning_state):
                bridge_learn(host, bridge, port, source, p.time)
            return STAGE_NETWORK_RECEIVE
    if not (port.forwarding_state or port.learning_state):
        return drop(net, host, p, Reason.BRIDGE_INGRESS_STP_STATE)
    if destination == bridge.mac:
        p.type = PACKET_HOST
    if netfilter_sees(host, bridge, p):
        return bridge_prerouting(net, host, p, bridge, port)
    return bridge_decide(net, host, p, bridge, port)


cdef inline Stage bridge_transmit(Network *net, Host *host, Packet *p) noexcept nogil:
    """br_dev_xmit: a frame of the host's own stack into the bridge."""
    cdef Interface *bridge = &host.interfaces[p.oif]
    cdef uint64_t destination = load_mac(p.mac)
    cdef FdbEntry *e
    # The port of entry of a packet that was routed no longer matters: it may go back out there.
    p.physin = -1
    if bridge.snooping and group_frame(destination) and not snooping_passes(p):
        return drop(net, host, p, Reason.IP_INHDR)
    if mac_is_multicast(destination):
        return bridge_flood(net, host, p, bridge, PACKET_BROADCAST if destination == 0xFFFFFFFFFFFFULL else PACKET_MULTICAST, False)
    e = bridge_lookup(host, bridge, destination, p.time)
    if e == NULL:
        return bridge_flood(net, host, p, bridge, PACKET_HOST, False)
    if e.local:
        return drop(net, host, p, Reason.BRIDGE_NO_EGRESS_PORT)
    e.used = p.time
    if not deliverable(&host.interfaces[e.port], p, host):
        return drop(net, host, p, Reason.BRIDGE_NO_EGRESS_PORT)
    return bridge_output(net, host, p, bridge, &host.interfaces[e.port])
