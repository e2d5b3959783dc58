"""Rows of a data set as the model will see them, as one page: self-contained, no script, every text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from twofold.data.preview import RowView


def write_rows(path: Path, title: str, heading: Sequence[str], rows: Sequence[RowView]) -> None:
    """Write the page of `rows` under `heading`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rows_page(title, heading, rows), encoding="utf-8")


def rows_page(title: str, heading: Sequence[str], rows: Sequence[RowView]) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("twofold.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("rows.html.jinja").render(title=title, heading=heading, rows=rows)
