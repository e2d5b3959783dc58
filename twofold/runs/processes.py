"""How the processes of a run share its models: by what the recipe says, or by what fits into memory."""

from __future__ import annotations

from typing import Any

from twofold.errors import RecipeError
from twofold.models.machine import memory_bytes
from twofold.models.model_size import ModelSize
from twofold.models.precision import hidden_units
from twofold.runs.context import RunContext
from twofold.runs.dry_run import forecast
from twofold.training.optim import SGD, AdamW, RMSprop
from twofold.world import Kind, world

SHARE = 0.8
"""Of the memory, what a whole model with its gradients, moments and activations may take."""
_ELEMENTWISE = AdamW, RMSprop, SGD


def how_shared(run: RunContext) -> Kind:
    """replicate, shard or hybrid. Raises RecipeError for what cannot be done to shards."""
    kind, here = run.recipe.world.kind, world()
    if here.size == 1:
        return "replicate"
    refused = _refused(run)
    if kind == "auto":
        return "replicate" if refused or _fits(run) else "hybrid" if here.size > here.local_size > 1 else "shard"
    if kind != "replicate" and refused:
        where, what = refused
        raise RecipeError(what, where=where, remedy="set world.kind=replicate")
    return kind


def _refused(run: RunContext) -> tuple[str, str] | None:
    """Where and why weights cannot be shared."""
    if not isinstance(run.recipe.optimizer, _ELEMENTWISE):
        return "optimizer.kind", f"{run.recipe.optimizer.kind} reads whole matrices, and each process would have a part"
    if run.recipe.reference.fit is not None:
        return "reference.fit", "the reference is a copy of the fitted model, and shards cannot be copied"
    return None


def _fits(run: RunContext) -> bool:
    """Whether each process can hold all of it."""
    device = run.policy.device.type
    there = memory_bytes(device)
    if there is None:
        return True
    share = there if device == "cuda" else there / world().local_size
    config: Any = run.policy.model.config.get_text_config()  # pyright: ignore[reportUnknownMemberType]
    sizes = ModelSize(
        parameters=sum(p.numel() for p in run.policy.weights().values()),
        trainable=sum(p.numel() for p in run.policy.trainable().values()),
        layers=config.num_hidden_layers,
        hidden=hidden_units(config),
        vocabulary=config.vocab_size,
    )
    memory = forecast(run.recipe, sizes, run.recipe.training.packing.tokens)
    return memory.total <= SHARE * share
