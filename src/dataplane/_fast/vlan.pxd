"""VLAN tags: taken off as a frame comes in, put back as it leaves (net/8021q/vlan_core.c, IEEE 802.1Q).

No VLAN device is modelled; a bridge without VLAN filtering passes tags on.
"""

from libc.stdint cimport uint16_t
from libc.string cimport memmove

from dataplane._fast.packet cimport Packet
from dataplane._fast.wire cimport ETH_P_8021AD, ETH_P_8021Q, VLAN_HLEN, load16, store16


cdef inline bint vlan_tag(uint16_t ethertype) noexcept nogil:
    return ethertype == ETH_P_8021Q or ethertype == ETH_P_8021AD


cdef inline bint vlan_untag(Packet *p) noexcept nogil:
    """skb_vlan_untag: take the outermost tag off the frame, and keep it with the packet; False where the frame ends in it."""
    if p.tail - p.net < VLAN_HLEN + 2:
        return False
    p.vlan_proto = p.ethertype
    p.vlan_tci = load16(p.net)
    memmove(p.mac + VLAN_HLEN, p.mac, 12)
    p.mac += VLAN_HLEN
    p.net += VLAN_HLEN
    p.ethertype = load16(p.mac + 12)
    return True


cdef inline void vlan_push(Packet *p) noexcept nogil:
    """__vlan_hwaccel_push_inside: the tag goes back to where it was."""
    p.mac -= VLAN_HLEN
    memmove(p.mac, p.mac + VLAN_HLEN, 12)
    store16(p.mac + 12, p.vlan_proto)
    store16(p.mac + 14, p.vlan_tci)
    p.vlan_proto = 0
