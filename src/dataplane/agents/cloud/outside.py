"""Balancers as the outside host has them: IPVS, a route for an address that one node has, and rules.

    raw BALANCERS       only what gets the balancer's own source is tracked
    mangle BALANCERS    who may come (listeners, source ranges), and whose source will be the balancer's own address
    IPVS                which node: source hashing over address and port, and each connection stays where it is
    filter BALANCERS    what came for a balancer and was not balanced ends here

The outside host is every client at once, so its own packets pass at OUTPUT, those of the cluster at INPUT.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from ipaddress import ip_network

from dataplane.agents.cloud.balancer import Balancer, Front, Listener
from dataplane.agents.cloud.kinds import Delivery
from dataplane.agents.firewall import Firewall
from dataplane.cluster.objects import Address, Family, Network
from dataplane.host.config import Address as InterfaceAddress
from dataplane.host.config import HostConfig, IPInterface, Route
from dataplane.host.iptables import Ruleset
from dataplane.host.ipvs import IpvsTimeouts, RealServer, VirtualService
from dataplane.host.restore import Restore

CHAIN = "BALANCERS"
MARK = "0x1/0x1"  # its source will be the balancer's own
HOOKS = {"raw": ("PREROUTING", "OUTPUT"), "mangle": ("INPUT", "OUTPUT"), "filter": ("OUTPUT",)}
FALLBACK, WITH_PORT = 1, 2
IDLE = {  # seconds without a packet after which a balancer forgets a connection: TCP, UDP
    "aws-nlb": (350, 120),
    "aws-classic": (60, 60),
    "gcp": (60, 60),
    "azure": (240, 240),
}


@dataclass(frozen=True, slots=True)
class OutsideBalancers:
    """What balancers make of the outside host. subnets: of the nodes; own: the balancers' address there; gone: addresses of
    balancers that are no more, and nobody's."""

    balancers: Sequence[Balancer] = ()
    subnets: dict[Family, Network] = field(default_factory=dict)
    own: dict[Family, IPInterface] = field(default_factory=dict)
    gone: Set[Address] = frozenset()

    def equip(self, config: HostConfig, interface: str) -> HostConfig:
        """The outside host with balancers that forward connections."""
        kind = self.balancers[0].kind.name if self.balancers else ""
        tcp, udp = IDLE.get(kind, (900, 300))
        settings = {
            "net.ipv4.vs.conntrack": "1",  # what IPVS sends on gets another source behind it
            "net.ipv4.vs.expire_nodest_conn": "1",
            # A balancer that keeps the destination sends whatever comes somewhere; the others know their connections.
            "net.ipv4.vs.sloppy_tcp": "1" if kind in ("gcp", "azure") else "0",
            # Answers to clients in the cluster pass through; by the same wire, which is no reason to tell them so.
            "net.ipv4.ip_forward": "1",
            "net.ipv4.conf.all.forwarding": "1",
            "net.ipv4.conf.default.forwarding": "1",
            "net.ipv6.conf.all.forwarding": "1",
            "net.ipv6.conf.default.forwarding": "1",
            "net.ipv4.conf.all.send_redirects": "0",
            "net.ipv4.conf.default.send_redirects": "0",
            f"net.ipv4.conf.{interface}.send_redirects": "0",
            "net.netfilter.nf_conntrack_max": "1048576",
        }
        addresses = [InterfaceAddress(interface, value, flags=("noprefixroute",)) for value in self.own.values()]
        return config.with_(
            addresses=(*config.addresses, *addresses),
            sysctl={**config.sysctl, **settings},
            ipvs=tuple(self.services()),
            ipvs_timeouts=IpvsTimeouts(tcp=tcp, udp=udp),
            iptables=self._rules(4, interface),
            ip6tables=self._rules(6, interface),
        )

    def routes(self, interface: str) -> Iterator[Route]:
        """To the addresses that one node has at a time."""
        for balancer in self.balancers:
            for front in balancer.fronts:
                if front.delivery is Delivery.ONE_NODE:
                    yield _route(front, interface)
        for address in sorted(self.gone, key=lambda address: (address.version, int(address))):
            yield Route.of(ip_network(address), type="blackhole")

    def services(self) -> Iterator[VirtualService]:
        """A virtual service per listener, with its nodes. One whose last node is gone keeps its connections."""
        seen: set[object] = set()
        for balancer, front in self._forwarded():
            for listener in balancer.listeners:
                service = _virtual(balancer, front, listener)
                if service is not None and service.key not in seen:
                    seen.add(service.key)
                    yield service

    def restores(self) -> Iterator[Restore]:
        """What changes of the rules while the host runs."""
        families: tuple[Family, ...] = (4, 6)
        for family in families:
            chains = {table: {chain: texts} for table, chain, texts in self._chains(family)}
            yield Restore(family, chains)

    def _forwarded(self) -> Iterator[tuple[Balancer, Front]]:
        for balancer in self.balancers:
            for front in balancer.fronts:
                if front.delivery is not Delivery.ONE_NODE:
                    yield balancer, front

    def _rules(self, family: Family, interface: str) -> Ruleset:
        firewall = Firewall(family)
        for table, chain, texts in self._chains(family):
            firewall.create(table, chain)
            for hook in HOOKS[table]:
                firewall.append(table, hook, f"-j {chain}")
            firewall.replace(table, chain, texts)
        if family in self.own:
            source = f"-o {interface} -m mark --mark {MARK} -j SNAT --to-source {self.own[family].ip}"
            firewall.append("nat", "POSTROUTING", source)
        return firewall.ruleset()

    def _chains(self, family: Family) -> Iterator[tuple[str, str, list[str]]]:
        """(table, chain, rules) of the balancers' own chains."""
        yield "raw", CHAIN, self._tracked(family)
        yield "mangle", CHAIN, self._admitted(family)
        yield "filter", CHAIN, self._stray(family)

    def _tracked(self, family: Family) -> list[str]:
        """A connection that no rule translates is IPVS's own affair: tracked, its next packet would be lost when IPVS
        takes it to another server."""
        subnet, own = self.subnets.get(family), self.own.get(family)
        rules = []
        for _, front in self._forwarded():
            if front.address.version == family:
                from_nodes = f"-s {subnet} " if front.delivery is not Delivery.PROXY and subnet is not None else ""
                rules.append(f"{from_nodes}-d {ip_network(front.address)} -j RETURN")
        if own is not None:
            rules.append(f"-d {ip_network(own.ip)} -j RETURN")
        return [*rules, "-j CT --notrack"]

    def _admitted(self, family: Family) -> list[str]:
        rules: list[str] = []
        for balancer, front in self._forwarded():
            if front.address.version == family:
                rules += self._of_front(balancer, front, family)
        return rules

    def _of_front(self, balancer: Balancer, front: Front, family: Family) -> Iterator[str]:
        there = f"-d {ip_network(front.address)}"
        if front.delivery is Delivery.PROXY:
            yield f"{there} -j MARK --set-xmark {MARK}"
        elif front.delivery is Delivery.NODE_PORT and family in self.subnets:
            # A node's answer to another node would go past the balancer; the cloud's own network would catch it.
            yield f"-s {self.subnets[family]} {there} -j MARK --set-xmark {MARK}"
        for listener in balancer.listeners:
            if listener.node_port or front.delivery.keeps_destination:
                yield from _listening(balancer, listener, there, family)
        protocol, types = ("icmp", (3,)) if family == 4 else ("ipv6-icmp", (1, 2))
        for kind in types:  # what tells of packets on their way back
            name = "icmp --icmp-type" if family == 4 else "icmp6 --icmpv6-type"
            yield f"{there} -p {protocol} -m {name} {kind} -j RETURN"
        yield f'{there} -m comment --comment "{balancer.service}: no listener, no healthy node or no such client" -j DROP'

    def _stray(self, family: Family) -> list[str]:
        return [
            f'-d {ip_network(front.address)} -o lo -m comment --comment "{balancer.service}: no such connection" -j DROP'
            for balancer, front in self._forwarded()
            if front.address.version == family
        ]


def _route(front: Front, interface: str) -> Route:
    """Through the node that has the address; without one it is looked for on the wire, and nobody answers."""
    node = front.announcer
    via: Address | None = None if node is None else node.address(front.address.version)
    return Route.of(ip_network(front.address), interface, via)


def _virtual(balancer: Balancer, front: Front, listener: Listener) -> VirtualService | None:
    direct = front.delivery is Delivery.DIRECT
    if not direct and not listener.node_port:
        return None
    service, family = balancer.service, front.address.version
    targets = {node.name for node in balancer.targets}
    servers = []
    for node in balancer.nodes:
        address = node.address(family)
        staying = listener.protocol in balancer.kind.stays
        if address is not None and (node.name in targets or staying):
            port, forward = (listener.port, "route") if direct else (listener.node_port, "masq")
            servers.append(RealServer(address, port, forward, weight=int(node.name in targets)))
    by_client = service.session_affinity == "ClientIP" and direct
    flags = FALLBACK if by_client else FALLBACK | WITH_PORT
    protocol = listener.protocol.lower()
    return VirtualService(protocol, front.address, listener.port, scheduler="sh", flags=flags, servers=tuple(servers))


def _listening(balancer: Balancer, listener: Listener, there: str, family: Family) -> Iterator[str]:
    protocol = listener.protocol.lower()
    match = f"{there} -p {protocol} -m {protocol} --dport {listener.port}"
    if not balancer.targets:
        if listener.protocol not in balancer.kind.stays:
            return
        if listener.protocol == "TCP":
            match += " ! --tcp-flags FIN,SYN,RST,ACK SYN"
    ranges = [network for network in balancer.service.load_balancer_source_ranges if network.version == family]
    if balancer.kind.filters and ranges:
        for network in ranges:
            yield f"-s {network} {match} -j RETURN" if network.prefixlen else f"{match} -j RETURN"
    else:
        yield f"{match} -j RETURN"
