"""The kube-proxies of a cluster in iptables mode: what each node chooses, and its tables put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from dataplane.agents.firewall import Firewall, without_collection
from dataplane.cluster.objects import Address, ClusterState, Family, NodeState

from . import chains
from .iptables import Dialect, Fragment, compile_port, detector, node_port_jumps, static_chains
from .options import ProxyOptions
from .service_ports import PortKey, ProxiedServices


class Proxier(ProxiedServices):
    """The kube-proxies of a cluster in iptables mode. Nodes are asked for one by one, and share what they can."""

    def __init__(self, state: ClusterState, options: ProxyOptions, version: tuple[int, int] = (1, 30)) -> None:
        super().__init__(state, options, version)
        self._shared: dict[Family, tuple[Dialect, dict[PortKey, Fragment]]] = {}

    def _forget(self, family: Family, keys: Iterable[PortKey]) -> None:
        _, shared = self._shared.get(family, (None, {}))
        for key in keys:
            shared.pop(key, None)

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
        node_ip = self.node_ip(node, family)
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
