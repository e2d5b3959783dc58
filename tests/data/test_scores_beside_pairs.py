"""Scores beside the texts of a pair, and preferences that they contradict."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.data.issues import Issue
from twofold.data.scores import LowMargins, score_margin
from twofold.errors import DataError
from twofold.records import Demonstration, Pair, Source

PAIR = Pair("p", "good", "bad", source=Source("f", 3))
COLUMNS = ["score_chosen", "chosen_score", "reward_chosen", "chosen_reward", "rating_chosen", "chosen_rating",
           "avg_rating_chosen", "chosen_avg_rating"]  # fmt: skip


@pytest.mark.parametrize("column", COLUMNS)
def test_a_margin_is_the_difference_of_both_scores(column: str) -> None:
    other = column.replace("chosen", "rejected")
    assert score_margin(PAIR, {column: 7, other: 4.5}) == 2.5
    assert score_margin(PAIR, {column: 7}) is None
    assert score_margin(PAIR, {other: 7}) is None


@pytest.mark.parametrize("score", ["7", None, True, float("nan"), float("inf")])
def test_what_is_no_finite_number_is_no_score(score: Any) -> None:
    assert score_margin(PAIR, {"score_chosen": score, "score_rejected": 1}) is None
    assert score_margin(PAIR, {"score_chosen": 1, "score_rejected": score}) is None
    assert (
        score_margin(PAIR, {"score_chosen": score, "score_rejected": 1, "rating_chosen": 2, "rating_rejected": 1}) == 1
    )


def test_the_rows_own_margin_comes_first_and_other_records_have_none() -> None:
    scores = {"score_chosen": 7, "score_rejected": 4}
    assert score_margin(Pair("p", "good", "bad", source=Source("f", 3), margin=0.25), scores) == 0.25
    assert score_margin(Demonstration("p", "good", source=Source("f", 3)), scores) is None


def test_pairs_below_the_least_margin_are_named() -> None:
    low = LowMargins(0.5)
    for number, chosen in enumerate((0.5, 0.25, -1.0), 1):
        low.see(Pair("p", "good", "bad", source=Source("f", number)), {"score_chosen": chosen, "score_rejected": 0})
    remedy = "remove the row: the preference is probably noise"
    assert list(low.faults("f")) == [
        Issue("f", row, "", f"chosen scores {margin} against rejected, less than 0.5", remedy, "warning", "low margin")
        for row, margin in ((2, "+0.25"), (3, "-1"))
    ]


def test_rows_without_scores_are_one_warning() -> None:
    low = LowMargins(0.0)
    low.see(PAIR, {})
    remedy = "add columns such as score_chosen and score_rejected, or leave --min-margin out"
    reason = "no pair has scores of both completions, or a margin"
    assert list(low.faults("f")) == [Issue("f", 0, "", reason, remedy, "warning", "no scores")]


@pytest.mark.parametrize("least", [float("nan"), float("inf")])
def test_the_least_margin_is_a_finite_number(least: float) -> None:
    with pytest.raises(DataError, match=r"--min-margin: is no finite number\n  → write a number such as 0\.5"):
        LowMargins(least)
