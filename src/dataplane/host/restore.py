"""What a program feeds to `iptables-restore --noflush`: an addition to the rules that the kernel holds.

A chain that is named is flushed and filled, with counters at 0; what is not named stays as it is, counters included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dataplane.errors import DumpError
from dataplane.host.iptables_rule import parse_rule, split
from dataplane.host.xtables.declare import Refused


@dataclass(frozen=True, slots=True)
class Restore:
    """family: 4 or 6. chains: table -> chain -> its rules, each the canonical text behind `-A CHAIN `; a chain that is
    not there is made. deleted: table -> chains that go, once nothing jumps to them any more."""

    family: int
    chains: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    deleted: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.chains.values()) or any(self.deleted.values())

    @classmethod
    def parse(cls, text: str, family: int, file: str = "iptables-restore") -> Restore:
        """Read the input of `iptables-restore --noflush`: chains that it declares, rules that it appends to these, and
        chains that it deletes. DumpError for anything else."""
        chains: dict[str, dict[str, list[str]]] = {}
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
                chains[table][words[0][1:]] = []
            elif words[0] == "-A" and len(words) > 1 and words[1] in chains[table]:
                try:
                    parsed = parse_rule(split(words[2] if len(words) > 2 else ""), family)
                except Refused as refused:
                    raise DumpError(file, where, refused.field, refused.message) from None
                chains[table][words[1]] += [rule.text() for rule in parsed.specifications]
            elif words[0] == "-X" and len(words) == 2:
                chains[table].pop(words[1], None)
                deleted.setdefault(table, []).append(words[1])
            else:
                raise DumpError(file, where, words[0], "is neither a rule of a chain that is declared here nor -X")
        return cls(family, chains, deleted)

    def text(self) -> str:
        """The input of iptables-restore: user-defined chains only, as programs that share a kernel with others write."""
        lines: list[str] = []
        for table in dict.fromkeys((*self.chains, *self.deleted)):
            chains, deleted = self.chains.get(table, {}), self.deleted.get(table, ())
            lines.append(f"*{table}")
            lines += [f":{chain} - [0:0]" for chain in (*chains, *deleted)]
            lines += [f"-A {chain} {rule}".rstrip() for chain, rules in chains.items() for rule in rules]
            lines += [f"-X {chain}" for chain in deleted]
            lines.append("COMMIT")
        return "\n".join(lines) + "\n" if lines else ""
