"""What a program feeds to `iptables-restore --noflush --counters`: an addition to the rules that the kernel holds.

A chain of one's own that is declared is flushed and filled, with counters at 0; what is not named stays as it is,
counters included. A built-in chain that is declared gets a policy, and keeps its rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dataplane.errors import DumpError
from dataplane.host.iptables import BUILT_IN, DECLARED
from dataplane.host.iptables_rule import parse_rule, split
from dataplane.host.xtables.declare import Refused


class Policy(NamedTuple):
    """Of a built-in chain: ACCEPT, DROP, or "" for the one that it has; and its counters."""

    verdict: str
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Restore:
    """family: 4 or 6. chains: table -> chain -> its rules, each the canonical text behind `-A CHAIN `; a chain that is
    not there is made. deleted: table -> chains that go, once nothing jumps to them any more. appended: table -> chain ->
    rules that come behind those it has. policies: table -> built-in chain -> its policy."""

    family: int
    chains: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    deleted: Mapping[str, Sequence[str]] = field(default_factory=dict)
    appended: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    policies: Mapping[str, Mapping[str, Policy]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(any(by_table.values()) for by_table in (self.chains, self.deleted, self.appended, self.policies))

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables of which it says something."""
        return tuple(dict.fromkeys((*self.chains, *self.deleted, *self.appended, *self.policies)))

    @classmethod
    def parse(cls, text: str, family: int, file: str = "iptables-restore") -> Restore:
        """Read the input of `iptables-restore --noflush --counters`: chains that it declares, rules that it appends, and
        chains that it deletes. DumpError for anything else."""
        chains: dict[str, dict[str, list[str]]] = {}
        appended: dict[str, dict[str, list[str]]] = {}
        policies: dict[str, dict[str, Policy]] = {}
        deleted: dict[str, list[str]] = {}
        table = ""
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split(maxsplit=2)
            where = f"line {number}"
            if not words or line.startswith("#"):
                continue
            if line.startswith("*"):
                table = line[1:].strip()
                chains.setdefault(table, {})
            elif words[0] == "COMMIT":
                table = ""
            elif not table:
                raise DumpError(file, where, words[0], "no table is open")
            elif line.startswith(":"):
                declared = DECLARED.fullmatch(line)
                if declared is None:
                    raise DumpError(file, where, line.strip(), "not a chain with its policy")
                name, verdict, packets, size = declared.groups()
                if name not in BUILT_IN.get(table, ()):
                    chains[table][name] = []
                    continue
                if verdict not in ("ACCEPT", "DROP", "-"):
                    raise DumpError(file, where, f":{name}", f"{verdict!r} is no policy")
                policy = Policy(verdict.strip("-"), int(packets or 0), int(size or 0))
                policies.setdefault(table, {})[name] = policy
            elif words[0] == "-A" and len(words) > 1:
                try:
                    parsed = parse_rule(split(words[2] if len(words) > 2 else ""), family)
                except Refused as refused:
                    raise DumpError(file, where, refused.field, refused.message) from None
                rules = chains[table].get(words[1])
                if rules is None:
                    rules = appended.setdefault(table, {}).setdefault(words[1], [])
                rules += [rule.text() for rule in parsed.specifications]
            elif words[0] == "-X" and len(words) == 2:
                chains[table].pop(words[1], None)
                deleted.setdefault(table, []).append(words[1])
            else:
                raise DumpError(file, where, words[0], "is neither -A nor -X")
        return cls(family, chains, deleted, appended, policies)

    def text(self) -> str:
        """The input of iptables-restore. Of `chains` user-defined ones only, as programs that share a kernel with others
        write."""
        lines: list[str] = []
        for table in self.tables:
            chains, deleted = self.chains.get(table, {}), self.deleted.get(table, ())
            lines.append(f"*{table}")
            for chain, (verdict, packets, size) in self.policies.get(table, {}).items():
                lines.append(f":{chain} {verdict or '-'} [{packets}:{size}]")
            lines += [f":{chain} - [0:0]" for chain in (*chains, *deleted)]
            for written in (chains, self.appended.get(table, {})):
                lines += [f"-A {chain} {rule}".rstrip() for chain, rules in written.items() for rule in rules]
            lines += [f"-X {chain}" for chain in deleted]
            lines.append("COMMIT")
        return "\n".join(lines) + "\n" if lines else ""
