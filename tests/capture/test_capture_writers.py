"""What is written: bytes, places, comments, folders; with scapy and tshark as judges."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from capture_reading import Row, read_all
from capture_twin import comment, enhanced, interface, option, section
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgReader, PcapNgWriter, PcapReader, PcapWriter, rdpcap

from dataplane._fast.batch import PacketBatch
from dataplane.capture import CaptureWriter, FolderWriter, open_capture
from dataplane.capture import PcapWriter as OurPcapWriter
from dataplane.capture.folder import file_names
from dataplane.errors import ModelError

PLACES = ["node-1/cni0", "node-1/eth0", "node-2/flannel.1"]
TIME = 1_700_000_000_123_456_789


def frames(count: int) -> list[bytes]:
    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    return [bytes(ether / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=n, dport=80) / bytes(n)) for n in range(count)]


def batch_at_places(count: int = 7) -> PacketBatch:
    batch = PacketBatch.from_frames(frames(count), range(TIME, TIME + count))
    batch.interface[:] = [n % len(PLACES) for n in range(count)]
    batch.original[:] += np.arange(count, dtype=np.uint32)
    return batch


def test_a_pcapng_is_written_as_the_twin_writes_it(tmp_path: Path) -> None:
    order = "<" if sys.byteorder == "little" else ">"
    end = option(0, b"", order)
    batch = batch_at_places(5)
    with CaptureWriter(tmp_path / "a.pcapng", PLACES, comment="why") as writer:
        writer.write(batch, comments={1: "dropped: NO_SOCKET", 4: "ab"})
    expected = section(order, option(1, b"why", order) + option(4, b"dataplane", order) + end)
    expected += b"".join(interface(name=name, resolution=9, options=end, order=order) for name in PLACES)
    for row in range(5):
        options = {1: comment("dropped: NO_SOCKET", order), 4: comment("ab", order)}.get(row, b"")
        frame = batch.frame(row)
        expected += enhanced(frame, TIME + row, row % 3, len(frame) + row, options, order)
    assert (tmp_path / "a.pcapng").read_bytes() == expected
    assert writer.packets == 5


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    batch = batch_at_places(300)
    with CaptureWriter(tmp_path / "a.pcapng", PLACES) as writer:
        for first in range(0, 300, 70):
            writer.write(batch, range(first, min(first + 70, 300)), {first: f"from {first}", 299: "not now"})
    reading = read_all((tmp_path / "a.pcapng").read_bytes(), rows=64)
    assert reading.error is None
    assert reading.rows == [Row(TIME + n, batch.frame(n), int(batch.original[n]), n % 3) for n in range(300)]
    assert [i.name for i in reading.interfaces] == PLACES
    assert {row: texts[0] for row, texts in reading.packet_comments.items()} == {
        **{first: f"from {first}" for first in range(0, 300, 70)},
        299: "not now",
    }


def test_interfaces_come_later_too(tmp_path: Path) -> None:
    batch = PacketBatch.from_frames([b"\x45", b"\x46"], link_type=101)
    with CaptureWriter(tmp_path / "a.pcapng") as writer:
        assert writer.add_interface("first", 101) == 0
        writer.write(batch, [0])
        assert [writer.add_interface(f"more-{n}", 101, "late") for n in range(20)] == list(range(1, 21))
        batch.interface[1] = 20
        writer.write(batch, [1])
        assert writer.interfaces[20] == "more-19"
    reading = read_all((tmp_path / "a.pcapng").read_bytes())
    assert [(row.data, row.interface, row.link_type) for row in reading.rows] == [(b"\x45", 0, 101), (b"\x46", 20, 101)]
    assert reading.interfaces[20].description == "late"


def test_rows_that_do_not_belong_are_refused_and_those_before_are_written(tmp_path: Path) -> None:
    batch = PacketBatch.from_frames([b"a", b"b", b"c"])
    writer = CaptureWriter(tmp_path / "a.pcapng", PLACES)
    batch.interface[1] = 3
    with pytest.raises(ModelError, match="row 1: interface 3 of 3"):
        writer.write(batch)
    batch.interface[1] = -1
    with pytest.raises(ModelError, match="row 1: interface -1 of 3"):
        writer.write(batch, [1, 0])
    batch.link_type[2] = 101
    with pytest.raises(ModelError, match="row 2: link type 101 on 'node-1/cni0', which has 1"):
        writer.write(batch, [0, 2])
    for row in (3, -1):
        with pytest.raises(IndexError, match=f"row {row} of 3"):
            writer.write(batch, [row])
    writer.close()
    writer.close()
    assert [row.data for row in read_all((tmp_path / "a.pcapng").read_bytes()).rows] == [b"a", b"a"]
    assert writer.packets == 2
    with pytest.raises(ValueError, match="3 interfaces but 1 link types"):
        CaptureWriter(tmp_path / "b.pcapng", PLACES, [1])


def test_packets_larger_than_the_buffer_are_written(tmp_path: Path) -> None:
    frame = bytes(range(256)) * 1024
    batch = PacketBatch.from_frames([frame] * 9)
    with CaptureWriter(tmp_path / "a.pcapng", ["a"]) as writer, OurPcapWriter(tmp_path / "a.pcap") as pcap:
        writer._sink.buffer = bytearray(100)
        pcap._sink.buffer = bytearray(100)
        writer.write(batch)
        pcap.write(batch)
    with FolderWriter(tmp_path, ["b"]) as folder:
        folder._scratch = bytearray(100)
        folder.write(batch)
    for name in ("a.pcapng", "a.pcap", "b.pcap"):
        assert [row.data for row in read_all((tmp_path / name).read_bytes()).rows] == [frame] * 9, name


def test_comments_are_cut_at_what_an_option_can_hold(tmp_path: Path) -> None:
    batch = PacketBatch.from_frames([b"a", b"b"])
    with CaptureWriter(tmp_path / "a.pcapng", ["a"]) as writer:
        writer.write(batch, comments={0: "x" * 70_000, 1: "é"})
    reading = read_all((tmp_path / "a.pcapng").read_bytes())
    assert reading.packet_comments == {0: ["x" * 65_535], 1: ["é"]}


def test_scapy_reads_our_pcapng(tmp_path: Path) -> None:
    batch = batch_at_places()
    with CaptureWriter(tmp_path / "a.pcapng", PLACES) as writer:
        writer.write(batch)
    with PcapNgReader(str(tmp_path / "a.pcapng")) as reader:
        packets = list(reader)
    assert [bytes(packet) for packet in packets] == [batch.frame(n) for n in range(7)]
    assert [int(packet.time * 10**9) for packet in packets] == [TIME + n for n in range(7)]
    assert [packet.sniffed_on for packet in packets] == [PLACES[n % 3] for n in range(7)]
    assert [packet.wirelen for packet in packets] == batch.original.tolist()


@pytest.mark.parametrize("nanoseconds", [True, False])
@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_scapy_reads_our_pcap(tmp_path: Path, nanoseconds: bool, byte_order: str) -> None:
    batch = batch_at_places()
    path = tmp_path / "a.pcap"
    with OurPcapWriter(path, nanoseconds=nanoseconds, byte_order=byte_order) as writer:  # type: ignore[arg-type]
        writer.write(batch)
    with PcapReader(str(path)) as reader:
        packets = list(reader)
    assert [bytes(packet) for packet in packets] == [batch.frame(n) for n in range(7)]
    unit = 1 if nanoseconds else 1000
    assert [int(packet.time * 10**9) for packet in packets] == [(TIME + n) // unit * unit for n in range(7)]
    assert [packet.wirelen for packet in packets] == batch.original.tolist()


@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("nano", [True, False])
@pytest.mark.parametrize("gz", [True, False])
def test_we_read_scapys_pcap(tmp_path: Path, endianness: str, nano: bool, gz: bool) -> None:
    path = tmp_path / "a.pcap"
    packets = [Ether(frame) for frame in frames(5)]
    for n, packet in enumerate(packets):
        packet.time = 1000 + n
    with PcapWriter(str(path), linktype=1, endianness=endianness, nano=nano, gz=gz) as writer:
        writer.write(packets)
    with open_capture(path) as reader:
        (batch,) = reader
        assert [batch.frame(n) for n in range(5)] == frames(5)
        assert batch.time[:5].tolist() == [(1000 + n) * 10**9 for n in range(5)]
        assert batch.network[:5].tolist() == [14] * 5
        assert batch.protocol[:5].tolist() == [0x0800] * 5


def test_we_read_scapys_pcapng(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    packets = [Ether(frame) for frame in frames(5)]
    for n, packet in enumerate(packets):
        packet.time = 1000 + n
        packet.sniffed_on = PLACES[n % 2]
        packet.comments = [f"packet {n}".encode()] if n % 2 else None
    with PcapNgWriter(str(path)) as writer:
        writer.write(packets)
    reading = read_all(path.read_bytes())
    assert reading.error is None
    assert [row.data for row in reading.rows] == frames(5)
    assert [row.time for row in reading.rows] == [(1000 + n) * 10**9 for n in range(5)]
    assert [reading.interfaces[row.interface].name for row in reading.rows] == [PLACES[n % 2] for n in range(5)]
    assert reading.packet_comments == {1: ["packet 1"], 3: ["packet 3"]}


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.parametrize("suffix", [".pcapng", ".pcapng.gz"])
def test_tshark_shows_places_times_and_comments(tmp_path: Path, suffix: str) -> None:
    batch = batch_at_places()
    path = tmp_path / f"a{suffix}"
    with CaptureWriter(path, PLACES) as writer:
        writer.write(batch, comments={2: "dropped"})
    fields = ["frame.interface_name", "frame.time_epoch", "frame.len", "frame.cap_len", "frame.comment", "tcp.srcport"]
    command = ["tshark", "-n", "-r", str(path), "-T", "fields"]
    done = subprocess.run([*command, *(f"-e{name}" for name in fields)], capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows == [
        [
            PLACES[n % 3],
            f"{(TIME + n) // 10**9}.{(TIME + n) % 10**9:09}",
            str(batch.original[n]),
            str(batch.length[n]),
            "dropped" if n == 2 else "",
            str(n),
        ]
        for n in range(7)
    ]


@pytest.mark.parametrize("compress", [False, True])
def test_a_folder_has_one_pcap_per_place(tmp_path: Path, compress: bool) -> None:
    batch = batch_at_places(7)
    suffix = ".pcap.gz" if compress else ".pcap"
    with FolderWriter(tmp_path / "new" / "out", [*PLACES, "node-3/lo"], compress=compress) as writer:
        writer.write(batch, [0, 1, 2])
        writer.flush()
        writer.write(batch, [6, 5, 4, 3])
    names = ["node-1_cni0", "node-1_eth0", "node-2_flannel.1", "node-3_lo"]
    assert [path.name for path in writer.paths] == [name + suffix for name in names]
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == [name + suffix for name in names]
    assert writer.packets == 7
    for path, rows in zip(writer.paths, ([0, 6, 3], [1, 4], [2, 5], []), strict=True):
        with open_capture(path) as reader:
            read = [(batch.frame(n), int(batch.time[n])) for batch in reader for n in range(len(batch))]
            assert reader.interfaces[0].resolution == 10**9
        original = batch_at_places(7)
        assert read == [(original.frame(n), TIME + n) for n in rows]
        if not compress:
            assert [bytes(packet) for packet in rdpcap(str(path))] == [original.frame(n) for n in rows]


def test_a_folder_refuses_what_does_not_belong(tmp_path: Path) -> None:
    batch = PacketBatch.from_frames([b"a", b"b"])
    with FolderWriter(tmp_path, ["a"]) as writer:
        batch.interface[1] = 1
        with pytest.raises(ModelError, match="interfaces 0 to 1 of 1"):
            writer.write(batch)
        batch.link_type[0] = 101
        with pytest.raises(ModelError, match="another link type"):
            writer.write(batch, [0])
        with pytest.raises(IndexError):
            writer.write(batch, [2])
        writer.write(batch, [])
    assert writer.packets == 0
    assert read_all((tmp_path / "a.pcap").read_bytes()).rows == []


def test_a_folder_replaces_what_was_there_and_writes_when_much_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataplane.capture.folder._PENDING", 100)
    batch = PacketBatch.from_frames([b"x" * 60])
    for _ in range(2):
        with FolderWriter(tmp_path, ["a"]) as writer:
            writer.write(batch)
            assert writer.paths[0].stat().st_size == 24
            writer.write(batch)
            assert writer.paths[0].stat().st_size == 24 + 2 * 76
        assert len(read_all(writer.paths[0].read_bytes()).rows) == 2


def test_file_names_are_safe_and_distinct() -> None:
    places = [
        "node-1/cni0",
        "node-1_cni0",
        "Node-1/cni0",
        "..",
        "",
        ".x",
        "a/../../b",
        "é\n",
        "y" * 300,
        "node-1_cni0-2",
    ]
    names = file_names(places)
    assert names == [
        "node-1_cni0.pcap",
        "node-1_cni0-2.pcap",
        "Node-1_cni0-3.pcap",
        "_...pcap",
        "_.pcap",
        "_.x.pcap",
        "a_.._.._b.pcap",
        "__.pcap",
        "y" * 200 + ".pcap",
        "node-1_cni0-2-2.pcap",
    ]


def test_gzip_is_the_same_at_every_run(tmp_path: Path) -> None:
    for name in ("a.pcapng.gz", "b.pcapng.gz"):
        with CaptureWriter(tmp_path / name, PLACES) as writer:
            writer.write(batch_at_places())
    first, second = ((tmp_path / name).read_bytes() for name in ("a.pcapng.gz", "b.pcapng.gz"))
    assert first == second
    assert len(read_all(gzip.decompress(first)).rows) == 7


def test_the_standard_output_can_be_written_to() -> None:
    program = (
        "from dataplane.capture import CaptureWriter\n"
        "from dataplane._fast.batch import PacketBatch\n"
        "with CaptureWriter('-', ['a']) as writer: writer.write(PacketBatch.from_frames([b'abc'], [5]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert read_all(done.stdout).rows == [Row(5, b"abc", 3)]
