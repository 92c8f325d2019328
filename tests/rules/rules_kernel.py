"""A network namespace with the real iptables and the real kernel, as a child process that takes one request a line.

    with Kernel() as kernel:
        printed = kernel.restore("legacy", 4, text)
        counted = kernel.feed("legacy", 4, [("eth0", packet), ...])

The namespace ends with the child. Interfaces are TUN devices: a packet that is written to one has passed PREROUTING
when the write returns.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any

TOOLS = {4: "iptables", 6: "ip6tables"}
DEVICES = ("eth0", "veth1", "cni0", "veth2", "eth1")
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
# What rules_grammar.LOCAL says, for a kernel.
SETUP = """
link set lo up
{devices}
address add 10.0.0.1/32 dev eth0
route add broadcast 10.0.0.255 dev eth0 table local
route add default dev eth0
"""
SETUP6 = """
address add fd00::1/128 dev eth0 nodad
route add default dev eth0
"""


def why_not() -> str:
    """Why the kernel cannot be asked here, "" where it can."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ("unshare", "ip", "ipset", "iptables-legacy-restore", "iptables-nft-restore"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return "" if probe.returncode == 0 else "needs to make network namespaces"


class Kernel:
    def __enter__(self) -> Kernel:
        self.lock = tempfile.NamedTemporaryFile(prefix="rul-lock-")
        command = ["unshare", "--net", sys.executable, __file__]
        environment = {**os.environ, "XTABLES_LOCKFILE": self.lock.name}
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.ask("ready") == "ready"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.close()
        self.child.wait(10)
        self.child.stdout.close()
        self.lock.close()

    def ask(self, verb: str, *arguments: Any) -> Any:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(json.dumps([verb, *arguments]) + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def restore(self, back_end: str, family: int, text: str) -> str:
        """Load a text; what iptables-save -c prints then. AssertionError with the tool's words if it refuses."""
        error, printed = self.ask("restore", back_end, family, text)
        assert not error, f"{error}\n{text}"
        return str(printed)

    def sets(self, text: str) -> str:
        """Make these the only sets and no rules; then what ipset save prints."""
        return str(self.ask("sets", text))

    def saved_sets(self) -> str:
        return str(self.ask("saved"))

    def feed(self, back_end: str, family: int, packets: list[tuple[str, bytes]]) -> str:
        """Let packets come in by devices; what iptables-save -c prints then."""
        return str(self.ask("feed", back_end, family, [(device, data.hex()) for device, data in packets]))


# ---- the child
# ---------------------------------------------------------------------------------------------------------


def _run(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def _open(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def main() -> None:
    devices = {name: _open(name) for name in DEVICES}
    ups = "\n".join(f"link set {name} up" for name in DEVICES)
    for option, text in (("-4", SETUP.format(devices=ups)), ("-6", SETUP6)):
        done = _run("ip", option, "-batch", "-", text=text)
        assert done.returncode == 0, done.stderr
    for family in TOOLS:
        # Nothing answers, or the answers would be counted too.
        for chain in ("INPUT", "OUTPUT"):
            _run(f"{TOOLS[family]}-legacy", "-P", chain, "DROP")
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        if verb == "ready":
            answer: Any = "ready"
        elif verb == "restore":
            back_end, family, text = arguments
            tool = f"{TOOLS[family]}-{back_end}"
            done = _run(f"{tool}-restore", "-c", text=text)
            answer = (done.stderr if done.returncode else "", _run(f"{tool}-save", "-c").stdout)
        elif verb in ("sets", "saved"):
            if verb == "sets":
                for tool in TOOLS.values():
                    for back_end in ("legacy", "nft"):
                        _run(f"{tool}-{back_end}-restore", text="*mangle\nCOMMIT\n")
                # A list holds on to its members.
                _run("ipset", "flush")
                _run("ipset", "destroy")
                done = _run("ipset", "restore", text=arguments[0])
                assert done.returncode == 0, done.stderr
            answer = _run("ipset", "save").stdout
        else:
            back_end, family, packets = arguments
            for device, data in packets:
                os.write(devices[device], bytes.fromhex(data))
            answer = _run(f"{TOOLS[family]}-{back_end}-save", "-c").stdout
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
