"""`dataplane bench modes` on tiny sizes: tables, JSON, CSV, a picture, and what is refused."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from dataplane.bench.engines import kernels
from dataplane.bench.figures import PERCENTILES
from dataplane.bench.modes import PACKETS
from dataplane.cli import main
from dataplane.errors import ModelError

TINY = ("--endpoints", "2", "--packets", "20", "--connections", "5", "--changes", "2", "--repeats", "2")


def run(capsys: pytest.CaptureFixture[str], *arguments: str, modes: str = "iptables") -> str:
    assert main(["bench", "modes", "--modes", modes, "--services", "3,12", *TINY, *arguments]) == 0
    return capsys.readouterr().out


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, int | float) else []


def test_table_has_a_line_for_each_engine_and_kind_of_packet(capsys: pytest.CaptureFixture[str]) -> None:
    head, tables, packets = run(capsys).split("\n\n")
    assert "CPython" in head
    assert "seed 0" in head
    assert tables.startswith("MODE ")
    assert [line.split()[:2] for line in tables.splitlines()[1:]] == [
        ["none", "3"],
        *[["iptables", "3"]] * 2,
        *[["iptables", "12"]] * 2,
    ]
    assert len(packets.splitlines()) == 1 + 5 * len(PACKETS)


def test_json_has_every_figure_and_each_is_finite(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "-o", "json"))
    assert found["plan"]["seed"] == 0
    assert found["machine"]["python"].startswith("CPython")
    assert all(math.isfinite(number) for number in numbers(found))
    rows = found["rows"]
    assert [(row["mode"], row["services"], row["engine"]) for row in rows] == [
        ("none", 3, "model"),
        *[("iptables", services, engine) for services in (3, 12) for engine in ("model", "model in turn")],
    ]
    for row in rows:
        assert set(row["packets"]) == set(PACKETS) == set(row["walked"])
        for figures in row["packets"].values():
            assert 0 <= figures["p01"]["median"] <= figures["p50"]["median"] <= figures["p99"]["median"]
            assert figures["mean"]["low"] <= figures["mean"]["median"] <= figures["mean"]["high"]
            assert figures["rate"]["median"] > 0
    bare, model, in_turn, larger, _ = rows
    assert bare["walked"]["any"] == 0 == bare["memory"]
    assert 0 < model["memory"] < larger["memory"]
    assert model["tables"]["rules"] < larger["tables"]["rules"]
    assert model["walked"] == in_turn["walked"]
    # Only the last Service's rule stands behind others.
    assert larger["walked"]["last"] > model["walked"]["last"]
    assert model["sync"]["median"] > 0 < model["compile"]["median"]
    assert model["aboveNone"]["any"] == pytest.approx(
        model["packets"]["any"]["mean"]["median"] - bare["packets"]["any"]["mean"]["median"]
    )


def test_csv_is_one_line_for_each_kind_of_packet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "modes", "--modes", "iptables", "--services", "3", *TINY, "-o", "csv"]) == 0
    output = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(output.out)))
    assert [row["packets"] for row in rows] == [*PACKETS] * 3
    for row in rows:
        assert all(float(row[f"p{p:02}_ns"]) >= 0 for p in PERCENTILES)
        assert float(row["per_second"]) > 0
    assert "CPython" in output.err


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_picture_is_drawn(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"bench{suffix}"
    run(capsys, "--plot", str(path))
    data = path.read_bytes()
    assert len(data) > 10_000
    assert data.startswith(b"\x89PNG") if suffix == ".png" else b"<svg" in data


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--modes", "ipsv"], "'ipsv'"),
        (["--services", "10,many"], "10,many"),
        (["--services", "0"], "Services"),
        (["--repeats", "0"], "repeats"),
        (["--plot", "picture.jpeg"], ".png"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "modes", *arguments]) == 2
    output = capsys.readouterr()
    assert said in output.err
    assert not output.out


def test_ipvs_walks_as_many_rules_whatever_the_number_of_services(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(run(capsys, "-o", "json", modes="iptables,ipvs"))["rows"]
    few, many = (row for row in rows if row["mode"] == "ipvs" and row["engine"] == "model")
    assert (few["services"], many["services"]) == (3, 12)
    assert few["walked"] == many["walked"]
    assert few["tables"]["rules"] == many["tables"]["rules"]
    assert many["tables"]["virtual services"] == 12
    assert many["sync"]["median"] > 0


def test_the_same_seed_walks_the_same_rules(capsys: pytest.CaptureFixture[str]) -> None:
    walked = [
        [row["walked"] for row in json.loads(run(capsys, "-o", "json", "--seed", seed))["rows"]]
        for seed in ("5", "5", "6")
    ]
    assert walked[0] == walked[1] != walked[2]


def test_kernel_adds_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        kernels()
    except ModelError as error:
        pytest.skip(str(error))
    rows = json.loads(run(capsys, "--kernel", "-o", "json"))["rows"]
    of_kernel = [row for row in rows if row["engine"].startswith("kernel")]
    assert [(row["mode"], row["services"], row["engine"]) for row in of_kernel] == [
        ("nftables" if backend == "nftables" and mode != "none" else mode, services, f"kernel {backend}")
        for mode, services in (("none", 3), ("iptables", 3), ("iptables", 12))
        for backend in ("legacy", "nft", "nftables")
    ]
    for row in of_kernel:
        # A write to a device takes some hundred ns on any machine.
        assert row["packets"]["any"]["p50"]["median"] > 50
        if row["mode"] != "none":
            assert row["aboveNone"]["any"] > 0
            assert row["sync"]["median"] > 0 < row["compile"]["median"]
