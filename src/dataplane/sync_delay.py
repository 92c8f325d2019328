"""How long after a change of the cluster each node's kube-proxy writes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dataplane.cluster.events import duration
from dataplane.errors import InputError


@dataclass(frozen=True, slots=True)
class SyncDelay:
    """ns from a change to the sync that takes it up: `fixed`, and up to `jitter` more, drawn anew each time."""

    fixed: int = 0
    jitter: int = 0


@dataclass(frozen=True, slots=True)
class SyncDelays:
    """everywhere: of nodes that have none of their own."""

    everywhere: SyncDelay = field(default_factory=SyncDelay)
    nodes: Mapping[str, SyncDelay] = field(default_factory=dict)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> SyncDelays:
        """Each TIME, or TIME+JITTER, for all nodes, or NODE=TIME+JITTER for one. Raises InputError."""
        everywhere, nodes = SyncDelay(), {}
        for text in texts:
            for part in text.split(","):
                node, equals, delay = part.rpartition("=")
                fixed, plus, jitter = delay.partition("+")
                if (equals and not node) or not fixed or (plus and not jitter) or re.search(r"\s", part):
                    raise InputError(
                        text, field="--sync-delay", message="is not [NODE=]TIME[+JITTER], such as 1s+500ms"
                    )
                made = SyncDelay(duration(fixed, "--sync-delay"), duration(jitter, "--sync-delay") if plus else 0)
                if node:
                    nodes[node] = made
                else:
                    everywhere = made
        return cls(everywhere, nodes)

    def of(self, node: str) -> SyncDelay:
        return self.nodes.get(node, self.everywhere)
