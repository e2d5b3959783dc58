"""Reward models on tiny backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as tr
from torch import Tensor
from transformers import PreTrainedModel

from support import tiny
from twofold.models.heads import RewardModel

STOP = 1


def folder(tmp_path: Path, model: PreTrainedModel) -> str:
    """A language model whose tokenizer pads with its stop token, as many do."""
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = tokenizer.pad_token = str(STOP)
    model.save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    return str(tmp_path / "lm")


def scorer_folder(folder: Path, tokenizer: Any, *, scores: bool = True) -> str:
    """A Llama of one layer with this tokenizer and one score, or without scores."""
    sizes = {**tiny.DECODER, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    sizes |= {"pad_token_id": 0, "num_hidden_layers": 1, "num_labels": 1}
    kind = tr.LlamaForSequenceClassification if scores else tr.LlamaForCausalLM
    tiny.sharp(kind(tr.LlamaConfig(**sizes))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def flat(scores: list[list[float]]) -> Tensor:
    return torch.tensor([s for row in scores for s in row], dtype=torch.float64)


def moved(model: RewardModel) -> RewardModel:
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.trainable().values():
            p.add_(0.05 * torch.randn(p.shape, generator=noise, dtype=p.dtype))
    return model
