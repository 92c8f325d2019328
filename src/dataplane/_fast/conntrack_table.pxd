cdef struct Conntrack:
    int stub
