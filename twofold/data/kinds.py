"""Converts records to rows of the kind that an objective learns from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from twofold.batch import DataKind
from twofold.data.lazy import MappedRows
from twofold.errors import DataError
from twofold.records import (
    Completion,
    Demonstration,
    Labelled,
    Pair,
    Ranking,
    Record,
    Request,
    Steps,
    Task,
    completion_fields,
    final_text,
)

_BRING: dict[DataKind, str] = {
    "pairs": "provide prompt, chosen and rejected, or set objective.kind=sft",
    "triples": "provide prompt, gold, chosen and rejected",
    "rankings": "provide prompt and completions (best first), or pairs",
    "labels": "provide prompt, completion and label, or pairs",
    "steps": "provide prompt, completions (the steps of one solution) and labels",
    "demonstrations": "keep only the desirable rows",
    "prompts": "provide prompts, with answers where a verifier rates",
}

_REMEDIES = {
    "scores": "provide a number for each completion, or set objective.alpha=0: only the best is the label",
    "margin": "provide a number by how much the better leads, or set {margin} to one for all",
    "probability": "provide how likely chosen is to win, or set objective.probability to one number for all",
}


@dataclass(frozen=True)
class RowNeeds:
    """The rows that an objective needs: their kind, the columns in addition to texts, and the objective's name in
    errors. `margin` is its setting that can read each row's margin, if it has one. `imitates`: the answers to prompts
    are trained on, and not only checked against."""

    kind: DataKind
    columns: tuple[str, ...]
    learner: str
    margin: str | None = None
    imitates: bool = False


def rows_of_kind(records: Sequence[Record], needs: RowNeeds) -> Sequence[Record]:
    """The rows of `records` as `needs` has them; a pair makes two labels. Raises DataError for a row that makes none,
    where rows are not held in memory when they are read."""
    if isinstance(records, list):
        return [row for record in records for row in _rows_of(record, needs)]
    return MappedRows(records, partial(_rows_of, needs=needs), f"{needs.kind} {sorted(needs.columns)} {needs.imitates}")


def _rows_of(record: Record, needs: RowNeeds) -> list[Record]:
    rows = _converted(record, needs)
    if not rows:
        raise DataError(
            f"{needs.learner} learns from {needs.kind}, and this row is {_described(record)}",
            where=str(record.source),
            remedy=_BRING[needs.kind],
        )
    _refuse_impossible(record)
    unread = next((name for name, reads in _READ.items() if has(record, name) and not reads(needs)), None)
    if unread is not None:
        reader = f"set objective.{needs.margin}=data, or " if unread == "margin" and needs.margin else ""
        raise DataError(
            f"`{unread}` is filled, and {needs.learner} as set here does not read it",
            where=str(record.source),
            remedy=f"{reader}let it go: data.ignore=[{unread}]",
        )
    lacking = next((field for row in rows if (field := _missing_field(row, needs.columns))), None)
    if lacking is not None:
        raise DataError(
            f"{needs.learner} as set here asks for `{lacking}`, and this row has none",
            where=str(record.source),
            remedy=_REMEDIES[lacking].format(margin=f"objective.{needs.margin or 'margin'}"),
        )
    return rows


_READ: Mapping[str, Callable[[RowNeeds], bool]] = {
    "margin": lambda needs: "margin" in needs.columns and needs.kind != "prompts",
    "probability": lambda needs: needs.kind not in ("prompts", "demonstrations"),
    "weight": lambda needs: needs.kind != "prompts",
}
"""The numbers of a row, and who reads them. What answers prompts makes pairs of its own; what imitates one completion
has no order to doubt."""


def has(record: Record, number: str) -> bool:
    """Whether a record has a number of this name."""
    return getattr(record, number, None) is not None


def _refuse_impossible(record: Record) -> None:
    """Raise DataError for numbers that files are refused for, of a record that came from Python."""
    for name, most in (("weight", math.inf), ("probability", 1.0)):
        value = getattr(record, name, None)
        if value is not None and not (0 <= value <= most and math.isfinite(value)):
            remedy = "provide a number from 0 up" if most > 1 else "provide a number from 0 to 1"
            raise DataError(f"`{name}` is {value:g}", where=str(record.source), remedy=remedy)
    if isinstance(record, Ranking) and record.probability is not None and len(record.completions) > 2:
        what, remedy = "`probability` is filled, and more than two completions have no other order", "leave it out"
        raise DataError(what, where=str(record.source), remedy=remedy)


def _missing_field(record: Record, columns: tuple[str, ...]) -> str | None:
    """The field that `columns` are made of and that `record` does not have."""
    if "score" in columns and isinstance(record, Ranking) and record.scores is None:
        return "scores"
    if "margin" in columns and isinstance(record, Pair | Ranking) and record.margin is None:
        return "margin"
    if "win_rate" in columns and isinstance(record, Pair) and record.probability is None:
        return "probability"
    return None


def imitated(record: Record, best: Completion) -> Task:
    """A problem whose reference answer a policy imitates. Raises DataError for one of several turns: a sample is one
    turn, so that no sample could equal it, and the log-ratios of both are of different conversations."""
    if not isinstance(best, str) and len(best) > 1:
        what = f"its reference answer has {len(best)} turns, and a sample is one turn: they cannot be compared"
        remedy = "end the row with its first answer, or train on whole conversations as pairs"
        raise DataError(what, where=str(record.source), remedy=remedy)
    if isinstance(record, Task):
        return record
    return Task(record.prompt, final_text(best), record.source, None if isinstance(best, str) else best)


def _converted(record: Record, needs: RowNeeds) -> list[Record]:
    """The data of `record` in the kind that is needed; nothing if it has none."""
    prompt, source, weight = record.prompt, record.source, getattr(record, "weight", None)
    match needs.kind, record:
        case "pairs", Pair():
            return [record if record.gold is None else replace(record, gold=None)]
        case "triples", Pair(gold=gold) if gold is not None:
            return [record]
        case (
            ("rankings", Ranking()) | ("labels", Labelled()) | ("steps", Steps()) | ("demonstrations", Demonstration())
        ):
            return [record]
        case "rankings", Pair():
            known = {name: getattr(record, name) for name in ("margin", "probability", "weight")}
            return [Ranking(prompt, (record.chosen, record.rejected), source, **known)]
        case "prompts", _:
            best = best_completion(record)
            if needs.imitates and best is not None:
                return [imitated(record, best)]
            text = record.answer if isinstance(record, Task) else "" if best is None else final_text(best)
            return [Task(prompt, text, source) if text else Request(prompt, source)]
        case "labels", Pair():
            sides = (record.chosen, True), (record.rejected, False)
            return [Labelled(prompt, text, good, source, record.probability, weight) for text, good in sides]
        case "demonstrations", _:
            best = best_completion(record)
            return [] if best is None else [Demonstration(prompt, best, source, weight)]
        case _:
            return []


def best_completion(record: Record) -> Completion | None:
    """The best answer that `record` holds; None where it holds no good one."""
    if is_wrong(record):
        return None
    return next((told for _, told in completion_fields(record)), None)


def is_wrong(record: Record) -> bool:
    """Whether `record` is a completion that was rated as bad, or a solution with a wrong step."""
    match record:
        case Labelled():
            return not record.desirable
        case Steps():
            return not record.is_right
        case _:
            return False


def _described(record: Record) -> str:
    names: dict[type[Record], str] = {
        Pair: "a pair", Ranking: "a ranking", Demonstration: "a demonstration", Task: "a problem with its answer",
        Request: "only a prompt", Steps: "a solution with rated steps",
    }  # fmt: skip
    if isinstance(record, Labelled):
        return "a desirable completion" if record.desirable else "an undesirable completion"
    return names[type(record)]
