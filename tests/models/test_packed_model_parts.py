"""Parts of the wrapper: masters, precision, what is recomputed, turns of processes, and packs on another device."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from support import tiny
from twofold.models import packed_model
from twofold.models.packed_model import _checkpoint_activations
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.world import Turn


def test_only_wide_weights_that_compute_in_bfloat16_have_masters() -> None:
    narrow = Policy(tiny.llama(), autocast=torch.bfloat16)
    before = tiny.weights(narrow)
    narrow.keep_masters()
    first = narrow.masters
    assert first is not None
    narrow.keep_masters()
    assert narrow.masters is first
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(narrow.trainable()[name], before[name])
    with narrow.whole_weights():
        assert torch.equal(narrow.trainable()[name], before[name])
    moved = {n: value + 1 for n, value in before.items()}
    narrow.take(moved)
    assert (narrow.drop_masters(), narrow.drop_masters(), narrow.masters) == (True, False, None)
    assert all(torch.equal(value, moved[n]) for n, value in narrow.trainable().items())
    for other in (Policy(tiny.llama()), tiny.lora_policy(dtype=torch.float32, autocast=torch.bfloat16)):
        other.keep_masters()
        assert other.masters is None
        with other.whole_weights():
            assert other.trainable()


def test_the_precision_of_products_is_that_of_autocast_or_of_casts() -> None:
    plain, autocast, cast = (
        Policy(tiny.llama(), **how) for how in ({}, {"autocast": torch.bfloat16}, {"cast": torch.bfloat16})
    )
    assert (plain.narrow, autocast.narrow, cast.narrow) == (None, torch.bfloat16, torch.bfloat16)
    for policy, on in ((plain, False), (autocast, True), (cast, False)):
        with policy._precision():
            assert torch.is_autocast_enabled("cpu") == on
    with autocast._precision():
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        assert torch.is_autocast_cache_enabled()
    with torch.no_grad(), autocast._precision():
        assert not torch.is_autocast_cache_enabled()


def test_every_layer_is_recomputed_unless_told_otherwise() -> None:
    policy = Policy(tiny.llama(num_hidden_layers=3), activation_checkpointing=True)
    assert [m for m in policy.model.modules() if m.training] == list(policy.model.model.layers)


def test_recomputing_is_asked_for_by_the_newer_name_where_there_is_one() -> None:
    calls: list[Any] = []

    class Old(nn.Module):
        def gradient_checkpointing_enable(self, how: Any) -> None:
            calls.append(("old", how))

    class New(Old):
        def activation_checkpointing_enable(self, how: Any) -> None:
            calls.append(("new", how))

    for made in (Old(), New()):
        _checkpoint_activations(made, None, 1)  # type: ignore[arg-type]  # as much of a model as is asked
    assert calls == [("old", {"use_reentrant": False}), ("new", {"use_reentrant": False})]


def test_embeddings_are_those_of_both_ends() -> None:
    plain, tied = Policy(tiny.llama()), Policy(tiny.llama(tie_word_embeddings=True))
    weight = plain.model.get_input_embeddings().weight
    assert [p is q for p, q in zip(plain.embeddings(), (weight, plain.model.lm_head.weight), strict=True)] == [True] * 2
    assert plain.embeddings()[0] is not plain.embeddings()[1]
    first, second = tied.embeddings()
    assert first is second
    plain.model.lm_head = None
    assert len(plain.embeddings()) == 1


def test_a_device_is_that_of_the_weights_until_it_is_fixed() -> None:
    policy = Policy(tiny.llama())
    assert policy.device.type == "cpu"
    policy.model.to("meta")
    assert policy.device.type == "meta"
    policy.stay_on_device()
    policy.model.to_empty(device="cpu")
    assert policy.device.type == "meta"


@pytest.mark.parametrize("sharded", [False, True])
def test_packs_are_dealt_by_their_tokens(sharded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    world = SimpleNamespace(deal=lambda sizes, *, even: calls.append((sizes, even)) or [])
    monkeypatch.setattr(packed_model, "world", lambda: world)
    monkeypatch.setattr(packed_model, "is_sharded", lambda model: sharded)
    groups = tiny.groups((3, 2), (4, 3, 3), (5, 1))
    assert tiny.policy().turns([groups[:2], groups[2:]]) == []
    assert calls == [([4 + 8, 5], sharded)]


def test_turns_that_are_not_real_are_computed_and_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three packs this process has the last and, so that all call the model equally often, the first again."""
    policy, groups = tiny.policy(), tiny.groups((3, 2), (4, 3, 3), (5, 1))
    want = policy.logps(groups, Packing(groups=1))
    pools: list[Any] = []

    def pooled(values: dict[int, torch.Tensor], sizes: list[int], dtype: torch.dtype) -> list[torch.Tensor]:
        pools.append(({place: len(value) for place, value in values.items()}, sizes, dtype))
        return [values.get(place, torch.zeros(size, dtype=dtype)) for place, size in enumerate(sizes)]

    monkeypatch.setattr(policy, "turns", lambda packs: [Turn(2, True), Turn(0, False)])
    monkeypatch.setattr(packed_model, "world", lambda: SimpleNamespace(pooled=pooled))
    values = policy.per_pack([[group] for group in groups])
    assert pools == [({2: 1}, [2, 6, 1], torch.float64)]
    assert torch.equal(values[2][0][0], want[2][0])
    assert values[0][0][0].tolist() == [0.0, 0.0]
    assert [[[len(x) for x in row] for row in pack] for pack in values] == [[[2]], [[3, 3]], [[1]]]


@pytest.mark.parametrize("fails", [False, True])
def test_packs_are_tried_on_the_device_of_the_model(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy(tiny.llama())
    assert policy._device_note() == ""
    policy.model.to("meta")
    calls: list[Any] = []

    def hidden(model: Any, stream: Any, *, by_mask: bool) -> None:
        calls.append((model.config._attn_implementation, stream.token_T.device.type, by_mask))
        if fails:
            raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr(packed_model, "pack_hidden", hidden)
    monkeypatch.setattr(policy, "_precision", lambda model=None: nullcontext())
    policy.model.config._attn_implementation = "eager"
    assert policy._device_note() == ("no kernel" if fails else "")
    assert calls == [("twofold_branches", "meta", False)]
    assert policy.model.config._attn_implementation == "eager"
