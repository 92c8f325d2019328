"""What `dataplane bench` prints: tables, JSON, CSV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

from dataplane.bench.core import Core, Effort
from dataplane.bench.figures import PERCENTILES, Figure, Times
from dataplane.bench.machine import Machine
from dataplane.bench.modes import PACKETS, Plan, Row
from dataplane.cli.options import report
from dataplane.cli.table import columns, comma_separated, structured

Form = Literal["table", "json", "csv"]


def print_modes(rows: Sequence[Row], machine: Machine, plan: Plan, form: Form) -> None:
    if form == "table":
        print(modes_text(rows, machine, plan), end="")
    else:
        _print_data(machine, plan, list(map(_of_row, rows)), modes_rows(rows), form)


def print_cores(rows: Sequence[Core], machine: Machine, effort: Effort, form: Form, size: str) -> None:
    """size: what the size of a line counts."""
    if form == "table":
        print(f"{machine.line()}\n{effort.packets} packets, medians of {effort.repeats}, seed {effort.seed}\n")
        header = ("WHAT", size, "ENGINE", "PACKETS", *TIMES)
        print(columns(header, [(*_names(row), *_times(row.times)) for row in rows], header[1:2] + header[4:]), end="")
    else:
        _print_data(machine, effort, [_of_core(row, size) for row in rows], cores_rows(rows, size), form)


def _print_data(
    machine: Machine,
    plan: Plan | Effort,
    plain: list[dict[str, Any]],
    flat: tuple[Sequence[str], list[Sequence[object]]],
    form: Form,
) -> None:
    if form == "json":
        told = {field.name: getattr(plan, field.name) for field in fields(plan)}
        print(structured({"machine": machine.as_dict(), "plan": told, "rows": plain}, "json"), end="")
    else:
        report([machine.line()])
        print(comma_separated(*flat), end="")


TIMES = (*(f"P{p:02}" for p in PERCENTILES), "MEAN", "SPREAD", "PER SECOND")


def _times(times: Times) -> tuple[str, ...]:
    return (
        *(f"{times.percentiles[p].median:.0f}" if p in times.percentiles else "-" for p in PERCENTILES),
        f"{times.mean.median:.0f}",
        f"{times.mean.spread:.0%}",
        f"{times.rate.median:,.0f}",
    )


def _names(row: Core) -> tuple[str, int, str, str]:
    return row.what, row.size, row.engine, row.packets


def _of_core(row: Core, size: str) -> dict[str, Any]:
    return {
        "what": row.what,
        size.lower(): row.size,
        "engine": row.engine,
        "packets": row.packets,
        "times": row.times.as_dict(),
    }


def cores_rows(rows: Iterable[Core], size: str) -> tuple[Sequence[str], list[Sequence[object]]]:
    header = ["what", size.lower(), "engine", "packets", *(f"p{p:02}_ns" for p in PERCENTILES)]
    header += ["mean_ns", "mean_low_ns", "mean_high_ns", "per_second"]
    lines: list[Sequence[object]] = []
    for row in rows:
        times = row.times
        found = [times.percentiles[p].median if p in times.percentiles else None for p in PERCENTILES]
        mean = (times.mean.median, times.mean.low, times.mean.high)
        lines.append((*_names(row), *found, *mean, f"{times.rate.median:.0f}"))
    return header, lines


def modes_text(rows: Sequence[Row], machine: Machine, plan: Plan) -> str:
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
    header = ("MODE", "SERVICES", "ENGINE", "PACKETS", *TIMES, "OVER NONE")
    lines = [
        (
            row.mode,
            row.services,
            row.engine,
            kind,
            *_times(times),
            f"{row.above[kind]:.0f}" if row.above else "-",
        )
        for row in rows
        for kind, times in row.times.items()
    ]
    parts.append(columns(header, lines, header[1:2] + header[4:]))
    return "\n".join(parts)


def _milliseconds(figure: Figure | None) -> str:
    return "-" if figure is None else f"{1e3 * figure.median:.2f}"


def _of_row(row: Row) -> dict[str, Any]:
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


def modes_rows(rows: Iterable[Row]) -> tuple[Sequence[str], list[Sequence[object]]]:
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
