"""pcap, byte by byte: golden files made by hand, in and out, and what is wrong with bad ones."""

from pathlib import Path
from typing import Literal

import pytest
from capture_reading import Row, read_all
from capture_twin import MICROSECONDS, NANOSECONDS, pcap_header, pcap_record

from dataplane._fast.batch import PacketBatch
from dataplane.capture import Interface, PcapWriter
from dataplane.errors import CaptureError, ModelError

# 2023-11-14 22:13:20 UTC and 123456 µs; 6 of 60 bytes captured.
LITTLE_MICRO = bytes.fromhex(
    "d4c3b2a1 0200 0400 00000000 00000000 00000400 0100000000f15365 40e20100 06000000 3c000000 ffffffffffff"
)
BIG_MICRO = bytes.fromhex(
    "a1b2c3d4 0002 0004 00000000 00000000 00040000 000000016553f100 0001e240 00000006 0000003c ffffffffffff"
)
LITTLE_NANO = bytes.fromhex(
    "4d3cb2a1 0200 0400 00000000 00000000 00000400 0100000000f15365 00ca5b07 06000000 3c000000 ffffffffffff"
)
BIG_NANO = bytes.fromhex(
    "a1b23c4d 0002 0004 00000000 00000000 00040000 000000016553f100 075bca00 00000006 0000003c ffffffffffff"
)
GOLDEN = [
    ("little", False, LITTLE_MICRO),
    ("big", False, BIG_MICRO),
    ("little", True, LITTLE_NANO),
    ("big", True, BIG_NANO),
]
ROW = Row(1_700_000_000_123_456_000, b"\xff" * 6, 60)


@pytest.mark.parametrize(("byte_order", "nanoseconds", "data"), GOLDEN)
def test_golden_file_read(byte_order: str, nanoseconds: bool, data: bytes) -> None:
    reading = read_all(data)
    assert reading.rows == [ROW]
    assert reading.error is None
    assert reading.interfaces == [Interface("", 1, 1_000_000_000 if nanoseconds else 1_000_000, 262144)]
    counts = reading.counts
    assert (counts.packets, counts.bytes, counts.wire_bytes, counts.truncated) == (1, 6, 60, 1)


@pytest.mark.parametrize(("byte_order", "nanoseconds", "data"), GOLDEN)
def test_golden_file_written(
    tmp_path: Path, byte_order: Literal["little", "big"], nanoseconds: bool, data: bytes
) -> None:
    batch = PacketBatch(1, 4096)
    batch.append(ROW.data, ROW.time, original=ROW.original)
    with PcapWriter(tmp_path / "a.pcap", nanoseconds=nanoseconds, byte_order=byte_order) as writer:
        writer.write(batch)
    assert (tmp_path / "a.pcap").read_bytes() == data
    assert writer.packets == 1


def test_a_file_without_packets_is_a_capture() -> None:
    reading = read_all(pcap_header())
    assert (reading.rows, reading.error) == ([], None)


def test_odd_lengths_follow_each_other_without_padding() -> None:
    data = pcap_header() + b"".join(pcap_record(bytes([n]) * n, n, n) for n in range(9))
    reading = read_all(data, rows=2)
    assert reading.rows == [Row(n * 1_000_001_000, bytes([n]) * n, n) for n in range(9)]
    assert reading.error is None


def test_the_upper_half_of_network_is_not_the_link_type() -> None:
    # Bit 26 and the top four: frames end in a frame check sequence of two 16-bit words.
    reading = read_all(pcap_header(link_type=0x24000001) + pcap_record(b"abc"))
    assert reading.interfaces[0].link_type == 1
    assert reading.rows[0].link_type == 1


def test_a_wire_length_below_the_captured_one_is_mended_and_counted() -> None:
    reading = read_all(pcap_header() + pcap_record(b"abcdef", original=2))
    assert reading.rows == [Row(0, b"abcdef", 6)]
    assert (reading.counts.short_original, reading.counts.truncated) == (1, 0)


def test_packets_beyond_the_snap_length_are_read_and_counted() -> None:
    reading = read_all(pcap_header(snap_length=4) + pcap_record(b"abcdef") + pcap_record(b"abcd"))
    assert (reading.counts.packets, reading.counts.beyond_snap) == (2, 1)


def fails(data: bytes) -> CaptureError:
    with pytest.raises(CaptureError) as caught:
        read_all(data)
    return caught.value


def test_a_wrong_magic_is_named() -> None:
    for data, message in (
        (b"", "the file ends after 0 of 4 bytes"),
        (b"\xd4\xc3", "the file ends after 2 of 4 bytes"),
        (b"GIF89a" + bytes(40), "47 49 46 38 begins neither a pcap nor a pcapng file"),
        (b"\x34\xcd\xb2\xa1" + bytes(40), "the modified pcap format of Alexey Kuznetzov is not read"),
        (b"\xa1\xb2\xcd\x34" + bytes(40), "the modified pcap format of Alexey Kuznetzov is not read"),
    ):
        error = fails(data)
        assert (error.file, error.where, error.field, error.message) == ("memory", "byte 0", "magic", message)
        assert str(error) == f"memory: byte 0: magic: {message}"


def test_a_cut_header_and_a_strange_version_are_named() -> None:
    assert str(fails(pcap_header()[:23])) == "memory: byte 0: file header: the file ends after 23 of 24 bytes"
    data = bytearray(pcap_header())
    data[4:8] = b"\x02\x00\x03\x00"
    assert str(fails(bytes(data))) == "memory: byte 4: version: 2.3 is not read, only 2.4"


@pytest.mark.parametrize("rows", [1, 2, 4096])
def test_everything_before_a_cut_is_given_out(rows: int) -> None:
    whole = pcap_header() + pcap_record(b"first") + pcap_record(b"second")
    for end in range(len(pcap_header()), len(whole)):
        reading = read_all(whole[:end], rows)
        boundary = end in (24, 45)
        assert [row.data for row in reading.rows] == [b"first"] * (end >= 45)
        if boundary:
            assert reading.error is None
            continue
        error = reading.error
        assert error is not None
        start = 45 if end > 45 else 24
        assert error.where == f"byte {start}"
        assert error.field == ("packet data" if end - start >= 16 else "record header")
        need = 16 + len("second" if end > 45 else "first") if end - start >= 16 else 16
        assert error.message == f"the file ends after {end - start} of {need} bytes of the record"


def test_an_impossible_length_is_named() -> None:
    bad = bytearray(pcap_record(b"second"))
    bad[8:12] = (262145).to_bytes(4, "little")
    reading = read_all(pcap_header() + pcap_record(b"first") + bytes(bad) + bytes(300_000))
    assert [row.data for row in reading.rows] == [b"first"]
    expected = "memory: byte 45: captured length: 262145 is more than the 262144 that a packet may have"
    assert str(reading.error) == expected


def test_the_longest_packet_is_read() -> None:
    longest = bytes(262144)
    reading = read_all(pcap_header() + pcap_record(longest) * 3, rows=1)
    assert [len(row.data) for row in reading.rows] == [262144] * 3


def test_a_link_type_that_is_not_read_is_named_at_the_first_packet() -> None:
    assert read_all(pcap_header(link_type=105)).error is None
    reading = read_all(pcap_header(link_type=105) + pcap_record(b"x"))
    assert reading.rows == []
    assert str(reading.error) == "memory: byte 20: network: link type 105 IEEE802_11 is not read"


def test_times_are_cut_to_what_the_format_can_say(tmp_path: Path) -> None:
    batch = PacketBatch.from_frames([b"a"] * 4, [-5, 1999, (1 << 32) * 10**9, 2**63 - 1])
    for nanoseconds, expected in (
        (False, [0, 1000, 4294967295_999_999_000, 4294967295_999_999_000]),
        (True, [0, 1999, 4294967295_999_999_999, 4294967295_999_999_999]),
    ):
        path = tmp_path / f"{nanoseconds}.pcap"
        with PcapWriter(path, nanoseconds=nanoseconds) as writer:
            writer.write(batch)
        assert [row.time for row in read_all(path.read_bytes()).rows] == expected


def test_chosen_rows_are_written_in_the_order_asked_for(tmp_path: Path) -> None:
    batch = PacketBatch.from_frames([b"a", b"b", b"c"])
    with PcapWriter(tmp_path / "a.pcap") as writer:
        writer.write(batch, [2, 0])
        writer.write(batch, [])
        with pytest.raises(IndexError):
            writer.write(batch, [3])
        with pytest.raises(IndexError):
            writer.write(batch, [-1])
    assert [row.data for row in read_all((tmp_path / "a.pcap").read_bytes()).rows] == [b"c", b"a"]


def test_rows_of_another_link_type_are_refused(tmp_path: Path) -> None:
    batch = PacketBatch.from_frames([b"\x45"], link_type=101)
    with PcapWriter(tmp_path / "a.pcap") as writer, pytest.raises(ModelError, match="link type 101 in a file of 1"):
        writer.write(batch)


def test_the_twin_and_the_goldens_agree() -> None:
    for order, magic, data in (("<", MICROSECONDS, LITTLE_MICRO), (">", NANOSECONDS, BIG_NANO)):
        fraction = 123_456 if magic == MICROSECONDS else 123_456_000
        record = pcap_record(ROW.data, 1_700_000_000, fraction, 60, order)
        assert pcap_header(order, magic, snap_length=262144) + record == data
