"""VXLAN devices: frames into UDP and out again (RFC 7348; drivers/net/vxlan/vxlan_core.c)."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dataplane._fast.chance cimport CHOICE_TUNNEL_PORT, chance_recorded
from dataplane._fast.fdb cimport FdbEntry, Remote, fdb_add_remote, fdb_age, fdb_create, fdb_find
from dataplane._fast.fib cimport (
    FibResult, FlowKey, NextHop, ROUTE_BLACKHOLE, ROUTE_LOCAL, ROUTE_PROHIBIT, ROUTE_UNICAST, ROUTE_UNREACHABLE, fib_lookup,
    fib_lookup_by, route_source, same_address,
)
from dataplane._fast.icmp cimport write_ip4, write_ip6
from dataplane._fast.interface cimport Interface
from dataplane._fast.network cimport (
    Host, Network, STAGE_END, STAGE_LOCAL_OUT, Stage, Vxlan, drop, finish, next_ip_id, packet_clone, packet_own,
    ring_push, spawn,
)
from dataplane._fast.packet cimport (
    BRIDGE_NONE, FIELD_DST, FIELD_MARK, FIELD_SRC, FIELD_TOS, PACKET_HOST, Packet, ip6_summed, ip6_transport, packet_read4,
    packet_read6,
)
from dataplane._fast.pmtu cimport path_mtu_learn, result_mtu
from dataplane._fast.reason cimport Reason, Verdict
from dataplane._fast.route cimport route_take
from dataplane._fast.track cimport ct_release
from dataplane._fast.vxlan_answer cimport proxy_answer, proxy_takes, tunnel_too_big
from dataplane._fast.wire cimport (
    ETH_HLEN, ETH_P_IP, ETH_P_IPV6, IP_DF, IP_OFFSET, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, checksum_fold,
    checksum_sum, load16, load32, load_mac, mac_is_multicast, pseudo4, pseudo6, store16, store32, store_checksum,
)

cdef enum:
    VXLAN_HLEN = 8
    UDP_HLEN = 8
    VXLAN_FLAG_VNI = 0x08000000
    VXLAN_FLAG_GROUP = 0x80000000U
    VXLAN_GROUP_USED = 0x80FFFFFFU      # of the first word, where the device has group policy
    VXLAN_GROUP_MARK = 0x0048FFFFU      # don't learn, policy applied, and the group's id


cdef inline Vxlan *vxlan_device(Host *host, int32_t slot) noexcept nogil:
    cdef int32_t i
    for i in range(host.vxlan_count):
        if host.vxlans[i].slot == slot:
            return &host.vxlans[i]
    return NULL


cdef inline uint64_t mix(uint64_t h, uint64_t v) noexcept nogil:
    h = (h ^ v) * 0x9E3779B97F4A7C15ULL
    return h ^ (h >> 29)


cdef inline uint32_t frame_flow_hash(const uint8_t *mac, const uint8_t *tail) noexcept nogil:
    """What the flow dissector sees of a frame: addresses, protocol, and flow label or ports; the MACs of anything but IP."""
    cdef const uint8_t *net = mac + ETH_HLEN
    cdef const uint8_t *transport = NULL
    cdef uint16_t ethertype = load16(mac + 12), fragment = 0
    cdef uint8_t proto = 0
    cdef uint32_t label
    cdef uint64_t h = 0x13198A2E03707344ULL
    if ethertype == ETH_P_IP and tail - net >= 20:
        proto = net[9]
        h = mix(mix(h, <uint64_t>load32(net + 12) << 32 | load32(net + 16)), proto)
        if load16(net + 6) & 0x3FFF == 0:
            transport = net + (net[0] & 15) * 4
    elif ethertype == ETH_P_IPV6 and tail - net >= 40:
        h = mix(mix(h, <uint64_t>load32(net + 8) << 32 | load32(net + 12)), <uint64_t>load32(net + 16) << 32 | load32(net + 20))
        h = mix(mix(h, <uint64_t>load32(net + 24) << 32 | load32(net + 28)), <uint64_t>load32(net + 32) << 32 | load32(net + 36))
        label = load32(net) & 0xFFFFF
        if label:  # the dissector stops at a flow label, which stands for the ports
            return <uint32_t>(mix(h, <uint64_t>label << 8 | net[6]) >> 32)
        transport = ip6_transport(net, tail, &proto, &fragment)
        h = mix(h, proto)
        if fragment:
            transport = NULL
    else:
        return <uint32_t>(mix(mix(mix(h, load_mac(mac)), load_mac(mac + 6)), ethertype) >> 32)
    if transport != NULL and transport + 4 <= tail and (proto == IPPROTO_TCP or proto == IPPROTO_UDP or proto == IPPROTO_SCTP):
        h = mix(h, load32(transport))
    return <uint32_t>(h >> 32)


cdef inline uint16_t tunnel_port(Host *host, const Vxlan *vxlan, const Packet *p) noexcept nogil:
    """udp_flow_src_port: one port per inner flow, from [low, high)."""
    cdef uint32_t value, low = vxlan.port_low, high = vxlan.port_high
    if chance_recorded(&host.chance, CHOICE_TUNNEL_PORT, &value):
        return <uint16_t>value
    if high <= low:
        low = host.port_low
        high = host.port_high
    value = frame_flow_hash(p.mac, p.tail)
    value ^= value << 16
    return <uint16_t>(((<uint64_t>value * (high - low)) >> 32) + low)


cdef inline void vxlan_learn(
    Host *host, const Vxlan *vxlan, uint64_t mac, uint8_t family, const uint32_t *outer, int64_t now, bint *refused,
) noexcept nogil:
    """vxlan_snoop: the sender's MAC is behind the outer source; a static entry that says otherwise refuses the frame."""
    cdef FdbEntry *e = fdb_find(&host.vxlan_fdb, vxlan.slot, mac, 0)
    cdef Remote *r
    refused[0] = False
    if e == NULL:
        e = fdb_create(&host.vxlan_fdb, vxlan.slot, mac, 0)
        if e == NULL:
            return
        r = fdb_add_remote(e)
        if r == NULL:
            return
        r.family = family
        memcpy(r.address, outer, 16)
    elif e.remotes != NULL and e.remotes.family == family and same_address(e.remotes.address, outer):
        pass
    elif e.fixed:
        refused[0] = True
        return
    elif e.remotes != NULL:
        e.remotes.family = family
        memcpy(e.remotes.address, outer, 16)
    e.updated = now


cdef inline Stage vxlan_input(Network *net, Host *host, Packet *p, Vxlan *vxlan) noexcept nogil:
    """The inner frame, `p.mac`, arrives at the device."""
    ct_release(host.netfilter.conntrack, p)
    p.iif = vxlan.slot
    p.oif = -1
    p.physin = p.physout = -1
    p.bridge_state = BRIDGE_NONE
    p.icmp_sockets = 0
    if not ring_push(net, p):
        return drop(net, host, p, Reason.NOT_SPECIFIED)
    return STAGE_END


cdef inline Stage vxlan_to_self(
    Network *net, Host *host, Packet *p, Vxlan *vxlan, uint32_t vni, uint16_t port, const uint32_t *source,
    uint8_t family,
) noexcept nogil:
    """The remote is this host: the frame goes straight to its own device (encap_bypass)."""
    cdef int32_t i
    cdef Vxlan *other
    cdef bint refused = False
    for i in range(host.vxlan_count):
        other = &host.vxlans[i]
        if other.vni == vni and other.port == port and other.family == family and host.interfaces[other.slot].up:
            # vxlan_encap_bypass counts whole frames on both sides.
            host.interfaces[vxlan.slot].tx_packets += 1
            host.interfaces[vxlan.slot].tx_bytes += p.tail - p.mac
            host.interfaces[other.slot].rx_bytes += ETH_HLEN
            if other.learning:
                vxlan_learn(host, other, load_mac(p.mac + 6), family, source, p.time, &refused)
            return vxlan_input(net, host, p, other)
    host.interfaces[vxlan.slot].tx_errors += 1
    return drop(net, host, p, Reason.VXLAN_VNI_NOT_FOUND)


cdef inline void tunnel_fits(Host *host, const Packet *p, uint16_t ethertype, uint32_t mtu, int32_t slot) noexcept nogil:
    """skb_tunnel_check_pmtu: what does not fit the outer route is sent, but the inner route learns of it."""
    cdef FlowKey key
    cdef uint8_t family = 4 if ethertype == ETH_P_IP else 6
    if p.tail - p.mac - ETH_HLEN <= <int64_t>mtu or (ethertype != ETH_P_IP and ethertype != ETH_P_IPV6):
        return
    memset(&key, 0, sizeof(key))
    memcpy(key.dst, &p.field[<int>FIELD_DST], 16)
    memcpy(key.src, &p.field[<int>FIELD_SRC], 16)
    key.family = family
    key.iif = -1
    key.oif = slot
    key.mark = p.field[<int>FIELD_MARK]
    path_mtu_learn(&host.fib, &key, mtu, p.time)


cdef inline uint32_t vxlan_group(const Vxlan *vxlan, const Packet *p) noexcept nogil:
    """vxlan_build_gbp_hdr: what the packet's mark says in the first word."""
    cdef uint32_t mark = p.field[<int>FIELD_MARK]
    if not vxlan.group_policy or mark == 0:
        return 0
    return VXLAN_FLAG_GROUP | (mark & VXLAN_GROUP_MARK)


cdef inline Stage vxlan_encapsulate(
    Network *net, Host *host, Packet *p, Vxlan *vxlan, const Remote *remote,
) noexcept nogil:
    """vxlan_xmit_one: from here on the packet is one that the host made itself."""
    cdef Interface *device = &host.interfaces[vxlan.slot]
    cdef uint32_t vni = remote.vni if remote.vni else vxlan.vni
    cdef uint16_t port = remote.port if remote.port else vxlan.port
    cdef uint16_t source_port, fragment = 0, ethertype
    cdef uint32_t header, length
    cdef uint32_t source[4]
    cdef uint8_t inner_tos = 0, inner_ttl = 0, tos, ttl
    cdef bint inner_df = False
    cdef uint8_t *udp
    cdef uint8_t *inner = p.mac
    cdef FlowKey key
    cdef FibResult result
    cdef NextHop onlink
    cdef Packet *answer
    cdef bint routed
    if remote.family == 0:
        device.tx_dropped += 1
        return drop(net, host, p, Reason.NO_TX_TARGET)
    ethertype = load16(inner + 12)
    if ethertype == ETH_P_IP and p.tail - inner >= ETH_HLEN + 20:
        inner_tos = inner[ETH_HLEN + 1]
        inner_ttl = inner[ETH_HLEN + 8]
        inner_df = load16(inner + ETH_HLEN + 6) & IP_DF
    elif ethertype == ETH_P_IPV6 and p.tail - inner >= ETH_HLEN + 40:
        inner_tos = <uint8_t>(load16(inner + ETH_HLEN) >> 4)
        inner_ttl = inner[ETH_HLEN + 7]
        inner_df = True
    tos = inner_tos if vxlan.tos_inherit else vxlan.tos
    tos = (tos & 0xFC) | (2 if inner_tos & 3 == 3 else inner_tos & 3)
    memset(&key, 0, sizeof(key))
    memcpy(key.dst, remote.address, 16)
    if vxlan.has_local:
        memcpy(key.src, vxlan.local, 16)
    key.family = remote.family
    key.iif = -1
    key.oif = remote.slot       # an entry's own interface alone: the device's binds only the entry made with it
    key.mark = p.field[<int>FIELD_MARK]
    key.tos = tos & 0x1C
    if remote.family == 6 and remote.slot >= 0:
        key.oif = -1
        routed = fib_lookup_by(&host.fib, &key, remote.slot, &result)
    else:
        routed = fib_lookup(&host.fib, &key, &result)
    if not routed:
        result.type = ROUTE_UNREACHABLE
        if key.oif >= 0:
            # ip_route_output_key_hash_rcu: what no route leads to by this device must be on its link.
            onlink.slot = key.oif
            onlink.gateway_family = 0
            result.type = ROUTE_UNICAST
            result.hop = &onlink
    if result.type == ROUTE_UNREACHABLE or result.type == ROUTE_BLACKHOLE or result.type == ROUTE_PROHIBIT or (
        result.type != ROUTE_LOCAL and result.hop == NULL
    ):
        device.tx_errors += 1
        return drop(net, host, p, Reason.IP_OUTNOROUTES)
    if vxlan.has_local:
        memcpy(source, vxlan.local, 16)
    elif not route_source(&host.fib, &key, &result, source):
        device.tx_errors += 1
        return drop(net, host, p, Reason.IP_OUTNOROUTES)
    if result.type == ROUTE_LOCAL:
        return vxlan_to_self(net, host, p, vxlan, vni, port, source, remote.family)
    if result.hop.slot == vxlan.slot or p.depth > 8:
        device.tx_errors += 1
        return drop(net, host, p, Reason.RECURSION_LIMIT)
    header = (20 if remote.family == 4 else 40) + UDP_HLEN + VXLAN_HLEN
    if device.master >= 0:
        answer = tunnel_too_big(net, host, p, <int64_t>result_mtu(&host.fib, &key, &result, p.time) - header - ETH_HLEN)
        if answer != NULL:
            # It comes back by the device, which counts whole frames on both sides.
            device.tx_packets += 1
            device.tx_bytes += answer.tail - answer.mac
            device.rx_bytes += ETH_HLEN
            finish(net, host, p, Verdict.CONSUMED, Reason.NOT_DROPPED)
            return vxlan_input(net, host, answer, vxlan)
    else:
        tunnel_fits(host, p, ethertype, result_mtu(&host.fib, &key, &result, p.time) - header - ETH_HLEN, vxlan.slot)
    if p.mac - p.head < <int64_t>header + ETH_HLEN:
        # Out of the batch's headroom: into a buffer of the packet's own, whose headroom is larger.
        if p.head == p.storage or not packet_own(p):
            device.tx_dropped += 1
            return drop(net, host, p, Reason.NO_HEADROOM)
    source_port = tunnel_port(host, vxlan, p)
    ct_release(host.netfilter.conntrack, p)
    device.tx_packets += 1
    device.tx_bytes += p.tail - p.mac - ETH_HLEN
    p.tunnel = vxlan.slot + 1
    udp = p.mac - VXLAN_HLEN - UDP_HLEN
    store32(udp + UDP_HLEN, VXLAN_FLAG_VNI | vxlan_group(vxlan, p))
    store32(udp + UDP_HLEN + 4, vni << 8)
    length = <uint32_t>(p.tail - udp)
    store16(udp, source_port)
    store16(udp + 2, port)
    store16(udp + 4, <uint16_t>length)
    store16(udp + 6, 0)
    p.net = udp - (20 if remote.family == 4 else 40)
    p.mac = p.net
    p.transport = udp
    ttl = vxlan.ttl
    if vxlan.ttl_inherit:
        ttl = inner_ttl
    elif ttl == 0 and (remote.address[0] >> 28 == 14 if remote.family == 4 else remote.address[0] >> 24 == 0xFF):
        ttl = 1
    if remote.family == 4:
        if vxlan.df == 1 or (vxlan.df == 2 and inner_df):
            fragment = IP_DF
        write_ip4(p, tos, next_ip_id(host), fragment, ttl if ttl else host.default_ttl, IPPROTO_UDP, source[0], remote.address[0])
        if vxlan.checksum:
            store_checksum(udp + 6, checksum_fold(checksum_sum(udp, length, pseudo4(p.net, IPPROTO_UDP, length))))
            if load16(udp + 6) == 0:
                store16(udp + 6, 0xFFFFU)
        packet_read4(p)
        p.ethertype = ETH_P_IP
    else:
        write_ip6(p, tos, IPPROTO_UDP, ttl if ttl else <uint8_t>host.interfaces[result.hop.slot].hop_limit6, source, remote.address)
        store32(p.net, load32(p.net) | vxlan.label)
        if vxlan.checksum6:
            store_checksum(udp + 6, checksum_fold(checksum_sum(udp, length, pseudo6(p.net, IPPROTO_UDP, length))))
            if load16(udp + 6) == 0:
                store16(udp + 6, 0xFFFFU)
        packet_read6(p)
        p.ethertype = ETH_P_IPV6
    p.iif = -1
    route_take(host, p, &result)
    p.depth += 1
    p.physin = p.physout = -1
    p.bridge_state = BRIDGE_NONE
    p.frag_size = 0
    p.cut_count = 0
    p.ignore_df = 0
    p.options.length = 0
    p.type = PACKET_HOST
    return STAGE_LOCAL_OUT


cdef inline Stage vxlan_transmit(Network *net, Host *host, Packet *p) noexcept nogil:
    """vxlan_xmit: one copy to each remote of the frame's destination, or to those that take what is unknown."""
    cdef Vxlan *vxlan = vxlan_device(host, p.oif)
    cdef uint64_t destination = load_mac(p.mac)
    cdef FdbEntry *e
    cdef Remote *remote
    cdef Packet *copy
    cdef Stage stage
    if vxlan == NULL:
        return drop(net, host, p, Reason.NO_TX_TARGET)
    if vxlan.proxy and proxy_takes(p):
        copy = proxy_answer(net, host, vxlan, p)
        finish(net, host, p, Verdict.CONSUMED, Reason.NOT_DROPPED)
        if copy == NULL:
            return STAGE_END
        # Not counted: it is handed to the stack behind the device's back.
        host.interfaces[vxlan.slot].rx_packets -= 1
        host.interfaces[vxlan.slot].rx_bytes -= copy.tail - copy.net
        return vxlan_input(net, host, copy, vxlan)
    e = fdb_find(&host.vxlan_fdb, vxlan.slot, destination, 0)
    if (e != NULL and not e.fixed and fdb_age(&host.vxlan_fdb, e.updated, p.time) > vxlan.ageing
            and fdb_age(&host.vxlan_fdb, e.used, p.time) > vxlan.ageing):
        e = NULL
    if e == NULL or e.remotes == NULL:
        e = fdb_find(&host.vxlan_fdb, vxlan.slot, 0, 0)
        if e == NULL or e.remotes == NULL:
            host.interfaces[vxlan.slot].tx_dropped += 1
            return drop(net, host, p, Reason.NO_TX_TARGET)
    e.used = p.time
    remote = e.remotes.next
    while remote != NULL:
        copy = packet_clone(net, p)
        if copy != NULL:
            stage = vxlan_encapsulate(net, host, copy, vxlan, remote)
            if stage != STAGE_END:
                spawn(net, copy, stage)
        remote = remote.next
    return vxlan_encapsulate(net, host, p, vxlan, e.remotes)


cdef inline bint vxlan_listens(const Host *host, uint8_t family, uint16_t port) noexcept nogil:
    """Whether a device has its socket there; a device's socket is of the family of its outer header."""
    cdef int32_t i
    for i in range(host.vxlan_count):
        if host.vxlans[i].port == port and host.vxlans[i].family == family and host.interfaces[host.vxlans[i].slot].up:
            return True
    return False


cdef inline bint vxlan_takes_unsummed(const Host *host, uint16_t port) noexcept nogil:
    """Whether the socket there takes datagrams of IPv6 without a checksum."""
    cdef int32_t i
    for i in range(host.vxlan_count):
        if (host.vxlans[i].port == port and host.vxlans[i].family == 6 and host.vxlans[i].no_checksum6
                and host.interfaces[host.vxlans[i].slot].up):
            return True
    return False


cdef inline bint vxlan_quoted(
    const Host *host, uint8_t family, const uint8_t *udp, const uint8_t *tail,
) noexcept nogil:
    """vxlan_err_lookup: whether an error quotes enough of a packet to tell that a device sent it."""
    cdef int32_t i
    if udp + UDP_HLEN + VXLAN_HLEN > tail or not load32(udp + UDP_HLEN) & VXLAN_FLAG_VNI:
        return False
    for i in range(host.vxlan_count):
        if (host.vxlans[i].port == load16(udp + 2) and host.vxlans[i].family == family
                and host.vxlans[i].vni == load32(udp + UDP_HLEN + 4) >> 8 and host.interfaces[host.vxlans[i].slot].up):
            return True
    return False


cdef inline bint tunnel_ecn(uint8_t *net, const uint8_t *tail, uint16_t ethertype, uint8_t outer) noexcept nogil:
    """INET_ECN_decapsulate (RFC 6040, 4.2): what happened to the outer header is written into the inner one. False: the
    inner packet cannot bear congestion marks and met one."""
    cdef uint8_t inner, now
    cdef bint v4 = ethertype == ETH_P_IP and tail - net >= 20
    if not v4 and not (ethertype == ETH_P_IPV6 and tail - net >= 40):
        return True
    inner = net[1] & 3 if v4 else net[1] >> 4 & 3
    if inner == 0:
        return outer != 3
    now = inner
    if outer == 3:
        now = 3
    elif outer == 1 and inner == 2:
        now = 1
    if now == inner:
        return True
    if v4:
        net[1] = (net[1] & 0xFCU) | now
        store16(net + 10, 0)
        store_checksum(net + 10, checksum_fold(checksum_sum(net, (net[0] & 15) * 4, 0)))
    else:
        net[1] = (net[1] & 0xCFU) | <uint8_t>(now << 4)
    return True


cdef inline Stage vxlan_receive(Network *net, Host *host, Packet *p) noexcept nogil:
    """vxlan_rcv: a UDP datagram to the port of a device."""
    cdef uint8_t *header = p.transport + UDP_HLEN
    cdef uint8_t *frame = header + VXLAN_HLEN
    cdef Vxlan *vxlan = NULL
    cdef Interface *device
    cdef uint32_t flags, vni
    cdef uint32_t outer[4]
    cdef uint64_t source
    cdef uint16_t port = load16(p.transport + 2), ethertype
    cdef uint8_t outer_tos = <uint8_t>p.field[<int>FIELD_TOS], family = p.family
    cdef bint refused = False
    cdef int32_t i
    if p.tail < frame:
        return drop(net, host, p, Reason.PKT_TOO_SMALL)
    flags = load32(header)
    vni = load32(header + 4) >> 8
    if not flags & VXLAN_FLAG_VNI:
        return drop(net, host, p, Reason.VXLAN_INVALID_HDR)
    for i in range(host.vxlan_count):
        if host.vxlans[i].port == port and host.vxlans[i].vni == vni and host.vxlans[i].family == family:
            vxlan = &host.vxlans[i]
    if vxlan == NULL:
        return drop(net, host, p, Reason.VXLAN_VNI_NOT_FOUND)
    device = &host.interfaces[vxlan.slot]
    if vxlan.group_policy and flags & VXLAN_FLAG_GROUP:
        p.field[<int>FIELD_MARK] = flags & VXLAN_GROUP_MARK
    if vxlan.group_policy:
        flags &= ~(<uint32_t>VXLAN_GROUP_USED)
    if flags != VXLAN_FLAG_VNI or header[7]:
        device.rx_errors += 1
        return drop(net, host, p, Reason.VXLAN_INVALID_HDR)
    if p.tail - frame < ETH_HLEN:
        return drop(net, host, p, Reason.PKT_TOO_SMALL)
    memcpy(outer, &p.field[<int>FIELD_SRC], 16)
    source = load_mac(frame + 6)
    if source == device.mac:
        return drop(net, host, p, Reason.LOCAL_MAC)
    if vxlan.learning:
        if source == 0 or mac_is_multicast(source):
            return drop(net, host, p, Reason.MAC_INVALID_SOURCE)
        vxlan_learn(host, vxlan, source, family, outer, p.time, &refused)
        if refused:
            return drop(net, host, p, Reason.VXLAN_ENTRY_EXISTS)
    ethertype = load16(frame + 12)
    if p.tail - frame - ETH_HLEN < (20 if ethertype == ETH_P_IP else 40 if ethertype == ETH_P_IPV6 else 0):
        device.rx_errors += 1
        return drop(net, host, p, Reason.PKT_TOO_SMALL)
    if not tunnel_ecn(frame + ETH_HLEN, p.tail, load16(frame + 12), outer_tos & 3):
        device.rx_errors += 1
        return drop(net, host, p, Reason.IP_TUNNEL_ECN)
    if not device.up:
        device.rx_dropped += 1
        return drop(net, host, p, Reason.DEV_READY)
    # A checksum outside covers all that is inside.
    p.unwrapped = load16(p.transport + 6) != 0
    p.summed = 0
    if p.unwrapped and load16(frame + 12) == ETH_P_IPV6 and p.tail - frame >= ETH_HLEN + 40:
        p.summed = ip6_summed(frame + ETH_HLEN)
    p.mac = frame
    return vxlan_input(net, host, p, vxlan)
