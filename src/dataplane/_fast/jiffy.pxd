"""The kernel's coarse clock (include/linux/jiffies.h)."""

from libc.stdint cimport int64_t

cdef enum:
    HZ = 250                # CONFIG_HZ, as distributions build it
    JIFFY = 4000000         # ns


cdef inline int64_t jiffies(int64_t now) noexcept nogil:
    """The time of the last tick, ns."""
    return now - now % JIFFY
