"""What a run would do, without doing it: settings, rows, parameters, steps, and how much memory to expect."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from twofold.algorithms.gae import POLICY
from twofold.algorithms.schedules import refuse_bad_ramps
from twofold.config.load import dump, plain
from twofold.config.schema import Recipe
from twofold.data.dataset import encode_rows
from twofold.data.encode import described_in_all
from twofold.data.stored_groups import max_tokens
from twofold.data.tokenize import Encoder
from twofold.models.load import (
    base_and_adapter,
    load_stop_tokens,
    load_tokenizer,
    refuse_classifier,
    resolve_device,
    training_precision,
)
from twofold.models.logprob import TILE
from twofold.models.machine import memory_bytes
from twofold.models.model_size import ModelSize, model_size
from twofold.models.quantized import BYTES_PER_WEIGHT
from twofold.models.tokenizers import prepare
from twofold.progress import Progress, Silent
from twofold.reports.rates import unusual_rate
from twofold.runs.context import asks_live, total_steps
from twofold.runs.dataset import data_cache, read_dataset
from twofold.training.track import refuse_missing

GIB = 2**30


@dataclass(frozen=True)
class Forecast:
    """Bytes by what holds them, at the largest pack. Activations are a rule of thumb (within about a factor of two)."""

    weights: int
    gradients: int
    optimizer: int
    reference: int
    value: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return sum(vars(self).values())


@dataclass(frozen=True)
class DryRun:
    """A run as it would be."""

    resolved: str
    rows: dict[str, int]
    prompts: str
    used: int
    """Training rows that fit, of which the steps are counted."""
    tokens: dict[str, Any]
    parameters: int
    trainable: int
    steps: int
    device: str
    precision: str
    memory: Forecast

    def lines(self) -> list[str]:
        """The figures for a person, after the resolved settings."""
        memory = ", ".join(f"{k} {v / GIB:.2f}" for k, v in vars(self.memory).items() if v)
        counts = ", ".join(f"{k} {v}{self._share(k)}" for k, v in self.rows.items() if v)
        return [
            f"rows        {counts}",
            f"prompts     {self.prompts}",
            f"parameters  {self.parameters:,} ({self.trainable:,} trainable)",
            f"steps       {self.steps}",
            f"device      {self.device}, {self.precision}",
            f"memory      about {self.memory.total / GIB:.2f} GiB ({memory}; activations are a rule of thumb)",
        ]

    def _share(self, name: str) -> str:
        return f" ({self.used} used, the others do not fit)" if name == "train" and self.used < self.rows[name] else ""


def dry_run(recipe: Recipe, progress: Progress | None = None) -> DryRun:
    """Read and tokenize the data and count; no weights are loaded. Raises TwofoldError as the run would."""
    refuse_missing(recipe.training.track)
    refuse_bad_ramps(recipe.objective, recipe.algorithm.ramp)
    progress = progress or Silent()
    records = read_dataset(recipe, recipe.objective, progress=progress)
    tokenizer = load_tokenizer(recipe.model.path, recipe.model.revision, recipe.model.gguf_file)
    prepare(tokenizer, recipe.model.add_tokens, recipe.model.template_arguments or {})
    if recipe.objective.reads != "scores":
        refuse_classifier(recipe.model.path, recipe.model.revision)
    stops = load_stop_tokens(recipe.model.path, tokenizer, recipe.model.revision)
    encoder = Encoder(tokenizer, stops, recipe.data.tokenize, recipe.data.chat)
    trained = encode_rows(records.train, encoder, data_cache(recipe), progress)
    sizes = model_size(recipe.model)
    device = resolve_device(recipe.model.device)
    memory = forecast(recipe, sizes, max(max_tokens(trained.groups), recipe.training.packing.tokens))
    if (there := memory_bytes(device)) is not None and memory.total > there:
        needed = f"about {memory.total / GIB:.0f} GiB are needed and {device} has {there / GIB:.0f}"
        progress.warn(f"{needed}: training would run out of memory. {_remedy(recipe)}")
    way, words = unusual_rate(plain(recipe), sizes.parameters) or ("", "")
    if way:
        progress.warn(f"optimizer.learning_rate is {way}, {words} → left out, it is {_usual_rate(recipe):g}")
    return DryRun(
        resolved=dump(recipe),
        rows={name: len(getattr(records, name)) for name in ("generator", "heldout", "tasks")}
        | {"train": trained.rows},
        prompts=described_in_all([trained], encoder),
        used=trained.num_groups,
        tokens=trained.counts(),
        parameters=sizes.parameters,
        trainable=sizes.trainable,
        steps=total_steps(recipe, len(trained.groups)),
        device=device,
        precision=training_precision(recipe.model, sizes.hidden),
        memory=memory,
    )


def _usual_rate(recipe: Recipe) -> float:
    """The rate by default of this optimizer for this kind of tuning."""
    adapter = recipe.model.lora is not None or recipe.model.adapter is not None
    return recipe.optimizer.rates[adapter]


def _remedy(recipe: Recipe) -> str:
    ways = {
        "model.lora={rank: 16}": recipe.model.lora is None and recipe.model.adapter is None,
        "model.quantize=nf4": recipe.model.lora is not None and recipe.model.quantize is None,
        "model.activation_checkpointing=true": not recipe.model.activation_checkpointing,
        "fewer training.packing.tokens": True,
        "a smaller model": True,
    }
    return f"Less take {', '.join(way for way, is_open in ways.items() if is_open)}"


def forecast(recipe: Recipe, sizes: ModelSize, pack_tokens: int) -> Forecast:
    """Memory with packs of `pack_tokens`.

    Activations: about 17 values a token, layer and hidden unit (2205.05198, without the attention scores, which are
    never held); under checkpointing the hidden states alone.
    """
    device = resolve_device(recipe.model.device)
    wide = 8 if recipe.model.precision == "float64" else 4
    narrow = 2 if training_precision(recipe.model, sizes.hidden) == "bfloat16" else wide
    frozen_base = recipe.model.lora is not None or recipe.model.adapter is not None
    values = 1 if recipe.model.activation_checkpointing else 17
    live = asks_live(recipe, recipe.objective)
    return Forecast(
        weights=_of_base(recipe, sizes, narrow) + sizes.trainable * wide,
        gradients=sizes.trainable * wide,
        optimizer=2 * sizes.trainable * wide,
        reference=sizes.parameters * wide if live and not frozen_base else 0,
        value=_of_critic(recipe, sizes, narrow, wide),
        activations=values * pack_tokens * sizes.layers * sizes.hidden * narrow,
        logits=min(pack_tokens * sizes.vocabulary, prod(TILE[device])) * wide,
    )


def _of_base(recipe: Recipe, sizes: ModelSize, narrow: int) -> int:
    """Weights that stay as they are."""
    bits = 0 if recipe.model.quantize is None else int(sizes.quantized * BYTES_PER_WEIGHT[recipe.model.quantize])
    return bits + (sizes.parameters - sizes.trainable - sizes.quantized) * narrow


def _of_critic(recipe: Recipe, policy: ModelSize, narrow: int, wide: int) -> int:
    """Weights, gradients and moments of the value model, if there is one: the policy's kind, in its own size."""
    settings = recipe.algorithm.value_model
    if settings is None:
        return 0
    start, sizes = settings.start, policy
    if start != POLICY:
        sizes = model_size(replace(recipe.model, path=base_and_adapter(start)[0], adapter=None))
    return _of_base(recipe, sizes, narrow) + 4 * sizes.trainable * wide
