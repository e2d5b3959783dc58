"""Guides of a beam search by hand: a reward model's score of a beginning, and the complete steps of one."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from twofold.algorithms.gae import VALUE_MODEL
from twofold.batch import Branch, Group, Role
from twofold.data.steps import keep_separator
from twofold.errors import ModelError
from twofold.models.heads import load_reward_model, load_value_model
from twofold.models.load import ModelSettings, save_policy
from twofold.rewards.guides import RewardGuide, StepGuide, ValueGuide, load_guide


def tokenizer(more: str = "") -> PreTrainedTokenizerFast:
    letters = {token: i for i, token in enumerate(["</s>", *"ab", "Ċ", *more])}
    core = Tokenizer(models.BPE(vocab=letters, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """A reward model and a process reward model with the same random head."""
    config = LlamaConfig(
        vocab_size=4, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, eos_token_id=0, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    for name, separator in (("rm", None), ("prm", "\n")):
        held, loaded = load_reward_model(ModelSettings(path=str(tmp_path / "base"), precision="float32"))
        with torch.no_grad():
            held.model.score.weight.mul_(100)  # type: ignore[operator, union-attr]  # a linear layer
        keep_separator(loaded.tokenizer, separator)
        save_policy(held, loaded.tokenizer, tmp_path / name)
    return str(tmp_path / "rm"), str(tmp_path / "prm")


PROMPT = torch.tensor([1, 2])
A, B, NEW, STOP = 1, 2, 3, 0


def test_the_score_of_a_beginning_is_that_of_a_completion_that_ends_there(folders: tuple[str, str]) -> None:
    guide = RewardGuide.load(folders[0], tokenizer())
    beginnings = torch.tensor([[A, B], [B, STOP]])
    alone = [guide.model.scores([Group("x", PROMPT, (Branch(row, Role.DRAFT),))])[0][0] for row in beginnings]
    assert guide(PROMPT, beginnings).tolist() == pytest.approx(alone, abs=1e-5)
    with pytest.raises(ModelError, match="another vocabulary than the policy"):
        RewardGuide.load(folders[0], tokenizer("c"))


def test_a_run_s_value_model_guides_by_what_it_expects(folders: tuple[str, str], tmp_path: Path) -> None:
    """The value before the token that would follow; of a completion that has stopped, the one before its stop token."""
    run = tmp_path / "ppo"
    shutil.copytree(folders[0], run / VALUE_MODEL)
    guide = load_guide(str(run), tokenizer())
    assert isinstance(guide, ValueGuide)
    beginnings = torch.tensor([[A, B], [B, STOP], [STOP, STOP]])
    model, _ = load_value_model(ModelSettings(path=folders[0], precision="float32"))
    groups = [Group("x", PROMPT, (Branch(torch.tensor(row), Role.DRAFT),)) for row in ([A, B, A], [B, A], [STOP, A])]
    expected = [model.values([group])[0][0][-1].item() for group in groups]
    assert guide(PROMPT, beginnings).tolist() == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 4) for value in expected}) == 3
    scores = RewardGuide.load(folders[0], tokenizer())(PROMPT, beginnings)
    assert scores[0].item() == pytest.approx(expected[0], abs=1e-5)
    assert abs(scores[1].item() - expected[1]) > 1e-3
    assert isinstance(load_guide(str(run / VALUE_MODEL), tokenizer()), ValueGuide)
    assert isinstance(load_guide(folders[0], tokenizer()), RewardGuide)
    with pytest.raises(ModelError, match="another vocabulary than the policy"):
        load_guide(str(run), tokenizer("c"))
    shutil.copytree(tmp_path / "base", tmp_path / "sft" / VALUE_MODEL)
    with pytest.raises(ModelError, match="this model has no trained head"):
        load_guide(str(tmp_path / "sft"), tokenizer())


def test_only_complete_steps_count(folders: tuple[str, str]) -> None:
    """a, then b: nothing before the line break, the first step up to the end, then both. The values are the reward
    model's scores at the steps' last tokens, as probabilities."""
    score = RewardGuide.load(folders[0], tokenizer())
    first, second = (score(PROMPT, torch.tensor([row])).sigmoid().item() for row in ([A], [A, NEW, B]))
    guides = {how: StepGuide.load(folders[1], tokenizer(), how) for how in ("min", "product", "last")}

    def values(*tokens: int) -> list[float]:
        return [guide(PROMPT, torch.tensor([tokens])).item() for guide in guides.values()]

    assert values(A) == [0, 0, 0]
    assert values(A, NEW) == pytest.approx([math.log(first)] * 3, abs=1e-4)
    assert values(A, NEW, B) == pytest.approx([math.log(first)] * 3, abs=1e-4)
    both = [math.log(min(first, second)), math.log(first * second), math.log(second)]
    assert values(A, NEW, B, STOP) == pytest.approx(both, abs=1e-4)
    assert values(NEW, STOP) == [-math.inf] * 3
    assert len({*both}) == 3 or first < second
    with pytest.raises(ModelError, match="another vocabulary than the policy"):
        StepGuide.load(folders[1], tokenizer("c"), "min")
    with pytest.raises(ModelError, match="this is no process reward model"):
        StepGuide.load(folders[0], tokenizer(), "min")
