"""PacketBatch: room, rows, arrays."""

import numpy as np
import pytest

from dataplane._fast.batch import HEADROOM, TAILROOM, PacketBatch

OVERHEAD = HEADROOM + TAILROOM


def test_an_appended_packet_is_there_with_all_that_is_known_of_it() -> None:
    batch = PacketBatch(4, 4096)
    batch.append(b"abc", 7, interface=2, link_type=101, original=1500)
    batch.append(b"", -1)
    assert len(batch) == 2
    assert [batch.frame(0), batch.frame(1)] == [b"abc", b""]
    assert batch.time[:2].tolist() == [7, -1]
    assert batch.interface[:2].tolist() == [2, 0]
    assert batch.link_type[:2].tolist() == [101, 1]
    assert batch.length[:2].tolist() == [3, 0]
    assert batch.original[:2].tolist() == [1500, 0]
    assert batch.network[:2].tolist() == [0xFFFF, 0xFFFF]
    assert not batch.mark[:2].any()
    assert not batch.verdict[:2].any()
    assert not batch.reason[:2].any()


def test_arrays_have_the_stated_types_and_capacity() -> None:
    batch = PacketBatch(5, 1000)
    types = {
        "offset": np.int64,
        "length": np.uint32,
        "original": np.uint32,
        "time": np.int64,
        "interface": np.int32,
        "mark": np.uint32,
        "verdict": np.uint8,
        "reason": np.uint16,
        "link_type": np.uint16,
        "network": np.uint16,
        "protocol": np.uint16,
    }
    for name, kind in types.items():
        assert getattr(batch, name).dtype == kind, name
        assert getattr(batch, name).shape == (5,), name
    assert batch.arena.dtype == np.uint8
    assert batch.arena.shape == (1000,)
    assert (batch.capacity, batch.arena_size, batch.used) == (5, 1000, 0)


def test_every_packet_has_its_own_headroom_and_tailroom() -> None:
    batch = PacketBatch.from_frames([b"x" * size for size in (0, 1, 64, 1514)])
    free_from = 0
    for row in range(len(batch)):
        start = int(batch.offset[row])
        assert start - free_from >= HEADROOM
        free_from = start + int(batch.length[row]) + TAILROOM
    assert free_from == batch.used <= batch.arena_size


def test_a_full_batch_refuses_and_stays_as_it_is() -> None:
    rows_full = PacketBatch(1, 10_000)
    rows_full.append(b"a", 0)
    with pytest.raises(ValueError, match="full: 1 of 1 rows"):
        rows_full.append(b"b", 0)
    arena_full = PacketBatch(9, 2 * OVERHEAD + 9)
    arena_full.append(b"12345", 0)
    with pytest.raises(ValueError, match="full: 1 of 9 rows, 197 of 393 arena bytes"):
        arena_full.append(b"12345", 0)
    arena_full.append(b"1234", 0)
    assert len(arena_full) == 2
    assert rows_full.frame(0) == b"a"


def test_a_row_used_again_forgets_what_it_was() -> None:
    batch = PacketBatch(1, 4096)
    batch.append(bytes(12) + b"\x08\x00", 0)
    batch.decode()
    batch.mark[0] = batch.verdict[0] = batch.reason[0] = 3
    batch.clear()
    assert (len(batch), batch.used) == (0, 0)
    batch.append(b"short", 0)
    assert (batch.mark[0], batch.verdict[0], batch.reason[0]) == (0, 0, 0)
    assert (batch.network[0], batch.protocol[0]) == (0xFFFF, 0)


def test_from_frames_takes_times_interface_and_link_type_and_decodes() -> None:
    batch = PacketBatch.from_frames([b"\x45", b"\x60"], [5, 6], interface=3, link_type=101)
    assert batch.time.tolist() == [5, 6]
    assert batch.interface.tolist() == [3, 3]
    assert batch.protocol.tolist() == [0x0800, 0x86DD]
    assert len(PacketBatch.from_frames([])) == 0
    with pytest.raises(ValueError, match="2 frames but 1 times"):
        PacketBatch.from_frames([b"a", b"b"], [1])


def test_frames_may_be_any_bytes_like_object() -> None:
    batch = PacketBatch(3, 4096)
    for frame in (bytearray(b"ab"), memoryview(b"ab"), np.frombuffer(b"ab", np.uint8)):
        batch.append(frame, 0)
    assert [batch.frame(row) for row in range(3)] == [b"ab"] * 3


def test_rows_outside_are_refused() -> None:
    batch = PacketBatch.from_frames([b"a"])
    for row in (-1, 1):
        with pytest.raises(IndexError, match="of 1"):
            batch.frame(row)
    with pytest.raises(ValueError, match="negative"):
        PacketBatch(-1, 0)
    with pytest.raises(OverflowError):
        batch.append(b"", 0, original=-1)
