"""How many rules a packet is held against, counted from what the rules tell of a traced packet.

The kernel takes a chain's rules in turn, so between two rules that matched it has looked at every one. The model has an
index for long runs of rules and looks at fewer; what is counted here is the kernel's number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dataplane._fast.host import CompiledHost
from dataplane._fast.rules import CompiledRules
from dataplane._fast.ruleset import TargetKind

RULE, POLICY, RETURN, HOTDROP = 0, 1, 2, 3  # RuleEventKind
_GOES_ON = range(TargetKind.TARGET_MARK, 256)


def rules_walked(host: CompiledHost, events: npt.NDArray[np.void], packets: int) -> npt.NDArray[np.int64]:
    """Rules that each of `packets` packets was held against, all hooks and tables together: int64 by row.

    events: of `_fast.stopwatch.rules_met`, IPv4.
    """
    counts = np.zeros(packets, np.int64)
    rules = host.rules4
    if rules is None:
        return counts
    position = _Position(rules)
    for event in events.tolist():
        row, _, rule, chain, _, _, _, _, kind, _, _, verdict, *_ = event
        counts[row] += position.move(kind, rule, chain, verdict)
    return counts


class _Position:
    """Where in the rules a packet stands."""

    def __init__(self, rules: CompiledRules) -> None:
        program = rules.program
        chains = program.chains
        self._first = chains["first_rule"].tolist()
        self._end = (chains["first_rule"] + chains["rule_count"]).tolist()
        self._argument = program.rules["argument"].tolist()
        self._at = -1  # the next rule; -1 between two base chains
        self._back: list[int] = []
        self._returned = False

    def move(self, kind: int, rule: int, chain: int, verdict: int) -> int:
        """One event; how many rules were looked at on the way to it."""
        at = self._first[chain] if self._at < 0 else self._at
        if kind == RULE:
            self._after(rule, verdict)
            return int(rule + 1 - at)
        if kind == HOTDROP:
            self._leave()
            return int(rule + 1 - at)
        # The end of a chain: by a RETURN, which was counted as a rule, or behind its last rule.
        walked = 0 if self._returned else int(self._end[chain] - at)
        self._returned = False
        if kind == RETURN:
            self._at = self._back.pop()
        else:
            self._leave()
        return walked

    def _after(self, rule: int, verdict: int) -> None:
        if verdict in (TargetKind.TARGET_JUMP, TargetKind.TARGET_GOTO):
            if verdict == TargetKind.TARGET_JUMP:
                self._back.append(rule + 1)
            self._at = self._first[self._argument[rule]]
        elif verdict == TargetKind.TARGET_RETURN:
            self._returned = True
            self._at = rule + 1
        elif verdict == TargetKind.TARGET_CONTINUE or verdict in _GOES_ON:
            self._at = rule + 1
        else:
            self._leave()

    def _leave(self) -> None:
        self._at = -1
        self._back.clear()
        self._returned = False
