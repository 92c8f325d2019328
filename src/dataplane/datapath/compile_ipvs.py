"""Virtual services of a HostConfig become the tables of the walk, and change while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from dataplane._fast.host import CompiledHost
from dataplane._fast.ipvs import Balancer, Forward, Scheduler, Tunnel
from dataplane._fast.netfilter import HookEntryKind
from dataplane._fast.packet import Hook
from dataplane.host.config import HostConfig
from dataplane.host.ipvs import RealServer, VirtualService
from dataplane.host.protocols import protocol_number

if TYPE_CHECKING:
    from dataplane._fast.ipvs import _Key as Key

SECOND = 1_000_000_000
DEFRAG = -400
FORWARDS = {
    "masq": Forward.FORWARD_MASQ,
    "route": Forward.FORWARD_ROUTE,
    "tunnel": Forward.FORWARD_TUNNEL,
}
# Priorities of net/netfilter/ipvs/ip_vs_core.c. Requests do not pass FORWARD, ICMP errors about their answers may.
ENTRIES = (
    (98, Hook.HOOK_INPUT, HookEntryKind.ENTRY_IPVS_ANSWER, 0),
    (99, Hook.HOOK_INPUT, HookEntryKind.ENTRY_IPVS_REQUEST, 0),
    (-99, Hook.HOOK_OUTPUT, HookEntryKind.ENTRY_IPVS_ANSWER, 0),
    (-98, Hook.HOOK_OUTPUT, HookEntryKind.ENTRY_IPVS_REQUEST, 0),
    (99, Hook.HOOK_FORWARD, HookEntryKind.ENTRY_IPVS_REQUEST, 0),
    (100, Hook.HOOK_FORWARD, HookEntryKind.ENTRY_IPVS_ANSWER, 0),
)
_UNMODELLED = (
    "secure_tcp",
    "drop_entry",
    "drop_packet",
    "cache_bypass",
    "backup_only",
)


def key_of(service: VirtualService) -> Key:
    """What the engine calls a service."""
    protocol = protocol_number(service.protocol) if service.protocol else 0
    return service.family, protocol, service.address, service.port, service.fwmark


def register_ipvs(host: CompiledHost, services: Iterable[VirtualService]) -> None:
    """Register IPVS at the hooks, once; a service of IPv6 besides has all fragments put together (ip_vs_add_service)."""
    for family in (4, 6):
        if not host.hooked(family, Hook.HOOK_INPUT, HookEntryKind.ENTRY_IPVS_REQUEST):
            for priority, hook, kind, table in ENTRIES:
                host.hook(family, hook, kind, table, priority)
    if any(service.family == 6 for service in services):
        for hook in (Hook.HOOK_PREROUTING, Hook.HOOK_OUTPUT):
            if not host.hooked(6, hook, HookEntryKind.ENTRY_DEFRAG):
                host.hook(6, hook, HookEntryKind.ENTRY_DEFRAG, 0, DEFRAG)


def ipvs_unmodelled(config: HostConfig) -> Iterator[str]:
    for name in _UNMODELLED:
        if config.settings.number(f"net.ipv4.vs.{name}"):
            yield f"net.ipv4.vs.{name}"


def balancer(config: HostConfig, seed: int) -> Balancer:
    """The services of a host, with its sysctls and timeouts."""
    result = Balancer(seed=seed)
    settle(result, config)
    rebalance(result, (), config.ipvs)
    return result


def settle(engine: Balancer, config: HostConfig) -> None:
    """Give the engine a configuration's sysctls and timeouts."""
    number = config.settings.number
    times = config.ipvs_timeouts
    engine.settings(
        conntrack=bool(number("net.ipv4.vs.conntrack")),
        conn_reuse_mode=number("net.ipv4.vs.conn_reuse_mode"),
        expire_nodest_conn=bool(number("net.ipv4.vs.expire_nodest_conn")),
        expire_quiescent_template=bool(number("net.ipv4.vs.expire_quiescent_template")),
        sloppy_tcp=bool(number("net.ipv4.vs.sloppy_tcp")),
        sloppy_sctp=bool(number("net.ipv4.vs.sloppy_sctp")),
        pmtu_disc=bool(number("net.ipv4.vs.pmtu_disc")),
        nat_icmp_send=bool(number("net.ipv4.vs.nat_icmp_send")),
        schedule_icmp=bool(number("net.ipv4.vs.schedule_icmp")),
        snat_reroute=bool(number("net.ipv4.vs.snat_reroute")),
        lblc_expiration=number("net.ipv4.vs.lblc_expiration") * SECOND,
        lblcr_expiration=number("net.ipv4.vs.lblcr_expiration") * SECOND,
        tcp=times.tcp * SECOND,
        tcp_fin=times.tcp_fin * SECOND,
        udp=times.udp * SECOND,
    )


def rebalance(engine: Balancer, before: Iterable[VirtualService], after: Iterable[VirtualService]) -> None:
    """Do what `ipvsadm` would be told to come from one to the other: servers first go, then change, then come."""
    before, after = tuple(before), tuple(after)
    # Most of a large host's services are the very same values.
    same = set(map(id, before)) & set(map(id, after))
    old = {service.key: service for service in before if id(service) not in same}
    services = [service for service in after if id(service) not in same]
    wanted = {service.key for service in services}
    for service in old.values():
        if service.key not in wanted:
            engine.remove_service(key_of(service))
    for service in services:
        known = old.get(service.key)
        key = key_of(service)
        if known is None or known.with_(servers=()) != service.with_(servers=()):
            engine.add_service(
                key,
                scheduler=Scheduler[f"SCHEDULER_{service.scheduler.upper()}"],
                flags=service.flags,
                one_packet=service.one_packet,
                persistent=service.persistent * SECOND,
                netmask=-1 if service.netmask is None else service.netmask,
            )
        had = {(server.address, server.port): server for server in known.servers} if known else {}
        for gone in had.keys() - {(server.address, server.port) for server in service.servers}:
            engine.remove_server(key, *gone)
        for server in service.servers:
            if had.get((server.address, server.port)) != server:
                _set(engine, key, server)


def _set(engine: Balancer, key: Key, server: RealServer) -> None:
    engine.set_server(
        key,
        server.address,
        server.port,
        forward=FORWARDS[server.forward],
        weight=server.weight,
        upper=server.upper,
        lower=server.lower,
        tunnel=Tunnel[f"TUNNEL_{server.tunnel.upper()}"],
        tunnel_port=server.tunnel_port,
        tunnel_sum=server.tunnel_checksum != "nocsum",
    )
