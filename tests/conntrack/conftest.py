"""A router between a client and a server, whose connections the tests watch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from dataplane import Host, HostConfig
from dataplane.host.config import Address, ConnectionRow, Link, Neighbour
from dataplane.host.iptables import Ruleset

SECOND = 1_000_000_000
ROUTER, CLIENT, SERVER = 0x020000000001, 0x020000000099, 0x0200000000AA
EMPTY = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{}COMMIT\n"
NAT = "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n{}COMMIT\n"
STATES = ("INVALID", "NEW", "ESTABLISHED", "RELATED")
COUNTING = "".join(f"-A FORWARD -m conntrack --ctstate {state}\n" for state in STATES)


def mac(number: int) -> str:
    return number.to_bytes(6).hex(":")


@dataclass
class Router:
    """10.0.0.5 (client, eth0) -- router -- 10.0.1.2 (server, eth1); the same in fd00:0::/64 and fd00:1::/64."""

    host: Host
    time: int = 0

    def pass_(self, packet: Packet, after: float = 0.001) -> list[tuple[str, Packet]]:
        """Let an IP packet arrive from its sender's side, `after` seconds later; what leaves, as (interface, packet)."""
        self.time += int(after * SECOND)
        from_server = packet.src in ("10.0.1.2", "10.0.1.3", "fd00:1::2")
        interface = "eth1" if from_server else "eth0"
        frame = Ether(dst=mac(ROUTER + from_server), src=mac(SERVER if from_server else CLIENT)) / packet
        return [(name, Ether(out).payload) for name, out in self.host.receive(bytes(frame), interface, self.time)]

    def one(self, packet: Packet, after: float = 0.001) -> Packet:
        """The one packet that leaves."""
        ((_, out),) = self.pass_(packet, after)
        return out

    @property
    def connections(self) -> list[ConnectionRow]:
        return list(self.host.connections())

    def state(self) -> tuple[str | None, int | None, bool]:
        """State, seconds left (rounded), assured, of the only connection; ("gone", None, False) without one."""
        rows = self.connections
        if not rows:
            return "gone", None, False
        (row,) = rows
        # The tool cuts to whole seconds; a packet that refreshed nothing came a millisecond later.
        self.host.advance(self.time + 1)
        (later,) = self.connections
        assert row.timeout is not None
        assert later.timeout is not None
        return row.state, later.timeout + 1, row.assured

    def seen_as(self) -> dict[str, int]:
        """Packets by connection state, as the counting rules saw them."""
        lines = [line for line in self.host.iptables_save().splitlines() if "--ctstate" in line]
        counts = {line.split("--ctstate ")[1].split()[0]: int(line[1:].split(":")[0]) for line in lines}
        return {state: count for state, count in counts.items() if count}


def build(rules: str = COUNTING, nat: str | None = None, seed: int = 0, **sysctl: str) -> Router:
    text = EMPTY.format(rules) + (NAT.format(nat) if nat is not None else "")
    sides = (("eth0", "10.0.0.1/24", "fd00::1/64"), ("eth1", "10.0.1.1/24", "fd00:1::1/64"))
    config = HostConfig(
        "router",
        links=(Link.lo(), Link("eth0", mac=ROUTER), Link("eth1", mac=ROUTER + 1)),
        addresses=tuple(Address.of(name, address) for name, *both in sides for address in both),
        neighbours=(
            *(Neighbour.of("eth0", f"10.0.0.{last}", CLIENT) for last in (5, 6)),
            *(Neighbour.of("eth1", f"10.0.1.{last}", SERVER) for last in (2, 3)),
            Neighbour.of("eth0", "fd00::5", CLIENT),
            Neighbour.of("eth1", "fd00:1::2", SERVER),
        ),
        iptables=Ruleset.parse(text, 4),
        ip6tables=Ruleset.parse(text, 6) if nat is None else None,
        sysctl={
            "net.ipv4.ip_forward": "1",
            "net.ipv6.conf.all.forwarding": "1",
            **{f"net.netfilter.nf_conntrack_{name}": value for name, value in sysctl.items()},
        },
    )
    return Router(Host(config, seed))


@pytest.fixture
def router() -> Iterator[Router]:
    return build()


def tcp(
    direction: str, flags: str, seq: int, ack: int = 0, size: int = 0, window: int = 8192, **more: object
) -> Packet:
    """A segment of the test's one TCP connection; direction ">" is the client's."""
    ends = {"src": "10.0.0.5", "dst": "10.0.1.2"} if direction == ">" else {"src": "10.0.1.2", "dst": "10.0.0.5"}
    ports = {"sport": 40000, "dport": 80} if direction == ">" else {"sport": 80, "dport": 40000}
    return IP(**ends) / TCP(**ports, flags=flags, seq=seq, ack=ack, window=window, **more) / bytes(size)


def udp(direction: str, sport: int = 5000, dport: int = 53, size: int = 4, six: bool = False) -> Packet:
    ip, client, server = (IPv6, "fd00::5", "fd00:1::2") if six else (IP, "10.0.0.5", "10.0.1.2")
    if direction == ">":
        return ip(src=client, dst=server) / UDP(sport=sport, dport=dport) / bytes(size)
    return ip(src=server, dst=client) / UDP(sport=dport, dport=sport) / bytes(size)
