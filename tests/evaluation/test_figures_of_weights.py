"""Outcomes that count by a weight, shares of sums, and a judge beside people, where prompts repeat."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twofold.evaluation.figures import BinaryOutcomes, Entry, Ratio, comparisons
from twofold.evaluation.games import agreement
from twofold.statistics import (
    bootstrap_ratio,
    cohens_kappa,
    share_by_cluster,
    share_difference,
    sign_flips,
    weighted_share,
)

PROMPTS = ["x", "y", "x", "z"]
WEIGHTS = [1.0, 2.0, 3.0, 0.5]


def outcomes(*credit: float) -> BinaryOutcomes:
    return BinaryOutcomes([each > 0.5 for each in credit], PROMPTS, WEIGHTS, credit)


def test_a_weighted_share_is_of_prompts_weights() -> None:
    """x has 1 · 1 + 3 · ½ of 4, y 0 of 2, z ½ of ½; four rows count as (6.5)² / 14.25."""
    expected = weighted_share([2.5, 0.0, 0.5], [4.0, 2.0, 0.5], 4, 6.5**2 / 14.25)
    assert outcomes(1.0, 0.0, 0.5, 1.0).estimate() == expected
    assert expected.value == pytest.approx(3 / 6.5)
    nothing = BinaryOutcomes([True], ["x"], [0.0], [1.0]).estimate()
    assert (math.isnan(nothing.value), nothing.n) == (True, 0)


def test_weighted_outcomes_differ_by_what_prompts_have() -> None:
    a, b = outcomes(1.0, 0.0, 0.5, 1.0), outcomes(1.0, 1.0, 0.0, 1.0)
    found = a.against(b)
    before, after, totals = [2.5, 0.0, 0.5], [1.0, 2.0, 0.5], [4.0, 2.0, 0.5]
    assert found.test == sign_flips(before, after)
    assert found.difference == share_difference(bootstrap_ratio(np.subtract(after, before), totals))
    assert found.difference.value == pytest.approx(0.5 / 6.5)


def test_a_share_of_sums_moves_by_at_most_one() -> None:
    parts, whole = ([0.0, 1.0, 0.0, 2.0], [2.0, 1.0, 2.0, 2.0]), [2.0, 1.0, 2.0, 2.0]
    plain, bounded = (
        Ratio(parts[0], whole, share=share).against(Ratio(parts[1], whole, share=share)) for share in (False, True)
    )
    assert plain is not None
    assert bounded is not None
    assert bounded.difference == share_difference(plain.difference)
    assert bounded.test == plain.test


def test_a_judge_beside_people_is_over_prompts() -> None:
    judge, people = [1.0, 1.0, 0.0, 0.5, 0.0, 1.0], [1.0, 0.0, 0.0, 0.5, 0.5, 1.0]
    prompts = ["x", "x", "y", "y", "z", "z"]
    found = agreement(judge, people, prompts)
    labels = {1.0: "win", 0.5: "tie", 0.0: "loss"}
    ours, theirs = ([labels[share] for share in shares] for shares in (judge, people))
    assert found.same == share_by_cluster([True, False, True, True, False, True], prompts)
    assert found.kappa == cohens_kappa(ours, theirs, clusters=prompts)
    assert found.kappa != agreement(judge, people).kappa


def test_every_two_entries_are_compared_by_what_both_have() -> None:
    measures = [BinaryOutcomes([i < right for i in range(8)]) for right in (2, 5, 8)]
    first = Entry("a", {"x": measures[0], "y": measures[0]})
    second, third = Entry("b", {"x": measures[1]}), Entry("c", {"z": measures[0], "x": measures[2]})
    (alone,) = comparisons([first, second])
    assert alone == {"a": "a", "b": "b", "metric": "x", **measures[0].against(measures[1]).as_dict()}
    found = comparisons([first, second, third])
    assert [(each["a"], each["b"], each["metric"]) for each in found] == [
        ("a", "b", "x"), ("a", "c", "x"), ("b", "c", "x"),
    ]  # fmt: skip
    assert [each["p_holm"] for each in found] == pytest.approx([0.5, 3 * 2 / 2**6, 0.5])
    assert comparisons([first]) == []
