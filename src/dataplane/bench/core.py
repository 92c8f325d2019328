"""One core of the program on its own, measured over sizes: what each of the smaller benchmarks gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dataplane.bench.figures import Times
from dataplane.bench.machine import clock
from dataplane.errors import ModelError


@dataclass(frozen=True, slots=True)
class Effort:
    """packets: timed one by one in each of `repeats`. seed: of every random choice."""

    packets: int = 4_000
    repeats: int = 7
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ModelError for numbers that measure nothing."""
        for name in ("packets", "repeats"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Core:
    """One line: what was measured, over how many of what, through which engine, with which packets."""

    what: str
    size: int
    engine: str
    packets: str
    times: Times


def repeated(run: Callable[[int], npt.NDArray[np.int64]], effort: Effort) -> Times:
    """run: with a group's size, sends `effort.packets` packets and gives the ns of each group. The first warms up."""
    cost = clock()
    runs, rates = [], []
    for repeat in range(effort.repeats + 1):
        each = run(1)
        together = run(effort.packets)
        if repeat:
            runs.append(np.maximum(each - cost, 0))
            rates.append(effort.packets / (float(together.sum()) / 1e9))
    return Times.of(runs, rates)
