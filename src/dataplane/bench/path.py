"""A packet's whole way in a cluster: from pod to Service to pod, on one node and across two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dataplane.bench.core import Core, Effort, repeated
from dataplane.bench.figures import Times
from dataplane.bench.machine import Pinned
from dataplane.bench.pods import Backend, Conversations
from dataplane.errors import ModelError

FLOWS = (1, 1_000, 50_000)
WAYS: tuple[tuple[str, str, Backend, bool], ...] = (
    ("pod to pod, one node", "near", "vxlan", False),
    ("pod to Service, one node", "near", "vxlan", True),
    ("pod to Service, two nodes, host-gw", "far", "host-gw", True),
    ("pod to Service, two nodes, vxlan", "far", "vxlan", True),
)


def measure(flows: Sequence[int], effort: Effort, payload: int = 10) -> Iterator[Core]:
    """payload: bytes behind the TCP header. Raises ModelError for numbers that measure nothing."""
    if not flows or min(flows) < 1:
        raise ModelError("at least one number of flows, from 1 on")
    with Pinned():
        for what, server, backend, service in WAYS:
            for count in flows:
                talk = Conversations(backend, server, count, service=service, payload=payload, seed=effort.seed)
                yield Core(what, count, "model", "established", times(talk, count, effort))


def times(talk: Conversations, flows: int, effort: Effort) -> Times:
    """Packets of conversations that are chosen at random."""
    random = np.random.default_rng(effort.seed)
    return repeated(lambda group: talk.send(talk.data(random.integers(0, flows, effort.packets)), group), effort)
