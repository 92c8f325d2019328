"""gzip as a stream that gives out all it can before it says that it is damaged."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from dataplane.capture.window import Readable

if TYPE_CHECKING:
    from zlib import _Decompress

__all__ = ["GZIP_MAGIC", "Gunzip"]

GZIP_MAGIC = b"\x1f\x8b"
_GZIP = 16 + zlib.MAX_WBITS
_INPUT = 1 << 16


class Gunzip:
    """The uncompressed bytes of a gzip stream of one or more members (RFC 1952).

    The standard library's reader drops what it decompressed in the call that meets the damage; here those bytes come
    first, then the stream ends and `damage` says why. It is "" after a sound end.
    """

    def __init__(self, stream: Readable, head: bytes) -> None:
        """head: bytes that were already taken from `stream`."""
        self._stream = stream
        self._input = head
        self._scratch = bytearray(_INPUT)
        self._member: _Decompress | None = None
        self._members = 0
        self.damage = ""

    def readinto(self, into: memoryview) -> int:
        while not self.damage:
            if not self._input and not self._refill():
                return self._end(into)
            if self._member is None and not self._begin():
                continue
            output = self._inflate(len(into))
            if output:
                into[: len(output)] = output
                return len(output)
        return 0

    def _refill(self) -> bool:
        with memoryview(self._scratch) as view:
            got = self._stream.readinto(view)
            self._input = bytes(view[:got]) if got else b""
        return bool(self._input)

    def _begin(self) -> bool:
        """Begin a member; False when there is nothing but padding."""
        if self._members:
            self._input = self._input.lstrip(b"\0")
            if not self._input:
                return False
        self._member = zlib.decompressobj(_GZIP)
        self._members += 1
        return True

    def _inflate(self, room: int) -> bytes:
        assert self._member is not None
        before = self._member.copy()
        try:
            output = self._member.decompress(self._input, room)
        except zlib.error as error:
            self.damage = f"the gzip stream is damaged: {error}"
            return self._salvage(before, room)
        if self._member.eof:
            self._input = self._member.unused_data
            self._member = None
        else:
            self._input = self._member.unconsumed_tail
        return output

    def _salvage(self, member: _Decompress, room: int) -> bytes:
        """What the failed call would have given up to the damage, found byte by byte."""
        output = bytearray()
        try:
            for value in self._input:
                if len(output) >= room:
                    break
                output += member.decompress(bytes((value,)), room - len(output))
        except zlib.error:
            pass
        return bytes(output)

    def _end(self, into: memoryview) -> int:
        if self._member is None:
            return 0
        output = self._member.decompress(b"", len(into))
        into[: len(output)] = output
        if not output:
            self.damage = "the gzip stream is cut"
        return len(output)
