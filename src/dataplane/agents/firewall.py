"""The iptables of one host and one family while its agents write them.

Each agent acts on what it finds, as the true programs do with the iptables commands: a chain is created when it is
missing, a jump is inserted at the head or appended at the end when the same rule is not there yet. So the order of
the jumps follows from the order in which the agents start, and need not be stated anywhere.

A rule is the text that iptables-save prints behind "-A CHAIN ".
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dataplane.cluster.objects import Family
from dataplane.host.iptables import Chain, Rule, Ruleset, Table

# In the order in which iptables-save prints the tables (nft back end), each with its built-in chains in hook order.
BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "raw": ("PREROUTING", "OUTPUT"),
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


class Rules:
    """The rules of one chain, never changed. Many nodes hold the same object where they have the same rules, so the
    values of the waist are made of it once."""

    __slots__ = ("_chain", "texts")

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self.texts = texts
        self._chain: Chain | None = None

    def chain(self, name: str, policy: str) -> Chain:
        """The same as a chain of the waist, which has one name wherever it stands."""
        if self._chain is None:
            self._chain = Chain(name, tuple(map(Rule, self.texts)), policy)
        return self._chain


class Firewall:
    """tables: table -> chain -> its rules. Built-in chains are there from the first use of their table."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.tables: dict[str, dict[str, Rules]] = {}

    def chains(self, table: str) -> dict[str, Rules]:
        found = self.tables.get(table)
        if found is None:
            found = self.tables[table] = {chain: Rules() for chain in BUILT_IN[table]}
        return found

    def create(self, table: str, chain: str) -> None:
        """-N, where the chain is missing."""
        self.chains(table).setdefault(chain, Rules())

    def insert(self, table: str, chain: str, rule: str) -> None:
        """-I, where -C does not find the rule."""
        texts = self.chains(table)[chain].texts
        if rule not in texts:
            self.replace(table, chain, [rule, *texts])

    def append(self, table: str, chain: str, rule: str) -> None:
        """-A, where -C does not find the rule."""
        texts = self.chains(table)[chain].texts
        if rule not in texts:
            self.replace(table, chain, [*texts, rule])

    def replace(self, table: str, chain: str, texts: Sequence[str]) -> None:
        """What iptables-restore --noflush does with a chain that it is told to fill: flush it, then fill it."""
        self.chains(table)[chain] = Rules(texts)

    def _listed(self, table: str) -> Iterator[tuple[str, str, Rules]]:
        """(chain, policy, rules) in the order of iptables-save: built-in chains by hook, then the others by name."""
        chains = self.tables[table]
        for chain in BUILT_IN[table]:
            yield chain, "ACCEPT", chains[chain]
        for chain in sorted(chains.keys() - set(BUILT_IN[table])):
            yield chain, "", chains[chain]

    def ruleset(self) -> Ruleset:
        """The rules as the waist has them, with all counters 0. No rule is parsed here."""
        with without_collection():
            tables = [
                Table(table, tuple([rules.chain(chain, policy) for chain, policy, rules in self._listed(table)]))
                for table in BUILT_IN
                if table in self.tables
            ]
        return Ruleset(self.family, tuple(tables))
