"""The flows of kube-proxy's own tests, under what our agent in IPVS mode writes; there where the shared data is.

The kernel must do what kube-proxy's authors mean, but for what IPVS mode does otherwise (tests/agents/ipvs_flows.py).
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

from judge.ipvs_node import IpvsNode
from judge.scenario import scenario
from judge.talk import Frames, network
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6

from dataplane.agents.kubeproxy.ipvs.device import DEVICE, ipvs_sysctls
from dataplane.host import ipset, ipvs

sys.path.insert(0, str(Path(__file__).parents[3] / "agents"))

from ipvs_flows import CASES, WIRES, Case, in_ipvs_mode, node_config, packet

_PAUSE = 1.2  # seconds; ICMP errors to one place are limited
_MOST = 10  # flows of one scenario


def batched(flows: list[dict], most: int) -> Iterator[list[dict]]:
    for first in range(0, len(flows), most):
        yield flows[first : first + most]


def _set_up(node: IpvsNode, case: Case) -> None:
    config = node_config(case)
    on_pods, pods, world, network_of_pods = WIRES[case.family]
    interfaces = [text for text in case.node["interface_addresses"] if ip_interface(text).version == case.family]
    node.port("eth0", *(text for text in interfaces if not ip_interface(text).is_loopback))
    node.port("pods", on_pods)
    node.ip(f"{node.dash}route add default via {world}\n{node.dash}route add {network_of_pods} via {pods}")
    node.ip(f"link add {DEVICE} type dummy")
    for entry in config.addresses:
        if entry.interface == DEVICE:
            node.ip(f"addr add {entry.address} dev {DEVICE}")
    settings = {**ipvs_sysctls(case.options), "net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"}
    for name, value in settings.items():
        if not name.startswith("net.ipv6" if case.family == 4 else "net.ipv4.ip_forward"):
            node.sysctl(f"{name} = {value}")
    node.ipset(ipset.text(config.ipsets))
    rules = config.iptables if case.family == 4 else config.ip6tables
    assert rules is not None
    node.restore(rules.text())
    node.ipvs(ipvs.text(config.ipvs))


def _outcome(frames: Frames, flow: dict) -> tuple[str, str, bool]:
    """(verdict, endpoint, whether the source was rewritten); what is dropped and what stays on lo look the same."""
    if not frames:
        return "DROP", "", False
    found = network(frames[0].packet)
    if ICMP in found or ICMPv6DestUnreach in found:
        return "REJECT", "", False
    untouched = (found.dst, found.payload.dport) == (flow["dst_ip"], flow["dst_port"])
    if untouched or (TCP in found and found[TCP].flags == "RA"):
        return "NO_MATCH", "", False
    address = f"[{found.dst}]" if IPv6 in found else found.dst
    return "DNAT", f"{address}:{found.payload.dport}", found.src != flow["src_ip"]


def _scenario(case: Case, part: int) -> Callable[[IpvsNode], None]:
    def body(node: IpvsNode) -> None:
        _set_up(node, case)
        _, pods, world, _ = WIRES[case.family]
        peers = {"pod": node.peer("pods", pods), "external": node.peer("eth0", world)}
        number = 0
        # What stays on lo comes last: the flow labels that the node chooses there cannot be seen.
        for flow in sorted(case.flows, key=lambda flow: flow["src_class"] == "localhost"):
            verdict, endpoints, masqueraded = in_ipvs_mode(case, flow)
            met = set()
            for _ in endpoints or [""]:  # rr: as many connections meet as many servers
                number += 1
                first = (IP if case.family == 4 else IPv6)(packet(flow, 20000 + number))
                peer = peers.get(flow["src_class"])
                met.add(_outcome(node.send(first) if peer is None else peer.send(first), flow))
                if verdict == "REJECT":
                    node.wait(_PAUSE)
            if verdict == "NO_MATCH" and flow["src_class"] in ("localhost", "node"):
                verdict = "DROP"  # it stays on lo
            assert met == {(verdict, endpoint, masqueraded) for endpoint in endpoints or [""]}, flow["name"]

    body.__name__ = case.name.replace("/", "_") + (f"_{part}" if part else "")
    body.__doc__ = f"The flows of {case.name}."
    return body


for _case in CASES.values():
    # Looking at many connections takes long in there; a part at a time.
    for _part, _flows in enumerate(batched(_case.flows, _MOST)):
        scenario(families=(_case.family,))(_scenario(replace(_case, flows=_flows), _part))
