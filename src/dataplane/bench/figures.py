"""Figures of repeated measurements: percentiles of one run, then medians over the runs and their spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

PERCENTILES = (1, 10, 50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of repeats, and the smallest and largest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Raises ValueError without values."""
        if not values:
            raise ValueError("a figure of no measurements")
        return cls(float(median(values)), float(min(values)), float(max(values)))

    @property
    def spread(self) -> float:
        """Half the way from the smallest to the largest, as a share of the median; 0 where the median is."""
        return (self.high - self.low) / (2 * self.median) if self.median else 0.0

    def as_dict(self) -> dict[str, float]:
        return {"median": self.median, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Times:
    """ns per packet: percentiles and mean, and packets per second."""

    percentiles: dict[int, Figure]
    mean: Figure
    rate: Figure

    @classmethod
    def of(cls, runs: Sequence[npt.NDArray[np.float64]], rates: Sequence[float]) -> Times:
        """runs: ns per packet, an array a repeat. rates: packets per second, of runs without a clock at each packet."""
        return cls(
            {p: Figure.of([float(np.percentile(run, p)) for run in runs]) for p in PERCENTILES},
            Figure.of([float(run.mean()) for run in runs]),
            Figure.of(rates),
        )

    def as_dict(self) -> dict[str, dict[str, float]]:
        return {
            **{f"p{p:02}": figure.as_dict() for p, figure in self.percentiles.items()},
            "mean": self.mean.as_dict(),
            "rate": self.rate.as_dict(),
        }
