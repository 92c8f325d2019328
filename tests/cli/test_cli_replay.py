"""`dataplane replay`: its tables, its files, its exit statuses, and what it says of bad input."""

import csv
import io
import json
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dataplane.capture import open_capture
from dataplane.cli import main
from dataplane.cli.replay import text
from dataplane.result import Accounting, Result, Row

PCAPS = Path(__file__).parents[2] / "pcaps"
CAPTURE, CLUSTER, OFFICE = (str(PCAPS / name) for name in ("boutique.pcap", "boutique.yaml", "office.pcap"))

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `dataplane replay` and gives (exit status, standard output, standard error)."""

    def made(*arguments: str | Path) -> tuple[int, str, str]:
        status = main(["replay", *map(str, arguments)])
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return status, output.out, output.err

    return made


RESULT = Result(
    accounting=Accounting(
        read=40, decoded=39, injected=38, delivered=36, dropped={"NETFILTER_DROP": 2}, left_out={"x": 2}
    ),
    services=[
        Row("shop", "web", "80/TCP", 30, 4, {"shop/a": 1, "shop/b": 1, "other/c": 1, "shop/d": 1}, "delivered", True),
        Row("shop", "void", "81/TCP", 2, 2, {}, "dropped: NETFILTER_DROP", False),
    ],
    paths=[Row("", "shop/a -> shop/b", "9/UDP", 6, 1, {"shop/b": 1}, "delivered", True)],
)


def test_table_has_a_row_per_service_and_path_then_the_accounting() -> None:
    assert text(RESULT, "table") == (
        "NAMESPACE   NAME   PORT     PACKETS   FLOWS   VERDICT                   ENDPOINTS\n"
        "shop        web    80/TCP        30       4   delivered                 a 25%, b 25%, other/c 25% + 1 more\n"
        "shop        void   81/TCP         2       2   dropped: NETFILTER_DROP   <none>\n"
        "\n"
        "PATH               PORT    PACKETS   FLOWS   VERDICT\n"
        "shop/a -> shop/b   9/UDP         6       1   delivered\n"
        "\n"
        "read 40, decoded 39, mapped 0, injected 38, delivered 36, dropped 2 (NETFILTER_DROP 2), left out 2 (x 2)\n"
    )


def test_wide_names_every_endpoint() -> None:
    assert "a 25%, b 25%, other/c 25%, d 25%" in text(RESULT, "wide")


def test_csv_reads_back() -> None:
    rows = list(csv.DictReader(io.StringIO(text(RESULT, "csv"))))
    assert [(row["kind"], row["name"], row["packets"]) for row in rows] == [
        ("service", "web", "30"),
        ("service", "void", "2"),
        ("path", "shop/a -> shop/b", "6"),
    ]


def adds_up(accounting: dict[str, object]) -> bool:
    """Nothing is lost in silence."""
    counts = {name: sum(value.values()) if isinstance(value, dict) else value for name, value in accounting.items()}
    ended = sum(counts[name] for name in ("delivered", "dropped", "emitted", "consumed", "waiting"))
    return counts["read"] == counts["injected"] + counts["leftOut"] and counts["injected"] == ended


def test_every_packet_of_the_sample_is_accounted_for(run: Run) -> None:
    _, out, _ = run(CAPTURE, "-c", CLUSTER, "-o", "json")
    result = json.loads(out)
    assert adds_up(result["accounting"])
    assert result["accounting"]["read"] == 1679
    assert result["accounting"]["leftOut"]["not IP, or neighbour discovery"] == 2
    assert {f"{row['name']} {row['port']}" for row in result["services"]} >= {
        "cart 7070/TCP",
        "catalog 3550/TCP",
        "checkout 5050/TCP",
        "frontend 80:30080/TCP",
        "kube-dns 53/TCP",
        "kube-dns 53/UDP",
        "kubernetes 443/TCP",
        "payment 50051/TCP",
        "recommendation 8080/TCP",
        "redis 6379/TCP",
    }


def test_the_sample_arrives_as_it_was_recorded(run: Run, tmp_path: Path) -> None:
    """All of it but the two things that were put in to be dropped; and each client hears what it had heard."""
    status, out, _ = run(CAPTURE, "-c", CLUSTER, "--flows", tmp_path / "flows.jsonl", "-o", "json")
    assert status == 1
    result = json.loads(out)
    rows = {f"{row['name']} {row['port']}": row for row in [*result["services"], *result["paths"]]}
    unexpected = {name: row["verdict"] for name, row in rows.items() if not row["asExpected"]}
    assert unexpected == {
        "payment 50051/TCP": "dropped: NETFILTER_REJECT",
        "kube-dns 53/UDP": "240 of 241 delivered: NETFILTER_DROP",
    }
    assert result["accounting"]["delivered"] == 1673
    flows = [json.loads(line) for line in (tmp_path / "flows.jsonl").read_text().splitlines()]
    assert all(flow["exact_replies"] == flow["replies"] for flow in flows)
    assert sum(flow["replies"] for flow in flows) > 700
    # Session affinity: each client of the cart has one endpoint.
    chosen: dict[str, set[str]] = {}
    for flow in flows:
        if flow["service"] == "cart":
            chosen.setdefault(flow["client"], set()).add(flow["endpoint"])
    assert len(chosen) == 3
    assert all(len(endpoints) == 1 for endpoints in chosen.values())


def test_replies_reach_the_client_byte_for_byte(run: Run, tmp_path: Path) -> None:
    """At a client's own interface each recorded segment is there once, from its addresses to its last byte."""
    out = tmp_path / "out.pcapng"
    client = "default/frontend-6d8f7b9c5d-4tqkz/eth0"
    run(CAPTURE, "-c", CLUSTER, "-w", out, "--capture", client)

    def tcp_of(path: Path | str, address: str) -> list[bytes]:
        """Segments to and from an address, without the headers that hops change (Ethernet, TTL and its checksum)."""
        found = []
        with open_capture(path) as reader:
            for batch in reader:
                for i in range(len(batch)):
                    frame = batch.frame(i)
                    if frame[12:14] == b"\x08\x00" and frame[23] == 6:
                        source, destination = frame[26:30], frame[30:34]
                        if bytes(map(int, address.split("."))) in (source, destination):
                            found.append(frame[26:])
        return found

    recorded = tcp_of(CAPTURE, "10.244.1.3")
    assert len(recorded) > 150
    # The pod is an endpoint of the frontend, too: what customers say to it comes on top.
    assert Counter(recorded) <= Counter(tcp_of(out, "10.244.1.3"))


def test_output_has_an_interface_per_place(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    run(CAPTURE, "-c", CLUSTER, "-w", out, "--capture", "node-1/*,*/cni0")
    with open_capture(out) as reader:
        packets = sum(len(batch) for batch in reader)
        names = {interface.name for interface in reader.interfaces}
    assert packets > 100
    assert {"node-1/eth0", "node-1/cni0", "node-1/flannel.1", "node-2/cni0", "node-3/cni0"} <= names
    assert not names & {"node-2/eth0", "node-3/eth0"}


def test_output_folder_has_a_file_per_place(run: Run, tmp_path: Path) -> None:
    run(CAPTURE, "-c", CLUSTER, "-w", f"{tmp_path}/", "--capture", "node-1/*")
    assert {"node-1_eth0.pcap", "node-1_cni0.pcap"} <= {path.name for path in tmp_path.iterdir()}


def test_same_seed_same_bytes(run: Run, tmp_path: Path) -> None:
    for name in ("a.pcapng", "b.pcapng"):
        run(CAPTURE, "-c", CLUSTER, "--seed", "5", "-w", tmp_path / name)
    assert (tmp_path / "a.pcapng").read_bytes() == (tmp_path / "b.pcapng").read_bytes()


@pytest.mark.parametrize("name", ["flows.parquet", "flows.arrow", "flows.csv", "flows.jsonl"])
def test_flows_are_written_as_their_name_says(run: Run, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    _, out, _ = run(CAPTURE, "-c", CLUSTER, "--flows", path, "-o", "json")
    result = json.loads(out)
    expected = sum(row["flows"] for row in [*result["services"], *result["paths"]])
    match path.suffix:
        case ".csv":
            rows = list(csv.DictReader(io.StringIO(path.read_text())))
        case ".jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
        case _:
            arrow = pytest.importorskip("pyarrow.feather" if path.suffix == ".arrow" else "pyarrow.parquet")
            rows = arrow.read_table(path).to_pylist()
    assert len(rows) >= expected > 100
    assert {"client", "service", "endpoint", "node", "packets", "bytes", "verdict", "reason"} <= rows[0].keys()


def test_strangers_are_left_out_and_a_map_is_suggested(run: Run) -> None:
    status, out, err = run(OFFICE, "-c", CLUSTER)
    assert status == 1
    assert "left out 190 (between strangers 190)" in out
    assert "--map 93.184.216.34:80=svc:NAMESPACE/NAME" in err


def test_a_map_brings_strangers_in(run: Run) -> None:
    _, out, _ = run(
        OFFICE,
        "-c",
        CLUSTER,
        "--map",
        "10.20.30.0/24=pods:default/frontend*",
        "--map",
        "93.184.216.34:80=svc:default/catalog:3550",
        "-o",
        "json",
    )
    result = json.loads(out)
    assert result["accounting"]["mapped"] == 190
    assert [(row["name"], row["packets"]) for row in result["services"]] == [("catalog", 190)]


def test_a_capture_that_ends_in_mid_packet(run: Run, tmp_path: Path) -> None:
    """What was read before is processed and reported; then the place of the damage, and status 2."""
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(Path(CAPTURE).read_bytes()[:3000])
    out_file = tmp_path / "out.pcapng"
    status, out, err = run(cut, "-c", CLUSTER, "-w", out_file, "-o", "json")
    assert status == 2
    result = json.loads(out)
    assert result["accounting"]["read"] == 30
    assert adds_up(result["accounting"])
    assert str(cut) in result["error"]
    assert f"dataplane: {cut}: byte 2948" in err
    with open_capture(out_file) as reader:
        assert sum(len(batch) for batch in reader) > 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "byte 0"),
        (b"not a capture at all, only words", "byte 0"),
        (struct.pack("<IHHiIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 250, 0, 0, 4, 4) + b"1234", "link type"),
    ],
)
def test_what_is_no_capture_is_refused(run: Run, tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.pcap"
    path.write_bytes(content)
    status, out, err = run(path, "-c", CLUSTER)
    assert (status, out) == (2, "")
    assert str(path) in err
    assert said in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "needs a cluster (-c) or a host (--host)"),
        (("-c", CLUSTER, "--host", "dump"), "not both"),
        (("--host", "nowhere"), "--in"),
        (("--host", "nowhere", "--in", "eth0"), "nowhere"),
        (("-c", CLUSTER, "--in", "eth0"), "goes with --host"),
        (("-c", CLUSTER, "--mode", "nftables"), "nftables"),
        (("-c", CLUSTER, "--cni", "calico"), "calico"),
        (("-c", CLUSTER, "--map", "10.0.0.1"), "10.0.0.1"),
        (("-c", CLUSTER, "--map", "10.0.0.1=svc:default/nope"), "nope"),
        (("-c", CLUSTER, "-w", "out.pcapng", "--capture", "nope/*"), "nope/*"),
        (("-c", CLUSTER, "--link-delay", "5 years"), "5 years"),
        (("-c", CLUSTER, "--flows", "flows.xlsx"), ".parquet"),
        (("-c", CLUSTER, "-o", "xml"), "xml"),
        (("-c", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_what_cannot_run_says_why(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run(CAPTURE, *arguments)
    assert (status, out) == (2, "")
    assert said in err


def test_missing_capture_is_named(run: Run) -> None:
    status, _, err = run("nowhere.pcap", "-c", CLUSTER)
    assert status == 2
    assert "nowhere.pcap" in err
