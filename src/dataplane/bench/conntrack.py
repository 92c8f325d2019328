"""Connection tracking over the number of connections that are open: new ones, and packets of those."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from dataplane.bench import traffic
from dataplane.bench.core import Core, Effort, repeated
from dataplane.bench.emulated import Emulated
from dataplane.bench.kernel import KernelRouter
from dataplane.bench.machine import Pinned
from dataplane.bench.modes import Path
from dataplane.bench.router import CLIENT_SIDE, NETWORK_SIDE, router
from dataplane.bench.services import PORT, cluster_ip
from dataplane.datapath.compile import compile_host
from dataplane.errors import ModelError
from dataplane.host.config import HostConfig
from dataplane.host.iptables import Ruleset

CONNECTIONS = (1_000, 10_000, 100_000)
KINDS = ("first", "established")
TOGETHER = 5_000  # that are opened at a time
# One rule that asks for the state: without any, the kernel tracks nothing.
RULES = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
"""


def config(connections: int) -> HostConfig:
    """A router that tracks, with room for so many connections and those that are measured."""
    base = router(None)
    limit = {"net.netfilter.nf_conntrack_max": str(4 * connections + 1_000_000)}
    return base.with_(iptables=Ruleset.parse(RULES, 4), sysctl={**base.sysctl, **limit})


def measure(connections: Sequence[int], effort: Effort, *, kernel: bool = False) -> Iterator[Core]:
    """kernel: this machine's, too. ModelError where it has no room for so many connections."""
    if not connections or min(connections) < 1:
        raise ModelError("at least one number of connections, from 1 on")
    with Pinned():
        for count in connections:
            yield from _measure(count, effort, Emulated(compile_host(config(count), seed=effort.seed)), "model")
            if kernel:
                path = KernelRouter(config(count), "legacy")
                try:
                    yield from _measure(count, effort, path, "kernel")
                finally:
                    path.close()


def _measure(count: int, effort: Effort, path: Path, engine: str) -> Iterator[Core]:
    random = np.random.default_rng(effort.seed)
    clients = traffic.Clients()
    opened = open_connections(path, clients, count)
    for kind in KINDS:

        def run(group: int, kind: str = kind) -> npt.NDArray[np.int64]:
            if kind == "first":
                path.forget()
                return path.time(clients.first_packets(np.zeros(effort.packets, np.int64)), CLIENT_SIDE, group)
            return path.time(traffic.data(opened[random.integers(0, count, effort.packets)]), CLIENT_SIDE, group)

        yield Core("conntrack", count, engine, kind, repeated(run, effort))


def open_connections(path: Path, clients: traffic.Clients, count: int) -> npt.NDArray[np.uint8]:
    """The first packets of connections that are established now."""
    opened = []
    for start in range(0, count, TOGETHER):
        source, port = clients.take(min(TOGETHER, count - start))
        server = int(cluster_ip(0))
        first = traffic.segments(CLIENT_SIDE, source, port, server, PORT, flags=traffic.SYN)
        path.time(first, CLIENT_SIDE)
        flags = traffic.SYN | traffic.ACK
        path.time(traffic.segments(NETWORK_SIDE, server, PORT, source, port, flags=flags, ack=2), NETWORK_SIDE)
        path.time(traffic.acknowledge(first), CLIENT_SIDE)
        opened.append(first)
    return np.concatenate(opened)
