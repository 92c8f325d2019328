"""A node whose kernel holds what our kube-proxy writes in IPVS mode, for a few Services of every kind.

Where its peers are, and how one talks to them, is KubeNode's; here nothing is written by hand. The kernel must take all
of it, and its tools must print it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from scapy.layers.l2 import ARP

from dataplane.agents.firewall import Firewall
from dataplane.agents.kubeproxy.ipvs.device import DEVICE, ipvs_sysctls
from dataplane.agents.kubeproxy.ipvs.node_proxy import IpvsNodeProxy
from dataplane.agents.kubeproxy.ipvs.proxier import IpvsProxier, Programmed
from dataplane.agents.kubeproxy.options import ProxyOptions
from dataplane.cluster import ClusterState, NodeState, read_manifests
from dataplane.host import ipset, ipvs
from dataplane.host.iptables import Ruleset
from judge.ipvs_node import IpvsNode
from judge.kube_node import _ADDRESSES, TARGET, KubeNode
from judge.talk import Frames, network

HERE, THERE = "node-1", "node-2"
OWN = {  # of the Services, by family: name -> addresses
    4: {
        "shop": "10.96.0.10",
        "edge": "10.96.0.20",
        "edge balancer": "198.51.100.8",
        "closed": "10.96.0.30",
        "closed balancer": "198.51.100.9",
        "dns": "10.96.0.40",
        "sticky": "10.96.0.50",
        "empty": "10.96.0.60",
        "signal": "10.96.0.70",
        "near": "192.168.0.0/28",
        "elsewhere": "203.0.113.0/24",
    },
    6: {
        "shop": "fd00:10:96::a",
        "edge": "fd00:10:96::14",
        "edge balancer": "2001:db8:100::8",
        "closed": "fd00:10:96::1e",
        "closed balancer": "2001:db8:100::9",
        "dns": "fd00:10:96::28",
        "sticky": "fd00:10:96::32",
        "empty": "fd00:10:96::3c",
        "signal": "fd00:10:96::46",
        "near": "fd00:c0::/123",
        "elsewhere": "2001:db8:113::/64",
    },
}


class RenderedNode(KubeNode):
    """options: of kube-proxy. gone: endpoints that are not there."""

    def __init__(self, node: IpvsNode, gone: tuple[str, ...] = (), protocol: str = "tcp", **options: Any) -> None:
        self.node, self.protocol = node, protocol
        self.served = ""
        self._requests = {}
        self._last = None
        self.at = {**_ADDRESSES[node.family], **OWN[node.family]}
        self.node_ip = self.at["node"].split("/")[0]
        self.options = ProxyOptions(
            **{"cluster_cidrs": (ip_network(self.at["pods"]),), "random_fully": False, **options}
        )
        self.here = NodeState(HERE, addresses=(ip_address(self.node_ip),))
        self.local = [ip_address(self.at[name].split("/")[0]) for name in ("node", "bridge")]
        self.proxier = IpvsProxier(self._state(gone), self.options)
        made = self.proxier.programmed(self.here, node.family, self.local)
        self.made = made
        self._network(made)
        for name, value in ipvs_sysctls(self.options).items():
            if name != "net.ipv4.ip_forward" or node.family == 4:
                node.sysctl(f"{name} = {value}")
        node.ipset(ipset.text(made.ipsets))
        firewall = Firewall(node.family)
        made.write(firewall)
        node.restore(firewall.ruleset().text())
        node.ipvs(ipvs.text(made.services))
        self.proxy = IpvsNodeProxy(self.proxier, self.here, self.local)

    def _network(self, made: Programmed) -> None:
        self.cluster_ip = self.external_ip = self.balancer_ip = ""
        node, at = self.node, self.at
        node.port("eth0", at["node"])
        node.port("pods", at["bridge"])
        node.ip(f"{node.dash}route add {at['far pods']} via {at['other node']} dev eth0")
        node.ip(f"link add {DEVICE} type dummy")
        for address in made.bound:
            node.ip(f"addr add {address}/{address.max_prefixlen} dev {DEVICE}")
        self._peers()

    # ---- objects ----------------------------------------------------------------------------------------------------

    def _state(self, gone: tuple[str, ...]) -> ClusterState:
        at = self.at
        near, elsewhere = {"loadBalancerSourceRanges": [at["near"]]}, {"loadBalancerSourceRanges": [at["elsewhere"]]}
        documents = [
            *self._service("shop", gone, type="NodePort", externalIPs=[at["external"]]),
            *self._service("edge", gone, "edge balancer", type="LoadBalancer", externalTrafficPolicy="Local", **near),
            *self._service("closed", gone, "closed balancer", type="LoadBalancer", **elsewhere),
            *self._service("dns", gone, protocol="UDP"),
            *self._service("sticky", gone, sessionAffinity="ClientIP"),
            *self._service("empty", ("web", "far")),
            *self._service("signal", gone, protocol="SCTP", type="NodePort"),
        ]
        objects = read_manifests(documents)
        slices = tuple(objects.endpoint_slices)
        return ClusterState(
            nodes=(self.here,),
            pods=(),
            services=objects.services,
            slices=slices,
            endpoints={(piece.namespace, piece.service): (piece,) for piece in slices},
            families=(4, 6),
        )

    def _service(
        self, name: str, gone: tuple[str, ...], balancer: str = "", protocol: str = "TCP", **spec: Any
    ) -> list[Mapping[str, Any]]:
        port: dict[str, Any] = {"port": 80, "protocol": protocol}
        if spec.get("type", "ClusterIP") != "ClusterIP":
            port["nodePort"] = 30080 + list(OWN[4]).index(name)
        ingress = [{"ip": self.at[balancer]}] if balancer else []
        return [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {
                    "clusterIP": self.at[name],
                    "clusterIPs": [self.at[name]],
                    "ipFamilies": [f"IPv{self.node.family}"],
                    "ports": [port],
                    **spec,
                },
                "status": {"loadBalancer": {"ingress": ingress}},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
                "addressType": f"IPv{self.node.family}",
                "ports": [{"name": "", "port": TARGET, "protocol": protocol}],
                "endpoints": [
                    {"addresses": [self.at[end]], "nodeName": THERE if end == "far" else HERE}
                    for end in ("web", "far")
                    if end not in gone
                ],
            },
        ]

    # ---- what a scenario asks ---------------------------------------------------------------------------------------

    @property
    def source(self) -> str:
        """Who asks, as the endpoint that was reached last sees it."""
        assert self._last is not None
        return str(network(self._last[1]).src)

    def ask(self, name: str, address: str) -> Frames:
        """A peer asks by ARP who has an address."""
        peer = self.peers[name]
        return peer.send(ARP(op=1, hwsrc=peer.mac, psrc=peer.ip, pdst=address), mac="ff:ff:ff:ff:ff:ff")

    def compare_texts(self) -> None:
        """What the tools print is what was rendered; a step has to have been made."""
        folder, made = self.node.recording.folder, self.made
        rules = (folder / ("iptables.save" if self.node.family == 4 else "ip6tables.save")).read_text()
        printed = {
            (table.name, chain.name): [rule.text for rule in chain.rules]
            for table in Ruleset.parse(rules, self.node.family).tables
            for chain in table.chains
            if chain.name.startswith("KUBE-")
        }
        assert printed == {
            (table, chain): list(texts) for table, found in made.chains.items() for chain, texts in found.items()
        }
        printed_sets = {value.name: value for value in ipset.parse((folder / "ipset.save").read_text())}
        for value in made.ipsets:
            theirs = printed_sets.pop(value.name)
            assert (theirs.type, set(theirs.entries)) == (value.type, set(value.entries)), value.name
        assert not printed_sets
        assert {service.key: service for service in ipvs.parse((folder / "ipvs.save").read_text())} == {
            service.key: service for service in made.services
        }

    # ---- changes ----------------------------------------------------------------------------------------------------

    def change(self, *gone: str, connections: int = 0) -> None:
        """A step: these endpoints are gone, all others there; what the proxy then does to the virtual services. connections:
        that each server has."""
        state = self._state(gone)
        changed = [(service.namespace, service.name) for service in state.services]
        self.proxier.update(state, changed)
        self.proxy.connections = lambda service, server: connections
        before = self.proxy.services
        for sync in self.proxy.sync(changed, 0):
            if sync.services is not None:
                self.node.ipvs_change(ipvs.commands(before, sync.services))
