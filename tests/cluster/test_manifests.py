"""What is read, what is listed as ignored, and which fields are listed as not modelled."""

import json
import subprocess
import sys

from cluster_parts import deployment, endpoint, endpoint_slice, node, owner, pod, service, workload

from dataplane.cluster import Requirement, load_manifests, read_manifests
from dataplane.cluster.fields import parse_address, parse_network
from dataplane.cluster.objects import LabelSelector


def manifest(kind, version, name="x", **more):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **more.pop("metadata", {})}, **more}


def listed(objects):
    return {(entry.object, entry.field) for entry in objects.not_modelled}


def test_ignored_documents_say_why():
    objects = read_manifests(
        [
            manifest("ServiceAccount", "v1", metadata={"namespace": "shop"}),
            manifest("NetworkPolicy", "networking.k8s.io/v1"),
            manifest("CronJob", "batch/v1"),
            manifest("Deployment", "extensions/v1beta1"),
            manifest("Service", "serving.knative.dev/v1"),
            manifest("ConfigMap", "v1", data={"a": "b"}),
            manifest("ClusterRole", "rbac.authorization.k8s.io/v1"),
            manifest("Widget", "example.com/v1"),
        ],
        "c.yaml",
    )
    assert [(entry.document, entry.kind, entry.name, entry.why) for entry in objects.ignored] == [
        (1, "ServiceAccount", "shop/x", "this kind plays no part"),
        (2, "NetworkPolicy", "x", "network policies are not modelled"),
        (3, "CronJob", "x", "its Jobs start by the clock"),
        (4, "Deployment", "default/x", "apiVersion extensions/v1beta1 is no longer served, apps/v1 is read"),
        (5, "Service", "default/x", "apiVersion serving.knative.dev/v1 is not read, v1 is"),
        (6, "ConfigMap", "x", "this kind plays no part"),
        (7, "ClusterRole", "x", "this kind plays no part"),
        (8, "Widget", "x", "this kind plays no part"),
    ]
    assert {entry.file for entry in objects.ignored} == {"c.yaml"}


def test_configurations_of_the_agents():
    proxy = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "iptables"}
    kubeadm = manifest(
        "ConfigMap",
        "v1",
        "kube-proxy",
        metadata={"namespace": "kube-system"},
        data={
            "config.conf": f"apiVersion: {proxy['apiVersion']}\nkind: {proxy['kind']}\nclusterCIDR: 10.0.0.0/16\n",
            "kubeconfig.conf": "apiVersion: v1\nkind: Config\n",
        },
    )
    flannel = manifest(
        "ConfigMap",
        "v1",
        "kube-flannel-cfg",
        data={"net-conf.json": json.dumps({"Network": "10.1.0.0/16"}), "cni-conf.json": "{}"},
    )
    cidr = manifest("ServiceCIDR", "networking.k8s.io/v1", "kubernetes", spec={"cidrs": ["10.96.0.0/16"]})
    objects = read_manifests([proxy, kubeadm, flannel, cidr])
    assert [(config.kind, config.origin.document) for config in objects.configs] == [
        ("KubeProxyConfiguration", 1),
        ("KubeProxyConfiguration", 2),
        ("net-conf.json", 3),
        ("ServiceCIDR", 4),
    ]
    assert objects.configs[1].data["clusterCIDR"] == "10.0.0.0/16"
    assert objects.configs[2].data == {"Network": "10.1.0.0/16"}
    assert not objects.ignored


def test_fields_that_are_not_modelled_are_listed_with_their_path():
    probe = {"readinessProbe": {"tcpSocket": {"port": 80}}}
    template = {
        "containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 80, "hostPort": 8080}], **probe}],
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["1.1.1.1"]},
        "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["x"]}],
        "affinity": {"podAntiAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "securityContext": {
            "sysctls": [{"name": "net.core.somaxconn", "value": "1"}, {"name": "kernel.sem", "value": "1"}]
        },
    }
    objects = read_manifests(
        [
            deployment("d", {"a": "b"}, spec=template),
            service(
                "s",
                type="LoadBalancer",
                loadBalancerIP="1.2.3.4",
                loadBalancerClass="x/y",
                annotations={"service.beta.kubernetes.io/aws-load-balancer-type": "nlb", "note": "x"},
                status={"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}},
            ),
            service("e", type="ExternalName", externalName="example.com"),
            pod("p", annotations={"k8s.v1.cni.cncf.io/networks": "x"}),
            endpoint_slice("f", "s", endpoint("example.com"), kind="FQDN"),
            endpoint_slice("g", "s", endpoint("10.0.0.1") | {"addresses": ["10.0.0.1", "10.0.0.2"]}),
        ]
    )
    spec = "spec.template.spec"
    assert listed(objects) == {
        ("Deployment default/d", f"{spec}.containers[0].readinessProbe"),
        ("Deployment default/d", f"{spec}.containers[0].ports[0].hostPort"),
        ("Deployment default/d", f"{spec}.dnsPolicy"),
        ("Deployment default/d", f"{spec}.dnsConfig"),
        ("Deployment default/d", f"{spec}.hostAliases"),
        ("Deployment default/d", f"{spec}.affinity"),
        ("Deployment default/d", f"{spec}.topologySpreadConstraints"),
        ("Deployment default/d", f"{spec}.securityContext.sysctls[net.core.somaxconn]"),
        ("Service default/s", "spec.loadBalancerIP"),
        ("Service default/s", "spec.loadBalancerClass"),
        ("Service default/s", "metadata.annotations[service.beta.kubernetes.io/aws-load-balancer-type]"),
        ("Service default/s", "status.loadBalancer.ingress[0].hostname"),
        ("Service default/e", "spec.externalName"),
        ("Pod default/p", "metadata.annotations[k8s.v1.cni.cncf.io/networks]"),
        ("EndpointSlice default/f", "addressType"),
        ("EndpointSlice default/g", "endpoints[0].addresses[1]"),
    }
    assert all(entry.why for entry in objects.not_modelled)


def test_a_pod_does_not_repeat_what_its_given_workload_says():
    aliases = {"hostAliases": [{"ip": "1.2.3.4"}]}
    documents = [
        deployment("d", {"a": "b"}, spec=aliases),
        workload("ReplicaSet", "d-1", {"a": "b"}, spec=aliases, ownerReferences=owner("Deployment", "d")),
        pod("d-1-x", labels={"a": "b"}, ownerReferences=owner("ReplicaSet", "d-1"), **aliases),
    ]
    assert listed(read_manifests(documents)) == {("Deployment default/d", "spec.template.spec.hostAliases")}
    assert listed(read_manifests(documents[2:])) == {("Pod default/d-1-x", "spec.hostAliases")}


def test_a_stated_readiness_and_node_need_no_probe_and_no_scheduler():
    stated = pod(
        "p",
        "10.0.0.1",
        nodeName="n",
        affinity={"nodeAffinity": {}},
        readinessGates=[{"conditionType": "x"}],
        hostNetwork=True,
        status={"conditions": [{"type": "Ready", "status": "True"}]},
    )
    stated["spec"]["containers"][0]["readinessProbe"] = {}
    stated["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80}]
    assert not read_manifests([stated]).not_modelled


def test_unknown_fields_are_listed():
    misspelt = service("s", {"a": "b"}, ports=({"port": 80, "targetport": 8080},), sessionaffinity="ClientIP")
    misspelt["metadata"]["lables"] = {}
    assert [(entry.field, entry.why) for entry in read_manifests([misspelt]).not_modelled] == [
        ("metadata.lables", "unknown field"),
        ("spec.ports[0].targetport", "unknown field"),
        ("spec.sessionaffinity", "unknown field"),
    ]


def test_numbers_as_quantities_are_taken():
    limited = pod("p", volumes=[{"name": "v", "emptyDir": {"sizeLimit": 500}}])
    limited["spec"]["containers"][0]["env"] = [
        {"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": 1}}}
    ]
    assert read_manifests([limited]).pods[0].name == "p"


def test_pods_as_stated():
    objects = read_manifests(
        [
            pod("bare"),
            pod("up", "10.244.0.5", "fd00::5", nodeName="n", status={"hostIP": "192.168.1.1", "phase": "Running"}),
            pod("unready", status={"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}),
            pod("silent", status={"phase": "Running", "conditions": []}),
            pod("pending", status={"phase": "Pending"}),
            pod("leaving", deletionTimestamp="2024-01-01T00:00:00Z"),
            pod("done", status={"phase": "Succeeded"}),
        ]
    )
    by_name = {entry.name: entry for entry in objects.pods}
    assert {name: entry.ready for name, entry in by_name.items()} == {
        "bare": True,
        "up": True,
        "unready": False,
        "silent": False,
        "pending": False,
        "leaving": True,
        "done": False,
    }
    assert [str(ip) for ip in by_name["up"].ips] == ["10.244.0.5", "fd00::5"]
    assert [str(ip) for ip in by_name["up"].host_ips] == ["192.168.1.1"]
    assert by_name["leaving"].terminating
    assert by_name["done"].finished


def test_ports_of_sidecars_count_and_those_of_other_init_containers_do_not():
    made = pod("p", ports=("web:80",))
    made["spec"]["initContainers"] = [
        {"name": "sidecar", "restartPolicy": "Always", "ports": [{"name": "metrics", "containerPort": 9090}]},
        {"name": "first", "ports": [{"name": "gone", "containerPort": 9}]},
    ]
    spec = read_manifests([made]).pods[0].spec
    assert [port.name for port in spec.ports] == ["web", "metrics"]
    assert spec.port_number("metrics", "TCP") == 9090
    assert spec.port_number("metrics", "UDP") == 0


def test_service_defaults():
    [plain, local, sticky, named] = read_manifests(
        [
            service("plain"),
            service("local", type="NodePort", externalTrafficPolicy="Local"),
            service("sticky", sessionAffinity="ClientIP", externalIPs=["1.2.3.4"]),
            service("named", ports=({"port": 80, "targetPort": "web"},), clusterIP="None"),
        ]
    ).services
    assert (plain.type, plain.internal_traffic_policy, plain.external_traffic_policy) == ("ClusterIP", "Cluster", "")
    assert (plain.ports[0].target, plain.ports[0].protocol, plain.allocate_node_ports) == (80, "TCP", True)
    assert local.external_traffic_policy == "Local"
    assert (sticky.affinity_seconds, sticky.external_traffic_policy) == (10800, "Cluster")
    assert (named.headless, named.ports[0].target) == (True, "web")


def test_conditions_of_endpoints_default_to_ready_and_serving():
    piece = read_manifests(
        [
            endpoint_slice(
                "s-1",
                "s",
                endpoint("10.0.0.1"),
                endpoint("10.0.0.2", ready=False),
                endpoint("10.0.0.3", ready=False, serving=True, terminating=True),
                ports=((None, 80), ("any", None), ("ok", 53, "UDP")),
            )
        ]
    ).endpoint_slices[0]
    assert [(e.ready, e.serving, e.terminating) for e in piece.endpoints] == [
        (True, True, False),
        (False, True, False),
        (False, True, True),
    ]
    assert [(port.name, port.port, port.protocol) for port in piece.ports] == [
        (None, 80, "TCP"),
        ("any", 0, "TCP"),
        ("ok", 53, "UDP"),
    ]
    empty = endpoint_slice("s-2", "s") | {"endpoints": None, "ports": None}
    assert read_manifests([empty]).endpoint_slices[0].endpoints == ()


def test_addresses_are_read_as_kubernetes_reads_them():
    assert str(parse_address("172.30.0.041")) == "172.30.0.41"
    assert str(parse_address("::ffff:10.0.0.1")) == "10.0.0.1"
    assert str(parse_address("FD00:0::1")) == "fd00::1"
    assert str(parse_network("203.0.113.000/025")) == "203.0.113.0/25"
    assert str(parse_network("10.244.1.7/24")) == "10.244.1.0/24"


def test_label_selectors():
    selector = LabelSelector(
        {"app": "a"},
        (
            Requirement("tier", "In", ("x", "y")),
            Requirement("old", "NotIn", ("1",)),
            Requirement("app", "Exists"),
            Requirement("off", "DoesNotExist"),
        ),
    )
    assert selector.matches({"app": "a", "tier": "x"})
    assert selector.matches({"app": "a", "tier": "y", "old": "2"})
    assert not selector.matches({"app": "b", "tier": "x"})
    assert not selector.matches({"app": "a"})
    assert not selector.matches({"app": "a", "tier": "x", "old": "1"})
    assert not selector.matches({"app": "a", "tier": "x", "off": ""})
    assert LabelSelector().matches({})


def test_one_path_is_enough(tmp_path):
    file = tmp_path / "n.json"
    file.write_text(json.dumps(node("n1", "192.168.1.11", "fd00::1", cidrs=("10.244.0.0/24", "fd00:1::/64"))))
    [made] = load_manifests(file).nodes
    assert str(made.address(6)) == "fd00::1"
    assert str(made.pod_cidr(6)) == "fd00:1::/64"
    assert made.origin.file == str(file)


def python(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_the_objects_alone_need_neither_the_models_nor_a_yaml_parser():
    program = "import sys, dataplane.cluster; print(*({'yaml', 'lightkube', 'msgspec', 'numpy'} & set(sys.modules)))"
    assert python(program) == []


def test_the_models_come_without_an_http_client_and_lightkube_stays_whole():
    program = """
import sys
from dataplane.cluster import load_manifests
print("lightkube.models" in sys.modules, "lightkube.core.client" in sys.modules)
import lightkube
from lightkube import Client
print(Client.__module__, lightkube.models.core_v1.Pod.__name__, "lightkube.core.client" in sys.modules)
"""
    assert python(program) == ["True", "False", "lightkube.core.client", "Pod", "True"]
