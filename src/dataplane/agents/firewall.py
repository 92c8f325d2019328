"""The iptables of one host and one family while its agents write them.

Each agent acts on what it finds, as the true programs do with the iptables commands: a chain is created when it is
missing, a jump is inserted at the head or appended at the end when the same rule is not there yet. So the order of
the jumps follows from the order in which the agents start, and need not be stated anywhere.

A rule is the text that iptables-save prints behind "-A CHAIN ".
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from dataplane.cluster.objects import Family
from dataplane.host.iptables import Chain, Rule, Ruleset, Table

# In the order in which iptables-save prints the tables (nft back end), each with its built-in chains in hook order.
BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}


@contextmanager
def without_collection() -> Iterator[None]:
    """Keep the cycle collector away while hundreds of thousands of small objects are made that stay: it would walk
    all of them again and again (a third of the time), and find nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Firewall:
    """tables: table -> chain -> its rules in order. Built-in chains are there from the first use of their table."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.tables: dict[str, dict[str, Sequence[str]]] = {}

    def chains(self, table: str) -> dict[str, Sequence[str]]:
        found = self.tables.get(table)
        if found is None:
            found = self.tables[table] = {chain: [] for chain in BUILT_IN[table]}
        return found

    def create(self, table: str, chain: str) -> None:
        """-N, where the chain is missing."""
        self.chains(table).setdefault(chain, [])

    def insert(self, table: str, chain: str, rule: str) -> None:
        """-I, where -C does not find the rule."""
        rules = self.chains(table)[chain]
        if rule not in rules:
            self.chains(table)[chain] = [rule, *rules]

    def append(self, table: str, chain: str, rule: str) -> None:
        """-A, where -C does not find the rule."""
        rules = self.chains(table).setdefault(chain, [])
        if rule not in rules:
            self.chains(table)[chain] = [*rules, rule]

    def replace(self, table: str, chain: str, rules: Sequence[str]) -> None:
        """What iptables-restore --noflush does with a chain that it is told to fill: flush it, then fill it."""
        self.chains(table)[chain] = rules

    def listed(self) -> Iterable[tuple[str, list[tuple[str, Sequence[str]]]]]:
        """The tables as iptables-save prints them: built-in chains in hook order, then the others by name."""
        for table, built_in in BUILT_IN.items():
            if table in self.tables:
                chains = self.tables[table]
                others = sorted(chains.keys() - set(built_in))
                yield table, [(chain, chains[chain]) for chain in (*built_in, *others)]

    def save(self) -> str:
        """The text of iptables-save, without its time stamps and with all counters 0."""
        lines: list[str] = []
        with without_collection():
            for table, chains in self.listed():
                lines.append(f"*{table}")
                lines += [f":{chain} {'ACCEPT' if chain in BUILT_IN[table] else '-'} [0:0]" for chain, _ in chains]
                for chain, rules in chains:
                    head = f"-A {chain} "
                    lines += [head + rule for rule in rules]
                lines.append("COMMIT")
        return "\n".join(lines) + "\n" if lines else ""

    def ruleset(self) -> Ruleset | None:
        """The same as values; the rules are not looked at. None where there is no table."""
        if not self.tables:
            return None
        with without_collection():
            tables = tuple(
                Table(
                    table,
                    tuple(
                        Chain(chain, tuple(map(Rule.of, rules)), "ACCEPT" if chain in BUILT_IN[table] else "")
                        for chain, rules in chains
                    ),
                )
                for table, chains in self.listed()
            )
        return Ruleset(self.family, tables)
