"""`--map FROM=TO`: what recorded addresses are in the cluster.

FROM is an address, a network, or an address with a port. TO is one of

    pods:NAMESPACE/PATTERN     the pods whose names match, or those of a workload of that name, in turn
    pod:NAMESPACE/NAME         one pod
    svc:NAMESPACE/NAME[:PORT]  a Service's cluster address; without PORT a Service of one port has that one
    lb:NAMESPACE/NAME[:PORT]   the address of a Service's external load balancer
    node:NAME                  a node
    outside                    beyond the cluster, with the recorded address
    ADDRESS[:PORT]             an address
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from dataplane.cluster.objects import ClusterState, Family, PodState, ServiceState
from dataplane.errors import MappingError

_Address = IPv4Address | IPv6Address
_WITH_PORT = re.compile(r"^(?:\[(?P<six>[^\]]+)\]|(?P<four>[0-9.]+)):(?P<port>\d+)$")


@dataclass(frozen=True, slots=True)
class Mapping:
    """One rule. members: () is outside. port, to_port: 0 for any, and for as recorded."""

    network: IPv4Network | IPv6Network
    members: tuple[_Address, ...]
    port: int = 0
    to_port: int = 0


Balancers = Callable[[ServiceState], Sequence[_Address]]
"""The addresses of a Service's external load balancer."""


def _in_status(service: ServiceState) -> Sequence[_Address]:
    return [entry.ip for entry in service.ingress if entry.ip is not None]


def parse_mapping(text: str, state: ClusterState, balancers: Balancers = _in_status) -> Mapping:
    """Read one FROM=TO. MappingError names what does not parse or is not in the cluster."""
    source, equals, target = text.partition("=")
    if not equals or not source or not target:
        raise MappingError("", f"--map {text}", "", "is not FROM=TO")
    network, port = _source(source, text)
    members, to_port = _target(target, text, state, 4 if network.version == 4 else 6, balancers)
    return Mapping(network, tuple(members), port, to_port)


def _number(text: str, mapping: str) -> int:
    number = int(text)
    if not 0 < number < 65536:
        raise MappingError("", f"--map {mapping}", "", f"{text} is not a port")
    return number


def _source(text: str, mapping: str) -> tuple[IPv4Network | IPv6Network, int]:
    port = 0
    with_port = _WITH_PORT.match(text)
    if with_port:
        port = _number(with_port["port"], mapping)
        text = with_port["six"] or with_port["four"]
    try:
        return ip_network(text, strict=False), port
    except ValueError:
        raise MappingError("", f"--map {mapping}", "", f"{text} is no address or network") from None


def _target(
    text: str, mapping: str, state: ClusterState, family: Family, balancers: Balancers
) -> tuple[Sequence[_Address], int]:
    if text == "outside":
        return (), 0
    kind, colon, rest = text.partition(":")
    if kind == "pods" and colon:
        return _pods(rest, mapping, state, family), 0
    if kind == "pod" and colon:
        namespace, name = _qualified(rest, mapping)
        pod = state.pod(namespace, name)
        if pod is None:
            raise MappingError("", f"--map {mapping}", "", f"no pod {rest}")
        return _addresses([pod], mapping, family), 0
    if kind == "svc" and colon:
        service, number = _service(rest, mapping, state)
        cluster_ip = service.cluster_ip(family)
        if cluster_ip is None:
            raise MappingError("", f"--map {mapping}", "", f"Service {service} has no IPv{family} cluster address")
        return (cluster_ip,), number
    if kind == "lb" and colon:
        service, number = _service(rest, mapping, state)
        own = [address for address in balancers(service) if address.version == family]
        if not own:
            raise MappingError(
                "", f"--map {mapping}", "", f"Service {service} has no load balancer with an IPv{family} address"
            )
        return own[:1], number
    if kind == "node" and colon:
        node = state.node(rest)
        address = node.address(family) if node is not None else None
        if address is None:
            raise MappingError("", f"--map {mapping}", "", f"no node {rest} with an IPv{family} address")
        return (address,), 0
    return _literal(text, mapping, family)


def _qualified(text: str, mapping: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name:
        raise MappingError("", f"--map {mapping}", "", f"{text} is not NAMESPACE/NAME")
    return namespace, name


def _addresses(pods: Sequence[PodState], mapping: str, family: Family) -> list[_Address]:
    addresses = [address for pod in pods if (address := pod.ip(family)) is not None]
    if not addresses:
        raise MappingError("", f"--map {mapping}", "", f"no such pod has an IPv{family} address")
    return addresses


def _pods(text: str, mapping: str, state: ClusterState, family: Family) -> list[_Address]:
    namespace, pattern = _qualified(text, mapping)
    running = [pod for pod in state.pods if fnmatchcase(pod.namespace, namespace) and not pod.finished]
    chosen = [pod for pod in running if fnmatchcase(pod.name, pattern)]
    if not chosen:
        chosen = [pod for pod in running if _of_workload(pod, pattern)]
    if not chosen:
        raise MappingError("", f"--map {mapping}", "", f"no pods {text}")
    return _addresses(chosen, mapping, family)


def _of_workload(pod: PodState, name: str) -> bool:
    """A pod of the workload, or of a ReplicaSet that a Deployment of this name made."""
    if pod.owner is None:
        return False
    return pod.owner.name == name or (pod.owner.kind == "ReplicaSet" and pod.owner.name.rpartition("-")[0] == name)


def _service(text: str, mapping: str, state: ClusterState) -> tuple[ServiceState, int]:
    """The Service, and the port that is named or the only one; 0 where there are several."""
    rest, colon, port = text.rpartition(":")
    name, number = (rest, _number(port, mapping)) if colon and port.isdigit() else (text, 0)
    namespace, service_name = _qualified(name, mapping)
    service = state.service(namespace, service_name)
    if service is None:
        raise MappingError("", f"--map {mapping}", "", f"no Service {name}")
    if number and number not in {port.port for port in service.ports}:
        ports = ", ".join(str(port.port) for port in service.ports)
        raise MappingError("", f"--map {mapping}", "", f"Service {name} has no port {number}; it has {ports}")
    if not number and len(service.ports) == 1:
        number = service.ports[0].port
    return service, number


def _literal(text: str, mapping: str, family: Family) -> tuple[Sequence[_Address], int]:
    port = 0
    with_port = _WITH_PORT.match(text)
    if with_port:
        port = _number(with_port["port"], mapping)
        text = with_port["six"] or with_port["four"]
    try:
        address = ip_address(text)
    except ValueError:
        raise MappingError(
            "", f"--map {mapping}", "", f"{text} is no address, pods:, pod:, svc:, lb:, node: or outside"
        ) from None
    if address.version != family:
        raise MappingError("", f"--map {mapping}", "", "the two sides are of different families")
    return (address,), port
