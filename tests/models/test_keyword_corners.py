"""Keyword arguments that change no number of a small model: caches, random numbers, buffers, and how files look."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from support import tiny
from support.seq2seq import bart
from twofold.models import adapters, small_copy, tiled_attention
from twofold.models.adapters import REFERENCE_ADAPTER, load_reference
from twofold.models.logprob import _Head, _How
from twofold.models.policy import Policy, _row_logits
from twofold.models.quantized import RECORD, Quantization
from twofold.models.seq2seq import branch_hidden
from twofold.models.tokenizers import Added, grow


def watched(module: nn.Module) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    module.register_forward_pre_hook(lambda _, __, how: calls.append(how), with_kwargs=True)
    return calls


def test_rows_and_decoders_are_read_without_a_cache() -> None:
    model, decodes = tiny.llama(), bart()
    calls = watched(model)
    rows = _row_logits(model, tiny.groups((3, 2, 1)))
    assert [len(row) for row in rows] == [2, 1]
    assert [(how["use_cache"], tuple(how["input_ids"].shape)) for how in calls] == [(False, (2, 4))]
    calls = watched(decodes.get_decoder())  # type: ignore[operator]  # a method
    groups = tiny.groups((3, 2, 1))
    assert branch_hidden(decodes, groups).shape[0] == 3
    (how,) = calls
    assert sorted(how) == ["encoder_attention_mask", "encoder_hidden_states", "input_ids", "use_cache"]
    assert how["use_cache"] is False
    assert how["encoder_attention_mask"].tolist() == [[1, 1, 1]] * 2
    assert how["encoder_hidden_states"].shape[:2] == (2, 3)


def test_new_rows_are_made_without_a_distribution_of_the_old_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """They become the mean of the rows before them, and the random numbers of the process go on as before."""
    model: Any = tiny.llama()
    calls: list[Any] = []
    resize = type(model).resize_token_embeddings

    def resized(size: int, **how: Any) -> Any:
        calls.append((size, how))
        return resize(model, size, **how)

    monkeypatch.setattr(model, "resize_token_embeddings", resized)
    before = model.get_input_embeddings().weight.detach().clone()
    state = torch.get_rng_state()
    grow(model, Added([61, 62], [61, 62]))
    assert calls == [(63, {"mean_resizing": False})]
    assert torch.equal(torch.get_rng_state(), state)
    grown = model.get_input_embeddings().weight
    torch.testing.assert_close(grown[61:].detach(), before.mean(0).expand(2, -1))
    grow(model, Added([], [60, 62]))
    assert len(calls) == 1


def test_tiles_of_logits_lie_in_one_buffer() -> None:
    """Of five rows and seven columns, three rows at a time."""
    hidden, weight = torch.randn(5, 2), torch.randn(7, 2)
    made = _Head(hidden, weight, torch.zeros(5, dtype=torch.int64), None, _How(None, False))
    made.num_rows = 3
    ((cut, stretch),) = made.columns()
    starts = []
    for tile in made.tiles(cut, stretch):
        starts.append((tile.rows, tile.z.data_ptr() == made.scratch.data_ptr(), tile.z.shape))
        torch.testing.assert_close(tile.z, hidden[tile.rows] @ weight.T)
    assert starts == [(slice(0, 3), True, (3, 7)), (slice(3, 5), True, (2, 7))]


def test_operands_of_tiles_are_of_32_bits_whatever_the_default_is() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        wide = tiled_attention._wide(torch.ones(2, 3, dtype=torch.bfloat16).t())
    finally:
        torch.set_default_dtype(torch.float32)
    assert (wide.dtype, wide.is_contiguous(), wide.tolist()) == (torch.float32, True, [[1.0, 1.0]] * 3)


def test_casts_of_a_step_are_taken_out_of_autocast() -> None:
    """Inside, weights are cast once; what is computed between two packs is as wide as ever."""
    policy = Policy(tiny.llama(), autocast=torch.bfloat16)
    with policy.cast_once():
        assert not torch.is_autocast_enabled("cpu")
        with policy._precision():
            assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


def test_a_second_adapter_is_frozen_and_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(adapters, "_settle_reference", lambda adapter: calls.append(adapter))
    adapter: Any = SimpleNamespace(load_adapter=lambda *named, **how: calls.append((named, how)))
    load_reference(adapter, "there")
    assert calls == [(("there", REFERENCE_ADAPTER), {"is_trainable": False}), adapter]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_quantization_is_recorded_in_lines(dtype: torch.dtype, tmp_path: Path) -> None:
    made = Quantization("int8", dtype, ("lm_head",))
    made.save(tmp_path)
    name = str(dtype).partition(".")[2]
    assert (tmp_path / RECORD).read_text("utf-8") == (
        f'{{\n  "quantize": "int8",\n  "dtype": "{name}",\n  "spared": [\n    "lm_head"\n  ]\n}}\n'
    )
    assert Quantization.recorded(str(tmp_path)) == made
    assert Quantization.recorded(str(tmp_path / "absent")) is None


@pytest.mark.parametrize(
    "damage", [{"dtype": "float33"}, {"spared": 3}, {"quantize": None, "spared": None}, None, "dtype"], ids=str
)
def test_a_damaged_record_is_one_message(damage: Any, tmp_path: Path) -> None:
    known: dict[str, Any] = {"quantize": "nf4", "dtype": "float32", "spared": []}
    if isinstance(damage, dict):
        known |= damage
    elif damage:
        del known[damage]
    text = json.dumps(known) if damage is not None else "{"
    (tmp_path / RECORD).write_text(text, encoding="utf-8")
    with pytest.raises(adapters.ModelError) as refused:
        Quantization.recorded(str(tmp_path))
    assert str(refused.value) == (
        f"{tmp_path}: {RECORD} does not describe a quantization\n  → put the file back as it was written"
    )


def test_a_small_copy_takes_no_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    forks: list[Any] = []
    fork = torch.random.fork_rng

    def forked(**how: Any) -> Any:
        forks.append(how)
        return fork(**how)

    monkeypatch.setattr(torch.random, "fork_rng", forked)
    model = tiny.llama()
    state = torch.get_rng_state()
    made = small_copy.small_copy(model, (torch.float64,))
    assert made is not None
    assert torch.equal(torch.get_rng_state(), state)
    assert made.dtype == torch.float64
    assert forks[:1] == [{"devices": []}]
    assert not any(parameter.requires_grad for parameter in made.parameters())
