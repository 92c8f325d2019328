"""The connections of a host, as `conntrack -L -o extended` lists them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from dataplane._fast.conntrack import SCTP_STATES, TCP_STATES, Status, ZoneFlag
from dataplane._fast.host import CompiledHost
from dataplane.errors import DumpError
from dataplane.host.config import ConnectionRow, ConnectionTuple

SECOND = 1_000_000_000
SIDES = (ZoneFlag.ZONE_ORIGINAL, ZoneFlag.ZONE_REPLY)
BOTH = ZoneFlag.ZONE_ORIGINAL | ZoneFlag.ZONE_REPLY
ICMP, ICMPV6, GRE = 1, 58, 47
TCP, SCTP = 6, 132
WITH_PORTS = (6, 17, 33, 132, 136)  # DCCP's are always 0 (Linux tracks it no more), but printed


class Connections(Sequence[ConnectionRow]):
    """Rows in the order in which the connections began."""

    def __init__(self, rows: Sequence[ConnectionRow]) -> None:
        self._rows = tuple(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def __iter__(self) -> Iterator[ConnectionRow]:
        return iter(self._rows)

    def text(self, *, extended: bool = True) -> str:
        """The lines of `conntrack -L -o extended`, or of `conntrack -L`."""
        from dataplane.host.conntrack import text

        return text(self._rows, extended=extended)


def connections(host: CompiledHost, now: int) -> Connections:
    """The connections of a host that live at `now`, ns."""
    table = host.connections
    if table is None:
        return Connections(())
    if host.balancer is not None:
        host.balancer.expire(now)  # what netfilter tracks ends with it
    return Connections([_row(row, now) for row in table.rows(now)])


def _row(row: tuple[Any, ...], now: int) -> ConnectionRow:
    protocol, _, left, state, status, mark, uses, original, reply, packets, size, began, zone, zone_flags = row
    # Of one direction alone it is told with that direction's tuple.
    both = zone_flags & BOTH == BOTH
    alone = [{"zone": zone} if zone and not both and zone_flags & side else {} for side in SIDES]
    counts = [{"packets": packets[i], "bytes": size[i]} if packets is not None else {} for i in (0, 1)]
    return ConnectionRow(
        protocol,
        replace(_tuple(protocol, original), **counts[0], **alone[0]),
        replace(_tuple(protocol, reply), **counts[1], **alone[1]),
        timeout=left // SECOND,
        state=state,
        seen_reply=bool(status & Status.STATUS_SEEN_REPLY),
        assured=bool(status & Status.STATUS_ASSURED),
        mark=mark,
        zone=zone if zone and both else None,
        use=uses,
        # The tool tells the difference of whole seconds.
        more=() if began is None else (f"delta-time={now // SECOND - began // SECOND}",),
    )


def _tuple(protocol: int, values: tuple[Any, ...]) -> ConnectionTuple:
    source, destination, source_key, destination_key = values
    if protocol in (ICMP, ICMPV6):
        return ConnectionTuple(
            source,
            destination,
            icmp_type=destination_key >> 8,
            icmp_code=destination_key & 0xFF,
            icmp_id=source_key,
        )
    if protocol in WITH_PORTS:
        return ConnectionTuple(source, destination, source_key, destination_key)
    if protocol == GRE:
        return ConnectionTuple(source, destination, source_key=source_key, destination_key=destination_key)
    return ConnectionTuple(source, destination)


# ---- of a dump -------------------------------------------------------------------------------------------------------

DONE = Status.STATUS_SRC_NAT_DONE | Status.STATUS_DST_NAT_DONE
OFFLOADED = 30 * SECOND  # what an offloaded flow has left is not printed


def taken_over(rows: Iterable[ConnectionRow], file: str = "conntrack.txt") -> Iterator[tuple[Any, ...]]:
    """The rows that a connection table takes (conntrack_load). DumpError for a state that there is not."""
    for number, row in enumerate(rows, 1):
        states = {TCP: TCP_STATES, SCTP: SCTP_STATES}.get(row.protocol)
        if states is not None and row.state not in states:
            raise DumpError(file, f"connection {number}", "state", f"{row.state!r} is not a state of the protocol")
        sides = [flag for flag, side in zip(SIDES, (row.original, row.reply), strict=True) if side.zone]
        zone = row.zone or row.original.zone or row.reply.zone or 0
        yield (
            row.protocol,
            OFFLOADED if row.timeout is None else row.timeout * SECOND,
            row.state if states is not None else None,
            int(_status(row)),
            row.mark or 0,
            _values(row.protocol, row.original),
            _values(row.protocol, row.reply),
            (row.original.packets or 0, row.reply.packets or 0),
            (row.original.bytes or 0, row.reply.bytes or 0),
            zone,
            int(sum(sides)) if sides and not row.zone else int(BOTH),
        )


def _status(row: ConnectionRow) -> Status:
    """What the line says, and what its tuples show of translation."""
    there, back = _values(row.protocol, row.original), _values(row.protocol, row.reply)
    status = DONE
    if row.seen_reply:
        status |= Status.STATUS_SEEN_REPLY
    if row.assured:
        status |= Status.STATUS_ASSURED
    # The id of an echo belongs to the one who asks.
    echo = row.protocol in (ICMP, ICMPV6)
    if (there[0], there[2]) != (back[1], back[2] if echo else back[3]):
        status |= Status.STATUS_SRC_NAT
    if there[1] != back[0] or (not echo and there[3] != back[2]):
        status |= Status.STATUS_DST_NAT
    return status


def _values(protocol: int, side: ConnectionTuple) -> tuple[Any, Any, int, int]:
    if protocol in (ICMP, ICMPV6):
        return side.source, side.destination, side.icmp_id or 0, (side.icmp_type or 0) << 8 | (side.icmp_code or 0)
    if protocol == GRE:
        return side.source, side.destination, side.source_key or 0, side.destination_key or 0
    return side.source, side.destination, side.source_port or 0, side.destination_port or 0
