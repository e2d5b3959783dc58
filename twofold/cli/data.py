"""`twofold data check`: everything that is wrong with rows, named before they are trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from twofold.cli.data_show import Ignore, column_map, ignored
from twofold.cli.dataclass_options import spread
from twofold.cli.terminal import results, table
from twofold.data.reading import BOUNDS, Reading, RowBounds
from twofold.progress import counted

if TYPE_CHECKING:
    from rich.console import Console

    from twofold.data.fix import Fixed
    from twofold.data.issues import Issue
    from twofold.data.lengths import Histogram
    from twofold.data.tokenize import Encoder
    from twofold.data.validate import Report

MOST_FAULTS = 20
WIDEST_BAR = 40


@dataclass(frozen=True)
class CheckOptions:
    """Options of `twofold data check`."""

    sources: Annotated[list[str], typer.Argument(help="JSON, CSV, parquet or Arrow files, saved folders, hub names.")]
    model: Annotated[
        str | None,
        typer.Option("--model", help="Also check what this model's tokenizer makes of the rows."),
    ] = None
    max_length: Annotated[int, typer.Option(help="Tokens of prompt and completion together; with --model.")] = 1024
    chat: Annotated[Literal["auto", "text", "chat"], typer.Option(help="As data.chat in a recipe; with --model.")] = (
        "auto"
    )
    split: Annotated[str, typer.Option(help="Which split of a hub data set.")] = "train"
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=THEIRS", help="A field's name there, as prompt=instruction."),
    ] = None
    against: Annotated[str | None, typer.Option(help="A source that must not share a prompt with these.")] = None
    near: Annotated[
        float | None,
        typer.Option(min=0.5, max=1, help="Also find rows that are alike from this share of common word triples on."),
    ] = None
    overlap: Annotated[
        float, typer.Option(min=0.01, max=1, help="With --against: the share of a prompt there that a row may contain.")
    ] = 0.5
    min_margin: Annotated[
        float | None, typer.Option(help="Also find pairs whose scores (chosen minus rejected) differ by less.")
    ] = None
    scripts: Annotated[
        bool, typer.Option("--scripts", help="Also find answers in another script than their prompt's.")
    ] = False
    ignore: Ignore = None
    row_bytes: Annotated[int, typer.Option(min=1, help="The longest that a row may be.")] = BOUNDS.bytes
    row_items: Annotated[int, typer.Option(min=1, help="The most completions or messages of a row.")] = BOUNDS.items
    growth: Annotated[int, typer.Option(min=1, help="Times its bytes that a packed file may unpack to.")] = (
        BOUNDS.growth
    )
    fix: Annotated[str | None, typer.Option(help="Write clean and repaired rows to this file; with one source.")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False


@spread
def check(options: CheckOptions) -> None:
    """Name every faulty row with file, field and remedy. Exit code 2 if there is an error, 0 with mere warnings."""
    from twofold.cli.progress import RichProgress
    from twofold.config.first_look import first_look, refuse_unwritable
    from twofold.data.fix import fix
    from twofold.data.looks import Further
    from twofold.data.readers import files
    from twofold.data.signatures import refuse_without_datasketch
    from twofold.data.validate import check as look

    if options.fix and len(options.sources) > 1:
        raise typer.BadParameter("takes one FILE at a time", param_hint="--fix")
    first_look(models=[options.model])
    refuse_unwritable(Path(options.fix) if options.fix else None)
    bounds = RowBounds(bytes=options.row_bytes, items=options.row_items, growth=options.growth)
    columns, ignore = column_map(options.columns or []), ignored(options.ignore)
    if options.near is not None:
        refuse_without_datasketch("--near")
    further = Further(options.near, options.overlap, options.min_margin, options.scripts)
    how: dict[str, Any] = {"against": options.against, "further": further}

    def reading(source: str) -> Reading:
        return Reading(source, columns, options.split, ignore=ignore, bounds=bounds)

    with RichProgress() as progress:
        encoder = _encoder(options.model, options) if options.model else None
        how |= {"encoder": encoder, "progress": progress}

        def again(source: str) -> Report:
            return look(reading(source), **how)

        reports = [again(source) for pattern in options.sources for source in files(pattern)]
        fixed = fix(reports[0], options.fix, again, reading(reports[0].source)) if options.fix else None
    if options.as_json:
        told = {"ok": all(r.ok for r in reports), "sources": [_object(r) for r in reports]}
        _print_json(told | ({"fixed": asdict(fixed)} if fixed else {}))
    else:
        for report in reports:
            _show(report)
        if fixed:
            _show_fixed(fixed)
    if not all(report.ok for report in reports):
        raise typer.Exit(2)


def _encoder(model: str, options: CheckOptions) -> Encoder:
    from twofold.data.tokenize import Encoder, TokenizeSettings
    from twofold.models.locate import tokenizer_path
    from twofold.models.tokenizer_files import load_stop_tokens, load_tokenizer

    model = tokenizer_path(model)
    tokenizer = load_tokenizer(model)
    how = TokenizeSettings(max_length=options.max_length)
    return Encoder(tokenizer, load_stop_tokens(model, tokenizer), how, options.chat)


def _object(report: Report) -> dict[str, Any]:
    figures = {
        "length_bias": report.bias.as_dict() if report.bias else None,
        "tokens": report.tokens.as_dict() if report.tokens else None,
        "prompts": report.prompts or None,
        "weights": report.weights.as_dict() if report.weights else None,
    }
    return {"source": report.source, "format": report.format, "rows": report.rows, "usable": report.records,
            "ok": report.ok, "counts": report.counts, **figures, "faults": _Faults(report.faults)}  # fmt: skip


class _Faults(list[Any]):
    """Faults as JSON objects, made one by one when they are written."""

    def __init__(self, faults: Sequence[Issue]) -> None:
        self._faults = faults

    def __len__(self) -> int:
        return len(self._faults)

    def __iter__(self) -> Iterator[Any]:
        return map(asdict, self._faults)


def _print_json(whole: dict[str, Any]) -> None:
    parts = json.JSONEncoder(indent=2).iterencode(whole)
    while some := "".join(islice(parts, 10_000)):
        typer.echo(some, nl=False)
    typer.echo()


def _show(report: Report) -> None:
    out = results()
    errors, warnings = len(report.errors), len(report.warnings)
    verdict = "no faults" if not report.faults else f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
    told = f"{report.source}: {counted(report.rows, 'row')}, {report.records} usable, {report.format}: {verdict}"
    out.print(told, style="red" if errors else "yellow" if warnings else "green")
    _show_faults(out, report)
    if report.prompts:
        out.print(f"prompts: {report.prompts}")
    if report.bias and report.bias.share.n:
        out.print(report.bias.words())
    if report.weights:
        out.print(report.weights.words())
    if report.tokens:
        _show_lengths(out, report.tokens)


def _show_faults(out: Console, report: Report) -> None:
    if not report.faults:
        return
    rows = table("#row", "field", "severity", "what", "what to do")
    first = [*report.errors[:MOST_FAULTS], *report.warnings[:MOST_FAULTS]][:MOST_FAULTS]
    for fault in first:
        rows.add_row(str(fault.row or "–"), fault.field or "–", fault.severity, fault.reason, fault.remedy)
    out.print(rows)
    kinds = ", ".join(f"{count} × {kind}" for kind, count in report.counts.items())
    if len(report.faults) > len(first):
        out.print(f"… {len(report.faults) - len(first)} more (--json lists them)")
    out.print(f"in all {kinds}")


def _show_lengths(out: Console, tokens: Histogram) -> None:
    figures = f"mean {tokens.mean:.0f}, median {tokens.median:.0f}, 99% ≤ {tokens.p99:.0f}, longest {tokens.max}"
    out.print(f"tokens of prompt and longest completion: {figures}")
    rows = table("#up to", "#rows", "")
    most = max(tokens.counts)
    for edge, count in zip(tokens.edges[1:], tokens.counts, strict=True):
        rows.add_row(str(edge), str(count), "█" * round(WIDEST_BAR * count / most) or ("▏" if count else ""))
    out.print(rows)


def _show_fixed(fixed: Fixed) -> None:
    kinds = ", ".join(f"{count} × {kind}" for kind, count in fixed.reasons.items())
    left = f"; {counted(fixed.left_out, 'row')} left out ({kinds}), listed in {fixed.beside}" if fixed.left_out else ""
    out = results()
    out.print(f"{fixed.out}: {counted(fixed.rows_left, 'row')}{left}")
    if fixed.repairs:
        grid = table("repaired", "#rows", "#first row", "field", "before", "after")
        for kind, made in fixed.repairs.items():
            first = str(made.row or "–")
            grid.add_row(kind, str(made.count), first, made.field or "–", Text(made.before), Text(made.after))
        out.print(grid)
