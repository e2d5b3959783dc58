"""The peak memory of a run, without loading or training anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedConfig

from twofold.algorithms.gae import POLICY
from twofold.batch import Branch, Group, Role
from twofold.config.schema import Recipe
from twofold.data.order import Order
from twofold.models.adapters import base_and_adapter
from twofold.models.load import resolve_device, training_precision
from twofold.models.model_size import ModelSize, model_size
from twofold.models.packing import bins
from twofold.models.quantized import BYTES_PER_WEIGHT
from twofold.models.stored import dtype_on_disk
from twofold.models.weightless import training_bytes
from twofold.runs.context import asks_live
from twofold.sampling.base import Sampling

GIB = 2**30
_STEPS = 64
"""Steps of a run whose packs are searched for the largest one."""


@dataclass(frozen=True)
class Forecast:
    """Bytes at the peak, by purpose."""

    weights: int
    gradients: int
    optimizer: int
    reference: int
    value: int
    activations: int
    """All other memory at the peak of a step: activations, casts of weights, the head's tiles."""
    drafts: int
    """Keys and values of samples, and their logits."""
    loading: int
    """The file that the weights are read from, in addition to the weights."""
    counted: bool
    """Whether activations were counted in the model's own code. Otherwise they are a rule of thumb."""
    keeps_drafts: bool
    """Whether keys and values stay in memory during a step."""
    gathered: int = 0
    """With shards, the weights that are gathered from other processes while layers compute, and their gradients."""
    drawing: int = 0
    """With shards, the weights of other processes during sampling."""

    @property
    def total(self) -> int:
        """The maximum over loading, sampling, and a step."""
        always = self.weights + self.optimizer + self.reference + self.value
        step = always + self.gradients + self.gathered + self.activations + self.drafts * self.keeps_drafts
        return max(self.weights + self.loading, always + self.drafts + self.drawing, step)

    def line(self) -> str:
        """As one line of text."""
        names = ("weights", "gradients", "optimizer", "reference", "value", "gathered", "activations", "drafts")
        parts = ", ".join(f"{name} {size / GIB:.2f}" for name in names if (size := getattr(self, name)))
        rough = "" if self.counted else "; activations are a rule of thumb"
        return f"about {self.total / GIB:.2f} GiB at most ({parts}{rough})"


@dataclass(frozen=True)
class Packs:
    """The largest pack of a run's first steps, whether a step has several, and the longest prompt."""

    groups: Sequence[Group]
    several: bool
    longest_prompt: int

    @property
    def tokens(self) -> int:
        return sum(g.num_tokens for g in self.groups)


def largest_pack(recipe: Recipe, rows: Sequence[Group], processes: int = 1) -> Packs:
    """The largest pack of the first steps on `rows`, split among `processes`. Samples have their maximum length."""
    size, order = recipe.training.batch_size, Order(len(rows), recipe.seed)
    best, several, longest = list[Group](), False, 0
    for step in range(min(_STEPS, -(-len(rows) // size))):
        batch = [rows[i] for i in order.at(step, size)]
        packs = [p for part in _parts(recipe, batch) for p in _packed(part, recipe, processes)]
        several |= len(packs) > processes
        best = max([best, *packs], key=lambda pack: sum(g.num_tokens for g in pack))
        longest = max([longest, *(len(g.prompt) for g in batch)])
    return Packs(best, several, longest)


def _packed(part: Sequence[Group], recipe: Recipe, processes: int) -> list[list[Group]]:
    return [[part[i] for i in members] for members in bins(part, recipe.training.packing, processes)]


def _parts(recipe: Recipe, batch: Sequence[Group]) -> Iterator[list[Group]]:
    """The rows, and samples instead of them or in addition to them."""
    if not recipe.algorithm.answers_rows:
        yield list(batch)
    if recipe.algorithm.draws_drafts:
        algorithm: Any = recipe.algorithm
        draft = Branch(torch.zeros(recipe.sampling.max_new_tokens, dtype=torch.int64), Role.DRAFT)
        count = getattr(algorithm, "prompts", None) or len(batch)
        yield [Group(g.name, g.prompt, (draft,) * algorithm.samples) for g in batch[:count]]


def forecast(recipe: Recipe, sizes: ModelSize, packs: Packs, config: PreTrainedConfig | None = None) -> Forecast:
    """Memory of `recipe` whose model has these `sizes`, with its largest pack. For a model that is in memory already,
    pass its `config`; then loading is not counted."""
    wide, narrow = widths(recipe, sizes)
    frozen_base = is_adapted(recipe)
    rest = 2 if narrow < wide and not frozen_base else 0  # what the weights leave of their masters
    gradients = sizes.trainable * wide
    beyond = training_bytes(
        recipe.model, packs.groups, config, scored=recipe.objective.reads != "logps", several=packs.several
    )
    base = sizes.trainable if not frozen_base else sizes.parameters - sizes.trainable
    stored = 0
    if config is None:
        stored = dtype_on_disk(recipe.model.path, recipe.model.revision, recipe.model.gguf_file).itemsize
    return Forecast(
        weights=_of_base(recipe, sizes, narrow) + sizes.trainable * (wide + rest),
        gradients=gradients,
        optimizer=sum(recipe.optimizer.state_bytes(s, wide, embedding=e) for s, e in sizes.shapes),
        reference=sizes.parameters * wide if asks_live(recipe, recipe.objective) and not frozen_base else 0,
        value=_of_critic(recipe, sizes, narrow, wide),
        activations=_by_rule(recipe, sizes, packs, narrow) if beyond is None else max(0, beyond - gradients),
        drafts=_of_drafts(recipe, sizes, packs.longest_prompt, narrow),
        loading=0 if resolve_device(recipe.model.device) == "cuda" else base * stored,  # a GPU reads no file
        counted=beyond is not None,
        keeps_drafts=recipe.algorithm.draws_drafts and _is_static(recipe, recipe.sampling),
    )


def widths(recipe: Recipe, sizes: ModelSize) -> tuple[int, int]:
    """Bytes of a trained number, and of a number in the forward pass."""
    wide = 8 if recipe.model.precision == "float64" else 4
    return wide, 2 if training_precision(recipe.model, sizes.hidden) == "bfloat16" else wide


def is_adapted(recipe: Recipe) -> bool:
    """Whether an adapter is trained, and not the model's own weights."""
    return recipe.model.lora is not None or recipe.model.adapter is not None


def _by_rule(recipe: Recipe, sizes: ModelSize, packs: Packs, narrow: int) -> int:
    """About 17 values per token, layer and hidden unit (2205.05198, without the attention scores, which are never in
    memory); with activation checkpointing only the hidden states."""
    values = 1 + 16 * (1 - 1 / recipe.model.recompute_every) if recipe.model.activation_checkpointing else 17
    return int(values * packs.tokens * sizes.layers * sizes.hidden * narrow)


def _of_critic(recipe: Recipe, policy: ModelSize, narrow: int, wide: int) -> int:
    """Weights, gradients and moments of the value model, if there is one, which is trained like the policy."""
    settings = recipe.algorithm.value_model
    if settings is None:
        return 0
    start, sizes = settings.start, policy
    if start != POLICY:
        sizes = model_size(replace(recipe.model, path=base_and_adapter(start)[0], adapter=None))
    moments = sum(recipe.optimizer.state_bytes(s, wide, embedding=e) for s, e in sizes.shapes)
    return _of_base(recipe, sizes, narrow) + 2 * sizes.trainable * wide + moments


def _of_base(recipe: Recipe, sizes: ModelSize, narrow: int) -> int:
    """Weights that are not trained."""
    bits = 0 if recipe.model.quantize is None else int(sizes.quantized * BYTES_PER_WEIGHT[recipe.model.quantize])
    return bits + (sizes.parameters - sizes.trainable - sizes.quantized) * narrow


def _of_drafts(recipe: Recipe, sizes: ModelSize, prompt: int, narrow: int) -> int:
    """Keys and values, and logits in float32: the larger of training and evaluation."""
    drawn = [recipe.sampling] if recipe.algorithm.draws_drafts and recipe.sampling.server is None else []
    if recipe.evaluation.tasks is not None:
        drawn.append(recipe.evaluation.sampling)
    return max(
        (s.batch_size * ((prompt + s.max_new_tokens) * sizes.cached * narrow + sizes.vocabulary * 4) for s in drawn),
        default=0,
    )


def _is_static(recipe: Recipe, sampling: Sampling) -> bool:
    return sampling.cache == "static" or (sampling.cache == "auto" and resolve_device(recipe.model.device) == "cuda")
