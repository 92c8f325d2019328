"""dataplane describe"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from dataplane.agents.cloud.kinds import Delivery, honoured
from dataplane.agents.kubeproxy.health import HEALTHZ_PORT, HealthAnswer, health_check_port, service_health
from dataplane.agents.kubeproxy.ipvs.device import DEVICE
from dataplane.agents.kubeproxy.ipvs.proxier import IpvsProxier
from dataplane.agents.kubeproxy.ipvs.rules import IPVS_OUT_FILTER
from dataplane.cli import EXPECTED
from dataplane.cli.options import Cloud, Cni, KubeVersion, Manifests, Mode, Mtu, Nodes, Seed, report, version
from dataplane.cli.table import aligned
from dataplane.cluster import NodeState, NotModelled, PodState, ServiceState
from dataplane.cluster.descriptions import node_lines, pod_lines, service_lines
from dataplane.cluster.tables import resource, select
from dataplane.emulation import Cluster
from dataplane.errors import ModelError
from dataplane.host.ipvs import VirtualService

TOOLS: Mapping[Literal[4, 6], str] = {4: "iptables", 6: "ip6tables"}
CHAINS = ("Tool", "Table", "Chain", "Rules")
HELD = ("Tool", "Entry", "Holds")
SHOWN = 3  # servers of a virtual service


def describe(
    kind: str,
    names: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    /,
    *,
    cluster: Manifests,
    namespace: Annotated[str, Parameter(name=["--namespace", "-n"])] = "default",
    all_namespaces: Annotated[bool, Parameter(name=["--all-namespaces", "-A"], negative=())] = False,
    node: str = "",
    mode: Mode = "",
    kube_version: KubeVersion = "1.30",
    cni: Cni = "flannel",
    nodes: Nodes = 3,
    mtu: Mtu = 1500,
    seed: Seed = 0,
    cloud: Cloud = "none",
) -> int:
    """Show one object as `kubectl describe` does, what the agents of a node make of it, and what has no effect here.

    Parameters
    ----------
    kind
        service, pod or node, or a short name; or TYPE/NAME.
    names
        Only these.
    namespace
        The namespace to look into.
    all_namespaces
        Look into every namespace.
    node
        Where to look at the rules of a Service; by default the first node.
    """
    if "/" in kind:
        kind, _, name = kind.partition("/")
        names = (name, *names)
    wanted = resource(kind)
    if wanted.name not in DESCRIBED:
        raise ModelError(f"{wanted.name} cannot be described; {', '.join(DESCRIBED)} can")
    loaded = Cluster.load(
        *cluster, mode=mode, cni=cni, nodes=nodes, seed=seed, mtu=mtu, cloud=cloud, kube_version=version(kube_version)
    )
    where = None if all_namespaces else namespace
    place = node or loaded.nodes[0].name
    loaded.agents.node(place)
    items = select(loaded.state, wanted, where, names)
    if not items:
        report([f"No resources found{f' in {where} namespace' if wanted.namespaced and where is not None else ''}."])
    texts = []
    for item in items:
        lines, rendered = DESCRIBED[wanted.name]
        told = [*lines(loaded.state, item), *rendered(loaded, item, place)]
        told += _not_modelled(loaded, f"{wanted.kind} {item}" if wanted.namespaced else f"{wanted.kind} {item.name}")
        texts.append(aligned(told))
    print("\n\n".join(texts), end="")
    return EXPECTED


def _service(loaded: Cluster, service: ServiceState, node: str) -> Iterator[str]:
    """What kube-proxy makes of the Service: the chains that hold rules of it, and how many; in IPVS mode its virtual
    services and their servers, its addresses, and its members of sets."""
    rows: list[tuple[str, ...]] = []
    proxier, where = loaded.agents.proxier, loaded.agents.node(node)
    if isinstance(proxier, IpvsProxier):
        local = loaded.agents.local_addresses(node)
        for family, tool in TOOLS.items():
            held = proxier.rendered(where, family, service.namespace, service.name, local)
            rows += [
                ("ipvsadm", f"{virtual.name} -s {virtual.scheduler}", _servers(virtual)) for virtual in held.services
            ]
            rows += [("ip address", DEVICE, f"{address}/{address.max_prefixlen}") for address in held.bound]
            rows += [("ipset", name, _counted(count, "member")) for name, count in held.sets.items()]
            rows += [(tool, IPVS_OUT_FILTER, rule) for rule in held.refused_to_node]
        yield from _balancer(loaded, service)
        yield from _rendered(f"what kube-proxy writes on {node}", HELD, rows)
        return
    for family, tool in TOOLS.items():
        made = proxier.rendered(where, family, service.namespace, service.name)
        rows += [(tool, table, chain, str(count)) for (table, chain), count in made.items()]
    yield from _balancer(loaded, service)
    if not rows:
        yield from _rendered("nothing: kube-proxy leaves it alone", (), [])
        return
    yield from _rendered(f"kube-proxy's rules on {node}", CHAINS, rows)


def _balancer(loaded: Cluster, service: ServiceState) -> Iterator[str]:
    """The load balancer outside, its nodes, and what kube-proxy answers on them."""
    cloud = loaded.agents.cloud
    balancer = cloud.balancer(service) if service.type == "LoadBalancer" else None
    checked = health_check_port(service) > 0
    if balancer is None and not checked:
        return
    for front in balancer.fronts if balancer is not None else ():
        yield f"Load Balancer: {cloud.kind.title}, {front.address} {front.delivery.value}"
        if front.delivery is Delivery.ONE_NODE:
            yield f"  Announced by: {front.announcer.name if front.announcer is not None else '<none>'}"
    if balancer is not None and balancer.open:
        yield "  No node is healthy, so all receive"
    nodes = sorted(balancer.nodes, key=lambda node: node.index) if balancer is not None else loaded.nodes
    rows = []
    for node in nodes:
        found = balancer.findings[node.name] if balancer is not None else None
        answer = loaded.health(node.name, str(service)) if checked else None
        row = [node.name]
        if found is not None:
            row += ["yes" if found.healthy else "no", found.why]
        rows.append([*row, _one_line(answer) if answer is not None else ""])
    header = ["Node", *(("Healthy", "Why") if balancer is not None else ()), "kube-proxy Answers" if checked else ""]
    yield from _table([name for name in header if name], [[cell for cell in row if cell] for row in rows])


def _servers(virtual: VirtualService) -> str:
    ends = [server.endpoint for server in virtual.servers]
    more = f" + {len(ends) - SHOWN} more..." if len(ends) > SHOWN else ""
    return (",".join(ends[:SHOWN]) + more) or "no server"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _pod(loaded: Cluster, pod: PodState, node: str) -> Iterator[str]:
    """Where the pod hangs on its node, and the chains that translate to it there."""
    if pod.node is None or not pod.ips or pod.finished:
        return _rendered("nothing: it does not run", (), [])
    if pod.host_network:
        return _rendered(f"a part of {pod.node}, whose network it uses", (), [])
    wire = next(wire for wire in loaded.agents.topology() if str(pod) in (wire.host_a, wire.host_b))
    port = wire.interface_a if wire.host_b == str(pod) else wire.interface_b
    rows: list[tuple[str, ...]] = []
    what = f"a host behind {port} of {pod.node}, and an endpoint there"
    if loaded.agents.mode == "ipvs":
        for virtual in loaded.agents.host(pod.node).ipvs:
            rows += [
                ("ipvsadm", virtual.name, server.endpoint) for server in virtual.servers if server.address in pod.ips
            ]
        return _rendered(what, ("Tool", "Service", "Server"), rows)
    for family in _families(pod):
        address = pod.ip(family)
        shown = f"[{address}]:" if family == 6 else f"{address}:"
        for chain, rules in loaded.agents.firewall(pod.node, family).chains("nat").items():
            if any(f"--to-destination {shown}" in rule for rule in rules.texts):
                rows.append((TOOLS[family], "nat", chain, str(len(rules.texts))))
    return _rendered(what, CHAINS, rows)


def _families(pod: PodState) -> list[Literal[4, 6]]:
    return [family for family in TOOLS if pod.ip(family) is not None]


def _node(loaded: Cluster, node: NodeState, _: str) -> Iterator[str]:
    """Chains and rules per table, and the entries of every other part of its configuration."""
    rows = []
    for family, tool in TOOLS.items():
        for table, chains in loaded.agents.firewall(node.name, family).tables.items():
            count = sum(len(rules.texts) for rules in chains.values())
            rows.append((tool, table, str(len(chains)), str(count)))
    config = loaded.agents.host(node.name)
    for tool, table, entries in (
        ("ip", "link", config.links),
        ("ip", "address", config.addresses),
        ("ip", "route", config.routes),
        ("ip", "rule", config.rules),
        ("ip", "neighbour", config.neighbours),
        ("bridge", "fdb", config.fdb),
        ("ipset", "", config.ipsets),
        ("ipvsadm", "", config.ipvs),
    ):
        if entries or tool not in ("ipset", "ipvsadm"):
            rows.append((tool, table, "", str(len(entries))))
    yield from _health(loaded, node)
    yield from _rendered("what the tools print there", ("Tool", "Table", "Chains", "Entries"), rows)


def _health(loaded: Cluster, node: NodeState) -> Iterator[str]:
    """What the node's kube-proxy answers over HTTP."""
    rows = [
        (str(HEALTHZ_PORT), path, str(answer.status), answer.body)
        for path in ("/healthz", "/livez")
        for answer in [loaded.health(node.name, path=path)]
    ]
    for service in loaded.services:
        answer = service_health(loaded.state, service, node)
        if answer is not None:
            rows.append((str(health_check_port(service)), "/", str(answer.status), _one_line(answer)))
    yield "kube-proxy Answers:"
    yield from _table(("Port", "Path", "Status", "Body"), rows)


def _rendered(what: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    # No tab: what stands above does not widen the table below.
    yield f"Rendered as: {what}"
    if rows:
        yield from _table(header, rows)


def _one_line(answer: HealthAnswer) -> str:
    return json.dumps(json.loads(answer.body))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "  " + "\t".join(header)
    yield "  " + "\t".join("-" * len(name) for name in header)
    for row in rows:
        yield "  " + "\t".join(row)


def _not_modelled(loaded: Cluster, named: str) -> Iterator[str]:
    entries: list[NotModelled] = [
        entry
        for entry in dict.fromkeys((*loaded.state.not_modelled, *loaded.agents.not_modelled))
        if entry.object == named and not honoured(loaded.agents.cloud.kind, entry.field)
    ]
    if not entries:
        yield "Not modelled: <none>"
        return
    yield "Not modelled:"
    for entry in entries:
        yield f"  {entry.field}:\t{entry.why}"


# Resource -> its lines as kubectl prints them, and what the agents make of it.
DESCRIBED: Mapping[str, tuple[Callable[[Any, Any], Iterator[str]], Callable[[Cluster, Any, str], Iterator[str]]]] = {
    "services": (service_lines, _service),
    "pods": (pod_lines, _pod),
    "nodes": (node_lines, _node),
}
