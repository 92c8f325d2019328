"""What changes of the cluster did to each flow: kept, moved, reset, black-holed, refused.

    kept         it went on to where it was, though what it talked to had changed
    moved        it reached another endpoint (the datagrams of a UDP flow; a new connection with the same ports)
    reset        packets from the middle of a TCP connection reached another endpoint, which knows nothing of it
    black-holed  packets were lost, from `from` (the first that was lost) to `to` (the next that arrived; None: none did)
    refused      packets were lost, and the client was told (REJECT; a virtual service without a server)

A flow that lost packets before it moved is moved; its black hole is told all the same, the longest if it had several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataplane._fast.reason import Reason

if TYPE_CHECKING:
    from dataplane.timeline import Happened

KEPT, MOVED, RESET, BLACK_HOLED, REFUSED = EFFECTS = ("kept", "moved", "reset", "black-holed", "refused")
TOLD = (Reason.NETFILTER_REJECT, Reason.IPVS_NO_DEST)  # drops with an ICMP error
COLUMNS = (
    "change",
    "changed_at",
    "effect",
    "endpoint_before",
    "black_hole_from",
    "black_hole_to",
    "black_holes",
    "lost",
)


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """time: ns. effects: how many flows of each kind it had."""

    time: int
    change: str
    effects: Mapping[str, int]


def effect_columns(
    raw: Mapping[str, list[Any]],
    services: Sequence[tuple[str, str]],
    happened: Sequence[Happened],
    name: Callable[[Any, int], str],
) -> dict[str, list[Any]]:
    """A column each of COLUMNS for the flows of a replay.

    raw: as Replay.rows. services: (namespace, name) of each flow's Service, empty texts without one. name: of an address
    at a host.
    """
    found: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    ordered = sorted(happened, key=lambda entry: entry.time)
    for i, service in enumerate(services):
        values = _effect(_row(raw, i), service, ordered, name)
        for column, value in zip(COLUMNS, values, strict=True):
            found[column].append(value)
    return found


def _row(raw: Mapping[str, list[Any]], i: int) -> Mapping[str, Any]:
    return {column: values[i] for column, values in raw.items()}


def _effect(
    flow: Mapping[str, Any],
    service: tuple[str, str],
    happened: Sequence[Happened],
    name: Callable[[Any, int], str],
) -> tuple[Any, ...]:
    nothing = (None,) * len(COLUMNS)
    if not happened:
        return nothing
    holes = [hole for hole in flow["holes"] if hole[1] >= happened[0].time]
    times = [hole[1] for hole in holes] + [at for at in (flow["moved_at"], flow["reset_at"]) if at]
    concerned = _concerning(flow, service, happened)
    if times:
        # Whatever came last before the trouble began has made it.
        causes = [entry for entry in concerned if entry.time <= min(times)]
    else:
        causes = [entry for entry in concerned if flow["first"] < entry.time <= flow["last"]][:1]
    if not causes:
        return nothing
    cause = causes[-1]
    is_open = [hole for hole in holes if not hole[3]]
    if flow["reset_at"]:
        effect = RESET
    elif is_open:
        effect = _lost(is_open)
    elif flow["moved_at"]:
        effect = MOVED
    elif holes:
        effect = _lost(holes)
    else:
        effect = KEPT
    before = flow["first_endpoint"]
    outages = _outages(holes)
    # Of several the longest is told; one that never ends is longer than any that does.
    start, end = max(outages, key=lambda outage: (outage[1] or flow["last"] + 1) - outage[0], default=(None, None))
    return (
        cause.change,
        cause.time,
        effect,
        name(before, flow["first_host"]) if before is not None else None,
        start,
        end or None,
        len(outages),
        sum(hole[4] for hole in holes),
    )


def _outages(holes: Sequence[tuple[int, ...]]) -> list[tuple[int, int]]:
    """(from, to) of the times without traffic; to 0: to the end. Requests and replies are lost together."""
    outages: list[tuple[int, int]] = []
    for start, end in sorted((hole[1], hole[3]) for hole in holes):
        if outages and (not outages[-1][1] or start <= outages[-1][1]):
            before = outages[-1]
            outages[-1] = before[0], 0 if not before[1] or not end else max(before[1], end)
        else:
            outages.append((start, end))
    return outages


def _lost(holes: Sequence[tuple[int, ...]]) -> str:
    return REFUSED if all(hole[5] in TOLD for hole in holes) else BLACK_HOLED


def _concerning(flow: Mapping[str, Any], service: tuple[str, str], happened: Sequence[Happened]) -> list[Happened]:
    addresses = {flow[end] for end in ("client", "server", "endpoint", "first_endpoint")} - {None}
    return [
        entry
        for entry in happened
        if (service[1] and service in entry.services) or not addresses.isdisjoint(entry.addresses)
    ]


def summary(columns: Mapping[str, list[Any]], happened: Sequence[Happened]) -> list[ChangeRow]:
    """How many flows each change had an effect on, in the order in which they happened."""
    counts: Counter[tuple[int, str, str]] = Counter(
        zip(columns["changed_at"], columns["change"], columns["effect"], strict=True)
    )
    rows = []
    for entry in happened:
        row = ChangeRow(
            entry.time, entry.change, {effect: counts[entry.time, entry.change, effect] for effect in EFFECTS}
        )
        if row not in rows:
            rows.append(row)
    return rows


def affected(columns: Mapping[str, list[Any]]) -> Iterator[int]:
    """The flows that a change did more to than to leave them alone, by the time it began."""
    order = [i for i, effect in enumerate(columns["effect"]) if effect not in (None, KEPT)]
    yield from sorted(order, key=lambda i: (columns["changed_at"][i], columns["first"][i]))
