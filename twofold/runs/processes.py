"""How the processes of a run share its models: as the recipe states, or as memory allows."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from twofold.config.schema import Recipe
from twofold.data.dataset import Dataset, encode_rows
from twofold.data.tokenize import Encoder
from twofold.models.load import resolve_device
from twofold.models.machine import memory_bytes
from twofold.models.model_size import model_size
from twofold.models.parts import NotInPartsError, reading_parts
from twofold.models.tokenizer_files import load_stop_tokens, load_tokenizer, stop_tokens
from twofold.models.tokenizers import prepare
from twofold.progress import Progress
from twofold.runs.dataset import data_cache
from twofold.runs.fitting import with_fitting_packs
from twofold.runs.forecast import largest_pack, widths
from twofold.runs.shares import SHARE, chosen, ways, whole_because
from twofold.world import Kind, world

Loaded = TypeVar("Loaded")
_SMALL = 0.05
"""The share of memory that gradients of all weights may use before anything is estimated."""


def with_settled_world(
    recipe: Recipe,
    dataset: Dataset,
    progress: Progress,
    model: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None,
) -> Recipe:
    """The recipe with a definite way to share its model among the running processes, the same that `--dry-run` shows
    for this number. The model may be in memory."""
    how, here = recipe.world, world()
    if here.size == 1 or how.kind == "replicate" or "auto" not in (how.kind, how.reduce):
        return recipe
    device = resolve_device(recipe.model.device)
    there = memory_bytes(device)
    there = min(here.gather(2**62 if there is None else there if device == "cuda" else there // here.local_size))
    config = None if model is None else model[0].config
    sizes = model_size(recipe.model, config)
    if how.kind != "auto" and sizes.trainable * widths(recipe, sizes)[0] <= _SMALL * there:
        return replace(recipe, world=replace(how, reduce="step"))
    encoder = _encoder(recipe, model)
    rows = encode_rows(dataset.train, encoder, data_cache(recipe), progress).groups
    packs = largest_pack(with_fitting_packs(recipe, rows), rows, here.size)
    way = chosen(ways(recipe, sizes, packs, here, config), SHARE * there)
    return replace(recipe, world=replace(way.settings, kind=way.kind))


def _encoder(recipe: Recipe, model: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None) -> Encoder:
    """The encoder that counts the tokens of rows, before a model is loaded or for the one in memory."""
    settings = recipe.model
    if model is None:
        tokenizer = load_tokenizer(settings.path, settings.revision, settings.gguf_file)
        stops = load_stop_tokens(settings.path, tokenizer, settings.revision)
    else:
        tokenizer = deepcopy(model[1])  # which learns its tokens with the model
        stops = stop_tokens(getattr(model[0], "generation_config", None), tokenizer, settings.path)
    prepare(tokenizer, settings.add_tokens, settings.template_arguments or {})
    return Encoder(tokenizer, stops, recipe.data.tokenize, recipe.data.chat)


def how_shared(recipe: Recipe) -> Kind:
    """replicate, shard or hybrid; replicate for a single process. Raises ValueError where that is not decided yet."""
    kind = recipe.world.kind
    if world().size == 1:
        return "replicate"
    if kind == "auto":
        raise ValueError("how processes share a model must be settled before it is loaded")
    return kind


def load_shared(recipe: Recipe, progress: Progress, load: Callable[[], Loaded]) -> Loaded:
    """The result of `load`, read in parts where processes will share the model and its file allows that."""
    kind = how_shared(recipe)
    reason = "" if kind == "replicate" else whole_because(recipe)
    if kind != "replicate" and not reason:
        try:
            with world().agreed(), reading_parts(kind, resolve_device(recipe.model.device)):
                return load()
        except NotInPartsError as error:
            reason = error.what
    if reason:
        progress.note(f"each process loads all weights before they are shared: {reason}")
    return load()
