"""Properties: what is written is read, whatever it is; and no bytes crash the readers or cost an earlier packet."""

import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pytest
from capture_reading import Reading, Row, read_all
from capture_twin import (
    block,
    comment,
    enhanced,
    interface,
    obsolete,
    option,
    pcap_header,
    pcap_record,
    section,
    simple,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane._fast.batch import HEADROOM, TAILROOM, PacketBatch
from dataplane._fast.records import MAX_BLOCK
from dataplane.capture import CaptureReader, CaptureWriter, PcapWriter
from dataplane.errors import CaptureError

LINK_TYPES = [0, 1, 12, 14, 101, 108, 113, 228, 229, 276]
ROWS = st.integers(1, 9)
DATA = st.binary(max_size=80)


def batch_of(rows: list[Row]) -> PacketBatch:
    batch = PacketBatch(len(rows), sum(len(row.data) + HEADROOM + TAILROOM for row in rows))
    for row in rows:
        batch.append(row.data, row.time, row.interface, row.link_type, row.original)
    return batch


@st.composite
def row_at_place(draw: st.DrawFn, link_types: list[int], latest: int) -> Row:
    data = draw(DATA)
    place = draw(st.integers(0, len(link_types) - 1))
    original = draw(st.integers(len(data), 2**32 - 1))
    return Row(draw(st.integers(0, latest)), data, original, place, link_types[place])


@given(st.data(), st.lists(st.sampled_from(LINK_TYPES), min_size=1, max_size=4), ROWS)
@settings(deadline=None)
def test_a_pcapng_is_read_as_it_was_written(data: st.DataObject, link_types: list[int], rows: int) -> None:
    names = data.draw(st.lists(st.text(max_size=9), min_size=len(link_types), max_size=len(link_types)))
    written = data.draw(st.lists(row_at_place(link_types, 2**63 - 1), max_size=12))
    texts = data.draw(st.dictionaries(st.integers(0, 11), st.text(min_size=1, max_size=9), max_size=3))
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.pcapng")
        with CaptureWriter(path, names, link_types) as writer:
            writer.write(batch_of(written), comments=texts)
        reading = read_all(path.read_bytes(), rows)
    assert reading.error is None
    assert reading.rows == written
    assert [i.name for i in reading.interfaces] == [name.rstrip("\0") for name in names]
    assert reading.packet_comments == {row: [text.rstrip("\0")] for row, text in texts.items() if row < len(written)}


@given(st.data(), st.sampled_from(LINK_TYPES), st.booleans(), st.sampled_from(["little", "big"]), ROWS)
@settings(deadline=None)
def test_a_pcap_is_read_as_it_was_written(
    data: st.DataObject, link_type: int, nanoseconds: bool, byte_order: Literal["little", "big"], rows: int
) -> None:
    written = data.draw(st.lists(row_at_place([link_type], 2**32 * 10**9 - 1), max_size=12))
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.pcap")
        with PcapWriter(path, link_type, nanoseconds=nanoseconds, byte_order=byte_order) as writer:
            writer.write(batch_of(written))
        reading = read_all(path.read_bytes(), rows)
    unit = 1 if nanoseconds else 1000
    assert reading.error is None
    assert reading.rows == [row._replace(time=row.time // unit * unit) for row in written]


class Made:
    """A pcapng file of the slow twin: its parts, and what a reader must find in it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.rows: list[Row] = []
        self.ends: list[int] = []  # of each packet's block
        self.left = 0

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)


@st.composite
def made_pcapng(draw: st.DrawFn) -> Made:
    made = Made()
    base = 0
    last = 0
    for _ in range(draw(st.integers(1, 3))):
        order = draw(st.sampled_from("<>"))
        made.parts.append(section(order, draw(st.sampled_from([b"", comment("file", order)]))))
        clocks: list[int] = []
        for _ in range(draw(st.integers(1, 3))):
            resolution = draw(st.sampled_from([0, 3, 6, 9, 12, 0x80 | 20]))
            made.parts.append(interface(1, "i", resolution, order=order))
            clocks.append(resolution)
        for _ in range(draw(st.integers(0, 6))):
            kind = draw(st.sampled_from(["enhanced", "enhanced", "simple", "obsolete", "other"]))
            payload = draw(DATA)
            options = draw(st.sampled_from([b"", comment("c", order), option(4, b"abc", order)]))
            index = draw(st.integers(0, len(clocks) - 1))
            ticks = draw(st.integers(0, 2**34))
            if kind == "other":
                made.parts.append(block(draw(st.sampled_from([4, 5, 0x999])), bytes(4 * len(payload)), order))
                made.left += 1
                continue
            if kind == "simple":
                index, time = 0, last
                made.parts.append(simple(payload, order=order))
            else:
                resolution = clocks[index]
                per_second = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
                time = min(ticks * 10**9 // per_second, 2**63 - 1)
                write = enhanced if kind == "enhanced" else obsolete
                made.parts.append(write(payload, ticks, index, options=options, order=order))
            last = time
            made.rows.append(Row(time, payload, len(payload), base + index))
            made.ends.append(len(made.data))
        base += len(clocks)
    return made


@given(made_pcapng(), ROWS)
@settings(deadline=None)
def test_whatever_the_slow_twin_writes_is_read(made: Made, rows: int) -> None:
    reading = read_all(made.data, rows)
    assert reading.error is None
    assert reading.rows == made.rows
    assert reading.counts.unknown_blocks == made.left
    assert reading.counts.packets == len(made.rows)
    assert reading.counts.bytes == sum(len(row.data) for row in made.rows)


def read_anything(data: bytes, rows: int) -> Reading | None:
    """None when there is no capture behind the door."""
    try:
        reading = read_all(data, rows)
    except CaptureError:
        return None
    if reading.error is not None:
        word, offset = reading.error.where.split()
        assert word == "byte"
        assert 0 <= int(offset) <= len(data)
        assert reading.error.field
        assert reading.error.message
    return reading


def check_damaged(data: bytes, at: int, rows: list[Row], ends: list[int], batch: int) -> None:
    """`data` was a good file; from byte `at` on it is not."""
    reading = read_anything(data, batch)
    sound = sum(end <= at for end in ends)
    assert (reading is not None) or sound == 0
    if reading is not None:
        assert reading.rows[:sound] == rows[:sound]


@given(made_pcapng(), ROWS, st.data())
@settings(deadline=None)
def test_a_changed_pcapng_costs_no_earlier_packet(made: Made, rows: int, data: st.DataObject) -> None:
    file = bytearray(made.data)
    at = data.draw(st.integers(0, len(file) - 1))
    change = data.draw(st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from([bytes(4), b"\xff" * 4])))
    file[at : at + len(change)] = change
    check_damaged(bytes(file), at, made.rows, made.ends, rows)


@given(made_pcapng(), ROWS, st.data())
@settings(deadline=None)
def test_a_cut_pcapng_costs_no_earlier_packet(made: Made, rows: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(made.data)))
    check_damaged(made.data[:at], at, made.rows, made.ends, rows)


@given(st.lists(DATA, max_size=9), ROWS, st.data())
@settings(deadline=None)
def test_a_changed_or_cut_pcap_costs_no_earlier_packet(frames: list[bytes], rows: int, data: st.DataObject) -> None:
    order = data.draw(st.sampled_from("<>"))
    file = bytearray(pcap_header(order))
    ends = []
    for number, frame in enumerate(frames):
        file += pcap_record(frame, number, order=order)
        ends.append(len(file))
    expected = [Row(number * 10**9, frame, len(frame)) for number, frame in enumerate(frames)]
    at = data.draw(st.integers(0, len(file)))
    if data.draw(st.booleans()):
        del file[at:]
    else:
        file[at : at + 4] = data.draw(st.binary(min_size=1, max_size=4))
    # A change in the header is a change of all that follows.
    check_damaged(bytes(file), at if at >= 24 else 0, expected, ends, rows)


@given(st.sampled_from([b"", pcap_header(), pcap_header(">"), section(), section(">") + interface(order=">")]), DATA)
@settings(deadline=None)
def test_noise_is_never_more_than_an_error(head: bytes, noise: bytes) -> None:
    read_anything(head + noise, 4)


@pytest.mark.parametrize("length", [2**31 - 4, 2**32 - 4, MAX_BLOCK, MAX_BLOCK + 4])
@pytest.mark.parametrize("kind", [1, 2, 3, 6, 0x0A0D0D0A, 0x777])
def test_a_length_is_not_believed_before_the_bytes_are_there(kind: int, length: int, tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    body = struct.pack("<I", 0x1A2B3C4D) + bytes(4096)
    path.write_bytes(section() + interface() + enhanced(b"p") + struct.pack("<II", kind, length) + body)
    with path.open("rb", buffering=0) as stream:
        reader = CaptureReader(stream, "file")
        assert len(next(reader)) == 1
        with pytest.raises(CaptureError):
            next(reader)
        assert len(reader._window.buffer) <= 2 * MAX_BLOCK
