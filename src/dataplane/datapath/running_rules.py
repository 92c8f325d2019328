"""The rules of a running host while they change: what `iptables-restore --noflush` does to a kernel that counts on.

A chain that is rewritten gets new rules with counters at 0; all others keep theirs, and where they stand. Rules that a
rewritten chain had before are not compiled again, so a change costs what it changes and a copy of the chains that it
touches. What several rules share by name (`recent`, `hashlimit`) outlives a rewriting as long as any rule uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np

from dataplane._fast.packet import Field
from dataplane._fast.rules import (
    OP_DTYPE,
    RULE_DTYPE,
    TARGET_DTYPE,
    CompiledRules,
)
from dataplane._fast.ruleset import OpKind, TargetKind
from dataplane.datapath.compile_rules import HOOKS, POLICIES, SHORTEST_RUN, TABLES, Compiler
from dataplane.datapath.compile_sets import Sets
from dataplane.datapath.growing_rows import Rows
from dataplane.datapath.log import ChainRules
from dataplane.errors import DumpError
from dataplane.host.iptables import BUILT_IN, Chain, Rule, Ruleset, Table
from dataplane.host.iptables_backend import DEEPEST
from dataplane.host.iptables_check import TOO_DEEP
from dataplane.host.restore import Restore
from dataplane.host.xtables.declare import Refused
from dataplane.host.xtables.predicate import ANY, Shared

Key = tuple[str, str]  # table, chain
# Tests whose words are constants, whose first word is where these stand in the pool, and the last a place in the state.
_PLAIN = (int(OpKind.OP_WORD), int(OpKind.OP_HEADER), int(OpKind.OP_PAYLOAD))
# Tests that remember by themselves: a rewritten rule begins anew.
_OWN_MEMORY = tuple(map(int, (OpKind.OP_STATISTIC_NTH, OpKind.OP_LIMIT, OpKind.OP_NFT_LIMIT, OpKind.OP_CONNLIMIT)))
_JUMPS = (int(TargetKind.TARGET_JUMP), int(TargetKind.TARGET_GOTO))
NAMES_INTERFACE = re.compile(r"(?:^|\s)(?:-i|-o|--physdev-in|--physdev-out)\s+(\S+)")


class RunningRules:
    """The rules of one host and family. `restore` changes them; the compiled rules go on with the new rows.

    slots: of the host's interfaces, by name. sets: the host's.
    """

    def __init__(
        self, compiled: CompiledRules, ruleset: Ruleset, slots: Mapping[str, int], sets: Sets | None = None
    ) -> None:
        program = compiled.program
        self.compiled = compiled
        self.family = ruleset.family
        self.backend = ruleset.backend
        self.slots = slots
        self.sets = sets
        self._before = ruleset
        self._rules = Rows(program.rules[: program.rule_count])
        self._counters = Rows(compiled.counters)
        self._ops, self._pool, self._targets = Rows(program.ops), Rows(program.pool), Rows(program.targets)
        self._runs, self._keys = Rows(program.runs), Rows(program.keys)
        self._state = Rows(compiled.state)
        self._chains, self._policies = Rows(program.chains[: program.chain_count]), Rows(compiled.policies)
        self._tables = program.tables.copy()
        self._depth = program.depth
        # The counters of a dump go on from where they were.
        self._numbers: dict[Key, int] = {name: at for at, name in enumerate(program.chain_names)}
        self._texts: dict[Key, Sequence[str]] = {}
        self._known: dict[Key, Chain] = {}
        for table in ruleset.tables:
            for chain in table.chains:
                self._known[table.name, chain.name] = chain
                first = int(program.chains[self._numbers[table.name, chain.name]]["first_rule"])
                if any(rule.packets or rule.bytes for rule in chain.rules):
                    self._counters.array[first : first + len(chain.rules)] += np.array(
                        [(rule.packets, rule.bytes) for rule in chain.rules], np.uint64
                    )
                if chain.packets or chain.bytes:
                    number = self._numbers[table.name, chain.name]
                    self._policies.array[number] += np.array((chain.packets, chain.bytes), np.uint64)
        rules = self._rules.array[: self._rules.used]
        jumps = np.isin(rules["target"], _JUMPS)
        self._jumped = Rows(np.bincount(rules["argument"][jumps], minlength=program.chain_count))
        self._heights = Rows(np.zeros(program.chain_count, np.int32))
        self._measure()
        names = [name for name, *_ in program.recents]
        self._recents: dict[str, tuple[int, int]] = {
            str(name): (at, stamps) for at, (name, stamps, *_) in enumerate(program.recents)
        }
        ops = program.ops[program.ops["kind"] == OpKind.OP_RECENT]
        lists = program.state[ops["c"]].astype(np.int64) if len(ops) else np.zeros(0, np.int64)
        self._recent_uses = np.bincount(lists, minlength=len(names)).tolist()
        self._recent_idle: list[int] = []
        self._hashlimits = {str(name): at for at, (name, _) in enumerate(program.hashlimits)}
        self._conncounts = program.conncounts
        self._new_recents: list[tuple[int, str, int, int, int, int, int]] = []
        self._new_hashlimits: list[tuple[int, tuple[int, ...]]] = []
        self._forgotten: list[int] = []
        self._forgetful = bool(np.isin(program.ops["kind"], _OWN_MEMORY).any())
        self._recent_ops = bool(len(ops))
        self._by_interface: dict[Key, set[str]] | None = None
        # Built-in chains whose policy has no counters.
        self._uncounted = {
            (table.name, chain.name)
            for table in ruleset.tables
            for chain in table.chains
            if chain.policy and not chain.counted
        }
        self._adopt()

    # ---- reading ---------------------------------------------------------------------------------------------------

    def chain(self, table: str, chain: str) -> Sequence[str] | None:
        """The rules of a chain; None where there is none."""
        key = (table, chain)
        if key not in self._numbers:
            return None
        texts = self._texts.get(key)
        if texts is None:
            texts = self._texts[key] = [rule.text for rule in self._known[key].rules]
        return texts

    def chain_at(self, number: int) -> ChainRules:
        """A chain by its number."""
        table, name = next(key for key, at in self._numbers.items() if at == number)
        rules = tuple(Rule.of(text) for text in self.chain(table, name) or ())
        first = int(self._chains.array[number]["first_rule"])
        return ChainRules(table, name, first, rules, name in BUILT_IN[table])

    def ruleset(self) -> Ruleset:
        """The rules and their counters as they are now: built-in chains by hook, then the others by name."""
        by_table: dict[str, list[str]] = {table.name: [] for table in self._before.tables}
        for table, chain in self._numbers:
            by_table[table].append(chain)
        tables = []
        for before in self._before.tables:
            built_in = BUILT_IN[before.name]
            own = [name for name in built_in if (before.name, name) in self._numbers]
            own += sorted(name for name in by_table[before.name] if name not in built_in)
            chains = tuple(self._counted(before.name, name) for name in own)
            tables.append(Table(before.name, chains, before.comments, before.ending))
        return replace(self._before, tables=tuple(tables))

    def _counted(self, table: str, chain: str) -> Chain:
        number = self._numbers[table, chain]
        row = self._chains.array[number]
        first, count = int(row["first_rule"]), int(row["rule_count"])
        counters = self._counters.array[first : first + count].tolist()
        rules = tuple(
            Rule(text, packets, size)
            for text, (packets, size) in zip(self.chain(table, chain) or (), counters, strict=True)
        )
        policy = next((name for name, kind in POLICIES.items() if kind == row["policy"]), "")
        if chain not in BUILT_IN[table]:
            return Chain(chain, rules)
        packets, size = (0, 0) if (table, chain) in self._uncounted else self._policies.array[number].tolist()
        return Chain(chain, rules, policy, packets, size, (table, chain) not in self._uncounted)

    # ---- changing --------------------------------------------------------------------------------------------------

    def restore(self, restore: Restore) -> None:
        """Take an addition, as `iptables-restore --noflush --counters` does.

        DumpError where the kernel would refuse it, and nothing has changed then but counters: a rule that is not
        understood, a jump to a chain that is not there, a deleted chain that something still jumps to, a circle.
        """
        self._check(restore)
        written = [(table, chain) for table, chains in restore.chains.items() for chain in chains]
        deleted = [(table, chain) for table, chains in restore.deleted.items() for chain in chains]
        appended = [(table, chain) for table, chains in restore.appended.items() for chain in chains]
        policies = {(table, chain): policy for table, of in restore.policies.items() for chain, policy in of.items()}
        before = {key: self.chain(*key) for key in dict.fromkeys((*written, *deleted, *appended, *policies))}
        try:
            for key in (*written, *appended, *policies):
                if key not in self._numbers:
                    self._make(*key)
            for key in written:
                self._write(key, restore.chains[key[0]][key[1]])
            for key in appended:
                there = self.chain(*key) or ()
                self._write(key, (*there, *restore.appended[key[0]][key[1]]), kept=len(there))
            for key in deleted:
                self._write(key, ())
            for key in deleted:
                if self._jumped.array[self._numbers[key]]:
                    raise self._refuse(f"-X {key[1]}", "a rule still jumps to the chain")
            self._deepen((*written, *appended))
        except DumpError:
            for key, texts in before.items():
                if key in self._numbers:
                    self._write(key, texts or ())
            for key, texts in before.items():
                if texts is None and key in self._numbers:
                    self._delete(key)
            self._measure()
            self._adopt()
            raise
        for key in deleted:
            self._delete(key)
        if self.backend == "legacy":
            verdicts = (key for key, policy in policies.items() if policy.verdict)
            self._replaced({table for table, _ in (*written, *deleted, *appended, *verdicts)})
        for key, policy in policies.items():
            number = self._numbers[key]
            if policy.verdict:
                self._chains.array[number]["policy"] = POLICIES[policy.verdict]
            if policy.verdict or self.backend == "nft":
                self._policies.array[number] = policy.packets, policy.bytes
                self._uncounted.discard(key)
        self._adopt()

    def _replaced(self, tables: Set[str]) -> None:
        """The legacy back end hands the kernel whole tables, with the counters that rules had: policies count from 0, and
        what rules remember by themselves begins anew (checkentry of xt_limit, xt_statistic, xt_connlimit)."""
        for key, number in self._numbers.items():
            if key[0] in tables:
                self._policies.array[number] = 0
                if self._forgetful and self._remembers(number):
                    self._write(key, self.chain(*key) or (), anew=True)

    def _remembers(self, number: int) -> bool:
        """Whether a rule of a chain has a memory of its own."""
        row = self._chains.array[number]
        first = int(row["first_rule"])
        rules = self._rules.array[first : first + int(row["rule_count"])]
        return any(
            np.isin(self._ops.array[at : at + count]["kind"], _OWN_MEMORY).any()
            for at, count in zip(rules["first_op"].tolist(), rules["op_count"].tolist(), strict=True)
        )

    def interfaces_changed(self, slots: Mapping[str, int], names: Iterable[str]) -> None:
        """Interfaces of these names came or went; slots: all that there are now. Counters stay."""
        self.slots = slots
        if self._by_interface is None:
            self._by_interface = {}
            for table, chain in self._numbers:
                self._note_interfaces((table, chain), self.chain(table, chain) or ())
        changed = False
        for key, patterns in self._by_interface.items():
            if any(_covers(pattern, name) for pattern in patterns for name in names):
                self._write(key, self.chain(*key) or (), anew=True)
                changed = True
        if changed:
            self._adopt()

    def _refuse(self, field: str, message: str) -> DumpError:
        return DumpError("iptables-restore" if self.family == 4 else "ip6tables-restore", "", field, message)

    def _check(self, restore: Restore) -> None:
        if restore.family != self.family:
            raise ValueError(f"rules of family {restore.family} for those of family {self.family}")
        tables = {table.name for table in self._before.tables}
        for table in restore.tables:
            if table not in tables:
                raise self._refuse(f"*{table}", "the host has no such table, and tables are not added while it runs")
        for table, chains in restore.appended.items():
            for chain in chains:
                if (table, chain) not in self._numbers and chain not in BUILT_IN[table]:
                    raise self._refuse(f"-A {chain}", "there is no such chain")
        for table, names in restore.deleted.items():
            for chain in names:
                if (table, chain) not in self._numbers or chain in BUILT_IN[table]:
                    raise self._refuse(f"-X {chain}", "there is no such chain")

    def _make(self, table: str, chain: str) -> None:
        number = self._chains.take(1)
        for rows in (self._policies, self._jumped, self._heights):
            if rows.used <= number:
                rows.take(1)
            rows.array[number] = 0
        policy = "ACCEPT" if chain in BUILT_IN[table] else ""
        self._chains.array[number] = (self._rules.used, 0, POLICIES[policy], TABLES[table], 0)
        self._numbers[table, chain] = number
        self._texts[table, chain] = ()
        if policy:
            if self.backend == "nft":
                self._uncounted.add((table, chain))
            self._tables[f"base{int(HOOKS[chain])}"][TABLES[table]] = number

    def _delete(self, key: Key) -> None:
        number = self._numbers.pop(key)
        self._texts.pop(key, None)
        self._known.pop(key, None)
        if self._by_interface is not None:
            self._by_interface.pop(key, None)
        self._chains.give(number, 1)

    def _write(self, key: Key, texts: Sequence[str], kept: int = 0, *, anew: bool = False) -> None:
        """Give a chain its rules. kept: so many of the first are those that it has, and stay as they are, counters
        included. anew: all are the same, and are compiled anew with their counters."""
        number = self._numbers[key]
        before = self.chain(*key) or ()
        row = self._chains.array[number]
        first, count = int(row["first_rule"]), int(row["rule_count"])
        if texts is before and not anew and not self._forgetful:
            # The very list that was written last: only the counters begin anew.
            self._counters.array[first : first + count] = 0
            return
        old = self._rules.array[first : first + count].copy()
        counted = len(texts) if anew else kept
        counters = self._counters.array[first : first + counted].copy()
        self._give_runs(old)
        taken = np.full(len(texts), -1, np.int64) if anew else self._reused(before, texts, old, kept)
        rows = np.zeros(len(texts), RULE_DTYPE)
        reused = taken >= 0
        rows[reused] = old[taken[reused]]
        fresh = np.flatnonzero(~reused).tolist()
        if fresh:
            rows[fresh] = self._compile(key, [texts[at] for at in fresh])
        gone = np.ones(count, bool)
        gone[taken[reused]] = False
        self._used(rows[fresh], 1)
        self._used(old[gone], -1)
        self._rules.give(first, count)
        first = self._rules.take(len(texts))
        if len(self._counters.array) < len(self._rules.array):
            self._counters.take(len(self._rules.array) - self._counters.used)
        self._index(rows, first)
        self._rules.array[first : first + len(texts)] = rows
        self._counters.array[first : first + counted] = counters
        self._counters.array[first + counted : first + len(texts)] = 0
        self._chains.array[number]["first_rule"] = first
        self._chains.array[number]["rule_count"] = len(texts)
        self._texts[key] = texts
        if self._by_interface is not None:
            self._note_interfaces(key, texts)

    def _reused(self, before: Sequence[str], texts: Sequence[str], old: Any, kept: int) -> Any:
        """For each rule the place of the same rule among those of before, or -1. kept: so many are the very same, with
        what they remember."""
        taken = np.full(len(texts), -1, np.int64)
        if not len(before) or not len(texts):
            return taken
        shorter = min(len(before), len(texts))
        head = 0
        while head < shorter and before[head] == texts[head]:
            head += 1
        tail = 0
        while tail < shorter - head and before[-1 - tail] == texts[-1 - tail]:
            tail += 1
        taken[:head] = np.arange(head)
        if tail:
            taken[-tail:] = np.arange(len(before) - tail, len(before))
        if head + tail < shorter:
            places = {before[at]: at for at in range(head, len(before) - tail)}
            for at in range(head, len(texts) - tail):
                # Each is taken once: of two rules with one text the other is made anew.
                taken[at] = places.pop(texts[at], -1)
        if self._forgetful:
            for at in (kept + np.flatnonzero(taken[kept:] >= 0)).tolist():
                row = old[taken[at]]
                kinds = self._ops.array[int(row["first_op"]) : int(row["first_op"]) + int(row["op_count"])]["kind"]
                if np.isin(kinds, _OWN_MEMORY).any():
                    taken[at] = -1
        return taken

    def _compile(self, key: Key, texts: Sequence[str]) -> Any:
        table, chain = key
        compiler = _Patch(self, table)
        index = _Chains(self._numbers, table)
        for text in texts:
            try:
                compiler.rule(Rule(text).specification(self.family), index)
            except Refused as refused:
                raise self._refuse(f"-A {chain} {text}: {refused.field}", refused.message) from None
            except KeyError as error:
                raise self._refuse(f"-A {chain} {text}", f"there is no chain {error.args[0]}") from None
        return compiler.place()

    def _used(self, rows: Any, step: int) -> None:
        """Count what rules use: chains that they jump to, lists that they name. step: 1 they come, -1 they go."""
        jumps = rows["argument"][np.isin(rows["target"], _JUMPS)]
        np.add.at(self._jumped.array, jumps, step)
        if not self._recent_ops:
            return
        for row in rows:
            first = int(row["first_op"])
            for op in self._ops.array[first : first + int(row["op_count"])]:
                if op["kind"] == OpKind.OP_RECENT:
                    at = int(self._state.array[op["c"]])
                    self._recent_uses[at] += step
                    if not self._recent_uses[at]:
                        self._forgotten.append(at)

    def _give_runs(self, rows: Any) -> None:
        runs = np.unique(rows["run"])
        for run in runs[runs >= 0].tolist():
            row = self._runs.array[run]
            self._keys.give(int(row["first_key"]), int(row["key_count"]))
            self._runs.give(run, 1)

    def _index(self, rows: Any, first: int) -> None:
        """Index the runs of a chain's rules, the first of which will stand at `first`."""
        rows["run"] = -1
        if len(rows) < SHORTEST_RUN:
            return
        single = (rows["mask"] == ANY) & (rows["span"] == 0)
        field = np.where(single, rows["field"].astype(np.int16), -1)
        starts = np.flatnonzero(np.append(True, field[1:] != field[:-1]))
        ends = np.append(starts[1:], len(rows))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            if field[start] < 0 or end - start < SHORTEST_RUN:
                continue
            keys = rows["low"][start:end].astype(np.uint64) << np.uint64(32)
            keys |= np.arange(first + start, first + end, dtype=np.uint64)
            at = self._keys.append(np.sort(keys))
            run = self._runs.take(1)
            self._runs.array[run] = (at, end - start, first + end, int(field[start]))
            rows["run"][start:end] = run

    def _deepen(self, keys: Iterable[Key]) -> None:
        """Make sure that the stack is deep enough for the rules of these chains."""
        for key in keys:
            number = self._numbers.get(key)
            if number is None:
                continue
            row = self._chains.array[number]
            first = int(row["first_rule"])
            rows = self._rules.array[first : first + int(row["rule_count"])]
            targets = rows["argument"][np.isin(rows["target"], _JUMPS)]
            if len(targets) and int(self._heights.array[targets].max()) >= self._heights.array[number]:
                self._measure()
                return

    def _measure(self) -> None:
        """The height of every chain: how far a packet can go down from it. Gotos count too, though they leave nothing on
        the stack, for a circle of them would never end either."""
        heights = self._heights.array
        chains = self._chains.array[: self._chains.used]
        counts = chains["rule_count"].astype(np.int64)
        owners = np.repeat(np.arange(len(chains)), counts)
        before = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) - np.repeat(before - chains["first_rule"], counts)
        rows = self._rules.array[places]
        jumps = np.isin(rows["target"], _JUMPS)
        owners, targets = owners[jumps], rows["argument"][jumps]
        heights[:] = 0
        for _ in range(len(chains) + 1):
            higher = heights.copy()
            np.maximum.at(higher, owners, heights[targets] + 1)
            if np.array_equal(higher, heights):
                self._depth = max(self._depth, int(heights.max(initial=0)))
                break
            heights[:] = higher
        else:
            raise self._refuse("", "the chains jump in a circle")
        if self.backend == "nft":
            for (table, chain), number in self._numbers.items():
                if chain in BUILT_IN[table] and heights[number] >= DEEPEST:
                    raise self._refuse(f":{chain}", TOO_DEEP)

    def _note_interfaces(self, key: Key, texts: Sequence[str]) -> None:
        assert self._by_interface is not None
        patterns = {found for text in texts for found in NAMES_INTERFACE.findall(text)}
        if patterns:
            self._by_interface[key] = patterns
        else:
            self._by_interface.pop(key, None)

    def _adopt(self) -> None:
        idle = {at for at in self._forgotten if not self._recent_uses[at]}
        if idle:
            for name in [name for name, (at, _) in self._recents.items() if at in idle]:
                del self._recents[name]
            self._recent_idle += idle
        if len(self._counters.array) < len(self._rules.array):
            self._counters.take(len(self._rules.array) - self._counters.used)
        self.compiled.adopt(
            ops=self._ops.array,
            rules=self._rules.array,
            runs=self._runs.array,
            keys=self._keys.array,
            targets=self._targets.array,
            chains=self._chains.array,
            tables=self._tables,
            pool=self._pool.array,
            state=self._state.array,
            counters=self._counters.array,
            policies=self._policies.array,
            depth=self._depth,
            recents=self._new_recents,
            forgotten=sorted(idle),
            hashlimits=self._new_hashlimits,
            conncounts=self._conncounts,
        )
        self._new_recents, self._new_hashlimits, self._forgotten = [], [], []

    def place(
        self,
        table: int,
        rules: Sequence[tuple[int, ...]],
        ops: Sequence[tuple[int, ...]],
        targets: Sequence[tuple[int, ...]],
        pool: Sequence[int],
        state: Sequence[int],
    ) -> Any:
        """Put what new rules refer to behind what there is; the rules, which refer to it there."""
        words, states = self._pool.append(np.array(pool, np.uint32)), self._state.append(np.array(state, np.uint64))
        tests, actions = np.array(ops, OP_DTYPE), np.array(targets, TARGET_DTYPE)
        refer = ~np.isin(tests["kind"], _PLAIN)
        tests["a"][refer] += np.uint32(words)
        tests["c"][refer] += np.uint32(states)
        sets = actions["kind"] == TargetKind.TARGET_SET
        for name in ("value", "mask"):
            actions[name][sets & (actions[name] > 0)] += np.uint32(words)
        rows = np.array(rules, RULE_DTYPE)
        rows["first_op"] += self._ops.append(tests)
        rows["argument"][rows["target"] >= TargetKind.TARGET_REJECT] += self._targets.append(actions)
        if (tests["field"] == Field.FIELD_CTSTATE).any():
            self._tables["uses_state"][table] = 1
        self._forgetful = self._forgetful or bool(np.isin(tests["kind"], _OWN_MEMORY).any())
        return rows

    # ---- what a new rule shares with others ------------------------------------------------------------------------

    def share(self, shared: Shared) -> int:
        if shared.kind == "connlimit":
            self._conncounts += 1
            return self._conncounts - 1
        if shared.kind == "hashlimit":
            at = self._hashlimits.get(shared.name)
            if at is None:
                at = self._hashlimits[shared.name] = len(self._hashlimits)
                self._new_hashlimits.append((at, tuple(shared.settings)))
            return at
        stamps, *mask = shared.settings
        known = self._recents.get(shared.name)
        if known is not None and known[1] >= stamps:
            return known[0]
        if known is not None:
            # A later rule asks for more hits: the kernel empties the list (recent_table_flush).
            at = known[0]
        elif self._recent_idle:
            at = self._recent_idle.pop()
        else:
            at = len(self._recent_uses)
            self._recent_uses.append(0)
        self._recents[shared.name] = (at, stamps)
        self._new_recents.append((at, shared.name, stamps, mask[0], mask[1], mask[2], mask[3]))
        self._recent_ops = True
        return at


class _Chains(Mapping[str, int]):
    """The numbers of one table's chains."""

    def __init__(self, numbers: Mapping[Key, int], table: str) -> None:
        self.numbers = numbers
        self.table = table

    def __getitem__(self, chain: str) -> int:
        try:
            return self.numbers[self.table, chain]
        except KeyError:
            raise KeyError(chain) from None

    def __iter__(self) -> Iterator[str]:
        return (chain for table, chain in self.numbers if table == self.table)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Patch(Compiler):
    """Compiles rules by themselves, and places what they need behind what the host has."""

    def __init__(self, running: RunningRules, table: str) -> None:
        super().__init__(Ruleset(running.family, backend=running.backend), running.slots, running.sets)
        self.running = running
        self.kind = int(TABLES[table])

    def share(self, shared: Shared) -> int:
        return self.running.share(shared)

    def place(self) -> Any:
        """The rows of the rules; all that they refer to is where they say."""
        return self.running.place(self.kind, self.rules, self.ops, self.targets, self.pool, self.state)


def _covers(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("+") else name == pattern
