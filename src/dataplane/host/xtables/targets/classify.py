"""-j CLASSIFY: the packet's priority, for queueing disciplines (net/netfilter/xt_CLASSIFY.c).

No queueing discipline is modelled and no header carries the priority, so the packet goes on as it is.
"""

from __future__ import annotations

import re

from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Kind, Option, Scope, Target
from dataplane.host.xtables.predicate import Action


def _class(text: str, scope: Scope) -> int:
    match = re.fullmatch(r"([0-9a-fA-F]{1,4}):([0-9a-fA-F]{1,4})", text)
    if not match:
        raise ValueError(f"{text!r} is no class, which is major:minor in hexadecimal")
    return int(match[1], 16) << 16 | int(match[2], 16)


class Classify(Target):
    name = "CLASSIFY"
    hooks = frozenset({"FORWARD", "OUTPUT", "POSTROUTING"})
    options = (
        Option("set-class", Kind(_class, lambda value: f"{value >> 16:04x}:{value & 0xFFFF:04x}"), required=True),
    )

    def action(self) -> Action:
        return Action(TargetKind.TARGET_CONTINUE)


TARGET = Classify
