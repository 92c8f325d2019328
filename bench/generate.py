"""Packets per second of `dataplane generate`, in memory and into a file. Medians of repeats, one core."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dataplane.cluster import complete, load_manifests
from dataplane.generate import IMIX, Recipe, batches, plan, write

REPEATS = 5
PACKETS = 1_000_000
SAMPLE = Path(__file__).parents[1] / "pcaps" / "boutique.yaml"


def rate(work: Callable[[], object]) -> float:
    """Million packets per second."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return PACKETS / statistics.median(times) / 1e6


def main() -> None:
    state = complete(load_manifests(SAMPLE))
    small = plan(state, Recipe(packets=PACKETS))
    mixed = plan(state, Recipe(packets=PACKETS, sizes=IMIX, ipv6=0.3))
    print(f"generate, 64 bytes, in memory   {rate(lambda: sum(map(len, batches(small)))):6.2f} million packets/s")
    print(f"generate, imix, in memory       {rate(lambda: sum(map(len, batches(mixed)))):6.2f} million packets/s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "out.pcap")
        print(f"generate, 64 bytes, to a pcap   {rate(lambda: write(small, path)):6.2f} million packets/s")


if __name__ == "__main__":
    main()
