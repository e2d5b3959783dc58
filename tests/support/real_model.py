"""A real pretrained chat model as transformers alone reads it, and a few short rows for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from twofold.cli.main import main
from twofold.models.precision import NARROWEST, resolve_precision

QUESTIONS = (
    ("What is the capital of France?", "Paris is the capital of France.", "France has many cities."),
    ("Name a color of the sky.", "Blue.", "The sky is up there, I think."),
    ("Is ice warm?", "No, ice is cold.", "Yes, it is."),
    ("How many legs has a spider?", "A spider has eight legs.", "A spider has four legs and two wings."),
)
"""(question, better answer, worse answer)."""
EXACT = 5e-4
"""Nats by which a log-probability in float32, of a token or an answer, may differ from transformers' own."""
ROUNDED = 0.1
"""The same of bfloat16, in the root mean square over tokens: transformers' own bfloat16 is 0.11 from its float32."""


@dataclass(frozen=True)
class Independent:
    """A model folder in float32, with neither our loading nor our packs."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def of(cls, folder: Path) -> Independent:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return cls(model.eval(), AutoTokenizer.from_pretrained(folder))

    def prompt(self, question: str) -> list[int]:
        turns = [{"role": "user", "content": question}]
        return list(self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False))

    def answer(self, text: str, *, ended: bool = True) -> list[int]:
        end = [self.tokenizer.convert_tokens_to_ids("<|im_end|>")] if ended else []
        return [*self.tokenizer(text, add_special_tokens=False).input_ids, *end]

    @torch.no_grad()
    def logps(self, question: str, text: str, *, ended: bool = True) -> Tensor:
        """Log-probability [n] of each token of an answer, of its end as well."""
        prompt, answer = self.prompt(question), self.answer(text, ended=ended)
        logits = self.model(torch.tensor([prompt + answer[:-1]])).logits[0, len(prompt) - 1 :]
        return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).squeeze(1)


def chat_rows() -> list[dict[str, Any]]:
    """The questions as conversations with two ends."""

    def turn(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    return [
        {"prompt": turn("user", q), "chosen": turn("assistant", c), "rejected": turn("assistant", r)}
        for q, c, r in QUESTIONS
    ]


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def verb(*words: object) -> None:
    """`twofold WORDS`, which must succeed, in this process."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert not end.value.code


def steps_of(run: Path) -> list[dict[str, Any]]:
    """The figures of each training step."""
    return [line for line in read_lines(run / "metrics.jsonl") if line["kind"] == "train"]


def tolerance() -> float:
    """Nats that an answer's log-probability may be off in a verb, by the precision that it takes here."""
    return EXACT if resolve_precision("auto", "cpu", NARROWEST) == "float32" else 10 * ROUNDED


def rms(found: Tensor, expected: Tensor) -> float:
    """How far apart two lists of log-probabilities are, in nats a token."""
    return float((found.double() - expected.double()).square().mean().sqrt())
