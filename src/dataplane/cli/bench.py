"""dataplane bench"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from dataplane.bench.figures import PERCENTILES, Figure
from dataplane.bench.kernel import kernels
from dataplane.bench.machine import Machine
from dataplane.bench.modes import PACKETS, Plan, Row, run
from dataplane.bench.plot import check
from dataplane.bench.plot import plot as draw
from dataplane.cli import EXPECTED
from dataplane.cli.options import Seed, report
from dataplane.cli.progress import steps
from dataplane.cli.table import columns, comma_separated, structured
from dataplane.errors import InputError

Form = Literal["table", "json", "csv"]
Output = Annotated[Form, Parameter(name=["--output", "-o"], help="table, json or csv.")]
Repeats = Annotated[int, Parameter(help="How often each measurement is made; figures are medians of them.")]


def modes(
    *,
    modes: Annotated[str, Parameter(metavar="MODE,...")] = "iptables",
    services: Annotated[str, Parameter(metavar="N,...")] = "10,100,1000,5000,10000,30000",
    endpoints: int = 10,
    packets: int = 2_000,
    connections: int = 1_000,
    changes: int = 10,
    repeats: Repeats = 7,
    seed: Seed = 0,
    kernel: Annotated[bool, Parameter(negative=())] = False,
    plot: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    output: Output = "table",
) -> int:
    """kube-proxy's modes over the number of Services: first packets, established packets, and changes of endpoints.

    A node of a made-up cluster is put between two interfaces. Packets are new connections to Services chosen at random
    (any), to the first and to the last one, and packets of established connections. WALKED is how many rules the kernel
    holds a packet against, a count. "model" is this program, which has an index over long runs of rules; "model in turn"
    is the same without it, rule by rule as the kernel goes.

    Parameters
    ----------
    modes
        iptables, ... with commas. What they cost is also held against a router without any rules ("none").
    services
        Numbers of Services, with commas.
    endpoints
        Of each Service.
    packets
        Of each kind, timed one by one in each repeat.
    connections
        That are established.
    changes
        Of one endpoint each, timed until the rules hold them.
    kernel
        The same rules and packets through this machine's kernel, too, in a network namespace (root): iptables legacy and
        nft.
    plot
        A picture to draw, .png or .svg: first packets and changes over the number of Services.
    """
    if plot is not None:
        check(plot)
    plan = Plan(
        modes=tuple(part.strip() for part in modes.split(",") if part.strip()),
        services=_numbers(services),
        endpoints=endpoints,
        packets=packets,
        connections=connections,
        changes=changes,
        repeats=repeats,
        seed=seed,
    )
    machine = Machine.here()
    rows = []
    with steps() as advance:
        for row in run(plan, kernels() if kernel else (), advance):
            rows.append(row)
    if plot is not None:
        draw(rows, plot, machine.line())
    if output == "json":
        print(
            structured({"machine": machine.as_dict(), "plan": _plan(plan), "rows": list(map(_plain, rows))}, "json"),
            end="",
        )
        return EXPECTED
    if output == "csv":
        report([machine.line()])
        print(comma_separated(*_flat(rows)), end="")
        return EXPECTED
    print(_text(rows, machine, plan), end="")
    return EXPECTED


bench = {"modes": modes}


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise InputError("bench", field="--services", message=f"{text!r} are not numbers with commas") from None


# ---- modes as text ---------------------------------------------------------------------------------------------------


def _text(rows: Sequence[Row], machine: Machine, plan: Plan) -> str:
    """Two tables: what there is and what changes of it cost, then what packets cost."""
    parts = [
        f"{machine.line()}\n{plan.endpoints} endpoints a Service, {plan.packets} packets of each kind, "
        f"{plan.connections} established connections, medians of {plan.repeats}, seed {plan.seed}\n",
    ]
    header = ("MODE", "SERVICES", "ENGINE", "RULES", "CHAINS", *(f"WALKED {kind}" for kind in PACKETS))
    header = (*header, "MEMORY MB", "RENDER MS", "COMPILE MS", "SYNC MS", "FIRST SYNC MS")
    lines = [
        (
            row.mode,
            row.services,
            row.engine,
            row.tables.get("rules", 0),
            row.tables.get("chains", 0),
            *(f"{row.walked[kind]:.1f}" if row.walked else "-" for kind in PACKETS),
            "-" if row.memory is None else f"{row.memory / 1e6:.2f}",
            *(_milliseconds(figure) for figure in (row.render, row.compile, row.sync)),
            "-" if row.first_sync is None else f"{1e3 * row.first_sync:.2f}",
        )
        for row in rows
    ]
    parts.append(columns(header, lines, header[1:2] + header[3:]))
    header = (
        "MODE",
        "SERVICES",
        "ENGINE",
        "PACKETS",
        *(f"P{p:02}" for p in PERCENTILES),
        "MEAN",
        "SPREAD",
        "OVER NONE",
        "PER SECOND",
    )
    lines = [
        (
            row.mode,
            row.services,
            row.engine,
            kind,
            *(f"{times.percentiles[p].median:.0f}" for p in PERCENTILES),
            f"{times.mean.median:.0f}",
            f"{times.mean.spread:.0%}",
            f"{row.above[kind]:.0f}" if row.above else "-",
            f"{times.rate.median:,.0f}",
        )
        for row in rows
        for kind, times in row.times.items()
    ]
    parts.append(columns(header, lines, header[1:2] + header[4:]))
    return "\n".join(parts)


def _milliseconds(figure: Figure | None) -> str:
    return "-" if figure is None else f"{1e3 * figure.median:.2f}"


def _plan(plan: Plan) -> dict[str, Any]:
    return {name: getattr(plan, name) for name in Plan.__slots__}


def _plain(row: Row) -> dict[str, Any]:
    """Times in ns for packets, in seconds for work."""
    return {
        "mode": row.mode,
        "services": row.services,
        "endpoints": row.endpoints,
        "engine": row.engine,
        "tables": row.tables,
        "walked": row.walked,
        "memory": row.memory,
        "render": _figure(row.render),
        "compile": _figure(row.compile),
        "sync": _figure(row.sync),
        "firstSync": row.first_sync,
        "aboveNone": row.above,
        "packets": {kind: times.as_dict() for kind, times in row.times.items()},
    }


def _figure(figure: Figure | None) -> Mapping[str, float] | None:
    return None if figure is None else figure.as_dict()


def _flat(rows: Iterable[Row]) -> tuple[Sequence[str], list[Sequence[object]]]:
    """A line for each kind of packet of each row."""
    header = ["mode", "services", "endpoints", "engine", "packets", "rules", "chains", "walked"]
    header += [f"p{p:02}_ns" for p in PERCENTILES]
    header += [
        "mean_ns",
        "mean_low_ns",
        "mean_high_ns",
        "over_none_ns",
        "per_second",
        "memory_bytes",
        "render_s",
        "compile_s",
        "sync_s",
    ]
    lines: list[Sequence[object]] = []
    for row in rows:
        for kind, times in row.times.items():
            lines.append(
                (
                    row.mode,
                    row.services,
                    row.endpoints,
                    row.engine,
                    kind,
                    row.tables.get("rules", 0),
                    row.tables.get("chains", 0),
                    f"{row.walked[kind]:.3f}" if row.walked else None,
                    *(times.percentiles[p].median for p in PERCENTILES),
                    times.mean.median,
                    times.mean.low,
                    times.mean.high,
                    row.above.get(kind),
                    f"{times.rate.median:.0f}",
                    row.memory,
                    *(None if f is None else f"{f.median:.6f}" for f in (row.render, row.compile, row.sync)),
                )
            )
    return header, lines
