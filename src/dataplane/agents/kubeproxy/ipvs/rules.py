"""The iptables rules, as iptables-save prints them. They name sets, not Services: all that makes them differ from node
to node is which sets are empty, how pods are told from others, and load balancers that are closed to the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from dataplane.agents.firewall import Firewall
from dataplane.agents.kubeproxy import chains
from dataplane.agents.kubeproxy.iptables import Detector, printed
from dataplane.agents.kubeproxy.options import ProxyOptions
from dataplane.cluster.objects import Address, Family
from dataplane.host.notation import address_text
from dataplane.host.protocols import protocol_number

from . import sets
from .sets import Members, set_name

NODE_PORT = "KUBE-NODE-PORT"
LOAD_BALANCER = "KUBE-LOAD-BALANCER"
SOURCE_RANGES_FIREWALL = "KUBE-SOURCE-RANGES-FIREWALL"
IPVS_FILTER = "KUBE-IPVS-FILTER"
IPVS_OUT_FILTER = "KUBE-IPVS-OUT-FILTER"

CHAINS: Mapping[str, tuple[str, ...]] = {
    "nat": (chains.SERVICES, chains.POSTROUTING, NODE_PORT, LOAD_BALANCER, chains.MARK_MASQ),
    "filter": (
        chains.FORWARD,
        NODE_PORT,
        chains.PROXY_FIREWALL,
        SOURCE_RANGES_FIREWALL,
        IPVS_FILTER,
        IPVS_OUT_FILTER,
    ),
}
# (table, built-in chain, chain, comment) in the order in which kube-proxy makes sure of them, each at the head.
JUMPS = (
    ("nat", "OUTPUT", chains.SERVICES, "kubernetes service portals"),
    ("nat", "PREROUTING", chains.SERVICES, "kubernetes service portals"),
    ("nat", "POSTROUTING", chains.POSTROUTING, "kubernetes postrouting rules"),
    ("filter", "FORWARD", chains.FORWARD, "kubernetes forwarding rules"),
    ("filter", "INPUT", NODE_PORT, "kubernetes health check rules"),
    ("filter", "INPUT", chains.PROXY_FIREWALL, "kube-proxy firewall rules"),
    ("filter", "FORWARD", chains.PROXY_FIREWALL, "kube-proxy firewall rules"),
    ("filter", "INPUT", IPVS_FILTER, "kubernetes ipvs access filter"),
    ("filter", "OUTPUT", IPVS_OUT_FILTER, "kubernetes ipvs access filter"),
)
# What rules say of the sets that they ask; quotes as iptables-save escapes them.
COMMENTS: Mapping[str, str] = {
    sets.LOOP_BACK: "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
    sets.CLUSTER_IP: "Kubernetes service cluster ip + port for masquerade purpose",
    sets.EXTERNAL_IP: "Kubernetes service external ip + port for masquerade and filter purpose",
    sets.EXTERNAL_IP_LOCAL: "Kubernetes service external ip + port with externalTrafficPolicy=local",
    sets.LOAD_BALANCER: "Kubernetes service lb portal",
    sets.LOAD_BALANCER_FW: "Kubernetes service load balancer ip + port for load balancer with sourceRange",
    sets.LOAD_BALANCER_LOCAL: "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
    sets.LOAD_BALANCER_SOURCE_IP: ("Kubernetes service load balancer ip + port + source IP for packet filter purpose"),
    sets.LOAD_BALANCER_SOURCE_CIDR: (
        "Kubernetes service load balancer ip + port + source cidr for packet filter purpose"
    ),
    sets.NODE_PORT_TCP: "Kubernetes nodeport TCP port for masquerade purpose",
    sets.NODE_PORT_LOCAL_TCP: "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
    sets.NODE_PORT_UDP: "Kubernetes nodeport UDP port for masquerade purpose",
    sets.NODE_PORT_LOCAL_UDP: "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
    sets.NODE_PORT_SCTP: "Kubernetes nodeport SCTP port for masquerade purpose with type \\'hash ip:port\\'",
    sets.NODE_PORT_LOCAL_SCTP: "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type \\'hash ip:port\\'",
    sets.HEALTH_CHECK_NODE_PORT: "Kubernetes health check node port",
}
FIRST, BOTH, WITH_SOURCE = "dst", "dst,dst", "dst,dst,src"
TO_LOCAL = "-m addrtype --dst-type LOCAL"


def static_chains(firewall: Firewall) -> None:
    """The chains and the jumps to them, which every sync makes sure of."""
    for table, names in CHAINS.items():
        for name in names:
            firewall.create(table, name)
    for table, built_in, chain, comment in JUMPS:
        firewall.insert(table, built_in, f'-m comment --comment "{comment}" -j {chain}')


def rules(members: Members, detector: Detector, options: ProxyOptions) -> dict[str, dict[str, list[str]]]:
    """table -> chain -> its rules: all that a sync writes. detector: of the node, how it tells its pods."""
    made = _Rules(members, detector, options)
    return {
        "nat": {
            chains.SERVICES: list(made.services()),
            chains.POSTROUTING: list(made.postrouting()),
            NODE_PORT: list(made.node_port()),
            LOAD_BALANCER: list(made.load_balancer()),
            chains.MARK_MASQ: [f"-j MARK --set-xmark {made.mark}"],
        },
        "filter": {
            chains.FORWARD: list(made.forward()),
            NODE_PORT: [f"{made.asked(sets.HEALTH_CHECK_NODE_PORT, FIRST)}-j ACCEPT"],
            chains.PROXY_FIREWALL: list(
                made.where_any(sets.LOAD_BALANCER_FW, BOTH, SOURCE_RANGES_FIREWALL),
            ),
            SOURCE_RANGES_FIREWALL: list(made.source_ranges()),
            IPVS_FILTER: list(made.ipvs_filter()),
            IPVS_OUT_FILTER: list(refused_to_node(members.refused_to_node)),
        },
    }


def refused_to_node(entries: Iterable[tuple[Address, str, int]]) -> Iterator[str]:
    """The node's own packets to load balancers that do not let it in: IPVS has given them the VIP as their source."""
    for address, protocol, port in entries:
        virtual = f"--vproto {protocol_number(protocol.lower())} --vaddr {address_text(address)} --vport {port}"
        yield f"-s {printed(address)} -m ipvs {virtual} -j DROP"


class _Rules:
    def __init__(self, members: Members, detector: Detector, options: ProxyOptions) -> None:
        self.members = members
        self.family: Family = members.family
        self.detector = detector
        self.options = options
        self.mark = f"{options.mark}/{options.mark}"

    def any(self, name: str) -> bool:
        return bool(self.members.sets[name])

    def match(self, name: str, directions: str) -> str:
        return f"-m set --match-set {set_name(name, self.family)} {directions} "

    def asked(self, name: str, directions: str, protocol: str = "") -> str:
        """The match on a set, with what the set is for."""
        head = f"-p {protocol} " if protocol else ""
        return f'{head}-m comment --comment "{COMMENTS[name]}" {self.match(name, directions)}'

    def where_any(self, name: str, directions: str, target: str, protocol: str = "") -> Iterator[str]:
        """A rule that is there while its set has members."""
        if self.any(name):
            yield f"{self.asked(name, directions, protocol)}-j {target}"

    def services(self) -> Iterator[str]:
        yield f"-s {'127.0.0.0/8' if self.family == 4 else '::1/128'} -j RETURN"
        yield from self.where_any(sets.LOAD_BALANCER, BOTH, LOAD_BALANCER)
        if self.any(sets.CLUSTER_IP):
            yield self._masqueraded_cluster_ip()
        yield from self.where_any(sets.EXTERNAL_IP, BOTH, chains.MARK_MASQ)
        for name in (sets.EXTERNAL_IP, sets.EXTERNAL_IP_LOCAL):
            # From off the node: not by a bridge, hence of no pod, and not of a process here.
            yield from self.where_any(
                name, f"{BOTH} -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL", "ACCEPT"
            )
            yield from self.where_any(name, f"{BOTH} {TO_LOCAL}", "ACCEPT")
        yield f"{TO_LOCAL} -j {NODE_PORT}"
        for name in (sets.CLUSTER_IP, sets.LOAD_BALANCER):
            if self.any(name):
                yield f"{self.match(name, BOTH)}-j ACCEPT"

    def _masqueraded_cluster_ip(self) -> str:
        jump = f"-j {chains.MARK_MASQ}"
        if self.options.masquerade_all:
            return f"{self.asked(sets.CLUSTER_IP, BOTH)}{jump}"
        if self.detector:
            return f"{self.detector.not_local('')}{self.asked(sets.CLUSTER_IP, BOTH)}{jump}"
        # With no way to tell pods: what the node sends itself, whose source is the VIP that it sends to.
        return f"{self.asked(sets.CLUSTER_IP, 'src,dst')}{jump}"

    def postrouting(self) -> Iterator[str]:
        yield from self.where_any(sets.LOOP_BACK, WITH_SOURCE, "MASQUERADE")
        yield f"-m mark ! --mark {self.mark} -j RETURN"
        yield f"-j MARK --set-xmark {self.options.mark}/0x0"
        random = " --random-fully" if self.options.random_fully else ""
        yield f'-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE{random}'

    def node_port(self) -> Iterator[str]:
        for protocol, (every, local) in sets.NODE_PORTS.items():
            directions = BOTH if protocol == "SCTP" else FIRST
            yield from self.where_any(local, directions, "RETURN", protocol.lower())
            yield from self.where_any(every, directions, chains.MARK_MASQ, protocol.lower())

    def load_balancer(self) -> Iterator[str]:
        yield from self.where_any(sets.LOAD_BALANCER_LOCAL, BOTH, "RETURN")
        yield f"-j {chains.MARK_MASQ}"

    def source_ranges(self) -> Iterator[str]:
        yield from self.where_any(sets.LOAD_BALANCER_SOURCE_CIDR, WITH_SOURCE, "RETURN")
        yield from self.where_any(sets.LOAD_BALANCER_SOURCE_IP, WITH_SOURCE, "RETURN")
        yield "-j DROP"

    def forward(self) -> Iterator[str]:
        yield f'-m comment --comment "kubernetes forwarding rules" -m mark --mark {self.mark} -j ACCEPT'
        yield (
            '-m comment --comment "kubernetes forwarding conntrack rule"'
            " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        )

    def ipvs_filter(self) -> Iterator[str]:
        """Service addresses are the node's own: nobody may reach what listens there on other ports."""
        for name in (sets.LOAD_BALANCER, sets.CLUSTER_IP, sets.EXTERNAL_IP, sets.EXTERNAL_IP_LOCAL):
            yield f"{self.match(name, BOTH)}-j RETURN"
        yield f"{self.match(sets.HEALTH_CHECK_NODE_PORT, FIRST)}-j RETURN"
        reject = f"REJECT --reject-with {'icmp6' if self.family == 6 else 'icmp'}-port-unreachable"
        yield f"-m conntrack --ctstate NEW {self.match(sets.IPVS_IPS, FIRST)}-j {reject}"
