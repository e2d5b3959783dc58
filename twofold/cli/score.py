"""`twofold score`: what a trained reward model makes of every row of a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twofold.cli.model import model_folder
from twofold.cli.terminal import counted, results, table
from twofold.errors import DataError, RecipeError

if TYPE_CHECKING:
    from twofold.batch import Group
    from twofold.records import Record


def score(
    file: Annotated[str, typer.Argument(help="Rows of any shape that training reads.", show_default=False)],
    reward: Annotated[str, typer.Option(help="A reward model, its adapter or its run folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Write rows and scores here, as JSON lines.", show_default=False)],
    columns: Annotated[
        list[str] | None, typer.Option(metavar="OURS=THEIRS", help="A field's name in the file, as prompt=instruction.")
    ] = None,
    max_length: Annotated[int, typer.Option(min=2, help="Tokens of a prompt and one completion together.")] = 1024,
    cut_prompt: Annotated[bool, typer.Option(help="Cut longer prompts from the left instead of refusing.")] = False,
) -> None:
    """Add scores to rows: chosen_score and rejected_score to pairs, reward_scores to rankings, score to all others."""
    from twofold.cli.progress import RichProgress
    from twofold.data.formats import read
    from twofold.models.load import ModelSettings
    from twofold.rewards.model import ModelScorer

    if out.resolve() == Path(file).resolve():
        raise RecipeError("would overwrite the rows", where=str(out), remedy="choose another --out")
    source = read(file, columns=_columns(columns or []))
    path = str(model_folder(Path(reward))) if Path(reward).is_dir() else reward
    with RichProgress() as progress:
        scorer = ModelScorer.load(ModelSettings(path=path), max_length, cut_prompt=cut_prompt)
        groups = scorer.groups(source.records, progress)
        if len(groups) != len(source.records):
            raise DataError("a row's completion alone is too long", where=file, remedy="raise --max-length")
        scores = scorer.score_groups(groups, progress)
    _write(out, file, source.records, scores)
    _show(out, source.records, groups, scores)


def _columns(given: Sequence[str]) -> dict[str, str]:
    wrong = next((pair for pair in given if "=" not in pair), None)
    if wrong is not None:
        raise RecipeError("should be OURS=THEIRS", where=f"--columns {wrong}", remedy="as --columns prompt=instruction")
    return {ours: theirs for ours, _, theirs in (pair.partition("=") for pair in given)}


def _write(out: Path, file: str, records: Sequence[Record], scores: Sequence[Sequence[float]]) -> None:
    """All rows or none: the file appears when it is whole."""
    from twofold.data.rows import rows

    known = {record.source.row: _told(record, told) for record, told in zip(records, scores, strict=True)}
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            for number, row in rows(file):
                if number in known and isinstance(row, dict):
                    stream.write(json.dumps({**row, **known[number]}, ensure_ascii=False, default=str) + "\n")
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def _told(record: Record, scores: Sequence[float]) -> dict[str, Any]:
    from twofold.records import Pair, Ranking

    match record:
        case Pair():
            return {"chosen_score": scores[0], "rejected_score": scores[1]}
        case Ranking():
            return {"reward_scores": list(scores)}
        case _:
            return {"score": scores[0]}


def _show(out: Path, records: Sequence[Record], groups: Sequence[Group], scores: Sequence[Sequence[float]]) -> None:
    from twofold.evaluation.reward import judge, scored
    from twofold.records import Pair, Ranking
    from twofold.reports.tables import interval, p_value, percent

    flat = [s for row in scores for s in row]
    told = results()
    mean = f"{sum(flat) / len(flat):.4g}"
    told.print(f"{out}: {counted(len(flat), 'score')} of {counted(len(records), 'row')}, mean {mean}", markup=False)
    compared = [i for i, r in enumerate(records) if isinstance(r, Pair | Ranking)]
    if not compared:
        return
    report = judge(scored([groups[i] for i in compared], [scores[i] for i in compared]))
    rows = table("#comparisons", "#accuracy", "95% interval", "#p against ½", "#longer wins", "#calibration error")
    accuracy = report.accuracy
    rows.add_row(
        str(accuracy.n), percent(accuracy.value), interval(accuracy), p_value(report.test.p_value),
        percent(report.longer_wins.value), percent(report.calibration_error),
    )  # fmt: skip
    told.print(rows, markup=False)
