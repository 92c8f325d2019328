from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt

from dataplane._fast.batch import PacketBatch
from dataplane._fast.records import _Tally

_Bytes: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[np.uint8]

@final
class PcapParser:
    position: int
    need: int
    fault: int
    value: int
    def __new__(cls, swapped: bool, nanoseconds: bool, link_type: int, snap_length: int) -> PcapParser: ...
    def tally_counts(self) -> _Tally: ...
    def parse(self, chunk: _Bytes, start: int, stop: int, batch: PacketBatch) -> int: ...

def write_records(
    batch: PacketBatch,
    rows: npt.NDArray[np.int64] | None,
    first: int,
    out: bytearray | npt.NDArray[np.uint8],
    used: int,
    swapped: bool,
    nanoseconds: bool,
) -> tuple[int, int]: ...
