"""Packets per second in and out of captures through the doors that users call; and of `dataplane generate`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataplane._fast.batch import PacketBatch
from dataplane.capture import CaptureWriter, FolderWriter, PcapWriter, open_capture
from dataplane.cluster import complete, load_manifests
from dataplane.generate import IMIX, Recipe, batches, plan, write

PLACES = [f"node-{number}/eth0" for number in range(64)]
ROWS, ROUNDS = 4096, 50
COUNT = ROWS * ROUNDS
GENERATED = 200_000
SAMPLE = Path(__file__).parents[1] / "pcaps" / "boutique.yaml"


@pytest.fixture(scope="module")
def frames() -> PacketBatch:
    """Frames of 64 bytes, one µs apart, spread over the places."""
    frame = bytes.fromhex("020000000002 020000000001 0800").ljust(64, b"\x45")
    batch = PacketBatch.from_frames([frame] * ROWS, range(0, ROWS * 1000, 1000))
    batch.interface[:] = [row % len(PLACES) for row in range(ROWS)]
    return batch


def fill(writer: Any, batch: PacketBatch) -> None:
    with writer:
        for _ in range(ROUNDS):
            writer.write(batch)


def read(path: Path) -> int:
    with open_capture(path) as reader:
        return sum(len(batch) for batch in reader)


def test_write_pcapng(frames: PacketBatch, tmp_path: Path, per: Callable[..., Any]) -> None:
    per(COUNT, lambda: fill(CaptureWriter(tmp_path / "a.pcapng", PLACES), frames))


def test_write_pcap(frames: PacketBatch, tmp_path: Path, per: Callable[..., Any]) -> None:
    per(COUNT, lambda: fill(PcapWriter(tmp_path / "a.pcap"), frames))


def test_write_folder(frames: PacketBatch, tmp_path: Path, per: Callable[..., Any]) -> None:
    per(COUNT, lambda: fill(FolderWriter(tmp_path / "places", PLACES), frames))


def test_read_pcapng(frames: PacketBatch, tmp_path: Path, per: Callable[..., Any]) -> None:
    fill(CaptureWriter(tmp_path / "a.pcapng", PLACES), frames)
    assert per(COUNT, lambda: read(tmp_path / "a.pcapng")) == COUNT


def test_read_pcap(frames: PacketBatch, tmp_path: Path, per: Callable[..., Any]) -> None:
    fill(PcapWriter(tmp_path / "a.pcap"), frames)
    assert per(COUNT, lambda: read(tmp_path / "a.pcap")) == COUNT


@pytest.mark.parametrize("sizes", [{64: 1}, IMIX], ids=["64_bytes", "imix"])
def test_generate(sizes: dict[int, float], per: Callable[..., Any]) -> None:
    made = plan(complete(load_manifests(SAMPLE)), Recipe(packets=GENERATED, sizes=sizes))
    assert per(GENERATED, lambda: sum(map(len, batches(made)))) == GENERATED


def test_generate_into_a_pcap(tmp_path: Path, per: Callable[..., Any]) -> None:
    made = plan(complete(load_manifests(SAMPLE)), Recipe(packets=GENERATED))
    assert per(GENERATED, lambda: write(made, tmp_path / "out.pcap")) == GENERATED
