"""kube-proxy's rules for one node of a large cluster: 10,000 Services with 10 endpoints each, from the objects to the
text that iptables-save prints, and the memory of a process that does it."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from dataplane.agents.node import Agents
from dataplane.bench.services import NODE, cluster
from dataplane.cluster import ClusterState

SERVICES, ENDPOINTS = 10_000, 10
MEGABYTE = 1 << 20

# Of a process of its own: what others of this session hold would count. (getrusage counts its parent's, too.)
MEMORY = f"""
def highest():
    return next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))

from dataplane.agents.node import Agents
from dataplane.bench.services import NODE, cluster
state = cluster({SERVICES}, {ENDPOINTS})
before = highest()
config = Agents(state).host(NODE)
print(before, highest())
"""


@pytest.fixture(scope="module")
def large() -> ClusterState:
    return cluster(SERVICES, ENDPOINTS)


def test_render_of_10_000_services(large: ClusterState, per: Callable[..., Any]) -> None:
    """The whole configuration of the node: its 10,000 pods' interfaces too."""
    per(1, lambda: Agents(large).host(NODE))


def test_text_of_10_000_services(large: ClusterState, per: Callable[..., Any]) -> None:
    rules = Agents(large).host(NODE).iptables
    assert rules is not None
    assert len(per(1, rules.text)) > 30 * MEGABYTE


def test_memory_of_10_000_services(benchmark: Any) -> None:
    """MB of the objects, and of the process at its highest; once, it does not vary."""

    def once() -> list[int]:
        made = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
        return [int(kilobytes) // 1024 for kilobytes in made.stdout.split()]

    objects, highest = benchmark.pedantic(once, rounds=1, iterations=1)
    benchmark.extra_info.update(things=1, objects_mb=objects, highest_mb=highest)
    print(f"\n{objects} MB with the objects, {highest} MB with the node rendered")
    assert highest < 500
