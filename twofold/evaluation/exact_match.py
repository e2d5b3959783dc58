"""Exact match of final answers, strict and flexible side by side.

*Strict* is GSM8K's own rule: the completion must hold `#### N`, compared as text once commas are gone. *Flexible* takes
the last number of the completion and compares values. Strict counts form and sum, flexible the sum alone: a model that
gains in the first and not in the second has learnt the form.

Source: Cobbe et al. (2021), arXiv 2110.14168, and the dataset's `dataset.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol

from twofold.errors import DataError
from twofold.progress import Progress, Silent
from twofold.records import Prompt, Task
from twofold.statistics import Estimate, PairedTest, mcnemar, wilson

if TYPE_CHECKING:
    from torch import Tensor

    from twofold.sampling.base import Sampler

Metric = Literal["strict", "flexible"]

STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
MARKED = re.compile(r"^\s*A:\s*(.*\d.*)$", re.MULTILINE)
NUMBER = re.compile(r"((?<![\w)\]])[-\u2212])?\$?((?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+)")
CHUNK = 256


class Codec(Protocol):
    """The part of an encoder that judging needs: a prompt to tokens [P], tokens to text without special tokens."""

    def prompt(self, prompt: Prompt) -> Tensor: ...

    def text(self, tokens: Tensor) -> str: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a completion has the right answer, by either rule."""

    strict: bool
    flexible: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One problem with what was said and how it was judged: a line of samples.jsonl once a step is added."""

    name: str
    prompt: str
    completion: str
    answer: str
    strict: bool
    flexible: bool
    truncated: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class ExactMatch:
    """Accuracy by both rules; `truncated` is how many completions ran out of tokens before they stopped."""

    rows: tuple[Row, ...]
    strict: Estimate
    flexible: Estimate
    truncated: int


def strict(text: str) -> str | None:
    """The first `#### N` of `text`, without commas and a closing full stop; None where the form is not kept."""
    match = STRICT.search(text)
    return match.group(1).replace(",", "").removesuffix(".") if match else None


def flexible(text: str) -> str | None:
    """The last number anywhere in `text`, without commas and currency; None without one.

    A minus sign counts unless it stands right after a word, a digit or a bracket, as in `16-3`.
    """
    numbers = _numbers(text)
    return numbers[-1] if numbers else None


def same_number(a: str | None, b: str | None) -> bool:
    """Whether two numbers as text have exactly the same value; None is no number."""
    return a is not None and b is not None and Decimal(a) == Decimal(b)


def truth(answer: str) -> str:
    """The final answer of a ground truth: after `####`, else first on its last `A:` line, else its last number.

    Raises `DataError` where there is no number.
    """
    form, marked = strict(answer), MARKED.findall(answer)
    if form is not None and NUMBER.fullmatch(form):
        return form
    numbers = _numbers(marked[-1])[:1] if marked else _numbers(answer)
    if not numbers:
        raise DataError(
            f"the answer {_short(answer)!r} holds no number",
            remedy="exact match needs an answer that is a number or ends in `#### N`",
        )
    return numbers[-1]


def judge(completion: str, answer: str) -> Verdict:
    """Judge `completion` against the ground truth `answer`; raises `DataError` where that holds no number."""
    right = truth(answer)
    return Verdict(strict=strict(completion) == right, flexible=same_number(flexible(completion), right))


def exact_match(
    sampler: Sampler, tasks: Sequence[Task], codec: Codec, *, progress: Progress | None = None, seed: int = 0
) -> ExactMatch:
    """Draw one completion per task and judge it; greedy or not is the sampler's own setting.

    Every answer is checked before the first token is drawn; `DataError` names the row that cannot be judged.
    """
    for task in tasks:
        _check(task)
    progress = progress or Silent()
    progress.begin("exact match", len(tasks))
    rows: list[Row] = []
    for start in range(0, len(tasks), CHUNK):
        part = tasks[start : start + CHUNK]
        drafts = sampler.sample([codec.prompt(task.prompt) for task in part], samples=1, seed=(seed, 0))
        rows += [_row(task, codec.text(d.tokens), d.truncated) for task, (d,) in zip(part, drafts, strict=True)]
        progress.advance("exact match", len(part), strict=_share(rows, "strict"), flexible=_share(rows, "flexible"))
    progress.end("exact match")
    return summary(rows)


def summary(rows: Sequence[Row]) -> ExactMatch:
    """Both accuracies of judged rows, with Wilson intervals."""
    n = len(rows)
    return ExactMatch(
        rows=tuple(rows),
        strict=wilson(sum(row.strict for row in rows), n),
        flexible=wilson(sum(row.flexible for row in rows), n),
        truncated=sum(row.truncated for row in rows),
    )


def compare(a: ExactMatch, b: ExactMatch, metric: Metric = "strict") -> PairedTest:
    """McNemar's exact test between two models on the same problems, in any order; `DataError` for different ones."""
    left, right = _by_problem(a), _by_problem(b)
    if left.keys() != right.keys():
        name, *_ = sorted(left.keys() ^ right.keys())[0]
        raise DataError(
            f"the two models were judged on different problems ({len(left)} and {len(right)})",
            where=name,
            remedy="evaluate both on the same file, with the same limit",
        )
    return mcnemar([getattr(left[k], metric) for k in left], [getattr(right[k], metric) for k in left])


def _numbers(text: str) -> list[str]:
    return [("-" if sign else "") + size.replace(",", "") for sign, size in NUMBER.findall(text)]


def _by_problem(result: ExactMatch) -> dict[tuple[str, str, str], Row]:
    rows = {(row.name, row.prompt, row.answer): row for row in result.rows}
    if len(rows) != len(result.rows):
        name, count = Counter(row.name for row in result.rows).most_common(1)[0]
        raise DataError(f"the problem was judged {count} times", where=name, remedy="keep one row per problem")
    return rows


def _check(task: Task) -> None:
    try:
        truth(task.answer)
    except DataError as error:
        raise DataError(error.what, where=str(task.source), remedy=error.remedy) from None


def _row(task: Task, completion: str, truncated: bool) -> Row:
    verdict = judge(completion, task.answer)
    return Row(
        name=str(task.source),
        prompt=_plain(task.prompt),
        completion=completion,
        answer=task.answer,
        strict=verdict.strict,
        flexible=verdict.flexible,
        truncated=truncated,
    )


def _plain(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(f"{turn.role}: {turn.content}" for turn in prompt)


def _share(rows: Sequence[Row], metric: Metric) -> float:
    return sum(getattr(row, metric) for row in rows) / len(rows)


def _short(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
