"""Where captures come from: gzip sound and damaged, the standard input, files larger than memory."""

import gzip
import io
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from pathlib import Path

import pytest
from capture_reading import read_all
from capture_twin import enhanced, interface, pcap_header, pcap_record, section

from dataplane.capture import CaptureReader, open_capture
from dataplane.capture.gunzip import Gunzip
from dataplane.errors import CaptureError

# Bytes that do not compress, so that damage lies where its place says.
NOISE = b"".join(zlib.crc32(n.to_bytes(4, "big")).to_bytes(4, "big") for n in range(2000))
PACKETS = [NOISE[n : n + 100] for n in range(500)]
FILE = pcap_header() + b"".join(pcap_record(data) for data in PACKETS)


def test_gzip_is_told_by_its_first_bytes_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / "plain.pcap"
    path.write_bytes(gzip.compress(FILE))
    with open_capture(path) as reader:
        assert sum(len(batch) for batch in reader) == 500
    path = tmp_path / "packed.pcap.gz"
    path.write_bytes(FILE)
    with open_capture(str(path)) as reader:
        assert sum(len(batch) for batch in reader) == 500


def test_gzip_members_follow_each_other_and_padding_is_no_damage() -> None:
    packed = gzip.compress(FILE[:1000]) + gzip.compress(b"") + gzip.compress(FILE[1000:]) + bytes(1000)
    reading = read_all(packed)
    assert reading.error is None
    assert [row.data for row in reading.rows] == PACKETS


def test_every_cut_of_a_gzip_file_is_found_and_loses_nothing_before() -> None:
    packed = gzip.compress(FILE, 6)
    seen = 0
    for end in range(200, len(packed), 997):
        reading = read_all(packed[:end])
        count = len(reading.rows)
        assert [row.data for row in reading.rows] == PACKETS[:count]
        assert count >= seen
        seen = count
        assert reading.error is not None
        assert reading.error.message.endswith("the gzip stream is cut")
    # All the data is there, and only the check sum is not.
    reading = read_all(packed[:-3])
    assert len(reading.rows) == 500
    assert str(reading.error) == f"memory: byte {len(FILE)}: gzip: the gzip stream is cut"


def test_damage_in_a_gzip_file_loses_nothing_before() -> None:
    packed = bytearray(gzip.compress(FILE, 6))
    packed[-6] ^= 0xFF  # the check sum
    reading = read_all(bytes(packed))
    assert [row.data for row in reading.rows] == PACKETS
    assert reading.error is not None
    assert reading.error.field == "gzip"
    assert "incorrect data check" in reading.error.message

    sound = gzip.compress(FILE[:5000])
    reading = read_all(sound + b"garbage that is no member")
    assert [row.data for row in reading.rows] == PACKETS[: (5000 - 24) // 116]
    assert reading.error is not None
    assert "the gzip stream is damaged" in reading.error.message


def test_what_the_failed_call_decompressed_is_given_out() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = packer.compress(FILE) + packer.flush(zlib.Z_FULL_FLUSH)
    source = io.BytesIO(packed + b"\x07" * 40)  # a block of type 3: there is none
    stream = Gunzip(source, b"")
    room = bytearray(len(FILE) + 100)
    got = 0
    while count := stream.readinto(memoryview(room)[got:]):
        got += count
    assert bytes(room[:got]) == FILE
    assert "invalid block type" in stream.damage


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_standard_input_can_be_read(pack: type[bytes]) -> None:
    program = (
        "from dataplane.capture import open_capture\n"
        "with open_capture('-', 64) as reader: print(reader.name, sum(len(batch) for batch in reader))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=pack(FILE), capture_output=True, check=True)
    assert done.stdout.decode().split() == ["-", "500"]


def test_a_pipe_gives_packets_before_it_ends() -> None:
    program = (
        "from dataplane.capture import open_capture\n"
        "with open_capture('-', 2) as reader:\n"
        "    for batch in reader: print(len(batch), flush=True)\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(FILE[: 24 + 5 * 116 + 10])
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(2)] == [b"2\n", b"2\n"]
        process.stdin.close()
        assert process.stdout.readline() == b"1\n"
        process.wait()


class Endless(io.RawIOBase):
    """A capture of `size` bytes that is never in memory as a whole."""

    def __init__(self, head: bytes, part: bytes, size: int) -> None:
        self._left = size
        self._part = part
        self._next = head

    def readable(self) -> bool:
        return True

    def readinto(self, into: object) -> int:
        view = memoryview(into)  # type: ignore[call-overload]
        if not self._next:
            self._next = self._part
        count = min(len(view), len(self._next), self._left)
        view[:count] = self._next[:count]
        self._next = self._next[count:]
        self._left -= count
        return int(count)


HEADS = {
    "pcap": (pcap_header(), pcap_record(bytes(1484)) * 100),
    "pcapng": (section() + interface(), (enhanced(bytes(1400)) + enhanced(b"")) * 100),
}


@pytest.mark.parametrize("kind", HEADS)
def test_memory_does_not_grow_with_the_file(kind: str) -> None:
    head, part = HEADS[kind]
    packets = 0
    tracemalloc.start()
    try:
        reader = CaptureReader(Endless(head, part, len(head) + len(part) * 1000), "endless", rows=1024)
        for batch in reader:
            packets += len(batch)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert packets >= 100_000
    assert reader.counts.bytes >= 140_000_000
    assert peak < 8_000_000


def test_a_stream_that_gives_a_few_bytes_at_a_time_is_read_the_same() -> None:
    class Drops(io.BytesIO):
        def readinto(self, into: object) -> int:
            return super().readinto(memoryview(into)[:7])  # type: ignore[call-overload]

    for rows in (3, 4096):
        reader = CaptureReader(Drops(FILE), "drops", rows)
        read = [batch.frame(row) for batch in reader for row in range(len(batch))]
        assert read == PACKETS


def test_files_are_closed_at_the_end_and_at_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        path.write_bytes(FILE[:-1])
        with pytest.raises(CaptureError, match="the file ends after"):
            for _ in open_capture(path):
                pass
        path.write_bytes(b"nothing")
        with pytest.raises(CaptureError, match=f"{path}: byte 0: magic"):
            open_capture(path)
        with pytest.raises(FileNotFoundError):
            open_capture(tmp_path / "absent")
        with pytest.raises(ValueError, match="at least one row"):
            open_capture(path, rows=0)


def test_one_batch_is_filled_again_and_again() -> None:
    reader = CaptureReader(io.BytesIO(FILE), "memory", rows=100)
    assert iter(reader) is reader
    assert len({id(batch) for batch in reader}) == 1
    with pytest.raises(StopIteration):
        next(reader)
