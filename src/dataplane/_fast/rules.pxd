from libc.stdint cimport *
from dataplane._fast.ruleset cimport *
from dataplane._fast.packet cimport Packet, Hook
from dataplane._fast.fib cimport Fib
from dataplane._fast.chance cimport Chance
cdef enum:
    RULE_ACCEPT = 0
    RULE_DROP
    RULE_TERMINAL
cdef struct RuleContext:
    Fib *fib
    Chance *chance
    int64_t now
cdef inline uint8_t rules_run(RuleSet *rules, TableKind table, Hook hook, Packet *p, RuleContext *context, const Target **terminal) noexcept nogil:
    return RULE_ACCEPT
cdef class CompiledRules:
    cdef RuleSet rules
