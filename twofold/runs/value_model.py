"""The value model of a run, and its training."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

from twofold.algorithms.gae import POLICY, VALUE_MODEL
from twofold.errors import ModelError, RecipeError
from twofold.models.heads import ValueModel, load_value_model, value_model_of
from twofold.models.load import LoadedModel
from twofold.models.parts import in_parts
from twofold.runs.context import RunContext
from twofold.runs.processes import load_shared
from twofold.training.trainable import Trainable


def build_value_model(run: RunContext) -> tuple[ValueModel, LoadedModel] | None:
    """The value model of the recipe, in its state before step 0. It may be a copy of the policy at this time."""
    settings = run.recipe.algorithm.value_model
    if settings is None:
        return None
    start = settings.start
    if start == POLICY:
        return value_model_of(run.language_model, run.loaded, run.recipe.model, run.recipe.seed)
    _refuse_slip(start)
    quantize = run.recipe.model.quantize if run.recipe.model.lora is not None else None
    how = replace(run.recipe.model, path=start, adapter=None, quantize=quantize)
    recipe, load = replace(run.recipe, model=how), lambda: load_value_model(how, run.recipe.seed)
    model, loaded = load_shared(recipe, run.progress, load) if in_parts(run.policy.model) else load()
    if loaded.tokenizer.get_vocab() != run.loaded.tokenizer.get_vocab():
        raise ModelError(
            "this value model has another vocabulary than the policy, whose tokens it is to value",
            where=start,
            remedy="train a reward model from the policy's own base, or leave algorithm.value.start out",
        )
    if model.note:
        run.progress.note(f"{start} has no score head: the value model starts with 0 for all tokens")
    return model, loaded


def _refuse_slip(start: str) -> None:
    """Refuse a misspelled `policy` and a path that does not exist, before the name is looked up on the hub."""
    near, local = difflib.get_close_matches(start, [POLICY]), start.startswith((".", "/", "~")) or start.count("/") > 1
    if (near or local) and not Path(start).is_dir():
        remedy = f"did you mean `{POLICY}`?" if near else "name the folder of a reward model, or policy"
        raise RecipeError(f"{start}: no such folder", where="algorithm.value.start", remedy=remedy)


def value_model_trainables(run: RunContext) -> list[Trainable]:
    """The other models in training: the value model, with the policy's optimizer settings and its own rate."""
    settings = run.recipe.algorithm.value_model
    if run.value_model is None or settings is None:
        return []
    optimizer = replace(
        run.recipe.optimizer, learning_rate=settings.learning_rate or run.recipe.optimizer.learning_rate
    )
    return [Trainable.of(VALUE_MODEL, run.value_model[0], optimizer, run.steps)]
