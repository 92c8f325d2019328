from dataplane._fast.conntrack_table cimport Conntrack
from dataplane._fast.packet cimport Packet, Hook
cdef enum:
    CT_ACCEPT = 0
    CT_DROP = 1
cdef inline void ct_release(Conntrack *t, Packet *p) noexcept nogil:
    p.ct = NULL
cdef inline void ct_attach(Packet *a, Packet *o) noexcept nogil:
    pass
cdef inline int ct_in(Conntrack *t, Packet *p, Hook hook) noexcept nogil:
    return CT_ACCEPT
cdef inline int ct_confirm(Conntrack *t, Packet *p) noexcept nogil:
    return CT_ACCEPT
