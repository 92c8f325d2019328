"""The Services of a completed cluster: families, ClusterIPs and node ports, as the API server would fill them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dataplane.cluster.addresses import Band, cluster_ip_band, make_address, node_port_band, place
from dataplane.cluster.networks import Networks
from dataplane.cluster.objects import Address, Family, ServicePort, ServiceState
from dataplane.errors import ManifestError

API_SERVER = ("default", "kubernetes")


def complete_services(
    services: Sequence[ServiceState], networks: Networks, seed: int
) -> tuple[tuple[ServiceState, ...], list[str]]:
    """(Services by namespace and name, warnings).

    What is stated is believed and comes first; then the rest is given out in that order, each at a place that the seed
    and the Service's own names draw (see `addresses`). Raises ManifestError where an address or a node port is taken,
    out of range or not to be had.
    """
    ordered = sorted(services, key=lambda service: (service.namespace, service.name))
    ordered = [_with_families(service, networks.families) for service in ordered]
    ordered = _with_cluster_ips(ordered, networks, seed)
    warnings: list[str] = []
    return tuple(_with_node_ports(ordered, seed, warnings)), warnings


def _error(service: ServiceState, path: str, message: str) -> ManifestError:
    file, where = (service.origin.file, service.origin.where) if service.origin else ("", "")
    return ManifestError(file, where, f"Service {service}: {path}", message)


def _with_families(service: ServiceState, cluster: tuple[Family, ...]) -> ServiceState:
    """ipFamilies and ipFamilyPolicy as the API server defaults them."""
    if service.type == "ExternalName":
        return service
    stated: list[Family] = list(dict.fromkeys((*service.ip_families, *(ip.version for ip in service.cluster_ips))))
    policy = service.ip_family_policy
    if not policy:
        # A Service without selector and ClusterIP may have endpoints of any family.
        anything = service.headless and not service.selector and not stated
        policy = "RequireDualStack" if len(stated) == 2 or (anything and len(cluster) == 2) else "SingleStack"
    for index, family in enumerate(stated):
        if family not in cluster:
            raise _error(service, f"spec.ipFamilies[{index}]", f"the cluster has no IPv{family}")
    if policy == "RequireDualStack" and len(cluster) < 2:
        raise _error(service, "spec.ipFamilyPolicy", f"RequireDualStack, and the cluster has IPv{cluster[0]} only")
    if policy == "SingleStack":
        if len(stated) > 1:
            raise _error(service, "spec.ipFamilyPolicy", "SingleStack, and two families are given")
        families = tuple(stated) or cluster[:1]
    else:
        families = tuple(dict.fromkeys((*stated, *cluster)))
    return replace(service, ip_families=families, ip_family_policy=policy)


def _with_cluster_ips(services: list[ServiceState], networks: Networks, seed: int) -> list[ServiceState]:
    owners: dict[Address, ServiceState] = {}
    bands: dict[Family, Band] = {family: cluster_ip_band(network) for family, network in networks.service.items()}
    for service in services:
        for index, ip in enumerate(service.cluster_ips):
            path = f"spec.clusterIPs[{index}]" if len(service.cluster_ips) > 1 else "spec.clusterIP"
            other = owners.setdefault(ip, service)
            if other is not service:
                there = f" ({other.origin})" if other.origin else ""
                raise _error(service, path, f"{ip} is allocated to Service {other} already{there}")
            ranges = [network for network in networks.service_ranges if network.version == ip.version]
            if ranges and not any(ip in network for network in ranges):
                raise _error(service, path, f"{ip} is not in the service network {', '.join(map(str, ranges))}")
            bands[ip.version].taken.add(int(ip))
    done = []
    for service in services:
        if service.headless or service.type == "ExternalName":
            done.append(service)
            continue
        ips = []
        for family in service.ip_families:
            stated = service.cluster_ip(family)
            ips.append(stated or _allocate(service, family, bands[family], networks, seed))
        done.append(replace(service, cluster_ips=tuple(ips)))
    return done


def _allocate(service: ServiceState, family: Family, band: Band, networks: Networks, seed: int) -> Address:
    network = networks.service[family]
    first = int(network.network_address) + 1
    if (service.namespace, service.name) == API_SERVER and first not in band.taken:
        band.taken.add(first)
        return make_address(family, first)
    number = band.allocate(place(seed, "clusterIP", family, service.namespace, service.name))
    if number is None:
        raise _error(service, "spec.clusterIP", f"no address is left in the service network {network}")
    return make_address(family, number)


def _with_node_ports(services: list[ServiceState], seed: int, warnings: list[str]) -> list[ServiceState]:
    band = node_port_band()
    owners: dict[int, ServiceState] = {}
    for service in services:
        pairs: set[tuple[int, str]] = set()
        for index, port in enumerate(service.ports):
            if not port.node_port:
                continue
            path = f"spec.ports[{index}].nodePort"
            # The allocator counts numbers: two protocols share one within a Service, never between Services.
            other = owners.setdefault(port.node_port, service)
            if other is not service:
                there = f" ({other.origin})" if other.origin else ""
                raise _error(service, path, f"{port.node_port} is allocated to Service {other} already{there}")
            if (port.node_port, port.protocol) in pairs:
                raise _error(service, path, f"{port.protocol} {port.node_port} is given twice")
            pairs.add((port.node_port, port.protocol))
    for service in services:
        number = service.health_check_node_port
        if number and number in owners:
            # The API server would refuse it, kube-proxy would not: its rules are the same, its listener fails.
            warnings.append(
                f"Service {service}: healthCheckNodePort {number} is in use by Service {owners[number]} too"
            )
        elif number:
            owners[number] = service
    band.taken.update(owners)
    return [_complete_ports(service, band, seed) for service in services]


def _complete_ports(service: ServiceState, band: Band, seed: int) -> ServiceState:
    if service.type == "NodePort" or (service.type == "LoadBalancer" and service.allocate_node_ports):
        # TCP and UDP of one port number get one node port, as a name server wants it.
        shared: dict[int, int] = {}
        for port in service.ports:
            if port.node_port:
                shared.setdefault(port.port, port.node_port)
        ports: list[ServicePort] = []
        for index, port in enumerate(service.ports):
            number = port.node_port or shared.get(port.port, 0)
            if not number:
                drawn = band.allocate(place(seed, "nodePort", service.namespace, service.name, port.port))
                if drawn is None:
                    raise _error(service, f"spec.ports[{index}].nodePort", "no port is left in 30000-32767")
                number = shared[port.port] = drawn
            ports.append(replace(port, node_port=number))
        service = replace(service, ports=tuple(ports))
    local = service.type == "LoadBalancer" and service.external_traffic_policy == "Local"
    if local and not service.health_check_node_port:
        drawn = band.allocate(place(seed, "healthCheckNodePort", service.namespace, service.name))
        if drawn is None:
            raise _error(service, "spec.healthCheckNodePort", "no port is left in 30000-32767")
        service = replace(service, health_check_node_port=drawn)
    return service
