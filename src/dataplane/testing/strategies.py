"""hypothesis strategies for clusters, hosts, packets and what happens among them. Everything shrinks to the plain case:
one node, one Service, one endpoint, UDP in IPv4, an empty payload."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_interface
from typing import Any

from hypothesis import strategies as st

from dataplane.agents.underlay import OUTSIDE
from dataplane.cluster import complete, read_manifests
from dataplane.emulation import Cluster
from dataplane.host.config import Address, HostConfig, Link, Neighbour, Route
from dataplane.host.iptables import Ruleset
from dataplane.testing.run import Conversation
from dataplane.testing.wire import ICMP, TCP, UDP, packet

NUMBERS = {"UDP": UDP, "TCP": TCP}
PAYLOADS = st.binary(max_size=48)
PORTS = st.integers(1, 65535)
CLIENT_PORTS = st.integers(1024, 65535)


@st.composite
def clusters(draw: st.DrawFn, *, max_nodes: int = 3, max_services: int = 2, families: int = 2) -> Cluster:
    """A completed cluster: nodes, a client pod, Services of all types that have addresses of their own, with their
    Deployments. `testing.saved.manifests(cluster)` gives it back as YAML. families: 1 for IPv4 alone."""
    nodes = draw(st.integers(1, max_nodes))
    dual = families == 2 and draw(st.booleans())
    documents: list[dict[str, Any]] = [_node(number, dual) for number in range(1, nodes + 1)]
    documents.append(_pod("client", {"app": "client"}, f"node-{draw(st.integers(1, nodes))}"))
    for number in range(draw(st.integers(1, max_services))):
        name = f"svc-{number}"
        ports = [
            {"name": f"p{index}", "port": 80 + index, "protocol": protocol, "targetPort": 8080 + index}
            for index, protocol in enumerate(draw(st.lists(st.sampled_from(["UDP", "TCP"]), min_size=1, max_size=2)))
        ]
        spec: dict[str, Any] = {"selector": {"app": name}, "ports": ports}
        spec["type"] = draw(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]))
        if dual:
            spec["ipFamilyPolicy"] = "PreferDualStack"
        if draw(st.booleans()):
            spec["sessionAffinity"] = "ClientIP"
        if spec["type"] != "ClusterIP" and draw(st.booleans()):
            spec["externalTrafficPolicy"] = "Local"
        if draw(st.booleans()):
            spec["internalTrafficPolicy"] = draw(st.sampled_from(["Cluster", "Local"]))
        documents.append(_object("v1", "Service", name, spec))
        documents.append(_deployment(name, draw(st.integers(1, 4))))
    seed = draw(st.integers(0, 3))
    return Cluster(complete(read_manifests(documents), nodes, seed=seed), seed=seed)


def _object(version: str, kind: str, name: str, spec: Mapping[str, Any], **metadata: Any) -> dict[str, Any]:
    metadata = {"name": name, **({} if kind == "Node" else {"namespace": "default"}), **metadata}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def _node(number: int, dual: bool) -> dict[str, Any]:
    cidrs = [f"10.244.{number}.0/24", *([f"fd00:244:{number}::/64"] if dual else [])]
    made = _object("v1", "Node", f"node-{number}", {"podCIDR": cidrs[0], "podCIDRs": cidrs})
    addresses = [f"192.168.1.{10 + number}", *([f"fd00:192::{10 + number}"] if dual else [])]
    made["status"] = {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]}
    return made


def _pod(name: str, labels: Mapping[str, str], node: str) -> dict[str, Any]:
    spec = {"nodeName": node, "containers": [{"name": "main", "image": "busybox"}]}
    return _object("v1", "Pod", name, spec, labels=dict(labels))


def _deployment(name: str, replicas: int) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "nginx", "ports": [{"containerPort": 8080}]}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return _object("apps/v1", "Deployment", name, spec)


@st.composite
def conversations(draw: st.DrawFn, cluster: Cluster, *, protocols: tuple[int, ...] = (UDP, TCP, ICMP)) -> Conversation:
    """Somebody talks to a Service, a pod or a node of the cluster: from a pod, a node, or outside."""
    state = cluster.state
    pods = [pod for pod in state.pods if not pod.host_network and pod.ips]
    protocol = draw(st.sampled_from(protocols))
    targets: list[tuple[str, int]] = []
    if protocol != ICMP:
        for service in state.services:
            for port in service.ports:
                if NUMBERS.get(port.protocol) == protocol:
                    targets += [(str(ip), port.port) for ip in service.cluster_ips]
    inside = len(targets)
    if protocol != ICMP:
        for service in state.services:
            for port in service.ports:
                if NUMBERS.get(port.protocol) == protocol and port.node_port:
                    targets += [(str(ip), port.node_port) for ip in state.nodes[0].addresses]
    targets += [(str(ip), 8080) for pod in pods for ip in pod.ips]
    target, dport = draw(st.sampled_from(targets))
    family = ip_address(target).version
    clients = [str(pod) for pod in pods if any(ip.version == family for ip in pod.ips)]
    clients += [node.name for node in state.nodes if any(ip.version == family for ip in node.addresses)]
    if (target, dport) in targets[inside:] and any(target == str(ip) for ip in state.nodes[0].addresses):
        clients.append(OUTSIDE)
    exchanges = draw(st.lists(st.tuples(PAYLOADS, PAYLOADS), min_size=1, max_size=3))
    sport = draw(CLIENT_PORTS)
    return Conversation(draw(st.sampled_from(clients)), target, protocol, sport, dport, tuple(exchanges))


@st.composite
def packets(
    draw: st.DrawFn,
    source: str | None = None,
    destination: str | None = None,
    *,
    families: tuple[int, ...] = (4, 6),
    damaged: bool = False,
) -> bytes:
    """An IP packet: UDP, TCP or an echo request. damaged: bits may be turned over anywhere in it."""
    said = source or destination
    family = ip_address(said).version if said else draw(st.sampled_from(families))
    any_address = st.integers(1, 250).map(lambda last: f"10.0.0.{last}" if family == 4 else f"fd00::{last}")
    made = packet(
        ip_address(source or draw(any_address)),
        ip_address(destination or draw(any_address)),
        draw(st.sampled_from([UDP, TCP, ICMP])),
        (draw(PORTS), draw(PORTS)),
        draw(PAYLOADS),
        ttl=draw(st.sampled_from([64, 1, 2, 255])),
        id=draw(st.integers(0, 65535)),
        tos=draw(st.sampled_from([0, 0xB8])),
        flags=draw(st.sampled_from([0x02, 0x10, 0x18, 0x11, 0x04])),
        icmp_type=8 if family == 4 else 128,
    )
    if damaged:
        flips = draw(st.lists(st.integers(0, 8 * len(made) - 1), max_size=4))
        broken = bytearray(made)
        for bit in flips:
            broken[bit // 8] ^= 1 << bit % 8
        made = bytes(broken)
    return made


@st.composite
def hosts(draw: st.DrawFn, *, max_links: int = 4) -> HostConfig:
    """A router: links eth0, eth1, ... with a subnet and a known neighbour each (10.N.0.2, fd00:N::2), a default route by
    the last, and rules that filter, count, masquerade or translate."""
    count = draw(st.integers(2, max_links))
    links, addresses, neighbours = [Link.lo()], [], []
    for number in range(count):
        name = f"eth{number}"
        mtu = draw(st.sampled_from([1500, 1280, 9000]))
        links.append(Link(name, index=number + 2, mac=0x020000000000 + number + 1, mtu=mtu))
        for interface, peer in (
            (f"10.{number}.0.1/24", f"10.{number}.0.2"),
            (f"fd00:{number}::1/64", f"fd00:{number}::2"),
        ):
            addresses.append(Address(name, ip_interface(interface)))
            neighbours.append(Neighbour(name, ip_address(peer), 0x020000010000 + number))
    last = count - 1
    routes = [
        Route.of("0.0.0.0/0", f"eth{last}", f"10.{last}.0.2"),
        Route.of("::/0", f"eth{last}", f"fd00:{last}::2"),
    ]
    sysctl = {
        "net.ipv4.ip_forward": "1",
        "net.ipv6.conf.all.forwarding": "1",
        "net.ipv4.conf.all.rp_filter": draw(st.sampled_from(["0", "1", "2"])),
    }
    config = HostConfig(
        "router", tuple(links), tuple(addresses), tuple(routes), neighbours=tuple(neighbours), sysctl=sysctl
    )
    rules = {family: draw(_rules(family, count)) for family in (4, 6)}
    return config.completed().with_(iptables=rules[4], ip6tables=rules[6])


@st.composite
def _rules(draw: st.DrawFn, family: int, count: int) -> Ruleset | None:
    link = st.integers(0, count - 1).map("eth{}".format)
    network = st.integers(0, count - 1).map(lambda n: f"10.{n}.0.0/24" if family == 4 else f"fd00:{n}::/64")
    address = st.integers(0, count - 1).map(lambda n: f"10.{n}.0.2" if family == 4 else f"[fd00:{n}::2]")
    filters = st.one_of(
        st.builds("-A FORWARD -s {} -j ACCEPT".format, network),
        st.builds("-A FORWARD -i {} -o {} -j DROP".format, link, link),
        st.just("-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        st.builds("-A FORWARD -p udp -m udp --dport {} -j REJECT".format, st.sampled_from([53, 80])),
    )
    translations = st.one_of(
        st.builds("-A POSTROUTING -o {} -j MASQUERADE".format, link),
        st.builds("-A PREROUTING -p udp -m udp --dport {} -j DNAT --to-destination {}:8080".format, PORTS, address),
        st.builds("-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination {}:8080".format, address),
    )
    filtering, translating = draw(st.lists(filters, max_size=4)), draw(st.lists(translations, max_size=3))
    if not filtering and not translating:
        return None
    text = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
    text += "".join(f"{rule}\n" for rule in filtering) + "COMMIT\n"
    text += "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n"
    text += "".join(f"{rule}\n" for rule in translating) + "COMMIT\n"
    return Ruleset.parse(text, 4 if family == 4 else 6)


def endpoint_changes(cluster: Cluster) -> st.SearchStrategy[dict[str, Any]]:
    """Events (see dataplane.cluster.events) that change endpoints: one becomes unready, ready or terminating, a pod
    restarts with a new address, a Deployment is scaled."""
    pods = [f"pod/{pod.name}" for pod in cluster.state.pods if pod.owner is not None]
    workloads = [f"deployment/{w.name}" for w in cluster.state.workloads if w.kind == "Deployment"]
    conditions = st.sampled_from([{"ready": False}, {"ready": True}, {"terminating": True}])
    return st.one_of(
        st.builds(lambda pod, said: {"endpoint": pod, **said}, st.sampled_from(pods), conditions),
        st.builds(lambda pod: {"restart": pod}, st.sampled_from(pods)),
        st.builds(
            lambda name, count: {"scale": name, "replicas": count}, st.sampled_from(workloads), st.integers(0, 4)
        ),
    )
