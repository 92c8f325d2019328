"""The addresses of balancers: those that a Service's status names, and those that a cloud gives where it names none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address

from dataplane.agents.cloud.kinds import Kind
from dataplane.cluster.addresses import make_address
from dataplane.cluster.objects import Address, ClusterState, Family, Ingress, Network, ServiceState
from dataplane.errors import ModelError

# For documentation (RFC 5737, RFC 3849), then of what is set aside for benchmarks (RFC 2544) the half that `generate`
# leaves free: nobody's in a real capture.
POOLS: Mapping[Family, tuple[Network, ...]] = {
    4: (IPv4Network("203.0.113.0/24"), IPv4Network("198.19.0.0/16")),
    6: (IPv6Network("2001:db8:1b::/112"),),
}


def balanced(service: ServiceState) -> bool:
    """Whether a Service has an external balancer at all."""
    return service.type == "LoadBalancer" and bool(service.cluster_ips)


class Assigned:
    """The addresses that a cloud has given, each for as long as it runs: by namespace, Service and family."""

    def __init__(self, before: Assigned | None = None) -> None:
        """before: whose addresses these go on from, and leave as they are."""
        self.known: dict[tuple[str, str, Family], Address] = dict(before.known) if before else {}
        self.seen: set[Address] = set(before.seen) if before else set()
        """Addresses that have been a balancer's, whether or not they still are."""

    def assign(self, kind: Kind, state: ClusterState) -> ClusterState:
        """The state with every balancer in its Service's status. An address that the status has stays."""
        if not kind.assigns:
            return state
        taken = set(_taken(state)) | set(self.known.values())
        services = [self._assigned(kind, service, taken) for service in state.services]
        if all(new is old for new, old in zip(services, state.services, strict=True)):
            return state
        return replace(state, services=tuple(services))

    def addresses(self, kind: Kind, service: ServiceState) -> Iterator[tuple[Address, str]]:
        """(address, ipMode) of each of a Service's balancers; behind a name it is "Proxy": kube-proxy knows no address."""
        if not balanced(service):
            return
        stated = [(entry.ip, entry.mode) for entry in service.ingress if entry.ip is not None]
        self.seen.update(address for address, _ in stated)
        yield from stated
        if kind.assigns == "hostname" and not stated:
            for family in service.ip_families:
                address = self.known.get((service.namespace, service.name, family))
                if address is not None:
                    yield address, "Proxy"

    def _assigned(self, kind: Kind, service: ServiceState, taken: set[Address]) -> ServiceState:
        if not balanced(service) or any(entry.ip is not None for entry in service.ingress):
            return service
        given = [self._address(service, family, taken) for family in service.ip_families]
        if kind.assigns == "ip":
            return replace(service, ingress=tuple(Ingress(address) for address in given))
        return service if service.ingress else replace(service, ingress=(Ingress(hostname=_hostname(service)),))

    def _address(self, service: ServiceState, family: Family, taken: set[Address]) -> Address:
        key = (service.namespace, service.name, family)
        if key not in self.known:
            wanted = _wanted(service)
            if wanted is not None and wanted.version == family:
                self.known[key] = wanted
            else:
                self.known[key] = _free(family, taken)
            taken.add(self.known[key])
            self.seen.add(self.known[key])
        return self.known[key]


def _taken(state: ClusterState) -> Iterator[Address]:
    for node in state.nodes:
        yield from node.addresses
        yield from node.external_addresses
    for service in state.services:
        yield from service.external_ips
        yield from (entry.ip for entry in service.ingress if entry.ip is not None)
        wanted = _wanted(service)
        if wanted is not None:
            yield wanted


def _wanted(service: ServiceState) -> Address | None:
    """spec.loadBalancerIP, where it is an address."""
    try:
        return ip_address(service.load_balancer_ip) if service.load_balancer_ip else None
    except ValueError:
        return None


def _free(family: Family, taken: set[Address]) -> Address:
    for pool in POOLS[family]:
        first = int(pool.network_address)
        for number in range(first + 10, first + pool.num_addresses - 1):
            address = make_address(family, number)
            if address not in taken:
                return address
    raise ModelError(f"no IPv{family} address is left for another load balancer")


def _hostname(service: ServiceState) -> str:
    digest = sha256(f"{service.namespace}/{service.name}".encode()).hexdigest()
    return f"{service.name}-{digest[:16]}.elb.example"
