"""How a verb explains itself: names and their meaning in two columns, without boxes."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any

from cyclopts.help import PlainFormatter

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

INDENT = 2
COLUMN = 24  # where meanings begin; a longer name has its meaning below it
WIDEST = 110


class Formatter(PlainFormatter):
    """Arguments, then options. The program's own `--help` needs no explanation on the page that it shows."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        entries = [entry for entry in panel.entries if "--help" not in entry.positive_names]
        if not entries:
            return
        title = {"Parameters": "Options"}.get(str(panel.title), str(panel.title))
        lines = [f"{title}:"]
        for entry in entries:
            lines += _entry(entry, min(console.width, WIDEST))
        console.print("\n".join(lines) + "\n", highlight=False, markup=False, soft_wrap=True)

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:
        width = min(console.width, WIDEST)
        paragraphs = [textwrap.fill(paragraph, width) for paragraph in _plain(description).split("\n\n")]
        console.print("\n\n".join(paragraphs) + "\n", highlight=False, markup=False, soft_wrap=True)


def _plain(text: Any) -> str:
    """What rich would draw, as one line per line of the source: it is wrapped here."""
    from rich.console import Console

    if text is None:
        return ""
    console = Console(width=100_000, no_color=True, file=io.StringIO())
    with console.capture() as drawn:
        console.print(text, end="")
    return "\n".join(line.rstrip() for line in drawn.get().splitlines())


def _entry(entry: HelpEntry, width: int) -> list[str]:
    name = " " * INDENT + ", ".join(entry.display_labels_with_metavar)
    meaning = " ".join(_plain(entry.description).split())
    if entry.choices:
        meaning += f" [{'|'.join(entry.choices)}]"
    if entry.default not in (None, "", "False"):
        meaning += f" [{entry.default}]"
    wrapped = textwrap.wrap(meaning, width - COLUMN, break_on_hyphens=False) or [""]
    if len(name) + 1 < COLUMN:
        wrapped[0] = name.ljust(COLUMN) + wrapped[0]
        return [wrapped[0], *(" " * COLUMN + line for line in wrapped[1:])]
    return [name, *(" " * COLUMN + line for line in wrapped)]
