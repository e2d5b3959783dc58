"""`accuracy`: completions of problems with answers, judged by several rules side by side.

*strict* and *flexible* are those of `rewards/verifier.py`; *math* (`rewards/mathematics.py`) also reads formulas;
*text* compares the text after the last `####` (or all of the completion) and ignores white space, case and a final
period.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from twofold.data.chat import rendering
from twofold.data.grams import composed
from twofold.data.reasoning import reasoning_of
from twofold.errors import DataError, RecipeError
from twofold.evaluation.exact_match import CHUNK, Codec, plain
from twofold.evaluation.figures import BinaryOutcomes, Entry, Evaluation
from twofold.evaluation.parts import WHOLE, Line, Part
from twofold.evaluation.player_answers import AnswerBook
from twofold.evaluation.players import Player
from twofold.evaluation.problems import PromptSettings, each_model, each_other, in_order
from twofold.evaluation.prompting import Prompting
from twofold.evaluation.rows import Data, rows_of
from twofold.progress import Progress, Silent
from twofold.records import Prompt, Task, final_text
from twofold.rewards.mathematics import MathVerifier, solvable
from twofold.rewards.verifier import answerable, judge
from twofold.sampling.base import Sampler
from twofold.sampling.named_model import NamedModel
from twofold.settings import with_keywords

Rule = Callable[[str, str], bool]


def _strict(completion: str, answer: str) -> bool:
    return judge(completion, answer).strict


def _flexible(completion: str, answer: str) -> bool:
    return judge(completion, answer).flexible


def _text(completion: str, answer: str) -> bool:
    return _final(completion) == _final(answer)


def _any_text(answer: str, where: str) -> None:
    if not _final(answer):
        raise DataError("the answer is empty", where=where, remedy="write it behind `####`, or remove the row")


NUMERIC: Mapping[str, Rule] = {"strict": _strict, "flexible": _flexible}
METRICS = (*NUMERIC, "math", "text")
_CHECKS: Mapping[str, Callable[[str, str], None]] = {
    "strict": answerable, "flexible": answerable, "math": solvable, "text": _any_text
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AccuracySettings(PromptSettings):
    """`metrics` are some of METRICS; None: all but text, and math where math-verify is installed."""

    metrics: Sequence[str] | None = None


@with_keywords(AccuracySettings)
def accuracy(models: Sequence[str], data: Data, how: AccuracySettings) -> Evaluation:
    """How many problems each player solves, greedy if it has no temperature, by several metrics.

    `models` are players (docs/evaluation.md), the first the baseline; `data` are problems with answers.
    Shares have Wilson's intervals, every two models McNemar's exact test per metric (sign flips over prompts where some
    repeat), with Holm's correction over all.
    Raises DataError for rows of another kind, or an answer that a metric cannot compare, before anything is drawn.
    """
    return accuracy_figures(measure_accuracy(models, rows_of(data, "answers"), how, WHOLE), how)


def measure_accuracy(
    models: Sequence[str], problems: Sequence[Task], how: AccuracySettings, part: Part
) -> dict[str, Line]:
    """Every problem's answer by each model, with the verdicts on it."""
    metrics = _metrics(how.metrics, how.progress)
    refuse_unanswerable(problems, metrics)
    return measure_answers(
        models, problems, how, part, lambda name, found: _rows(name, found, verdicts(found, metrics))
    )


def measure_answers(
    models: Sequence[str], problems: Sequence[Task], how: PromptSettings, part: Part, judged: Judged
) -> dict[str, Line]:
    """Every problem's answer by each player, greedy if it has no temperature, as the rows that `judged` makes."""

    def answered(name: str, sampler: Sampler, model: NamedModel, prompting: Prompting) -> Line:
        weights = part.weights(model)

        def work(some: Sequence[Task]) -> list[dict[str, Any]]:
            return judged(name, answers(sampler, some, model.encoder, prompting, seed=how.seed))

        return Line(
            part.rows((name, weights), problems, CHUNK, work, ("answers", how.progress)), prompting.as_dict(), weights
        )

    def written(name: str, player: Player, book: AnswerBook) -> Line:
        items = zip(part.of(problems), book.prompts(player), book.of(player), strict=True)
        found = [
            Answered(
                *(str(task.source), plain(prompt), final_text(answer.completion), task.answer, answer.truncated),
                reasoning=reasoning_of(answer.completion),
            )
            for task, prompt, (answer, *_) in items
        ]
        return Line(judged(name, found), book.about(player), book.weights(player))

    others = each_other(models, problems, how, (0.0, 1), written, part)
    return in_order(models, each_model(models, problems, how, 0.0, answered) | others)


def accuracy_figures(measured: Mapping[str, Line], how: AccuracySettings) -> Evaluation:
    """The table of what was measured."""
    entries = [_entry(name, line.rows, line.about) for name, line in measured.items()]
    return Evaluation.of(entries, max_new_tokens=how.max_new_tokens)


def _metrics(named: Sequence[str] | None, progress: Progress) -> list[str]:
    if named is None:
        if find_spec("math_verify") is not None:
            return [*NUMERIC, "math"]
        progress.note("math-verify is not installed: pip install 'twofold[math]' adds its column")
        return list(NUMERIC)
    unknown = next((name for name in named if name not in METRICS), None)
    if unknown is not None:
        raise RecipeError(f"{unknown!r} is no metric", where="--metrics", remedy=f"some of {', '.join(METRICS)}")
    return list(dict.fromkeys(named))


@dataclass(frozen=True, slots=True)
class Answered:
    """A problem as text, as the model received it, and its result: the answer, which is judged, and the reasoning
    before it, if there is one. Only samples of a local model have `tokens`."""

    name: str
    prompt: str
    completion: str
    answer: str
    truncated: bool
    tokens: int | None = None
    reasoning: str = ""


Judged = Callable[[str, Sequence[Answered]], list[dict[str, Any]]]
"""Makes rows of a player's answers."""


def answers(
    sampler: Sampler, tasks: Sequence[Task], codec: Codec, prompting: Prompting, *,
    progress: Progress | None = None, seed: int = 0,
) -> list[Answered]:  # fmt: skip
    """One completion for each task, with `prompting`. The sampler's own setting decides whether it is greedy."""
    progress = progress or Silent()
    progress.begin("answers", len(tasks))
    found: list[Answered] = []
    for start in range(0, len(tasks), CHUNK):
        part = [prompting.of(task) for task in tasks[start : start + CHUNK]]
        completions = sampler.sample([codec.prompt(task.prompt) for task in part], samples=1, seed=(seed, 0))
        for task, (sample,) in zip(part, completions, strict=True):
            parts = codec.parted(task.prompt, sample.tokens)
            about = task.answer, sample.truncated, len(sample.tokens), parts.reasoning
            shown = rendered(task.prompt, codec)
            found.append(Answered(str(task.source), shown, prompting.cut(parts.answer), *about))
        progress.advance("answers", len(part))
    progress.end("answers")
    return found


def refuse_unanswerable(tasks: Sequence[Task], metrics: Sequence[str]) -> None:
    """Raise DataError for the first task whose answer one of the metrics cannot read."""
    checks = [_CHECKS[metric] for metric in METRICS if metric in metrics]
    for task in tasks:
        for check in dict.fromkeys(checks):
            check(task.answer, str(task.source))


def verdicts(found: Sequence[Answered], metrics: Sequence[str]) -> dict[str, list[bool]]:
    """The verdict of each rule on each answer."""
    with ExitStack() as stack:
        rules: dict[str, Rule] = {**NUMERIC, "text": _text}
        if "math" in metrics:
            rules["math"] = stack.enter_context(MathVerifier()).right
        return {metric: [rules[metric](row.completion, row.answer) for row in found] for metric in metrics}


def entry(name: str, found: Sequence[Answered], told: Mapping[str, Sequence[bool]], prompting: Prompting) -> Entry:
    """The line of the table."""
    return _entry(name, _rows(name, found, told), prompting.as_dict())


def _rows(name: str, found: Sequence[Answered], told: Mapping[str, Sequence[bool]]) -> list[dict[str, Any]]:
    return [
        {"model": name, "name": row.name, "prompt": row.prompt, "completion": row.completion, "answer": row.answer,
         **{metric: right[i] for metric, right in told.items()}, "truncated": row.truncated, "tokens": row.tokens,
         **({"reasoning": row.reasoning} if row.reasoning else {})}
        for i, row in enumerate(found)
    ]  # fmt: skip


def _entry(name: str, rows: Sequence[dict[str, Any]], prompting: Mapping[str, Any]) -> Entry:
    metrics = [key for key in (rows[0] if rows else ()) if key in METRICS]
    prompts = [row["prompt"] for row in rows]
    return Entry(
        name,
        {metric: BinaryOutcomes([row[metric] for row in rows], prompts) for metric in metrics},
        about={"prompting": {**prompting, "first prompt": rows[0]["prompt"] if rows else ""}},
        counts={"truncated": sum(row["truncated"] for row in rows)},
        rows=rows,
    )


def rendered(prompt: Prompt, codec: Any) -> str:
    """The prompt as the model reads it, before tokenization."""
    return prompt if isinstance(prompt, str) else rendering(codec.tokenizer, prompt, generation_prompt=True)


def _final(said: str) -> str:
    said = composed(said.rpartition("####")[2]).casefold()
    return " ".join(said.split()).removesuffix(".")
