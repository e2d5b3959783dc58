"""Whether a written model is still the model: its log-probabilities of a few texts, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from twofold.batch import Branch, Group, Role
from twofold.errors import ModelError
from twofold.models.load import ModelSettings, load_model, load_weights
from twofold.models.policy import Policy

BOUNDS = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.1, "q8_0": 0.2}
"""The largest mean difference per token, in nats, that rounding the weights explains."""
TEXTS = (
    ("The capital of France is", " Paris, and the river Seine runs through it."),
    ("Water boils at 100 degrees", " Celsius at sea level, but at a lower temperature in the mountains."),
    ("def square(x):\n", "    return x * x\n"),
    ("12 + 30 =", " 42, because 12 + 30 = 10 + 32."),
    ("Die Katze schläft", " auf dem Sofa, und der Hund wartet vor der Tür."),
)


@dataclass(frozen=True)
class Agreement:
    """Differences of log-probabilities over `tokens` tokens, in nats, and the bound of their mean."""

    tokens: int
    mean: float
    largest: float
    bound: float

    def __str__(self) -> str:
        return (
            f"log-probabilities of {self.tokens} tokens before and after: mean difference {self.mean:.5f} nats, "
            f"largest {self.largest:.5f}; bound of the mean {self.bound:g}"
        )


class Before:
    """The log-probabilities of the model at `source`, an adapter merged in float32. Raises ModelError."""

    def __init__(self, source: Path) -> None:
        loaded = load_model(_settings(source))
        self._groups = _groups(loaded.tokenizer)
        self._logps = _logps(loaded.model, self._groups)

    def compare(self, folder: Path, stored: str, gguf_file: str | None = None) -> Agreement:
        """What the weights in `folder`, stored as `stored`, give. Raises ModelError beyond the bound."""
        settings = _settings(folder, gguf_file)
        after = _logps(load_weights(settings, settings.path), self._groups)
        difference = (after - self._logps).abs()
        bound = BOUNDS[stored]
        found = Agreement(len(difference), float(difference.mean()), float(difference.max()), bound)
        if not found.mean <= bound:
            remedy = "do not use what was written; --dtype float32 rounds least, --no-check writes it anyway"
            raise ModelError(f"is not the model that was exported: {found}", where=str(folder), remedy=remedy)
        return found


def _settings(folder: Path, gguf_file: str | None = None) -> ModelSettings:
    return ModelSettings(path=str(folder), gguf_file=gguf_file, device="cpu", precision="float32")


def _groups(tokenizer: Any) -> list[Group]:
    """The texts as tokens, without those of which the tokenizer reads nothing."""
    read = [[_tokens(tokenizer, text) for text in pair] for pair in TEXTS]
    return [
        Group(f"text {number}", prompt, (Branch(completion, Role.DEMONSTRATION),))
        for number, (prompt, completion) in enumerate(read, 1)
        if len(prompt) and len(completion)
    ]


def _tokens(tokenizer: Any, text: str) -> Tensor:
    return torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.int64)


@torch.no_grad()
def _logps(model: PreTrainedModel, groups: Sequence[Group]) -> Tensor:
    rows = [logps for branches in Policy(model).logps(groups) for logps in branches]
    return torch.cat(rows) if rows else torch.zeros(1)
