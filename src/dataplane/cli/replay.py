"""dataplane replay"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from dataplane.agents.cloud.kinds import Delivery
from dataplane.balancing import BalancerRow
from dataplane.cli import EXPECTED, FAILED, UNEXPECTED
from dataplane.cli.options import Cloud, Cni, KubeVersion, Manifests, Mode, Mtu, Nodes, Seed, report, version
from dataplane.cli.progress import progress
from dataplane.cli.table import columns, comma_separated, structured
from dataplane.effects import EFFECTS, MOVED, RESET, affected
from dataplane.emulation import Cluster, Progress, replay_host
from dataplane.errors import InputError
from dataplane.host import HostConfig
from dataplane.result import Result, Row

Form = Literal["table", "wide", "json", "yaml", "csv"]
UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
SHOWN = 3  # endpoints of a row; all of them with -o wide


def replay(
    capture: str,
    /,
    *,
    cluster: Manifests = (),  # type: ignore[assignment]
    host: Annotated[Path | None, Parameter(metavar="FOLDER")] = None,
    in_: Annotated[str, Parameter(name="--in", show_default=False, metavar="INTERFACE")] = "",
    mode: Mode = "",
    cni: Cni = "flannel",
    nodes: Nodes = 3,
    mtu: Mtu = 1500,
    seed: Seed = 0,
    cloud: Cloud = "none",
    map: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False, metavar="FROM=TO")] = (),
    write: Annotated[str | None, Parameter(name=["--write", "-w"], metavar="OUT")] = None,
    capture_: Annotated[str, Parameter(name="--capture", metavar="PLACES")] = "*",
    link_delay: Annotated[str, Parameter(metavar="TIME")] = "0ns",
    events: Annotated[str | None, Parameter(metavar="FILE")] = None,
    sync_delay: Annotated[
        tuple[str, ...], Parameter(negative=(), show_default=False, metavar="[NODE=]TIME[+JITTER]")
    ] = (),
    kube_version: KubeVersion = "1.30",
    flows: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    output: Annotated[Form, Parameter(name=["--output", "-o"])] = "table",
) -> int:
    """Send a capture through a cluster, or through one host.

    A packet whose source lives in the cluster is sent by its owner, any other enters from outside. The answers that
    were recorded are sent by the endpoint that the cluster has chosen, and must arrive as they were recorded. Prints a
    row per Service and per path between others, then where every packet went. The exit status is 1 where something
    that was sent did not arrive, or nothing could be sent.

    Parameters
    ----------
    capture
        pcap or pcapng, plain or gzip; - is the standard input.
    host
        A host's dump (a folder of what iptables-save, ip -json and others print) instead of a cluster.
    in_
        The interface of the host at which the capture arrives.
    map
        FROM=TO, as often as needed: an address, network or ADDRESS:PORT of the capture, and its place in the cluster:
        pods:NAMESPACE/PATTERN (in turn), pod:NAMESPACE/NAME, svc:NAMESPACE/NAME[:PORT], lb:NAMESPACE/NAME[:PORT] (its load
        balancer), node:NAME, outside, an address.
    write
        The capture to write, a pcapng with an interface per place; a folder (with a slash) for a pcap per place.
    capture_
        Places to write, with wildcards and commas: node-1/*, */cni0, default/web-0/eth0.
    link_delay
        What each link adds to a packet's time: 50us, 1ms.
    events
        A script of what changes in the cluster meanwhile, YAML; - is the standard input.
    sync_delay
        How long after a change kube-proxy writes it to its node, and up to how much longer by chance.
    flows
        A table of all flows to write: .parquet, .arrow, .csv or .jsonl.
    output
        table, wide (all endpoints), json, yaml or csv.
    """
    if (host is None) == (not cluster):
        raise InputError("replay", message="needs a cluster (-c) or a host (--host), and not both")
    delay = _duration(link_delay)
    flow_file = _checked(flows) if flows is not None else None
    with progress(None, "packets") as advance:
        if host is None:
            if in_:
                raise InputError("replay", field="--in", message="goes with --host")
            if events is None and sync_delay:
                raise InputError("replay", field="--sync-delay", message="goes with --events")
            loaded = Cluster.load(
                *cluster,
                mode=mode,
                cni=cni,
                nodes=nodes,
                seed=seed,
                mtu=mtu,
                cloud=cloud,
                kube_version=version(kube_version),
            )
            result = loaded.replay(
                capture,
                events=events if events is not None else (),
                sync_delay=sync_delay,
                write=write,
                places=capture_,
                maps=map,
                link_delay_ns=delay,
                progress=advance,
            )
        else:
            if events is not None:
                raise InputError("replay", field="--events", message="goes with a cluster (-c)")
            result = _through_host(capture, host, in_, map, write, capture_, seed, advance)
    report(result.notes)
    if flow_file is not None:
        write_flows(result, flow_file)
    print(text(result, output), end="")
    if output == "csv":
        report([result.accounting.line()])
    report(f"hint: {line}" for line in result.suggestions)
    if result.error is not None:
        sys.stdout.flush()
        print(f"dataplane: {result.error}", file=sys.stderr)
        return FAILED
    # Nothing sent is nothing that arrived: whoever asked for a replay did not get one.
    idle = result.accounting.read and not result.accounting.injected
    return EXPECTED if result.as_expected and not idle else UNEXPECTED


def _through_host(
    capture: str,
    folder: Path,
    interface: str,
    maps: Sequence[str],
    write: str | None,
    places: str,
    seed: int,
    advance: Progress,
) -> Result:
    if not interface:
        raise InputError("replay", field="--host", message="needs --in INTERFACE, where the capture arrives")
    if maps:
        raise InputError("replay", field="--map", message="goes with a cluster")
    if not folder.is_dir():
        raise InputError(folder, message="is not a folder; a dump is one")
    config = HostConfig.load(folder)
    report(config.warnings)
    return replay_host(capture, config, interface, write=write, places=places, seed=seed, progress=advance)


def _duration(text: str) -> int:
    """ns of "50us", "1.5ms", "0"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ns|us|ms|s)?", text)
    if match is None or (match[2] is None and float(match[1])):
        raise InputError("replay", field="--link-delay", message=f"{text!r} is no duration; 50us is one")
    return round(float(match[1]) * UNITS[match[2] or "ns"])


def text(result: Result, form: Form) -> str:
    """The result as it is printed."""
    if form in ("json", "yaml"):
        return structured(_plain(result), form)
    if form == "csv":
        rows = [("service", *_cells(row, form)) for row in result.services]
        rows += [("path", *_cells(row, form)) for row in result.paths]
        return comma_separated(("kind", *HEADER), rows)
    parts = []
    if result.services:
        parts.append(columns(HEADER, [_cells(row, form) for row in result.services], NUMBERS))
    if result.paths:
        header = ("PATH", "PORT", "PACKETS", "FLOWS", "VERDICT")
        rows = [(row.name, row.port, row.packets, row.flows, row.verdict) for row in result.paths]
        parts.append(columns(header, rows, NUMBERS))
    if any(row.kind != "none" or row.delivery is not Delivery.ONE_NODE for row in result.balancers):
        parts.append(balancers(result))
    if result.changes:
        parts.append(changes(result))
    parts.append(result.accounting.line() + "\n")
    return "\n".join(parts)


def balancers(result: Result) -> str:
    """The load balancers at the end: how they deliver, and the nodes behind them with the connections each was given."""
    header = ("LOAD BALANCER", "ADDRESS", "PORTS", "KIND", "SENDS TO", "POD SEES", "NODES")
    return columns(header, [_balancer(row) for row in result.balancers])


def _balancer(row: BalancerRow) -> tuple[object, ...]:
    sends = {
        Delivery.ONE_NODE: "one node, as it is",
        Delivery.DIRECT: "nodes, as it is (DSR)",
        Delivery.NODE_PORT: "NodePorts",
        Delivery.PROXY: "NodePorts",
    }[row.delivery]
    one = row.delivery is Delivery.ONE_NODE
    shown = [str(node) for node in row.nodes if node.receives or not node.healthy or (not one and node.connections)]
    if one and not any(node.receives for node in row.nodes):
        shown.insert(0, "none announces it")
    if row.fails_open:
        shown.insert(0, "no node is healthy, so all receive")
    return (
        f"{row.namespace}/{row.service}",
        row.address,
        row.ports or "<none>",
        row.kind,
        sends,
        row.pod_sees,
        ", ".join(shown) or "<none>",
    )


def changes(result: Result, most: int = 20) -> str:
    """What changed in the cluster, and what that did to flows; times are seconds after the first packet."""
    first = min(result.columns["first"], default=0)

    def seconds(time: int | None) -> str:
        return "-" if time is None else f"{(time - first) / 1e9:.3f}"

    rows = [(seconds(row.time), row.change, *(row.effects[effect] for effect in EFFECTS)) for row in result.changes]
    header = ("AT", "CHANGE", *(effect.upper() for effect in EFFECTS))
    parts = [columns(header, rows, ("AT", *header[2:]))]
    found = list(affected(result.columns))
    told = []
    for i in found[:most]:
        flow = {name: values[i] for name, values in result.columns.items()}
        hole = flow["black_hole_from"]
        until = flow["black_hole_to"]
        moved = flow["endpoint_name"] if flow["effect"] in (MOVED, RESET) else None
        told.append(
            (
                f"{flow['client_name']}:{flow['client_port']}",
                f"{flow['service'] or flow['server']}:{flow['server_port']}/{flow['protocol']}",
                flow["effect"],
                flow["endpoint_before"] or "-",
                moved or "-",
                "-" if hole is None else f"{seconds(hole)}s to {'the end' if until is None else seconds(until) + 's'}",
                flow["lost"],
            )
        )
    if told:
        header = ("CLIENT", "TO", "EFFECT", "FROM ENDPOINT", "TO ENDPOINT", "BLACK HOLE", "LOST")
        parts.append(columns(header, told, ("LOST",)))
    if len(found) > most:
        parts.append(f"and {len(found) - most} more flows; --flows writes all\n")
    return "\n".join(parts)


# Endpoints last: they are long, and a narrow terminal cuts or wraps what is last.
HEADER = ("NAMESPACE", "NAME", "PORT", "PACKETS", "FLOWS", "VERDICT", "ENDPOINTS")
NUMBERS = ("PACKETS", "FLOWS")


def _cells(row: Row, form: Form) -> tuple[object, ...]:
    return (row.namespace, row.name, row.port, row.packets, row.flows, row.verdict, _shares(row, form))


def _shares(row: Row, form: Form) -> str:
    """`cart-0 67%, cart-1 33%`: share of the flows that each endpoint got."""
    total = sum(row.endpoints.values())
    shown = list(row.endpoints.items()) if form != "table" else list(row.endpoints.items())[:SHOWN]
    more = len(row.endpoints) - len(shown)
    # An endpoint of the Service's own namespace goes by its name alone.
    own = f"{row.namespace}/"
    parts = [f"{name.removeprefix(own)} {round(100 * count / total)}%" for name, count in shown]
    return ", ".join(parts) + (f" + {more} more" if more else "")


def _plain(result: Result) -> dict[str, Any]:
    def plain(row: Row) -> dict[str, Any]:
        return {
            "namespace": row.namespace,
            "name": row.name,
            "port": row.port,
            "packets": row.packets,
            "flows": row.flows,
            "endpoints": dict(row.endpoints),
            "verdict": row.verdict,
            "asExpected": row.as_expected,
        }

    return {
        "asExpected": result.as_expected,
        "services": [plain(row) for row in result.services],
        "paths": [plain(row) for row in result.paths],
        "balancers": [row.as_dict() for row in result.balancers],
        "changes": [
            {"at": row.time, "change": row.change, "flows": {name: n for name, n in row.effects.items() if n}}
            for row in result.changes
        ],
        "accounting": result.accounting.as_dict(),
        "notes": list(result.notes),
        "suggestions": list(result.suggestions),
        "error": None if result.error is None else str(result.error),
    }


def _checked(path: Path) -> Path:
    """The path, once it is clear that flows can be written there: a long replay should not end in a surprise."""
    if path.suffix not in (".parquet", ".arrow", ".csv", ".jsonl"):
        raise InputError(path, field="--flows", message="is none of .parquet, .arrow, .csv, .jsonl")
    if path.suffix in (".parquet", ".arrow") and find_spec("pyarrow") is None:
        message = "needs pyarrow (pip install 'dataplane-emulator[arrow]'); .csv and .jsonl do not"
        raise InputError(path, field="--flows", message=message)
    return path


def write_flows(result: Result, path: Path) -> None:
    """One row per flow into a file whose name says its kind: .parquet, .arrow, .csv or .jsonl."""
    names = list(result.columns)
    rows = zip(*result.columns.values(), strict=True)
    match path.suffix:
        case ".csv":
            path.write_text(comma_separated(names, rows))
        case ".jsonl":
            path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
        case ".parquet":
            from pyarrow import parquet

            parquet.write_table(result.flows(), path)
        case ".arrow":
            from pyarrow import feather

            feather.write_feather(result.flows(), path, compression="uncompressed")
