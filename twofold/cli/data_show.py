"""`twofold data show`: rows in color as the model will see them, and the cost of their layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from twofold.cli.terminal import results
from twofold.data.reading import RowBounds
from twofold.errors import RecipeError
from twofold.progress import counted
from twofold.settings import settings

if TYPE_CHECKING:
    from twofold.data.preview import RowView
    from twofold.data.tokenize import TokenizeSettings

STYLES = {
    "prompt": "dim", "shared": "cyan", "supervised": "green", "context": "dim italic", "stop": "bold reverse magenta",
}  # fmt: skip
BETWEEN = {"shared": "┆"}
"""The mark at the end of a span, for terminals without color."""


def show(
    source: Annotated[str, typer.Argument(help="A file, saved folder or hub name of any format that training reads.")],
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="split=test limit=1000 ignore=[note] chat=text loss_on=all …"),
    ] = None,
    *,
    model: Annotated[str, typer.Option("--model", help="Whose tokenizer and chat template.")],
    number: Annotated[int, typer.Option("--rows", min=0, help="How many rows.")] = 5,
    columns: Annotated[
        list[str] | None, typer.Option(metavar="OURS=THEIRS", help="A field's name in the file, as prompt=instruction.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the rows as a page, too.")] = None,
) -> None:
    """Show rows as the model will see them: prompt, supervised tokens, stop token; and the cost of the layout."""
    from twofold.config.first_look import first_look, refuse_pages

    first_look(rows=[source], models=[model])
    refuse_pages(html, inputs=[source])
    reading, how = _settings(given or [])
    from twofold.cli.progress import RichProgress
    from twofold.data.formats import scan
    from twofold.data.reading import Reading
    from twofold.data.survey import survey
    from twofold.data.tokenize import Encoder
    from twofold.models.locate import tokenizer_path
    from twofold.models.tokenizer_files import load_stop_tokens, load_tokenizer

    model = tokenizer_path(model)
    tokenizer = load_tokenizer(model)
    encoder = Encoder(tokenizer, load_stop_tokens(model, tokenizer), how, reading.chat)
    columns_of = column_map(columns or [])
    found = scan(
        Reading(source, columns_of, reading.split, reading.limit, ignore=reading.ignore, bounds=reading.bounds)
    )
    with RichProgress() as progress:
        seen = survey(found, encoder, number, progress)
    heading = seen.lines()
    out = results()
    for line in heading:
        out.print(line)
    for view in seen.views:
        out.print(rendered(view))
    if html is not None:
        from twofold.reports.pages import write_rows

        write_rows(html, source, heading, seen.views)
        out.print(f"written to {html}")
    if not seen.views and number:
        raise typer.Exit(2)


def column_map(assignments: Sequence[str]) -> dict[str, str]:
    """`ours=theirs` assignments as a column map."""
    wrong = next((a for a in assignments if "=" not in a.strip("=")), None)
    if wrong is not None:
        raise RecipeError(
            "is no pair of names", where=f"--columns {wrong}", remedy="write OURS=THEIRS: prompt=question"
        )
    return dict(a.split("=", 1) for a in assignments)


Ignore = Annotated[
    str | None,
    typer.Option("--ignore", metavar="KEYS", help="Keys of rows and messages that may be lost, as note,weight."),
]


def ignored(keys: str | None) -> tuple[str, ...]:
    """The keys that --ignore lists."""
    return tuple(key.strip() for key in keys.split(",") if key.strip()) if keys else ()


@settings
class _Reading:
    """Which rows of a source are read, and how their prompts are put."""

    split: str = "train"
    limit: int | None = None
    ignore: tuple[str, ...] = ()
    bounds: RowBounds = field(default_factory=RowBounds)
    chat: Literal["auto", "text", "chat"] = "auto"


def _settings(assignments: Sequence[str]) -> tuple[_Reading, TokenizeSettings]:
    from twofold.config.load import from_overrides, validate
    from twofold.config.outline import check

    own = [f.name for f in fields(_Reading)]
    reading = [a for a in assignments if a.partition("=")[0].partition(".")[0] in own]
    rest = [a for a in assignments if a not in reading]
    rows, layout = (from_overrides(some, "twofold data show") for some in (reading, rest))
    check("TokenizeSettings", layout)
    from twofold.data.tokenize import TokenizeSettings  # imports torch

    return validate(_Reading, rows), validate(TokenizeSettings, layout)


def rendered(view: RowView) -> Text:
    """A row for the terminal: each part after its name, colored by its kind."""
    shared = f", the first {view.shared} of each the same" if view.shared else ""
    text = Text(f"\n{view.name}: ", style="bold")
    text.append(f"prompt {counted(view.prompt.tokens, 'token')}", style="default")
    for line in view.lines:
        text.append(f", {line.label} {line.tokens}" + ("" if line.stops else " (no stop token)"), style="default")
    text.append(shared, style="default")
    text.append(f"; {view.about}\n" if view.about else "\n", style="default")
    text.append(f"{'prompt':>14}  ", style="bold")
    text.append(view.prompt.text, style=STYLES["prompt"])
    for line in view.lines:
        text.append(f"\n{line.label:>14}  ", style="bold")
        for span in line.spans:
            text.append(span.text, style=STYLES[span.kind])
            text.append(BETWEEN.get(span.kind, ""), style="dim")
    return text
