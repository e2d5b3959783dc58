"""How the processes of a run share its models: by what the recipe says, or by what fits into memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from twofold.config.schema import Recipe
from twofold.errors import RecipeError
from twofold.models.adapters import saved_by
from twofold.models.load import resolve_device, weights_dtype
from twofold.models.locate import gguf_of, is_adapter
from twofold.models.machine import memory_bytes
from twofold.models.model_size import model_size
from twofold.models.parts import NotInPartsError, in_parts, reading_parts
from twofold.models.stored import config_at
from twofold.progress import Progress
from twofold.runs.context import RunContext, asks_live, reference_pace
from twofold.training.optim import SGD, AdamW, RMSprop
from twofold.world import Kind, world

SHARE = 0.5
"""Of the memory, what a whole model with its copies, gradients and moments may take; the rest is for activations."""
Loaded = TypeVar("Loaded")
_ELEMENTWISE = AdamW, RMSprop, SGD


def how_shared(run: RunContext) -> Kind:
    """replicate, shard or hybrid. Raises RecipeError for what cannot be done to shards."""
    kind, here = run.recipe.world.kind, world()
    if here.size == 1:
        return "replicate"
    refused = _refused(run.recipe) or _refused_masters(run)
    if kind == "auto":
        return "replicate" if refused or (not in_parts(run.policy.model) and _fits(run)) else _among_hosts()
    if kind != "replicate" and refused:
        where, what = refused
        raise RecipeError(what, where=where, remedy="set world.kind=replicate")
    return kind


def how_loaded(recipe: Recipe) -> tuple[Kind, str]:
    """How processes share a model from its loading on. Where it will be shared and each must still load it whole, this
    is replicate, and why."""
    kind = recipe.world.kind
    if world().size == 1 or kind == "replicate" or _refused(recipe):
        return "replicate", ""
    if kind == "auto":
        if world().any(_would_fit(recipe)):
            return "replicate", ""
        kind = _among_hosts()
    reason = _whole_because(recipe)
    return ("replicate" if reason else kind), reason


def load_shared(recipe: Recipe, progress: Progress, load: Callable[[], Loaded]) -> Loaded:
    """What `load` makes, read in parts where processes will share the model and it can be."""
    kind, reason = how_loaded(recipe)
    if kind != "replicate":
        try:
            with world().agreed(), reading_parts(kind, resolve_device(recipe.model.device)):
                return load()
        except NotInPartsError as error:
            reason = error.what
    if reason:
        progress.note(f"each process loads all weights before they are shared: {reason}")
    return load()


def _among_hosts() -> Kind:
    here = world()
    return "hybrid" if here.size > here.local_size > 1 else "shard"


def _whole_because(recipe: Recipe) -> str:
    """Why weights cannot be read in parts; where they can, an empty string."""
    settings = recipe.model
    lora = settings.lora
    value = recipe.algorithm.value_model
    because = {
        "a GGUF file is read as a whole": gguf_of(settings.path, settings.gguf_file) is not None,
        "an adapter is merged into them first": is_adapter(Path(settings.path)),
        "tokens are added to them first": bool(settings.add_tokens),
        "DoRA takes the norms of their rows": lora is not None and lora.dora,
        "modules_to_save are copied": bool(lora.modules_to_save if lora else saved_by(settings.adapter)),
        "the value model has the adapter merged in": settings.adapter is not None and value is not None,
    }
    return next((reason for reason, so in because.items() if so), "")


def _refused(recipe: Recipe) -> tuple[str, str] | None:
    """Where and why weights cannot be shared."""
    if not isinstance(recipe.optimizer, _ELEMENTWISE):
        return "optimizer.kind", f"{recipe.optimizer.kind} reads whole matrices, and each process would have a part"
    if recipe.model.quantize is not None:
        return "model.quantize", "a quantized base has no weights that could be split"
    if recipe.reference.fit is not None:
        return "reference.fit", "the reference is a copy of the fitted model, and shards cannot be copied"
    return None


def _refused_masters(run: RunContext) -> tuple[str, str] | None:
    if run.policy.masters is None:
        return None
    return "model.precision", "bfloat16 rounds each weight by a threshold of its own, which shards would not share"


def _would_fit(recipe: Recipe) -> bool:
    """As `_fits`, before anything is loaded."""
    settings = recipe.model
    sizes = model_size(settings)
    gguf = gguf_of(settings.path, settings.gguf_file)
    width = weights_dtype(settings, config_at(settings.path, settings.revision, gguf)).itemsize
    learners = 1 if recipe.algorithm.value_model is None else 2
    adapted = settings.lora is not None or settings.adapter is not None
    copies = int(not adapted and (asks_live(recipe, recipe.objective) or reference_pace(recipe, 1) is not None))
    return _room(
        resolve_device(settings.device), sizes.parameters * width, sizes.trainable * 3 * width, learners, copies
    )


def _fits(run: RunContext) -> bool:
    """Whether each process can hold all of it: weights, copies of them, gradients and two moments."""
    whole = sum(p.numel() * p.element_size() for p in run.policy.weights().values())
    moved = sum(3 * p.numel() * p.element_size() for p in run.policy.trainable().values())
    learners = 1 if run.value_model is None else 2
    return _room(run.policy.device.type, whole, moved, learners, len(getattr(run.reference, "copies", [])))


def _room(device: str, whole: int, moved: int, learners: int, copies: int) -> bool:
    there = memory_bytes(device)
    if there is None:
        return True
    share = there if device == "cuda" else there / world().local_size
    return whole * (learners + copies) + moved * learners <= SHARE * share
