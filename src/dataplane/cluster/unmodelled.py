"""Which fields of the objects are set and have no effect here, and why.

Listed is what changes packets in a real cluster: where pods run, which ports and names they have, what shapes or
redirects their traffic. Not listed is what changes none there either: images, commands, volumes, resources, security
contexts without sysctls, liveness probes, update strategies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dataplane.cluster.models import core_v1
from dataplane.cluster.objects import EndpointSlice, ServiceState

NAMES = "names are not resolved, a capture holds addresses"
PLACED = "pods without a node are placed round robin, by nodeName, nodeSelector and taints alone"
READY = "probes are not run: a pod whose status does not say otherwise is ready"
HOST_PORT = "host ports (the portmap plugin) are not modelled"
BALANCER = "what a load balancer is and does follows from --cloud and status.loadBalancer"
DEVICE = "a pod has one interface and no traffic shaping"

POD_ANNOTATIONS = {
    "k8s.v1.cni.cncf.io/networks": DEVICE,
    "kubernetes.io/ingress-bandwidth": DEVICE,
    "kubernetes.io/egress-bandwidth": DEVICE,
}
# What the controllers of clouds and of MetalLB read.
BALANCER_ANNOTATIONS = (
    "service.beta.kubernetes.io/",
    "service.kubernetes.io/load-balancer-",
    "cloud.google.com/",
    "networking.gke.io/",
    "metallb.io/",
    "metallb.universe.tf/",
)

Found = Iterator[tuple[str, str]]


def pod_fields(
    spec: core_v1.PodSpec, annotations: Mapping[str, str], path: str, metadata: str, *, placed: bool, judged: bool
) -> Found:
    """(path, why) of a pod or a pod template. placed: its node is stated; judged: its readiness is."""
    if spec.dnsPolicy not in (None, "", "ClusterFirst"):
        yield f"{path}.dnsPolicy", NAMES
    for name in ("dnsConfig", "hostAliases", "setHostnameAsFQDN", "hostnameOverride"):
        if getattr(spec, name, None):
            yield f"{path}.{name}", NAMES
    if not placed:
        for name in ("affinity", "topologySpreadConstraints", "schedulingGates", "resourceClaims"):
            if getattr(spec, name, None):
                yield f"{path}.{name}", PLACED
        if spec.schedulerName not in (None, "", "default-scheduler"):
            yield f"{path}.schedulerName", PLACED
    if spec.readinessGates and not judged:
        yield f"{path}.readinessGates", READY
    for sysctl in (spec.securityContext.sysctls if spec.securityContext else None) or ():
        if sysctl.name.startswith("net"):
            yield f"{path}.securityContext.sysctls[{sysctl.name}]", "sysctls of pods are not modelled"
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(getattr(spec, kind) or ()):
            if not judged and container.readinessProbe:
                yield f"{path}.{kind}[{index}].readinessProbe", READY
            for number, port in enumerate(container.ports or ()):
                # In a pod of the host's network every port is a host port, and nothing is translated.
                if port.hostPort and not spec.hostNetwork:
                    yield f"{path}.{kind}[{index}].ports[{number}].hostPort", HOST_PORT
    for name in annotations:
        if name in POD_ANNOTATIONS:
            yield f"{metadata}.annotations[{name}]", POD_ANNOTATIONS[name]


def service_fields(service: ServiceState) -> Found:
    if service.type == "ExternalName":
        yield "spec.externalName", NAMES
    if service.load_balancer_ip:
        yield "spec.loadBalancerIP", BALANCER
    if service.load_balancer_class:
        yield "spec.loadBalancerClass", BALANCER
    for index, entry in enumerate(service.ingress):
        if entry.hostname and entry.ip is None:
            yield f"status.loadBalancer.ingress[{index}].hostname", f"{NAMES}; kube-proxy passes it over too"
    for name in service.annotations:
        if name.startswith(BALANCER_ANNOTATIONS):
            yield f"metadata.annotations[{name}]", BALANCER


def slice_fields(piece: EndpointSlice) -> Found:
    if piece.address_type == "FQDN":
        yield "addressType", "FQDN slices are for no proxy"
