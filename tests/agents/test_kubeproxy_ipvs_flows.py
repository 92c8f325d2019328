"""The flows of kube-proxy's own tests, as packets through the emulator, under what our agent in IPVS mode writes."""

import pytest
from ipvs_flows import (
    ALL_SERVE,
    CASES,
    FLOWS,
    NODE,
    OWN_FOR_ALL,
    PEER,
    REFUSED,
    UNMASQUERADED,
    in_ipvs_mode,
    node_config,
    packet,
)
from scapy.layers.inet import ICMP, TCP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.layers.l2 import Ether

from dataplane import Host
from dataplane._fast.reason import Reason

pytestmark = pytest.mark.skipif(not FLOWS.is_file(), reason="the shared data is not there")


def outcome(host, flow, number):
    """(verdict, endpoint, whether the source was rewritten) of the first packet of a flow's connection."""
    sport, now = 20000 + number, number * 2_000_000_000  # slowly: ICMP errors are limited
    before = host.drops().get(Reason.NETFILTER_DROP, 0)
    if flow["src_class"] in ("node", "localhost", "lb-vip"):
        out = host.send(packet(flow, sport), now)
    else:
        kind = b"\x86\xdd" if ":" in flow["dst_ip"] else b"\x08\x00"
        frame = bytes.fromhex((NODE + PEER).replace(":", "")) + kind + packet(flow, sport)
        out = host.receive(frame, "pods" if flow["src_class"] == "pod" else "eth0", now)
    if not out:
        dropped = host.drops().get(Reason.NETFILTER_DROP, 0) > before
        return ("DROP" if dropped else "NO_MATCH"), "", False
    (((_, frame),)) = out
    found = Ether(frame).payload
    if ICMP in found or ICMPv6DestUnreach in found:
        assert found.dst == flow["src_ip"]
        return "REJECT", "", False
    if TCP in found and found[TCP].flags == "RA":
        assert found.dst == flow["src_ip"]
        return "NO_MATCH", "", False  # the node answers for itself: nobody listens
    if (found.dst, found.payload.dport) == (flow["dst_ip"], flow["dst_port"]):
        return "NO_MATCH", "", False
    address = f"[{found.dst}]" if IPv6 in found else found.dst
    return "DNAT", f"{address}:{found.payload.dport}", found.src != flow["src_ip"]


@pytest.mark.parametrize("name", CASES)
def test_flows(name):
    case = CASES[name]
    host = Host(node_config(case))
    number = 0
    for flow in case.flows:
        verdict, endpoints, masqueraded = in_ipvs_mode(case, flow)
        met = set()
        for _ in endpoints or [""]:  # rr: as many connections meet as many servers
            number += 1
            met.add(outcome(host, flow, number))
        assert met == {(verdict, endpoint, masqueraded) for endpoint in endpoints or [""]}, flow["name"]


def test_every_flow_is_there():
    assert sum(len(case.flows) for case in CASES.values()) == 246


def test_what_differs_is_met():
    """No flow is excused that is not there."""
    names = {flow["name"] for case in CASES.values() for flow in case.flows}
    assert REFUSED | OWN_FOR_ALL.keys() | UNMASQUERADED | ALL_SERVE.keys() <= names
