"""The row formats that twofold reads, recognized by their keys: one module per family; `SHAPES` lists them all.

A new format is a function from `Fields` to a record, and a `Shape` in a tuple below. If two match, the first one is
used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from twofold.data.issues import Issue, nearest, quoted
from twofold.data.keys import filled, harmless, is_meant, says_again, texts_in, unread
from twofold.data.shapes import (
    comparisons,
    conversations,
    human_feedback,
    instructions,
    openai,
    pairs,
    rankings,
    single,
    solutions,
    steps,
)
from twofold.data.shapes.fields import Fields
from twofold.data.shapes.numbers import NUMBERS, read_numbers, with_numbers
from twofold.data.shapes.shape import Shape
from twofold.records import Record, Source

SHAPES: tuple[Shape, ...] = (
    *solutions.SHAPES,
    *openai.SHAPES,
    *comparisons.SHAPES,
    *rankings.SETS,
    *steps.SHAPES,
    *pairs.SHAPES,
    *conversations.PAIRS,
    *instructions.PAIRS,
    *rankings.SHAPES,
    *single.LABELLED,
    *conversations.LABELLED,
    *instructions.LABELLED,
    *single.CHECKED,
    *single.DEMONSTRATIONS,
    *conversations.DEMONSTRATIONS,
    *instructions.DEMONSTRATIONS,
    *single.TASKS,
    *solutions.PROBLEMS,
    *single.INSTRUCTED,
    *single.CHOICES,
    *human_feedback.SHAPES,
    *pairs.IMPLICIT,
    *single.ALONE,
)
_RICHER = {s.name: tuple(o for o in SHAPES if set(o.keys) > set(s.keys)) for s in SHAPES}
_KEYS = frozenset(key for shape in SHAPES for key in shape.keys)
_BY_NAME = {shape.name: shape for shape in SHAPES}
_LONGEST_KEYS = 1000
"""Characters of the keys of a row for which a plan is stored."""
FIELDS = tuple(dict.fromkeys([*(key for shape in SHAPES for key in (*shape.keys, *shape.optional)), *NUMBERS]))


def detect(row: Mapping[str, Any], named: Collection[str] = ()) -> Shape | None:
    """The first shape whose keys the row has; one whose keys are all filled goes before one with nulls.

    Shapes that read every one of the `named` fields (those of a column map) go before all others.
    """
    fitting = [s for s in SHAPES if all(k in row for k in s.keys) and s.fits(row)]
    filled = [s for s in fitting if all(row[k] is not None for k in s.keys)]
    asked = [s for s in (*filled, *fitting) if named and set(named) <= {*s.keys, *s.optional, *NUMBERS}]
    return next(iter([*asked, *filled, *fitting]), None)


def parse(
    shape: Shape,
    row: Mapping[str, Any],
    source: Source,
    remarks: list[Issue],
    named: Collection[str] = (),
    whole: bool = False,
) -> Record | list[Issue]:
    """The record of the row in the format `shape`, or all its errors. Warnings about a usable row go to `remarks`. If
    fields are `named`, they selected the format, and keys of other formats may be unread; with `whole`, unknown keys
    too."""
    plan = _plan_of(shape, row)
    missing = plan.missing
    other = detect(row) if missing else _says_more(plan.richer, row)
    if other is not None:
        return [_mixed(other, shape, source)]
    if missing:
        return [_missing(key, shape, row, source) for key in missing]
    fields = Fields(row, source)
    record = with_numbers(shape.parse(fields), fields)
    if not fields.faults and not shape.fits(row) and (other := detect(row)) not in (None, shape):
        return [_mixed(other, shape, source)]
    left = _remaining(shape, row, read_numbers(record)) if any(filled(row[key]) for key in plan.others) else {}
    if not left and not fields.pictures.placed_any:
        remarks += fields.remarks
        return fields.faults or record
    _place_pictures(fields, left)
    unknown_keys = [key for key in left if whole and not is_meant(key)]
    fields.refuse_unread("", left, {*unknown_keys, *(_KEYS if named else ())})
    remarks += fields.remarks
    return fields.faults or record


def _mixed(other: Shape, shape: Shape, source: Source) -> Issue:
    reason = f"has the shape {other.name}, but the rows before it {shape.name}"
    return Issue(source.file, source.row, "", reason, "keep one shape per file", check="mixed formats")


def _place_pictures(fields: Fields, left: dict[str, Any]) -> None:
    """Take the column of pictures that have places in the messages out of what is `left` unread."""
    pictures = fields.pictures
    if not pictures.placed_any:
        return
    if pictures.column and pictures.unplaced:
        reason = f"names {pictures.unplaced} more pictures than the messages have places for"
        fields.fault(pictures.column, reason, 'write a part {"type": "image"} or <image> for each', "no picture")
    left.pop(pictures.column, None)
    reason = "holds pictures, which are read and which no model here sees: training refuses the row"
    fields.remark(pictures.column, reason, "leave the row out of training", "pictures")


def _remaining(shape: Shape, row: Mapping[str, Any], numbers: Collection[str]) -> dict[str, Any]:
    """The keys of a row that its format does not read and that do not repeat what it reads."""
    used = {*shape.keys, *shape.optional, *shape.beside(row), *numbers}
    left = {k: row[k] for k in unread(row, used)}
    if left:
        known = set(texts_in([v for k, v in row.items() if k in used]))
        left = {k: v for k, v in left.items() if not says_again(k, v, known)}
    return left


def is_unjudged(row: Mapping[str, Any]) -> bool:
    """Whether a row has several completions without a preference."""
    answers = row.get("answers")
    return "prompt" in row and isinstance(answers, list | tuple) and all(isinstance(a, str) for a in answers)


def unknown(row: Mapping[str, Any], source: Source) -> Issue:
    """The fault of a row that fits no shape: the keys seen, the nearest ones, the shapes known."""
    if is_unjudged(row):
        reason = "are in no order: there is no preference"
        remedy = (
            "judge them with `twofold data label` or `twofold data build`; listed best first they are `completions`"
        )
        return Issue(source.file, source.row, "answers", reason, remedy, check="unjudged answers")
    wanting = [s for s in SHAPES if any(k not in row for k in s.keys)]
    closest = max(wanting, key=lambda s: _closeness(s, row))
    hints = [hint for key in closest.keys if key not in row and (hint := _hint(key, closest, row))]
    everyday = [*pairs.SHAPES, *single.LABELLED, *single.DEMONSTRATIONS, *conversations.DEMONSTRATIONS, *single.TASKS]
    known = f"common shapes: {'; '.join(s.name for s in everyday)} (all in docs/data.md)"
    mapping = "" if hints else "; name yours with `columns`, e.g. columns.prompt=instruction"
    reason = f"no known shape has the columns {quoted(map(str, row)) or '(none)'}"
    return Issue(source.file, source.row, "", reason, " ".join([*hints, known + mapping]), check="unknown shape")


class _Plan(NamedTuple):
    """What follows from the keys of a row, whatever their values: which ones of its shape are `missing`, which `richer`
    shapes they are enough for, and which `others` the shape does not read although they may have content."""

    missing: tuple[str, ...]
    richer: tuple[Shape, ...]
    others: tuple[str, ...]


def _plan_of(shape: Shape, row: Mapping[str, Any]) -> _Plan:
    """The plan of a row, made once for all rows with its keys."""
    names = tuple(row)
    stored = sum(map(len, names)) <= _LONGEST_KEYS
    return (_plan if stored else _plan.__wrapped__)(shape.name, names)


@lru_cache(256)
def _plan(name: str, names: tuple[str, ...]) -> _Plan:
    shape = _BY_NAME[name]
    missing = tuple(key for key in shape.keys if key not in names)
    richer = tuple(other for other in _RICHER[name] if all(key in names for key in other.keys))
    read = {*shape.keys, *shape.optional}
    return _Plan(missing, richer, tuple(key for key in names if key not in read and not harmless(key)))


def _says_more(richer: Sequence[Shape], row: Mapping[str, Any]) -> Shape | None:
    """The one of the `richer` shapes that the row fills with keys beyond those of the file's, so that reading it as one
    would lose some."""
    return next((s for s in richer if all(row[k] is not None for k in s.keys) and s.fits(row)), None)


def _closeness(shape: Shape, row: Mapping[str, Any]) -> float:
    near = sum(1.0 if k in row else 0.9 if _lookalike(k, shape, row) else 0.0 for k in shape.keys)
    return near / len(shape.keys) + near / 100


def _missing(key: str, shape: Shape, row: Mapping[str, Any], source: Source) -> Issue:
    remedy = _hint(key, shape, row) or f"the file's shape is {shape.name}: add `{key}` or remove the row"
    reason = f"is missing; the row has {quoted(map(str, row)) or 'no keys'}"
    return Issue(source.file, source.row, key, reason, remedy, check="missing field")


def _hint(key: str, shape: Shape, row: Mapping[str, Any]) -> str:
    near = _lookalike(key, shape, row)
    return f"`{near}`: did you mean `{key}`?" if near else ""


def _lookalike(key: str, shape: Shape, row: Mapping[str, Any]) -> str | None:
    return nearest(key, [str(k) for k in row if k not in shape.keys])
