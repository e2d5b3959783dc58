"""Steps of a solution: where they end among its tokens, how a text is split, and what a model was trained on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from twofold.data.issues import Issue, IssueError
from twofold.records import Source

SEPARATOR = "twofold_step_separator"
"""In the settings of a tokenizer: what separates the steps that its model was trained to rate."""


def split_steps(text: str, separator: str) -> tuple[str, ...]:
    """The steps of a solution; none for an empty one."""
    return tuple(step for step in text.split(separator) if step.strip())


def step_ends(
    text: Callable[[Sequence[int]], str],
    ids: Sequence[int],
    steps: Sequence[str],
    source: Source,
    *,
    join: bool = False,
) -> list[int]:
    """For each step of a completion, the number of its tokens `ids` up to the end of the step's own text: the place of
    the token after it. `text` decodes tokens. Raises IssueError, naming the row, for a step that is not in the text or
    ends in the same token as the one before. With `join`, such a step and the one before have one place."""
    whole = text(ids)
    ends, at = [0], 0
    for number, step in enumerate(steps, 1):
        begin = whole.find(step.strip(), at)
        if begin < 0:
            raise _fault(
                source, number, "is not in the solution as the tokenizer renders it", "normalize its characters"
            )
        at = begin + len(step.strip())
        shown = whole[:at]
        end = bisect_left(range(len(ids)), True, lo=ends[-1], key=lambda n: text(ids[:n]).startswith(shown))
        if end == ends[-1]:
            if join:
                continue
            raise _fault(source, number, "ends in the same token as the step before", "join the two steps")
        ends.append(end)
    return ends[1:]


def step_labels(count: int, ends: Sequence[int], labels: Sequence[float | None]) -> Tensor:
    """The column `STEP_LABEL` [count] of a completion."""
    column = torch.full((count,), -1.0)
    for end, label in zip(ends, labels, strict=True):
        if label is not None:
            column[end] = label
    return column


def keep_separator(tokenizer: Any, separator: str | None) -> None:
    """Store what separates steps in the tokenizer, to be saved with it: the mark of a process reward model. None
    removes the mark."""
    tokenizer.init_kwargs.pop(SEPARATOR, None)
    if separator is not None:
        tokenizer.init_kwargs[SEPARATOR] = separator


def separator_of(tokenizer: Any) -> str | None:
    """What separates the steps that the tokenizer's model rates; None if it is no process reward model."""
    return tokenizer.init_kwargs.get(SEPARATOR)


def _fault(source: Source, number: int, reason: str, remedy: str) -> IssueError:
    return IssueError(Issue(source.file, source.row, f"completions[{number}]", reason, remedy, check="not encodable"))
