"""The kube-proxies of a cluster in IPVS mode: for each node and family, what its kernel is to hold."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from dataplane.agents.firewall import Firewall, without_collection
from dataplane.agents.kubeproxy.iptables import detector
from dataplane.agents.kubeproxy.options import ProxyOptions
from dataplane.agents.kubeproxy.service_ports import PortKey, ProxiedServices
from dataplane.cluster.endpoints import ServicePortInfo
from dataplane.cluster.objects import Address, ClusterState, Family, NodeState, NotModelled
from dataplane.host.config import HostConfig
from dataplane.host.ipset import IpSet
from dataplane.host.ipvs import IpvsTimeouts, VirtualService

from . import sets
from .device import node_port_addresses, with_bound
from .rules import refused_to_node, rules, static_chains
from .services import PortServices, port_services
from .sets import Members, set_name

NO_WHOLE_NETWORK = "ipset refuses 0.0.0.0/0 and ::/0, and kube-proxy then lets in nobody whom no other range holds"


@dataclass(frozen=True, slots=True)
class Programmed:
    """What a sync of one family makes a node's kernel hold.

    services: the virtual services with their servers. bound: the addresses of kube-ipvs0, in the order in which they
    were added. chains: table -> chain -> rules. contested: two Services claim one address and port.
    """

    family: Family
    services: tuple[VirtualService, ...]
    bound: tuple[Address, ...]
    ipsets: tuple[IpSet, ...]
    chains: Mapping[str, Mapping[str, Sequence[str]]]
    contested: bool = False

    def write(self, firewall: Firewall) -> None:
        static_chains(firewall)
        for table, chains in self.chains.items():
            for chain, texts in chains.items():
                firewall.replace(table, chain, texts)


def with_services(config: HostConfig, made: Iterable[Programmed], timeouts: IpvsTimeouts) -> HostConfig:
    """A node's configuration with all but the rules."""
    made = tuple(made)
    config = with_bound(config, [address for family in made for address in family.bound])
    return config.with_(
        ipvs=tuple([service for family in made for service in family.services]),
        ipvs_timeouts=timeouts,
        ipsets=tuple([value for family in made for value in family.ipsets]),
    )


class IpvsProxier(ProxiedServices):
    """The kube-proxies of a cluster in IPVS mode. Nodes are asked for one by one, and share what they can."""

    def __init__(self, state: ClusterState, options: ProxyOptions, version: tuple[int, int] = (1, 30)) -> None:
        super().__init__(state, options, version)
        self._shared: dict[Family, dict[PortKey, PortServices]] = {}

    def _forget(self, family: Family, keys: Iterable[PortKey]) -> None:
        shared = self._shared.get(family, {})
        for key in keys:
            shared.pop(key, None)

    @cached_property
    def not_modelled(self) -> tuple[NotModelled, ...]:
        """As in every mode, and source ranges that mean nobody where they say everybody."""
        found = dict.fromkeys(self._not_modelled())
        for family in self.state.families:
            for port in self.ports(family):
                if port.info.load_balancer_ips and any(not network.prefixlen for network in port.info.source_ranges):
                    service = f"Service {port.info.namespace}/{port.info.service}"
                    found[NotModelled(service, "spec.loadBalancerSourceRanges", NO_WHOLE_NETWORK)] = None
        return tuple(found)

    def programmed(self, node: NodeState, family: Family, local_addresses: Iterable[Address]) -> Programmed:
        """What the node's proxy writes. local_addresses: every address of the node, but those of kube-ipvs0."""
        local = set(local_addresses)
        open_at = node_port_addresses(self.options, family, local)
        node_ip = self.node_ip(node, family)
        services: dict[object, VirtualService] = {}
        bound: dict[Address, None] = {}
        members = Members(family)
        contested = False
        with without_collection():
            for port in self.ports(family):
                info = port.info
                for service in self._services((info.spn, info.protocol), node, family).on(open_at):
                    # Two Services may claim one address and port; of kube-proxy's map now the one, now the other wins.
                    contested |= services.setdefault(service.key, service) is not service
                bound.update(dict.fromkeys(bound_addresses(info, local)))
                members.add_port(info, self.here(port, node), node_ip, open_at)
            members.sets[sets.IPVS_IPS].update((address,) for address in bound)
            ipsets = members.ipsets()
        chains = rules(members, detector(self.options, self.state, node, family), self.options)
        return Programmed(family, tuple(services.values()), tuple(bound), ipsets, chains, contested)

    def services(
        self, keys: Iterable[PortKey], node: NodeState, family: Family, local_addresses: Iterable[Address]
    ) -> Iterator[VirtualService]:
        """The virtual services of some service ports, as `programmed` has them."""
        open_at = node_port_addresses(self.options, family, local_addresses)
        for key in keys:
            yield from self._services(key, node, family).on(open_at)

    def _services(self, key: PortKey, node: NodeState, family: Family) -> PortServices:
        shared = self._shared.setdefault(family, {})
        found = shared.get(key)
        if found is None:
            port = self.ports(family).by_key[key]
            found = port_services(self.choice(port, node), self.options.scheduler)
            if not port.differs:
                shared[key] = found
        return found

    def rendered(
        self, node: NodeState, family: Family, namespace: str, service: str, local_addresses: Iterable[Address]
    ) -> Rendered:
        """What of a node's kernel is a Service's. local_addresses: as `programmed` takes them."""
        local = set(local_addresses)
        open_at = node_port_addresses(self.options, family, local)
        ports = self.ports(family)
        services: list[VirtualService] = []
        bound: dict[Address, None] = {}
        members = Members(family)
        for key in ports.by_service.get((namespace, service), ()):
            port = ports.by_key[key]
            services += self._services(key, node, family).on(open_at)
            bound.update(dict.fromkeys(bound_addresses(port.info, local)))
            members.add_port(port.info, self.here(port, node), self.node_ip(node, family), open_at)
        members.sets[sets.IPVS_IPS].update((address,) for address in bound)
        counts = {set_name(name, family): len(found) for name, found in members.sets.items() if found}
        return Rendered(services, tuple(bound), counts, list(refused_to_node(members.refused_to_node)))


def bound_addresses(info: ServicePortInfo, local: Container[Address]) -> Iterator[Address]:
    """What kube-ipvs0 gets of a service port. External addresses that the node has elsewhere stay there."""
    yield info.cluster_ip
    for address in (*info.external_ips, *info.load_balancer_ips):
        if address not in local:
            yield address


@dataclass(frozen=True, slots=True)
class Rendered:
    """services: virtual services. bound: addresses of kube-ipvs0. sets: members by set. refused_to_node: rules of
    KUBE-IPVS-OUT-FILTER."""

    services: Sequence[VirtualService]
    bound: Sequence[Address]
    sets: Mapping[str, int]
    refused_to_node: Sequence[str]
