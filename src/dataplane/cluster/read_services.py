"""Services, EndpointSlices and Endpoints: the API's models -> objects, checked as the API server checks them."""

from __future__ import annotations

from typing import Any

from dataplane.cluster.fields import PROTOCOLS, Fields
from dataplane.cluster.models import core_v1, discovery_v1, meta_v1
from dataplane.cluster.objects import (
    Address,
    Endpoint,
    EndpointPort,
    Endpoints,
    EndpointSlice,
    Family,
    Ingress,
    ServicePort,
    ServiceState,
    Subset,
    TargetRef,
)

TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
POLICIES = ("Cluster", "Local")
FAMILY_POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")
DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
AFFINITY_SECONDS = 10800


def read_service(model: core_v1.Service, raw: dict[str, Any], fields: Fields) -> ServiceState:
    metadata = model.metadata or meta_v1.ObjectMeta()
    spec = model.spec
    if spec is None:
        raise fields.error("spec", "is missing")
    kind = fields.one_of(spec.type, "spec.type", TYPES, "ClusterIP")
    if kind == "ExternalName" and not spec.externalName:
        raise fields.error("spec.externalName", "is missing: the type is ExternalName")
    cluster_ips, headless = _cluster_ips(spec, kind, fields)
    families: list[Family] = []
    for index, text in enumerate(spec.ipFamilies or ()):
        families.append(
            4 if fields.one_of(text, f"spec.ipFamilies[{index}]", ("IPv4", "IPv6"), "IPv4") == "IPv4" else 6
        )
        if families.count(families[-1]) > 1:
            raise fields.error(f"spec.ipFamilies[{index}]", f"{text} is given twice")
        if index < len(cluster_ips) and cluster_ips[index].version != families[-1]:
            raise fields.error(
                f"spec.clusterIPs[{index}]", f'"{cluster_ips[index]}" is not {text}, the family in spec.ipFamilies'
            )
    external_ips = tuple(
        fields.address(text, f"spec.externalIPs[{index}]") for index, text in enumerate(spec.externalIPs or ())
    )
    exposed = kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and bool(external_ips))
    affinity = fields.one_of(spec.sessionAffinity, "spec.sessionAffinity", ("None", "ClientIP"), "None")
    return ServiceState(
        namespace=metadata.namespace or "default",
        name=metadata.name or "",
        type=kind,
        cluster_ips=cluster_ips,
        headless=headless,
        ip_families=tuple(families),
        ip_family_policy=fields.one_of(spec.ipFamilyPolicy, "spec.ipFamilyPolicy", FAMILY_POLICIES, ""),
        ports=_ports(spec, kind, headless, fields),
        selector=fields.texts(spec.selector, "spec.selector"),
        session_affinity=affinity,
        affinity_seconds=_affinity_seconds(spec, fields) if affinity == "ClientIP" else 0,
        internal_traffic_policy=fields.one_of(
            spec.internalTrafficPolicy, "spec.internalTrafficPolicy", POLICIES, "Cluster"
        ),
        external_traffic_policy=fields.one_of(
            spec.externalTrafficPolicy, "spec.externalTrafficPolicy", POLICIES, "Cluster" if exposed else ""
        ),
        external_ips=external_ips,
        ingress=_ingress(model.status, fields),
        load_balancer_ip=spec.loadBalancerIP or "",
        load_balancer_class=spec.loadBalancerClass or "",
        load_balancer_source_ranges=tuple(
            fields.network(text.strip(), f"spec.loadBalancerSourceRanges[{index}]")
            for index, text in enumerate(spec.loadBalancerSourceRanges or ())
        ),
        allocate_node_ports=spec.allocateLoadBalancerNodePorts is not False,
        health_check_node_port=fields.port(spec.healthCheckNodePort, "spec.healthCheckNodePort"),
        publish_not_ready_addresses=bool(spec.publishNotReadyAddresses),
        traffic_distribution=fields.one_of(spec.trafficDistribution, "spec.trafficDistribution", DISTRIBUTIONS, ""),
        external_name=spec.externalName or "",
        labels=fields.texts(metadata.labels, "metadata.labels"),
        annotations=fields.texts(metadata.annotations, "metadata.annotations"),
        origin=fields.origin,
        manifest=raw,
    )


def _cluster_ips(spec: core_v1.ServiceSpec, kind: str, fields: Fields) -> tuple[tuple[Address, ...], bool]:
    """The addresses that are stated, and whether the Service is headless."""
    texts = list(spec.clusterIPs or ())
    path = "spec.clusterIPs[{}]"
    if not texts and spec.clusterIP:
        texts, path = [spec.clusterIP], "spec.clusterIP"
    elif texts and spec.clusterIP and spec.clusterIP != texts[0]:
        raise fields.error("spec.clusterIP", f'"{spec.clusterIP}" is not the first of clusterIPs')
    if texts == ["None"]:
        if kind not in ("ClusterIP", "ExternalName"):
            raise fields.error("spec.clusterIP", f"None is not for a Service of type {kind}")
        return (), True
    if kind == "ExternalName" and any(texts):
        raise fields.error("spec.clusterIP", "is set although the type is ExternalName")
    addresses = tuple(fields.address(text, path.format(index)) for index, text in enumerate(texts) if text)
    if len({address.version for address in addresses}) < len(addresses):
        raise fields.error("spec.clusterIPs", "holds more than one address of a family")
    return addresses, False


def _ports(spec: core_v1.ServiceSpec, kind: str, headless: bool, fields: Fields) -> tuple[ServicePort, ...]:
    ports: list[ServicePort] = []
    names: set[str] = set()
    numbers: set[tuple[str, int]] = set()
    for index, entry in enumerate(spec.ports or ()):
        path = f"spec.ports[{index}]"
        port = fields.port(entry.port, f"{path}.port", optional=False)
        protocol = fields.one_of(entry.protocol, f"{path}.protocol", PROTOCOLS, "TCP")
        name = entry.name or ""
        if not name and len(spec.ports or ()) > 1:
            raise fields.error(f"{path}.name", "is missing: with more than one port each has a name")
        if name in names:
            raise fields.error(f"{path}.name", f'"{name}" is given twice')
        if (protocol, port) in numbers:
            raise fields.error(f"{path}.port", f"{protocol} {port} is given twice")
        names.add(name)
        numbers.add((protocol, port))
        target: int | str = port
        if isinstance(entry.targetPort, str) and entry.targetPort:
            target = entry.targetPort
            if target.isdigit():
                raise fields.error(f"{path}.targetPort", f'"{target}" in quotes is a name, and a name has a letter')
        elif entry.targetPort:
            target = fields.port(int(entry.targetPort), f"{path}.targetPort", optional=False)
        node_port = fields.port(entry.nodePort, f"{path}.nodePort")
        ports.append(ServicePort(name, protocol, port, target, node_port, entry.appProtocol or ""))
    if not ports and not headless and kind != "ExternalName":
        raise fields.error("spec.ports", "is missing: a Service with a ClusterIP has at least one port")
    return tuple(ports)


def _affinity_seconds(spec: core_v1.ServiceSpec, fields: Fields) -> int:
    config = spec.sessionAffinityConfig.clientIP if spec.sessionAffinityConfig else None
    seconds = config.timeoutSeconds if config else None
    if seconds is None:
        return AFFINITY_SECONDS
    if not 1 <= seconds <= 86400:
        raise fields.error("spec.sessionAffinityConfig.clientIP.timeoutSeconds", f"{seconds} is not in 1 to 86400")
    return seconds


def _ingress(status: core_v1.ServiceStatus | None, fields: Fields) -> tuple[Ingress, ...]:
    balancer = status.loadBalancer if status else None
    entries = []
    for index, entry in enumerate((balancer.ingress if balancer else None) or ()):
        path = f"status.loadBalancer.ingress[{index}]"
        ip = fields.address(entry.ip, f"{path}.ip") if entry.ip else None
        mode = fields.one_of(entry.ipMode, f"{path}.ipMode", ("VIP", "Proxy"), "VIP")
        entries.append(Ingress(ip, entry.hostname or "", mode))
    return tuple(entries)


def read_endpoint_slice(model: discovery_v1.EndpointSlice, raw: dict[str, Any], fields: Fields) -> EndpointSlice:
    metadata = model.metadata or meta_v1.ObjectMeta()
    kind = fields.one_of(model.addressType, "addressType", ("IPv4", "IPv6", "FQDN"), "")
    family = {"IPv4": 4, "IPv6": 6}.get(kind)
    endpoints = []
    for index, entry in enumerate(model.endpoints or ()):
        if not entry.addresses:
            raise fields.error(f"endpoints[{index}].addresses", "is missing")
        address = entry.addresses[0]
        if family is not None:
            fields.address(address, f"endpoints[{index}].addresses[0]", family)
        conditions = entry.conditions
        hints = entry.hints
        reference = entry.targetRef
        # Defaults as the API defines them: an unset ready or serving means yes.
        endpoints.append(
            Endpoint(
                address=address,
                ready=conditions is None or conditions.ready is not False,
                serving=conditions is None or conditions.serving is not False,
                terminating=conditions is not None and conditions.terminating is True,
                node=entry.nodeName or "",
                zone=entry.zone or "",
                hostname=entry.hostname or "",
                target=_target(reference) if reference else None,
                zone_hints=tuple(zone.name for zone in hints.forZones or ()) if hints else (),
                node_hints=tuple(node.name for node in hints.forNodes or ()) if hints else (),
            )
        )
    ports = tuple(
        EndpointPort(
            port.name,
            fields.one_of(port.protocol, f"ports[{index}].protocol", PROTOCOLS, "TCP"),
            fields.port(port.port, f"ports[{index}].port"),
            port.appProtocol or "",
        )
        for index, port in enumerate(model.ports or ())
    )
    return EndpointSlice(
        namespace=metadata.namespace or "default",
        name=metadata.name or "",
        address_type=kind,
        ports=ports,
        endpoints=tuple(endpoints),
        labels=fields.texts(metadata.labels, "metadata.labels"),
        annotations=fields.texts(metadata.annotations, "metadata.annotations"),
        origin=fields.origin,
    )


def _target(reference: core_v1.ObjectReference) -> TargetRef:
    return TargetRef(reference.kind or "", reference.namespace or "", reference.name or "")


def read_endpoints(model: core_v1.Endpoints, raw: dict[str, Any], fields: Fields) -> Endpoints:
    metadata = model.metadata or meta_v1.ObjectMeta()
    subsets = []
    for number, subset in enumerate(model.subsets or ()):
        path = f"subsets[{number}]"
        endpoints = []
        for ready, name in ((True, "addresses"), (False, "notReadyAddresses")):
            for index, entry in enumerate(getattr(subset, name) or ()):
                fields.address(entry.ip, f"{path}.{name}[{index}].ip")
                endpoints.append(
                    Endpoint(
                        address=entry.ip,
                        ready=ready,
                        node=entry.nodeName or "",
                        hostname=entry.hostname or "",
                        target=_target(entry.targetRef) if entry.targetRef else None,
                    )
                )
        ports = tuple(
            EndpointPort(
                port.name or "",
                fields.one_of(port.protocol, f"{path}.ports[{index}].protocol", PROTOCOLS, "TCP"),
                fields.port(port.port, f"{path}.ports[{index}].port", optional=False),
                port.appProtocol or "",
            )
            for index, port in enumerate(subset.ports or ())
        )
        subsets.append(Subset(tuple(endpoints), ports))
    return Endpoints(
        namespace=metadata.namespace or "default",
        name=metadata.name or "",
        subsets=tuple(subsets),
        labels=fields.texts(metadata.labels, "metadata.labels"),
        annotations=fields.texts(metadata.annotations, "metadata.annotations"),
        origin=fields.origin,
    )
