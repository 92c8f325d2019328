"""The kube-proxies of a cluster: which service ports there are, what each node chooses, and its tables put together."""

from __future__ import annotations

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
from dataplane.cluster.objects import Address, ClusterState, EndpointSlice, Family, NodeState, NotModelled

from . import chains
from .iptables import Dialect, Fragment, canonical, compile_port, detector, node_port_jumps, static_chains
from .options import ProxyOptions

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
        self._ports: dict[Family, list[_Proxied]] = {}
        self._shared: dict[Family, tuple[Dialect, dict[int, Fragment]]] = {}

    def sync(self, firewall: Firewall, node: NodeState, local_addresses: Iterable[Address]) -> None:
        """One full sync of the node's proxy. local_addresses: every address on an interface of the node."""
        static_chains(firewall, self.options)
        with without_collection():
            fragments = self.fragments(node, firewall.family)
        end = node_port_jumps(self.options, firewall.family, local_addresses)
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
        proxied = self._proxied(family)
        node_ip = self.options.bind_address
        if node_ip is None or node_ip.version != family:
            node_ip = node.address(family)
        dialect = Dialect(
            family=family,
            detector=detector(self.options, self.state, node, family),
            mark=self.options.mark,
            masquerade_all=self.options.masquerade_all,
            comments=sum(len(port.endpoints) for port in proxied) <= self.options.large_cluster_endpoints,
        )
        # One dialect at a time: with detectLocalMode NodeCIDR every node has its own, and keeping them all would
        # keep every node's rules.
        known, shared = self._shared.get(family, (None, {}))
        if known != dialect:
            shared = {}
            self._shared[family] = dialect, shared
        fragments: list[Fragment] = []
        for number, port in enumerate(proxied):
            fragment = shared.get(number)
            if fragment is None:
                fragment = compile_port(self._choice(port, node), dialect, node_ip)
                if not port.differs:
                    shared[number] = fragment
            fragments.append(fragment)
        return fragments

    def rendered(self, node: NodeState, family: Family, namespace: str, service: str) -> dict[tuple[str, str], int]:
        """(table, chain) -> how many rules of a Service the chain has on a node, in the order of iptables-save."""
        found: Counter[tuple[str, str]] = Counter()
        for port, fragment in zip(self._proxied(family), self.fragments(node, family), strict=True):
            if (port.info.namespace, port.info.service) != (namespace, service):
                continue
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
            for port in self._proxied(family):
                if port.info.external_ips or port.info.load_balancer_ips:
                    node = self._entrance(port)
                    if node is not None:
                        yield node, port.info

    def _entrance(self, port: _Proxied) -> NodeState | None:
        nodes = [node for node in self.state.nodes if node.address(port.info.family) is not None]
        if port.info.external_local:
            # Any other node drops them. Where no node has an endpoint it does not matter which one refuses.
            names = {endpoint.endpoint.node for endpoint in port.endpoints}
            for node in nodes:
                if node.name in names and self._choice(port, node).has_external:
                    return node
        return nodes[0] if nodes else None

    @cached_property
    def not_modelled(self) -> tuple[NotModelled, ...]:
        """What Services and their endpoints ask for and does not happen, or not as kube-proxy 1.30 would do it."""
        found: dict[tuple[str, str], NotModelled] = {}
        for family in self.state.families:
            for port in self._proxied(family):
                service = f"Service {port.info.namespace}/{port.info.service}"
                if port.info.health_check_node_port:
                    entry = NotModelled(service, "spec.healthCheckNodePort", NO_HEALTH_CHECK)
                    found[service, entry.field] = entry
                for endpoint in port.endpoints:
                    if family == 4 and canonical(endpoint.address, family) != endpoint.address:
                        why = f"{NOT_CANONICAL}: {endpoint.address}"
                        found[service, endpoint.address] = NotModelled(service, "endpoints", why)
        return tuple(found.values())

    def _choice(self, port: _Proxied, node: NodeState) -> Choice:
        endpoints = port.endpoints
        if port.differs:
            info = port.info
            seen = service_endpoints(self._slices(info.namespace, info.service), info.family, node.name)
            endpoints = seen.get((info.name, info.protocol), [])
        return categorize(port.info, endpoints, node, self.version)

    def _slices(self, namespace: str, service: str) -> tuple[EndpointSlice, ...]:
        return self.state.endpoints.get((namespace, service), ())

    def _proxied(self, family: Family) -> list[_Proxied]:
        if family not in self._ports:
            found: list[_Proxied] = []
            for service in self.state.services:
                infos = service_ports(service, family)
                if not infos:
                    continue
                slices = self._slices(service.namespace, service.name)
                seen = service_endpoints(slices, family, "")
                entries = sum(len(piece.ports) * len(piece.endpoints) for piece in slices if piece.family == family)
                repeated = entries != sum(map(len, seen.values()))
                for info in infos:
                    endpoints = seen.get((info.name, info.protocol), [])
                    found.append(_Proxied(info, endpoints, repeated or _depends_on_node(info, endpoints)))
            self._ports[family] = sorted(found, key=lambda port: (port.info.spn, port.info.protocol))
        return self._ports[family]


@dataclass(frozen=True, slots=True)
class _Proxied:
    """A service port with all its endpoints. differs: its rules are not the same on every node."""

    info: ServicePortInfo
    endpoints: Sequence[ProxyEndpoint]
    differs: bool


def _depends_on_node(info: ServicePortInfo, endpoints: Sequence[ProxyEndpoint]) -> bool:
    hinted = any(endpoint.endpoint.zone_hints or endpoint.endpoint.node_hints for endpoint in endpoints)
    return info.uses_local_endpoints or hinted or bool(info.load_balancer_ips and info.source_ranges)
