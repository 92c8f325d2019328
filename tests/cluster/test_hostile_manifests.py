"""Whatever a manifest holds, it is read or refused by name: nothing else comes out."""

import contextlib
import copy

from cluster_parts import (
    container,
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
from hypothesis import given
from hypothesis import strategies as st

from dataplane.cluster import complete, read_manifests
from dataplane.cluster.documents import parse_json, parse_yaml
from dataplane.cluster.tables import RESOURCES, table
from dataplane.cluster.write_manifests import manifests
from dataplane.errors import DataplaneError, ManifestError

DOCUMENTS = [
    node(
        "n1",
        "192.168.1.11",
        "fd00::b",
        cidrs=("10.244.0.0/24", "fd00:1::/64"),
        taints=[{"key": "a", "value": "b", "effect": "NoSchedule"}],
        status={"allocatable": {"pods": "5"}, "conditions": [{"type": "Ready", "status": "True"}]},
    ),
    pod(
        "p",
        "10.244.0.9",
        labels={"app": "a"},
        ports=("http:80",),
        nodeName="n1",
        ownerReferences=owner("ReplicaSet", "web-x"),
        tolerations=[{"key": "a", "operator": "Exists"}],
        nodeSelector={"x": "y"},
        status={"hostIP": "192.168.1.11", "containerStatuses": [], "conditions": [{"type": "Ready", "status": "True"}]},
    ),
    deployment("web", {"app": "a"}, ports=("http:80", "dns:53/UDP"), replicas=2),
    workload("StatefulSet", "db", {"app": "db"}, replicas=2, serviceName="db", ordinals={"start": 1}),
    workload("DaemonSet", "log", {"app": "log"}, spec={"hostNetwork": True, "containers": [container(9100)]}),
    service(
        "web",
        {"app": "a"},
        ports=({"port": 80, "targetPort": "http", "name": "a", "nodePort": 30080}, {"port": 81, "name": "b"}),
        type="LoadBalancer",
        clusterIPs=["10.96.0.7"],
        ipFamilies=["IPv4"],
        externalIPs=["1.2.3.4"],
        loadBalancerSourceRanges=["10.0.0.0/8"],
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 10}},
        status={"loadBalancer": {"ingress": [{"ip": "5.6.7.8", "ipMode": "VIP"}]}},
    ),
    service("out"),
    endpoint_slice("out-1", "out", endpoint("10.244.0.77", "n1", ("z",), targetRef={"kind": "Pod", "name": "q"})),
    service("old"),
    endpoints("old", {"addresses": [{"ip": "9.9.9.9", "nodeName": "n1"}], "ports": [{"port": 80, "name": "x"}]}),
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}, "status": {"phase": "Active"}},
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c"},
        "data": {"net-conf.json": '{"Network": "10.1.0.0/16"}'},
    },
    {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clusterCIDR": "10.244.0.0/16",
    },
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "k"},
        "spec": {"cidrs": ["10.96.0.0/16"]},
    },
]


def paths(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


PLACES = [(number, path) for number, document in enumerate(DOCUMENTS) for path in paths(document) if path]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 53, 65536, 2**31, 2**70, 1.5]),
    st.sampled_from(
        [
            "",
            "a",
            "None",
            "x/y",
            "10.244.0.9",
            "10.244.0.0/24",
            "fd00::1",
            "::/0",
            "0.0.0.0/0",
            "1.2.3",
            "IPv6",
            "Local",
        ]
    ),
    st.text(max_size=6),
    st.sampled_from([[], {}, [None], [{}], {"": None}, ["a"], [[]], {"a": "b"}, {"a": {"b": []}}]),
)


@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_mutated_manifests(changes):
    documents = copy.deepcopy(DOCUMENTS)
    for (number, path), value in changes:
        place = documents[number]
        try:
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    with contextlib.suppress(DataplaneError):
        state = complete(read_manifests(documents))
        for kind in RESOURCES:
            table(state, kind.name, namespace=None, wide=True)
            manifests(state, kind.name, namespace=None)
        assert complete(state.objects()).pods == state.pods


@given(st.one_of(st.text(max_size=60), st.text("{}[]:,-&*!|>'\"%#? \n\tab1", max_size=60)))
def test_any_text(text):
    for parse in (parse_yaml, parse_json):
        with contextlib.suppress(ManifestError):
            list(parse("t", text))
