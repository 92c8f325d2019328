"""The flows of kube-proxy's own tests, as packets: the kernel and the emulator under the rules that our agent writes.

Each case gives objects, options and flows with the endpoints that may be reached and whether the source is
masqueraded. The same packets go through a namespace and through the emulator, which must agree in every byte and
counter; and both must do what kube-proxy's authors expect.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "agents"))
sys.path.insert(0, str(Path(__file__).parent))

from judge import namespace, show
from judge.choices import STATISTIC
from judge.compare import compare
from judge.emulated import run
from judge.node import Node
from judge.scenario import Kernel, Scenario
from judge.talk import Frames, Peer, network, transport
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet
from true_kubeproxy import DATA, stated

from dataplane.agents.firewall import Firewall
from dataplane.agents.kubeproxy.options import ProxyOptions
from dataplane.agents.kubeproxy.proxier import Proxier
from dataplane.agents.kubeproxy.sysctls import proxy_sysctls
from dataplane.cluster import NodeState, read_manifests

WHY_NOT = namespace.unavailable()
FLOWS = DATA / "flows.json"
pytestmark = [
    pytest.mark.skipif(WHY_NOT is not None, reason=f"the kernel cannot be asked: {WHY_NOT}"),
    pytest.mark.skipif(not FLOWS.is_file(), reason="the shared data is not there"),
]
TRIES = 24  # connections per flow with several endpoints: all of three are met but once in 5,000 runs
HIT, MISS = 0, 0x7FFFFFFF  # draws of the statistic match


@dataclass(frozen=True)
class Case:
    name: str
    family: int
    options: ProxyOptions
    node: dict[str, Any]
    objects: list[dict[str, Any]]
    flows: list[dict[str, Any]]


def cases() -> Iterator[Case]:
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
            localhost_node_ports=given["localhost_nodeports"],
            node_port_addresses=tuple(map(ip_network, given["nodeport_addresses"])),
            bind_address=ip_address(test["node"]["primary_ip"]),
            random_fully=False,
        )
        for number, phase in enumerate(test["phases"], 1):
            family = int(given["ip_family"][-1])
            name = test["id"].removeprefix("iptables_Test") + (f"/{number}" if len(test["phases"]) > 1 else "")
            yield Case(name, family, options, test["node"], phase["objects"], phase["flows"])


CASES = {case.name: case for case in cases()}


def segment(protocol: str, sport: int, dport: int) -> Packet:
    if protocol == "SCTP":
        return SCTP(sport=sport, dport=dport) / SCTPChunkInit()
    return TCP(sport=sport, dport=dport, seq=1) if protocol == "TCP" else UDP(sport=sport, dport=dport) / b"query"


class Place:
    """The case's node in a namespace: one link to the pods, one to everything else."""

    def __init__(self, node: Node, case: Case) -> None:
        self.node, self.case = node, case
        mine = [text for text in case.node["interface_addresses"] if ip_interface(text).version == case.family]
        node.port("eth0", *(text for text in mine if not ip_interface(text).is_loopback))
        if case.family == 4:
            node.port("pods", "10.255.255.254/30")
            self.world, self.pods = node.peer("eth0", "192.168.0.1"), node.peer("pods", "10.255.255.253")
            node.ip("route add default via 192.168.0.1\nroute add 10.0.0.0/8 via 10.255.255.253")
        else:
            node.port("pods", "fd00:10::fffe/126")
            self.world, self.pods = node.peer("eth0", "2001:db8::fe"), node.peer("pods", "fd00:10::fffd")
            node.ip("-6 route add default via 2001:db8::fe\n-6 route add fd00:10::/32 via fd00:10::fffd")
        settings = {"net.ipv4.ip_forward": "1", **proxy_sysctls(case.options, 1)}
        for name, value in settings.items():
            if not name.startswith(("net.netfilter", "net.ipv6")):
                node.sysctl(f"{name} = {value}")
        if case.family == 6:
            node.sysctl("net.ipv6.conf.all.forwarding = 1")
        firewall = Firewall(case.family)
        state = stated(read_manifests(case.objects))
        here = state.node(case.node["name"]) or NodeState(case.node["name"], (ip_address(case.node["primary_ip"]),))
        addresses = [ip_interface(text).ip for text in case.node["interface_addresses"]]
        Proxier(state, case.options).sync(firewall, here, addresses)
        node.restore(firewall.ruleset().text())

    def send(self, flow: dict[str, Any], sport: int) -> Frames:
        packet = segment(flow["protocol"], sport, flow["dst_port"])
        if flow["src_class"] in ("node", "localhost"):
            return self.node.send(Peer.packet(self.world, packet, flow["dst_ip"], src=flow["src_ip"]))
        peer = self.pods if flow["src_class"] == "pod" else self.world
        return peer.send(packet, to=flow["dst_ip"], src=flow["src_ip"])

    def check(self, flow: dict[str, Any], sport: int) -> str:
        """Send a flow's first packet, hold what the kernel does against the expectation; the endpoint, if any."""
        expected = flow["expect"]
        frames = self.send(flow, sport)
        out = [network(frame.packet) for frame in frames]
        if expected["verdict"] == "DROP":
            assert not out
            assert "NETFILTER_DROP" in [reason for reason, _ in self.node.recording.steps[-1].drops]
        elif expected["verdict"] == "REJECT":
            (error,) = out
            refusal = bytes(error.payload)[:2]
            assert refusal == (b"\3\3" if self.case.family == 4 else b"\1\4")
            assert ip_address(error.dst) == ip_address(flow["src_ip"])
        elif expected["verdict"] == "DNAT":
            (packet,) = out
            host = f"[{packet.dst}]" if IPv6 in packet else packet.dst
            reached = f"{host}:{transport(packet).dport}"
            assert reached in expected["endpoints"]
            kept = ip_address(packet.src) == ip_address(flow["src_ip"])
            # What the node itself sends to a pod may leave with the address of the pods' link, masqueraded or not.
            assert kept is not flow["expect_masquerade"] or flow["src_class"] == "node"
            return reached
        else:
            # The rules leave it alone: it goes its way, or the node answers for itself.
            for packet in out:
                if ip_address(packet.src) == ip_address(flow["src_ip"]):
                    assert ip_address(packet.dst) == ip_address(flow["dst_ip"])
                else:
                    assert TCP in packet
                    assert packet[TCP].flags == "RA"
        return ""

    def run(self) -> None:
        sport = 20000
        # What stays on lo comes last: the flow labels that the node chooses there cannot be seen.
        for flow in sorted(self.case.flows, key=lambda flow: flow["src_class"] == "localhost"):
            endpoints = flow["expect"]["endpoints"]
            met = set()
            for _ in range(TRIES if len(endpoints) > 1 else 1):
                sport += 1
                endpoint = self.check(flow, sport)
                met.add(endpoint)
                if len(endpoints) > 1:
                    at = endpoints.index(endpoint)
                    last = at == len(endpoints) - 1
                    self.node.chose(STATISTIC, *[MISS] * at, *([] if last else [HIT]))
            assert met == set(endpoints or [""]), flow["name"]


@pytest.mark.parametrize("name", CASES)
def test_flows(name: str, kernel: Kernel, tmp_path: Path) -> None:
    case = CASES[name]

    def body(node: Node) -> None:
        node.look_at_every_step = False
        Place(node, case).run()
        node.look()

    ours = kernel.run(Scenario(name, "", case.family, body, (), "", ""), tmp_path)
    found = compare(ours, run(ours))
    assert not found, show.differences(found)


def test_every_flow_is_there() -> None:
    assert sum(len(case.flows) for case in CASES.values()) == 246
