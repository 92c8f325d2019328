"""What reads inputs from outside, each with its corpus: small files of the tests, the project's samples, and, where they
are there, real captures and manifests.

A target reads its input or refuses it with an InputError that names the file. Anything else is a finding.
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from pathlib import Path

import fuzz_corpus
from fuzz_mutate import BINARY, FRAME, JSON, TEXT, YAML, Change, aim

from dataplane._fast.batch import PacketBatch
from dataplane.capture.reader import CaptureReader
from dataplane.cluster import complete
from dataplane.cluster.documents import flatten, parse_json, parse_yaml
from dataplane.cluster.events import parse_events, read_time
from dataplane.cluster.manifests import read_documents
from dataplane.cluster.objects import Origin
from dataplane.datapath.host import Host
from dataplane.emulation import Cluster
from dataplane.errors import InputError
from dataplane.host import HostConfig
from dataplane.host.dump import COMMANDS, read, texts
from dataplane.host.restore import Restore
from dataplane.mapping import parse_mapping
from dataplane.sync_delay import SyncDelays

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
    more: Callable[[], tuple[Change, ...]] | None = None  # changes that cost something to make

    def mutations(self) -> tuple[Change, ...]:
        return self.changes if self.more is None else self.more()


def _files(*patterns: tuple[Path, str]) -> list[bytes]:
    found = [path.read_bytes() for root, pattern in patterns for path in sorted(root.glob(pattern)) if path.is_file()]
    return [data for data in found if 0 < len(data) <= SMALL]


def outcome(error: InputError) -> str:
    """A refusal without its numbers and names."""
    return f"{type(error).__name__} {error.field} {shape(error.message)}"


def shape(message: str) -> str:
    return re.sub(r"[0-9]+|'[^']*'|\"[^\"]*\"", "#", message)[:80]


# ---- captures -------------------------------------------------------------------------------------------------------


@cache
def captures() -> list[bytes]:
    found = _files((ROOT / "pcaps", "*.pcap"), (SHARED / "captures", "*.pcap*"))
    found += [*fuzz_corpus.pcap_files(), *fuzz_corpus.pcapng_files()]
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


@cache
def node_dump() -> dict[str, str]:
    """The other files of the dump that a damaged one is a part of. Small rules, so that compiling them is quick."""
    files = {path.name: path.read_text() for path in (SAMPLES / "node").iterdir() if path.name in COMMANDS}
    return {name: text for name, text in files.items() if len(text) < 30_000 or not name.endswith("tables.save")}


def dump_file(name: str) -> Target:
    """A file alone; then among the others of a node, as a host that frames arrive at."""

    def run(data: bytes) -> str:
        text = data.decode("utf-8", "surrogateescape")
        texts(read(HostConfig, {name: text}))
        node = Host(read(HostConfig, node_dump() | {name: text}), seed=1)
        for frame in fuzz_corpus.frames()[::3]:
            node.receive(frame, interface=node.interfaces[-1], time_ns=node.now + 1_000_000)
        return f"read {len(node.unmodelled) > 0}"

    patterns = [(SAMPLES, f"*/{name}")]
    if name.endswith("tables.save"):
        patterns += [(ROOT / "tests" / "rules" / "samples", "*.save")]
    if name == "ipvs.save":
        patterns += [(ROOT / "tests" / "ipvs" / "texts", "save.txt")]
    more = fuzz_corpus.IPVS_TIMEOUTS if name == "ipvs-timeout.txt" else []
    changes = JSON if name.endswith(".json") else TEXT
    return Target(f"dump-{name}", cache(lambda: [*_files(*patterns), *more]), run, changes)


DUMP_FILES = tuple(name for name in COMMANDS if name != "nftables.json")  # which is kept as it is


def read_restore(data: bytes) -> str:
    """Input of iptables-restore for a host that runs."""
    text = data.decode("utf-8", "replace")
    made = Restore.parse(text, 4)
    if made:
        node = Host(fuzz_corpus.router(), seed=1)
        node.restore(text, 4)
        node.receive(fuzz_corpus.frames()[0], interface="eth0", time_ns=1_000_000)
    return f"{sorted(made.chains)} {bool(made.deleted)}"


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


def read_arguments(data: bytes) -> str:
    """What the command line takes: --map, --sync-delay, times."""
    kind, _, text = data.decode("utf-8", "replace").partition(" ")
    if kind == "delay":
        return str(SyncDelays.parse([text]) != SyncDelays())
    if kind == "time":
        return str(read_time(text)[1])
    return f"{len(parse_mapping(text, boutique().state).members) > 1}"


def run_cluster(data: bytes) -> str:
    """Manifests that are read become hosts, with everything that their agents write; packets go through."""
    text = data.decode("utf-8", "replace")
    documents = [
        document for number, value in parse_yaml("fuzz", text) for document in flatten(value, Origin("fuzz", number))
    ]
    cluster = Cluster(complete(read_documents(documents), 1))
    if len(cluster.nodes) > 3 or len(cluster.pods) > 40:
        return "large"
    fabric = cluster.fabric()
    batch = PacketBatch.from_frames(fuzz_corpus.ip_packets(), times=[1] * len(fuzz_corpus.ip_packets()), link_type=101)
    batch.decode()
    for name in fabric.names[:4]:
        fabric.walk.send(fabric.ids[name], batch)
    return f"{cluster.agents.mode} {len(cluster.services) > 1} {len(fabric.names) > 3}"


@cache
def clusters() -> list[bytes]:
    """Small ones: what the property kit draws, and configurations of agents."""
    found: list[bytes] = _files((ROOT / "tests" / "agents", "*.yaml"), (ROOT / "tests" / "cloud", "*.yaml"))
    return [data for data in found if len(data) < 6000] + [fuzz_corpus.CLUSTER]


# ---- frames ---------------------------------------------------------------------------------------------------------


@cache
def frames() -> list[bytes]:
    found = fuzz_corpus.frames()
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
def boutique() -> Cluster:
    return Cluster.load(ROOT / "pcaps" / "boutique.yaml")


def node_of(mode: str) -> Callable[[], HostConfig]:
    return cache(lambda: Cluster.load(written(fuzz_corpus.CLUSTER), mode=mode).host_config("node-1"))


def written(text: bytes) -> Path:
    """Manifests as the file that a cluster is loaded from."""
    path = ROOT / "build" / "fuzz-cluster.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    return path


def destinations(config: HostConfig) -> list[tuple[bytes, bytes]]:
    """(MAC, address) that a frame may be for: the host's own, broadcast, its neighbours' and Services' addresses."""
    macs = [link.mac.to_bytes(6, "big") for link in config.links if link.mac] + [b"\xff" * 6]
    addresses = [address.address.ip for address in config.addresses] + [each.address for each in config.neighbours]
    ruleset = "".join(rules.text() for rules in (config.iptables, config.ip6tables) if rules is not None)
    addresses += [ip_address(text) for text in re.findall(r"-d ([0-9a-f.:]+)/(?:32|128)", ruleset)]
    return [(mac, address.packed) for address in dict.fromkeys(addresses) for mac in macs[:6]]


def hosts_frames(name: str, config: Callable[[], HostConfig]) -> Target:
    """Frames at all interfaces of a host that goes on from frame to frame, as a host does; some of them aimed at it, some
    sent by it."""

    @cache
    def host() -> Host:
        return Host(config(), seed=1, listening=True)

    def receive(data: bytes) -> str:
        node = host()
        names = [link.name for link in node.config.links if link.name in node.interfaces]
        before = node.drops()
        at = sum(data[:6]) % (len(names) + 1)
        where = names[at] if at < len(names) else ""
        time = node.now + 1_000_000
        out = node.receive(data, interface=where, time_ns=time) if where else node.send(data[14:], time_ns=time)
        reasons = [reason.name for reason, count in node.drops().items() if count != before.get(reason, 0)]
        return f"{where} {len(out)} {' '.join(reasons)}"

    def changes() -> tuple[Change, ...]:
        aimed = aim(destinations(config()))
        return (*FRAME, aimed, aimed, aimed)

    return Target(name, frames, receive, FRAME, changes)


FRAMES = {
    "frames": cache(lambda: HostConfig.load(SAMPLES / "node")),
    "frames-iptables": node_of("iptables"),
    "frames-ipvs": node_of("ipvs"),
    "frames-router": fuzz_corpus.router,
}

TARGETS = {
    target.name: target
    for target in (
        Target("captures", captures, read_capture, BINARY),
        *map(dump_file, DUMP_FILES),
        Target("restore", lambda: fuzz_corpus.RESTORES, read_restore, TEXT),
        Target("manifests", manifests, read_manifests, YAML),
        Target("clusters", clusters, run_cluster, YAML),
        Target("events", event_scripts, read_events, YAML),
        Target("arguments", lambda: fuzz_corpus.ARGUMENTS, read_arguments, TEXT),
        *(hosts_frames(name, config) for name, config in FRAMES.items()),
    )
}
