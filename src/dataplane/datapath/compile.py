"""A HostConfig becomes the tables that the walk reads.

Nothing here sees a packet. What a configuration leaves out is filled as the kernel would fill it; what it states and the
walk does not model is named in `Compiled.unmodelled`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from dataplane._fast.chance import Choice
from dataplane._fast.fib import RouteType
from dataplane._fast.host import CompiledHost
from dataplane._fast.interface import LinkKind
from dataplane._fast.neighbour import NeighbourState
from dataplane._fast.reassembly import ReassemblyKind
from dataplane.datapath.hooks import register_hooks
from dataplane.datapath.unmodelled import unmodelled as named
from dataplane.errors import ModelError
from dataplane.host.config import (
    TABLE_DEFAULT,
    TABLE_LOCAL,
    TABLE_MAIN,
    HostConfig,
    Link,
    PolicyRule,
)
from dataplane.host.implied import kernel_routes
from dataplane.host.objects import SCOPES

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
LINK_KINDS = {
    "": LinkKind.LINK_PHYSICAL,
    "veth": LinkKind.LINK_VETH,
    "bridge": LinkKind.LINK_BRIDGE,
    "vxlan": LinkKind.LINK_VXLAN,
    "dummy": LinkKind.LINK_DUMMY,
}
ROUTE_TYPES = {
    "unicast": RouteType.ROUTE_UNICAST,
    "local": RouteType.ROUTE_LOCAL,
    "broadcast": RouteType.ROUTE_BROADCAST,
    "anycast": RouteType.ROUTE_ANYCAST,
    "multicast": RouteType.ROUTE_MULTICAST,
    "blackhole": RouteType.ROUTE_BLACKHOLE,
    "unreachable": RouteType.ROUTE_UNREACHABLE,
    "prohibit": RouteType.ROUTE_PROHIBIT,
    "throw": RouteType.ROUTE_THROW,
}
NEIGHBOUR_STATES = {
    "PERMANENT": NeighbourState.NUD_PERMANENT,
    "NOARP": NeighbourState.NUD_NOARP,
    "REACHABLE": NeighbourState.NUD_REACHABLE,
    "STALE": NeighbourState.NUD_STALE,
    "DELAY": NeighbourState.NUD_REACHABLE,
    "PROBE": NeighbourState.NUD_REACHABLE,
}


Listening: TypeAlias = bool | Iterable[tuple[str, int]]
"""Who takes what reaches a host's ports and answers nothing: every port (True), none, or the given ("tcp" or "udp", port).

A closed port answers as Linux does, with a reset or with port unreachable."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A host ready for the walk, with what of its configuration plays no part."""

    host: CompiledHost
    slots: Mapping[str, int]
    unmodelled: tuple[str, ...] = field(default=())


def compile_host(
    config: HostConfig,
    *,
    seed: int = 0,
    listening: Listening = False,
    choices: Mapping[Choice, Iterable[int]] | None = None,
) -> Compiled:
    """Compile one host.

    seed: of its random choices. listening: see Listening. choices: recorded choices
    to take before the generator's. Raises DumpError where the configuration does not fit together, ModelError where a
    number in it is larger than the kernel could hold.
    """
    try:
        return _compile_host(config, seed, listening, choices or {})
    except OverflowError as error:
        raise ModelError(f"host {config.name!r}: a number of its configuration is out of range: {error}") from error


def _compile_host(
    config: HostConfig, seed: int, listening: Listening, choices: Mapping[Choice, Iterable[int]]
) -> Compiled:
    links = sorted(config.links, key=lambda link: link.index)
    slots = {link.name: slot for slot, link in enumerate(links)}
    host = CompiledHost(config.name, tuple(link.name for link in links), seed)
    unmodelled = [*config.unmodelled, *named(config)]
    for slot, link in enumerate(links):
        _link(host, slot, link, config, slots, unmodelled)
    _settings(host, config, listening is True)
    _reassembly(host, config)
    if not isinstance(listening, bool):
        for protocol, port in listening:
            if protocol not in ("tcp", "udp"):
                raise ModelError(f"a listener of {protocol!r}: it is tcp or udp")
            host.listen(protocol == "udp", port)
    _addresses(host, config, slots)
    _routes(host, config, slots)
    _policy(host, config, slots, unmodelled)
    _neighbours(host, config, slots)
    _forwarding(host, config, links, slots)
    if config.groups is not None:
        host.groups((slots[g.interface], group) for g in config.groups if g.interface in slots for group in g.addresses)
    unmodelled.extend(register_hooks(host, config, slots, seed))
    for kind, values in choices.items():
        host.choices(int(kind), values)
    return Compiled(host, slots, tuple(unmodelled))


# ---- sysctls -----------------------------------------------------------------------------------------------------------


def _number(config: HostConfig, name: str, default: int) -> int:
    text = config.sysctl.get(name)
    if text is None:
        return default
    try:
        return int(text.split()[0])
    except (ValueError, IndexError):
        return default


def _byte(values: Sequence[int]) -> Sequence[int]:
    """More than anybody will ever send is as good as that many."""
    return [max(0, min(value, 255)) for value in values]


def _of_interface(config: HostConfig, family: int, interface: str, key: str, default: int) -> int:
    """net.ipvN.conf.INTERFACE.key; a dot in the name is written as a slash; `default` applies to what came later."""
    prefix = f"net.ipv{family}.conf"
    fallback = _number(config, f"{prefix}.default.{key}", default)
    return _number(config, f"{prefix}.{interface.replace('.', '/')}.{key}", fallback)


def _both(config: HostConfig, interface: str, key: str, default: int = 0) -> int:
    """IN_DEV_MAXCONF: the larger of `all` and the interface's own."""
    return max(_number(config, f"net.ipv4.conf.all.{key}", default), _of_interface(config, 4, interface, key, default))


def _forwarding4(config: HostConfig, interface: str) -> bool:
    """The interface's own value; where a dump has only the switch for all, that is what was copied to each."""
    everywhere = _number(config, "net.ipv4.ip_forward", _number(config, "net.ipv4.conf.all.forwarding", 0))
    return bool(_of_interface(config, 4, interface, "forwarding", everywhere))


def _neigh(config: HostConfig, interface: str, key: str, default: int, unit: int = 1) -> tuple[int, int]:
    """net.ipv4.neigh.INTERFACE.key and its IPv6 twin."""

    def of(family: int) -> int:
        prefix = f"net.ipv{family}.neigh"
        fallback = _number(config, f"{prefix}.default.{key}", default)
        return unit * _number(config, f"{prefix}.{interface.replace('.', '/')}.{key}", fallback)

    return of(4), of(6)


def _link(
    host: CompiledHost,
    slot: int,
    link: Link,
    config: HostConfig,
    slots: Mapping[str, int],
    unmodelled: list[str],
) -> None:
    name = link.name
    if link.loopback:
        kind = LinkKind.LINK_LOOPBACK
    elif link.kind == "tun":
        tap = link.tun is not None and link.tun.mode == "tap"
        kind = LinkKind.LINK_TAP if tap else LinkKind.LINK_TUN
    elif link.kind in LINK_KINDS:
        kind = LINK_KINDS[link.kind]
    else:
        kind = LinkKind.LINK_OTHER
        unmodelled.append(f"link {name}: kind {link.kind}")
    port, bridge = link.port, link.bridge
    ipv6_mtu = _of_interface(config, 6, name, "mtu", link.mtu)
    all_forwarding6 = _number(config, "net.ipv6.conf.all.forwarding", 0)
    host.interface(
        slot,
        index=link.index,
        kind=int(kind),
        up=link.up,
        mac=link.mac or 0,
        mtu=link.mtu,
        noarp=link.noarp,
        promisc=link.promisc,
        master=slots.get(link.master, -1) if link.master is not None else -1,
        hairpin=port.hairpin if port else False,
        learning=port.learning if port else True,
        flood=port.flood if port else True,
        multicast_flood=port.mcast_flood if port else True,
        broadcast_flood=port.bcast_flood if port else True,
        isolated=port.isolated if port else False,
        forwarding_state=port.state == "forwarding" if port else True,
        learning_state=port.state == "learning" if port else False,
        ageing=bridge.ageing_ns if bridge else 300 * SECOND,
        call_iptables=bridge.nf_call_iptables if bridge else False,
        call_ip6tables=bridge.nf_call_ip6tables if bridge else False,
        snooping=bridge.mcast_snooping if bridge else False,
        group_forward_mask=bridge.group_forward_mask if bridge else port.group_forward_mask if port else 0,
        forwarding=_forwarding4(config, name),
        rp_filter=_both(config, name, "rp_filter"),
        accept_local=bool(_both(config, name, "accept_local")),
        accept_source_route=bool(
            _number(config, "net.ipv4.conf.all.accept_source_route", 0)
            and _of_interface(config, 4, name, "accept_source_route", 1)
        ),
        route_localnet=bool(_both(config, name, "route_localnet")),
        arp_ignore=_both(config, name, "arp_ignore"),
        arp_announce=_both(config, name, "arp_announce"),
        arp_filter=bool(_both(config, name, "arp_filter")),
        arp_accept=_both(config, name, "arp_accept"),
        proxy_arp=bool(_both(config, name, "proxy_arp")),
        proxy_arp_pvlan=bool(_both(config, name, "proxy_arp_pvlan")),
        send_redirects=bool(_both(config, name, "send_redirects", 1)),
        src_valid_mark=bool(_both(config, name, "src_valid_mark")),
        forwarding6=bool(all_forwarding6 or _of_interface(config, 6, name, "force_forwarding", 0)),
        router6=bool(_of_interface(config, 6, name, "forwarding", all_forwarding6)),
        disabled6=bool(_of_interface(config, 6, name, "disable_ipv6", 0)),
        proxy_ndp=bool(
            max(_number(config, "net.ipv6.conf.all.proxy_ndp", 0), _of_interface(config, 6, name, "proxy_ndp", 0))
        ),
        fragmented_nd=not _of_interface(config, 6, name, "suppress_frag_ndisc", 1),
        hop_limit6=_of_interface(config, 6, name, "hop_limit", 64),
        mtu6=min(ipv6_mtu, link.mtu) if ipv6_mtu else link.mtu,
        reachable=_neigh(config, name, "base_reachable_time_ms", 30000, MILLISECOND),
        delay_probe=_neigh(config, name, "delay_first_probe_time", 5, SECOND),
        retransmit=_neigh(config, name, "retrans_time_ms", 1000, MILLISECOND),
        multicast_probes=_byte(_neigh(config, name, "mcast_solicit", 3)),
        queue_bytes=_neigh(config, name, "unres_qlen_bytes", 212_992),
        unicast_probes=_byte(_neigh(config, name, "ucast_solicit", 3)),
    )
    vxlan = link.vxlan
    if vxlan is None:
        return
    if vxlan.external:
        unmodelled.append(f"link {name}: vxlan in external mode")
    remote = vxlan.group
    host.vxlan(
        slot,
        vni=vxlan.vni,
        port=vxlan.port,
        lower=slots.get(vxlan.device, -1) if vxlan.device is not None else -1,
        local=vxlan.local,
        family=6 if remote is not None and remote.version == 6 else 4,
        learning=vxlan.learning,
        ttl=vxlan.ttl,
        ttl_inherit=vxlan.ttl_inherit,
        tos=0 if vxlan.tos == 1 else vxlan.tos,
        tos_inherit=vxlan.tos == 1,
        df={"unset": 0, "set": 1, "inherit": 2}.get(vxlan.df, 0),
        checksum=vxlan.udp_checksum,
        checksum6=not vxlan.udp6_zero_checksum_tx,
        no_checksum6=vxlan.udp6_zero_checksum_rx,
        group_policy=vxlan.gbp,
        label=vxlan.flow_label,
        port_low=vxlan.port_low,
        port_high=vxlan.port_high,
        ageing=vxlan.ageing_ns,
        proxy=vxlan.proxy,
    )
    # A dump lists the entry that the device began with; it may have been taken out again.
    if remote is not None and not any(entry.interface == name and entry.dst is not None for entry in config.fdb):
        host.vxlan_entry(slot, 0, remote)


def _settings(host: CompiledHost, config: HostConfig, accept_all: bool) -> None:
    ports = (config.sysctl.get("net.ipv4.ip_local_port_range") or "32768 60999").split()
    host.settings(
        default_ttl=_number(config, "net.ipv4.ip_default_ttl", 64),
        icmp_use_inbound_address=bool(_number(config, "net.ipv4.icmp_errors_use_inbound_ifaddr", 0)),
        icmp_echo_ignore_all=bool(_number(config, "net.ipv4.icmp_echo_ignore_all", 0)),
        icmp_echo_ignore_broadcasts=bool(_number(config, "net.ipv4.icmp_echo_ignore_broadcasts", 1)),
        bridge_iptables=bool(_number(config, "net.bridge.bridge-nf-call-iptables", 0)),
        bridge_ip6tables=bool(_number(config, "net.bridge.bridge-nf-call-ip6tables", 0)),
        bridge_arptables=bool(_number(config, "net.bridge.bridge-nf-call-arptables", 0)),
        fwmark_reflect=bool(_number(config, "net.ipv4.fwmark_reflect", 0)),
        accept_all=accept_all,
        icmp_ratemask=_number(config, "net.ipv4.icmp_ratemask", 6168),
        icmp_ratelimit=_number(config, "net.ipv4.icmp_ratelimit", 1000) * SECOND // 1000,
        icmp_messages_per_second=_number(config, "net.ipv4.icmp_msgs_per_sec", 10000),
        icmp_messages_burst=_number(config, "net.ipv4.icmp_msgs_burst", 10000),
        icmp_ratelimit6=_number(config, "net.ipv6.icmp.ratelimit", 1000) * SECOND // 1000,
        port_low=int(ports[0]),
        port_high=int(ports[-1]),
        forward_use_pmtu=bool(_number(config, "net.ipv4.ip_forward_use_pmtu", 0)),
        no_pmtu_disc=_number(config, "net.ipv4.ip_no_pmtu_disc", 0),
        early_demux=bool(
            _number(config, "net.ipv4.ip_early_demux", 1) and _number(config, "net.ipv4.tcp_early_demux", 1)
        ),
        auto_flow_labels=_number(config, "net.ipv6.auto_flowlabels", 1) in (1, 3),
        neighbour_limit=_number(config, "net.ipv4.neigh.default.gc_thresh3", 1024),
    )


def _reassembly(host: CompiledHost, config: HostConfig) -> None:
    high = 4 << 20
    host.reassembly(
        ReassemblyKind.REASSEMBLY_IP4,
        timeout=_number(config, "net.ipv4.ipfrag_time", 30) * SECOND,
        high_threshold=_number(config, "net.ipv4.ipfrag_high_thresh", high),
        distance=_number(config, "net.ipv4.ipfrag_max_dist", 64),
    )
    host.reassembly(
        ReassemblyKind.REASSEMBLY_IP6,
        timeout=_number(config, "net.ipv6.ip6frag_time", 60) * SECOND,
        high_threshold=_number(config, "net.ipv6.ip6frag_high_thresh", high),
    )
    host.reassembly(
        ReassemblyKind.REASSEMBLY_TRACKED6,
        timeout=_number(config, "net.netfilter.nf_conntrack_frag6_timeout", 60) * SECOND,
        high_threshold=_number(config, "net.netfilter.nf_conntrack_frag6_high_thresh", high),
    )


# ---- addresses and routes ----------------------------------------------------------------------------------------------


def _scope(text: str) -> int:
    return SCOPES[text] if text in SCOPES else int(text)


def _addresses(host: CompiledHost, config: HostConfig, slots: Mapping[str, int]) -> None:
    host.addresses(
        (
            slots[address.interface],
            address.address.ip,
            address.address.network.prefixlen,
            _scope(address.scope),
            address.secondary,
            "deprecated" in address.flags,
        )
        for address in config.addresses
        if address.interface in slots
    )


def _routes(host: CompiledHost, config: HostConfig, slots: Mapping[str, int]) -> None:
    implied = kernel_routes(config.links, config.addresses, config.settings)
    loopbacks = {link.name for link in config.links if link.loopback}
    for family in (4, 6):
        # What only packets of a source take is named as not modelled (IPv6).
        routes = [route for route in config.routes if route.family == family and route.source is None]
        if not any(route.table == TABLE_LOCAL for route in routes):
            # No dump of the kernel's own routes: they follow from the addresses. Stated routes keep their place.
            stated = {(route.destination, route.table, route.priority) for route in routes}
            own = [route for route in implied if route.family == family]
            routes += [route for route in own if (route.destination, route.table, route.priority) not in stated]
        for route in sorted(routes, key=lambda route: (-route.tos, route.priority)):
            if route.type not in ROUTE_TYPES:
                continue
            hops = [
                (
                    slots.get(hop.device, -1) if hop.device is not None else -1,
                    hop.gateway,
                    hop.weight,
                    hop.onlink,
                )
                for hop in route.nexthops
                if not hop.dead
            ]
            if route.nexthops and not hops:
                continue
            kind = ROUTE_TYPES[route.type]
            by_loopback = any(hop.device in loopbacks for hop in route.nexthops)
            if family == 6 and by_loopback and kind == RouteType.ROUTE_UNICAST and not route.destination.is_loopback:
                # ip6_route_info_create makes a refusal of it: what is local has routes of its own.
                kind, hops = RouteType.ROUTE_UNREACHABLE, []
            host.route(
                route.destination,
                table=route.table,
                kind=int(kind),
                metric=route.priority,
                mtu=route.mtu,
                scope=_scope(route.scope),
                tos=route.tos,
                source=route.prefsrc,
                hops=hops if kind <= RouteType.ROUTE_MULTICAST else [],
            )
    host.routes_done()


def _is_default(rule: PolicyRule) -> bool:
    """One of the three rules that every namespace has."""
    plain = PolicyRule(rule.priority, rule.family, rule.table, protocol=rule.protocol)
    return rule == plain and (rule.priority, rule.table) in (
        (0, TABLE_LOCAL),
        (32766, TABLE_MAIN),
        (32767, TABLE_DEFAULT),
    )


RULE_ACTIONS = {
    "lookup": RouteType.ROUTE_UNICAST,
    "blackhole": RouteType.ROUTE_BLACKHOLE,
    "unreachable": RouteType.ROUTE_UNREACHABLE,
    "prohibit": RouteType.ROUTE_PROHIBIT,
}


def _following(rules: Sequence[PolicyRule], at: int) -> int:
    """The index of the rule that a goto leads to; a target that is not there, and nop, go on with the next one."""
    rule = rules[at]
    if rule.action == "goto":
        for index in range(at + 1, len(rules)):
            if rules[index].family == rule.family and rules[index].priority == rule.goto:
                return index
    return at + 1


def _policy(host: CompiledHost, config: HostConfig, slots: Mapping[str, int], unmodelled: list[str]) -> None:
    rules: list[PolicyRule] = []
    for family in (4, 6):
        own = [rule for rule in config.rules if rule.family == family]
        if not own:
            own = [PolicyRule(0, family, TABLE_LOCAL), PolicyRule(32766, family, TABLE_MAIN)]
        rules += sorted(own, key=lambda rule: rule.priority)
    rows: list[dict[str, object]] = []
    for rule in rules:
        strange = rule.action not in ("lookup", "goto", "nop", "blackhole", "unreachable", "prohibit")
        if strange or rule.uid_range or rule.l3mdev or rule.suppress_group is not None:
            unmodelled.append(f"ip rule {rule.priority}: selectors or action {rule.action}")
        # A rule for what is not modelled takes its place and matches nothing.
        never = strange or bool(rule.uid_range or rule.l3mdev or rule.tunnel_id)
        rows.append(
            {
                "family": rule.family,
                "source": rule.source,
                "destination": rule.destination,
                "mark": rule.fwmark or 0,
                "mask": rule.fwmask if rule.fwmark is not None else 0,
                "table": rule.table,
                "iif": -2 if never else -1 if rule.iif is None else slots.get(rule.iif, -1 if rule.iif == "lo" else -2),
                "oif": -1 if rule.oif is None else slots.get(rule.oif, -2),
                "action": int(RULE_ACTIONS.get(rule.action, RouteType.ROUTE_UNSPEC)),
                "following": _following(rules, len(rows)),
                # No prefix is longer than 128 bits.
                "suppressed": -1 if rule.suppress_prefix_length is None else min(rule.suppress_prefix_length, 128),
                "proto": rule.ip_protocol,
                "sports": rule.source_ports or (0, 0),
                "dports": rule.destination_ports or (0, 0),
                "invert": rule.invert and not never,
                "tos": rule.tos,
                "local_in": rule.iif == "lo",
            }
        )
    policies = [_number(config, f"net.ipv{family}.fib_multipath_hash_policy", 0) for family in (4, 6)]
    if max(policies) > 2:
        unmodelled.append("fib_multipath_hash_policy: only 0 (addresses), 1 (ports too) and 2 (inner addresses)")
    host.multipath(_number(config, "net.ipv4.fib_multipath_hash_seed", 0), *policies)
    host.policy_rules(rows, not all(_is_default(rule) for rule in rules))


def _neighbours(host: CompiledHost, config: HostConfig, slots: Mapping[str, int]) -> None:
    for neighbour in config.neighbours:
        if neighbour.interface not in slots:
            continue
        if neighbour.proxy:
            host.neighbour(slots[neighbour.interface], neighbour.address, state=0, proxy=True, router=neighbour.router)
            continue
        state = next((NEIGHBOUR_STATES[name] for name in neighbour.state if name in NEIGHBOUR_STATES), None)
        if state is None or (neighbour.mac is None and state != NeighbourState.NUD_NOARP):
            continue
        host.neighbour(
            slots[neighbour.interface],
            neighbour.address,
            mac=neighbour.mac,
            state=int(state),
            router=neighbour.router,
        )


def _forwarding(host: CompiledHost, config: HostConfig, links: Sequence[Link], slots: Mapping[str, int]) -> None:
    """The bridges' own MACs and those of their ports, then what the dump lists; the VXLAN devices' remotes."""
    for slot, link in enumerate(links):
        if link.kind == "bridge" and link.mac:
            host.bridge_entry(slot, slot, link.mac, local=True)
        if link.master is not None and link.master in slots and link.mac:
            host.bridge_entry(slots[link.master], slot, link.mac, local=True)
    for entry in config.fdb:
        if entry.interface not in slots:
            continue
        slot = slots[entry.interface]
        if entry.dst is not None:
            host.vxlan_entry(
                slot,
                entry.mac,
                entry.dst,
                port=entry.port or 0,
                vni=entry.vni or 0,
                lower=slots.get(entry.via, -1) if entry.via is not None else -1,
                fixed=entry.state in ("permanent", "static"),
            )
        elif entry.master is not None and entry.master in slots and not entry.vlan and not entry.mac >> 40 & 1:
            host.bridge_entry(
                slots[entry.master],
                slot,
                entry.mac,
                local=entry.state == "permanent",
                fixed=entry.state in ("permanent", "static"),
                sticky="sticky" in entry.flags,
            )
