"""Settings that are valid, and that a run does not use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from twofold.config.schema import Recipe
from twofold.progress import counted
from twofold.sampling.base import Sampling


def unused_settings(recipe: Recipe, steps: int, generator: int) -> Iterator[str]:
    """A warning for each setting that changes nothing. `generator` is the number of rows that are set aside."""
    kind, draws, data, reference = recipe.algorithm.kind, recipe.algorithm.draws_drafts, recipe.data, recipe.reference
    apart = data.generator
    if apart is not None and apart.file is None and not draws:
        unused = f"data.generator: {counted(generator, 'row')} of data.train are not trained on"
        yield f"{unused}: algorithm {kind} has no generator → leave data.generator out"
    if recipe.sampling != Sampling() and not draws:
        remedy = "leave it out; evaluation.sampling is for tasks that sample"
        yield f"sampling has no effect: algorithm {kind} draws no samples → {remedy}"
    if reference.cache is not None and reference.kind != "cached":
        yield f"reference.cache has no effect with kind: {reference.kind} → leave it out, or set reference.kind=cached"
    if reference.kind == "moving" and reference.sync_every > steps:
        what = f"reference.sync_every is {reference.sync_every}, and the run has {counted(steps, 'step')}"
        yield f"{what}: the reference model never moves → lower it"
    if recipe.model.recompute_every != 1 and not recipe.model.activation_checkpointing:
        remedy = "set model.activation_checkpointing=true, or leave it out"
        yield f"model.recompute_every has no effect without activation_checkpointing → {remedy}"
    for source in data.sources:
        if Path(source.file).is_file():
            yield from (
                f"data.{name} has no effect: {source.file} is one file → leave it out"
                for name, is_set in (("split", source.split != "train"), ("stream", source.stream))
                if is_set
            )
