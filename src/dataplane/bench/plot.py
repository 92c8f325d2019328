"""The picture of `bench modes`: what a first packet and what a change cost, over the number of Services."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataplane.bench.figures import Figure as Cost
from dataplane.bench.modes import NO_RULES, Row
from dataplane.errors import InputError, ModelError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")
# Okabe and Ito's colours, which the colour-blind tell apart; their order also differs in grey.
COLOURS = {"iptables": "#0072B2", "ipvs": "#D55E00", "nftables": "#009E73", "ebpf": "#CC79A7"}
OTHER = "#000000"
MOST_TICKS = 8  # numbers of Services that have room to be named
# The engine is told by line and marker, so that it survives a copier. Kernels are filled, the model is open.
STYLES: dict[str, dict[str, Any]] = {
    "model": {"linestyle": "-", "marker": "o", "fillstyle": "none"},
    "model in turn": {"linestyle": "--", "marker": "s", "fillstyle": "none"},
    "kernel legacy": {"linestyle": "-.", "marker": "^"},
    "kernel nft": {"linestyle": ":", "marker": "v"},
    "kernel nftables": {"linestyle": "-.", "marker": "D"},
    "kernel": {"linestyle": "-.", "marker": "D"},
}
NAMES = {
    "model": "model, index over rules",
    "model in turn": "model, rule by rule",
    "kernel legacy": "kernel, iptables-legacy",
    "kernel nft": "kernel, iptables-nft",
    "kernel nftables": "kernel",
}


def check(path: Path) -> None:
    """Raises InputError where no picture can be made of that name, before hours are measured."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(path, field="--plot", message=f"is none of {', '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        message = "needs matplotlib (pip install 'dataplane-emulator[plot]')"
        raise InputError(path, field="--plot", message=message) from None


def plot(rows: Sequence[Row], path: Path, caption: str) -> None:
    """Write the picture, PNG or SVG by the name. caption: what it was measured on.

    Raises OSError where it cannot be written, ModelError without rows of a mode.
    """
    shown = [row for row in rows if row.mode != NO_RULES]
    if not shown:
        raise ModelError("there is no mode to draw")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # No pyplot: nothing global, and no display is asked for.
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    packets, syncs = figure.subplots(1, 2)
    lines = dict.fromkeys((row.mode, row.engine) for row in shown)
    for mode, engine in lines:
        of_line = sorted((row for row in shown if (row.mode, row.engine) == (mode, engine)), key=lambda r: r.services)
        _line(packets, mode, engine, [(r.services, _first(r)) for r in of_line], 1e-3)
        _line(syncs, mode, engine, [(r.services, r.sync) for r in of_line if r.sync is not None], 1e3)
    services = sorted({row.services for row in shown})
    _axes(packets, "First packet of a connection, to any Service", "µs above a router without rules, mean", services)
    _axes(syncs, "Change of one endpoint", "ms until packets meet it, median", services)
    handles, labels = packets.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=3 if len(labels) > 4 else 2,
        frameon=False,
        fontsize=9,
        handlelength=4,
    )
    figure.supxlabel(caption, fontsize=7.5, color="0.35")
    figure.savefig(path, dpi=160)


def _first(row: Row) -> Cost:
    """ns of a first packet to any Service above the router without rules."""
    mean, above = row.times["any"].mean, row.above["any"]
    bare = mean.median - above
    return Cost(above, mean.low - bare, mean.high - bare)


def _line(axes: Axes, mode: str, engine: str, points: Sequence[tuple[int, Cost]], scale: float) -> None:
    """points: Services, and a Figure; the bar shows the spread of the repeats."""
    # A logarithm has no place for what noise made negative.
    points = [(at, figure) for at, figure in points if figure.low > 0]
    if not points:
        return
    services = [at for at, _ in points]
    middle = [scale * figure.median for _, figure in points]
    below = [scale * (figure.median - figure.low) for _, figure in points]
    over = [scale * (figure.high - figure.median) for _, figure in points]
    axes.errorbar(
        services,
        middle,
        yerr=[below, over],
        label=f"{mode}: {NAMES.get(engine, engine)}",
        color=COLOURS.get(mode, OTHER),
        markersize=6,
        linewidth=1.5,
        elinewidth=0.8,
        capsize=2,
        **STYLES.get(engine, STYLES["kernel"]),
    )


def _axes(axes: Axes, title: str, unit: str, services: Sequence[int]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel("Services")
    axes.set_ylabel(unit)
    plain = FuncFormatter(lambda value, _: f"{value:,.12g}")
    # 5k and 10k have room beside each other.
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 1e3:g}k" if v >= 1_000 else f"{v:g}"))
    axes.yaxis.set_major_formatter(plain)
    if len(services) <= MOST_TICKS:
        axes.xaxis.set_major_locator(FixedLocator(services))
        axes.xaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    if high < 1_000 * low:
        # Few powers of ten: 2 and 5 are named as well.
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: plain(value) if f"{value:e}"[0] in "25" else ""))
        axes.tick_params(axis="y", which="minor", labelsize=8)
    axes.grid(True, which="major", color="0.85", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
