"""What every preference run tells of its data: how far each side has moved, and how hard it is still pushed."""

from __future__ import annotations

import math

import pytest
import torch

from support.scenes import branch, group, outputs, spread
from twofold.batch import Batch, Branch, Role
from twofold.objectives import DPO, KTO, PlackettLuce, SimPO
from twofold.objectives.base import Loss, Objective

LOGPS = {"good": (-6.0, -3.0), "fair": (-5.0, -6.0), "bad": (-9.0, -4.0)}
"""Policy's and reference's, of three tokens in parts of 1 : 2 : 3."""


def said(objective: Objective, *named: tuple[str, Role]) -> Loss:
    """Of one group of these completions; each label is a group of its own."""
    branches = [branch(role, spread(LOGPS[name][1]), {"z0": 0.5}) for name, role in named]
    groups = [group("0", *branches)] if not isinstance(objective, KTO) else [group(str(b.role), b) for b in branches]
    return objective(outputs([[spread(LOGPS[name][0]) for name, _ in named]]), Batch.of(groups))


def values(loss: Loss) -> dict[str, float]:
    return {name: term.value.item() for name, term in loss.metrics.items()}


def k2(total: float) -> float:
    return 0.5 * total**2 * (1 + 4 + 9) / 36


def test_pairs_tell_log_ratios_and_k2_of_both_sides() -> None:
    """−6 + 3 = −3 and −9 + 4 = −5: chosen fell, though the margin β·2 is positive."""
    loss = said(DPO(beta=0.5), ("good", Role.CHOSEN), ("bad", Role.REJECTED))
    told = values(loss)
    assert told["chosen_logratio"] == pytest.approx(-3)
    assert told["rejected_logratio"] == pytest.approx(-5)
    assert told["chosen_k2"] == pytest.approx(k2(-3))
    assert told["rejected_k2"] == pytest.approx(k2(-5))
    assert told["gradient_weight"] == pytest.approx(1 / (1 + math.e))
    assert [name for name, term in loss.metrics.items() if term.spread] == ["gradient_weight"]


def test_a_pair_whose_sides_moved_alike_is_not_in_order() -> None:
    """A margin of 0 is a tie, and no tie is right."""
    told = values(said(DPO(beta=0.5), ("good", Role.CHOSEN), ("good", Role.REJECTED)))
    assert (told["margin"], told["accuracy"]) == (0, 0)
    assert values(said(DPO(beta=0.5), ("good", Role.CHOSEN), ("bad", Role.REJECTED)))["accuracy"] == 1
    assert values(said(DPO(beta=0.5), ("bad", Role.CHOSEN), ("good", Role.REJECTED)))["accuracy"] == 0


def test_rankings_weigh_the_best_by_the_chance_that_another_is_taken_first() -> None:
    rewards = {"good": -1.5, "fair": 0.5, "bad": -2.5}
    told = values(said(PlackettLuce(beta=0.5), *((name, Role.RANKED) for name in ("good", "fair", "bad"))))
    first = math.exp(rewards["good"]) / sum(map(math.exp, rewards.values()))
    assert told["gradient_weight"] == pytest.approx(1 - first)
    assert (told["best_logratio"], told["worst_logratio"]) == pytest.approx((-3, -5))
    pair = values(said(DPO(beta=0.5), ("good", Role.CHOSEN), ("bad", Role.REJECTED)))
    two = values(said(PlackettLuce(beta=0.5), ("good", Role.RANKED), ("bad", Role.RANKED)))
    assert two["gradient_weight"] == pytest.approx(pair["gradient_weight"])


def test_labels_weigh_each_completion_by_the_slope_of_its_value() -> None:
    """KTO's loss is 1 − σ(g): its slope σ(g)·σ(−g), here at g = −1.5 − 0.25 and 2.5 + 0.25."""
    loss = said(KTO(beta=0.5), ("good", Role.DESIRABLE), ("bad", Role.UNDESIRABLE))
    sigmoid = torch.tensor([-1.75, 2.75], dtype=torch.float64).sigmoid()
    assert loss.metrics["gradient_weight"].value.tolist() == pytest.approx((sigmoid * (1 - sigmoid)).tolist())
    assert loss.metrics["desirable_logratio"].value.item() == pytest.approx(-3)


def test_without_a_reference_nothing_is_compared_with_it() -> None:
    bare = (Branch(torch.zeros(3, dtype=torch.int64), role) for role in (Role.CHOSEN, Role.REJECTED))
    loss = SimPO()(outputs([[spread(-6.0), spread(-9.0)]]), Batch.of([group("0", *bare)]))
    assert loss.metrics["chosen_logp"].value.item() == pytest.approx(-6)
    assert "chosen_logratio" not in loss.metrics
