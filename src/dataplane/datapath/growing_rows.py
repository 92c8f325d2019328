"""Rows that come and go while a host runs."""

from __future__ import annotations

from bisect import insort
from typing import Any

import numpy as np


class Rows:
    """An array that grows at its end and gives stretches of itself out again."""

    def __init__(self, values: Any) -> None:
        self.used = len(values)
        self.array = np.zeros((max(self.used + self.used // 4, 64), *values.shape[1:]), values.dtype)
        self.array[: self.used] = values
        self.free: list[tuple[int, int]] = []  # (size, first)

    def take(self, size: int) -> int:
        """The first row of a stretch; what is in it is anything."""
        for at, (room, first) in enumerate(self.free):
            if room >= size:
                del self.free[at]
                self.give(first + size, room - size)
                return first
        first = self.used
        if first + size > len(self.array):
            grown = np.zeros((2 * len(self.array) + size, *self.array.shape[1:]), self.array.dtype)
            grown[:first] = self.array[:first]
            self.array = grown
        self.used += size
        return first

    def give(self, first: int, size: int) -> None:
        if size:
            insort(self.free, (size, first))

    def append(self, values: Any) -> int:
        first = self.take(len(values))
        self.array[first : first + len(values)] = values
        return first
