"""`twofold evaluate`: models on the same items, with intervals, paired tests, and every item to be counted again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twofold.cli.options import spread
from twofold.cli.terminal import results, table
from twofold.errors import LeakError, RecipeError, TwofoldError

if TYPE_CHECKING:
    from twofold.evaluation.figures import Entry
    from twofold.progress import Progress
    from twofold.records import Record
    from twofold.statistics import Estimate

ANSWERS, PAIRS, SAMPLED = ("answers", "gsm8k"), ("preference", "perplexity"), ("win-rate", "frontier")
TASKS = (*ANSWERS, *PAIRS, *SAMPLED)
_ONLY: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(
        ("metrics", "template", "style", "shots", "prompted", "examples", "pass_at", "temperature"), ANSWERS
    ),
    **dict.fromkeys(("max_new_tokens", "samples", "seed"), (*ANSWERS, *SAMPLED)),
    **dict.fromkeys(("judge", "against", "temperatures", "canary", "people"), ("win-rate",)),
    **dict.fromkeys(("reward", "best_of", "checkpoints"), ("frontier",)),
    "rubric": SAMPLED,
    "reference": ("preference", "frontier"),
    "max_length": (*PAIRS, *SAMPLED),
}  # fmt: skip
"""Options that mean something for some tasks alone."""
CANARY = "Thank you for the question. I have thought about it, and I hope that this answer helps you."
"""Says nothing, whatever it is asked."""
_SIDE_BY_SIDE = 4
Told = tuple[dict[str, Any], list[Mapping[str, Any]]]


def _word(told: str) -> Any:
    return typer.Option(metavar="…", help=told, show_default=False)


def _number(least: int, told: str) -> Any:
    return typer.Option(metavar="N", min=least, help=told, show_default=False)


@dataclass(frozen=True)
class Options:
    """What `twofold evaluate` may be told."""

    models: Annotated[
        list[str], typer.Argument(help="Model, adapter or run folders, or hub names; the first is the baseline.")
    ]
    tasks: Annotated[str | None, typer.Option(metavar="FILE", help="Rows with answers, or pairs.")] = None
    task: Annotated[str, typer.Option(metavar="T", help=f"{', '.join(TASKS)}.")] = "answers"
    limit: Annotated[int | None, _number(1, "Only the first so many rows.")] = None
    max_new_tokens: Annotated[int, _number(1, "Then completions are cut (256).")] = 256
    split: Annotated[str, _word("Of a hub data set (test).")] = "test"
    metrics: Annotated[str | None, _word("Of strict,flexible,math,text.")] = None
    template: Annotated[str | None, _word("With {prompt} for the problem.")] = None
    style: Annotated[str, _word("text, chat or auto.")] = "auto"
    shots: Annotated[int, _number(0, "Worked examples before each problem.")] = 0
    prompted: Annotated[str | None, _word("The first model so asked too, as 0,4.")] = None
    examples: Annotated[str | None, _word("Rows of worked examples.")] = None
    reference: Annotated[str | None, _word("Rewards, or KL, against this model.")] = None
    max_length: Annotated[int, _number(2, "Tokens of a pair's side (4096).")] = 4096
    judge: Annotated[str | None, _word("reward:DIR, llm:URL#NAME, human:FILE.")] = None
    against: Annotated[str | None, _word("A model, not the rows' own answers.")] = None
    temperatures: Annotated[str, _word("Of win rates (0,0.25,0.5,0.75,1).")] = "0,0.25,0.5,0.75,1"
    rubric: Annotated[str | None, _word("A jinja2 file: the judge's rules.")] = None
    canary: Annotated[str, _word("A constant answer; '' for none.")] = CANARY
    people: Annotated[str | None, _word("Labelled file: the judge's κ.")] = None
    reward: Annotated[str | None, _word("For frontier: DIR, verifier, ….")] = None
    best_of: Annotated[str | None, _word("Of the reference too, as 2,4,8.")] = None
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="Of a run each, for frontier.")] = False
    pass_at: Annotated[str | None, _word("pass@k and maj@k, as 1,2,4,8.")] = None
    samples: Annotated[int | None, _number(1, "Of each prompt, where drawn.")] = None
    temperature: Annotated[float, typer.Option(metavar="X", min=0.01, help="For --pass-at.")] = 1.0
    seed: Annotated[int, typer.Option(metavar="N", help="Of samples and examples.")] = 0
    harness: Annotated[str | None, _word("lm-eval: hand the models over to it.")] = None
    harness_tasks: Annotated[str | None, _word("Its tasks, as gsm8k,arc_easy.")] = None
    harness_include: Annotated[Path | None, typer.Option(metavar="DIR", help="Further tasks of its kind.")] = None
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")] = None
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="results.json, and every item.")] = None


@spread
def evaluate(given: Options) -> None:
    """Measure models on the same items: answers by strict (`#### N`), flexible (last number) and math-verify; pass@k;
    held-out preferences; perplexity; win rates before a judge; reward against KL. 95% intervals; two models or more get
    paired tests."""
    from twofold.cli.progress import RichProgress

    _refuse_contradictions(given)
    with RichProgress() as progress:
        about, tell = _measured(given, progress)
    told, rows = tell()
    again = command(given)
    results().print(f"again: {again}", markup=False, soft_wrap=True, style="dim")
    _write(given, {"command": again, **about, **told}, rows)


def _measured(given: Options, progress: Progress) -> tuple[dict[str, Any], Callable[[], Told]]:
    """What the figures are of, and what shows them."""
    from twofold.cli import entries, frontier, harness, pass_at, win_rate

    if given.harness is not None:
        about, found = harness.judged(given, progress)
        return about, lambda: _told(found)
    drawing = None if given.task in SAMPLED else pass_at.Drawing.of(
        given.pass_at, given.samples, given.temperature, given.seed if given.pass_at is not None else 0
    )  # fmt: skip
    source = entries.source(given)
    about: dict[str, Any] = {
        "task": given.task, "tasks": {"source": source.source, "sha256": source.sha256, "n": len(source.records)},
    }  # fmt: skip
    if given.task in ANSWERS:
        about["max_new_tokens"] = given.max_new_tokens
    for model in given.models:
        refuse_trained_on(Path(model), source.records, progress)
    if given.task in SAMPLED:
        more, tell = (win_rate if given.task == "win-rate" else frontier).measured(given, source.records, progress)
        return {**about, **more}, tell
    if drawing is not None:
        solved = entries.solved(given, source.records, drawing, progress)
        return about, lambda: pass_at.told(solved, drawing)
    judged = entries.JUDGED[given.task](given, source.records, progress)
    return about, lambda: _told(judged)


def command(given: Options) -> str:
    """What repeats the figures: every option that is not its default, but where they are written to."""
    words = ["twofold", "evaluate", *given.models]
    for field in fields(given):
        value = getattr(given, field.name)
        if field.name not in ("models", "json_file", "out") and value != field.default:
            words += [_flag(field.name)] if value is True else [_flag(field.name), str(value)]
    return shlex.join(words)


def refuse_trained_on(run: Path, records: Sequence[Record], progress: Progress) -> None:
    """Of a run directory: nothing is evaluated on a prompt that was trained on."""
    if not (run / "resolved.yaml").is_file():
        return
    from twofold.config.assemble import refuse_trained_on as refuse

    try:
        refuse(run, records)
    except LeakError:
        raise
    except TwofoldError as error:
        progress.warn(f"{run}: cannot tell whether it was trained on these rows: {error.what}")


def _refuse_contradictions(given: Options) -> None:
    if given.task not in TASKS:
        raise RecipeError(f"{given.task!r} is no task", where="--task", remedy=f"one of {', '.join(TASKS)}")
    if given.style not in ("auto", "text", "chat"):
        raise RecipeError(f"{given.style!r} is no style", where="--style", remedy="one of auto, text, chat")
    defaults = {field.name: field.default for field in fields(given)}
    for name, tasks in _ONLY.items():
        if getattr(given, name) != defaults[name] and given.task not in tasks:
            remedy = f"leave it out, or choose --task {' or '.join(tasks)}"
            raise RecipeError(f"means nothing to --task {given.task}", where=_flag(name), remedy=remedy)
    harnessed = given.harness_tasks is not None or given.harness_include is not None
    if harnessed and given.harness is None:
        raise RecipeError("goes with --harness lm-eval", where="--harness-tasks and --harness-include")
    asked, few_shot = given.pass_at is not None, bool(given.shots or given.prompted)
    wrong = {
        ("--metrics", "pass@k counts strict and flexible"): asked and given.metrics is not None,
        ("--examples", "add --shots K or --prompted K"): given.examples is not None and not few_shot,
        ("--seed", "answers are greedy: add --pass-at 1,2,4,8 or --shots K"): given.seed != 0
        and not (asked or few_shot or given.samples or given.task in SAMPLED),
    }
    for (flag, what), is_wrong in wrong.items():
        if is_wrong:
            raise RecipeError(what, where=flag)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _told(found: Sequence[Entry]) -> Told:
    """The figures and the items behind them, once shown."""
    from twofold.evaluation.figures import comparisons

    tests = comparisons(found)
    _show(found)
    if tests:
        show_tests(tests, {m for e in found for m, measure in e.measures.items() if measure.is_share})
    figures = {"models": [entry.as_dict() for entry in found], "comparisons": tests}
    return figures, [row for entry in found for row in entry.rows]


def _show(found: Sequence[Entry]) -> None:
    """Metrics side by side, or one below the other where they are many."""
    estimates = {entry.name: {m: x.estimate() for m, x in entry.measures.items()} for entry in found}
    metrics = list(dict.fromkeys(m for told in estimates.values() for m in told))
    if len(metrics) > _SIDE_BY_SIDE or len({e.n for told in estimates.values() for e in told.values()}) > 1:
        rows = table("model", "metric", "#n", "#value", "95% interval")
        for entry in found:
            for metric, measure in entry.measures.items():
                estimate = estimates[entry.name][metric]
                rows.add_row(entry.name, metric, str(estimate.n), *figure(estimate, measure.is_share))
    else:
        counted = list(dict.fromkeys(name for entry in found for name in entry.counts))
        heads = [head for metric in metrics for head in (f"#{metric}", "95% interval")]
        rows = table("model", "#n", *heads, *(f"#{name}" for name in counted))
        for entry in found:
            told = estimates[entry.name]
            cells = [cell for m in metrics for cell in figure(told[m], entry.measures[m].is_share)]
            n = next(iter(told.values())).n
            rows.add_row(entry.name, str(n), *cells, *(str(entry.counts[name]) for name in counted))
    results().print(rows, markup=False)


def figure(estimate: Estimate, is_share: bool) -> tuple[str, str]:
    """The value and its interval."""
    from twofold.reports.tables import interval, number, percent

    if is_share:
        return percent(estimate.value), interval(estimate)
    return number(estimate.value), f"{number(estimate.low)} – {number(estimate.high)}"


def show_tests(tests: Sequence[Mapping[str, Any]], shares: set[str]) -> None:
    """Paired tests, with Holm's correction where there are several."""
    from twofold.evaluation.figures import LOGARITHMS
    from twofold.reports.tables import interval, number, p_value, points
    from twofold.statistics import Estimate

    several = "p_holm" in tests[0]
    sides = ("#only a", "#only b") if all(c["metric"] in shares for c in tests) else ("#a higher", "#b higher")
    rows = table("a", "b", "metric", "#b − a", "95% interval", *sides, "#p", *(["#Holm"] * several))
    for c in tests:
        d = Estimate(**{"count": None, **c["difference"]})
        share = c["metric"] in shares
        told = (points(d.value), interval(d, signed=True)) if share else (number(d.value), _between(d))
        last = [p_value(c["p_holm"])] if several else []
        counts = (str(c["only_a"]), str(c["only_b"]))
        rows.add_row(c["a"], c["b"], c["metric"], *told, *counts, p_value(c["p_value"]), *last)
    out = results()
    out.print(rows, markup=False)
    holm = f"; Holm's correction over {len(tests)} tests" if several else ""
    if any(LOGARITHMS in c["difference"]["method"] for c in tests):
        out.print("b − a of a perplexity is that of its logarithm: nats per token", markup=False, style="dim")
    out.print(f"p: {', '.join(sorted({c['test'] for c in tests}))}{holm}", markup=False, style="dim")


def _between(estimate: Estimate) -> str:
    from twofold.reports.tables import number

    return f"{number(estimate.low)} … {number(estimate.high)}"


def _write(given: Options, told: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "results.json").write_text(text, encoding="utf-8")
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (given.out / "rows.jsonl").write_text(lines, encoding="utf-8")
    if given.json_file is not None:
        given.json_file.write_text(text, encoding="utf-8")
