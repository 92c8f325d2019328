"""What holds for every packet that a correct data plane moves, as plain functions.

Each raises Violation, an AssertionError, with a message that names the packet and both values; each returns nothing.
They look at a Run (see dataplane.testing.run), a Played conversation or a Passage.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from dataplane.agents.underlay import UNDERLAY
from dataplane.testing.run import Passage, Played, Run, Sighting, arrived
from dataplane.testing.wire import parse, tunnelled

if TYPE_CHECKING:
    from dataplane.cluster import ServiceState
    from dataplane.emulation import Cluster
    from dataplane.host.config import ConnectionRow

_REWRITES_SOURCE = re.compile(r"^\[(?P<packets>\d+):\d+\] .*-j (?:MASQUERADE|SNAT)\b", re.MULTILINE)


class Violation(AssertionError):  # noqa: N818 - what the law's reader calls it
    """An invariant does not hold."""


def _require(ok: bool, law: str, where: object, *values: tuple[str, object]) -> None:
    if not ok:
        shown = "".join(f"\n  {name}: {value}" for name, value in values)
        raise Violation(f"{law}\n  {where}{shown}")


# ---- one packet --------------------------------------------------------------------------------------------------------


def payload_untouched(passage: Passage) -> None:
    """Payload, IPv4 identification and options are wherever the packet is seen what they were when it was sent."""
    sent = parse(passage.sent)
    for sighting in passage.sightings:
        seen = parse(sighting.inner)
        for name in ("payload", "id", "options"):
            ours, theirs = getattr(sent, name), getattr(seen, name)
            place = f"{passage} at {sighting.host}/{sighting.interface}"
            _require(ours == theirs, f"the {name} of a packet is not touched", place, ("sent", ours), ("seen", theirs))


def checksums_kept(passage: Passage) -> None:
    """Checksums are valid, or as broken as they came; and a header without one gets none."""
    sent = parse(passage.sent)
    for sighting in passage.sightings:
        seen = parse(sighting.inner)
        place = f"{passage} at {sighting.host}/{sighting.interface}"
        law = "checksums are valid, or as broken as they came (IPv4 header, transport)"
        _require(seen.checksums == sent.checksums, law, place, ("sent", sent.checksums), ("seen", seen.checksums))


def ttl_falls_by_hops(run: Run, passage: Passage) -> None:
    """TTL, or hop limit, falls by one at every host that routes the packet, and nowhere else. A host that only switches
    it between ports of a bridge does not route it, even where it translates it."""
    if not passage.delivered:
        return
    visits = [list(group) for _, group in groupby(passage.sightings, key=lambda sighting: sighting.host)]
    routed = [
        group[0].host
        for group in visits[1:-1]
        if group[0].host != UNDERLAY and any(_routes(run, sighting) for sighting in group)
    ]
    fallen = parse(passage.sent).ttl - arrived(passage).ttl
    law = "the TTL falls by the number of hosts that route the packet"
    _require(fallen == len(routed), law, passage, ("fell by", fallen), ("routed by", ", ".join(routed) or "nobody"))


def _routes(run: Run, sighting: Sighting) -> bool:
    """Whether it was seen at an interface that is no bridge's port: there packets are routed, not switched."""
    link = run.fabric.running(sighting.host).config.link(sighting.interface)
    return link is not None and link.master is None


def encapsulation_is_inverse(passage: Passage) -> None:
    """What comes out of a tunnel is what went in, byte for byte, and on the way it is inside a packet of the nodes'."""
    entered: bytes | None = None
    for sighting in passage.sightings:
        inside = tunnelled(sighting.packet)
        if inside is not None:
            if entered is None:
                entered = inside
            law = "a tunnel carries the frame as it is"
            place = f"{passage} at {sighting.host}/{sighting.interface}"
            _require(inside == entered, law, place, ("entered", entered.hex()), ("inside", inside.hex()))
        elif entered is not None:
            law = "what leaves a tunnel is what entered it"
            place = f"{passage} at {sighting.host}/{sighting.interface}"
            out = sighting.frame
            _require(out == entered, law, place, ("entered", entered.hex()), ("left", out.hex()))
            return


def client_address_kept(run: Run, passage: Passage) -> None:
    """A receiver sees the client's own address, unless a rule of a host on the way rewrites sources and has matched."""
    if not passage.delivered:
        return
    sent, seen = parse(passage.sent), arrived(passage)
    if seen.source == sent.source:
        return
    for host in dict.fromkeys(sighting.host for sighting in passage.sightings):
        ruleset = run.fabric.running(host).ruleset(sent.family)
        text = ruleset.text(counters=True) if ruleset is not None else ""
        if any(int(match["packets"]) for match in _REWRITES_SOURCE.finditer(text)):
            return
    law = "a receiver sees the client's own address, unless a masquerade rule says otherwise"
    _require(False, law, passage, ("sent by", sent.source), ("seen", seen.source))


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
    for size in sizes[1:]:
        other = cluster.replay(capture, rows=size)
        law = f"batches of {size} packets give what batches of {sizes[0]} give"
        _require(
            first.accounting == other.accounting, law, capture, ("one", first.accounting), ("other", other.accounting)
        )
        _require(first.columns == other.columns, law, capture)


# ---- all ---------------------------------------------------------------------------------------------------------------


def check(run: Run, played: Played) -> None:
    """Everything that holds for a conversation between hosts that do not change meanwhile."""
    for passage in (*played.requests, *played.replies):
        payload_untouched(passage)
        checksums_kept(passage)
        encapsulation_is_inverse(passage)
        ttl_falls_by_hops(run, passage)
    for passage in played.requests:
        client_address_kept(run, passage)
    replies_are_inverse(played)
    one_endpoint(played.requests)
