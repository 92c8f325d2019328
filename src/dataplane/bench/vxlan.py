"""VXLAN over the size of packets: pod to pod across two nodes, in the tunnel and, beside it, without one.

The difference of the two is what encapsulation, the outer packet's way and decapsulation cost. No Service takes part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dataplane.bench.core import Core, Effort
from dataplane.bench.machine import Pinned
from dataplane.bench.path import times
from dataplane.bench.pods import Backend, Conversations
from dataplane.errors import ModelError

SIZES = (64, 594, 1_400)
SMALLEST, LARGEST = 40, 1_450  # bytes of an IP packet of TCP, and what fits into the tunnel
BACKENDS: tuple[Backend, ...] = ("vxlan", "host-gw")


def measure(sizes: Sequence[int], effort: Effort, flows: int = 1_000) -> Iterator[Core]:
    """sizes: bytes of the pods' IP packets. Raises ModelError for what no packet can have."""
    if not sizes:
        raise ModelError("at least one size")
    for size in sizes:
        if not SMALLEST <= size <= LARGEST:
            raise ModelError(f"packets of {size} bytes: from {SMALLEST} to {LARGEST} fit")
    with Pinned():
        for size in sizes:
            for backend in BACKENDS:
                talk = Conversations(backend, "far", flows, service=False, payload=size - SMALLEST, seed=effort.seed)
                yield Core(backend, size, "model", "established", times(talk, flows, effort))
