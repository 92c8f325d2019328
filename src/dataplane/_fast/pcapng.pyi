from enum import IntEnum
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt

from dataplane._fast.batch import PacketBatch
from dataplane._fast.records import _Tally

_Bytes: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[np.uint8]

class Block(IntEnum):
    BLOCK_INTERFACE = 1
    BLOCK_PACKET = 2
    BLOCK_SIMPLE_PACKET = 3
    BLOCK_NAME_RESOLUTION = 4
    BLOCK_STATISTICS = 5
    BLOCK_ENHANCED_PACKET = 6
    BLOCK_JOURNAL = 9
    BLOCK_SECRETS = 10
    BLOCK_CUSTOM = 0x00000BAD
    BLOCK_CUSTOM_NO_COPY = 0x40000BAD
    BLOCK_SECTION = 0x0A0D0D0A

class Refusal(IntEnum):
    REFUSED_NOT = 0
    REFUSED_ROW = 1
    REFUSED_INTERFACE = 2
    REFUSED_LINK_TYPE = 3

@final
class PcapngParser:
    position: int
    need: int
    fault: int
    value: int
    def __new__(cls) -> PcapngParser: ...
    def tally_counts(self) -> _Tally: ...
    def left_counts(self) -> dict[str, int]: ...
    def begin_section(self, swapped: bool) -> None: ...
    def add_interface(
        self,
        link_type: int,
        snap_length: int,
        index: int,
        multiply: int,
        divide: int,
        shift: int,
        seconds: int,
    ) -> None: ...
    def count_left(self, kind: int) -> None: ...
    def parse(self, chunk: _Bytes, start: int, stop: int, batch: PacketBatch) -> int: ...

def write_blocks(
    batch: PacketBatch,
    rows: npt.NDArray[np.int64] | None,
    first: int,
    link_types: npt.NDArray[np.uint16],
    comment_ends: npt.NDArray[np.int64] | None,
    comments: _Bytes | None,
    out: bytearray | npt.NDArray[np.uint8],
    used: int,
) -> tuple[int, int, int]: ...
