"""Exact match of final answers, or instruction following, by a strict and a flexible rule. `rewards/verifier.py` and
`rewards/instructions.py` define them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from twofold.data.reasoning import Parted
from twofold.errors import DataError
from twofold.progress import Progress, Silent
from twofold.records import Prompt, Task
from twofold.rewards import instructions, verifier
from twofold.rewards.verifier import Metric
from twofold.statistics import Estimate, PairedTest, mcnemar, share_by_cluster

if TYPE_CHECKING:
    from torch import Tensor

    from twofold.sampling.base import Sampler

CHUNK = 256
Rule: TypeAlias = Literal["answer", "instructions"]
"""The kind of a ground truth: a final answer to match, or rules to follow."""
_READ = {"answer": verifier.answerable, "instructions": instructions.readable}
_JUDGE = {"answer": verifier.judge, "instructions": instructions.judge}


class Codec(Protocol):
    """The part of an encoder that judging requires: a prompt to tokens [P], tokens to text without special tokens."""

    def prompt(self, prompt: Prompt) -> Tensor: ...

    def text(self, tokens: Tensor) -> str: ...

    def parted(self, prompt: Prompt, tokens: Tensor) -> Parted: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One problem with its completion and verdicts: a line of samples.jsonl once a step is added."""

    name: str
    prompt: str
    completion: str
    answer: str
    strict: bool
    flexible: bool
    truncated: bool
    reasoning: str = ""
    """What the completion has reasoned before, where the chat template has tags for it; it is not judged."""

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "reasoning" or value}


@dataclass(frozen=True)
class ExactMatch:
    """Accuracy by both rules. `truncated` is the number of completions that ran out of tokens before they stopped."""

    rows: tuple[Row, ...]
    strict: Estimate
    flexible: Estimate
    truncated: int


def exact_match(
    sampler: Sampler,
    tasks: Sequence[Task],
    codec: Codec,
    *,
    progress: Progress | None = None,
    seed: int = 0,
    rule: Rule = "answer",
) -> ExactMatch:
    """Sample one completion per task and judge it by `rule`. The sampler's own setting decides whether it is greedy.

    Every answer is checked before the first token is sampled. `DataError` names the row that cannot be judged.
    """
    refuse_unreadable(tasks, rule)
    progress = progress or Silent()
    progress.begin("exact match", len(tasks))
    rows: list[Row] = []
    for start in range(0, len(tasks), CHUNK):
        part = tasks[start : start + CHUNK]
        completions = sampler.sample([codec.prompt(task.prompt) for task in part], samples=1, seed=(seed, 0))
        rows += [
            _row(task, codec.parted(task.prompt, d.tokens), d.truncated, rule)
            for task, (d,) in zip(part, completions, strict=True)
        ]
        progress.advance("exact match", len(part), strict=_share(rows, "strict"), flexible=_share(rows, "flexible"))
    progress.end("exact match")
    return summary(rows)


def refuse_unreadable(tasks: Sequence[Task], rule: Rule = "answer") -> None:
    """Raise DataError for the first problem whose ground truth `rule` cannot read."""
    for task in tasks:
        _READ[rule](task.answer, str(task.source))


def summary(rows: Sequence[Row]) -> ExactMatch:
    """Both accuracies of judged rows, with Wilson intervals; rows of one prompt count as one."""
    prompts = [row.prompt for row in rows]
    return ExactMatch(
        rows=tuple(rows),
        strict=share_by_cluster([row.strict for row in rows], prompts),
        flexible=share_by_cluster([row.flexible for row in rows], prompts),
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


def _by_problem(result: ExactMatch) -> dict[tuple[str, str, str], Row]:
    rows = {(row.name, row.prompt, row.answer): row for row in result.rows}
    if len(rows) != len(result.rows):
        name, count = Counter(row.name for row in result.rows).most_common(1)[0]
        raise DataError(f"the problem was judged {count} times", where=name, remedy="keep one row per problem")
    return rows


def _row(task: Task, parts: Parted, truncated: bool, rule: Rule) -> Row:
    verdict = _JUDGE[rule](parts.answer, task.answer)
    return Row(
        name=str(task.source),
        prompt=plain(task.prompt),
        completion=parts.answer,
        answer=task.answer,
        strict=verdict.strict,
        flexible=verdict.flexible,
        truncated=truncated,
        reasoning=parts.reasoning,
    )


def plain(prompt: Prompt) -> str:
    """A prompt as one text, without a template."""
    return prompt if isinstance(prompt, str) else "\n".join(f"{turn.role}: {turn.text}" for turn in prompt)


def _share(rows: Sequence[Row], metric: Metric) -> float:
    return sum(getattr(row, metric) for row in rows) / len(rows)
