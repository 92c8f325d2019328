"""The flows of kube-proxy's own tests in IPVS mode: the node that our agent makes of each case, and what is expected.

The tables were made for iptables mode. What kube-proxy itself does otherwise in IPVS mode is said here, rule by rule
(`in_ipvs_mode`); all other flows must end where the tables say.
"""

import json
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.sctp import SCTP, SCTPChunkInit
from true_kubeproxy import DATA, stated

from dataplane.agents.firewall import Firewall
from dataplane.agents.kubeproxy.ipvs.device import device, ipvs_sysctls
from dataplane.agents.kubeproxy.ipvs.proxier import IpvsProxier, with_services
from dataplane.agents.kubeproxy.options import ProxyOptions
from dataplane.cluster import NodeState, read_manifests
from dataplane.host.config import Address, HostConfig, Link, Neighbour, Route
from dataplane.host.ipvs import IpvsTimeouts

FLOWS = DATA / "flows.json"
NODE, PEER = "02:00:00:00:00:01", "02:00:00:00:00:02"
# Each family's link to the pods, who is there and at the other link, and where pods are.
WIRES = {
    4: ("10.255.255.254/30", "10.255.255.253", "192.168.0.1", "10.0.0.0/8"),
    6: ("fd00:10::fffe/126", "fd00:10::fffd", "2001:db8::fe", "fd00:10::/32"),
}


@dataclass(frozen=True)
class Case:
    name: str
    family: int
    options: ProxyOptions
    node: dict
    objects: list
    flows: list


def cases():
    if not FLOWS.is_file():
        return
    for test in json.loads(FLOWS.read_text())["tests"]:
        if test["mode"] != "iptables":
            continue
        given = test["options"]
        local = given["detect_local"].removeprefix("ClusterCIDR ")
        options = ProxyOptions(
            cluster_cidrs=() if local.startswith("none") else (ip_network(local),),
            masquerade_all=given["masquerade_all"],
            node_port_addresses=tuple(map(ip_network, given["nodeport_addresses"])),
            bind_address=ip_address(test["node"]["primary_ip"]),
            random_fully=False,
        )
        for number, phase in enumerate(test["phases"], 1):
            name = test["id"].removeprefix("iptables_Test") + (f"/{number}" if len(test["phases"]) > 1 else "")
            yield Case(name, int(given["ip_family"][-1]), options, test["node"], phase["objects"], phase["flows"])


CASES = {case.name: case for case in cases()}


def node_config(case):
    """The case's node: one link to the pods, one to everything else."""
    on_pods, pods, world, network = WIRES[case.family]
    interfaces = [ip_interface(text) for text in case.node["interface_addresses"]]
    addresses = [
        Address("eth0", value) for value in interfaces if value.version == case.family and not value.is_loopback
    ]
    config = HostConfig(
        case.node["name"],
        (
            Link.lo(),
            Link("eth0", index=2, mac=int(NODE.replace(":", ""), 16)),
            device(case.node["name"], 3),
            Link("pods", index=4, mac=int(NODE.replace(":", ""), 16)),
        ),
        (*addresses, Address.of("pods", on_pods)),
        (
            Route.of(ip_network("0.0.0.0/0" if case.family == 4 else "::/0"), "eth0", ip_address(world)),
            Route.of(ip_network(network), "pods", ip_address(pods)),
        ),
        neighbours=tuple(
            Neighbour.of(interface, address, PEER) for interface, address in (("eth0", world), ("pods", pods))
        ),
        sysctl={
            **ipvs_sysctls(case.options),
            "net.ipv4.conf.all.forwarding": "1",
            "net.ipv4.conf.all.rp_filter": "0",
            "net.ipv4.conf.default.rp_filter": "0",
            "net.ipv6.conf.all.forwarding": "1",
        },
    ).completed()
    state = stated(read_manifests(case.objects))
    here = state.node(case.node["name"]) or NodeState(
        case.node["name"], addresses=(ip_address(case.node["primary_ip"]),)
    )
    made = IpvsProxier(state, case.options).programmed(here, case.family, [value.ip for value in interfaces])
    firewall = Firewall(case.family)
    made.write(firewall)
    config = with_services(config, [made], IpvsTimeouts())
    return config.with_(**{"iptables" if case.family == 4 else "ip6tables": firewall.ruleset()})


def packet(flow, sport):
    ip = IPv6 if ":" in flow["dst_ip"] else IP
    layers = {
        "TCP": TCP(sport=sport, dport=flow["dst_port"], flags="S", seq=1),
        "UDP": UDP(sport=sport, dport=flow["dst_port"]) / b"query",
    }
    segment = layers.get(flow["protocol"]) or SCTP(sport=sport, dport=flow["dst_port"]) / SCTPChunkInit(init_tag=1)
    return bytes(ip(src=flow["src_ip"], dst=flow["dst_ip"]) / segment)


# Service addresses are the node's own, and what no Service has of them is refused (KUBE-IPVS-FILTER).
REFUSED = {
    "TCP-only port does not match UDP traffic",
    "svc1 does not accept svc2's ports",
}
# A virtual service has one list of servers, whoever asks: with policy Local the node's own, for pods and the node as well,
# and what the node sends to it itself is not masqueraded.
OWN = {
    "ExternalTrafficPolicyLocal": "10.180.2.1:80",
    "InternalExternalMasquerade": "10.180.0.2:80",
}
OWN_FOR_ALL = {
    "pod to external IP hits both endpoints, unmasqueraded": "ExternalTrafficPolicyLocal",
    "pod to LB IP hits only both endpoints, unmasqueraded": "ExternalTrafficPolicyLocal",
    "pod to NodePort hits both endpoints, unmasqueraded": "ExternalTrafficPolicyLocal",
    "pod to NodePort with eTP:Local": "InternalExternalMasquerade",
    "pod to LB with eTP:Local": "InternalExternalMasquerade",
    "node to LB with eTP:Local": "InternalExternalMasquerade",
}
# Nor is there a mark for what the node itself sends under policy Local.
UNMASQUERADED = {"LOCAL, KUBE-MARK-MASQ"}
# Policy Local without an endpoint here: all serve. Where no policy but Local uses endpoints there is no such list, and the
# virtual service has no server.
ALL_SERVE = {
    "external to LB, no locally-usable endpoints": ["10.0.1.5:80"],
    "DROP": ["10.180.0.2:80"],
    "no endpoints": [],
}


def in_ipvs_mode(case, flow):
    """(verdict, endpoints, masqueraded): what the table says, but for what IPVS mode does otherwise."""
    name, expected = flow["name"], flow["expect"]
    verdict, endpoints, masqueraded = expected["verdict"], expected["endpoints"], flow["expect_masquerade"]
    if flow["src_class"] == "localhost" or verdict == "ACCEPT":
        # 127.0.0.1 has no virtual service; an accepted packet is the node's, where nothing listens.
        return "NO_MATCH", [], False
    if name in REFUSED:
        assert verdict == "NO_MATCH"
        return "REJECT", [], False
    if name in OWN_FOR_ALL and case.name.startswith(OWN_FOR_ALL[name]):
        return "DNAT", [OWN[OWN_FOR_ALL[name]]], False
    if name in UNMASQUERADED:
        assert masqueraded
        return verdict, endpoints, False
    if verdict == "DROP" and name in ALL_SERVE:
        return ("DNAT" if ALL_SERVE[name] else "REJECT"), ALL_SERVE[name], False
    return verdict, endpoints, masqueraded
