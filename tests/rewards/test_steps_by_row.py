"""Scores of steps and of several rewards: each completion with its own numbers, and none where some are missing."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from twofold.batch import Branch, Group, Role
from twofold.progress import Silent
from twofold.records import Pair, Source, Steps
from twofold.rewards import steps as room
from twofold.rewards.ensemble import EnsembleReward, combined
from twofold.rewards.steps import StepScorer

AT = Source("f", 2)


def scorer(monkeypatch: pytest.MonkeyPatch, values: list[list[list[float]]], how: str = "min") -> StepScorer:
    """A scorer whose model has these values for two rows of two completions of three tokens."""
    branches = tuple(Branch(torch.tensor([n] * 3), Role.DRAFT) for n in (1, 2))
    groups = [Group(f"{n}", torch.tensor([0]), branches) for n in range(2)]
    monkeypatch.setattr(room, "groups_of", lambda records, encoder, progress: groups[: len(records)])
    model: Any = SimpleNamespace(values=lambda part: [[torch.tensor(row) for row in rows] for rows in values])
    encoder: Any = SimpleNamespace(
        solution=lambda tokens: f"{tokens[0].item()};x",
        step_ends=lambda tokens, steps, source, join=False: (
            [1, 2] if join and steps == (f"{tokens[0].item()}", "x") else [len(steps[0])]
        ),
    )
    return StepScorer(model, encoder, ";", how)


ROWS = [[[9.0, 0.0, math.log(3)], [9.0, math.log(3), -math.log(3)]], [[9.0, 0.0, -math.log(3)]] * 2]
PAIR = Pair("q", "a", "b", AT)


@pytest.mark.parametrize(
    ("how", "scores"),
    [
        ("min", [[0.5, 0.25], [0.25, 0.25]]),
        ("product", [[0.375, 0.1875], [0.125, 0.125]]),
        ("last", [[0.75, 0.25], [0.25, 0.25]]),
        ("mean", [[0.625, 0.5], [0.375, 0.375]]),
    ],
)
def test_each_completion_has_the_score_of_its_own_steps(
    how: str, scores: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = scorer(monkeypatch, ROWS, how).score([PAIR, PAIR], Silent())
    assert [value for row in result for value in row] == pytest.approx([value for row in scores for value in row])
    assert [len(row) for row in result] == [2, 2]


def test_steps_of_a_row_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of steps are not split by the text."""
    rated = Steps("q", ("ab",), (1.0,), AT)
    (row,) = scorer(monkeypatch, ROWS[:1]).steps([rated], Silent())
    assert row == [[pytest.approx(0.75)], [pytest.approx(0.25)]]


@pytest.mark.parametrize("rows", [ROWS[:1], [*ROWS, ROWS[0]], [ROWS[0], ROWS[1][:1]], [ROWS[0], [*ROWS[1], [0.0] * 3]]])
def test_values_are_of_all_rows_and_completions(rows: list[list[list[float]]], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="zip"):
        scorer(monkeypatch, rows).steps([PAIR, PAIR], Silent())


@pytest.mark.parametrize("other", [[[1.0]], [[1.0], [2.0], [3.0]]])
def test_several_rewards_are_of_the_same_rows(other: list[list[float]]) -> None:
    one: Any = SimpleNamespace(rate=lambda groups: [[1.0], [2.0]])
    two: Any = SimpleNamespace(rate=lambda groups: other)
    with pytest.raises(ValueError, match="zip"):
        EnsembleReward([one, two], "mean").rate([])
    assert EnsembleReward([one, one], "mean").rate([]) == [[1.0], [2.0]]


def test_rewards_are_combined_by_completion() -> None:
    scores = [[1.0, 4.0, math.nan], [3.0, 0.0, 1.0]]
    assert combined("mean", scores)[:2] == [2.0, 2.0]
    assert combined("min", scores)[:2] == [1.0, 0.0]
    assert combined("lower", scores)[:2] == [1.0, 0.0]
    assert all(math.isnan(combined(how, scores)[2]) for how in ("mean", "min", "lower"))
