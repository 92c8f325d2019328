import numpy as np
import numpy.typing as npt

from dataplane._fast.batch import PacketBatch
from dataplane._fast.host import CompiledHost
from dataplane._fast.rules import EVENT_DTYPE as EVENT_DTYPE
from dataplane._fast.walk import Walk

_Times = npt.NDArray[np.int64]

def clock_cost(count: int = 1000) -> _Times: ...
def time_receive(walk: Walk, host: int, slot: int, batch: PacketBatch, group: int = 1) -> _Times: ...
def rules_met(walk: Walk, host: CompiledHost, slot: int, batch: PacketBatch) -> npt.NDArray[np.void]: ...
def time_writes(fd: int, batch: PacketBatch, group: int = 1) -> _Times: ...
