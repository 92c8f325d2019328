"""Every bad input names file, document, object and field."""

import copy

import pytest
from cluster_parts import (
    cluster,
    container,
    deployment,
    endpoint,
    endpoint_slice,
    endpoints,
    node,
    pod,
    service,
    workload,
)

from dataplane.cluster import complete, load_manifests, read_manifests
from dataplane.errors import ManifestError


def changed(document, path, value):
    """The document with a value put at a path such as "spec.ports.0.port"; ... takes the field away."""
    made = copy.deepcopy(document)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place = made
    for step in steps:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return made


NODE = node("n1", "192.168.1.11", cidrs=("10.244.0.0/24",))
POD = pod("p", "10.244.0.5", ports=("http:80",), nodeName="n1")
SERVICE = service("s", {"app": "a"}, ports=({"port": 80, "name": "http"},))
SLICE = endpoint_slice("s-1", "s", endpoint("10.0.0.1"))
LEGACY = endpoints("s", {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]})
DEPLOYMENT = deployment("d", {"app": "a"}, ports=("http:80",))


READING = [
    (SERVICE, "spec.ports.0.port", "80", "Service default/s: spec.ports[0].port", "expected int, got str"),
    (SERVICE, "spec.ports.0.port", 0, "Service default/s: spec.ports[0].port", "0 is not a port"),
    (SERVICE, "spec.ports.0.port", ..., "Service default/s: spec.ports[0].port", "is missing"),
    (SERVICE, "spec.ports.0.port", 65536, "Service default/s: spec.ports[0].port", "65536 is not a port"),
    (SERVICE, "spec.ports.0.nodePort", -1, "Service default/s: spec.ports[0].nodePort", "-1 is not a port"),
    (SERVICE, "spec.ports.0.targetPort", "8080", "Service default/s: spec.ports[0].targetPort", "a name has a letter"),
    (SERVICE, "spec.ports.0.targetPort", 1.5, "Service default/s: spec.ports[0].targetPort", "expected int | str"),
    (SERVICE, "spec.ports.0.targetPort", 70000, "Service default/s: spec.ports[0].targetPort", "is not a port"),
    (SERVICE, "spec.ports.0.protocol", "tcp", "Service default/s: spec.ports[0].protocol", "TCP, UDP, SCTP"),
    (SERVICE, "spec.ports", [], "Service default/s: spec.ports", "is missing"),
    (SERVICE, "spec.ports", {}, "Service default/s: spec.ports", "expected list, got mapping"),
    (
        SERVICE,
        "spec.ports",
        [{"port": 1, "name": "a"}, {"port": 2}],
        "Service default/s: spec.ports[1].name",
        "is missing",
    ),
    (
        SERVICE,
        "spec.ports",
        [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}],
        "Service default/s: spec.ports[1].name",
        '"a" is given twice',
    ),
    (
        SERVICE,
        "spec.ports",
        [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}],
        "Service default/s: spec.ports[1].port",
        "TCP 1 is given twice",
    ),
    (SERVICE, "spec.selector.app", 1, "Service default/s: spec.selector[app]", "is the number 1, not a string"),
    (SERVICE, "spec.selector.app", True, "Service default/s: spec.selector[app]", "is the boolean true"),
    (SERVICE, "metadata.labels", {"a": None}, "Service default/s: metadata.labels[a]", "is empty, not a string"),
    (SERVICE, "spec.type", "Nodeport", "Service default/s: spec.type", "NodePort"),
    (SERVICE, "spec.type", "ExternalName", "Service default/s: spec.externalName", "is missing"),
    (SERVICE, "spec.clusterIP", "10.96.0", "Service default/s: spec.clusterIP", '"10.96.0" is not an IP address'),
    (SERVICE, "spec.clusterIPs", ["10.96.0.1", "x"], "Service default/s: spec.clusterIPs[1]", '"x" is not an IP'),
    (SERVICE, "spec.clusterIPs", ["10.96.0.1", "10.96.0.2"], "Service default/s: spec.clusterIPs", "of a family"),
    (SERVICE, "spec.ipFamilies", ["IPv5"], "Service default/s: spec.ipFamilies[0]", '"IPv5"'),
    (SERVICE, "spec.ipFamilies", ["IPv4", "IPv4"], "Service default/s: spec.ipFamilies[1]", "given twice"),
    (SERVICE, "spec.ipFamilyPolicy", "Dual", "Service default/s: spec.ipFamilyPolicy", "SingleStack"),
    (SERVICE, "spec.externalIPs", ["1.2.3.4", "1.2.3"], "Service default/s: spec.externalIPs[1]", '"1.2.3"'),
    (
        SERVICE,
        "spec.loadBalancerSourceRanges",
        ["10.0.0.0"],
        "Service default/s: spec.loadBalancerSourceRanges[0]",
        "is not a CIDR",
    ),
    (
        SERVICE,
        "spec.loadBalancerSourceRanges",
        ["10.0.0.0/33"],
        "Service default/s: spec.loadBalancerSourceRanges[0]",
        "is not a CIDR",
    ),
    (SERVICE, "spec.sessionAffinity", "Client", "Service default/s: spec.sessionAffinity", "None, ClientIP"),
    (SERVICE, "spec.internalTrafficPolicy", "local", "Service default/s: spec.internalTrafficPolicy", "Local"),
    (SERVICE, "spec.publishNotReadyAddresses", "yes", "Service default/s: spec.publishNotReadyAddresses", "bool"),
    (SERVICE, "spec", ..., "Service default/s: spec", "is missing"),
    (SERVICE, "metadata.name", ..., "Service: metadata.name", "is missing"),
    (SERVICE, "metadata.name", 5, "Service: metadata.name", "expected str, got int"),
    (SERVICE, "metadata.name", "My_Service", "Service default/My_Service: metadata.name", "is not a name"),
    (SERVICE, "metadata.namespace", "a/b", "Service a/b/s: metadata.namespace", "is not a name"),
    (SERVICE, "metadata", [], "Service: metadata", "expected mapping, got list"),
    (NODE, "spec.podCIDR", "10.244.0.0", "Node n1: spec.podCIDR", '"10.244.0.0" is not a CIDR'),
    (NODE, "spec.podCIDRs", ["10.244.9.0/24"], "Node n1: spec.podCIDR", "is not the first of podCIDRs"),
    (NODE, "spec.podCIDRs", ["10.244.0.0/24", "x/64"], "Node n1: spec.podCIDRs[1]", '"x/64" is not a CIDR'),
    (
        NODE,
        "spec.podCIDRs",
        ["10.244.0.0/24", "10.244.1.0/24"],
        "Node n1: spec.podCIDRs",
        "more than one network of a family",
    ),
    (NODE, "status.addresses.0.address", "n1", "Node n1: status.addresses[0].address", '"n1" is not an IP address'),
    (NODE, "spec.taints", [{"key": "a", "effect": "Never"}], "Node n1: spec.taints[0].effect", "NoSchedule"),
    (NODE, "spec.taints", [{"key": "a"}], "Node n1: spec.taints[0].effect", "is missing"),
    (NODE, "status.capacity", {"pods": "many"}, "Node n1: status.capacity.pods", '"many" is not a count'),
    (POD, "status.podIPs.0.ip", "10.0.0.256", "Pod default/p: status.podIPs[0].ip", "is not an IP address"),
    (POD, "status.podIPs", [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}], "Pod default/p: status.podIPs", "of a family"),
    (POD, "spec.containers", [], "Pod default/p: spec.containers", "is missing"),
    (POD, "spec.containers.0.name", ..., "Pod default/p: spec.containers[0].name", "is missing"),
    (
        POD,
        "spec.containers.0.ports.0.containerPort",
        99999,
        "Pod default/p: spec.containers[0].ports[0].containerPort",
        "99999 is not a port",
    ),
    (
        POD,
        "spec.containers.0.ports.0.protocol",
        "HTTP",
        "Pod default/p: spec.containers[0].ports[0].protocol",
        '"HTTP"',
    ),
    (POD, "spec.nodeName", 1, "Pod default/p: spec.nodeName", "expected str, got int"),
    (POD, "spec.hostNetwork", "true", "Pod default/p: spec.hostNetwork", "expected bool, got str"),
    (POD, "spec.tolerations", [{"operator": "In"}], "Pod default/p: spec.tolerations[0].operator", "Equal, Exists"),
    (DEPLOYMENT, "spec.replicas", "3", "Deployment default/d: spec.replicas", "expected int, got str"),
    (DEPLOYMENT, "spec.replicas", -1, "Deployment default/d: spec.replicas", "-1 is not a count"),
    (DEPLOYMENT, "spec.selector", {}, "Deployment default/d: spec.selector", "is empty"),
    (
        DEPLOYMENT,
        "spec.selector.matchLabels.app",
        "b",
        "Deployment default/d: spec.template.metadata.labels",
        "are not selected by spec.selector",
    ),
    (
        DEPLOYMENT,
        "spec.selector.matchExpressions",
        [{"key": "app", "operator": "In"}],
        "Deployment default/d: spec.selector.matchExpressions[0].values",
        "required by them",
    ),
    (DEPLOYMENT, "spec.template.spec", ..., "Deployment default/d: spec.template.spec", "is missing"),
    (DEPLOYMENT, "spec.template", ..., "Deployment default/d: spec.template", "is missing"),
    (SLICE, "addressType", "IPV4", "EndpointSlice default/s-1: addressType", "IPv4, IPv6, FQDN"),
    (SLICE, "endpoints.0.addresses", [], "EndpointSlice default/s-1: endpoints[0].addresses", "is missing"),
    (
        SLICE,
        "endpoints.0.addresses.0",
        "fd00::1",
        "EndpointSlice default/s-1: endpoints[0].addresses[0]",
        "is not an IPv4 address",
    ),
    (SLICE, "ports.0.port", 65536, "EndpointSlice default/s-1: ports[0].port", "is not a port"),
    (
        SLICE,
        "endpoints.0.conditions.ready",
        "yes",
        "EndpointSlice default/s-1: endpoints[0].conditions.ready",
        "expected bool, got str",
    ),
    (LEGACY, "subsets.0.addresses.0.ip", "web", "Endpoints default/s: subsets[0].addresses[0].ip", "not an IP address"),
    (LEGACY, "subsets.0.ports.0.port", 0, "Endpoints default/s: subsets[0].ports[0].port", "0 is not a port"),
]


@pytest.mark.parametrize(("document", "path", "value", "field", "message"), READING)
def test_a_bad_field(document, path, value, field, message):
    with pytest.raises(ManifestError) as raised:
        read_manifests([NODE | {"metadata": {"name": "other"}}, changed(document, path, value)], "c.yaml")
    error = raised.value
    assert (error.file, error.where, error.field) == ("c.yaml", "document 2", field)
    assert message in error.message


def affinity(seconds):
    return service(
        "s", {"a": "b"}, sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": seconds}}
    )


COMPLETING = [
    (
        [POD, pod("q", "10.244.0.5", nodeName="n1")],
        2,
        "Pod default/q: status.podIP",
        "10.244.0.5 is the address of Pod default/p too (test.yaml: document 1)",
    ),
    (
        [NODE, pod("q", "192.168.1.11", nodeName="n1")],
        2,
        "Pod default/q: status.podIP",
        "is the address of Node n1 too",
    ),
    ([NODE, node("n2", "192.168.1.11")], 2, "Node n2: status.addresses", "192.168.1.11 is the address of Node n1 too"),
    ([NODE, node("n2", cidrs=("10.244.0.128/25",))], 2, "Node n2: spec.podCIDR", "overlaps 10.244.0.0/24 of Node n1"),
    ([NODE, NODE], 2, "Node n1", "is given twice, first in test.yaml: document 1"),
    ([service("a/s"), service("b/s"), service("a/s")], 3, "Service a/s", "is given twice"),
    (
        [service("s", {"app": "a"}, ports=({"port": 80, "targetPort": "web"},)), DEPLOYMENT],
        1,
        "Service default/s: spec.ports[0].targetPort",
        'no pod that it selects has a TCP port named "web": they have http (TCP)',
    ),
    (
        [service("s", {"app": "a"}, ports=({"port": 53, "targetPort": "http", "protocol": "UDP"},)), DEPLOYMENT],
        1,
        "Service default/s: spec.ports[0].targetPort",
        'no pod that it selects has a UDP port named "http"',
    ),
    (
        [service("a", clusterIP="10.96.0.9"), service("b", clusterIP="10.96.0.9")],
        2,
        "Service default/b: spec.clusterIP",
        "10.96.0.9 is allocated to Service default/a already (test.yaml: document 1)",
    ),
    (
        [
            service("a", type="NodePort", ports=({"port": 80, "nodePort": 30080},)),
            service("b", type="NodePort", ports=({"port": 53, "nodePort": 30080, "protocol": "UDP"},)),
        ],
        2,
        "Service default/b: spec.ports[0].nodePort",
        "30080 is allocated to Service default/a already",
    ),
    (
        [
            service(
                "a", ports=({"port": 80, "nodePort": 30080, "name": "a"}, {"port": 81, "nodePort": 30080, "name": "b"})
            )
        ],
        1,
        "Service default/a: spec.ports[1].nodePort",
        "TCP 30080 is given twice",
    ),
    (
        [service("a", ipFamilyPolicy="SingleStack", ipFamilies=["IPv4", "IPv6"])],
        1,
        "Service default/a: spec.ipFamilyPolicy",
        "two families",
    ),
    (
        [affinity(0)],
        1,
        "Service default/s: spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        "0 is not in 1 to 86400",
    ),
    ([affinity(86401)], 1, "Service default/s: spec.sessionAffinityConfig.clientIP.timeoutSeconds", "86401 is not"),
]


@pytest.mark.parametrize(("documents", "number", "field", "message"), COMPLETING)
def test_objects_that_contradict_each_other(documents, number, field, message):
    with pytest.raises(ManifestError) as raised:
        cluster(*documents)
    error = raised.value
    assert (error.file, error.where, error.field) == ("test.yaml", f"document {number}", field)
    assert message in error.message


def test_an_address_that_the_cluster_does_not_have():
    dual = service("a", ipFamilyPolicy="RequireDualStack")
    with pytest.raises(
        ManifestError, match=r"document 1: Service default/a: spec.ipFamilyPolicy: RequireDualStack, and"
    ):
        cluster(dual, families=(4,))
    with pytest.raises(ManifestError, match=r"spec.ipFamilies\[0\]: the cluster has no IPv6"):
        cluster(service("a", ipFamilies=["IPv6"]), families=(4,))
    with pytest.raises(ManifestError, match=r"spec.clusterIP: 10.97.0.1 is not in the service network 10.96.0.0/16"):
        cluster(service("a", clusterIP="10.97.0.1"), service_cidr="10.96.0.0/16")


def test_node_ports_run_out():
    documents = [
        service(f"s{number}", type="NodePort", ports=[{"port": port, "name": f"p{port}"} for port in range(1, 101)])
        for number in range(28)
    ]
    with pytest.raises(ManifestError, match=r"Service default/s\d+: spec.ports\[\d+\].nodePort: no port is left"):
        cluster(*documents)


def test_the_place_in_a_list_inside_a_file(tmp_path):
    file = tmp_path / "dump.yaml"
    file.write_text(
        """
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: b}}
- {apiVersion: v1, kind: Service, metadata: {name: web, namespace: b}, spec: {ports: [{port: eighty}]}}
"""
    )
    with pytest.raises(ManifestError) as raised:
        complete(load_manifests(file))
    assert str(raised.value) == (f"{file}: document 2 item 2: Service b/web: spec.ports[0].port: expected int, got str")


def test_config_maps_that_do_not_parse():
    proxy = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-proxy", "namespace": "kube-system"}}
    with pytest.raises(ManifestError) as raised:
        read_manifests([proxy | {"data": {"config.conf": "a: [1"}}], "c.yaml")
    assert raised.value.field == "ConfigMap kube-system/kube-proxy: data[config.conf]"
    assert "line 2: YAML: while parsing a flow sequence" in raised.value.message
    with pytest.raises(ManifestError, match="is not one mapping"):
        read_manifests([proxy | {"data": {"net-conf.json": "[]"}}], "c.yaml")


def test_containers_of_a_job_are_read_too():
    job = workload("Job", "j", {"a": "b"}) | {"apiVersion": "batch/v1"}
    job["spec"]["template"]["spec"]["containers"] = [container("x:0")]
    with pytest.raises(ManifestError) as raised:
        read_manifests([job])
    assert raised.value.field == "Job default/j: spec.template.spec.containers[0].ports[0].containerPort"
