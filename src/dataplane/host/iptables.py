"""The rules of one family as iptables-save prints them and iptables-restore takes them.

    ruleset = Ruleset.parse(text, family=4, file="iptables.save")
    ruleset.text()              # what iptables-save prints
    ruleset.text(counters=True) # what iptables-save -c prints

A file is understood as a whole when it is loaded: what is not understood is a DumpError with file, line and option. A
rule that a program makes with `Rule.of` from canonical text is taken at its word and understood only when it is
compiled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dataplane.errors import DumpError
from dataplane.host.iptables_rule import VERDICTS, Parsed, Specification, parse_rule, split
from dataplane.host.xtables import target_names
from dataplane.host.xtables.declare import Refused

# The built-in chains of each table, in the order of the hooks.
BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
LONGEST_NAME = 28


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    text: canonical, what iptables-save prints behind `-A CHAIN `; "" for a rule that only counts. packets, bytes: its
    counters. line: where it stands in its file, 0 if it came from none.
    """

    text: str
    packets: int = 0
    bytes: int = 0
    line: int = field(default=0, compare=False)
    _understood: Specification | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, text: str) -> Rule:
        """A rule from its canonical text, which is not looked at."""
        return cls(text)

    def specification(self, family: int) -> Specification:
        """The rule understood. Raises Refused, which names the option."""
        known = self._understood
        if known is None or known.family != family:
            parsed = parse_rule(split(self.text), family).specifications
            if len(parsed) != 1:
                raise Refused("-s", "several addresses are several rules")
            known = parsed[0]
            object.__setattr__(self, "_understood", known)
        return known


@dataclass(frozen=True, slots=True)
class Chain:
    """policy: "ACCEPT" or "DROP" of a built-in chain, "" of any other. packets, bytes: of the policy."""

    name: str
    rules: tuple[Rule, ...] = ()
    policy: str = ""
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """comments: the lines before the table; ending: those behind its COMMIT. They print as they are."""

    name: str
    chains: tuple[Chain, ...]
    comments: tuple[str, ...] = ()
    ending: tuple[str, ...] = ()

    def chain(self, name: str) -> Chain | None:
        return next((chain for chain in self.chains if chain.name == name), None)


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All tables of one family (4 or 6).

    file: where it was read from, for messages. trailer: the lines behind the last table.
    """

    family: int
    tables: tuple[Table, ...] = ()
    file: str = field(default="", compare=False)
    trailer: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, family: int, file: str = "iptables.save", *, complete: bool = True) -> Ruleset:
        """Read what iptables-save prints, or what iptables-restore takes.

        complete: the text says everything, so that a jump to a chain it does not declare is an error; without, it is an
        addition to a kernel's rules, as iptables-restore --noflush takes them. Raises DumpError.
        """
        if family not in (4, 6):
            raise ValueError(f"family {family} is neither 4 nor 6")
        ruleset = _Reader(family, file, complete).read(text)
        if complete:
            check(ruleset)
        return ruleset

    def table(self, name: str) -> Table | None:
        return next((table for table in self.tables if table.name == name), None)

    def text(self, counters: bool = False) -> str:
        """As iptables-save prints it, with -c if `counters`. The counters of policies are always printed."""
        lines: list[str] = []
        for table in self.tables:
            lines += table.comments
            lines.append(f"*{table.name}")
            for chain in table.chains:
                lines.append(f":{chain.name} {chain.policy or '-'} [{chain.packets}:{chain.bytes}]")
            for chain in table.chains:
                head = f"-A {chain.name}"
                for rule in chain.rules:
                    line = f"{head} {rule.text}" if rule.text else head
                    lines.append(f"[{rule.packets}:{rule.bytes}] {line}" if counters else line)
            lines.append("COMMIT")
            lines += table.ending
        lines += self.trailer
        return "\n".join(lines) + "\n" if lines else ""

    def rules(self) -> Iterator[tuple[Table, Chain, Rule]]:
        """Every rule in the order in which it is printed, which is that of the compiled counters."""
        for table in self.tables:
            for chain in table.chains:
                for rule in chain.rules:
                    yield table, chain, rule

    def counted(self, rules: Any, policies: Any) -> Ruleset:
        """The same rules with other counters.

        rules: (packets, bytes) of each rule in the order of `rules()`; policies: of each chain in the order of the
        tables; arrays of CompiledRules will do.
        """
        of_rules = iter(rules.tolist() if hasattr(rules, "tolist") else rules)
        of_chains = iter(policies.tolist() if hasattr(policies, "tolist") else policies)
        tables = []
        for table in self.tables:
            chains = []
            for chain in table.chains:
                counted = tuple(_counted(rule, next(of_rules)) for rule in chain.rules)
                packets, size = next(of_chains)
                if not chain.policy:
                    packets = size = 0
                chains.append(Chain(chain.name, counted, chain.policy, packets, size))
            tables.append(Table(table.name, tuple(chains), table.comments, table.ending))
        return replace(self, tables=tuple(tables))

    @property
    def unmodelled(self) -> tuple[str, ...]:
        """What the tool says that it could not print: tables that only nft can read."""
        lines = [*(line for table in self.tables for line in table.comments), *self.trailer]
        return tuple(line.lstrip("# ") for line in lines if "incompatible" in line or "legacy tables present" in line)


def _counted(rule: Rule, counters: Sequence[int]) -> Rule:
    return Rule(rule.text, counters[0], counters[1], rule.line, rule._understood)


# ---- reading ---------------------------------------------------------------------------------------------------------

_CHAIN = re.compile(r":(\S+)[ \t]+(\S+)(?:[ \t]+\[(\d+):(\d+)\])?[ \t]*")
_COUNTERS = re.compile(r"\[(\d+):(\d+)\][ \t]*")


class _Reader:
    """Reads a text line by line. Each table is a dict of chains, in the order in which they were declared."""

    def __init__(self, family: int, file: str, complete: bool) -> None:
        self.family = family
        self.file = file
        self.complete = complete
        self.line = 0
        self.tables: list[Table] = []
        self.comments: list[str] = []
        self.table = ""
        self.chains: dict[str, Chain] = {}
        self.rules: dict[str, list[Rule]] = {}
        self.declared = False

    def refuse(self, field: str, message: str) -> DumpError:
        return DumpError(self.file, f"line {self.line}", field, message)

    def read(self, text: str) -> Ruleset:
        commands: Mapping[str, Callable[[str], None]] = {"*": self.start, ":": self.declare}
        for number, line in enumerate(text.split("\n"), 1):
            self.line = number
            if not line or line.isspace():
                continue
            if line[0] == "#":
                self.comment(line)
            elif line[0] in commands:
                commands[line[0]](line)
            elif line.rstrip() == "COMMIT":
                self.commit()
            else:
                self.command(line)
        if self.table:
            raise self.refuse(f"*{self.table}", "the table has no COMMIT")
        return Ruleset(self.family, tuple(self.tables), self.file, tuple(self.comments))

    def comment(self, line: str) -> None:
        if self.table:
            # Inside a table people write what they like, and iptables-save would not print it.
            return
        if self.tables and not self.comments and line.startswith("# Completed"):
            last = self.tables[-1]
            self.tables[-1] = replace(last, ending=(*last.ending, line))
        else:
            self.comments.append(line)

    def start(self, line: str) -> None:
        name = line[1:].strip()
        if self.table:
            raise self.refuse(line.strip(), f"table {self.table} has no COMMIT")
        if name not in BUILT_IN:
            raise self.refuse(line.strip(), "there is no such table")
        if any(table.name == name for table in self.tables):
            raise self.refuse(line.strip(), "the table was given before")
        self.table = name
        self.chains = {}
        self.rules = {}

    def commit(self) -> None:
        if not self.table:
            raise self.refuse("COMMIT", "no table is open")
        chains = tuple(replace(chain, rules=tuple(self.rules[name])) for name, chain in self.chains.items())
        self.tables.append(Table(self.table, chains, tuple(self.comments)))
        self.comments = []
        self.table = ""

    def declare(self, line: str) -> None:
        """`:CHAIN POLICY [packets:bytes]`."""
        match = _CHAIN.fullmatch(line)
        if not self.table:
            raise self.refuse(line.strip(), "no table is open")
        if not match:
            raise self.refuse(line.strip(), "not a chain with its policy")
        name, policy, packets, size = match.groups()
        built_in = name in BUILT_IN[self.table]
        if name in self.chains:
            raise self.refuse(f":{name}", "the chain was declared before")
        self.new_chain(name, f":{name}")
        if built_in and policy not in ("ACCEPT", "DROP"):
            raise self.refuse(f":{name}", f"{policy!r} is no policy")
        if not built_in and policy != "-":
            raise self.refuse(f":{name}", "only a built-in chain has a policy")
        self.chains[name] = Chain(name, (), policy if built_in else "", int(packets or 0), int(size or 0))

    def new_chain(self, name: str, shown: str) -> None:
        if len(name.encode(errors="surrogateescape")) > LONGEST_NAME:
            raise self.refuse(shown, f"a chain's name has at most {LONGEST_NAME} bytes")
        if name[0] in "-!" or name in VERDICTS or name == "QUEUE" or name in target_names():
            raise self.refuse(shown, f"{name!r} cannot be a chain's name")
        self.chains[name] = Chain(name, policy="ACCEPT" if name in BUILT_IN[self.table] else "")
        self.rules[name] = []

    # -- commands, as iptables-restore takes them --

    def command(self, line: str) -> None:
        packets = size = None
        counters = _COUNTERS.match(line)
        if counters:
            packets, size = int(counters[1]), int(counters[2])
            line = line[counters.end() :]
        try:
            words = split(line)
        except Refused as refused:
            raise self.refuse(refused.field, refused.message) from None
        if not words:
            raise self.refuse(counters[0].strip() if counters else "", "counters without a rule")
        if not self.table:
            raise self.refuse(words[0], "no table is open")
        command = _COMMANDS.get(words[0])
        if command is None:
            raise self.refuse(words[0], "not a command that is understood")
        if len(words) < 2:
            raise self.refuse(words[0], "its chain is missing")
        command(self, words[1], words[2:], packets, size)

    def understand(self, chain: str, words: Sequence[str]) -> Parsed:
        try:
            return parse_rule(words, self.family, chain if chain in BUILT_IN[self.table] else "")
        except Refused as refused:
            raise self.refuse(refused.field, refused.message) from None

    def made(self, chain: str, words: Sequence[str], packets: int | None, size: int | None) -> list[Rule]:
        parsed = self.understand(chain, words)
        if packets is None or size is None:
            packets, size = parsed.packets, parsed.bytes
        return [Rule(spec.text(), packets, size, self.line, spec) for spec in parsed.specifications]

    def known(self, name: str) -> list[Rule]:
        """The rules of a chain, which must be there; built-in chains always are."""
        if name not in self.chains:
            if name not in BUILT_IN[self.table] and self.complete:
                raise self.refuse(name, "the chain is not declared")
            self.new_chain(name, name)
        return self.rules[name]

    def append(self, chain: str, words: list[str], packets: int | None, size: int | None) -> None:
        self.known(chain).extend(self.made(chain, words, packets, size))

    def insert(self, chain: str, words: list[str], packets: int | None, size: int | None) -> None:
        rules = self.known(chain)
        at = 1
        if words and words[0].isdigit():
            at = int(words.pop(0))
        if not 1 <= at <= len(rules) + 1:
            raise self.refuse("-I", f"the chain has no place {at}")
        rules[at - 1 : at - 1] = self.made(chain, words, packets, size)

    def delete(self, chain: str, words: list[str], packets: int | None, size: int | None) -> None:
        rules = self.known(chain)
        if len(words) == 1 and words[0].isdigit():
            if not 1 <= int(words[0]) <= len(rules):
                raise self.refuse("-D", f"the chain has no rule {words[0]}")
            del rules[int(words[0]) - 1]
            return
        for made in self.made(chain, words, packets, size):
            at = next((at for at, rule in enumerate(rules) if rule.text == made.text), None)
            if at is None:
                raise self.refuse("-D", "the chain has no such rule")
            del rules[at]

    def replace_rule(self, chain: str, words: list[str], packets: int | None, size: int | None) -> None:
        rules = self.known(chain)
        if not words or not words[0].isdigit() or not 1 <= int(words[0]) <= len(rules):
            raise self.refuse("-R", "the number of a rule must follow")
        made = self.made(chain, words[1:], packets, size)
        if len(made) != 1:
            raise self.refuse("-R", "several addresses are several rules")
        rules[int(words[0]) - 1] = made[0]

    def create(self, chain: str, words: list[str], packets: int | None, size: int | None) -> None:
        self.nothing_more("-N", words)
        if chain in self.chains or chain in BUILT_IN[self.table]:
            raise self.refuse("-N", f"chain {chain} is there already")
        self.new_chain(chain, "-N")

    def flush(self, chain: str, words: list[str], packets: int | None, size: int | None) -> None:
        self.nothing_more("-F", words)
        self.known(chain).clear()

    def remove(self, chain: str, words: list[str], packets: int | None, size: int | None) -> None:
        """-X: kube-proxy declares a chain that it is about to remove, so that it is empty."""
        self.nothing_more("-X", words)
        if chain in BUILT_IN[self.table]:
            raise self.refuse("-X", f"{chain} is built in")
        if self.known(chain):
            raise self.refuse("-X", f"chain {chain} has rules")
        del self.chains[chain]
        del self.rules[chain]

    def policy(self, chain: str, words: list[str], packets: int | None, size: int | None) -> None:
        if len(words) != 1 or words[0] not in ("ACCEPT", "DROP"):
            raise self.refuse("-P", "ACCEPT or DROP must follow")
        if chain not in BUILT_IN[self.table]:
            raise self.refuse("-P", "only a built-in chain has a policy")
        self.known(chain)
        self.chains[chain] = replace(self.chains[chain], policy=words[0])

    def zero(self, chain: str, words: list[str], packets: int | None, size: int | None) -> None:
        self.nothing_more("-Z", words)
        rules = self.known(chain)
        rules[:] = [replace(rule, packets=0, bytes=0) for rule in rules]
        self.chains[chain] = replace(self.chains[chain], packets=0, bytes=0)

    def nothing_more(self, command: str, words: list[str]) -> None:
        if words:
            raise self.refuse(words[0], f"nothing may follow {command} and its chain")


_COMMANDS: dict[str, Callable[[_Reader, str, list[str], int | None, int | None], None]] = {
    name: command
    for names, command in (
        (("-A", "--append"), _Reader.append),
        (("-I", "--insert"), _Reader.insert),
        (("-D", "--delete"), _Reader.delete),
        (("-R", "--replace"), _Reader.replace_rule),
        (("-N", "--new-chain"), _Reader.create),
        (("-F", "--flush"), _Reader.flush),
        (("-X", "--delete-chain"), _Reader.remove),
        (("-P", "--policy"), _Reader.policy),
        (("-Z", "--zero"), _Reader.zero),
    )
    for name in names
}


# ---- what the kernel would refuse ------------------------------------------------------------------------------------


def check(ruleset: Ruleset) -> None:
    """Refuse what the kernel would: jumps to nowhere, loops, extensions where they have no place. Raises DumpError."""
    for table in ruleset.tables:
        _check_table(ruleset, table)


def _refused(ruleset: Ruleset, rule: Rule, field: str, message: str) -> DumpError:
    return DumpError(ruleset.file, f"line {rule.line}" if rule.line else "", field, message)


def _understood(ruleset: Ruleset, rule: Rule) -> Specification:
    try:
        return rule.specification(ruleset.family)
    except Refused as refused:
        raise _refused(ruleset, rule, refused.field, refused.message) from None


def _check_table(ruleset: Ruleset, table: Table) -> None:
    built_in = BUILT_IN[table.name]
    names = {chain.name for chain in table.chains}
    jumps: dict[str, list[tuple[str, Rule]]] = {chain.name: [] for chain in table.chains}
    for chain in table.chains:
        for rule in chain.rules:
            goes_to = _understood(ruleset, rule).chain
            if not goes_to:
                continue
            if goes_to not in names:
                raise _refused(ruleset, rule, f"-j {goes_to}", "neither a chain of the table nor a known target")
            if goes_to in built_in:
                raise _refused(ruleset, rule, f"-j {goes_to}", "a built-in chain cannot be jumped to")
            jumps[chain.name].append((goes_to, rule))
    reached = _reach(ruleset, table, jumps)
    for chain in table.chains:
        hooks = reached[chain.name]
        for rule in chain.rules:
            spec = _understood(ruleset, rule)
            if spec.jump == "DROP" and table.name == "nat":
                raise _refused(ruleset, rule, "-j DROP", "the nat table is not intended for filtering")
            for extension in (*spec.matches, *(() if spec.target is None else (spec.target,))):
                if extension.allowed_tables() and table.name not in extension.allowed_tables():
                    raise _refused(ruleset, rule, extension.label, f"has no place in table {table.name}")
                allowed = extension.allowed_hooks()
                if allowed and not hooks <= allowed:
                    where = ", ".join(sorted(hooks - allowed))
                    message = f"has no place in {where}, from where the rule is reached"
                    raise _refused(ruleset, rule, extension.label, message)


def _reach(ruleset: Ruleset, table: Table, jumps: Mapping[str, Iterable[tuple[str, Rule]]]) -> dict[str, set[str]]:
    """The built-in chains from which each chain is reached. Raises DumpError for a loop, as the kernel refuses it."""
    order: list[str] = []
    state: dict[str, int] = {}  # 1 while its jumps are followed, 2 afterwards
    for start in jumps:
        if start in state:
            continue
        state[start] = 1
        path = [(start, iter(jumps[start]))]
        while path:
            name, rest = path[-1]
            step = next(rest, None)
            if step is None:
                state[name] = 2
                order.append(name)
                path.pop()
                continue
            goes_to, rule = step
            if state.get(goes_to) == 1:
                raise _refused(ruleset, rule, f"-j {goes_to}", "the jump closes a loop")
            if goes_to not in state:
                state[goes_to] = 1
                path.append((goes_to, iter(jumps[goes_to])))
    reached = {name: ({name} if name in BUILT_IN[table.name] else set()) for name in jumps}
    for name in reversed(order):
        for goes_to, _ in jumps[name]:
            reached[goes_to] |= reached[name]
    return reached
