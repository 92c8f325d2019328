"""A compiled host as a Python object: it owns the memory of one `Host` of the walk."""

cimport cython

from dataplane._fast.network cimport Host


@cython.final
cdef class CompiledHost:
    cdef Host *host
    cdef readonly str name
    cdef readonly tuple interface_names
    cdef readonly object rules4         # CompiledRules or None
    cdef readonly object rules6
    cdef readonly object connections    # ConnectionTable or None
    cdef readonly object balancer       # Balancer or None
    cdef list recorded                  # arrays of recorded choices
    cdef object attached                # the Walk that it belongs to
