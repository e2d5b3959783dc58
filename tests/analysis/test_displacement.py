"""Why chosen falls: the split of its nats, by value; and three data sets that each plant one cause, under real DPO."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from support import tiny
from twofold.analysis.displacement import displacement, split
from twofold.batch import Branch, Group, Role
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference, with_reference
from twofold.objectives import DPO, SFT
from twofold.objectives.base import Objective
from twofold.statistics import mean_interval
from twofold.training.optim import AdamW, make_optimizer
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable

STOP = 60
PAIRS = 40


def pair(name: int, prompt: list[int], chosen: list[int], rejected: list[int]) -> Group:
    branches = (Branch(torch.tensor(chosen), Role.CHOSEN), Branch(torch.tensor(rejected), Role.REJECTED))
    return Group(f"row {name}", torch.tensor(prompt), branches)


def count(start: int, length: int) -> list[int]:
    """A text that a tiny model soon knows by heart: what it is sure of does not fall by accident."""
    return [10 + (start + i) % 40 for i in range(length)]


def nearly_equal(noise: torch.Generator) -> list[Group]:
    """Both sides say the same words, all but one."""
    bodies = [torch.randint(10, 50, (16,), generator=noise).tolist() for _ in range(PAIRS)]
    sides = [[[*b[:2], word, *b[2:], STOP] for word in (4, 5)] for b in bodies]
    return [pair(i, [1, 2, 3], *both) for i, both in enumerate(sides)]


def two_minded(noise: torch.Generator) -> list[Group]:
    """One phrase is all that differs: a quarter of the pairs choose it, the others reject it."""
    plain, phrased = [*count(0, 8), STOP], [4, 5, 6, *count(0, 8), STOP]
    return [pair(i, [1, 2, 3], *((plain, phrased) if i % 4 else (phrased, plain))) for i in range(PAIRS)]


def other_openings(noise: torch.Generator) -> list[Group]:
    """Chosen begin in two ways, neither of which is ever rejected, and go on as the prompt has it."""
    starts = torch.randint(40, (PAIRS,), generator=noise).tolist()
    begun = [[1, 2, 3] if i % 4 else [4, 5, 6] for i in range(PAIRS)]
    return [
        pair(i, [1, 2, 10 + a], [*begin, *count(a, 12), STOP], [7, 8, 9, *count(a + 20, 12), STOP])
        for i, (a, begin) in enumerate(zip(starts, begun, strict=True))
    ]


def train(policy: Policy, groups: list[Group], objective: Objective, steps: int, rate: float) -> None:
    step = Step(
        [Trainable(POLICY, policy, make_optimizer(AdamW(learning_rate=rate), policy.trainable()))],
        providers={},
        packing=Packing(),
    )
    for s in range(steps):
        step(Round(s, [Part(groups, objective)]))


def demonstrations(groups: list[Group]) -> list[Group]:
    return [
        replace(g, name=f"{g.name} {b.role.name}", branches=(replace(b, role=Role.DEMONSTRATION),))
        for g in groups
        for b in g.branches
    ]


@pytest.mark.parametrize(
    ("plant", "fitted", "steps", "cause"),
    [(nearly_equal, 30, 10, "shared"), (two_minded, 30, 20, "pattern"), (other_openings, 60, 10, "opening")],
)
def test_the_planted_cause_is_named(
    plant: Callable[[torch.Generator], list[Group]], fitted: int, steps: int, cause: str
) -> None:
    """A reference that knows both sides, DPO on top: chosen falls for the reason that the data was made for."""
    groups, policy = plant(torch.Generator().manual_seed(0)), tiny.policy(dtype=torch.float32)
    train(policy, demonstrations(groups), SFT(), fitted, 1e-2)
    reference = live_reference(policy)
    known = with_reference(groups, reference.logps(groups, Packing()))
    train(policy, known, DPO(), steps, 1e-3)
    found = displacement(policy, known)
    assert found.chosen.high < 0
    assert found.cause == cause, found.verdict
    assert max(found.causes, key=lambda name: found.causes[name].nats.value) == cause
    assert displacement(policy, groups, reference=reference) == found
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["verdict"] == found.verdict


def test_every_token_counts_once_and_nats_add_up() -> None:
    """Two hands of tokens: 1 2 open both; 7 is what others reject; 4 5 are said by both; 6 stands past the opening."""
    chosen, rejected = [1, 2, 3, 4, 7, 5, 6], [1, 2, 9, 4, 5]
    others = [pair(i, [0], [8], [7]) for i in range(1, 8)]
    up, down = np.array([-1.0, 0.5, -2.0, -4.0, -8.0, -16.0, -32.0]), np.array([-1.0, -2.0, -3.0, -4.0, -5.0])
    found = split([pair(0, [0], chosen, rejected)], [(up, down)], others=others)
    (told,) = found.pairs
    assert told.lost == {"pattern": 8.0, "shared": 20.0, "opening": 3.0, "elsewhere": 32.0}
    assert (told.chosen, told.rejected) == (up.sum(), down.sum())
    assert told.likeness == 2 * 4 / 12
    assert [found.causes[n].nats.value for n in told.lost] == pytest.approx([v / 63 for v in told.lost.values()])
    assert [found.causes[n].tokens for n in told.lost] == pytest.approx([1 / 7, 2 / 7, 3 / 7, 1 / 7])
    assert [(p.tokens, p.nats, p.chosen, p.rejected) for p in found.patterns] == [((7,), 8.0, 1, 7)]


def test_a_ranking_counts_by_its_ends() -> None:
    a, b, c = (Branch(torch.tensor(t), Role.RANKED) for t in ([1, 2], [3], [4, 5, 6]))
    ranking = replace(pair(0, [0], [1], [2]), branches=(a, b, c))
    known = with_reference([ranking], [[torch.zeros(2), torch.zeros(1), torch.zeros(3)]])
    policy = tiny.policy()
    found = displacement(policy, known)
    (row,) = policy.logps([ranking])
    assert found.chosen.value == pytest.approx(row[0].sum().item())
    assert found.rejected.value == pytest.approx(row[2].sum().item())


@pytest.mark.parametrize(("packing", "calls"), [(Packing(tokens=1), 8), (Packing(), 2), (None, 2)])
def test_both_models_read_the_packs_of_training(packing: Packing | None, calls: int) -> None:
    policy, groups, sizes = tiny.policy(), tiny.pairs(4), list[int]()
    policy.model.get_input_embeddings().register_forward_pre_hook(lambda *_: sizes.append(1))
    displacement(policy, groups, reference=live_reference(policy), packing=packing)
    assert len(sizes) == calls


@pytest.mark.parametrize(
    ("chosen", "rejected", "up", "likely"),
    [
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7], -0.1, "near-equal"),
        ([8, 2, 3, 4, 5, 6], [9, 2, 3, 4, 5, 6], -0.5, "near-equal"),
        ([8, 1, 2, 3, 11, 12], [9, 1, 2, 3, 13, 14, 15, 16], -0.5, "shared"),
        (list(range(20, 26)), [9, 10], -0.5, "opening"),
        (list(range(20, 60)), [9, 10], -0.5, "elsewhere"),
        (list(range(20, 60)), [9, 10], -0.01, "length"),
        (list(range(20, 60)), [9, 10], 0.01, ""),
    ],
)
def test_the_likely_cause_in_one_pair(chosen: list[int], rejected: list[int], up: float, likely: str) -> None:
    """Every token of chosen moved by `up`."""
    found = split([pair(0, [0], chosen, rejected)], [(np.full(len(chosen), up), np.zeros(len(rejected)))])
    assert found.pairs[0].likely == likely
    told = found.as_dict()
    assert told["likely"] == ({likely: 1} if likely else {})
    assert told["worst"][0]["likely"] == likely


def test_positions_end_where_few_pairs_reach_them() -> None:
    lengths = [3] * 5 + [2] * 5 + [9] * 4
    groups = [pair(i, [i // 2], list(range(n)), [11]) for i, n in enumerate(lengths)]
    changes = [(np.full(n, -1.0 - np.arange(n)), np.array([-3.0])) for n in lengths]
    found = split(groups, changes)
    assert [e.value for e in found.positions["chosen"]] == [-1.0, -2.0, -3.0]
    assert [e.n for e in found.positions["chosen"]] == [14, 14, 9]
    assert [e.clusters for e in found.positions["chosen"]] == [7, 7, 5]
    assert (found.chosen.clusters, found.fell.clusters, found.causes["pattern"].nats.clusters) == (7, 7, 7)
    one = split([replace(g, prompt=groups[0].prompt) for g in groups], changes)
    assert one.chosen == mean_interval([p.chosen for p in one.pairs]), "of one prompt, pairs are the units"
    assert [e.value for e in found.positions["rejected"]] == [-3.0]


def test_nothing_is_explained_that_did_not_happen() -> None:
    found = split([pair(i, [0], [1, 2], [3]) for i in range(6)], [(np.array([-1.0, 2.0]), np.array([0.0]))] * 6)
    assert (found.cause, found.remedy) == ("", "")
    assert found.verdict == "chosen has not fallen: +1.00 nats in the mean"


def test_what_cannot_be_analysed_is_refused() -> None:
    policy, groups = tiny.policy(), tiny.pairs(2)
    with pytest.raises(ValueError, match="needs pairs, and a reference"):
        displacement(policy, groups)
    with pytest.raises(ValueError, match="needs pairs"):
        displacement(policy, [], reference=live_reference(policy))
    with pytest.raises(ValueError, match="row 0 CHOSEN is neither a pair nor a ranking"):
        displacement(policy, demonstrations(groups)[:1])
