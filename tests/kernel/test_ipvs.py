"""The emulator balances as the kernel's IPVS does, scenario by scenario; the kernel is user-mode Linux.

`python tests/kernel/diff.py ipvs/SCENARIO` shows one of them with both sides next to each other.
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from judge import emulated, show, uml
from judge.compare import balanced_connections, balanced_services, compare
from judge.ipvs_known import KNOWN
from judge.scenario import load
from judge.uml import Done

from dataplane.errors import InputError

WHY_NOT = uml.unavailable()
NO_EMULATOR = emulated.unavailable() or (None if emulated.balances() else "the emulator has no IPVS")
SCENARIOS = load("scenarios.ipvs")
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"no kernel with IPVS: {WHY_NOT}")


@pytest.fixture(scope="module")
def recordings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """What the kernel did in all scenarios that this run asks for."""
    asked = [
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path and hasattr(item, "callspec")
    ]
    try:
        return uml.run(list(dict.fromkeys(asked)), tmp_path_factory.mktemp("uml"), boots=min(2, os.cpu_count() or 1))
    except uml.NoBoot as last_words:
        pytest.skip(f"user-mode Linux does not boot here: {last_words}")


@pytest.mark.parametrize("name", SCENARIOS)
def test_balancing(name: str, recordings: dict[str, Done]) -> None:
    """What the scenario says of the kernel is true of it; servers, frames, connections and statistics are the same."""
    done = recordings[name]
    assert not done.error, done.error
    last = done.recording.steps[-1].ipvs
    assert balanced_services(last["-Ln --stats --exact"]).keys() == balanced_services(last["-Ln"]).keys()
    if NO_EMULATOR:
        pytest.skip(f"the kernel alone: {NO_EMULATOR}")
    try:
        found = compare(done.recording, emulated.run(done.recording), SCENARIOS[name].masks)
    except InputError:
        if name not in KNOWN:
            raise
        pytest.xfail(KNOWN[name])
    if name in KNOWN:
        assert found, f"{name} agrees with the kernel now: strike it from the known differences"
        pytest.xfail(KNOWN[name])
    assert not found, f"{SCENARIOS[name].shows}\n{show.differences(found)}"


@pytest.mark.parametrize("name", ["ipvs/schedulers/rr_in_turn", "ipvs/schedulers/rr_in_turn/ipv6"])
def test_proc_is_read_as_ipvsadm_prints_it(name: str, recordings: dict[str, Done]) -> None:
    """Rows that are made of /proc after every step are those of the real tool at the end."""
    *_, before, last = recordings[name].recording.steps
    assert balanced_connections(before.ipvs["-Lnc"]).keys() == balanced_connections(last.ipvs["-Lnc"]).keys()
    assert balanced_services(before.ipvs["-Ln"]) == balanced_services(last.ipvs["-Ln"])
    assert len(balanced_connections(last.ipvs["-Lnc"])) == 7
