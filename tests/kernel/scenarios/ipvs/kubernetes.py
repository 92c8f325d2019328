"""Nodes as kube-proxy configures them in IPVS mode: kube-ipvs0, ipsets, the static rules."""

from judge.ipvs_node import IpvsNode
from judge.kube_node import NODE_PORT, KubeNode
from judge.scenario import scenario


@scenario(families=(4, 6))
def pod_to_cluster_ip(node: IpvsNode) -> None:
    """A pod of this node to a pod of another: not masqueraded."""
    kube = KubeNode(node)
    kube.exchange("pod", kube.cluster_ip, 80)


@scenario(families=(4, 6))
def world_to_cluster_ip(node: IpvsNode) -> None:
    """Somebody from outside to the cluster IP: masqueraded."""
    kube = KubeNode(node)
    kube.exchange("world", kube.cluster_ip, 80)


@scenario(families=(4, 6))
def hairpin(node: IpvsNode) -> None:
    """A pod that reaches itself through the service is masqueraded (KUBE-LOOP-BACK)."""
    kube = KubeNode(node, "web")
    kube.exchange("web", kube.cluster_ip, 80)


@scenario(families=(4, 6))
def pod_to_pod_of_the_same_node(node: IpvsNode) -> None:
    """A pod to another pod of the same node."""
    kube = KubeNode(node, "web")
    kube.exchange("pod", kube.cluster_ip, 80)


@scenario(families=(4, 6))
def node_port_to_a_local_pod(node: IpvsNode) -> None:
    """A NodePort from outside: masqueraded, whoever serves."""
    kube = KubeNode(node, "web")
    kube.exchange("world", kube.node_ip, NODE_PORT)


@scenario(families=(4, 6))
def node_port_to_a_remote_pod(node: IpvsNode) -> None:
    """A NodePort from outside, served on another node: in and out at one interface."""
    kube = KubeNode(node, "far")
    kube.exchange("world", kube.node_ip, NODE_PORT)


@scenario(families=(4, 6))
def node_port_from_a_pod(node: IpvsNode) -> None:
    """A pod to the node's own NodePort."""
    kube = KubeNode(node, "far")
    kube.exchange("pod", kube.node_ip, NODE_PORT)


@scenario()
def node_port_of_policy_local(node: IpvsNode) -> None:
    """externalTrafficPolicy Local: not masqueraded."""
    kube = KubeNode(node, "web", local=True)
    kube.exchange("world", kube.node_ip, NODE_PORT)


@scenario(families=(4, 6))
def udp_in_turn(node: IpvsNode) -> None:
    """DNS: datagrams of several clients in turn."""
    kube = KubeNode(node, "web", "far", protocol="udp")
    for sport in (40000, 40001, 40002, 40000):
        kube.exchange("pod", kube.cluster_ip, 80, sport)


@scenario(families=(4, 6))
def external_ip(node: IpvsNode) -> None:
    """An external IP from the world: masqueraded, policy Cluster."""
    kube = KubeNode(node, "web")
    kube.exchange("world", kube.external_ip, 80)


@scenario(families=(4, 6))
def load_balancer(node: IpvsNode) -> None:
    """A load balancer's address, policy Cluster: masqueraded."""
    kube = KubeNode(node, "web")
    kube.exchange("world", kube.balancer_ip, 80)


@scenario()
def load_balancer_source_ranges(node: IpvsNode) -> None:
    """loadBalancerSourceRanges: others are dropped in INPUT."""
    kube = KubeNode(node, "web", ranges="192.168.0.0/28")
    assert not kube.first("world", kube.balancer_ip, 80)
    kube.exchange("neighbour", kube.balancer_ip, 80)


@scenario(families=(4, 6))
def no_endpoints(node: IpvsNode) -> None:
    """A service without endpoints: port unreachable from its address, to pods and to the world."""
    kube = KubeNode(
        node,
    )
    kube.remove("far")
    kube.first("pod", kube.cluster_ip, 80)
    kube.first("world", kube.node_ip, NODE_PORT, 40001)


@scenario(families=(4, 6))
def other_port_of_a_service_address(node: IpvsNode) -> None:
    """A port of the cluster IP that no service has: KUBE-IPVS-FILTER rejects it."""
    kube = KubeNode(node)
    node.listen("tcp", 22)
    kube.first("pod", kube.cluster_ip, 22)


@scenario(families=(4, 6))
def ping_of_a_cluster_ip(node: IpvsNode) -> None:
    """A ping to the cluster IP: no service, and new, so it is rejected."""
    kube = KubeNode(node)
    kube.ping("pod", kube.cluster_ip)


@scenario(families=(4, 6))
def endpoint_goes_gracefully(node: IpvsNode) -> None:
    """An endpoint goes: weight 0 first, then it is removed, with expire_nodest_conn."""
    kube = KubeNode(node, "web", "far")
    kube.exchange("pod", kube.cluster_ip, 80, 40000)
    kube.exchange("pod", kube.cluster_ip, 80, 40001)
    kube.quiesce("web")
    kube.exchange("pod", kube.cluster_ip, 80, 40002)
    kube.talk("pod", 40000)
    kube.talk("pod", 40001)
    kube.remove("web")
    kube.talk("pod", 40000)
    kube.talk("pod", 40001)


@scenario()
def session_affinity(node: IpvsNode) -> None:
    """sessionAffinity ClientIP: three hours, and another server once its own goes."""
    kube = KubeNode(node, "web", "far", service="-p 10800")
    for sport in (40000, 40001, 40002):
        kube.exchange("pod", kube.cluster_ip, 80, sport)
    kube.quiesce(kube.served)
    kube.exchange("pod", kube.cluster_ip, 80, 40003)


@scenario(families=(4, 6))
def from_the_node(node: IpvsNode) -> None:
    """The node itself to a cluster IP: masqueraded, for its source is the cluster IP."""
    kube = KubeNode(node)
    kube.own(kube.cluster_ip, kube.cluster_ip, 80)


@scenario(families=(4, 6))
def from_the_node_with_its_address(node: IpvsNode) -> None:
    """The node itself with its own address."""
    kube = KubeNode(node)
    kube.own(kube.node_ip, kube.cluster_ip, 80)


@scenario()
def from_the_node_to_its_pod(node: IpvsNode) -> None:
    """The node itself to a pod of its own through the service."""
    kube = KubeNode(node, "web")
    kube.own(kube.cluster_ip, kube.cluster_ip, 80)


@scenario(families=(4, 6))
def server_complains(node: IpvsNode) -> None:
    """An ICMP error of a masqueraded connection finds the client."""
    kube = KubeNode(node, protocol="udp")
    kube.first("world", kube.node_ip, NODE_PORT)
    kube.complain()


@scenario()
def maglev(node: IpvsNode) -> None:
    """The scheduler mh with mh-port, as kube-proxy asks for it."""
    kube = KubeNode(node, "web", "web 2", "far", scheduler="mh -b mh-port")
    for sport in range(40000, 40010):
        kube.first("pod", kube.cluster_ip, 80, sport)


@scenario()
def node_port_of_sctp(node: IpvsNode) -> None:
    """SCTP: the node port is found in a set of addresses and ports."""
    kube = KubeNode(node, "web", protocol="sctp")
    kube.first("world", kube.node_ip, NODE_PORT)
    kube.first("pod", kube.cluster_ip, 80)
