"""`dataplane connections`: a node's connections as conntrack -L lists them."""

from pathlib import Path

import pytest

from dataplane.cli import main
from dataplane.host.conntrack import parse, text

PCAPS = Path(__file__).parents[2] / "pcaps"
CAPTURE, CLUSTER = str(PCAPS / "boutique.pcap"), str(PCAPS / "boutique.yaml")


def connections(capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    assert main(["connections", CAPTURE, "-c", CLUSTER, "--node", "node-1", *options]) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert output.err.splitlines()[-1] == f"{len(lines)} flow entries have been shown."
    return lines


def test_lines_are_conntracks(capsys: pytest.CaptureFixture[str]) -> None:
    lines = connections(capsys, "-o", "extended")
    rows = parse("".join(f"{line}\n" for line in lines), "conntrack.txt", [])
    assert len(rows) == len(lines) > 100
    assert text(rows).splitlines() == lines
    assert connections(capsys) == [line.split(maxsplit=2)[2] for line in lines]


def test_a_translated_connection(capsys: pytest.CaptureFixture[str]) -> None:
    """What came to the node port: the reply comes from the pod, and goes to the node that masqueraded it."""
    (line,) = [line for line in connections(capsys, "-p", "tcp") if "dport=30080" in line and "TIME_WAIT" in line][:1]
    words = line.split()
    assert words[:2] == ["tcp", "6"]
    assert words.count("dst=192.168.1.11") == 1
    assert "[ASSURED]" in words
    assert any(word.startswith("src=10.244.") for word in words)


def test_filters(capsys: pytest.CaptureFixture[str]) -> None:
    everything = connections(capsys, "-o", "extended")
    six = connections(capsys, "-o", "extended", "-f", "ipv6")
    assert six == [line for line in everything if line.startswith("ipv6")] != []
    udp = connections(capsys, "-p", "udp")
    assert udp
    assert all(line.startswith("udp      17 ") for line in udp)


def test_an_unknown_node(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connections", CAPTURE, "-c", CLUSTER, "--node", "node-9"]) == 2
    assert "no node 'node-9'" in capsys.readouterr().err


def test_connections_that_a_change_has_made_stale(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Until kube-proxy has flushed them they are listed."""
    script = tmp_path / "events.yaml"
    script.write_text("- {at: 3s, restart: pod/kube-system/coredns-7c65d6cfc9-2xkq8}\n")
    old = "src=10.244.1.2 "

    def to_the_old(*options: str) -> list[str]:
        return [line for line in connections(capsys, "-p", "udp", *options) if old in line]

    before = to_the_old()
    assert before
    stale = to_the_old("--events", str(script), "--sync-delay", "1h")
    assert len(stale) == len(before)
    assert any("[UNREPLIED]" in line for line in stale)
    assert len(to_the_old("--events", str(script))) < len(before)
    assert main(["connections", CAPTURE, "-c", CLUSTER, "--node", "node-1", "--sync-delay", "1s"]) == 2
    assert "goes with --events" in capsys.readouterr().err
