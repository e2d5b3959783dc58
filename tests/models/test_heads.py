"""The reward model: its scores are those that transformers reads off the saved folder, with prompts shared or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from support import tiny
from support.reward_heads import STOP, flat, folder, moved
from twofold.batch import Branch, Group
from twofold.errors import ModelError
from twofold.models.adapters import LoRA
from twofold.models.heads import load_reward_model, wrap_reward_model
from twofold.models.load import ModelSettings, load_model, load_policy, save_policy
from twofold.models.packing import Packing

CLOSE = {"float64": 1e-10, "float32": 1e-5}


def stopped(group: Group) -> Group:
    """With the stop token at every branch's end, and padding's token just before it."""
    end = torch.tensor([0, STOP])
    return replace(group, branches=tuple(Branch(torch.cat([b.tokens, end]), b.role) for b in group.branches))


def groups() -> list[Group]:
    return [stopped(g) for g in tiny.groups((3, 4, 2), (5, 1, 6, 3, 3), (2, 7))]


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("make", [tiny.llama, tiny.gpt2], ids=["llama", "gpt2"])
@pytest.mark.parametrize("lora", [None, LoRA(rank=2)], ids=["full", "lora"])
def test_the_saved_folder_gives_the_same_scores_anywhere(
    tmp_path: Path, make: object, precision: str, lora: LoRA | None
) -> None:
    path = folder(tmp_path, make())  # type: ignore[operator]  # a maker of models
    settings = ModelSettings(path=path, precision=precision, lora=lora)
    held, loaded = load_reward_model(settings, seed=3)
    assert held.shared
    ours = flat(moved(held).scores(groups()))
    save_policy(held, loaded.tokenizer, tmp_path / "rm")

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "rm")
    rows = [torch.cat([g.prompt, b.tokens]).tolist() for g in groups() for b in g.branches]
    batch = tokenizer.pad([{"input_ids": row} for row in rows], return_tensors="pt")
    if lora is None:
        theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm", dtype=precision)
        assert (theirs.config.num_labels, theirs.config.problem_type) == (1, "regression")
        assert theirs.config.pad_token_id == tokenizer.pad_token_id != STOP
    else:
        theirs = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "rm", num_labels=1, dtype=precision)
        theirs.base_model.model.config.pad_token_id = tokenizer.pad_token_id
    with torch.no_grad():
        said = theirs.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
    assert said.std() > 0.1
    assert (said.double() - ours).abs().max() <= CLOSE[precision]

    again, _ = load_reward_model(ModelSettings(path=str(tmp_path / "rm"), precision=precision, sharing="rows"))
    assert (again.shared, again.note) == (False, "")
    assert (flat(again.scores(groups())) - ours).abs().max() <= CLOSE[precision]


def test_shared_prompts_give_the_gradients_of_rows(tmp_path: Path) -> None:
    path, found = folder(tmp_path, tiny.llama()), []
    for sharing in ("shared", "rows"):
        held, _ = load_reward_model(ModelSettings(path=path, precision="float64", sharing=sharing))
        outputs, batch = held(groups())
        assert outputs.logp_S is None
        assert len(outputs.score_B) == batch.num_branches == 7
        (outputs.score_B * torch.arange(1, 8)).sum().backward()
        found.append(tiny.gradients(held))
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-5)  # RMSNorm computes in float32


def test_packing_changes_no_score(tmp_path: Path) -> None:
    held, _ = load_reward_model(ModelSettings(path=folder(tmp_path, tiny.llama()), precision="float64"))
    whole = flat(held.scores(groups()))
    assert (flat(held.scores(groups(), Packing(groups=1))) - whole).abs().max() < 1e-12


def test_a_fresh_head_is_small_seeded_and_said(tmp_path: Path) -> None:
    path = folder(tmp_path, tiny.llama())
    heads = [load_reward_model(ModelSettings(path=path), seed=seed)[0] for seed in (0, 0, 1)]
    weights = [h.model.score.weight for h in heads]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].shape == (1, 32)
    assert weights[0].std().item() == pytest.approx(33**-0.5, rel=0.4)
    assert heads[2].note == f"{path} has no score head: a fresh one was drawn from seed 1"
    state = torch.get_rng_state()
    load_reward_model(ModelSettings(path=path), seed=7)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_in_memory_is_trained_in_place(tmp_path: Path) -> None:
    path, model = folder(tmp_path, tiny.llama()), tiny.llama()
    tokenizer = AutoTokenizer.from_pretrained(path)
    held, _ = wrap_reward_model(ModelSettings(path=path), model, tokenizer, 3)
    assert held.model.model is model.model
    again, _ = wrap_reward_model(ModelSettings(path=path), held.model, tokenizer)
    assert again.model is held.model
    from_folder, _ = load_reward_model(ModelSettings(path=path), 3)
    assert torch.equal(flat(from_folder.scores(groups())), flat(held.scores(groups())))


def test_stop_tokens_survive_the_folder(tmp_path: Path) -> None:
    model = tiny.llama()
    model.generation_config.eos_token_id = [STOP, 5]
    held, loaded = load_reward_model(ModelSettings(path=folder(tmp_path, model)))
    save_policy(held, loaded.tokenizer, tmp_path / "rm")
    assert load_reward_model(ModelSettings(path=str(tmp_path / "rm")))[1].stop_tokens == loaded.stop_tokens == {1, 5}


def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    held, loaded = load_reward_model(ModelSettings(path=folder(tmp_path, tiny.llama())))
    held.model.config.num_labels = 3
    held.model.score = torch.nn.Linear(32, 3, bias=False)
    save_policy(held, loaded.tokenizer, tmp_path / "three")
    with pytest.raises(ModelError, match="3 labels is no reward model"):
        load_reward_model(ModelSettings(path=str(tmp_path / "three")))
    with pytest.raises(ModelError, match="no such folder"):
        load_reward_model(ModelSettings(path=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("lora", [None, LoRA(rank=2)], ids=["full", "lora"])
def test_a_reward_model_is_no_policy(tmp_path: Path, lora: LoRA | None) -> None:
    lm = folder(tmp_path, tiny.llama())
    held, loaded = load_reward_model(ModelSettings(path=lm, precision="float32", lora=lora))
    reward = tmp_path / "reward"
    save_policy(held, loaded.tokenizer, reward)
    for load in (load_model, load_policy):
        with pytest.raises(ModelError, match="reward: is a reward model, not a language model"):
            load(ModelSettings(path=str(reward), precision="float32"))
    if lora is not None:
        with pytest.raises(ModelError, match="is a reward model"):
            load_policy(ModelSettings(path=lm, adapter=str(reward), precision="float32"))
