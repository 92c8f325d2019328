"""Many hosts and the wires between them, compiled into one walk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from dataplane._fast.batch import PacketBatch
from dataplane._fast.host import CompiledHost
from dataplane._fast.host_change import cut, set_up
from dataplane._fast.walk import Walk
from dataplane.datapath.compile import compile_host
from dataplane.datapath.connections import Connections, connections
from dataplane.datapath.log import Logged
from dataplane.datapath.reconfigure import reconfigure, unplug
from dataplane.datapath.running_host import RunningHost
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
        self._running: list[RunningHost] = []
        self._wires: dict[tuple[str, str], tuple[str, str]] = {}
        self._patterns: list[str] = []

    def add(self, name: str, config: HostConfig, *, listening: bool = True) -> int:
        """Add a host and give its id. listening: see Host."""
        if name in self.ids:
            raise ModelError(f"two hosts named {name!r}")
        host_id = len(self.names)
        seed = self.seed * 1_000_003 + host_id
        compiled = compile_host(config, seed=seed, listening=listening)
        self.walk.add(compiled.host)
        self.ids[name] = host_id
        self.names.append(name)
        self._running.append(RunningHost(compiled, config, seed))
        self._capture(host_id, compiled.slots)
        self.unmodelled.extend(f"{name}: {what}" for what in compiled.unmodelled)
        return host_id

    def running(self, name: str) -> RunningHost:
        """A host as it is now. ModelError where there is none."""
        if name not in self.ids:
            raise ModelError(f"no host {name!r}")
        return self._running[self.ids[name]]

    def _at(self, name: str, interface: str) -> tuple[int, int]:
        slots = self.running(name).slots
        if interface not in slots:
            raise ModelError(f"host {name!r} has no interface {interface!r}")
        return self.ids[name], slots[interface]

    def connect(self, host_a: str, interface_a: str, host_b: str, interface_b: str) -> None:
        """Lay a wire; one that was at either end before is taken away."""
        ends = (host_a, interface_a), (host_b, interface_b)
        for end in ends:
            other = self._wires.pop(end, None)
            if other is not None:
                del self._wires[other]
                cut(self.walk, *self._at(*end))
                for host, interface in ends:
                    set_up(self.running(host).host, self.running(host).slots[interface], True)
        self.walk.connect(*self._at(host_a, interface_a), *self._at(host_b, interface_b))
        self._wires[host_a, interface_a] = host_b, interface_b
        self._wires[host_b, interface_b] = host_a, interface_a

    @property
    def wires(self) -> Mapping[tuple[str, str], tuple[str, str]]:
        """(host, interface) -> the other end of its wire."""
        return self._wires

    # ---- while packets walk ----------------------------------------------------------------------------------------

    def reconfigure(self, name: str, config: HostConfig) -> None:
        """Give a running host another configuration, but for its rules. See dataplane.datapath.reconfigure."""
        before = set(self.running(name).slots)
        self.unmodelled.extend(f"{name}: {what}" for what in reconfigure(self.running(name), config))
        slots = self.running(name).slots
        self._capture(self.ids[name], {link: slot for link, slot in slots.items() if link not in before})

    def remove(self, name: str) -> None:
        """A host goes for good: its veth pairs go with it, at the other end too; of other wires the other end stays.

        Its name may be given again, and then means another host.
        """
        self.fail(name)
        for interface in list(self.running(name).slots):
            other = self._wires.pop((name, interface), None)
            if other is None:
                continue
            self._wires.pop(other, None)
            cut(self.walk, *self._at(name, interface))
            if other[1] not in self.running(other[0]).slots:
                continue
            link = self.running(other[0]).config.link(other[1])
            if link is not None and link.kind == "veth":
                unplug(self.running(other[0]), other[1])
        del self.ids[name]

    def fail(self, name: str) -> None:
        """A host stops: nothing of it sends or receives any more, and whoever is wired to it loses the carrier."""
        running = self.running(name)
        for interface, slot in running.slots.items():
            set_up(running.host, slot, False)
            other = self._wires.get((name, interface))
            if other is not None:
                far = self.running(other[0])
                if other[1] in far.slots:
                    set_up(far.host, far.slots[other[1]], False)

    def revive(self, name: str) -> None:
        """A host that had stopped goes on as it was."""
        running = self.running(name)
        for interface, slot in running.slots.items():
            set_up(running.host, slot, True)
            other = self._wires.get((name, interface))
            if other is not None:
                far = self.running(other[0])
                if other[1] in far.slots:
                    set_up(far.host, far.slots[other[1]], True)

    def announce(self, name: str) -> None:
        """A host whose interfaces have just come up tells their addresses, where net.ipv4.conf.*.arp_notify is set."""
        settings = self.running(name).config.settings
        for interface, slot in self.running(name).slots.items():
            if settings.arp_notify(interface):
                self.walk.announce(self.ids[name], slot)

    # ---- captures --------------------------------------------------------------------------------------------------

    def capture(self, patterns: Iterable[str]) -> Sequence[str]:
        """Capture at every place, host/interface, that a pattern covers (`node-1/*`); the places, by their numbers.

        Places of hosts and interfaces that come later are added to `places`.
        """
        self._patterns = list(patterns)
        for host_id in range(len(self.names)):
            self._capture(host_id, self._running[host_id].slots)
        return self.places

    def _capture(self, host_id: int, slots: Mapping[str, int]) -> None:
        for interface, slot in slots.items() if self._patterns else ():
            place = f"{self.names[host_id]}/{interface}"
            if any(fnmatchcase(place, pattern) for pattern in self._patterns):
                # A pod that has come back is the same place.
                number = self.places.index(place) if place in self.places else len(self.places)
                if number == len(self.places):
                    self.places.append(place)
                self.walk.capture(host_id, slot, number)

    def captured(self) -> PacketBatch:
        """Take what was captured since the last call; `interface` is the place's number."""
        batch: PacketBatch = self.walk.captured()[0]
        return batch

    def connections(self, name: str) -> Connections:
        """What a host tracks now. ModelError when there is no such host."""
        return connections(self.compiled(name), self.walk.now)

    def logged(self) -> dict[str, tuple[Logged, ...]]:
        """What the rules of each host wrote down since the last call; hosts that wrote nothing are left out."""
        rows = {name: running.log.take() for name, running in zip(self.names, self._running, strict=True)}
        return {name: written for name, written in rows.items() if written}

    def full(self) -> list[str]:
        """What full tables of the hosts refused, a line each; what they made of packets is in the packets' reasons."""
        lines = []
        for name, running in zip(self.names, self._running, strict=True):
            lost = running.log.lost
            if lost:
                lines.append(f"{name}: the log was full: {lost:,} entries of LOG, NFLOG and TRACE are lost")
            for table, count in zip(("bridge", "VXLAN"), running.host.refused(), strict=True):
                if count:
                    lines.append(f"{name}: the {table} forwarding table was full: {count:,} addresses were not learnt")
            balancer = running.host.balancer
            if balancer is not None and balancer.refused:
                lines.append(f"{name}: IPVS was full: {balancer.refused:,} connections were not made")
        return lines

    def compiled(self, name: str) -> CompiledHost:
        """The compiled host, for its counters and tables."""
        return self.running(name).host
