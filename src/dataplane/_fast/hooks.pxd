"""One hook: everything that is registered there, in the order of priorities.

Sources: net/netfilter/core.c, nf_nat_core.c, xt_nat.c, nf_nat_masquerade.c, nf_nat_redirect.c, xt_NETMAP.c;
net/ipv4/netfilter/ipt_REJECT.c, net/ipv6/netfilter/ip6t_REJECT.c.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from dataplane._fast.defrag cimport tracked_defrag
from dataplane._fast.fib cimport Fib, fib_select_source
from dataplane._fast.icmp cimport icmp4_error, icmp6_error, tcp_reset
from dataplane._fast.interface cimport LINK_LOOPBACK
from dataplane._fast.ipvs_hook cimport ipvs_answer, ipvs_request
from dataplane._fast.ipvs_xmit cimport IPVS_ACCEPT
from dataplane._fast.nat cimport NAT_ACCEPT, NAT_DROP, NAT_RULES, NatRange, NatStep, nat_begin, nat_bind
from dataplane._fast.netfilter cimport (
    ENTRY_CONFIRM, ENTRY_CONNTRACK, ENTRY_DEFRAG, ENTRY_IPVS_ANSWER, ENTRY_IPVS_REQUEST, ENTRY_NAT, ENTRY_TABLE, HookEntry, HookList,
)
from dataplane._fast.network cimport Host, Network, drop
from dataplane._fast.packet cimport (
    CT_UNTRACKED,
    FIELD_DST, FIELD_FRAGMENT, FIELD_PROTO, FIELD_SRC, HOOK_INPUT, HOOK_OUTPUT, HOOK_POSTROUTING, HOOK_PREROUTING, Hook, Packet,
    packet_interfaces,
)
from dataplane._fast.reason cimport Reason
from dataplane._fast.reroute cimport RouteWords, nat_moves, reroute, route_words, route_words_changed
from dataplane._fast.rule_context cimport RuleContext
from dataplane._fast.rules cimport RULE_ACCEPT, RULE_TERMINAL, rules_run
from dataplane._fast.ruleset cimport (
    NAT_MAP_IPS, REJECT_TCP_RESET, RuleSet, TABLE_MANGLE, TABLE_NAT, TARGET_DNAT, TARGET_MASQUERADE, TARGET_NETMAP, TARGET_REDIRECT,
    TARGET_REJECT, TARGET_SNAT, TableKind, Target,
)
from dataplane._fast.track cimport CT_DROP, ct_closing, ct_confirm, ct_in, transport_good
from dataplane._fast.wire cimport (
    IPPROTO_AH, IPPROTO_ESP, IPPROTO_GRE, IPPROTO_ICMP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP,
    IPPROTO_UDPLITE, checksum_fold, checksum_sum, ip4_checksum_good, load16,
)

cdef enum HookVerdict:
    HOOK_VERDICT_ACCEPT = 0
    HOOK_VERDICT_ENDED      # the packet is no longer the caller's: dropped, or waiting for more fragments


cdef inline bint header_sums(const Host *host, const Packet *p, Hook hook, bint reset) noexcept nogil:
    """Checksums are taken of the packet from its first byte on (nf_ip_checksum): options that were written into its header
    spoil them. An ICMP error believes that connection tracking summed before, a reset does in INPUT alone."""
    if p.family == 6 or not p.options.length or not p.options.changed or ip4_checksum_good(p.net):
        return True
    if host.netfilter.conntrack == NULL or p.ctinfo == CT_UNTRACKED or (reset and hook != HOOK_INPUT):
        return False
    return host.netfilter.conntrack.settings.checksum


cdef inline bint rejectable(const Packet *p, bint sums) noexcept nogil:
    """Nobody is told about a packet whose sender may be forged: its checksum must hold."""
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    if p.field[<int>FIELD_FRAGMENT]:
        return False
    if p.missing:
        return True
    if p.transport == NULL or (p.family == 6 and p.transport >= p.tail):
        return False    # a chain of extension headers that leads to nothing
    if proto in (IPPROTO_ESP, IPPROTO_AH, IPPROTO_GRE, IPPROTO_SCTP, IPPROTO_UDPLITE):
        # No checksum of the Internet kind, or not of all bytes.
        return True
    if proto == IPPROTO_UDP and p.family == 4 and p.tail - p.transport >= 8 and load16(p.transport + 6) == 0:
        return True
    if p.family == 4 and proto != IPPROTO_TCP and proto != IPPROTO_UDP and proto != IPPROTO_ICMP:
        # Any other protocol is held to have one, whatever it carries (nf_ip_checksum).
        return checksum_fold(checksum_sum(p.net, <uint32_t>(p.tail - p.net), 0)) == 0
    # IPv6 sums any protocol's payload with the pseudo header.
    return sums and transport_good(p)


cdef inline HookVerdict reject(Network *net, Host *host, Packet *p, const Target *target, Hook hook) noexcept nogil:
    cdef bint sums = header_sums(host, p, hook, target.flags & REJECT_TCP_RESET)
    if target.flags & REJECT_TCP_RESET:
        if sums and tcp_reset(net, host, p, True) and host.netfilter.conntrack != NULL:
            ct_closing(host.netfilter.conntrack, p)
    elif rejectable(p, sums):
        if p.family == 4:
            icmp4_error(net, host, p, <uint8_t>(target.value >> 8), <uint8_t>target.value, 0)
        else:
            icmp6_error(net, host, p, <uint8_t>(target.value >> 8), <uint8_t>target.value, 0)
    drop(net, host, p, Reason.NETFILTER_REJECT)
    return HOOK_VERDICT_ENDED


cdef inline bint first_address6(const Fib *fib, int32_t slot, const uint32_t *towards, uint32_t *out) noexcept nogil:
    """nf_nat_redirect_ipv6: the first address of the interface in the order of its list, link-local or not; where the
    packet's destination has a narrower scope than the world, the first of that scope."""
    cdef int32_t i
    cdef bint link = towards[0] >> 22 == 0x3FA or towards[0] >> 16 == 0xFF02
    if not 0 <= slot < fib.slot_count or fib.interfaces[slot].kind == LINK_LOOPBACK:
        return False
    i = fib.slot_addresses[slot]
    while i >= 0:
        if fib.addresses[i].family == 6 and (not link or fib.addresses[i].address[0] >> 22 == 0x3FA):
            memcpy(out, fib.addresses[i].address, 16)
            return True
        i = fib.addresses[i].same_slot
    return False


cdef inline bint nat_range(
    Host *host, Packet *p, Hook hook, const Target *target, NatRange *wanted,
) noexcept nogil:
    """What a nat target asks for; False where an interface has no address to give, and the packet is dropped."""
    cdef uint32_t mask, i
    cdef int host_part = <int>FIELD_DST
    cdef uint32_t *own = &wanted.min_address[0]
    cdef uint32_t *towards = &p.field[<int>FIELD_DST]
    memset(wanted, 0, sizeof(NatRange))
    wanted.masquerade = -1
    wanted.flags = target.flags
    wanted.min_port = target.min_port
    wanted.max_port = target.max_port
    wanted.base_port = target.base_port
    wanted.min_address[0] = target.a0
    wanted.min_address[1] = target.a1
    wanted.min_address[2] = target.a2
    wanted.min_address[3] = target.a3
    wanted.max_address[0] = target.b0
    wanted.max_address[1] = target.b1
    wanted.max_address[2] = target.b2
    wanted.max_address[3] = target.b3
    if target.kind == TARGET_DNAT or target.kind == TARGET_SNAT:
        return True
    if target.kind == TARGET_NETMAP:
        # The network's bits from the wanted, the host's bits from the packet.
        if hook == HOOK_POSTROUTING or hook == HOOK_INPUT:
            host_part = <int>FIELD_SRC
        for i in range(4):
            mask = ~(wanted.min_address[i] ^ wanted.max_address[i])
            wanted.min_address[i] &= mask
            wanted.min_address[i] |= p.field[host_part + i] & ~mask
        memcpy(wanted.max_address, wanted.min_address, 16)
        wanted.flags |= NAT_MAP_IPS
        return True
    memset(wanted.min_address, 0, 16)
    if target.kind == TARGET_MASQUERADE:
        if p.family == 4:
            towards = p.nexthop
        if not fib_select_source(&host.fib, p.family, p.oif, towards, own):
            return False
        wanted.masquerade = p.oif
    elif hook == HOOK_OUTPUT:
        # REDIRECT of the host's own packets is to itself.
        if p.family == 4:
            own[0] = 0x7F000001U
        else:
            own[3] = 1
    elif p.family == 4:
        if not fib_select_source(&host.fib, 4, p.iif, NULL, own):
            return False
    elif not first_address6(&host.fib, p.iif, &p.field[<int>FIELD_DST], own):
        return False
    memcpy(wanted.max_address, wanted.min_address, 16)
    wanted.flags |= NAT_MAP_IPS
    return True


cdef inline HookVerdict nat_hook(
    Network *net, Host *host, Packet *p, Hook hook, RuleSet *rules, RuleContext *context,
) noexcept nogil:
    """The nat chains are asked once for each side of a connection; all its packets are then rewritten alike."""
    cdef NatStep step = nat_begin(host.netfilter.conntrack, p, hook)
    cdef const Target *target = NULL
    cdef NatRange wanted
    cdef uint8_t verdict
    if step == NAT_ACCEPT:
        return HOOK_VERDICT_ACCEPT
    if step == NAT_RULES:
        verdict = rules_run(rules, TABLE_NAT, hook, p, context, &target)
        if verdict == RULE_ACCEPT:
            step = nat_bind(host.netfilter.conntrack, p, hook, NULL, &host.chance)
        elif verdict == RULE_TERMINAL and nat_range(host, p, hook, target, &wanted):
            step = nat_bind(host.netfilter.conntrack, p, hook, &wanted, &host.chance)
        else:
            step = NAT_DROP
    if step == NAT_DROP:
        drop(net, host, p, Reason.NETFILTER_DROP)
        return HOOK_VERDICT_ENDED
    return HOOK_VERDICT_ACCEPT


cdef inline HookVerdict run_hook(Network *net, Host *host, Packet *p, Hook hook) noexcept nogil:
    """Pass a packet through a hook. HOOK_VERDICT_ENDED: it is accounted for, or kept."""
    cdef int family = 0 if p.family == 4 else 1
    cdef HookList *entries = &host.netfilter.hooks[family][<int>hook]
    cdef RuleSet *rules = host.netfilter.rules[family]
    cdef RuleContext context
    cdef RouteWords words
    cdef const Target *target = NULL
    cdef HookEntry *entry
    cdef uint8_t verdict
    cdef int i
    if entries.count == 0:
        return HOOK_VERDICT_ACCEPT
    packet_interfaces(p)
    memset(&context, 0, sizeof(context))
    context.fib = &host.fib
    context.chance = &host.chance
    context.conntrack = host.netfilter.conntrack
    context.ipvs = host.ipvs
    context.now = p.time
    context.listening = host.listening
    context.all_ports = host.accept_all
    context.log = &host.netfilter.log
    context.tap = host.netfilter.tap if host.netfilter.tap != NULL else context.log
    for i in range(entries.count):
        entry = &entries.entries[i]
        if entry.kind == ENTRY_TABLE:
            if hook == HOOK_OUTPUT and entry.table == TABLE_MANGLE:
                route_words(p, &words)
            verdict = rules_run(rules, <TableKind>entry.table, hook, p, &context, &target)
            if verdict == RULE_ACCEPT:
                if hook == HOOK_OUTPUT and entry.table == TABLE_MANGLE and route_words_changed(p, &words):
                    if not reroute(net, host, p):
                        return HOOK_VERDICT_ENDED
                continue
            if verdict == RULE_TERMINAL and target.kind == TARGET_REJECT:
                return reject(net, host, p, target, hook)
            drop(net, host, p, Reason.NETFILTER_DROP)
            return HOOK_VERDICT_ENDED
        if entry.kind == ENTRY_CONNTRACK:
            if ct_in(host.netfilter.conntrack, p, hook) == CT_DROP:
                drop(net, host, p, Reason.CONNTRACK_TABLE_FULL)
                return HOOK_VERDICT_ENDED
        elif entry.kind == ENTRY_NAT:
            if nat_hook(net, host, p, hook, rules, &context) != HOOK_VERDICT_ACCEPT:
                return HOOK_VERDICT_ENDED
            if hook == HOOK_OUTPUT and nat_moves(p) and not reroute(net, host, p):
                return HOOK_VERDICT_ENDED
        elif entry.kind == ENTRY_CONFIRM:
            if ct_confirm(host.netfilter.conntrack, p) == CT_DROP:
                drop(net, host, p, Reason.CONNTRACK_CLASH)
                return HOOK_VERDICT_ENDED
        elif entry.kind == ENTRY_DEFRAG:
            if not tracked_defrag(net, host, p, hook):
                return HOOK_VERDICT_ENDED
        elif entry.kind == ENTRY_IPVS_ANSWER:
            if ipvs_answer(net, host, p, hook) != IPVS_ACCEPT:
                return HOOK_VERDICT_ENDED
        elif entry.kind == ENTRY_IPVS_REQUEST:
            if ipvs_request(net, host, p, hook) != IPVS_ACCEPT:
                return HOOK_VERDICT_ENDED
    return HOOK_VERDICT_ACCEPT
