"""Drafts are decoded in the precision of the model, every weight cast once a call."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from support import tiny
from support.casts import Casts
from twofold.batch import Branch, Group, Role
from twofold.models.policy import Policy
from twofold.sampling.base import Sample, Sampling
from twofold.sampling.cache import RoomyLayer
from twofold.sampling.local import LocalSampler

PROMPTS = [torch.arange(1, 1 + n) for n in (9, 4, 6)]


def draw(model: PreTrainedModel, autocast: torch.dtype | None, **how: str) -> list[list[Sample]]:
    settings = Sampling(max_new_tokens=12, batch_size=6, **how)
    return LocalSampler(model, tiny.tokenizer(), [3], settings, autocast=autocast).sample(PROMPTS, samples=4)


def logps(model: PreTrainedModel, drafts: list[list[Sample]], autocast: torch.dtype | None) -> Tensor:
    """What the policy says of the drafts."""
    groups = [
        Group("p", prompt, tuple(Branch(d.tokens, Role.DRAFT) for d in some))
        for prompt, some in zip(PROMPTS, drafts, strict=True)
    ]
    return torch.cat([x for row in Policy(model, autocast=autocast).logps(groups) for x in row])


def test_drafts_in_bfloat16_are_the_policys_in_bfloat16() -> None:
    """But for rounding (of the logits too), by which they differ from those in float32."""
    drafts = draw(tiny.llama(), torch.bfloat16)
    said = torch.cat([d.logp for some in drafts for d in some])
    assert said.dtype == torch.float32
    assert (said - logps(tiny.llama(), drafts, torch.bfloat16)).abs().mean() < 0.05
    assert (said - logps(tiny.llama(), drafts, None)).abs().max() > 1e-3
    plain = draw(tiny.llama(), None)
    assert (torch.cat([d.logp for s in plain for d in s]) - logps(tiny.llama(), plain, None)).abs().max() < 1e-4


def test_a_call_casts_each_weight_once_whatever_is_drawn() -> None:
    """Two layers have a matrix of [32, 40]; there are three groups of drafts and a dozen steps."""
    with Casts(32, 40) as casts:
        draw(tiny.llama(), torch.bfloat16)
    assert casts.count == 2


def test_weights_that_would_be_cast_in_every_step_are_read_as_they_are() -> None:
    """Those of a frozen copy; and captured steps would read casts that are gone."""
    with Casts(32, 40) as casts:
        frozen = draw(tiny.llama().requires_grad_(False), torch.bfloat16)
        static = draw(tiny.llama(), torch.bfloat16, cache="static")
    assert casts.count == 0
    plain = draw(tiny.llama(), None)
    for found, want in ((frozen, plain), (static, draw(tiny.llama(), None, cache="static"))):
        assert [d.tokens.tolist() for some in found for d in some] == [d.tokens.tolist() for some in want for d in some]


def test_the_cache_holds_keys_in_the_dtype_of_values() -> None:
    """Rotary embeddings make float32 keys under autocast: the attention would cast all of them in every step."""
    layer, wide = RoomyLayer(), torch.ones(2, 1, 3, 4)
    keys, values = layer.update(wide, wide.bfloat16())
    assert keys.dtype == values.dtype == torch.bfloat16
    keys, _ = layer.update(wide[:, :, :1], wide[:, :, :1].bfloat16())
    assert (keys.dtype, keys.shape[2]) == (torch.bfloat16, 4)
