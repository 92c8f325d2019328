"""The kube-proxies of a cluster: which service ports there are, what each node chooses, and its tables put together."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from dataplane.agents.firewall import Firewall, without_collection
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

from . import chains
from .iptables import Dialect, Fragment, canonical, compile_port, detector, node_port_jumps, static_chains
from .options import ProxyOptions

PortKey = tuple[str, str]  # namespace/name:port, protocol
ServiceKey = tuple[str, str]  # namespace, name

# spec.trafficDistribution -> the version whose proxies follow the hints that it leads to.
DISTRIBUTIONS = {"PreferClose": (1, 31), "PreferSameZone": (1, 31), "PreferSameNode": (1, 34)}
NO_HEALTH_CHECK = "the port is open in the rules, but nothing answers the health check"
NOT_CANONICAL = "iptables refuses the address, and kube-proxy 1.30 then programs nothing; taken without leading zeros"


class Proxier:
    """The kube-proxies of a cluster in iptables mode. Nodes are asked for one by one, and share what they can.

    version: the Kubernetes minor version, which decides how topology hints count.
    """

    def __init__(self, state: ClusterState, options: ProxyOptions, version: tuple[int, int] = (1, 30)) -> None:
        self.state = state
        self.options = options
        self.version = version
        self._ports: dict[Family, ServicePorts] = {}
        self._shared: dict[Family, tuple[Dialect, dict[PortKey, Fragment]]] = {}

    def update(self, state: ClusterState, services: Iterable[ServiceKey]) -> None:
        """Go on with another state, in which only these Services and their EndpointSlices differ, or nodes."""
        self.state = state
        self.__dict__.pop("not_modelled", None)
        for family, ports in self._ports.items():
            _, shared = self._shared.get(family, (None, {}))
            for key in services:
                for old in ports.by_service.get(key, ()):
                    shared.pop(old, None)
                service = state.service(*key)
                ports.replace(key, () if service is None else self._of_service(service, family))

    def sync(self, firewall: Firewall, node: NodeState, local_addresses: Iterable[Address]) -> None:
        """One full sync of the node's proxy. local_addresses: every address on an interface of the node."""
        options = self.options.on(node)
        static_chains(firewall, options)
        with without_collection():
            fragments = self.fragments(node, firewall.family)
        end = node_port_jumps(options, firewall.family, local_addresses)
        firewall.replace("nat", chains.SERVICES, [*(rule for f in fragments for rule in f.services), *end])
        firewall.replace("nat", chains.NODE_PORTS, [rule for f in fragments for rule in f.node_ports])
        firewall.replace("filter", chains.SERVICES, [rule for f in fragments for rule in f.refused])
        firewall.replace("filter", chains.EXTERNAL_SERVICES, [rule for f in fragments for rule in f.refused_external])
        firewall.replace("filter", chains.PROXY_FIREWALL, [rule for f in fragments for rule in f.firewall])
        firewall.replace("filter", chains.NODE_PORTS, [rule for f in fragments for rule in f.health_checks])
        nat = firewall.chains("nat")
        for fragment in fragments:
            nat.update(fragment.finished)

    def fragments(self, node: NodeState, family: Family) -> list[Fragment]:
        """The rules of every service port as this node has them, by namespace/name:port and protocol."""
        ports = self.ports(family)
        return self.compiled(node, family, ports.order)

    def compiled(self, node: NodeState, family: Family, keys: Iterable[PortKey]) -> list[Fragment]:
        """The rules of some service ports as this node has them."""
        ports = self.ports(family)
        node_ip = self.options.bind_address
        if node_ip is None or node_ip.version != family:
            node_ip = node.address(family)
        dialect = Dialect(
            family=family,
            detector=detector(self.options, self.state, node, family),
            mark=self.options.mark,
            masquerade_all=self.options.masquerade_all,
            comments=not self.is_large(family),
        )
        # One dialect at a time: with detectLocalMode NodeCIDR every node has its own, and keeping them all would
        # keep every node's rules.
        known, shared = self._shared.get(family, (None, {}))
        if known != dialect:
            shared = {}
            self._shared[family] = dialect, shared
        fragments: list[Fragment] = []
        for key in keys:
            fragment = shared.get(key)
            if fragment is None:
                port = ports.by_key[key]
                fragment = compile_port(self.choice(port, node), dialect, node_ip)
                if not port.differs:
                    shared[key] = fragment
            fragments.append(fragment)
        return fragments

    def is_large(self, family: Family) -> bool:
        """Large-cluster mode: more endpoints than kube-proxy cares to comment on."""
        return self.ports(family).endpoints > self.options.large_cluster_endpoints

    def rendered(self, node: NodeState, family: Family, namespace: str, service: str) -> dict[tuple[str, str], int]:
        """(table, chain) -> how many rules of a Service the chain has on a node, in the order of iptables-save."""
        found: Counter[tuple[str, str]] = Counter()
        for fragment in self.compiled(node, family, self.ports(family).by_service.get((namespace, service), ())):
            for table, chain, rules in (
                ("filter", chains.EXTERNAL_SERVICES, fragment.refused_external),
                ("filter", chains.NODE_PORTS, fragment.health_checks),
                ("filter", chains.PROXY_FIREWALL, fragment.firewall),
                ("filter", chains.SERVICES, fragment.refused),
                ("nat", chains.NODE_PORTS, fragment.node_ports),
                ("nat", chains.SERVICES, fragment.services),
            ):
                found[table, chain] += len(rules)
            for chain, own in fragment.finished.items():
                found["nat", chain] += len(own.texts)
        return {key: found[key] for key in sorted(found) if found[key]}

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
        return tuple(found.values())

    def choice(self, port: Proxied, node: NodeState) -> Choice:
        """The endpoints that a node uses for a service port."""
        endpoints = port.endpoints
        if port.differs:
            info = port.info
            seen = service_endpoints(self._slices(info.namespace, info.service), info.family, node.name)
            endpoints = seen.get((info.name, info.protocol), [])
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
