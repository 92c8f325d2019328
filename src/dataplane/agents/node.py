"""The hosts of a cluster: a node with all its agents, a pod, and what lies beyond.

    agents = Agents(state)
    agents.host("node-1").save("dump/")           # the same files that the real tools print on a real node
    agents.pod("default", "web-1")                # a pod is a host, too
    agents.outside(), agents.underlay(), agents.topology()

The agents act in the order in which they start on a node: kubelet, kube-proxy, then flanneld and the CNI plugins.
Configurations are made when they are asked for; a cluster of thousands of nodes never holds them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface

from dataplane.agents import kubelet
from dataplane.agents.cloud.addresses import Assigned
from dataplane.agents.cloud.controller import HEALTH_CHECK, Cloud
from dataplane.agents.cloud.kinds import Delivery, kind_of
from dataplane.agents.cloud.node_health import Outages
from dataplane.agents.cloud.outside import OutsideBalancers
from dataplane.agents.cni import bridge
from dataplane.agents.cni.flannel import NET_CONF, Flannel, flannel_options
from dataplane.agents.firewall import Firewall, without_collection
from dataplane.agents.forwarding import own_entries
from dataplane.agents.identity import stable_mac
from dataplane.agents.kubeproxy.ipvs.device import device, ipvs_timeouts
from dataplane.agents.kubeproxy.ipvs.node_proxy import IpvsNodeProxy
from dataplane.agents.kubeproxy.ipvs.proxier import IpvsProxier, Programmed, with_services
from dataplane.agents.kubeproxy.node_proxy import NodeProxy
from dataplane.agents.kubeproxy.options import proxy_options
from dataplane.agents.kubeproxy.proxier import Proxier
from dataplane.agents.kubeproxy.sysctls import proxy_sysctls
from dataplane.agents.underlay import (
    ANYWHERE,
    ETH0,
    OUTSIDE,
    UNDERLAY,
    Wire,
    gateway,
    outside_config,
    topology,
    underlay_config,
)
from dataplane.cluster.objects import Address as IPAddress
from dataplane.cluster.objects import ClusterState, Config, Family, NodeState, NotModelled, PodState
from dataplane.errors import ModelError
from dataplane.host.config import Address, FdbEntry, HostConfig, Link, Route

FAMILIES: tuple[Family, ...] = (4, 6)
"""kube-proxy programs both on every node, also where the cluster has one."""
FIRST_INDEX = 3  # behind lo and eth0
MODES = ("iptables", "ipvs")


@dataclass(frozen=True, slots=True)
class Options:
    """What the objects of a cluster do not say about its machines.

    mode: kube-proxy's mode, "" for what its configuration says. mtu: of the nodes' eth0. cpus: per node, which
    kube-proxy multiplies into nf_conntrack_max. version: the Kubernetes minor version. cloud: the kind of the external
    load balancers (agents/cloud/kinds.py). seed: of the order in which these choose from the nodes.
    """

    mode: str = ""
    cni: str = "flannel"
    mtu: int = 1500
    cpus: int = 4
    version: tuple[int, int] = (1, 30)
    cloud: str = "none"
    seed: int = 0


class Agents:
    """The agents of a cluster, which configure its hosts one by one.

    Raises ModelError for a proxy mode, a CNI plugin, a node or a pod that the model does not have; ManifestError for
    an agent's configuration document that cannot be what it says.
    """

    def __init__(self, state: ClusterState, options: Options | None = None, assigned: Assigned | None = None) -> None:
        self.options = options or Options()
        kind, assigned = kind_of(self.options.cloud), assigned or Assigned()
        self.state = state = assigned.assign(kind, state)
        self.proxy = proxy_options(_config(state, "KubeProxyConfiguration"))
        self.mode = self.options.mode or self.proxy.mode
        if self.mode not in MODES:
            raise ModelError(f"kube-proxy mode {self.mode!r} is not modelled; {' and '.join(MODES)} are")
        if self.options.cni != "flannel":
            raise ModelError(f"CNI plugin {self.options.cni!r} is not modelled; flannel is")
        for node in state.nodes:
            if node.name in (UNDERLAY, OUTSIDE):
                raise ModelError(f"a node named {node.name!r} cannot be told from the host of that name")
        proxier = IpvsProxier if self.mode == "ipvs" else Proxier
        self.proxier: Proxier | IpvsProxier = proxier(state, self.proxy, self.options.version)
        self.flannel = Flannel(state, flannel_options(_config(state, NET_CONF), state), ETH0, self.options.mtu)
        self.cloud = Cloud(kind, self.proxier, assigned, self.options.seed)
        self.cloud.outages = Outages({node.name for node in state.nodes if node.lost})
        self._forwards = kind.delivery is not Delivery.ONE_NODE or any(
            front.delivery is not Delivery.ONE_NODE for found in self.cloud.balancers() for front in found.fronts
        )
        self._gateways = {family: gateway(state, family) for family in state.families}

    def update(self, state: ClusterState, services: Iterable[tuple[str, str]]) -> None:
        """Go on with another state, in which only these Services and their EndpointSlices differ, or nodes and pods."""
        nodes_changed = state.nodes is not self.state.nodes and state.nodes != self.state.nodes
        self.state = state
        self.proxier.update(state, services)
        self.flannel.state = state
        if nodes_changed:
            self.flannel = Flannel(state, self.flannel.options, ETH0, self.options.mtu)

    def network(self, name: str) -> HostConfig:
        """The configuration of a node without its rules."""
        config, entries = self._network(self.node(name))
        return config.with_(fdb=(*own_entries(config), *entries))

    def node_proxy(self, name: str) -> NodeProxy | IpvsNodeProxy:
        """The kube-proxy of a node, for a cluster that changes."""
        node, addresses = self.node(name), self.local_addresses(name)
        if isinstance(self.proxier, IpvsProxier):
            return IpvsNodeProxy(self.proxier, node, addresses)
        return NodeProxy(self.proxier, node, addresses)

    def node(self, name: str) -> NodeState:
        node = self.state.node(name)
        if node is None:
            raise ModelError(f"no node {name!r}; there are {', '.join(n.name for n in self.state.nodes[:10])}")
        return node

    def host(self, name: str) -> HostConfig:
        """The configuration of a node."""
        node = self.node(name)
        with without_collection():
            config, entries = self._network(node)
            made = self._programmed(node, config.addresses)
            # kube-proxy programs both families on every node, also where the cluster has one.
            rules = {family: self._firewall(node, family, config.addresses, made).ruleset() for family in FAMILIES}
            if made:
                config = with_services(config, made.values(), ipvs_timeouts(self.proxy))
            return config.with_(fdb=(*own_entries(config), *entries), iptables=rules[4], ip6tables=rules[6])

    def firewall(self, name: str, family: Family) -> Firewall:
        """What a node's agents make of its iptables (4) or ip6tables (6)."""
        node = self.node(name)
        addresses = self._network(node)[0].addresses
        return self._firewall(node, family, addresses, self._programmed(node, addresses))

    def local_addresses(self, name: str) -> list[IPAddress]:
        """Every address of a node but those that kube-proxy binds."""
        return [entry.address.ip for entry in self._network(self.node(name))[0].addresses]

    def pod(self, namespace: str, name: str) -> HostConfig:
        """The configuration of a pod's network namespace."""
        pod = self.state.pod(namespace, name)
        if pod is None:
            raise ModelError(f"no pod {namespace}/{name}")
        attachment = next((a for a in self._attachments(self.node(pod.node or "")) if a.pod is pod), None)
        if attachment is None:
            why = "it is in its node's" if pod.host_network else "it does not run"
            raise ModelError(f"pod {pod} has no network namespace of its own: {why}")
        node = self.node(pod.node or "")
        config = HostConfig(
            str(pod),
            (Link.lo(), bridge.pod_link(attachment)),
            tuple(bridge.pod_addresses(attachment)),
            tuple(bridge.pod_routes(node, attachment, self.flannel.options.networks)),
            sysctl=_pod_sysctls(ipv6=any(ip.version == 6 for ip in pod.ips)),
        ).completed()
        return config.with_(fdb=tuple(own_entries(config)))

    def outside(self) -> HostConfig:
        """The host that stands for everything outside."""
        entrances, balancers = self.proxier.entrances(), self.balancers()
        return outside_config(self.state, self.options.mtu, entrances, balancers, forwards=self._forwards)

    def balancers(self) -> OutsideBalancers:
        """The external load balancers as the outside host has them now."""
        own = {f: found for f in self.state.families if (found := gateway(self.state, f, 1)) is not None}
        subnets = {f: subnet for f in self.state.families if (subnet := self.state.node_subnet(f)) is not None}
        return OutsideBalancers(tuple(self.cloud.balancers()), subnets, own, self.cloud.gone())

    def assigned(self, state: ClusterState) -> ClusterState:
        """The state with the addresses that the cloud gives to balancers which have come."""
        return self.cloud.assigned.assign(self.cloud.kind, state)

    def underlay(self) -> HostConfig:
        """The switch between the nodes."""
        return underlay_config(self.state, self.options.mtu)

    def pods(self) -> list[PodState]:
        """The pods that are hosts of their own, by node."""
        return [pod for node in self.state.nodes for pod in bridge.attached(self.state.pods_on(node.name))]

    def topology(self) -> list[Wire]:
        """Which interface is wired to which."""
        pods = [
            (node.name, attachment.port, str(attachment.pod), bridge.POD_INTERFACE)
            for node in self.state.nodes
            for attachment in self._attachments(node)
        ]
        return topology(self.state, pods)

    @property
    def not_modelled(self) -> Sequence[NotModelled]:
        """What the objects ask of the agents and does not happen."""
        of_proxies = [entry for entry in self.proxier.not_modelled if entry.field != HEALTH_CHECK]
        return (*of_proxies, *self.cloud.not_modelled)

    def _network(self, node: NodeState) -> tuple[HostConfig, list[FdbEntry]]:
        """A node without its rules, and flanneld's forwarding entries."""
        families, attachments = self._families(node), self._attachments(node)
        links = self._links(node, attachments)
        routes, neighbours, entries = self.flannel.remote(node)
        config = HostConfig(
            node.name,
            tuple(links),
            tuple(self._addresses(node, links, attachments)),
            (*self._default_routes(families), *routes),
            neighbours=tuple(neighbours),
            sysctl=self._sysctls(node, links, 6 in families),
        )
        return config.completed(), entries

    def _programmed(self, node: NodeState, addresses: Sequence[Address]) -> dict[Family, Programmed]:
        """What kube-proxy in IPVS mode makes of a node with these addresses; nothing in other modes."""
        if not isinstance(self.proxier, IpvsProxier):
            return {}
        local = [entry.address.ip for entry in addresses]
        return {family: self.proxier.programmed(node, family, local) for family in FAMILIES}

    def _firewall(
        self, node: NodeState, family: Family, addresses: Sequence[Address], made: Mapping[Family, Programmed]
    ) -> Firewall:
        firewall = Firewall(family)
        kubelet.sync(firewall)
        if isinstance(self.proxier, IpvsProxier):
            made[family].write(firewall)
        else:
            self.proxier.sync(firewall, node, (entry.address.ip for entry in addresses))
        self.flannel.sync(firewall, node)
        return firewall

    def _families(self, node: NodeState) -> list[Family]:
        return [family for family in self.state.families if node.address(family) is not None]

    def _proxy_links(self, node: NodeState) -> list[Link]:
        return [device(node.name, FIRST_INDEX)] if self.mode == "ipvs" else []

    def _links(self, node: NodeState, attachments: Sequence[bridge.Attachment]) -> list[Link]:
        proxy = self._proxy_links(node)
        index = FIRST_INDEX + len(proxy)
        flannel = self.flannel.links(node, index)
        eth0 = Link(ETH0, index=2, mac=stable_mac("node", node.name), mtu=self.options.mtu)
        index, hairpin = index + len(flannel), self.flannel.options.hairpin
        pods = bridge.node_links(node, index, attachments, self.flannel.pod_mtu, hairpin)
        return [Link.lo(), eth0, *proxy, *flannel, *pods]

    def _addresses(
        self, node: NodeState, links: Sequence[Link], attachments: Sequence[bridge.Attachment]
    ) -> list[Address]:
        families = self._families(node)
        return [
            *(self._eth0_address(node, family) for family in families),
            *self.flannel.addresses(node, links),
            *bridge.node_addresses(node, attachments),
        ]

    def _attachments(self, node: NodeState) -> list[bridge.Attachment]:
        first = FIRST_INDEX + len(self._proxy_links(node)) + len(self.flannel.links(node, FIRST_INDEX)) + 1
        return bridge.attach(node, bridge.attached(self.state.pods_on(node.name)), first, self.flannel.pod_mtu)

    def _eth0_address(self, node: NodeState, family: Family) -> Address:
        address, subnet = node.address(family), self.state.node_subnet(family)
        assert address is not None
        length = subnet.prefixlen if subnet is not None and address in subnet else address.max_prefixlen
        return bridge.with_broadcast(ETH0, ip_interface(f"{address}/{length}"))

    def _default_routes(self, families: Sequence[Family]) -> list[Route]:
        return [
            Route.of(ANYWHERE[family], ETH0, value.ip, onlink=False)
            for family in families
            if (value := self._gateways.get(family)) is not None
        ]

    def _sysctls(self, node: NodeState, links: Sequence[Link], ipv6: bool) -> dict[str, str]:
        settings = {
            "net.ipv4.ip_forward": "1",  # the bridge plugin and flanneld
            "net.ipv4.conf.all.forwarding": "1",
            "net.ipv4.conf.default.forwarding": "1",
            "net.ipv4.conf.all.rp_filter": "0",
            "net.ipv4.conf.default.rp_filter": "0",
            "net.ipv6.conf.all.disable_ipv6": "0" if ipv6 else "1",
            "net.ipv6.conf.default.disable_ipv6": "0" if ipv6 else "1",
            "net.bridge.bridge-nf-call-iptables": "1",  # what kubeadm asks for before it installs a node
            "net.bridge.bridge-nf-call-ip6tables": "1",
        }
        if ipv6:
            settings |= {"net.ipv6.conf.all.forwarding": "1", "net.ipv6.conf.default.forwarding": "1"}
            settings |= {f"net.ipv6.conf.{link.name.replace('.', '/')}.accept_ra": "0" for link in links if link.vxlan}
        return settings | proxy_sysctls(self.proxy.on(node), self.options.cpus, self.mode)


def _pod_sysctls(ipv6: bool) -> dict[str, str]:
    settings = {
        "net.ipv4.ip_forward": "0",
        "net.ipv4.conf.eth0.arp_notify": "1",  # the bridge plugin
        "net.ipv6.conf.all.disable_ipv6": "0" if ipv6 else "1",
        "net.ipv6.conf.default.disable_ipv6": "0" if ipv6 else "1",
    }
    if ipv6:
        settings |= {"net.ipv6.conf.eth0.accept_dad": "0", "net.ipv6.conf.eth0.accept_ra": "0"}
    return settings


def _config(state: ClusterState, kind: str) -> Config | None:
    return next((config for config in reversed(state.configs) if config.kind == kind), None)


def host_config(state: ClusterState, node: str, options: Options | None = None) -> HostConfig:
    """The configuration of one node. For many nodes of one cluster keep an `Agents`, which shares what is common."""
    return Agents(state, options).host(node)


def pod_config(state: ClusterState, namespace: str, name: str, options: Options | None = None) -> HostConfig:
    return Agents(state, options).pod(namespace, name)
