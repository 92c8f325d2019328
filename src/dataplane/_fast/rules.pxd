"""Rules on packets: the walk of one packet through the chains of one table (net/ipv4/netfilter/ip_tables.c,
ipt_do_table).

Most rules are decided by one comparison, which lies in the rule's own row; see ruleset.pxd. Long runs of rules that
ask the same word for different values, such as KUBE-SERVICES, are jumped through by a search. Both give what going
through rule by rule would give: a rule that does not match leaves no trace.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from dataplane._fast.packet cimport (
    FIELD_CTSTATE, FIELD_FRAGMENT, FIELD_IIF, FIELD_L4, FIELD_L4PROTO, FIELD_LENGTH, FIELD_MARK, FIELD_OIF, FIELD_PROTO, Hook,
    Packet, ip6_authenticated, ip6_extension,
)
from dataplane._fast.rule_event cimport (
    EVENT_HOTDROP, EVENT_LOG, EVENT_NFLOG, EVENT_POLICY, EVENT_RETURN, EVENT_RULE, RuleEvent, RuleEventKind, RuleTap,
    tap_append, tap_keep,
)
from dataplane._fast.ipset cimport CompiledSets
from dataplane._fast.rule_connection cimport connection_state
from dataplane._fast.rule_context cimport DROP, DROP_LATE, NO, RuleContext, YES
from dataplane._fast.rule_match cimport op_other
from dataplane._fast.rule_target cimport (
    target_connmark, target_mark, target_notrack, target_set, target_tcpmss, target_tos, target_ttl,
    target_zone,
)
from dataplane._fast.ruleset cimport (
    Chain, OP_ADDRESS, OP_BITMAP, OP_WORD, Op, Rule, RuleSet, Run, TARGET_ACCEPT, TARGET_CONNMARK, TARGET_CONTINUE,
    TARGET_DROP, TARGET_GOTO, TARGET_JUMP, TARGET_LOG, TARGET_MARK, TARGET_NETMAP, TARGET_NFLOG, TARGET_NOTRACK,
    TARGET_REJECT, TARGET_RETURN, TARGET_SET, TARGET_TCPMSS, TARGET_TOS, TARGET_TRACE, TARGET_TTL, TARGET_ZONE, Table, TableKind, Target,
)

from dataplane._fast.wire cimport IPPROTO_AH, IPPROTO_NONE

cpdef enum RuleVerdict:
    RULE_ACCEPT = 0
    RULE_DROP
    RULE_TERMINAL           # the caller acts on the target


cdef inline int32_t base_chain(const Table *table, Hook hook) noexcept nogil:
    """The chain at a hook; -1 where the table has none."""
    return (&table.base0)[<int>hook]


cdef inline void tell(
    RuleTap *tap, const Packet *p, RuleEventKind kind, TableKind table, Hook hook, int32_t chain, int32_t rule,
    uint8_t verdict,
) noexcept nogil:
    cdef RuleEvent *event = tap_append(tap)
    if event == NULL:
        return
    event.row = p.row
    event.time = p.time
    event.rule = rule
    event.chain = chain
    event.host = p.host
    event.iif = <short>p.iif
    event.oif = <short>p.oif
    event.mark = p.field[<int>FIELD_MARK]
    event.kind = kind
    event.table = table
    event.hook = hook
    event.verdict = verdict
    event.family = p.family
    event.physin = <short>p.physin
    event.physout = <short>p.physout
    event.link_header = 0
    event.first = 0
    event.size = 0
    if tap.bytes_limit:
        event.link_header = <uint8_t>(p.net - p.mac) if p.iif >= 0 and p.mac != NULL and p.mac <= p.net <= p.mac + 18 else 0
        tap_keep(tap, event, p.net - event.link_header, <uint32_t>(p.tail - p.net) + event.link_header)


cdef inline int32_t run_next(const RuleSet *rules, const Run *run, const Packet *p, int32_t after) noexcept nogil:
    """The next rule behind `after` whose inline test holds; the end of the run if there is none."""
    cdef const uint64_t *keys = rules.keys + run.first_key
    cdef uint64_t value = p.field[run.field]
    cdef uint64_t wanted = (value << 32) | <uint32_t>(after + 1)
    cdef int32_t low = 0, high = run.key_count, middle
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    if low < run.key_count and keys[low] >> 32 == value:
        return <int32_t>(keys[low] & 0xFFFFFFFFU)
    return run.end


cdef inline uint8_t rest_matches(
    RuleSet *rules, const Op *op, const Op *end, Packet *p, RuleContext *context, bint nft,
) noexcept nogil:
    """The tests from `op` on, in order, until one does not hold: NO, YES, DROP or DROP_LATE, which is DROP for nftables
    (nft_match_eval)."""
    cdef uint8_t answer, late = YES
    while op < end:
        if op.kind == OP_WORD:
            if ((p.field[op.field] & op.a) - op.b) > op.c:
                return NO if late == YES else DROP
        else:
            answer = op_other(rules, op, p, context)
            if answer == DROP_LATE:
                if nft:
                    return DROP
                late = DROP_LATE
            elif answer != YES:
                return answer if late == YES else DROP
        op += 1
    return late


cdef inline bint chain_broken(const Packet *p, bint nft) noexcept nogil:
    """Whether the chain of IPv6 extension headers ends in the middle of one, or goes on in a later fragment
    (ipv6_find_hdr)."""
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    if nft and p.field[<int>FIELD_L4PROTO] == IPPROTO_AH and ip6_authenticated(p.net, p.tail):
        return False
    return p.family == 6 and p.transport == NULL and proto != IPPROTO_NONE and ip6_extension(proto)


cdef inline bint asks_header(const Op *op) noexcept nogil:
    """Whether a test is of the rule itself and not of one of its matches: addresses and interfaces."""
    if op.kind != OP_WORD and op.kind != OP_ADDRESS and op.kind != OP_BITMAP:
        return False
    return op.field < FIELD_PROTO or op.field == FIELD_IIF or op.field == FIELD_OIF


cdef inline uint8_t broken_matches(
    RuleSet *rules, const Op *op, const Op *end, Packet *p, RuleContext *context, bint nft,
) noexcept nogil:
    """rest_matches, of a packet whose chain of extension headers is broken: who asks for its protocol drops it, if addresses
    and interfaces are right, whatever else the rule asks (ip6_packet_match). For nftables such a packet has none, and no rule
    matches that asks (nft_meta_get_eval)."""
    cdef uint8_t asked = FIELD_L4PROTO if nft else FIELD_PROTO
    cdef const Op *at = op
    while at < end and not (at.kind == OP_WORD and at.field == asked):
        at += 1
    if at == end:
        return rest_matches(rules, op, end, p, context, nft)
    if nft:
        return DROP if rest_matches(rules, op, at, p, context, nft) == DROP else NO
    while op < end:
        if asks_header(op) and rest_matches(rules, op, op + 1, p, context, nft) != YES:
            return NO
        op += 1
    return DROP


cdef inline bint act(
    RuleSet *rules, const Rule *rule, Packet *p, RuleContext *context, TableKind table, Hook hook, int32_t chain,
    int32_t at,
) noexcept nogil:
    """A target that lets the packet go on; False where it drops it after all."""
    cdef const Target *target = rules.targets + rule.argument
    cdef uint8_t kind = rule.target
    if kind == TARGET_MARK:
        target_mark(target, p)
    elif kind == TARGET_CONNMARK:
        target_connmark(target, p)
    elif kind == TARGET_NOTRACK:
        target_notrack(p)
        p.field[<int>FIELD_CTSTATE] = connection_state(p)
    elif kind == TARGET_ZONE:
        target_zone(target, p)
        p.field[<int>FIELD_CTSTATE] = connection_state(p)
    elif kind == TARGET_TTL:
        target_ttl(target, p)
    elif kind == TARGET_TOS:
        target_tos(target, p)
    elif kind == TARGET_TCPMSS:
        return target_tcpmss(target, p, context)
    elif kind == TARGET_SET:
        target_set(target, p, rules.sets, rules.pool, context.now)
    elif kind == TARGET_TRACE:
        p.traced = 1
    elif kind == TARGET_LOG or kind == TARGET_NFLOG:
        if context.log != NULL:
            tell(context.log, p, EVENT_LOG if kind == TARGET_LOG else EVENT_NFLOG, table, hook, chain, at, kind)
    return True


cdef inline uint8_t rules_run(
    RuleSet *rules, TableKind table, Hook hook, Packet *p, RuleContext *context, const Target **terminal,
) noexcept nogil:
    """Take a packet through the base chain of a table at a hook. RuleVerdict; the target where it is RULE_TERMINAL.

    The packet's words must be up to date. Counters of rules and policies move, marks and headers may change.
    """
    cdef const Table *tables = &rules.tables[<int>table]
    cdef int32_t base = base_chain(tables, hook)
    cdef int32_t chain = base, at, end, depth = 0
    cdef const Rule *rule
    cdef const Op *ops
    cdef uint32_t *field = p.field
    cdef uint64_t length = field[<int>FIELD_LENGTH]
    cdef uint8_t answer, kind, policy
    cdef bint traced, late = False
    # Without a readable transport header the order of the tests counts: one of them may drop the packet outright.
    cdef bint broken = field[<int>FIELD_L4] == 0 and chain_broken(p, tables.nft)
    cdef bint careful = broken or (field[<int>FIELD_L4] == 0 and (field[<int>FIELD_FRAGMENT] <= 1 or tables.nft))
    if base < 0:
        return RULE_ACCEPT
    if tables.uses_state:
        field[<int>FIELD_CTSTATE] = connection_state(p)
    traced = p.traced and context.tap != NULL
    at = rules.chains[base].first_rule
    end = at + rules.chains[base].rule_count
    while True:
        while at < end:
            rule = &rules.rules[at]
            if ((field[rule.field] & rule.mask) - rule.low) > rule.span and not careful:
                at = at + 1 if rule.run < 0 else run_next(rules, &rules.runs[rule.run], p, at)
                continue
            if rule.op_count != rule.skip or careful:
                ops = rules.ops + rule.first_op
                if broken:
                    answer = broken_matches(rules, ops, ops + rule.op_count, p, context, tables.nft)
                else:
                    answer = rest_matches(
                        rules, ops if careful else ops + rule.skip, ops + rule.op_count, p, context, tables.nft,
                    )
                if answer == DROP_LATE:
                    late = True
                elif answer != YES:
                    if answer == DROP:
                        if traced:
                            tell(context.tap, p, EVENT_HOTDROP, table, hook, chain, at, TARGET_DROP)
                        return RULE_DROP
                    at += 1
                    continue
            rules.counters[2 * at] += 1
            rules.counters[2 * at + 1] += length
            kind = rule.target
            if traced:
                tell(context.tap, p, EVENT_RULE, table, hook, chain, at, kind)
            if late:
                if kind >= TARGET_MARK and kind != TARGET_CONTINUE:
                    act(rules, rule, p, context, table, hook, chain, at)
                return RULE_DROP
            if kind == TARGET_JUMP or kind == TARGET_GOTO:
                if kind == TARGET_JUMP:
                    rules.stack[2 * depth] = at + 1
                    rules.stack[2 * depth + 1] = chain
                    depth += 1
                chain = rule.argument
                at = rules.chains[chain].first_rule
                end = at + rules.chains[chain].rule_count
                continue
            if kind == TARGET_ACCEPT:
                return RULE_ACCEPT
            if kind == TARGET_DROP:
                return RULE_DROP
            if kind == TARGET_RETURN:
                break
            if TARGET_REJECT <= kind <= TARGET_NETMAP:
                terminal[0] = rules.targets + rule.argument
                return RULE_TERMINAL
            if kind != TARGET_CONTINUE:
                if not act(rules, rule, p, context, table, hook, chain, at):
                    return RULE_DROP
                length = field[<int>FIELD_LENGTH]
                traced = p.traced and context.tap != NULL
            at += 1
        # The end of a chain, or RETURN.
        if depth == 0:
            break
        if traced:
            tell(context.tap, p, EVENT_RETURN, table, hook, chain, -1, TARGET_RETURN)
        depth -= 1
        at = rules.stack[2 * depth]
        chain = rules.stack[2 * depth + 1]
        end = rules.chains[chain].first_rule + rules.chains[chain].rule_count
    rules.policies[2 * base] += 1
    rules.policies[2 * base + 1] += length
    policy = rules.chains[base].policy
    if traced:
        tell(context.tap, p, EVENT_POLICY, table, hook, base, -1, policy)
    return RULE_ACCEPT if policy == TARGET_ACCEPT else RULE_DROP


@cython.final
cdef class CompiledRules:
    cdef RuleSet rules
    cdef readonly object program
    cdef readonly object counters
    cdef readonly object policies
    cdef readonly object state
    cdef object stack
    cdef object rows                # arrays that the rules were changed to
    cdef int32_t recent_count
    cdef int32_t hashlimit_count
    cdef int32_t conncount_count
    cdef readonly tuple recent_names
    cdef readonly CompiledSets sets
