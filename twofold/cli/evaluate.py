"""`twofold evaluate`: models on the same items, with intervals, paired tests, and every item to be counted again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.cli import evaluate_tables
from twofold.cli.dataclass_options import spread
from twofold.cli.evaluate_options import Options, command, flag, numbers, refuse_contradictions, words
from twofold.cli.terminal import results
from twofold.errors import LeakError, RecipeError, TwofoldError

if TYPE_CHECKING:
    from twofold.data.formats import Table
    from twofold.evaluation.figures import Evaluation
    from twofold.progress import Progress
    from twofold.records import Record

FOR_HARNESS = ("models", "limit", "shots", "style", "harness", "harness_tasks", "harness_include", "json_file", "out")


@spread
def evaluate(given: Options) -> None:
    """Measure models on the same items: answers by strict (`#### N`), flexible (last number) and math-verify; pass@k;
    held-out preferences; perplexity; win rates before a judge; reward against KL. 95% intervals; two models or more get
    paired tests."""
    from twofold.cli.progress import RichProgress

    refuse_contradictions(given)
    with RichProgress() as progress:
        about, found = _measured(given, progress)
    figures = {"command": command(given), **about, **found.figures}
    evaluate_tables.show(figures)
    _add_to_runs(given, figures)
    results().print(f"again: {figures['command']}", markup=False, soft_wrap=True, style="dim")
    _write(given, figures, found.rows)


def _measured(given: Options, progress: Progress) -> tuple[dict[str, Any], Evaluation]:
    """What the figures are of, and the figures."""
    if given.harness is not None:
        return {}, _by_harness(given, progress)
    how = _keywords(given)
    source = _source(given)
    for model in given.models:
        _refuse_trained_on(Path(model), source.records, progress)
    about = {
        "task": given.task, "tasks": {"source": source.source, "sha256": source.sha256, "n": len(source.records)},
    }  # fmt: skip
    return about, _library_call(given)(given.models, source.records, **how, progress=progress)


def _library_call(given: Options) -> Any:
    from twofold.evaluation import answers, frontier, likelihood, pass_at_k, win_rate

    calls = {
        "preference": likelihood.preference,
        "perplexity": likelihood.perplexity,
        "win-rate": win_rate.win_rate,
        "frontier": frontier.frontier,
    }
    return calls.get(given.task, answers.accuracy if given.pass_at is None else pass_at_k.pass_at_k)


def _keywords(given: Options) -> dict[str, Any]:
    """What the library call of the task takes; options that were left out have its defaults."""
    match given.task:
        case "preference":
            how = {"reference": given.reference, "max_length": given.max_length}
        case "perplexity":
            how = {"max_length": given.max_length}
        case "win-rate":
            how = _of_win_rate(given)
        case "frontier":
            how = _of_frontier(given)
        case _:
            how = _of_answers(given)
    return {name: value for name, value in how.items() if value is not None}


def _of_answers(given: Options) -> dict[str, Any]:
    put = {
        "preset": given.task, "template": given.template, "style": given.style, "shots": given.shots,
        "prompted": numbers(given.prompted, "--prompted", "0,4", int, 0), "examples": given.examples,
        "max_new_tokens": given.max_new_tokens, "seed": given.seed,
    }  # fmt: skip
    if given.pass_at is None:
        return {**put, "metrics": words(given.metrics)}
    ks = sorted(numbers(given.pass_at, "--pass-at", "1,2,4,8", int) or ())
    return {**put, "ks": ks, "samples": given.samples, "temperature": given.temperature}


def _of_win_rate(given: Options) -> dict[str, Any]:
    if given.judge is None:
        remedy = "as --judge reward:FOLDER, llm:URL#NAME or human:FILE"
        raise RecipeError("nobody judges", where="--task win-rate", remedy=remedy)
    return {
        "judge": given.judge, "against": given.against, "samples": given.samples, "seed": given.seed,
        "temperatures": numbers(given.temperatures, "--temperatures", "0,0.5,1", float, 0),
        "max_new_tokens": given.max_new_tokens, "max_length": given.max_length, "rubric": given.rubric,
        "canary": given.canary, "people": given.people, "out": given.out,
    }  # fmt: skip


def _of_frontier(given: Options) -> dict[str, Any]:
    from twofold.reports.provenance import methods_of
    from twofold.runs.folder import common_origin, is_run

    best_of = sorted(numbers(given.best_of, "--best-of", "2,4,8,16", int, 1) or ())
    reference = given.reference or common_origin(given.models)
    if given.reward is None:
        remedy = "as --reward reward:FOLDER, verifier:flexible or llm-score:URL#NAME"
        raise RecipeError("nothing says what is gained", where="--task frontier", remedy=remedy)
    return {
        "reward": given.reward, "reference": reference, "best_of": best_of, "checkpoints": given.checkpoints,
        "methods": methods_of([model for model in dict.fromkeys(given.models) if is_run(model)]),
        "samples": given.samples, "seed": given.seed, "max_new_tokens": given.max_new_tokens,
        "max_length": given.max_length, "rubric": given.rubric, "out": given.out,
    }  # fmt: skip


def _source(given: Options) -> Table:
    from twofold.data.formats import read
    from twofold.evaluation.prompting import PRESETS

    preset = PRESETS.get(given.task)
    name = given.tasks or (preset.source if preset else None)
    if name is None:
        raise RecipeError("no rows", where=f"--task {given.task}", remedy="name their file: --tasks FILE")
    return read(name, split=given.split, limit=given.limit)


def _refuse_trained_on(run: Path, records: Sequence[Record], progress: Progress) -> None:
    """Of a run directory: nothing is evaluated on a prompt that was trained on."""
    from twofold.runs.dataset import refuse_trained_on
    from twofold.runs.folder import is_run

    if not is_run(str(run)):
        return
    try:
        refuse_trained_on(run, records)
    except LeakError:
        raise
    except TwofoldError as error:
        progress.warn(f"{run}: cannot tell whether it was trained on these rows: {error.what}")


def _by_harness(given: Options, progress: Progress) -> Evaluation:
    from twofold.evaluation.harness import HarnessRequest, harness

    if given.harness != "lm-eval":
        raise RecipeError(f"{given.harness!r} is no harness", where="--harness", remedy="write --harness lm-eval")
    tasks = words(given.harness_tasks)
    if tasks is None:
        raise RecipeError("no tasks", where="--harness-tasks", remedy="name lm-eval's tasks, as gsm8k,arc_easy")
    for field in fields(given):
        if field.name not in FOR_HARNESS and getattr(given, field.name) != field.default:
            raise RecipeError("means nothing to --harness lm-eval", where=flag(field.name), remedy="leave it out")
    chat, include = given.style == "chat", given.harness_include
    request = HarnessRequest(tuple(tasks), given.shots or None, chat, given.limit, include)
    return harness(given.models, request, progress=progress)


def _add_to_runs(given: Options, figures: Mapping[str, Any]) -> None:
    """A run's own figures into its folder, for its report, beside those of other opponents or rewards."""
    from twofold.records import short_name
    from twofold.runs.folder import add_rows, is_run

    for model in filter(is_run, dict.fromkeys(given.models)):
        if given.task == "win-rate":
            against = f"{figures['against']}, judged by {short_name(str(given.judge))}"
            rows = [r for r in figures["win_rates"] if r["model"] == model]
            rows = [{"against": against, "command": figures["command"], **row} for row in rows]
            add_rows(Path(model) / "win_rates.json", rows, "against")
        elif given.task == "frontier":
            own = [p for p in figures["points"] if p["model"] == model]
            rows = [{"of": short_name(str(given.reward)), **row} for row in (evaluate_tables.origin(figures), *own)]
            add_rows(Path(model) / "frontier.json", rows, "of")


def _write(given: Options, figures: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    text = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "results.json").write_text(text, encoding="utf-8")
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (given.out / "rows.jsonl").write_text(lines, encoding="utf-8")
    if given.json_file is not None:
        given.json_file.write_text(text, encoding="utf-8")
