"""Services through kube-proxy's rules, written by our own agent: which endpoint is reached, what it sees, what comes
back. Unless said otherwise each is shown in TCP, UDP and SCTP."""

from ipaddress import ip_network

from judge.choices import PORT as NAT_PORT
from judge.node import Node
from judge.scenario import scenario
from judge.service_node import NODE_PORT, PORT, PROTOCOLS, TARGET, ServiceNode, first, one, only, unredirected
from judge.talk import Peer, echo, network, reply, transport
from scapy.layers.inet import TCP, UDP

NODE_PORTS = {"type": "NodePort"}
BALANCED = {"type": "LoadBalancer"}
LOCAL = {"externalTrafficPolicy": "Local"}


@scenario(families=(4, 6))
def cluster_ip_from_a_pod(node: Node) -> None:
    """A pod reaches a ClusterIP's endpoint under its own address."""
    service = ServiceNode(node, "web")
    service.everyone(service.pod, "cluster", "web", masqueraded=False)


@scenario(families=(4, 6))
def cluster_ip_on_another_node(node: Node) -> None:
    """A pod reaches an endpoint on another node, unmasqueraded."""
    service = ServiceNode(node, "far")
    service.everyone(service.pod, "cluster", "far", masqueraded=False)


@scenario(families=(4, 6))
def cluster_ip_from_outside(node: Node) -> None:
    """What is no pod is masqueraded on its way to a ClusterIP."""
    service = ServiceNode(node, "web")
    service.everyone(service.client, "cluster", "web", masqueraded=True)


@scenario(families=(4, 6))
def cluster_ip_masquerade_all(node: Node) -> None:
    """masqueradeAll: pods are masqueraded too."""
    service = ServiceNode(node, "web", masquerade_all=True)
    service.everyone(service.pod, "cluster", "web", masqueraded=True)


@scenario(families=(4, 6))
def cluster_ip_without_cluster_cidr(node: Node) -> None:
    """No clusterCIDR: nobody is known to be outside, and nobody is masqueraded at a ClusterIP."""
    service = ServiceNode(node, "web", cluster_cidrs=())
    service.everyone(service.client, "cluster", "web", masqueraded=False)


@scenario(families=(4, 6), random="the endpoint")
def cluster_ip_from_the_node(node: Node) -> None:
    """The node's own packets are translated in OUTPUT, and routed again."""
    service = ServiceNode(node, "web", "far", spec={"ports": [_port("UDP")]})
    own = service.at["node"].split("/")[0]
    query = UDP(dport=PORT) / b"query"
    met = set()
    for _ in range(16):
        query.sport = service.fresh()
        frames = node.send(Peer.packet(service.client, query, service.at["cluster"], src=own))
        met.add(service.drew(one(frames)))
        (frame,) = frames
        node.receive(frame.interface, reply(frame.packet, b"answer"))
    assert met == {"web", "far"}


def _port(protocol: str) -> dict[str, object]:
    return {"name": protocol.lower(), "protocol": protocol, "port": PORT, "targetPort": TARGET}


@scenario(families=(4, 6))
def hairpin(node: Node) -> None:
    """A pod that reaches itself by its Service is masqueraded, or it would answer itself."""
    service = ServiceNode(node, "web")
    service.everyone(service.web, "cluster", "web", masqueraded=True)


@scenario(families=(4, 6))
def hairpin_by_node_port(node: Node) -> None:
    """A pod that reaches itself by the node's port is masqueraded."""
    service = ServiceNode(node, "web", spec=NODE_PORTS)
    service.everyone(service.web, "node", "web", masqueraded=True)


@scenario(families=(4, 6), random="the endpoint")
def several_endpoints(node: Node) -> None:
    """Each of three endpoints is reached; a connection keeps the one that it got."""
    service = ServiceNode(node, "web", "web 2", "far", spec={"ports": [_port("UDP")]})
    met = set()
    for _ in range(24):
        sport = service.fresh()
        got = one(service.open("UDP", service.pod, "cluster", sport))
        met.add(service.drew(got))
        again = one(service.open("UDP", service.pod, "cluster", sport))
        assert network(again).dst == network(got).dst
    assert met == {"web", "web 2", "far"}


@scenario(families=(4, 6))
def node_port(node: Node) -> None:
    """A client reaches a node port at any address of the node and is masqueraded."""
    service = ServiceNode(node, "web", spec=NODE_PORTS)
    service.everyone(service.client, "node", "web", masqueraded=True)
    service.everyone(service.client, "second", "web", masqueraded=True)


@scenario(families=(4, 6))
def node_port_to_another_node(node: Node) -> None:
    """In by eth0, masqueraded, and out by eth0 to the pod's node; the answers go the same way back."""
    service = ServiceNode(node, "far", spec=NODE_PORTS)
    service.everyone(service.client, "node", "far", masqueraded=True)


@scenario(families=(4, 6))
def node_port_from_a_pod(node: Node) -> None:
    """Policy Cluster masquerades pods as well at a node port."""
    service = ServiceNode(node, "web", spec=NODE_PORTS)
    service.everyone(service.pod, "node", "web", masqueraded=True)


@scenario(families=(4, 6))
def node_port_addresses(node: Node) -> None:
    """nodePortAddresses: the node port is taken at these addresses alone."""
    own = "192.168.0.0/24" if node.family == 4 else "fd00:c0::/64"
    service = ServiceNode(node, "web", spec=NODE_PORTS, node_port_addresses=(ip_network(own),))
    service.everyone(service.client, "node", "web", masqueraded=True)
    for protocol in PROTOCOLS:
        assert not service.open(protocol, service.client, "second").at("pods")


@scenario()
def node_port_at_localhost(node: Node) -> None:
    """The node reaches a node port at 127.0.0.1: route_localnet lets it out, masqueraded."""
    service = ServiceNode(node, "web", spec=NODE_PORTS)
    packet = Peer.packet(service.client, UDP(sport=4000, dport=NODE_PORT + 1) / b"q", "127.0.0.1", src="127.0.0.1")
    got = only(node.send(packet), service.web)
    assert network(got).dst == service.at["web"]
    assert network(got).src == "10.244.0.1"
    service.web.send(reply(got, b"answer"))


@scenario()
def nobody_outside_reaches_localhost(node: Node) -> None:
    """A packet from outside to 127.0.0.0/8 is dropped by kube-proxy's guard of route_localnet."""
    service = ServiceNode(node, "web", spec=NODE_PORTS)
    service.client.send(UDP(sport=4000, dport=9) / b"q", to="127.0.0.1", src=service.client.ip)


@scenario(families=(4, 6))
def node_port_local_policy(node: Node) -> None:
    """externalTrafficPolicy Local: an endpoint of this node sees the client's own address."""
    service = ServiceNode(node, "web", "far", spec={**NODE_PORTS, **LOCAL})
    service.everyone(service.client, "node", "web", masqueraded=False)


@scenario(families=(4, 6))
def node_port_local_policy_without_endpoints_here(node: Node) -> None:
    """externalTrafficPolicy Local with endpoints on other nodes alone: clients from outside are dropped."""
    service = ServiceNode(node, "far", spec={**NODE_PORTS, **LOCAL})
    service.dropped(service.client, "node")


@scenario(families=(4, 6))
def node_port_local_policy_from_a_pod(node: Node) -> None:
    """externalTrafficPolicy Local: pods reach every endpoint, as by the ClusterIP."""
    service = ServiceNode(node, "far", spec={**NODE_PORTS, **LOCAL})
    service.everyone(service.pod, "node", "far", masqueraded=False)


@scenario(families=(4, 6))
def node_port_local_policy_terminating(node: Node) -> None:
    """externalTrafficPolicy Local: where none is ready, an endpoint that still serves while it ends is taken."""
    ending = {"ready": False, "serving": True, "terminating": True}
    service = ServiceNode(node, "web", spec={**NODE_PORTS, **LOCAL}, conditions={"web": ending})
    service.everyone(service.client, "node", "web", masqueraded=False)


@scenario(families=(4, 6))
def external_ip(node: Node) -> None:
    """An external IP: masqueraded for clients from outside and for pods."""
    service = ServiceNode(node, "web", spec={"externalIPs": [_external(node)]})
    service.everyone(service.client, "external", "web", masqueraded=True)
    service.everyone(service.pod, "external", "web", masqueraded=True)


def _external(node: Node) -> str:
    return "203.0.113.7" if node.family == 4 else "2001:db8:113::7"


@scenario(families=(4, 6))
def external_ip_local_policy(node: Node) -> None:
    """An external IP under policy Local keeps the client's address; pods reach every endpoint."""
    service = ServiceNode(node, "web", spec={**NODE_PORTS, **LOCAL, "externalIPs": [_external(node)]})
    service.everyone(service.client, "external", "web", masqueraded=False)
    service.everyone(service.pod, "external", "web", masqueraded=False)


@scenario(families=(4, 6))
def load_balancer(node: Node) -> None:
    """A load balancer's IP is served by every node, masqueraded."""
    service = ServiceNode(node, "web", spec=BALANCED, balancer={})
    service.everyone(service.client, "balancer", "web", masqueraded=True)
    service.everyone(service.pod, "balancer", "web", masqueraded=True)


@scenario(families=(4, 6))
def load_balancer_local_policy(node: Node) -> None:
    """A load balancer's IP under policy Local: clients keep their address, other nodes' endpoints are left alone."""
    service = ServiceNode(node, "web", "far", spec={**BALANCED, **LOCAL}, balancer={})
    service.everyone(service.client, "balancer", "web", masqueraded=False)


@scenario(families=(4, 6))
def load_balancer_source_ranges(node: Node) -> None:
    """loadBalancerSourceRanges: a client inside is served, one outside is dropped, the node port is open to both."""
    length = 32 if node.family == 4 else 128
    ranges = ["192.168.0.99/32" if node.family == 4 else f"fd00:c0::99/{length}"]
    service = ServiceNode(node, "web", spec={**BALANCED, "loadBalancerSourceRanges": ranges}, balancer={})
    service.everyone(service.client, "balancer", "web", masqueraded=True)
    service.dropped(service.other_client, "balancer")
    service.everyone(service.other_client, "node", "web", masqueraded=True)


@scenario(families=(4, 6))
def load_balancer_in_front(node: Node) -> None:
    """ipMode Proxy: packets to the load balancer's IP go out to it instead of being served here."""
    service = ServiceNode(node, "web", spec=BALANCED, balancer={"ipMode": "Proxy"})
    for protocol in PROTOCOLS:
        got = only(service.open(protocol, service.pod, "balancer"), "eth0")
        assert network(got).dst == service.at["balancer"]


@scenario(families=(4, 6))
def no_endpoints(node: Node) -> None:
    """Without endpoints a ClusterIP, a node port, an external IP and a load balancer's IP refuse with an ICMP error."""
    service = ServiceNode(node, spec={**BALANCED, "externalIPs": [_external(node)]}, balancer={})
    for address in ("cluster", "node", "external", "balancer"):
        service.refused(service.client, address)
    service.refused(service.pod, "cluster")


@scenario(families=(4, 6))
def endpoints_that_are_not_ready(node: Node) -> None:
    """An endpoint that neither is ready nor serves counts as none."""
    service = ServiceNode(node, "web", conditions={"web": {"ready": False, "serving": False, "terminating": False}})
    service.refused(service.pod, "cluster")


@scenario(families=(4, 6))
def internal_traffic_policy_local(node: Node) -> None:
    """internalTrafficPolicy Local: of two endpoints the one on this node takes everything."""
    service = ServiceNode(node, "web", "far", spec={"internalTrafficPolicy": "Local"})
    service.everyone(service.pod, "cluster", "web", masqueraded=False)


@scenario(families=(4, 6))
def internal_traffic_policy_local_without_endpoints_here(node: Node) -> None:
    """internalTrafficPolicy Local with endpoints on other nodes alone: dropped, not refused."""
    service = ServiceNode(node, "far", spec={"internalTrafficPolicy": "Local"})
    service.dropped(service.pod, "cluster")


@scenario(families=(4, 6), random="the endpoint")
def session_affinity(node: Node) -> None:
    """ClientIP affinity: whatever was drawn first, later connections of the same client go there; in each protocol."""
    spec = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}}
    service = ServiceNode(node, "web", "web 2", spec=spec)
    for protocol in PROTOCOLS:
        for peer in (service.pod, service.client):
            got = only(service.open(protocol, peer, "cluster"), "pods")
            service.drew(got)
            for _ in range(4):
                assert network(only(service.open(protocol, peer, "cluster"), "pods")).dst == network(got).dst


@scenario(families=(4, 6), random="the endpoint")
def session_affinity_ends(node: Node) -> None:
    """ClientIP affinity of one second: when it has passed the endpoint is drawn anew."""
    spec = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}
    service = ServiceNode(node, "web", "web 2", spec={**spec, "ports": [_port("UDP")]})
    for _ in range(3):
        service.drew(only(service.open("UDP", service.pod, "cluster"), "pods"))
        node.wait(1.5)


@scenario(families=(4, 6), random="the second client's port")
def clients_with_the_same_port(node: Node) -> None:
    """Two clients with the same source port behind one masquerading node: the second gets another port."""
    service = ServiceNode(node, "web", spec=NODE_PORTS)
    for protocol in PROTOCOLS:
        ports = []
        for peer in (service.client, service.other_client):
            got = only(service.open(protocol, peer, "node", 5555), service.web)
            ports.append(transport(got).sport)
        assert ports[0] == 5555 != ports[1]
        node.chose(NAT_PORT, ports[1])


@scenario(families=(4, 6), random="the masqueraded port")
def masquerade_random_fully(node: Node) -> None:
    """As kube-proxy writes it where iptables knows --random-fully: any port, and the answers find their way."""
    service = ServiceNode(node, "web", spec=NODE_PORTS, random_fully=True)
    service.everyone(service.client, "node", "web", masqueraded=True)


@scenario(families=(4, 6))
def other_ports(node: Node) -> None:
    """A ClusterIP has rules for its ports alone: another port and an echo request are routed like anything else."""
    service = ServiceNode(node, "web")
    for packet in (UDP(sport=4000, dport=81) / b"q", TCP(sport=4000, dport=81, flags="S"), echo(node.family)):
        got = only(service.pod.send(packet, to=service.at["cluster"]), "eth0")
        assert network(got).dst == service.at["cluster"]


@scenario(families=(4, 6))
def an_endpoint_complains(node: Node) -> None:
    """An endpoint's port unreachable comes back as the Service's, with the client's own packet in it."""
    service = ServiceNode(node, "web", spec=NODE_PORTS)
    for peer, address in ((service.pod, "cluster"), (service.client, "node")):
        got = only(service.open("UDP", peer, address), service.web)
        error = only(service.web.complain("port unreachable", got), peer)
        assert network(error).src in (service.at[address].split("/")[0], service.at["web"])


@scenario(families=(4, 6))
def segments_of_no_connection(node: Node) -> None:
    """KUBE-FORWARD drops what connection tracking calls INVALID, or an answer would leave untranslated."""
    service = ServiceNode(node, "web")
    got = only(service.open("TCP", service.pod, "cluster"), service.web)
    only(service.web.send(reply(got, flags="SA", seq=5000, ack=1001)), service.pod)
    assert not unredirected(service.web.send(reply(got, b"late", flags="PA", seq=900_000_000, ack=1_000_000_000)))


@scenario(families=(4, 6))
def health_check_node_port(node: Node) -> None:
    """healthCheckNodePort is let in whatever other agents say at INPUT."""
    spec = {**BALANCED, **LOCAL, "healthCheckNodePort": 32123}
    service = ServiceNode(node, "web", spec=spec, balancer={})
    node.listen("tcp", 32123)
    service.client.send(first("TCP", 40000, 32123), to=service.at["node"].split("/")[0])


@scenario(families=(4, 6))
def pods_speak_directly(node: Node) -> None:
    """From pod to pod without a Service: forwarded as it is."""
    service = ServiceNode(node, "web")
    for protocol in PROTOCOLS:
        got = only(service.client.send(first(protocol, service.fresh(), TARGET), to=service.web), service.web)
        assert network(got).src == service.client.ip
