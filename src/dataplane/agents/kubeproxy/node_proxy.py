"""One node's kube-proxy while its cluster changes: what it has written, and what its next sync writes.

A partial sync writes the shared chains anew, and of the Services' own chains those of the Services that changed
(kube-proxy 1.27 and later); what it does not name keeps its counters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dataplane.agents.firewall import Firewall
from dataplane.cluster.objects import Address, Family, NodeState
from dataplane.host.conntrack_delete import ConntrackDelete, ConntrackReconcile
from dataplane.host.ipset import IpSet
from dataplane.host.ipvs import VirtualService
from dataplane.host.restore import Restore

from . import chains
from .iptables import Fragment, node_port_jumps, static_chains
from .options import ProxyOptions
from .proxier import Proxier
from .service_ports import PortKey, Proxied, ProxiedServices, ServiceKey
from .stale_connections import RECONCILES, reconcile, stale_connections

SECOND = 1_000_000_000  # ns
# The parts of a fragment that go into chains which all share.
SHARED = ("services", "node_ports", "refused", "refused_external", "firewall", "health_checks")


@dataclass(frozen=True, slots=True)
class Sync:
    """What one sync does to one family: the rules, then what the kernel is to forget.

    In IPVS mode before that: services, all of the node's virtual services where any changes; ipsets, those that change,
    as they are then; bound, all service addresses of the node where one came or went.
    """

    restore: Restore
    forget: Sequence[ConntrackDelete | ConntrackReconcile] = ()
    services: tuple[VirtualService, ...] | None = None
    ipsets: Sequence[IpSet] = ()
    bound: tuple[Address, ...] | None = None


@dataclass(slots=True)
class _Written:
    """What a node has of one family: its service ports as they were at the last sync, and their rules."""

    ports: dict[PortKey, Proxied] = field(default_factory=dict)
    fragments: dict[PortKey, Fragment] = field(default_factory=dict)
    order: list[PortKey] = field(default_factory=list)
    """Of the fragments in the shared chains."""
    shared: dict[str, list[str]] | None = None
    """What the fragments add to the shared chains, by the part of the fragment; None: to be collected anew."""
    jumps: Sequence[str] = ()
    """The end of KUBE-SERVICES in it"""
    by_service: dict[ServiceKey, list[PortKey]] = field(default_factory=dict)
    leftover: set[str] = field(default_factory=set)
    """Chains that nothing uses any more, and that are still there."""
    cleaned: int = 0
    static: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)


class NodeProxy:
    """The proxy of one node, which has made its full sync with the state that the proxier has now.

    local_addresses: every address on an interface of the node.
    """

    def __init__(self, proxier: Proxier, node: NodeState, local_addresses: Iterable[Address]) -> None:
        self.proxier = proxier
        self.node = node
        self.local_addresses = tuple(local_addresses)
        self._written: dict[Family, _Written] = {}
        for family in _families():
            written = self._written[family] = _Written()
            ports = proxier.ports(family)
            written.ports = dict(ports.by_key)
            written.by_service = {key: list(found) for key, found in ports.by_service.items()}
            written.fragments = dict(zip(ports.order, proxier.fragments(node, family), strict=True))
            written.order = list(ports.order)
            written.static = _static(proxier.options.on(node), family)

    def sync(self, services: Iterable[ServiceKey], now: int) -> list[Sync]:
        """A partial sync at `now`, ns: these Services, or their EndpointSlices, have changed since the last one."""
        changed = set(services)
        done = []
        for family, written in self._written.items():
            ports = self.proxier.ports(family)
            old = [key for service in changed for key in written.by_service.get(service, ())]
            new = [key for service in changed for key in ports.by_service.get(service, ())]
            if old or new:
                done.append(self._sync(family, changed, old, sorted(new), now))
        return done

    def restart(self, now: int) -> list[Sync]:
        """The full sync of a proxy that has started at `now`, ns. It remembers nothing: to it every UDP Service with an
        endpoint has just got its first one."""
        done = []
        for family, written in self._written.items():
            ports = self.proxier.ports(family)
            changed = {*written.by_service, *ports.by_service}
            before, written.ports = written.ports, {}
            done.append(self._sync(family, changed, list(before), list(ports.order), now))
        return done

    def node_changed(self, node: NodeState, now: int) -> list[Sync]:
        """The node's own object has changed (labels): a full sync, of a proxy that knows what it had."""
        self.node = node
        done = []
        for family, written in self._written.items():
            ports = self.proxier.ports(family)
            changed = {*written.by_service, *ports.by_service}
            done.append(self._sync(family, changed, list(written.ports), list(ports.order), now))
        return done

    def _sync(
        self, family: Family, changed: set[ServiceKey], old: Sequence[PortKey], new: Sequence[PortKey], now: int
    ) -> Sync:
        written = self._written[family]
        ports = self.proxier.ports(family)
        before = {key: written.ports.pop(key) for key in old if key in written.ports}
        after = {key: ports.by_key[key] for key in new}
        were = {key: written.fragments.pop(key) for key in old if key in written.fragments}
        gone = {chain for fragment in were.values() for chain in fragment.chains}
        own: dict[str, Sequence[str]] = {}
        for key, fragment in zip(new, self.proxier.compiled(self.node, family, new), strict=True):
            written.fragments[key] = fragment
            own.update(fragment.chains)
            if key not in were or any(getattr(fragment, part) != getattr(were[key], part) for part in SHARED):
                written.shared = None
        if were.keys() != set(new):
            written.order = sorted(written.fragments)
            written.shared = None
        written.ports.update(after)
        for service in changed:
            written.by_service.pop(service, None)
            if service in ports.by_service:
                written.by_service[service] = list(ports.by_service[service])
        written.leftover = (written.leftover | gone) - own.keys()
        deleted: list[str] = []
        period = self.proxier.options.sync_period * SECOND
        # Looking for chains to delete is slow in a large cluster: once in a sync period.
        if written.leftover and (not self.proxier.is_large(family) or now - written.cleaned > period):
            deleted = sorted(written.leftover)
            written.leftover = set()
            written.cleaned = now
        restore = Restore(
            family,
            {"filter": self._filter(family), "nat": self._nat(family) | own},
            {"nat": deleted} if deleted else {},
        )
        return Sync(restore, forgotten(self.proxier, family, before, after))

    def _shared(self, family: Family) -> dict[str, list[str]]:
        """The same lists as long as they hold the same rules: who has them need not look again."""
        written = self._written[family]
        jumps = node_port_jumps(self.proxier.options.on(self.node), family, self.local_addresses)
        if written.shared is None or jumps != written.jumps:
            fragments = [written.fragments[key] for key in written.order]
            written.shared = {part: [rule for f in fragments for rule in getattr(f, part)] for part in SHARED}
            written.shared["services"] += jumps
            written.jumps = jumps
        return written.shared

    def _nat(self, family: Family) -> dict[str, Sequence[str]]:
        shared = self._shared(family)
        return {
            chains.SERVICES: shared["services"],
            chains.NODE_PORTS: shared["node_ports"],
            **self._written[family].static["nat"],
        }

    def _filter(self, family: Family) -> dict[str, Sequence[str]]:
        shared = self._shared(family)
        return {
            chains.SERVICES: shared["refused"],
            chains.EXTERNAL_SERVICES: shared["refused_external"],
            chains.NODE_PORTS: shared["health_checks"],
            chains.PROXY_FIREWALL: shared["firewall"],
            **self._written[family].static["filter"],
        }


def forgotten(
    proxier: ProxiedServices, family: Family, before: Mapping[PortKey, Proxied], after: Mapping[PortKey, Proxied]
) -> list[ConntrackDelete | ConntrackReconcile]:
    """The connections that a sync ends. before, after: the service ports that it changes."""
    if proxier.version < RECONCILES:
        return list(stale_connections(before, after, family))
    if any(port.info.protocol == "UDP" for port in (*before.values(), *after.values())):
        return [reconcile(proxier.ports(family), family)]
    return []


def _families() -> tuple[Family, ...]:
    """kube-proxy programs both families on every node, also where the cluster has one."""
    return (4, 6)


def _static(options: ProxyOptions, family: Family) -> dict[str, dict[str, Sequence[str]]]:
    """The chains that every sync writes and that hold no Service."""
    firewall = Firewall(family)
    static_chains(firewall, options)
    names = {"nat": (chains.POSTROUTING, chains.MARK_MASQ), "filter": (chains.FORWARD, chains.FIREWALL)}
    return {
        table: {name: list(firewall.chains(table)[name].texts) for name in found if firewall.chains(table)[name].texts}
        for table, found in names.items()
    }
