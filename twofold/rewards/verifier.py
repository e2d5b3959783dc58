"""The verifier: whether a completion ends in the answer of its ground truth, strict and flexible.

*Strict* is GSM8K's own rule: the completion must hold `#### N`, compared as text once commas are gone. *Flexible* takes
the last number of the completion and compares values. Strict checks form and result, flexible only the result. A model
that improves only in strict has learned the form. Both compare plain numbers (`rewards/numerals.py`): what is none, or
only a part of what is written, counts as no answer, and is refused as a ground truth.

Source: Cobbe et al. (2021), arXiv 2110.14168, and the dataset's `dataset.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from twofold.errors import DataError
from twofold.rewards.final_answer import behind_equals, boxed, last_sentence, marked, short
from twofold.rewards.numerals import AROUND, LONGEST, NUMBER, PARTS, goes_on, last_numeral, listed, numerals, plainer

Metric = Literal["strict", "flexible"]

STRICT = re.compile(r"#### (-?[0-9.,]+)")
REMEDY = (
    "strict and flexible compare plain numbers, as 18, -7, 1,234.50, $18 or 5 km, best behind `####`; for fractions, "
    "times and formulas judge by verifier:math or evaluate with --metrics math, or text for words"
)
_ANOTHER = re.compile(  # words and signs next to a number that make it another one, or none
    r"\b(?:half|halves|thirds?|quarters?|root|squared|cubed|power|factorial|minus|negative|(?:at|the) (?:least|most)|"
    rf"(?:less|more|greater|fewer) than|or (?:less|more|fewer)|{PARTS})\b"
    r"|\d\s?!|\d\+|[<>≤≥≠±√]|\\[a-zA-Z]|^[-\u2212\u2013] ",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a completion has the right answer, by either rule."""

    strict: bool
    flexible: bool


def strict(text: str) -> str | None:
    """The first `#### N` of `text`, without commas and a closing full stop; None if the form is wrong, or if the number
    continues: `#### 3/4`."""
    match = STRICT.search(text)
    if match is None:
        return None
    form = match[1].rstrip(".,")
    behind = text[match.start() + len("#### ") + len(form) :][:AROUND].partition("\n")[0]
    size = form.removeprefix("-")
    western = size.count(".") < 2 and (size.rfind(",") < size.find(".") or "." not in size)
    behind = plainer(behind)
    whole = NUMBER.fullmatch(size) and western and not goes_on(behind, "." in size) and not behind[:1].isdecimal()
    return form.replace(",", "") if whole else None


def flexible(text: str) -> str | None:
    """The last number anywhere in `text`, without separators and currency; None without one, or where it is a part of
    something else, as in `3/4`.

    A minus sign counts unless it is right after a word, as in `GPT-4`.
    """
    for line in reversed(text.splitlines()):
        if last := last_numeral(line):
            return last.text
    return None


def same_number(a: str | None, b: str | None) -> bool:
    """Whether two numbers as text have exactly the same value; None is no number."""
    return a is not None and b is not None and Decimal(a) == Decimal(b)


def truth(answer: str) -> str:
    r"""The final answer of a ground truth: behind `####`, else in its last `\boxed{…}`, else on its last line `A:`,
    else in its last sentence. Raises `DataError` where that is no plain number."""
    values = [_plain(part, answer) for part in marked(answer) or [last_sentence(answer) or ""]]
    if any(not same_number(values[0], value) for value in values):
        what = f"the answer {short(answer)!r} has several final answers: {', '.join(dict.fromkeys(values))}"
        raise DataError(what, where="", remedy=REMEDY)
    return values[0]


def judge(completion: str, answer: str) -> Verdict:
    """Judge `completion` against the ground truth `answer`; raises `DataError` where that is no plain number."""
    right = truth(answer)
    return Verdict(strict=strict(completion) == right, flexible=same_number(flexible(completion), right))


@dataclass(frozen=True)
class VerifierReward:
    """1 for a completion that is correct by `metric`, else 0. Raises `DataError` for a reference answer that is no
    plain number."""

    metric: Metric = "strict"

    def __call__(self, prompt: str, completion: str, truth: str | None) -> float:
        assert truth is not None, "checked before anything is rated"
        return float(getattr(judge(completion, truth), self.metric))


def answerable(answer: str, where: str) -> None:
    """Raise `DataError` at `where` unless `answer` is a plain number to compare with."""
    try:
        truth(answer)
    except DataError as error:
        raise DataError(error.what, where=where, remedy=error.remedy) from None


def _plain(part: str, answer: str) -> str:
    """The one number of a final answer."""
    final = behind_equals(boxed(part) or part)
    if len(final) > LONGEST:
        raise DataError(f"the answer {short(final)!r} is no plain number", where="", remedy=REMEDY)
    line = plainer(final)
    inside = numerals(line)
    if not inside:
        raise DataError(f"the answer {short(answer)!r} holds no number", where="", remedy=REMEDY)
    several = line[: inside[0].start].rstrip().endswith((",", ";")) or listed(line, inside[0])
    if len(inside) > 1 or inside[0].text is None or several or _ANOTHER.search(line):
        raise DataError(f"the answer {short(part or answer)!r} is no plain number", where="", remedy=REMEDY)
    return inside[0].text
