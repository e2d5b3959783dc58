"""From records to what an objective learns from: as they are, or as what they also say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from twofold.data.lazy import Read
from twofold.errors import DataError
from twofold.objectives.base import Lesson, Objective, lesson
from twofold.records import Demonstration, Labelled, Pair, Ranking, Record, Request, Task, said

_BRING: dict[Lesson, str] = {
    "pairs": "bring prompt, chosen and rejected, or set objective.kind=sft",
    "triples": "bring prompt, gold, chosen and rejected",
    "rankings": "bring prompt and completions (best first), or pairs",
    "labels": "bring prompt, completion and label, or pairs",
    "demonstrations": "keep the desirable rows alone",
    "prompts": "bring prompts, with answers where a verifier rates",
}

_ASKED = {
    "scores": "bring a number for each completion, or set objective.alpha=0: the best alone is the label",
    "margin": "bring a number by how much the better leads, or set objective.margin to one for all",
    "probability": "bring how likely chosen is to win, or set objective.probability to one number for all",
}


def as_lessons(records: Sequence[Record], objective: Objective, wanted: Lesson | None = None) -> Sequence[Record]:
    """The rows of `records` for `objective`, or for an algorithm that makes of them what is `wanted`; a pair teaches
    labels twice. Raises DataError for a row without any, where rows are not held in memory when they are read."""
    wanted = wanted or lesson(objective)
    reading = partial(_lessons, objective=objective, wanted=wanted)
    if isinstance(records, list):
        return [row for record in records for row in reading(record)]
    return Read(records, reading, f"{wanted} {sorted(objective.requires)}")


def _lessons(record: Record, objective: Objective, wanted: Lesson) -> list[Record]:
    rows = _taught(record, wanted)
    if not rows:
        raise DataError(
            f"{type(objective).__name__} learns from {wanted}, and this row is {_called(record)}",
            where=str(record.source),
            remedy=_BRING[wanted],
        )
    lacking = next((field for row in rows if (field := _lacks(row, objective))), None)
    if lacking is not None:
        raise DataError(
            f"{type(objective).__name__} as set here asks for `{lacking}`, and this row has none",
            where=str(record.source),
            remedy=_ASKED[lacking],
        )
    return rows


def _lacks(record: Record, objective: Objective) -> str | None:
    """The field that `objective` asks of `record` beside its texts and does not find."""
    if "score" in objective.requires and isinstance(record, Ranking) and record.scores is None:
        return "scores"
    if "margin" in objective.requires and isinstance(record, Pair | Ranking) and record.margin is None:
        return "margin"
    if "win_rate" in objective.requires and isinstance(record, Pair) and record.probability is None:
        return "probability"
    return None


def _taught(record: Record, wanted: Lesson) -> list[Record]:
    """What `record` says in the way that is `wanted`; nothing where it does not say that."""
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
            best = None if isinstance(record, Labelled) and not record.desirable else next(iter(said(record)), None)
            return [Request(prompt, source) if best is None else Task(prompt, best[1], source)]
        case "labels", Pair():
            sides = (record.chosen, True), (record.rejected, False)
            return [Labelled(prompt, completion, desirable, source) for completion, desirable in sides]
        case "demonstrations", Pair():
            return [Demonstration(prompt, record.chosen, source)]
        case "demonstrations", Ranking():
            return [Demonstration(prompt, record.completions[0], source)]
        case "demonstrations", Task():
            return [Demonstration(prompt, record.answer, source)]
        case "demonstrations", Labelled(desirable=True):
            return [Demonstration(prompt, record.completion, source)]
        case _:
            return []


def _called(record: Record) -> str:
    names: dict[type[Record], str] = {
        Pair: "a pair", Ranking: "a ranking", Demonstration: "a demonstration", Task: "a problem with its answer",
        Request: "a prompt alone",
    }  # fmt: skip
    if isinstance(record, Labelled):
        return "a desirable completion" if record.desirable else "an undesirable completion"
    return names[type(record)]
