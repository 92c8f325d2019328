"""What holds for every cluster."""

import copy
from ipaddress import ip_address, ip_network

from cluster_parts import deployment, endpoint, endpoint_slice, node, pod, service, workload
from hypothesis import given
from hypothesis import strategies as st

from dataplane.cluster import complete, read_manifests
from dataplane.cluster.tables import RESOURCES
from dataplane.cluster.write_manifests import manifests

NAMESPACES = ("default", "shop")
LABELS = [{"app": name} for name in "abc"]
NODE_NAMES = ("n1", "n2", "n10")


@st.composite
def documents(draw):
    """Nodes, workloads, pods, Services and slices that do not contradict each other, in any order."""
    made = []
    for index, name in enumerate(draw(st.lists(st.sampled_from(NODE_NAMES), unique=True))):
        cidrs = draw(st.sampled_from([(), (f"10.244.{index}.0/24",), (f"10.244.{index + 7}.0/24",)]))
        stated = draw(st.sampled_from([(), (f"192.168.1.{index + 12}",)]))
        spec = draw(st.sampled_from([{}, {"unschedulable": True}]))
        made.append(node(name, *stated, cidrs=cidrs, **spec))
    counter = iter(range(1000))
    for kind in draw(st.lists(st.sampled_from(["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"]), max_size=4)):
        name = f"{draw(st.sampled_from(NAMESPACES))}/w{next(counter)}"
        more = {} if kind == "DaemonSet" else {"replicas": draw(st.integers(0, 4))}
        spec = draw(st.sampled_from([{}, {"hostNetwork": True}]))
        made.append(workload(kind, name, draw(st.sampled_from(LABELS)), ports=("http:80",), spec=spec, **more))
    hosts = draw(st.lists(st.integers(2, 254), unique=True, max_size=6))
    for host in hosts:
        name = f"{draw(st.sampled_from(NAMESPACES))}/p{next(counter)}"
        ips = draw(st.sampled_from([(), (f"10.244.0.{host}",)]))
        bound = draw(st.sampled_from([{}, {}, {"nodeName": "n1"}]))
        made.append(pod(name, *ips, labels=draw(st.sampled_from(LABELS)), ports=("http:80",), **bound))
    for _ in range(draw(st.integers(0, 4))):
        name = f"{draw(st.sampled_from(NAMESPACES))}/s{next(counter)}"
        spec = draw(
            st.sampled_from(
                [
                    {},
                    {"type": "NodePort"},
                    {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
                    {"clusterIP": "None"},
                    {"ipFamilyPolicy": "RequireDualStack"},
                    {"ipFamilyPolicy": "PreferDualStack"},
                ]
            )
        )
        made.append(service(name, draw(st.sampled_from([None, *LABELS])), **spec))
        if draw(st.booleans()):
            host = draw(st.integers(2, 254).filter(lambda number: number not in hosts))
            made.append(
                endpoint_slice(
                    f"{name}-1",
                    name.rpartition("/")[2],
                    endpoint(f"10.244.0.{host}", draw(st.sampled_from([None, "n1"]))),
                )
            )
    return draw(st.permutations(made))


def finish(made, **options):
    return complete(read_manifests(copy.deepcopy(made)), **options)


@given(documents())
def test_no_two_pods_share_an_address_and_each_has_one_of_its_node(made):
    state = finish(made)
    seen = set()
    given_ips = {item["status"]["podIP"] for item in made if item["kind"] == "Pod" and "status" in item}
    slices = {e["addresses"][0] for item in made if item["kind"] == "EndpointSlice" for e in item["endpoints"]}
    for entry in state.pods:
        if entry.phase == "Pending":
            assert not entry.ready
            continue
        home = state.node(entry.node)
        if not (given_ips | slices) & {str(ip) for ip in entry.ips}:
            assert tuple(ip.version for ip in entry.ips) == state.families
        for ip in entry.ips:
            if entry.host_network:
                assert ip in home.addresses
                continue
            assert ip not in seen
            seen.add(ip)
            if str(ip) not in given_ips | slices:
                network = home.pod_cidr(ip.version)
                assert ip in network
                assert int(ip) - int(network.network_address) >= 2
                assert ip.version == 6 or ip != network.broadcast_address


@given(documents())
def test_nodes_have_addresses_and_networks_of_their_own(made):
    state = finish(made)
    networks = [network for entry in state.nodes for network in entry.pod_cidrs]
    assert [entry.index for entry in state.nodes] == list(range(len(state.nodes)))
    for number, network in enumerate(networks):
        assert not any(network.overlaps(other) for other in networks[number + 1 :] if other.version == network.version)
    every = [address for entry in state.nodes for address in entry.addresses]
    assert len(set(every)) == len(every)
    for entry in state.nodes:
        assert {address.version for address in entry.addresses} >= set(state.families)
        assert {network.version for network in entry.pod_cidrs} >= set(state.families)


@given(documents())
def test_cluster_ips_and_node_ports_are_unique_and_in_range(made):
    state = finish(made)
    ips = [ip for entry in state.services for ip in entry.cluster_ips]
    assert len(set(ips)) == len(ips)
    assert all(ip in state.service_cidr(ip.version) for ip in ips)
    for entry in state.services:
        if not entry.headless:
            assert tuple(ip.version for ip in entry.cluster_ips) == entry.ip_families
    numbers = [port.node_port for entry in state.services for port in entry.ports if port.node_port]
    numbers += [entry.health_check_node_port for entry in state.services if entry.health_check_node_port]
    assert len(set(numbers)) == len(numbers)
    assert all(30000 <= number <= 32767 for number in numbers)


@given(documents(), st.randoms(use_true_random=False))
def test_the_order_of_the_documents_does_not_matter(made, random):
    shuffled = list(made)
    random.shuffle(shuffled)
    first, second = finish(made), finish(shuffled)
    for name in ("nodes", "pods", "services", "slices", "workloads", "namespaces", "families", "cluster_cidrs"):
        assert getattr(first, name) == getattr(second, name), name


OPTIONS = [
    {},
    {"cluster_cidr": "10.128.0.0/9", "node_subnet": "172.20.0.0/16"},
    {"families": (4, 6), "nodes": 5, "seed": 7},
    {"service_cidr": "10.200.0.0/20", "nodes": 300},
]


@given(documents(), st.sampled_from(OPTIONS))
def test_completing_a_completed_cluster_changes_nothing(made, options):
    state = finish(made, **options)
    assert complete(state.objects()) == state


@given(documents())
def test_slices_hold_the_pods_that_the_selector_selects(made):
    state = finish(made)
    given_for = {
        (item["metadata"].get("namespace", "default"), item["metadata"]["labels"]["kubernetes.io/service-name"])
        for item in made
        if item["kind"] == "EndpointSlice"
    }
    for entry in state.services:
        key = (entry.namespace, entry.name)
        if key in given_for or not entry.selector:
            continue
        for family in entry.ip_families:
            found = {e.address for piece in state.service_slices(*key, family) for e in piece.endpoints}
            wanted = {
                str(pod.ip(family))
                for pod in state.pods
                if pod.namespace == entry.namespace
                and entry.selector.items() <= pod.labels.items()
                and pod.ip(family) is not None
            }
            assert found == wanted


@given(documents())
def test_printed_manifests_read_back_to_the_same_cluster(made):
    state = finish(made)
    printed = []
    for kind in RESOURCES:
        if kind.name != "endpoints":
            printed += manifests(state, kind.name, namespace=None)["items"]
    again = complete(read_manifests(printed))
    assert not [entry for entry in again.not_modelled if entry.why == "unknown field"]

    def essence(cluster):
        return (
            [(n.name, n.index, n.addresses, n.pod_cidrs, dict(n.labels), n.unschedulable) for n in cluster.nodes],
            [
                (
                    p.namespace,
                    p.name,
                    p.node,
                    p.ips,
                    dict(p.labels),
                    p.phase,
                    p.ready,
                    p.terminating,
                    p.owner,
                    p.spec.ports,
                )
                for p in cluster.pods
            ],
            cluster.services,
            [(s.namespace, s.name, s.ports, s.endpoints, dict(s.labels)) for s in cluster.slices],
            cluster.families,
        )

    assert essence(again) == essence(state)


@given(st.integers(1, 40), st.integers(0, 30))
def test_deployments_of_any_size_fill_the_nodes_evenly(nodes, replicas):
    state = complete(read_manifests([deployment("d", {"a": "b"}, replicas=replicas)]), nodes=nodes)
    counts = [len(state.pods_on(entry.name)) for entry in state.nodes]
    assert sum(counts) == replicas
    assert max(counts) - min(counts) <= 1
    assert all(ip_address(str(pod.ips[0])) in ip_network("10.244.0.0/16") for pod in state.pods)
