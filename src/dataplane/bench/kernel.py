"""This machine's kernel as a router that packets are timed through: the same rules and the same packets as the model."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dataplane._fast.stopwatch import time_writes
from dataplane.agents.kubeproxy.node_proxy import Sync
from dataplane.bench import traffic
from dataplane.bench.figures import Figure
from dataplane.bench.machine import undisturbed
from dataplane.bench.modes import Plan, Row, Subject, measure, tables, timed
from dataplane.bench.namespace import Namespace, read_all
from dataplane.bench.router import GATEWAYS, PEERS, ROUTES
from dataplane.errors import ModelError
from dataplane.host.config import HostConfig
from dataplane.host.notation import mac_text

BACKENDS = ("legacy", "nft")
FEWEST_CHANGES = 3  # that are measured, and in how many seconds more of them: nft takes its time with large rulesets
LONGEST = 20.0
WAITING = 16  # frames that may wait to be read: a device that is full drops what comes, at the same cost each time


class KernelRouter:
    """A router's configuration in a namespace of its own. backend: of iptables, "legacy" or "nft"."""

    def __init__(self, config: HostConfig, backend: str) -> None:
        self._namespace = Namespace()
        self._fds: dict[str, int] = {}
        self._room = dict.fromkeys(PEERS, WAITING)  # frames that a device takes until it is full
        self._restore = f"iptables-{backend}-restore"
        try:
            self._set_up(config)
            self.load = self._load(config)
        except BaseException:
            self.close()
            raise

    def _set_up(self, config: HostConfig) -> None:
        names = list(PEERS)
        for name, value in config.sysctl.items():
            if name.startswith(("net.ipv4.", "net.ipv6.")):
                self._namespace.sysctl(name, value)
        lines = ["link set lo up"]
        for link in config.links:
            if link.name in names:
                self._fds[link.name] = self._namespace.tap(link.name)
                lines.append(f"link set {link.name} address {mac_text(link.mac or 0)} txqueuelen {WAITING}")
            elif link.kind == "dummy":
                lines.append(f"link add {link.name} type dummy")
            else:
                continue
            lines += [
                f"address add {address.address} dev {link.name}"
                for address in config.addresses
                if address.interface == link.name
            ]
            if link.up:
                lines.append(f"link set {link.name} up")
        for side in names:
            lines.append(f"neighbour replace {GATEWAYS[side]} lladdr {mac_text(PEERS[side])} dev {side} nud permanent")
            lines.append(f"route replace {ROUTES[side]} via {GATEWAYS[side]} dev {side}")
        self._namespace.ip(lines)

    def _load(self, config: HostConfig) -> float:
        """Seconds that the kernel takes to have the rules."""
        if config.iptables is None:
            return 0.0
        text = config.iptables.text(counters=False)
        _, seconds = timed(lambda: self._namespace.run(self._restore, text=text))
        # Rules of connections: the kernel begins to track with the first of them, so these settings come after.
        for name, value in config.sysctl.items():
            if name.startswith("net.netfilter.nf_conntrack_tcp_timeout"):
                self._namespace.sysctl(name, value)
        return seconds

    def exchange(self, frame: bytes, side: str) -> list[bytes]:
        """One frame arrives; what leaves."""
        for fd in self._fds.values():
            read_all(fd)
        self._room = dict.fromkeys(PEERS, WAITING)
        os.write(self._fds[side], frame)
        return [frame for fd in self._fds.values() for frame in read_all(fd) if frame[12:14] == b"\x08\x00"]

    def time(self, frames: npt.NDArray[np.uint8], side: str, group: int = 1) -> npt.NDArray[np.int64]:
        """ns that the writes of each group of `group` frames took. ModelError where one of them did not leave again."""
        batch = traffic.batch(frames, 0)
        others = [other for other in self._fds if other != side]
        before = self._left(others)
        with undisturbed():
            taken = time_writes(self._fds[side], batch, group)
        # What waits to be read is not counted as sent; once the device is full nothing more waits.
        lost = len(frames) - (self._left(others) - before) - sum(self._room[other] for other in others)
        self._room.update(dict.fromkeys(others, 0))
        if lost > 0:
            raise ModelError(f"{lost} of {len(frames)} packets did not pass the kernel")
        return taken

    def _left(self, sides: Sequence[str]) -> int:
        """Frames that were sent, or dropped because nobody reads the device."""
        links = json.loads(self._namespace.run("ip", "-json", "-stats", "link", "show"))
        return sum(
            link["stats64"]["tx"]["packets"] + link["stats64"]["tx"]["dropped"]
            for link in links
            if link["ifname"] in sides
        )

    def restore(self, text: str) -> None:
        """Change the rules as kube-proxy does: iptables-restore --noflush."""
        self._namespace.run(self._restore, "--noflush", text=text)

    def save(self) -> str:
        """The rules with their counters."""
        return self._namespace.run(self._restore.replace("restore", "save"), "-c")

    def forget(self) -> None:
        """Let connections go that nobody has answered."""
        self._namespace.run("conntrack", "-D", "-p", "tcp", "--state", "SYN_SENT", fails=True)

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._namespace.close()


def kernel_row(subject: Subject, plan: Plan, changes: Sequence[tuple[float, list[Sync]]], backend: str) -> Row:
    """One subject through the kernel."""
    config = subject.config
    loads = []
    router: KernelRouter | None = None
    for _ in range(3 if subject.services <= 1_000 else 1):
        if router is not None:
            router.close()
        router = KernelRouter(config, backend)
        loads.append(router.load)
    assert router is not None
    try:
        times = measure(router, subject.services, plan, traffic.Clients())
        applied: list[float] = []
        for seconds, syncs in changes:
            if len(applied) >= FEWEST_CHANGES and sum(applied) > LONGEST:
                break
            for sync in syncs:
                if sync.restore.family == 4:
                    text = sync.restore.text()
                    seconds += timed(lambda text=text: router.restore(text))[1]  # type: ignore[misc]
            applied.append(seconds)
    finally:
        router.close()
    return Row(
        subject.mode,
        subject.services,
        subject.endpoints,
        f"kernel {backend}",
        tables(config),
        subject.walked,
        times,
        render=subject.render,
        compile=Figure.of(loads) if config.iptables is not None else None,
        sync=Figure.of(applied[1:]) if applied[1:] else None,
        first_sync=applied[0] if applied else None,
    )
