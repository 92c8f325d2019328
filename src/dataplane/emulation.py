"""The façade: a cluster's objects, its agents and its hosts in one place.

cluster = Cluster.load("boutique.yaml", mode="iptables", cni="flannel", seed=0)
result = cluster.replay("in.pcap", write="out.pcapng")
result.flows()
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dataplane._fast.batch import PacketBatch
from dataplane._fast.replay import Replay
from dataplane.agents.cloud.addresses import Assigned
from dataplane.agents.cloud.balancer import Balancer
from dataplane.agents.cloud.kinds import honoured
from dataplane.agents.kubeproxy.health import HealthAnswer, healthz, livez, service_health
from dataplane.agents.node import Agents, Options
from dataplane.agents.underlay import OUTSIDE, UNDERLAY
from dataplane.capture import CaptureReader, CaptureWriter, FolderWriter, open_capture
from dataplane.cluster import ClusterState, complete, load_manifests
from dataplane.cluster.changes import Change, running
from dataplane.cluster.events import Event, load_events, read_change, read_time
from dataplane.cluster.node_changes import ProxyMode
from dataplane.datapath.fabric import Fabric
from dataplane.errors import CaptureError, ModelError
from dataplane.host.config import HostConfig
from dataplane.mapping import parse_mapping
from dataplane.result import Accounting, Result, collect
from dataplane.sync_delay import SyncDelays
from dataplane.timeline import Place, Timeline

if TYPE_CHECKING:
    from dataplane.cluster import NodeState, PodState, ServiceState

Progress = Callable[[int], object]
"""Called with the number of packets read so far, once per batch."""


class Cluster:
    """A modelled cluster: its objects, completed, and the agents that configure its hosts.

    Hosts are built anew for each replay, so replays do not see each other's connections.
    """

    def __init__(
        self,
        state: ClusterState,
        *,
        mode: str = "",
        cni: str = "flannel",
        seed: int = 0,
        mtu: int = 1500,
        kube_version: tuple[int, int] = (1, 30),
        cloud: str = "none",
    ) -> None:
        self.seed = seed
        self.options = Options(mode=mode, cni=cni, mtu=mtu, version=kube_version, cloud=cloud, seed=seed)
        self.agents = Agents(state, self.options)
        self.state = self.agents.state
        self.events: list[Event] = []

    @classmethod
    def load(
        cls,
        *paths: str | Path,
        mode: str = "",
        cni: str = "flannel",
        nodes: int = 3,
        seed: int = 0,
        mtu: int = 1500,
        kube_version: tuple[int, int] = (1, 30),
        cloud: str = "none",
    ) -> Self:
        """Read manifests (files, folders, "-" for the standard input) and fill in what they leave out.

        mode: kube-proxy's, iptables or ipvs; "" for what its configuration among the manifests says.
        nodes: how many there are where the manifests state none. seed: of every choice that is drawn. mtu: of the nodes' underlay, bytes.
        kube_version: of the proxies whose behaviour is followed. cloud: the kind of the external load balancers, aws-nlb,
        aws-classic, gcp, azure, metallb-l2 or none, which is a plain one at the addresses that the Services' status has.
        Raises ManifestError for what cannot be read or contradicts itself, ModelError for a mode or CNI plugin that is
        not modelled.
        """
        state = complete(load_manifests(list(paths)), nodes, seed=seed)
        return cls(state, mode=mode, cni=cni, seed=seed, mtu=mtu, kube_version=kube_version, cloud=cloud)

    @property
    def nodes(self) -> Sequence[NodeState]:
        return self.state.nodes

    @property
    def pods(self) -> Sequence[PodState]:
        return self.state.pods

    @property
    def services(self) -> Sequence[ServiceState]:
        return self.state.services

    def host_config(self, node: str) -> HostConfig:
        """What a node is configured with. ModelError when there is no such node."""
        return self.agents.host(node)

    @property
    def notes(self) -> list[str]:
        """What was read and plays no part, or is not modelled; one line each."""
        lines = list(self.state.warnings)
        lines += [f"{i.file}: document {i.document}: {i.kind} {i.name} ignored: {i.why}" for i in self.state.ignored]
        lines += [
            f"{n.object}: {n.field} not modelled: {n.why}"
            for n in dict.fromkeys((*self.state.not_modelled, *self.agents.not_modelled))
            if not honoured(self.agents.cloud.kind, n.field)
        ]
        return lines

    def fabric(self) -> Fabric:
        """The hosts of the cluster, compiled and wired: underlay, outside, nodes by name, pods as NAMESPACE/NAME."""
        fabric = Fabric(self.seed)
        fabric.add(UNDERLAY, self.agents.underlay())
        fabric.add(OUTSIDE, self.agents.outside())
        for node in self.state.nodes:
            fabric.add(node.name, self.agents.host(node.name))
        for pod in self.agents.pods():
            fabric.add(str(pod), self.agents.pod(pod.namespace, pod.name))
        for wire in self.agents.topology():
            fabric.connect(wire.host_a, wire.interface_a, wire.host_b, wire.interface_b)
        for node in self.state.nodes:
            if node.lost:
                for name in (node.name, *map(str, self.state.pods_on(node.name))):
                    if name in fabric.ids:
                        fabric.fail(name)
        return fabric

    def at(self, time: float | str | datetime, change: Change | Mapping[str, object]) -> None:
        """Let a change happen during the replays that follow.

        time: seconds after the first packet, "5s", "1m30s", or a time of RFC 3339. change: of dataplane.cluster.changes, or
        a mapping with the fields of an event: `cluster.at(5, {"scale": "deployment/web", "replicas": 5})`. Raises
        InputError for one that does not parse.
        """
        moment, absolute = read_time(time)
        made = read_change(change) if isinstance(change, Mapping) else change
        self.events.append(Event(moment, made, absolute, where=f"at {time}"))

    def apply(self, change: Change | Mapping[str, object]) -> None:
        """Let a change happen now: hosts that are built from here on, and replays, begin with it. What follows from it
        later happens at once. Raises InputError or ModelError."""
        first = read_change(change) if isinstance(change, Mapping) else change
        if isinstance(first, ProxyMode) and first.mode == "none":
            raise ModelError("proxyMode none is an event: hosts are built with the rules of a proxy")
        state = running(self.state)
        waiting = [(0, 0, first(state) if callable(first) else first)]
        order = 0
        while waiting:
            waiting.sort(key=lambda entry: entry[:2])
            now, _, following = waiting.pop(0)
            if isinstance(following, ProxyMode):
                self.options = replace(self.options, mode=following.mode)
            state, _, later = following.apply(state, self.seed)
            for delay, then in later:
                order += 1
                waiting.append((now + delay, order, then))
        self.agents = Agents(state, self.options, self.agents.cloud.assigned)
        self.state = self.agents.state

    def health(self, node: str, service: str = "", path: str = "/healthz", time_ns: int = 0) -> HealthAnswer:
        """What the node's kube-proxy answers over HTTP.

        service: NAMESPACE/NAME, on its healthCheckNodePort; "" on port 10256, path /healthz or /livez. ModelError where
        there is no such node or Service, or nobody answers.
        """
        known = self.agents.node(node)
        if not service:
            if path not in ("/healthz", "/livez"):
                raise ModelError(f"kube-proxy answers /healthz and /livez on its port, not {path}")
            return (healthz if path == "/healthz" else livez)(known, time_ns=time_ns)
        namespace, _, name = service.partition("/")
        found = self.state.service(namespace, name)
        answer = service_health(self.state, found, known) if found is not None else None
        if answer is None:
            why = "there is no such Service" if found is None else "it has no healthCheckNodePort"
            raise ModelError(f"Service {service} has no health check: {why}")
        return answer

    @property
    def balancers(self) -> Sequence[Balancer]:
        """The external load balancers of the Services, with what they think of each node."""
        return tuple(self.agents.cloud.balancers())

    def timeline(
        self,
        fabric: Fabric,
        events: Sequence[Event] = (),
        sync_delay: str | Iterable[str] = (),
        place: Place | None = None,
    ) -> Timeline:
        """What can change the hosts of `fabric()` while packets walk; each timeline begins with the cluster's state.

        sync_delay: [NODE=]TIME[+JITTER], how long after a change kube-proxy writes it. Raises InputError.
        """
        delays = SyncDelays.parse([sync_delay] if isinstance(sync_delay, str) else sync_delay)
        assigned = Assigned(self.agents.cloud.assigned)  # what comes later is given to each replay anew
        agents = Agents(self.state, self.options, assigned)
        return Timeline(self.state, agents, fabric, events, delays, seed=self.seed, place=place)

    def replay(
        self,
        capture: str | os.PathLike[str],
        *,
        write: str | os.PathLike[str] | None = None,
        places: str | Sequence[str] = "*",
        maps: Iterable[str] = (),
        link_delay_ns: int = 0,
        connections: Sequence[str] = (),
        progress: Progress | None = None,
        rows: int = 4096,
        events: str | os.PathLike[str] | Sequence[Event] = (),
        sync_delay: str | Iterable[str] = (),
    ) -> Result:
        """Send a capture through the cluster.

        write: a pcapng with one interface per place, or, with a trailing slash or an existing folder, one pcap per
        place. places: patterns of host/interface that are captured. maps: see dataplane.mapping. link_delay_ns: what
        each link adds to a packet's time. connections: hosts whose connections the result shall list. rows: packets per
        batch, which changes no result.

        events: a script of changes, or its events (dataplane.cluster.events); those of `at` happen too. sync_delay: see
        `timeline`.

        A capture that ends badly is replayed up to there; the error is in `Result.error`. Raises CaptureError when
        nothing of it can be read, MappingError for a map that does not parse or names nothing.
        """
        mappings = [parse_mapping(text, self.state, self.agents.cloud.of) for text in maps]
        fabric = self.fabric()
        fabric.walk.link_delay = link_delay_ns
        replay = Replay(fabric.walk, fabric.ids[OUTSIDE])
        self._places(fabric, replay)
        for mapping in mappings:
            replay.map(mapping.network, mapping.members, port=mapping.port, to_port=mapping.to_port)
        error = None
        script = [*(load_events(os.fspath(events)) if isinstance(events, str | os.PathLike) else events), *self.events]
        timeline = self.timeline(fabric, script, sync_delay, replay.move) if script else None
        replay.watching = timeline is not None
        with ExitStack() as stack:
            reader = stack.enter_context(open_capture(capture, rows=rows))
            writer = _writer(stack, fabric, write, places)
            try:
                for batch in reader:
                    if timeline is None:
                        replay.run(batch)
                    else:
                        _run_with_events(replay, batch, timeline)
                        _describe_places(writer, fabric)
                    if writer is not None:
                        writer.write(fabric.captured())
                    if progress is not None:
                        progress(replay.read)
            except CaptureError as problem:
                if replay.read == 0:
                    raise
                error = problem
            tracked = {name: fabric.connections(name) for name in connections}
            # What still waits for a neighbour is answered, or given up, within the seconds that follow.
            replay.advance(fabric.walk.now + 10_000_000_000)
            if writer is not None:
                writer.write(fabric.captured())
        result = collect(self.agents, fabric, replay, reader, error, self.notes + fabric.unmodelled, timeline)
        result.connections = tracked
        result.logged = fabric.logged()
        result.notes += fabric.full()
        if replay.untold:
            result.notes.append(f"the table of interruptions was full: {replay.untold:,} of flows are not told")
        return result

    def _places(self, fabric: Fabric, replay: Replay) -> None:
        """Say which host sends for which address."""
        for node in self.state.nodes:
            for address in (*node.addresses, *node.external_addresses):
                replay.place(address, fabric.ids[node.name])
        for pod in self.state.pods:
            if str(pod) in fabric.ids:
                for address in pod.ips:
                    replay.place(address, fabric.ids[str(pod)])
        for service in self.state.services:
            for address in (*service.cluster_ips, *service.external_ips):
                replay.place(address)
            for ingress in service.ingress:
                if ingress.ip is not None:
                    replay.place(ingress.ip)
        for address in self.agents.cloud.addresses():
            replay.place(address)


def _run_with_events(replay: Replay, batch: PacketBatch, timeline: Timeline) -> None:
    """Replay a batch, and let everything happen between two packets whose time has come by the second."""
    count, first = len(batch), 0
    times = batch.time[:count]
    if replay.read == 0 and count:
        timeline.start(int(times[0]))
    while first < count and timeline.next is not None:
        due = times[first:] >= timeline.next
        at = first + int(due.argmax()) if due.any() else count
        replay.run(batch, first, at)
        first = at
        if first < count:
            timeline.until(int(times[first]))
    replay.run(batch, first)


def _describe_places(writer: CaptureWriter | FolderWriter | None, fabric: Fabric) -> None:
    """Places that have come with new hosts."""
    if writer is not None:
        for name in fabric.places[len(writer.interfaces) :]:
            writer.add_interface(name)


def _writer(
    stack: ExitStack, fabric: Fabric, write: str | os.PathLike[str] | None, places: str | Sequence[str]
) -> CaptureWriter | FolderWriter | None:
    if write is None:
        return None
    patterns = [places] if isinstance(places, str) else list(places)
    names = fabric.capture(part for pattern in patterns for part in pattern.split(","))
    if not names:
        raise ModelError(f"no place matches {', '.join(patterns)}; a place is HOST/INTERFACE, such as node-1/eth0")
    if str(write).endswith(os.sep) or Path(write).is_dir():
        return stack.enter_context(FolderWriter(write, names))
    return stack.enter_context(CaptureWriter(write, names))


def replay_host(
    capture: str | os.PathLike[str],
    config: HostConfig,
    interface: str,
    *,
    write: str | os.PathLike[str] | None = None,
    places: str | Sequence[str] = "*",
    seed: int = 0,
    progress: Progress | None = None,
    rows: int = 4096,
) -> Result:
    """Let the frames of a capture arrive at one interface of a host, without any Kubernetes object.

    config: as HostConfig.load reads a dump. Packets that were captured without an Ethernet header get one that is
    addressed to the interface. Raises ModelError when there is no such interface; the rest as Cluster.replay.
    """
    fabric = Fabric(seed)
    name = config.name or "host"
    fabric.add(name, config, listening=True)
    slots = list(fabric.compiled(name).interface_names)
    if interface not in slots:
        raise ModelError(f"the host has no interface {interface!r}; it has {', '.join(slots)}")
    slot = slots.index(interface)
    link = config.link(interface)
    mac = (link.mac if link is not None else None) or 0
    fabric.walk.keep_emitted = True
    fabric.walk.keep_late = True
    accounting = Accounting()
    error = None
    with ExitStack() as stack:
        reader = stack.enter_context(open_capture(capture, rows=rows))
        writer = _writer(stack, fabric, write, places)
        try:
            for batch in _framed(reader, mac):
                fabric.walk.receive(0, slot, batch)
                accounting.settle(fabric.walk.late(), interface)
                accounting.add_batch(batch, fabric.walk.emitted(), slots, interface)
                if writer is not None:
                    writer.write(fabric.captured())
                if progress is not None:
                    progress(accounting.read)
        except CaptureError as problem:
            if accounting.read == 0:
                raise
            error = problem
        fabric.walk.advance(fabric.walk.now + 10_000_000_000)
        accounting.settle(fabric.walk.late(), interface)
        accounting.count_emitted(fabric.walk.emitted(), slots, interface)
        if writer is not None:
            writer.write(fabric.captured())
    result = Result.of_host(accounting, error, fabric.unmodelled)
    result.logged = fabric.logged()
    result.notes += fabric.full()
    return result


def _framed(reader: CaptureReader, mac: int) -> Iterator[PacketBatch]:
    """Batches of Ethernet frames only."""
    for batch in reader:
        count = len(batch)
        if (batch.link_type[:count] == 1).all():
            yield batch
            continue
        framed = PacketBatch(count, batch.used + 64 * count)
        for i in range(count):
            frame, network, protocol = batch.frame(i), int(batch.network[i]), int(batch.protocol[i])
            time, original = int(batch.time[i]), int(batch.original[i])
            if batch.link_type[i] != 1 and network != 0xFFFF:
                header = mac.to_bytes(6) + bytes.fromhex("020000000001") + protocol.to_bytes(2)
                original += len(header) - network
                frame = header + frame[network:]
            framed.append(frame, time, link_type=1, original=max(original, len(frame)))
        framed.decode()
        yield framed
