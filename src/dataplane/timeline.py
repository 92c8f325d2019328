"""A cluster that changes while packets walk: events at their times, and each node's kube-proxy a little later.

    timeline = Timeline(state, agents, fabric, events, SyncDelays.parse(["500ms", "node-2=2s+1s"]), seed=0)
    timeline.start(first_packet_ns)
    timeline.until(time_ns)       # everything that happens up to then has happened

What happens at one time happens in this order: the objects change, pods and their interfaces come and go at once, and
then the proxies whose delay is over write their rules and make the kernel forget stale connections.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from random import Random

from dataplane.agents.kubeproxy.ipvs.node_proxy import DRAIN_PERIOD, SYNC_PERIOD, Connections, IpvsNodeProxy
from dataplane.agents.kubeproxy.node_proxy import NodeProxy, Sync
from dataplane.agents.node import Agents
from dataplane.agents.underlay import OUTSIDE, UNDERLAY
from dataplane.cluster.changes import Change, LoseNode, PodsReady, ProxyMode, RestartProxy, running
from dataplane.cluster.endpoint_controller import changed_pods
from dataplane.cluster.events import Event, duration
from dataplane.cluster.objects import Address, ClusterState, PodState
from dataplane.datapath.fabric import Fabric
from dataplane.errors import InputError, ModelError

Key = tuple[str, str]
Place = Callable[[Address, int], None]
"""Told where an address lives from now on: the host's id, or -1 for an address that only rules know."""


@dataclass(frozen=True, slots=True)
class SyncDelay:
    """ns from a change to the sync that takes it up: `fixed`, and up to `jitter` more, drawn anew each time."""

    fixed: int = 0
    jitter: int = 0


@dataclass(frozen=True, slots=True)
class SyncDelays:
    """everywhere: of nodes that have none of their own."""

    everywhere: SyncDelay = field(default_factory=SyncDelay)
    nodes: Mapping[str, SyncDelay] = field(default_factory=dict)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> SyncDelays:
        """Each TIME, or TIME+JITTER, for all nodes, or NODE=TIME+JITTER for one. Raises InputError."""
        everywhere, nodes = SyncDelay(), {}
        for text in texts:
            for part in text.split(","):
                node, equals, delay = part.rpartition("=")
                fixed, plus, jitter = delay.partition("+")
                if (equals and not node) or not fixed or (plus and not jitter) or re.search(r"\s", part):
                    raise InputError(
                        text, field="--sync-delay", message="is not [NODE=]TIME[+JITTER], such as 1s+500ms"
                    )
                made = SyncDelay(duration(fixed, "--sync-delay"), duration(jitter, "--sync-delay") if plus else 0)
                if node:
                    nodes[node] = made
                else:
                    everywhere = made
        return cls(everywhere, nodes)

    def of(self, node: str) -> SyncDelay:
        return self.nodes.get(node, self.everywhere)


@dataclass(frozen=True, slots=True)
class Happened:
    """time: ns. change: what it was, in words. services: that it concerned; addresses: of pods that it concerned, with
    what they were called."""

    time: int
    change: str
    services: frozenset[Key]
    addresses: Mapping[Address, str]


@dataclass(slots=True)
class _Node:
    """What the timeline knows of one node."""

    proxy: NodeProxy | IpvsNodeProxy
    chance: Random
    drains: int = 0
    """ns, a moment at which the proxy in IPVS mode looks for servers that can go; it does so once a minute"""
    draining: bool = False
    """It will look at the next such moment."""
    synced: int = 0
    """ns; the last sync"""
    moved: bool = False
    """The node has other addresses than at the last sync."""
    pending: set[Key] = field(default_factory=set)
    scheduled: bool = False
    full: bool = False
    """The next sync is a full one: the node's own object has changed."""
    down_until: int = 0
    """The proxy has stopped, and starts then."""
    dead: bool = False


_Action = Callable[[int], None]


class Timeline:
    """What happens to a running cluster. state and agents: of the fabric's hosts as they are now.

    place: is told where addresses live. Raises ModelError for a delay of a node that is not there.
    """

    def __init__(
        self,
        state: ClusterState,
        agents: Agents,
        fabric: Fabric,
        events: Sequence[Event] = (),
        delays: SyncDelays | None = None,
        *,
        seed: int = 0,
        place: Place | None = None,
    ) -> None:
        self.agents = agents
        self.fabric = fabric
        self.delays = delays or SyncDelays()
        self.seed = seed
        self.happened: list[Happened] = []
        self._place = place or (lambda address, host: None)
        self._events = list(events)
        self._queue: list[tuple[int, int, _Action]] = []
        self._order = 0
        self.state = running(state)
        agents.update(self.state, ())
        self._nodes: dict[str, _Node] = {}
        for node in state.nodes:
            self._add_proxy(node.name)
        for name in self.delays.nodes:
            if name not in self._nodes:
                raise ModelError(f"--sync-delay: no node {name!r}")
        self._attached = {str(pod): pod for pod in agents.pods() if str(pod) in fabric.ids}
        self.names: dict[Address, str] = {}
        """What the addresses of pods that came later are called."""

    def _add_proxy(self, name: str) -> None:
        proxy = self.agents.node_proxy(name)
        if isinstance(proxy, IpvsNodeProxy):
            proxy.connections = self._server_connections(name)
        self._nodes[name] = _Node(proxy, Random(f"{self.seed}/sync/{name}"))
        # When the proxy was started nobody knows: some time within a minute.
        phase = Random(f"{self.seed}/phase/{name}").randrange(DRAIN_PERIOD)
        self._nodes[name].drains = self._nodes[name].synced = phase

    def _server_connections(self, name: str) -> Connections:
        return lambda service, server: self.fabric.running(name).server_connections(
            service, server, self.fabric.walk.now
        )

    # ---- the clock -------------------------------------------------------------------------------------------------

    def start(self, first: int) -> None:
        """Time begins: `first` is that of the first packet, ns."""
        for event in self._events:
            self._at(max(event.at(first), first), self._event(event))
        self._events = []

    @property
    def next(self) -> int | None:
        """When something happens next, ns; None when nothing does."""
        return self._queue[0][0] if self._queue else None

    @property
    def ahead(self) -> Sequence[int]:
        """The times of what has not happened yet, in order."""
        return sorted(time for time, _, _ in self._queue)

    def until(self, time: int) -> None:
        """Let everything happen that is due at `time` or before."""
        while self._queue and self._queue[0][0] <= time:
            now, _, action = heapq.heappop(self._queue)
            self.fabric.walk.advance(now)
            action(now)

    def change(self, change: Change | Callable[[ClusterState], Change], now: int) -> None:
        """Let one change happen at `now`, ns."""
        self._happen(change(self.state) if callable(change) else change, now)

    def _at(self, time: int, action: _Action) -> None:
        heapq.heappush(self._queue, (time, self._order, action))
        self._order += 1

    def _event(self, event: Event) -> _Action:
        def happen(now: int) -> None:
            try:
                self.change(event.change, now)
            except ModelError as error:
                raise InputError(event.file, event.where, "", str(error)) from None

        return happen

    # ---- objects ---------------------------------------------------------------------------------------------------

    def _happen(self, change: Change, now: int) -> None:
        if isinstance(change, ProxyMode) and change.mode != self.agents.mode:
            raise ModelError(f"kube-proxies do not change from {self.agents.mode} to {change.mode} while they run")
        before = self.state
        state, named, later = change.apply(before, self.seed)
        services = named if named is not None else changed_services(before, state)
        self.state = state
        self.agents.update(state, services)
        concerned: dict[Address, str] = {}
        told = set(services)
        if isinstance(change, LoseNode):
            concerned.update(self._lose(change.name))
            told |= _services_on(state, change.name)
        if named is None:
            concerned.update(self._network(before, state, now))
        self._services(before, state, services)
        for key in services:
            concerned.update(_endpoints_that_changed(before, state, key))
        if isinstance(change, PodsReady):
            # It takes nothing from any flow; what befalls flows now is still the doing of what went before.
            told, concerned = set(), {}
        self.happened.append(Happened(now, str(change), frozenset(told), concerned))
        if isinstance(change, RestartProxy):
            self._restart_proxies(change, now)
        if services:
            for name in self._nodes:
                self._schedule(name, services, now)
        for delay, following in later:
            self._at(now + delay, self._later(following))

    def _later(self, change: Change) -> _Action:
        def happen(now: int) -> None:
            self._happen(change, now)

        return happen

    def _services(self, before: ClusterState, state: ClusterState, services: Iterable[Key]) -> None:
        """Addresses that only rules know, and the routes that lead outsiders to them."""
        outside = False
        for key in services:
            old, new = before.service(*key), state.service(*key)
            if new is not None and new is not old:
                for address in (*new.cluster_ips, *new.external_ips):
                    self._place(address, -1)
                for ingress in new.ingress:
                    if ingress.ip is not None:
                        self._place(ingress.ip, -1)
            outside = outside or any(
                service is not None and bool(service.external_ips or service.ingress) for service in (old, new)
            )
        if outside:
            self.fabric.reconfigure(OUTSIDE, self.agents.outside())

    # ---- pods and nodes --------------------------------------------------------------------------------------------

    def _network(self, before: ClusterState, state: ClusterState, now: int) -> dict[Address, str]:
        """Pods and nodes that came and went; the addresses concerned, with the names they had."""
        concerned: dict[Address, str] = {}
        dirty: set[str] = set()
        fresh: list[PodState] = []
        for old, new in changed_pods(before, state).values():
            there = old is not None and str(old) in self._attached
            moved = old is not None and (new is None or new.ips != old.ips or new.node != old.node or new.finished)
            if old is not None:
                concerned.update(dict.fromkeys(old.ips, str(old)))
            if there and moved and old is not None:
                self.fabric.remove(str(old))
                del self._attached[str(old)]
                dirty.add(old.node or "")
            if new is not None and str(new) not in self._attached:
                fresh.append(new)
        added, gone = self._nodes_changed(before, state)
        wanted = {str(pod) for pod in self.agents.pods()}
        fresh = [pod for pod in fresh if str(pod) in wanted and not self._nodes[pod.node or ""].dead]
        dirty |= {pod.node or "" for pod in fresh}
        if added or gone:
            dirty |= self._nodes.keys()
            self.fabric.reconfigure(UNDERLAY, self.agents.underlay())
            self.fabric.reconfigure(OUTSIDE, self.agents.outside())
        for name in sorted(dirty & self._nodes.keys()):
            if not self._nodes[name].dead:
                self._reconfigure(name)
                self._addresses_changed(name, now)
        for pod in fresh:
            host = self.fabric.add(str(pod), self.agents.pod(pod.namespace, pod.name))
            self._attached[str(pod)] = pod
            for address in pod.ips:
                self._place(address, host)
                self.names[address] = str(pod)
        if fresh or added or gone:
            # The switch's ports are numbered by node: those behind one that went move up.
            for wire in self.agents.topology():
                ends = (wire.host_a, wire.interface_a), (wire.host_b, wire.interface_b)
                there = all(host in self.fabric.ids and not self._dead(host) for host, _ in ends)
                if there and self.fabric.wires.get(ends[0]) != ends[1]:
                    self.fabric.connect(*ends[0], *ends[1])
        return concerned

    def _dead(self, host: str) -> bool:
        node = self._nodes.get(host)
        return node is not None and node.dead

    def _nodes_changed(self, before: ClusterState, state: ClusterState) -> tuple[list[str], list[str]]:
        """Nodes that came and went; those whose labels changed make a full sync."""
        if before.nodes is state.nodes:
            return [], []
        added, gone = [], []
        for node in before.nodes:
            if state.node(node.name) is None:
                self.fabric.remove(node.name)
                del self._nodes[node.name]
                gone.append(node.name)
        for node in state.nodes:
            known = before.node(node.name)
            if known is None:
                host = self.fabric.add(node.name, self.agents.host(node.name))
                for address in (*node.addresses, *node.external_addresses):
                    self._place(address, host)
                self._add_proxy(node.name)
                added.append(node.name)
            else:
                self._nodes[node.name].proxy.node = node
                if known.labels != node.labels:
                    self._nodes[node.name].full = True
        return added, gone

    def _lose(self, name: str) -> dict[Address, str]:
        """A node and all its pods stop."""
        self._nodes[name].dead = True
        self.fabric.fail(name)
        concerned: dict[Address, str] = {}
        for pod in self.state.pods_on(name):
            if str(pod) in self._attached:
                self.fabric.fail(str(pod))
            concerned.update(dict.fromkeys(pod.ips, str(pod)))
        return concerned

    # ---- proxies ---------------------------------------------------------------------------------------------------

    def _schedule(self, name: str, services: Iterable[Key], now: int) -> None:
        """A change has reached the node's proxy. A sync that is waiting already takes it up with the rest."""
        node = self._nodes[name]
        node.pending |= set(services)
        if node.scheduled or node.dead:
            return
        delay = self.delays.of(name)
        time = now + delay.fixed + (node.chance.randrange(delay.jitter + 1) if delay.jitter else 0)
        node.scheduled = True
        if time == now:
            self._sync(name, now)
        else:
            self._at(time, lambda then: self._sync(name, then))

    def _sync(self, name: str, now: int) -> None:
        node = self._nodes.get(name)
        if node is None or node.dead or now < node.down_until:
            return
        node.scheduled = False
        pending, node.pending = node.pending, set()
        self._look_at_addresses(name, now)
        if node.full:
            node.full = False
            self._write(name, node.proxy.node_changed(node.proxy.node, now), now)
        else:
            self._write(name, node.proxy.sync(pending, now), now)

    def _restart_proxies(self, change: RestartProxy, now: int) -> None:
        for name, node in self._nodes.items():
            if node.dead or change.node not in ("*", name):
                continue
            node.down_until = now + change.down
            if change.down:
                self._at(node.down_until, self._started(name))
            else:
                self._started(name)(now)

    def _started(self, name: str) -> _Action:
        def start(now: int) -> None:
            node = self._nodes.get(name)
            if node is None or node.dead or now < node.down_until:
                return
            node.pending.clear()
            self._look_at_addresses(name, now)
            node.scheduled = node.full = False
            node.drains = now
            self._write(name, node.proxy.restart(now), now)

        return start

    def _addresses_changed(self, name: str, now: int) -> None:
        """Node ports are open at all addresses of a node: in IPVS mode the next sync of any reason takes up new ones."""
        node = self._nodes[name]
        if not isinstance(node.proxy, IpvsNodeProxy) or node.moved:
            return
        if set(self.agents.local_addresses(name)) == set(node.proxy.local_addresses):
            return
        node.moved = True
        self._at(now + SYNC_PERIOD - (now - node.synced) % SYNC_PERIOD, lambda then: self._sync_period(name, then))

    def _sync_period(self, name: str, now: int) -> None:
        node = self._nodes.get(name)
        if node is not None and node.moved and not node.dead and now >= node.down_until:
            self._look_at_addresses(name, now)
            node.full = False
            self._write(name, node.proxy.node_changed(node.proxy.node, now), now)

    def _look_at_addresses(self, name: str, now: int) -> None:
        """A sync begins: where the node's addresses have changed it is a full one."""
        node = self._nodes[name]
        node.synced = now
        if node.moved:
            node.moved = False
            node.full = True
            node.proxy.local_addresses = tuple(self.agents.local_addresses(name))

    def _write(self, name: str, syncs: Iterable[Sync], now: int) -> None:
        running = self.fabric.running(name)
        for sync in syncs:
            if sync.services is not None:
                running.balance(sync.services, now)
            running.fill(sync.ipsets)
            if sync.bound is not None:
                self._reconfigure(name)
            running.restore(sync.restore)
            for delete in sync.forget:
                running.delete_connections(delete, now)
        self._drain_later(name, now)

    def _reconfigure(self, name: str) -> None:
        """A node's network, as its agents have it now, but for what kube-proxy writes with a sync."""
        network, proxy = self.agents.network(name), self._nodes[name].proxy
        self.fabric.reconfigure(name, proxy.configured(network) if isinstance(proxy, IpvsNodeProxy) else network)

    def _drain_later(self, name: str, now: int) -> None:
        node = self._nodes[name]
        if isinstance(node.proxy, IpvsNodeProxy) and node.proxy.draining and not node.draining:
            node.draining = True
            self._at(now + DRAIN_PERIOD - (now - node.drains) % DRAIN_PERIOD, lambda then: self._drain(name, then))

    def _drain(self, name: str, now: int) -> None:
        node = self._nodes.get(name)
        if node is None or not isinstance(node.proxy, IpvsNodeProxy):
            return
        node.draining = False
        if not node.dead and now >= node.down_until:
            self._write(name, node.proxy.drain(), now)


def changed_services(before: ClusterState, after: ClusterState) -> frozenset[Key]:
    """The Services that differ, themselves or in their EndpointSlices; those that came and went too."""
    old = {(service.namespace, service.name): service for service in before.services}
    found: set[Key] = set()
    for service in after.services:
        key = (service.namespace, service.name)
        known = old.pop(key, None)
        if known is not service and known != service:
            found.add(key)
    found.update(old)
    for key in before.endpoints.keys() | after.endpoints.keys():
        slices, were = after.endpoints.get(key, ()), before.endpoints.get(key, ())
        if slices is not were and slices != were:
            found.add(key)
    return frozenset(found)


def _services_on(state: ClusterState, node: str) -> set[Key]:
    """The Services that have an endpoint on a node."""
    return {
        key
        for key, pieces in state.endpoints.items()
        if any(endpoint.node == node for piece in pieces for endpoint in piece.endpoints)
    }


def _endpoints_that_changed(before: ClusterState, after: ClusterState, key: Key) -> dict[Address, str]:
    """The addresses of endpoints that went or are in another condition, with their texts."""

    def entries(state: ClusterState) -> dict[str, object]:
        return {e.address: e for piece in state.endpoints.get(key, ()) for e in piece.endpoints}

    old, new = entries(before), entries(after)
    found: dict[Address, str] = {}
    for text, entry in old.items():
        if new.get(text) != entry:
            try:
                found[ip_address(text)] = text
            except ValueError:
                continue  # 10.0.00.01: no flow has this text
    return found
