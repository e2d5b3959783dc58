"""Figures of models on the same items, and their paired tests, counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from support.frozen import refuse_changes
from twofold.evaluation.figures import BinaryOutcomes, Entry, Evaluation, Ratio, comparisons, corrected
from twofold.statistics import bootstrap_ratio, clustered_share, mcnemar, paired_bootstrap, sign_flips, wilson

A, B, C = ([i < n for i in range(20)] for n in (8, 15, 11))


def test_verdicts_are_wilsons_and_mcnemars() -> None:
    assert BinaryOutcomes(A, list(range(20))).estimate() == wilson(8, 20)
    found = BinaryOutcomes(A).against(BinaryOutcomes(B))
    assert found.test == mcnemar(A, B)
    assert found.difference == paired_bootstrap(A, B)
    assert (found.difference.value, found.as_dict()["only_b"]) == (0.35, 7)


def test_what_repeats_a_prompt_is_no_new_evidence() -> None:
    """Five prompts four times each: a test has five things to go by, whichever model is better on all four rows."""
    prompts = [i // 4 for i in range(20)]
    a, b = BinaryOutcomes([False] * 20, prompts), BinaryOutcomes([True] * 20, prompts)
    assert b.estimate() == clustered_share([4] * 5, [4] * 5)
    found = a.against(b)
    assert (found.test.p_value, found.test.n, found.difference.value) == (2 / 2**5, 5, 1.0)


def test_a_perplexity_is_e_to_the_nats_per_token() -> None:
    nats, tokens = [2.0, 1.0, 3.0], [4.0, 1.0, 1.0]
    told, plain = Ratio(nats, tokens, exponential=True).estimate(), bootstrap_ratio(nats, tokens)
    assert (told.value, told.low, told.high) == (math.exp(plain.value), math.exp(plain.low), math.exp(plain.high))
    assert told.value == math.exp(6 / 6)
    assert Ratio(nats, tokens).estimate() == plain
    assert Ratio([700.0], [1.0], exponential=True).estimate().value == math.inf
    assert Ratio([699.5], [1.0], exponential=True).estimate().value == math.exp(699.5)


def test_perplexities_are_compared_by_their_logarithms_on_the_same_tokens() -> None:
    tokens = [4.0, 1.0, 1.0]
    a, b = (Ratio(nats, tokens, True, tokens) for nats in ([2.0, 1.0, 3.0], [3.0, 2.0, 4.0]))
    found = a.against(b)
    assert found is not None
    assert found.difference.value == 3 / 6
    assert found.difference.method.endswith("of logarithms")
    assert (found.test.only_b, found.test.p_value) == (3, sign_flips(a.part, b.part).p_value)
    plain = bootstrap_ratio([1.0, 1.0, 1.0], tokens)
    assert found.difference == replace(plain, method=f"{plain.method}, of logarithms")
    assert a.against(Ratio([2.0, 1.0, 3.0], [4.0, 1.0, 2.0], True, [4.0, 1.0, 2.0])) is None


def test_ratios_of_anything_are_compared_as_they_are() -> None:
    a, b = Ratio([2.0, 1.0, 3.0], [2.0, 2.0, 2.0]), Ratio([3.0, 3.0, 2.0], [2.0, 2.0, 2.0])
    found = a.against(b)
    assert found is not None
    assert found.difference == bootstrap_ratio([1.0, 2.0, -1.0], [2.0, 2.0, 2.0])
    assert found.as_dict() == {"difference": found.difference.as_dict(), **sign_flips(a.part, b.part).as_dict()}
    assert (found.test.only_a, found.test.only_b) == (1, 2)


def test_figures_of_different_items_are_no_figures() -> None:
    for broken in (
        lambda: BinaryOutcomes([True, False, True], ["a", "a"]).estimate(),
        lambda: BinaryOutcomes([True, False], ["a", "a"]).against(BinaryOutcomes([True, False, True])),
        lambda: Ratio([1.0], [1.0]).against(Ratio([1.0, 2.0], [1.0, 1.0])),
    ):
        with pytest.raises(ValueError):
            broken()


def test_prompts_are_units_however_often_and_in_whatever_order_they_come() -> None:
    """Three prompts: x right 2 of 3 and then 1, y 0 of 2 and then 2, z 1 of 1 and then 0."""
    prompts = ["x", "y", "x", "z", "y", "x"]
    a = BinaryOutcomes([True, False, True, True, False, False], prompts)
    b = BinaryOutcomes([False, True, True, False, True, False], prompts)
    assert a.estimate() == clustered_share([2, 0, 1], [3, 2, 1])
    assert a.against(b).test == sign_flips([2, 0, 1], [1, 2, 0])
    plain = bootstrap_ratio([-1, 2, -1], [3, 2, 1])
    moved, method = a.against(b).difference, plain.method.replace("items", "clusters")
    assert moved == replace(plain, n=6, clusters=3, method=method)


def test_answers_of_one_prompt_are_one_observation_of_a_ratio() -> None:
    """Three prompts: x 2 + 3 + 1 of 6 tokens, y 0 + 2 of 3, z 5 of 1; the other model has 1 more at y each time."""
    prompts, tokens = ["x", "y", "x", "z", "y", "x"], [2.0, 1.0, 2.0, 1.0, 2.0, 2.0]
    a = Ratio([2.0, 0.0, 3.0, 5.0, 2.0, 1.0], tokens, prompts=prompts)
    b = Ratio([2.0, 1.0, 3.0, 5.0, 3.0, 1.0], tokens, prompts=prompts)
    plain, found = bootstrap_ratio([6.0, 2.0, 5.0], [6.0, 3.0, 1.0]), a.estimate()
    assert (found.low, found.high, found.n, found.clusters) == (plain.low, plain.high, 6, 3)
    told = a.against(b)
    assert told is not None
    assert told.test == sign_flips([6.0, 2.0, 5.0], [6.0, 4.0, 5.0])
    moved = bootstrap_ratio([0.0, 2.0, 0.0], [6.0, 3.0, 1.0])
    assert (told.difference.low, told.difference.high, told.difference.value) == (moved.low, moved.high, 0.2)


def test_two_tests_are_enough_for_holm() -> None:
    assert corrected([]) == []
    assert corrected([{"p_value": 0.04}]) == [{"p_value": 0.04}]
    assert corrected([{"p_value": 0.04}, {"p_value": 0.03}]) == [
        {"p_value": 0.04, "p_holm": 0.06}, {"p_value": 0.03, "p_holm": 0.06},
    ]  # fmt: skip


def test_what_cannot_be_compared_has_no_test() -> None:
    a, b = (Entry(name, {"x": Ratio([1.0], [1.0], True, [tokens])}) for name, tokens in (("a", 1.0), ("b", 2.0)))
    assert comparisons([a, b]) == []


def test_an_evaluation_has_a_line_for_each_entry_and_every_row() -> None:
    a, b = (Entry(n, {"x": BinaryOutcomes(r)}, rows=[{"model": n, "i": 1}]) for n, r in (("a", A), ("b", B)))
    found = Evaluation.of([a, b], limit=3)
    assert found.figures == {"limit": 3, "models": [a.as_dict(), b.as_dict()], "comparisons": comparisons([a, b])}
    assert found.rows == [{"model": "a", "i": 1}, {"model": "b", "i": 1}]
    assert a.as_dict() == {"name": "a", "x": wilson(8, 20).as_dict()}


def test_what_was_measured_stays() -> None:
    difference = BinaryOutcomes(A).against(BinaryOutcomes(B))
    refuse_changes(difference, slots=True)
    refuse_changes(BinaryOutcomes(A), Ratio([1.0], [1.0]), Entry("a", {}), Evaluation.of([]))
