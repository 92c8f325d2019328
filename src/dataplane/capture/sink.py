"""Where the bytes of a capture go."""

from __future__ import annotations

import gzip
import os
import sys
from typing import BinaryIO, cast

__all__ = ["Sink"]

# zlib's own default; Python's 9 is three times slower for a percent or two.
_LEVEL = 6


class Sink:
    """A file behind a buffer that kernels fill: `buffer[:used]` waits to be written.

    A path that ends in .gz is compressed (the same bytes at every run: no name, no time), "-" is the standard output.
    Raises OSError when the file cannot be made or written.
    """

    def __init__(self, path: str | os.PathLike[str], size: int = 1 << 20) -> None:
        self.name = os.fspath(path)
        self.buffer = bytearray(size)
        self.used = 0
        self._owned: list[BinaryIO] = []
        if self.name == "-":
            self._file: BinaryIO = sys.stdout.buffer
            return
        self._file = open(self.name, "wb")  # noqa: SIM115 - closed by close()
        self._owned.append(self._file)
        if self.name.endswith(".gz"):
            zipped = gzip.GzipFile("", "wb", _LEVEL, self._file, mtime=0)
            self._file = cast(BinaryIO, zipped)
            self._owned.insert(0, self._file)

    def put(self, data: bytes) -> None:
        """Append bytes after what the buffer holds."""
        self.flush()
        self._file.write(data)

    def flush(self) -> None:
        if self.used:
            with memoryview(self.buffer) as view, view[: self.used] as ready:
                self._file.write(ready)
            self.used = 0

    def make_room(self) -> None:
        """After something did not fit: empty the buffer, or make an empty one larger."""
        if self.used:
            self.flush()
        else:
            self.buffer = bytearray(2 * len(self.buffer))

    def close(self) -> None:
        """Write what is left. A second call does nothing."""
        if self._file.closed:
            return
        try:
            self.flush()
            self._file.flush()
        finally:
            for file in self._owned:
                file.close()
