from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

from dataplane._fast.conntrack import ConnectionTable
from dataplane._fast.ipvs import Balancer
from dataplane._fast.neighbour import NeighbourState
from dataplane._fast.reason import Reason
from dataplane._fast.rules import EVENT_DTYPE as EVENT_DTYPE
from dataplane._fast.rules import CompiledRules

_Address: TypeAlias = IPv4Address | IPv6Address
_Network: TypeAlias = IPv4Network | IPv6Network

@final
class CompiledHost:
    name: str
    interface_names: tuple[str, ...]
    rules4: CompiledRules | None
    rules6: CompiledRules | None
    connections: ConnectionTable | None
    balancer: Balancer | None
    def __new__(cls, name: str, interface_names: Iterable[str], seed: int = 0) -> CompiledHost: ...
    def interface(
        self,
        slot: int,
        *,
        index: int,
        kind: int,
        up: bool,
        mac: int = 0,
        mtu: int = 1500,
        noarp: bool = False,
        promisc: bool = False,
        master: int = -1,
        hairpin: bool = False,
        learning: bool = True,
        flood: bool = True,
        multicast_flood: bool = True,
        broadcast_flood: bool = True,
        isolated: bool = False,
        forwarding_state: bool = True,
        learning_state: bool = False,
        ageing: int = 300_000_000_000,
        call_iptables: bool = False,
        call_ip6tables: bool = False,
        group_forward_mask: int = 0,
        snooping: bool = False,
        forwarding: bool = False,
        rp_filter: int = 0,
        accept_local: bool = False,
        accept_source_route: bool = False,
        route_localnet: bool = False,
        arp_ignore: int = 0,
        arp_announce: int = 0,
        arp_filter: bool = False,
        arp_accept: int = 0,
        proxy_arp: bool = False,
        proxy_arp_pvlan: bool = False,
        send_redirects: bool = True,
        src_valid_mark: bool = False,
        forwarding6: bool = False,
        router6: bool = False,
        disabled6: bool = False,
        proxy_ndp: bool = False,
        fragmented_nd: bool = False,
        hop_limit6: int = 64,
        mtu6: int = 0,
        reachable: Sequence[int] = (30_000_000_000, 30_000_000_000),
        delay_probe: Sequence[int] = (5_000_000_000, 5_000_000_000),
        retransmit: Sequence[int] = (1_000_000_000, 1_000_000_000),
        multicast_probes: Sequence[int] = (3, 3),
        queue_bytes: Sequence[int] = (212_992, 212_992),
        unicast_probes: Sequence[int] = (3, 3),
    ) -> None: ...
    def settings(
        self,
        *,
        default_ttl: int = 64,
        icmp_use_inbound_address: bool = False,
        icmp_echo_ignore_all: bool = False,
        icmp_echo_ignore_broadcasts: bool = True,
        bridge_iptables: bool = False,
        bridge_ip6tables: bool = False,
        bridge_arptables: bool = False,
        fwmark_reflect: bool = False,
        accept_all: bool = False,
        icmp_ratemask: int = 6168,
        icmp_ratelimit: int = 1_000_000_000,
        icmp_messages_per_second: int = 10000,
        icmp_messages_burst: int = 10000,
        icmp_ratelimit6: int = 1_000_000_000,
        port_low: int = 32768,
        port_high: int = 60999,
        neighbour_limit: int = 1024,
        auto_flow_labels: bool = True,
        forward_use_pmtu: bool = False,
        no_pmtu_disc: int = 0,
        early_demux: bool = True,
    ) -> None: ...
    def reassembly(self, kind: int, *, timeout: int, high_threshold: int = 4194304, distance: int = 0) -> None: ...
    def listen(self, udp: bool, port: int) -> None: ...
    def addresses(self, rows: Iterable[tuple[int, _Address, int, int, bool, bool]]) -> None: ...
    def route(
        self,
        network: _Network,
        *,
        table: int,
        kind: int,
        metric: int = 0,
        mtu: int = 0,
        scope: int = 0,
        tos: int = 0,
        source: _Address | None = None,
        hops: Sequence[tuple[int, _Address | None, int, bool]] = (),
    ) -> None: ...
    def multipath(self, seed: int, policy4: int, policy6: int) -> None: ...
    def policy_rules(self, rows: Iterable[Mapping[str, Any]], custom: bool) -> None: ...
    def routes_done(self) -> None: ...
    def groups(self, joined: Iterable[tuple[int, _Address]]) -> None: ...
    def neighbour(
        self,
        slot: int,
        address: _Address,
        *,
        mac: int | None = None,
        state: int,
        proxy: bool = False,
        router: bool = False,
    ) -> None: ...
    def bridge_entry(
        self,
        bridge: int,
        port: int,
        mac: int,
        *,
        local: bool = False,
        fixed: bool = True,
        sticky: bool = False,
        vlan: int = 0,
    ) -> None: ...
    def vxlan(
        self,
        slot: int,
        *,
        vni: int,
        port: int,
        lower: int = -1,
        local: _Address | None = None,
        family: int = 4,
        learning: bool = True,
        ttl: int = 0,
        ttl_inherit: bool = False,
        tos: int = 0,
        tos_inherit: bool = False,
        df: int = 0,
        checksum: bool = True,
        checksum6: bool = True,
        no_checksum6: bool = False,
        group_policy: bool = False,
        label: int = 0,
        port_low: int = 0,
        port_high: int = 0,
        ageing: int = 300_000_000_000,
        proxy: bool = False,
    ) -> None: ...
    def vxlan_entry(
        self,
        slot: int,
        mac: int,
        remote: _Address,
        *,
        port: int = 0,
        vni: int = 0,
        lower: int = -1,
        fixed: bool = True,
    ) -> None: ...
    def hook(self, family: int, hook: int, kind: int, table: int, priority: int) -> None: ...
    def hooked(self, family: int, hook: int, kind: int) -> bool: ...
    def rules(self, family: int, rules: CompiledRules) -> None: ...
    def tracking(self, connections: ConnectionTable) -> None: ...
    def balancing(self, balancer: Balancer) -> None: ...
    def choices(self, kind: int, values: Iterable[int]) -> None: ...
    def drops(self) -> dict[Reason, int]: ...
    def refused(self) -> tuple[int, int]: ...
    def logged(self) -> tuple[npt.NDArray[np.void], bytes, int]: ...
    def fragments(self, kind: int) -> tuple[int, int, int, int, int]: ...
    def interface_counters(self, slot: int) -> tuple[int, int, int, int, int, int, int, int]: ...
    def neighbour_rows(self) -> list[tuple[int, _Address, int, NeighbourState, bool]]: ...
    def bridge_rows(self) -> list[tuple[int, int, int, bool, bool, int]]: ...
