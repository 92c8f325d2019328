"""What is registered at the hooks of a host: its tables, and connection tracking where something asks for it.

Source: include/uapi/linux/netfilter_ipv4.h, netfilter_ipv6.h (priorities). Tracking has hooks only where a rule needs them:
a match or target that looks at connections or translates. A nat table alone sees no packet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dataplane._fast.conntrack import ConnectionTable
from dataplane._fast.conntrack_load import load_connections
from dataplane._fast.host import CompiledHost
from dataplane._fast.netfilter import HookEntryKind
from dataplane._fast.packet import Hook
from dataplane._fast.ruleset import TableKind
from dataplane.datapath.compile_ipvs import DEFRAG, balancer, ipvs_unmodelled, register_ipvs
from dataplane.datapath.compile_rules import compile_rules
from dataplane.datapath.compile_sets import compile_sets
from dataplane.datapath.connections import taken_over
from dataplane.host.config import HostConfig
from dataplane.host.iptables import Ruleset

SECOND = 1_000_000_000
# Priorities of the iptables tables, and the hooks that they have.
TABLES: dict[str, tuple[TableKind, int, tuple[Hook, ...]]] = {
    "raw": (TableKind.TABLE_RAW, -300, (Hook.HOOK_PREROUTING, Hook.HOOK_OUTPUT)),
    "mangle": (TableKind.TABLE_MANGLE, -150, tuple(Hook)),
    "filter": (TableKind.TABLE_FILTER, 0, (Hook.HOOK_INPUT, Hook.HOOK_FORWARD, Hook.HOOK_OUTPUT)),
    "security": (TableKind.TABLE_SECURITY, 50, (Hook.HOOK_INPUT, Hook.HOOK_FORWARD, Hook.HOOK_OUTPUT)),
}
NAT = {
    Hook.HOOK_PREROUTING: -100,
    Hook.HOOK_INPUT: 100,
    Hook.HOOK_OUTPUT: -100,
    Hook.HOOK_POSTROUTING: 100,
}
# What looks at connections.
ASKING_MATCHES = {"conntrack", "state", "connmark", "connbytes", "connlabel", "connlimit", "helper", "cluster"}
ASKING_TARGETS = {"DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "CONNMARK", "CT", "CONNSECMARK", "SYNPROXY"}
CONNTRACK, CONFIRM = -200, 2**15 - 1
# net.netfilter.nf_conntrack_*: name behind the prefix and default in seconds, in the order of TcpState and SctpState.
TCP_TIMEOUTS = (
    ("tcp_timeout_syn_sent", 120),
    ("tcp_timeout_syn_sent", 120),
    ("tcp_timeout_syn_recv", 60),
    ("tcp_timeout_established", 432000),
    ("tcp_timeout_fin_wait", 120),
    ("tcp_timeout_close_wait", 60),
    ("tcp_timeout_last_ack", 30),
    ("tcp_timeout_time_wait", 120),
    ("tcp_timeout_close", 10),
    ("tcp_timeout_syn_sent", 120),
    ("tcp_timeout_syn_sent", 120),
    ("tcp_timeout_syn_sent", 120),
    ("tcp_timeout_max_retrans", 300),
    ("tcp_timeout_unacknowledged", 300),
)
SCTP_TIMEOUTS = (
    ("sctp_timeout_closed", 10),
    ("sctp_timeout_closed", 10),
    ("sctp_timeout_cookie_wait", 3),
    ("sctp_timeout_cookie_echoed", 3),
    ("sctp_timeout_established", 210),
    ("sctp_timeout_shutdown_sent", 3),
    ("sctp_timeout_shutdown_recd", 3),
    ("sctp_timeout_shutdown_ack_sent", 3),
    ("sctp_timeout_heartbeat_sent", 30),
)


def register_hooks(host: CompiledHost, config: HostConfig, slots: Mapping[str, int], seed: int) -> list[str]:
    """Compile the rules and register what they need; gives what of them is not modelled."""
    unmodelled: list[str] = []
    connections: ConnectionTable | None = None
    sets = compile_sets(config.ipsets)
    if config.ipvs:
        host.balancing(balancer(config, seed))
        unmodelled.extend(ipvs_unmodelled(config))
    for family, ruleset in ((4, config.iptables), (6, config.ip6tables)):
        if ruleset is None or not ruleset.tables:
            continue
        entries: list[tuple[int, Hook, HookEntryKind, int]] = []
        host.rules(family, compile_rules(ruleset, slots, sets))
        unmodelled.extend(ruleset.unmodelled)
        unmodelled.extend(helpers(ruleset))
        for table in ruleset.tables:
            if table.name in TABLES:
                kind, priority, hooks = TABLES[table.name]
                entries += [(priority, hook, HookEntryKind.ENTRY_TABLE, int(kind)) for hook in hooks]
            elif table.name == "nat":
                entries += [(priority, hook, HookEntryKind.ENTRY_NAT, 0) for hook, priority in NAT.items()]
        if needs_tracking(ruleset):
            if connections is None:
                connections = tracking(config, seed)
                load_connections(connections, taken_over(config.connections))
                host.tracking(connections)
            for hook in (Hook.HOOK_PREROUTING, Hook.HOOK_OUTPUT):
                entries.append((DEFRAG, hook, HookEntryKind.ENTRY_DEFRAG, 0))
                entries.append((CONNTRACK, hook, HookEntryKind.ENTRY_CONNTRACK, 0))
            for hook in (Hook.HOOK_INPUT, Hook.HOOK_POSTROUTING):
                entries.append((CONFIRM, hook, HookEntryKind.ENTRY_CONFIRM, 0))
        _register(host, family, entries)
    if config.ipvs:
        register_ipvs(host, config.ipvs)
    if connections is not None and config.sysctl.get("net.netfilter.nf_conntrack_helper", "0") != "0":
        unmodelled.append("net.netfilter.nf_conntrack_helper: connections that helpers expect")
    return unmodelled


def _register(host: CompiledHost, family: int, entries: list[tuple[int, Hook, HookEntryKind, int]]) -> None:
    for priority, hook, entry, table_kind in sorted(entries):
        host.hook(family, int(hook), int(entry), table_kind, priority)


def helpers(ruleset: Ruleset) -> Iterator[str]:
    """Each conntrack helper that a rule gives to connections: what they then expect (FTP's data, SIP's media) is not
    RELATED here, and addresses inside their payload are not translated."""
    named = set()
    for _, _, rule in ruleset.rules():
        target = rule.specification(ruleset.family).target
        if target is not None and target.name == "CT" and target.has("helper"):
            named.add(target.value("helper"))
    for name in sorted(named):
        yield f"-j CT --helper {name}: connections that it expects"


def needs_tracking(ruleset: Ruleset) -> bool:
    """Whether a rule makes the kernel register connection tracking for this family (nf_ct_netns_get)."""
    for _, _, rule in ruleset.rules():
        specification = rule.specification(ruleset.family)
        if any(match.name in ASKING_MATCHES for match in specification.matches):
            return True
        target = specification.target
        # What only keeps packets out of the table does not ask for one.
        if target is not None and target.name in ASKING_TARGETS and not (target.name == "CT" and target.has("notrack")):
            return True
    return False


def tracking(config: HostConfig, seed: int) -> ConnectionTable:
    """An empty connection table with the host's timeouts and limits."""

    def number(name: str, default: int) -> int:
        text = config.sysctl.get(f"net.netfilter.nf_conntrack_{name}")
        return default if text is None else int(text)

    return ConnectionTable(
        tcp_timeouts=[number(name, default) * SECOND for name, default in TCP_TIMEOUTS],
        sctp_timeouts=[number(name, default) * SECOND for name, default in SCTP_TIMEOUTS],
        udp_timeout=number("udp_timeout", 30) * SECOND,
        udp_stream_timeout=number("udp_timeout_stream", 120) * SECOND,
        icmp_timeout=number("icmp_timeout", 30) * SECOND,
        icmp6_timeout=number("icmpv6_timeout", 30) * SECOND,
        generic_timeout=number("generic_timeout", 600) * SECOND,
        gre_timeout=number("gre_timeout", 30) * SECOND,
        gre_stream_timeout=number("gre_timeout_stream", 180) * SECOND,
        maximum=number("max", 262144),
        buckets=number("buckets", 262144),
        accounting=bool(number("acct", 0)),
        timestamp=bool(number("timestamp", 0)),
        checksum=bool(number("checksum", 1)),
        tcp_loose=bool(number("tcp_loose", 1)),
        tcp_be_liberal=bool(number("tcp_be_liberal", 0)),
        tcp_ignore_invalid_rst=bool(number("tcp_ignore_invalid_rst", 0)),
        tcp_max_retrans=number("tcp_max_retrans", 3),
        seed=seed,
    )


def counted(host: CompiledHost, config: HostConfig, family: int) -> Ruleset | None:
    """The host's rules with the counters as they are now."""
    ruleset = config.iptables if family == 4 else config.ip6tables
    rules = host.rules4 if family == 4 else host.rules6
    if ruleset is None or rules is None:
        return ruleset
    # A dump's own counters go on.
    counters = [
        (rule.packets + int(packets), rule.bytes + int(size))
        for (_, _, rule), (packets, size) in zip(ruleset.rules(), rules.counters.tolist(), strict=True)
    ]
    chains = [chain for table in ruleset.tables for chain in table.chains]
    policies = [
        (chain.packets + int(packets), chain.bytes + int(size))
        for chain, (packets, size) in zip(chains, rules.policies.tolist(), strict=True)
    ]
    return ruleset.counted(counters, policies)
