"""The reference by maximum likelihood: a first stage on chosen completions, where no fine-tuned model is given.

Rafailov et al. 2023, arXiv:2305.18290, section 4: π_ref = argmax E[log π(chosen)], so that the completions in the data
are likely under the reference model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from twofold.algorithms import Offline
from twofold.config.schema import EvaluationSettings, Recipe
from twofold.data.dataset import Dataset
from twofold.data.kinds import is_wrong, rows_of_kind
from twofold.data.lazy import MappedRows
from twofold.disk import make_folder
from twofold.errors import RecipeError
from twofold.models.adapters import copy_adapter
from twofold.models.reference import ReferenceSettings
from twofold.objectives import SFT
from twofold.progress import Progress
from twofold.records import Record
from twofold.runs.build import build_trainer
from twofold.runs.context import Model, RunContext
from twofold.runs.dataset import row_needs
from twofold.training import checkpoint
from twofold.training.trainable import POLICY
from twofold.training.trainer import Trainer
from twofold.world import is_sharded, world

FOLDER = "fit"
"""Folder in the run with the logs and checkpoints of this stage."""


def fit_stage(
    recipe: Recipe, dataset: Dataset, model: Model, run: Path, progress: Progress, *, resume: bool
) -> Trainer:
    """The trainer that fits the policy, in place, to the chosen completions of the training rows. It can be resumed."""
    if recipe.objective.data_kind == "demonstrations":
        raise RecipeError("sft fits the model already", where="reference.fit", remedy="leave reference.fit out")
    folder = run / FOLDER
    make_folder(folder)
    stage = Dataset(rows_of_kind(_liked(dataset.train), row_needs(SFT())), [], [], [])
    progress.note(f"first stage: fit the model to {len(stage.train)} chosen completions ({folder})")
    return build_trainer(RunContext(_stage(recipe, folder), SFT(), *model, stage, progress), folder, resume=resume)


def start_from_fit(stage: Trainer, model: Model, again: Callable[[], Model]) -> Model:
    """The fitted model, from which policy and reference start. Where processes share its weights, the model is loaded
    `again` and receives the fitted weights, because shards cannot be copied. The reference of an adapter is a copy of
    the adapter at this time."""
    if is_sharded(model[0]):
        saved = checkpoint.newest(stage.checkpoints, world())
        assert saved is not None, "the stage has saved its end"
        model = again()
        model[0].keep_masters()
        model[0].take(saved.tensors(POLICY, model[0].trainable().get))
    adapter = model[0].adapter
    if adapter is not None:  # without one, there is only the model's own weights
        copy_adapter(adapter)
    return model


def _stage(recipe: Recipe, folder: Path) -> Recipe:
    """The same model, rows and seed under SFT, with the length and the rate of `reference`."""
    settings = recipe.reference
    return replace(
        recipe,
        run=str(folder),
        objective=SFT(),
        algorithm=Offline(),
        data=replace(recipe.data, heldout=None, generator=None, also=None),
        reference=ReferenceSettings(),
        optimizer=replace(recipe.optimizer, learning_rate=settings.fit_learning_rate),
        training=replace(
            recipe.training,
            steps=None,
            epochs=settings.fit_epochs,
            evaluate_every=None,
            best_metric=None,
            patience=None,
            track="none",
        ),
        evaluation=EvaluationSettings(),
    )


def _liked(records: Sequence[Record]) -> Sequence[Record]:
    def reading(record: Record) -> list[Record]:
        return [] if is_wrong(record) else [record]

    if isinstance(records, list):
        return [liked for record in records for liked in reading(record)]
    return MappedRows(records, reading, "liked")
