"""Packets through a node's rules, as `dataplane bench modes` sends them: 1,000 Services with 10 endpoints each."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dataplane.agents.node import Agents, Options
from dataplane.bench import traffic
from dataplane.bench.emulated import Emulated
from dataplane.bench.modes import PACKETS, establish, packets
from dataplane.bench.router import CLIENT_SIDE, router
from dataplane.bench.services import NODE, cluster
from dataplane.cluster import ClusterState
from dataplane.datapath.compile import compile_host
from dataplane.host.config import HostConfig

SERVICES, ENDPOINTS, COUNT = 1_000, 10, 4_000


@pytest.fixture(scope="module")
def state() -> ClusterState:
    return cluster(SERVICES, ENDPOINTS)


@pytest.fixture(scope="module")
def config(state: ClusterState) -> HostConfig:
    return router(Agents(state, Options(mode="iptables")).host(NODE))


@pytest.mark.parametrize("engine", ["model", "in_turn"])
@pytest.mark.parametrize("kind", PACKETS)
def test_packets(kind: str, engine: str, config: HostConfig, per: Callable[..., Any]) -> None:
    path = Emulated(compile_host(config), in_turn=engine == "in_turn")
    random, clients = np.random.default_rng(0), traffic.Clients()
    opened = establish(path, clients, random.integers(0, SERVICES, 1_000))

    def frames() -> Any:
        path.forget()
        return (path.prepare(packets(kind, clients, SERVICES, COUNT, random, opened)), CLIENT_SIDE, COUNT), {}

    per(COUNT, path.time_batch, frames)


def test_render(state: ClusterState, per: Callable[..., Any]) -> None:
    per(1, lambda: Agents(state).host(NODE))


def test_compile(config: HostConfig, per: Callable[..., Any]) -> None:
    per(1, lambda: compile_host(config))
