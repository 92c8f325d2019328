"""The benchmarks of bench/ can be run: they are not part of the tests, and would be broken unseen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pytest_benchmark")
ROOT = Path(__file__).parents[2]


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    # By these, benchmarks know that tests run beside them, and do not run.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**inherited, "PYTHONPATH": str(ROOT / "src"), "BENCH_ROUNDS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
    return subprocess.run([*command, str(ROOT / "bench")], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_every_benchmark_can_be_collected() -> None:
    done = benchmarks("--collect-only")
    assert done.returncode == 0, done.stdout + done.stderr
    for path in (ROOT / "bench").glob("test_*.py"):
        assert path.name in done.stdout


def test_a_benchmark_says_what_one_packet_takes(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = benchmarks("-k", "read_pcap or one_node", f"--benchmark-json={report}")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {one["name"]: one for one in json.loads(report.read_text())["benchmarks"]}
    assert set(found) == {
        "test_read_pcap",
        "test_read_pcapng",
        "test_walk[pod_to_pod_one_node]",
        "test_walk[pod_to_Service_one_node]",
    }
    assert all(one["extra_info"]["things"] > 0 < one["stats"]["median"] for one in found.values())
    assert "per second" in done.stdout
