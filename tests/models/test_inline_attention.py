"""Models that compute attention in code of their own share prompts all the same: GPT-J and its kin, Falcon, ALiBi."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as tr
from torch import Tensor

from support import tiny
from twofold.batch import Group
from twofold.errors import ModelError
from twofold.models.inline_attention import _KINDS
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference

# Three branches and one; one-token branches first, later, everywhere; a prompt of one token; more than the window.
GROUPS = tiny.groups((5, 4, 6), (12, 7, 1, 9), (1, 1, 3), (3, 1, 1, 1), (10, 11), (2, 1))
GPT: dict[str, Any] = {**tiny.SPECIAL, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4}
NEO: dict[str, Any] = {
    **tiny.SPECIAL, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 64,
    "attention_types": [[["global", "local"], 1]], "window_size": 5,
}  # fmt: skip
FALCON: dict[str, Any] = {
    **tiny.SPECIAL, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_hidden_size": 40,
}  # fmt: skip
BLOOM: dict[str, Any] = {**tiny.SPECIAL, "hidden_size": 32, "n_layer": 2, "n_head": 4}
MPT: dict[str, Any] = {
    **tiny.SPECIAL, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64, "expansion_ratio": 1,
}  # fmt: skip
SIX = {"hidden_size": 48, "num_attention_heads": 6}
MODELS: dict[str, Callable[[], tr.PreTrainedModel]] = {
    "gptj": lambda: tr.GPTJForCausalLM(tr.GPTJConfig(**GPT)),
    "codegen": lambda: tr.CodeGenForCausalLM(tr.CodeGenConfig(**GPT)),
    "gpt_neo": lambda: tr.GPTNeoForCausalLM(tr.GPTNeoConfig(**NEO)),
    "falcon": lambda: tr.FalconForCausalLM(tr.FalconConfig(**FALCON)),
    "falcon, old": lambda: tr.FalconForCausalLM(tr.FalconConfig(**FALCON, multi_query=False, parallel_attn=False)),
    "falcon, new": lambda: tr.FalconForCausalLM(
        tr.FalconConfig(**FALCON, new_decoder_architecture=True, num_kv_heads=2)
    ),
    "falcon, alibi": lambda: tr.FalconForCausalLM(tr.FalconConfig(**FALCON, alibi=True)),
    "falcon, alibi, 6 heads": lambda: tr.FalconForCausalLM(
        tr.FalconConfig(**{**FALCON, **SIX}, alibi=True, multi_query=False)
    ),
    "bloom": lambda: tr.BloomForCausalLM(tr.BloomConfig(**BLOOM)),
    "bloom, 6 heads": lambda: tr.BloomForCausalLM(tr.BloomConfig(**{**BLOOM, "hidden_size": 48, "n_head": 6})),
    "mpt": lambda: tr.MptForCausalLM(tr.MptConfig(**MPT)),
    "mpt, 6 heads": lambda: tr.MptForCausalLM(tr.MptConfig(**{**MPT, "d_model": 48, "n_heads": 6})),
}
IN_FLOAT32 = "gptj", "codegen", "gpt_neo", "bloom", "mpt"
"""Whose own code takes scores or weights of attention in float32 at any precision."""


def made(kind: str) -> tr.PreTrainedModel:
    return tiny.sharp(MODELS[kind]()).double()


def differentiated(policy: Policy, groups: list[Group]) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities, and gradients of a sum in which every token has a weight of its own."""
    policy.zero_grad()
    logp_S = policy(groups)[0].logp_S
    assert logp_S is not None
    (logp_S * torch.linspace(-1, 2, len(logp_S), dtype=logp_S.dtype)).sum().backward()
    return logp_S.detach(), tiny.gradients(policy)


def farthest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max() / b[name].abs().max().clamp(min=1)) for name in a)


@pytest.mark.parametrize("kind", MODELS)
def test_a_pack_gives_what_rows_give(kind: str) -> None:
    model = made(kind)
    policy = Policy(model)
    assert policy.sharing_note == ""
    shared, moved = differentiated(policy, GROUPS)
    rows, by_rows = differentiated(Policy(model, sharing="rows"), GROUPS)
    limit = 2e-5 if kind.split(",")[0] in IN_FLOAT32 else 1e-10
    torch.testing.assert_close(shared, rows, atol=limit, rtol=0)
    assert farthest(moved, by_rows) <= limit * 10
    with torch.no_grad():
        alone = torch.cat([row for group in GROUPS for row in tiny.alone(model, group)])
    torch.testing.assert_close(shared, alone, atol=limit, rtol=0)


@pytest.mark.parametrize("kind", MODELS)
def test_a_pack_is_exact_whatever_else_is_in_it(kind: str) -> None:
    """Each branch in a pack of its own: so to say a row, in the precision of packs."""
    policy = Policy(made(kind), activation_checkpointing=kind in ("gptj", "falcon, alibi", "bloom", "mpt"))
    shared, moved = differentiated(policy, GROUPS)
    weights = iter(torch.linspace(-1, 2, len(shared), dtype=shared.dtype))
    policy.zero_grad()
    parts: list[Tensor] = []
    for group in GROUPS:
        for branch in group.branches:
            logp_S = policy([replace(group, branches=(branch,))])[0].logp_S
            assert logp_S is not None
            (logp_S * torch.stack([next(weights) for _ in branch.tokens])).sum().backward()
            parts.append(logp_S.detach())
    torch.testing.assert_close(torch.cat(parts), shared, atol=1e-10, rtol=0)
    assert farthest(tiny.gradients(policy), moved) <= 1e-10


@pytest.mark.parametrize("kind", ["bloom", "falcon, alibi", "gptj"])
def test_narrow_precision_bends_no_bias(kind: str) -> None:
    """Of far keys ALiBi's bias is large: bfloat16 alone would be off by whole nats."""
    model = tiny.sharp(MODELS[kind]())
    groups = tiny.groups((40, 12, 9), (30, 20))
    with torch.no_grad():
        wide = Policy(model)(groups)[0].logp_S
        narrow = Policy(model, autocast=torch.bfloat16)(groups)[0].logp_S
    assert wide is not None
    assert narrow is not None
    assert 0 < (wide - narrow).abs().mean() < 0.1


def test_a_reference_is_a_copy_that_shares_too() -> None:
    policy = Policy(made("bloom"))
    said = torch.cat([logp for row in live_reference(policy).logps(GROUPS, Packing()) for logp in row])
    logp_S = policy(GROUPS)[0].logp_S
    assert logp_S is not None
    assert torch.equal(said, logp_S.detach())


def test_bloom_in_slices_runs_as_rows() -> None:
    model = tiny.sharp(tr.BloomForCausalLM(tr.BloomConfig(**BLOOM, pretraining_tp=2, slow_but_exact=True)))
    policy = Policy(model)
    assert not policy.shared
    with pytest.raises(ModelError, match="this model cannot share prompts"):
        Policy(model, sharing="shared")


def test_every_class_that_is_opened_is_one_of_transformers() -> None:
    known = {type(module).__name__ for make in MODELS.values() for module in make().modules()}
    assert set(_KINDS) <= known
