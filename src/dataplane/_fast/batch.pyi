from collections.abc import Iterable
from typing import Final, TypeAlias, final

import numpy as np
import numpy.typing as npt

_Bytes: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[np.uint8]

HEADROOM: Final[int]
TAILROOM: Final[int]

@final
class PacketBatch:
    arena: Final[npt.NDArray[np.uint8]]
    offset: Final[npt.NDArray[np.int64]]
    length: Final[npt.NDArray[np.uint32]]
    original: Final[npt.NDArray[np.uint32]]
    time: Final[npt.NDArray[np.int64]]
    interface: Final[npt.NDArray[np.int32]]
    mark: Final[npt.NDArray[np.uint32]]
    verdict: Final[npt.NDArray[np.uint8]]
    reason: Final[npt.NDArray[np.uint16]]
    link_type: Final[npt.NDArray[np.uint16]]
    network: Final[npt.NDArray[np.uint16]]
    protocol: Final[npt.NDArray[np.uint16]]
    def __new__(cls, capacity: int, arena_size: int) -> PacketBatch: ...
    @classmethod
    def from_frames(
        cls, frames: Iterable[_Bytes], times: Iterable[int] | None = None, interface: int = 0, link_type: int = 1
    ) -> PacketBatch: ...
    def __len__(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def arena_size(self) -> int: ...
    @property
    def used(self) -> int: ...
    def append(
        self, frame: _Bytes, time_ns: int, interface: int = 0, link_type: int = 1, original: int | None = None
    ) -> None: ...
    def frame(self, i: int) -> bytes: ...
    def clear(self) -> None: ...
    def decode(self) -> None: ...
