"""The Services of a cluster as its kube-proxies see them, in every mode: service ports, endpoints, choices of a node."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from dataplane.cluster.endpoints import (
    Choice,
    ProxyEndpoint,
    ServicePortInfo,
    categorize,
    service_endpoints,
    service_ports,
)
from dataplane.cluster.objects import (
    Address,
    ClusterState,
    EndpointSlice,
    Family,
    NodeState,
    NotModelled,
    ServiceState,
)

from .iptables import canonical
from .options import ProxyOptions

PortKey = tuple[str, str]  # namespace/name:port, protocol
ServiceKey = tuple[str, str]  # namespace, name

# spec.trafficDistribution -> the version whose proxies follow the hints that it leads to.
DISTRIBUTIONS = {"PreferClose": (1, 31), "PreferSameZone": (1, 31), "PreferSameNode": (1, 34)}
NO_HEALTH_CHECK = "the port is open in the rules, but nothing answers the health check"
NOT_CANONICAL = "iptables refuses the address, and kube-proxy 1.30 then programs nothing; taken without leading zeros"


class ProxiedServices:
    """The kube-proxies of a cluster, whatever they write. Nodes are asked for one by one.

    version: the Kubernetes minor version, which decides how topology hints count.
    """

    def __init__(self, state: ClusterState, options: ProxyOptions, version: tuple[int, int] = (1, 30)) -> None:
        self.state = state
        self.options = options
        self.version = version
        self._ports: dict[Family, ServicePorts] = {}

    def update(self, state: ClusterState, services: Iterable[ServiceKey]) -> None:
        """Go on with another state, in which only these Services and their EndpointSlices differ, or nodes."""
        self.state = state
        self.__dict__.pop("not_modelled", None)
        for family, ports in self._ports.items():
            for key in services:
                self._forget(family, ports.by_service.get(key, ()))
                service = state.service(*key)
                ports.replace(key, () if service is None else self._of_service(service, family))

    def _forget(self, family: Family, keys: Iterable[PortKey]) -> None:
        """These service ports change: what was made of them is no longer true."""

    def node_ip(self, node: NodeState, family: Family) -> Address | None:
        """The primary address of a node as its proxy knows it."""
        address = self.options.bind_address
        return address if address is not None and address.version == family else node.address(family)

    def entrances(self) -> Iterator[tuple[NodeState, ServicePortInfo]]:
        """For each service port with external addresses of its own the first node that lets outsiders in."""
        for family in self.state.families:
            for port in self.ports(family):
                if port.info.external_ips or port.info.load_balancer_ips:
                    node = self._entrance(port)
                    if node is not None:
                        yield node, port.info

    def _entrance(self, port: Proxied) -> NodeState | None:
        nodes = [node for node in self.state.nodes if node.address(port.info.family) is not None]
        if port.info.external_local:
            # Any other node drops them. Where no node has an endpoint it does not matter which one refuses.
            names = {endpoint.endpoint.node for endpoint in port.endpoints}
            for node in nodes:
                if node.name in names and self.choice(port, node).has_external:
                    return node
        return nodes[0] if nodes else None

    @cached_property
    def not_modelled(self) -> tuple[NotModelled, ...]:
        """What Services and their endpoints ask for and does not happen, or not as kube-proxy 1.30 would do it."""
        return tuple(self._not_modelled())

    def _not_modelled(self) -> Iterable[NotModelled]:
        found: dict[tuple[str, str], NotModelled] = {}
        for name, why in self.options.without_effect:
            found["", name] = NotModelled("KubeProxyConfiguration", name, why)
        for entry in self.state.services:
            least = DISTRIBUTIONS.get(entry.traffic_distribution)
            if least is not None and self.version < least:
                why = f"kube-proxy {_dotted(self.version)} does not know it, {_dotted(least)} does (--kube-version)"
                found[str(entry), ""] = NotModelled(f"Service {entry}", "spec.trafficDistribution", why)
        for family in self.state.families:
            for port in self.ports(family):
                service = f"Service {port.info.namespace}/{port.info.service}"
                if port.info.health_check_node_port:
                    unanswered = NotModelled(service, "spec.healthCheckNodePort", NO_HEALTH_CHECK)
                    found[service, unanswered.field] = unanswered
                for endpoint in port.endpoints:
                    if family == 4 and canonical(endpoint.address, family) != endpoint.address:
                        why = f"{NOT_CANONICAL}: {endpoint.address}"
                        found[service, endpoint.address] = NotModelled(service, "endpoints", why)
        return found.values()

    def here(self, port: Proxied, node: NodeState) -> Sequence[ProxyEndpoint]:
        """The endpoints of a service port that are on a node, ready or not."""
        if port.differs:
            return [endpoint for endpoint in self._seen(port, node) if endpoint.local]
        return [endpoint for endpoint in port.endpoints if endpoint.endpoint.node == node.name]

    def _seen(self, port: Proxied, node: NodeState) -> Sequence[ProxyEndpoint]:
        info = port.info
        seen = service_endpoints(self._slices(info.namespace, info.service), info.family, node.name)
        return seen.get((info.name, info.protocol), [])

    def choice(self, port: Proxied, node: NodeState) -> Choice:
        """The endpoints that a node uses for a service port."""
        endpoints = self._seen(port, node) if port.differs else port.endpoints
        return categorize(port.info, endpoints, node, self.version)

    def _slices(self, namespace: str, service: str) -> tuple[EndpointSlice, ...]:
        return self.state.endpoints.get((namespace, service), ())

    def ports(self, family: Family) -> ServicePorts:
        """Every service port of a family, with all its endpoints."""
        known = self._ports.get(family)
        if known is None:
            known = self._ports[family] = ServicePorts()
            for service in self.state.services:
                known.add((service.namespace, service.name), self._of_service(service, family))
            known.order.sort()
        return known

    def _of_service(self, service: ServiceState, family: Family) -> list[Proxied]:
        infos = service_ports(service, family)
        if not infos:
            return []
        slices = self._slices(service.namespace, service.name)
        seen = service_endpoints(slices, family, "")
        entries = sum(len(piece.ports) * len(piece.endpoints) for piece in slices if piece.family == family)
        repeated = entries != sum(map(len, seen.values()))
        found = []
        for info in infos:
            endpoints = seen.get((info.name, info.protocol), [])
            found.append(Proxied(info, endpoints, repeated or _depends_on_node(info, endpoints)))
        return found


@dataclass(frozen=True, slots=True)
class Proxied:
    """A service port with all its endpoints. differs: its rules are not the same on every node."""

    info: ServicePortInfo
    endpoints: Sequence[ProxyEndpoint]
    differs: bool


class ServicePorts:
    """The service ports of one family, in the order of their rules: by namespace/name:port and protocol.

    endpoints: how many all of them have, ready or not.
    """

    def __init__(self) -> None:
        self.by_key: dict[PortKey, Proxied] = {}
        self.by_service: dict[ServiceKey, list[PortKey]] = {}
        self.order: list[PortKey] = []
        self.endpoints = 0

    def __iter__(self) -> Iterator[Proxied]:
        return (self.by_key[key] for key in self.order)

    def add(self, service: ServiceKey, ports: Iterable[Proxied]) -> None:
        """Add a Service's ports; the order is the caller's to mend."""
        for port in ports:
            key = (port.info.spn, port.info.protocol)
            self.by_key[key] = port
            self.by_service.setdefault(service, []).append(key)
            self.order.append(key)
            self.endpoints += len(port.endpoints)

    def replace(self, service: ServiceKey, ports: Iterable[Proxied]) -> None:
        """Give a Service other ports."""
        for key in self.by_service.pop(service, ()):
            self.endpoints -= len(self.by_key.pop(key).endpoints)
            del self.order[bisect_left(self.order, key)]
        before = len(self.order)
        self.add(service, ports)
        added = self.order[before:]
        del self.order[before:]
        for key in added:
            insort(self.order, key)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _depends_on_node(info: ServicePortInfo, endpoints: Sequence[ProxyEndpoint]) -> bool:
    hinted = any(endpoint.endpoint.zone_hints or endpoint.endpoint.node_hints for endpoint in endpoints)
    return info.uses_local_endpoints or hinted or bool(info.load_balancer_ips and info.source_ranges)
