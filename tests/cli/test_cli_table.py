"""Rows as kubectl sets them, and as programs read them."""

import csv
import io
import json
from ipaddress import IPv4Address

import yaml

from dataplane.cli.table import columns, comma_separated, structured

HEADER = ("name", "cluster-ip", "packets")
ROWS = [("frontend", IPv4Address("10.96.0.20"), 12), ("kube-dns", None, 3456)]


def test_columns_have_no_borders_and_three_spaces() -> None:
    assert columns(HEADER, ROWS) == (
        "NAME       CLUSTER-IP   PACKETS\n"
        "frontend   10.96.0.20   12\n"
        "kube-dns   <none>       3456\n"
    )  # fmt: skip


def test_numbers_stand_flush_right_where_asked() -> None:
    assert columns(HEADER, ROWS, right=("packets",)).splitlines()[1:] == [
        "frontend   10.96.0.20        12",
        "kube-dns   <none>          3456",
    ]


def test_no_rows_leave_the_headings() -> None:
    assert columns(HEADER, []) == "NAME   CLUSTER-IP   PACKETS\n"


def test_lists_are_joined_and_nothing_is_named() -> None:
    assert columns(("a", "b", "c"), [([1, 2], [], True)]).splitlines()[1] == "1,2   <none>   true"


def test_csv_reads_back() -> None:
    rows = [("with, comma", 'with "quotes"', 1), ("", None, 2)]
    text = comma_separated(("Name", "Cluster IP", "Packets"), rows)
    assert list(csv.reader(io.StringIO(text))) == [
        ["name", "cluster_ip", "packets"],
        ["with, comma", 'with "quotes"', "1"],
        ["", "", "2"],
    ]


def test_json_and_yaml_say_the_same() -> None:
    value = {"address": IPv4Address("10.0.0.1"), "ports": (80, 443), "share": 0.5, "none": None, "text": "größe"}
    plain = {"address": "10.0.0.1", "ports": [80, 443], "share": 0.5, "none": None, "text": "größe"}
    assert json.loads(structured(value, "json")) == plain
    assert yaml.safe_load(structured(value, "yaml")) == plain
