"""The rows that choose and the rows that confirm: read, and refused where a prompt is on two sides."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twofold.data.formats import read
from twofold.data.lazy import concat
from twofold.data.reading import Reading
from twofold.data.split import overlaps, problem
from twofold.errors import DataError, LeakError
from twofold.evaluation.rows import Needs, rows_of
from twofold.records import Record
from twofold.runs.tuning.settings import Rows, TuneSettings


@dataclass(frozen=True)
class Items:
    """Rows that are measured on; `prompts` are digests of their prompts, in their order."""

    name: str
    records: Sequence[Any]
    prompts: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Identifies the rows with their answers."""
        return hashlib.sha256(repr([*self.records]).encode()).hexdigest()[:16]


def read_items(settings: TuneSettings) -> tuple[Items, Items]:
    """The development rows and the fresh ones. Raises LeakError if they have a prompt in common."""
    development = _read(settings.development, "development", settings.evaluate.task)
    confirm = _read(settings.confirm, "confirm", settings.evaluate.task)
    if shared := overlaps(development.records, confirm.records):
        named = ", ".join(f"{b.source} = {a.source}" for a, b in shared[:3]) + (" …" if len(shared) > 3 else "")
        what = f"{len(shared)} of {len(confirm.records)} rows have a prompt of the development rows: {named}"
        remedy = "confirm on rows that chose nothing: another file, or `skip` and `limit` of the same one"
        raise LeakError(what, where=f"confirm.file={settings.confirm.file}", remedy=remedy)
    return development, confirm


def refuse_trained(items: Items, trained: Sequence[Sequence[Record]], method: str) -> None:
    """Raise LeakError if `method` trains on the prompt of one of the items."""
    _refuse(items, trained, f"{method} trains on", "remove these rows from the training data, or measure on others")


def refuse_measured(confirm: Items, measured: Mapping[str, Sequence[Record]], method: str) -> None:
    """Raise LeakError if the trials of `method` are measured on fresh rows while they are trained."""
    for key, records in measured.items():
        remedy = f"leave it out here: `settings: {{{key}: null}}`"
        _refuse(confirm, [records], f"{key} of {method} has", remedy)


def refuse_used(confirm: Items, used: Collection[str], out: str) -> None:
    """Raise LeakError if rows to confirm on were used before in this folder; `used` has their digests."""
    if again := sum(digest in used for digest in confirm.prompts):
        what = f"{again} of {len(confirm.prompts)} rows have confirmed other trials in {out}: they are no longer fresh"
        remedy = "confirm on rows that nothing was chosen or confirmed on; the used ones may become development rows"
        raise LeakError(what, where=f"confirm: {confirm.name}", remedy=remedy)


def _read(rows: Rows, role: str, task: Needs) -> Items:
    limit = None if rows.limit is None else rows.skip + rows.limit
    read_rows = read(Reading(rows.file, rows.columns, rows.split, limit)).records
    if len(read_rows) <= rows.skip:
        what = f"has {len(read_rows)} rows, and {role}.skip leaves out {rows.skip}"
        raise DataError(what, where=rows.file, remedy="skip fewer rows")
    records = rows_of(read_rows[rows.skip :], task)
    prompts = tuple(hashlib.sha256(problem(record).encode()).hexdigest()[:16] for record in records)
    return Items(f"{role} rows {rows.file}", records, prompts)


def _refuse(items: Items, sides: Sequence[Sequence[Record]], what: str, remedy: str) -> None:
    shared = overlaps(concat([side for side in sides if side]), items.records) if any(sides) else []
    if shared:
        named = ", ".join(f"{b.source} = {a.source}" for a, b in shared[:3]) + (" …" if len(shared) > 3 else "")
        words = f"{what} {len(shared)} of {len(items.records)} {items.name.partition(' ')[0]} rows: {named}"
        raise LeakError(words, where=items.name, remedy=remedy)
