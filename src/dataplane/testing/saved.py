"""Failing examples as files: a small YAML and a small pcap that `dataplane replay` shows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dataplane._fast.batch import PacketBatch
from dataplane.agents.node import Options
from dataplane.capture import PcapWriter
from dataplane.cluster.tables import RESOURCES
from dataplane.cluster.write_manifests import write
from dataplane.testing.run import RAW, Run

if TYPE_CHECKING:
    from dataplane.cluster.objects import Config
    from dataplane.emulation import Cluster

FOLDER = "DATAPLANE_FAILURES"
"""Name of the environment variable that says where failing examples go; by default the folder .dataplane."""


def manifests(cluster: Cluster) -> str:
    """The cluster as YAML documents: reading them gives the same cluster."""
    made: list[dict[str, Any]] = []
    for kind in RESOURCES:
        if kind.name in ("endpoints", "namespaces"):
            continue  # they follow from the others
        made += [write(cluster.state, item) for item in kind.items(cluster.state)]
    made += [_config(number, config) for number, config in enumerate(cluster.state.configs)]
    return yaml.safe_dump_all(made, sort_keys=False, explicit_start=True)


def _config(number: int, config: Config) -> dict[str, Any]:
    """The configuration of an agent as a document; what the API has no kind for is in a ConfigMap."""
    if "kind" in config.data:
        return dict(config.data)
    data = {config.kind: json.dumps(dict(config.data))}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"config-{number}"}, "data": data}


def _options(options: Options) -> str:
    """What the command has to say of a cluster that its manifests do not."""
    usual = Options()
    told = {name: getattr(options, name) for name in ("mode", "cni", "mtu", "cloud")}
    words = [f"--{name} {value}" for name, value in told.items() if value != getattr(usual, name)]
    if options.version != usual.version:
        words.append("--kube-version {}.{}".format(*options.version))
    return "".join(f" {word}" for word in words)


def save(run: Run, folder: str | os.PathLike[str] | None = None, name: str = "failing") -> Path:
    """Write NAME.yaml (the cluster), NAME.pcap (what clients sent, and the replies they should have got) and, where the
    cluster changed meanwhile, NAME.events.yaml. Gives the folder. Raises OSError."""
    into = Path(folder or os.environ.get(FOLDER) or ".dataplane")
    into.mkdir(parents=True, exist_ok=True)
    (into / f"{name}.yaml").write_text(manifests(run.cluster))
    with PcapWriter(into / f"{name}.pcap", RAW) as writer:
        if run.sent:
            times, packets = zip(*run.sent, strict=True)
            batch = PacketBatch.from_frames(packets, times=times, link_type=RAW)
            writer.write(batch)
    events = into / f"{name}.events.yaml"
    if run.changes:
        first = run.sent[0][0] if run.sent else run.changes[0][0]
        entries = [{"at": f"{max(time - first, 0)}ns", **event} for time, event in run.changes]
        events.write_text(yaml.safe_dump({"events": entries}, sort_keys=False))
    else:
        events.unlink(missing_ok=True)
    return into


def command(folder: Path, run: Run, name: str = "failing") -> str:
    """The command that shows a saved example."""
    more = f" --events {folder / f'{name}.events.yaml'}" if run.changes else ""
    capture, cluster = folder / f"{name}.pcap", folder / f"{name}.yaml"
    return f"dataplane replay {capture} -c {cluster} --seed {run.cluster.seed}{_options(run.cluster.options)}{more}"


@contextmanager
def saving(run: Run, folder: str | os.PathLike[str] | None = None, name: str = "failing") -> Iterator[Run]:
    """Save the run if an assertion in the block fails, and say so in its message. hypothesis runs the smallest example
    last, so what stays is the smallest."""
    try:
        yield run
    except AssertionError as error:
        where = save(run, folder, name)
        error.add_note(f"saved; {command(where, run, name)}")
        raise
