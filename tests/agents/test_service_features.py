"""Every feature of a Service, as packets: who gets them, under which address, and what becomes of the rest.

Three nodes in zones a, b and b; node-1 has two web pods, node-2 one, node-3 none; each node has a client.
"""

from dataclasses import dataclass
from typing import Any

import pytest

from dataplane.cluster import complete, read_manifests
from dataplane.emulation import Cluster
from dataplane.errors import ManifestError
from dataplane.testing import Conversation, Run
from dataplane.testing.run import arrived
from dataplane.testing.wire import TCP, UDP

WEB = {"web-0": "node-1", "web-1": "node-1", "web-2": "node-2"}
ALL, ON_1, ON_2 = set(WEB), {"web-0", "web-1"}, {"web-2"}
CLIENTS = {f"client-{number}": f"node-{number}" for number in (1, 2, 3)}
VIP, EXTERNAL, OUTSIDE = "198.51.100.7", "198.51.100.8", "203.0.113.77"
NODE_PORT = 30080
REJECTED, DROPPED = "NETFILTER_REJECT", "NETFILTER_DROP"


def node(number: int) -> dict[str, Any]:
    zone = "a" if number == 1 else "b"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{number}", "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"podCIDRs": [f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": f"192.168.1.1{number}"},
                {"type": "InternalIP", "address": f"fd00:1::1{number}"},
            ]
        },
    }


def pod(name: str, where: str, number: int) -> dict[str, Any]:
    address = f"10.244.{where[-1]}.{number}"
    ports = [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 5353, "protocol": "UDP"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name.partition("-")[0]}},
        "spec": {"nodeName": where, "containers": [{"name": "c", "image": "i", "ports": ports}]},
        "status": {"podIPs": [{"ip": address}, {"ip": f"fd00:10:244:{where[-1]}::{number}"}]},
    }


PLACES = [
    *(node(number) for number in (1, 2, 3)),
    *(pod(name, where, 10 + number) for number, (name, where) in enumerate((WEB | CLIENTS).items())),
]
PORT = {"name": "http", "port": 80, "targetPort": "http"}


def service(spec: dict[str, Any] | None = None, name: str = "web", **others: Any) -> dict[str, Any]:
    spec = {
        "clusterIP": "10.96.0.20" if "clusterIPs" not in (spec or {}) else "",
        "selector": {"app": "web"},
        "ports": [PORT],
        **(spec or {}),
    }
    metadata = {"name": name, **{key: others.pop(key) for key in ("labels", "annotations") if key in others}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, **others}


def cluster(*documents: dict[str, Any], version: tuple[int, int] = (1, 30), seed: int = 0) -> Cluster:
    return Cluster(complete(read_manifests([*PLACES, *documents])), kube_version=version, seed=seed)


def balancer(spec: dict[str, Any], **entry: str) -> dict[str, Any]:
    status = {"loadBalancer": {"ingress": [entry or {"ip": VIP}]}}
    ports = spec.pop("ports", [{**PORT, "nodePort": NODE_PORT}])
    return service({"type": "LoadBalancer", "ports": ports, **spec}, status=status)


def ask(run: Run, client: str, target: str, port: int, protocol: int = TCP, *, sport: int, source: str = "") -> str:
    """Who gets it, and "<who>, from <source>" where that is not the client's own address; the reason where nobody does."""
    host = f"default/{client}" if client.startswith("client") else client
    played = run.play(Conversation(host, target, protocol, sport, port, source=source))
    first = played.requests[0]
    if not first.delivered:
        return first.reason.name
    assert played.complete, played
    name = first.receiver.removeprefix("default/")
    seen = str(arrived(first).source)
    own = source or str(run.address(host, 6 if ":" in target else 4))
    return name if seen == own else f"{name}, from {seen}"


@dataclass(frozen=True)
class Probe:
    """Sixty connections of a client. reached: all that get some, each at least once, under the client's own address or
    under the one named; or what becomes of all of them."""

    client: str
    target: str
    reached: set[str] | dict[str, str] | str
    port: int = 80
    source: str = ""
    """The client's, where it is not its first"""
    protocol: int = TCP

    def check(self, run: Run) -> None:
        got = {
            ask(run, self.client, self.target, self.port, self.protocol, sport=sport, source=self.source)
            for sport in range(40_000, 40_060)
        }
        if isinstance(self.reached, dict):
            assert got == {f"{name}, from {source}" for name, source in self.reached.items()}
        else:
            assert got == ({self.reached} if isinstance(self.reached, str) else self.reached)


def masqueraded(by: int, names: set[str] = ALL) -> dict[str, str]:
    """Under the address of the node's interface that leads to the pod: cni0, or flannel.1."""
    return {name: f"10.244.{by}.{1 if WEB[name] == f'node-{by}' else 0}" for name in names}


BALANCED = {f"{name}, from {seen}" for by in (1, 2, 3) for name, seen in masqueraded(by).items()}


@dataclass(frozen=True)
class Feature:
    documents: tuple[dict[str, Any], ...]
    probes: tuple[Probe, ...]
    version: tuple[int, int] = (1, 30)


CLUSTER_IP = "10.96.0.20"
ON_PORT = {"type": "NodePort", "ports": [{**PORT, "nodePort": NODE_PORT}]}


def slices(*endpoints: dict[str, Any], name: str = "web", kind: str = "IPv4", **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-{kind.lower()}", "labels": {"kubernetes.io/service-name": name, **labels}},
        "addressType": kind,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


def endpoint(name: str, zones: tuple[str, ...] = (), nodes: tuple[str, ...] = (), **conditions: bool) -> dict[str, Any]:
    number = list(WEB).index(name) + 10
    made: dict[str, Any] = {"addresses": [f"10.244.{WEB[name][-1]}.{number}"], "nodeName": WEB[name]}
    made["conditions"] = conditions
    if zones or nodes:
        made["hints"] = {"forZones": [{"name": zone} for zone in zones], "forNodes": [{"name": n} for n in nodes]}
    return made


READY, NOT_READY = {"ready": True}, {"ready": False, "serving": False}
LEAVING = {"ready": False, "serving": True, "terminating": True}
STOPPED = {"ready": False, "serving": False, "terminating": True}
HINTED = [endpoint("web-0", ("a",)), endpoint("web-1", ("a",)), endpoint("web-2", ("b",))]
AUTO = {"service.kubernetes.io/topology-mode": "Auto"}

FEATURES: dict[str, Feature] = {
    "ClusterIP: every endpoint, pods under their own addresses": Feature(
        (service(),), (Probe("client-1", CLUSTER_IP, ALL), Probe("client-3", CLUSTER_IP, ALL))
    ),
    "ClusterIP: processes of a node are masqueraded": Feature(
        (service(),), (Probe("node-2", CLUSTER_IP, masqueraded(2)),)
    ),
    "ClusterIP: a port that the Service does not have is nobody's": Feature(
        (service(),), (Probe("client-1", CLUSTER_IP, "IP_INADDRERRORS", port=81),)
    ),
    "several ports, by name and number, of one number in two protocols": Feature(
        (
            service(
                {
                    "ports": [
                        PORT,
                        {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"},
                        {"name": "dns-tcp", "port": 53, "targetPort": 5353},
                    ]
                }
            ),
        ),
        (
            Probe("client-1", CLUSTER_IP, ALL),
            Probe("client-1", CLUSTER_IP, ALL, port=53, protocol=UDP),
            Probe("client-1", CLUSTER_IP, ALL, port=53),
            Probe("client-1", CLUSTER_IP, "IP_INADDRERRORS", port=80, protocol=UDP),
        ),
    ),
    "NodePort: on every node, from everywhere, masqueraded": Feature(
        (service(ON_PORT),),
        (
            Probe("outside", "192.168.1.11", masqueraded(1), port=NODE_PORT),
            Probe("outside", "192.168.1.13", masqueraded(3), port=NODE_PORT),
            Probe("client-1", "192.168.1.12", masqueraded(2), port=NODE_PORT),
            Probe("client-1", "192.168.1.11", masqueraded(1), port=NODE_PORT),
            Probe("client-1", CLUSTER_IP, ALL),
        ),
    ),
    "NodePort: by the node's own 127.0.0.1": Feature(
        (service(ON_PORT),), (Probe("node-1", "127.0.0.1", masqueraded(1), port=NODE_PORT, source="127.0.0.1"),)
    ),
    "LoadBalancer: its address leads in from everywhere": Feature(
        (balancer({}),),
        (
            Probe("outside", VIP, masqueraded(1)),
            Probe("client-3", VIP, masqueraded(3)),
            Probe("node-3", VIP, masqueraded(3)),
            Probe("outside", "192.168.1.12", masqueraded(2), port=NODE_PORT),
        ),
    ),
    "LoadBalancer: an address of ipMode Proxy is for the balancer, not for the nodes": Feature(
        (balancer({}, ip=VIP, ipMode="Proxy"),),
        # ... which sends it to any node, and that one on: the client's own node would have kept its packets.
        (Probe("client-1", VIP, BALANCED), Probe("client-1", CLUSTER_IP, ALL)),
    ),
    "LoadBalancer: a name without an address leads nowhere": Feature(
        (balancer({}, hostname="lb.example.com"),),
        (Probe("client-1", VIP, {"outside": "192.168.1.11"}), Probe("client-1", CLUSTER_IP, ALL)),
    ),
    "LoadBalancer: without node ports": Feature(
        (balancer({"allocateLoadBalancerNodePorts": False, "ports": [PORT]}),), (Probe("outside", VIP, masqueraded(1)),)
    ),
    "LoadBalancer: source ranges hold for the address, not for node ports": Feature(
        (balancer({"loadBalancerSourceRanges": ["203.0.113.0/24", " 10.244.3.0/24"]}),),
        (
            Probe("outside", VIP, masqueraded(1)),
            Probe("outside", VIP, DROPPED, source="192.0.2.1"),
            Probe("client-1", VIP, DROPPED),
            Probe("client-3", VIP, masqueraded(3)),
            Probe("outside", "192.168.1.12", masqueraded(2), port=NODE_PORT, source="192.0.2.1"),
        ),
    ),
    "externalIPs: lead in with any type": Feature(
        (service({"externalIPs": [EXTERNAL]}),),
        (Probe("outside", EXTERNAL, masqueraded(1)), Probe("client-2", EXTERNAL, masqueraded(2))),
    ),
    "externalIPs: with policy Local": Feature(
        (service({"externalIPs": [EXTERNAL], "externalTrafficPolicy": "Local"}),),
        (Probe("outside", EXTERNAL, ON_1), Probe("client-3", EXTERNAL, ALL)),
    ),
    "externalTrafficPolicy Local: the node's own endpoints, the client's own address": Feature(
        (balancer({"externalTrafficPolicy": "Local"}),),
        (
            Probe("outside", "192.168.1.11", ON_1, port=NODE_PORT),
            Probe("outside", "192.168.1.12", ON_2, port=NODE_PORT),
            Probe("outside", "192.168.1.13", DROPPED, port=NODE_PORT),
            Probe("outside", VIP, ON_1),
            # Pods and the node itself go on to every endpoint.
            Probe("client-3", "192.168.1.13", ALL, port=NODE_PORT),
            Probe("client-3", VIP, ALL),
            Probe("node-3", VIP, masqueraded(3)),
            # From another node's pods it is traffic from outside, under the node's address.
            Probe("client-1", "192.168.1.13", DROPPED, port=NODE_PORT),
        ),
    ),
    "internalTrafficPolicy Local: the node's own endpoints or none": Feature(
        (service({"internalTrafficPolicy": "Local", **ON_PORT}),),
        (
            Probe("client-1", CLUSTER_IP, ON_1),
            Probe("client-2", CLUSTER_IP, ON_2),
            Probe("client-3", CLUSTER_IP, DROPPED),
            Probe("node-2", CLUSTER_IP, masqueraded(2, ON_2)),
            Probe("outside", "192.168.1.13", masqueraded(3), port=NODE_PORT),
        ),
    ),
    "no endpoint: refused": Feature(
        (balancer({"selector": {"app": "nobody"}, "externalIPs": [EXTERNAL]}),),
        (
            Probe("client-1", CLUSTER_IP, REJECTED),
            Probe("client-1", VIP, REJECTED),
            Probe("outside", VIP, REJECTED),
            Probe("outside", EXTERNAL, REJECTED),
            Probe("outside", "192.168.1.12", REJECTED, port=NODE_PORT),
        ),
    ),
    "no endpoint: the node's own packets to an outer address leave it": Feature(
        (balancer({"selector": {"app": "nobody"}}),),
        # The router has no host of this address: it is the cluster's.
        (Probe("node-3", VIP, "IP_INADDRERRORS"), Probe("node-3", CLUSTER_IP, REJECTED)),
    ),
    "conditions: only ready endpoints, though others serve": Feature(
        (service(), slices(endpoint("web-0", **READY), endpoint("web-1", **NOT_READY), endpoint("web-2", **LEAVING))),
        (Probe("client-3", CLUSTER_IP, {"web-0"}),),
    ),
    "conditions: what serves while it terminates, when nothing is ready": Feature(
        (service(), slices(endpoint("web-0", **NOT_READY), endpoint("web-1", **LEAVING), endpoint("web-2", **STOPPED))),
        (Probe("client-3", CLUSTER_IP, {"web-1"}),),
    ),
    "conditions: the two policies fall back each for itself": Feature(
        (
            balancer({"externalTrafficPolicy": "Local"}),
            slices(endpoint("web-0", **LEAVING), endpoint("web-1", **NOT_READY), endpoint("web-2", **READY)),
        ),
        (
            Probe("outside", "192.168.1.11", {"web-0"}, port=NODE_PORT),
            Probe("client-1", CLUSTER_IP, {"web-2"}),
        ),
    ),
    "conditions: nothing that serves is nothing at all": Feature(
        (service(), slices(endpoint("web-0", **NOT_READY), endpoint("web-2", **STOPPED))),
        (Probe("client-3", CLUSTER_IP, REJECTED),),
    ),
    "conditions: left out, they mean ready": Feature(
        (service(), slices(endpoint("web-0"), endpoint("web-2"))), (Probe("client-3", CLUSTER_IP, {"web-0", "web-2"}),)
    ),
    "topology: hints count where the Service is annotated": Feature(
        (service(annotations=AUTO), slices(*HINTED)),
        (Probe("client-1", CLUSTER_IP, ON_1), Probe("client-2", CLUSTER_IP, ON_2), Probe("client-3", CLUSTER_IP, ON_2)),
    ),
    "topology: hints of a Service without the annotation are nothing to 1.30": Feature(
        (service(), slices(*HINTED)), (Probe("client-1", CLUSTER_IP, ALL),)
    ),
    "topology: hints alone decide from 1.31 on": Feature(
        (service(), slices(*HINTED)), (Probe("client-1", CLUSTER_IP, ON_1),), version=(1, 31)
    ),
    "topology: one endpoint without a hint ends it": Feature(
        (service(annotations=AUTO), slices(*HINTED[:2], endpoint("web-2"))), (Probe("client-1", CLUSTER_IP, ALL),)
    ),
    "topology: nothing hinted for the zone ends it": Feature(
        (service(annotations=AUTO), slices(*HINTED[:2])), (Probe("client-3", CLUSTER_IP, ON_1),)
    ),
    "topology: policies come first": Feature(
        (service({"internalTrafficPolicy": "Local"}, annotations=AUTO), slices(*HINTED)),
        (Probe("client-2", CLUSTER_IP, ON_2), Probe("client-3", CLUSTER_IP, DROPPED)),
    ),
    "trafficDistribution PreferClose: the client's zone": Feature(
        (service({"trafficDistribution": "PreferClose"}),),
        (Probe("client-1", CLUSTER_IP, ON_1), Probe("client-3", CLUSTER_IP, ON_2)),
        version=(1, 31),
    ),
    "trafficDistribution: 1.30 does not know it": Feature(
        (service({"trafficDistribution": "PreferClose"}),), (Probe("client-1", CLUSTER_IP, ALL),)
    ),
    "trafficDistribution PreferSameNode: the client's node, else its zone": Feature(
        (service({"trafficDistribution": "PreferSameNode"}),),
        (Probe("client-2", CLUSTER_IP, ON_2), Probe("client-3", CLUSTER_IP, ON_2)),
        version=(1, 34),
    ),
    "a Service without a selector: endpoints by hand, of the cluster and beyond": Feature(
        (
            service({"selector": None, "ports": [PORT]}),
            slices(endpoint("web-2"), {"addresses": ["192.0.2.80"]}),
        ),
        (Probe("client-3", CLUSTER_IP, {"web-2", "outside, from 192.168.1.13"}),),
    ),
    "a Service without a selector and without endpoints": Feature(
        (service({"selector": None}),), (Probe("client-1", CLUSTER_IP, REJECTED),)
    ),
    "several EndpointSlices are one list; another Service's are not in it": Feature(
        (
            service(),
            slices(endpoint("web-0")),
            {
                **slices(endpoint("web-2"), endpoint("web-0")),
                "metadata": {"name": "second", "labels": {"kubernetes.io/service-name": "web"}},
            },
            {
                **slices(endpoint("web-1")),
                "metadata": {"name": "third", "labels": {"kubernetes.io/service-name": "other"}},
            },
        ),
        (Probe("client-3", CLUSTER_IP, {"web-0", "web-2"}),),
    ),
    "another proxy's Service is not served": Feature(
        (service(labels={"service.kubernetes.io/service-proxy-name": "mine"}),),
        (Probe("client-1", CLUSTER_IP, "IP_INADDRERRORS"),),
    ),
    "another proxy's EndpointSlice is not read": Feature(
        (service(), slices(endpoint("web-0"), **{"service.kubernetes.io/service-proxy-name": "mine"})),
        (Probe("client-1", CLUSTER_IP, REJECTED),),
    ),
    "dual stack: both families, each to its own endpoints": Feature(
        (service({"clusterIPs": [CLUSTER_IP, "fd00:10:96::20"], "ipFamilyPolicy": "RequireDualStack"}),),
        (Probe("client-1", CLUSTER_IP, ALL), Probe("client-1", "fd00:10:96::20", ALL)),
    ),
    "single stack IPv6 in a cluster of both": Feature(
        (service({"clusterIP": "fd00:10:96::20", "ipFamilies": ["IPv6"]}),),
        (Probe("client-1", "fd00:10:96::20", ALL), Probe("client-1", CLUSTER_IP, "IP_INADDRERRORS")),
    ),
}


@pytest.mark.parametrize("name", FEATURES)
def test_feature(name: str) -> None:
    feature = FEATURES[name]
    run = Run(cluster(*feature.documents, version=feature.version))
    for probe in feature.probes:
        probe.check(run)


def test_a_headless_service_and_an_external_name_have_no_rules() -> None:
    headless = service({"clusterIP": "None"}, name="headless")
    name = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "name"}}
    made = cluster(headless, {**name, "spec": {"type": "ExternalName", "externalName": "example.com"}})
    assert "headless" not in rules(made)
    assert "default/name" not in rules(made)
    # Its endpoints are told all the same: that is what a name server answers with.
    assert len(made.state.endpoints["default", "headless"][0].endpoints) == 3
    assert ("default", "name") not in {key for key, found in made.state.endpoints.items() if found}
    assert [note for note in made.notes if "Service default/name: spec.externalName" in note]


def rules(made: Cluster, node: str = "node-1") -> str:
    config = made.host_config(node)
    assert config.iptables is not None
    assert config.ip6tables is not None
    return config.iptables.text() + config.ip6tables.text()


def test_addresses_that_are_not_published_before_they_are_ready() -> None:
    pods = [pod(name, where, 10 + number) for number, (name, where) in enumerate(WEB.items())]
    for entry in pods:
        entry["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    places = [entry for entry in PLACES if entry["metadata"]["name"] not in WEB]

    def run(**spec: bool) -> Run:
        return Run(Cluster(complete(read_manifests([*places, *pods, service(spec)]))))

    Probe("client-1", CLUSTER_IP, REJECTED).check(run())
    Probe("client-1", CLUSTER_IP, ALL).check(run(publishNotReadyAddresses=True))


def test_node_ports_are_drawn_where_none_are_given() -> None:
    two = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    made = cluster(service({"type": "NodePort", "ports": [PORT, *two]}))
    http, udp, tcp = (port.node_port for port in made.state.services[-1].ports)
    assert udp == tcp != http
    assert 30000 <= http <= 32767
    Probe("outside", "192.168.1.12", masqueraded(2), port=http).check(Run(made))


def test_a_balancer_without_node_ports_has_none() -> None:
    with_ports = cluster(balancer({"ports": [PORT]}))
    without = cluster(balancer({"ports": [PORT], "allocateLoadBalancerNodePorts": False}))
    assert with_ports.state.services[-1].ports[0].node_port
    assert not without.state.services[-1].ports[0].node_port
    assert "-A KUBE-NODEPORTS" in rules(with_ports)
    assert "-A KUBE-NODEPORTS" not in rules(without)
    assert f"-A KUBE-SERVICES -d {VIP}/32" in rules(without)


@pytest.mark.parametrize(
    ("spec", "families"),
    [
        ({}, [4]),
        ({"ipFamilyPolicy": "SingleStack"}, [4]),
        ({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}, [6]),
        ({"ipFamilyPolicy": "PreferDualStack"}, [4, 6]),
        ({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]}, [6, 4]),
        ({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}, [6, 4]),
        ({"ipFamilies": ["IPv4", "IPv6"]}, [4, 6]),
        ({"clusterIP": "fd00:10:96::5"}, [6]),
    ],
)
def test_families_of_a_service(spec: dict[str, Any], families: list[int]) -> None:
    """They decide its addresses, its EndpointSlices and the rules of each family."""
    made = cluster(service({"clusterIP": "", **spec}), service({"clusterIPs": [CLUSTER_IP, "fd00:10:96::20"]}, "both"))
    (web,) = [entry for entry in made.state.services if entry.name == "web"]
    assert list(web.ip_families) == [ip.version for ip in web.cluster_ips] == families
    assert sorted(piece.family or 0 for piece in made.state.endpoints["default", "web"]) == sorted(families)
    config = made.host_config("node-2")
    for family, ruleset in ((4, config.iptables), (6, config.ip6tables)):
        assert ruleset is not None
        assert ("default/web:http" in ruleset.text()) == (family in families)


def test_two_families_where_the_cluster_has_one() -> None:
    places = [{**node(n), "spec": {"podCIDR": f"10.244.{n}.0/24"}, "status": {}} for n in (1, 2)]

    def made(policy: str) -> Cluster:
        return Cluster(complete(read_manifests([*places, service({"ipFamilyPolicy": policy})]), families=(4,)))

    assert list(made("PreferDualStack").state.services[-1].ip_families) == [4]
    with pytest.raises(ManifestError, match="RequireDualStack"):
        made("RequireDualStack")


def test_a_client_keeps_its_endpoint() -> None:
    """By its address, whatever the port and wherever it comes in, until it has been away for the timeout."""
    sticky = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 30}}}
    run = Run(cluster(service({**sticky, **ON_PORT})))

    def reached(count: int, target: str = CLUSTER_IP, port: int = 80) -> set[str]:
        ports = iter(range(run.now // 1_000_000 % 20_000 + 40_000, 65_536))
        return {ask(run, "client-1", target, port, sport=next(ports)).partition(",")[0] for _ in range(count)}

    (first,) = reached(20)
    assert reached(5, "192.168.1.11", NODE_PORT) == {first}
    run.wait(29_000_000_000)
    assert reached(1) == {first}
    run.wait(29_000_000_000)  # each new connection begins the time anew
    assert reached(1) == {first}
    later = set()
    for _ in range(12):
        run.wait(31_000_000_000)
        later |= reached(1)
    assert later == ALL
    others = {ask(run, "node-1", CLUSTER_IP, 80, sport=41_000, source=f"192.0.2.{n}") for n in range(1, 31)}
    assert {name.partition(",")[0] for name in others} == ALL


def test_a_pod_behind_its_own_service_speaks_to_itself_through_the_bridge() -> None:
    run = Run(cluster(service(), slices(endpoint("web-0"))))
    played = run.play(Conversation("default/web-0", CLUSTER_IP, TCP, 40_000, 80))
    assert played.complete
    assert played.endpoints == ("default/web-0",)
    assert str(arrived(played.requests[0]).source) == "10.244.1.1"


def test_sctp() -> None:
    """An association by ClusterIP and by node port; its checksum is right behind both translations."""
    port = {"name": "m3ua", "port": 2905, "targetPort": 2905, "protocol": "SCTP", "nodePort": 30905}
    pieces = slices(endpoint("web-2"))
    pieces["ports"] = [{"name": "m3ua", "port": 2905, "protocol": "SCTP"}]
    run = Run(cluster(service({"type": "NodePort", "ports": [port]}), pieces))
    layers = pytest.importorskip("scapy.layers.inet")
    sctp = pytest.importorskip("scapy.layers.sctp")
    for sender, source, target, number, seen_as in (
        ("default/client-1", "10.244.1.13", CLUSTER_IP, 2905, "10.244.1.13"),
        ("outside", "203.0.113.77", "192.168.1.11", 30905, "10.244.1.0"),
    ):
        chunk = sctp.SCTPChunkInit(init_tag=7, n_in_streams=1, n_out_streams=1)
        sent = layers.IP(src=source, dst=target) / sctp.SCTP(sport=40_000, dport=number) / chunk
        passage = run.send(sender, bytes(sent))
        assert passage.receiver == "default/web-2", passage
        got = layers.IP(passage.arrived)
        assert (got.src, got.dst, got[sctp.SCTP].dport) == (seen_as, "10.244.2.12", 2905)
        claimed = got[sctp.SCTP].chksum
        del got[sctp.SCTP].chksum
        assert layers.IP(bytes(got))[sctp.SCTP].chksum == claimed


def test_hints_that_follow_from_cpus() -> None:
    """Zone b has three quarters of them: one of the two endpoints in zone a serves it, too."""
    cpus = {"node-1": "2", "node-2": "4", "node-3": "2000m"}
    places = [
        {**entry, "status": {**entry["status"], "allocatable": {"cpu": cpus[entry["metadata"]["name"]]}}}
        if entry["kind"] == "Node"
        else entry
        for entry in PLACES
    ]
    third = pod("web-3", "node-3", 30)
    run = Run(Cluster(complete(read_manifests([*places, third, service(annotations=AUTO)]))))
    Probe("client-1", CLUSTER_IP, {"web-1"}).check(run)
    Probe("client-2", CLUSTER_IP, {"web-0", "web-2", "web-3"}).check(run)


def test_what_a_service_does_not_say_is_not_changed_by_its_order() -> None:
    """Rules follow from names, not from the order of documents."""
    documents = [service({"clusterIP": ""}, name=name) for name in ("a", "b", "c")]
    assert rules(cluster(*documents)) == rules(cluster(*reversed(documents)))
