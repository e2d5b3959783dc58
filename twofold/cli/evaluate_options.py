"""Options of `twofold evaluate`, the check of their combinations, and the command that repeats an evaluation."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from twofold.cli.sharding import ShardOptions
from twofold.errors import RecipeError

SHARDING = tuple(field.name for field in fields(ShardOptions))
N = TypeVar("N", int, float)
ANSWERS, PAIRS = ("answers", "gsm8k", "gsm8k-platinum", "math"), ("preference", "perplexity")
BENCHMARKS = ("alpaca-eval", "arena-hard", "mt-bench")
"""Published prompts with a judge's protocol. The rows are the user's copy of their files."""
CHOICES = "truthfulqa"
MATCHES = ("win-rate", "contest", *BENCHMARKS)
JUDGE = "judge"
SAMPLED = (*MATCHES, "frontier")
PUBLISHED = ("ifeval",)
SCORED = ("rewardbench", "rewardbench2")
TASKS = (*ANSWERS, *PUBLISHED, CHOICES, *SCORED, *PAIRS, *SAMPLED, JUDGE)
_ONLY: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("metrics", "shots", "prompted", "pass_at", "temperature"), ANSWERS),
    "template": (*ANSWERS, "ifeval"),
    **dict.fromkeys(("max_new_tokens", "seed"), (*ANSWERS, "ifeval", *SAMPLED)),
    "samples": tuple(task for task in (*ANSWERS, *SAMPLED) if task != "mt-bench"),
    "examples": tuple(task for task in (*ANSWERS, *MATCHES, CHOICES) if task != "mt-bench"),
    "judge": MATCHES,
    "judge_pairs": tuple(t for t in (*SAMPLED, *ANSWERS, *PUBLISHED) if t not in ("arena-hard", "mt-bench")),
    **dict.fromkeys(("temperatures", "canary", "people"), ("win-rate",)),
    "against": ("win-rate", *BENCHMARKS),
    **dict.fromkeys(("reward", "best_of", "checkpoints"), ("frontier",)),
    "rubric": (*SAMPLED, JUDGE, *SCORED),
    **dict.fromkeys(("price", "max_spend", "per_minute"), (*SAMPLED, JUDGE)),
    **dict.fromkeys(("split", "ignore"), tuple(task for task in TASKS if task not in BENCHMARKS)),
    "reference": ("preference", "frontier", *SCORED),
    "max_length": (*PAIRS, *SAMPLED, JUDGE, *SCORED, CHOICES),
}  # fmt: skip
"""Options that have a meaning only for some tasks."""


def _word(told: str) -> Any:
    return typer.Option(metavar="…", help=told, show_default=False)


def _number(least: int, told: str, *spellings: str) -> Any:
    return typer.Option(*spellings, metavar="N", min=least, help=told, show_default=False)


@dataclass(frozen=True)
class Options(ShardOptions):
    """Options of `twofold evaluate`."""

    models: Annotated[
        list[str],
        typer.Argument(help="Models, players (MODEL@beam:5 …) or judges; first: the baseline."),
    ]
    tasks: Annotated[str | None, typer.Option(metavar="FILE", help="Rows with answers, or pairs.")] = None
    task: Annotated[str, _word("One of the tasks above (answers).")] = "answers"
    limit: Annotated[int | None, _number(1, "Only the first N rows.")] = None
    max_new_tokens: Annotated[int | None, _number(1, "By task: 256, 1024 or 1280.")] = None
    split: Annotated[str | None, _word("Of a hub data set (test).")] = None
    ignore: Annotated[str | None, _word("Keys of rows that may be lost.")] = None
    metrics: Annotated[str | None, _word("strict,flexible,math,text,boxed.")] = None
    template: Annotated[str | None, _word("With {prompt} for the problem.")] = None
    style: Annotated[str, _word("text, chat or auto.")] = "auto"
    shots: Annotated[int, _number(0, "Worked examples before each problem.")] = 0
    prompted: Annotated[str | None, _word("The first so asked too, as 0,4.")] = None
    examples: Annotated[str | None, _word("Rows of worked examples.")] = None
    reference: Annotated[str | None, _word("Rewards, or KL, against this model.")] = None
    max_length: Annotated[int, _number(2, "Tokens of a pair's side (4096).")] = 4096
    judge: Annotated[list[str] | None, _word("reward:DIR …; several: a panel.")] = None
    judge_pairs: Annotated[str | None, _word("Labeled: accuracy of judges.")] = None
    against: Annotated[str | None, _word("A player, not the rows' own answers.")] = None
    temperatures: Annotated[str | None, _word("Of win rates (0,0.25,0.5,0.75,1).")] = None
    rubric: Annotated[str | None, _word("A file with the judge's criteria.")] = None
    price: Annotated[list[str] | None, _word("NAME=IN,OUT: $ a million tokens.")] = None
    max_spend: Annotated[float | None, typer.Option(metavar="X", help="$ for each judge; then it stops.")] = None
    per_minute: Annotated[float | None, typer.Option(metavar="X", help="Requests to a judge per minute.")] = None
    canary: Annotated[str | None, _word("A constant answer; '' for none.")] = None
    people: Annotated[str | None, _word("Labeled file: the judge's κ.")] = None
    reward: Annotated[str | None, _word("For frontier: reward:DIR ….")] = None
    best_of: Annotated[str | None, _word("Of the reference too, as 2,4,8.")] = None
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="Of a run each, for frontier.")] = False
    pass_at: Annotated[str | None, _word("pass@k and maj@k, as 1,2,4,8.")] = None
    samples: Annotated[int | None, _number(1, "Of each prompt, where drawn.", "--samples", "-n")] = None
    temperature: Annotated[float, typer.Option(metavar="X", min=0.01, help="For --pass-at.")] = 1.0
    seed: Annotated[int, typer.Option(metavar="N", help="Of samples.")] = 0
    harness: Annotated[str | None, _word("lm-eval: hand the models over to it.")] = None
    harness_tasks: Annotated[str | None, _word("Its tasks, as gsm8k,arc_easy.")] = None
    harness_include: Annotated[Path | None, typer.Option(metavar="DIR", help="Further tasks of its kind.")] = None
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")] = None
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="results.json, and every item.")] = None


def command(given: Options) -> str:
    """The command that repeats the figures: every option that is not its default, except output paths."""
    words = ["twofold", "evaluate", *given.models]
    for field in fields(given):
        value = getattr(given, field.name)
        if field.name not in ("models", "json_file", "out", *SHARDING) and value != field.default:
            each = value if isinstance(value, list) else [value]
            words += [flag(field.name)] if value is True else [w for v in each for w in (flag(field.name), str(v))]
    return shlex.join(words)


def words(text: str | None) -> list[str] | None:
    """The parts of a comma-separated list."""
    return None if not text else [part.strip() for part in text.split(",")]


def numbers(
    text: str | None, option: str, example: str, kind: Callable[[str], N], least: float = -math.inf
) -> list[N] | None:
    """Different comma-separated numbers, sorted. Raises RecipeError for other text, or for less than `least`."""
    if text is None:
        return None
    try:
        found = list(dict.fromkeys(kind(part) for part in text.split(",")))
    except ValueError:
        raise RecipeError(f"{text!r} is no list of numbers", where=option, remedy=f"write {example}") from None
    if not all(least <= number < math.inf for number in found):
        raise RecipeError(f"must be ≥ {least:g}", where=option, remedy=f"write {example}")
    return found


def prices(named: Sequence[str] | None) -> dict[str, tuple[float, float]]:
    """Prices by model. Raises RecipeError for other text than NAME=IN,OUT."""
    found: dict[str, tuple[float, float]] = {}
    for text in named or ():
        name, _, pair = text.rpartition("=")
        try:
            into, out = (float(number) for number in pair.split(","))
        except ValueError:
            remedy = "write dollars per million prompt and completion tokens: --price NAME=0.15,0.60"
            raise RecipeError(f"{text!r} is no price", where="--price", remedy=remedy) from None
        found[name] = into, out
    return found


def refuse_contradictions(given: Options) -> None:
    """Raises RecipeError for options that do not go together."""
    if given.task not in TASKS:
        raise RecipeError(f"{given.task!r} is no task", where="--task", remedy=f"one of {', '.join(TASKS)}")
    if given.style not in ("auto", "text", "chat"):
        raise RecipeError(f"{given.style!r} is no style", where="--style", remedy="one of auto, text, chat")
    defaults = {field.name: field.default for field in fields(given)}
    for name, tasks in _ONLY.items():
        if getattr(given, name) != defaults[name] and given.task not in tasks:
            remedy = f"leave it out, or choose --task {' or '.join(tasks)}"
            raise RecipeError(f"means nothing to --task {given.task}", where=flag(name), remedy=remedy)
    if given.template is not None and "{prompt}" not in given.template:
        raise RecipeError("lacks {prompt}", where="--template", remedy="write {prompt} for the problem")
    harnessed = given.harness_tasks is not None or given.harness_include is not None
    if harnessed and given.harness is None:
        where, remedy = "--harness-tasks and --harness-include", "add --harness lm-eval, or leave them out"
        raise RecipeError("mean nothing without a harness", where=where, remedy=remedy)
    asked, few_shot = given.pass_at is not None, bool(given.shots or given.prompted)
    drawing = given.samples is not None or given.temperature != 1.0
    if given.task in ANSWERS and given.harness is None and not asked and drawing:
        what = "--samples, --temperature and --seed go with --pass-at"
        remedy = "add --pass-at 1,2,4,8, or leave them out: exact match is greedy"
        raise RecipeError(what, where="twofold evaluate", remedy=remedy)
    wrong = {
        ("--metrics", "pass@k counts strict and flexible"): asked and given.metrics is not None,
        ("--examples", "add --shots K, --prompted K or MODEL@shots:K"): given.examples is not None
        and not few_shot
        and given.task != CHOICES
        and not any("@shots:" in model for model in (*given.models, given.against or "")),
        ("--judge-pairs", "no judge and no player MODEL@best-of:N?reward=… is measured"): given.judge_pairs is not None
        and given.task not in SAMPLED
        and not any("best-of" in model for model in given.models),
        ("--seed", "answers are greedy: add --pass-at 1,2,4,8 or --shots K"): given.seed != 0
        and not (asked or few_shot or given.samples or given.task in SAMPLED)
        and not any("@" in model for model in given.models),
    }
    if given.task == CHOICES and given.style == "chat":
        wrong["--style", "--task truthfulqa prompts with plain text"] = True
    for (where, what), is_wrong in wrong.items():
        if is_wrong:
            raise RecipeError(what, where=where, remedy=f"or leave {where} out")


def flag(name: str) -> str:
    """An option as it is typed."""
    return "--" + name.replace("_", "-")
