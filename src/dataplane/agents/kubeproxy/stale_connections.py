"""Connections that a change has made stale: what kube-proxy asks the kernel to forget after a sync.

Only UDP: a TCP client notices, and an established connection to a removed endpoint goes on. Until 1.31 kube-proxy runs
`conntrack -D` for what it saw change; from 1.32 on it lists all entries and deletes those that lead nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address

from dataplane.cluster.endpoints import ProxyEndpoint
from dataplane.cluster.objects import Address, Family
from dataplane.host.conntrack_delete import ConntrackDelete, ConntrackReconcile

from .service_ports import PortKey, Proxied

UDP = 17
RECONCILES = (1, 32)


def stale_connections(
    before: Mapping[PortKey, Proxied], after: Mapping[PortKey, Proxied], family: Family
) -> Iterator[ConntrackDelete]:
    """What kube-proxy 1.30 deletes. before, after: the service ports that a sync has changed."""
    for key, old in before.items():
        if old.info.protocol != "UDP":
            continue
        port = after.get(key)
        if port is None:
            yield ConntrackDelete(family, UDP, old.info.cluster_ip)
            continue
        listed = {endpoint.text for endpoint in port.endpoints}
        gone = [endpoint for endpoint in _serving(old) if endpoint.text not in listed]
        for endpoint in gone:
            address = ip_address(endpoint.address)
            for destination in _addresses(port):
                yield ConntrackDelete(family, UDP, destination, address)
            if port.info.node_port:
                yield ConntrackDelete(family, UDP, None, address, port.info.node_port)
    for key, port in after.items():
        if port.info.protocol != "UDP" or not _serving(port):
            continue
        if key in before and _serving(before[key]):
            continue
        for destination in _addresses(port):
            yield ConntrackDelete(family, UDP, destination)
        if port.info.node_port:
            yield ConntrackDelete(family, UDP, port=port.info.node_port)


def reconcile(ports: Iterable[Proxied], family: Family) -> ConntrackReconcile:
    """What kube-proxy 1.32 and later deletes: connections to UDP Services with an endpoint that lead to none of them.
    A Service without any keeps its connections."""
    services = {}
    node_ports = {}
    for port in ports:
        serving = _serving(port)
        if port.info.protocol != "UDP" or not serving:
            continue
        ends = frozenset((ip_address(endpoint.address), endpoint.port) for endpoint in serving)
        for address in _addresses(port):
            services[address, port.info.port] = ends
        if port.info.node_port:
            node_ports[port.info.node_port] = ends
    return ConntrackReconcile(family, UDP, services, node_ports)


def _serving(port: Proxied) -> list[ProxyEndpoint]:
    return [endpoint for endpoint in port.endpoints if endpoint.endpoint.serving]


def _addresses(port: Proxied) -> list[Address]:
    return [port.info.cluster_ip, *port.info.external_ips, *port.info.load_balancer_ips]
