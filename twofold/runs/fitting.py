"""Settings under which a run fits into the memory that there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from twofold.batch import Group
from twofold.config.schema import Recipe
from twofold.models.load import LoRA
from twofold.models.model_size import ModelSize, model_size
from twofold.runs.forecast import GIB, Forecast, forecast, largest_pack

_GRAIN = 64
"""Sizes of packs are multiples of it."""
_TRIES = 4


def what_fits(recipe: Recipe, sizes: ModelSize, rows: Sequence[Group], limit: int) -> str:
    """The first settings, in the order of what they cost, under which `recipe` takes at most `limit` bytes; a sentence
    for a person."""
    for changes, changed in _ways(recipe):
        its_sizes = sizes if changed.model.lora is recipe.model.lora else model_size(changed.model)
        found = fitting_tokens(changed, its_sizes, rows, limit)
        if found is None:
            continue
        tokens, memory = found
        less = tokens < recipe.training.packing.tokens
        named = " ".join([*changes, *([f"training.packing.tokens={tokens}"] if less else [])])
        return f"{named} would take {memory.total / GIB:.1f}"
    return "Nothing that twofold knows makes it fit: choose a smaller model or shorter rows (data.tokenize.max_length)"


def _ways(recipe: Recipe) -> Iterator[tuple[list[str], Recipe]]:
    """Changes and the recipe with them; each is tried with smaller packs too."""
    model = recipe.model
    ways = [(list[str](), model)]
    if not model.activation_checkpointing:
        ways.append((["model.activation_checkpointing=true"], replace(model, activation_checkpointing=True)))
    if model.lora is None and model.adapter is None:
        ways += [([*names, "model.lora={rank: 16}"], replace(changed, lora=LoRA())) for names, changed in ways]
    for names, changed in ways:
        yield names, replace(recipe, model=changed)


def fitting_tokens(recipe: Recipe, sizes: ModelSize, rows: Sequence[Group], limit: int) -> tuple[int, Forecast] | None:
    """The largest `training.packing.tokens`, no more than the recipe's own, with which it takes at most `limit` bytes,
    and what it takes; None where one row alone takes more."""

    def of(tokens: int) -> tuple[int, Forecast]:
        changed = with_tokens(recipe, tokens)
        packs = largest_pack(changed, rows)
        return packs.tokens, forecast(changed, sizes, packs)

    most = recipe.training.packing.tokens
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


def with_tokens(recipe: Recipe, tokens: int) -> Recipe:
    """The recipe with packs of so many tokens."""
    training = recipe.training
    return replace(recipe, training=replace(training, packing=replace(training.packing, tokens=tokens)))
