"""What rules ask of their host, and what a test answers."""

from libc.stdint cimport int64_t, uint8_t

from dataplane._fast.chance cimport Chance
from dataplane._fast.conntrack cimport Conntrack
from dataplane._fast.fib cimport Fib
from dataplane._fast.ipvs cimport Ipvs
from dataplane._fast.rule_event cimport RuleTap

cdef enum Answer:
    NO = 0
    YES = 1
    DROP = 2                # the packet ends here, whatever the rule's target is (the kernel's hotdrop)
    DROP_LATE = 3           # ... but a rule that matches for the rest counts it and runs its target first

cdef struct RuleContext:
    Fib *fib
    Chance *chance
    Conntrack *conntrack    # NULL where nothing is tracked
    Ipvs *ipvs              # NULL: no virtual service
    int64_t now             # ns
    const uint8_t *listening    # of the host: see network.pxd
    bint all_ports          # a socket listens at each
    RuleTap *tap            # of traced packets; may be NULL
    RuleTap *log            # of LOG and NFLOG; may be NULL
