"""What the kernel chose at random, read from the frames that it sent, in the order in which it chose.

Found here: the IP id of packets that the node built itself (ICMP errors and answers, outer headers of tunnels) and the
outer source port of VXLAN. A scenario names the rest with `Node.chose`: ports that NAT picked, draws of `statistic`.
"""

import json
from pathlib import Path

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from judge.recording import Recording, decode

# The names of dataplane._fast.chance.Choice.
STATISTIC, PORT, TUNNEL_PORT, IP_ID, FLOW_LABEL, OTHER = (
    "CHOICE_STATISTIC",
    "CHOICE_PORT",
    "CHOICE_TUNNEL_PORT",
    "CHOICE_IP_ID",
    "CHOICE_FLOW_LABEL",
    "CHOICE_OTHER",
)


def tunnel_ports(folder: Path) -> set[int]:
    """UDP ports of the node's VXLAN devices."""
    found = set()
    for link in json.loads((folder / "links.json").read_text()):
        info = link.get("linkinfo", {})
        if info.get("info_kind") == "vxlan":
            found.add(int(info["info_data"]["port"]))
    return found


def from_frames(recording: Recording) -> dict[str, list[int]]:
    """Every choice that can be seen, with those that the scenario named after them."""
    ports = tunnel_ports(recording.folder)
    given: set[int] = set()  # ids that came in: a packet that bears one was not built here
    chosen: dict[str, list[int]] = {IP_ID: [], TUNNEL_PORT: []}
    for step in recording.steps:
        if step.kind in ("receive", "send"):
            given |= _ids(step.packet, ports)
        seen: set[int] = set()  # fragments of one packet share an id, copies to several ports too
        for frame in [*step.late, *step.out]:
            _read(decode(frame.data, frame.ethernet), ports, given, seen, chosen)
    for kind, values in recording.choices.items():
        chosen.setdefault(kind, []).extend(values)
    return {kind: values for kind, values in chosen.items() if values}


def _labelled(packet: Packet) -> bool:
    """An ICMPv6 error, an echo reply or a reset of the node's own: it chooses the flow label, which is hardly ever 0."""
    if IPv6 not in packet or packet[IPv6].fl == 0:
        return False
    payload = bytes(packet[IPv6].payload)
    return (packet[IPv6].nh == 58 and payload[0] in (1, 2, 3, 4, 129)) or (
        packet[IPv6].nh == 6 and payload[13] & 4 != 0
    )


def _inner(packet: Packet, ports: set[int]) -> Packet | None:
    """The frame inside a VXLAN packet."""
    if UDP in packet and packet[UDP].dport in ports and len(bytes(packet[UDP].payload)) >= 8 + 14:
        return Ether(bytes(packet[UDP].payload)[8:])
    return None


def _ids(packet: Packet, ports: set[int]) -> set[int]:
    found = {packet[IP].id} if IP in packet else set()
    inner = _inner(packet, ports)
    return found | _ids(inner, ports) if inner is not None else found


def _read(packet: Packet, ports: set[int], given: set[int], seen: set[int], chosen: dict[str, list[int]]) -> None:
    if IP not in packet and IPv6 not in packet:
        return
    inner = _inner(packet, ports)
    if inner is not None:
        _read(inner, ports, given, seen, chosen)
        chosen[TUNNEL_PORT].append(packet[UDP].sport)
    if _labelled(packet):
        chosen.setdefault(FLOW_LABEL, []).append(packet[IPv6].fl)
    if IP in packet and packet[IP].id not in given | seen and packet[IP].id != 0:
        seen.add(packet[IP].id)
        chosen[IP_ID].append(packet[IP].id)
