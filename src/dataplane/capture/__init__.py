"""Capture files, pcap and pcapng, to and from batches of packets.

open_capture    reads either format, plain or gzip, from a file or the standard input
CaptureWriter   one pcapng with one interface per place
FolderWriter    one nanosecond pcap per place
PcapWriter      one pcap
"""

from dataplane.capture.folder import FolderWriter
from dataplane.capture.interface import Counts, Interface
from dataplane.capture.reader import CaptureReader, open_capture
from dataplane.capture.writer import CaptureWriter, PcapWriter

__all__ = [
    "CaptureReader",
    "CaptureWriter",
    "Counts",
    "FolderWriter",
    "Interface",
    "PcapWriter",
    "open_capture",
]
