"""Objects as stated -> a whole cluster.

What a dump states is believed; what it leaves out is filled as the cluster would fill it. Nothing depends on the order
of the documents: nodes count by name, and pods and Services take their turns by namespace and name. Completing the
objects of a completed cluster gives the same cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dataplane.cluster.networks import choose_networks
from dataplane.cluster.nodes import NODES, complete_nodes, name_nodes
from dataplane.cluster.objects import ClusterState, Family, Namespace, Objects
from dataplane.cluster.pods import complete_pods
from dataplane.cluster.services import complete_services
from dataplane.cluster.slices import complete_slices
from dataplane.errors import ModelError


def complete(
    objects: Objects,
    nodes: int | None = None,
    *,
    cluster_cidr: str | None = None,
    service_cidr: str | None = None,
    node_subnet: str | None = None,
    families: Sequence[int] | None = None,
    node_mask: int = 24,
    node_mask6: int = 64,
    seed: int = 0,
) -> ClusterState:
    """Fill in what the objects leave out.

    nodes: how many to make where no Node is given and no pod or endpoint names one, by default three.
    cluster_cidr, service_cidr, node_subnet: a network, or one of each family with a comma; by default what the
    configurations (kubeadm's, kube-proxy's, flannel's, ServiceCIDR objects) or the addresses of the objects show, else
    10.244.0.0/16, 10.96.0.0/12, 192.168.1.0/24 and fd00:10:244::/56, fd00:10:96::/112, fd00:192:168:1::/64, or what
    is wide enough around them for the nodes.
    families: (4,), (6,), (4, 6) or (6, 4), the primary one first; by default what the objects ask for, else IPv4.
    node_mask, node_mask6: prefix length of a node's pod CIDR. seed: draws ClusterIPs and node ports.

    Raises ManifestError where the objects contradict each other, ModelError where the arguments do not fit them.
    """
    count = NODES if nodes is None else nodes
    if count < 1:
        raise ModelError(f"a cluster of {nodes} nodes: it has at least one")
    masks: dict[Family, int] = {4: node_mask, 6: node_mask6}
    named, warnings = name_nodes(objects, count)
    networks = choose_networks(objects, len(named), masks, cluster_cidr, service_cidr, node_subnet, families)
    completed = complete_nodes(named, objects, networks, masks)
    pods = complete_pods(objects, completed, networks)
    services, refused = complete_services(objects.services, networks, seed)
    slices, of_service, not_modelled = complete_slices(
        services, pods.pods, completed, objects.endpoint_slices, objects.endpoints
    )
    used = networks.families
    return ClusterState(
        nodes=pods.nodes,
        pods=pods.pods,
        services=services,
        slices=slices,
        endpoints=of_service,
        workloads=tuple(sorted(objects.workloads, key=lambda w: (w.namespace, w.name, w.kind))),
        legacy_endpoints=tuple(sorted(objects.endpoints, key=lambda e: (e.namespace, e.name))),
        namespaces=_namespaces(objects),
        families=used,
        cluster_cidrs=tuple(networks.cluster[family] for family in used),
        service_cidrs=tuple(networks.service[family] for family in used),
        node_subnets=tuple(networks.node[family] for family in used),
        configs=objects.configs,
        ignored=objects.ignored,
        not_modelled=tuple(dict.fromkeys((*objects.not_modelled, *not_modelled))),
        warnings=tuple(dict.fromkeys((*objects.warnings, *networks.warnings, *warnings, *pods.warnings, *refused))),
    )


def _namespaces(objects: Objects) -> tuple[Namespace, ...]:
    """Those given, those that objects are in, and the four that every cluster has."""
    given = {namespace.name: namespace for namespace in objects.namespaces}
    lists: tuple[Iterable[object], ...] = (
        objects.pods,
        objects.workloads,
        objects.services,
        objects.endpoints,
        objects.endpoint_slices,
    )
    names = {"default", "kube-node-lease", "kube-public", "kube-system"}
    names.update(str(getattr(item, "namespace", "")) for items in lists for item in items)
    for name in sorted(names - given.keys()):
        given[name] = Namespace(name, {"kubernetes.io/metadata.name": name}, created=True)
    return tuple(given[name] for name in sorted(given))
