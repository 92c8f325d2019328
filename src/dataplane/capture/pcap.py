"""pcap: the file header, and batches of what follows it. Source: draft-ietf-opsawg-pcap."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

from dataplane._fast.batch import PacketBatch
from dataplane._fast.pcap import PcapParser
from dataplane._fast.records import MAX_PACKET, Fault, Status
from dataplane.capture.interface import Counts, Interface, link_type_name
from dataplane.capture.window import Window
from dataplane.errors import CaptureError

__all__ = ["HEADER_SIZE", "PcapFile", "file_header"]

HEADER_SIZE = 24
_MICROSECONDS = 0xA1B2C3D4
_NANOSECONDS = 0xA1B23C4D
_RELATIVES = {
    0xA1B2CD34: "the modified pcap format of Alexey Kuznetzov",
    0xA1B2CDAA: "IXIA's lcap format",
    0x1C0001AC: "IXIA's lcap format",
    0xA1E2CB12: "the Navtel pcap format",
    0x6E736563: "Nokia's pcap format",
}


def file_header(link_type: int, nanoseconds: bool, byte_order: str, snap_length: int = MAX_PACKET) -> bytes:
    """The 24 bytes at the head of a file; byte_order is "little" or "big"."""
    magic = _NANOSECONDS if nanoseconds else _MICROSECONDS
    return struct.pack("<IHHiIII" if byte_order == "little" else ">IHHiIII", magic, 2, 4, 0, 0, snap_length, link_type)


class PcapFile:
    """A pcap file behind a window. Raises CaptureError when the header is not one that is read."""

    format = "pcap"

    def __init__(self, name: str, window: Window) -> None:
        self._name = name
        self._window = window
        byte_order, nanoseconds = self._magic()
        if not window.fill(HEADER_SIZE):
            message = f"the file ends after {len(window)} of {HEADER_SIZE} bytes"
            raise CaptureError(name, "byte 0", "file header", message)
        order = "<" if byte_order == "little" else ">"
        header = struct.unpack_from(order + "HHiIII", window.buffer, window.start + 4)
        major, minor, _, _, snap_length, network = header
        if (major, minor) != (2, 4):
            raise CaptureError(name, "byte 4", "version", f"{major}.{minor} is not read, only 2.4")
        # The upper bits tell of a frame check sequence at the end of each packet, not of the link.
        link_type = network & 0xFFFF
        window.start += HEADER_SIZE
        resolution = 1_000_000_000 if nanoseconds else 1_000_000
        self.comments: list[str] = []
        self.packet_comments: dict[int, list[str]] = {}
        self.interfaces = [Interface("", link_type, resolution, snap_length)]
        self._parser = PcapParser(byte_order != sys.byteorder, nanoseconds, link_type, snap_length)

    def _magic(self) -> tuple[str, bool]:
        if not self._window.fill(4):
            length = len(self._window)
            raise CaptureError(self._name, "byte 0", "magic", f"the file ends after {length} of 4 bytes")
        head = bytes(self._window.buffer[self._window.start : self._window.start + 4])
        byte_order: str
        for byte_order in ("little", "big"):
            magic = int.from_bytes(head, "little" if byte_order == "little" else "big")
            if magic in (_MICROSECONDS, _NANOSECONDS):
                return byte_order, magic == _NANOSECONDS
            if magic in _RELATIVES:
                raise CaptureError(self._name, "byte 0", "magic", f"{_RELATIVES[magic]} is not read")
        raise CaptureError(self._name, "byte 0", "magic", f"{head.hex(' ')} begins neither a pcap nor a pcapng file")

    @property
    def counts(self) -> Counts:
        return Counts(**self._parser.tally_counts())

    def batches(self, batch: PacketBatch) -> Iterator[PacketBatch]:
        """Fill `batch` again and again; it is cleared in between."""
        window = self._window
        parser = self._parser
        error: CaptureError | None = None
        while True:
            status = parser.parse(window.buffer, window.start, window.stop, batch)
            window.start = parser.position
            if status == Status.STATUS_FULL:
                yield batch
                batch.clear()
            elif status == Status.STATUS_BAD:
                error = self._fault()
                break
            elif not window.fill(parser.need):
                if len(window):
                    error = self._cut(parser.need)
                break
        if len(batch):
            yield batch
        if error is not None:
            raise error

    def _cut(self, need: int) -> CaptureError:
        what = "record header" if len(self._window) < 16 else "packet data"
        message = f"the file ends after {len(self._window)} of {need} bytes of the record"
        return CaptureError(self._name, f"byte {self._window.offset}", what, message)

    def _fault(self) -> CaptureError:
        value = self._parser.value
        if self._parser.fault == Fault.FAULT_LINK_TYPE:
            link_type = f"{value} {link_type_name(value)}".rstrip()
            return CaptureError(self._name, "byte 20", "network", f"link type {link_type} is not read")
        message = f"{value} is more than the {MAX_PACKET} that a packet may have"
        return CaptureError(self._name, f"byte {self._window.offset}", "captured length", message)
