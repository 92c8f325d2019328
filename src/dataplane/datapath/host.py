"""One Linux host: frames in, frames out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from dataplane._fast.batch import PacketBatch
from dataplane._fast.chance import Choice
from dataplane._fast.reason import Reason
from dataplane._fast.reassembly import ReassemblyKind
from dataplane._fast.walk import Walk
from dataplane.datapath.compile import Listening, compile_host
from dataplane.datapath.log import Logged
from dataplane.datapath.reconfigure import reconfigure
from dataplane.datapath.running_host import RunningHost
from dataplane.errors import ModelError
from dataplane.host import ipset
from dataplane.host.config import HostConfig
from dataplane.host.conntrack_delete import ConntrackDelete, ConntrackReconcile
from dataplane.host.ipvs import VirtualService, changed
from dataplane.host.restore import Restore

if TYPE_CHECKING:
    from dataplane.datapath.connections import Connections

LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101


class InterfaceCounters(NamedTuple):
    """What `ip -statistics link` counts of an interface: packets and bytes (link-layer header included)."""

    rx_packets: int
    rx_bytes: int
    rx_errors: int
    rx_dropped: int
    tx_packets: int
    tx_bytes: int
    tx_errors: int
    tx_dropped: int


class ReassemblyCounters(NamedTuple):
    """What waits to be put together (/proc/net/sockstat, FRAG) and what became of the rest (nstat, Reasm)."""

    waiting: int
    """datagrams that lack a fragment"""
    memory: int
    """bytes that they take, as the kernel charges them"""
    completed: int
    failed: int
    timed_out: int
    """of the failed ones"""


class Host:
    """One Linux network namespace, configured by a HostConfig, driven by frames and by time.

    The clock is the packets' timestamps in ns; it never goes back: an earlier time counts as now. seed: of the host's
    random choices. choices: recorded choices that are taken before the generator's, by kind. listening: see Listening.
    """

    def __init__(
        self,
        config: HostConfig,
        seed: int = 0,
        *,
        choices: Mapping[Choice, Iterable[int]] | None = None,
        listening: Listening = False,
    ) -> None:
        compiled = compile_host(config, seed=seed, listening=listening, choices=choices)
        self.config = config
        self.unmodelled = compiled.unmodelled
        self._compiled = compiled.host
        self._running = RunningHost(compiled, config, seed)
        self._slots = self._running.slots
        self._walk = Walk()
        self._id = self._walk.add(compiled.host)
        self._walk.keep_emitted = True
        self._wire_veth_pairs()

    def _wire_veth_pairs(self) -> None:
        """Both ends of a veth pair may be in this namespace."""
        by_index = {link.index: link for link in self.config.links}
        for link in self.config.links:
            peer = by_index.get(link.peer_index or 0)
            if link.kind == "veth" and link.peer_netns is None and peer is not None and link.index < peer.index:
                self._walk.connect(self._id, self._slots[link.name], self._id, self._slots[peer.name])

    def _slot(self, interface: str) -> int:
        if interface not in self._slots:
            raise ModelError(f"no interface {interface!r}; there are {', '.join(self._slots)}")
        return self._slots[interface]

    def _out(self) -> list[tuple[str, bytes]]:
        batch, _, _ = self._walk.emitted()
        names = self._compiled.interface_names
        return [(names[batch.interface[i]], batch.frame(i)) for i in range(len(batch))]

    def receive(self, frame: bytes, interface: str, time_ns: int = 0) -> list[tuple[str, bytes]]:
        """Let a frame arrive; give the frames that leave, in order, as (interface, frame).

        ModelError when there is no such interface. A packet that is not as it should be never raises: see drops().
        """
        batch = PacketBatch.from_frames([frame], times=[time_ns])
        self._walk.receive(self._id, self._slot(interface), batch)
        return self._out()

    def send(self, packet: bytes, time_ns: int = 0) -> list[tuple[str, bytes]]:
        """Let the host send an IP packet of its own, as through a raw socket with IP_HDRINCL; the frames that leave."""
        batch = PacketBatch.from_frames([packet], times=[time_ns], link_type=LINKTYPE_RAW)
        batch.decode()
        self._walk.send(self._id, batch)
        return self._out()

    def advance(self, time_ns: int) -> list[tuple[str, bytes]]:
        """Let time pass until `time_ns`; what timers send: retries, ICMP errors for what was never resolved."""
        self._walk.advance(time_ns)
        return self._out()

    def receive_batch(self, batch: PacketBatch, interface: str) -> PacketBatch:
        """Let the frames of a batch arrive at one interface, in order, each at its own time.

        The batch's bytes are rewritten on their way; `verdict` and `reason` of each row say what became of it. Gives
        the frames that leave, in order; their `interface` indexes `interfaces`.
        """
        self._walk.receive(self._id, self._slot(interface), batch)
        emitted: PacketBatch = self._walk.emitted()[0]
        return emitted

    @property
    def interfaces(self) -> tuple[str, ...]:
        """Interface names, by the numbers that batches use."""
        names: tuple[str, ...] = self._compiled.interface_names
        return names

    def iptables_save(self, counters: bool = True) -> str:
        """The IPv4 rules as `iptables-save`, or with counters `iptables-save -c`, prints them; "" without rules."""
        return self._save(4, counters)

    def ip6tables_save(self, counters: bool = True) -> str:
        """The IPv6 rules as `ip6tables-save` prints them."""
        return self._save(6, counters)

    def ipset_save(self) -> str:
        """The sets as `ipset save` prints them, with the members, counters and timeouts of now."""
        return ipset.text(self._running.ipsets(self.now))

    def _save(self, family: int, counters: bool) -> str:
        ruleset = self._running.ruleset(family)
        return "" if ruleset is None else ruleset.text(counters=counters)

    def restore(self, addition: str, family: int = 4) -> None:
        """Change the rules as `iptables-restore --noflush` does, now: chains that the text declares are flushed and
        filled, with counters at 0; all others go on counting, and connections stay as they were translated.

        DumpError where the kernel would refuse it; ModelError where the host has no rules of the family.
        """
        self._running.restore(Restore.parse(addition, family))

    def reconfigure(self, config: HostConfig) -> None:
        """Give the host other links, addresses, routes, neighbours and forwarding entries, now, as `ip` and `bridge`
        would, and other virtual services as `ipvsadm` would (see `balance`); what does not differ goes on as it was. Rules
        are changed by `restore`."""
        self.unmodelled = (*self.unmodelled, *reconfigure(self._running, config))
        self.balance(config.ipvs)

    def balance(self, services: Iterable[VirtualService]) -> None:
        """Give the host these virtual services and servers, now, as `ipvsadm` would: what is new is added in the order
        given, what is gone is removed; connections and counters stay, but for connections of removed servers where
        net.ipv4.vs.expire_nodest_conn says so."""
        self._running.balance(tuple(services), self._walk.now)
        self.config = self._running.config

    def ipvsadm_restore(self, commands: str) -> None:
        """Do what `ipvsadm --restore` does with these commands (-A -E -D -C -a -e -d), one after the other. DumpError
        names a line that cannot be done; those before it are done."""
        for services in changed(self.config.ipvs or (), commands):
            self.balance(services)

    def ipvsadm(self, words: str) -> str:
        """What `ipvsadm` prints now for "-Ln", "-Ln --stats", "-Ln --stats --exact" or "-Lnc". ModelError for others."""
        from dataplane.datapath.ipvs_rows import ipvsadm

        return ipvsadm(self._compiled.balancer, self._running.config, words, self._walk.now)

    def delete_connections(self, delete: ConntrackDelete | ConntrackReconcile) -> int:
        """Forget connections, as `conntrack -D` does; how many there were."""
        return self._running.delete_connections(delete, self._walk.now)

    def connections(self) -> Connections:
        """The connections that are tracked now, as `conntrack -L -o extended` lists them."""
        from dataplane.datapath.connections import connections

        return connections(self._compiled, self._walk.now)

    def counters(self) -> dict[str, InterfaceCounters]:
        """By interface."""
        return {name: InterfaceCounters(*self._compiled.interface_counters(slot)) for name, slot in self._slots.items()}

    def reassembly(self) -> dict[ReassemblyKind, ReassemblyCounters]:
        """By the place where fragments wait."""
        kinds = (kind for kind in ReassemblyKind if kind is not ReassemblyKind.REASSEMBLY_COUNT)
        return {kind: ReassemblyCounters(*self._compiled.fragments(kind)) for kind in kinds}

    def drops(self) -> dict[Reason, int]:
        """Packets dropped, by reason."""
        drops: dict[Reason, int] = self._compiled.drops()
        return drops

    def logged(self) -> tuple[Logged, ...]:
        """What LOG, NFLOG and TRACE wrote down since the last call, in order. The host keeps 65,536 of them and 16 MiB of
        their packets until then; those above are counted in `log_lost` and not kept."""
        return self._running.log.take()

    @property
    def log_lost(self) -> int:
        """Packets that LOG, NFLOG and TRACE could not write down because nobody had read the log for too long."""
        self._running.log.collect()
        return self._running.log.lost

    def refused(self) -> dict[str, int]:
        """Entries that a full table did not take, by table: frames to addresses that were not learnt are flooded, packets
        of IPVS connections that were not made are dropped. What else a full table makes of packets is told by `drops`."""
        balancer = self._compiled.balancer
        ipvs = {"ipvs connections": balancer.refused} if balancer is not None else {}
        return dict(zip(("bridge fdb", "vxlan fdb"), self._compiled.refused(), strict=True)) | ipvs

    @property
    def now(self) -> int:
        """The host's clock, ns."""
        now: int = self._walk.now
        return now
