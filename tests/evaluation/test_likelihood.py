"""Preferences and perplexities, by hand and beside transformers' own forward."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from support import tiny
from twofold.evaluation.likelihood import Likely, likelihoods, perplexity_entry, preference_entry
from twofold.statistics import wilson


def likely(name: str, chosen: tuple[float, int], rejected: tuple[float, int]) -> Likely:
    sides = {"chosen": chosen, "rejected": rejected}
    return Likely(name, name.encode(), {s: v[0] for s, v in sides.items()}, {s: v[1] for s, v in sides.items()})


POLICY = [
    likely("a", (-2.0, 2), (-3.0, 2)),  # right by both
    likely("b", (-4.0, 8), (-3.0, 2)),  # right per token alone
    likely("c", (-1.0, 1), (-1.0, 1)),  # a tie
    likely("d", (-6.0, 2), (-2.0, 2)),  # wrong
]
REFERENCE = [
    likely("a", (-2.0, 2), (-3.0, 2)),  # a tie
    likely("b", (-6.0, 8), (-3.0, 2)),  # right
    likely("c", (-2.0, 1), (-1.0, 1)),  # right
    likely("d", (-6.0, 2), (-3.0, 2)),  # wrong
]


def test_a_tie_is_no_success() -> None:
    alone = preference_entry("m", POLICY)
    assert list(alone.measures) == ["logp", "logp_per_token"]
    assert alone.as_dict()["logp"] == wilson(1, 4).as_dict()
    assert alone.as_dict()["logp_per_token"] == wilson(2, 4).as_dict()
    assert alone.counts == {"ties": 1}
    against = preference_entry("m", POLICY, REFERENCE)
    assert next(iter(against.measures)) == "reward"
    assert against.as_dict()["reward"] == wilson(2, 4).as_dict()
    assert [row["reward"] for row in against.rows] == [False, True, True, False]
    assert against.rows[1]["reference_chosen_logp"] == -6.0


def test_a_policy_that_is_its_reference_has_no_preference() -> None:
    found = preference_entry("m", POLICY, POLICY)
    assert (found.as_dict()["reward"]["count"], found.counts) == (0, {"ties": 4})


def test_perplexity_by_hand() -> None:
    """Chosen: 13 nats in 13 tokens; own means 1, ½, 1, 3; 13/4 nats a completion."""
    told = perplexity_entry("m", POLICY).as_dict()
    assert told["chosen_perplexity"]["value"] == pytest.approx(math.e)
    assert told["chosen_perplexity_per_completion"]["value"] == pytest.approx(math.exp(5.5 / 4))
    assert told["chosen_nats_per_completion"]["value"] == pytest.approx(13 / 4)
    assert told["rejected_perplexity"]["value"] == pytest.approx(math.exp(9 / 7))
    assert told["chosen_perplexity"]["low"] < math.e < told["chosen_perplexity"]["high"]


def test_likelihoods_are_those_of_a_plain_forward() -> None:
    policy, groups = tiny.policy(), tiny.pairs(5)
    for row, group in zip(likelihoods(policy, groups), groups, strict=True):
        expected = tiny.alone(policy.model, group)
        assert [row.logp["chosen"], row.logp["rejected"]] == pytest.approx([float(e.detach().sum()) for e in expected])
        assert [row.tokens["chosen"], row.tokens["rejected"]] == [len(e) for e in expected]
    (row,) = likelihoods(policy, tiny.groups((3, 4)))
    assert (list(row.logp), row.tokens) == (["completion"], {"completion": 4})


def counted(*numbers: dict[str, float]) -> list[Likely]:
    return [replace(row, numbers=own) for row, own in zip(POLICY, numbers, strict=True)]


def test_weighted_pairs_count_as_often_as_their_weight() -> None:
    """Right per token: a and b of a … d. Weights 2, 1, 0 and 3: 3 of 6; with p = 0.9 for a and 0.7 for d, by (1.8 + 1 +
    0.9) / 6. Of the tie nothing is right."""
    weights = (2.0, 1.0, 0.0, 3.0)
    told = preference_entry("m", counted(*({"weight": w} for w in weights))).as_dict()
    assert told["logp_per_token"]["value"] == pytest.approx(3 / 6)
    assert told["logp_per_token"]["n"] == 4
    assert told["logp_per_token"]["method"] == "Wilson, weighted, clustered, 95%"
    sure = ({"probability": p} for p in (0.9, 1.0, 1.0, 0.7))
    doubted = counted(*({"weight": w, **p} for w, p in zip(weights, sure, strict=True)))
    found = preference_entry("m", doubted)
    assert found.as_dict()["logp_per_token"]["value"] == pytest.approx((1.8 + 1 + 0.9) / 6)
    assert (found.rows[0]["weight"], found.rows[0]["probability"]) == (2.0, 0.9)
    assert Likely.of(doubted[0].as_dict()).numbers == {"weight": 2.0, "probability": 0.9}
    certain = preference_entry("m", counted(*[{"weight": 1.0}] * 4)).as_dict()["logp_per_token"]
    assert certain == wilson(2, 4).as_dict()


def test_two_models_are_compared_by_the_weights() -> None:
    """b is right where a is not on the first pair, of weight 3 of 4; the second is the same for both."""
    rows = [Likely(n, n, {"chosen": -1.0, "rejected": -2.0}, {"chosen": 1, "rejected": 1}) for n in "xy"]
    numbers: list[dict[str, float]] = [{"weight": 3.0}, {"weight": 1.0}]
    better = [replace(row, numbers=own) for row, own in zip(rows, numbers, strict=True)]
    worse = [replace(better[0], logp={"chosen": -3.0, "rejected": -2.0}), better[1]]
    a, b = (preference_entry("m", sides).measures["logp"] for sides in (worse, better))
    against = a.against(b)
    assert against is not None
    assert against.difference.value == pytest.approx(3 / 4)


def test_weighted_perplexity_is_that_of_rows_repeated() -> None:
    mine = perplexity_entry("m", counted(*({"weight": w} for w in (2.0, 1.0, 0.0, 1.0)))).as_dict()
    twice = perplexity_entry("m", [POLICY[0], *POLICY[:2], POLICY[3]]).as_dict()
    for name in ("chosen_perplexity", "rejected_perplexity_per_completion", "chosen_nats_per_completion"):
        assert mine[name]["value"] == pytest.approx(twice[name]["value"])
