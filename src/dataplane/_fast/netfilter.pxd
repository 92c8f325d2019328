"""The hooks of one host: what is registered where, and the state that it works on.

Source: include/uapi/linux/netfilter_ipv4.h (priorities). The lists are data, sorted by priority when the host is compiled.
"""

from libc.stdint cimport int16_t, uint8_t

from dataplane._fast.conntrack cimport Conntrack
from dataplane._fast.rule_event cimport RuleTap
from dataplane._fast.ruleset cimport RuleSet

cpdef enum HookEntryKind:
    ENTRY_TABLE = 0         # raw, mangle, filter, security
    ENTRY_DEFRAG
    ENTRY_CONNTRACK
    ENTRY_NAT
    ENTRY_CONFIRM
    ENTRY_IPVS_ANSWER
    ENTRY_IPVS_REQUEST

cdef struct HookEntry:
    uint8_t kind            # HookEntryKind
    uint8_t table           # TableKind, of ENTRY_TABLE
    int16_t priority

cdef struct HookList:
    HookEntry entries[16]
    uint8_t count

cdef struct Netfilter:
    HookList hooks[2][5]    # by family (0 IPv4, 1 IPv6) and Hook
    RuleSet *rules[2]       # NULL: no table of that family
    Conntrack *conntrack    # NULL: nothing asks for tracking
    RuleTap *tap            # what rules tell of traced packets; NULL: it goes to the log
    RuleTap log             # what LOG, NFLOG and TRACE wrote down
