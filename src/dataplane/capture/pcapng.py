"""pcapng: sections, interfaces, options, and batches of what the packet blocks hold.

Source: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

from dataplane._fast.batch import PacketBatch
from dataplane._fast.pcapng import Block, PcapngParser
from dataplane._fast.records import MAX_BLOCK, MAX_PACKET, Fault, Status
from dataplane.capture.interface import Counts, Interface, link_type_name
from dataplane.capture.window import Window
from dataplane.errors import CaptureError

__all__ = ["SECTION_MAGIC", "PcapngFile", "interface_block", "section_block"]

SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_MAX_INTERFACES = 1 << 20
# Bytes of interfaces and section comments: a file cannot make the reader keep more than this.
_MAX_KEPT = 1 << 26

_END = 0
_COMMENT = 1
_IF_NAME = 2
_IF_DESCRIPTION = 3
_IF_TSRESOL = 9
_IF_TSOFFSET = 14
_SHB_USERAPPL = 4

_NANOSECONDS = 9


class _OptionPastEndError(ValueError):
    """An option says that it is longer than what is left of its block."""


def parse_options(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Code and value of each option up to opt_endofopt or the end; order is "<" or ">"."""
    at = 0
    while at + 4 <= len(data):
        code, length = struct.unpack_from(order + "HH", data, at)
        if code == _END:
            return
        at += 4
        if at + length > len(data):
            raise _OptionPastEndError(f"option {code} of {length} bytes runs past the end of its block")
        yield code, data[at : at + length]
        at += (length + 3) & ~3


def _text(value: bytes) -> str:
    # Some writers count the C string's end.
    return value.decode("utf-8", "replace").rstrip("\0")


def _clock(resolution: int) -> tuple[int, int, int, int]:
    """if_tsresol to ticks per second, and the factors of ns = ticks * multiply / divide >> shift."""
    exponent = resolution & 0x7F
    if resolution & 0x80:
        return 1 << exponent, 1_000_000_000, 1, exponent
    if exponent <= _NANOSECONDS:
        return 10**exponent, 10 ** (_NANOSECONDS - exponent), 1, 0
    if exponent <= _NANOSECONDS + 19:
        return 10**exponent, 1, 10 ** (exponent - _NANOSECONDS), 0
    return 10**exponent, 0, 1, 0  # 2^64 ticks are less than a nanosecond


def _option(code: int, value: bytes) -> bytes:
    value = value[:0xFFFF]
    return struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("=II", kind, length) + body + struct.pack("=I", length)


def section_block(application: str, comment: str = "") -> bytes:
    """A Section Header Block of unstated section length, in the machine's byte order."""
    body = struct.pack("=IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1)
    if comment:
        body += _option(_COMMENT, comment.encode())
    body += _option(_SHB_USERAPPL, application.encode()) + _option(_END, b"")
    return _block(Block.BLOCK_SECTION, body)


def interface_block(name: str, link_type: int, description: str = "") -> bytes:
    """An Interface Description Block with nanosecond timestamps and no snap length."""
    body = struct.pack("=HHI", link_type, 0, 0) + _option(_IF_NAME, name.encode())
    if description:
        body += _option(_IF_DESCRIPTION, description.encode())
    body += _option(_IF_TSRESOL, bytes((_NANOSECONDS,))) + _option(_END, b"")
    return _block(Block.BLOCK_INTERFACE, body)


class PcapngFile:
    """A pcapng file behind a window. Raises CaptureError when its first section header is not sound."""

    format = "pcapng"

    def __init__(self, name: str, window: Window) -> None:
        self._name = name
        self._window = window
        self._parser = PcapngParser()
        self._order = "="
        self._sections = 0
        self._comments = 0
        self._kept = 0
        self.interfaces: list[Interface] = []
        self.comments: list[str] = []
        self.packet_comments: dict[int, list[str]] = {}
        self._section()
        # Nothing fits into this batch: all that comes before the first packet is read.
        self._damage: CaptureError | None = None
        try:
            self._fill(PacketBatch(0, 0))
        except CaptureError as error:
            self._damage = error

    @property
    def counts(self) -> Counts:
        left = self._parser.left_counts()
        return Counts(
            **self._parser.tally_counts(),
            sections=self._sections,
            comments=self._comments,
            unknown_blocks=sum(left.values()),
            blocks=left,
        )

    def batches(self, batch: PacketBatch) -> Iterator[PacketBatch]:
        """Fill `batch` again and again; it is cleared in between."""
        more = self._damage is None
        while more:
            self.packet_comments = {}
            batch.clear()
            try:
                more = self._fill(batch)
            except CaptureError as error:
                self._damage = error
                more = False
            if len(batch):
                yield batch
        if self._damage is not None:
            raise self._damage

    def _fill(self, batch: PacketBatch) -> bool:
        """Read on until the batch is full (True) or the file ends (False)."""
        window = self._window
        parser = self._parser
        while True:
            status = parser.parse(window.buffer, window.start, window.stop, batch)
            window.start = parser.position
            if status == Status.STATUS_FULL:
                return True
            if status == Status.STATUS_MORE:
                if not window.fill(parser.need):
                    if len(window):
                        raise self._cut(parser.need)
                    return False
            elif status == Status.STATUS_BAD:
                raise self._fault()
            elif status == Status.STATUS_COMMENT:
                self._packet_comment(len(batch) - 1)
            elif status == Status.STATUS_SECTION:
                self._section()
            elif status == Status.STATUS_INTERFACE:
                self._interface()
            else:
                self._skip()

    def _error(self, at: int, field: str, message: str) -> CaptureError:
        """at: bytes from the beginning of the present block."""
        return CaptureError(self._name, f"byte {self._window.offset + at}", field, message)

    def _cut(self, need: int) -> CaptureError:
        length = len(self._window)
        if length < 12:
            return self._error(0, "block header", f"the file ends after {length} of 12 bytes")
        return self._error(0, "block", f"the file ends after {length} of {need} bytes of the block")

    def _whole_block(self, shortest: int) -> bytes:
        """What the present block holds between its type and length and the length at its end."""
        window = self._window
        (length,) = struct.unpack_from(self._order + "I", window.buffer, window.start + 4)
        if length < shortest or length % 4:
            raise self._error(4, "block_total_length", f"{length} is no multiple of 4, or less than {shortest}")
        if length > MAX_BLOCK:
            raise self._error(4, "block_total_length", f"{length} is more than the {MAX_BLOCK} that are read")
        if not window.fill(length):
            raise self._cut(length)
        (trailer,) = struct.unpack_from(self._order + "I", window.buffer, window.start + length - 4)
        if trailer != length:
            raise self._trailer(length, trailer)
        return bytes(window.buffer[window.start + 8 : window.start + length - 4])

    def _trailer(self, length: int, trailer: int) -> CaptureError:
        message = f"the block began with {length} and ends with {trailer}"
        return self._error(length - 4, "block_total_length", message)

    def _options(self, body: bytes, at: int) -> list[tuple[int, bytes]]:
        try:
            options = list(parse_options(body[at:], self._order))
        except _OptionPastEndError as error:
            raise self._error(8 + at, "options", str(error)) from None
        self._comments += sum(code == _COMMENT for code, _ in options)
        return options

    def _section(self) -> None:
        window = self._window
        if not window.fill(12):
            raise self._cut(12)
        magic = bytes(window.buffer[window.start + 8 : window.start + 12])
        if magic == _BYTE_ORDER_MAGIC.to_bytes(4, "little"):
            self._order = "<"
        elif magic == _BYTE_ORDER_MAGIC.to_bytes(4, "big"):
            self._order = ">"
        else:
            raise self._error(8, "byte_order_magic", f"{magic.hex(' ')} is not 1a 2b 3c 4d in either order")
        body = self._whole_block(28)
        major, minor = struct.unpack_from(self._order + "HH", body, 4)
        if major != 1:
            raise self._error(12, "version", f"{major}.{minor} is not read, only 1.x")
        comments = [value for code, value in self._options(body, 16) if code == _COMMENT]
        self._keep(sum(map(len, comments)))
        self.comments += map(_text, comments)
        self._parser.begin_section((self._order == "<") != (sys.byteorder == "little"))
        self._sections += 1
        window.start += len(body) + 12

    def _interface(self) -> None:
        body = self._whole_block(20)
        if len(self.interfaces) == _MAX_INTERFACES:
            raise self._error(0, "block", f"more than {_MAX_INTERFACES} interfaces")
        self._keep(len(body))
        link_type, _, snap_length = struct.unpack_from(self._order + "HHI", body)
        options = self._options(body, 8)
        first = dict(reversed(options))
        resolution = first.get(_IF_TSRESOL, b"\x06")
        if len(resolution) != 1:
            raise self._error(16, "if_tsresol", f"{len(resolution)} bytes instead of 1")
        offset = first.get(_IF_TSOFFSET, bytes(8))
        if len(offset) != 8:
            raise self._error(16, "if_tsoffset", f"{len(offset)} bytes instead of 8")
        (seconds,) = struct.unpack(self._order + "q", offset)
        ticks, multiply, divide, shift = _clock(resolution[0])
        self._parser.add_interface(link_type, snap_length, len(self.interfaces), multiply, divide, shift, seconds)
        self.interfaces.append(
            Interface(
                name=_text(first.get(_IF_NAME, b"")),
                link_type=link_type,
                resolution=ticks,
                snap_length=snap_length,
                offset=seconds,
                description=_text(first.get(_IF_DESCRIPTION, b"")),
                comment="\n".join(_text(value) for code, value in options if code == _COMMENT),
                section=self._sections - 1,
            )
        )
        self._window.start += len(body) + 12

    def _keep(self, size: int) -> None:
        self._kept += size
        if self._kept > _MAX_KEPT:
            raise self._error(0, "block", f"interfaces and section comments take more than {_MAX_KEPT} bytes")

    def _packet_comment(self, row: int) -> None:
        """The parser checked the block and put its packet into `row`."""
        window = self._window
        length = self._parser.need
        block = bytes(window.buffer[window.start : window.start + length - 4])
        (captured,) = struct.unpack_from(self._order + "I", block, 20)
        options = self._options(block[8:], 20 + ((captured + 3) & ~3))
        self.packet_comments[row] = [_text(value) for code, value in options if code == _COMMENT]
        window.start += length

    def _skip(self) -> None:
        """Leave out a block that is longer than what is buffered, of any length."""
        window = self._window
        kind, length = struct.unpack_from(self._order + "II", window.buffer, window.start)
        begin = window.offset
        if not window.skip(length - 4) or not window.fill(4):
            message = f"the file ends after {window.offset + len(window) - begin} of {length} bytes of the block"
            raise CaptureError(self._name, f"byte {begin}", "block", message)
        (trailer,) = struct.unpack_from(self._order + "I", window.buffer, window.start)
        if trailer != length:
            window.start -= length - 4
            raise self._trailer(length, trailer)
        window.start += 4
        self._parser.count_left(kind)

    def _fault(self) -> CaptureError:
        fault = self._parser.fault
        value = self._parser.value
        window = self._window
        (length,) = struct.unpack_from(self._order + "I", window.buffer, window.start + 4)
        if fault == Fault.FAULT_LINK_TYPE:
            interface = self.interfaces[value]
            link_type = f"{interface.link_type} {link_type_name(interface.link_type)}".rstrip()
            message = f"{link_type}, of interface {value} {interface.name!r}, is not read"
            return self._error(0, "link_type", message)
        if fault == Fault.FAULT_TRAILER:
            return self._trailer(length, value)
        if fault == Fault.FAULT_INTERFACE:
            return self._error(8, "interface_id", f"{value}: the section has described no such interface")
        if fault == Fault.FAULT_OPTIONS:
            return self._error(0, "options", f"option {value} runs past the end of its block")
        if fault == Fault.FAULT_BLOCK_LENGTH:
            message = f"{value} is no multiple of 4, or too short for the block"
            return self._error(4, "block_total_length", message)
        if fault == Fault.FAULT_BLOCK_TOO_LONG:
            message = f"{value} is more than the {MAX_BLOCK} that a packet's block may have"
            return self._error(4, "block_total_length", message)
        (kind,) = struct.unpack_from(self._order + "I", window.buffer, window.start)
        at = 8 if kind == Block.BLOCK_SIMPLE_PACKET else 20
        if fault == Fault.FAULT_PAST_BLOCK:
            return self._error(at, "captured length", f"{value} runs past the end of a block of {length} bytes")
        return self._error(at, "captured length", f"{value} is more than the {MAX_PACKET} that a packet may have")
