"""A cluster to measure: so many Services, each with so many endpoints on ten nodes, and no pod objects."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from dataplane.cluster import ClusterState, complete, read_manifests
from dataplane.errors import ModelError

NODES = 10
PER_NODE = 60_000  # endpoints; the last addresses of a node's network are left for clients
NODE = "node-0"  # the node that is measured
PORT, TARGET_PORT = 80, 8080
CLIENTS = "10.100.254.0/23"  # pods of the measured node, which only send
# Addresses in order, so that the first and the last Service of the rules have the first and the last ClusterIP.
FIRST_CLUSTER_IP = IPv4Address("172.16.1.0")


def service_name(number: int) -> str:
    return f"service-{number:06}"


def cluster_ip(number: int) -> IPv4Address:
    return FIRST_CLUSTER_IP + number


def endpoint_ip(place: int) -> IPv4Address:
    """Endpoints take their turns over the nodes."""
    node, host = place % NODES, place // NODES + 2
    return IPv4Address(f"10.{100 + node}.0.0") + host


def manifests(services: int, endpoints: int) -> list[dict[str, Any]]:
    """endpoints: of each Service. Raises ModelError for more than the nodes' networks hold."""
    if services < 1 or endpoints < 1:
        raise ModelError(f"{services} Services with {endpoints} endpoints each: there is at least one of both")
    if services * endpoints > NODES * PER_NODE:
        raise ModelError(f"{services} Services with {endpoints} endpoints each: at most {NODES * PER_NODE} endpoints")
    made: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"node-{number}"},
            "spec": {"podCIDR": f"10.{100 + number}.0.0/16"},
        }
        for number in range(NODES)
    ]
    for number in range(services):
        made += _service(number, endpoints)
    return made


def _service(number: int, endpoints: int) -> list[dict[str, Any]]:
    name = service_name(number)
    places = range(number * endpoints, (number + 1) * endpoints)
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {
                "clusterIP": str(cluster_ip(number)),
                "ports": [{"name": "http", "port": PORT, "targetPort": TARGET_PORT}],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-abcde", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": TARGET_PORT, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": [str(endpoint_ip(place))],
                    "conditions": {"ready": True},
                    "nodeName": f"node-{place % NODES}",
                }
                for place in places
            ],
        },
    ]


def cluster(services: int, endpoints: int) -> ClusterState:
    """The completed cluster."""
    return complete(
        read_manifests(manifests(services, endpoints)), cluster_cidr="10.96.0.0/11", service_cidr="172.16.0.0/12"
    )
