"""Service ports, and the endpoints that a node uses: the tables of kube-proxy's behaviour."""

import pytest
from cluster_parts import cluster, endpoint, endpoint_slice, node, service

from dataplane.cluster.endpoints import categorize, service_endpoints, service_ports

ZONES = {"here": "zone-a", "there": "zone-b"}
NODES = [node(name, labels={"topology.kubernetes.io/zone": zone}) for name, zone in ZONES.items()]
R, T, X = {}, {"ready": False, "serving": True, "terminating": True}, {"ready": False, "serving": False}


def choose(endpoints, version=(1, 30), at="here", **spec):
    """The labels in the cluster, local and reachable lists, and has_endpoints.

    An endpoint is (label, node, condition) and perhaps the zones it is hinted for.
    """
    made = [
        endpoint(f"10.0.0.{number}", where, *rest, **condition)
        for number, (_, where, condition, *rest) in enumerate(endpoints, 1)
    ]
    names = {f"10.0.0.{number}:80": entry[0] for number, entry in enumerate(endpoints, 1)}
    state = cluster(*NODES, service("s", **spec), endpoint_slice("s-1", "s", *made))
    [port] = service_ports(state.service("default", "s"), 4)
    found = service_endpoints(state.endpoints["default", "s"], 4, at).get(("", "TCP"), [])
    choice = categorize(port, found, state.node(at), version)
    lists = ("".join(names[entry.text] for entry in part) for part in (choice.cluster, choice.local, choice.reachable))
    return (*lists, choice.has_endpoints)


INTERNAL = {"internalTrafficPolicy": "Local"}
EXTERNAL = {"type": "NodePort", "externalTrafficPolicy": "Local"}


@pytest.mark.parametrize(
    ("endpoints", "spec", "expected"),
    [
        # Policy Cluster: the ready ones; without any, those that serve while they terminate.
        ([("a", "here", R), ("b", "there", R), ("c", "here", X)], {}, ("ab", "", "ab", True)),
        ([("a", "here", T), ("b", "there", R)], {}, ("b", "", "b", True)),
        ([("a", "here", T), ("b", "there", T), ("c", "here", X)], {}, ("ab", "", "ab", True)),
        ([("a", "here", X)], {}, ("", "", "", False)),
        ([], {}, ("", "", "", False)),
        # Internal policy Local: only the local list is used.
        ([("a", "here", R), ("b", "there", R)], INTERNAL, ("", "a", "a", True)),
        ([("a", "here", T), ("b", "there", R)], INTERNAL, ("", "a", "a", True)),
        ([("a", "here", R), ("b", "here", T)], INTERNAL, ("", "a", "a", True)),
        ([("b", "there", R)], INTERNAL, ("", "", "", True)),
        ([("b", "there", T)], INTERNAL, ("", "", "", True)),
        ([("b", "there", X)], INTERNAL, ("", "", "", False)),
        # External policy Local: both lists; the fallbacks are independent of each other.
        ([("a", "here", R), ("b", "there", R)], EXTERNAL, ("ab", "a", "ab", True)),
        ([("a", "here", T), ("b", "there", R)], EXTERNAL, ("b", "a", "ab", True)),
        ([("a", "here", T), ("b", "there", T)], EXTERNAL, ("ab", "a", "ab", True)),
        ([("b", "there", R)], EXTERNAL, ("b", "", "b", True)),
        # External policy Local on a Service that nothing outside can reach has no effect.
        ([("a", "here", R), ("b", "there", R)], {"externalTrafficPolicy": "Local"}, ("ab", "", "ab", True)),
        # Both policies Local and reachable from outside: pods reach the external address through the cluster list.
        ([("a", "here", R), ("b", "there", R)], {**INTERNAL, **EXTERNAL}, ("ab", "a", "ab", True)),
        ([("b", "there", R)], {**INTERNAL, **EXTERNAL}, ("b", "", "b", True)),
    ],
)
def test_policies_and_terminating_endpoints(endpoints, spec, expected):
    assert choose(endpoints, **spec) == expected


AUTO = {"annotations": {"service.kubernetes.io/topology-mode": "Auto"}}
A, B = ("zone-a",), ("zone-b",)
HINTED = [("a", "here", R, A), ("b", "there", R, B)]


@pytest.mark.parametrize(
    ("endpoints", "spec", "version", "expected"),
    [
        (HINTED, AUTO, (1, 30), "a"),
        (HINTED, {}, (1, 30), "ab"),
        (HINTED, {}, (1, 31), "a"),
        (HINTED, {"annotations": {"service.kubernetes.io/topology-mode": "disabled"}}, (1, 30), "ab"),
        # The older annotation wins.
        (
            HINTED,
            {
                "annotations": {
                    "service.kubernetes.io/topology-mode": "Auto",
                    "service.kubernetes.io/topology-aware-hints": "disabled",
                }
            },
            (1, 30),
            "ab",
        ),
        # One ready endpoint without a hint, or none for this zone: all are used.
        ([*HINTED, ("c", "there", R)], AUTO, (1, 30), "abc"),
        ([*HINTED, ("c", "there", X)], AUTO, (1, 30), "a"),
        ([("b", "there", R, B)], AUTO, (1, 30), "b"),
        # The fallback on terminating endpoints does not look at hints.
        ([("a", "here", T, A), ("b", "there", T, B)], AUTO, (1, 30), "ab"),
        ([("a", "there", R, ("zone-a", "zone-b")), ("b", "there", R, B)], AUTO, (1, 30), "a"),
    ],
)
def test_topology(endpoints, spec, version, expected):
    assert choose(endpoints, version, **spec)[0] == expected


def test_topology_never_narrows_the_local_list():
    both = {**AUTO, **EXTERNAL}
    assert choose([("a", "here", R, B), ("b", "there", R, A)], **both) == ("b", "a", "ab", True)


def test_hints_that_name_nodes():
    def hinted(label, where, *nodes):
        return (
            label,
            where,
            {"hints": {"forZones": [{"name": ZONES[where]}], "forNodes": [{"name": n} for n in nodes]}},
        )

    both = [hinted("a", "here", "here"), hinted("b", "here", "there"), hinted("c", "there", "there")]
    assert choose(both, (1, 34))[0] == "a"
    assert choose(both, (1, 33))[0] == "ab"
    assert choose(both, (1, 34), at="there")[0] == "bc"
    # No endpoint for this node: its zone.
    assert choose(both[1:], (1, 34))[0] == "b"


def test_a_node_without_a_zone_uses_everything():
    state = cluster(
        node("n"),
        service("s", **AUTO),
        endpoint_slice("s-1", "s", endpoint("10.0.0.1", zones=A), endpoint("10.0.0.2", zones=B)),
    )
    [port] = service_ports(state.service("default", "s"), 4)
    found = service_endpoints(state.endpoints["default", "s"], 4, "n")["", "TCP"]
    assert len(categorize(port, found, state.node("n")).cluster) == 2


def test_endpoints_are_ordered_by_their_text():
    texts = ["10.1.1.11", "10.1.1.1", "10.0.0.2", "10.0.0.10"]
    state = cluster(service("s"), endpoint_slice("s-1", "s", *map(endpoint, texts), ports=(("", 11),)))
    found = service_endpoints(state.endpoints["default", "s"], 4, "n")["", "TCP"]
    # "1" is less than ":".
    assert [entry.text for entry in found] == ["10.0.0.10:11", "10.0.0.2:11", "10.1.1.11:11", "10.1.1.1:11"]


def test_slices_are_merged_and_of_two_equal_ones_the_local_wins():
    state = cluster(
        node("here"),
        service("s", ports=({"port": 80, "name": "a"}, {"port": 81, "name": "b"})),
        endpoint_slice("s-1", "s", endpoint("10.0.0.1", "there"), endpoint("10.0.0.2"), ports=(("a", 1), ("b", 2))),
        endpoint_slice("s-2", "s", endpoint("10.0.0.1", "here"), endpoint("10.0.0.2", "there"), ports=(("a", 1),)),
        endpoint_slice("s-3", "s", endpoint("fd00::1"), ports=(("a", 1),), kind="IPv6"),
        endpoint_slice("s-4", "s", endpoint("example"), ports=(("a", 1),), kind="FQDN"),
        endpoint_slice("s-5", "s", endpoint("10.0.0.3"), ports=((None, 1), ("a", None))),
        endpoint_slice("s-6", "t", endpoint("10.0.0.4"), ports=(("a", 1),)),
    )
    found = service_endpoints(state.endpoints["default", "s"], 4, "here")
    texts = {key: [(entry.text, entry.local) for entry in entries] for key, entries in found.items()}
    assert texts == {
        ("a", "TCP"): [("10.0.0.1:1", True), ("10.0.0.2:1", False)],
        ("b", "TCP"): [("10.0.0.1:2", False), ("10.0.0.2:2", False)],
    }
    six = service_endpoints(state.endpoints["default", "s"], 6, "here")
    assert [entry.text for entry in six["a", "TCP"]] == ["[fd00::1]:1"]


def test_addresses_stay_as_they_are_written():
    state = cluster(service("s"), endpoint_slice("s-1", "s", endpoint("10.180.00.001")))
    [entry] = service_endpoints(state.endpoints["default", "s"], 4, "n")["", "TCP"]
    assert entry.text == "10.180.00.001:80"


def port_of(state, family=4, **options):
    return service_ports(state.service("default", "s"), family, **options)


@pytest.mark.parametrize(
    "made",
    [
        service("s", clusterIP="None"),
        service("s", type="ExternalName", externalName="x"),
        service("s", labels={"service.kubernetes.io/service-proxy-name": "other"}),
        service("s", labels={"service.kubernetes.io/headless": ""}),
    ],
)
def test_services_that_are_not_proxied(made):
    assert port_of(cluster(made)) == []


def test_slices_of_another_proxy_are_not_seen():
    piece = endpoint_slice("s-1", "s", endpoint("10.0.0.1"))
    piece["metadata"]["labels"]["service.kubernetes.io/service-proxy-name"] = "other"
    state = cluster(service("s"), piece)
    assert service_endpoints(state.endpoints["default", "s"], 4, "n") == {}


def test_a_service_port_has_the_addresses_of_its_family():
    state = cluster(
        service(
            "s",
            type="LoadBalancer",
            ports=({"port": 80, "name": "p80", "nodePort": 30080}, {"port": 81, "name": "x", "protocol": "UDP"}),
            clusterIPs=["10.96.0.7", "fd00:10:96::7"],
            ipFamilies=["IPv4", "IPv6"],
            ipFamilyPolicy="RequireDualStack",
            externalIPs=["1.2.3.04", "2001:db8::1"],
            loadBalancerSourceRanges=[" 203.0.113.0/25 ", "2001:db8::/32"],
            externalTrafficPolicy="Local",
            healthCheckNodePort=30999,
            sessionAffinity="ClientIP",
            status={
                "loadBalancer": {
                    "ingress": [
                        {"ip": "5.6.7.8"},
                        {"ip": "9.9.9.9", "ipMode": "Proxy"},
                        {"ip": "2001:db8::5"},
                        {"hostname": "x"},
                    ]
                }
            },
        )
    )
    first, second = port_of(state)
    assert (first.spn, second.spn, first.protocol, second.protocol) == ("default/s:p80", "default/s:x", "TCP", "UDP")
    assert (str(first.cluster_ip), first.port, first.node_port) == ("10.96.0.7", 80, 30080)
    assert [str(ip) for ip in first.external_ips] == ["1.2.3.4"]
    assert [str(ip) for ip in first.load_balancer_ips] == ["5.6.7.8"]
    assert [str(network) for network in first.source_ranges] == ["203.0.113.0/25"]
    assert (first.affinity_seconds, first.health_check_node_port, first.external_local) == (10800, 30999, True)
    assert [str(ip) for ip in port_of(state, load_balancer_ip_mode=False)[0].load_balancer_ips] == [
        "5.6.7.8",
        "9.9.9.9",
    ]
    six = port_of(state, 6)[0]
    assert str(six.cluster_ip) == "fd00:10:96::7"
    assert [str(ip) for ip in (*six.external_ips, *six.load_balancer_ips)] == ["2001:db8::1", "2001:db8::5"]


def test_names_and_policies():
    state = cluster(
        service("s", clusterIP="10.96.0.7"), service("t", externalIPs=["1.2.3.4"], externalTrafficPolicy="Local")
    )
    [plain] = port_of(state)
    assert plain.spn == "default/s"
    assert (plain.externally_accessible, plain.uses_cluster_endpoints, plain.uses_local_endpoints) == (
        False,
        True,
        False,
    )
    [external] = service_ports(state.service("default", "t"), 4)
    assert (external.external_local, external.uses_local_endpoints) == (True, True)
    assert port_of(state, 6) == []


@pytest.mark.parametrize(
    ("endpoints", "spec", "internal", "external"),
    [
        ([("a", "here", R)], {**INTERNAL, **EXTERNAL}, True, True),
        ([("b", "there", R)], {**INTERNAL, **EXTERNAL}, False, False),
        ([("b", "there", R)], EXTERNAL, True, False),
        ([], {}, False, False),
    ],
)
def test_what_traffic_finds_an_endpoint(endpoints, spec, internal, external):
    made = [endpoint("10.0.0.1", where, **condition) for _, where, condition in endpoints]
    state = cluster(*NODES, service("s", **spec), endpoint_slice("s-1", "s", *made))
    [port] = port_of(state)
    found = service_endpoints(state.endpoints["default", "s"], 4, "here").get(("", "TCP"), [])
    choice = categorize(port, found, state.node("here"))
    assert (choice.has_internal, choice.has_external) == (internal, external)
