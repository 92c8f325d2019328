"""Percentiles, medians, spread; and the clock under them."""

import numpy as np
import pytest

from dataplane._fast.stopwatch import clock_cost, time_writes
from dataplane.bench import traffic
from dataplane.bench.figures import PERCENTILES, Figure, Times
from dataplane.bench.machine import Machine


def test_a_figure_is_the_median_and_its_spread() -> None:
    figure = Figure.of([4.0, 2.0, 3.0])
    assert (figure.median, figure.low, figure.high) == (3.0, 2.0, 4.0)
    assert figure.spread == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="no measurements"):
        Figure.of([])


def test_percentiles_are_taken_of_each_run_and_then_the_median() -> None:
    runs = [np.arange(101.0), np.arange(101.0) + 10, np.arange(101.0) + 1000]
    times = Times.of(runs, [1.0, 2.0, 3.0])
    assert {p: times.percentiles[p].median for p in PERCENTILES} == {p: p + 10 for p in PERCENTILES}
    assert times.mean.median == 60
    assert times.rate.median == 2
    assert sorted(times.as_dict()) == ["mean", "p01", "p10", "p50", "p90", "p95", "p99", "rate"]


def test_the_clock_costs_something_and_not_much() -> None:
    taken = clock_cost(1000)
    assert len(taken) == 1000
    assert (taken >= 0).all()
    assert np.median(taken) < 10_000


def test_the_machine_is_stated() -> None:
    machine = Machine.here()
    assert machine.processors >= 1
    assert machine.memory > 1 << 20
    assert machine.python in machine.line()
    assert machine.kernel in machine.line()


def test_writes_are_timed_in_groups_and_a_closed_descriptor_is_an_error(tmp_path) -> None:  # type: ignore[no-untyped-def]
    frames = traffic.Clients().first_packets(np.zeros(10, np.int64))
    batch = traffic.batch(frames, 0)
    with open(tmp_path / "out", "wb") as file:
        assert len(time_writes(file.fileno(), batch, 4)) == 3
        with pytest.raises(ValueError, match="group of 0"):
            time_writes(file.fileno(), batch, 0)
    assert (tmp_path / "out").read_bytes() == frames.tobytes()
    with pytest.raises(OSError, match="was not written"):
        time_writes(-1, batch)
