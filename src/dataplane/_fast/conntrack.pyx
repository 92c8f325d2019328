cdef class ConnectionTable:
    pass
