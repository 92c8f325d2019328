"""kube-proxy in iptables mode: what version 1.30 leaves in the kernel of a node, as iptables-save prints it.

The path of a new connection through the chains:

    nat     PREROUTING, OUTPUT -> KUBE-SERVICES -> KUBE-SVC-  (ClusterIP)
                                       |       `-> KUBE-FW-  -> KUBE-EXT-  (load balancer address, source ranges)
                                       |       `-> KUBE-EXT- -> KUBE-SVC-, KUBE-SVL-  (external address)
                                       `-> KUBE-NODEPORTS -> KUBE-EXT-
                                                               KUBE-SVC-, KUBE-SVL- -> KUBE-SEP- -> DNAT
    filter  INPUT, FORWARD, OUTPUT -> KUBE-SERVICES, KUBE-EXTERNAL-SERVICES (no endpoint: REJECT or DROP),
                                      KUBE-PROXY-FIREWALL, KUBE-NODEPORTS (health checks), KUBE-FORWARD
    nat     POSTROUTING -> KUBE-POSTROUTING (MASQUERADE what KUBE-MARK-MASQ marked)

One service port becomes one `Fragment`: what it adds to the chains that all share, and its own chains. A fragment is
a pure function of the port, the endpoints that the node chose, and the dialect; nodes share those that do not depend
on the node. Services stand in the order of namespace/name:port, which in the true program is random.

A rule is the text behind "-A CHAIN ": addresses, interface and protocol in front, then the matches in the order in
which kube-proxy gives them, then the target.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from socket import AF_INET6, inet_ntop, inet_pton

from dataplane.agents.firewall import Firewall, Rules
from dataplane.cluster.endpoints import (
    Choice,
    ProxyEndpoint,
    ServicePortInfo,
)
from dataplane.cluster.objects import Address, ClusterState, Family, Network, NodeState

from . import chains
from .options import ProxyOptions

PORTALS = '-m comment --comment "kubernetes service portals"'
EXTERNAL_PORTALS = '-m comment --comment "kubernetes externally-visible service portals"'
LOAD_BALANCER_FIREWALL = '-m comment --comment "kubernetes load balancer firewall"'
NEW = "-m conntrack --ctstate NEW "

# (table, built-in chain, match, chain) in the order in which kube-proxy makes sure of them. Each is inserted at the
# head where it is missing, so the last one made stands on top.
JUMPS = (
    ("filter", "INPUT", NEW + EXTERNAL_PORTALS, chains.EXTERNAL_SERVICES),
    ("filter", "FORWARD", NEW + EXTERNAL_PORTALS, chains.EXTERNAL_SERVICES),
    ("filter", "INPUT", '-m comment --comment "kubernetes health check service ports"', chains.NODE_PORTS),
    ("filter", "FORWARD", NEW + PORTALS, chains.SERVICES),
    ("filter", "OUTPUT", NEW + PORTALS, chains.SERVICES),
    ("filter", "FORWARD", '-m comment --comment "kubernetes forwarding rules"', chains.FORWARD),
    ("filter", "INPUT", NEW + LOAD_BALANCER_FIREWALL, chains.PROXY_FIREWALL),
    ("filter", "OUTPUT", NEW + LOAD_BALANCER_FIREWALL, chains.PROXY_FIREWALL),
    ("filter", "FORWARD", NEW + LOAD_BALANCER_FIREWALL, chains.PROXY_FIREWALL),
    ("nat", "OUTPUT", PORTALS, chains.SERVICES),
    ("nat", "PREROUTING", PORTALS, chains.SERVICES),
    ("nat", "POSTROUTING", '-m comment --comment "kubernetes postrouting rules"', chains.POSTROUTING),
    ("filter", "INPUT", "", chains.FIREWALL),
    ("filter", "OUTPUT", "", chains.FIREWALL),
)

# kubelet writes the very same rule.
LOCALNET = (
    '! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections"'
    " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
)
LAST_RULE = '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"'


@dataclass(frozen=True, slots=True)
class Detector:
    """How a node tells its pods' packets from others: by source network or by incoming interface."""

    source: Network | None = None
    interface: str = ""

    def __bool__(self) -> bool:
        return self.source is not None or bool(self.interface)

    @property
    def local(self) -> str:
        """The match for a packet of a pod, as it stands at the head of a rule."""
        return f"-i {self.interface} " if self.interface else source(self.source)

    def not_local(self, destination: str) -> str:
        """The match for any other packet, with the destination match, which stands between source and interface."""
        if self.interface:
            return f"{destination}! -i {self.interface} "
        return f"! -s {printed(self.source)} {destination}" if self.source is not None else destination


def detector(options: ProxyOptions, state: ClusterState, node: NodeState, family: Family) -> Detector:
    """The local traffic detector of a node; an empty one where the mode has nothing to go by."""
    match options.detect_local_mode:
        case "ClusterCIDR":
            cidrs = state.cluster_cidrs if options.cluster_cidrs is None else options.cluster_cidrs
            return Detector(next((cidr for cidr in cidrs if cidr.version == family), None))
        case "NodeCIDR":
            return Detector(node.pod_cidr(family))
        case "BridgeInterface":
            return Detector(interface=options.bridge_interface)
        case "InterfaceNamePrefix":
            return Detector(interface=f"{options.interface_name_prefix}+" if options.interface_name_prefix else "")


def source(network: Network | None) -> str:
    """`-s NETWORK `; iptables-save leaves a match out that matches everything."""
    return f"-s {printed(network)} " if network is not None and network.prefixlen else ""


def printed(value: Address | Network) -> str:
    """An address with its full prefix length, or a network, as iptables-save prints it (inet_ntop)."""
    if isinstance(value, IPv6Address):
        return f"{inet_ntop(AF_INET6, value.packed)}/128"
    if isinstance(value, IPv6Network):
        return f"{inet_ntop(AF_INET6, value.network_address.packed)}/{value.prefixlen}"
    return f"{value}/32" if isinstance(value, IPv4Address) else str(value)


def canonical(address: str, family: Family) -> str:
    """An endpoint's address as iptables reads and prints it. An EndpointSlice may hold 10.0.00.01 or FD00::1."""
    if family == 6:
        return inet_ntop(AF_INET6, inet_pton(AF_INET6, address))
    if ".0" not in address and address[0] != "0":
        return address
    return ".".join([str(int(part)) for part in address.split(".")])


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the rules of one node and family have in common."""

    family: Family
    detector: Detector
    mark: str = "0x4000"
    masquerade_all: bool = False
    comments: bool = True
    """Whether the rules of endpoints bear comments; a large cluster goes without."""

    @property
    def reject(self) -> str:
        return f"REJECT --reject-with {'icmp6' if self.family == 6 else 'icmp'}-port-unreachable"

    @property
    def recent_mask(self) -> str:
        return "255.255.255.255" if self.family == 4 else ":".join(["ffff"] * 8)


@dataclass(slots=True)
class Fragment:
    """What one service port adds: rules for shared chains, and chains of its own in the nat table."""

    services: list[str] = field(default_factory=list)
    node_ports: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """filter KUBE-SERVICES"""
    refused_external: list[str] = field(default_factory=list)
    """filter KUBE-EXTERNAL-SERVICES"""
    firewall: list[str] = field(default_factory=list)
    """filter KUBE-PROXY-FIREWALL"""
    health_checks: list[str] = field(default_factory=list)
    """filter KUBE-NODEPORTS"""
    chains: dict[str, list[str]] = field(default_factory=dict)
    finished: dict[str, Rules] = field(default_factory=dict)
    """The same once they are complete"""


@dataclass(frozen=True, slots=True)
class _Port:
    """One service port on its way into rules: the names and texts that its rules repeat."""

    info: ServicePortInfo
    choice: Choice
    dialect: Dialect
    node_ip: Address | None
    spn: str
    protocol: str
    suffix: str

    def match(self, comment: str, port: int, between: str = "") -> str:
        """Protocol, comment and destination port, as they stand behind the addresses."""
        return (
            f'-p {self.protocol} -m comment --comment "{self.spn}{comment}" {between}-m {self.protocol} --dport {port} '
        )

    @property
    def cluster_chain(self) -> str:
        return chains.CLUSTER + self.suffix

    @property
    def local_chain(self) -> str:
        return chains.LOCAL + self.suffix

    @property
    def external_chain(self) -> str:
        return chains.EXTERNAL + self.suffix

    @property
    def firewall_chain(self) -> str:
        return chains.SOURCE_RANGES + self.suffix

    @property
    def internal_chain(self) -> str:
        return self.local_chain if self.info.internal_local else self.cluster_chain

    @property
    def policy_chain(self) -> str:
        """Where the external traffic policy sends traffic from outside."""
        return self.local_chain if self.info.external_local else self.cluster_chain

    @property
    def uses_firewall(self) -> bool:
        return bool(self.choice.has_endpoints and self.info.load_balancer_ips and self.info.source_ranges)

    def refusal(self) -> tuple[str, str]:
        """Comment and target where there is no endpoint to use: nowhere at all, or none that the policy allows."""
        if not self.choice.has_endpoints:
            return " has no endpoints", self.dialect.reject
        return " has no local endpoints", "DROP"


def compile_port(choice: Choice, dialect: Dialect, node_ip: Address | None) -> Fragment:
    """The rules of one service port. node_ip: the node's primary address; it matters to source ranges alone."""
    info = choice.port
    spn, protocol = info.spn, info.protocol.lower()
    port = _Port(info, choice, dialect, node_ip, spn, protocol, chains.service_suffix(spn, protocol))
    fragment = Fragment()
    _cluster_ip(port, fragment)
    _external_ips(port, fragment)
    _load_balancer_ips(port, fragment)
    _node_port(port, fragment)
    _health_check(port, fragment)
    _own_chains(port, fragment)
    _endpoint_chains(port, fragment)
    fragment.finished = {name: Rules(texts) for name, texts in fragment.chains.items()}
    return fragment


def _cluster_ip(port: _Port, to: Fragment) -> None:
    destination = f"-d {printed(port.info.cluster_ip)} "
    if port.choice.has_internal:
        to.services.append(f"{destination}{port.match(' cluster IP', port.info.port)}-j {port.internal_chain}")
    else:
        why, target = port.refusal()
        to.refused.append(f"{destination}{port.match(why, port.info.port)}-j {target}")


def _external_ips(port: _Port, to: Fragment) -> None:
    for ip in port.info.external_ips:
        if port.choice.has_endpoints:
            match = port.match(" external IP", port.info.port)
            to.services.append(f"-d {printed(ip)} {match}-j {port.external_chain}")
        if not port.choice.has_external:
            _refuse_external(port, to, ip)


def _load_balancer_ips(port: _Port, to: Fragment) -> None:
    target = port.firewall_chain if port.uses_firewall else port.external_chain
    for ip in port.info.load_balancer_ips:
        if port.choice.has_endpoints:
            match = port.match(" loadbalancer IP", port.info.port)
            to.services.append(f"-d {printed(ip)} {match}-j {target}")
        if port.uses_firewall:
            match = port.match(f" traffic not accepted by {port.firewall_chain}", port.info.port)
            to.firewall.append(f"-d {printed(ip)} {match}-j DROP")
    if not port.choice.has_external:
        for ip in port.info.load_balancer_ips:
            _refuse_external(port, to, ip)


def _refuse_external(port: _Port, to: Fragment, ip: Address) -> None:
    why, target = port.refusal()
    to.refused_external.append(f"-d {printed(ip)} {port.match(why, port.info.port)}-j {target}")


def _node_port(port: _Port, to: Fragment) -> None:
    number = port.info.node_port
    if not number:
        return
    if port.choice.has_endpoints:
        to.node_ports.append(f"{port.match('', number)}-j {port.external_chain}")
    if not port.choice.has_external:
        why, target = port.refusal()
        to.refused_external.append(f"{port.match(why, number, '-m addrtype --dst-type LOCAL ')}-j {target}")


def _health_check(port: _Port, to: Fragment) -> None:
    """One per service port, so a Service of several ports repeats it."""
    number = port.info.health_check_node_port
    if number:
        to.health_checks.append(
            f'-p tcp -m comment --comment "{port.spn} health check node port" -m tcp --dport {number} -j ACCEPT'
        )


def _own_chains(port: _Port, to: Fragment) -> None:
    info, choice, dialect = port.info, port.choice, port.dialect
    if choice.uses_cluster_list:
        to.chains[port.cluster_chain] = []
    if choice.uses_local_list:
        to.chains[port.local_chain] = []
    if choice.has_internal and (dialect.masquerade_all or dialect.detector):
        destination = f"-d {printed(info.cluster_ip)} "
        head = destination if dialect.masquerade_all else dialect.detector.not_local(destination)
        rule = f"{head}{port.match(' cluster IP', info.port)}-j {chains.MARK_MASQ}"
        to.chains.setdefault(port.internal_chain, []).append(rule)
    if choice.has_endpoints and info.externally_accessible:
        to.chains[port.external_chain] = _external_chain(port)
    if port.uses_firewall:
        to.chains[port.firewall_chain] = _firewall_chain(port)


def _external_chain(port: _Port) -> list[str]:
    """Policy Cluster masquerades everybody, so that the answer passes this node again. Policy Local keeps the client's
    address; pods and the node itself go on to every endpoint all the same."""

    def comment(what: str) -> str:
        return f'-m comment --comment "{what} {port.spn} external destinations" '

    rules: list[str] = []
    if not port.info.external_local:
        rules.append(f"{comment('masquerade traffic for')}-j {chains.MARK_MASQ}")
    else:
        if port.dialect.detector:
            rules.append(f"{port.dialect.detector.local}{comment('pod traffic for')}-j {port.cluster_chain}")
        from_node = "-m addrtype --src-type LOCAL "
        rules.append(f"{comment('masquerade LOCAL traffic for')}{from_node}-j {chains.MARK_MASQ}")
        rules.append(f"{comment('route LOCAL traffic for')}{from_node}-j {port.cluster_chain}")
    if port.choice.has_external:
        rules.append(f"-j {port.policy_chain}")
    return rules


def _firewall_chain(port: _Port) -> list[str]:
    """What no rule takes falls through undisturbed, still with the balancer's address, and KUBE-PROXY-FIREWALL drops
    it. A range that holds the node lets the node reach the address from that address itself (a packet that it sends
    to a local VIP has the VIP as its source)."""
    comment = f'-m comment --comment "{port.spn} loadbalancer IP" '
    accept = f"{comment}-j {port.external_chain}"
    rules = [f"{source(network)}{accept}" for network in port.info.source_ranges]
    node_ip = port.node_ip
    if node_ip is not None and any(node_ip in network for network in port.info.source_ranges):
        rules += [f"-s {printed(ip)} {accept}" for ip in port.info.load_balancer_ips]
    dropped = f"other traffic to {port.spn} will be dropped by {chains.PROXY_FIREWALL}"
    rules.append(f'-m comment --comment "{dropped}"')
    return rules


def _endpoint_chains(port: _Port, to: Fragment) -> None:
    names = {
        endpoint.text: chains.endpoint_chain(port.spn, port.protocol, endpoint.text)
        for endpoint in port.choice.reachable
    }
    if port.choice.uses_cluster_list:
        to.chains[port.cluster_chain] += _spread(port, port.choice.cluster, names)
    if port.choice.uses_local_list:
        to.chains[port.local_chain] += _spread(port, port.choice.local, names)
    family, protocol, seconds = port.dialect.family, port.protocol, port.info.affinity_seconds
    length = 32 if family == 4 else 128
    comment = f'-m comment --comment "{port.spn}" ' if port.dialect.comments else ""
    protocol_match, target = f"-p {protocol} {comment}", f"-m {protocol} -j DNAT --to-destination"
    for endpoint in port.choice.reachable:
        name = names[endpoint.text]
        address = canonical(endpoint.address, family)
        bracketed = f"[{address}]" if family == 6 else address
        remember = f"-m recent --set --name {name} --mask {port.dialect.recent_mask} --rsource " if seconds else ""
        to.chains[name] = [
            f"-s {address}/{length} {comment}-j {chains.MARK_MASQ}",
            f"{protocol_match}{remember}{target} {bracketed}:{endpoint.port}",
        ]


def _spread(port: _Port, endpoints: Sequence[ProxyEndpoint], names: dict[str, str]) -> list[str]:
    """First the endpoint that the client's address used lately, then any of them with the same chance."""
    rules: list[str] = []
    spn, comments = port.spn, port.dialect.comments
    if port.info.affinity_seconds:
        check = f"-m recent --rcheck --seconds {port.info.affinity_seconds} --reap --name"
        for endpoint in endpoints:
            comment = f'-m comment --comment "{spn} -> {endpoint.text}" ' if comments else ""
            name = names[endpoint.text]
            rules.append(f"{comment}{check} {name} --mask {port.dialect.recent_mask} --rsource -j {name}")
    left = len(endpoints)
    for endpoint in endpoints:
        comment = f'-m comment --comment "{spn} -> {endpoint.text}" ' if comments else ""
        chance = f"-m statistic --mode random --probability {probability(left)} " if left > 1 else ""
        rules.append(f"{comment}{chance}-j {names[endpoint.text]}")
        left -= 1
    return rules


@cache
def probability(count: int) -> str:
    """One in `count` as iptables-save prints it: kube-proxy gives ten decimals, the kernel keeps 31 bits of them."""
    return f"{round(float(f'{1 / count:.10f}') * (1 << 31)) / (1 << 31):.11f}"


def static_chains(firewall: Firewall, options: ProxyOptions) -> None:
    """What a full sync makes sure of before it writes any rule, and the chains that hold no Service."""
    for table in ("mangle", "nat", "filter"):
        firewall.create(table, chains.CANARY)
    for table, built_in, match, chain in JUMPS:
        firewall.create(table, chain)
        firewall.insert(table, built_in, f"{match} -j {chain}".lstrip())
    mark = f"{options.mark}/{options.mark}"
    random = " --random-fully" if options.random_fully else ""
    firewall.replace("nat", chains.MARK_MASQ, [f"-j MARK --set-xmark {mark}"])
    firewall.replace(
        "nat",
        chains.POSTROUTING,
        [
            f"-m mark ! --mark {mark} -j RETURN",
            f"-j MARK --set-xmark {options.mark}/0x0",
            f'-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE{random}',
        ],
    )
    invalid = [] if options.tcp_be_liberal else ["-m conntrack --ctstate INVALID -j DROP"]
    firewall.replace(
        "filter",
        chains.FORWARD,
        [
            *invalid,
            f'-m comment --comment "kubernetes forwarding rules" -m mark --mark {mark} -j ACCEPT',
            '-m comment --comment "kubernetes forwarding conntrack rule"'
            " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ],
    )
    if options.localhost_node_ports_work(firewall.family):
        firewall.replace("filter", chains.FIREWALL, [LOCALNET])


def node_port_jumps(options: ProxyOptions, family: Family, local_addresses: Iterable[Address]) -> list[str]:
    """The end of nat KUBE-SERVICES: which of the node's own addresses take node ports."""
    networks = options.node_ports_on(family)
    localhost = options.localhost_node_ports_work(family)
    if not networks:
        outside = "" if localhost else "! -d 127.0.0.0/8 " if family == 4 else "! -d ::1/128 "
        return [f"{outside}{LAST_RULE} -m addrtype --dst-type LOCAL -j {chains.NODE_PORTS}"]
    addresses = {
        address
        for address in local_addresses
        if address.version == family
        and any(address in network for network in networks)
        and (localhost or not address.is_loopback)
    }
    return [f"-d {printed(address)} {LAST_RULE} -j {chains.NODE_PORTS}" for address in sorted(addresses, key=int)]
