"""Virtual services and their real servers: one service for each address and port of a Service, and for each address of
the node where it has a node port.

Without any endpoint the service is there and has no servers: the kernel then refuses with an ICMP error of its own.
Where a policy is Local and the node has no endpoint, all endpoints serve, which the other modes never do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from dataplane.agents.kubeproxy.iptables import canonical
from dataplane.cluster.endpoints import Choice, ProxyEndpoint, ServicePortInfo
from dataplane.cluster.objects import Address, Family
from dataplane.host.ipvs import RealServer, VirtualService

WEIGHT = 1
MH_PORT = 2  # the flag by which the scheduler mh takes the client's port into its hash


@dataclass(frozen=True, slots=True)
class PortServices:
    """The virtual services of one service port.

    services: of the addresses that are the Service's own. node_port: what each address of a node gets, or None.
    """

    services: tuple[VirtualService, ...]
    node_port: VirtualService | None

    def on(self, node_addresses: Iterable[Address]) -> Iterable[VirtualService]:
        """All of them on a node whose node ports are open at these addresses."""
        yield from self.services
        if self.node_port is not None:
            for address in node_addresses:
                yield self.node_port.with_(address=address)


def port_services(choice: Choice, scheduler: str) -> PortServices:
    """The virtual services of a service port with the endpoints that a node chose."""
    info = choice.port
    everywhere = real_servers(choice.cluster, info.family)
    here = real_servers(choice.local, info.family) or everywhere
    internal = here if info.internal_local else everywhere
    external = here if info.external_local else everywhere
    services = [_service(info, scheduler, info.cluster_ip, info.port, internal)]
    for address in (*info.external_ips, *info.load_balancer_ips):
        services.append(_service(info, scheduler, address, info.port, external))
    node_port = _service(info, scheduler, _anywhere(info.family), info.node_port, external) if info.node_port else None
    return PortServices(tuple(services), node_port)


def real_servers(endpoints: Sequence[ProxyEndpoint], family: Family) -> tuple[RealServer, ...]:
    """The servers, in the order in which they are added. (kube-proxy 1.30 adds them in the order of a Go map.)"""
    ends = dict.fromkeys((canonical(endpoint.address, family), endpoint.port) for endpoint in endpoints)
    return tuple([RealServer(ip_address(address), port, weight=WEIGHT) for address, port in ends])


def _service(
    info: ServicePortInfo, scheduler: str, address: Address, port: int, servers: tuple[RealServer, ...]
) -> VirtualService:
    return VirtualService(
        info.protocol.lower(),
        address,
        port,
        scheduler=scheduler,
        flags=MH_PORT if scheduler == "mh" else 0,
        persistent=info.affinity_seconds,
        servers=servers,
    )


def _anywhere(family: Family) -> Address:
    return ip_address("0.0.0.0" if family == 4 else "::")
