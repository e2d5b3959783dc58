"""Weights that compute in bfloat16: the stream between layers is of it, gradients are of the weights' own dtype."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tr
from torch import Tensor, nn

from support import tiny
from twofold.models.casts import can_be_narrow
from twofold.models.heads import RewardModel
from twofold.models.load import ModelSettings, model_options
from twofold.models.policy import Policy

GROUPS = tiny.pairs(3)


def policy(**options: Any) -> Policy:
    return Policy(tiny.llama(), **options)


def stream(model: Policy | RewardModel) -> torch.dtype:
    """What the last layer hands on."""
    seen: list[torch.dtype] = []
    layer: nn.Module = model.model.base_model.layers[-1]  # type: ignore[index, union-attr, assignment]  # a list of layers
    hook = layer.register_forward_hook(
        lambda _, args, out: seen.append((out if isinstance(out, Tensor) else out[0]).dtype)
    )
    model(GROUPS)
    hook.remove()
    return seen[0]


def gradients(model: Policy) -> dict[str, Tensor]:
    outputs, _ = model(GROUPS)
    assert outputs.logp_S is not None
    outputs.logp_S.sum().backward()
    return {name: p.grad for name, p in model.trainable().items() if p.grad is not None}


def test_the_stream_is_narrow_and_gradients_are_wide() -> None:
    narrow, exact = policy(cast=torch.bfloat16), policy()
    assert (stream(narrow), stream(policy(autocast=torch.bfloat16))) == (torch.bfloat16, torch.float32)
    before = dict(narrow.model.named_parameters())
    mine, theirs = gradients(narrow), gradients(exact)
    assert all(p is before[name] for name, p in narrow.model.named_parameters())
    for name, grad in theirs.items():
        assert mine[name].dtype == torch.float32
        assert (mine[name] - grad).norm() < 0.15 * grad.norm(), name


def test_weights_are_cast_once_for_all_packs_of_a_step() -> None:
    model = policy(cast=torch.bfloat16)
    with model.cast_once():
        one = gradients(model)
        first = {name: grad.clone() for name, grad in one.items()}
        twice = gradients(model)
        assert model.casts is not None
        assert len(model.casts._known or {}) == len(model.trainable())
    for name, grad in twice.items():
        assert torch.equal(grad, 2 * first[name]), name


def test_what_is_recomputed_is_cast_again() -> None:
    kept, recomputed = policy(cast=torch.bfloat16), policy(cast=torch.bfloat16, activation_checkpointing=True)
    mine = gradients(recomputed)
    for name, grad in gradients(kept).items():
        assert torch.equal(mine[name], grad), name


def test_a_score_is_read_in_float32() -> None:
    config = tr.LlamaConfig(**tiny.DECODER, num_labels=1)
    model = RewardModel(tr.LlamaForSequenceClassification(config), cast=torch.bfloat16)
    seen: list[torch.dtype] = []
    model.model.score.register_forward_hook(lambda module, _, out: seen.append(out.dtype))  # type: ignore[union-attr, operator]
    assert stream(model) == torch.bfloat16
    assert seen == [torch.float32]


def test_the_setting_and_its_default() -> None:
    """On a processor the stream is float32, unless asked for."""
    model = tiny.llama()
    known = {
        residual: model_options(ModelSettings(path="made", precision="bfloat16", residual=residual), model, None)
        for residual in ("auto", "float32", "bfloat16")
    }
    assert {name: (each["autocast"], each["cast"]) for name, each in known.items()} == {
        "auto": (torch.bfloat16, None), "float32": (torch.bfloat16, None), "bfloat16": (None, torch.bfloat16),
    }  # fmt: skip
    model._keep_in_fp32_modules_strict = {"norm"}
    assert not can_be_narrow(model)
