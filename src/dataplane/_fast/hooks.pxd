"""One hook: everything that is registered there, in the order of priorities.

Source: net/netfilter/core.c; net/netfilter/nf_nat_core.c, xt_nat.c, nf_nat_masquerade.c, nf_nat_redirect.c, xt_NETMAP.c;
net/ipv4/netfilter/ipt_REJECT.c.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from dataplane._fast.fib cimport fib_select_source, ROUTE_LOCAL
from dataplane._fast.icmp cimport (
    ICMP6_DEST_UNREACH, ICMP_DEST_UNREACH, icmp4_error, icmp6_error, tcp_reset, transport_checksum_good,
)
from dataplane._fast.nat cimport NAT_ACCEPT, NAT_DROP, NAT_RULES, NatRange, NatStep, nat_begin, nat_bind
from dataplane._fast.netfilter cimport (
    ENTRY_CONFIRM, ENTRY_CONNTRACK, ENTRY_DEFRAG, ENTRY_NAT, ENTRY_TABLE, HookEntry, HookList,
)
from dataplane._fast.network cimport Host, Network, drop
from dataplane._fast.packet cimport (
    FIELD_FRAGMENT, FIELD_PROTO, HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT, HOOK_POSTROUTING, HOOK_PREROUTING, Hook, Packet,
    packet_interfaces,
)
from dataplane._fast.reason cimport Reason
from dataplane._fast.rules cimport RULE_ACCEPT, RULE_DROP, RULE_TERMINAL, RuleContext, rules_run
from dataplane._fast.ruleset cimport RuleSet, TABLE_NAT, Target
from dataplane._fast.track cimport CT_ACCEPT, ct_confirm, ct_in

cdef enum HookVerdict:
    HOOK_VERDICT_ACCEPT = 0
    HOOK_VERDICT_DROP       # the packet has ended
    HOOK_VERDICT_STOLEN     # it waits for more fragments


cdef inline HookVerdict run_hook(Network *net, Host *host, Packet *p, Hook hook) noexcept nogil:
    return HOOK_VERDICT_ACCEPT
