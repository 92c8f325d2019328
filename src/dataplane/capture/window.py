"""A byte stream seen through a window that moves: what a parser works on while the file is larger than memory."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Readable", "Window"]


class Readable(Protocol):
    """The one thing a source of bytes must do: fill a buffer as far as it can, and give 0 at the end."""

    def readinto(self, into: memoryview, /) -> int | None: ...


class Window:
    """buffer[start:stop] are the bytes that were read and not yet used.

    buffer:  replaced when it has to grow, so it is never kept across `fill`
    base:    offset of buffer[0] in the stream
    """

    def __init__(self, stream: Readable, size: int = 1 << 19) -> None:
        self._stream = stream
        self.buffer = bytearray(size)
        self.start = 0
        self.stop = 0
        self.base = 0

    @property
    def offset(self) -> int:
        """Offset of the first unused byte in the stream."""
        return self.base + self.start

    def __len__(self) -> int:
        return self.stop - self.start

    def fill(self, need: int) -> bool:
        """Have at least `need` unused bytes; False when the stream ends before."""
        while self.stop - self.start < need:
            self._compact(need)
            with memoryview(self.buffer) as view, view[self.stop :] as free:
                got = self._stream.readinto(free)
            if not got:
                return False
            self.stop += got
        return True

    def skip(self, count: int) -> bool:
        """Move on by `count` bytes without keeping them; False when the stream ends before."""
        while count > self.stop - self.start:
            count -= self.stop - self.start
            self.start = self.stop
            if not self.fill(1):
                return False
        self.start += count
        return True

    def _compact(self, need: int) -> None:
        unused = self.buffer[self.start : self.stop]
        if need > len(self.buffer):
            self.buffer = bytearray(max(need, 2 * len(self.buffer)))
        self.buffer[: len(unused)] = unused
        self.base += self.start
        self.start = 0
        self.stop = len(unused)
