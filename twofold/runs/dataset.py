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
"""The path of a model or of data that Python handed over."""


def read_dataset(
    recipe: Recipe, objective: Objective, rows: Sequence[Record] | None = None, progress: Progress | None = None
) -> Dataset:
    """The rows that `objective` learns from; `rows` replace those of `data.train`. Raises DataError for whatever
    `twofold data check` calls an error and for a measured answer that evaluation.rule cannot read, and RecipeError for
    what a reward model cannot do."""
    _refuse_speech(recipe, objective)
    needs = row_needs(objective, recipe.algorithm.data_kind(objective))
    also = None if recipe.data.also is None else row_needs(also_objective(recipe.data.also))
    dataset = _reader(recipe, progress or Silent()).read(recipe.evaluation.tasks, rows).of_kind(needs, also)
    refuse_unreadable(dataset.tasks, recipe.evaluation.rule)
    return dataset


def row_needs(objective: Objective, kind: DataKind | None = None) -> RowNeeds:
    """Rows that `objective` takes, or those from which an algorithm makes them: of `kind`."""
    return RowNeeds(kind or objective.data_kind, objective.requires, type(objective).__name__, objective.margin_setting)


def data_cache(recipe: Recipe) -> Path:
    """Where rows and tokens are kept that are too many to hold."""
    return Path(recipe.data.cache or Path(recipe.run) / "data-cache")


def refuse_trained_on(run: Path, tasks: Sequence[Record]) -> int:
    """Raise DataError for rows whose prompts `run` was trained on, by its own resolved.yaml; how many are alike."""
    document = load_recipe(run / "resolved.yaml")
    # Which rows there were hangs on nothing else; an objective may be a stranger's code, other keys of another version.
    needed = {k: v for k, v in document.data.items() if k in ("model", "data", "run", "seed", "evaluation")}
    needed["data"] = {k: v for k, v in document.data.get("data", {}).items() if k != "tokenize"}
    recipe = validate(Recipe, replace(document, data=needed))
    if recipe.data.train == IN_MEMORY:
        return 0
    dataset = _reader(recipe, Silent()).read(recipe.evaluation.tasks)
    trained = concat([dataset.train, dataset.generator, dataset.also])
    refuse_overlap(trained, tasks)
    return alike(trained, tasks)


def _reader(recipe: Recipe, progress: Progress) -> Reader:
    return Reader(recipe.data, data_cache(recipe), recipe.seed, progress)


def _refuse_speech(recipe: Recipe, objective: Objective) -> None:
    """A reward model says nothing: it can neither draft nor solve, and is compared with no reference."""
    asked = {
        "algorithm": recipe.algorithm.draws_drafts,
        "evaluation.tasks": recipe.evaluation.tasks is not None,
        "reference.fit": recipe.reference.fit is not None,
        "reference.kind": recipe.reference.kind == "moving",
    }
    wrong = next((where for where, given in asked.items() if given), None)
    if objective.reads == "scores" and wrong:
        raise RecipeError(
            f"{type(objective).__name__} makes the model a reward model, which says nothing but scores",
            where=wrong,
            remedy=f"leave {wrong} out, or choose an objective on log-probabilities",
        )
