"""The rows of a run by their use: read, split, checked against overlap, and as the kind that a learner takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from twofold.data.encode import Encoded, encode
from twofold.data.formats import Table
from twofold.data.kinds import RowNeeds, imitated, is_wrong, rows_of_kind
from twofold.data.lazy import MappedRows, concat
from twofold.data.load import load
from twofold.data.reading import Reading
from twofold.data.settings import DataBeside, DataSettings, DataSource, DataSplit
from twofold.data.split import alike, refuse_overlap, split_by_prompt
from twofold.data.stored_groups import encode_stored
from twofold.data.tokenize import Encoder
from twofold.errors import DataError
from twofold.progress import Progress
from twofold.records import Record, Request, Task, completion_fields


@dataclass(frozen=True)
class Dataset:
    """The rows of a run by their use; no prompt is trained on and measured on."""

    train: Sequence[Record]
    generator: Sequence[Record]
    heldout: Sequence[Record]
    tasks: Sequence[Task]
    tables: Mapping[str, Table] = field(default_factory=dict[str, Table])
    alike: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many rows to measure on are nearly trained on, by their use."""
    also: Sequence[Record] = ()
    """Rows next to those to train on."""

    def of_kind(self, needs: RowNeeds, also: RowNeeds | None = None) -> Dataset:
        """With the rows to train and to measure the objective on as `needs` has them, and the others as `also`."""
        others = rows_of_kind(self.also, also) if also is not None else self.also
        train, heldout = (rows_of_kind(rows, needs) for rows in (self.train, self.heldout))
        return replace(self, train=train, heldout=heldout, also=others)


@dataclass(frozen=True)
class Reader:
    """Reads the files of `data`; `cache` keeps rows that are too many to hold, `seed` splits."""

    data: DataSettings
    cache: Path
    seed: int
    progress: Progress

    def read(self, tasks: DataSplit | None, rows: Sequence[Record] | None = None) -> Dataset:
        """Check, read, split and check against overlap. `rows` replace those of `data.train`'s files. Raises DataError
        for whatever `twofold data check` calls an error; `progress` gets its warnings."""
        tables = dict[str, Table]()
        if rows is None:
            sources = self.data.sources
            for number, each in enumerate(sources, 1):
                alone = isinstance(self.data.train, str) and len(sources) == 1
                tables["train" if alone else f"train {number}"] = self._table(each)
            rows = concat([table.records for table in tables.values()])
        else:
            rows = list(rows)
        heldout, train = self._split(self.data.heldout, "heldout", rows, tables)
        generator, train = self._split(self.data.generator, "generator", train, tables)
        measured, _ = self._split(tasks, "tasks", train, tables)
        also: Sequence[Record] = []
        if self.data.also is not None:
            tables["also"] = self._table(self.data.also)
            also = tables["also"].records
        refuse_overlap(train, generator)
        trained, unseen = concat([train, generator, also]), {"heldout": heldout, "tasks": measured}
        for records in unseen.values():
            refuse_overlap(trained, records)
        near = {name: count for name, records in unseen.items() if (count := alike(trained, records))}
        wrong = next((r for r in measured if not isinstance(r, Task)), None)
        if wrong is not None:
            what, remedy = "evaluation.tasks need a prompt and an answer", "provide the answer, or leave the row out"
            raise DataError(what, where=str(wrong.source), remedy=remedy)
        solved = [t for t in measured if isinstance(t, Task)]
        return Dataset(train, as_tasks(generator), heldout, solved, tables, near, also)

    def _table(self, each: DataSource | DataSplit | DataBeside) -> Table:
        stream = isinstance(each, DataSource) and each.stream
        data, how = self.data, (each.columns, each.split, each.limit, stream)
        reading = Reading(each.file or "", *how, accept=data.accept, ignore=data.ignore, bounds=data.bounds)
        return load(reading, self.cache, self.progress)

    def _split(
        self, wanted: DataSplit | None, name: str, rows: Sequence[Record], tables: dict[str, Table]
    ) -> tuple[Sequence[Record], Sequence[Record]]:
        """The rows of a split and what is left of `rows`."""
        if wanted is None:
            return [], rows
        if wanted.file is not None:
            tables[name] = self._table(wanted)
            return tables[name].records, rows
        try:
            return split_by_prompt(rows, count=wanted.count, fraction=wanted.fraction, seed=self.seed)
        except DataError as error:
            where = "evaluation.tasks" if name == "tasks" else f"data.{name}"
            raise DataError(error.what, where=where, remedy=error.remedy) from None


def encode_rows(
    rows: Sequence[Record], encoder: Encoder, folder: Path, progress: Progress, workers: int = 0
) -> Encoded:
    """The groups of `rows`, made by this number of `workers`. They are on disk if the rows are."""
    if isinstance(rows, list):
        return encode(rows, encoder, progress, workers=workers)
    return encode_stored(rows, encoder, folder, progress, workers)


def as_tasks(records: Sequence[Record]) -> Sequence[Record]:
    """Problems for a generator."""
    if isinstance(records, list):
        return [_as_task(record) for record in records]
    return MappedRows(records, lambda record: [_as_task(record)], "tasks")


def _as_task(record: Record) -> Task:
    """A generator problem: a task, or the best completion of a prompt as its ground truth."""
    if is_wrong(record):
        what, remedy = "an undesirable completion is no ground truth", "leave the row out of data.generator"
        raise DataError(what, where=str(record.source), remedy=remedy)
    if isinstance(record, Request):
        what = "a prompt without an answer has no reference answer"
        raise DataError(what, where=str(record.source), remedy="provide its answer")
    if getattr(record, "weight", None) is not None:
        what, remedy = "`weight` is filled, and a generator does not read it", "drop it: data.ignore=[weight]"
        raise DataError(what, where=str(record.source), remedy=remedy)
    return imitated(record, completion_fields(record)[0][1])
