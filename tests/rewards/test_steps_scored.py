"""A process reward model: the probability of each step, and a completion's score of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tr

from support.chat_templates import FAMILIES
from support.heard import Tasks
from support.reward_heads import scorer_folder
from twofold.batch import Branch, Group, Role
from twofold.data.steps import keep_separator
from twofold.errors import DataError, ModelError
from twofold.progress import Silent
from twofold.records import Demonstration, Pair, Request, Source, Steps, Task
from twofold.rewards.rows import encoder_of, groups_of
from twofold.rewards.steps import AGGREGATES, StepScorer

AT = Source("f", 4)


def saved(folder: Path, separator: str | None, *, scores: bool = True) -> str:
    made = FAMILIES[0].tokenizer()
    made.chat_template = None
    keep_separator(made, separator)
    return scorer_folder(folder, made, scores=scores)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.mktemp("prm") / "model", " ; ")


@pytest.fixture(scope="module")
def scorer(folder: str) -> StepScorer:
    return StepScorer.load(folder)


def by_transformers(folder: str, scorer: StepScorer, record: Pair | Steps) -> list[list[float]]:
    """The score head's sigmoid at the token before the one that follows each step."""
    model: Any = tr.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    group, found = scorer.encoder.group(record), list[list[float]]()
    for branch, steps in zip(group.branches, (["a", "b"], ["a b"]), strict=False):
        row = torch.cat([group.prompt, branch.tokens])
        with torch.no_grad():
            values = model.score(model.base_model(input_ids=row[None]).last_hidden_state)[0, :, 0]
        ends = scorer.encoder.step_ends(branch.tokens, steps, AT)
        found.append([values[len(group.prompt) + end - 1].sigmoid().item() for end in ends])
    return found


def test_steps_are_parted_as_the_model_was_trained(folder: str, scorer: StepScorer) -> None:
    pair, rated = Pair("q", "a ; b", "a b", AT), Steps("q", ("a", "b"), (1.0, None), AT)
    assert (scorer.separator, scorer.how, scorer.encoder.settings.step_separator) == (" ; ", "min", " ; ")
    ours = scorer.steps([pair, rated], Silent())
    assert [[len(steps) for steps in row] for row in ours] == [[2, 1], [2]]
    theirs = by_transformers(folder, scorer, pair)
    for mine, want in zip(ours[0], theirs, strict=True):
        assert mine == pytest.approx(want, abs=1e-5)
    assert ours[1][0] == pytest.approx(theirs[0], abs=1e-5)
    assert scorer.score([pair], Silent()) == [[pytest.approx(min(theirs[0]), abs=1e-5), pytest.approx(theirs[1][0])]]
    assert scorer.renders is False


def test_a_score_is_of_all_steps() -> None:
    steps = [0.5, 0.25, 0.75]
    totals = {how: made(steps) for how, made in AGGREGATES.items()}
    assert totals == {"min": 0.25, "product": 0.09375, "last": 0.75, "mean": 0.5}


def test_the_kind_of_score_is_a_choice(folder: str, scorer: StepScorer) -> None:
    assert [replace(scorer, how=how).total([0.5, 0.25]) for how in AGGREGATES] == [0.25, 0.125, 0.25, 0.375]
    loaded = StepScorer.load(folder, 64, cut_prompt=True, how="last")
    assert (loaded.how, loaded.encoder.settings.max_length, loaded.encoder.settings.truncation) == (
        "last", 64, "cut_prompt",
    )  # fmt: skip
    assert scorer.encoder.settings.max_length == 1024
    assert scorer.encoder.settings.truncation == "refuse"


def test_work_is_reported_in_parts(scorer: StepScorer) -> None:
    seen = Tasks()
    rows = scorer.steps([Steps("q", ("a",), (1.0,), Source("f", n)) for n in range(65)], seen)
    assert len(rows) == 65
    assert [call for call in seen.calls if call[1] == "score"] == [
        ("begin", "score", 65), ("advance", "score", 64), ("advance", "score", 1), ("end", "score"),
    ]  # fmt: skip


def test_probabilities_are_of_the_token_behind_each_step(scorer: StepScorer) -> None:
    tokens = scorer.encoder.group(Demonstration("q", "a ; b", AT)).branches[0].tokens
    values = torch.linspace(-1, 1, len(tokens))
    ends = scorer.encoder.step_ends(tokens, ["a", "b"], AT)
    assert ends == sorted(ends)
    assert scorer.of_text(tokens, values, ["a", "b"]) == values.double().sigmoid()[ends].tolist()


@pytest.mark.parametrize(("separator", "scores"), [(None, True), (" ; ", False)])
def test_a_model_of_another_kind_is_refused(tmp_path: Path, separator: str | None, scores: bool) -> None:
    name = saved(tmp_path / "model", separator, scores=scores)
    with pytest.raises(ModelError) as error:
        StepScorer.load(name)
    assert (error.value.what, error.value.where) == ("this is no process reward model", name)
    assert error.value.remedy == (
        "train one: objective.kind=process_reward; other reward models are named reward:FOLDER"
    )


def test_rows_are_groups_of_what_they_say() -> None:
    """The answer of a problem is a completion; a row that is too long is refused by its name."""
    made = FAMILIES[0].tokenizer()
    loaded: Any = SimpleNamespace(tokenizer=made, stop_tokens=frozenset({made.eos_token_id}))
    plain = encoder_of(loaded, 40, cut_prompt=False)
    assert (plain.settings.max_length, plain.settings.truncation, plain.settings.step_separator) == (40, "refuse", "\n")
    own = encoder_of(loaded, 40, cut_prompt=True, separator="#").settings
    assert (own.truncation, own.step_separator, own.max_length) == ("cut_prompt", "#", 40)
    short = encoder_of(loaded, 100, cut_prompt=False)
    pair, task, asked = groups_of([Pair("q", "a", "b", AT), Task("q", "a", AT), Request("q", AT)], short, Silent())
    assert [branch.role for branch in pair.branches] == [Role.CHOSEN, Role.REJECTED]
    assert [branch.role for branch in task.branches] == [Role.TRUTH]
    assert (task.truth, asked.branches, asked.truth) == (None, (), None)
    assert task.branches[0].tokens.tolist() == pair.branches[0].tokens.tolist()
    cut = encoder_of(loaded, 60, cut_prompt=True)
    with pytest.raises(DataError) as error:
        groups_of([Pair("q", "a", "b", AT), Pair("q", "a" * 80, "b", Source("f", 9))], cut, Silent())
    assert (error.value.what, error.value.where) == ("a completion is longer than max_length (60)", "f:9")
    assert error.value.remedy == "raise max_length"


def test_groups_of_a_scorer_are_of_several_branches(scorer: StepScorer) -> None:
    group = Group("g", torch.tensor([5]), (Branch(torch.tensor([6, 7]), Role.DRAFT),) * 2)
    values = scorer.model.values([group])
    assert [[tuple(row.shape) for row in rows] for rows in values] == [[(2,), (2,)]]
