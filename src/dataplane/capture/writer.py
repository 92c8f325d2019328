"""The doors for captures that go out into one file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal

import numpy as np
import numpy.typing as npt

from dataplane._fast.batch import PacketBatch
from dataplane._fast.pcap import write_records
from dataplane._fast.pcapng import Refusal, write_blocks
from dataplane.capture.pcap import file_header
from dataplane.capture.pcapng import interface_block, section_block
from dataplane.capture.sink import Sink
from dataplane.errors import ModelError

__all__ = ["CaptureWriter", "PcapWriter"]

_ETHERNET = 1
_MAX_TEXT = 0xFFFF

Rows = npt.NDArray[np.int64] | Sequence[int] | None


def chosen(batch: PacketBatch, rows: Rows) -> npt.NDArray[np.int64] | None:
    return None if rows is None else np.ascontiguousarray(rows, np.int64)


class _FileWriter:
    """What both formats have: a sink, a count, a context."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._sink = Sink(path)
        self.packets = 0

    def close(self) -> None:
        """Write what is left. A second call does nothing."""
        self._sink.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class CaptureWriter(_FileWriter):
    """One pcapng file: one section, one interface per place, nanosecond timestamps.

    packets: written so far
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        interfaces: Sequence[str] = (),
        link_types: Sequence[int] | None = None,
        *,
        comment: str = "",
    ) -> None:
        """Open `path` (.gz is compressed, "-" is the standard output) and describe the interfaces.

        link_types: one per interface; Ethernet when not given
        comment:    of the section
        Raises OSError when the file cannot be made, ValueError when there are not as many link types as interfaces.
        """
        if link_types is None:
            link_types = [_ETHERNET] * len(interfaces)
        elif len(link_types) != len(interfaces):
            raise ValueError(f"{len(interfaces)} interfaces but {len(link_types)} link types")
        super().__init__(path)
        self.interfaces: list[str] = []
        self._link_types = np.zeros(max(len(interfaces), 8), np.uint16)
        self._sink.put(section_block("dataplane", comment))
        for name, link_type in zip(interfaces, link_types, strict=True):
            self.add_interface(name, link_type)

    def add_interface(self, name: str, link_type: int = _ETHERNET, description: str = "") -> int:
        """Describe one more interface; gives its index. Names and descriptions are cut at 65,535 bytes."""
        index = len(self.interfaces)
        if index == len(self._link_types):
            self._link_types = np.concatenate([self._link_types, np.zeros_like(self._link_types)])
        self._link_types[index] = link_type
        self._sink.put(interface_block(name, link_type, description))
        self.interfaces.append(name)
        return index

    def write(self, batch: PacketBatch, rows: Rows = None, comments: Mapping[int, str] | None = None) -> None:
        """Write packets, each to the interface that `batch.interface` says.

        rows:     rows of the batch in the order to write; all when not given
        comments: by row of the batch; what Wireshark shows as packet comment, cut at 65,535 bytes
        Raises ModelError when a row has an interface that was not described or a link type other than its interface's
        (the rows before it are written), IndexError when a row is not in the batch. A time before 1970 becomes 1970.
        """
        index = chosen(batch, rows)
        total = len(batch) if index is None else len(index)
        ends, texts = _pack_comments(range(total) if index is None else index.tolist(), comments or {})
        link_types = self._link_types[: len(self.interfaces)]
        sink = self._sink
        first = 0
        while True:
            before = first
            first, sink.used, refusal = write_blocks(
                batch, index, first, link_types, ends, texts, sink.buffer, sink.used
            )
            self.packets += first - before
            if refusal != Refusal.REFUSED_NOT:
                raise self._refused(batch, int(first if index is None else index[first]), refusal)
            if first == total:
                return
            sink.make_room()

    def _refused(self, batch: PacketBatch, row: int, refusal: int) -> Exception:
        if refusal == Refusal.REFUSED_ROW:
            return IndexError(f"row {row} of {len(batch)}")
        interface = int(batch.interface[row])
        if refusal == Refusal.REFUSED_INTERFACE:
            return ModelError(f"row {row}: interface {interface} of {len(self.interfaces)}")
        return ModelError(
            f"row {row}: link type {batch.link_type[row]} on {self.interfaces[interface]!r}, "
            f"which has {self._link_types[interface]}"
        )

    def __enter__(self) -> CaptureWriter:
        return self


def _pack_comments(
    rows: Sequence[int], comments: Mapping[int, str]
) -> tuple[npt.NDArray[np.int64] | None, bytes | None]:
    """The comments in the order of `rows` as one text, and where each one ends."""
    if not comments:
        return None, None
    texts = [comments.get(row, "").encode()[:_MAX_TEXT] for row in rows]
    return np.cumsum([len(text) for text in texts], dtype=np.int64), b"".join(texts)


class PcapWriter(_FileWriter):
    """One pcap file of one link type, which cannot say where its packets were captured.

    packets: written so far
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        link_type: int = _ETHERNET,
        *,
        nanoseconds: bool = True,
        byte_order: Literal["little", "big"] = "little",
    ) -> None:
        """Open `path` (.gz is compressed, "-" is the standard output). Raises OSError when that fails."""
        super().__init__(path)
        self.link_type = link_type
        self._nanoseconds = nanoseconds
        self._swapped = byte_order != sys.byteorder
        self._sink.put(file_header(link_type, nanoseconds, byte_order))

    def write(self, batch: PacketBatch, rows: Rows = None) -> None:
        """Write packets. Times are cut to the file's unit and to the years 1970 to 2106.

        rows: rows of the batch in the order to write; all when not given
        Raises ModelError, and nothing is written, when a row has another link type than the file; IndexError when a row
        is not in the batch.
        """
        index = chosen(batch, rows)
        total = len(batch) if index is None else len(index)
        link_types = batch.link_type[:total] if index is None else batch.link_type[index]
        wrong = np.flatnonzero(link_types != self.link_type)
        if len(wrong):
            raise ModelError(f"link type {link_types[wrong[0]]} in a file of {self.link_type}")
        sink = self._sink
        first = 0
        while True:
            before = first
            first, sink.used = write_records(
                batch, index, first, sink.buffer, sink.used, self._swapped, self._nanoseconds
            )
            self.packets += first - before
            if first == total:
                return
            sink.make_room()

    def __enter__(self) -> PcapWriter:
        return self
