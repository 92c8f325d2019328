"""A cluster that changes while packets walk: events at their times, and each node's kube-proxy a little later.

    timeline = Timeline(state, agents, fabric, events, SyncDelays.parse(["500ms", "node-2=2s+1s"]), seed=0)
    timeline.start(first_packet_ns)
    timeline.until(time_ns)       # everything that happens up to then has happened

What happens at one time happens in this order: the objects change, pods and their interfaces come and go at once, and
then the proxies whose delay is over write their rules and make the kernel forget stale connections.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from random import Random

from dataplane.agents.cloud.node_health import Outages
from dataplane.agents.cloud.opinions import Answer, Opinions
from dataplane.agents.kubeproxy.cleanup import cleanup, everything
from dataplane.agents.kubeproxy.health import LATE
from dataplane.agents.kubeproxy.ipvs.node_proxy import DRAIN_PERIOD, SYNC_PERIOD, Connections, IpvsNodeProxy
from dataplane.agents.kubeproxy.node_proxy import NodeProxy, Sync
from dataplane.agents.node import Agents
from dataplane.agents.underlay import OUTSIDE, UNDERLAY
from dataplane.cluster.changes import Change, PodsReady, running
from dataplane.cluster.endpoint_controller import changed_pods
from dataplane.cluster.events import Event
from dataplane.cluster.node_changes import LoseNode, ProxyMode, RestartProxy, ReturnNode
from dataplane.cluster.objects import Address, ClusterState, PodState
from dataplane.datapath.fabric import Fabric
from dataplane.datapath.ipvs_rows import begun
from dataplane.differences import changed_services, endpoints_that_changed, services_on
from dataplane.errors import InputError, ModelError
from dataplane.host.config import HostConfig
from dataplane.host.iptables import Ruleset
from dataplane.host.restore import Restore
from dataplane.sync_delay import SyncDelays

Key = tuple[str, str]
Place = Callable[[Address, int], None]
"""Told where an address lives from now on: the host's id, or -1 for an address that only rules know."""


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
    waiting_since: int = 0
    """When the first change came that the next sync takes up, ns."""
    late: bool = False
    """It has been waiting for so long that the proxy calls itself unhealthy."""
    full: bool = False
    """The next sync is a full one: the node's own object has changed."""
    down_until: int = 0
    """The proxy has stopped, and starts then."""
    dead: bool = False
    gone: bool = False
    """The proxy is no more; its rules may be there still."""
    cleaned: bool = False
    """They are not."""

    @property
    def idle(self) -> bool:
        """No proxy syncs here."""
        return self.dead or self.gone


_Action = Callable[[int], None]
# What balancers may find at any node, whatever Service they ask for.
CONCERN_ALL = (LoseNode, ReturnNode, RestartProxy, ProxyMode)


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
        self._gone = False
        self.state = running(state)
        agents.update(self.state, ())
        self._nodes: dict[str, _Node] = {}
        for node in state.nodes:
            self._add_proxy(node.name)
        for name in self.delays.nodes:
            if name not in self._nodes:
                raise ModelError(f"--sync-delay: no node {name!r}")
        self._opinions = Opinions(agents.cloud, seed)
        self._opinions.start()
        self._outside: HostConfig | None = None
        self._answers: set[int] = set()
        """of what is queued: the answers to balancers"""
        self.begun: Counter[tuple[Address, Address]] = Counter()
        """(balancer, node) -> connections that it was given before it was taken out"""
        self._attached = {str(pod): pod for pod in agents.pods() if str(pod) in fabric.ids}
        self.names: dict[Address, str] = {}
        """What the addresses of pods that came later are called."""

    def _add_proxy(self, name: str) -> None:
        node = self.state.node(name)
        proxy = self.agents.node_proxy(name)
        if isinstance(proxy, IpvsNodeProxy):
            proxy.connections = self._server_connections(name)
        self._nodes[name] = _Node(
            proxy, Random(f"{self.seed}/sync/{name}"), dead=node is not None and node.lost, gone=self._gone
        )
        # When the proxy was started nobody knows: some time within a minute.
        phase = Random(f"{self.seed}/phase/{name}").randrange(DRAIN_PERIOD)
        self._nodes[name].drains = self._nodes[name].synced = phase
        if self._gone and name in self.fabric.ids:
            if self.agents.mode != "iptables":
                raise ModelError(f"node {name} starts without a kube-proxy in a cluster of {self.agents.mode} mode")
            # A machine that starts while there is no proxy has no rules of one.
            self._nodes[name].cleaned = True
            self._rewrite(name, cleanup)

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
        """The times of what has not happened yet, in order; balancers that have not made up their minds do not count."""
        return sorted(time for time, order, _ in self._queue if order not in self._answers)

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
        if isinstance(change, ProxyMode) and change.mode not in ("none", self.agents.mode):
            raise ModelError(f"kube-proxies do not change from {self.agents.mode} to {change.mode} while they run")
        if isinstance(change, ProxyMode) and change.cleanup and self.agents.mode == "ipvs":
            raise ModelError(
                "cleanup of IPVS mode is not modelled; a proxy that goes without it leaves everything as it is"
            )
        before = self.state
        state, named, later = change.apply(before, self.seed)
        state = self.agents.assigned(state)
        services = named if named is not None else changed_services(before, state)
        self.state = state
        self.agents.update(state, services)
        concerned: dict[Address, str] = {}
        told = set(services)
        if isinstance(change, LoseNode):
            concerned.update(self._lose(change.name))
            told |= services_on(state, change.name)
        if isinstance(change, ReturnNode):
            concerned.update(self._return(change, before))
            told |= services_on(state, change.name)
        if named is None:
            concerned.update(self._network(before, state, now))
        self._services(before, state, services)
        for key in services:
            concerned.update(endpoints_that_changed(before, state, key))
        if isinstance(change, PodsReady):
            # It takes nothing from any flow; what befalls flows now is still the doing of what went before.
            told, concerned = set(), {}
        self.happened.append(Happened(now, str(change), frozenset(told), concerned))
        if isinstance(change, RestartProxy):
            self._restart_proxies(change, now)
        if isinstance(change, ProxyMode):
            self._proxy_mode(change, now)
        if isinstance(change, ReturnNode):
            node = self._nodes[change.name]
            node.scheduled = False
            if node.cleaned and not node.gone:
                self._install(change.name)
            self._schedule(change.name, services, now)
        if services:
            for name in self._nodes:
                self._schedule(name, services, now)
        everywhere = isinstance(change, CONCERN_ALL) or before.nodes is not state.nodes
        if everywhere:
            self._outages(now)
        self._ask(now, None if everywhere else set(services))
        found = [s for key in services for s in (before.service(*key), state.service(*key)) if s is not None]
        if everywhere or any(s.external_ips or s.ingress for s in found):
            self._balance()
        for delay, following in later:
            self._at(now + delay, self._later(following))

    def _later(self, change: Change) -> _Action:
        def happen(now: int) -> None:
            self._happen(change, now)

        return happen

    def _services(self, before: ClusterState, state: ClusterState, services: Iterable[Key]) -> None:
        """Addresses that only rules know."""
        for key in services:
            old, new = before.service(*key), state.service(*key)
            if new is not None and new is not old:
                balancers = self.agents.cloud.of(new)
                for address in (*new.cluster_ips, *new.external_ips, *balancers):
                    self._place(address, -1)

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
        returned = {node.name for node in before.nodes if node.lost} - {node.name for node in state.nodes if node.lost}
        dirty |= returned
        fresh += [
            pod
            for name in returned
            for pod in state.pods_on(name)
            if str(pod) not in self._attached and pod not in fresh
        ]
        wanted = {str(pod) for pod in self.agents.pods()}
        fresh = [pod for pod in fresh if str(pod) in wanted and not self._nodes[pod.node or ""].dead]
        dirty |= {pod.node or "" for pod in fresh}
        if added or gone:
            dirty |= self._nodes.keys()
            self.fabric.reconfigure(UNDERLAY, self.agents.underlay())
            self._outside = None
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
        if fresh or added or gone or returned:
            # The switch's ports are numbered by node: those behind one that went move up.
            for wire in self.agents.topology():
                ends = (wire.host_a, wire.interface_a), (wire.host_b, wire.interface_b)
                there = all(host in self.fabric.ids and not self._dead(host) for host, _ in ends)
                if there and self.fabric.wires.get(ends[0]) != ends[1]:
                    self.fabric.connect(*ends[0], *ends[1])
        for name in returned & self._nodes.keys():
            self.fabric.revive(name)  # the switch has a carrier again
        for pod in fresh:
            self.fabric.announce(str(pod))
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

    def _return(self, change: ReturnNode, before: ClusterState) -> dict[Address, str]:
        """A node goes on, and its pods with it; one that has been started anew is another host, without pods yet."""
        name = change.name
        self._nodes[name].dead = False
        there = [pod for pod in before.pods_on(name) if str(pod) in self._attached]
        if change.rebooted:
            for pod in there:
                self.fabric.remove(str(pod))
                del self._attached[str(pod)]
            self.fabric.remove(name)
            host = self.fabric.add(name, self.agents.host(name))
            self._add_proxy(name)
            node = self.agents.node(name)
            for address in (*node.addresses, *node.external_addresses):
                self._place(address, host)
        else:
            for host_name in (name, *map(str, there)):
                self.fabric.revive(host_name)
        return {ip: str(pod) for pod in there for ip in pod.ips}

    # ---- proxies ---------------------------------------------------------------------------------------------------

    def _schedule(self, name: str, services: Iterable[Key], now: int) -> None:
        """A change has reached the node's proxy. A sync that is waiting already takes it up with the rest."""
        node = self._nodes[name]
        node.pending |= set(services)
        if node.scheduled or node.idle:
            return
        delay = self.delays.of(name)
        time = now + delay.fixed + (node.chance.randrange(delay.jitter + 1) if delay.jitter else 0)
        node.scheduled = True
        node.waiting_since = now
        if time == now:
            self._sync(name, now)
        else:
            if time - now > LATE:
                self._at(now + LATE, lambda then: self._proxy_is_late(name, now, then))
            self._at(time, lambda then: self._sync(name, then))

    def _proxy_is_late(self, name: str, since: int, now: int) -> None:
        node = self._nodes.get(name)
        if node is not None and node.scheduled and node.waiting_since == since:
            node.late = True
            self._outages(now)
            self._ask(now, None, {name})

    def _sync(self, name: str, now: int) -> None:
        node = self._nodes.get(name)
        if node is None or node.idle or now < node.down_until:
            return
        node.scheduled = False
        was_late, node.late = node.late, False
        pending, node.pending = node.pending, set()
        self._look_at_addresses(name, now)
        if node.full:
            node.full = False
            self._write(name, node.proxy.node_changed(node.proxy.node, now), now)
        else:
            self._write(name, node.proxy.sync(pending, now), now)
        if was_late:
            self._outages(now)
        self._ask(now, None if was_late else pending, {name})

    def _restart_proxies(self, change: RestartProxy, now: int) -> None:
        for name, node in self._nodes.items():
            if node.idle or change.node not in ("*", name):
                continue
            node.down_until = now + change.down
            if change.down:
                self._at(node.down_until, self._started(name))
            else:
                self._started(name)(now)

    def _started(self, name: str) -> _Action:
        def start(now: int) -> None:
            node = self._nodes.get(name)
            if node is None or node.idle or now < node.down_until:
                return
            node.pending.clear()
            self._look_at_addresses(name, now)
            node.scheduled = node.full = node.late = False
            node.drains = now
            self._write(name, node.proxy.restart(now), now)
            self._outages(now)
            self._ask(now, None, {name})

        return start

    def _proxy_mode(self, change: ProxyMode, now: int) -> None:
        """Every proxy goes, or starts where there was none."""
        self._gone = change.mode == "none"
        for name, node in self._nodes.items():
            started, node.gone = node.gone and not self._gone, self._gone
            if node.dead:
                continue
            if started and node.cleaned:
                self._install(name)
            elif started:
                self._started(name)(now)
            elif change.cleanup and not node.cleaned:
                node.cleaned = True
                self._rewrite(name, cleanup)

    def _install(self, name: str) -> None:
        """A proxy starts where none has written anything, or what it had written was taken away."""
        node = self._nodes[name]
        self._rewrite(name, partial(self._everything, name))
        node.proxy = self.agents.node_proxy(name)
        node.pending.clear()
        node.scheduled = node.full = node.cleaned = False

    def _everything(self, name: str, ruleset: Ruleset) -> Restore:
        return everything(self.agents.firewall(name, 4 if ruleset.family == 4 else 6), ruleset)

    def _rewrite(self, name: str, made: Callable[[Ruleset], Restore]) -> None:
        running = self.fabric.running(name)
        for family in (4, 6):
            ruleset = running.ruleset(family)
            if ruleset is not None:
                running.restore(made(ruleset))

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

    # ---- balancers -------------------------------------------------------------------------------------------------

    def _ask(self, now: int, services: Set[Key] | None, nodes: Set[str] | None = None) -> None:
        """Balancers ask nodes: what they learn by it they learn when they have asked often enough."""
        late = {name for name in (self._nodes if nodes is None else nodes) if self._nodes[name].scheduled}
        for due, answer in self._opinions.ask(now, late, services, nodes):
            self._answers.add(self._order)
            self._at(due, self._answered(answer))

    def _outages(self, now: int) -> None:
        dead = {name for name, node in self._nodes.items() if node.dead}
        silent = {name for name, node in self._nodes.items() if node.gone or now < node.down_until}
        late = {name for name, node in self._nodes.items() if node.late}
        self.agents.cloud.outages = Outages(dead, silent, late)

    def _answered(self, answer: Answer) -> _Action:
        def happen(now: int) -> None:
            told = self._opinions.settle(answer)
            if told:
                self.happened.append(Happened(now, told, frozenset({answer.service}), {}))
                self._balance()

        return happen

    def _balance(self) -> None:
        """The outside host learns which nodes its balancers send to."""
        before, config = self._outside, self.agents.outside()
        if before is not None and config == before:
            return
        self._outside = config
        running = self.fabric.running(OUTSIDE)
        if config.ipvs != running.config.ipvs:
            for service, server, count in begun(running.host.balancer, running.config):
                kept = next((s for s in config.ipvs if s.key == service.key), None)
                if kept is None or server.endpoint not in {s.endpoint for s in kept.servers}:
                    assert service.address is not None
                    self.begun[service.address, server.address] += count
            running.balance(config.ipvs, self.fabric.walk.now)
        for restore in self.agents.balancers().restores() if config.iptables is not None else ():
            running.restore(restore)
        self.fabric.reconfigure(OUTSIDE, config)
