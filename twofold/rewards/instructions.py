"""Verifiable instructions: checks whether a completion obeys every rule in its reference answer.

The reference answer has a rule per line, or several between semicolons:

    at most 15 words | at least 2 lines | exactly 3 bullets
    lowercase | uppercase
    starts with "Dear" | ends with "?" | with "sea" | without "the"

or the instructions of IFEval as JSON, which `ifeval.py` checks, strictly and loosely:

    [{"kind": "punctuation:no_comma"}, {"kind": "keywords:existence", "keywords": ["sea"]}]

*Strict* takes the completion as it is. *Flexible* also lets an introduction, a closing line or asterisks go, as the
loose accuracy of IFEval does: Zhou et al. (2023), arXiv 2311.07911. An empty completion obeys nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import eq, ge, le
from typing import TypeAlias

from twofold.errors import DataError
from twofold.rewards import ifeval
from twofold.rewards.verifier import Metric, Verdict

Check: TypeAlias = Callable[[str], bool]

REMEDY = 'write a rule as `at most 15 words`, `exactly 3 bullets`, `lowercase`, `ends with "?"` or `without "the"`'
_COUNT = re.compile(r"(at most|at least|exactly) (\d{1,6}) (word|line|bullet)s?")
_RULE = re.compile(r'(?:"[^"]*"|[^;\n])+')
"""Up to a semicolon or a line end that is not between quotes."""
_PLACE = re.compile(r'(starts with|ends with|with|without) "([^"]+)"')
_COMPARED = {"at most": le, "at least": ge, "exactly": eq}
_UNITS: dict[str, Callable[[str], int]] = {
    "word": lambda text: len(text.split()),
    "line": lambda text: sum(bool(line.strip()) for line in text.splitlines()),
    "bullet": lambda text: sum(bool(re.match(r"\s*([-*•]|\d+[.)])\s+\S", line)) for line in text.splitlines()),
}
_CASES: dict[str, Check] = {
    "lowercase": lambda text: text == text.lower() != text.upper(),
    "uppercase": lambda text: text == text.upper() != text.lower(),
}
_PLACES: dict[str, Callable[[str, str], bool]] = {
    "starts with": lambda text, part: text.startswith(part),
    "ends with": lambda text, part: text.endswith(part),
    "with": lambda text, part: _has(text, part),
    "without": lambda text, part: not _has(text, part),
}


@lru_cache(maxsize=1024)
def checks(rules: str) -> tuple[Check, ...]:
    """A check for each rule; raises `DataError` for one that there is not, or for none."""
    found = tuple(_check(_spaced(rule)) for rule in _RULE.findall(rules) if rule.strip())
    if not found:
        raise DataError("the answer holds no rule", where="", remedy=REMEDY)
    return found


def _spaced(rule: str) -> str:
    """A rule with one space between its words, but for those between quotes."""
    words, quote, part = rule.strip().partition('"')
    return f"{' '.join(words.split())}{' ' * bool(quote)}{quote}{part}"


def judge(completion: str, rules: str) -> Verdict:
    """Whether `completion` obeys all of `rules`; raises `DataError` where they cannot be read."""
    if _is_json(rules):
        told = ifeval.instructions_of(rules)
        return Verdict(all(ifeval.strict(completion, told)), all(ifeval.loose(completion, told)))
    every = checks(rules)
    return Verdict(_obeys(completion, every), any(_obeys(text, every) for text in _variants(completion)))


def readable(rules: str, where: str) -> None:
    """Raise `DataError` at `where` unless every one of `rules` can be checked."""
    try:
        if _is_json(rules):
            return ifeval.require_packages(ifeval.instructions_of(rules))
        checks(rules)
    except DataError as error:
        raise DataError(error.what, where=where, remedy=error.remedy) from None


@dataclass(frozen=True)
class InstructionReward:
    """1 for a completion that obeys the rules of its ground truth, else 0."""

    metric: Metric = "strict"

    def __call__(self, prompt: str, completion: str, truth: str | None) -> float:
        assert truth is not None, "checked before anything is rated"
        return float(getattr(judge(completion, truth), self.metric))


def _is_json(rules: str) -> bool:
    return rules.lstrip().startswith("[")


def _check(rule: str) -> Check:
    if count := _COUNT.fullmatch(rule):
        compared, number, unit = _COMPARED[count[1]], int(count[2]), _UNITS[count[3]]
        return lambda text: compared(unit(text), number)
    if place := _PLACE.fullmatch(rule):
        holds, part = _PLACES[place[1]], place[2]
        return lambda text: holds(text, part)
    if rule in _CASES:
        return _CASES[rule]
    shown = rule if len(rule) <= 60 else f"{rule[:60]}…"
    raise DataError(f"the rule {shown!r} cannot be checked", where="", remedy=REMEDY)


def _obeys(text: str, every: Sequence[Check]) -> bool:
    text = text.strip()
    return bool(text) and all(check(text) for check in every)


def _variants(text: str) -> Iterator[str]:
    """The text, without its first line, its last, both; each with and without asterisks."""
    lines = text.strip().splitlines()
    for part in (lines, lines[1:], lines[:-1], lines[1:-1]):
        yield "\n".join(part)
        yield "\n".join(part).replace("*", "")


def _has(text: str, part: str) -> bool:
    """Whether `part` is in `text` as separate words, ignoring case."""
    return re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text, re.IGNORECASE) is not None
