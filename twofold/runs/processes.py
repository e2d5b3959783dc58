"""How the processes of a run share its models: by what the recipe says, or by what fits into memory."""

from __future__ import annotations

from dataclasses import replace

from twofold.models.machine import memory_bytes
from twofold.models.model_size import model_size, size_of
from twofold.runs.context import RunContext
from twofold.runs.forecast import largest_pack
from twofold.runs.shares import SHARE, chosen, ways
from twofold.world import Kind, World, WorldSettings, world

_SMALL = 0.05
"""Of the memory, what gradients of all weights may take before anything is estimated."""


def how_shared(run: RunContext) -> tuple[Kind, WorldSettings]:
    """replicate, shard or hybrid, and the settings with nothing left open."""
    how, here = run.recipe.world, world()
    if here.size == 1 or how.kind == "replicate":
        return "replicate", how
    there = min(here.gather(memory_of_each(run.policy.device.type, here) or 2**62))
    trained = sum(p.numel() * p.element_size() for p in run.policy.trainable().values())
    if how.kind != "auto" and (how.reduce != "auto" or trained <= _SMALL * there):
        return how.kind, replace(how, reduce="step" if how.reduce == "auto" else how.reduce)
    quantized = run.recipe.model.quantize is not None
    sizes = model_size(run.recipe.model) if quantized else size_of(run.policy.model)
    packs = largest_pack(run.recipe, run.groups["train"], here.size)
    way = chosen(ways(run.recipe, sizes, packs, here, run.policy.model.config), SHARE * there)
    return way.kind, way.settings


def memory_of_each(device: str, here: World) -> int | None:
    """The memory that each process of a machine has: a GPU of its own, or its share of the machine's."""
    there = memory_bytes(device)
    return there if there is None or device == "cuda" else there // here.local_size
