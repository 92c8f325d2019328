"""One node's kube-proxy in IPVS mode while its cluster changes. Every sync is a full one.

A TCP endpoint that goes keeps the connections that it has: its server's weight becomes 0, and it is removed once it has
no connection left, which kube-proxy looks at once a minute. Servers of UDP and SCTP are removed at once, and so is a
whole virtual service; net.ipv4.vs.expire_nodest_conn then ends their connections with the next packet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from dataplane.agents.kubeproxy.node_proxy import Sync, forgotten
from dataplane.agents.kubeproxy.service_ports import PortKey, Proxied, ServiceKey
from dataplane.cluster.objects import Address, Family, NodeState
from dataplane.host.config import HostConfig
from dataplane.host.ipset import IpSet
from dataplane.host.ipvs import RealServer, VirtualService
from dataplane.host.restore import Restore

from .device import ipvs_timeouts, with_bound
from .proxier import IpvsProxier, Programmed

DRAIN_PERIOD = 60_000_000_000  # ns
SYNC_PERIOD = 30_000_000_000  # ns; ipvs.syncPeriod: a sync comes at the latest that long after the one before
GRACEFUL = ("tcp",)

ServerKey = tuple[Address, int]
Key = tuple[object, ...]
Connections = Callable[[VirtualService, RealServer], int]
"""How many connections a server of the running host has, active or not."""


@dataclass(slots=True)
class _Kernel:
    """What a node's kernel has of one family since the last sync."""

    services: dict[Key, VirtualService] = field(default_factory=dict)
    waiting: set[tuple[Key, ServerKey]] = field(default_factory=set)
    """Servers of weight 0 that are removed when they have no connection left."""
    made: Programmed | None = None
    """What the last sync that looked at everything made."""
    bound: tuple[Address, ...] = ()
    ipsets: Mapping[str, IpSet] = field(default_factory=dict)
    ports: dict[PortKey, Proxied] = field(default_factory=dict)
    by_service: dict[ServiceKey, list[PortKey]] = field(default_factory=dict)


class IpvsNodeProxy:
    """The proxy of one node, which has made its first sync with the state that the proxier has now.

    local_addresses: every address on an interface of the node, but those of kube-ipvs0; where they change, the next sync
    is to be `node_changed`. connections: to be given by whoever runs the host; without it no server has any.
    """

    def __init__(self, proxier: IpvsProxier, node: NodeState, local_addresses: Iterable[Address]) -> None:
        self.proxier = proxier
        self.node = node
        self.local_addresses = tuple(local_addresses)
        self.connections: Connections = lambda service, server: 0
        self._kernels: dict[Family, _Kernel] = {}
        for family in _FAMILIES:
            made = proxier.programmed(node, family, self.local_addresses)
            kernel = self._kernels[family] = _Kernel({service.key: service for service in made.services})
            self._remember(kernel, made)

    @property
    def services(self) -> tuple[VirtualService, ...]:
        """The virtual services of both families, servers that only wait to go included."""
        return tuple([service for kernel in self._kernels.values() for service in kernel.services.values()])

    @property
    def bound(self) -> tuple[Address, ...]:
        """The addresses of kube-ipvs0."""
        return tuple([address for kernel in self._kernels.values() for address in kernel.bound])

    @property
    def draining(self) -> bool:
        """Whether a server waits for its last connection to end."""
        return any(kernel.waiting for kernel in self._kernels.values())

    def configured(self, network: HostConfig) -> HostConfig:
        """The node's network, as its other agents make it, with the addresses and services that the kernel has now."""
        return with_bound(network, self.bound).with_(
            ipvs=self.services, ipvs_timeouts=ipvs_timeouts(self.proxier.options)
        )

    def sync(self, services: Iterable[ServiceKey], now: int) -> list[Sync]:
        """A sync at `now`, ns: these Services, or their EndpointSlices, have changed since the last one."""
        changed = set(services)
        done = []
        for family, kernel in self._kernels.items():
            ports = self.proxier.ports(family)
            old = [key for service in changed for key in kernel.by_service.get(service, ())]
            new = [key for service in changed for key in ports.by_service.get(service, ())]
            if old or new:
                before = {key: kernel.ports[key] for key in old}
                after = {key: ports.by_key[key] for key in new}
                if self._only_servers(kernel, before, after):
                    done.append(self._servers_changed(family, before, after))
                else:
                    done.append(self._sync(family, before, after))
        return done

    def restart(self, now: int) -> list[Sync]:
        """The first sync of a proxy that has started at `now`, ns. It remembers nothing: servers of weight 0 are to it
        like any others, and every UDP Service with an endpoint has just got its first one."""
        done = []
        for family, kernel in self._kernels.items():
            kernel.waiting.clear()
            done.append(self._sync(family, {}, dict(self.proxier.ports(family).by_key)))
        return done

    def node_changed(self, node: NodeState, now: int) -> list[Sync]:
        """The node's own object has changed (labels)."""
        self.node = node
        return [
            self._sync(family, dict(kernel.ports), dict(self.proxier.ports(family).by_key))
            for family, kernel in self._kernels.items()
        ]

    def drain(self) -> list[Sync]:
        """What is done once a minute: servers without a connection left are removed."""
        done = []
        for family, kernel in self._kernels.items():
            drained = [entry for entry in sorted(kernel.waiting, key=str) if self._idle(kernel, *entry)]
            for key, end in drained:
                kernel.waiting.discard((key, end))
                service = kernel.services[key]
                kernel.services[key] = service.with_(servers=tuple(s for s in service.servers if _end(s) != end))
            if drained:
                done.append(Sync(Restore(family), services=self.services))
        return done

    def _idle(self, kernel: _Kernel, key: Key, end: ServerKey) -> bool:
        service = kernel.services[key]
        return all(self.connections(service, server) == 0 for server in service.servers if _end(server) == end)

    def _sync(self, family: Family, before: Mapping[PortKey, Proxied], after: Mapping[PortKey, Proxied]) -> Sync:
        kernel = self._kernels[family]
        made = self.proxier.programmed(self.node, family, self.local_addresses)
        was, bound, ipsets = self.services, kernel.bound, kernel.ipsets
        self._balance(kernel, made)
        self._remember(kernel, made)
        services = self.services
        return Sync(
            Restore(family, made.chains),
            forgotten(self.proxier, family, before, after),
            services=services if services != was else None,
            ipsets=[value for value in made.ipsets if ipsets[value.name] != value],
            bound=self.bound if set(bound) != set(made.bound) else None,
        )

    def _only_servers(
        self, kernel: _Kernel, before: Mapping[PortKey, Proxied], after: Mapping[PortKey, Proxied]
    ) -> bool:
        """Whether nothing but servers can change: the same Services, with the same endpoints on this node. Then a sync
        need not look at all others, whose number is what it costs."""
        if kernel.made is None or kernel.made.contested or before.keys() != after.keys():
            return False
        return all(
            not old.differs
            and not after[key].differs
            and old.info == after[key].info
            and self._here(old) == self._here(after[key])
            for key, old in before.items()
        )

    def _here(self, port: Proxied) -> list[str]:
        return [endpoint.text for endpoint in self.proxier.here(port, self.node)]

    def _servers_changed(
        self, family: Family, before: Mapping[PortKey, Proxied], after: Mapping[PortKey, Proxied]
    ) -> Sync:
        kernel = self._kernels[family]
        assert kernel.made is not None
        changed = False
        for service in self.proxier.services(after, self.node, family, self.local_addresses):
            known = kernel.services[service.key]
            if known != service:
                kernel.services[service.key] = self._changed(kernel, known, service)
                changed |= kernel.services[service.key] != known
        kernel.ports.update(after)
        return Sync(
            Restore(family, kernel.made.chains),
            forgotten(self.proxier, family, before, after),
            services=self.services if changed else None,
        )

    def _balance(self, kernel: _Kernel, made: Programmed) -> None:
        wanted = {service.key: service for service in made.services}
        for key in [key for key in kernel.services if key not in wanted]:
            if not self._excluded(kernel.services[key]):
                del kernel.services[key]
        kernel.waiting = {entry for entry in kernel.waiting if entry[0] in kernel.services}
        for key, service in wanted.items():
            known = kernel.services.get(key)
            if known != service:
                kernel.services[key] = service if known is None else self._changed(kernel, known, service)

    def _changed(self, kernel: _Kernel, known: VirtualService, service: VirtualService) -> VirtualService:
        """A service with the servers that it is to have, those that it had in their places, and those that wait."""
        wanted = {_end(server): server for server in service.servers}
        servers = []
        for server in known.servers:
            end = _end(server)
            if end in wanted:
                # One that comes back before it went keeps its connections. (kube-proxy removes it and adds it anew, which
                # within a tick of the clock is the same.)
                kernel.waiting.discard((service.key, end))
                servers.append(wanted.pop(end))
            elif (service.key, end) in kernel.waiting:
                servers.append(server)
            elif service.protocol in GRACEFUL and self.connections(known, server):
                kernel.waiting.add((service.key, end))
                servers.append(RealServer(server.address, server.port, weight=0))
        return service.with_(servers=(*servers, *wanted.values()))

    def _excluded(self, service: VirtualService) -> bool:
        return any(service.address in network for network in self.proxier.options.exclude_cidrs)

    def _remember(self, kernel: _Kernel, made: Programmed) -> None:
        ports = self.proxier.ports(made.family)
        kernel.made, kernel.bound = made, made.bound
        kernel.ipsets = {value.name: value for value in made.ipsets}
        kernel.ports = dict(ports.by_key)
        kernel.by_service = {key: list(found) for key, found in ports.by_service.items()}


_FAMILIES: tuple[Family, ...] = (4, 6)


def _end(server: RealServer) -> ServerKey:
    return server.address, server.port
