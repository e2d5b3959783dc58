"""`twofold data show`: rows in colour as the model will see them, and what their layout costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from twofold.cli.terminal import counted, results
from twofold.errors import RecipeError
from twofold.settings import settings

if TYPE_CHECKING:
    from twofold.batch import Group
    from twofold.data.formats import Scan
    from twofold.data.issues import Issue
    from twofold.data.packing_stats import Savings
    from twofold.data.preview import RowView
    from twofold.data.tokenize import Encoder, TokenizeSettings
    from twofold.records import Record

STYLES = {"prompt": "dim", "shared": "cyan", "supervised": "green", "stop": "bold reverse magenta"}
BETWEEN = {"shared": "┆"}
"""What ends a span where colours may be missing."""


def show(
    source: Annotated[str, typer.Argument(help="A file, saved folder or hub name of any format that training reads.")],
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="split=test limit=1000 max_length=512 loss_on=all …"),
    ] = None,
    *,
    model: Annotated[str, typer.Option("--model", "--tokenizer", help="Whose tokenizer and chat template.")],
    number: Annotated[int, typer.Option("-n", min=0, help="How many rows.")] = 5,
    columns: Annotated[
        list[str] | None, typer.Option(help="OURS=THEIRS: what the file calls a field of ours; repeat for more.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the rows as a page, too.")] = None,
) -> None:
    """Show rows as the model will see them: prompt, supervised tokens, stop token; and what the layout of all costs."""
    from twofold.data.formats import scan
    from twofold.data.tokenize import Encoder
    from twofold.models.load import load_stop_tokens, load_tokenizer

    reading, how = _settings(given or [])
    tokenizer = load_tokenizer(model)
    encoder = Encoder(tokenizer, load_stop_tokens(model, tokenizer), how)
    found = scan(source, columns=column_map(columns or []), split=reading.split, limit=reading.limit)
    seen = _encoded(found, encoder, number)
    heading = _heading(found, seen)
    out = results()
    for line in heading:
        out.print(line, markup=False)
    for view in seen.views:
        out.print(rendered(view))
    if html is not None:
        from twofold.reports.rows import write_rows

        write_rows(html, source, heading, seen.views)
        out.print(f"written to {html}", markup=False)
    if not seen.views and number:
        raise typer.Exit(2)


def column_map(assignments: Sequence[str]) -> dict[str, str]:
    """`ours=theirs` assignments as a column map."""
    wrong = next((a for a in assignments if "=" not in a.strip("=")), None)
    if wrong is not None:
        raise RecipeError("should be OURS=THEIRS, as in prompt=question", where=f"--columns {wrong}")
    return dict(a.split("=", 1) for a in assignments)


@dataclass(frozen=True)
class _Seen:
    """What was made of a source: rows to show, rows that do not encode or fit, and what the others cost."""

    views: list[RowView]
    unfit: int
    first_fault: str
    cost: Savings | None


@settings
class _Reading:
    """Which rows of a source are read."""

    split: str = "train"
    limit: int | None = None


def _settings(assignments: Sequence[str]) -> tuple[_Reading, TokenizeSettings]:
    from twofold.config.load import from_overrides, validate
    from twofold.data.tokenize import TokenizeSettings

    reading = [a for a in assignments if a.partition("=")[0] in ("split", "limit")]
    rest = [a for a in assignments if a not in reading]
    return validate(_Reading, from_overrides(reading)), validate(TokenizeSettings, from_overrides(rest))


def _encoded(found: Scan, encoder: Encoder, number: int) -> _Seen:
    from twofold.data.packing_stats import Lengths, savings
    from twofold.data.supervision import supervised

    views: list[RowView] = []
    lengths: list[Lengths] = []
    faults: list[str] = []
    for turn in _watched([t for r in found.table.records for t in supervised(r, encoder.settings.loss_on)]):
        group, fault = _fitted(turn, encoder)
        if fault is not None:
            faults.append(f"{fault.where}: {fault.reason}")
        if group is not None:
            completions = list(_completions(group))
            lengths.append(Lengths(len(group.prompt), tuple(len(ids) for _, ids in completions)))
            if len(views) < number:
                views.append(_view(group, completions, encoder))
    return _Seen(views, len(faults), faults[0] if faults else "", savings(lengths))


def _watched(turns: Sequence[Record]) -> Iterator[Record]:
    """`turns`, with a bar that says how many have passed."""
    from twofold.cli.progress import RichProgress

    with RichProgress() as progress:
        progress.begin("tokenize", len(turns))
        for turn in turns:
            yield turn
            progress.advance("tokenize")
        progress.end("tokenize")


def _fitted(record: Record, encoder: Encoder) -> tuple[Group | None, Issue | None]:
    """The record's group, and what was wrong with it: not encodable, too long, or cut."""
    from twofold.data.issues import IssueError

    try:
        fitted = encoder.fit(record)
    except IssueError as error:
        return None, error.fault
    long = fitted.tokens > encoder.settings.max_length
    return fitted.group, encoder.overlong(record, fitted) if long else None


def _view(group: Group, completions: Sequence[tuple[str, list[int]]], encoder: Encoder) -> RowView:
    from twofold.data.preview import row_view

    def decode(ids: Sequence[int]) -> str:
        return encoder.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    return row_view(group.name, group.prompt.tolist(), completions, decode, encoder.stop_tokens)


def _completions(group: Group) -> Iterator[tuple[str, list[int]]]:
    for rank, branch in enumerate(group.branches, 1):
        label = branch.role.name.lower()
        yield (f"rank {rank}" if label == "ranked" else label), branch.tokens.tolist()
    if group.truth is not None:
        yield "answer", group.truth.tolist()


def _heading(found: Scan, seen: _Seen) -> list[str]:
    table, cost = found.table, seen.cost
    lines = [f"{table.source}: {counted(found.rows, 'row')}, {len(table.records)} usable, {table.format}"]
    for severity in ("error", "warning"):
        count = sum(fault.severity == severity for fault in found.faults)
        if count:
            lines.append(f"{counted(count, severity)} in the rows: twofold data check names each")
    if seen.unfit:
        lines.append(f"{counted(seen.unfit, 'row')} cut or left out by the tokenizer, the first: {seen.first_fault}")
    if cost is not None:
        lines.append(
            f"{counted(cost.rows, 'group')}, {cost.together:,} tokens; in padded batches of 8 rows {cost.padding:.1%} "
            f"would be padding, a shared prompt saves {cost.sharing:.1%} of the rest: {cost.factor:.2f}x fewer tokens"
        )
    return lines


def rendered(view: RowView) -> Text:
    """A row for the terminal: each part behind its name, coloured by its kind."""
    shared = f", the first {view.shared} of each the same" if view.shared else ""
    text = Text(f"\n{view.name}: ", style="bold")
    text.append(f"prompt {counted(view.prompt.tokens, 'token')}", style="default")
    for line in view.lines:
        text.append(f", {line.label} {line.tokens}" + ("" if line.stops else " (no stop token)"), style="default")
    text.append(f"{shared}\n", style="default")
    text.append(f"{'prompt':>14}  ", style="bold")
    text.append(view.prompt.text, style=STYLES["prompt"])
    for line in view.lines:
        text.append(f"\n{line.label:>14}  ", style="bold")
        for span in line.spans:
            text.append(span.text, style=STYLES[span.kind])
            text.append(BETWEEN.get(span.kind, ""), style="dim")
    return text
