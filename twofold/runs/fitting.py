"""Settings with which a run fits into the available memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import yaml

from twofold import disk
from twofold.batch import Group
from twofold.config.schema import Recipe
from twofold.errors import RecipeError
from twofold.models.adapters import LoRA
from twofold.models.load import resolve_device
from twofold.models.machine import memory_bytes
from twofold.models.model_size import ModelSize, model_size
from twofold.models.packing import Packing
from twofold.runs.forecast import GIB, Forecast, largest_pack
from twofold.runs.shares import SHARE, chosen, ways
from twofold.world import World, world

RESOLVED = "resolved.yaml"
_GRAIN = 64
"""Sizes of packs are multiples of this number of tokens."""
_TRIES = 4
MOST = 65_536
"""Maximum tokens of a pack under `auto`."""


def what_fits(recipe: Recipe, sizes: ModelSize, rows: Sequence[Group], limit: int, here: World | None = None) -> str:
    """The first settings, in order of their cost, with which `recipe` uses at most `limit` bytes, as a sentence."""
    for changes, changed in _ways(recipe):
        its_sizes = sizes if changed.model.lora is recipe.model.lora else model_size(changed.model)
        found = fitting_tokens(changed, its_sizes, rows, limit, here)
        if found is None:
            continue
        tokens, memory = found
        own = recipe.training.packing.tokens
        less = own == "auto" or tokens < own
        named = " ".join([*changes, *([f"training.packing.tokens={tokens}"] if less else [])])
        return f"{named} would take {memory.total / GIB:.1f} GiB"
    bits = "model.quantize=nf4 under LoRA, " if recipe.model.quantize is None else ""
    return (
        f"No size of packs, checkpoints or adapter fits: {bits}choose a smaller model, or a smaller max_length of rows"
    )


def _ways(recipe: Recipe) -> Iterator[tuple[list[str], Recipe]]:
    """Changes and the recipe with them. Each is also tried with smaller packs."""
    model = recipe.model
    ways = [(list[str](), model)]
    if not model.activation_checkpointing:
        recomputed = replace(model, activation_checkpointing=True)
        names = ["model.activation_checkpointing=true"]
        ways.append(([*names, "model.recompute_every=2"], replace(recomputed, recompute_every=2)))
        ways.append((names, replace(recomputed, recompute_every=1)))
    if model.lora is None and model.adapter is None:
        ways += [([*names, "model.lora={rank: 16}"], replace(changed, lora=LoRA())) for names, changed in ways]
    if model.lora is not None and model.lora.rank > (small := LoRA().rank):
        lora, name = replace(model.lora, rank=small), f"model.lora.rank={small}"
        ways += [([*names, name], replace(changed, lora=lora)) for names, changed in ways]
    for names, changed in ways:
        yield names, replace(recipe, model=changed)


def fitting_tokens(
    recipe: Recipe, sizes: ModelSize, rows: Sequence[Group], limit: int, here: World | None = None
) -> tuple[int, Forecast] | None:
    """The largest `training.packing.tokens`, up to the recipe's own, with which each process uses at most `limit`
    bytes, and the memory that it uses. None where a single row uses more."""
    here = here or world()

    def of(tokens: int) -> tuple[int, Forecast]:
        changed = with_tokens(recipe, tokens)
        packs = largest_pack(changed, rows, here.size)
        return packs.tokens, chosen(ways(changed, sizes, packs, here), limit).memory

    tokens = recipe.training.packing.tokens
    most = MOST if tokens == "auto" else tokens
    large, high = of(most)
    if high.total <= limit:
        return most, high
    small, low = of(1)
    if low.total > limit:
        return None
    tokens = small + (large - small) * (limit - low.total) // max(1, high.total - low.total)
    for _ in range(_TRIES):
        tokens = max(small, tokens // _GRAIN * _GRAIN)
        _, memory = of(tokens)
        if memory.total <= limit:
            return tokens, memory
        tokens -= max(_GRAIN, tokens // 10)
    return small, low


def with_tokens(recipe: Recipe, tokens: int | Literal["auto"]) -> Recipe:
    """The recipe with packs of `tokens` tokens."""
    training = recipe.training
    return replace(recipe, training=replace(training, packing=replace(training.packing, tokens=tokens)))


def with_fitting_packs(recipe: Recipe, rows: Sequence[Group], here: World | None = None) -> Recipe:
    """The recipe with a number for `training.packing.tokens: auto`: that of the run to resume, if there is one. Raises
    RecipeError where a single row does not fit."""
    if recipe.training.packing.tokens != "auto":
        return recipe
    device, here = resolve_device(recipe.model.device), here or world()
    tokens = _settled_before(Path(recipe.run) / RESOLVED)
    there = memory_bytes(device)
    if tokens is None and there is not None:
        there = there if device == "cuda" else there // here.local_size
        sizes, limit = model_size(recipe.model), int(there * SHARE)
        found = fitting_tokens(recipe, sizes, rows, limit, here)
        if found is None:
            where, remedy = "training.packing.tokens", what_fits(recipe, sizes, rows, limit, here)
            raise RecipeError(f"no row fits into the {there / GIB:.1f} GiB of {device}", where=where, remedy=remedy)
        tokens = found[0]
    return with_tokens(recipe, tokens or Packing().tokens)


def _settled_before(path: Path) -> int | None:
    if not path.is_file():
        return None
    try:
        tokens = yaml.safe_load(disk.read_text(path))["training"]["packing"]["tokens"]
    except (yaml.YAMLError, KeyError, TypeError):
        return None
    return tokens if isinstance(tokens, int) and tokens > 0 else None
