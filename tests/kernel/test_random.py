"""Random hosts, rules and conversations: a bounded number of the cases that `make kernel-soak` draws without end."""

import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from judge import emulated, namespace, show
from judge.random_run import again, draw
from judge.scenario import Kernel

WHY_NOT = namespace.unavailable() or emulated.unavailable()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"the kernel cannot be asked: {WHY_NOT}")

SEEDS = range(1, 41)
PACKETS = 300


@pytest.mark.parametrize("seed", SEEDS)
def test_random_case(seed: int, kernel: Kernel, tmp_path: Path) -> None:
    """`python tests/kernel/soak.py --cases 1 --seed N` makes a case that fails here small."""
    outcome = draw(kernel, seed, PACKETS, tmp_path)
    assert outcome.packets > PACKETS
    found = outcome.differences
    if found:
        found = again(kernel, outcome.lines, tmp_path)
        if not found:
            warnings.warn(f"seed {seed} differed once:\n{show.differences(outcome.differences)}", stacklevel=1)
    assert not found, f"seed {seed}\n{show.differences(found)}"
