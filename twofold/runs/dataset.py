"""The data set of a recipe, as rows that its algorithm and its objective learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from twofold.batch import DataKind
from twofold.config.also import also_objective
from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe
from twofold.data.dataset import Dataset, Reader
from twofold.data.kinds import RowNeeds
from twofold.data.lazy import concat
from twofold.data.split import alike, refuse_overlap
from twofold.errors import RecipeError
from twofold.evaluation.exact_match import refuse_unreadable
from twofold.objectives.base import Objective
from twofold.progress import Progress, Silent
from twofold.records import Record

IN_MEMORY = "in memory"
"""The path of a model or of data that was passed as a Python object."""


def read_dataset(
    recipe: Recipe, objective: Objective, rows: Sequence[Record] | None = None, progress: Progress | None = None
) -> Dataset:
    """The rows that `objective` learns from; `rows` replace those of `data.train`. Raises DataError for each error of
    `twofold data check` and for a reference answer that evaluation.rule cannot read. Raises RecipeError for settings
    that a reward model does not support."""
    _refuse_speech(recipe, objective)
    needs = row_needs(objective, recipe.algorithm.data_kind(objective))
    needs = replace(needs, imitates=recipe.algorithm.imitates_answers)
    also = None if recipe.data.also is None else row_needs(also_objective(recipe.data.also))
    dataset = _reader(recipe, progress or Silent()).read(recipe.evaluation.tasks, rows).of_kind(needs, also)
    refuse_unreadable(dataset.tasks, recipe.evaluation.rule)
    return dataset


def row_needs(objective: Objective, kind: DataKind | None = None) -> RowNeeds:
    """Rows that `objective` takes, or those from which an algorithm makes them: of `kind`."""
    return RowNeeds(kind or objective.data_kind, objective.requires, type(objective).__name__, objective.margin_setting)


def data_cache(recipe: Recipe) -> Path:
    """The folder for rows and tokens that do not fit into memory."""
    return Path(recipe.data.cache or Path(recipe.run) / "data-cache")


def refuse_trained_on(run: Path, tasks: Sequence[Record]) -> int | None:
    """Raise DataError for rows whose prompts `run` was trained on, by its resolved.yaml. Returns how many are similar,
    None where the run's rows were in memory."""
    document = load_recipe(run / "resolved.yaml")
    # Only these keys decide the rows. The objective may be third-party code, and other keys may be of another version.
    needed = {k: v for k, v in document.data.items() if k in ("model", "data", "run", "seed", "evaluation")}
    needed["data"] = {k: v for k, v in document.data.get("data", {}).items() if k != "tokenize"}
    recipe = validate(Recipe, replace(document, data=needed))
    if recipe.data.train == IN_MEMORY:
        return None
    dataset = _reader(recipe, Silent()).read(recipe.evaluation.tasks)
    trained = concat([dataset.train, dataset.generator, dataset.also])
    refuse_overlap(trained, tasks)
    return alike(trained, tasks)


def _reader(recipe: Recipe, progress: Progress) -> Reader:
    return Reader(recipe.data, data_cache(recipe), recipe.seed, progress)


def _refuse_speech(recipe: Recipe, objective: Objective) -> None:
    """A reward model generates no text, so it can neither sample nor solve problems. It uses no reference."""
    asked = {
        "algorithm": recipe.algorithm.draws_drafts,
        "evaluation.tasks": recipe.evaluation.tasks is not None,
        "reference.fit": recipe.reference.fit is not None,
        "reference.kind": recipe.reference.kind == "moving",
    }
    wrong = next((where for where, given in asked.items() if given), None)
    if objective.reads != "logps" and wrong:
        raise RecipeError(
            f"{type(objective).__name__} makes the model a reward model, which only returns scores",
            where=wrong,
            remedy=f"leave {wrong} out, or choose an objective on log-probabilities",
        )
