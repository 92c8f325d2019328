"""Reading a capture held in memory to a plain list, through the door."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import NamedTuple

from dataplane.capture import CaptureReader, Counts, Interface
from dataplane.errors import CaptureError


class Row(NamedTuple):
    time: int
    data: bytes
    original: int
    interface: int = 0
    link_type: int = 1


@dataclass
class Reading:
    rows: list[Row]
    error: CaptureError | None
    interfaces: list[Interface]
    counts: Counts
    comments: list[str]
    packet_comments: dict[int, list[str]]  # by packet of the whole capture


def read_all(data: bytes, rows: int = 4096) -> Reading:
    """Everything up to the end or the error; an error at the door is raised."""
    reader = CaptureReader(io.BytesIO(data), "memory", rows)
    reading = Reading([], None, reader.interfaces, reader.counts, [], {})
    try:
        for batch in reader:
            first = len(reading.rows)
            for i in range(len(batch)):
                reading.rows.append(
                    Row(
                        int(batch.time[i]),
                        batch.frame(i),
                        int(batch.original[i]),
                        int(batch.interface[i]),
                        int(batch.link_type[i]),
                    )
                )
            reading.packet_comments |= {first + row: texts for row, texts in reader.packet_comments.items()}
            assert reader.counts.packets == len(reading.rows)
    except CaptureError as error:
        reading.error = error
    reading.counts = reader.counts
    reading.comments = reader.comments
    return reading
