"""The kernel's own reason for each packet that it drops: the tracepoint skb:kfree_skb, for this process alone.

A tracing instance of our own on a mount of our own: nothing of the machine's tracing is touched.
"""

import ctypes
import os
import re
from contextlib import suppress

_libc = ctypes.CDLL(None, use_errno=True)
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CONFIG_CREATE = 6
_LINE = re.compile(r"protocol=(?P<protocol>\d+) location=(?P<place>[^ ]+) reason: (?P<reason>\w+)")


# A socket of a tool that has just ended gives its buffers back in our time.
# Where a packet that was put together ends, the kernel tells of its fragments as well.
_PIECES = "skb_release_data"
_NOT_PACKETS = {"QUEUE_PURGE"}


class DropTrace:
    """Reasons of drops in the course of this process's own writes. `available` is False where there is no tracing."""

    def __init__(self) -> None:
        self._mount = -1
        self._pipe = -1
        self._on = -1
        self.available = False
        with suppress(OSError):
            self._open()
            self.available = True

    def _open(self) -> None:
        context = _libc.syscall(_FSOPEN, b"tracefs", 0)
        if context < 0:
            raise OSError(ctypes.get_errno(), "fsopen tracefs")
        try:
            if _libc.syscall(_FSCONFIG, context, _CONFIG_CREATE, None, None, 0) != 0:
                raise OSError(ctypes.get_errno(), "fsconfig tracefs")
            self._mount = _libc.syscall(_FSMOUNT, context, 0, 0)
        finally:
            os.close(context)
        if self._mount < 0:
            raise OSError(ctypes.get_errno(), "fsmount tracefs")
        self._name = f"instances/jdg-{os.getpid()}"
        os.mkdir(self._name, dir_fd=self._mount)
        self._write("tracing_on", "0")
        self._write("buffer_size_kb", "64")
        self._write("events/skb/kfree_skb/filter", f"common_pid == {os.getpid()}")
        self._write("events/skb/kfree_skb/enable", "1")
        self._pipe = os.open(f"{self._name}/trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._mount)
        self._on = os.open(f"{self._name}/tracing_on", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._mount)

    def _write(self, file: str, text: str) -> None:
        fd = os.open(f"{self._name}/{file}", os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, dir_fd=self._mount)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def __enter__(self) -> "DropTrace":
        if self.available:
            os.write(self._on, b"1")
        return self

    def __exit__(self, *_: object) -> None:
        if self.available:
            os.write(self._on, b"0")

    def read(self) -> list[tuple[str, str]]:
        """(reason, kernel function) of every drop since the last read."""
        text = b""
        if self.available:
            with suppress(BlockingIOError):
                while piece := os.read(self._pipe, 65536):
                    text += piece
        found = []
        for line in text.decode().splitlines():
            match = _LINE.search(line)
            if match and match["reason"] not in _NOT_PACKETS and not match["place"].startswith(_PIECES):
                found.append((match["reason"], match["place"].split("+")[0]))
        return found

    def close(self) -> None:
        for fd in (self._pipe, self._on):
            if fd >= 0:
                os.close(fd)
        if self.available:
            with suppress(OSError):
                os.rmdir(self._name, dir_fd=self._mount)
        if self._mount >= 0:
            os.close(self._mount)
