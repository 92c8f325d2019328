"""Network namespaces without names: each lives as long as its file descriptor, so nothing is left behind.

The process is pinned to one processor. A frame written to a TAP runs its whole path in the writer; what the kernel puts
off goes to the backlog of this processor, and a `Fence` waits for that backlog.
"""

import ctypes
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_HERE = "/proc/thread-self/ns/net"

# The legacy back end takes a lock file for the whole machine; a file of our own lets runs go side by side.
LOCK = Path(tempfile.gettempdir()) / f"jdg-xtables-{os.getpid()}.lock"


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def pin(processor: int | None = None) -> None:
    """Stay on one processor: the given one, or the one that suits this worker of a parallel test run."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) == 1:
        return
    if processor is None:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
        processor = allowed[int(worker.removeprefix("gw")) % len(allowed)]
    os.sched_setaffinity(0, {processor})


class Tool(RuntimeError):  # noqa: N818 - read as "the tool refused"
    """A real tool refused what it was told."""


class Namespace:
    """One network namespace; `with namespace:` the process is inside it."""

    def __init__(self) -> None:
        home = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.unshare(_CLONE_NEWNET), "unshare")
            self._fd = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
            _check(_libc.setns(home, _CLONE_NEWNET), "setns")
        finally:
            os.close(home)
        self._home: list[int] = []

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> "Namespace":
        self._home.append(os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC))
        _check(_libc.setns(self._fd, _CLONE_NEWNET), "setns")
        return self

    def __exit__(self, *_: object) -> None:
        home = self._home.pop()
        _check(_libc.setns(home, _CLONE_NEWNET), "setns")
        os.close(home)

    def run(self, *command: str, text: str = "") -> str:
        """Run a tool inside; its standard output. Anything that it complains about is an error."""
        with self:
            done = subprocess.run(
                command,
                input=text,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "XTABLES_LOCKFILE": str(LOCK), "LC_ALL": "C"},
            )
        if done.returncode:
            raise Tool(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}{text}")
        return done.stdout

    def sysctl(self, name: str, value: str | int | None = None) -> str:
        """Read or write one sysctl by its dotted name; a dot inside an interface name is written as `/`."""
        path = "/proc/sys/" + name.replace(".", "\0").replace("/", ".").replace("\0", "/")
        with self:
            if value is None:
                with open(path) as file:
                    return file.read().strip()
            with open(path, "w") as file:
                file.write(str(value))
        return str(value)


class Fence:
    """A datagram around the loopback of another namespace: when it is back, this processor's backlog is done."""

    def __init__(self) -> None:
        self._namespace = Namespace()
        self._namespace.run("ip", "link", "set", "lo", "up")
        with self._namespace:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.connect(self._socket.getsockname())
        self._socket.settimeout(5)

    def wait(self) -> None:
        self._socket.send(b"fence")
        self._socket.recv(16)

    def close(self) -> None:
        self._socket.close()
        self._namespace.close()


@contextmanager
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    try:
        yield made
    finally:
        made.close()


def unavailable() -> str | None:
    """Why the kernel cannot be asked here, or None where it can."""
    if os.geteuid() != 0:
        return "needs root"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    for tool in (
        "ip",
        "bridge",
        "iptables-restore",
        "ip6tables-restore",
        "iptables-save",
        "ipset",
        "conntrack",
        "sysctl",
    ):
        if not any(os.access(os.path.join(folder, tool), os.X_OK) for folder in os.environ["PATH"].split(":")):
            return f"needs the tool {tool}"
    try:
        with namespace():
            pass
    except OSError as error:
        return f"needs network namespaces: {error}"
    return None
