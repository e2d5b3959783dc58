"""Where the command line writes: results to standard output, everything else to standard error."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 200


def results() -> Console:
    """What was asked for; a pipe gets it without colour, lines whole and tables wide."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=PIPE_WIDTH)


def errors() -> Console:
    """Progress, warnings and mistakes."""
    return Console(stderr=True, highlight=False)


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table; columns that begin with `#` are numbers, set to the right."""
    plain = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        plain.add_column(
            column.removeprefix("#"), justify="right" if column.startswith("#") else "left", overflow="fold"
        )
    return plain
