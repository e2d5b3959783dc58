"""Preferences and perplexities, by hand and beside transformers' own forward."""

from __future__ import annotations

import math

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
