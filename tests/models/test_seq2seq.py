"""Encoder–decoders: transformers' own loss of labels, token by token, with every prompt read once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as tr
from torch import Tensor, nn

from support import seq2seq, tiny
from support.seq2seq import MAKERS, T5
from twofold.batch import Group
from twofold.errors import DataError, ModelError
from twofold.models.adapters import LoRA
from twofold.models.heads import wrap_reward_model
from twofold.models.load import ModelSettings, wrap
from twofold.models.packing import Packing
from twofold.models.policy import Policy, Sharing
from twofold.models.reference import live_reference
from twofold.models.seq2seq import start_token
from twofold.models.small_copy import small_copy

# Prompts of many lengths, so that several calls are made of them; branches of one token first, later, alone.
GROUPS = tiny.groups((5, 4, 6), (12, 7, 1, 9), (1, 1, 3), (3, 1, 1, 1), (44, 11), (2, 1))
SIZES = {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_heads": 4, "num_layers": 2, "num_decoder_layers": 2}
MORE: dict[str, Callable[[], tr.PreTrainedModel]] = {
    "mt5": lambda: tr.MT5ForConditionalGeneration(tr.MT5Config(**{**T5, **SIZES, "feed_forward_proj": "gated-gelu"})),
    "umt5": lambda: tr.UMT5ForConditionalGeneration(tr.UMT5Config(**{**T5, **SIZES})),
    "flan": lambda: tr.T5ForConditionalGeneration(
        tr.T5Config(**{**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False})
    ),
    "mbart": lambda: tr.MBartForConditionalGeneration(tr.MBartConfig(**seq2seq.BART)),
    "pegasus": lambda: tr.PegasusForConditionalGeneration(tr.PegasusConfig(**seq2seq.BART)),
    "marian": lambda: tr.MarianMTModel(tr.MarianConfig(**seq2seq.BART)),
    "m2m_100": lambda: tr.M2M100ForConditionalGeneration(tr.M2M100Config(**seq2seq.BART)),
}
EVERY = {**MAKERS, **{name: lambda make=make: tiny.sharp(make()) for name, make in MORE.items()}}


def labels_logp(model: tr.PreTrainedModel, group: Group) -> Tensor:
    """Log-probabilities of every branch's tokens, one unpadded row each, as transformers reads them as labels."""
    rows: list[Tensor] = []
    for branch in group.branches:
        start = torch.tensor([start_token(model)])
        fed = torch.cat([start, branch.tokens[:-1]])[None]
        logits = model(input_ids=group.prompt[None], decoder_input_ids=fed, use_cache=False).logits[0]
        rows.append(logits.log_softmax(-1).gather(1, branch.tokens[:, None]).squeeze(1))
    return torch.cat(rows)


@pytest.mark.parametrize("kind", EVERY)
def test_log_probabilities_are_those_of_labels(kind: str) -> None:
    model = EVERY[kind]().double()
    policy = Policy(model)
    assert policy.sharing_note == ""
    logp_S = policy(GROUPS)[0].logp_S
    assert logp_S is not None
    with torch.no_grad():
        expected = torch.cat([labels_logp(model, group) for group in GROUPS])
    torch.testing.assert_close(logp_S, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(
        torch.cat([x for row in policy.logps(GROUPS) for x in row]), expected, atol=1e-10, rtol=0
    )


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_their_mean_is_the_loss_that_transformers_computes(kind: str, dtype: torch.dtype, limit: float) -> None:
    model: Any = MAKERS[kind]()
    model = model.to(dtype)
    for group, said in zip(GROUPS, Policy(model).logps(GROUPS), strict=True):
        for branch, logp in zip(group.branches, said, strict=True):
            with torch.no_grad():
                loss = model(input_ids=group.prompt[None], labels=branch.tokens[None]).loss
            assert abs(float(loss + logp.mean())) <= limit * max(1.0, float(loss))


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_prompt_is_read_once_for_all_its_branches(kind: str) -> None:
    model, read, rows = MAKERS[kind](), list[int](), list[int]()

    def count(_: nn.Module, __: object, arguments: dict[str, Any]) -> None:
        read.append(int(arguments["attention_mask"].sum()))
        rows.append(len(arguments["input_ids"]))

    expected: dict[Sharing, tuple[int, int]] = {"shared": (6, 67), "rows": (12, 103)}
    for sharing, counts in expected.items():
        policy = Policy(model, sharing=sharing)
        hook = model.get_encoder().register_forward_pre_hook(count, with_kwargs=True)
        policy(GROUPS)
        hook.remove()
        assert (sum(rows), sum(read)) == counts
        read.clear()
        rows.clear()


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_gradients_are_those_of_separate_rows(kind: str, checkpointed: bool) -> None:
    model = MAKERS[kind]().double()
    found: list[dict[str, Tensor]] = []
    halves: tuple[Sharing, Sharing] = ("shared", "rows")
    for sharing in halves:
        policy = Policy(model, sharing=sharing, activation_checkpointing=checkpointed and sharing == "shared")
        policy.zero_grad()
        logp_S = policy(GROUPS)[0].logp_S
        assert logp_S is not None
        (logp_S * torch.linspace(-1, 2, len(logp_S), dtype=logp_S.dtype)).sum().backward()
        found.append(tiny.gradients(policy))
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        limit = 1e-10 if kind == "bart" else 2e-6  # T5's norms are computed in float32
        assert (gradient - found[1][name]).abs().max() <= limit * found[1][name].abs().max().clamp(min=1), name


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_reference_says_the_same_to_the_last_bit(kind: str) -> None:
    for dtype in (torch.float32, torch.float64):
        model: Any = MAKERS[kind]()
        policy = Policy(model.to(dtype))
        logp_S = policy(GROUPS)[0].logp_S
        assert logp_S is not None
        said = live_reference(policy).logps(GROUPS, Packing())
        assert torch.equal(torch.cat([x for row in said for x in row]), logp_S.detach())


def test_rows_are_as_long_as_the_positions_of_either_half() -> None:
    policy = Policy(seq2seq.bart())
    assert policy.most_tokens == 64
    policy(tiny.groups((64, 64)))
    for shape in ((65, 3), (3, 65)):
        with pytest.raises(DataError, match="65 tokens; the model has learned 64 positions"):
            policy(tiny.groups(shape))
    assert Policy(seq2seq.t5()).most_tokens is None


def test_statistics_and_distributions_are_those_of_the_models_own_logits() -> None:
    model = seq2seq.bart().double()
    policy = Policy(model)
    outputs, _ = policy(GROUPS[:2], statistics=("log_greedy",))
    whole = torch.cat([row for group in GROUPS[:2] for row in policy.distributions(group)])
    torch.testing.assert_close(outputs.statistics["log_greedy"], whole.amax(-1), atol=1e-10, rtol=0)
    torch.testing.assert_close(whole.exp().sum(-1), torch.ones_like(whole[:, 0]), atol=1e-12, rtol=0)


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*")
def test_a_head_under_an_adapter_says_what_the_model_says() -> None:
    settings = ModelSettings(path="bart", lora=LoRA(rank=2, targets=("lm_head",)))
    policy, _ = wrap(settings, seq2seq.bart().double(), seq2seq.tokenizer("bart"))
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.1)
        expected = torch.cat([labels_logp(policy.model, group) for group in GROUPS])
        torch.testing.assert_close(policy(GROUPS)[0].logp_S, expected, atol=1e-10, rtol=0)


def test_a_decoder_begins_as_either_config_says() -> None:
    model = seq2seq.t5(decoder_start_token_id=None)
    with pytest.raises(ModelError, match="names no token that its decoder begins with"):
        Policy(model)
    model.generation_config.decoder_start_token_id = 3
    assert start_token(model) == 3


def test_what_fails_in_parts_runs_as_rows() -> None:
    model = seq2seq.t5().double()
    own = small_copy(model)
    assert own is not None
    assert own.config.is_encoder_decoder
    fsmt = tr.FSMTForConditionalGeneration(
        tr.FSMTConfig(
            langs=["en", "de"],
            src_vocab_size=61,
            tgt_vocab_size=61,
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=40,
            decoder_ffn_dim=40,
        )
    )
    policy = Policy(tiny.sharp(fsmt))
    assert "cannot be passed to its decoder" in policy.sharing_note
    groups = tiny.groups((5, 4, 6), (3, 2, 2), seed=3)
    with torch.no_grad():
        expected = torch.cat([labels_logp(policy.model, group) for group in groups])
    torch.testing.assert_close(policy(groups)[0].logp_S, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_there_is_no_reward_model_of_one(kind: str) -> None:
    with pytest.raises(ModelError, match="does not read its score at the last token"):
        wrap_reward_model(ModelSettings(path=kind), MAKERS[kind](), seq2seq.tokenizer(kind))
