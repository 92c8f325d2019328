"""pcapng, byte by byte: golden blocks made by hand, sections, clocks, options, and blocks that hold no packet."""

import io
import struct

import pytest
from capture_reading import Row, read_all
from capture_twin import (
    CUSTOM,
    NAME_RESOLUTION,
    SECRETS,
    STATISTICS,
    block,
    comment,
    enhanced,
    interface,
    obsolete,
    option,
    section,
    simple,
)

from dataplane.capture import CaptureReader

# Section, interface "eth0" in ns with offset 1 s, a packet of 5 bytes (of 60) at 2 s and 7 ns with a comment.
GOLDEN = bytes.fromhex(
    "0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000"
    "01000000 34000000 0100 0000 00000100"
    "0200 0400 65746830  0900 0100 09000000  0e00 0800 0100000000000000  0000 0000  34000000"
    "06000000 34000000 00000000 00000000 07943577 05000000 3c000000 0102030405 000000"
    "0100 0200 68690000  0000 0000  34000000"
)


def test_golden_file_read() -> None:
    reading = read_all(GOLDEN)
    assert reading.error is None
    assert reading.rows == [Row(3_000_000_007, bytes([1, 2, 3, 4, 5]), 60)]
    assert reading.packet_comments == {0: ["hi"]}
    (only,) = reading.interfaces
    assert (only.name, only.link_type, only.resolution, only.snap_length, only.offset) == ("eth0", 1, 10**9, 65536, 1)
    counts = reading.counts
    assert (counts.packets, counts.truncated, counts.sections, counts.comments, counts.unknown_blocks) == (
        1,
        1,
        1,
        1,
        0,
    )


def test_the_twin_and_the_golden_agree() -> None:
    end = option(0, b"")
    made = section() + interface(name="eth0", resolution=9, offset=1, snap_length=65536, options=end)
    made += enhanced(bytes([1, 2, 3, 4, 5]), 2_000_000_007, original=60, options=comment("hi"))
    assert made == GOLDEN


@pytest.mark.parametrize("order", ["<", ">"])
def test_all_three_packet_blocks(order: str) -> None:
    data = section(order) + interface(order=order, snap_length=4) + interface(name="b", order=order)
    data += enhanced(b"abcde", 2_000_001, 1, order=order)
    data += simple(b"abcd", original=1000, order=order)
    data += obsolete(b"abc", 3_000_000, 1, original=90, options=comment("old", order), order=order)
    reading = read_all(data)
    assert reading.error is None
    assert reading.rows == [
        Row(2_000_001_000, b"abcde", 5, 1),
        Row(2_000_001_000, b"abcd", 1000, 0),
        Row(3_000_000_000, b"abc", 90, 1),
    ]
    assert reading.packet_comments == {2: ["old"]}
    assert (reading.counts.untimed, reading.counts.truncated, reading.counts.beyond_snap) == (1, 2, 0)


def test_sections_of_either_byte_order_number_their_interfaces_anew() -> None:
    data = section("<") + interface(name="a") + interface(101, name="b") + enhanced(b"1", index=1)
    data += section(">", minor=2) + interface(113, name="c", order=">") + enhanced(b"2" * 16, index=0, order=">")
    data += section("<") + interface(name="d") + enhanced(b"3", index=0)
    for rows in (1, 2, 100):
        reading = read_all(data, rows)
        assert reading.error is None
        assert [(row.data[:1], row.interface, row.link_type) for row in reading.rows] == [
            (b"1", 1, 101),
            (b"2", 2, 113),
            (b"3", 3, 1),
        ]
        assert [(i.name, i.section) for i in reading.interfaces] == [("a", 0), ("b", 0), ("c", 1), ("d", 2)]
        assert reading.counts.sections == 3


@pytest.mark.parametrize(
    ("resolution", "ticks", "time"),
    [
        (None, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
        (0, 1_700_000_000, 1_700_000_000 * 10**9),
        (3, 1_700_000_000_123, 1_700_000_000_123_000_000),
        (6, 5, 5_000),
        (9, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        (12, 12_345_678, 12_345),
        (28, 2**64 - 1, 1),
        (29, 2**64 - 1, 0),
        (127, 2**64 - 1, 0),
        (0x80 | 0, 1_700_000_000, 1_700_000_000 * 10**9),
        (0x80 | 10, 1_700_000_000 << 10 | 512, 1_700_000_000_500_000_000),
        (0x80 | 30, 5 << 30 | 1, 5_000_000_000),
        (0x80 | 64, 2**64 - 1, 999_999_999),
        (0x80 | 127, 2**64 - 1, 0),
    ],
)
def test_clocks(resolution: int | None, ticks: int, time: int) -> None:
    reading = read_all(section() + interface(resolution=resolution) + enhanced(b"x", ticks))
    assert [row.time for row in reading.rows] == [time]
    assert reading.counts.clamped == 0
    base, exponent = (2, resolution & 0x7F) if resolution and resolution & 0x80 else (10, resolution)
    assert reading.interfaces[0].resolution == (10**6 if exponent is None else base**exponent)


def test_offsets_move_times_both_ways_and_far() -> None:
    data = section()
    for offset in (-2, 3, 2**62, -(2**62)):
        data += interface(resolution=9, offset=offset)
    data += b"".join(enhanced(b"x", 10**9, index) for index in range(4))
    reading = read_all(data)
    assert [row.time for row in reading.rows] == [-(10**9), 4 * 10**9, 2**63 - 1, -(2**63)]
    assert reading.counts.clamped == 2


def test_a_time_beyond_64_bits_of_ns_is_clamped_and_counted() -> None:
    reading = read_all(section() + interface(resolution=0) + enhanced(b"x", 2**64 - 1))
    assert [row.time for row in reading.rows] == [2**63 - 1]
    assert reading.counts.clamped == 1


def test_comments_are_kept_and_counted() -> None:
    data = section(options=comment("whole file"))
    data += interface(name="a", options=option(1, b"one") + option(3, b"uplink\0") + comment("two"))
    data += enhanced(b"p", options=option(2, bytes(4)) + option(1, "naïve".encode()) + comment("again"))
    data += enhanced(b"q")
    data += enhanced(b"r", options=comment("ÿ"))
    for rows in (1, 100):
        reading = read_all(data, rows)
        assert reading.error is None
        assert reading.comments == ["whole file"]
        assert (reading.interfaces[0].comment, reading.interfaces[0].description) == ("one\ntwo", "uplink")
        assert reading.packet_comments == {0: ["naïve", "again"], 2: ["ÿ"]}
        assert reading.counts.comments == 6


def test_options_end_at_the_block_or_at_their_end_mark() -> None:
    behind_the_mark = option(0, b"") + b"\xff" * 8
    data = (
        section() + interface() + enhanced(b"p", options=option(2, bytes(4))) + enhanced(b"q", options=behind_the_mark)
    )
    reading = read_all(data)
    assert reading.error is None
    assert [row.data for row in reading.rows] == [b"p", b"q"]
    assert reading.counts.comments == 0


def test_other_blocks_are_left_out_and_counted_by_kind() -> None:
    data = section() + block(NAME_RESOLUTION, bytes(4)) + interface() + enhanced(b"p") + block(STATISTICS, bytes(12))
    data += block(SECRETS, bytes(8)) + block(9, bytes(4)) + block(CUSTOM, bytes(8)) + block(0x40000BAD, bytes(8))
    data += block(0x80000001, b"") + enhanced(b"q") + block(0x7777, bytes(2_000_000)) + enhanced(b"r")
    for rows in (1, 100):
        reading = read_all(data, rows)
        assert reading.error is None
        assert [row.data for row in reading.rows] == [b"p", b"q", b"r"]
        assert reading.counts.unknown_blocks == 8
        assert reading.counts.blocks == {
            "name_resolution": 1,
            "statistics": 1,
            "secrets": 1,
            "journal": 1,
            "custom": 2,
            "unknown": 2,
        }


def test_what_comes_before_the_first_packet_is_known_at_the_door() -> None:
    data = section() + interface(name="a") + interface(name="b") + enhanced(b"p") + interface(name="c")
    reader = CaptureReader(io.BytesIO(data), "memory")
    assert [i.name for i in reader.interfaces] == ["a", "b"]
    assert reader.format == "pcapng"
    assert reader.counts.packets == 0
    assert sum(len(batch) for batch in reader) == 1
    assert [i.name for i in reader.interfaces] == ["a", "b", "c"]


def test_the_snap_length_bounds_a_simple_packet() -> None:
    data = section() + interface(snap_length=0) + simple(b"abcdef")
    data += section() + interface(snap_length=6) + simple(b"abcdef", original=9000)
    reading = read_all(data)
    assert [(row.data, row.original) for row in reading.rows] == [(b"abcdef", 6), (b"abcdef", 9000)]


def test_a_file_of_sections_alone_is_a_capture() -> None:
    reading = read_all(section("<") + section(">"))
    assert (reading.rows, reading.error, reading.counts.sections) == ([], None, 2)


def test_a_stated_section_length_is_not_needed() -> None:
    head = bytearray(section())
    head[16:24] = struct.pack("<q", 12345)
    assert read_all(bytes(head) + interface() + enhanced(b"p")).rows == [Row(0, b"p", 1)]
