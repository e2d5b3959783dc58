"""The bytes of a step are those that live while a real model of the same config computes it, to the byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from support.families import build
from twofold.demo.build import character_tokenizer
from twofold.models import attention
from twofold.models.footprint import FORWARD, HEAD, Build, Tally, _depths, _of_depth, step_bytes
from twofold.models.heads import load_reward_model
from twofold.models.load import LoRA, ModelSettings, load_policy, resolve_device
from twofold.models.machine import memory_bytes
from twofold.models.planned import planned_gpu
from twofold.models.precision import resolve_precision
from twofold.models.weightless import training_bytes

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 1}
WINDOWS = {"head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"] * 3}


def llama(layers: int) -> tr.PreTrainedModel:
    return tiny.llama(num_hidden_layers=layers, vocab_size=300, **SMALL)


def gemma3() -> tr.PreTrainedModel:
    made = {**SMALL, **WINDOWS, "num_hidden_layers": 7, "vocab_size": 300}
    made["layer_types"] = [*made["layer_types"], "sliding_attention"]
    return build(tr.Gemma3ForCausalLM, tr.Gemma3TextConfig, **made)


def live_bytes(model: Any, *, several: bool) -> int:
    gradients, groups = [], tiny.groups((9, 6, 5), (7, 4, 3))
    if several:
        for parameter in model.trainable().values():
            parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    with Tally([*model.parameters(), *model.buffers(), *gradients]) as tally, model.cast_once():
        outputs, _ = model(groups)
        value = getattr(outputs, model.head.output).sum()
        del outputs
        value.backward()
    return sum(g.nbytes for g in gradients) + max(tally.peaks.values())


@pytest.mark.parametrize(
    ("make", "how", "settings"),
    [
        (lambda: llama(4), {}, {}),
        (lambda: llama(7), {"several": True}, {}),
        (lambda: llama(2), {"scored": True}, {}),
        (lambda: llama(2), {}, {"lora": LoRA(rank=2)}),
        (lambda: llama(8), {}, {"activation_checkpointing": True, "recompute_every": 2}),
        (gemma3, {}, {"precision": "bfloat16"}),
    ],
    ids=["whole", "deep, several packs", "scored", "lora", "recomputed", "windows, bfloat16"],
)
def test_bytes_of_a_step(
    make: Callable[[], tr.PreTrainedModel], how: dict[str, bool], settings: dict[str, Any], tmp_path: Path
) -> None:
    make().save_pretrained(tmp_path)
    character_tokenizer().save_pretrained(tmp_path)
    model = ModelSettings(path=str(tmp_path), **{"precision": "float32", **settings})
    how = {"scored": False, "several": False, **how}
    counted = training_bytes(model, tiny.groups((9, 6, 5), (7, 4, 3)), **how)
    real, _ = (load_reward_model if how["scored"] else load_policy)(model)
    assert counted == live_bytes(real, several=how["several"])


def test_a_planned_gpu_is_counted_on_its_own_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable-length call a layer in bfloat16, hidden states in it, and the head's tiles of a GPU."""
    llama(2).save_pretrained(tmp_path)
    settings, groups = ModelSettings(path=str(tmp_path)), tiny.groups((9, 6, 5), (7, 4, 3))
    seen: list[torch.dtype] = []

    def noting(q: torch.Tensor, *rest: Any, original: Any = attention._varlen) -> torch.Tensor:
        seen.append(q.dtype)
        return original(q, *rest)

    monkeypatch.setattr(attention, "_varlen", noting)
    with planned_gpu(2**30):
        assert (resolve_device("auto"), resolve_device("cpu")) == ("cuda", "cpu")
        assert (resolve_precision("auto", "cuda"), memory_bytes("cuda")) == ("bfloat16", 2**30)
        counted = training_bytes(settings, groups, scored=False, several=False)
    assert seen == [torch.bfloat16] * 2
    assert counted is not None
    assert counted != training_bytes(settings, groups, scored=False, several=False)
    assert seen == [torch.bfloat16] * 2  # a processor's has none of these calls
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_gpu_that_is_here_is_counted_as_a_planned_one(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors without data on a real GPU are counted too high: 1.6 times what an H200 allocated."""
    llama(2).save_pretrained(tmp_path)
    settings = ModelSettings(path=str(tmp_path), precision=precision)  # type: ignore[arg-type]  # one of its values
    groups = tiny.groups((9, 6, 5), (7, 4, 3))
    with planned_gpu(2**30):
        planned = training_bytes(settings, groups, scored=False, several=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training_bytes(settings, groups, scored=False, several=False) == planned
    on_cpu = training_bytes(replace(settings, device="cpu"), groups, scored=False, several=False)
    assert None not in (planned, on_cpu)
    assert (planned != on_cpu) == (precision == "bfloat16")  # in float32 both take the same paths


@pytest.mark.parametrize(("layers", "built"), [(2, 2), (40, 3)])
def test_deep_models_are_not_built_whole(layers: int, built: int) -> None:
    def weights(config: tr.PreTrainedConfig) -> Any:
        raise LookupError(config.num_hidden_layers)

    build: Any = Build(weights, weights, weights)  # type: ignore[arg-type]  # the first one ends it
    config = tr.LlamaConfig(**{**tiny.DECODER, "num_hidden_layers": layers})
    with pytest.raises(LookupError, match=f"^{built}$"):
        step_bytes(build, config, tiny.groups((2, 1)), several=False)


def test_a_tally_counts_what_lives_and_no_storage_twice() -> None:
    known = torch.zeros(100)
    with Tally([known]) as tally:
        a = torch.zeros(10)  # 40 bytes
        b = a.view(2, 5) + known[:5]  # 40 bytes; a view and what was known before take none
        assert tally.now == 80
        del a
        assert tally.now == 40
        tally.begin(HEAD)
        c = b.double()  # 80 bytes
        del b, c
        assert tally.now == 0
    assert tally.peaks == {FORWARD: 80, HEAD: 120}


@pytest.mark.parametrize(
    ("layers", "least", "kinds", "first", "depths"),
    [
        (4, 1, None, 0, None),  # few layers are run as they are
        (5, 1, None, 0, (3, 4)),
        (9, 1, None, 0, (3, 4)),
        (6, 2, None, 0, None),
        (7, 2, None, 0, (4, 6)),
        (7, 3, None, 0, (3, 6)),
        (7, 1, "ababaab", 0, None),  # never repeats
        (7, 1, "abababa", 0, (4, 6)),
        (8, 1, "abcabcab", 0, (3, 6)),
        (6, 1, "abcabc", 0, None),  # both depths would be the model itself
        (8, 1, "xaaaaaaa", 1, (4, 5)),  # a dense layer before the sparse ones
        (8, 1, "xaaaaaaa", 0, None),
    ],
)
def test_depths_differ_by_whole_periods(
    layers: int, least: int, kinds: str | None, first: int, depths: tuple[int, int] | None
) -> None:
    config: Any = SimpleNamespace(first_k_dense_replace=first)
    if kinds:
        config.layer_types = list(kinds)
    assert _depths(config, layers, least) == depths


def test_a_config_of_fewer_layers_is_a_copy_with_shorter_lists() -> None:
    config = tr.Gemma3TextConfig(**{**tiny.DECODER, **WINDOWS, "num_hidden_layers": 6})
    fewer = _of_depth(config, 3)
    assert (fewer.num_hidden_layers, config.num_hidden_layers, len(config.layer_types or ())) == (3, 6, 6)
    assert fewer.layer_types == ["sliding_attention", "full_attention", "sliding_attention"]
