"""`twofold evaluate`: models on the same items, with intervals, paired tests, and a record of every item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from twofold import disk
from twofold.cli import evaluate_judges, evaluate_tables
from twofold.cli.dataclass_options import spread
from twofold.cli.evaluate_options import (
    ANSWERS,
    BENCHMARKS,
    JUDGE,
    MATCHES,
    PUBLISHED,
    SAMPLED,
    SCORED,
    SHARDING,
    Options,
    command,
    flag,
    numbers,
    prices,
    refuse_contradictions,
    words,
)
from twofold.cli.sharding import in_shards, refuse_odd_shards, whole
from twofold.cli.terminal import results
from twofold.errors import LeakError, RecipeError, TwofoldError
from twofold.shards import Merged, Outcome, Work, digest

if TYPE_CHECKING:
    from twofold.cli.progress import RichProgress
    from twofold.client.server import RetrySettings
    from twofold.data.formats import Table
    from twofold.data.turns import ChatChoice
    from twofold.evaluation.figures import Evaluation
    from twofold.evaluation.parts import Halves
    from twofold.evaluation.players import Player
    from twofold.progress import Progress
    from twofold.records import Record

ITEMS = "items.jsonl"
"""The results of shards, in --out."""
NOT_MEASURED = (*SHARDING, "out")
FOR_HARNESS = ("models", "limit", "shots", "style", "harness", "harness_tasks", "harness_include", "json_file", "out")


@spread
def evaluate(given: Options) -> None:
    """Measure models on the same items: answers, benchmarks, preferences, win rates, contests, reward against KL,
    judges. 95% intervals, paired tests.

    Tasks: answers, gsm8k, gsm8k-platinum, math, ifeval, truthfulqa, rewardbench, rewardbench2, preference, perplexity,
    win-rate, contest, alpaca-eval, arena-hard, mt-bench, frontier, judge.
    """
    from twofold.cli.progress import RichProgress
    from twofold.config.first_look import first_look, refuse_unwritable
    from twofold.evaluation.players import files_of, models_of

    refuse_contradictions(given)
    refuse_odd_shards(given, given.out)
    players = _players(given)
    rows = [given.tasks, given.examples, given.judge_pairs, *files_of(players)]
    first_look(rows=rows, models=[*models_of(players), given.reference])
    folder = given.out and (given.out / "results.json", given.out / "rows.jsonl")
    refuse_unwritable(given.json_file, *(folder or ()), inputs=[*rows, given.rubric])
    with RichProgress() as progress:
        if given.harness is not None:
            about, found = dict[str, Any](), _by_harness(given, progress)
        else:
            source = _source(given)
            runs = models_of(_measured(given))
            trained = {model: _refuse_trained_on(Path(model), source.records, progress) for model in runs}
            about = {"task": given.task, "tasks": {"source": source.source, "sha256": source.sha256,
                                                   "n": len(source.records)}}  # fmt: skip
            if contamination := {model: note for model, note in trained.items() if note}:
                about["contamination"] = contamination
            if not whole(given, progress):
                return _in_shards(given, about, source.records, progress)
            from twofold.evaluation.parts import WHOLE  # imports torch

            halves, how = _halves(given), _settings(given, progress)
            found = halves.figures(halves.measure(given.models, halves.items(source.records), how, WHOLE), how)
        about |= _of_rewards(given, progress)
    _present(given, about, found)


def _players(given: Options) -> list[Player]:
    """The players and their opponent. Raises RecipeError for settings of a model where the task has none."""
    from twofold.evaluation.players import parse_player, refuse_players

    players = _measured(given)
    if given.harness is not None or given.task not in (*ANSWERS, *PUBLISHED, *MATCHES):
        refuse_players(players, "--harness" if given.harness else f"--task {given.task}")
    return [*players, parse_player(given.against)] if given.against else players


def finish(merged: Merged) -> None:
    """The figures of the results of all shards."""
    from twofold.cli.progress import RichProgress
    from twofold.evaluation.parts import measured_of

    paths = {name: Path(value) for name, value in merged.about["paths"].items()}
    given = Options(**{**merged.about["options"], **paths, "out": merged.out.parent})
    with RichProgress() as progress:
        found = _halves(given).figures(measured_of(merged.same, merged.lines()), _settings(given, progress))
        rewards = _of_rewards(given, progress)
    _present(given, merged.about["about"] | rewards, found)


def _present(given: Options, about: Mapping[str, Any], found: Evaluation) -> None:
    figures = {"command": command(given), **about, **found.figures}
    evaluate_tables.show(figures)
    _add_to_runs(given, figures)
    results().print(f"again: {figures['command']}", soft_wrap=True, style="dim")
    _write(given, figures, found.rows)


def _in_shards(given: Options, about: Mapping[str, Any], records: Sequence[Record], progress: RichProgress) -> None:
    from twofold.evaluation.parts import Part, facts_of, lines_of
    from twofold.evaluation.players import files_of, models_of
    from twofold.judges.registry import ledger_path
    from twofold.ledger import Ledger, write_rows

    assert given.out is not None, "checked before anything was read"
    halves, how = _halves(given), _settings(given, progress)
    items = halves.items(records)
    options = {f.name: getattr(given, f.name) for f in fields(given) if f.name not in NOT_MEASURED}
    paths = {name: str(value) for name, value in options.items() if isinstance(value, Path)}
    told = {"options": {name: value for name, value in options.items() if name not in paths}, "paths": paths}
    request = digest(told, map(repr, items))

    def make(own: Path, first: int, end: int) -> Outcome:
        with Ledger(ledger_path(own)) as ledger:
            measured = halves.measure(given.models, items, how, Part(first, end, ledger, request))
        write_rows(own, lines_of(measured))
        return Outcome(same=facts_of(measured))

    players = _players(given)
    inputs = (*models_of(players), *files_of(players), given.reference, given.examples)
    judges = (*(given.judge or ()), given.reward or "", *(given.models if given.task in (JUDGE, *SCORED) else ()))
    inputs = (*inputs, given.judge_pairs, *(each.partition(":")[2] for each in judges))
    about = {**told, "about": about}
    work = Work("evaluate", "items", len(items), request, about, halves.grain(len(items)), inputs)
    in_shards(given, work, given.out / ITEMS, make, finish, progress)


def _of_rewards(given: Options, progress: Progress) -> dict[str, Any]:
    """The accuracy on labeled pairs of each judge that chooses the best of N, or its name only without pairs."""
    from twofold.judges.registry import BEST_OF, parse_judge

    if given.harness is not None:
        return {}
    names = list(dict.fromkeys(player.reward for player in _players(given) if player.reward is not None))
    names = [name for name in names if not parse_judge(name, BEST_OF).needs_truth]
    if given.judge_pairs is None or not names:
        return {"rewards": [{"name": name} for name in names]} if names else {}
    from twofold.evaluation.judging import judge_check

    folder = None if given.out is None else given.out / "rewards"
    retry = _retry(given)
    checked = judge_check(
        names, given.judge_pairs, out=folder, max_length=given.max_length, retry=retry, progress=progress
    )
    lines = {line["name"]: line["accuracy"] for line in checked.figures["judges"]}
    return {"rewards": [{"name": name, "accuracy": lines[name], "pairs": given.judge_pairs} for name in names]}


def _halves(given: Options) -> Halves:
    from twofold.evaluation.tasks import ANSWERS, PASS_AT_K, SAMPLES, TASKS  # imports torch

    return TASKS.get(given.task, ANSWERS) if given.pass_at is None else SAMPLES.get(given.task, PASS_AT_K)


def _settings(given: Options, progress: Progress) -> Any:
    """The options as the task's settings, with the same names. Missing options have the task's defaults."""
    how = {field.name: getattr(given, field.name) for field in fields(given)} | {
        "preset": given.task,
        "metrics": words(given.metrics),
        "prompted": numbers(given.prompted, "--prompted", "0,4", int, 0),
        "ks": sorted(numbers(given.pass_at, "--pass-at", "1,2,4,8", int) or ()),
        "temperatures": numbers(given.temperatures, "--temperatures", "0,0.5,1", float, 0),
        "best_of": sorted(numbers(given.best_of, "--best-of", "2,4,8,16", int, 1) or ()),
    }
    if given.task in MATCHES and not given.judge:
        remedy = "as --judge reward:FOLDER, llm:URL#NAME or human:FILE; several --judge are a panel"
        raise RecipeError("requires a judge", where=f"--task {given.task}", remedy=remedy)
    if given.task == "frontier":
        how |= _of_runs(given)
    if given.task in (*SAMPLED, JUDGE):
        how["retry"] = _retry(given)
    settings = _halves(given).settings
    taken = {field.name for field in fields(settings)} - {"progress"}
    return settings(**{n: v for n, v in how.items() if n in taken and v is not None}, progress=progress)


def _retry(given: Options) -> RetrySettings:
    """How a judge's server is queried. Raises RecipeError for limits that are not valid."""
    from twofold.client.server import RetrySettings

    try:
        return RetrySettings(per_minute=given.per_minute, max_spend=given.max_spend, prices=prices(given.price))
    except ValueError as error:
        remedy = "write a number above 0, and prices of at least 0"
        raise RecipeError(str(error), where="--per-minute, --max-spend, --price", remedy=remedy) from None


def _of_runs(given: Options) -> dict[str, Any]:
    """For a frontier: the reference in the runs' recipes, and the runs as seeds of their methods."""
    from twofold.reports.provenance import methods_of
    from twofold.runs.folder import common_origin, is_run

    reference = given.reference or common_origin(given.models)
    if given.reward is None:
        remedy = "as --reward reward:FOLDER, verifier:flexible or llm-score:URL#NAME"
        raise RecipeError("requires a reward", where="--task frontier", remedy=remedy)
    return {"reference": reference, "methods": methods_of(list(filter(is_run, dict.fromkeys(given.models))))}


def _source(given: Options) -> Table:
    from twofold.data.formats import read
    from twofold.data.reading import Reading
    from twofold.evaluation.prompting import PRESETS

    preset = PRESETS.get(given.task)
    name = given.tasks or (preset.source if preset else None)
    if name is None:
        raise RecipeError("no rows", where=f"--task {given.task}", remedy="name their file: --tasks FILE")
    if given.task in BENCHMARKS:
        from twofold.evaluation.published_rows import load

        return load(given.task, name, given.limit)
    split = given.split or (preset.split if preset else "test")
    return read(Reading(name, split=split, limit=given.limit, ignore=tuple(words(given.ignore) or ())))


def _refuse_trained_on(run: Path, records: Sequence[Record], progress: Progress) -> str | None:
    """For a run directory: refuse prompts that the run was trained on, and return a note on the others."""
    from twofold.runs.dataset import refuse_trained_on
    from twofold.runs.folder import is_run

    if not is_run(str(run)):
        return None
    try:
        near = refuse_trained_on(run, records)
        if near is None:
            return "its training data were in memory: whether they have these prompts is not known"
        told = f"{near} of {len(records)} rows differ from its training rows only by case, spacing or punctuation"
    except LeakError:
        raise
    except TwofoldError as error:
        near, told = 1, f"it is not known whether it was trained on these rows: {error.what}"
    if near:
        progress.warn(f"{run}: {told}")
    return told if near else f"none of {len(records)} rows has a prompt of its training data"


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
    request = HarnessRequest(tuple(tasks), given.shots or None, limit=given.limit, include=given.harness_include)
    return harness(given.models, request, style=cast("ChatChoice", given.style), progress=progress)


def _add_to_runs(given: Options, figures: Mapping[str, Any]) -> None:
    """Add a run's figures to its folder, for its report, along with those of other opponents or rewards."""
    from twofold.evaluation.players import models_of
    from twofold.progress import counted
    from twofold.records import short_name
    from twofold.runs.folder import add_rows, is_run

    for model in filter(is_run, models_of(_measured(given))):
        if given.task == "win-rate":
            against = f"{figures['against']}, judged by {_judged_by(given)}"
            rows = [r for r in figures["win_rates"] if r["model"] == model]
            rows = [{"against": against, "command": figures["command"], **_beside(figures), **row} for row in rows]
            add_rows(Path(model) / "win_rates.json", rows, "against")
        elif given.task == "contest":
            of = f"{counted(len(figures['players']), 'player')}, judged by {_judged_by(given)}"
            add_rows(Path(model) / "contests.json", [{"of": of, **_shortened(figures)}], "of")
        elif given.task == "frontier":
            own = [p for p in figures["points"] if p["model"] == model]
            rows = [
                {"of": short_name(str(given.reward)), **_beside(figures), **row}
                for row in (evaluate_tables.origin(figures), *own)
            ]
            add_rows(Path(model) / "frontier.json", rows, "of")


def _shortened(figures: Mapping[str, Any]) -> dict[str, Any]:
    """A contest's tables for a report, with short names of players."""
    from twofold.evaluation.players import parse_player

    short = {player["name"]: parse_player(player["name"]).short for player in figures["players"]}
    players = [{**player, "name": short[player["name"]]} for player in figures["players"]]
    tests = [{**test, "a": short[test["a"]], "b": short[test["b"]]} for test in figures["comparisons"]]
    told = {"command": figures["command"], "tasks": figures["tasks"], "players": players, "comparisons": tests}
    told["matches"] = [{"a": short[m["a"]], "b": short[m["b"]], "n": m["n"], "missing": m["missing"]}
                       for m in figures["matches"]]  # fmt: skip
    return told | _beside(figures)


def _judged_by(given: Options) -> str:
    from twofold.records import short_name

    return ", ".join(map(short_name, given.judge or ()))


def _beside(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The judge's own accuracy, for a report, or that it was not measured."""
    from twofold.reports.frontier import NOT_MEASURED

    check = figures.get("judge_check")
    if check is not None:
        return {"judge_accuracy": {**check["accuracy"], "pairs": check["pairs"]}}
    return {"judge_accuracy": NOT_MEASURED} if evaluate_judges.is_fallible(figures) else {}


def _measured(given: Options) -> list[Player]:
    """The players whose answers are measured; none where judges are. Raises RecipeError for names that are neither."""
    from twofold.evaluation.players import parse_players
    from twofold.judges.registry import WIN_RATE, parse_judge

    if given.task in SCORED and given.harness is None:
        from twofold.evaluation.reward_scores import models_in

        return parse_players(models_in(given.models))
    if given.task != JUDGE or given.harness is not None:
        return parse_players(given.models)
    for name in given.models:
        parse_judge(name, WIN_RATE)
    return []


def _write(given: Options, figures: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    text = disk.json_text(figures, indent=2)
    if given.out is not None:
        disk.make_folder(given.out)
        disk.write(given.out / "results.json", text)
        disk.write(given.out / "rows.jsonl", "".join(map(disk.json_text, rows)))
    if given.json_file is not None:
        disk.write(given.json_file, text)
