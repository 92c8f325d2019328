"""kube-proxy's modes over the number of Services: what a packet meets, what it costs, what a change costs."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from dataplane.agents.kubeproxy.node_proxy import Sync
from dataplane.agents.node import Agents, Options
from dataplane.bench import traffic
from dataplane.bench.emulated import Emulated
from dataplane.bench.figures import Figure, Times
from dataplane.bench.machine import Pinned, clock
from dataplane.bench.router import CLIENT_SIDE, NETWORK_SIDE, router
from dataplane.bench.services import NODE, cluster, endpoint_ip, service_name
from dataplane.cluster import ClusterState
from dataplane.cluster.changes import SetEndpoint
from dataplane.datapath.compile import compile_host
from dataplane.datapath.running_host import RunningHost
from dataplane.errors import ModelError
from dataplane.host.config import HostConfig

# What packets are sent: new connections to Services chosen at random, to the first and the last one, and packets of
# connections that are established.
PACKETS = ("any", "first", "last", "established")
NO_RULES = "none"  # the router alone, without a proxy: what every other figure is held against
KERNEL_MODES = (NO_RULES, "iptables")  # what a kernel is given, too
SECOND = 1_000_000_000
Given = TypeVar("Given")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    services: numbers of Services. endpoints: of each. packets: timed per kind of packet, in each of `repeats`.
    connections: that are established. changes: of one endpoint each.
    """

    modes: Sequence[str] = ("iptables",)
    services: Sequence[int] = (10, 100, 1_000, 5_000, 10_000, 30_000)
    endpoints: int = 10
    packets: int = 2_000
    connections: int = 1_000
    repeats: int = 7
    changes: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ModelError for numbers that measure nothing."""
        for name in ("endpoints", "packets", "connections", "repeats", "changes"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is at least 1, not {getattr(self, name)}")
        if not self.modes or not self.services or min(self.services) < 1:
            raise ModelError("at least one mode and one number of Services, from 1 on")


class Path(Protocol):
    """Where packets go through: the model, or a kernel's namespace."""

    def exchange(self, frame: bytes, side: str) -> list[bytes]: ...
    def time(self, frames: npt.NDArray[np.uint8], side: str, group: int = 1) -> npt.NDArray[np.int64]: ...
    def forget(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One mode, one number of Services, one engine.

    engine: "model"; "model in turn" without the index over rules; "kernel legacy", "kernel nft". tables: entries by
    name (rules, chains, sets, ...). walked: rules that a packet is held against, mean, by kind of packet. times: by kind
    of packet. above: ns of the mean above the router without rules, by kind of packet. Work in seconds: render (objects
    to configuration), compile (configuration to tables, or the kernel's loading of it), sync (one endpoint change, until
    packets meet it; the first one of a host makes room). memory: bytes of the tables.
    """

    mode: str
    services: int
    endpoints: int
    engine: str
    tables: dict[str, int] = field(default_factory=dict)
    walked: dict[str, float] = field(default_factory=dict)
    times: dict[str, Times] = field(default_factory=dict)
    above: dict[str, float] = field(default_factory=dict)
    memory: int | None = None
    render: Figure | None = None
    compile: Figure | None = None
    sync: Figure | None = None
    first_sync: float | None = None


def check_modes(modes: Iterable[str]) -> None:
    """Raises ModelError naming the first mode that there is no agent for."""
    state = cluster(1, 1)
    for mode in modes:
        if mode != NO_RULES:
            Agents(state, Options(mode=mode))


@dataclass(slots=True)
class Subject:
    """One cluster under one mode, rendered: what every engine is given."""

    mode: str
    services: int
    endpoints: int
    state: ClusterState
    agents: Agents | None
    config: HostConfig
    render: Figure | None
    walked: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, mode: str, services: int, endpoints: int, state: ClusterState, repeats: int) -> Subject:
        if mode == NO_RULES:
            return cls(mode, services, endpoints, state, None, router(None), None)
        times = []
        for _ in range(repeats):
            agents, seconds = timed(lambda: Agents(state, Options(mode=mode)))
            node, more = timed(lambda agents=agents: agents.host(NODE))  # type: ignore[misc]
            times.append(seconds + more)
        return cls(mode, services, endpoints, state, agents, router(node), Figure.of(times))

    def changes(self, count: int) -> Iterator[tuple[float, list[Sync]]]:
        """Endpoints that cease to be ready and become so again, one at a time, of Services all over the list: the seconds
        that rendering a change took, and what kube-proxy writes."""
        if self.agents is None:
            return
        proxy = self.agents.node_proxy(NODE)
        state = self.state
        for number in range(count):
            service = number // 2 * 2 * self.services // count
            address = str(endpoint_ip(service * self.endpoints))
            change = SetEndpoint("default", address=address, service=service_name(service), ready=bool(number % 2))
            changed = change.apply(state, 0)
            state = changed.state
            services = changed.services or ()

            begin = time.perf_counter()
            self.agents.update(state, services)
            syncs = proxy.sync(services, number * SECOND)
            yield time.perf_counter() - begin, syncs


Kernel: TypeAlias = "Callable[[Subject, Plan, Sequence[tuple[float, list[Sync]]]], Row]"
"""What measures a subject through a kernel."""


def timed(work: Callable[[], Given]) -> tuple[Given, float]:
    """What it gives, and the seconds that it took."""
    begin = time.perf_counter()
    given = work()
    return given, time.perf_counter() - begin


def measure(path: Path, services: int, plan: Plan, clients: traffic.Clients) -> dict[str, Times]:
    """Send every kind of packet, in turn, in each repeat; a first round warms up and is not counted."""
    random = np.random.default_rng(plan.seed)
    opened = establish(path, clients, random.integers(0, services, plan.connections))
    cost = clock()
    runs: dict[str, list[npt.NDArray[np.float64]]] = {kind: [] for kind in PACKETS}
    rates: dict[str, list[float]] = {kind: [] for kind in PACKETS}
    for repeat in range(plan.repeats + 1):
        for kind in PACKETS:
            each = path.time(packets(kind, clients, services, plan.packets, random, opened), CLIENT_SIDE)
            together = path.time(
                packets(kind, clients, services, plan.packets, random, opened), CLIENT_SIDE, plan.packets
            )
            if repeat:
                runs[kind].append(np.maximum(each - cost, 0))
                rates[kind].append(plan.packets / (float(together.sum()) / 1e9))
        path.forget()
    return {kind: Times.of(runs[kind], rates[kind]) for kind in PACKETS}


def packets(
    kind: str,
    clients: traffic.Clients,
    services: int,
    count: int,
    random: np.random.Generator,
    opened: npt.NDArray[np.uint8],
) -> npt.NDArray[np.uint8]:
    """Frames of one of PACKETS; `opened`: the first packets of connections that are established."""
    if kind == "established":
        return traffic.data(opened[random.integers(0, len(opened), count)])
    if kind == "any":
        return clients.first_packets(random.integers(0, services, count))
    return clients.first_packets(np.full(count, 0 if kind == "first" else services - 1))


def establish(path: Path, clients: traffic.Clients, services: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Open a connection to each of these Services; their first packets. ModelError where one does not come about."""
    first = clients.first_packets(services)
    for syn, ack in zip(first, traffic.acknowledge(first), strict=True):
        out = path.exchange(syn.tobytes(), CLIENT_SIDE)
        if len(out) != 1 or len(path.exchange(traffic.answer(out[0]), NETWORK_SIDE)) != 1:
            raise ModelError("a connection was not opened: no answer through the router")
        path.exchange(ack.tobytes(), CLIENT_SIDE)
    return first


def rules_walked(path: Emulated, services: int, plan: Plan, clients: traffic.Clients) -> dict[str, float]:
    """Rules that a packet is held against, by kind of packet: the mean of `plan.packets`."""
    random = np.random.default_rng(plan.seed)
    opened = establish(path, clients, random.integers(0, services, min(plan.connections, 100)))
    walked = {
        kind: float(path.walked(packets(kind, clients, services, plan.packets, random, opened), CLIENT_SIDE).mean())
        for kind in PACKETS
    }
    path.forget()
    return walked


def tables(config: HostConfig) -> dict[str, int]:
    """How many of what a router's configuration has."""
    rules = config.iptables
    found = {
        "rules": 0 if rules is None else sum(1 for _ in rules.rules()),
        "chains": 0 if rules is None else sum(len(table.chains) for table in rules.tables),
        "sets": len(config.ipsets),
        "set entries": sum(len(one.entries) for one in config.ipsets),
        "virtual services": len(config.ipvs),
        "servers": sum(len(service.servers) for service in config.ipvs),
    }
    return {name: count for name, count in found.items() if count}


def model_rows(subject: Subject, plan: Plan, changes: Sequence[tuple[float, list[Sync]]]) -> Iterator[Row]:
    """The model's rows of one subject: with its index over rules, and rule by rule as the kernel does it."""
    config, services = subject.config, subject.services
    times = []
    for _ in range(_often(plan, services)):
        compiled, seconds = timed(lambda: compile_host(config, seed=plan.seed))
        times.append(seconds)
    # One host for all: compiling a large one takes longer than everything else.
    path, clients = Emulated(compiled), traffic.Clients()
    subject.walked = rules_walked(path, services, plan, clients)
    row = Row(
        subject.mode,
        services,
        subject.endpoints,
        "model",
        tables(config),
        subject.walked,
        measure(path, services, plan, clients),
        memory=path.memory,
        render=subject.render,
    )
    in_turn: Row | None = None
    if config.iptables is not None:
        path.in_turn = True
        in_turn = replace(row, engine="model in turn", times=measure(path, services, plan, clients))
        path.in_turn = False
    # Last, because they leave other rules.
    applied = _apply(RunningHost(compiled, config), changes)
    yield replace(
        row,
        compile=Figure.of(times),
        sync=Figure.of(applied[1:]) if applied[1:] else None,
        first_sync=applied[0] if applied else None,
    )
    if in_turn is not None:
        yield in_turn


def _apply(running: RunningHost, changes: Sequence[tuple[float, list[Sync]]]) -> list[float]:
    """Seconds from each change of an endpoint to the running rules, rendering included."""

    def apply(syncs: list[Sync]) -> None:
        for sync in syncs:
            if sync.services is not None:
                running.balance(sync.services)
            # The router has no IPv6.
            if sync.restore.family == 4:
                running.fill(sync.ipsets)
                running.restore(sync.restore)

    return [seconds + timed(lambda syncs=syncs: apply(syncs))[1] for seconds, syncs in changes]  # type: ignore[misc]


def _often(plan: Plan, services: int) -> int:
    """Rendering and compiling take up to a minute in a large cluster, where fewer repeats say as much."""
    return plan.repeats if services <= 1_000 else min(plan.repeats, 3 if services <= 5_000 else 1)


def run(plan: Plan, kernels: Sequence[Kernel] = (), progress: Callable[[str], None] | None = None) -> Iterator[Row]:
    """Measure: rows as they are done. First the router without rules, then by number of Services and by mode.

    kernels: engines beside the model, for KERNEL_MODES. progress: called with what is measured next. ModelError where a mode has no agent.
    """
    modes = [mode for mode in plan.modes if mode != NO_RULES]
    check_modes(modes)
    bare: dict[str, dict[str, Times]] = {}
    with Pinned():
        for services in (plan.services[0], *plan.services):
            # A router without rules does not know how many Services there are: once is enough.
            state = cluster(services, plan.endpoints)
            for mode in modes if bare else (NO_RULES,):
                if progress is not None:
                    progress(f"{mode}, {services} services")
                # What is collected later is of this subject; each measurement for itself would take longer than it measures.
                gc.collect()
                subject = Subject.of(mode, services, plan.endpoints, state, _often(plan, services))
                changes = list(subject.changes(plan.changes + 1))
                for row in model_rows(subject, plan, changes):
                    yield _above(row, bare)
                for kernel in kernels if mode in KERNEL_MODES else ():
                    yield _above(kernel(subject, plan, changes), bare)


def _above(row: Row, bare: dict[str, dict[str, Times]]) -> Row:
    """The row with what it costs above the router without rules, which is remembered by engine."""
    engine = "model" if row.engine.startswith("model") else row.engine
    if row.mode == NO_RULES:
        bare[engine] = row.times
        return row
    return replace(
        row, above={kind: times.mean.median - bare[engine][kind].mean.median for kind, times in row.times.items()}
    )
