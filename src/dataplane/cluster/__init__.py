"""The objects of a cluster: manifests in, a completed cluster out. Pure functions over frozen values.

from dataplane.cluster import complete, load_manifests
state = complete(load_manifests(["cluster.yaml"]), nodes=3)
"""

from typing import TYPE_CHECKING, Any

from dataplane.cluster.objects import (
    ClusterState,
    Config,
    ContainerPort,
    Endpoint,
    EndpointPort,
    Endpoints,
    EndpointSlice,
    Ignored,
    Ingress,
    LabelSelector,
    Namespace,
    NodeState,
    NotModelled,
    Objects,
    Origin,
    Owner,
    PodSpec,
    PodState,
    PodTemplate,
    Requirement,
    ServicePort,
    ServiceState,
    Subset,
    Taint,
    TargetRef,
    Toleration,
    Workload,
)

if TYPE_CHECKING:
    from dataplane.cluster.completion import complete
    from dataplane.cluster.manifests import load_manifests, read_manifests

__all__ = [
    "ClusterState",
    "Config",
    "ContainerPort",
    "Endpoint",
    "EndpointPort",
    "EndpointSlice",
    "Endpoints",
    "Ignored",
    "Ingress",
    "LabelSelector",
    "Namespace",
    "NodeState",
    "NotModelled",
    "Objects",
    "Origin",
    "Owner",
    "PodSpec",
    "PodState",
    "PodTemplate",
    "Requirement",
    "ServicePort",
    "ServiceState",
    "Subset",
    "Taint",
    "TargetRef",
    "Toleration",
    "Workload",
    "complete",
    "load_manifests",
    "read_manifests",
]

_LAZY = {
    "complete": "dataplane.cluster.completion",
    "load_manifests": "dataplane.cluster.manifests",
    "read_manifests": "dataplane.cluster.manifests",
}


def __getattr__(name: str) -> Any:
    # Manifests need the API's models and a YAML parser, 100 ms that a replay from a host's dump does not spend.
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
