"""A trained reward model as a scorer of rows and of drafts: the numbers that transformers itself reads of the same
tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from support.chat_templates import FAMILIES
from support.heard import Tasks
from support.reward_heads import scorer_folder
from twofold.batch import Branch, Group, Role
from twofold.errors import DataError, ModelError
from twofold.models.load import ModelSettings
from twofold.models.packing import Packing
from twofold.progress import Silent
from twofold.records import Demonstration, Message, Pair, Source, Task
from twofold.rewards.model import ModelReward, ModelScorer, open_reward

AT = Source("f", 4)


def tokenizer(template: bool = True) -> Any:
    made = FAMILIES[0].tokenizer()
    if not template:
        made.chat_template = None
    return made


def saved(folder: Path, *, scores: bool = True, template: bool = True) -> str:
    return scorer_folder(folder, tokenizer(template), scores=scores)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """In a run directory, as training leaves it."""
    run = tmp_path_factory.mktemp("run")
    (run / "checkpoints").mkdir()
    saved(run / "model")
    return str(run)


def by_transformers(folder: str, texts: list[str]) -> list[float]:
    """The score of each text, alone."""
    model = tr.AutoModelForSequenceClassification.from_pretrained(Path(folder) / "model").eval()
    with torch.no_grad():
        rows = (tokenizer()(text, add_special_tokens=False, return_tensors="pt")["input_ids"] for text in texts)
        return [model(input_ids=ids).logits.item() for ids in rows]


CHAT = "<|im_start|>system\nYou are Qwen. You are a helpful assistant.<|im_end|>\n"
CHAT += "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>"


def test_rows_are_scored_as_the_model_sees_their_tokens(folder: str) -> None:
    whole = [CHAT.format("2+3?", text) for text in ("5", "six", "5", "5")]
    records = [Pair("2+3?", "5", "six", AT), Demonstration((Message("user", "2+3?"),), "5", AT), Task("2+3?", "5", AT)]
    scores = open_reward(folder).score(records, Silent())
    assert [len(row) for row in scores] == [2, 1, 1]
    assert [s for row in scores for s in row] == pytest.approx(by_transformers(folder, whole), abs=1e-5)
    assert scores[0][0] != pytest.approx(scores[0][1], abs=1e-3)


def test_the_answer_of_a_problem_is_its_completion(folder: str) -> None:
    pair, task = open_reward(folder).groups([Pair("2+3?", "5", "6", AT), Task("2+3?", "5", AT)], Silent())
    assert [b.role for b in pair.branches] == [Role.CHOSEN, Role.REJECTED]
    assert (task.branches[0].role, task.truth, len(task.branches)) == (Role.TRUTH, None, 1)
    assert task.branches[0].tokens.tolist() == pair.branches[0].tokens.tolist()


def test_work_is_reported_in_parts(folder: str) -> None:
    seen, scorer = Tasks(), open_reward(folder)
    group = Group("g", torch.tensor([5]), (Branch(torch.tensor([6]), Role.DRAFT),))
    scores = scorer.score_groups([group] * 65, seen)
    assert (len(scores), max(scores)[0]) == (65, pytest.approx(min(scores)[0]))
    assert seen.calls == [("begin", "score", 65), ("advance", "score", 64), ("advance", "score", 1), ("end", "score")]


def test_a_row_that_is_too_long_is_refused_or_loses_the_start_of_its_prompt(folder: str) -> None:
    rows = [Pair("x" * 40, "5", "6", AT), Pair("2", "5", "6" * 80, Source("f", 5))]
    assert open_reward(folder).encoder.settings.max_length == 1024
    with pytest.raises(DataError, match=r"^f:4: has \d+ tokens, max_length is 50"):
        open_reward(folder, 50).score(rows, Silent())
    with pytest.raises(DataError) as error:
        open_reward(folder, 50, cut_prompt=True).score(rows, Silent())
    assert (error.value.what, error.value.where, error.value.remedy) == (
        "a completion is longer than max_length (50)", "f:5", "raise max_length",
    )  # fmt: skip
    (cut,) = open_reward(folder, 50, cut_prompt=True).groups(rows[:1], Silent())
    assert len(cut.prompt) + max(len(b.tokens) for b in cut.branches) == 50
    settings = ModelSettings(path=str(Path(folder) / "model"))
    assert ModelScorer.load(settings).encoder.settings.truncation == "refuse"
    assert ModelScorer.load(settings, 7, cut_prompt=True).encoder.settings.max_length == 7


def test_a_language_model_scores_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path, scores=False)
    for load in (
        lambda: ModelScorer.load(ModelSettings(path=path)),
        lambda: ModelReward.load(ModelSettings(path=path), tokenizer(), Packing()),
    ):
        with pytest.raises(ModelError) as error:
            load()
        assert (error.value.what, error.value.where) == ("this model has no trained score head", path)
        assert error.value.remedy == "train one: objective.kind=bradley_terry"


def test_drafts_are_scored_as_they_were_drawn(folder: str) -> None:
    settings = ModelSettings(path=str(Path(folder) / "model"))
    reward = ModelReward.load(settings, tokenizer(), Packing(tokens=40))
    assert not any(p.requires_grad for p in reward.model.model.parameters())
    text = CHAT.format("2+3?", "")[: -len("<|im_end|>")]
    ids = [tokenizer()(t, add_special_tokens=False, return_tensors="pt")["input_ids"][0] for t in (text, "5", "six")]
    group = Group("g", ids[0], tuple(Branch(tokens, Role.DRAFT) for tokens in ids[1:]))
    want = by_transformers(folder, [f"{text}5", f"{text}six"])  # without a stop token
    assert reward.rate([group])[0] == pytest.approx(want, abs=1e-5)
    assert reward.packing == Packing(tokens=40)


@pytest.mark.parametrize("template", [True, False])
def test_a_reward_model_with_a_template_renders_text(tmp_path: Path, template: bool) -> None:
    settings = ModelSettings(path=saved(tmp_path, template=template))
    reward = ModelReward.load(settings, tokenizer(), Packing())
    assert reward.renders is template
    assert not ModelReward(reward.model, reward.packing).renders


def test_tokens_of_another_vocabulary_are_refused(folder: str) -> None:
    settings = ModelSettings(path=str(Path(folder) / "model"))
    with pytest.raises(ModelError) as error:
        ModelReward.load(settings, tiny.tokenizer(), Packing())
    assert error.value.what == "this reward model has another vocabulary than the policy, whose tokens it is to score"
    assert (error.value.where, error.value.remedy) == (settings.path, "train one from the policy's own base")
