"""The rules of one host and one family, compiled: tables, chains, rules and the tests that a rule makes.

Everything here but counters and states is written once, by the compiler in dataplane.datapath, and never changes after.
The rows are the kernel-side mirror of `iptables-save`; how a row is evaluated is in rules.pxd.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cpdef enum TableKind:
    TABLE_RAW = 0
    TABLE_MANGLE = 1
    TABLE_NAT = 2
    TABLE_FILTER = 3
    TABLE_SECURITY = 4
    TABLE_COUNT = 5

cdef packed struct Op:
    # One test. `kind` says how the words are read; see rules.pxd.
    uint8_t kind
    uint8_t field
    uint8_t invert
    uint8_t flags
    uint32_t mask
    uint32_t low
    uint32_t span           # matches when ((word & mask) - low) <= span, unsigned
    uint32_t a0
    uint32_t a1
    uint32_t a2
    uint32_t a3
    uint32_t m0
    uint32_t m1
    uint32_t m2
    uint32_t m3
    int32_t state           # index of the op's own state, or of its pool entry; -1
    int32_t extent

cdef packed struct Rule:
    int32_t first_op
    uint16_t op_count
    uint8_t target          # TargetKind
    uint8_t flags
    int32_t chain           # of a jump or goto
    int32_t argument        # index into the target rows
    int32_t line            # in the text, for messages and traces

cdef packed struct Target:
    # What an extension target needs; each kind gives the words its own meaning.
    uint8_t kind
    uint8_t flags
    uint16_t min_port
    uint16_t max_port
    uint16_t base_port
    uint32_t value
    uint32_t mask
    uint32_t a0             # first address
    uint32_t a1
    uint32_t a2
    uint32_t a3
    uint32_t b0             # last address
    uint32_t b1
    uint32_t b2
    uint32_t b3

cdef packed struct Chain:
    int32_t first_rule
    int32_t rule_count
    uint8_t policy          # ACCEPT or DROP of a base chain; RETURN of a user chain
    uint8_t reserved0
    uint16_t reserved1

cdef struct RuleSet:
    int stub
