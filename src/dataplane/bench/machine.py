"""What a measurement was made on: numbers without it say nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dataplane._fast.stopwatch import clock_cost


@dataclass(frozen=True, slots=True)
class Machine:
    processor: str
    processors: int
    """that this process may use"""
    memory: int
    """bytes"""
    kernel: str
    python: str
    numpy: str
    clock: float
    """ns that reading the clock twice takes, the median; subtracted from every time of a packet"""

    @classmethod
    def here(cls) -> Machine:
        return cls(
            processor=_processor(),
            processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            kernel=f"{platform.system()} {platform.release()}",
            python=f"{platform.python_implementation()} {platform.python_version()}",
            numpy=np.__version__,
            clock=clock(),
        )

    def line(self) -> str:
        return (
            f"{self.processor}, {self.processors} processors, {self.memory / 2**30:.0f} GiB; {self.kernel}; "
            f"{self.python}, numpy {self.numpy}; clock {self.clock:.0f} ns"
        )

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def clock() -> float:
    """ns between two readings of the clock with nothing between them: the median of many."""
    return float(np.median(clock_cost(10_000)))


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Other programs wait meanwhile, where this one may ask for that (root): a few milliseconds of somebody else within
    thousands of packets would be half of their mean. For short work only."""
    asked = hasattr(os, "sched_setscheduler")
    if asked:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        except OSError:
            asked = False
    try:
        yield
    finally:
        if asked:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class Pinned:
    """`with Pinned():` the process stays on one processor, the last that it may use; memory and caches stay warm."""

    def __enter__(self) -> None:
        self._before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        if self._before:
            os.sched_setaffinity(0, {max(self._before)})

    def __exit__(self, *_: object) -> None:
        if self._before:
            os.sched_setaffinity(0, self._before)
