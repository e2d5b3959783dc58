"""A forecast of memory is within 15% of the bytes that live while the run's own step is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from support.architectures import SPARSE
from support.families import build
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.demo.build import character_tokenizer
from twofold.models.footprint import Tally
from twofold.models.load import load_policy
from twofold.models.model_size import model_size
from twofold.models.reference import with_reference
from twofold.runs.forecast import forecast, largest_pack
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 5,
    "max_position_embeddings": 512,
    "vocab_size": 300,
}
MODELS: dict[str, Any] = {
    "llama": lambda: build(tr.LlamaForCausalLM, tr.LlamaConfig, **SIZES),
    "deep llama": lambda: build(tr.LlamaForCausalLM, tr.LlamaConfig, **{**SIZES, "num_hidden_layers": 11}),
    "gpt2": lambda: tiny.gpt2(n_embd=64, n_layer=5, n_positions=512, vocab_size=300),
    "qwen2": lambda: build(tr.Qwen2ForCausalLM, tr.Qwen2Config, tie_word_embeddings=True, **SIZES),
    "gemma3": lambda: build(
        tr.Gemma3ForCausalLM,
        tr.Gemma3TextConfig,
        **{**SIZES, "num_hidden_layers": 7},
        sliding_window=16,
        head_dim=16,
        layer_types=["sliding_attention", "full_attention"] * 3 + ["sliding_attention"],
    ),
    "qwen3_moe": lambda: build(tr.Qwen3MoeForCausalLM, tr.Qwen3MoeConfig, head_dim=16, **{**SIZES, **SPARSE}),
}


def recipe(folder: Path, family: str, model: dict[str, Any], **sections: Any) -> Recipe:
    made = MODELS[family]()
    made.save_pretrained(folder / "base")
    character_tokenizer().save_pretrained(folder / "base")
    given = {"model": {"path": str(folder / "base"), **model}, "data": {"train": "none"}, **sections}
    return validate(Recipe, Document("test", given, {}))


def rows(count: int) -> list[Any]:
    return tiny.groups(*[(40 + i % 5, 30 + 7 * (i % 4), 50 - i % 6) for i in range(count)])


def live_bytes(recipe: Recipe, groups: list[Any]) -> int:
    """Of two steps with the weights, each storage counted while it lives."""
    policy, _ = load_policy(recipe.model)
    step = Step(
        [Trainable.of(POLICY, policy, recipe.optimizer, 10)], providers={}, packing=recipe.training.packing, clip=1.0
    )
    groups = with_reference(groups, [[torch.zeros(len(b.tokens)) for b in g.branches] for g in groups])
    weights = sum(p.nbytes for p in policy.parameters())
    with Tally([*policy.parameters(), *policy.buffers()]) as tally:
        for number in range(2):
            step(Round(number, [Part(groups, recipe.objective)]))
    return weights + max(tally.peaks.values())


CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "float32, many packs": (140, {"precision": "float32"}),
    "float32, recomputed": (9999, {"precision": "float32", "activation_checkpointing": True}),
    "float32, every second recomputed": (
        9999,
        {"precision": "float32", "activation_checkpointing": True, "recompute_every": 2},
    ),
    "bfloat16": (300, {"precision": "bfloat16"}),
    "LoRA, bfloat16": (9999, {"precision": "bfloat16", "lora": {"rank": 4}}),
}


PAIRS = [
    *(("llama", case) for case in CASES if case != "float32, recomputed"),
    ("deep llama", "float32, every second recomputed"),
    ("gpt2", "float32, many packs"),
    ("qwen2", "float32, recomputed"),
    ("gemma3", "bfloat16"),
    ("qwen3_moe", "float32, many packs"),
    ("qwen3_moe", "bfloat16"),
]


@pytest.mark.parametrize(("family", "case"), PAIRS)
def test_memory_is_foreseen(family: str, case: str, tmp_path: Path) -> None:
    tokens, model = CASES[case]
    asked = recipe(tmp_path, family, model, training={"batch_size": 6, "packing": {"tokens": tokens}})
    groups = rows(6)
    found = forecast(asked, model_size(asked.model), largest_pack(asked, groups))
    live = live_bytes(asked, groups)
    assert found.counted
    assert abs(found.total / live - 1) < 0.15, (found, live)
