"""The output of the command line: results to standard output, everything else to standard error.

Names, prompts, rows and messages may be untrusted. They are printed as plain text, so markup and terminal commands in
them have no effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from twofold.data.preview import COMMANDS, visible

PIPE_WIDTH = 200


class Terminal(Console):
    """A console on which no text but the package's own styles has an effect."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text, COMMANDS), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text, COMMANDS), style, control)


def results() -> Console:
    """The console for results. In a pipe it has no color, unwrapped lines and wide tables."""
    console = Terminal()
    return console if console.is_terminal else Terminal(soft_wrap=True, width=PIPE_WIDTH)


def errors() -> Console:
    """The console for progress, warnings and errors."""
    return Terminal(stderr=True)


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table. Columns that begin with `#` are numbers, aligned right."""
    plain = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        plain.add_column(
            column.removeprefix("#"), justify="right" if column.startswith("#") else "left", overflow="fold"
        )
    return plain
