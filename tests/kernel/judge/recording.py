"""What went into a node, what came out, and the state after each step; of the kernel or of the emulator alike."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame (or, at a TUN, one bare IP packet) that came out of an interface."""

    interface: str
    data: bytes
    ethernet: bool = True

    @property
    def packet(self) -> Packet:
        return decode(self.data, self.ethernet)


def decode(data: bytes, ethernet: bool = True) -> Packet:
    if ethernet:
        return Ether(data)
    return IPv6(data) if data[0] >> 4 == 6 else IP(data)


@dataclass(slots=True)
class Step:
    """One thing that happened to the node, and everything that could be seen afterwards."""

    # "receive" a frame, "send" a packet of the node's own, "wait", "change" rules, "forget" connections, "unplug" a port,
    # "ipvs" (lines of ipvsadm) or "sysctl" (one setting)
    kind: str
    time_ns: int  # when; for "wait", the end of the waiting
    interface: str = ""  # of a "change" the family
    data: bytes = b""
    ethernet: bool = True
    late: list[Frame] = field(default_factory=list)  # what timers sent since the step before
    out: list[Frame] = field(default_factory=list)
    drops: list[tuple[str, str]] = field(default_factory=list)  # (reason, where in the kernel)
    refused: str = ""  # a "send" that the stack refused: the name of the errno
    looked_ns: int = 0  # when the state was read
    rules: dict[int, str] = field(default_factory=dict)  # by family: iptables-save -c
    connections: str | None = None  # conntrack -L -o extended; None: not read
    sets: str = ""  # ipset save; "" where the node has none
    ipvs: dict[str, str] = field(default_factory=dict)  # see ipvs_state.py; empty: not read
    logged: list[str] | None = None  # what LOG, NFLOG and TRACE wrote down; None: nobody listened

    @property
    def packet(self) -> Packet:
        if self.kind == "send":
            return decode(self.data, False)
        return decode(self.data, self.ethernet)


@dataclass(slots=True)
class Recording:
    scenario: str
    folder: Path  # the dump of the node before the first step
    steps: list[Step] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)  # interfaces that can be seen from outside
    interfaces: dict[str, dict[str, int]] = field(default_factory=dict)  # counters: what the steps added
    listeners: list[tuple[str, int]] = field(default_factory=list)  # sockets of the node: (udp or tcp, port)
    readable: bool = True  # whether what the kernel chose can be read from its frames in the order in which it chose
    traced: bool = True  # whether the kernel named its reasons for drops
    choices: dict[str, list[int]] = field(default_factory=dict)  # by kind, in the order in which they were made

    def frames(self) -> Iterable[Frame]:
        for step in self.steps:
            yield from step.late
            yield from step.out
