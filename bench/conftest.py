"""What the benchmarks share: one processor, and a table of ns and packets per second behind pytest-benchmark's own."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Any

import pytest

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "9"))


@pytest.fixture(scope="session", autouse=True)
def _one_processor() -> None:
    """The last that the process may use: memory and caches stay warm."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@pytest.fixture
def per(benchmark: Any) -> Callable[..., Any]:
    """`per(packets, work, setup)`: time `work`, which handles so many packets (or other things), in rounds.

    setup gives the arguments of each round and is not timed.
    """

    def run(things: int, work: Callable[..., Any], setup: Callable[[], Any] | None = None) -> Any:
        benchmark.extra_info["things"] = things
        gc.collect()
        return benchmark.pedantic(work, setup=setup, rounds=ROUNDS, iterations=1, warmup_rounds=0 if setup else 1)

    return run


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    session = getattr(config, "_benchmarksession", None)
    found = [] if session is None else [one for one in session.benchmarks if one.stats.rounds]
    if not found:
        return
    terminalreporter.write_line("")
    terminalreporter.write_line(f"{'median':<52}{'ns':>14}{'per second':>16}{'spread':>9}")
    for one in found:
        ns = 1e9 * one.stats.median / one.extra_info["things"]
        spread = (one.stats.max - one.stats.min) / (2 * one.stats.median)
        terminalreporter.write_line(f"{one.name.removeprefix('test_'):<52}{ns:>14,.1f}{1e9 / ns:>16,.0f}{spread:>9.0%}")
