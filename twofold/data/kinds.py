"""Converts records to rows of the kind that an objective learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from twofold.batch import DataKind
from twofold.data.lazy import MappedRows
from twofold.errors import DataError
from twofold.records import Completion, Demonstration, Labelled, Pair, Ranking, Record, Request, Task, completion_fields

_BRING: dict[DataKind, str] = {
    "pairs": "provide prompt, chosen and rejected, or set objective.kind=sft",
    "triples": "provide prompt, gold, chosen and rejected",
    "rankings": "provide prompt and completions (best first), or pairs",
    "labels": "provide prompt, completion and label, or pairs",
    "demonstrations": "keep only the desirable rows",
    "prompts": "provide prompts, with answers where a verifier rates",
}

_REMEDIES = {
    "scores": "provide a number for each completion, or set objective.alpha=0: only the best is the label",
    "margin": "provide a number by how much the better leads, or set objective.margin to one for all",
    "probability": "provide how likely chosen is to win, or set objective.probability to one number for all",
}


@dataclass(frozen=True)
class RowNeeds:
    """The rows that an objective needs: their kind, the columns in addition to texts, and the objective's name in
    errors."""

    kind: DataKind
    columns: tuple[str, ...]
    learner: str


def rows_of_kind(records: Sequence[Record], needs: RowNeeds) -> Sequence[Record]:
    """The rows of `records` as `needs` has them; a pair makes two labels. Raises DataError for a row that makes none,
    where rows are not held in memory when they are read."""
    if isinstance(records, list):
        return [row for record in records for row in _rows_of(record, needs)]
    return MappedRows(records, partial(_rows_of, needs=needs), f"{needs.kind} {sorted(needs.columns)}")


def _rows_of(record: Record, needs: RowNeeds) -> list[Record]:
    rows = _converted(record, needs.kind)
    if not rows:
        raise DataError(
            f"{needs.learner} learns from {needs.kind}, and this row is {_described(record)}",
            where=str(record.source),
            remedy=_BRING[needs.kind],
        )
    unread = _unread_field(record, needs)
    if unread is not None:
        field, reader = unread
        raise DataError(
            f"`{field}` is filled, and {needs.learner} as set here does not read it",
            where=str(record.source),
            remedy=f"set {reader}, or let it go: data.ignore=[{field}]",
        )
    lacking = next((field for row in rows if (field := _missing_field(row, needs.columns))), None)
    if lacking is not None:
        raise DataError(
            f"{needs.learner} as set here asks for `{lacking}`, and this row has none",
            where=str(record.source),
            remedy=_REMEDIES[lacking],
        )
    return rows


_READERS = {
    "margin": ("margin", "objective.margin=data under bradley_terry"),
    "probability": ("win_rate", "objective.probability=data under sppo"),
}


def _unread_field(record: Record, needs: RowNeeds) -> tuple[str, str] | None:
    """Information of `record` on its completions that is not read, and what would read it."""
    for field, (column, reader) in _READERS.items():
        read = column in needs.columns and needs.kind != "prompts"  # what answers prompts makes pairs of its own
        if getattr(record, field, None) is not None and not read:
            return field, reader
    return None


def _missing_field(record: Record, columns: tuple[str, ...]) -> str | None:
    """The field that `columns` are made of and that `record` does not have."""
    if "score" in columns and isinstance(record, Ranking) and record.scores is None:
        return "scores"
    if "margin" in columns and isinstance(record, Pair | Ranking) and record.margin is None:
        return "margin"
    if "win_rate" in columns and isinstance(record, Pair) and record.probability is None:
        return "probability"
    return None


def _converted(record: Record, wanted: DataKind) -> list[Record]:
    """The data of `record` in the `wanted` kind; nothing if it has none."""
    prompt, source = record.prompt, record.source
    match wanted, record:
        case "pairs", Pair():
            return [replace(record, gold=None)]
        case "triples", Pair(gold=str()):
            return [record]
        case ("rankings", Ranking()) | ("labels", Labelled()) | ("demonstrations", Demonstration()):
            return [record]
        case "rankings", Pair():
            return [Ranking(prompt, (record.chosen, record.rejected), source, margin=record.margin)]
        case "prompts", _:
            best = _final_text(best_completion(record))
            return [Request(prompt, source) if best is None else Task(prompt, best, source)]
        case "labels", Pair():
            sides = (record.chosen, True), (record.rejected, False)
            return [Labelled(prompt, completion, desirable, source) for completion, desirable in sides]
        case "demonstrations", _:
            best = best_completion(record)
            return [] if best is None else [Demonstration(prompt, best, source)]
        case _:
            return []


def best_completion(record: Record) -> Completion | None:
    """The best answer that `record` holds; None where it holds no good one."""
    if isinstance(record, Labelled) and not record.desirable:
        return None
    return next((told for _, told in completion_fields(record)), None)


def _final_text(completion: Completion | None) -> str | None:
    """What a completion answers in the end; None for one that ends with a call."""
    if completion is None or isinstance(completion, str):
        return completion
    return completion[-1].content or None


def _described(record: Record) -> str:
    names: dict[type[Record], str] = {
        Pair: "a pair", Ranking: "a ranking", Demonstration: "a demonstration", Task: "a problem with its answer",
        Request: "only a prompt",
    }  # fmt: skip
    if isinstance(record, Labelled):
        return "a desirable completion" if record.desirable else "an undesirable completion"
    return names[type(record)]
