"""Judged candidates as rows that training reads: pairs, rankings or labeled completions, each with its provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from twofold.data.row_fields import row_fields
from twofold.judges.questions import Question
from twofold.records import Candidate, Completion

Form = Literal["pairs", "rankings", "labels"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """A question with a score for each of its candidates."""

    question: Question
    scores: tuple[float, ...]
    judge: Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """Which candidates become rows. Pairs have scores that differ by at least `gap` (by more than 0 if it is 0), best
    over worst or `all_pairs`. A completion is good from `threshold` on and bad below it. It is left out at the judge's
    exact `middle`."""

    form: Form = "pairs"
    all_pairs: bool = False
    gap: float = 0.0
    threshold: float | None = None
    middle: float | None = None


def rows_of(judged: Judged, choice: Choice) -> Iterator[Row]:
    """The rows of one question; none if all its candidates have the same score."""
    match choice.form:
        case "pairs":
            yield from _pairs(judged, choice)
        case "rankings":
            yield from _rankings(judged)
        case "labels":
            yield from _labels(judged, choice)


def _pairs(judged: Judged, choice: Choice) -> Iterator[Row]:
    order = _ranked(judged.scores)
    worst = next((i for i in order if judged.scores[i] == judged.scores[order[-1]]), None) if order else None
    found = combinations(order, 2) if choice.all_pairs else [(order[0], worst)] if worst is not None else []
    for a, b in found:
        better = judged.scores[a] - judged.scores[b]
        if better > 0 and better >= choice.gap:
            chosen, rejected = (judged.question.candidates[i] for i in (a, b))
            told = {"chosen": chosen.origin, "rejected": rejected.origin, **_provenance(judged, (a, b))}
            fields = fields_of(judged.question, chosen=chosen.completion, rejected=rejected.completion)
            yield {**fields, "provenance": told}


def _rankings(judged: Judged) -> Iterator[Row]:
    """Equal scores have no order, so only the first candidate of each score is used."""
    firsts: dict[float, int] = {}
    for i in _ranked(judged.scores):
        firsts.setdefault(judged.scores[i], i)
    kept = list(firsts.values())
    if len(kept) > 1:
        candidates = [judged.question.candidates[i] for i in kept]
        told = {"completions": [c.origin for c in candidates], **_provenance(judged, kept)}
        scores = [judged.scores[i] for i in kept]
        fields = fields_of(judged.question, completions=[c.completion for c in candidates])
        yield {**fields, "scores": scores, "provenance": told}


def _labels(judged: Judged, choice: Choice) -> Iterator[Row]:
    for i, (candidate, score) in enumerate(zip(judged.question.candidates, judged.scores, strict=True)):
        if choice.threshold is None and score == choice.middle:
            continue
        bound = choice.middle if choice.threshold is None else choice.threshold
        assert bound is not None
        told = {"completion": candidate.origin, **_provenance(judged, [i])}
        fields = fields_of(judged.question, completion=candidate.completion)
        yield {**fields, "label": score >= bound, "provenance": told}


def unjudged(question: Question) -> Row:
    """A question with its candidates in no order: for `twofold data label`; training refuses it."""
    told = {"answers": [c.origin for c in question.candidates], "source": str(question.source)}
    return {**fields_of(question, answers=[c.completion for c in question.candidates]), "provenance": told}


def worth_judging(candidates: Sequence[Candidate], *, keep_truncated: bool) -> tuple[Candidate, ...]:
    """Drop empty answers, and truncated ones: a model would learn to stop at that point."""
    return tuple(c for c in candidates if not c.is_empty and (keep_truncated or not c.truncated))


def _ranked(scores: Sequence[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda i: -scores[i])


def fields_of(question: Question, **completions: Completion | list[Completion]) -> Row:
    """The part of a row from its question: the prompt, the ground truth if there is one, and completions."""
    answer = {} if question.answer is None else {"answer": question.answer}
    fields = row_fields(question.prompt, **completions)
    return {name: fields.pop(name) for name in ("prompt", "tools") if name in fields} | answer | fields


def _provenance(judged: Judged, places: Sequence[int]) -> Row:
    scores = [judged.scores[i] for i in places]
    return {"judge": dict(judged.judge), "scores": scores, "source": str(judged.question.source)}
