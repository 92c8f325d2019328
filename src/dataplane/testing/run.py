"""A cluster that runs in memory: packets in, and everything that each interface saw of them.

run = Run(cluster)
played = run.play(Conversation("default/web-0", "10.96.0.10", UDP, 40000, 53, ((b"query", b"answer"),)))
played.requests[0].arrived       # the packet as the endpoint got it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from dataplane._fast.batch import PacketBatch
from dataplane._fast.reason import Reason, Verdict
from dataplane.agents.underlay import OUTSIDE
from dataplane.datapath.connections import connections
from dataplane.datapath.rule_by_rule import rule_by_rule
from dataplane.errors import ModelError
from dataplane.testing.pieces import DONT, cut, place, whole
from dataplane.testing.wire import (
    CHUNK_DATA,
    COOKIE_ACK,
    COOKIE_ECHO,
    ETHERNET,
    ICMP,
    ICMPV6,
    INIT,
    INIT_ACK,
    SCTP,
    TCP,
    Address,
    Parsed,
    in_frame,
    packet,
    parse,
    tunnelled,
)

if TYPE_CHECKING:
    from dataplane.datapath.connections import Connections
    from dataplane.datapath.fabric import Fabric
    from dataplane.emulation import Cluster

RAW = 101
SYN, SYN_ACK, ACK, DATA, FIN = 0x02, 0x12, 0x10, 0x18, 0x11
CLIENT_TAG, SERVER_TAG = 0x0C11E27, 0x5E2FE2  # verification tags of SCTP
# What opens a connection: flags or chunk of the request, and of its reply.
OPENINGS = {TCP: ((SYN, SYN_ACK),), SCTP: ((INIT, INIT_ACK), (COOKIE_ECHO, COOKIE_ACK))}
TALKING = {SCTP: (CHUNK_DATA, CHUNK_DATA)}
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

    @property
    def place(self) -> str:
        return f"{self.host}/{self.interface}"


@dataclass(frozen=True, slots=True)
class Passage:
    """One packet's way: who sent what when, the verdict, and every interface that saw it, in order. What it sets off, ARP
    and errors of ICMP, is left out."""

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
        return self.whole[-1].inner if self.sightings else self.sent

    @property
    def whole(self) -> tuple[Sighting, ...]:
        """What each place has seen of the packet itself: out of its tunnel, and its fragments put together, where the
        first of them was seen. Of fragments that are not all there the first stands alone."""
        return _whole(self.sightings)

    def __str__(self) -> str:
        told = f"{self.verdict.name} {self.receiver or self.reason.name}"
        try:
            shown = parse(self.sent)
        except ValueError:
            return f"{self.sender}: {self.sent.hex() or 'nothing'}: {told}"
        ends = [f"[{end}]" if shown.family == 6 else str(end) for end in (shown.source, shown.destination)]
        return (
            f"{self.sender}: {ends[0]}:{shown.ports[0]} -> {ends[1]}:{shown.ports[1]} protocol {shown.protocol}: {told}"
        )


@dataclass(frozen=True, slots=True)
class Conversation:
    """Who talks to whom. client: NAMESPACE/NAME of a pod, a node, or "outside". source: the client's address, "" for its
    own of the target's family. exchanges: (request, reply) payloads, at most 65,000 bytes; what does not fit into the
    sender's link it cuts into fragments. TCP and SCTP open a connection first; closes: TCP ends it behind the last
    exchange."""

    client: str
    target: str
    protocol: int
    sport: int
    dport: int
    exchanges: tuple[tuple[bytes, bytes], ...] = ((b"request", b"reply"),)
    source: str = ""
    closes: bool = False


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

    start: the first packet's time, ns. indexed: False for rules that are looked at one by one, as the kernel does it.
    Raises ModelError for a host or an address that is not there.
    """

    def __init__(self, cluster: Cluster, *, start: int = 1_000_000_000, indexed: bool = True) -> None:
        self.cluster = cluster
        self.fabric: Fabric = cluster.fabric()
        for name in () if indexed else self.fabric.names:
            host = self.fabric.compiled(name)
            for family, rules in ((4, host.rules4), (6, host.rules6)):
                if rules is not None:
                    host.rules(family, rule_by_rule(rules))
        self.fabric.capture(["*"])
        self.timeline = cluster.timeline(self.fabric)
        self.now = start
        self.sent: list[tuple[int, bytes]] = []
        """Every request as it was sent and every reply as its client should get it, with its time, in fragments where
        the client's link asks for them: what a capture at the client holds."""
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
        """Let a host send an IP packet of its own; one that not every link of it takes and that may be cut leaves in
        fragments. host: a node, NAMESPACE/NAME of a pod, "outside"; a pod on its node's network sends as that."""
        pod = self.timeline.state.pod(*host.split("/", 1)) if "/" in host else None
        if pod is not None and pod.host_network:
            host = pod.node or host
        if host not in self.fabric.ids:
            raise ModelError(f"no host {host!r}; there are {', '.join(list(self.fabric.ids)[:10])}")
        self.now += MILLISECOND
        self.timeline.until(self.now)
        pieces = self._pieces(host, data)
        batch = PacketBatch.from_frames(pieces, times=[self.now] * len(pieces), link_type=RAW)
        batch.decode()
        walk = self.fabric.walk
        walk.captured()
        walk.send(self.fabric.ids[host], batch)
        seen, _, rows = walk.captured()
        newest = int(rows.max(initial=-1))
        told = not _told(data)
        sightings = []
        for i in range(len(seen)):
            if rows[i] > newest - len(pieces):
                name, _, interface = self.fabric.places[seen.interface[i]].rpartition("/")
                sighting = Sighting(name, interface, seen.frame(i))
                if sighting.packet and not (told and _told(sighting.inner)):
                    sightings.append(sighting)
        last = len(pieces) - 1
        verdict, reason = Verdict(int(batch.verdict[last])), Reason(int(batch.reason[last]))
        if walk.last is None:
            return Passage(host, data, self.now, verdict, reason, tuple(sightings))
        receiver, source, sport, destination, dport = walk.last
        end = (source, sport, destination, dport)
        return Passage(host, data, self.now, verdict, reason, tuple(sightings), self.fabric.names[receiver], end)

    def _pieces(self, host: str, data: bytes) -> list[bytes]:
        # Whatever link it leaves by: a raw packet that does not fit is refused, as the kernel refuses it.
        size = min(
            (link.mtu for link in self.fabric.running(host).config.links if not link.loopback), default=len(data)
        )
        may_be_cut = data[:1] and (data[0] >> 4 == 6 or (len(data) >= 20 and not data[6] << 8 & DONT))
        if len(data) <= size or not may_be_cut or place(data) is not None:
            return [data]
        return cut(data, size, id=self.now & 0xFFFFFFFF)

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
        if conversation.closes and conversation.protocol == TCP and talk.opened:
            there, back = self._steps(talk, ((FIN, b"", FIN, b""), (ACK, b"", None, b"")))
            requests += there
            replies += back
        return Played(conversation, tuple(requests), tuple(replies))

    def exchange(self, talk: Talk, request: bytes, reply: bytes) -> tuple[list[Passage], list[Passage]]:
        """One request, and the reply to it where it arrived; of TCP and SCTP the opening first, if there was none yet."""
        protocol = talk.conversation.protocol
        opening = () if talk.opened else OPENINGS.get(protocol, ())
        asks, answers = TALKING.get(protocol, (DATA, DATA))
        return self._steps(
            talk, (*((there, b"", back, b"") for there, back in opening), (asks, request, answers, reply))
        )

    def _steps(
        self, talk: Talk, steps: Sequence[tuple[int, bytes, int | None, bytes]]
    ) -> tuple[list[Passage], list[Passage]]:
        """(flags or chunk, payload) of a request and of its reply, None for none; up to the first that is lost."""
        requests: list[Passage] = []
        replies: list[Passage] = []
        for asks, asked, answers, answered in steps:
            there = self._request(talk, asks, asked)
            requests.append(there)
            if not there.delivered:
                break
            if talk.conversation.protocol != ICMP and answers is not None:  # hosts answer an echo by themselves
                replies.append(self._reply(talk, there, answers, answered))
                if not replies[-1].delivered:
                    break
            talk.opened = True
        talk.played += requests
        return requests, replies

    def _request(self, talk: Talk, kind: int, payload: bytes) -> Passage:
        wanted = talk.conversation
        target = ip_address(wanted.target)
        sctp = wanted.protocol == SCTP
        data = packet(
            talk.source, target, wanted.protocol, (wanted.sport, wanted.dport), payload,
            id=len(self.sent) % 65535 + 1, flags=kind & 0xFF, ack=talk.server_seq if kind & ACK else 0,
            seq=CLIENT_TAG if sctp and kind == INIT else talk.client_seq, chunk=kind,
            tag=0 if sctp and kind == INIT else SERVER_TAG, icmp_type=128 if target.version == 6 else 8,
        )  # fmt: skip
        talk.client_seq += 1 if sctp else len(payload) + _taken(wanted.protocol, kind)
        passage = self.send(wanted.client, data)
        self._sends(wanted.client, passage.time, data)
        return passage

    def _reply(self, talk: Talk, request: Passage, kind: int, payload: bytes) -> Passage:
        seen = arrived(request)
        ports = (seen.ports[1], seen.ports[0])
        sctp = seen.protocol == SCTP
        numbers: dict[str, Any] = {
            "id": len(self.sent) % 65535 + 1, "flags": kind & 0xFF, "ack": talk.client_seq, "chunk": kind,
            "seq": SERVER_TAG if sctp and kind == INIT_ACK else talk.server_seq, "tag": CLIENT_TAG,
        }  # fmt: skip
        data = packet(seen.destination, seen.source, seen.protocol, ports, payload, **numbers)
        talk.server_seq += 1 if sctp else len(payload) + _taken(seen.protocol, kind)
        passage = self.send(request.receiver, data)
        asked = parse(request.sent)
        expected = packet(
            asked.destination, asked.source, asked.protocol, (asked.ports[1], asked.ports[0]), payload, **numbers
        )
        self._sends(talk.conversation.client, passage.time, expected)
        return passage

    def _sends(self, client: str, time: int, data: bytes) -> None:
        self.sent += [(time, piece) for piece in self._pieces(client, data)]

    # ---- looking ---------------------------------------------------------------------------------------------------

    def connections(self, host: str) -> Connections:
        """What a host tracks now."""
        return connections(self.fabric.compiled(host), self.fabric.walk.now)

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(self.fabric.ids)


def _told(packet: bytes) -> bool:
    """What a packet sets off on its way, and is not the packet: errors of ICMP, neighbour discovery as ARP."""
    if len(packet) > 40 and packet[0] >> 4 == 6:
        return packet[6] == ICMPV6 and (packet[40] < 128 or 133 <= packet[40] <= 137)
    header = (packet[0] & 15) * 4
    return packet[9] == ICMP and place(packet) is None and len(packet) > header and packet[header] not in (0, 8)


def _taken(protocol: int, flags: int) -> int:
    """What a segment without payload takes of TCP's sequence."""
    return int(protocol == TCP and bool(flags & 0x03))


@lru_cache(256)
def _whole(sightings: tuple[Sighting, ...]) -> tuple[Sighting, ...]:
    made: list[Sighting] = []
    groups: dict[str, list[tuple[int, dict[int, bytes]]]] = {}  # by place: position in `made`, pieces by offset
    for sighting in sightings:
        inner = sighting.inner
        header = sighting.frame[:ETHERNET] if len(sighting.frame) > len(sighting.packet) else b""
        piece = place(inner)
        if piece is not None:
            # A place may have the packet more than once: on its way in and out, both ends of lo.
            here = groups.setdefault(sighting.place, [])
            lacking = (known for _, known in here if piece[0] not in known and whole(tuple(known.values())) is None)
            known = next(lacking, None)
            if known is not None:
                known[piece[0]] = inner
                continue
            here.append((len(made), {piece[0]: inner}))
        made.append(replace(sighting, frame=header + inner))
    for at, known in (group for here in groups.values() for group in here):
        together = whole(tuple(known.values()))
        if together is not None:
            first = next(iter(known.values()))
            made[at] = replace(made[at], frame=made[at].frame[: -len(first)] + together)
    return tuple(made)


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
