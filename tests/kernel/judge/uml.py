"""A kernel of our own: Linux as an ordinary program (user-mode Linux), which has IPVS where this machine's may not.

It boots on the machine's own files, read-only, runs the scenarios that it is given one after the other in fresh
namespaces (`uml_guest.py`), and writes their recordings into a folder of this machine. Its time skips whatever nobody
works in (`uml_host.c`), so that waiting for 900 s costs nothing and timers still fire one by one, in order.
"""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from judge.recording import Recording

_HERE = Path(__file__).parent
_MODULES = Path("/usr/lib/uml/modules")
_TOOLS = (
    "linux.uml",
    "ip",
    "bridge",
    "iptables-legacy-restore",
    "ip6tables-legacy-restore",
    "ipset",
    "ipvsadm",
    "conntrack",
    "sysctl",
)
_MEMORY = "256M"
_PATIENCE = 30.0  # seconds to boot in, and
_EACH = 5.0  # for each scenario


READY = "ready after"  # what the guest says when it has booted


class Crash(RuntimeError):  # noqa: N818 - read as "the kernel crashed"
    """The kernel booted, but did not come to the end of its list."""


class NoBoot(RuntimeError):  # noqa: N818 - read as "there was no boot"
    """This machine does not let it run: what it said last."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one scenario: its recording, and what it complained about."""

    recording: Recording
    error: str  # a traceback, or ""
    seconds: float


def unavailable() -> str | None:
    """Why no kernel can be booted here, or None where it can."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "user-mode Linux needs x86-64"
    for tool in _TOOLS:
        if _find(tool) is None:
            return f"needs the tool {tool}"
    if not any(_MODULES.glob("*/kernel/net/netfilter/ipvs/ip_vs.ko")):
        return f"needs the modules of user-mode-linux in {_MODULES}"
    if _compiler() is None:
        return "needs a C compiler"
    return None


def _find(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _compiler() -> str | None:
    return os.environ.get("CC", "").split(" ")[0] or shutil.which("cc") or shutil.which("gcc")


def run(names: Sequence[str], folder: Path, boots: int = 1) -> dict[str, Done]:
    """Run these scenarios in as many kernels at once; their dumps and recordings are left in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    with tempfile.TemporaryDirectory(prefix="jdg-uml-") as temporary:
        library = Path(temporary) / "uml_host.so"
        compiler = _compiler()
        assert compiler is not None
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, _HERE / "uml_host.c", "-ldl"], check=True)
        guests = [_Guest(number, names[number::boots], folder, library) for number in range(min(boots, len(names)))]
        try:
            for guest in guests:
                guest.wait()
        finally:
            for guest in guests:
                guest.close()
    found = {}
    for name in names:
        done: Done = pickle.loads((folder / f"{name}.pickle").read_bytes())
        done.recording.folder = folder / name
        found[name] = done
    return found


def _memory_folder(otherwise: Path) -> str:
    """Where its memory lies as a file: in memory, unless programs may not run from there."""
    shared = "/dev/shm"
    fits = os.access(shared, os.W_OK) and not os.statvfs(shared).f_flag & os.ST_NOEXEC
    return shared if fits else str(otherwise)


class _Guest:
    """One kernel that works through a list."""

    def __init__(self, number: int, names: Sequence[str], folder: Path, library: Path) -> None:
        self._names = names
        self._folder = folder
        self._log = folder / f"kernel-{number}.log"
        (folder / f"list-{number}").write_text("\n".join(names))
        control = library.parent / str(number)
        control.mkdir()
        command = [
            str(_find("linux.uml")),
            f"mem={_MEMORY}",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            "quiet",
            "con=null",
            "con0=null,fd:1",
            f"uml_dir={control}/",
            f"init={sys.executable}",
            f"PATH={os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin",
            # What a kernel does not understand is its first program's environment.
            *(f"{name}={os.environ[name]}" for name in ("DATAPLANE_SHARED",) if name in os.environ),
            "--",
            "-s",  # nobody's own packages
            str(_HERE / "uml_guest.py"),
            str(folder),
            f"list-{number}",
            *(path for path in sys.path if path and Path(path).is_dir()),
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    "LD_PRELOAD": str(library),
                    "HOME": str(control),
                    "TMPDIR": "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(control),
                },
                start_new_session=True,
            )

    def wait(self) -> None:
        try:
            self._process.wait(_PATIENCE + _EACH * len(self._names))
        except subprocess.TimeoutExpired:
            raise Crash(f"the kernel hangs:\n{self._last_words()}") from None
        if missing := [name for name in self._names if not (self._folder / f"{name}.pickle").exists()]:
            if READY not in self._log.read_text(errors="replace"):
                raise NoBoot(self._last_words())
            raise Crash(f"the kernel ended before {missing[0]}:\n{self._last_words()}")

    def _last_words(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])

    def close(self) -> None:
        """End the kernel and its helpers: they are a session of their own."""
        import signal
        from contextlib import suppress

        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
