"""A TAP device as the port of a node: a write is a frame that arrives, a read is a frame that left.

A TAP without offloads gets complete checksums, and the kernel works through an arriving frame inside the write.
"""

import fcntl
import os
import struct

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_TAP, _IFF_NO_PI = 0x0001, 0x0002, 0x1000
_LARGEST = 65_600


class Port:
    """One TAP (or, for bare IP packets, TUN) of the namespace that the process is in."""

    def __init__(self, name: str, ethernet: bool = True) -> None:
        self.name = name
        self.ethernet = ethernet
        self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        mode = (_IFF_TAP if ethernet else _IFF_TUN) | _IFF_NO_PI
        fcntl.ioctl(self._fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), mode))

    def write(self, frame: bytes) -> None:
        """Let the frame arrive. The kernel refuses with an OSError what no driver would hand over (device down)."""
        os.write(self._fd, frame)

    def read(self) -> list[bytes]:
        """All frames that have left since the last read, in order."""
        frames = []
        while True:
            try:
                frames.append(os.read(self._fd, _LARGEST))
            except BlockingIOError:
                return frames
            except OSError:  # the device is down: nothing waits
                return frames

    def close(self) -> None:
        os.close(self._fd)
