"""ARP frames that a host sends (RFC 826; net/ipv4/arp.c)."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from dataplane._fast.fib cimport ROUTE_LOCAL, RT_SCOPE_LINK, fib_address_type, select_source4
from dataplane._fast.interface cimport Interface
from dataplane._fast.network cimport Host, Network, STAGE_TRANSMIT, packet_make, spawn
from dataplane._fast.packet cimport Packet
from dataplane._fast.wire cimport ETH_HLEN, ETH_P_ARP, ETH_P_IP, store16, store32, store_mac

cdef enum:
    ARP_REQUEST = 1
    ARP_REPLY = 2
    ARP_LENGTH = 28


cdef inline void arp_send(
    Network *net, Host *host, int32_t slot, uint16_t operation, uint64_t to_mac, uint64_t target_mac,
    uint32_t sender, uint32_t target, int64_t time,
) noexcept nogil:
    cdef Interface *interface = &host.interfaces[slot]
    cdef Packet *p
    if interface.noarp:
        return
    p = packet_make(net, host, time, ARP_LENGTH)
    if p == NULL:
        return
    store16(p.net, 1)
    store16(p.net + 2, ETH_P_IP)
    p.net[4] = 6
    p.net[5] = 4
    store16(p.net + 6, operation)
    store_mac(p.net + 8, interface.mac)
    store32(p.net + 14, sender)
    store_mac(p.net + 18, target_mac)
    store32(p.net + 24, target)
    p.mac = p.net - ETH_HLEN
    store_mac(p.mac, to_mac)
    store_mac(p.mac + 6, interface.mac)
    store16(p.mac + 12, ETH_P_ARP)
    p.ethertype = ETH_P_ARP
    p.oif = slot
    spawn(net, p, STAGE_TRANSMIT)


cdef inline void arp_solicit(
    Network *net, Host *host, int32_t slot, uint32_t target, uint32_t packet_source, uint64_t to_mac, int64_t time,
) noexcept nogil:
    """Ask for `target`: by broadcast, or by unicast if `to_mac` is not 0."""
    cdef Interface *interface = &host.interfaces[slot]
    cdef uint32_t source[4]
    memset(source, 0, sizeof(source))
    if packet_source and interface.arp_announce == 0:
        source[0] = packet_source
        if fib_address_type(&host.fib, 4, source, -1) != ROUTE_LOCAL:
            source[0] = 0
    if source[0] == 0:
        # arp_announce 1 and 2 narrow the choice to addresses of the target's subnet, which select_source4 prefers anyway.
        source[0] = target
        if not select_source4(&host.fib, slot, source, RT_SCOPE_LINK, source):
            source[0] = 0
    arp_send(net, host, slot, ARP_REQUEST, to_mac if to_mac else 0xFFFFFFFFFFFFULL, 0, source[0], target, time)
