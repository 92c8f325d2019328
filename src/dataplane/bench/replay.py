"""From capture file to capture file: what `dataplane replay` does, with and without what it writes."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from dataplane.bench.core import Core, Effort
from dataplane.bench.figures import Figure, Times
from dataplane.bench.machine import Pinned
from dataplane.bench.pods import cluster, manifests
from dataplane.cluster import complete, read_manifests
from dataplane.errors import ModelError
from dataplane.generate import Recipe, plan, write

FLOWS = (1_000, 10_000)
# What is captured on the way: nothing, one place, every place.
PLACES: tuple[tuple[str, str], ...] = (
    ("replay, nothing written", ""),
    ("replay, one place written", "default/far/eth0"),
    ("replay, every place written", "*"),
)


def measure(flows: Sequence[int], effort: Effort) -> Iterator[Core]:
    """`effort.packets` of a generated capture, both directions, read from a file in memory where there is one.

    A run is timed as a whole, so there are no percentiles. ModelError where the capture does not arrive.
    """
    memory = Path("/dev/shm")
    if not flows or min(flows) < 1:
        raise ModelError("at least one number of flows, from 1 on")
    with Pinned(), TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        source, target = Path(folder, "in.pcap"), Path(folder, "out.pcapng")
        for count in flows:
            recipe = Recipe(packets=max(effort.packets, count), flows=count, seed=effort.seed, services=1.0)
            packets = write(plan(complete(read_manifests(manifests())), recipe), source)
            for what, places in PLACES:
                taken = []
                for repeat in range(effort.repeats + 1):
                    # Each time a new cluster: connections of the run before would be found open.
                    subject = cluster(seed=effort.seed)
                    gc.collect()
                    begin = time.perf_counter()
                    result = subject.replay(source, write=target if places else None, places=places)
                    if repeat:
                        taken.append(time.perf_counter() - begin)
                    if not result.accounting.delivered:
                        raise ModelError(f"the capture did not arrive: {result.accounting.line()}")
                times = Times(
                    {},
                    Figure.of([1e9 * seconds / packets for seconds in taken]),
                    Figure.of([packets / seconds for seconds in taken]),
                )
                yield Core(what, count, "model", "conversations", times)
