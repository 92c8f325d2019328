from typing import final

import numpy as np
import numpy.typing as npt

from dataplane._fast.batch import PacketBatch

@final
class Traffic:
    @property
    def flows(self) -> int: ...
    @property
    def sent(self) -> int: ...
    def __new__(
        cls,
        *,
        family: npt.NDArray[np.uint8],
        protocol: npt.NDArray[np.uint8],
        source: npt.NDArray[np.uint8],
        destination: npt.NDArray[np.uint8],
        source_mac: npt.NDArray[np.uint64],
        destination_mac: npt.NDArray[np.uint64],
        source_port: npt.NDArray[np.uint16],
        destination_port: npt.NDArray[np.uint16],
        packets: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.uint32],
        chances: npt.NDArray[np.uint64],
        concurrent: int,
        start: int,
        gap: int,
        seed: int,
    ) -> Traffic: ...
    def fill(self, batch: PacketBatch) -> int: ...
