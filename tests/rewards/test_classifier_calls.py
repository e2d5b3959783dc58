"""How a classifier's tokenizer and model are called, and what is made of logits, by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from twofold.rewards.classifier import Classifier
from twofold.rewards.ensemble import HOWS, EnsembleReward, combined

LOGITS = [[math.log(2), math.log(3), math.log(5)], [0.0, math.log(4), math.log(4)]]


class Encoded(dict[str, Any]):
    """Token ids that go to the model's device."""

    def to(self, device: str) -> Encoded:
        return Encoded(self, device=device)


class Tokens:
    model_max_length, pad_token_id = 10**30, 0

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, *texts: Any, **how: Any) -> Encoded:
        self.calls.append((texts, how))
        return Encoded(rows=len(texts[0]))


class Model:
    """Gives the first rows of `logits`, in float32."""

    device = "here"

    def __init__(self, logits: list[list[float]], problem: str | None = None) -> None:
        self.logits, self.calls = logits, list[Any]()
        self.config = SimpleNamespace(max_position_embeddings=8, problem_type=problem)

    def __call__(self, **args: Any) -> Any:
        self.calls.append(args)
        return SimpleNamespace(logits=torch.tensor(self.logits[: args["rows"]], requires_grad=True))


def made(model: Model, label: int = 0, reads: Any = "completion") -> tuple[Classifier, Tokens]:
    tokens = Tokens()
    return Classifier(model, tokens, label, reads), tokens  # type: ignore[arg-type]  # as much as is read


@pytest.mark.parametrize(
    ("label", "odds"), [(0, [2 / 8, 1 / 8]), (1, [3 / 7, 4 / 5]), (2, [5 / 5, 4 / 5])], ids=["first", "middle", "last"]
)
def test_the_log_odds_are_those_of_a_label_against_all_others(label: int, odds: list[float]) -> None:
    result, _ = made(Model(LOGITS), label)
    scores = result._scores([("p", "a"), ("p", "b")])
    assert scores.tolist() == pytest.approx([math.log(each) for each in odds], abs=1e-6)
    assert (scores.dtype, scores.requires_grad) == (torch.float64, False)


@pytest.mark.parametrize(("logits", "problem"), [([[0.7]], None), ([[0.1, 0.7]], "multi_label_classification")])
def test_the_logit_of_one_label_or_of_independent_ones_is_its_log_odds(
    logits: list[list[float]], problem: str | None
) -> None:
    result, _ = made(Model(logits, problem), len(logits[0]) - 1)
    assert result.scores([("p", "a")]) == [pytest.approx(0.7)]
    other, _ = made(Model([[0.1, 0.7]], "single_label_classification"), 1)
    assert other.scores([("p", "a")]) == [pytest.approx(0.6)]


@pytest.mark.parametrize(("count", "padded"), [(1, False), (2, True)])
def test_texts_are_cut_at_the_models_limit_and_padded_where_there_are_several(count: int, padded: bool) -> None:
    """The tokenizer knows no limit of its own, so it is that of the model's positions."""
    model = Model(LOGITS)
    result, tokens = made(model)
    result.scores([("p", "a"), ("p", "b")][:count])
    ((texts, how),) = tokens.calls
    assert texts == (["a", "b"][:count],)
    assert how == {"truncation": True, "max_length": 8, "padding": padded, "return_tensors": "pt"}
    assert model.calls == [{"rows": count, "device": "here"}]


def test_no_texts_have_no_scores() -> None:
    result, tokens = made(Model(LOGITS))
    assert (result.scores([]), tokens.calls) == ([], [])


def test_an_ensemble_is_of_each_group_and_in_the_order_of_its_completions() -> None:
    """Of 1 and 3 the standard deviation is 1 by the number of rewards, so the lower bound is the lesser one."""
    rows = [[[1.0, 4.0], [2.0]], [[3.0, 0.0], [2.0]]]
    rewards: Any = [SimpleNamespace(rate=lambda groups, row=row: row) for row in rows]
    assert HOWS == ("mean", "min", "lower")
    assert EnsembleReward(rewards, "mean").rate([]) == [[2.0, 2.0], [2.0]]
    assert EnsembleReward(rewards, "min").rate([]) == [[1.0, 0.0], [2.0]]
    assert EnsembleReward(rewards, "lower").rate([]) == [[1.0, 0.0], [2.0]]
    assert combined("lower", [[1], [2], [6]]) == [pytest.approx(3 - math.sqrt(14 / 3))]
    with pytest.raises(ValueError, match=r"shorter|longer"):
        EnsembleReward([rewards[0], SimpleNamespace(rate=lambda groups: [[1.0, 1.0]])], "mean").rate([])  # type: ignore[arg-type, list-item]
