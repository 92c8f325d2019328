"""The committed samples are what make.py makes, byte for byte, and hang together."""

import os
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.utils import RawPcapReader, rdpcap

PCAPS = Path(__file__).parents[2] / "pcaps"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples made anew, in a process whose hashes differ from those of the last run."""
    folder = tmp_path_factory.mktemp("samples")
    environment = {**os.environ, "PYTHONHASHSEED": "random"}
    subprocess.run([sys.executable, PCAPS / "make.py", folder], check=True, capture_output=True, env=environment)
    return folder


@pytest.mark.parametrize("name", ["boutique.yaml", "boutique.pcap", "office.pcap"])
def test_committed_sample_is_what_is_made(made: Path, name: str) -> None:
    assert (made / name).read_bytes() == (PCAPS / name).read_bytes()


WRITTEN_BY_HAND = {"boutique-events.yaml", "public.yaml"}


def test_nothing_else_is_made(made: Path) -> None:
    committed = {path.name for path in PCAPS.iterdir() if path.is_file() and path.suffix != ".py"} - WRITTEN_BY_HAND
    assert {path.name for path in made.iterdir()} == committed


def test_every_cluster_address_in_the_capture_is_in_the_cluster() -> None:
    documents = list(yaml.safe_load_all((PCAPS / "boutique.yaml").read_text()))
    known = set()
    for document in documents:
        status, spec = document.get("status", {}), document.get("spec", {})
        known |= {item["ip"] for item in status.get("podIPs", ())}
        known |= {item["address"] for item in status.get("addresses", ()) if item["type"] == "InternalIP"}
        known |= set(spec.get("clusterIPs", ()))
    inside = [ip_network(text) for text in ("10.0.0.0/8", "192.168.0.0/16", "fd00::/8")]
    seen = set()
    for packet in rdpcap(str(PCAPS / "boutique.pcap")):
        for layer in (IP, IPv6):
            if layer in packet:
                seen |= {packet[layer].src, packet[layer].dst}
    local = {text for text in seen if any(ip_address(text) in network for network in inside)}
    assert len(local) > 20
    assert local <= {str(ip_address(text)) for text in known}


def test_times_rise() -> None:
    for name in ("boutique.pcap", "office.pcap"):
        with RawPcapReader(str(PCAPS / name)) as reader:
            times = [(meta.sec, meta.usec) for _, meta in reader]
        assert times == sorted(times)
