"""How models are held and what is read of them: heads, padding, positions, precision, and the words of refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr
from torch import nn

from support import tiny
from support.reward_heads import STOP, folder
from twofold.batch import Branch, Group, Role
from twofold.errors import DataError, ModelError
from twofold.models.adapters import LoRA
from twofold.models.attention import (
    NAME,
    UnsupportedAttention,
    branch_attention,
    set_attention,
    stock_attention,
    stock_name,
)
from twofold.models.heads import (
    ValueModel,
    load_reward_model,
    load_value_model,
    save_value_model,
    value_model_of,
    wrap_reward_model,
)
from twofold.models.load import LoadedModel, ModelSettings, load_policy
from twofold.models.packing import Packing, pack
from twofold.models.policy import LanguageHead, Policy
from twofold.models.rows import padded


def test_rows_are_padded_with_0_on_the_right() -> None:
    rows = padded([torch.tensor([3]), torch.tensor([4, 5, 6]), torch.tensor([7, 8])], torch.device("cpu"))
    assert rows.tolist() == [[3, 0, 0], [4, 5, 6], [7, 8, 0]]


def test_a_model_is_held_in_evaluation_mode_and_by_its_options() -> None:
    model = tiny.llama().train()
    policy = Policy(model, note="mind this")
    assert (policy.note, policy.autocast, policy.adapter, policy.sharing_note) == ("mind this", None, None, "")
    assert not any(module.training for module in model.modules())
    assert policy.train() is policy
    assert not model.training
    assert (policy.device, policy.vocabulary) == (torch.device("cpu"), 61)
    assert (Policy(model).note, Policy(model, sharing="rows").sharing_note) == ("", "")
    assert (policy.most_tokens, policy.positions) == (None, 64)
    learned = Policy(tiny.gpt2())
    assert (learned.most_tokens, learned.positions) == (64, 64)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_only_layers_are_put_into_training_mode_to_be_recomputed(every: int) -> None:
    policy = Policy(tiny.llama(num_hidden_layers=4), activation_checkpointing=True, recompute_every=every)
    layers = policy.model.model.layers
    assert [m for m in policy.model.modules() if m.training] == list(layers[::every])
    plain = Policy(tiny.llama(num_hidden_layers=4))
    groups = tiny.pairs(2)
    for each in (policy, plain):
        each(groups)[0].logp_S.sum().backward()
    for name, gradient in tiny.gradients(policy).items():
        torch.testing.assert_close(gradient, tiny.gradients(plain)[name])
    assert [m for m in policy.model.modules() if m.training] == list(layers[::every])


@pytest.mark.parametrize(("ends", "fits"), [(False, 60), (True, 59)])
def test_what_is_read_decides_how_long_a_row_may_be(tmp_path: Path, ends: bool, fits: int) -> None:
    """64 positions and a prompt of 5: the last token of a completion is fed only where it is read."""
    if ends:
        model: Any = load_reward_model(ModelSettings(path=folder(tmp_path, tiny.gpt2())))[0]
    else:
        model = Policy(tiny.gpt2())
    longest = Group("long", torch.arange(5), (Branch(torch.ones(2, dtype=torch.int64), Role.DRAFT),
                                              Branch(torch.ones(fits, dtype=torch.int64), Role.DRAFT)))  # fmt: skip
    model.refuse_long([longest])
    more = Group("more", torch.arange(6), longest.branches)
    with pytest.raises(DataError) as error:
        model.refuse_long([longest, more])
    assert str(error.value) == (
        "more: 65 tokens; the model has learned 64 positions\n  → set data.tokenize.max_length=64, or leave the row out"
    )
    model.refuse_long([Group("alone", torch.arange(64 if ends else 65), ())])
    Policy(tiny.llama()).refuse_long([Group("any", torch.arange(500), ())])


def test_a_family_that_must_share_and_cannot_is_refused() -> None:
    with pytest.raises(ModelError) as error:
        Policy(
            tr.MambaForCausalLM(tr.MambaConfig(vocab_size=61, hidden_size=32, num_hidden_layers=1)), sharing="shared"
        )
    assert str(error.value).startswith("model.sharing: this model cannot share prompts: ")
    assert error.value.remedy == "set it to auto or rows"


def test_outputs_hold_what_the_head_says_and_no_more(tmp_path: Path) -> None:
    settings = ModelSettings(path=folder(tmp_path, tiny.llama()), precision="float64")
    groups = tiny.groups((3, 2, 1), (2, 4))
    policy, loaded = load_policy(settings)
    critic = value_model_of(policy, loaded, settings)[0]
    reward = load_reward_model(settings)[0]
    for model, name, size in ((policy, "logp_S", 7), (critic, "value_S", 7), (reward, "score_B", 3)):
        outputs, batch = model(groups)
        known = {field: getattr(outputs, field) for field in ("logp_S", "value_S", "score_B")}
        assert {field for field, value in known.items() if value is not None} == {name}
        assert len(known[name]) == size
        assert outputs.statistics == {}
        assert batch.names == ("row 0", "row 1")
    assert [[len(x) for x in row] for row in reward.per_branch(groups, Packing(groups=1))] == [[1, 1], [1]]


def test_columns_do_not_go_through_the_model() -> None:
    policy = tiny.policy()
    (group,) = tiny.groups((3, 2, 2))
    uneven = [group.with_columns([{"x": 1.0}, {"x": 2.0}]), *tiny.groups((2, 1))]
    assert [len(row) for row in policy.logps(uneven)] == [2, 1]


def test_distributions_are_whole_rows_of_each_branch() -> None:
    policy = tiny.policy()
    (group,) = tiny.groups((3, 2, 4))
    found = policy.distributions(group)
    assert [tuple(x.shape) for x in found] == [(2, 61), (4, 61)]
    for rows, branch, logp in zip(found, group.branches, policy.logps([group])[0], strict=True):
        torch.testing.assert_close(rows.exp().sum(-1), torch.ones(len(rows), dtype=rows.dtype))
        torch.testing.assert_close(rows.gather(1, branch.tokens[:, None])[:, 0], logp, rtol=1e-6, atol=1e-6)
        assert not rows.requires_grad


class Doubling(nn.Module):
    """A head that is no plain linear layer."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner

    @property
    def weight(self) -> torch.Tensor:
        return self.inner.weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return 2 * self.inner(hidden)


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_a_head_that_is_no_linear_layer_is_called(softcap: float | None) -> None:
    """Logits twice as large, then capped: c·tanh(2z/c)."""
    model: Any = tiny.llama().double()
    if softcap is not None:
        model.config.final_logit_softcapping = softcap
    (group,) = tiny.groups((3, 2, 4))
    stream = pack([group])
    hidden = torch.randn(len(stream.score_S), 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits = 2 * hidden @ model.lm_head.weight.T
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    model.lm_head = Doubling(model.lm_head)
    want = logits.log_softmax(-1)
    found = LanguageHead().of_pack(model, hidden, stream.target_S)
    torch.testing.assert_close(found, want.gather(1, stream.target_S[:, None])[:, 0])
    known = LanguageHead().statistics(model, [group], hidden, ("log_greedy", "log_collision"))
    torch.testing.assert_close(known["log_greedy"], want.amax(-1))
    torch.testing.assert_close(known["log_collision"], want.exp().square().sum(-1).log())
    narrow = LanguageHead().of_pack(model.bfloat16(), hidden.bfloat16(), stream.target_S)
    assert narrow.dtype == torch.float32


def test_a_model_without_output_embeddings_has_no_log_probabilities() -> None:
    model: Any = tiny.llama()
    model.lm_head = None
    with pytest.raises(UnsupportedAttention, match="the model has no output embeddings"):
        LanguageHead().of_pack(model, torch.zeros(1, 32), pack(tiny.groups((1, 1))).target_S)


# The attention's border.


def asked(mask: torch.Tensor | None = None, module: nn.Module | None = None, **more: Any) -> torch.Tensor:
    stream = pack(tiny.groups((3, 2, 2)))
    more = {"layout": stream.layout, **more}
    noise = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 5, 4, generator=noise) for _ in range(3))
    return branch_attention(module or nn.Identity(), q, k, v, mask, **more)[0]


@pytest.mark.parametrize(
    "more",
    [
        {"dropout": 0.5}, {"scaling": 0.5}, {"scaling": None}, {"sliding_window": None}, {"sliding_window": 99},
        {"softcap": None}, {"position_ids": torch.ones(1)}, {"use_cache": True}, {"cache_position": 1},
        {"return_dict": True}, {"output_hidden_states": True}, {"logits_to_keep": 3}, {"is_causal": True},
        {"is_causal": None}, {"head_mask": None}, {"output_attentions": False},
    ],
    ids=str,
)  # fmt: skip
def test_what_attention_is_asked_without_harm(more: dict[str, Any]) -> None:
    """The default scale is 1/√d, here ½."""
    torch.testing.assert_close(asked(**more), asked())


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"layout": None}, "the model does not pass its keyword arguments to the attention"),
        ({"layout": 3}, "the model does not pass its keyword arguments to the attention"),
        ({"mask": torch.zeros(1)}, "the model builds an attention mask of its own"),
        ({"is_causal": False}, "the attention is not causal"),
        ({"sinks": 1, "bias": 2, "head_mask": None}, "the attention is asked for bias, sinks"),
        ({"output_attentions": True}, "the attention is asked for output_attentions"),
        ({"head_mask": 0}, "the attention is asked for head_mask"),
    ],
)
def test_what_attention_does_not_implement_it_refuses(more: dict[str, Any], why: str) -> None:
    with pytest.raises(UnsupportedAttention) as error:
        asked(**more)
    assert str(error.value) == why


@pytest.mark.parametrize(("causal", "refused"), [(True, False), (False, True)])
def test_a_module_that_is_not_causal_is_refused(causal: bool, refused: bool) -> None:
    module = nn.Identity()
    module.is_causal = causal  # type: ignore[assignment]  # as transformers' layers have it
    if not refused:
        torch.testing.assert_close(asked(module=module), asked())
        return
    with pytest.raises(UnsupportedAttention, match="not causal"):
        asked(module=module)


def test_every_layer_that_asks_is_counted() -> None:
    layout = pack(tiny.groups((3, 2, 2))).layout
    for count in (1, 2, 3):
        asked(layout=layout)
        assert layout.calls == count


@pytest.mark.parametrize(
    ("fields", "sdpa", "name"),
    [({}, True, "sdpa"), ({}, False, "eager"), ({"attn_logit_softcapping": 30.0}, True, "eager"),
     ({"attn_logit_softcapping": None}, True, "sdpa")],
)  # fmt: skip
def test_the_stock_attention_of_a_model(fields: dict[str, Any], sdpa: bool, name: str) -> None:
    model: Any = tiny.llama()
    model._supports_sdpa = sdpa
    for field, value in fields.items():
        setattr(model.config, field, value)
    assert stock_name(model) == name
    set_attention(model, NAME)
    with pytest.raises(RuntimeError, match=f"mid-way in {name}"), stock_attention(model):
        raise RuntimeError(f"mid-way in {model.config._attn_implementation}")
    assert model.config._attn_implementation == NAME == "twofold_branches"


# Score heads.


@pytest.mark.parametrize(
    ("pad", "stops", "want"),
    [("1", {1}, 0), ("7", {1}, 7), (None, {0}, 1), (None, {0, 1, 2}, 3), ("1", {1, 0}, 2)],
)
def test_padding_is_no_stop_token(tmp_path: Path, pad: str | None, stops: set[int], want: int) -> None:
    """The tokenizer's own where it can be; or else the first token that is none."""
    tokenizer = tiny.tokenizer()
    tokenizer.pad_token, tokenizer.eos_token, tokenizer.padding_side = pad, str(min(stops)), "left"
    model = tiny.llama()
    model.generation_config.eos_token_id = sorted(stops)
    held, loaded = wrap_reward_model(ModelSettings(path="m"), model, tokenizer)
    config = held.model.config
    assert (config.pad_token_id, loaded.tokenizer.pad_token_id, loaded.tokenizer.pad_token) == (want, want, str(want))
    assert loaded.tokenizer.padding_side == "right"
    assert config.problem_type == "regression"
    assert config.num_labels == 1
    assert config.eos_token_id == (sorted(stops) if len(stops) > 1 else min(stops))
    assert loaded.stop_tokens == stops


@pytest.mark.parametrize("precision", ["bfloat16", "float32", "float64"])
def test_a_head_is_float32_at_least(tmp_path: Path, precision: Any) -> None:
    settings = ModelSettings(path=folder(tmp_path, tiny.llama()), precision=precision, lora=LoRA(rank=2))
    held, _ = load_reward_model(settings)
    want = torch.float64 if precision == "float64" else torch.float32
    scores = [p for n, p in held.model.named_parameters() if "score" in n]
    assert {p.dtype for p in scores} == {want}
    assert held(tiny.pairs(2))[0].score_B.dtype == want


def test_a_head_is_normal_and_a_classifier_keeps_its_own(tmp_path: Path) -> None:
    """Of width 32 its entries are N(0, 1/33), drawn by themselves."""
    held, _ = load_reward_model(ModelSettings(path=folder(tmp_path, tiny.llama()), precision="float32"), seed=5)
    drawn = torch.empty(1, 32).normal_(0, 33**-0.5, generator=torch.Generator().manual_seed(5))
    assert torch.equal(held.model.score.weight.detach(), drawn)
    assert held.model.score.bias is None
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "2"
    again, loaded = wrap_reward_model(ModelSettings(path="m"), held.model, tokenizer, seed=9)
    assert (again.note, torch.equal(again.model.score.weight.detach(), drawn)) == ("", True)
    assert loaded.stop_tokens >= {2}


def test_what_scores_elsewhere_or_counts_more_is_refused() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "2"
    sizes = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 4}
    bert = tr.BertForSequenceClassification(tr.BertConfig(**{**tiny.SPECIAL, "pad_token_id": 0}, **sizes, num_labels=1))
    with pytest.raises(ModelError) as error:
        wrap_reward_model(ModelSettings(path="here"), bert, tokenizer)
    assert str(error.value) == (
        "here: a BertForSequenceClassification does not read its score at the last token\n  → choose a decoder model"
    )
    two = tr.LlamaForSequenceClassification(tr.LlamaConfig(**tiny.DECODER, num_labels=2))
    with pytest.raises(ModelError) as error:
        wrap_reward_model(ModelSettings(path="here"), two, tokenizer)
    assert str(error.value) == (
        "here: a classifier of 2 labels is no reward model\n"
        "  → choose a classifier of one label, or a language model, which gets a fresh head"
    )
    mamba = tr.MambaForCausalLM(tr.MambaConfig(vocab_size=61, hidden_size=32, num_hidden_layers=1, state_size=4))
    with pytest.raises(ModelError) as error:
        wrap_reward_model(ModelSettings(path="here"), mamba, tokenizer)
    assert (error.value.where, error.value.remedy) == ("here", "choose a model that transformers can classify")


def test_a_fresh_value_head_expects_nothing_and_a_learned_one_stays(tmp_path: Path) -> None:
    settings = ModelSettings(path=folder(tmp_path, tiny.llama()), precision="float64")
    groups = tiny.pairs(2)
    fresh, loaded = load_value_model(settings, seed=3)
    assert fresh.note == f"{settings.path} has no score head: a new one begins at zero"
    assert all(value.abs().max() == 0 for row in fresh.values(groups) for value in row)
    with torch.no_grad():
        fresh.model.score.weight.fill_(0.5)
    save_value_model(fresh, loaded.tokenizer, tmp_path / "critic")
    again = load_value_model(ModelSettings(path=str(tmp_path / "critic"), precision="float64", sharing="rows"))[0]
    assert (again.note, again.shared, fresh.shared) == ("", False, True)
    assert again.values(groups)[0][0].abs().max() > 0.1
    held = load_reward_model(settings)[0]
    assert ValueModel.of(held, ModelSettings(path="m", sharing="rows", precision="bfloat16")).autocast == torch.bfloat16


@pytest.mark.parametrize("brought", [False, True])
def test_a_critic_is_a_copy_with_an_adapter_where_the_policy_has_one(tmp_path: Path, brought: bool) -> None:
    path = folder(tmp_path, tiny.llama())
    settings = ModelSettings(path=path, precision="float32", lora=LoRA(rank=3))
    policy, loaded = load_policy(settings)
    if brought:
        assert policy.adapter is not None
        policy.adapter.save_pretrained(str(tmp_path / "adapter"))
        settings = ModelSettings(path=path, precision="float32", adapter=str(tmp_path / "adapter"))
        policy, loaded = load_policy(settings)
    before = tiny.weights(policy)
    critic, mine = value_model_of(policy, loaded, settings)
    assert critic.adapter is not None
    assert critic.adapter.peft_config["default"].r == (16 if brought else 3)
    assert critic.adapter.peft_config["default"].task_type == "SEQ_CLS"
    with torch.no_grad():
        for parameter in critic.trainable().values():
            parameter.add_(1.0)
    assert all(torch.equal(before[n], w) for n, w in tiny.weights(policy).items())
    assert mine.tokenizer is not loaded.tokenizer
    assert mine.stop_tokens == loaded.stop_tokens == {STOP}
    assert isinstance(mine, LoadedModel)
