"""The policy's promises: order, precision, no dropout, flags that come back."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
import transformers as tr
from torch import Tensor

from support import tiny
from twofold.batch import Role
from twofold.errors import ModelError
from twofold.models.adapters import REFERENCE_ADAPTER
from twofold.models.attention import stock_attention
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference, with_reference
from twofold.objectives import DPO

DROPOUT = {"attn_pdrop": 0.5, "resid_pdrop": 0.5, "embd_pdrop": 0.5}


def opt() -> tr.PreTrainedModel:
    """Its layers drop out by their own mode, not by a module's."""
    sizes = {
        "hidden_size": 32,
        "ffn_dim": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 32,
    }
    config = tr.OPTConfig(**tiny.SPECIAL, **sizes, max_position_embeddings=64, dropout=0.5, attention_dropout=0.5)
    return tiny.sharp(tr.OPTForCausalLM(config))


DROPPING = {
    "llama": lambda: tiny.llama(attention_dropout=0.5),
    "gpt2": lambda: tiny.gpt2(**DROPOUT),
    "opt": opt,
}


def test_log_probabilities_come_per_group_and_branch_in_the_order_asked() -> None:
    policy, groups = tiny.policy(), tiny.groups((5, 4, 6), (1, 1), (9, 2, 1, 3), (4, 4, 4))
    with stock_attention(policy.model):
        expected = [tiny.alone(policy.model, g) for g in groups]
    for packing in (Packing(), Packing(tokens=12), Packing(groups=1)):
        found = policy.logps(groups, packing)
        assert [[len(x) for x in row] for row in found] == [[4, 6], [1], [2, 1, 3], [4, 4]]
        for row, want in zip(found, expected, strict=True):
            for a, b in zip(row, want, strict=True):
                torch.testing.assert_close(a, b.detach(), rtol=1e-6, atol=1e-6)
                assert not a.requires_grad


def test_the_batch_that_comes_with_the_outputs_tells_whose_they_are() -> None:
    groups = tiny.groups((5, 4, 6), (1, 1), (9, 2, 1, 3))
    outputs, batch = tiny.policy()(groups)
    assert batch.names == ("row 0", "row 1", "row 2")
    assert batch.group_B.tolist() == [0, 0, 1, 2, 2, 2]
    assert batch.role_B.tolist() == [Role.CHOSEN, Role.REJECTED, Role.DEMONSTRATION, Role.DRAFT, Role.DRAFT, Role.DRAFT]
    assert batch.length_B.tolist() == [4, 6, 1, 2, 1, 3]
    assert batch.branch_S.tolist() == [0] * 4 + [1] * 6 + [2] + [3] * 2 + [4] + [5] * 3
    assert len(outputs.logp_S) == 17


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "recomputed"])
@pytest.mark.parametrize("family", DROPPING)
def test_dropout_in_the_config_has_no_effect(family: str, checkpointing: bool) -> None:
    groups = tiny.pairs(4)
    with torch.no_grad():
        expected = torch.cat([x for g in groups for x in tiny.alone(DROPPING[family](), g)])
    policy = Policy(DROPPING[family](), activation_checkpointing=checkpointing).train()
    first, second = policy(groups)[0].logp_S, policy(groups)[0].logp_S
    assert torch.equal(first, second)
    torch.testing.assert_close(first.detach(), expected, rtol=1e-4, atol=1e-4)
    first.sum().backward()
    once = tiny.gradients(policy)
    policy.zero_grad()
    second.sum().backward()
    assert all(torch.equal(once[n], g) for n, g in tiny.gradients(policy).items())


@pytest.mark.parametrize("kind", ["live", "cached"])
@pytest.mark.parametrize("make", [tiny.policy, tiny.lora_policy], ids=["full", "lora"])
def test_the_first_dpo_loss_is_ln_2(make: type[Policy], kind: str) -> None:
    policy = make(dtype=torch.float32)
    groups, packing = tiny.pairs(6), Packing(tokens=40)
    reference = live_reference(policy) if kind == "live" else policy
    groups = with_reference(groups, reference.logps(groups, packing))
    loss = DPO()(*policy(groups)).terms["dpo"].value
    assert loss.tolist() == pytest.approx([math.log(2)] * 6, abs=1e-6)


@pytest.mark.parametrize("sharing", ["auto", "rows"])
def test_bfloat16_autocast_gives_float32_close_to_float32(sharing: str) -> None:
    groups = tiny.pairs(4)
    exact = tiny.policy(dtype=torch.float32)(groups)[0].logp_S
    policy = tiny.policy(dtype=torch.float32, autocast=torch.bfloat16, sharing=sharing)
    logp_S = policy(groups)[0].logp_S
    assert logp_S.dtype == torch.float32
    assert policy.shared == (sharing == "auto")
    assert 1e-6 < (logp_S - exact).abs().max() < 0.3
    logp_S.sum().backward()
    assert {g.dtype for g in tiny.gradients(policy).values()} == {torch.float32}


def test_sharing_a_prompt_computes_it_once() -> None:
    """Tokens that the layers see: 5 + 2·3 shared, 2·(5 + 3) as rows."""
    (group,) = tiny.groups((5, 4, 4))
    seen: list[int] = []
    for sharing in ("auto", "rows"):
        policy = tiny.policy(sharing=sharing)
        policy.model.get_input_embeddings().register_forward_hook(lambda _, args, __: seen.append(args[0].numel()))
        policy([group])
    assert seen == [11, 16]


def test_as_reference_takes_the_adapter_off_and_brings_the_flags_back() -> None:
    policy, groups = tiny.lora_policy(moved=True), tiny.pairs(3)
    flags = {n: p.requires_grad for n, p in policy.model.named_parameters()}
    frozen = next(n for n in flags if "lora_A" in n)
    dict(policy.model.named_parameters())[frozen].requires_grad_(False)
    flags[frozen] = False
    base = tiny.policy()(groups)[0].logp_S
    with policy.as_reference():
        torch.testing.assert_close(policy(groups)[0].logp_S, base, rtol=1e-12, atol=1e-12)
    assert {n: p.requires_grad for n, p in policy.model.named_parameters()} == flags
    assert (policy(groups)[0].logp_S - base).abs().max() > 0.1
    with pytest.raises(RuntimeError, match="mid-way"), policy.as_reference():
        raise RuntimeError("mid-way")
    assert {n: p.requires_grad for n, p in policy.model.named_parameters()} == flags
    assert (policy(groups)[0].logp_S - base).abs().max() > 0.1


def test_as_reference_needs_an_adapter() -> None:
    with pytest.raises(ModelError, match="without an adapter"), tiny.policy().as_reference():
        pass


def test_only_the_adapter_is_trainable_under_lora() -> None:
    names = tiny.lora_policy().trainable()
    assert names
    assert all("lora_" in n for n in names)
    assert not any(REFERENCE_ADAPTER in n for n in names)
    tied = Policy(tiny.llama(tie_word_embeddings=True))
    assert "lm_head.weight" not in tied.trainable()


@pytest.mark.parametrize("sharing", ["shared", "rows"])
def test_statistics_are_those_of_the_full_logits(sharing: Literal["shared", "rows"]) -> None:
    """Whichever way branches are computed; only what is asked for, and without gradient."""
    policy = tiny.policy(sharing=sharing)
    groups = tiny.pairs(3, seed=1)
    outputs, _ = policy(groups, ["log_greedy", "log_collision"])
    want: list[Tensor] = []
    with torch.no_grad(), stock_attention(policy.model):
        for prompt, tokens in ((g.prompt, b.tokens) for g in groups for b in g.branches):
            logits = policy.model(input_ids=torch.cat([prompt, tokens])[None], use_cache=False).logits[0]
            want.append(logits[len(prompt) - 1 : -1].softmax(-1))
    pi = torch.cat(want)
    assert list(outputs.statistics) == ["log_greedy", "log_collision"]
    torch.testing.assert_close(outputs.statistics["log_collision"], pi.square().sum(-1).log(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(outputs.statistics["log_greedy"], pi.amax(-1).log(), rtol=1e-9, atol=1e-9)
    assert not any(x.requires_grad for x in outputs.statistics.values())
    assert policy(groups)[0].statistics == {}


def test_models_on_one_config_do_not_switch_each_others_attention() -> None:
    """Transformers keeps the choice of attention on the config, which two models may share."""
    first = tiny.llama()
    second = type(first)(first.config)
    second.load_state_dict(first.state_dict())
    groups = tiny.pairs(4)
    shared = Policy(first.double())
    rows = Policy(second.double(), sharing="rows")
    for one, other in zip(shared.logps(groups), rows.logps(groups), strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert shared.shared
    assert not rows.shared
