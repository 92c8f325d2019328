"""The door for captures that go out into a folder: one file per place."""

from __future__ import annotations

import gzip
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from dataplane._fast.batch import PacketBatch
from dataplane._fast.pcap import write_records
from dataplane.capture.pcap import file_header
from dataplane.capture.writer import Rows, chosen
from dataplane.errors import ModelError

__all__ = ["FolderWriter", "file_names"]

_ETHERNET = 1
# All files together wait in this much memory; each is open only while it is written to, for a cluster has more places
# than a process may have files.
_PENDING = 1 << 24
_LONGEST = 200


def file_names(interfaces: Sequence[str], suffix: str = ".pcap") -> list[str]:
    """One distinct file name per interface: "node-1/cni0" becomes "node-1_cni0.pcap".

    Letters, digits, dot, dash and underscore stay. Names that would meet, on a file system that ignores case too, get a
    number.
    """
    taken: set[str] = set()
    names = []
    for interface in interfaces:
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", interface)[:_LONGEST]
        if not stem or stem.startswith("."):
            stem = "_" + stem
        name, number = stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        names.append(name + suffix)
    return names


class FolderWriter:
    """One nanosecond pcap per interface in a folder; interfaces without packets have a file too.

    paths:   of the files, by interface
    packets: written so far
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        interfaces: Sequence[str],
        link_types: Sequence[int] | None = None,
        *,
        compress: bool = False,
    ) -> None:
        """Make the folder where it is missing, and all files; those that are there are replaced.

        link_types: one per interface; Ethernet when not given
        compress:   gzip, and .pcap.gz for a suffix
        Raises OSError when that fails, ValueError when there are not as many link types as interfaces.
        """
        if link_types is None:
            link_types = [_ETHERNET] * len(interfaces)
        elif len(link_types) != len(interfaces):
            raise ValueError(f"{len(interfaces)} interfaces but {len(link_types)} link types")
        self._compress = compress
        self._link_types = np.array(link_types, np.uint16)
        self._scratch = bytearray(1 << 20)
        self._waiting: dict[int, bytearray] = {}
        self._size = 0
        self.packets = 0
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.interfaces = list(interfaces)
        self.paths = self._paths()
        for path, link_type in zip(self.paths, link_types, strict=True):
            path.write_bytes(self._pack(file_header(link_type, True, sys.byteorder)))

    def _paths(self) -> list[Path]:
        suffix = ".pcap.gz" if self._compress else ".pcap"
        return [Path(self._folder, name) for name in file_names(self.interfaces, suffix)]

    def add_interface(self, name: str, link_type: int = _ETHERNET) -> int:
        """Make a file for one more interface; gives its index."""
        self.interfaces.append(name)
        self._link_types = np.append(self._link_types, np.uint16(link_type))
        self.paths = self._paths()
        self.paths[-1].write_bytes(self._pack(file_header(link_type, True, sys.byteorder)))
        return len(self.paths) - 1

    def write(self, batch: PacketBatch, rows: Rows = None) -> None:
        """Write packets, each to the file that `batch.interface` says.

        rows: rows of the batch in the order to write; all when not given
        Raises ModelError, and nothing is written, when a row has an interface that is not there or a link type other
        than its interface's; IndexError when a row is not in the batch. Times are cut to the years 1970 to 2106.
        """
        index = chosen(batch, rows)
        if index is None:
            index = np.arange(len(batch), dtype=np.int64)
        if len(index) == 0:
            return
        if index.min() < 0 or index.max() >= len(batch):
            raise IndexError(f"rows {index.min()} to {index.max()} of {len(batch)}")
        interface = batch.interface[index]
        if interface.min() < 0 or interface.max() >= len(self.paths):
            raise ModelError(f"interfaces {interface.min()} to {interface.max()} of {len(self.paths)}")
        if np.any(self._link_types[interface] != batch.link_type[index]):
            raise ModelError("a row has another link type than its interface")
        order = np.argsort(interface, kind="stable")
        index = index[order]
        present, starts = np.unique(interface[order], return_index=True)
        for number, part in zip(present.tolist(), np.split(index, starts[1:]), strict=True):
            self._append(number, batch, part)
        self.packets += len(index)
        if self._size > _PENDING:
            self.flush()

    def _append(self, number: int, batch: PacketBatch, rows: Rows) -> None:
        index = chosen(batch, rows)
        assert index is not None
        waiting = self._waiting.setdefault(number, bytearray())
        first = 0
        while first < len(index):
            first, used = write_records(batch, index, first, self._scratch, 0, False, True)
            if used == 0:
                self._scratch = bytearray(2 * len(self._scratch))
            waiting += memoryview(self._scratch)[:used]
            self._size += used

    def _pack(self, data: bytes | bytearray) -> bytes | bytearray:
        # Members of a gzip file may follow each other, so every flush is one.
        return gzip.compress(data, 6, mtime=0) if self._compress else data

    def flush(self) -> None:
        """Write out what waits in memory."""
        for number, waiting in self._waiting.items():
            with self.paths[number].open("ab") as file:
                file.write(self._pack(waiting))
        self._waiting.clear()
        self._size = 0

    def close(self) -> None:
        """Write what is left. A second call does nothing."""
        self.flush()

    def __enter__(self) -> FolderWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
