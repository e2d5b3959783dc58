"""`twofold data`: look at rows before they are trained on. `check` names everything that is wrong with them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twofold.cli import build, label
from twofold.cli.data_show import show
from twofold.cli.terminal import counted, results, table

if TYPE_CHECKING:
    from twofold.data.tokenize import Encoder
    from twofold.data.validate import Report

MOST_FAULTS = 20

app = typer.Typer(help="Make data, and look at it before it is trained on.", no_args_is_help=True)


app.command()(show)


@app.callback()
def about() -> None:
    """Make data, and look at it before it is trained on."""


@app.command()
def check(
    sources: Annotated[list[str], typer.Argument(help="JSON, JSON lines or parquet files, saved folders, hub names.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "--tokenizer", help="Also check what this model's tokenizer makes of the rows."),
    ] = None,
    max_length: Annotated[int, typer.Option(help="Tokens of prompt and completion together; with --model.")] = 1024,
    split: Annotated[str, typer.Option(help="Which split of a hub data set.")] = "train",
    against: Annotated[str | None, typer.Option(help="A source that must not share a prompt with these.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Name every faulty row with file, field and remedy. Exit code 2 if there is an error, 0 with mere warnings."""
    from twofold.data.validate import check as look

    encoder = _encoder(model, max_length) if model else None
    reports = [look(source, split=split, encoder=encoder, against=against) for source in sources]
    if as_json:
        typer.echo(json.dumps({"ok": all(r.ok for r in reports), "sources": [_object(r) for r in reports]}, indent=2))
    else:
        for report in reports:
            _show(report)
    if not all(report.ok for report in reports):
        raise typer.Exit(2)


app.command("build")(build.build)
app.command("label")(label.label)


def _encoder(model: str, max_length: int) -> Encoder:
    from twofold.data.tokenize import Encoder, TokenizeSettings
    from twofold.models.load import load_stop_tokens, load_tokenizer

    tokenizer = load_tokenizer(model)
    return Encoder(tokenizer, load_stop_tokens(model, tokenizer), TokenizeSettings(max_length=max_length))


def _object(report: Report) -> dict[str, Any]:
    faults = [asdict(fault) for fault in report.faults]
    return {"source": report.source, "format": report.format, "rows": report.rows, "usable": report.records,
            "ok": report.ok, "counts": report.counts, "faults": faults}  # fmt: skip


def _show(report: Report) -> None:
    out = results()
    errors, warnings = len(report.errors), len(report.warnings)
    verdict = "no faults" if not report.faults else f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
    told = f"{report.source}: {counted(report.rows, 'row')}, {report.records} usable, {report.format}: {verdict}"
    out.print(told, style="red" if errors else "yellow" if warnings else "green", markup=False)
    if not report.faults:
        return
    rows = table("#row", "field", "severity", "what", "what to do")
    ordered = [*report.errors, *report.warnings]
    for fault in ordered[:MOST_FAULTS]:
        rows.add_row(str(fault.row or "–"), fault.field or "–", fault.severity, fault.reason, fault.remedy)
    out.print(rows, markup=False)
    if len(ordered) > MOST_FAULTS:
        kinds = ", ".join(f"{count} × {kind}" for kind, count in report.counts.items())
        out.print(f"… {len(ordered) - MOST_FAULTS} more; in all {kinds} (--json lists them)", markup=False)
