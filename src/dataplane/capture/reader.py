"""The door for captures that come in."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, cast

from dataplane._fast.batch import HEADROOM, TAILROOM, PacketBatch
from dataplane._fast.records import MAX_PACKET
from dataplane.capture.gunzip import GZIP_MAGIC, Gunzip
from dataplane.capture.interface import Counts, Interface
from dataplane.capture.pcap import PcapFile
from dataplane.capture.pcapng import SECTION_MAGIC, PcapngFile
from dataplane.capture.window import Readable, Window
from dataplane.errors import CaptureError

__all__ = ["CaptureReader", "open_capture"]

# Arena bytes per row: packets of many sizes fill the rows first, packets of full size the arena.
_ROW_BYTES = 1024


def open_capture(path: str | os.PathLike[str], rows: int = 4096) -> CaptureReader:
    """Open a pcap or pcapng file, plain or gzip (told by its first bytes); "-" is the standard input.

    rows: most packets per batch
    Raises CaptureError when the file does not begin as a capture does, OSError when it cannot be opened.
    """
    name = os.fspath(path)
    if name == "-":
        return CaptureReader(sys.stdin.buffer, name, rows)
    stream = open(name, "rb", buffering=0)  # noqa: SIM115 - the reader owns it
    try:
        return CaptureReader(stream, name, rows, close=stream)
    except BaseException:
        stream.close()
        raise


class CaptureReader:
    """An iterator of decoded batches, and a context manager.

    It is one batch object that is filled again at each step: what is needed of it is used, or copied, before the next.
    The packets are in the file's order, and `batch.interface` counts through `interfaces`. When the file turns out to
    be damaged, every packet before the damage has been given out; then CaptureError names the byte offset (in the
    uncompressed stream) and the field.

    name:        as the user gave it
    format:      "pcap" or "pcapng"
    interfaces:  list of Interface; grows while a pcapng file is read
    comments:    comments of pcapng sections, in order
    """

    def __init__(
        self, stream: BinaryIO | io.RawIOBase, name: str, rows: int = 4096, close: io.IOBase | None = None
    ) -> None:
        """close: what leaving the context has to close."""
        if rows < 1:
            raise ValueError("a batch needs at least one row")
        self.name = name
        self._close = close
        self._gunzip: Gunzip | None = None
        window = self._open(stream)
        self._window = window
        self._batch = PacketBatch(rows, max(rows * _ROW_BYTES, MAX_PACKET + HEADROOM + TAILROOM))
        head = bytes(window.buffer[window.start : window.start + 4]) if window.fill(4) else b""
        try:
            file = PcapngFile(name, window) if head == SECTION_MAGIC else PcapFile(name, window)
        except CaptureError as error:
            raise self._blame(error) from None
        self._file: PcapFile | PcapngFile = file
        self.format: str = file.format
        self._batches = self._run()

    def _open(self, stream: BinaryIO | io.RawIOBase) -> Window:
        # On a pipe, take what is there instead of waiting for a full buffer.
        source: Readable = _Prompt(stream) if isinstance(stream, io.BufferedReader) else cast(Readable, stream)
        window = Window(source)
        window.fill(len(GZIP_MAGIC))
        head = bytes(window.buffer[window.start : window.stop])
        if not head.startswith(GZIP_MAGIC):
            return window
        self._gunzip = Gunzip(source, head)
        return Window(self._gunzip)

    def _run(self) -> Iterator[PacketBatch]:
        try:
            for batch in self._file.batches(self._batch):
                batch.decode()
                yield batch
        except CaptureError as error:
            raise self._blame(error) from None
        finally:
            self.close()
        if self._gunzip is not None and self._gunzip.damage:
            raise CaptureError(self.name, f"byte {self._window.offset}", "gzip", self._gunzip.damage)

    def _blame(self, error: CaptureError) -> CaptureError:
        """A file that ends too early because its compression is damaged is to be blamed on that."""
        if self._gunzip is None or not self._gunzip.damage:
            return error
        return CaptureError(self.name, error.where, error.field, f"{error.message}: {self._gunzip.damage}")

    @property
    def interfaces(self) -> list[Interface]:
        return self._file.interfaces

    @property
    def counts(self) -> Counts:
        """What was read so far, the present batch included."""
        return self._file.counts

    @property
    def comments(self) -> list[str]:
        return self._file.comments

    @property
    def packet_comments(self) -> dict[int, list[str]]:
        """Comments of the packets of the present batch, by row."""
        return self._file.packet_comments

    def __iter__(self) -> Iterator[PacketBatch]:
        return self

    def __next__(self) -> PacketBatch:
        return next(self._batches)

    def close(self) -> None:
        if self._close is not None:
            self._close.close()

    def __enter__(self) -> CaptureReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Prompt:
    """A buffered stream that gives what one read gives."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream

    def readinto(self, into: memoryview) -> int:
        return self._stream.readinto1(into)
