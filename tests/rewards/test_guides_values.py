"""What guides read of their models: places of tokens, complete steps, probabilities of 0, and how faults are named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from twofold.batch import Group, Role
from twofold.data import steps as parts
from twofold.errors import ModelError
from twofold.records import Source
from twofold.rewards import guides
from twofold.rewards.guides import RewardGuide, StepGuide, ValueGuide
from twofold.rewards.steps import StepScorer

STOP, OTHER, A, B, NEW, BOTH = 0, 1, 2, 3, 4, 5
TEXTS = ["", "", "a", "b", "\n", "a\nb"]
PROMPT = torch.tensor([7, 8])


class Encoder:
    """Letters and line breaks as tokens, and two tokens that stop."""

    stop, stop_tokens = STOP, frozenset({STOP, OTHER})

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(TEXTS[i] for i in ids)

    def solution(self, tokens: Tensor) -> str:
        return self.decode([i for i in tokens.tolist() if i not in self.stop_tokens])

    def step_ends(self, tokens: Tensor, steps: Sequence[str], source: Source, *, join: bool) -> list[int]:
        return parts.step_ends(self.decode, tokens.tolist(), steps, source, join=join)


class Model:
    """Values and scores from a table of rows; it notes the groups that it is called with."""

    def __init__(self, rows: list[list[float]]) -> None:
        self.rows, self.groups = rows, list[Group]()

    def values(self, groups: list[Group]) -> list[list[Tensor]]:
        self.groups += groups
        return [[torch.tensor(row, dtype=torch.float32) for row in self.rows]]

    def scores(self, groups: list[Group]) -> list[list[float]]:
        self.groups += groups
        return [[row[0] for row in self.rows]]


def stepwise(how: str, *rows: list[float]) -> tuple[StepGuide, Model]:
    model: Any = Model([*rows])
    encoder: Any = Encoder()
    return StepGuide(StepScorer(model, encoder, "\n", how)), model


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


@pytest.mark.parametrize(
    ("tokens", "product", "last"),
    [
        ([A], 0.0, 0.0),
        ([A, A], 0.0, 0.0),
        ([A, NEW], math.log(0.25), math.log(0.25)),
        ([A, NEW, B], math.log(0.25), math.log(0.25)),
        ([A, NEW, B, NEW], math.log(0.25 * 0.5), math.log(0.5)),
        ([A, NEW, B, STOP], math.log(0.25 * 0.5), math.log(0.5)),
        ([A, NEW, B, OTHER], math.log(0.25 * 0.5), math.log(0.5)),
        ([NEW, NEW], 0.0, 0.0),
        ([NEW, STOP], -math.inf, -math.inf),
        ([STOP], -math.inf, -math.inf),
    ],
)
def test_steps_count_once_they_are_complete(tokens: list[int], product: float, last: float) -> None:
    """The value behind a is a logit of ¼, that behind b one of ½; the others are far off."""
    row = [-9.0] * (len(tokens) + 1)
    row[1:2] = [logit(0.25)]
    row[3:4] = [logit(0.5)] if len(row) > 3 else []
    for how, value in (("product", product), ("last", last)):
        guide, model = stepwise(how, row)
        result = guide(PROMPT, torch.tensor([tokens]))
        assert (result.dtype, result.tolist()) == (torch.float64, [pytest.approx(value, rel=1e-6)])
        (group,) = model.groups
        assert [b.tokens.tolist() for b in group.branches] == [[*tokens, STOP]]


def test_beginnings_are_one_group_of_drafts_and_each_has_its_own_value() -> None:
    guide, model = stepwise("min", [0.0, logit(0.25), 9.0, 9.0], [0.0, logit(0.75), 9.0, 9.0], [0.0, 0.0, 0.0, 0.0])
    result = guide(PROMPT, torch.tensor([[A, NEW, B], [B, NEW, A], [A, B, A]]))
    assert result.tolist() == pytest.approx([math.log(0.25), math.log(0.75), 0.0], rel=1e-6)
    (group,) = model.groups
    assert (group.name, group.prompt.tolist()) == ("a partial answer", [7, 8])
    assert [branch.role for branch in group.branches] == [Role.DRAFT] * 3


@pytest.mark.parametrize("how", ["min", "product", "last"])
def test_a_step_of_no_probability_is_minus_infinity(how: str) -> None:
    guide, _ = stepwise(how, [0.0, -2000.0, 0.0])
    assert guide(PROMPT, torch.tensor([[A, NEW]])).tolist() == [-math.inf]


def test_a_value_is_the_last_one_and_before_a_stop_the_one_before() -> None:
    """Every row has one more token, the first of those that stop."""
    model: Any = Model([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    guide = ValueGuide(model, frozenset({OTHER, STOP}))
    result = guide(PROMPT, torch.tensor([[A, B], [A, STOP], [A, OTHER]]))
    assert (result.dtype, result.tolist()) == (torch.float64, [3.0, 5.0, 8.0])
    (group,) = model.groups
    assert [b.tokens.tolist() for b in group.branches] == [[A, B, STOP], [A, STOP, STOP], [A, OTHER, STOP]]
    assert (group.name, [b.role for b in group.branches]) == ("a partial answer", [Role.DRAFT] * 3)


def test_probabilities_near_1_are_not_rounded_to_it() -> None:
    """The models' numbers are of single precision, in which the sigmoid of 20 is 1."""
    guide, _ = stepwise("min", [0.0, 20.0, 0.0])
    assert guide(PROMPT, torch.tensor([[A, NEW]])).item() == pytest.approx(-math.exp(-20), rel=1e-6)


def test_as_many_values_as_beginnings() -> None:
    guide, model = stepwise("min", [0.0] * 3)
    other: Any = ValueGuide(model, frozenset({STOP}))  # type: ignore[arg-type]  # a model of these rows
    for each in (guide, other):
        with pytest.raises(ValueError, match="zip"):
            each(PROMPT, torch.tensor([[A, NEW], [B, NEW]]))


def test_a_score_is_of_the_beginnings_as_they_are() -> None:
    model: Any = Model([[0.1], [-2.0]])
    result = RewardGuide(model)(PROMPT, torch.tensor([[A, B], [A, STOP]]))
    assert (result.dtype, result.tolist()) == (torch.float64, [0.1, -2.0])
    assert [b.tokens.tolist() for b in model.groups[0].branches] == [[A, B], [A, STOP]]


class Vocabulary:
    """A tokenizer of these words."""

    def __init__(self, *words: str) -> None:
        self.words = {word: place for place, word in enumerate(words)}

    def get_vocab(self) -> dict[str, int]:
        return self.words


def test_value_models_of_another_kind_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[bool] = []
    model = SimpleNamespace(note="", requires_grad_=lambda needed: frozen.append(needed) or model)
    loaded = SimpleNamespace(tokenizer=Vocabulary("a"), stop_tokens=frozenset({3}))
    paths: list[str] = []
    monkeypatch.setattr(guides, "load_value_model", lambda how: paths.append(how.path) or (model, loaded))
    guide: Any = ValueGuide.load("folder", Vocabulary("a"))
    assert (guide.model, guide.stop_tokens, frozen, paths) == (model, {3}, [False], ["folder"])
    with pytest.raises(ModelError) as error:
        ValueGuide.load("folder", Vocabulary("b"))
    assert str(error.value) == (
        "folder: has another vocabulary than the policy, whose tokens it values\n  → name one of its own runs"
    )
    model.note = "a new head"
    with pytest.raises(ModelError) as error:
        ValueGuide.load("folder", Vocabulary("b"))
    assert str(error.value) == (
        "folder: this model has no trained head\n"
        "  → name the directory of a finished PPO run, which has its value model"
    )


def test_scorers_of_another_vocabulary_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = SimpleNamespace(encoder=SimpleNamespace(tokenizer=Vocabulary("a")))
    calls: list[tuple[str, str]] = []
    monkeypatch.setattr(StepScorer, "load", lambda name, *, how: calls.append((name, how)) or scorer)
    guide: Any = StepGuide.load("folder", Vocabulary("a"), "last")
    assert (guide.scorer, calls) == (scorer, [("folder", "last")])
    with pytest.raises(ModelError) as error:
        StepGuide.load("folder", Vocabulary("a", "b"), "last")
    assert str(error.value) == (
        "folder: has another vocabulary than the policy, whose tokens it scores\n  → train one from its base"
    )


def test_two_steps_of_one_sampled_token_have_one_probability() -> None:
    """The token `a↵b` ends both: the sum over one step is that of its place, and a row of labels would be refused."""
    guide, _ = stepwise("product", [9.0, math.log(3), 9.0])
    (value,) = guide(PROMPT, torch.tensor([[BOTH, NEW]])).tolist()
    assert value == pytest.approx(math.log(0.75))
