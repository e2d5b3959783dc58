"""What a run would do, without doing it: settings, rows, parameters, steps, and how much memory to expect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from twofold.algorithms import PDPO
from twofold.config.assemble import Records, read_records
from twofold.config.load import dump
from twofold.config.schema import Recipe
from twofold.data.tokenize import Encoder, encode
from twofold.errors import ModelError
from twofold.models.load import load_tokenizer, resolve_device, resolve_precision
from twofold.progress import Progress, Silent

GIB = 2**30


@dataclass(frozen=True)
class Forecast:
    """Bytes by what holds them, at the largest pack. Activations are a rule of thumb (within about a factor of two)."""

    weights: int
    gradients: int
    optimizer: int
    reference: int
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
        counts = ", ".join(f"{k} {v}" for k, v in self.rows.items() if v)
        return [
            f"rows        {counts}",
            f"parameters  {self.parameters:,} ({self.trainable:,} trainable)",
            f"steps       {self.steps}",
            f"device      {self.device}, {self.precision}",
            f"memory      about {self.memory.total / GIB:.2f} GiB ({memory}; activations are a rule of thumb)",
        ]


def dry_run(recipe: Recipe, progress: Progress | None = None) -> DryRun:
    """Read and tokenize the data, build the model without its weights, and count. Raises TwofoldError as the run would."""
    records = read_records(recipe, recipe.objective)
    tokenizer = load_tokenizer(recipe.model.path, recipe.model.revision)
    stops = frozenset() if tokenizer.eos_token_id is None else frozenset({int(tokenizer.eos_token_id)})
    encoder = Encoder(tokenizer, stops, recipe.data.tokenize)
    encoded = encode(records.train, encoder, progress or Silent())
    model = _skeleton(recipe)
    parameters = sum(p.numel() for p in model.parameters())
    trainable = _lora_parameters(model, recipe) if recipe.model.lora else parameters
    device = resolve_device(recipe.model.device)
    precision = resolve_precision(recipe.model.precision, device)
    longest = max(g.num_tokens for g in encoded.groups)
    return DryRun(
        resolved=dump(recipe),
        rows=_rows(records),
        tokens=encoded.counts(),
        parameters=parameters,
        trainable=trainable,
        steps=recipe.training.total_steps(len(encoded.groups)),
        device=device,
        precision=precision,
        memory=forecast(recipe, model, (parameters, trainable), max(longest, recipe.training.packing.tokens)),
    )


def forecast(recipe: Recipe, model: PreTrainedModel, counts: tuple[int, int], pack_tokens: int) -> Forecast:
    """Memory for `counts` (all, trainable) parameters and packs of `pack_tokens`.

    Activations: about 17 values a token, layer and hidden unit (2205.05198, without the attention scores, which are never
    held), the hidden states alone under checkpointing.
    """
    parameters, trainable = counts
    config = model.config.get_text_config()
    half = resolve_precision(recipe.model.precision, resolve_device(recipe.model.device)) == "bfloat16"
    wide = 8 if recipe.model.precision == "float64" else 4
    frozen_base = recipe.model.lora is not None or recipe.model.adapter is not None
    values = 1 if recipe.model.activation_checkpointing else 17
    live = recipe.reference.kind == "live" or isinstance(recipe.algorithm, PDPO)
    return Forecast(
        weights=(parameters - trainable) * (2 if half else wide) + trainable * wide,
        gradients=trainable * wide,
        optimizer=2 * trainable * wide,
        reference=parameters * wide if live and not frozen_base else 0,
        activations=values * pack_tokens * config.num_hidden_layers * config.hidden_size * (2 if half else wide),
        logits=min(pack_tokens * config.vocab_size, 2**22 if resolve_device(recipe.model.device) == "cpu" else 2**28) * wide,
    )


def _rows(records: Records) -> dict[str, int]:
    names = ("train", "generator", "heldout", "tasks")
    return {name: len(getattr(records, name)) for name in names}


def _skeleton(recipe: Recipe) -> PreTrainedModel:
    """The model's shape without storage."""
    try:
        config = AutoConfig.from_pretrained(recipe.model.path, revision=recipe.model.revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(str(error).strip().splitlines()[0], where=recipe.model.path) from error
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def _lora_parameters(model: PreTrainedModel, recipe: Recipe) -> int:
    """Adapter parameters: rank · (inputs + outputs) of each linear layer but the head."""
    lora, head = recipe.model.lora, model.get_output_embeddings()
    if lora is None:
        return 0
    named = None if isinstance(lora.targets, str) else set(lora.targets)
    matrices = [
        module.weight
        for name, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and module is not head
        if named is None or name.rpartition(".")[2] in named
    ]
    return sum(lora.rank * sum(weight.shape) for weight in matrices)  # type: ignore[misc, arg-type]  # a module's weight
