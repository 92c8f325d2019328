"""Real network namespaces, where the kernel's own tools print what the agents' texts become."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

TOOLS = ("ip", "bridge", "sysctl", "iptables-nft-save", "iptables-legacy-save")
NUMBERS = count(1)


def may_make_namespaces() -> bool:
    if os.geteuid() != 0 or not all(map(shutil.which, TOOLS)):
        return False
    name = f"agt-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True)
    if made.returncode == 0:
        subprocess.run(["ip", "netns", "delete", name], check=True)
    return made.returncode == 0


needs_namespaces = pytest.mark.skipif(not may_make_namespaces(), reason="needs root and network namespaces")


class Namespace:
    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *command: str, text: str | None = None) -> str:
        # A lock of our own, so that other users of iptables on this machine are not waited for.
        environment = {**os.environ, "XTABLES_LOCKFILE": f"/run/{self.name}.lock"}
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command], input=text, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout


@contextmanager
def namespace() -> Iterator[Namespace]:
    name = f"agt-{os.getpid()}-{next(NUMBERS)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield Namespace(name)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
        lock = f"/run/{name}.lock"
        if os.path.exists(lock):
            os.unlink(lock)
