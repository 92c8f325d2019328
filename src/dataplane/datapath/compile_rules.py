"""A Ruleset becomes the rows that the engine reads (_fast/ruleset.pxd).

Every test of a rule becomes one or more ops in the kernel's order. The op that decides most is copied into the rule's
own row, and rules in a row that ask one word for one value each are indexed; neither changes what a packet meets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from dataplane._fast.packet import Field, Hook
from dataplane._fast.rules import (
    CHAIN_DTYPE,
    OP_DTYPE,
    RULE_DTYPE,
    RUN_DTYPE,
    TABLE_DTYPE,
    TARGET_DTYPE,
    CompiledRules,
    RuleProgram,
)
from dataplane._fast.ruleset import OpKind, TableKind, TargetKind
from dataplane.datapath.compile_sets import Sets
from dataplane.errors import DumpError
from dataplane.host.iptables import BUILT_IN, Rule, Ruleset
from dataplane.host.iptables_check import check
from dataplane.host.iptables_rule import Specification
from dataplane.host.xtables.declare import Refused
from dataplane.host.xtables.predicate import (
    ANY,
    Action,
    Address,
    AddressRange,
    AnyOf,
    CtAddress,
    CtWord,
    Custom,
    Header,
    Interface,
    Payload,
    Shared,
    Test,
    Word,
)

TABLES = {
    "raw": TableKind.TABLE_RAW,
    "mangle": TableKind.TABLE_MANGLE,
    "nat": TableKind.TABLE_NAT,
    "filter": TableKind.TABLE_FILTER,
    "security": TableKind.TABLE_SECURITY,
}
HOOKS = {
    "PREROUTING": Hook.HOOK_PREROUTING,
    "INPUT": Hook.HOOK_INPUT,
    "FORWARD": Hook.HOOK_FORWARD,
    "OUTPUT": Hook.HOOK_OUTPUT,
    "POSTROUTING": Hook.HOOK_POSTROUTING,
}
VERDICTS = {
    "": TargetKind.TARGET_CONTINUE,
    "ACCEPT": TargetKind.TARGET_ACCEPT,
    "DROP": TargetKind.TARGET_DROP,
    "RETURN": TargetKind.TARGET_RETURN,
}
POLICIES = {"ACCEPT": TargetKind.TARGET_ACCEPT, "DROP": TargetKind.TARGET_DROP, "": TargetKind.TARGET_RETURN}
SHORTEST_RUN = 8

OpRow: TypeAlias = tuple[int, int, int, int, int, int, int]  # kind, field, invert, reserved, a, b, c


class Inline(NamedTuple):
    """The test that lies in the rule's own row."""

    mask: int
    low: int
    span: int
    field: int


PASS = Inline(0, 0, ANY, 0)


def compile_rules(ruleset: Ruleset, slots: Mapping[str, int], sets: Sets | None = None) -> CompiledRules:
    """The rules of one host and family, with counters at 0.

    slots: of the host's interfaces, by name. sets: the host's, which the rules of both families use. Raises DumpError
    for what is read but not evaluated, and for what the kernel would refuse.
    """
    return CompiledRules(compile_program(ruleset, slots, sets), None if sets is None else sets.compiled)


def compile_program(ruleset: Ruleset, slots: Mapping[str, int], sets: Sets | None = None) -> RuleProgram:
    """The frozen rows alone: hosts with the same rules, interfaces and sets may share them."""
    check(ruleset)
    compiler = Compiler(ruleset, slots, sets)
    compiler.run()
    return compiler.program()


# ---- words -----------------------------------------------------------------------------------------------------------


def _span(low: int, high: int, invert: bool) -> tuple[int, int] | None:
    """(low, high - low) of a range of 32-bit words, or of its complement; None for a range that holds nothing."""
    if low > high:
        return (0, ANY) if invert else None
    if not invert:
        return low, high - low
    if low == 0 and high == ANY:
        return None
    # The complement of a range is a range, once around.
    return (high + 1) & ANY, (low - high - 2) & ANY


def _word(word: int, low: int, high: int, mask: int = ANY, invert: bool = False) -> Iterator[OpRow]:
    span = _span(low, high, invert)
    if span is None:
        yield (OpKind.OP_WORD, word, 0, 0, 0, 1, 0)  # 0 - 1 <= 0 never holds
    elif span != (0, ANY) and not (mask == 0 and (0 - span[0]) & ANY <= span[1]):
        yield (OpKind.OP_WORD, word, 0, 0, mask, *span)


def _words_of(value: int, family: int) -> tuple[int, int, int, int]:
    if family == 4:
        return value, 0, 0, 0
    return value >> 96, value >> 64 & ANY, value >> 32 & ANY, value & ANY


# What share of packets a test is thought to let through; the smallest goes into the rule's own row.
_COMMON = {
    Field.FIELD_PROTO: 0.4,
    Field.FIELD_L4PROTO: 0.4,
    Field.FIELD_CTSTATE: 0.5,
    Field.FIELD_IIF: 0.2,
    Field.FIELD_OIF: 0.2,
    Field.FIELD_MARK: 0.1,
    Field.FIELD_FRAGMENT: 0.9,
}
_PORTS = (Field.FIELD_SPORT, Field.FIELD_DPORT)


def _share(op: OpRow) -> float:
    _, word, _, _, mask, _, span = op
    if mask == 0:
        return 0.0 if span == 0 else 1.0
    if word in _COMMON:
        return _COMMON[Field(word)]
    bits = 16 if word in _PORTS else mask.bit_count()
    share = min((span + 1) / (1 << bits), 1.0)
    return share if word in _PORTS or word < Field.FIELD_PROTO else max(share, 0.05)


# Tests that say nothing but yes and no, and remember nothing: a later test may be asked before them.
_QUIET = frozenset(
    {
        OpKind.OP_WORD,
        OpKind.OP_PAYLOAD,
        OpKind.OP_BITMAP,
        OpKind.OP_ANY_OF,
        OpKind.OP_ADDRESS,
        OpKind.OP_ADDRESS_RANGE,
        OpKind.OP_ADDRESS_TYPE,
        OpKind.OP_CT_WORD,
        OpKind.OP_CT_ADDRESS,
        OpKind.OP_MAC,
        OpKind.OP_IPVS,
    }
)
# What can be asked in the rule's own row; of a payload that is not all of the test.
_WORDS = (OpKind.OP_WORD, OpKind.OP_PAYLOAD)
# A header of so many bytes is there whenever FIELD_L4 is 1.
_READABLE = frozenset({12, 20})
_UDP_HEADER = 8


def _quiet(op: OpRow, udp: bool) -> bool:
    """Whether a test can be passed over for a later one: it drops nothing while the transport header is readable."""
    kind, length = op[0], op[5]
    return kind in _QUIET or (kind == OpKind.OP_HEADER and (length in _READABLE or (length == _UDP_HEADER and udp)))


def _arrange(ops: list[OpRow], udp: bool) -> tuple[Inline, list[OpRow], int]:
    """The inline test, the ops, and how many of the first of them it answers."""
    best = -1
    leading = 0  # words before anything else: they may change places
    in_front = True
    for at, op in enumerate(ops):
        if op[0] in _WORDS and (best < 0 or _share(op) < _share(ops[best])):
            best = at
        if op[0] == OpKind.OP_WORD:
            leading = at + 1 if in_front else leading
            continue
        in_front = False
        if not _quiet(op, udp):
            break
    if best < 0:
        return PASS, ops, 0
    _, word, _, _, mask, low, span = ops[best]
    inline = Inline(mask, low, span, word)
    if best < leading:
        return inline, [ops[best], *ops[:best], *ops[best + 1 :]], 1
    return inline, ops, 0


# ---- the compiler ----------------------------------------------------------------------------------------------------


class Compiler:
    """Puts the rows of a ruleset together; running_rules.py takes rules through it one by one."""

    def __init__(self, ruleset: Ruleset, slots: Mapping[str, int], sets: Sets | None) -> None:
        self.ruleset = ruleset
        self.slots = slots
        self.sets = sets
        self.ops: list[OpRow] = []
        self.rules: list[tuple[int, ...]] = []
        self.runs: list[tuple[int, int, int, int]] = []
        self.keys: list[int] = []
        self.targets: list[tuple[int, ...]] = []
        self.chains: list[tuple[int, int, int, int, int]] = []
        self.chain_names: list[tuple[str, str]] = []
        self.pool: list[int] = []
        self.pooled: dict[tuple[int, ...], int] = {}
        self.state: list[int] = []
        self.recents: list[tuple[str, int, int, int, int, int]] = []
        self.recent_index: dict[str, int] = {}
        self.hashlimits: dict[str, tuple[int, ...]] = {}
        self.conncounts = 0
        self.bases = [[-1] * 5 for _ in range(5)]
        self.present = [0] * 5
        self.uses_state = [0] * 5
        self.depth = 0

    def refused(self, rule: Rule, refused: Refused) -> DumpError:
        where = f"line {rule.line}" if rule.line else ""
        return DumpError(self.ruleset.file, where, refused.field, refused.message)

    def run(self) -> None:
        for table in self.ruleset.tables:
            kind = TABLES[table.name]
            self.present[kind] = 1
            index = {chain.name: len(self.chains) + at for at, chain in enumerate(table.chains)}
            specs: list[list[Specification]] = []
            for chain in table.chains:
                if chain.name in BUILT_IN[table.name]:
                    self.bases[kind][HOOKS[chain.name]] = index[chain.name]
                specs.append([rule.specification(self.ruleset.family) for rule in chain.rules])
            self.depth = max(self.depth, _depth([chain.name for chain in table.chains], specs))
            first_op = len(self.ops)
            for chain, of_chain in zip(table.chains, specs, strict=True):
                first = len(self.rules)
                for rule, spec in zip(chain.rules, of_chain, strict=True):
                    try:
                        self.rule(spec, index)
                    except Refused as refused:
                        raise self.refused(rule, refused) from None
                self.index_runs(first)
                self.chains.append((first, len(self.rules) - first, POLICIES[chain.policy], kind, 0))
                self.chain_names.append((table.name, chain.name))
            self.uses_state[kind] = int(any(op[1] == Field.FIELD_CTSTATE for op in self.ops[first_op:]))

    def rule(self, spec: Specification, index: Mapping[str, int]) -> None:
        ops = [op for test in spec.tests(self.ruleset.backend) for op in self.lower(test)]
        inline, ops, skip = _arrange(ops, spec.selector.protocol == 17)
        argument = -1
        if spec.target is not None:
            action = spec.target.action()
            kind = action.kind
            if kind != TargetKind.TARGET_CONTINUE:
                argument = self.target(action)
        elif spec.chain:
            kind = TargetKind.TARGET_GOTO if spec.goto else TargetKind.TARGET_JUMP
            argument = index[spec.chain]
        else:
            kind = VERDICTS[spec.jump]
        self.rules.append((*inline, kind, len(ops), len(self.ops), argument, -1, skip, 0))
        self.ops += ops

    def target(self, action: Action) -> int:
        value, mask = action.value, action.mask
        first, last = _words_of(action.first, action.family), _words_of(action.last, action.family)
        if action.kind == TargetKind.TARGET_SET:
            uses = (action.add, action.delete, action.map)
            value, mask, mapped = (0 if use is None else self.set_use(use) + 1 for use in uses)
            first = (mapped, 0, 0, 0)
        self.targets.append(
            (
                action.kind,
                action.flags,
                action.min_port,
                action.max_port,
                action.base_port,
                value,
                mask,
                *first,
                *last,
            )
        )
        return len(self.targets) - 1

    # -- tests --

    def constants(self, words: Iterable[int]) -> int:
        """Where these words stand in the pool."""
        key = tuple(int(word) for word in words)
        at = self.pooled.get(key)
        if at is None:
            at = self.pooled[key] = len(self.pool)
            self.pool += key
        return at

    def op(self, kind: OpKind, words: Sequence[int], invert: bool = False, field: int = 0, state: int = 0) -> OpRow:
        return (kind, field, int(invert), 0, self.constants(words), len(words), state)

    def lower(self, test: Test) -> Iterator[OpRow]:
        match test:
            case Word(word, low, high, mask, invert):
                yield from _word(word, low, high, mask, invert)
            case Payload(word, low, high, mask, invert):
                for row in _word(word, low, high, mask, invert):
                    # What never holds is no word of the header.
                    yield (OpKind.OP_PAYLOAD, *row[1:]) if row[4] else row
            case Address():
                yield from self.address(test)
            case AddressRange(word, low, high, 4, invert):
                yield from _word(word, low, high, ANY, invert)
            case AddressRange(word, low, high, family, invert):
                words = (*_words_of(low, family), *_words_of(high, family))
                yield self.op(OpKind.OP_ADDRESS_RANGE, words, invert, word)
            case Header(length, tcp):
                yield (OpKind.OP_HEADER, 0, int(tcp), 0, 0, length, 0)
            case Interface():
                yield from self.interface(test)
            case AnyOf(words, invert):
                yield from self.any_of(words, invert)
            case CtWord(word, low, high, mask, invert, absent):
                span = _span(low, high, False)
                if span is None:
                    mask, span = 0, (1, 0)
                yield self.op(OpKind.OP_CT_WORD, (word, mask, *span, int(absent)), invert)
            case CtAddress(word, value, mask, family, invert, absent):
                pair = (*_words_of(mask, family), *_words_of(value, family))
                yield self.op(OpKind.OP_CT_ADDRESS, (word, int(absent), *pair), invert)
            case Custom(OpKind.OP_SET, words, _, invert, _):
                yield (OpKind.OP_SET, 0, int(invert), 0, self.set_use(test), len(words) + 1, 0)
            case Custom(kind, words, state, invert, shared):
                at = len(self.state)
                self.state += state
                if shared is not None:
                    self.state.append(self.share(shared))
                yield self.op(kind, words, invert, state=at)

    def address(self, test: Address) -> Iterator[OpRow]:
        masks = _words_of(test.mask, test.family)
        values = _words_of(test.value, test.family)
        asked = [at for at in range(4) if masks[at] or values[at]]
        if not test.invert:
            # The last word first: addresses of one network differ there.
            for at in reversed(asked):
                yield from _word(test.word + at, values[at], values[at], masks[at])
        elif len(asked) <= 1:
            at = asked[0] if asked else 0
            yield from _word(test.word + at, values[at], values[at], masks[at], True)
        else:
            yield self.op(OpKind.OP_ADDRESS, (*masks, *values), True, test.word)

    def interface(self, test: Interface) -> Iterator[OpRow]:
        """The word is the slot plus one, 0 where the packet has no such interface and its name is empty."""
        if not test.pattern.endswith("+"):
            slot = self.slots.get(test.pattern)
            low, high = (1, 0) if slot is None else (slot + 1, slot + 1)
            yield from _word(test.word, low, high, ANY, test.invert)
            return
        prefix = test.pattern[:-1]
        if not prefix:
            yield from _word(test.word, 0, ANY, ANY, test.invert)
            return
        found = sorted(slot + 1 for name, slot in self.slots.items() if name.startswith(prefix))
        if not found:
            yield from _word(test.word, 1, 0, ANY, test.invert)
        elif found[-1] - found[0] == len(found) - 1:
            yield from _word(test.word, found[0], found[-1], ANY, test.invert)
        else:
            bits = [0] * (found[-1] // 32 + 1)
            for value in found:
                bits[value // 32] |= 1 << value % 32
            yield self.op(OpKind.OP_BITMAP, bits, test.invert, test.word)

    def any_of(self, words: Sequence[Word], invert: bool) -> Iterator[OpRow]:
        if len(words) == 1 and not words[0].invert:
            only = words[0]
            yield from _word(only.word, only.low, only.high, only.mask, invert)
            return
        rows: list[int] = []
        for word in words:
            span = _span(word.low, word.high, word.invert)
            if span is not None:
                rows += (word.word, word.mask, *span)
        yield self.op(OpKind.OP_ANY_OF, rows, invert)

    def share(self, shared: Shared) -> int:
        """The index of a test's memory. What has a name is one for all rules of the host and family that use it."""
        if shared.kind == "connlimit":
            self.conncounts += 1
            return self.conncounts - 1
        if shared.kind == "hashlimit":
            # The settings of the first rule hold for all, as in the kernel.
            self.hashlimits.setdefault(shared.name, shared.settings)
            return list(self.hashlimits).index(shared.name)
        stamps, *mask = shared.settings
        at = self.recent_index.get(shared.name)
        if at is None:
            at = self.recent_index[shared.name] = len(self.recents)
            self.recents.append((shared.name, stamps, *mask))  # type: ignore[arg-type]
        elif self.recents[at][1] < stamps:
            # A later rule asks for more hits; the mask stays that of the first.
            self.recents[at] = (shared.name, stamps, *self.recents[at][2:])
        return at

    def set_use(self, use: Custom) -> int:
        """Where the pool has the index of a set and how it is used."""
        assert use.shared is not None
        name = use.shared.name
        label = f"set {name}"
        if self.sets is None or name not in self.sets.index:
            raise Refused(label, "the host has no such set")
        if name in self.sets.refused:
            raise Refused(label, f"type {self.sets.refused[name]} is read and printed, but not evaluated")
        return self.constants((self.sets.index[name], *use.words))

    # -- rows --

    def index_runs(self, first: int) -> None:
        """Index the runs of the chain whose rules begin at `first`."""
        start = first
        while start < len(self.rules):
            mask, _, span, word = self.rules[start][:4]
            end = start + 1
            if mask == ANY and span == 0:
                while end < len(self.rules) and self.rules[end][0] == ANY and self.rules[end][2:4] == (0, word):
                    end += 1
                if end - start >= SHORTEST_RUN:
                    self.runs.append((len(self.keys), end - start, end, word))
                    self.keys += sorted(self.rules[at][1] << 32 | at for at in range(start, end))
                    for at in range(start, end):
                        row = self.rules[at]
                        self.rules[at] = (*row[:8], len(self.runs) - 1, *row[9:])
            start = end

    def program(self) -> RuleProgram:
        tables = [
            (*self.bases[kind], self.present[kind], self.uses_state[kind], int(self.ruleset.backend == "nft"))
            for kind in range(TableKind.TABLE_COUNT)
        ]
        return RuleProgram(
            ops=np.array(self.ops, OP_DTYPE),
            rules=np.array(self.rules, RULE_DTYPE),
            runs=np.array(self.runs, RUN_DTYPE),
            keys=np.array(self.keys, np.uint64),
            targets=np.array(self.targets, TARGET_DTYPE),
            chains=np.array(self.chains, CHAIN_DTYPE),
            tables=np.array(tables, TABLE_DTYPE),
            pool=np.array(self.pool, np.uint32),
            state=np.array(self.state, np.uint64),
            recents=self.recents,
            hashlimits=self.hashlimits.items(),
            conncounts=self.conncounts,
            set_names=() if self.sets is None else self.sets.compiled.names,
            depth=self.depth,
            chain_names=self.chain_names,
        )


def _depth(names: Sequence[str], specs: Sequence[Sequence[Specification]]) -> int:
    """How many returns can be open at once: jumps add one, gotos none. There are no loops."""
    steps = {
        name: {(spec.chain, not spec.goto) for spec in of_chain if spec.chain}
        for name, of_chain in zip(names, specs, strict=True)
    }
    depths: dict[str, int] = {}
    for start in names:
        path = [start]
        while path:
            name = path[-1]
            waiting = [goes_to for goes_to, _ in steps[name] if goes_to not in depths]
            if waiting:
                path += waiting
                continue
            depths[name] = max((depths[goes_to] + jump for goes_to, jump in steps[name]), default=0)
            path.pop()
    return max(depths.values(), default=0)
