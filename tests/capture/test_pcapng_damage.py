"""Bad pcapng files: everything before the damage, then where it is and which field."""

import struct

import pytest
from capture_reading import read_all
from capture_twin import ENHANCED_PACKET, SIMPLE_PACKET, block, comment, enhanced, interface, option, section, simple

from dataplane.errors import CaptureError

START = section() + interface(name="a")
AT = len(START + enhanced(b"good"))
assert AT == 28 + 28 + 36


def damaged(data: bytes, rows: int = 4096) -> CaptureError:
    """The error behind one good packet."""
    reading = read_all(START + enhanced(b"good") + data, rows)
    assert [row.data for row in reading.rows] == [b"good"]
    assert reading.error is not None
    return reading.error


def with_length(data: bytes, length: int) -> bytes:
    return data[:4] + struct.pack("<I", length) + data[8:]


@pytest.mark.parametrize(
    ("data", "offset", "field", "message"),
    [
        (
            with_length(enhanced(b"x"), 37),
            4,
            "block_total_length",
            "37 is no multiple of 4, or too short for the block",
        ),
        (with_length(enhanced(b"x"), 8), 4, "block_total_length", "8 is no multiple of 4, or too short for the block"),
        (with_length(enhanced(b"x"), 0), 4, "block_total_length", "0 is no multiple of 4, or too short for the block"),
        (
            block(ENHANCED_PACKET, bytes(16)),
            4,
            "block_total_length",
            "28 is no multiple of 4, or too short for the block",
        ),
        (block(SIMPLE_PACKET, b""), 4, "block_total_length", "12 is no multiple of 4, or too short for the block"),
        (
            with_length(enhanced(b"x"), 16777220),
            4,
            "block_total_length",
            "16777220 is more than the 16777216 that a packet's block may have",
        ),
        (
            enhanced(b"x")[:-4] + struct.pack("<I", 40),
            32,
            "block_total_length",
            "the block began with 36 and ends with 40",
        ),
        (
            block(0x777, bytes(8))[:-4] + struct.pack("<I", 24),
            16,
            "block_total_length",
            "the block began with 20 and ends with 24",
        ),
        (
            block(0x777, bytes(1_000_000))[:-4] + struct.pack("<I", 24),
            1_000_008,
            "block_total_length",
            "the block began with 1000012 and ends with 24",
        ),
        (enhanced(b"x", index=1), 8, "interface_id", "1: the section has described no such interface"),
        (enhanced(b"x", captured=9), 20, "captured length", "9 runs past the end of a block of 36 bytes"),
        (
            enhanced(b"x", captured=0xFFFFFFFF),
            20,
            "captured length",
            "4294967295 is more than the 262144 that a packet may have",
        ),
        (simple(b"x", original=5), 8, "captured length", "5 runs past the end of a block of 20 bytes"),
        (
            enhanced(b"x", options=struct.pack("<HH", 1, 9) + bytes(8)),
            0,
            "options",
            "option 1 runs past the end of its block",
        ),
        (
            interface(options=struct.pack("<HH", 2, 50) + bytes(8)),
            16,
            "options",
            "option 2 of 50 bytes runs past the end of its block",
        ),
        (interface(options=option(9, b"")), 16, "if_tsresol", "0 bytes instead of 1"),
        (interface(options=option(14, bytes(4))), 16, "if_tsoffset", "4 bytes instead of 8"),
        (with_length(interface(), 16), 4, "block_total_length", "16 is no multiple of 4, or less than 20"),
        (with_length(section(), 24), 4, "block_total_length", "24 is no multiple of 4, or less than 28"),
        (
            with_length(section(), 0x10000000),
            4,
            "block_total_length",
            "268435456 is more than the 16777216 that are read",
        ),
        (section(major=2), 12, "version", "2.0 is not read, only 1.x"),
        (
            section()[:8] + b"\1\2\3\4" + section()[12:],
            8,
            "byte_order_magic",
            "01 02 03 04 is not 1a 2b 3c 4d in either order",
        ),
        (
            section()[:-4] + struct.pack("<I", 32),
            24,
            "block_total_length",
            "the block began with 28 and ends with 32",
        ),
        (
            section() + enhanced(b"x"),
            36,
            "interface_id",
            "0: the section has described no such interface",
        ),
        (
            interface(105, name="wlan0") + enhanced(b"x", index=1),
            32,
            "link_type",
            "105 IEEE802_11, of interface 1 'wlan0', is not read",
        ),
    ],
)
def test_damage_is_named(data: bytes, offset: int, field: str, message: str) -> None:
    for rows in (1, 4096):
        error = damaged(data + bytes(40) * (rows == 1), rows)
        assert (error.file, error.where, error.field, error.message) == (
            "memory",
            f"byte {AT + offset}",
            field,
            message,
        )


def test_an_unused_interface_of_an_unknown_type_does_no_harm() -> None:
    reading = read_all(START + interface(105, name="wlan0") + enhanced(b"x"))
    assert reading.error is None
    assert [i.link_type for i in reading.interfaces] == [1, 105]


def test_every_cut_is_found() -> None:
    parts = [enhanced(b"first"), enhanced(b"second", options=comment("c")), block(4, bytes(8)), interface()]
    data = START + b"".join(parts)
    boundaries = [len(START) + sum(map(len, parts[:count])) for count in range(len(parts))]
    for end in range(len(START), len(data)):
        reading = read_all(data[:end])
        expected = [b"first", b"second"][: sum(end >= boundary for boundary in boundaries[1:3])]
        assert [row.data for row in reading.rows] == expected
        if end in boundaries:
            assert reading.error is None
            continue
        assert reading.error is not None
        begin = max(boundary for boundary in boundaries if boundary < end)
        assert reading.error.where == f"byte {begin}"
        assert reading.error.field in ("block", "block header")
        assert reading.error.message.startswith(f"the file ends after {end - begin} of ")


def test_a_block_to_leave_out_may_not_run_past_the_end_of_the_file() -> None:
    error = damaged(with_length(block(0x777, bytes(600_000)), 0xFFFFFFFC))
    assert (error.where, error.field) == (f"byte {AT}", "block")
    assert error.message == "the file ends after 600012 of 4294967292 bytes of the block"


def test_a_bad_section_header_fails_at_the_door() -> None:
    for data in (section()[:11], section()[:20], section(major=3), section()[:-4] + bytes(4)):
        with pytest.raises(CaptureError, match="memory: byte "):
            read_all(data)


def test_damage_before_the_first_packet_waits_for_its_turn() -> None:
    for data, where in ((section() + enhanced(b"x"), "byte 36"), (section() + interface()[:10], "byte 28")):
        reading = read_all(data)
        assert (reading.rows, reading.counts.sections) == ([], 1)
        assert reading.error is not None
        assert reading.error.where == where


def test_descriptions_cannot_fill_the_memory() -> None:
    big = option(3, bytes(65_000))
    many = interface(options=big * 200)
    reading = read_all(START + enhanced(b"good") + many * 6)
    assert len(reading.rows) == 1
    assert reading.error is not None
    assert reading.error.message == "interfaces and section comments take more than 67108864 bytes"
