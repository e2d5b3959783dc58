"""Figures of models on the same items, and their paired tests, counted by hand."""

from __future__ import annotations

import math

import pytest

from twofold.evaluation.figures import BinaryOutcomes, Entry, Ratio, comparisons
from twofold.statistics import bootstrap_ratio, clustered_share, holm, mcnemar, paired_bootstrap, sign_flips, wilson

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
    assert Ratio([800.0], [1.0], exponential=True).estimate().value == math.inf


def test_perplexities_are_compared_by_their_logarithms_on_the_same_tokens() -> None:
    tokens = [4.0, 1.0, 1.0]
    a, b = (Ratio(nats, tokens, True, tokens) for nats in ([2.0, 1.0, 3.0], [3.0, 2.0, 4.0]))
    found = a.against(b)
    assert found is not None
    assert found.difference.value == 3 / 6
    assert found.difference.method.endswith("of logarithms")
    assert (found.test.only_b, found.test.p_value) == (3, sign_flips(a.part, b.part).p_value)
    assert a.against(Ratio([2.0, 1.0, 3.0], [4.0, 1.0, 2.0], True, [4.0, 1.0, 2.0])) is None


def test_every_two_are_compared_and_holm_counts_all_of_them() -> None:
    entries = [Entry(name, {"strict": BinaryOutcomes(right)}) for name, right in (("a", A), ("b", B), ("c", C))]
    found = comparisons(entries)
    assert [(c["a"], c["b"], c["metric"]) for c in found] == [
        ("a", "b", "strict"),
        ("a", "c", "strict"),
        ("b", "c", "strict"),
    ]
    assert [c["p_holm"] for c in found] == holm([c["p_value"] for c in found])
    assert found[0]["p_holm"] == pytest.approx(3 * 2 / 2**7)
    (alone,) = comparisons(entries[:2])
    assert "p_holm" not in alone


def test_only_metrics_of_both_are_compared() -> None:
    a, b = Entry("a", {"x": BinaryOutcomes(A), "y": BinaryOutcomes(A)}), Entry("b", {"y": BinaryOutcomes(B)})
    assert [c["metric"] for c in comparisons([a, b])] == ["y"]


def test_an_entry_as_json() -> None:
    told = Entry("a", {"strict": BinaryOutcomes(A)}, about={"prompting": {}}, counts={"truncated": 2}).as_dict()
    assert told == {"name": "a", "strict": wilson(8, 20).as_dict(), "truncated": 2, "prompting": {}}
