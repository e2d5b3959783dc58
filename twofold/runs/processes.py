"""How the processes of a run share its models: by what the recipe says, or by what fits into memory."""

from __future__ import annotations

from twofold.errors import RecipeError
from twofold.models.machine import memory_bytes
from twofold.runs.context import RunContext
from twofold.training.optim import SGD, AdamW, RMSprop
from twofold.world import Kind, world

SHARE = 0.5
"""Of the memory, what a whole model with its copies, gradients and moments may take; the rest is for activations."""
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
    if run.policy.masters is not None:
        return "model.precision", "bfloat16 rounds each weight by a threshold of its own, which shards would not share"
    if run.recipe.model.quantize is not None:
        return "model.quantize", "a quantized base has no weights that could be split"
    if run.recipe.reference.fit is not None:
        return "reference.fit", "the reference is a copy of the fitted model, and shards cannot be copied"
    return None


def _fits(run: RunContext) -> bool:
    """Whether each process can hold all of it: weights, copies of them, gradients and two moments."""
    device = run.policy.device.type
    there = memory_bytes(device)
    if there is None:
        return True
    whole = sum(p.numel() * p.element_size() for p in run.policy.weights().values())
    moved = sum(3 * p.numel() * p.element_size() for p in run.policy.trainable().values())
    learners = 1 if run.value_model is None else 2
    copies = len(getattr(run.reference, "copies", []))
    share = there if device == "cuda" else there / world().local_size
    return whole * (learners + copies) + moved * learners <= SHARE * share
