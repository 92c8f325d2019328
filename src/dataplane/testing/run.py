"""A cluster that runs in memory: packets in, and everything that each interface saw of them.

run = Run(cluster)
played = run.play(Conversation("default/web-0", "10.96.0.10", UDP, 40000, 53, ((b"query", b"answer"),)))
played.requests[0].arrived       # the packet as the endpoint got it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from dataplane._fast.batch import PacketBatch
from dataplane._fast.reason import Reason, Verdict
from dataplane.agents.underlay import OUTSIDE
from dataplane.datapath.connections import connections
from dataplane.errors import ModelError
from dataplane.testing.wire import ICMP, ICMPV6, TCP, Address, Parsed, in_frame, packet, parse, tunnelled

if TYPE_CHECKING:
    from dataplane.datapath.connections import Connections
    from dataplane.datapath.fabric import Fabric
    from dataplane.emulation import Cluster

RAW = 101
SYN, SYN_ACK, ACK, DATA, FIN = 0x02, 0x12, 0x10, 0x18, 0x11
MILLISECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Sighting:
    """A frame as an interface saw it. packet: the IP packet in it; inner: the IP packet inside a tunnel's, if it is one."""

    host: str
    interface: str
    frame: bytes

    @property
    def packet(self) -> bytes:
        return in_frame(self.frame) or b""

    @property
    def inner(self) -> bytes:
        frame = tunnelled(self.packet)
        return (in_frame(frame) or b"") if frame is not None else self.packet


@dataclass(frozen=True, slots=True)
class Passage:
    """One packet's way: who sent what when, the verdict, and every interface that saw it, in order."""

    sender: str
    sent: bytes
    time: int
    verdict: Verdict
    reason: Reason
    sightings: tuple[Sighting, ...]
    receiver: str = ""
    """The host that took it; "" where none did."""
    end: tuple[Address, int, Address, int] | None = None
    """Source, its port, destination, its port as the receiver's sockets saw them."""

    @property
    def delivered(self) -> bool:
        return self.verdict == Verdict.DELIVERED

    @property
    def arrived(self) -> bytes:
        """The packet as its receiver's interface got it; empty where none did. What the receiver itself translates is
        in `end`."""
        if not self.delivered:
            return b""
        return self.sightings[-1].inner if self.sightings else self.sent

    def __str__(self) -> str:
        shown = parse(self.sent)
        way = f"{self.sender}: {shown.source}:{shown.ports[0]} -> {shown.destination}:{shown.ports[1]}"
        return f"{way} protocol {shown.protocol}: {self.verdict.name} {self.receiver or self.reason.name}"


@dataclass(frozen=True, slots=True)
class Conversation:
    """Who talks to whom. client: NAMESPACE/NAME of a pod, a node, or "outside". source: the client's address, "" for its
    own of the target's family. exchanges: (request, reply) payloads; of TCP behind an opening, and closed at the end."""

    client: str
    target: str
    protocol: int
    sport: int
    dport: int
    exchanges: tuple[tuple[bytes, bytes], ...] = ((b"request", b"reply"),)
    source: str = ""


@dataclass(frozen=True, slots=True)
class Played:
    """What became of a conversation. requests and replies: one Passage per packet; a reply is sent by whoever got the
    request, so it is missing where none did. complete: everything arrived."""

    conversation: Conversation
    requests: tuple[Passage, ...]
    replies: tuple[Passage, ...]

    @property
    def complete(self) -> bool:
        return bool(self.requests) and all(passage.delivered for passage in (*self.requests, *self.replies))

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Who got the requests, each once, in order."""
        return tuple(dict.fromkeys(passage.receiver for passage in self.requests if passage.delivered))


@dataclass(slots=True)
class Talk:
    """A conversation that goes on: the ports, and where both sides' TCP sequences are."""

    conversation: Conversation
    source: Address
    client_seq: int = 1000
    server_seq: int = 500_000
    opened: bool = False
    played: list[Passage] = field(default_factory=list)


class Run:
    """The hosts of a cluster, running. Each Run begins with empty tables.

    Raises ModelError for a host or an address that is not there.
    """

    def __init__(self, cluster: Cluster, *, start: int = 1_000_000_000) -> None:
        self.cluster = cluster
        self.fabric: Fabric = cluster.fabric()
        self.fabric.capture(["*"])
        self.timeline = cluster.timeline(self.fabric)
        self.now = start
        self.sent: list[tuple[int, bytes]] = []
        """Every request as it was sent and every reply as its client should get it, with its time: what a capture
        at the client holds."""
        self.changes: list[tuple[int, Mapping[str, Any]]] = []
        self._start = start
        self._clients: set[tuple[object, ...]] = set()

    # ---- time ------------------------------------------------------------------------------------------------------

    def wait(self, ns: int) -> None:
        """Let time pass."""
        self.now += ns
        self.timeline.until(self.now)
        self.fabric.walk.advance(self.now)
        self.fabric.walk.captured()

    def change(self, event: Mapping[str, Any]) -> None:
        """Let a change happen now: a mapping with the fields of an event (see dataplane.cluster.events)."""
        from dataplane.cluster.events import read_change

        self.changes.append((self.now, event))
        self.timeline.change(read_change(event), self.now)
        self.timeline.until(self.now)

    # ---- packets ---------------------------------------------------------------------------------------------------

    def send(self, host: str, data: bytes) -> Passage:
        """Let a host send an IP packet of its own."""
        if host not in self.fabric.ids:
            raise ModelError(f"no host {host!r}; there are {', '.join(list(self.fabric.ids)[:10])}")
        self.now += MILLISECOND
        self.timeline.until(self.now)
        batch = PacketBatch.from_frames([data], times=[self.now], link_type=RAW)
        batch.decode()
        walk = self.fabric.walk
        walk.captured()
        walk.send(self.fabric.ids[host], batch)
        seen, _, rows = walk.captured()
        newest = int(rows.max(initial=-1))
        sightings = []
        for i in range(len(seen)):
            if rows[i] == newest >= 0:
                name, _, interface = self.fabric.places[seen.interface[i]].rpartition("/")
                sightings.append(Sighting(name, interface, seen.frame(i)))
        verdict, reason = Verdict(int(batch.verdict[0])), Reason(int(batch.reason[0]))
        if walk.last is None:
            return Passage(host, data, self.now, verdict, reason, tuple(sightings))
        receiver, source, sport, destination, dport = walk.last
        end = (source, sport, destination, dport)
        return Passage(host, data, self.now, verdict, reason, tuple(sightings), self.fabric.names[receiver], end)

    def address(self, host: str, family: int) -> Address:
        """A host's address of a family. ModelError where it has none."""
        state = self.timeline.state
        namespace, _, name = host.rpartition("/")
        pod = state.pod(namespace, name) if namespace else None
        node = state.node(host)
        found: Sequence[Address] = pod.ips if pod is not None else node.addresses if node is not None else ()
        if host == OUTSIDE:
            found = (ip_address("203.0.113.77"), ip_address("2001:db8:77::77"))
        for address in found:
            if address.version == family:
                return address
        raise ModelError(f"{host!r} has no IPv{family} address")

    def begin(self, conversation: Conversation) -> Talk:
        """The client's side of a conversation, before its first packet."""
        target = ip_address(conversation.target)
        source = ip_address(conversation.source) if conversation.source else None
        return Talk(conversation, source or self.address(conversation.client, target.version))

    def play(self, conversation: Conversation) -> Played:
        """Let a whole conversation happen."""
        talk = self.begin(conversation)
        requests: list[Passage] = []
        replies: list[Passage] = []
        for request, reply in conversation.exchanges:
            there, back = self.exchange(talk, request, reply)
            requests += there
            replies += back
        return Played(conversation, tuple(requests), tuple(replies))

    def exchange(self, talk: Talk, request: bytes, reply: bytes) -> tuple[list[Passage], list[Passage]]:
        """One request, and the reply to it where it arrived; of TCP the opening first, if there was none yet."""
        requests: list[Passage] = []
        replies: list[Passage] = []
        steps = [(DATA, request, DATA, reply)]
        if talk.conversation.protocol == TCP and not talk.opened:
            steps = [(SYN, b"", SYN_ACK, b""), (DATA, request, DATA, reply)]
        for client_flags, asked, server_flags, answered in steps:
            there = self._request(talk, client_flags, asked)
            requests.append(there)
            if not there.delivered:
                break
            if talk.conversation.protocol != ICMP:  # hosts answer an echo by themselves
                replies.append(self._reply(talk, there, server_flags, answered))
                if not replies[-1].delivered:
                    break
            talk.opened = True
        talk.played += requests
        return requests, replies

    def _request(self, talk: Talk, flags: int, payload: bytes) -> Passage:
        wanted = talk.conversation
        target = ip_address(wanted.target)
        data = packet(
            talk.source, target, wanted.protocol, (wanted.sport, wanted.dport), payload,
            id=len(self.sent) % 65535 + 1, flags=flags, seq=talk.client_seq, ack=talk.server_seq if flags & ACK else 0,
            icmp_type=128 if target.version == 6 else 8,
        )  # fmt: skip
        talk.client_seq += len(payload) + (flags & SYN != 0)
        passage = self.send(wanted.client, data)
        self.sent.append((passage.time, data))
        return passage

    def _reply(self, talk: Talk, request: Passage, flags: int, payload: bytes) -> Passage:
        seen = arrived(request)
        ports = (seen.ports[1], seen.ports[0])
        ident = len(self.sent) % 65535 + 1
        numbers = {"id": ident, "flags": flags, "seq": talk.server_seq, "ack": talk.client_seq}
        data = packet(seen.destination, seen.source, seen.protocol, ports, payload, **numbers)
        talk.server_seq += len(payload) + (flags & SYN != 0)
        passage = self.send(request.receiver, data)
        asked = parse(request.sent)
        expected = packet(
            asked.destination, asked.source, asked.protocol, (asked.ports[1], asked.ports[0]), payload, **numbers
        )
        self.sent.append((passage.time, expected))
        return passage

    # ---- looking ---------------------------------------------------------------------------------------------------

    def connections(self, host: str) -> Connections:
        """What a host tracks now."""
        return connections(self.fabric.compiled(host), self.fabric.walk.now)

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(self.fabric.ids)


def arrived(passage: Passage) -> Parsed:
    """The packet as its receiver got it, taken apart. AssertionError where nobody did."""
    if not passage.delivered:
        raise AssertionError(f"did not arrive: {passage}")
    seen = parse(passage.arrived)
    if passage.end is None or seen.ports == (0, 0):
        return seen
    source, sport, destination, dport = passage.end
    ports = seen.ports if seen.protocol in (ICMP, ICMPV6) else (sport, dport)
    return replace(seen, source=source, destination=destination, ports=ports)
