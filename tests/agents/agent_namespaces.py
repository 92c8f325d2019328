"""Real network namespaces, where the kernel's own tools print what the agents' texts become."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

from dataplane.host.config import HostConfig, mac_text

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

    def batch(self, lines: Iterable[str]) -> None:
        """Many commands of `ip` in one process."""
        self.run("ip", "-batch", "-", text="".join(f"{line}\n" for line in lines))

    def json(self, *command: str) -> Any:
        return json.loads(self.run(*command) or "[]")


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


def build(host: Namespace, far: Namespace, config: HostConfig) -> None:
    """Do with commands what the agents' configuration says, as flanneld and the CNI plugins would: what the kernel
    adds by itself is left to it. The far ends of wires lie in `far`."""
    ipv6 = any(address.family == 6 for address in config.addresses)
    host.run("sysctl", "-qw", *(f"net.ipv6.conf.{name}.disable_ipv6={int(not ipv6)}" for name in ("all", "default")))
    if ipv6:
        host.run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        host.run("sysctl", "-qw", "net.ipv6.conf.default.accept_ra=0")
    forwarding = config.sysctl["net.ipv4.ip_forward"]
    settings = [f"net.ipv4.ip_forward={forwarding}"]
    if ipv6 and forwarding == "1":
        settings += ["net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.forwarding=1"]
    host.run("sysctl", "-qw", *settings)
    far.run("ip", "link", "set", "lo", "up")
    lines = []
    for link in config.links:
        if link.loopback:
            lines.append("link set lo up")
            continue
        head = f"link add {link.name} index {link.index} address {mac_text(link.mac)} mtu {link.mtu} type"
        if link.vxlan is not None:
            vxlan = link.vxlan
            learning = "" if vxlan.learning else "nolearning"
            lines.append(
                f"{head} vxlan id {vxlan.vni} dstport {vxlan.port} local {vxlan.local} dev {vxlan.device} {learning}"
            )
        elif link.bridge is not None:
            snooping = int(link.bridge.mcast_snooping)
            lines.append(f"{head} bridge mcast_snooping {snooping}")
            lines.append(f"link set {link.name} mtu {link.mtu}")
        else:
            lines.append(f"{head} veth peer name far{link.index} netns {far.name}")
        if link.master is not None:
            hairpin = "on" if link.port is not None and link.port.hairpin else "off"
            lines += [
                f"link set {link.name} master {link.master}",
                f"link set {link.name} type bridge_slave hairpin {hairpin}",
            ]
        lines.append(f"link set {link.name} up")
    host.batch(lines)
    far.batch([f"link set {name} up" for name in far.run("ls", "/sys/class/net").split() if name.startswith("far")])
    given = [a for a in config.addresses if a.scope == "global"]
    lines = [
        f"address add {a.address} {f'brd {a.broadcast}' if a.broadcast else ''} dev {a.interface} {' '.join(a.flags)}"
        for a in given
    ]
    for route in config.routes:
        if route.protocol != "kernel":
            hop = "".join(
                (f" via {hop.gateway}" if hop.gateway else "")
                + f" dev {hop.device}"
                + (" onlink" if hop.onlink else "")
                for hop in route.nexthops
            )
            lines.append(f"route add {route.type} {route.destination}{hop} table {route.table}")
    for entry in config.neighbours:
        lines.append(f"neighbour add {entry.address} lladdr {mac_text(entry.mac)} dev {entry.interface} nud permanent")
    host.batch(lines)
    for entry in config.fdb:
        if entry.dst is not None:
            host.run("bridge", "fdb", "add", mac_text(entry.mac), "dev", entry.interface, "dst", str(entry.dst), "self")
