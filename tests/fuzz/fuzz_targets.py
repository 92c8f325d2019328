"""What reads inputs from outside, each with its corpus: small files of the tests, the project's samples, and, where they
are there, real captures and manifests.

A target reads its input or refuses it with an InputError that names the file. Anything else is a finding.
"""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fuzz_mutate import BINARY, TEXT, Change

from dataplane.capture.reader import CaptureReader
from dataplane.cluster.documents import flatten, parse_json, parse_yaml
from dataplane.cluster.events import parse_events
from dataplane.cluster.manifests import read_documents
from dataplane.cluster.objects import Origin
from dataplane.datapath.host import Host
from dataplane.errors import InputError
from dataplane.host import HostConfig
from dataplane.host.dump import read, texts

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "host" / "samples"
SHARED = ROOT.parent / "shared" / "data"
SMALL = 200_000  # bytes; larger files would only slow the search down


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    corpus: Callable[[], Sequence[bytes]]
    run: Callable[[bytes], str]  # what came of it, in a few words: new words make an input worth keeping
    changes: tuple[Change, ...]


def _files(*patterns: tuple[Path, str]) -> list[bytes]:
    found = [path.read_bytes() for root, pattern in patterns for path in sorted(root.glob(pattern)) if path.is_file()]
    return [data for data in found if 0 < len(data) <= SMALL]


def outcome(error: InputError) -> str:
    """A refusal without its numbers and names."""
    return f"{type(error).__name__} {error.field} " + re.sub(r"[0-9]+|'[^']*'|\"[^\"]*\"", "#", error.message)[:80]


# ---- captures -------------------------------------------------------------------------------------------------------


@cache
def captures() -> list[bytes]:
    found = _files((ROOT / "pcaps", "*.pcap"), (SHARED / "captures", "*.pcap*"))
    return [*found, *(gzip.compress(data) for data in found[:2])]


def read_capture(data: bytes) -> str:
    reader = CaptureReader(io.BytesIO(data), "fuzz", 256)
    rows = 0
    for batch in reader:
        rows += len(batch)
        for i in range(len(batch)):
            assert len(batch.frame(i)) <= SMALL * 1024
    return f"{reader.format} {len(reader.interfaces)} interfaces {rows > 0}"


# ---- texts of a host ------------------------------------------------------------------------------------------------


def dump_file(name: str) -> Target:
    def run(data: bytes) -> str:
        config = read(HostConfig, {name: data.decode("utf-8", "surrogateescape")})
        texts(config)
        return "read"

    patterns = [(SAMPLES, f"*/{name}")]
    if name.endswith("tables.save"):
        patterns += [(ROOT / "tests" / "rules" / "samples", "*.save")]
    return Target(f"dump-{name}", cache(lambda: _files(*patterns)), run, TEXT)


DUMP_FILES = (
    "iptables.save",
    "ip6tables.save",
    "ipset.save",
    "links.json",
    "addresses.json",
    "routes.json",
    "rules.json",
    "neighbours.json",
    "groups.json",
    "fdb.json",
    "conntrack.txt",
    "sysctl.txt",
)

# ---- manifests ------------------------------------------------------------------------------------------------------


@cache
def manifests() -> list[bytes]:
    return _files(
        (ROOT / "pcaps", "boutique.yaml"), (ROOT / "tests" / "agents", "*.yaml"), (SHARED / "manifests", "*.yaml")
    )


def read_manifests(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    parse = parse_json if text.lstrip()[:1] in ("{", "[") else parse_yaml
    documents = [
        document for number, value in parse("fuzz", text) for document in flatten(value, Origin("fuzz", number))
    ]
    objects = read_documents(documents)
    return f"{len(objects.pods) > 0} {len(objects.services) > 0}"


@cache
def event_scripts() -> list[bytes]:
    return _files((ROOT / "pcaps", "*events*.yaml"), (ROOT / "tests" / "events", "*.yaml"))


def read_events(data: bytes) -> str:
    return str(len(parse_events(data.decode("utf-8", "replace"), "fuzz")) > 0)


# ---- frames ---------------------------------------------------------------------------------------------------------


@cache
def frames() -> list[bytes]:
    found = []
    for data in captures():
        try:
            for batch in CaptureReader(io.BytesIO(data), "seed", 64):
                found += [batch.frame(i) for i in range(0, len(batch), 7)]
                if len(found) > 600:
                    return found
        except InputError:
            continue
    return found


@cache
def host() -> Host:
    """A node with rules, bridges, tunnels and connections; it goes on from frame to frame, as a host does."""
    return Host(HostConfig.load(SAMPLES / "node"), seed=1)


@cache
def interfaces() -> tuple[str, ...]:
    links = json.loads((SAMPLES / "node" / "links.json").read_text())
    return tuple(link["ifname"] for link in links if link["ifname"] in host().interfaces)


def receive(data: bytes) -> str:
    node = host()
    before = node.drops()
    where = interfaces()[sum(data[:6]) % len(interfaces())]
    out = node.receive(data, interface=where, time_ns=node.now + 1_000_000)
    reasons = [reason.name for reason, count in node.drops().items() if count != before.get(reason, 0)]
    return f"{where} {len(out)} {' '.join(reasons)}"


TARGETS = {
    target.name: target
    for target in (
        Target("captures", captures, read_capture, BINARY),
        *map(dump_file, DUMP_FILES),
        Target("manifests", manifests, read_manifests, TEXT),
        Target("events", event_scripts, read_events, TEXT),
        Target("frames", frames, receive, BINARY),
    )
}
