"""What is stated is believed, what is missing is filled as the cluster would fill it."""

from ipaddress import ip_address, ip_network

import pytest
from cluster_parts import (
    addresses,
    cluster,
    deployment,
    endpoint,
    endpoint_slice,
    endpoints,
    node,
    owner,
    pod,
    service,
    workload,
)

from dataplane.cluster import complete, read_manifests
from dataplane.errors import ModelError

TAINTED = {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}
TOLERATION = {"tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]}


def nodes_of(state):
    return {
        node.name: ([str(address) for address in node.addresses], [str(network) for network in node.pod_cidrs])
        for node in state.nodes
    }


def placed(state):
    return {pod.name: pod.node for pod in state.pods}


def names(items):
    return [item.name for item in items]


# Nodes and networks


def test_three_nodes_where_none_is_given():
    assert nodes_of(cluster()) == {
        "node-1": (["192.168.1.11"], ["10.244.0.0/24"]),
        "node-2": (["192.168.1.12"], ["10.244.1.0/24"]),
        "node-3": (["192.168.1.13"], ["10.244.2.0/24"]),
    }
    assert names(cluster(nodes=2).nodes) == ["node-1", "node-2"]
    assert names(cluster(node("a"), nodes=3).nodes) == ["a"]


def test_both_families():
    state = cluster(families=(6, 4), nodes=1)
    assert nodes_of(state) == {"node-1": (["fd00:192:168:1::b", "192.168.1.11"], ["fd00:10:244::/64", "10.244.0.0/24"])}
    assert [str(network) for network in (*state.cluster_cidrs, *state.service_cidrs, *state.node_subnets)] == [
        "fd00:10:244::/56",
        "10.244.0.0/16",
        "fd00:10:96::/112",
        "10.96.0.0/12",
        "fd00:192:168:1::/64",
        "192.168.1.0/24",
    ]


def test_nodes_keep_what_they_state_and_get_the_rest():
    state = cluster(
        node("node-10", "192.168.1.12"),
        node("node-2", cidrs=("10.244.0.0/24",)),
        node("node-1", "192.168.1.200", cidrs=("10.244.7.0/24",)),
    )
    assert nodes_of(state) == {
        "node-1": (["192.168.1.200"], ["10.244.7.0/24"]),
        "node-2": (["192.168.1.11"], ["10.244.0.0/24"]),
        "node-10": (["192.168.1.12"], ["10.244.1.0/24"]),
    }
    assert [node.index for node in state.nodes] == [0, 1, 2]


def test_nodes_that_only_pods_and_endpoints_name():
    state = cluster(
        pod("p", "10.244.5.9", nodeName="worker-b", status={"hostIP": "10.0.0.7"}),
        pod("q", nodeName="worker-a"),
        service("s"),
        endpoint_slice("s-1", "s", endpoint("10.244.8.4", "worker-c")),
    )
    # The addresses show the node's network and the pods' networks.
    assert nodes_of(state) == {
        "worker-a": (["10.0.0.11"], ["10.244.0.0/24"]),
        "worker-b": (["10.0.0.7"], ["10.244.5.0/24"]),
        "worker-c": (["10.0.0.12"], ["10.244.8.0/24"]),
    }
    assert any("no Node is given" in warning for warning in state.warnings)


def test_a_node_that_is_missing_among_given_ones_is_added_with_a_warning():
    state = cluster(node("a"), pod("p", nodeName="b"))
    assert names(state.nodes) == ["a", "b"]
    assert "Node b is not given, Pod default/p names it: added" in state.warnings


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ([node("a", cidrs=("10.180.0.0/24",)), node("b", cidrs=("10.180.1.0/24",))], "10.180.0.0/16"),
        ([node("a", cidrs=("10.1.0.0/24",)), node("b", cidrs=("10.2.1.0/24",))], "10.0.0.0/14"),
        ([node("a", cidrs=("10.244.9.0/24",))], "10.244.0.0/16"),
        (
            [
                {
                    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                    "kind": "KubeProxyConfiguration",
                    "clusterCIDR": "10.9.0.0/16",
                }
            ],
            "10.9.0.0/16",
        ),
        (
            [
                {
                    "apiVersion": "kubeadm.k8s.io/v1beta3",
                    "kind": "ClusterConfiguration",
                    "networking": {"podSubnet": "10.8.0.0/16"},
                }
            ],
            "10.8.0.0/16",
        ),
        (
            [
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": "f"},
                    "data": {"net-conf.json": '{"Network": "10.7.0.0/16"}'},
                }
            ],
            "10.7.0.0/16",
        ),
    ],
)
def test_the_cluster_network(documents, expected):
    assert str(cluster(*documents).cluster_cidr(4)) == expected
    assert str(cluster(*documents, cluster_cidr="10.0.0.0/9").cluster_cidr(4)) == "10.0.0.0/9"


def test_the_service_network():
    assert str(cluster(service("s", clusterIP="172.30.5.4")).service_cidr(4)) == "172.30.0.0/16"
    cidr = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "k"},
        "spec": {"cidrs": ["10.5.0.0/16", "fd00:5::/112"]},
    }
    state = cluster(cidr, service("s", ipFamilyPolicy="RequireDualStack"))
    assert [str(network) for network in state.service_cidrs] == ["10.5.0.0/16", "fd00:5::/112"]
    assert all(ip in network for ip, network in zip(state.services[0].cluster_ips, state.service_cidrs, strict=True))


def test_families_follow_from_the_objects():
    assert cluster().families == (4,)
    assert cluster(service("s", ipFamilyPolicy="PreferDualStack")).families == (4,)
    assert cluster(service("s", ipFamilyPolicy="RequireDualStack")).families == (4, 6)
    assert cluster(service("s", ipFamilies=["IPv6"])).families == (6,)
    assert cluster(service("s", ipFamilies=["IPv6"]), service("t", clusterIP="10.96.0.5")).families == (4, 6)
    assert cluster(node("n", cidrs=("fd00:1::/64", "10.1.0.0/24"))).families == (6, 4)
    # An address of a node alone does not make the cluster dual-stack.
    assert cluster(node("n", "192.168.1.11", "fd00::1", cidrs=("10.1.0.0/24",))).families == (4,)
    assert cluster(cluster_cidr="fd00::/56").families == (6,)


@pytest.mark.parametrize(
    "options",
    [
        {"nodes": 0},
        {"nodes": 300, "cluster_cidr": "10.244.0.0/16"},
        {"nodes": 300, "node_subnet": "192.168.1.0/24"},
        {"cluster_cidr": "10.0.0.0"},
        {"cluster_cidr": "10.0.0.0/8,11.0.0.0/8"},
        {"families": (5,)},
        {"families": ()},
        {"cluster_cidr": "10.0.0.0/25"},
        {"node_subnet": "10.0.0.0/28", "nodes": 9},
    ],
)
def test_arguments_that_do_not_fit(options):
    with pytest.raises(ModelError):
        cluster(**options)


def test_networks_that_nobody_states_are_wide_enough():
    state = cluster(nodes=1000, families=(4, 6))
    assert [str(network) for network in state.cluster_cidrs] == ["10.240.0.0/13", "fd00:10:244::/53"]
    assert [str(network) for network in state.node_subnets] == ["192.168.0.0/21", "fd00:192:168:1::/64"]
    assert len({node.pod_cidr(4) for node in state.nodes}) == 1000
    assert (
        "the cluster network 10.244.0.0/16 is too small for the nodes, it is taken to be 10.240.0.0/13"
        in state.warnings
    )


def test_no_pod_network_on_the_nodes_own():
    state = cluster(node("a", "10.244.0.5"), node("b", "10.244.0.6"), node_subnet="10.244.0.0/24")
    assert [str(node.pod_cidr(4)) for node in state.nodes] == ["10.244.1.0/24", "10.244.2.0/24"]


# Pods


def test_pods_of_a_deployment():
    state = cluster(deployment("web", {"app": "web"}, replicas=3))
    first = state.pods[0]
    assert len({pod.name for pod in state.pods}) == 3
    for made in state.pods:
        base, code, suffix = made.name.split("-")
        assert (base, len(code), len(suffix)) == ("web", 10, 5)
        assert set(code + suffix) <= set("bcdfghjklmnpqrstvwxz2456789")
        assert made.labels == {"app": "web", "pod-template-hash": code}
        assert (made.owner.kind, made.owner.name) == ("ReplicaSet", f"web-{code}")
    assert {pod.node for pod in state.pods} == {"node-1", "node-2", "node-3"}
    assert first.ready
    assert state.pods_of("Deployment", "default", "web") == list(state.pods)
    # The same template gives the same names, another one another hash.
    assert names(cluster(deployment("web", {"app": "web"}, replicas=3)).pods) == names(state.pods)
    other = cluster(deployment("web", {"app": "web"}, ports=("http:80",)))
    assert other.pods[0].name.split("-")[1] != first.name.split("-")[1]


def test_pods_of_the_other_workloads():
    job = workload("Job", "j", {"app": "j"}, parallelism=5, completions=2, completionMode="Indexed")
    state = cluster(
        node("a", labels={"disk": "ssd"}),
        node("b"),
        workload("StatefulSet", "db", {"app": "db"}, replicas=2, serviceName="db-svc", ordinals={"start": 3}),
        workload("DaemonSet", "log", {"app": "log"}),
        workload("DaemonSet", "fast", {"app": "fast"}, spec={"nodeSelector": {"disk": "ssd"}}),
        workload("ReplicaSet", "rs", {"app": "rs"}),
        job | {"apiVersion": "batch/v1"},
        {
            "apiVersion": "v1",
            "kind": "ReplicationController",
            "metadata": {"name": "rc"},
            "spec": {"template": workload("x", "x", {"app": "rc"})["spec"]["template"]},
        },
        workload("Job", "off", {"app": "off"}, suspend=True) | {"apiVersion": "batch/v1"},
    )
    found = {}
    for made in state.pods:
        found.setdefault((made.owner.kind, made.owner.name), []).append((made.name, made.node))
    assert [name for name, _ in found["StatefulSet", "db"]] == ["db-3", "db-4"]
    assert sorted(node for _, node in found["DaemonSet", "log"]) == ["a", "b"]
    assert [node for _, node in found["DaemonSet", "fast"]] == ["a"]
    assert len(found["ReplicaSet", "rs"]) == len(found["ReplicationController", "rc"]) == 1
    assert [name.rpartition("-")[0] for name, _ in found["Job", "j"]] == ["j-0", "j-1"]
    assert ("Job", "off") not in found
    member = state.pod("default", "db-3")
    assert (member.spec.hostname, member.spec.subdomain) == ("db-3", "db-svc")
    assert member.labels["apps.kubernetes.io/pod-index"] == "3"


def test_pods_that_exist_are_not_created_again():
    labels = {"app": "web"}
    state = cluster(
        deployment("web", labels, replicas=3),
        workload("ReplicaSet", "web-old", labels, replicas=0, ownerReferences=owner("Deployment", "web")),
        workload("ReplicaSet", "web-new", labels, replicas=3, ownerReferences=owner("Deployment", "web")),
        pod("web-new-1", labels=labels, ownerReferences=owner("ReplicaSet", "web-new")),
        pod("web-new-2", labels=labels, ownerReferences=owner("ReplicaSet", "web-new")),
        pod("web-new-9", labels=labels, ownerReferences=owner("ReplicaSet", "web-new"), status={"phase": "Failed"}),
    )
    made = [pod for pod in state.pods if pod.created]
    assert len(made) == 1
    assert (made[0].owner.kind, made[0].owner.name) == ("ReplicaSet", "web-new")
    assert len(state.pods_of("Deployment", "default", "web")) == 4


def test_pods_of_a_replica_set_that_is_not_given_belong_to_its_deployment():
    state = cluster(
        deployment("web", {"app": "web"}, replicas=2),
        pod(
            "web-5d8f7c-x",
            labels={"app": "web", "pod-template-hash": "5d8f7c"},
            ownerReferences=owner("ReplicaSet", "web-5d8f7c"),
        ),
        pod(
            "web-5d8f7c-y",
            labels={"app": "web", "pod-template-hash": "5d8f7c"},
            ownerReferences=owner("ReplicaSet", "web-5d8f7c"),
        ),
    )
    assert names(state.pods) == ["web-5d8f7c-x", "web-5d8f7c-y"]


def test_a_dump_has_all_the_pods_that_there_are():
    labels = {"app": "web"}
    observed = {"status": {"replicas": 1}}
    one = pod("rs-1", labels=labels, ownerReferences=owner("ReplicaSet", "rs"), status={"phase": "Failed"})
    wanting = workload("ReplicaSet", "rs", labels, replicas=3)
    assert len(cluster(wanting | observed, one).pods) == 1
    assert len(cluster(wanting, one).pods) == 4
    # Of a dump without pods they are created: they were left out of it.
    assert len(cluster(wanting | observed).pods) == 3
    daemon = workload("DaemonSet", "ds", labels)
    counts = ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady")
    there = pod("ds-1", labels=labels, nodeName="n1", ownerReferences=owner("DaemonSet", "ds"))
    assert len(cluster(node("n1"), node("n2"), daemon | {"status": dict.fromkeys(counts, 1)}, there).pods) == 1
    assert len(cluster(node("n1"), node("n2"), daemon, there).pods) == 2


def test_adopted_pods_count():
    state = cluster(
        workload("ReplicaSet", "rs", {"app": "a"}, replicas=2),
        pod("bare", labels={"app": "a"}),
        workload("DaemonSet", "ds", {"app": "d"}),
        pod("ds-1", labels={"app": "d"}, nodeName="n1", ownerReferences=owner("DaemonSet", "ds")),
        workload("StatefulSet", "db", {"app": "db"}, replicas=2),
        pod("db-0", labels={"app": "db"}, ownerReferences=owner("StatefulSet", "db")),
        node("n1"),
        node("n2"),
    )
    assert len(state.pods_of("ReplicaSet", "default", "rs")) == 1
    assert sorted(pod.node for pod in state.pods_of("DaemonSet", "default", "ds")) == ["n1", "n2"]
    assert names(state.pods_of("StatefulSet", "default", "db")) == ["db-0", "db-1"]


def test_round_robin_respects_selectors_taints_and_cordons():
    state = cluster(
        node("control", **TAINTED),
        node("cordoned", unschedulable=True),
        node("w1", labels={"disk": "ssd"}),
        node("w2"),
        *[pod(f"p{number}") for number in range(4)],
        pod("q-any", **TOLERATION),
        pod("r-ssd", nodeSelector={"disk": "ssd"}),
        pod("s-nowhere", nodeSelector={"disk": "tape"}),
        pod("t-fixed", nodeName="control"),
        workload("DaemonSet", "ds", {"app": "ds"}),
    )
    found = placed(state)
    assert [found[f"p{number}"] for number in range(4)] == ["w2", "w1", "w2", "w1"] or [
        found[f"p{number}"] for number in range(4)
    ] == ["w1", "w2", "w1", "w2"]
    assert found["q-any"] in ("control", "w1", "w2")
    assert found["r-ssd"] == "w1"
    assert found["s-nowhere"] is None
    assert found["t-fixed"] == "control"
    # A DaemonSet runs on cordoned nodes too, but not on tainted ones.
    assert sorted(pod.node for pod in state.pods_of("DaemonSet", "default", "ds")) == ["cordoned", "w1", "w2"]
    waiting = state.pod("default", "s-nowhere")
    assert (waiting.phase, waiting.ready, waiting.ips) == ("Pending", False, ())
    assert any("s-nowhere stays Pending: 0/4 nodes are available" in warning for warning in state.warnings)


def test_a_node_takes_as_many_pods_as_it_allows():
    state = cluster(
        node("a", status={"allocatable": {"pods": "2"}}),
        node("b", status={"capacity": {"pods": 1}}),
        *[pod(f"p{n}") for n in range(5)],
    )
    counts = [sum(pod.node == name for pod in state.pods) for name in ("a", "b", None)]
    assert counts == [2, 1, 2]
    assert any("Too many pods" in warning for warning in state.warnings)


def test_addresses_of_pods():
    state = cluster(
        node("n1", "192.168.1.11", cidrs=("10.244.0.0/24",)),
        pod("a"),
        pod("b", "10.244.0.3"),
        pod("c"),
        pod("host", hostNetwork=True),
        pod("done", "10.244.0.2", status={"phase": "Succeeded"}),
        pod("pending", status={"phase": "Pending"}),
        pod("creating", nodeName="n1", status={"phase": "Pending"}),
    )
    assert addresses(state) == {
        "default/a": ["10.244.0.2"],
        "default/b": ["10.244.0.3"],
        "default/c": ["10.244.0.4"],
        "default/host": ["192.168.1.11"],
        "default/done": ["10.244.0.2"],
        "default/pending": [],
        "default/creating": [],
    }
    # A pod that states an address and no node runs where the address belongs.
    assert placed(state)["b"] == "n1"
    assert placed(state)["pending"] is None
    assert [str(ip) for ip in state.nodes[0].last_reserved] == ["10.244.0.4"]


def test_a_pod_that_comes_later_takes_the_next_address():
    state = cluster(pod("a"), pod("b"), nodes=1)
    later = state.objects()
    [new] = read_manifests([pod("c")]).pods
    less = tuple(pod for pod in later.pods if pod.name != "b")
    changed = complete(type(later)(nodes=later.nodes, pods=(*less, new)))
    # Round robin: what b had is not handed out again.
    assert addresses(changed) == {"default/a": ["10.244.0.2"], "default/c": ["10.244.0.4"]}


def test_a_full_pod_network_leaves_pods_pending():
    state = cluster(node("n", cidrs=("10.244.0.0/29",)), *[pod(f"p{number}") for number in range(7)])
    found = [pod.ips[0] for pod in state.pods if pod.ips]
    assert [str(ip) for ip in found] == [f"10.244.0.{number}" for number in range(2, 7)]
    assert [pod.phase for pod in state.pods].count("Pending") == 2
    assert sum("no address is left" in warning for warning in state.warnings) == 2


def test_pods_that_only_endpoints_name():
    state = cluster(
        node("n1", "192.168.1.11", cidrs=("10.244.0.0/24",)),
        node("n2", "192.168.1.12", cidrs=("10.244.1.0/24",)),
        deployment("web", {"app": "web"}, ports=("http:80",)),
        service("web", {"app": "web"}),
        endpoint_slice(
            "web-1",
            "web",
            endpoint("10.244.0.9", "n1", targetRef={"kind": "Pod", "name": "web-abc-1", "namespace": "default"}),
            endpoint("10.244.1.9"),
            endpoint("192.168.1.11", "n1"),
            endpoint("8.8.8.8"),
            endpoint("10.244.1.7", "n2", ready=False, serving=False, terminating=True),
        ),
        endpoint_slice(
            "web-2",
            "web",
            endpoint("fd00::9", "n1", targetRef={"kind": "Pod", "name": "web-abc-1", "namespace": "default"}),
            kind="IPv6",
        ),
    )
    # The first is the Deployment's pod, so none is made for it. The node's own address and one outside are no pods.
    assert addresses(state) == {
        "default/web-abc-1": ["10.244.0.9", "fd00::9"],
        "default/web-10-244-1-9": ["10.244.1.9"],
        "default/web-10-244-1-7": ["10.244.1.7"],
    }
    first = state.pod("default", "web-abc-1")
    assert first.labels == {"app": "web", "pod-template-hash": "abc"}
    assert first.spec.port_number("http", "TCP") == 80
    gone = state.pod("default", "web-10-244-1-7")
    assert (gone.node, gone.ready, gone.terminating) == ("n2", False, True)
    assert "3 endpoints name no Pod that is given: pods are made for them" in state.warnings


def test_addresses_outside_the_nodes_network_are_believed_and_told():
    state = cluster(node("n", cidrs=("10.244.0.0/24",)), pod("p", "10.9.9.9", nodeName="n"))
    assert addresses(state) == {"default/p": ["10.9.9.9"]}
    assert any("outside the pod CIDR of their node, the first is default/p" in warning for warning in state.warnings)


# Services


def test_cluster_ips_and_node_ports():
    state = cluster(
        service("a"),
        service("b", type="NodePort", ports=({"port": 53, "name": "u", "protocol": "UDP"}, {"port": 53, "name": "t"})),
        service("c", type="LoadBalancer", externalTrafficPolicy="Local"),
        service("d", type="LoadBalancer", allocateLoadBalancerNodePorts=False),
        service("e", clusterIP="None"),
        service("f", type="ExternalName", externalName="x"),
        service("g", clusterIP="10.96.0.10", type="NodePort", ports=({"port": 80, "nodePort": 30001},)),
        service("kubernetes"),
    )
    found = {service.name: service for service in state.services}
    dynamic = {found[name].cluster_ips[0] for name in "abcd"}
    assert len(dynamic) == 4
    assert all(ip_address("10.96.1.1") <= ip <= ip_address("10.111.255.254") for ip in dynamic)
    assert [str(ip) for ip in found["g"].cluster_ips] == ["10.96.0.10"]
    assert [str(ip) for ip in found["kubernetes"].cluster_ips] == ["10.96.0.1"]
    assert found["e"].cluster_ips == found["f"].cluster_ips == ()
    udp, tcp = found["b"].ports
    assert udp.node_port == tcp.node_port
    assert 30086 <= udp.node_port <= 32767
    assert found["g"].ports[0].node_port == 30001
    assert found["a"].ports[0].node_port == found["d"].ports[0].node_port == 0
    assert found["c"].health_check_node_port
    assert len({udp.node_port, found["c"].ports[0].node_port, found["c"].health_check_node_port}) == 3


def test_an_address_stays_when_other_services_come():
    alone = cluster(service("web", type="NodePort"))
    among = cluster(*[service(f"s{number}", type="NodePort") for number in range(30)], service("web", type="NodePort"))
    assert among.service("default", "web").cluster_ips == alone.services[0].cluster_ips
    assert among.service("default", "web").ports == alone.services[0].ports
    other = cluster(service("web", type="NodePort"), seed=1)
    assert other.services[0].cluster_ips != alone.services[0].cluster_ips


@pytest.mark.parametrize(
    ("spec", "families", "expected", "policy"),
    [
        ({}, (4, 6), (4,), "SingleStack"),
        ({}, (6, 4), (6,), "SingleStack"),
        ({"ipFamilies": ["IPv6"]}, (4, 6), (6,), "SingleStack"),
        ({"ipFamilyPolicy": "PreferDualStack"}, (4, 6), (4, 6), "PreferDualStack"),
        ({"ipFamilyPolicy": "PreferDualStack"}, (4,), (4,), "PreferDualStack"),
        ({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}, (4, 6), (6, 4), "RequireDualStack"),
        ({"ipFamilies": ["IPv6", "IPv4"]}, (4, 6), (6, 4), "RequireDualStack"),
        ({"clusterIP": "fd00:10:96::5"}, (4, 6), (6,), "SingleStack"),
    ],
)
def test_families_of_a_service(spec, families, expected, policy):
    [made] = cluster(service("s", {"a": "b"}, **spec), families=families).services
    assert (made.ip_families, made.ip_family_policy) == (expected, policy)
    assert tuple(ip.version for ip in made.cluster_ips) == expected


def test_a_headless_service_without_selector_has_both_families():
    assert cluster(service("s", clusterIP="None"), families=(4, 6)).services[0].ip_families == (4, 6)
    assert cluster(service("s", {"a": "b"}, clusterIP="None"), families=(4, 6)).services[0].ip_families == (4,)


def test_a_health_check_port_in_use_is_told():
    state = cluster(
        service("a", type="NodePort", ports=({"port": 80, "nodePort": 30000},)),
        service("b", type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=30000),
    )
    assert "Service default/b: healthCheckNodePort 30000 is in use by Service default/a too" in state.warnings


# EndpointSlices


def of(state, name="s", family=4):
    """[(ports, endpoints)] of a Service's slices"""
    return [
        ([(port.name, port.port) for port in piece.ports], list(piece.endpoints))
        for piece in state.service_slices("default", name, family)
    ]


def test_slices_are_built_from_the_selector():
    state = cluster(
        node("n1", labels={"topology.kubernetes.io/zone": "z"}),
        service(
            "s",
            {"app": "a"},
            ports=({"port": 80, "name": "web", "targetPort": "http"}, {"port": 90, "name": "raw"}),
            labels={"team": "x"},
        ),
        pod("p", labels={"app": "a", "more": "x"}, ports=("http:8080",)),
        pod("q", labels={"app": "b"}, ports=("http:8080",)),
        pod("elsewhere/p", labels={"app": "a"}, ports=("http:8080",)),
        pod("done", labels={"app": "a"}, status={"phase": "Succeeded", "podIP": "10.244.0.200"}),
    )
    [piece] = state.endpoints["default", "s"]
    assert (piece.service, piece.address_type, piece.created) == ("s", "IPv4", True)
    assert piece.labels == {
        "team": "x",
        "kubernetes.io/service-name": "s",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    [(ports, [found])] = of(state)
    assert ports == [("web", 8080), ("raw", 90)]
    assert (found.address, found.node, found.zone) == ("10.244.0.2", "n1", "z")
    assert (found.target.kind, found.target.namespace, found.target.name) == ("Pod", "default", "p")


def test_a_named_port_is_resolved_per_pod():
    state = cluster(
        service("s", {"app": "a"}, ports=({"port": 80, "targetPort": "http"},)),
        pod("p1", labels={"app": "a"}, ports=("http:8080",)),
        pod("p2", labels={"app": "a"}, ports=("http:9090",)),
        pod("p3", labels={"app": "a"}, ports=("http:8080",)),
        pod("p4", labels={"app": "a"}),
    )
    assert sorted((ports, len(found)) for ports, found in of(state)) == [([], 1), ([("", 8080)], 2), ([("", 9090)], 1)]


@pytest.mark.parametrize(
    ("ready", "terminating", "publish", "expected"),
    [
        (True, False, False, (True, True, False)),
        (False, False, False, (False, False, False)),
        (True, True, False, (False, True, True)),
        (False, True, False, (False, False, True)),
        (False, False, True, (True, False, False)),
        (True, True, True, (True, True, True)),
        (False, True, True, (True, False, True)),
    ],
)
def test_conditions(ready, terminating, publish, expected):
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]}
    more = {"deletionTimestamp": "2024-01-01T00:00:00Z"} if terminating else {}
    state = cluster(
        service("s", {"app": "a"}, publishNotReadyAddresses=publish),
        pod("p", labels={"app": "a"}, status=status, **more),
    )
    [(_, [found])] = of(state)
    assert (found.ready, found.serving, found.terminating) == expected


def test_a_hundred_endpoints_to_a_slice_and_an_empty_one_for_none():
    state = cluster(
        deployment("d", {"app": "a"}, replicas=250), service("s", {"app": "a"}), service("none", {"app": "x"})
    )
    assert sorted(len(found) for _, found in of(state)) == [50, 100, 100]
    assert of(state, "none") == [([], [])]
    assert len({piece.name for piece in state.slices}) == 4


def test_slices_of_both_families():
    state = cluster(deployment("d", {"app": "a"}), service("s", {"app": "a"}, ipFamilyPolicy="RequireDualStack"))
    assert [len(state.service_slices("default", "s", family)) for family in (4, 6)] == [1, 1]
    [(_, [six])] = of(state, family=6)
    assert ip_address(six.address) in ip_network("fd00:10:244::/64")


def test_given_slices_are_believed():
    state = cluster(
        deployment("d", {"app": "a"}, replicas=3),
        service("s", {"app": "a"}),
        endpoint_slice("s-1", "s", endpoint("10.0.0.9", "node-1", ready=False)),
    )
    [(_, [found])] = of(state)
    assert (found.address, found.ready) == ("10.0.0.9", False)


def test_endpoints_objects_are_mirrored():
    subset = {
        "addresses": [{"ip": "1.1.1.1", "nodeName": "n"}, {"ip": "2001:db8::1"}],
        "notReadyAddresses": [{"ip": "1.1.1.2"}],
        "ports": [{"name": "a", "port": 80}],
    }
    state = cluster(
        service("s", ports=({"port": 80, "name": "a"},)),
        endpoints("s", subset),
        service("skipped"),
        endpoints("skipped", subset, labels={"endpointslice.kubernetes.io/skip-mirror": "true"}),
        service("both"),
        endpoints("both", subset),
        endpoint_slice("both-1", "both", endpoint("9.9.9.9")),
    )
    [piece] = state.service_slices("default", "s", 4)
    assert piece.labels["endpointslice.kubernetes.io/managed-by"] == "endpointslicemirroring-controller.k8s.io"
    assert [(e.address, e.ready, e.node) for e in piece.endpoints] == [("1.1.1.1", True, "n"), ("1.1.1.2", False, "")]
    assert [(port.name, port.port) for port in piece.ports] == [("a", 80)]
    assert [e.address for _, found in of(state, family=6) for e in found] == ["2001:db8::1"]
    assert of(state, "skipped") == []
    assert [e.address for _, found in of(state, "both") for e in found] == ["9.9.9.9"]


def test_endpoints_of_a_service_with_a_selector_stand_for_its_slices():
    state = cluster(
        pod("p", labels={"app": "a"}),
        service("s", {"app": "a"}, ipFamilyPolicy="RequireDualStack"),
        endpoints("s", {"addresses": [{"ip": "10.244.0.77"}], "ports": [{"port": 80}]}),
    )
    assert [e.address for _, found in of(state) for e in found] == ["10.244.0.77"]
    assert len(of(state, family=6)[0][1]) == 1


def test_no_endpoints_without_selector_or_for_an_external_name():
    state = cluster(
        service("s"), service("x", {"a": "b"}, type="ExternalName", externalName="y"), pod("p", labels={"a": "b"})
    )
    assert state.endpoints == {("default", "s"): (), ("default", "x"): ()}


@pytest.mark.parametrize(
    ("distribution", "zones", "nodes"),
    [("PreferClose", ("z",), ()), ("PreferSameZone", ("z",), ()), ("PreferSameNode", ("z",), ("n1",)), (None, (), ())],
)
def test_traffic_distribution_becomes_hints(distribution, zones, nodes):
    more = {"trafficDistribution": distribution} if distribution else {}
    state = cluster(
        node("n1", labels={"topology.kubernetes.io/zone": "z"}),
        pod("p", labels={"a": "b"}),
        service("s", {"a": "b"}, **more),
    )
    [(_, [found])] = of(state)
    assert (found.zone_hints, found.node_hints) == (zones, nodes)


def test_topology_mode_is_listed_where_hints_would_have_to_be_computed():
    auto = {"annotations": {"service.kubernetes.io/topology-mode": "Auto"}}
    state = cluster(
        pod("p", labels={"a": "b"}), service("s", {"a": "b"}, **auto), service("t", **auto), endpoint_slice("t-1", "t")
    )
    assert [(entry.object, entry.field) for entry in state.not_modelled] == [
        ("Service default/s", "metadata.annotations[service.kubernetes.io/topology-mode]")
    ]


def test_hostnames_of_endpoints():
    state = cluster(
        workload("StatefulSet", "db", {"app": "db"}, serviceName="db"),
        service("db", {"app": "db"}, clusterIP="None"),
        service("other", {"app": "db"}),
    )
    assert [e.hostname for _, found in of(state, "db") for e in found] == ["db-0"]
    assert [e.hostname for _, found in of(state, "other") for e in found] == [""]
    assert state.endpoints["default", "db"][0].labels["service.kubernetes.io/headless"] == ""


def test_namespaces():
    state = cluster(
        pod("shop/p"),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "old"}, "status": {"phase": "Terminating"}},
    )
    assert [(space.name, space.phase) for space in state.namespaces] == [
        ("default", "Active"),
        ("kube-node-lease", "Active"),
        ("kube-public", "Active"),
        ("kube-system", "Active"),
        ("old", "Terminating"),
        ("shop", "Active"),
    ]


def test_looking_things_up():
    state = cluster(pod("p"), service("s"), nodes=1)
    assert state.pod("default", "p").node == "node-1"
    assert state.service("default", "s").name == "s"
    assert names(state.pods_on("node-1")) == ["p"]
    assert state.node("absent") is state.pod("default", "absent") is state.service("a", "b") is None
    assert state.pods_on("absent") == ()
    assert state.config("KubeProxyConfiguration") is None
