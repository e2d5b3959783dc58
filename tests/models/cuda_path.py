"""The CUDA branches, run over tensors without values: which attention is called, in which dtype, and what comes out.

`test_cuda_path.py` runs this file in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers as tr

from support import fake_cuda, tiny
from twofold.models import attention
from twofold.models.attention import NAME, set_attention
from twofold.models.logprob import token_logps, token_statistics
from twofold.models.packing import pack
from twofold.sampling.static import StaticStore

SIZES: dict[str, Any] = {**tiny.DECODER, "hidden_size": 128, "intermediate_size": 64}
WINDOW: dict[str, Any] = {"sliding_window": 16, "head_dim": 32}
GPT2: dict[str, Any] = {"vocab_size": 61, "n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 64}
PAIRS = tiny.pairs(3)
FAMILIES: dict[str, tuple[Any, Any]] = {
    "llama": (tr.LlamaForCausalLM, tr.LlamaConfig(**SIZES)),
    "qwen2": (tr.Qwen2ForCausalLM, tr.Qwen2Config(**SIZES)),
    "qwen3": (tr.Qwen3ForCausalLM, tr.Qwen3Config(**SIZES, head_dim=32)),
    "mistral": (tr.MistralForCausalLM, tr.MistralConfig(**SIZES, **WINDOW)),
    "gemma3": (tr.Gemma3ForCausalLM, tr.Gemma3TextConfig(**SIZES, **WINDOW)),
    "gpt_neox": (tr.GPTNeoXForCausalLM, tr.GPTNeoXConfig(**SIZES)),
    "gpt2": (tr.GPT2LMHeadModel, tr.GPT2Config(**GPT2)),
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, set[torch.dtype]]]]:
    """Each attention call's path and the dtypes of its queries, keys and values, on a CUDA device without values."""
    seen: list[tuple[str, set[torch.dtype]]] = []
    for name in ("_varlen", "_bucketed"):
        original = getattr(attention, name)

        def noting(*inputs: Any, name: str = name, original: Any = original) -> torch.Tensor:
            seen.append((name, {x.dtype for x in inputs[:3]}))
            return original(*inputs)

        monkeypatch.setattr(attention, name, noting)
    with fake_cuda.fake_cuda():
        yield seen


def hidden(family: str, weights: torch.dtype, autocast: torch.dtype | None) -> torch.Tensor:
    """The hidden rows of a pack of pairs."""
    model = fake_cuda.model(*FAMILIES[family], weights)
    set_attention(model, NAME)
    stream = pack(PAIRS, fake_cuda.DEVICE)
    with torch.autocast("cuda", autocast, enabled=autocast is not None), torch.no_grad():
        out = model.base_model(
            input_ids=stream.token_T, position_ids=stream.position_T, use_cache=False, layout=stream.layout
        )
    return out.last_hidden_state


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_is_one_variable_length_call_a_layer(
    calls: list[tuple[str, set[torch.dtype]]], family: str, weights: torch.dtype
) -> None:
    """Rotary code hands on float32 queries under autocast; all three must arrive in autocast's dtype."""
    out = hidden(family, weights, torch.bfloat16)
    assert calls == [("_varlen", {torch.bfloat16})] * 2
    assert out.device == fake_cuda.DEVICE


def test_bfloat16_weights_alone_are_enough(calls: list[tuple[str, set[torch.dtype]]]) -> None:
    assert hidden("llama", torch.bfloat16, None).dtype == torch.bfloat16
    assert calls == [("_varlen", {torch.bfloat16})] * 2


@pytest.mark.parametrize("autocast", [torch.bfloat16, None], ids=str)
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=str)
def test_the_head_sums_in_float32(weights: torch.dtype, autocast: torch.dtype | None) -> None:
    with fake_cuda.fake_cuda():
        rows = torch.empty(40, 128, device=fake_cuda.DEVICE, dtype=weights)
        weight = torch.empty(512, 128, device=fake_cuda.DEVICE, dtype=weights)
        target = torch.empty(40, device=fake_cuda.DEVICE, dtype=torch.int64)
        with torch.autocast("cuda", autocast, enabled=autocast is not None):
            logps = token_logps(rows, weight, target)
            known = token_statistics(rows, weight)
        assert (logps.shape, logps.dtype, logps.device) == ((40,), torch.float32, fake_cuda.DEVICE)
        assert {x.dtype for x in known.values()} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_decoding_step_never_asks_for_a_value(dtype: torch.dtype) -> None:
    """A step that reads a value cannot be captured: here it would fail."""
    with fake_cuda.fake_cuda(), torch.no_grad():
        model = fake_cuda.model(*FAMILIES["qwen2"], dtype)
        model.config._attn_implementation = "sdpa"
        store = StaticStore(model, 8, 64, 8)
        store.frame.size, store.frame.width = 8, 64
        for layer in store.layers:
            states = torch.empty(8, 2, 1, 32, dtype=dtype, device=fake_cuda.DEVICE)
            layer.lazy_initialization(states, states)
        token, position = (torch.empty(8, dtype=torch.int64, device=fake_cuda.DEVICE) for _ in range(2))
        logits = store.feed(token, position)
        assert (logits.shape, logits.device) == ((8, 61), fake_cuda.DEVICE)
