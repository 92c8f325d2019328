"""Captures in and out: packets per second through the doors that users call, one core, files in memory.

    python bench/captures.py [--packets 500000] [--size 64] [--repeats 7]

Prints one median per line, million packets/s.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from dataplane._fast.batch import PacketBatch
from dataplane.capture import CaptureWriter, FolderWriter, PcapWriter, open_capture

PLACES = 64
ROWS = 4096


def one_batch(size: int) -> PacketBatch:
    """ROWS frames of `size` bytes, one µs apart, spread over PLACES interfaces."""
    frame = bytes.fromhex("020000000002 020000000001 0800").ljust(size, b"\x45")
    batch = PacketBatch.from_frames([frame] * ROWS, range(0, ROWS * 1000, 1000))
    batch.interface[:] = [row % PLACES for row in range(ROWS)]
    return batch


def read(path: Path) -> int:
    with open_capture(path) as reader:
        return sum(len(batch) for batch in reader)


def measure(label: str, repeats: int, run: Callable[[], int]) -> None:
    rates = []
    for _ in range(repeats):
        begin = time.perf_counter()
        packets = run()
        rates.append(packets / (time.perf_counter() - begin) / 1e6)
    print(f"{label:<16} {statistics.median(rates):8.2f} million packets/s")


def main() -> None:
    parser = argparse.ArgumentParser(description="packets per second, captures in and out")
    parser.add_argument("--packets", type=int, default=500_000)
    parser.add_argument("--size", type=int, default=64, help="bytes per packet")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()

    batch = one_batch(options.size)
    rounds = max(options.packets // ROWS, 1)
    shared_memory = Path("/dev/shm")
    with TemporaryDirectory(dir=shared_memory if shared_memory.is_dir() else None) as folder:
        pcapng = Path(folder, "a.pcapng")
        pcap = Path(folder, "a.pcap")
        places = [f"node-{number}/eth0" for number in range(PLACES)]

        def write_pcapng() -> int:
            with CaptureWriter(pcapng, places) as writer:
                for _ in range(rounds):
                    writer.write(batch)
            return writer.packets

        def write_pcap() -> int:
            with PcapWriter(pcap) as writer:
                for _ in range(rounds):
                    writer.write(batch)
            return writer.packets

        def write_folder() -> int:
            with FolderWriter(Path(folder, "places"), places) as writer:
                for _ in range(rounds):
                    writer.write(batch)
            return writer.packets

        measure("write pcapng", options.repeats, write_pcapng)
        measure("read pcapng", options.repeats, lambda: read(pcapng))
        measure("write pcap", options.repeats, write_pcap)
        measure("read pcap", options.repeats, lambda: read(pcap))
        measure("write folder", options.repeats, write_folder)


if __name__ == "__main__":
    main()
