"""A compiled host that is changed while it runs: connections, neighbours, FDB and counters stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dataplane._fast.conntrack_delete import delete_connections
from dataplane._fast.host import CompiledHost
from dataplane.datapath.compile import Compiled
from dataplane.datapath.compile_ipvs import balancer, key_of, rebalance, register_ipvs, settle
from dataplane.datapath.compile_sets import Sets, members_now, refill, refused_sets
from dataplane.datapath.hooks import counted
from dataplane.datapath.log import ChainRules, HostLog
from dataplane.datapath.running_rules import NAMES_INTERFACE, RunningRules
from dataplane.errors import ModelError
from dataplane.host.config import HostConfig, IpSet
from dataplane.host.conntrack_delete import ConntrackDelete, ConntrackReconcile
from dataplane.host.iptables import BUILT_IN, Ruleset
from dataplane.host.ipvs import RealServer, VirtualService
from dataplane.host.restore import Restore


class RunningHost:
    """A host, its configuration, and what it has become since it was compiled."""

    def __init__(self, compiled: Compiled, config: HostConfig, seed: int = 0) -> None:
        self._seed = seed
        self.host: CompiledHost = compiled.host
        self.config = config
        self.slots = dict(compiled.slots)
        self._rules: dict[int, RunningRules] = {}
        self._names_interfaces: dict[int, bool] = {}
        self.log = HostLog(self.host, self._chain)

    def restore(self, restore: Restore) -> None:
        """`iptables-restore --noflush`, or `ip6tables-restore` by the family. DumpError as RunningRules.restore;
        ModelError where the host has no rules of the family."""
        if restore:
            self.log.collect()
            self.rules(restore.family).restore(restore)

    def delete_connections(self, delete: ConntrackDelete | ConntrackReconcile, now: int) -> int:
        """Forget connections, as `conntrack -D` makes the kernel do at `now`, ns; how many there were."""
        if self.host.connections is None:
            return 0
        return delete_connections(self.host.connections, now, delete.protocol, delete.family, delete.stale)

    def balance(self, services: tuple[VirtualService, ...], now: int = 0) -> None:
        """Change the virtual services and their servers as `ipvsadm` would at `now`, ns. Connections and counters stay,
        but for connections of servers that are gone where net.ipv4.vs.expire_nodest_conn says so."""
        engine = self.host.balancer
        if engine is None:
            if not services:
                return
            engine = balancer(self.config.with_(ipvs=()), self._seed)
            self.host.balancing(engine)
        register_ipvs(self.host, services)
        engine.expire(now)
        rebalance(engine, self.config.ipvs, services)
        engine.expire(now)
        self.config = self.config.with_(ipvs=services)

    def settle(self, config: HostConfig) -> None:
        """Give IPVS the sysctls and timeouts of another configuration."""
        if self.host.balancer is not None:
            settle(self.host.balancer, config)

    def server_connections(self, service: VirtualService, server: RealServer, now: int) -> int:
        """How many connections a server has at `now`, ns: ActiveConn and InActConn of `ipvsadm -L`."""
        if self.host.balancer is None:
            return 0
        row = self.host.balancer.server_row(key_of(service), server.address, server.port, now)
        return int(row[0]) + int(row[1])

    def fill(self, sets: Iterable[IpSet]) -> None:
        """Give sets that the host has these members, now, as `ipset` would. ModelError for a set that it does not have."""
        compiled = next((rules.sets for rules in (self.host.rules4, self.host.rules6) if rules and rules.sets), None)
        wanted = {value.name: value for value in sets}
        known = {value.name for value in self.config.ipsets}
        for name in wanted:
            if name not in known or compiled is None:
                raise ModelError(f"host {self.config.name!r} has no ipset {name!r} that a rule could ask")
        for at, value in enumerate(self.config.ipsets):
            if value.name in wanted and compiled is not None:
                refill(compiled, at, value, wanted[value.name])
        self.config = self.config.with_(ipsets=tuple(wanted.get(value.name, value) for value in self.config.ipsets))

    def ipsets(self, now: int) -> tuple[IpSet, ...]:
        """The host's sets with the members that they have at `now`, ns."""
        compiled = next((rules.sets for rules in (self.host.rules4, self.host.rules6) if rules and rules.sets), None)
        return self.config.ipsets if compiled is None else members_now(compiled, self.config.ipsets, now)

    def rules(self, family: int) -> RunningRules:
        """The host's rules of one family, ready to be changed."""
        running = self._rules.get(family)
        if running is None:
            ruleset = self.config.iptables if family == 4 else self.config.ip6tables
            compiled = self.host.rules4 if family == 4 else self.host.rules6
            if ruleset is None or compiled is None:
                raise ModelError(f"host {self.config.name!r} has no {'iptables' if family == 4 else 'ip6tables'} rules")
            sets = None
            if compiled.sets is not None:
                index = {value.name: at for at, value in enumerate(self.config.ipsets)}
                sets = Sets(compiled.sets, index, refused_sets(self.config.ipsets))
            running = self._rules[family] = RunningRules(compiled, ruleset, self.slots, sets)
        return running

    def interfaces_changed(self, names: Sequence[str]) -> None:
        """Interfaces of these names came or went: rules that name interfaces are looked at again."""
        if not names:
            return
        self.log.collect()
        for family, ruleset in ((4, self.config.iptables), (6, self.config.ip6tables)):
            if ruleset is None:
                continue
            if family not in self._names_interfaces:
                self._names_interfaces[family] = any(
                    NAMES_INTERFACE.search(rule.text) is not None for _, _, rule in ruleset.rules()
                )
            if family in self._rules or self._names_interfaces[family]:
                self.rules(family).interfaces_changed(self.slots, names)

    def _chain(self, family: int, index: int) -> ChainRules:
        """A compiled chain, by its index, as it is now."""
        running = self._rules.get(family)
        if running is not None:
            return running.chain_at(index)
        ruleset = self.config.iptables if family == 4 else self.config.ip6tables
        compiled = self.host.rules4 if family == 4 else self.host.rules6
        assert ruleset is not None, "rules have told something"
        assert compiled is not None, "rules have told something"
        table, name = compiled.program.chain_names[index]
        first = int(compiled.program.chains[index]["first_rule"])
        found = next(one for each in ruleset.tables if each.name == table for one in each.chains if one.name == name)
        return ChainRules(table, name, first, found.rules, name in BUILT_IN[table])

    def ruleset(self, family: int) -> Ruleset | None:
        """The rules of a family with their counters as they are now; None without."""
        running = self._rules.get(family)
        return counted(self.host, self.config, family) if running is None else running.ruleset()
