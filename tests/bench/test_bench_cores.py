"""The smaller benchmarks on tiny sizes: what they send is what they say, and every figure is finite."""

import json
import math
from typing import Any

import numpy as np
import pytest

from dataplane.bench import conntrack, path, replay, traffic, vxlan
from dataplane.bench.core import Core, Effort
from dataplane.bench.emulated import Emulated
from dataplane.bench.engines import kernels
from dataplane.bench.pods import Backend, Conversations
from dataplane.bench.router import CLIENT_SIDE
from dataplane.cli import main
from dataplane.datapath.compile import compile_host
from dataplane.errors import ModelError

TINY = Effort(packets=30, repeats=2)


def finite(rows: list[Core]) -> bool:
    values = [
        value
        for row in rows
        for figure in (*row.times.percentiles.values(), row.times.mean, row.times.rate)
        for value in (figure.low, figure.median, figure.high)
    ]
    return bool(values) and all(math.isfinite(value) and value >= 0 for value in values)


def test_conntrack_measures_new_and_open_connections() -> None:
    rows = list(conntrack.measure((3, 40), TINY))
    assert [(row.size, row.packets) for row in rows] == [(n, kind) for n in (3, 40) for kind in conntrack.KINDS]
    assert finite(rows)


def test_conntrack_opens_as_many_connections_as_it_says() -> None:
    host = compile_host(conntrack.config(40))
    conntrack.open_connections(Emulated(host), traffic.Clients(), 40)
    assert host.host.connections is not None
    assert host.host.connections.count == 40


def test_conntrack_asks_the_kernel() -> None:
    try:
        kernels()
    except ModelError as error:
        pytest.skip(str(error))
    rows = list(conntrack.measure((25,), TINY, kernel=True))
    assert [row.engine for row in rows] == ["model", "model", "kernel", "kernel"]
    assert finite(rows)


def test_path_goes_four_ways() -> None:
    rows = list(path.measure((1, 20), TINY))
    assert len(rows) == 2 * len({row.what for row in rows}) == 8
    assert finite(rows)


def test_vxlan_is_measured_beside_the_same_way_without_it() -> None:
    rows = list(vxlan.measure((64, 1450), TINY, flows=10))
    assert [(row.what, row.size) for row in rows] == [
        ("vxlan", 64),
        ("host-gw", 64),
        ("vxlan", 1450),
        ("host-gw", 1450),
    ]
    assert finite(rows)
    with pytest.raises(ModelError, match="1451 bytes"):
        list(vxlan.measure((1451,), TINY))


@pytest.mark.parametrize(("backend", "ports"), [("vxlan", {"flannel.1"}), ("host-gw", set())])
def test_conversations_take_the_way_that_they_are_named_after(backend: Backend, ports: set[str]) -> None:
    talk = Conversations(backend, "far", 5, service=True, payload=3)
    places = talk._fabric.capture(["*"])
    talk.send(talk.data(np.arange(5)))
    seen = talk._fabric.captured()
    crossed = [places[number] for number in seen.interface[: len(seen)].tolist()]
    assert crossed.count("default/far/eth0") == 5
    assert {place.partition("/")[2] for place in crossed} & {"flannel.1"} == ports


def test_replay_is_timed_as_a_whole() -> None:
    rows = list(replay.measure((4,), Effort(packets=40, repeats=2)))
    assert [row.what for row in rows] == [what for what, _ in replay.PLACES]
    assert all(not row.times.percentiles for row in rows)
    assert finite(rows)


def test_packets_that_are_lost_are_not_measured() -> None:
    """A figure of packets that were dropped would look good."""
    talk = Conversations("vxlan", "near", 2, service=False, payload=0)
    talk._fabric.fail("default/near")
    with pytest.raises(ModelError, match="1 of 1 packets were not delivered"):
        talk.send(talk.data(np.array([0])))
    router = Emulated(compile_host(conntrack.config(1)))
    stray = traffic.Clients().first_packets(np.array([0]))
    stray[0, 22] = 1  # TTL
    with pytest.raises(ModelError, match="1 of 1 packets did not pass the router"):
        router.time(stray, CLIENT_SIDE)


ARGUMENTS: dict[str, tuple[str, ...]] = {
    "conntrack": ("--connections", "5"),
    "path": ("--flows", "2"),
    "vxlan": ("--sizes", "64"),
    "replay": ("--flows", "2"),
}


@pytest.mark.parametrize("what", ARGUMENTS)
def test_every_core_prints_tables_json_and_csv(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", what, *ARGUMENTS[what], "--packets", "20", "--repeats", "1"]
    assert main(arguments) == 0
    head, table = capsys.readouterr().out.split("\n\n")
    assert "CPython" in head
    assert table.startswith("WHAT ")
    assert main([*arguments, "-o", "json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert len(found["rows"]) == len(table.splitlines()) - 1
    assert found["plan"] == {"packets": 20, "repeats": 1, "seed": 0}
    assert main([*arguments, "-o", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(table.splitlines())
    assert main(["bench", what, ARGUMENTS[what][0], "x,1"]) == 2
    assert "x,1" in capsys.readouterr().err
    assert main(["bench", what, ARGUMENTS[what][0], "0"]) == 2
