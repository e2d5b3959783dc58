"""Columns of a value model by hand: rewards at each token, normalized advantages, and how much values explain."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from support import tiny
from twofold.algorithms.gae import ValueModelSettings, value_metrics, whitened_tokens, with_gae
from twofold.batch import Group


def with_tokens(group: Group, name: str, *values: list[float]) -> Group:
    return group.with_columns([{name: torch.tensor(v)} for v in values])


def columns(groups: list[Group], name: str) -> list[list[float]]:
    return [b.token_columns[name].tolist() for g in groups for b in g.branches]


def test_advantages_add_up_along_a_completion() -> None:
    """γ = ½, λ = ½, values 1 and 2, KL 1 and 3 at a tenth, score 5: rewards −0.1 and 4.7. The last token: 4.7 − 2.
    The first: −0.1 + ½·2 − 1 = −0.1, and a quarter of 2.7."""
    (group,) = tiny.groups((3, 2))
    critic = ValueModelSettings(discount=0.5, gae_lambda=0.5)
    groups = [with_tokens(group, "old_value", [1.0, 2.0])]
    made = with_gae(groups, [torch.tensor([5.0])], [[torch.tensor([1.0, 3.0])]], 0.1, critic)
    assert columns(made, "advantage") == [pytest.approx([0.575, 2.7])]
    assert columns(made, "return") == [pytest.approx([1.575, 4.7])]
    assert made[0].branches[0].token_columns["advantage"].dtype == torch.float64


def test_advantages_of_all_tokens_have_mean_0_and_variance_1() -> None:
    a, b = tiny.groups((3, 2), (2, 1))
    found = whitened_tokens([with_tokens(a, "advantage", [1.0, 2.0]), with_tokens(b, "advantage", [6.0])])
    scale = 7**0.5  # (4 + 1 + 9) / 2
    assert [v for row in columns(found, "advantage") for v in row] == pytest.approx(
        [-2 / scale, -1 / scale, 3 / scale], rel=1e-4
    )


def test_what_values_explain_of_returns() -> None:
    """Returns 1 and 3 have variance 1, and what is left of them 0 and 1, ¼."""
    (group,) = tiny.groups((3, 2))
    groups = [with_tokens(with_tokens(group, "old_value", [1.0, 2.0]), "return", [1.0, 3.0])]
    assert value_metrics(groups) == {"value": 1.5, "return": 2.0, "explained": 0.75}
    flat = [with_tokens(groups[0], "return", [3.0, 3.0])]
    assert value_metrics(flat) == {"value": 1.5, "return": 3.0}


@pytest.mark.parametrize(
    ("name", "fine", "wrong", "words"),
    [
        ("discount", 1.0, 1.01, "discount must be in (0, 1]"), ("discount", 0.01, 0.0, "discount must be in (0, 1]"),
        ("gae_lambda", 0.0, -0.01, "gae_lambda must be in [0, 1]"),
        ("gae_lambda", 1.0, 1.01, "gae_lambda must be in [0, 1]"), ("clip", None, 0.0, "clip must be > 0, or null"),
        ("learning_rate", None, 0.0, "learning_rate must be > 0"),
        ("start", "folder", "", "start must be policy or a folder"),
    ],
)  # fmt: skip
def test_bounds(name: str, fine: Any, wrong: Any, words: str) -> None:
    assert getattr(ValueModelSettings(**{name: fine}), name) == fine
    with pytest.raises(ValueError) as error:
        ValueModelSettings(**{name: wrong})
    assert str(error.value) == words
