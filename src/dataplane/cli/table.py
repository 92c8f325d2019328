"""Rows as people and programs want them: kubectl's columns, CSV, JSON, YAML."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

GAP = 3  # spaces between two columns, as kubectl prints them


def columns(header: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[str] = ()) -> str:
    """Text with upper-case headings and no borders. `right` names headings whose column is set flush right."""
    cells = [[name.upper() for name in header], *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    flush = {name.upper() for name in right}
    lines = []
    for row in cells:
        padded = [
            text.rjust(width) if name in flush else text.ljust(width)
            for name, text, width in zip(cells[0], row, widths, strict=True)
        ]
        lines.append((" " * GAP).join(padded).rstrip() + "\n")
    return "".join(lines)


def comma_separated(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """RFC 4180 with the headings in lower case and lines that end as the platform's do."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([name.lower().replace(" ", "_") for name in header])
    writer.writerows([_cell(value, empty="") for value in row] for row in rows)
    return out.getvalue()


def structured(value: Any, form: str) -> str:
    """`value` (mappings, lists, scalars) as "json" or "yaml"."""
    if form == "json":
        return json.dumps(_plain(value), indent=4, ensure_ascii=False) + "\n"
    import yaml

    return yaml.safe_dump(_plain(value), sort_keys=False, allow_unicode=True, width=120)


def _cell(value: object, empty: str = "<none>") -> str:
    if value is None or value in ("", (), []):
        return empty
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def _plain(value: Any) -> Any:
    """The value of types that JSON and YAML know: addresses, networks and the like become their text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return str(value)


def aligned(lines: Iterable[str]) -> str:
    """Lines whose cells are separated by tabs, each column as wide as its widest cell in the lines above and below
    that reach it without a break (elastic tab stops, which is how kubectl describes)."""
    rows = [line.split("\t") for line in lines]
    padded: list[list[str]] = [[] for _ in rows]
    open_rows = list(range(len(rows)))
    column = 0
    while open_rows:
        # Cells that a tab ends; a run of neighbouring lines that have one is a block.
        ended = [i for i in open_rows if len(rows[i]) > column + 1]
        for block in _runs(ended):
            width = max(len(rows[i][column]) for i in block) + 2
            for i in block:
                padded[i].append(rows[i][column].ljust(width))
        for i in set(open_rows) - set(ended):
            padded[i].append(rows[i][column])
        open_rows = ended
        column += 1
    return "".join("".join(cells).rstrip() + "\n" for cells in padded)


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    """Runs of numbers that follow each other."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs
