"""Templates shared by all pages, and the functions that format metrics and texts in them."""

from __future__ import annotations

import hashlib
import unicodedata
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from twofold import disk
from twofold.reports import guide, tables
from twofold.reports.chats import turns
from twofold.reports.languages import Phrase, both, phrase

if TYPE_CHECKING:
    from twofold.data.preview import RowView

TEXT = 1200


def clip(text: str, limit: int = TEXT) -> str:
    """`text` without control characters, and without what is beyond `limit`, which is counted instead."""
    if isinstance(text, Phrase):
        return Phrase(clip(str(text), limit), clip(text.zh, limit))
    kept = "".join(c for c in text[:limit] if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cs"})
    return kept if len(text) <= limit else f"{kept} … ({len(text) - limit:,} more characters)"


@cache
def environment(*, escape: bool = True) -> Environment:
    """The templates, everything escaped if they are of HTML, with what writes figures into them; compiled once."""
    made = Environment(
        loader=PackageLoader("twofold.reports", "templates"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=both if escape else None,
    )
    made.filters |= {"clip": clip, "interval": tables.interval, "number": tables.number, "p": tables.p_value}
    made.filters["points"] = tables.points
    made.filters |= {"p_is": tables.p_is, "turns": turns, "address": guide.address}
    made.filters |= {"percent": tables.percent, "signed": tables.signed}
    made.filters["drawing"] = lambda chart: Markup(chart.svg)  # numbers and the package's own titles only
    made.globals |= {"is_share": tables.is_share, "_": phrase}
    return made


def script_of(*names: str) -> tuple[Markup, str]:
    """The scripts of a page as one, and its hash for the page's content policy."""
    folder = files("twofold.reports").joinpath("templates")
    text = "\n".join(folder.joinpath(name).read_text(encoding="utf-8").strip() for name in names)
    return Markup(text), b64encode(hashlib.sha256(text.encode()).digest()).decode()


def page_of(template: str, *, title: str, facts: Sequence[str], **parts: Any) -> str:
    """A page on one subject: `template` extends `page.html.jinja`, and `parts` are what it writes.

    `steps` and `glossary` are shown if given; `clocks` are those of charts along steps.
    """
    script, digest = script_of("tables.js", "report.js", "figures.js", "heat.js")
    usual = {"steps": (), "glossary": (), "clocks": "[]", "refresh": None, "script": script, "digest": digest}
    return environment().get_template(template).render(usual, title=title, facts=facts, **parts)


def write_page(path: Path, text: str) -> Path:
    """Write a page, and its folder where there is none; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    disk.write(path, text)
    return path


def write_rows(path: Path, title: str, heading: Sequence[str], rows: Sequence[RowView]) -> None:
    """Rows of a data set as the model will see them, as one page."""
    write_page(path, page_of("rows.html.jinja", title=title, facts=heading, rows=rows))
