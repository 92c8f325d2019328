"""The emulator does what the kernel does, scenario by scenario.

`python tests/kernel/diff.py SCENARIO` shows one of them with both sides next to each other.
"""

import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from judge import emulated, namespace, show
from judge.compare import compare
from judge.known import KNOWN
from judge.scenario import Kernel, load

WHY_NOT = namespace.unavailable()
NO_EMULATOR = emulated.unavailable()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"the kernel cannot be asked: {WHY_NOT}")


@pytest.mark.parametrize("name", load())
def test_scenario(name: str, kernel: Kernel, tmp_path: Path) -> None:
    """Frames, rule counters, connections, interface counters and drops are the kernel's, after every step.

    Who differs is asked once more, for a packet may fall on either side of a tick of the kernel's clock: see README.md."""
    asked = load()[name]
    ours = kernel.run(asked, tmp_path)
    if NO_EMULATOR:
        pytest.skip(f"the kernel alone: {NO_EMULATOR}")
    found = compare(ours, emulated.run(ours), asked.masks)
    if found and name not in KNOWN:
        once, ours = found, kernel.run(asked, tmp_path)
        found = compare(ours, emulated.run(ours), asked.masks)
        if not found:
            warnings.warn(f"{name} differed once:\n{show.differences(once)}", stacklevel=1)
    if name in KNOWN:
        assert found, f"{name} agrees with the kernel now: strike it from the known differences"
        pytest.xfail(KNOWN[name])
    assert not found, f"{asked.shows}\n{show.differences(found)}"
