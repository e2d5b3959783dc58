"""`twofold score`: a judge's scores of every row of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twofold.cli.data_show import Ignore, column_map, ignored
from twofold.cli.dataclass_options import spread
from twofold.cli.sharding import ShardOptions, in_shards, refuse_odd_shards, whole
from twofold.cli.terminal import results, table
from twofold.errors import RecipeError, ServerError
from twofold.progress import counted
from twofold.records import shown
from twofold.shards import Merged, Outcome, Work, digest

if TYPE_CHECKING:
    from twofold.data.reading import Reading
    from twofold.datagen.score import Entry, ScoredFile, ScoreSettings
    from twofold.evaluation.reward import Scored
    from twofold.statistics import Estimate


@dataclass(frozen=True)
class Options(ShardOptions):
    """Options of `twofold score`."""

    file: Annotated[str, typer.Argument(help="Rows of any shape that training reads, or with answers in no order.")]
    out: Annotated[Path, typer.Option(help="Write rows and scores here, as JSON lines.")]
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="retry.parallel=16 retry.attempts=3 …")
    ] = None
    judge: Annotated[
        str | None,
        typer.Option(help="KIND[:ARGUMENT], as verifier, reward:FOLDER, llm-score:URL#NAME: docs/judges.md has all."),
    ] = None
    reward: Annotated[str | None, typer.Option(hidden=True)] = None
    columns: Annotated[
        list[str] | None, typer.Option(metavar="OURS=THEIRS", help="A field's name in the file, as prompt=instruction.")
    ] = None
    ignore: Ignore = None
    rubric: Annotated[str | None, typer.Option(help="A jinja2 file with the judge's instructions.")] = None
    steps: Annotated[bool, typer.Option("--steps", help="With process:FOLDER, also write the score of each step.")] = (
        False
    )
    max_length: Annotated[int, typer.Option(min=2, help="A reward model's tokens of a prompt and one completion.")] = (
        1024
    )
    cut_prompt: Annotated[
        bool, typer.Option("--cut-prompt", help="Cut longer prompts from the left instead of refusing.")
    ] = False


@spread
def score(given: Options) -> None:
    """Add scores to rows: chosen_score and rejected_score to pairs, reward_scores to rankings, score to all others.

    An interrupted run resumes.
    """
    from twofold.cli.progress import RichProgress
    from twofold.config.first_look import first_look, refuse_rows
    from twofold.datagen.score import entries_of, score_entries

    refuse_odd_shards(given, given.out)
    how = _settings(given)
    first_look(rows=[given.file])
    refuse_rows(given.out, inputs=[given.file])
    from twofold.rewards.model import open_reward  # imports torch

    opened = partial(open_reward, max_length=given.max_length, cut_prompt=given.cut_prompt)
    with RichProgress() as progress:
        entries = entries_of(_reading(given.file, given.columns, given.ignore))

        def make(own: Path, first: int, end: int) -> Outcome:
            scored = score_entries(given.file, entries[first:end], how, own, opened, progress)
            _refuse_missing(given.out, scored)
            return Outcome()

        if not whole(given, progress):
            return in_shards(given, _work(given, entries, how), given.out, make, finish, progress)
        scored = score_entries(given.file, entries, how, given.out, opened, progress)
    _show(given.out, scored)
    _refuse_missing(given.out, scored)


def finish(merged: Merged) -> None:
    """Show the scores of all shards."""
    from twofold.datagen.score import entries_of, scores_of

    _show(merged.out, scores_of(entries_of(_reading(**merged.about)), merged.lines()))


def _reading(file: str, columns: list[str] | None, ignore: Any) -> Reading:
    from twofold.data.reading import Reading

    return Reading(file, column_map(columns or []), ignore=ignored(ignore))


def _work(given: Options, entries: Sequence[Entry], how: ScoreSettings) -> Work:
    length = given.max_length, given.cut_prompt
    settings = {"judge": how.judge, "rubric": how.rubric, "length": length, "steps": how.steps}
    items = ([shown(e.question.prompt), [shown(c.completion) for c in e.question.candidates]] for e in entries)
    about = {"file": given.file, "columns": given.columns, "ignore": given.ignore}
    inputs = (given.file, how.judge.partition(":")[2].partition("?")[0], how.rubric)
    return Work("score", "rows", len(entries), digest(settings, items), about, inputs=inputs)


def _refuse_missing(out: Path, scored: ScoredFile) -> None:
    if scored.missing:
        what = f"{scored.missing} of {counted(len(scored.entries), 'row')} lack a verdict and are left out"
        remedy = "run the same command again: only what is missing is asked for"
        raise ServerError(what, where=str(out), remedy=remedy)


def _settings(given: Options) -> ScoreSettings:
    from twofold.cli.option_settings import settings_of
    from twofold.datagen.score import ScoreSettings

    if given.reward is not None:
        raise RecipeError("is written --judge now", where="--reward", remedy=f"--judge reward:{given.reward}")
    if given.judge is None:
        remedy = "as --judge verifier, reward:FOLDER or llm-score:URL#NAME"
        raise RecipeError("requires a judge", where="--judge", remedy=remedy)
    options = {name: (f"--{name}", getattr(given, name)) for name in ("judge", "rubric", "steps")}
    return settings_of(ScoreSettings, given.settings or [], "twofold score", options)


def _show(out: Path, scored: ScoredFile) -> None:
    from twofold.judges.registry import KINDS

    told, known = results(), scored.known()
    flat = [s for _, scores in known for s in scores]
    mean = f", mean {sum(flat) / len(flat):.4g}" if flat else ""
    rows = counted(len(known), "row")
    told.print(f"{out}: {counted(len(flat), 'score')} of {rows}{mean}", soft_wrap=True)
    if KINDS[scored.judge["kind"]].needs_truth:
        _show_right(known)
    _show_comparisons(known, calibrated=scored.judge["kind"] == "reward")
    _show_steps(scored)


def _show_right(known: Sequence[tuple[Entry, list[float]]]) -> None:
    """The share of correct completions, by field."""
    from twofold.reports.tables import interval, percent

    rows = table("score", "#n", "#right", "#95% interval")
    for name, share in _right(known).items():
        rows.add_row(name, str(share.n), percent(share.value), interval(share))
    results().print(rows)


def _right(known: Sequence[tuple[Entry, list[float]]]) -> dict[str, Estimate]:
    """Shares whose intervals account for the correlation of completions of one prompt."""
    from twofold.statistics import clustered_share

    found: dict[str, dict[object, list[float]]] = {}
    for entry, scores in known:
        names = entry.fields if len(entry.fields) == len(scores) else entry.fields * len(scores)
        for name, value in zip(names, scores, strict=True):
            found.setdefault(name, {}).setdefault(entry.question.prompt, []).append(value)
    return {
        name: clustered_share([round(sum(s)) for s in by_prompt.values()], [len(s) for s in by_prompt.values()])
        for name, by_prompt in found.items()
    }


def _show_comparisons(known: Sequence[tuple[Entry, list[float]]], *, calibrated: bool) -> None:
    """How often the better completion of a row has the higher score, for rows that compare."""
    from twofold.evaluation.reward import comparisons, judge
    from twofold.reports.tables import interval, p_value, percent

    groups = _compared(known)
    found = [c for group in groups for c in comparisons(group)]
    whole = sum(c.mass for c in found)
    if not whole:
        return
    report, ties = judge(groups), sum(c.mass for c in found if c.lead == 0) / whole
    accuracy = report.accuracy
    last = ("#calibration error",) if calibrated else ()
    rows = table("#comparisons", "#accuracy", "95% interval", "#ties", "#p against ½", "#longer wins", *last)
    error = (percent(report.calibration_error),) if calibrated else ()
    rows.add_row(
        str(accuracy.n), percent(accuracy.value), interval(accuracy), percent(ties),
        p_value(report.test.p_value), percent(report.longer_wins.value), *error,
    )  # fmt: skip
    results().print(rows)


def _show_steps(scored: ScoredFile) -> None:
    """A process reward model's accuracy on rows whose steps are rated."""
    from twofold.evaluation.steps import RatedSolution, step_report
    from twofold.reports.tables import interval, percent

    solutions = [
        RatedSolution(repr(entry.question.prompt), *zip(*rated, strict=True))
        for entry, several in zip(scored.entries, scored.steps or (), strict=False)
        if (rated := [(y, p) for y, p in zip(entry.labels, several[0], strict=False) if y is not None])
    ]
    if not solutions:
        return
    rows = table("figure", "#n", "#value", "95% interval")
    for name, share in step_report(solutions).headline.items():
        if share.n:
            rows.add_row(name, str(share.n), percent(share.value), interval(share))
    results().print(rows)


def _compared(known: Sequence[tuple[Entry, list[float]]]) -> list[Scored]:
    """The comparisons of the rows. The labeled completions of one prompt are one group, in which each counts once.
    Lengths are in characters."""
    from twofold.evaluation.reward import Scored

    groups: dict[object, Scored] = {}
    labelled: dict[object, tuple[list[float], list[float], list[int]]] = {}
    for number, (entry, scores) in enumerate(known):
        if entry.levels is None:
            continue
        prompt, lengths = entry.question.prompt, [len(c.text) for c in entry.question.candidates]
        if len(scores) > 1:
            groups[number] = Scored(prompt, entry.levels, scores, lengths, entry.weight, entry.probability)
            continue
        levels, known_scores, sizes = told = labelled.setdefault(prompt, ([], [], []))
        levels += entry.levels
        known_scores += scores
        sizes += lengths
        groups["labelled", prompt] = Scored(prompt, *told)
    return list(groups.values())
