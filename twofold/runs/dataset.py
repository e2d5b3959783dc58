"""The rows of a run by their use: read, split, and checked against overlap, as what its objective learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from twofold.algorithms import PDPO, Online
from twofold.config.load import load_recipe, validate
from twofold.config.schema import Portion, Recipe, Share
from twofold.data.encode import Encoded, encode
from twofold.data.formats import Table
from twofold.data.kinds import as_lessons
from twofold.data.lazy import Read, joined
from twofold.data.load import Reading, load
from twofold.data.split import refuse_overlap, split_by_prompt
from twofold.data.stored_groups import encode_stored
from twofold.data.tokenize import Encoder
from twofold.errors import DataError, RecipeError
from twofold.objectives.base import Objective, lesson, reading
from twofold.progress import Progress, Silent
from twofold.records import Labelled, Record, Request, Task, said

IN_MEMORY = "in memory"
"""The path of a model or of data that Python handed over."""


@dataclass(frozen=True)
class Records:
    """The rows of a run by their use; no prompt is trained on and measured on."""

    train: Sequence[Record]
    generator: Sequence[Record]
    heldout: Sequence[Record]
    tasks: Sequence[Task]
    tables: Mapping[str, Table] = field(default_factory=dict[str, Table])


def read_records(
    recipe: Recipe, objective: Objective, rows: Sequence[Record] | None = None, progress: Progress | None = None
) -> Records:
    """Check, read, split and check against overlap, as what `objective` learns from. `rows` stand in for `data.train`'s
    file. Raises DataError for whatever `twofold data check` calls an error, whose warnings `progress` is told, and
    RecipeError for what a reward model cannot do."""
    _refuse_speech(recipe, objective)
    found = _read_rows(recipe, rows, progress or Silent())
    wanted = "prompts" if isinstance(recipe.algorithm, Online) else lesson(objective)
    train, heldout = (as_lessons(rs, objective, wanted) for rs in (found.train, found.heldout))
    return replace(found, train=train, heldout=heldout)


def data_cache(recipe: Recipe) -> Path:
    """Where rows and tokens are kept that are too many to hold."""
    return Path(recipe.data.cache or Path(recipe.run) / "data-cache")


def _read_rows(recipe: Recipe, rows: Sequence[Record] | None, progress: Progress) -> Records:
    """The same as the rows are."""
    data, tables = recipe.data, dict[str, Table]()

    def read(each: Portion | Share) -> Table:
        stream = isinstance(each, Portion) and each.stream
        reading = Reading(each.file or "", each.columns, each.split, each.limit, stream, data.accept)
        return load(reading, data_cache(recipe), progress)

    if rows is None:
        for number, each in enumerate(data.portions, 1):
            name = "train" if isinstance(data.train, str) else f"train {number}"
            tables[name] = read(each)
        rows = joined([table.records for table in tables.values()])
    else:
        rows = list(rows)

    def share(wanted: Share | None, name: str, rows: Sequence[Record]) -> tuple[Sequence[Record], Sequence[Record]]:
        """The share's rows and what is left of `rows`."""
        if wanted is None:
            return [], rows
        if wanted.file is not None:
            tables[name] = read(wanted)
            return tables[name].records, rows
        return split_by_prompt(rows, count=wanted.count, fraction=wanted.fraction, seed=recipe.seed)

    heldout, train = share(data.heldout, "heldout", rows)
    generator, train = share(data.generator, "generator", train)
    tasks, _ = share(recipe.evaluation.tasks, "tasks", train)
    refuse_overlap(train, generator)
    for measured in (heldout, tasks):
        refuse_overlap(joined([train, generator]), measured)
    problems = as_tasks(generator)
    wrong = next((r for r in tasks if not isinstance(r, Task)), None)
    if wrong is not None:
        raise DataError("evaluation.tasks need a prompt and an answer", where=str(wrong.source))
    return Records(train, problems, heldout, [t for t in tasks if isinstance(t, Task)], tables)


def _refuse_speech(recipe: Recipe, objective: Objective) -> None:
    """A reward model says nothing: it can neither draft nor solve, and is compared with no reference."""
    asked = {
        "algorithm": isinstance(recipe.algorithm, PDPO),
        "evaluation.tasks": recipe.evaluation.tasks is not None,
        "reference.fit": recipe.reference.fit is not None,
        "reference.kind": recipe.reference.kind == "moving",
    }
    wrong = next((where for where, given in asked.items() if given), None)
    if reading(objective) == "scores" and wrong:
        raise RecipeError(
            f"{type(objective).__name__} makes the model a reward model, which says nothing but scores",
            where=wrong,
            remedy=f"leave {wrong} out, or choose an objective on log-probabilities",
        )


def refuse_trained_on(run: Path, tasks: Sequence[Record]) -> None:
    """Refuse rows whose prompts `run` was trained on, as its own resolved.yaml tells. Raises DataError."""
    document = load_recipe(run / "resolved.yaml")
    document.data.pop("objective", None)  # which rows there were does not hang on it, and it may be a stranger's code
    recipe = validate(Recipe, document)
    if recipe.data.train == IN_MEMORY:
        return
    records = _read_rows(recipe, None, Silent())
    refuse_overlap(joined([records.train, records.generator]), tasks)


def as_tasks(records: Sequence[Record]) -> Sequence[Record]:
    """Problems for a generator."""
    if isinstance(records, list):
        return [_as_task(record) for record in records]
    return Read(records, lambda record: [_as_task(record)], "tasks")


def encoded(rows: Sequence[Record], encoder: Encoder, folder: Path, progress: Progress) -> Encoded:
    """The groups of `rows`: on disk where the rows are."""
    return encode(rows, encoder, progress) if isinstance(rows, list) else encode_stored(rows, encoder, folder, progress)


def _as_task(record: Record) -> Task:
    """A generator problem: a task, or the best of what is said to a prompt as its ground truth."""
    if isinstance(record, Labelled) and not record.desirable:
        raise DataError("an undesirable completion is no ground truth", where=str(record.source))
    if isinstance(record, Request):
        raise DataError("a prompt alone has no ground truth", where=str(record.source), remedy="bring its answer")
    return record if isinstance(record, Task) else Task(record.prompt, said(record)[0][1], record.source)
