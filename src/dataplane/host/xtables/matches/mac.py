"""-m mac: the source address of the frame (net/netfilter/xt_mac.c)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import Kind, Match, Option, Scope
from dataplane.host.xtables.predicate import ANY, Custom, Test


def _mac(text: str, scope: Scope) -> int:
    parts = text.split(":")
    if len(parts) != 6 or not all(re.fullmatch(r"[0-9a-fA-F]{1,2}", part) for part in parts):
        raise ValueError(f"{text!r} is no MAC address")
    return int("".join(part.zfill(2) for part in parts), 16)


MAC = Kind(_mac, lambda value: value.to_bytes(6, "big").hex(":"))


class Mac(Match):
    name = "mac"
    hooks = frozenset({"PREROUTING", "INPUT", "FORWARD"})
    options = (Option("mac-source", MAC, invert=True, required=True),)

    def tests(self) -> Iterator[Test]:
        value = self.value("mac-source")
        yield Custom(OpKind.OP_MAC, (value >> 32, value & ANY), invert=self.inverted("mac-source"))


MATCH = Mac
