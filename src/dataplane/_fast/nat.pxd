from libc.stdint cimport *
from dataplane._fast.chance cimport Chance
from dataplane._fast.conntrack_table cimport Conntrack
from dataplane._fast.packet cimport Packet, Hook
cdef enum NatStep:
    NAT_ACCEPT = 0
    NAT_DROP
    NAT_RULES
cdef struct NatRange:
    uint32_t flags
    uint32_t min_address[4]
    uint32_t max_address[4]
    uint16_t min_port
    uint16_t max_port
    uint16_t base_port
cdef inline NatStep nat_begin(Conntrack *t, Packet *p, Hook hook) noexcept nogil:
    return NAT_ACCEPT
cdef inline NatStep nat_bind(Conntrack *t, Packet *p, Hook hook, const NatRange *range, Chance *chance) noexcept nogil:
    return NAT_ACCEPT
