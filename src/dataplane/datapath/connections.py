"""The connections of a host, as `conntrack -L -o extended` lists them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from dataplane._fast.conntrack import Status, ZoneFlag
from dataplane._fast.host import CompiledHost
from dataplane.host.config import ConnectionRow, ConnectionTuple

SECOND = 1_000_000_000
SIDES = (ZoneFlag.ZONE_ORIGINAL, ZoneFlag.ZONE_REPLY)
BOTH = ZoneFlag.ZONE_ORIGINAL | ZoneFlag.ZONE_REPLY
ICMP, ICMPV6, GRE = 1, 58, 47
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
