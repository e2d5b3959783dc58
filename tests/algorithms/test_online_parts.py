"""Parts of an online round by hand: optimism by round, random subsets, columns, lengths, and sizes of rounds."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from support import tiny
from twofold.algorithms import online
from twofold.algorithms.draft_serialization import dump_drafts
from twofold.algorithms.online import Online, OnlineAlgorithm
from twofold.batch import Branch, Group, Role
from twofold.objectives.xpo import OF_REFERENCE
from twofold.sampling.base import Sample


@pytest.mark.parametrize(
    ("decay", "steps", "per_round", "want"),
    [
        ("none", 10, 3, [0.5, 0.5]), ("linear", 10, 3, [0.5, 0.5 * 2 / 3, 0.5 / 3, 0.0]),
        ("linear", 9, 3, [0.5, 0.25, 0.0]), ("linear", 3, 3, [0.5]),
    ],
)  # fmt: skip
def test_optimism_by_round(decay: Any, steps: int, per_round: int, want: list[float]) -> None:
    settings = Online(alpha=0.5, alpha_decay=decay, samples=1, reference_samples=1)
    made: Any = SimpleNamespace(settings=settings, steps=steps, steps_per_round=per_round)
    assert [OnlineAlgorithm.alpha(made, number) for number in range(len(want))] == pytest.approx(want)


def test_a_random_subset_keeps_its_order() -> None:
    pairs = [(0, 1), (0, 2), (1, 2)]
    for most in (None, 3, 4):
        assert online._some(pairs, most, iter(())) is pairs
    assert online._some(pairs, 2, iter([0.9, 0.1, 0.5])) == [(0, 2), (1, 2)]
    assert online._some(pairs, 1, iter([0.2, 0.3, 0.1])) == [(1, 2)]


def test_columns_of_a_sample() -> None:
    plain = Sample(torch.ones(1), torch.ones(1), True)
    served = Sample(torch.ones(1), torch.ones(1), False, {online.OF_DRAFT: 0.5})
    assert online._columns(plain, 1.0, weighted=False) == {"truncated": 1.0, OF_REFERENCE: 1.0}
    assert online._columns(plain, 0.0, weighted=True)[online.OF_DRAFT] == 1.0
    assert online._columns(served, 0.0, weighted=True) == {
        "truncated": 0.0, OF_REFERENCE: 0.0, online.OF_DRAFT: 0.5,
    }  # fmt: skip


def test_the_reference_answer_wins_and_what_equals_it_ties() -> None:
    (group,) = tiny.groups((3, 2, 2, 1))
    whole: Any = replace(group, truth=group.branches[1].tokens)
    weighed = whole.with_columns([{online.OF_DRAFT: 0.25, "truncated": 0.0}] * 3)
    pairs, ties = online._against_truth(weighed)
    assert (len(pairs), ties) == (2, 1)
    chosen, rejected = pairs[1].branches
    assert (chosen.role, chosen.tokens.tolist(), chosen.columns) == (
        Role.CHOSEN, whole.truth.tolist(), {online.OF_DRAFT: 1.0},
    )  # fmt: skip
    assert (rejected.role, rejected.tokens.tolist(), rejected.columns) == (
        Role.REJECTED, whole.branches[2].tokens.tolist(), {online.OF_DRAFT: 0.25},
    )  # fmt: skip


def test_figures_of_rewards_and_lengths() -> None:
    assert online._of_scores([[1.0, 3.0], [5.0]], shares=False) == {
        "reward": 3.0,
        "reward_std": pytest.approx((8 / 3) ** 0.5),
    }
    assert online._of_scores([[1.0], None, None, None], shares=False) == {
        "unjudged": 0.75, "reward": 1.0, "reward_std": 0.0,
    }  # fmt: skip
    assert online._of_scores([[1.0], None], shares=True) == {"unjudged": 0.5}
    assert (online._of_scores([[1.0]], shares=True), online._of_scores([None], shares=False)) == ({}, {"unjudged": 1.0})
    assert online._lengths(tiny.groups((3, 5, 2), (3, 1, 2))) == {"chosen_length_excess": 1.0}
    assert online._lengths([]) == {}


@pytest.mark.parametrize(
    ("prompts", "batch", "num", "size", "steps"),
    [(None, 4, 10, 4, 3), (8, 4, 10, 8, 6), ("all", 4, 10, 8, 6), ("all", 4, 4, 4, 3)],
)
def test_the_size_of_a_round(prompts: Any, batch: int, num: int, size: int, steps: int) -> None:
    settings = Online(prompts=prompts, epochs=3)
    assert (settings.size(batch, num), settings.steps_per_round(batch, num)) == (size, steps)
    fresh = Online(prompts=prompts, epochs=3, reference="fresh")
    assert (settings.reference_interval(batch, num), fresh.reference_interval(batch, num)) == (None, steps)


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(ValueError) as error:
        Online(prompts="all").size(11, 10)
    assert str(error.value) == "training.batch_size (11) is more than there are rows (10)"
    with pytest.raises(ValueError) as error:
        Online(prompts=6).size(4, 10)
    assert str(error.value) == "algorithm.prompts must be a multiple of training.batch_size (4)"


def test_all_pairs_of_a_task_come_back_from_the_state() -> None:
    """Two prompts with two pairs and one: chosen and rejected in turns."""
    branches = [Branch(torch.tensor([n]), Role.DRAFT) for n in range(6)]
    tasks = [Group(name, torch.tensor([9]), ()) for name in ("a", "b")]
    found = online._recalled(tasks, dump_drafts([tuple(branches[:4]), tuple(branches[4:])]))
    sides = [[[(b.tokens.item(), b.role) for b in pair.branches] for pair in row] for row in found]
    better, worse = Role.CHOSEN, Role.REJECTED
    assert sides == [[[(0, better), (1, worse)], [(2, better), (3, worse)]], [[(4, better), (5, worse)]]]
    assert [[pair.name for pair in row] for row in found] == [["a", "a"], ["b"]]
