"""Many hosts and the wires between them, compiled into one walk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from dataplane._fast.batch import PacketBatch
from dataplane._fast.host import CompiledHost
from dataplane._fast.walk import Walk
from dataplane.datapath.compile import compile_host
from dataplane.datapath.connections import Connections, connections
from dataplane.errors import ModelError
from dataplane.host.config import HostConfig


class Fabric:
    """Hosts by name, wired interface to interface.

    seed: each host draws from a generator of its own, made from the seed and its position. ModelError where a wire
    names a host or an interface that is not there, or two hosts have one name.
    """

    def __init__(self, seed: int = 0) -> None:
        self.walk = Walk()
        self.seed = seed
        self.ids: dict[str, int] = {}
        self.names: list[str] = []
        self.places: list[str] = []
        self.unmodelled: list[str] = []
        self._hosts: list[CompiledHost] = []
        self._slots: list[dict[str, int]] = []

    def add(self, name: str, config: HostConfig, *, listening: bool = True) -> int:
        """Add a host and give its id. listening: see Host."""
        if name in self.ids:
            raise ModelError(f"two hosts named {name!r}")
        host_id = len(self.names)
        compiled = compile_host(config, seed=self.seed * 1_000_003 + host_id, listening=listening)
        self.walk.add(compiled.host)
        self.ids[name] = host_id
        self.names.append(name)
        self._hosts.append(compiled.host)
        self._slots.append(dict(compiled.slots))
        self.unmodelled.extend(f"{name}: {what}" for what in compiled.unmodelled)
        return host_id

    def _at(self, name: str, interface: str) -> tuple[int, int]:
        if name not in self.ids:
            raise ModelError(f"no host {name!r}")
        host_id = self.ids[name]
        if interface not in self._slots[host_id]:
            raise ModelError(f"host {name!r} has no interface {interface!r}")
        return host_id, self._slots[host_id][interface]

    def connect(self, host_a: str, interface_a: str, host_b: str, interface_b: str) -> None:
        """Lay a wire."""
        self.walk.connect(*self._at(host_a, interface_a), *self._at(host_b, interface_b))

    def capture(self, patterns: Iterable[str]) -> Sequence[str]:
        """Capture at every place, host/interface, that a pattern covers (`node-1/*`); the places, by their numbers."""
        wanted = list(patterns)
        for host_id, name in enumerate(self.names):
            for interface, slot in self._slots[host_id].items():
                place = f"{name}/{interface}"
                if any(fnmatchcase(place, pattern) for pattern in wanted):
                    self.walk.capture(host_id, slot, len(self.places))
                    self.places.append(place)
        return self.places

    def captured(self) -> PacketBatch:
        """Take what was captured since the last call; `interface` is the place's number."""
        batch: PacketBatch = self.walk.captured()[0]
        return batch

    def connections(self, name: str) -> Connections:
        """What a host tracks now. ModelError when there is no such host."""
        return connections(self.compiled(name), self.walk.now)

    def compiled(self, name: str) -> CompiledHost:
        """The compiled host, for its counters and tables."""
        if name not in self.ids:
            raise ModelError(f"no host {name!r}")
        return self._hosts[self.ids[name]]
