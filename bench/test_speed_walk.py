"""Packets per second through the walk, one core, 1,000 established flows: the ways of `dataplane bench path` and `vxlan`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataplane.bench import conntrack, traffic
from dataplane.bench.emulated import Emulated
from dataplane.bench.path import WAYS
from dataplane.bench.pods import Backend, Conversations, cluster, manifests
from dataplane.bench.router import CLIENT_SIDE
from dataplane.cluster import complete, read_manifests
from dataplane.datapath.compile import compile_host
from dataplane.generate import Recipe, plan, write

FLOWS, COUNT = 1_000, 4_000
REPLAYED = 100_000


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0].replace(",", "").replace(" ", "_"))
def test_walk(way: tuple[str, str, Backend, bool], per: Callable[..., Any]) -> None:
    _, server, backend, service = way
    _conversations(Conversations(backend, server, FLOWS, service=service, payload=10), per)


@pytest.mark.parametrize("size", [64, 1_400])
def test_vxlan(size: int, per: Callable[..., Any]) -> None:
    _conversations(Conversations("vxlan", "far", FLOWS, service=False, payload=size - 40), per)


def _conversations(talk: Conversations, per: Callable[..., Any]) -> None:
    random = np.random.default_rng(0)

    def packets() -> Any:
        return (talk.prepare(talk.data(random.integers(0, FLOWS, COUNT))), COUNT), {}

    per(COUNT, talk.send_batch, packets)


@pytest.mark.parametrize("connections", [1_000, 100_000])
def test_conntrack_established(connections: int, per: Callable[..., Any]) -> None:
    path, clients = Emulated(compile_host(conntrack.config(connections))), traffic.Clients()
    opened, random = conntrack.open_connections(path, clients, connections), np.random.default_rng(0)

    def packets() -> Any:
        return (path.prepare(traffic.data(opened[random.integers(0, connections, COUNT)])), CLIENT_SIDE, COUNT), {}

    per(COUNT, path.time_batch, packets)


@pytest.mark.parametrize("places", ["", "default/far/eth0", "*"], ids=["nothing", "one_place", "every_place"])
def test_replay(places: str, tmp_path: Path, per: Callable[..., Any]) -> None:
    """From a capture file to a capture file, both directions of each conversation."""
    source, target = tmp_path / "in.pcap", tmp_path / "out.pcapng"
    recipe = Recipe(packets=REPLAYED, flows=FLOWS, services=1.0)
    packets = write(plan(complete(read_manifests(manifests())), recipe), source)

    def replay(subject: Any) -> None:
        assert subject.replay(source, write=target if places else None, places=places).accounting.delivered

    per(packets, replay, lambda: ((cluster(),), {}))
