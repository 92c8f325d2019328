"""What holds for every packet that a correct data plane moves, as plain functions.

Each raises Violation, an AssertionError, with a message that names the packet and both values; each returns nothing.
They look at a Run (see dataplane.testing.run), a Played conversation or a Passage.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from itertools import groupby
from typing import TYPE_CHECKING

from dataplane.agents.underlay import UNDERLAY
from dataplane.testing.pieces import place
from dataplane.testing.run import Conversation, Passage, Played, Run, Sighting, arrived
from dataplane.testing.wire import SCTP, TCP, UDP, parse, tunnelled

if TYPE_CHECKING:
    from dataplane.cluster import ServiceState
    from dataplane.cluster.objects import Endpoint, ServicePort
    from dataplane.emulation import Cluster
    from dataplane.host.config import ConnectionRow
    from dataplane.result import Result

SHOWN = 240  # characters of a value in a message
NUMBERS = {"UDP": UDP, "TCP": TCP, "SCTP": SCTP}
_REWRITES_SOURCE = re.compile(r"^\[(?P<packets>\d+):\d+\] .*-j (?:MASQUERADE|SNAT|NETMAP)\b", re.MULTILINE)


class Violation(AssertionError):  # noqa: N818 - what the law's reader calls it
    """An invariant does not hold."""


def _require(ok: bool, law: str, where: object, *values: tuple[str, object]) -> None:
    if not ok:
        shown = "".join(f"\n  {name}: {_short(value)}" for name, value in values)
        raise Violation(f"{law}\n  {where}{shown}")


def _short(value: object) -> str:
    """Long payloads by their beginning and length."""
    text = str(value)
    return (
        text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(value) if isinstance(value, bytes) else len(text)})"
    )


# ---- one packet --------------------------------------------------------------------------------------------------------


def payload_untouched(passage: Passage) -> None:
    """Payload, IPv4 identification and options are wherever the packet is seen what they were when it was sent."""
    sent = parse(passage.sent)
    for sighting in passage.whole:
        seen = parse(sighting.inner)
        for name in ("payload", "id", "options"):
            ours, theirs = getattr(sent, name), getattr(seen, name)
            if ours == theirs:
                continue
            where = f"{passage} at {sighting.place}"
            values = [("sent", ours), ("seen", theirs)]
            if isinstance(ours, bytes):
                at = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
                values.append(("first difference at byte", min(len(ours), len(theirs)) if at is None else at))
            _require(False, f"the {name} of a packet is not touched", where, *values)


def checksums_kept(passage: Passage) -> None:
    """Checksums are valid, or as broken as they came; and a header without one gets none."""
    sent = parse(passage.sent)
    for sighting in passage.whole:
        seen = parse(sighting.inner)
        if seen.checksums == sent.checksums:
            continue
        where = f"{passage} at {sighting.place}"
        law = "checksums are valid, or as broken as they came (IPv4 header, transport)"
        _require(False, law, where, ("sent", sent.checksums), ("seen", seen.checksums))


def ttl_falls_by_hops(run: Run, passage: Passage) -> None:
    """TTL, or hop limit, falls by one at every host that routes the packet, and nowhere else. A host that only switches
    it between ports of a bridge does not route it, even where it translates it; a sender whose own IPVS sends it on to a
    server elsewhere does, as the kernel does it there."""
    if not passage.delivered:
        return
    visits = [list(group) for _, group in groupby(passage.whole, key=lambda sighting: sighting.host)]
    routed = [
        group[0].host
        for group in visits[1:-1]
        if group[0].host != UNDERLAY and any(_routes(run, sighting) for sighting in group)
    ]
    if len(visits) > 1 and _balances(run, passage, visits[0][0]):
        routed.insert(0, passage.sender)
    fallen = parse(passage.sent).ttl - arrived(passage).ttl
    law = "the TTL falls by the number of hosts that route the packet"
    _require(fallen == len(routed), law, passage, ("fell by", fallen), ("routed by", ", ".join(routed) or "nobody"))


def _routes(run: Run, sighting: Sighting) -> bool:
    """Whether it was seen at an interface that is no bridge's port: there packets are routed, not switched."""
    link = run.fabric.running(sighting.host).config.link(sighting.interface)
    return link is not None and link.master is None


def _balances(run: Run, passage: Passage, first: Sighting) -> bool:
    """Whether the sender's own virtual services have given the packet another destination."""
    return bool(run.fabric.running(passage.sender).config.ipvs) and (
        parse(first.inner).destination != parse(passage.sent).destination
    )


def encapsulation_is_inverse(passage: Passage) -> None:
    """What comes out of a tunnel is what went in, byte for byte, and on the way it is inside a packet of the nodes'.
    Of a packet in fragments this holds for each, and for each tunnel on the way."""
    inside_of: dict[tuple[int, bool] | None, bytes] = {}
    for sighting in passage.sightings:
        inside = tunnelled(sighting.packet)
        piece = place(sighting.inner)
        entered = inside_of.get(piece)
        if inside is not None:
            if entered is None:
                entered = inside_of[piece] = inside
            law = "a tunnel carries the frame as it is"
            where = f"{passage} at {sighting.place}"
            _require(inside == entered, law, where, ("entered", entered.hex()), ("inside", inside.hex()))
        elif entered is not None:
            law = "what leaves a tunnel is what entered it"
            where = f"{passage} at {sighting.place}"
            out = sighting.frame
            _require(out == entered, law, where, ("entered", entered.hex()), ("left", out.hex()))
            del inside_of[piece]


def client_address_kept(run: Run, passage: Passage) -> None:
    """A receiver sees the client's own address, unless a rule says otherwise: on the host where the source changes, no more
    connections have another source than rules that rewrite sources (MASQUERADE, SNAT, NETMAP) have counted. For hosts
    whose rules were not written anew meanwhile."""
    if not passage.delivered:
        return
    sent, seen = parse(passage.sent), arrived(passage)
    if seen.source == sent.source:
        return
    changed = (sighting.host for sighting in passage.whole if parse(sighting.inner).source != sent.source)
    host = next(changed, passage.receiver)
    rewritten = [
        row
        for row in run.connections(host)
        if row.original.source.version == sent.family and row.reply.destination != row.original.source
    ]
    ruleset = run.fabric.running(host).ruleset(sent.family)
    text = ruleset.text(counters=True) if ruleset is not None else ""
    told = sum(int(match["packets"]) for match in _REWRITES_SOURCE.finditer(text))
    law = "a receiver sees the client's own address, unless a masquerade rule says otherwise"
    values = ("sent by", sent.source), ("seen", seen.source), ("changed by", host)
    _require(
        0 < told >= len(rewritten), law, passage, *values, ("connections", len(rewritten)), ("told by rules", told)
    )


# ---- a conversation ----------------------------------------------------------------------------------------------------


def replies_are_inverse(played: Played) -> None:
    """Every reply reaches the client from where the client had sent its request: addresses and ports change places."""
    if not played.requests:
        return
    asked = parse(played.requests[0].sent)
    wanted = (asked.destination, asked.ports[1], asked.source, asked.ports[0], asked.protocol)
    for passage in played.replies:
        _require(passage.delivered, "the reply to a request that arrived arrives", passage)
        _require(passage.receiver == played.conversation.client, "a reply reaches the client", passage)
        seen = arrived(passage).tuple
        law = "a reply is the inverse of its request"
        _require(seen == wanted, law, passage, ("expected", _shown(wanted)), ("seen", _shown(seen)))


def one_endpoint(passages: Iterable[Passage]) -> None:
    """The packets of one connection reach one endpoint, as long as that lives."""
    first: tuple[str, tuple[object, ...]] | None = None
    for passage in passages:
        if not passage.delivered:
            continue
        seen = arrived(passage)
        reached = (passage.receiver, (str(seen.destination), seen.ports[1]))
        first = first or reached
        law = "a connection keeps its endpoint while that lives"
        _require(reached == first, law, passage, ("first", first), ("now", reached))


def service_has_its_endpoints(run: Run, played: Played) -> None:
    """Requests to a Service's address reach endpoints of its port alone: ready ones, or where none is, those that end and
    still serve; under the policy Local those of the node that the client is on, or that it speaks to from outside. In
    IPVS mode all serve where that node has none, as kube-proxy has it there."""
    found = _service_port(run, played.conversation)
    if found is None:
        return
    service, port, local_to = found
    state, family = run.timeline.state, ip_address(played.conversation.target).version
    known = [
        (endpoint, offered.port)
        for piece in state.endpoints.get((service.namespace, service.name), ())
        if piece.family == family
        for offered in piece.ports
        if offered.name == port.name
        for endpoint in piece.endpoints
    ]
    near = _serving([one for one in known if not local_to or one[0].node == local_to])
    ready = near if near or run.timeline.agents.mode != "ipvs" else _serving(known)
    shown = {f"[{one.address}]:{number}" if family == 6 else f"{one.address}:{number}" for one, number in ready}
    for passage in played.requests:
        only_chosen_endpoints(service, passage, shown)


def _serving(known: Sequence[tuple[Endpoint, int]]) -> Sequence[tuple[Endpoint, int]]:
    return [one for one in known if one[0].ready] or [one for one in known if one[0].serving and one[0].terminating]


def _service_port(run: Run, conversation: Conversation) -> tuple[ServiceState, ServicePort, str] | None:
    """The Service and port that a client speaks to, and the node whose endpoints alone it may reach ("" for all)."""
    state, target = run.timeline.state, ip_address(conversation.target)
    pod = state.pod(*conversation.client.split("/")) if "/" in conversation.client else None
    near = (
        (pod.node or "")
        if pod is not None
        else conversation.client
        if state.node(conversation.client) is not None
        else ""
    )
    for service in state.services:
        outer = {*service.external_ips, *(entry.ip for entry in service.ingress if entry.ip is not None)}
        for port in service.ports:
            if NUMBERS.get(port.protocol) != conversation.protocol or target.version not in service.ip_families:
                continue
            if target in service.cluster_ips and port.port == conversation.dport:
                return service, port, near if service.internal_traffic_policy == "Local" else ""
            if target in outer and port.port == conversation.dport:
                return service, port, ""
            if port.node_port and port.node_port == conversation.dport:
                for node in state.nodes:
                    if target in node.addresses:
                        # A client inside is masqueraded and may reach them all, one outside reaches the node's own.
                        local = service.external_traffic_policy == "Local" and not near
                        return service, port, node.name if local else ""
    return None


def only_chosen_endpoints(service: ServiceState, passage: Passage, endpoints: Iterable[str]) -> None:
    """A packet to a Service reaches one of its endpoints, given as ADDRESS or ADDRESS:PORT, [ADDRESS]:PORT, or nobody."""
    if not passage.delivered:
        return
    seen = arrived(passage)
    host = f"[{seen.destination}]" if seen.family == 6 else str(seen.destination)
    chosen = set(endpoints)
    ok = bool({str(seen.destination), f"{host}:{seen.ports[1]}"} & chosen)
    law = f"only endpoints of Service {service} get its traffic"
    _require(
        ok, law, passage, ("endpoints", ", ".join(sorted(chosen)) or "none"), ("reached", f"{host}:{seen.ports[1]}")
    )


def _shown(found: tuple[object, ...]) -> str:
    source, sport, destination, dport, protocol = found
    return f"{source} port {sport} -> {destination} port {dport}, protocol {protocol}"


# ---- hosts and runs ----------------------------------------------------------------------------------------------------


def reply_tuples_are_unique(rows: Iterable[ConnectionRow]) -> None:
    """No two live connections of a host would take the same reply for theirs."""
    known: dict[tuple[object, ...], ConnectionRow] = {}
    for row in rows:
        reply = row.reply
        key = (
            row.protocol, reply.source, reply.source_port, reply.destination, reply.destination_port,
            reply.icmp_id, reply.icmp_type, reply.source_key, reply.destination_key, reply.zone, row.zone,
        )  # fmt: skip
        other = known.setdefault(key, row)
        law = "no two live connections share a reply tuple"
        _require(other is row, law, "conntrack", ("one", other.original), ("another", row.original), ("reply", reply))


def counters_add_up(run: Run) -> None:
    """What one end of a wire has sent, the other has received: packets and bytes, less what the wire refused."""
    for (host_a, interface_a), (host_b, interface_b) in run.fabric.wires.items():
        sent = _counters(run, host_a, interface_a)
        got = _counters(run, host_b, interface_b)
        law = "what one end of a wire sends the other end receives (packets, bytes)"
        wire = f"{host_a}/{interface_a} to {host_b}/{interface_b}"
        _require(sent["tx"] == got["rx"], law, wire, ("sent", sent["tx"]), ("received", got["rx"]))


def _counters(run: Run, host: str, interface: str) -> Mapping[str, tuple[int, int]]:
    running = run.fabric.running(host)
    row = running.host.interface_counters(running.slots[interface])
    rx_packets, rx_bytes, _, _, tx_packets, tx_bytes, _, tx_dropped = row
    # A frame that the far end refused was counted as sent first.
    return {"rx": (rx_packets, rx_bytes), "tx": (tx_packets - tx_dropped, tx_bytes if not tx_dropped else rx_bytes)}


def same_outcome(one: Sequence[Passage], other: Sequence[Passage]) -> None:
    """The same packets meet the same end: verdict, reason, receiver and bytes. For independent flows whose hosts choose
    nothing at random this holds in any order, in batches of any size, and on hosts that have seen traffic before."""
    _require(len(one) == len(other), "as many packets in both runs", f"{len(one)} and {len(other)}")
    by_packet = {(passage.sender, passage.sent): passage for passage in other}
    for passage in one:
        twin = by_packet.get((passage.sender, passage.sent))
        _require(twin is not None, "the same packets in both runs", passage)
        assert twin is not None
        for name in ("verdict", "reason", "receiver", "arrived", "end"):
            ours, theirs = getattr(passage, name), getattr(twin, name)
            _require(
                ours == theirs,
                f"the {name} of a packet does not depend on others",
                passage,
                ("one", ours),
                ("other", theirs),
            )


def batch_size_does_not_matter(
    cluster: Cluster, capture: str | os.PathLike[str], sizes: Sequence[int] = (1, 7, 4096)
) -> None:
    """A capture that is replayed in batches of any size has the same flows and the same accounting."""
    first = cluster.replay(capture, rows=sizes[0])
    accounting_adds_up(first)
    for size in sizes[1:]:
        other = cluster.replay(capture, rows=size)
        law = f"batches of {size} packets give what batches of {sizes[0]} give"
        accounting_adds_up(other)
        _require(
            first.accounting == other.accounting, law, capture, ("one", first.accounting), ("other", other.accounting)
        )
        _require(first.columns == other.columns, law, capture)


def accounting_adds_up(result: Result) -> None:
    """Every packet of a replayed capture was left out or sent; what was sent was delivered, dropped for a reason, left the
    model, was taken by a host itself, or waits."""
    told = result.accounting
    left_out, dropped = sum(told.left_out.values()), sum(told.dropped.values())
    law = "packets read are left out or injected"
    _require(told.read == left_out + told.injected, law, told.line(), ("read", told.read), ("left out", left_out))
    ends = told.delivered + told.emitted + told.consumed + told.waiting + dropped
    law = "packets injected are delivered, dropped, emitted, consumed, or wait"
    _require(told.injected == ends, law, told.line(), ("injected", told.injected), ("ends", ends))


def order_does_not_matter(
    cluster: Cluster, sent: Sequence[tuple[str, bytes]], order: Sequence[int], *, indexed: bool = True
) -> None:
    """Packets of independent flows, (sender, packet), meet the same end in any order. order: a permutation of their
    positions. They must not need chance: direct flows, or Services with one endpoint."""
    one, other = Run(cluster), Run(cluster, indexed=indexed)
    first = [one.send(*pair) for pair in sent]
    same_outcome(first, [other.send(*sent[at]) for at in order])


def cached_and_uncached_agree(cluster: Cluster, wanted: Iterable[Conversation]) -> None:
    """Conversations go the same way, packet by packet, over hosts that find a rule through an index and over hosts that
    look at one rule after the other as the kernel does; and every rule has counted the same."""
    one, other = Run(cluster), Run(cluster, indexed=False)
    for conversation in wanted:
        ours, theirs = one.play(conversation), other.play(conversation)
        for name in ("requests", "replies"):
            here, there = getattr(ours, name), getattr(theirs, name)
            _require(len(here) == len(there), "as many packets with an index of rules as without", conversation)
            for passage, twin in zip(here, there, strict=True):
                law = "a packet goes the same way with an index of rules and without"
                _require(passage.sightings == twin.sightings, law, passage, ("without", twin))
                _require((passage.reason, passage.end) == (twin.reason, twin.end), law, passage, ("without", twin))
    for host in one.fabric.names:
        for family in (4, 6):
            here, there = (run.fabric.running(host).ruleset(family) for run in (one, other))
            lines = [ruleset.text(counters=True).splitlines() if ruleset else [] for ruleset in (here, there)]
            for line, twin in zip(*lines, strict=True):
                _require(
                    line == twin, "a rule counts the same with an index of rules and without", host, ("without", twin)
                )


# ---- all ---------------------------------------------------------------------------------------------------------------


def check(run: Run, played: Played) -> None:
    """Everything that holds for a conversation between hosts that do not change meanwhile.

    One law has an exception, which is kube-proxy's own: in IPVS mode, where an external policy is Local and a node has no
    endpoint, all endpoints serve, and answer past the node that nobody was masqueraded on.
    """
    for passage in (*played.requests, *played.replies):
        payload_untouched(passage)
        checksums_kept(passage)
        encapsulation_is_inverse(passage)
        ttl_falls_by_hops(run, passage)
    for passage in played.requests:
        client_address_kept(run, passage)
    found = _service_port(run, played.conversation)
    if (
        found is None
        or ip_address(played.conversation.target) in found[0].cluster_ips
        or found[0].external_traffic_policy != "Local"
        or run.timeline.agents.mode != "ipvs"
    ):
        replies_are_inverse(played)
    one_endpoint(played.requests)
    service_has_its_endpoints(run, played)
