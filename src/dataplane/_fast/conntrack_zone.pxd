"""Zones of connection tracking: equal tuples in two zones are two connections.

A zone may count for one direction only; tuples of the other one are then in zone 0. Source: nf_conntrack_zones.h.
"""

from libc.stdint cimport int64_t, uint16_t

from dataplane._fast.conntrack cimport Conn, Conntrack, Tuple, ZONE_ORIGINAL, ZONE_REPLY, Zone
from dataplane._fast.conntrack_table cimport conn_find_side


cdef inline uint16_t zone_toward(const Zone *zone, int direction) noexcept nogil:
    """The zone of a direction's tuple (nf_ct_zone_id)."""
    return zone.id if zone.flags & (ZONE_REPLY if direction else ZONE_ORIGINAL) else 0


cdef inline int zone_sides(const Zone *zone, int direction) noexcept nogil:
    """In which of its directions (bits) a connection may hold a tuple whose zone is that of `direction`."""
    if zone_toward(zone, 0) == zone_toward(zone, 1):
        return 3
    return 1 << direction


cdef inline Conn *zone_find(
    Conntrack *t, Tuple *tuple, const Zone *zone, int64_t now, int *direction,
) noexcept nogil:
    """The connection that has this tuple in a zone (nf_conntrack_find_get); afterwards the tuple bears the original
    direction's zone."""
    cdef Conn *c
    cdef int sides = zone_sides(zone, 0)
    tuple.zone = zone_toward(zone, 0)
    c = conn_find_side(t, tuple, now, direction, sides)
    if c == NULL and sides != 3:
        tuple.zone = zone_toward(zone, 1)
        c = conn_find_side(t, tuple, now, direction, zone_sides(zone, 1))
        tuple.zone = zone_toward(zone, 0)
    return c
