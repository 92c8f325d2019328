"""Random changes of rules while packets go by: what `iptables-restore --noflush --counters` takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from judge.random_hosts import Drawn
from judge.random_rules import BASE, USER, Rules

# A kernel that tracks nothing yet would begin to.
TRACKING = re.compile(r"conn|CONNMARK|CT |NOTRACK|NAT |REDIRECT|MASQUERADE")
ADDED = "V0"


def change(random: Random, drawn: Drawn, lines: Sequence[str]) -> tuple[int, str] | None:
    """A family and a text for its tool, for one of the tables that the host has; None where it has none."""
    tables = sorted({tuple(line.split()[:3]) for line in lines if line.startswith(("iptables -t", "ip6tables -t"))})
    if not tables:
        return None
    word, _, table = random.choice(tables)
    family = 4 if word == "iptables" else 6
    rules = Rules(random, drawn, family)

    def rule(chain: str, ahead: tuple[str, ...]) -> str:
        while True:
            made = rules.rule(table, chain, ahead)
            if not TRACKING.search(made):
                return f"-A {chain} {made}".rstrip()

    def some(chain: str, ahead: tuple[str, ...]) -> list[str]:
        return [rule(chain, ahead) for _ in range(random.choice([0, 1, 2, 3]))]

    declared, added = [], []
    kind = random.choice(["fill", "fill", "append", "policy", "new"])
    base = random.choice(BASE[table])
    if kind == "fill":
        place = random.randrange(len(USER))
        if any(TRACKING.search(line) for line in lines if line.startswith(f"{word} -t {table} -A {USER[place]} ")):
            return None  # the last rule that tracks may go, and tracking with it
        declared.append(f":{USER[place]} - [0:0]")
        added += some(USER[place], USER[place + 1 :])
    elif kind == "append":
        added += [*some(base, USER), *some(USER[-1], ())]
    elif kind == "policy":
        verdict = random.choice(["ACCEPT", "ACCEPT", "DROP", "-"]) if table == "filter" else "ACCEPT"
        declared.append(f":{base} {verdict} [{random.randrange(9)}:{random.randrange(900)}]")
    else:
        declared.append(f":{ADDED} - [0:0]")
        added += [*some(ADDED, USER), f"-A {base} -j {ADDED}"]
    return family, "\n".join([f"*{table}", *declared, *added, "COMMIT", ""])
