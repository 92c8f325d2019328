"""Captures of real networks: read whole, as capinfos and scapy read them, and written again without loss."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from capture_reading import Row, read_all
from scapy.utils import PcapNgReader, PcapReader

from dataplane.capture import CaptureWriter, open_capture

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("DATAPLANE_SHARED", ROOT.parent / "shared")) / "data" / "captures"
CAPTURES = sorted([*FOLDER.glob("*.pcap"), *FOLDER.glob("*.pcapng"), *(ROOT / "pcaps").glob("*.pcap")])

pytestmark = pytest.mark.skipif(not CAPTURES, reason="no captures of real networks are here")


def names(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", CAPTURES, ids=names)
def test_scapy_reads_the_same_packets(path: Path) -> None:
    reading = read_all(path.read_bytes())
    assert reading.error is None
    raw = PcapNgReader if path.suffix == ".pcapng" else PcapReader
    with raw(str(path)) as judge:
        for row in reading.rows:
            data, meta = judge._read_packet()[:2] if hasattr(judge, "_read_packet") else judge.read_packet()
            assert row.data == data
            assert row.original == meta.wirelen
        with pytest.raises(EOFError):
            judge._read_packet()


@pytest.mark.skipif(shutil.which("capinfos") is None, reason="capinfos is not installed")
@pytest.mark.parametrize("path", CAPTURES, ids=names)
def test_capinfos_counts_the_same(path: Path) -> None:
    command = ["capinfos", "-T", "-r", "-M", "-c", "-d", "-I", str(path)]
    line = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    _, packets, wire_bytes = line.split("\t")[:3]
    with open_capture(path) as reader:
        read = sum(len(batch) for batch in reader)
        counts = reader.counts
    assert (read, counts.packets, counts.wire_bytes) == (int(packets), int(packets), int(wire_bytes))


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.parametrize("path", CAPTURES, ids=names)
def test_tshark_sees_the_same_network_layers_and_times(path: Path) -> None:
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.protocols"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    ethertypes = {"ip": 0x0800, "ipv6": 0x86DD, "arp": 0x0806}
    row = 0
    with open_capture(path) as reader:
        for batch in reader:
            for i in range(len(batch)):
                epoch, protocols = lines[row].split("\t")
                seconds, _, fraction = epoch.partition(".")
                assert int(batch.time[i]) == int(seconds) * 10**9 + int(fraction.ljust(9, "0"))
                layers = [name for name in protocols.split(":") if name in ethertypes]
                known = int(batch.protocol[i]) in ethertypes.values()
                assert bool(layers) == known, f"packet {row + 1}: {protocols}"
                if layers:
                    assert int(batch.protocol[i]) == ethertypes[layers[0]], f"packet {row + 1}: {protocols}"
                row += 1
    assert row == len(lines)


@pytest.mark.parametrize("path", CAPTURES, ids=names)
def test_written_again_nothing_is_lost(path: Path, tmp_path: Path) -> None:
    first = read_all(path.read_bytes())
    again = tmp_path / "again.pcapng.gz"
    with open_capture(path, rows=97) as reader:
        places = [interface.name for interface in reader.interfaces]
        with CaptureWriter(again, places, [interface.link_type for interface in reader.interfaces]) as writer:
            for batch in reader:
                writer.write(batch)
    with open_capture(again) as reader:
        rows = [
            Row(
                int(batch.time[i]),
                batch.frame(i),
                int(batch.original[i]),
                int(batch.interface[i]),
                int(batch.link_type[i]),
            )
            for batch in reader
            for i in range(len(batch))
        ]
    assert rows == first.rows
