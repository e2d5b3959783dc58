"""The verifier: whether a completion ends in the answer of its ground truth, strict and flexible.

*Strict* is GSM8K's own rule: the completion must hold `#### N`, compared as text once commas are gone. *Flexible* takes
the last number of the completion and compares values. Strict counts form and sum, flexible the sum alone: a model that
gains in the first and not in the second has learnt the form.

Source: Cobbe et al. (2021), arXiv 2110.14168, and the dataset's `dataset.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from twofold.errors import DataError

Metric = Literal["strict", "flexible"]

STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
MARKED = re.compile(r"^\s*A:\s*(.*\d.*)$", re.MULTILINE)
NUMBER = re.compile(r"((?<![\w)\]])[-\u2212])?\$?((?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+)")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a completion has the right answer, by either rule."""

    strict: bool
    flexible: bool


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


@dataclass(frozen=True)
class VerifierReward:
    """1 for a completion that is right by `metric`, else 0; raises `DataError` for a truth without a number."""

    metric: Metric = "strict"

    def __call__(self, prompt: str, completion: str, truth: str | None) -> float:
        assert truth is not None, "checked before anything is rated"
        return float(getattr(judge(completion, truth), self.metric))


def answerable(answer: str, where: str) -> None:
    """Raise `DataError` at `where` unless `answer` holds a number to compare with."""
    try:
        truth(answer)
    except DataError as error:
        raise DataError(error.what, where=where, remedy=error.remedy) from None


def _numbers(text: str) -> list[str]:
    return [("-" if sign else "") + size.replace(",", "") for sign, size in NUMBER.findall(text)]


def _short(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
