"""A network namespace of this machine's kernel with two TAP devices. It lives as long as its file descriptor.

A frame that is written to a TAP runs its whole way through the kernel inside the write, so a clock around the write
measures it. A frame that leaves waits in the other TAP until it is read; when that is full, it is dropped.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from dataplane.errors import ModelError

CLONE_NEWNET = 0x40000000
HERE = "/proc/thread-self/ns/net"
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
LARGEST = 65_600


class Namespace:
    """`with namespace:` the process is inside it. Raises OSError where the kernel gives none (needs root)."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        home = os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._check(self._libc.unshare(CLONE_NEWNET), "unshare")
            self._fd = os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)
            self._check(self._libc.setns(home, CLONE_NEWNET), "setns")
        finally:
            os.close(home)
        self._home: list[int] = []
        # The legacy back end locks one file for the whole machine; nobody has to wait for us.
        self._folder = tempfile.mkdtemp(prefix="dataplane-bench-")

    def close(self) -> None:
        os.close(self._fd)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Namespace:
        self._home.append(os.open(HERE, os.O_RDONLY | os.O_CLOEXEC))
        self._check(self._libc.setns(self._fd, CLONE_NEWNET), "setns")
        return self

    def __exit__(self, *_: object) -> None:
        home = self._home.pop()
        self._check(self._libc.setns(home, CLONE_NEWNET), "setns")
        os.close(home)

    def run(self, *command: str, text: str = "", fails: bool = False) -> str:
        """Run a tool inside; its standard output. ModelError where it refuses, unless it may fail."""
        environment = {**os.environ, "XTABLES_LOCKFILE": str(Path(self._folder, "lock")), "LC_ALL": "C"}
        with self:
            done = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, check=False)
        if done.returncode and not fails:
            raise ModelError(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def ip(self, lines: Iterable[str]) -> None:
        """Lines of `ip`, without the word ip."""
        self.run("ip", "-batch", "-", text="".join(f"{line}\n" for line in lines))

    def sysctl(self, name: str, value: str) -> None:
        """Raises OSError where this kernel has no such setting, or it is not this namespace's to set."""
        with self, open("/proc/sys/" + name.replace(".", "/"), "w") as file:
            file.write(value)

    def tap(self, name: str) -> int:
        """A TAP device: its file descriptor, which does not block."""
        with self:
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        return fd

    def _check(self, result: int, what: str) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{what}: {os.strerror(number)}")


def read_all(fd: int) -> list[bytes]:
    """The frames that wait in a TAP."""
    frames = []
    while True:
        try:
            frames.append(os.read(fd, LARGEST))
        except BlockingIOError:
            return frames
