"""A model in parts, on one process that has all of its only part."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

from support import tiny
from twofold.models.parts import ROOT, _divide, copied, in_parts, parts_for_shards

pytestmark = pytest.mark.usefixtures("group_of_one")


def divided(tie: bool = False) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model in parts, and the values of its weights."""
    torch.manual_seed(0)
    model: Any = tiny.llama()
    if tie:
        model.lm_head.weight = model.get_input_embeddings().weight
    values = deepcopy(model.state_dict())
    model.model.norm.weight.requires_grad_(False)
    _divide(model, "shard", "cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.to_local().copy_(values[name])
    return model, values


def test_parts_have_the_shapes_of_the_whole() -> None:
    plain, (model, values) = tiny.llama(), divided()
    assert (in_parts(plain), in_parts(model)) == (False, True)
    assert {n: p.shape for n, p in model.named_parameters()} == {n: p.shape for n, p in plain.named_parameters()}
    assert all(p.stride() == values[n].stride() and p.dtype == values[n].dtype for n, p in model.named_parameters())
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["model.norm.weight"]
    setattr(model, ROOT, None)
    assert not in_parts(model)


@pytest.mark.parametrize("tie", [False, True])
def test_a_copy_has_weights_of_its_own(tie: bool) -> None:
    model, values = divided(tie)
    copy = copied(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.to_local().zero_()
    assert in_parts(copy)
    assert (copy.lm_head.weight is copy.get_input_embeddings().weight) == tie
    assert all(torch.equal(p.to_local(), values[n]) for n, p in copy.named_parameters())
    assert not copy.model.norm.weight.requires_grad


def test_a_whole_model_is_copied_too() -> None:
    model = tiny.llama()
    copy = copied(model)
    assert not in_parts(copy)
    assert all(torch.equal(a, b) and a is not b for a, b in zip(model.parameters(), copy.parameters(), strict=True))


@pytest.mark.parametrize("tie", [False, True])
def test_parts_are_copied_to_where_they_are_sharded(tie: bool) -> None:
    model, values = divided(tie)
    with parts_for_shards(model):
        assert all(p.is_meta for p in model.parameters())
        assert (model.lm_head.weight is model.get_input_embeddings().weight) == tie
        assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["model.norm.weight"]
    assert not in_parts(model)
    assert all(torch.equal(p, values[n]) for n, p in model.named_parameters())


def test_whole_models_stay_as_they_are() -> None:
    model = tiny.llama()
    before = list(model.parameters())
    with parts_for_shards(model):
        assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
