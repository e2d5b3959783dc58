"""A model is judged by its architecture: what depends on length, on later tokens, on positions that it has learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as tr
from torch import Tensor

from support import tiny
from support.architectures import BY_LENGTH, ENCODER, FAR, IN_THE_MASK, LEAKING, SWITCH, UNCACHED
from support.families import build
from twofold.batch import Group
from twofold.errors import DataError, ModelError
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.row_lengths import RowLengths
from twofold.models.small_copy import small_copy

# Below the switch, across it within a group, above it; equal lengths, one longer than any window here.
GROUPS = tiny.groups((6, 5, 3), (20, 14, 2, 5), (30, 9), (9, 4, 90), (1, 24, 25), (30, 5, 9, 9))


def fresh(make: Callable[[], tr.PreTrainedModel], groups: list[Group]) -> list[Tensor]:
    """Log-probabilities of each branch alone, each by a model that has seen nothing before."""
    return [
        logp.detach()
        for g in groups
        for b in g.branches
        for logp in tiny.alone(make().double(), Group(g.name, g.prompt, (b,)))
    ]


def assert_plain(policy: Policy, make: Callable[[], tr.PreTrainedModel], groups: list[Group] = GROUPS) -> None:
    expected = fresh(make, groups)
    for packing in (Packing(), Packing(groups=2)):
        for a, b in zip((x for row in policy.logps(groups, packing) for x in row), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sharing", ["shared", "rows"])
@pytest.mark.parametrize("family", BY_LENGTH)
def test_a_long_row_does_not_change_what_is_said_of_a_short_one(family: str, sharing: Any) -> None:
    policy = Policy(BY_LENGTH[family]().double(), sharing=sharing)
    assert policy.shared == (sharing == "shared")
    assert_plain(policy, BY_LENGTH[family])


@pytest.mark.parametrize("family", BY_LENGTH)
def test_the_factors_are_felt(family: str) -> None:
    """Were they not, the test above would pass as well: a row of 34 tokens changes one of 11 in one call."""
    model = BY_LENGTH[family]().double()
    short, long = (torch.cat([g.prompt, g.branches[0].tokens]) for g in GROUPS[:2])
    together = model(input_ids=torch.nn.utils.rnn.pad_sequence([short, long], batch_first=True)).logits[0, : len(short)]
    alone = BY_LENGTH[family]().double()(input_ids=short[None]).logits[0]
    assert (together - alone).abs().max() > 0.1


@pytest.mark.parametrize("family", BY_LENGTH)
def test_statistics_and_distributions_keep_the_order_of_the_tokens(family: str) -> None:
    policy = Policy(BY_LENGTH[family]().double())
    outputs, _ = policy(GROUPS, ["log_collision"])
    rows = [Policy(BY_LENGTH[family]().double(), sharing="rows")([g], ["log_collision"])[0] for g in GROUPS]
    torch.testing.assert_close(
        outputs.statistics["log_collision"], torch.cat([r.statistics["log_collision"] for r in rows])
    )
    spread = policy.distributions(GROUPS[1])
    for logp_NV, branch, logp in zip(spread, GROUPS[1].branches, fresh(BY_LENGTH[family], GROUPS[1:2]), strict=True):
        torch.testing.assert_close(logp_NV.gather(1, branch.tokens[:, None])[:, 0], logp, rtol=1e-5, atol=1e-5)


def test_gradients_of_classes_are_those_of_separate_rows() -> None:
    shared, rows = (Policy(BY_LENGTH["phi3"]().double(), sharing=how) for how in ("shared", "rows"))
    for policy in (shared, rows):
        logp_S = policy(GROUPS)[0].logp_S
        (logp_S * torch.linspace(-1, 2, len(logp_S), dtype=logp_S.dtype)).sum().backward()
    expected = tiny.gradients(rows)
    for name, gradient in tiny.gradients(shared).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-5)


def test_classes_of_lengths() -> None:
    config = BY_LENGTH["phi3"]().config
    lengths = RowLengths.of(config)
    assert lengths.class_of(SWITCH) == lengths.class_of(1) != lengths.class_of(SWITCH + 1) == lengths.class_of(200)
    dynamic = RowLengths.of(BY_LENGTH["llama"]().config)
    assert dynamic.class_of(SWITCH) == dynamic.class_of(1)
    assert len({dynamic.class_of(n) for n in (SWITCH, SWITCH + 1, SWITCH + 2)}) == 3
    assert not RowLengths.of(tiny.llama().config).matter


@pytest.mark.parametrize("family", IN_THE_MASK)
def test_a_window_in_the_mask_is_felt_however_far_it_reaches(family: str) -> None:
    policy = Policy(IN_THE_MASK[family]().double().float())  # these experts know no float64 here
    expected = [x for g in GROUPS for x in tiny.alone(IN_THE_MASK[family](), g)]
    for a, b in zip((x for row in policy.logps(GROUPS) for x in row), expected, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-4, atol=1e-4)
    assert any(len(g.prompt) + len(b.tokens) > FAR + 20 for g in GROUPS for b in g.branches)
    if family != "qwen2_moe":
        assert not policy.shared
        assert "differ by" in policy.sharing_note


def test_a_window_that_the_attention_is_handed_is_shared_however_far_it_reaches() -> None:
    def mistral() -> tr.PreTrainedModel:
        return build(tr.MistralForCausalLM, tr.MistralConfig, sliding_window=FAR, max_position_embeddings=256)

    policy = Policy(mistral().double())
    assert policy.shared
    assert_plain(policy, mistral)


@pytest.mark.parametrize("family", LEAKING)
def test_what_sees_the_future_is_no_policy(family: str) -> None:
    with pytest.raises(ModelError, match="is not causal: its log-probabilities") as caught:
        Policy(LEAKING[family]())
    assert "causal language model" in caught.value.remedy


def test_a_bert_that_is_a_decoder_is_one() -> None:
    groups = tiny.groups((5, 4, 6), (12, 7, 1, 9))
    policy = Policy(tiny.sharp(tr.BertLMHeadModel(tr.BertConfig(**ENCODER, is_decoder=True))))
    expected = [x for g in groups for x in tiny.alone(policy.model, g)]
    for a, b in zip((x for row in policy.logps(groups) for x in row), expected, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", UNCACHED)
def test_a_causal_model_of_any_kind_is_a_policy(family: str) -> None:
    model, groups = UNCACHED[family](), tiny.groups((5, 4, 6), (12, 7, 1, 9))
    expected = [x for g in groups for x in tiny.alone(model, g)]
    for a, b in zip((x for row in Policy(model).logps(groups) for x in row), expected, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("length", "fits"), [(65, True), (66, False)])
def test_a_row_longer_than_learned_positions_is_refused_by_its_name(length: int, fits: bool) -> None:
    """64 positions: of a prompt of 5 and a completion of 60 the last token is a target only."""
    policy = Policy(tiny.gpt2())
    assert policy.most_tokens == 64
    (group,) = tiny.groups((5, length - 5))
    if fits:
        assert policy.logps([group])[0][0].isfinite().all()
        return
    with pytest.raises(DataError, match="row 0: 65 tokens; the model has learned 64 positions") as caught:
        policy.logps([group])
    assert "max_length=64" in caught.value.remedy


@pytest.mark.parametrize("make", [tiny.llama, BY_LENGTH["phi3"]], ids=["llama", "phi3"])
def test_rotary_positions_have_no_end(make: Callable[[], tr.PreTrainedModel]) -> None:
    assert Policy(make()).most_tokens is None


def test_a_large_config_is_tried_on_a_small_copy() -> None:
    """32 layers of width 4096 and a vocabulary of 128,256: nothing of that size is made."""
    with torch.device("meta"):
        large = tr.LlamaForCausalLM(
            tr.LlamaConfig(
                vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32,
                num_attention_heads=32, num_key_value_heads=8, bos_token_id=128_000, eos_token_id=[128_001, 128_009],
            )
        )  # fmt: skip
    copied = small_copy(large)
    assert copied is not None
    assert (copied.dtype, copied.device.type) == (torch.float64, "cpu")
    assert sum(p.numel() for p in copied.parameters()) < 1e6
    assert large.config.num_hidden_layers == 32
