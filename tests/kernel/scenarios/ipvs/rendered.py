"""Nodes as our agent renders them in IPVS mode: the kernel takes it all, and does with packets what kube-proxy means."""

from judge.ipvs_node import IpvsNode
from judge.rendered_ipvs import RenderedNode
from judge.scenario import scenario


@scenario(families=(4, 6))
def texts(node: IpvsNode) -> None:
    """What is rendered is what the tools print back."""
    rendered = RenderedNode(node)
    rendered.exchange("pod", rendered.at["shop"], 80)
    rendered.compare_texts()


@scenario(families=(4, 6))
def cluster_ip_in_turn(node: IpvsNode) -> None:
    """A pod's connections to a cluster IP reach both endpoints, in turn, with the pod's address."""
    rendered = RenderedNode(node)
    met = []
    for sport in range(40000, 40004):
        rendered.exchange("pod", rendered.at["shop"], 80, sport)
        met.append(rendered.served)
        assert rendered.source == rendered.at["pod"]
    assert met in (["web", "far"] * 2, ["far", "web"] * 2)


@scenario(families=(4, 6))
def external_ip_from_the_world(node: IpvsNode) -> None:
    """An external IP: masqueraded."""
    rendered = RenderedNode(node)
    for sport in (40000, 40001):
        rendered.exchange("world", rendered.at["external"], 80, sport)
        assert rendered.source != rendered.at["world"]


@scenario(families=(4, 6))
def node_port_from_the_world(node: IpvsNode) -> None:
    """A node port: masqueraded, whoever serves."""
    rendered = RenderedNode(node)
    for sport in (40000, 40001):
        rendered.exchange("world", rendered.node_ip, 30080, sport)
        assert rendered.source != rendered.at["world"]


@scenario(families=(4, 6))
def policy_local(node: IpvsNode) -> None:
    """A load balancer of policy Local: the node's own endpoint, with the client's address, for whoever may come."""
    rendered = RenderedNode(node)
    for sport in (40000, 40001):
        rendered.exchange("neighbour", rendered.at["edge balancer"], 80, sport)
        assert (rendered.served, rendered.source) == ("web", rendered.at["neighbour"])
    assert not rendered.first("world", rendered.at["edge balancer"], 80, 40002)
    rendered.first("pod", rendered.at["edge balancer"], 80, 40003)


@scenario()
def policy_local_without_an_endpoint(node: IpvsNode) -> None:
    """Policy Local where the node has no endpoint: the others serve, which the other modes never do."""
    rendered = RenderedNode(node, gone=("web",))
    rendered.exchange("neighbour", rendered.at["edge balancer"], 80)
    assert (rendered.served, rendered.source) == ("far", rendered.at["neighbour"])


@scenario(families=(4, 6))
def hairpin(node: IpvsNode) -> None:
    """A pod that reaches itself is masqueraded."""
    rendered = RenderedNode(node, gone=("far",))
    rendered.exchange("web", rendered.at["shop"], 80)
    assert rendered.source != rendered.at["web"]


@scenario(families=(4, 6))
def no_endpoint(node: IpvsNode) -> None:
    """A Service without endpoints: port unreachable, from the Service's address."""
    rendered = RenderedNode(node)
    (frame,) = rendered.first("pod", rendered.at["empty"], 80)
    assert frame.packet


@scenario(families=(4, 6))
def another_port(node: IpvsNode) -> None:
    """A port that no Service has at a service address: refused, though the address is the node's."""
    rendered = RenderedNode(node)
    node.listen("tcp", 22)
    assert rendered.first("pod", rendered.at["shop"], 22)


@scenario(families=(4, 6))
def closed_to_the_node(node: IpvsNode) -> None:
    """A load balancer whose source ranges do not hold the node: its own packets are dropped on their way out."""
    rendered = RenderedNode(node)
    balancer = rendered.at["closed balancer"]
    rendered.own(balancer, balancer, 80)
    assert not rendered.served


@scenario(families=(4, 6))
def open_to_the_node(node: IpvsNode) -> None:
    """A load balancer whose source ranges hold the node: the node reaches it from the balancer's own address."""
    rendered = RenderedNode(node)
    balancer = rendered.at["edge balancer"]
    rendered.own(balancer, balancer, 80)


@scenario(families=(4, 6))
def udp(node: IpvsNode) -> None:
    """UDP: datagrams of one client stay, clients take turns; an endpoint goes at once."""
    rendered = RenderedNode(node, protocol="udp")
    for sport in (40000, 40001, 40000):
        rendered.exchange("pod", rendered.at["dns"], 80, sport)
    rendered.change("web")
    for sport in (40000, 40001):
        rendered.exchange("pod", rendered.at["dns"], 80, sport)
        assert rendered.served == "far"


@scenario(families=(4, 6))
def sctp_node_port(node: IpvsNode) -> None:
    """SCTP: node ports are a set of addresses and ports."""
    rendered = RenderedNode(node, gone=("far",), protocol="sctp")
    rendered.first("world", rendered.node_ip, 30088)
    assert rendered.source != rendered.at["world"]


@scenario(families=(4, 6))
def graceful_termination(node: IpvsNode) -> None:
    """An endpoint goes while it is used: its connection goes on, new ones go elsewhere; then it comes again."""
    rendered = RenderedNode(node)
    rendered.exchange("pod", rendered.at["shop"], 80, 40000)
    leaving = rendered.served
    rendered.change(leaving, connections=1)
    rendered.talk("pod", 40000)
    for sport in (40001, 40002):
        rendered.exchange("pod", rendered.at["shop"], 80, sport)
        assert rendered.served != leaving
    rendered.change(connections=1)
    rendered.talk("pod", 40000)
    for sport in (40003, 40004):
        rendered.exchange("pod", rendered.at["shop"], 80, sport)


@scenario(families=(4, 6))
def session_affinity(node: IpvsNode) -> None:
    """sessionAffinity: a client stays with an endpoint, and takes another when that is leaving."""
    rendered = RenderedNode(node)
    rendered.exchange("pod", rendered.at["sticky"], 80, 40000)
    first = rendered.served
    rendered.exchange("pod", rendered.at["sticky"], 80, 40001)
    assert rendered.served == first
    rendered.change(first, connections=1)
    rendered.exchange("pod", rendered.at["sticky"], 80, 40002)
    assert rendered.served != first


@scenario()
def maglev(node: IpvsNode) -> None:
    """ipvs.scheduler mh: the client's port is part of the hash."""
    rendered = RenderedNode(node, scheduler="mh")
    met = set()
    for sport in range(40000, 40010):
        rendered.first("pod", rendered.at["shop"], 80, sport)
        met.add(rendered.served)
    assert met == {"web", "far"}


@scenario(families=(4, 6))
def no_detector(node: IpvsNode) -> None:
    """Nothing tells pods from others: cluster IPs are not masqueraded, but what the node sends with their address."""
    rendered = RenderedNode(node, gone=("web",), cluster_cidrs=())
    rendered.exchange("world", rendered.at["shop"], 80)
    assert rendered.source == rendered.at["world"]
    rendered.own(rendered.at["shop"], rendered.at["shop"], 80, 40001)
    assert rendered.source != rendered.at["shop"]


@scenario()
def arp_for_a_service_address(node: IpvsNode) -> None:
    """The device is down and does no ARP, and yet others answer for its addresses."""
    rendered = RenderedNode(node)
    assert rendered.ask("world", rendered.at["external"])


@scenario()
def strict_arp(node: IpvsNode) -> None:
    """strictARP: nobody answers for a service address; for the node's own it does."""
    rendered = RenderedNode(node, strict_arp=True)
    assert not rendered.ask("world", rendered.at["external"])
    assert rendered.ask("world", rendered.node_ip)
